#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gradpush-train with workers that are killed at random and come back: it ends
# as accurate as without that. ELASTIC_ROUNDS says how often at most, and
# ELASTIC_EPOCHS for how long: 100 kills take some 80,000. Under a sanitizer an
# epoch takes longer, and fewer are time enough.
. "$(dirname "$0")/cli_lib.sh"
trainer=${BUILD_DIR:-$1}/bin/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi
rounds=${ELASTIC_ROUNDS:-5}
epochs=${ELASTIC_EPOCHS:-$((600 + 60 * rounds))}
[ -z "${SANITIZE:-}" ] || epochs=${ELASTIC_EPOCHS:-$((100 + 30 * rounds))}
RANDOM=7

train() { # REPORT OPTION...
    local report=$1
    shift
    exec "$trainer" --workers 3 --shards 2 --hidden 32 --json "$report" \
        --epochs "$epochs" --lr 0.2 "$@"
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
await() { # CONDITION...: within two minutes, while the job runs
    local end=$((SECONDS + 120))
    until "$@"; do
        kill -0 "$job" 2>/dev/null || return 1
        if [ $SECONDS -ge $end ]; then
            fail "after $killed kills the job hangs"
            kill -9 "$job"
            return 1
        fi
        sleep 0.01
    done
}
are_there() { [ "$(workers | wc -l)" -ge "$1" ]; }
has_printed() { [ "$(wc -l <"$out")" -ge "$1" ]; }

disturb() { # its kills that the job has noticed are in killed
    train "$work/disturbed" --min-workers 1 >"$out" 2>"$err" &
    job=$!
    killed=0
    await has_printed 5
    while [ $killed -lt "$rounds" ]; do
        await are_there 2 || break
        mapfile -t all < <(workers)
        [ ${#all[@]} -gt 1 ] || continue
        kill -9 "${all[RANDOM % ${#all[@]}]}" 2>/dev/null || continue
        killed=$((killed + 1))
        await are_there 3 || break
        sleep 0.2 # or most of the time nobody would train
    done
    wait $job || fail "disturbed: status $?: $(tail -3 "$err")"
    killed=$(grep -c 'killed by signal 9' "$err")
}

# How many there are before the job is done depends on the machine: one that
# leaves this shell waiting gets longer jobs.
for longer in 1 3 3 3; do
    epochs=$((epochs * longer))
    disturb
    [ "$killed" -lt 3 ] && [ $failures = 0 ] || break
done
checks=$((checks + 1))
[ "$killed" -ge 3 ] || fail "only $killed workers were killed in time"
train "$work/calm" --update shard >"$out" 2>"$err" &
wait $! || fail "undisturbed: status $?"
checks=$((checks + 1))
calm=$(accuracy "$work/calm") disturbed=$(accuracy "$work/disturbed")
checks=$((checks + 1))
awk "BEGIN { d = ${calm:-0} - ${disturbed:-9}
             exit !(${calm:-0} > 0.9 && d < 0.01 && d > -0.01) }" ||
    fail "accuracy $disturbed after $killed kills, $calm without"
finish
