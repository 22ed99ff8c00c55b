#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How much of communication hides behind computation, on a link of a rate.
# Needs root. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/overlap.sh [options]

Trains gradpush-train on links of a rate (bench/shaped.sh), each worker and
shard on a host of its own, with gradients that are pushed while backward goes
on, and after it; round after round. Prints the time of a step and the share of
communication in which workers computed; medians.

  --data PATH     as gradpush-train takes it (default: mnist10k, see below)
  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --rate RATE     default 1gbit
  --workers N     default 2; as many shards
  --hidden LIST   default 2048
  --batches LIST  per worker, in quotes (default "64 256 512")
  --codecs LIST   of pushes and pulls, in quotes (default "none q8")
  --chunk BYTES   GRADPUSH_CHUNK_BYTES (default 256K)
  --steps N       at least so many, in whole epochs (default 40)
  --rounds N      default 3
  --store NAME    also write bench/results/NAME-overlap.md
  --help

Without --data it looks for mnist10k in shared/data beside this repository, and
does nothing when that is not there.

Example: bench/overlap.sh --batches "64 512" --hidden 2048,2048
TEXT
}

say() { echo "overlap.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
find_command overlap.sh "$@"
data=
build=
rate=1gbit
workers=2
hidden=2048
batches="64 256 512"
codecs="none q8"
chunk=256K
steps=40
rounds=3
store=

while [ $# -gt 0 ]; do
    case $1 in
    --data | --build | --rate | --workers | --hidden | --batches | --codecs | \
        --chunk | --steps | --rounds | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        declare "${1#--}=$2"
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
for number in "$workers" "$steps" "$rounds"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] ||
        die "'$number': a whole number is needed" 2
done
[ "$(id -u)" = 0 ] || die "network namespaces need root; run it with sudo"
find_data
[ -n "$data" ] || { echo "skipped: no data; give --data PATH"; exit 77; }
find_program gradpush-train
trainer=$program

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
train() { # BATCH CODEC OVERLAP JSON
    local per_epoch=$((8000 / workers / $1))
    local epochs=$(((steps + per_epoch - 1) / (per_epoch > 0 ? per_epoch : 1)))
    GRADPUSH_CHUNK_BYTES=$chunk "$here/shaped.sh" --workers "$workers" \
        --shards "$workers" --build "$(dirname "$(dirname "$trainer")")" \
        "$rate" -- "$trainer" --data "$data" --quiet --seed 1 \
        --hidden "$hidden" --batch "$1" --epochs "$epochs" --codec "$2" \
        --pull-codec "$2" --overlap "$3" --json "$4" 2>"$work/err" \
        >/dev/null || { cat "$work/err" >&2; die "batch $1, $2 failed"; }
}
for round in $(seq "$rounds"); do
    for batch in $batches; do
        for codec in $codecs; do
            for overlap in off on; do
                train "$batch" "$codec" "$overlap" \
                    "$work/$batch.$overlap.$round.$codec.json"
            done
        done
    done
    say "round $round of $rounds is done"
done

python3 - "$work" "$command" "$rate" "$workers" "$hidden" "$chunk" \
    >"$work/table" <<'PY'
import collections
import json
import os
import platform
import statistics
import sys
import textwrap

folder, command, rate, workers, hidden, chunk = sys.argv[1:]
runs = collections.defaultdict(list)
for name in os.listdir(folder):
    if not name.endswith(".json"):
        continue
    batch, overlap, _, codec = name[:-5].split(".", 3)
    with open(os.path.join(folder, name)) as file:
        report = json.load(file)
    seconds = sum(e["seconds"] for e in report["epochs"])
    runs[int(batch), codec, overlap].append(
        (1e3 * seconds / report["final"]["steps"],
         report["final"]["hidden_share"],
         report["final"]["hidden_share_bound"]))
env = report["environment"]
print("# Communication hidden behind computation\n")
print(textwrap.fill(
    "`%s` on %s, %s cores, Linux %s. %s workers and as many shards on hosts of "
    "their own, links of %s, --hidden %s, chunks of %s. Medians. At most: the "
    "time to compute a step by that to communicate, meanwhile: no more can be "
    "hidden behind what is computed." % (
        command, env.get("cpu", "an unknown processor"), os.cpu_count(),
        platform.release(), workers, rate, hidden, chunk), 80, break_on_hyphens=False))
print("\n| batch | codec | ms a step, pushed after backward | while it goes on "
      "| of communication hidden, after | meanwhile | at most |\n" +
      "|---" * 7 + "|")


def median(key, which):
    return statistics.median(run[which] for run in runs[key])


for batch, codec in sorted({key[:2] for key in runs}):
    off, on = (batch, codec, "off"), (batch, codec, "on")
    print("| %d | `%s` | %.1f | %.1f | %.0f %% | %.0f %% | %.0f %% |" % (
        batch, codec, median(off, 0), median(on, 0), 100 * median(off, 1),
        100 * median(on, 1), 100 * median(on, 2)))
PY
cat "$work/table"
keep_table "$work/table" "${store:+$store-overlap}"
