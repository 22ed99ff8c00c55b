#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `gradpush status` against live jobs: what it finds, shows and refuses.
# shellcheck source=cli_lib.sh disable=SC2016
. "$(dirname "$0")/cli_lib.sh"
trainer=${gradpush%/*}/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi
export TMPDIR=$work
json=
if "$gradpush" info --env --json - >/dev/null 2>&1; then
    json=yes
fi

job() { # OPTION... -- COMMAND...: in the background; its number in $pid
    "$gradpush" run "$@" >"$work/job.out" 2>"$work/job.err" </dev/null &
    pid=$!
}
stop() {
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    pid=
}
trap '[ -z "$pid" ] || stop' EXIT
pid=
status() { "$gradpush" status "$@" >"$out" 2>"$err" </dev/null; }
shows() { # TEXT OPTION...: whether the status has it now
    local text=$1
    shift
    status --interval 0 "$@" && grep -qF -- "$text" "$out"
}
await() { # WHAT TEXT OPTION...
    local what=$1
    shift
    checks=$((checks + 1))
    until_true shows "$@" || fail "$what: status never shows '$1'"
}
field() { # KEY: all its values in the JSON document
    sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' "$out" |
        tr '\n' ' '
}

run "help" 0 status --help
says "help" "$out" "Usage: gradpush status [options] [ADDR]"
says "help" "$out" "credits"
run "no job" 1 status
says "no job" "$err" "no job: none of \`gradpush run\` is running here"
run "nobody listens" 1 status 127.0.0.1:1
says "nobody listens" "$err" "no job at 127.0.0.1:1"
run "two addresses" 2 status a:1 b:2
run "a bad option" 2 status --wach 1
says "a bad option" "$err" "did you mean '--watch'?"
run "a bad number" 2 status --tensors 17

# A job that trains.
job -w 2 -s 2 -- "$trainer" --epochs 1000000 --codec q8 --hidden 128,128 \
    --quiet
await "a job that trains" "2 workers (2 answer), 2 shards (2 answer)"
all_run() {
    status --interval 0 &&
        [ "$(grep -c '^ *[01]  [^ ].* running ' "$out")" = 4 ]
}
checks=$((checks + 1))
until_true all_run || fail "all members run"
says "codec" "$out" "layer1.weight                      16384"
says "codec" "$out" "q8:block="
says "tensors" "$out" "codec of pushes"
run "few tensors" 0 status --tensors 2 --interval 0
says "few tensors" "$out" "5 smaller tensors"
has_rates() {
    status --interval 0.2 &&
        awk '$1 == "0" && $4 == "running" && $6 + 0 > 0 { seen = 1 }
            END { exit !seen }' "$out"
}
checks=$((checks + 1))
until_true has_rates || fail "rates: no steps per second"
run "rounds" 0 status --watch 0.1 --rounds 3 --tensors 0
equals "rounds" "$(grep -c '^job run-' "$out")" 3
if [ -n "$json" ]; then
    run "json" 0 status --json -
    equals "json: ranks" "$(field rank | tr ' ' '\n' | sort -u | tr '\n' ' ')" \
        "0 1 "
    says "json" "$out" '"schema": "gradpush.status/1"'
    says "json" "$out" '"steps_per_second"'
    first=$(field steps | cut -d' ' -f1)
    steps_went_on() {
        status --json - --interval 0 &&
            [ "$(field steps | cut -d' ' -f1)" -gt "$first" ]
    }
    checks=$((checks + 1))
    until_true steps_went_on || fail "json: steps do not go on from $first"
fi

# One of its workers is slow: the others wait for it.
stop
job -w 3 -s 2 -- "$trainer" --epochs 1000000 --hidden 64 --slow 2:5 --quiet
slow_is_last() {
    status --interval 0 && grep -q '^worker 2 (.*) is the last: ' "$out"
}
checks=$((checks + 1))
until_true slow_is_last || fail "a slow worker: status does not say who"
says "a slow worker" "$out" "credits   lag ms"
stop
job -w 2 -s 2 -- "$trainer" --epochs 1000000 --codec q8 --hidden 128,128 \
    --quiet
await "the next job" "2 workers (2 answer), 2 shards (2 answer)"

# Who may ask: the address alone finds the token of a job of this user's.
store=$(sed -n 's/^job [^ ]*, store \([^ ]*\):.*/\1/p' "$out")
[ -n "$store" ] || { shows "store" && store=$(sed -n \
    's/^job [^ ]*, store \(.*\): [0-9]* workers.*/\1/p' "$out"); }
name=$(sed -n 's/^job=//p' "$work"/gradpush-run-*)
run "its address" 0 status "$store"
token=$(sed -n 's/^token_file=//p' "$work"/gradpush-run-*)
mkdir "$work/empty"
TMPDIR=$work/empty run "nothing known" 1 status "$store"
says "nothing known" "$err" "belongs to another job than 'gradpush'"
if [ -n "$token" ]; then
    TMPDIR=$work/empty run "no token" 1 status --job "$name" "$store"
    says "no token" "$err" "token differs"
    TMPDIR=$work/empty GRADPUSH_TOKEN=wrong run "a wrong token" 1 status \
        --job "$name" "$store"
    says "a wrong token" "$err" "token differs"
fi
TMPDIR=$work/empty GRADPUSH_TOKEN_FILE=$token run "as a member" 0 status \
    --job "$name" "$store"
run "another job's name" 1 status --job other "$store"
says "another job's name" "$err" "belongs to another job than 'other'"

# Notes that are not this user's alone do not count.
note=$(echo "$work"/gradpush-run-*)
equals "the note's mode" "$(stat -c %a "$note")" 600
chmod 644 "$note"
run "a note that others can read" 1 status
chmod 600 "$note"
run "the note again" 0 status --interval 0

# The job ends: a watcher sees it, and the note goes.
"$gradpush" status --watch 0.1 >"$work/watch.out" 2>"$work/watch.err" &
watcher=$!
checks=$((checks + 1))
until_true grep -q "^job" "$work/watch.out" || fail "the watcher sees nothing"
stop
wait "$watcher"
equals "the watcher's end" "$?" 0
says "the watcher" "$work/watch.err" "the job has ended"
equals "notes left" "$(ls "$work" | grep -c gradpush-run)" 0
run "a job that has ended" 1 status "$store"
says "a job that has ended" "$err" "no job at"

# Shards inside the workers.
job -w 2 --colocated -- "$trainer" --epochs 1000000 --quiet
await "co-located" "2 shards (2 answer) in the workers"
await "co-located workers run" " running "
stop

# A worker that lets the others wait.
job -w 2 -s 1 -- "$trainer" --epochs 1000000 --quiet
await "workers to be stopped" "2 workers (2 answer)"
await "workers to be stopped" " running "
workers=$(awk '$1 == "1" { print $3; exit }' "$out")
kill -STOP "$workers"
await "a worker that does not answer" "no answer" --timeout 0.3
await "who is waited for" "for worker 1" --timeout 0.3
await "the oldest request" "worker 0: its oldest request is step" --timeout 0.3
kill -CONT "$workers"
await "it goes on" "2 workers (2 answer)"
stop

# One that dies is not waited for.
job -w 2 -s 1 --elastic 1 -- "$trainer" --min-workers 1 --epochs 1000000 --quiet
await "a worker to be killed" "2 workers (2 answer)"
await "a worker to be killed" " running "
kill -9 "$(awk '$1 == "1" { print $3; exit }' "$out")"
await "a worker that died" "gone" --timeout 30
says "a worker that died" "$out" "2 workers (1 answer)"
if [ -n "$json" ]; then
    run "in JSON" 0 status --json - --timeout 30
    says "in JSON" "$out" '"gone": true'
fi
stop

# Two jobs; one is killed and leaves nothing.
job -w 2 -s 1 -- "$trainer" --epochs 1000000 --quiet
await "the first of two" "2 workers (2 answer)"
first=$pid
job -w 1 -s 1 -- "$trainer" --epochs 1000000 --quiet
# A note is there before its lines are.
two_jobs() { [ "$(grep -ls '^token_file=' "$work"/gradpush-run-* | wc -l)" = 2 ]; }
until_true two_jobs
run "two jobs" 1 status
says "two jobs" "$err" "several jobs run here"
says "two jobs" "$err" "job run-$first"
kill -9 "$first"
wait "$first" 2>/dev/null
one_job() { [ "$(ls "$work" | grep -c gradpush-run)" = 1 ]; }
checks=$((checks + 1))
until_true one_job || fail "the note of a killed job is left"
await "the second of two" "1 workers (1 answer)"
stop
finish
