#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# push+pull or all-reduce over links of a given rate: dense against pipelines.
# Needs root.
# See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/shaped_bench.sh [options]

Runs `gradpush bench pushpull` or another one over shaped links
(bench/shaped.sh), each worker and shard on a host of its own, round after round,
and writes shaped.json and shaped.md into bench/out/shaped.

  --what NAME     pushpull (default), or allreduce: no shards, and one pipeline
                  for each of --codecs
  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --rates LIST    in quotes (default "100mbit 1gbit 10gbit")
  --size BYTES    of the tensor (default 64M)
  --workers N     default 2
  --shards M      default 2; 0: each worker hosts one, on its own host
  --rounds N      default 3
  --iters N       iterations in a round (default 5)
  --codecs LIST   in quotes, "push|pull" each or one for both, ';' between
                  (default: bf16, q8, topk 1 % with coded indices); dense
                  always comes first, and "" is that alone
  --store NAME    also copy the results to bench/results/NAME-*
  --help

Example: bench/shaped_bench.sh --rates 1gbit --codecs "q8;topk:0.01+q8+rice"
TEXT
}

say() { echo "shaped_bench.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
out=$here/out/shaped
build=
what=pushpull
rates="100mbit 1gbit 10gbit"
size=64M
workers=2
shards=2
rounds=3
iters=5
codecs="bf16;q8;topk:0.01+q8+rice"
store=
find_command shaped_bench.sh "$@"

while [ $# -gt 0 ]; do
    case $1 in
    --what | --build | --rates | --size | --workers | --shards | --rounds | --iters | \
        --codecs | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --what) what=$2 ;;
        --build) build=$2 ;;
        --rates) rates=$2 ;;
        --size) size=$2 ;;
        --workers) workers=$2 ;;
        --shards) shards=$2 ;;
        --rounds) rounds=$2 ;;
        --iters) iters=$2 ;;
        --codecs) codecs=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
for number in "$rounds" "$iters" "$workers"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] ||
        die "'$number': a whole number is needed" 2
done
case $what in
pushpull) ;;
allreduce) shards=0 ;;
*) die "--what '$what': pushpull or allreduce" 2 ;;
esac
[[ $shards =~ ^[0-9]+$ ]] || die "'$shards': a whole number is needed" 2
[ "$(id -u)" = 0 ] || die "network namespaces need root; run it with sudo"

find_program gradpush
gradpush=$program
rm -rf "$out"
mkdir -p "$out/raw"

IFS=';' read -ra pipelines <<<"none${codecs:+;$codecs}"
run() { # RATE NUMBER ROUND
    local pipeline=${pipelines[$2]} options
    options=(--codec "${pipeline%%|*}")
    [ "$what" != pushpull ] ||
        options+=(--shards "$shards" --pull-codec "${pipeline#*|}")
    timeout 900 "$here/shaped.sh" --once --workers "$workers" \
        --shards "$shards" --build "$(dirname "$(dirname "$gradpush")")" \
        --timeout 600 "$1" -- "$gradpush" bench "$what" --netns '{netns}' \
        --workers "$workers" -b "$size" -e "$size" \
        -n "$iters" -w 1 "${options[@]}" \
        --json "$out/raw/$1.$2.$3.json" >/dev/null ||
        say "failed: $pipeline at $1"
}
for round in $(seq "$rounds"); do
    for rate in $rates; do
        for number in "${!pipelines[@]}"; do
            say "round $round: $rate, ${pipelines[$number]}"
            run "$rate" "$number" "$round"
        done
    done
done
python3 "$here/shaped.py" "$out" --command "$command" --rates "$rates"
cat "$out/shaped.md"
if [ -n "$store" ]; then
    for file in "$out"/shaped.json "$out"/shaped.md; do
        cp "$file" "$here/results/$store-$(basename "$file")"
    done
    say "stored: bench/results/$store-shaped.md"
fi
