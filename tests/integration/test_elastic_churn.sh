#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A short run of bench/elastic.sh: workers that are killed, leave and come, and
# the accuracy in the end. CHURN_ROUNDS=100 is a long one.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"
build=${gradpush%/bin/gradpush}
if [ ! -x "$build/bin/gradpush-train" ]; then
    echo "skipped: gradpush-train is not built"
    exit 77
fi

# churn WHAT STATUS OPTION...
churn() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    timeout -k 10 280 ../bench/elastic.sh --build "$build" "$@" \
        >"$out" 2>"$err" </dev/null
    status=$?
    if [ $status = 77 ]; then
        cat "$out"
        exit 77
    fi
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
small=(-- --hidden 32 --lr 0.2)

churn "an unknown option" 2 --round 3
says "an unknown option" "$err" "--round"
churn "more than there are" 2 --workers 2 --min 3 "${small[@]}"
churn "in step, at least two" 0 --rounds "${CHURN_ROUNDS:-6}" --min 2 \
    --workers 3 --data digits --epochs 100 "${small[@]}"
says "in step, at least two" "$out" '"hangs": 0, "failures": 0'
churn "apart, and in rounds" 0 --rounds "${CHURN_ROUNDS:-4}" --workers 3 \
    --modes "ssp:2 local:4" --data digits --epochs 100 "${small[@]}"
says "apart, and in rounds" "$out" '"mode": "local:4"'
# Who waits for others can be told to go.
(
    export GRADPUSH_SIZE=2 GRADPUSH_SHARDS=1 GRADPUSH_JOB=alone-$$
    export GRADPUSH_ELASTIC=on GRADPUSH_MIN_WORKERS=2 GRADPUSH_CONNECT_TIMEOUT=60
    GRADPUSH_STORE_HOST=off GRADPUSH_SERVERS=127.0.0.1:1 "$gradpush" server \
        -s 1 -l 127.0.0.1:0 >"$work/server" 2>/dev/null </dev/null &
    server=$!
    until_true grep -q . "$work/server"
    GRADPUSH_SERVERS=$(awk '{ print $2 }' "$work/server") GRADPUSH_RANK=0 \
        "$build/bin/gradpush-train" --workers 2 --min-workers 2 --data digits \
        >"$work/alone.out" 2>"$work/alone.err" </dev/null &
    worker=$!
    until_true grep -q "1 of at least 2 workers" "$work/alone.err"
    kill -TERM "$worker"
    wait "$worker"
    echo $? >"$work/alone.status"
    kill "$server"
)
equals "waiting, and told to go" "$(cat "$work/alone.status")" 143
churn "a worker that fails" 1 --rounds 3 --data digits -- --hidden 32 \
    --dump-gradients "$work"
says "a worker that fails" "$out" '"failures": 1'
finish
