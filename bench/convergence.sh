#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What codecs do to training: accuracy after the same epochs, bytes and time,
# with the same seeds for all, beside fp32 and bf16. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/convergence.sh [options] DATA

Trains gradpush-train on DATA (a folder with MNIST's files, see
docs/trainer.md) with each line of bench/convergence.txt and each seed, and
writes convergence.json, convergence.md and two plots into
bench/out/convergence.

  --build DIR     build folder with bin/gradpush-train (default: build, build/*)
  --seeds LIST    in quotes (default "1 2 3")
  --epochs N      default 10
  --workers N     default 4
  --shards M      default 2
  --link RATE     over links of that rate, 100mbit or 1gbit; needs root
  --codecs FILE   other lines
  --only LABELS   of the lines, in quotes, besides the first
  --options OPTS  of gradpush-train, in quotes (default: hidden layers 256,256,
                  batch 16, momentum 0.9, rate 0.02)
  --store NAME    also copy the results to bench/results/NAME-*
  --help

Example: bench/convergence.sh --store my-machine mnist/
         bench/convergence.sh --link 100mbit --only "q8 sign+EF" mnist/
TEXT
}

say() { echo "convergence.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
out=$here/out/convergence
build=
seeds="1 2 3"
epochs=10
workers=4
shards=2
link=
list=$here/convergence.txt
only=
options="--hidden 256,256 --batch 16 --optimizer momentum --lr 0.02"
store=
command="bench/convergence.sh"
for word in "$@"; do
    case $word in
    *[\ \#%]*) command+=" \"$word\"" ;;
    */*) command+=" $(basename "$word")" ;;
    *) command+=" $word" ;;
    esac
done

while [ $# -gt 0 ]; do
    case $1 in
    --build | --seeds | --epochs | --workers | --shards | --link | --codecs | \
        --only | --options | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --build) build=$2 ;;
        --seeds) seeds=$2 ;;
        --epochs) epochs=$2 ;;
        --workers) workers=$2 ;;
        --shards) shards=$2 ;;
        --link) link=$2 ;;
        --codecs) list=$2 ;;
        --only) only=$2 ;;
        --options) options=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    -*) die "unknown option '$1'; see --help" 2 ;;
    *) break ;;
    esac
done
[ $# = 1 ] || die "one folder with data is needed; see --help" 2
data=$1
[ -e "$data" ] || die "cannot read $data" 2
[ -r "$list" ] || die "cannot read $list" 2

find_program gradpush-train
trainer=$program
gradpush=$(dirname "$trainer")/gradpush
[ -z "$link" ] || out=$out-$link
[ -z "$link" ] || [ -z "$store" ] || store=$store-$link
rm -rf "$out"
mkdir -p "$out/raw"

# One run; the report goes to $out/raw/LABEL.SEED.json.
train() { # LABEL SEED OPTION...
    local report=$out/raw/$1.$2.json seed=$2
    shift 2
    # shellcheck disable=SC2086
    set -- --data "$data" $options --epochs "$epochs" --seed "$seed" --quiet \
        --json "$report" "$@"
    if [ -n "$link" ]; then
        "$here/shaped.sh" --build "$(dirname "$(dirname "$trainer")")" \
            --workers "$workers" --shards "$shards" --timeout 1200 "$link" -- \
            sh -c '[ "$GRADPUSH_RANK" = 0 ] || set -- "$@" --json /dev/null
                exec "$@"' - "$trainer" "$@"
    else
        timeout 1200 "$trainer" --workers "$workers" --shards "$shards" "$@"
    fi
}

# The loop over seeds is outside: whatever slows the machine hits all.
mapfile -t lines < <(grep -v '^#' "$list")
usable=()
first=yes
for line in "${lines[@]}"; do
    read -r label push pull more <<<"$line"
    if [ -n "$only" ] && [ -z "$first" ] &&
        [[ " $only " != *" $label "* ]]; then
        continue
    fi
    first=
    if "$gradpush" bench codec --codec "$push" --codec "$pull" --count 4096 \
        -n 1 -w 0 -c 0 >/dev/null 2>"$out/why"; then
        usable+=("$line")
    else
        say "left out, $label: $(sed -n 's/.*character/character/p' "$out/why")"
    fi
done
[ ${#usable[@]} -gt 1 ] || die "no pipeline of $list can be used"
for seed in $seeds; do
    for line in "${usable[@]}"; do
        read -r label push pull more <<<"$line"
        say "seed $seed: $label"
        # shellcheck disable=SC2086
        train "$label" "$seed" --codec "$push" --pull-codec "$pull" $more \
            >"$out/raw/$label.$seed.txt" 2>&1 ||
            say "failed: $(tail -1 "$out/raw/$label.$seed.txt")"
    done
done

printf '%s\n' "${usable[@]}" >"$out/lines"
python3 "$here/convergence.py" "$out" --command "$command" \
    --link "${link:-none}"
if command -v gnuplot >/dev/null; then
    for plot in "$out"/*.gnuplot; do
        gnuplot "$plot" || say "gnuplot failed on $plot"
    done
else
    say "no plots: gnuplot is not installed (Debian: gnuplot-nox)"
fi
cat "$out/convergence.md"
if [ -n "$store" ]; then
    for file in "$out"/convergence.json "$out"/convergence.md "$out"/*.png; do
        [ -f "$file" ] || continue
        cp "$file" "$here/results/$store-$(basename "$file")"
    done
    sed -i "s/](\([a-z-]*\.png\))/]($store-\1)/" \
        "$here/results/$store-convergence.md"
    say "stored: bench/results/$store-convergence.md"
fi
