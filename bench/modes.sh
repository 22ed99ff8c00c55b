#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Time to an accuracy in several modes: with a slow worker, and over a slow
# link. The second part needs root. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/modes.sh [options]

Trains gradpush-train with 4 workers until each mode has reached an accuracy,
and prints the seconds that its steps took: first with one worker slowed down,
then on links of a rate (bench/shaped.sh, as root). The modes take turns, round
after round; the median counts.

  --data PATH     as gradpush-train takes it (default: mnist10k, see below)
  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --target F      accuracy (default 0.94)
  --epochs N      at most (default 10)
  --batch N       per worker (default 32)
  --lr F          learning rate of all modes (default 0.05)
  --slow F        the last worker takes F times as long (default 3)
  --modes LIST    with a slow worker (default "sync async ssp:4")
  --rate RATE     of the links (default 100mbit); none: leave that part out
  --local MODE    beside sync on those links (default local:16)
  --rounds N      default 3
  --store NAME    also keep the table as bench/results/NAME-modes.md
  --help

Without --data it looks for mnist10k in shared/data beside this repository, and
does nothing when that is not there.

Example: bench/modes.sh --data mnist/ --modes "sync async ssp:4 sync:N-1"
TEXT
}

say() { echo "modes.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
data=
build=
target=0.94
epochs=10
batch=32
lr=0.05
slow=3
modes="sync async ssp:4"
rate=100mbit
locally=local:16
rounds=3
store=
find_command modes.sh "$@"

while [ $# -gt 0 ]; do
    case $1 in
    --data | --build | --target | --epochs | --batch | --lr | --slow | \
        --modes | --rate | --local | --rounds | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --data) data=$2 ;;
        --build) build=$2 ;;
        --target) target=$2 ;;
        --epochs) epochs=$2 ;;
        --batch) batch=$2 ;;
        --lr) lr=$2 ;;
        --slow) slow=$2 ;;
        --modes) modes=$2 ;;
        --rate) rate=$2 ;;
        --local) locally=$2 ;;
        --rounds) rounds=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
find_data
[ -n "$data" ] || { echo "skipped: no data; give --data PATH"; exit 77; }
find_program gradpush-train
trainer=$program

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(--data "$data" --batch "$batch" --lr "$lr" --epochs "$epochs"
    --quiet --seed 1)

# Seconds of steps up to the first epoch with the accuracy, or "never".
seconds_to() { # JSON
    python3 - "$1" "$target" <<'PY'
import json
import sys

report = json.load(open(sys.argv[1]))
spent, found = 0.0, None
for epoch in report["epochs"]:
    spent += epoch["seconds"]
    if epoch["test_accuracy"] >= float(sys.argv[2]):
        found = spent
        break
print("never" if found is None else f"{found:.3f}")
PY
}
median() { # FILE
    sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
ratio() { # A B
    awk -v a="$1" -v b="$2" \
        'BEGIN { if (a + 0 && b + 0) printf "%.2f", a / b; else print "-" }'
}
name_of() { tr -c 'a-zA-Z0-9\n' '_' <<<"$1"; }

# LABEL BASE MODES...: with what `train MODE JSON` has left behind
table() {
    local label=$1 base=$2 mode file
    shift 2
    printf '\n| %s | seconds to %s | against %s |\n|---|---|---|\n' \
        "$label" "$target" "$base"
    for mode in "$@"; do
        file=$work/$(name_of "$mode").seconds
        printf '| `%s` | %s | %s x |\n' "$mode" "$(median "$file")" \
            "$(ratio "$(median "$work/$(name_of "$base").seconds")" \
                "$(median "$file")")"
    done
}
measure() { # MODES...
    local round mode
    rm -f "$work"/*.seconds
    for round in $(seq "$rounds"); do
        for mode in "$@"; do
            train "$mode" "$work/report.json"
            seconds_to "$work/report.json" \
                >>"$work/$(name_of "$mode").seconds"
        done
        say "round $round of $rounds is done"
    done
}

finish() { keep_table "$work/table" "${store:+$store-modes}"; }

train() { # MODE JSON
    "$trainer" "${common[@]}" --workers 4 --shards 2 --mode "$1" \
        --slow "3:$slow" --json "$2" 2>"$work/err" >/dev/null ||
        { cat "$work/err" >&2; die "mode $1 failed"; }
}
# shellcheck disable=SC2086 # words of a list
measure $modes
{
    head_lines "Seconds of steps to an accuracy of $target"
    echo
    echo "4 workers, 2 shards; medians of $rounds rounds."
    # shellcheck disable=SC2086
    table "worker 3 slowed $slow x" "${modes%% *}" $modes
} | tee "$work/table"

[ "$rate" != none ] || { finish; exit 0; }
if [ "$(id -u)" != 0 ]; then
    echo "skipped: links of a rate need root"
    finish
    exit 0
fi
train() { # MODE JSON
    "$here/shaped.sh" --workers 4 --shards 2 "$rate" -- "$trainer" \
        "${common[@]}" --mode "$1" --json "$2" 2>"$work/err" >/dev/null ||
        { cat "$work/err" >&2; die "mode $1 failed"; }
}
measure sync "$locally"
table "links of $rate" sync sync "$locally" | tee -a "$work/table"
finish
