# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# steps.sh - steps of run.sh: commands with a time limit, whose output goes to the
# log. Sourced; wants $begin, $limit, $log, $base, $build, $gradpush.

# Seconds that a step may take: its own limit, or what is left for the run.
allowed() {
    left=$((begin + limit - $(date +%s)))
    [ $left -lt "$1" ] && echo $left || echo "$1"
}

verdict() {
    case $2 in
    0) said=ok ;;
    77) said=skipped ;;
    124 | 137) said="FAILED: out of time" ;;
    *) said="FAILED" ;;
    esac
    echo "== $1: $said, $3 s" | tee -a "$log"
    [ "${said#FAILED}" = "$said" ] || failed=1
}

# step SECONDS TITLE COMMAND...
step() {
    limited=$(allowed "$1")
    title=$2
    shift 2
    if [ "$limited" -le 0 ]; then
        verdict "$title" 124 0
        return
    fi
    since=$(date +%s)
    echo "\$ $*" >>"$log"
    case $(command -v "$1") in
    /*) timeout -k 5 "$limited" "$@" >>"$log" 2>&1 ;;
    *) "$@" >>"$log" 2>&1 ;; # a function, which looks at $limited
    esac
    verdict "$title" $? $(($(date +%s) - since))
}

# The same, beside others; `await` says what became of them.
aside() {
    limited=$(allowed "$1")
    beside=$((${beside:-0} + 1))
    echo "$2" >"$build/aside-$beside.title"
    shift 2
    (
        since=$(date +%s)
        if [ "$limited" -le 0 ]; then
            status=124
        else
            timeout -k 5 "$limited" "$@" >"$build/aside-$beside.log" 2>&1
            status=$?
        fi
        echo "$status $(($(date +%s) - since))" >"$build/aside-$beside.status"
        echo "\$ $*" >>"$build/aside-$beside.title"
    ) &
}

await() {
    wait
    while [ "${beside:-0}" -gt 0 ]; do
        file=$build/aside-$beside
        sed -n 2p "$file.title" >>"$log"
        cat "$file.log" >>"$log" 2>/dev/null
        read -r status seconds <"$file.status"
        verdict "$(head -n 1 "$file.title")" "$status" "$seconds"
        rm -f "$file".*
        beside=$((beside - 1))
    done
}

# gather PART NAME [more]
# The document of the last step, under a name in the results of a part; `more`
# adds its results to those that are there.
gather() {
    [ -s "$build/document.json" ] || return
    python3 - "$base-$1.json" "$2" "$build/document.json" "${3:-}" \
        <<'END' 2>>"$log"
import json
import os
import sys

path, name, document, more = sys.argv[1:]
whole = {"schema": "gradpush.bench/1", "runs": {}}
if os.path.exists(path):
    with open(path, encoding="utf-8") as file:
        whole = json.load(file)
with open(document, encoding="utf-8") as file:
    new = json.load(file)
if more and name in whole["runs"]:
    whole["runs"][name]["results"] += new["results"]
else:
    whole["runs"][name] = new
with open(path + ".new", "w", encoding="utf-8") as file:
    json.dump(whole, file, indent=1)
    file.write("\n")
os.replace(path + ".new", path)
END
    rm -f "$build/document.json"
}

# time_codecs NAME CODECS [OPTION]
# A fault of a kernel takes the device from all that follow in the process: these
# have one of their own then.
time_codecs() {
    run=$1 option=${3:-}
    # shellcheck disable=SC2086
    set -- $2
    time_some "codecs: $run" "$@"
    gather codecs "$run"
    while [ $# -gt 1 ] && [ "$(allowed 1)" -gt 0 ]; do
        if ! is_measured "$run" "$2"; then
            time_some "codecs: $run, $2" --codec "$2"
            gather codecs "$run" more
        fi
        shift 2
    done
}

# time_some TITLE CODECS...
time_some() {
    title=$1
    shift
    # shellcheck disable=SC2086
    step 150 "$title" "$gradpush" bench codec --device cuda --count "$size" \
        --workers 8 -n 21 -w 3 -c 0 $option "$@" --json "$build/document.json"
}

# is_measured NAME CODEC
is_measured() {
    python3 - "$base-codecs.json" "$1" "$2" <<'END' 2>>"$log"
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    rows = json.load(file)["runs"][sys.argv[2]]["results"]
sys.exit(sys.argv[3] not in [row["codec"] for row in rows])
END
}

# The digest of what a job with a shard on `cpu` or `cuda` has learned.
shard_digest() {
    GRADPUSH_SHARD_DEVICE=$1 timeout -k 5 "$limited" \
        "$build/bin/gradpush-train" --device cpu --workers 2 --shards 1 \
        --optimizer adamw --lr 0.001 --codec q8 --epochs 2 --quiet \
        --json "$build/digest.json" || return
    sed -n 's/.*"params_sha256": *"\([0-9a-f]*\)".*/\1/p' \
        "$build/digest.json" >"$build/digest-$1"
    rm -f "$build/digest.json"
    [ -s "$build/digest-$1" ]
}

# Without the CUDA runtime, which the library needs not, there is nothing to see.
stream_pair() {
    timeout -k 5 "$limited" "$gradpush" run -w 2 -s 2 -- \
        "$build/bin/06_cuda_stream" >"$build/streams.log" 2>&1
    cat "$build/streams.log"
    ! grep -q 'no CUDA device, or no runtime' "$build/streams.log" || return 77
    grep -q 'rank 1: mean 1.5, expected 1.5' "$build/streams.log"
}
