#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints of workers that come and go: a job goes on from one bit for bit
# with as many workers, and with fewer, and others join; whoever is killed while
# it writes one leaves the one before.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"
# shellcheck source=elastic_lib.sh
. "$(dirname "$0")/elastic_lib.sh"
trainer=${gradpush%/gradpush}/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi
folder=$work/checkpoint

train() { # WORKERS MIN OPTION...
    local workers=$1 least=$2
    shift 2
    timeout 120 "$trainer" --workers "$workers" --shards 2 --hidden 32 \
        --min-workers "$least" --optimizer adam --lr 0.002 --quiet "$@"
}
ends_well() { # WHAT WORKERS MIN OPTION...
    local what=$1
    shift
    checks=$((checks + 1))
    status=0
    train "$@" >"$out" 2>"$err" || status=$?
    [ $status = 0 ] || fail "$what"
}
value() { # REPORT KEY: the last one
    sed -n "s/.*\"$2\": \"\\{0,1\\}\\([^\",]*\\).*/\\1/p" "$1" | tail -n 1
}

# All stay: the states of the optimizer are in it, and who writes it matters not.
ends_well "undisturbed" 3 3 --epochs 40 --json "$work/whole"
ends_well "first half" 3 3 --epochs 20 --checkpoint "$folder" \
    --checkpoint-every 10
ends_well "second half" 3 3 --epochs 40 --checkpoint "$folder" --resume \
    --json "$work/halves"
equals "bit for bit" "$(value "$work/halves" params_sha256)" \
    "$(value "$work/whole" params_sha256)"
equals "the latest" "$(cat "$folder/latest")" epoch-000040
# Who comes when the others are done, here all of them, reports what they made.
ends_well "all is done" 3 3 --epochs 40 --checkpoint "$folder" --resume \
    --json "$work/done"
for key in params_sha256 test_accuracy; do
    equals "all is done: $key" "$(value "$work/done" $key)" \
        "$(value "$work/halves" $key)"
done

# Two go on where three were. The third comes late, and from a checkpoint that
# is later than theirs.
come() { # RANK OPTION...: its process is in pid
    local rank=$1
    shift
    GRADPUSH_RANK=$rank GRADPUSH_SIZE=3 GRADPUSH_STORE_HOST=off \
        GRADPUSH_SERVERS=$(cut -d ' ' -f 2 "$work/address") \
        timeout 120 "$trainer" --workers 3 --min-workers 1 --hidden 32 \
        --optimizer adam --lr 0.002 --checkpoint "$folder" \
        --checkpoint-every 1 --steps-file "$work/steps" "$@" \
        >"$work/out$rank" 2>"$work/err$rank" &
    pid=$!
}
is_at() { # RANK STEPS
    local now
    now=$(cat "$work/steps.$1" 2>/dev/null)
    [ "${now:-0}" -ge "$2" ]
}
serve
come 1 --epochs 1000000 --resume
first=$pid
until_true is_at 1 282 || fail "no steps after --resume: $(cat "$work/err1")"
come 2 --epochs 1000000 --resume
second=$pid
until_true is_at 2 1 || fail "the second does not join: $(cat "$work/err2")"
come 0 --epochs 1000000 --resume
third=$pid
until_true is_at 0 1 || fail "the third does not join: $(cat "$work/err0")"

# The others go on writing them, and remove old ones.
latest_is_there() {
    local name
    name=$(cat "$folder/latest")
    until [ -s "$folder/$name.safetensors" ]; do
        [ "$name" != "$(cat "$folder/latest")" ] || return 1
        name=$(cat "$folder/latest")
    done
}

# The one that writes them is the first of them: mostly in the middle of it.
RANDOM=5
for round in 1 2; do
    kill -9 "$(pgrep -P "$third")"
    { wait "$third"; } 2>/dev/null
    until_true is_at 1 $((8 + $(cat "$work/steps.1"))) ||
        fail "no steps after kill $round"
    checks=$((checks + 1))
    latest_is_there ||
        fail "kill $round: latest names $(cat "$folder/latest"), not there"
    rm -f "$work/steps.0"
    come 0 --epochs 1000000 --resume
    third=$pid
    until_true is_at 0 1 || fail "it does not come back: $(cat "$work/err0")"
done
for pid in "$first" "$second" "$third"; do
    kill -TERM "$(pgrep -P "$pid")"
    status=0
    wait "$pid" || status=$?
    equals "who is asked to leave" $status 143
done 2>/dev/null
last=$(sed 's/epoch-0*//' "$folder/latest")
ends_well "from where they left" 3 2 --epochs $((last + 5)) \
    --checkpoint "$folder" --resume --json "$work/resumed"
checks=$((checks + 1))
awk "BEGIN { exit !($(value "$work/resumed" test_accuracy) > 0.95) }" ||
    fail "accuracy $(value "$work/resumed" test_accuracy)"

# What is damaged is so the next time, too: nobody is started anew for it.
ends_at_once() { # WHAT TEXT FOLDER
    checks=$((checks + 1))
    status=0
    train 3 1 --epochs 1000000 --checkpoint "$3" --resume >"$out" 2>"$err" ||
        status=$?
    [ $status = 1 ] || fail "$1"
    says "$1" "$err" "$2"
    says "$1" "$err" "which starting it anew would not mend"
    # Others may be that were joining shards which end without it.
    says_not "$1" "$err" "status 78; it is started anew"
}
cp -r "$folder" "$work/cut"
head -c 900 "$folder/$(cat "$folder/latest").safetensors" \
    >"$work/cut/$(cat "$folder/latest").safetensors"
ends_at_once "a checkpoint that was cut off" "$(cat "$folder/latest")" "$work/cut"
rm "$work/cut/$(cat "$folder/latest").safetensors"
ends_at_once "a checkpoint that is missing" "$(cat "$folder/latest")" "$work/cut"
mkdir "$work/none"
ends_at_once "no checkpoint" "no file 'latest'" "$work/none"
finish
