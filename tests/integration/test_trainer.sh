# SPDX-License-Identifier: Apache-2.0
# gradpush-train as people start it: real processes, real shards.
. integration/cli_lib.sh
trainer=${BUILD_DIR:-$1}/bin/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi

# train WHAT STATUS OPTION...: like run, with a report in $work/report.
few=()
train() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    rm -f "$work/report"
    timeout 120 "$trainer" --json "$work/report" "${few[@]}" "$@" \
        >"$out" 2>"$err" \
        </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
value() { # KEY: of "final"
    sed -n '/"final"/,$s/.*"'"$1"'": "\{0,1\}\([^",]*\).*/\1/p' "$work/report"
}
same() { # WHAT: the digest of the last run is $digest
    equals "$1 gives the same parameters" "$(value params_sha256)" "$digest"
}

# The quickstart, as in the README.
train "quickstart" 0
says "quickstart" "$out" "2 workers x batch 64, 2 shards"
accuracy=$(value test_accuracy)
checks=$((checks + 1))
awk "BEGIN { exit !(${accuracy:-0} >= 0.96) }" ||
    fail "test accuracy $accuracy, not 0.96 or more"
equals "quickstart writes nothing else" "$(cat "$err")" ""
# What is compared below is so after a few epochs, too.
if [ -n "${SANITIZE:-}" ]; then
    few=(--epochs 2)
    train "two epochs" 0
fi
digest=$(value params_sha256)
equals "digest" "${#digest}" 64

# Where the sums are formed does not change them.
for shards in 1 3 0; do
    train "$shards shards" 0 --shards "$shards" --quiet
    same "$shards shards"
    equals "--quiet prints nothing" "$(cat "$out")" ""
done
GRADPUSH_COLOCATED=on train "co-located by the environment" 0 --quiet
same "GRADPUSH_COLOCATED=on"
train "lossless codec" 0 --codec lz4 --pull-codec lz4 --quiet
same "a lossless codec"
train "all-reduce" 0 --mode allreduce --quiet
same "all-reduce of two workers"
says "all-reduce" "$work/report" '"mode": "allreduce"'
train "all-reduce without shards" 0 --mode allreduce --shards 0 --quiet
same "all-reduce without shards of their own"
train "more at least than there are" 2 --min-workers 3
says "more at least than there are" "$err" "--min-workers 3"
if [ -w /dev/full ]; then
    "$trainer" --help >/dev/full 2>"$err"
    status=$?
    equals "help on a full disk" "$status" 1
fi
train "all-reduce with a shard's optimizer" 2 --mode allreduce --optimizer adam
says "all-reduce with a shard's optimizer" "$err" "allreduce"
train "all-reduce with a codec that loses nothing" 0 --mode allreduce \
    --codec lz4 --quiet
same "all-reduce with a codec that loses nothing"
train "all-reduce with a codec" 0 --mode allreduce --codec q8 --quiet
says "all-reduce with a codec" "$work/report" '"q8"'
train "all-reduce with a codec of results" 2 --mode allreduce --pull-codec q8
says "all-reduce with a codec of results" "$err" "pull-codec"
train "shards update" 0 --update shard --shards 3 --quiet
same "--update shard"
train "momentum" 0 --optimizer nesterov --lr 0.02 --weight-decay 1e-4 --quiet
digest=$(value params_sha256)
train "momentum on shards" 0 --optimizer nesterov --lr 0.02 --quiet \
    --weight-decay 1e-4 --update shard
same "momentum on the shards"

# An optimizer's state on shards is in checkpoints, and what fp16 leaves of
# parameters is not all that is.
options=(--optimizer adam:amsgrad=1,warmup=5,cosine=99,clip=0.5 --lr 0.01 --quiet
    --pull-codec fp16)
train "adam" 0 "${options[@]}" --epochs 4
digest=$(value params_sha256)
train "adam, first half" 0 "${options[@]}" --epochs 2 --checkpoint "$work/adam"
train "adam, second half" 0 "${options[@]}" --epochs 4 \
    --checkpoint "$work/adam" --resume --shards 3
same "adam, resumed with another number of shards"

# Bytes are counted, and a codec saves some.
train "dense" 0 --epochs 1 --quiet
dense=$(value bytes_pushed)
train "q8" 0 --epochs 1 --codec q8 --quiet
checks=$((checks + 1))
[ "$(value bytes_pushed)" -lt $((dense * 2 / 5)) ] ||
    fail "q8 pushes $(value bytes_pushed) bytes, dense $dense"

# Stop, resume, and end at the same bits: residuals of a lossy codec included.
# Small tensors are sent dense, so the layers are wide enough here.
options=(--codec q8 --pull-codec q8 --optimizer momentum --lr 0.02 --quiet)
train "whole run" 0 "${options[@]}" --epochs 4
digest=$(value params_sha256)
train "first half" 0 "${options[@]}" --epochs 2 --checkpoint "$work/saved"
train "second half" 0 "${options[@]}" --epochs 4 --checkpoint "$work/saved" \
    --resume
same "a resumed run"
equals "checkpoints kept" "$(ls "$work/saved" | tr '\n' ' ')" \
    "$(for e in 3 4; do printf 'epoch-00000%d%s ' \
        $e .rank0.safetensors $e .rank1.safetensors $e .safetensors
    done)latest "
train "other settings" 1 --epochs 5 --loss mse --checkpoint "$work/saved" \
    --resume --quiet
says "other settings" "$err" "was written with --loss ce"

# Also what other codecs remember (velocities, factors), and where random ones
# and schedules were.
for codec in powersgd:rank=2 q4:round=stochastic randk:0.1 \
    dgc:0.01,start=0.25,over=30; do
    options=(--codec "$codec" --quiet)
    rm -rf "$work/state"
    train "$codec" 0 "${options[@]}" --epochs 2
    digest=$(value params_sha256)
    train "$codec, half" 0 "${options[@]}" --epochs 1 --checkpoint "$work/state"
    train "$codec, resumed" 0 "${options[@]}" --epochs 2 \
        --checkpoint "$work/state" --resume
    same "a resumed run with $codec"
done

# Without shards too: what the round of workers owes.
for codec in topk:0.05 q4:round=stochastic; do
    options=(--mode allreduce --codec "$codec" --hidden 32 --quiet)
    rm -rf "$work/round"
    train "round, $codec" 0 "${options[@]}" --epochs 2
    digest=$(value params_sha256)
    train "round, $codec, half" 0 "${options[@]}" --epochs 1 \
        --checkpoint "$work/round"
    train "round, $codec, resumed" 0 "${options[@]}" --epochs 2 \
        --checkpoint "$work/round" --resume
    same "a resumed round with $codec"
done
train "round, another codec" 0 --mode allreduce --codec topk:0.1+q8 \
    --hidden 32 --quiet --epochs 3 --checkpoint "$work/round" --resume
says "round, another codec" "$err" "of 2 of 2 workers remember: that begins"

# Another codec, or more workers, begin with what fits; one line says so.
resumed() { # WHAT EPOCHS OPTION...: a copy of $work/first goes on
    local what=$1 epochs=$2
    shift 2
    rm -rf "$work/state"
    cp -r "$work/first" "$work/state"
    train "$what" 0 --epochs "$epochs" --checkpoint "$work/state" --resume \
        --quiet "$@"
}
anew() { # WHAT WORKERS: so many of them have begun anew
    equals "$1: lines about it" "$(grep -c "begins with zeros" "$err")" 1
    says "$1" "$err" "codecs and updaters of $2 workers remember"
}
first() { # OPTION...: one epoch
    rm -rf "$work/first"
    train "first epoch" 0 --epochs 1 --checkpoint "$work/first" --quiet "$@"
}
first --codec none
resumed "a codec that remembers" 2 --codec q8
anew "a codec that remembers" "2 of 2"
resumed "none" 2 --codec none
equals "the same codec says nothing" "$(cat "$err")" ""
first --codec powersgd:rank=2
resumed "another rank" 2 --codec powersgd:rank=4
anew "another rank" "2 of 2"
first --codec q8
resumed "more workers" 2 --codec q8 --workers 3
says "more workers" "$err" "--workers was 2, now it is 3"
anew "more workers" "1 of 3"
resumed "the same" 2 --codec q8
equals "the same settings say nothing" "$(cat "$err")" ""

# What ef21 remembers is on workers and shards; pull codecs lose on shards.
kept() { # OPTION...: a run with a stop is the run without
    train "without a stop" 0 --epochs 3 --quiet "$@"
    digest=$(value params_sha256)
    first "$@"
    equals "$* is saved" "$(cat "$err")" ""
    resumed "$* goes on" 3 "$@"
    equals "$* goes on" "$(cat "$err")" ""
    same "$* goes on"
}
kept --codec ef21+topk:0.1
kept --codec ef21+topk:0.1 --pull-codec topk:0.1 --workers 3
kept --codec powersgd:rank=2 --pull-codec powersgd:rank=2
first --codec ef21+topk:0.1
resumed "ef21 of more workers" 2 --codec ef21+topk:0.1 --workers 3
anew "ef21 of more workers" "3 of 3"
resumed "another selection" 2 --codec ef21+topk:0.2
says "another selection" "$err" "--codec was ef21+topk:0.1"
rm "$work"/first/epoch-000001.rank1.safetensors
rm -rf "$work/state"
cp -r "$work/first" "$work/state"
train "half of ef21" 1 --epochs 2 --checkpoint "$work/state" --resume \
    --quiet --codec ef21+topk:0.1
says "half of ef21" "$err" "its ef21 history"

# --seed is the one of random codecs too, unless that is given.
options=(--codec randk:0.1 --epochs 1 --seed 5 --quiet)
train "seed" 0 "${options[@]}"
digest=$(value params_sha256)
GRADPUSH_SEED=5 train "the codecs' seed" 0 "${options[@]}"
same "the same seed for codecs"
GRADPUSH_SEED=1 train "another seed" 0 "${options[@]}"
checks=$((checks + 1))
[ "$(value params_sha256)" != "$digest" ] ||
    fail "random codecs do not use GRADPUSH_SEED"

# JSON on standard output is nothing but JSON.
timeout 60 "$trainer" --json - --epochs 1 >"$out" 2>"$err" </dev/null
status=$?
equals "first line of --json -" "$(head -n 1 "$out")" "{"
equals "last line of --json -" "$(tail -n 1 "$out")" "}"
says "the table goes to standard error" "$err" "train loss"

# One event file a run, from rank 0.
train "event file" 0 --epochs 2 --logdir "$work/log" --quiet
equals "event files" "$(ls "$work/log" | wc -l)" 1
says "event file" "$(echo "$work"/log/events.out.tfevents.*)" "test/accuracy"

# Mistakes.
train "unknown option" 2 --wokers 2
says "unknown option" "$err" "did you mean --workers?"
train "missing data" 1 --data "$work/nothing.csv"
says "missing data" "$err" "no such file or folder"
equals "missing data is said once" "$(wc -l <"$err")" 1
train "no place for the report" 1 --json "$work/none/report.json"
says "no place for the report" "$err" "cannot write --json $work/none/report"
equals "nothing is trained without that" "$(wc -l <"$out")" 0
train "batch too large" 1 --batch 1000
says "batch too large" "$err" "is more than the 1437 training samples"
train "unknown codec" 2 --codec q9
says "unknown codec" "$err" "--codec: "
says "unknown codec" "$err" "q9"
finish
