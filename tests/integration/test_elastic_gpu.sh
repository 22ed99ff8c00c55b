#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Workers that come and go while devices compute, on a driver and a cuBLAS of
# threads (tests/gpu): with nobody lost the same bits as in another job, halves
# of a job likewise, and a newcomer goes on with the others' parameters and
# momentum, from the place in the epoch where they are.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"
# shellcheck source=elastic_lib.sh
. "$(dirname "$0")/elastic_lib.sh"
trainer=${gradpush%/gradpush}/gradpush-train
libraries=${BUILD_DIR:-$1}/tests/gpu/lib
if [ ! -x "$trainer" ] || [ ! -e "$libraries/libcublas.so.13" ]; then
    echo "skipped: $trainer or $libraries is not built"
    exit 77
fi
case ${KERNELS:-} in 1 | ON | TRUE) ;; *) shards=cpu ;; esac
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
folder=$work/checkpoint

train() { # WHAT OPTION...
    local what=$1
    shift
    checks=$((checks + 1))
    status=0
    timeout -k 10 240 "$trainer" --device cuda --workers 2 --hidden 32 --quiet \
        --json "$work/report" "$@" >"$out" 2>"$err" </dev/null || status=$?
    [ $status = 0 ] || fail "$what"
}
value() { # KEY: the last one in the report
    sed -n 's/.*"'"$1"'": "\{0,1\}\([^",]*\).*/\1/p' "$work/report" | tail -n 1
}

# All stay: as if nobody could go, also where shards step on a device, where
# workers do, and in two halves.
alike() { # WHAT OPTION...
    local what=$1 digest
    shift
    train "$what, in another job" --epochs 4 "$@"
    digest=$(value params_sha256)
    equals "$what: digest" "${#digest}" 64
    train "$what" --min-workers 2 --epochs 4 "$@"
    equals "$what: bits" "$(value params_sha256)" "$digest"
    rm -rf "$folder"
    train "$what, first half" --min-workers 2 --epochs 2 \
        --checkpoint "$folder" "$@"
    train "$what, second half" --min-workers 2 --epochs 4 --resume \
        --checkpoint "$folder" "$@"
    equals "$what: bits of halves" "$(value params_sha256)" "$digest"
}
alike "adam" --update shard --optimizer adam --lr 0.002 \
    --shard-device "${shards:-cuda}"
alike "--update worker" --update worker --optimizer momentum --lr 0.05 \
    --precision bf16
for mode in async sync:N-1; do
    train "$mode" --min-workers 2 --mode $mode --precision bf16 --epochs 8 \
        --lr 0.05
    checks=$((checks + 1))
    awk "BEGIN { exit !($(value test_accuracy) > 0.8) }" ||
        fail "$mode: accuracy $(value test_accuracy)"
done

come() { # RANK OPTION...: its process is in pid
    local rank=$1
    shift
    rm -f "$work/steps.$rank"
    GRADPUSH_RANK=$rank GRADPUSH_SIZE=3 GRADPUSH_SEED=7 GRADPUSH_STORE_HOST=off \
        GRADPUSH_SERVERS=$(cut -d ' ' -f 2 "$work/address") \
        timeout 240 "$trainer" --device cuda --workers 3 --min-workers 1 \
        --hidden 32 --epochs 1000000 --steps-file "$work/steps" "$@" \
        >"$work/out$rank" 2>"$work/err$rank" </dev/null &
    pid=$!
}
go() { # PID...: each is asked to leave, and does
    local who
    for who in "$@"; do
        kill -TERM "$(pgrep -P "$who")"
        status=0
        { wait "$who"; } 2>/dev/null || status=$?
        equals "who is asked to leave" $status 143
    done
}
end_server() { # unless it has ended with the last worker
    { kill "$server"; wait "$server"; } 2>/dev/null
}
is_at() { # RANK STEPS
    local now
    now=$(cat "$work/steps.$1" 2>/dev/null)
    [ "${now:-0}" -ge "$2" ]
}
epoch() { sed 's/epoch-0*//' "$folder/latest" 2>/dev/null || echo 0; }
reaches() { [ "$(epoch)" -ge "$1" ]; }

# Steps so small that parameters stay what they are, while momentum adds up what
# is always much the same. The newcomer would have begun with other ones. It has
# the lowest rank, so it writes the checkpoints, and the other has never had its
# parameters on the host.
still=(--optimizer momentum --momentum 0.999999 --lr 1e-12 --update worker)
rm -rf "$folder"
train "the beginning" --epochs 2 --checkpoint "$folder" "${still[@]}"
cp "$folder/epoch-000002.safetensors" "$work/before"
rm -rf "$folder"
still+=(--checkpoint "$folder" --checkpoint-every)
serve
come 1 "${still[@]}" 1000000
first=$pid
until_true is_at 1 300 || fail "no steps: $(cat "$work/err1")"
come 0 "${still[@]}" 5 --seed 99
second=$pid
until_true is_at 0 3 || fail "it does not join: $(cat "$work/err0")"
# Another life of it, which the others lose in the middle of a step.
kill -9 "$(pgrep -P "$second")"
{ wait "$second"; } 2>/dev/null
come 0 "${still[@]}" 5 --seed 98
second=$pid
until_true is_at 0 3 || fail "it does not come back: $(cat "$work/err0")"
now=$(epoch)
until_true reaches $((now + 5)) || fail "it writes none: $(cat "$work/err0")"
go "$first" "$second"
checks=$((checks + 1))
python3 - "$work/before" "$folder/$(cat "$folder/latest").safetensors" \
    <<'PYTHON' || fail "what the newcomer has"
import array, json, struct, sys

def read(path):
    with open(path, "rb") as file:
        head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()
    steps = int(head.pop("__metadata__")["steps"])
    return steps, {name: array.array("f", body[slice(*item["data_offsets"])])
                   for name, item in head.items()}

(early, a), (late, b) = read(sys.argv[1]), read(sys.argv[2])
assert a.keys() == b.keys() and len(a) == 8, (a.keys(), b.keys())
for name in a:
    if not name.endswith(".momentum"):
        far = max(abs(x - y) for x, y in zip(a[name], b[name]))
        assert far <= 1e-4, (name, far)
        continue
    size = sum(x * x for x in a[name])
    grown = sum(x * y for x, y in zip(a[name], b[name])) / size
    assert 0.8 < grown / (late / early) < 1.2, (name, grown, late / early)
PYTHON
end_server

# They come and go where they do not step together.
serve
come 1 --mode ssp:4 --precision bf16 --optimizer adam --lr 0.002
first=$pid
until_true is_at 1 20 || fail "ssp:4: no steps: $(cat "$work/err1")"
for round in 1 2; do
    come 0 --mode ssp:4 --precision bf16 --optimizer adam --lr 0.002
    second=$pid
    until_true is_at 0 40 || fail "ssp:4, round $round: $(cat "$work/err0")"
    go "$second"
    now=$(cat "$work/steps.1")
    until_true is_at 1 $((now + 20)) ||
        fail "ssp:4, round $round: the other stands still"
done
go "$first"
end_server
finish
