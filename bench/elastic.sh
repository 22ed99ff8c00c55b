#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Workers of a training job that are killed, leave and come, at random. See
# docs/elastic.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/elastic.sh [options] [-- TRAINER OPTIONS]

Trains gradpush-train with workers that are killed (kill -9), leave (SIGTERM) or
come, one such event a round, drawn by a seed. When all rounds are over and all
workers are there again it trains some epochs more, and then as many epochs
without any event. Prints a line of JSON for each mode: what happened, how long
it took until all who were left had made two more steps, whether anybody hung,
and both accuracies. Exits with 1 if somebody hung or failed, or if accuracy is
not within a point.

  --data PATH     as gradpush-train takes it (default: mnist10k, see below)
  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --rounds N      default 100
  --seed N        of the events (default 1)
  --workers N     places for workers (default 4)
  --shards M      default 2
  --min N         --min-workers (default 1); with more, one less is there at
                  times, and steps must stop until the next one comes
  --modes LIST    in quotes (default sync)
  --epochs N      train at least so many, so that accuracies settle (default 0)
  --patience S    a step, or a start, that takes longer hangs (default 60)
  --limit S       of the rounds of a mode (default 600)
  --store NAME    also write the results to bench/results/NAME-elastic.md
  --help

Without --data it takes mnist10k in shared/data beside this repository, and where
that is not there, the small data set that is built into the trainer.

Example: bench/elastic.sh --rounds 20 --modes "sync ssp:4" -- --codec q8
TEXT
}

say() { echo "elastic.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
data=
build=
store=
options=()
find_command elastic.sh "$@"

while [ $# -gt 0 ]; do
    case $1 in
    --data | --build | --rounds | --seed | --workers | --shards | --min | \
        --modes | --epochs | --patience | --limit | --store)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --data) data=$2 ;;
        --build) build=$2 ;;
        --store) store=$2 ;;
        *) options+=("$1" "$2") ;;
        esac
        shift 2 ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) die "unknown option '$1'; see --help" 2 ;;
    esac
done
find_data
find_program gradpush-train
what=${data:+$(basename "$data")}
what=${what:-the digits that are built in}
table=$(mktemp)
trap 'rm -f "$table"' EXIT
{
    head_lines "Workers that are killed, leave and come"
    fold -s -w 80 <<<"On $what. Recovery: until all who are left have made two more steps; a join \
includes the start of the process and reading the data." | sed 's/ *$//'
    echo
} >"$table"
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
[ -z "$store" ] || options+=(--table "$table")
rc=0
python3 -B "$here/elastic.py" --bin "$(dirname "$program")" \
    ${data:+--data "$data"} "${options[@]}" -- "$@" || rc=$?
keep_table "$table" "${store:+$store-elastic}"
exit $rc
