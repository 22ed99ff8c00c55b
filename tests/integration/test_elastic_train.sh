#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gradpush-train with workers that are killed at random and come back: it ends
# as accurate as without that. ELASTIC_ROUNDS says how often they are killed.
. "$(dirname "$0")/cli_lib.sh"
trainer=${BUILD_DIR:-$1}/bin/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi
rounds=${ELASTIC_ROUNDS:-10}
RANDOM=7

train() { # REPORT OPTION...
    local report=$1
    shift
    exec "$trainer" --workers 3 --shards 2 --hidden 32 --json "$report" \
        --epochs $((300 + 60 * rounds)) "$@"
}
accuracy() { # REPORT
    sed -n '/"final"/,$s/.*"test_accuracy": \([^,]*\).*/\1/p' "$1"
}

# Those of the job's workers that live, by process number. Former ones are
# reaped at its end.
workers() {
    local child
    for child in $(cat "/proc/$job/task/$job/children" 2>/dev/null); do
        if [ "$(cat "/proc/$child/comm" 2>/dev/null)" = gradpush-train ] &&
            ! grep -q '^State:.Z' "/proc/$child/status" 2>/dev/null; then
            echo "$child"
        fi
    done
}
lines() { wc -l <"$out"; }
await() { # WHAT CONDITION...: within a minute, while the job runs
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ] || ! kill -0 "$job" 2>/dev/null; then
            fail "$what: not before the job ended, or within a minute"
            return 1
        fi
        sleep 0.01
    done
}
are_there() { [ "$(workers | wc -l)" -ge "$1" ]; }
has_printed() { [ "$(lines)" -ge "$1" ]; }

train "$work/calm" --update shard >"$out" 2>"$err" &
wait $! || fail "undisturbed: status $?"
checks=$((checks + 1))

train "$work/disturbed" --min-workers 1 >"$out" 2>"$err" &
job=$!
killed=0
while [ $killed -lt "$rounds" ]; do
    await "round $killed" are_there 2 || break
    mapfile -t all < <(workers)
    [ ${#all[@]} -gt 1 ] || continue
    kill -9 "${all[RANDOM % ${#all[@]}]}" 2>/dev/null || continue
    killed=$((killed + 1))
    await "round $killed" has_printed $(($(lines) + 3)) || break
done
wait $job || fail "disturbed: status $?: $(tail -3 "$err")"
checks=$((checks + 1))
equals "kills" "$(grep -c 'killed by signal 9.*started anew' "$err")" "$rounds"
calm=$(accuracy "$work/calm") disturbed=$(accuracy "$work/disturbed")
checks=$((checks + 1))
awk "BEGIN { d = ${calm:-0} - ${disturbed:-9}
             exit !(${calm:-0} > 0.9 && d < 0.01 && d > -0.01) }" ||
    fail "accuracy $disturbed after $killed kills, $calm without"
finish
