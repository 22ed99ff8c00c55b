#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Samples per second of a network cut over workers, beside one worker with the
# whole. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/parallel.sh [options]

Trains gradpush-train on one worker and with each layout, one BLAS thread a
worker; the runs take turns, round after round, and of each the fastest epoch
counts, as other programs can only slow it down. A layout's result must be that
of one worker: its loss may differ by 1e-3, relative.

  --data PATH      as gradpush-train takes it (default: mnist10k, see below)
  --build DIR      build folder with bin/gradpush-train (default: build, build/*)
  --layouts LIST   default "tensor=2 pipeline=2"
  --hidden LIST    networks (default "4096 4096,4096")
  --batch N        of a step (default 128)
  --split F        fraction of the samples that trains (default 0.2)
  --epochs N       of a run (default 3)
  --lr F           default 0.01
  --rounds N       default 3
  --store NAME     also keep the table as bench/results/NAME-parallel.md
  --help

Without --data it looks for mnist10k in shared/data beside this repository, and
takes the built-in digits when that is not there.

Example: bench/parallel.sh --layouts "tensor=4" --hidden "2048 8192"
TEXT
}

say() { echo "parallel.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
data=
build=
layouts="tensor=2 pipeline=2"
hidden="4096 4096,4096"
batch=128
split=0.2
epochs=3
lr=0.01
rounds=3
store=
find_command parallel.sh "$@"

while [ $# -gt 0 ]; do
    case $1 in
    --data | --build | --layouts | --hidden | --batch | --split | --epochs | \
        --lr | --rounds | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --data) data=$2 ;;
        --build) build=$2 ;;
        --layouts) layouts=$2 ;;
        --hidden) hidden=$2 ;;
        --batch) batch=$2 ;;
        --split) split=$2 ;;
        --epochs) epochs=$2 ;;
        --lr) lr=$2 ;;
        --rounds) rounds=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
find_data
data=${data:-digits}
find_program gradpush-train
trainer=$program

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# train HIDDEN NAME OPTION...: adds the best rate to $work/NAME.rate, and the
# last loss to $work/NAME.loss.
train() {
    local width=$1 name=$2
    shift 2
    timeout 600 "$trainer" --data "$data" --split "$split" --epochs "$epochs" \
        --hidden "$width" --batch "$batch" --lr "$lr" --threads 1 --seed 1 \
        --quiet --json "$work/report.json" "$@" </dev/null
    python3 - "$work/report.json" "$batch" "$work/$name" <<'PY'
import json
import sys

report = json.load(open(sys.argv[1]))
config, epochs = report["config"], report["epochs"]
layout = config["parallel"]
copies = int(layout.split("data=")[1]) if "data=" in layout else 1
step = int(sys.argv[2]) * copies
samples = report["final"]["steps"] // len(epochs) * step
rate = samples / min(e["seconds"] for e in epochs)
with open(sys.argv[3] + ".rate", "a") as file:
    print(f"{rate:.0f}", file=file)
with open(sys.argv[3] + ".loss", "a") as file:
    print(epochs[-1]["train_loss"], file=file)
PY
}
best() { # FILE
    sort -n "$1" | tail -n 1
}
wrong=0
row() { # NAME: beside alone
    awk -v name="$1" -v rate="$(best "$work/$1.rate")" \
        -v base="$(best "$work/alone.rate")" \
        -v loss="$(best "$work/$1.loss")" \
        -v ours="$(best "$work/alone.loss")" 'BEGIN {
            d = loss - ours; if (d < 0) d = -d
            printf "| `%s` | %.0f | %.2f x | %s |\n", name, rate,
                rate / base, loss
            exit !(d <= 1e-3 * (ours > 1 ? ours : 1)) }' || {
        say "$1 has not learned what one worker has"
        wrong=1
    }
}

head_lines "A network cut over workers" | tee "$work/table"
for width in $hidden; do
    rm -f "$work"/*.rate "$work"/*.loss
    for _ in $(seq "$rounds"); do
        train "$width" alone --workers 1 --shards 0
        for layout in $layouts; do
            train "$width" "$layout" --parallel "$layout"
        done
    done
    printf '\n| hidden %s, batch %s | samples/s, best of %s | %s | loss |\n%s\n' \
        "$width" "$batch" "$rounds x $epochs epochs" "against one worker" \
        "|---|---|---|---|" >"$work/rows"
    for name in alone $layouts; do
        row "$name" >>"$work/rows"
    done
    tee -a "$work/table" <"$work/rows"
done
keep_table "$work/table" "${store:+$store-parallel}"
exit "$wrong"
