#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What codecs cost and what they lose: rate against distortion, throughput
# against memcpy, speed-up against the link, and a table on real gradients.
# See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/codecs.sh [options]

Runs `gradpush bench codec` with the pipelines of bench/codecs.txt, those that
this build has, and writes codecs.json, codecs.md and three plots into
bench/out/codecs. Real gradients come from gradpush-train.

  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --data PATH     what to train on for real gradients (default: digits)
  --count N       elements of the made inputs (default 4194304)
  --codecs FILE   other pipelines, one per line
  --quick         small tensors and few iterations: a minute
  --store NAME    also copy the results to bench/results/NAME-*
  --help

Example: bench/codecs.sh --data mnist/ --store my-machine
TEXT
}

say() { echo "codecs.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
out=$here/out/codecs
build=
data=digits
count=4194304
list=$here/codecs.txt
store=
iterations=21
largest=256M
command="bench/codecs.sh $*"

while [ $# -gt 0 ]; do
    case $1 in
    --build | --data | --count | --codecs | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --build) build=$2 ;;
        --data) data=$2 ;;
        --count) count=$2 ;;
        --codecs) list=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --quick)
        count=262144
        iterations=5
        largest=4M
        shift ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
[[ $count =~ ^[1-9][0-9]*$ ]] ||
    die "--count is '$count': it takes a whole number" 2
[ -r "$list" ] || die "cannot read $list" 2

find_program gradpush
gradpush=$program
rm -rf "$out"
mkdir -p "$out/raw"

# A line of the list is "group pipeline"; groups: plain, feedback.
read_list() { # GROUP: the pipelines of it that this build has
    local group codec
    while read -r group codec; do
        [ "$group" = "$1" ] || continue
        if "$gradpush" bench codec --codec "$codec" --count 4096 -n 1 -w 0 \
            -c 0 >/dev/null 2>"$out/why"; then
            echo "$codec"
        else
            say "left out: $codec: $(sed -n '1s/.*character/character/p' \
                "$out/why")"
        fi
    done < <(grep -v '^#' "$list")
}
mapfile -t plain < <(read_list plain)
mapfile -t feedback < <(read_list feedback)
[ ${#plain[@]} -gt 0 ] || die "no pipeline of $list can be used"
options() { # CODEC...: as options
    printf -- '--codec\n%s\n' "$@"
}
measure() { # NAME ARGUMENT... -- CODEC...
    local name=$1 arguments=()
    shift
    while [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    shift
    [ $# -gt 0 ] || return 0
    mapfile -t -O ${#arguments[@]} arguments < <(options "$@")
    say "$name: $# pipelines"
    timeout 1800 "$gradpush" bench codec "${arguments[@]}" \
        --json "$out/raw/$name.json" >"$out/raw/$name.txt" ||
        say "$name: errors, see $out/raw/$name.txt"
}

# --- made inputs ------------------------------------------------------------
measure gauss --input gauss --columns 1024 --count "$count" \
    -n "$iterations" -- "${plain[@]}"
measure gauss-feedback --input gauss --columns 1024 --count "$count" \
    -n "$iterations" --feedback -- "${feedback[@]}"
measure laplace --input laplace --count "$count" -n 1 -w 0 --workers 1 \
    --trials 2 -- "${plain[@]}"
sweep=()
for codec in none bf16 q8 q4 sign topk:0.01+q8+rice uq:1; do
    for have in "${plain[@]}"; do
        [ "$codec" = "$have" ] && sweep+=("$codec")
    done
done
measure sizes --workers 1 -b 4K -e "$largest" -f 4 -n "$iterations" -- "${sweep[@]}"

# torch.topk beside our own, in turn.
python=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import torch' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -n "$python" ]; then
    for round in 1 2 3; do
        say "torch.topk, round $round of 3"
        "$python" "$here/torch_topk.py" --count "$count" >>"$out/torch"
        "$gradpush" bench codec --codec topk:0.01 --count "$count" \
            -n "$iterations" --json "$out/topk.$round" >/dev/null
    done
else
    say "no comparison with torch.topk: no PyTorch (Debian: python3-torch)"
fi

# --- real gradients ---------------------------------------------------------
# Two epochs, then one of which every step's gradient is kept.
trainer=$(dirname "$gradpush")/gradpush-train
real() {
    local options=(--data "$data" --workers 4 --shards 2 --hidden 256,256
        --batch 16 --lr 0.05 --optimizer momentum --quiet
        --checkpoint "$out/saved") files=() file steps
    "$trainer" "${options[@]}" --epochs 2 &&
        "$trainer" "${options[@]}" --epochs 3 --resume --dump-every 1 \
            --dump-gradients "$out/dump" || return 1
    for file in "$out"/dump/*.layer0.weight.npy; do
        files+=(--input "$file")
    done
    steps=$((${#files[@]} / 2))
    [ "$steps" -le 60 ] || files=("${files[@]:0:120}") steps=60
    measure real "${files[@]:${#files[@]}-2}" -n 3 -- "${plain[@]}"
    measure real-feedback "${files[@]}" -n 3 --feedback \
        --step-count "$steps" -- "${feedback[@]}"
    rm -rf "$out/dump" "$out/saved"
}
if [ -x "$trainer" ]; then
    real || say "no real gradients: the training failed"
else
    say "no real gradients: gradpush-train is not built"
fi

# --- what it means ----------------------------------------------------------
python3 "$here/codecs.py" "$out" --command "$command" --data "$data"
if command -v gnuplot >/dev/null; then
    for plot in "$out"/*.gnuplot; do
        gnuplot "$plot" || say "gnuplot failed on $plot"
    done
else
    say "no plots: gnuplot is not installed (Debian: gnuplot-nox)"
fi
say "results: $out/codecs.md"
if [ -n "$store" ]; then
    for file in "$out"/codecs.json "$out"/codecs.md "$out"/*.png; do
        [ -f "$file" ] || continue
        name=$(basename "$file")
        cp "$file" "$here/results/$store-$name"
    done
    sed -i "s/](\([a-z-]*\.png\))/]($store-\1)/" \
        "$here/results/$store-codecs.md"
    say "stored: bench/results/$store-codecs.md"
fi
