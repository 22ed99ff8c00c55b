#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints of workers that come and go, where they are not in the same step:
# jobs go on from them, in local:H bit for bit, and others join with later ones.
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

train() { # MODE OPTION...
    local mode=$1
    shift
    timeout 120 "$trainer" --workers 3 --shards 2 --hidden 32 \
        --min-workers "${least:-2}" --mode "$mode" --quiet "$@"
}
ends_well() { # WHAT MODE OPTION...
    local what=$1
    shift
    checks=$((checks + 1))
    status=0
    train "$@" >"$out" 2>"$err" || status=$?
    [ $status = 0 ] || fail "$what"
}
value() { # CHECKPOINT KEY
    grep -aoE "\"$2\": ?\"[0-9]+\"" "$1" | grep -oE '[0-9]+'
}
report() { sed -n "s/.*\"$2\": \"\\{0,1\\}\\([^\",]*\\).*/\\1/p" "$1" | tail -n 1; }
at_least() { # WHAT ACTUAL LEAST
    checks=$((checks + 1))
    awk "BEGIN { exit !(${2:-0} >= $3) }" || fail "$1: $2, not $3 or more"
}

# 7 steps of an epoch on each of three; 210 of them in ten, or 70 with backups.
adam=(--optimizer adam --lr 0.002)
for mode in async sync:N-1; do
    goal=210
    [ $mode = async ] || goal=70
    rm -rf "$folder"
    ends_well "$mode, first half" $mode "${adam[@]}" --epochs 10 \
        --checkpoint "$folder" --checkpoint-every 5
    equals "$mode, the latest" "$(cat "$folder/latest")" epoch-000010
    updates=$(value "$folder/epoch-000010.safetensors" updates)
    at_least "$mode, updates" "$updates" $goal
    equals "$mode, both of one moment" \
        "$(value "$folder/epoch-000010.rank0.safetensors" updates)" "$updates"
    ends_well "$mode, second half" $mode "${adam[@]}" --epochs 20 \
        --checkpoint "$folder" --checkpoint-every 5 --resume \
        --json "$work/report"
    at_least "$mode, updates of both" \
        "$(value "$folder/epoch-000020.safetensors" updates)" $((2 * goal))
    at_least "$mode, accuracy" "$(report "$work/report" test_accuracy)" 0.9
done

# Files of two moments are not taken for one checkpoint.
python3 - "$folder/epoch-000020.rank0.safetensors" <<'END'
import json, struct, sys
whole = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", whole[:8])[0]
head = json.loads(whole[8:8 + n])
head["__metadata__"].update(schema="gradpush.checkpoint/1", updates="9")
del head["__metadata__"]["checksum"]
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + whole[8 + n:])
END
status=0
timeout 60 "$gradpush" run -w 2 -s 1 --elastic 2 -- "$trainer" --hidden 32 \
    --min-workers 2 --mode sync:N-1 "${adam[@]}" --epochs 30 \
    --checkpoint "$folder" --resume >"$out" 2>"$err" || status=$?
checks=$((checks + 1))
[ $status != 0 ] || fail "files of two moments: status 0"
says "files of two moments" "$err" "written after other updates"

# Epoch 10 ends between two exchanges, and its checkpoint is of the later one.
least=3
rounds=(--outer sgd:lr=0.7,momentum=0.9,nesterov=1 --lr 0.05)
rm -rf "$folder"
ends_well "local:4, undisturbed" local:4 "${rounds[@]}" --epochs 20 \
    --json "$work/whole"
ends_well "local:4, first half" local:4 "${rounds[@]}" --epochs 11 \
    --checkpoint "$folder" --checkpoint-every 10
equals "local:4, steps" "$(value "$folder/epoch-000010.safetensors" steps)" 72
echo epoch-000010 >"$folder/latest"
ends_well "local:4, second half" local:4 "${rounds[@]}" --epochs 20 \
    --checkpoint "$folder" --resume --json "$work/halves"
equals "local:4, bit for bit" "$(report "$work/halves" params_sha256)" \
    "$(report "$work/whole" params_sha256)"

come() { # RANK MODE OPTION...: its process is in pid
    local rank=$1 mode=$2
    shift 2
    GRADPUSH_RANK=$rank GRADPUSH_SIZE=3 GRADPUSH_STORE_HOST=off \
        GRADPUSH_SERVERS=$(cut -d ' ' -f 2 "$work/address") \
        timeout 120 "$trainer" --workers 3 --min-workers 1 --hidden 32 \
        --mode "$mode" "${adam[@]}" --steps-file "$work/steps" "$@" \
        >"$work/out$rank" 2>"$work/err$rank" &
    pid=$!
}
is_at() { # RANK STEPS
    local now
    now=$(cat "$work/steps.$1" 2>/dev/null)
    [ "${now:-0}" -ge "$2" ]
}
wrote_another() { # THAN
    [ "$(cat "$folder/latest" 2>/dev/null)" != "$1" ]
}

# The optimizer is the workers'.
own=(--optimizer momentum --update worker)
rm -rf "$folder"
ends_well "--update worker, undisturbed" sync "${own[@]}" --epochs 8 \
    --json "$work/whole"
ends_well "--update worker, first half" sync "${own[@]}" --epochs 4 \
    --checkpoint "$folder"
ends_well "--update worker, second half" sync "${own[@]}" --epochs 8 \
    --checkpoint "$folder" --resume --json "$work/halves"
equals "--update worker, bit for bit" "$(report "$work/halves" params_sha256)" \
    "$(report "$work/whole" params_sha256)"

# Who comes when the others are done writes what they left to the first of all;
# one that stands still has the shards wait.
serve
rm -rf "$folder"
come 2 async --epochs 1000000
still=$pid
until_true is_at 2 1 || fail "nobody begins: $(cat "$work/err2")"
kill -STOP "$(pgrep -P "$still")"
options=()
for rank in 1 0; do
    [ $rank = 1 ] || options=(--checkpoint "$folder" --json "$work/late")
    come $rank async --epochs 10 "${options[@]}"
    status=0
    wait "$pid" || status=$?
    equals "async, $rank of two" "$status" 0
done
equals "what came late has written" "$(cat "$folder/latest")" epoch-000010
at_least "what came late, accuracy" "$(report "$work/late" test_accuracy)" 0.9
{
    kill -9 "$(pgrep -P "$still")"
    kill "$server"
    wait "$still" "$server"
} 2>/dev/null

# Some come when the first of them have written others, which they count from.
later=(--checkpoint "$folder" --resume --checkpoint-every 1 --epochs 1000000)
least=2
rm -rf "$folder"
ends_well "ssp:4, the beginning" ssp:4 "${adam[@]}" --epochs 2 \
    --checkpoint "$folder"
serve
come 1 ssp:4 "${later[@]}"
first=$pid
until_true wrote_another epoch-000002 || fail "it writes none: $(cat "$work/err1")"
come 2 ssp:4 "${later[@]}"
second=$pid
until_true is_at 2 50 || fail "the second does not join: $(cat "$work/err2")"
now=$(cat "$folder/latest")
until_true wrote_another "$now" || fail "nobody writes with two"
# Who writes them dies; the other does it then, and goes on with a third.
kill -9 "$(pgrep -P "$first")"
{ wait "$first"; } 2>/dev/null
now=$(cat "$folder/latest")
until_true wrote_another "$now" || fail "nobody writes when the first is dead"
come 0 ssp:4 "${later[@]}"
third=$pid
until_true is_at 0 20 || fail "the third does not join: $(cat "$work/err0")"
for pid in "$second" "$third"; do
    kill -TERM "$(pgrep -P "$pid")"
    status=0
    wait "$pid" || status=$?
    equals "who is asked to leave" $status 143
done 2>/dev/null
last=$(sed 's/epoch-0*//' "$folder/latest")
ends_well "from where they left" ssp:4 "${adam[@]}" --epochs $((last + 5)) \
    --checkpoint "$folder" --resume --json "$work/resumed"
at_least "in the end, accuracy" "$(report "$work/resumed" test_accuracy)" 0.95
finish
