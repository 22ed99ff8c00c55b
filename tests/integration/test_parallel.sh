# SPDX-License-Identifier: Apache-2.0
# A network cut over workers learns what one worker does: losses step by step
# and parameters at the end, within a tolerance (docs/parallel.md).
. integration/cli_lib.sh
trainer=${BUILD_DIR:-$1}/bin/gradpush-train
if [ ! -x "$trainer" ]; then
    echo "skipped: $trainer is not built"
    exit 77
fi
tolerance=1e-5
compare=integration/parallel_compare.py

# train WHAT STATUS NAME OPTION...: report and checkpoints under $work/NAME.
train() {
    local what=$1 expected=$2 folder=$work/$3
    shift 3
    checks=$((checks + 1))
    mkdir -p "$folder"
    timeout 120 "$trainer" --json "$folder/report" --checkpoint "$folder" \
        --quiet "$@" >"$out" 2>"$err" </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
newest() { # NAME: its last checkpoint
    echo "$work/$1/$(cat "$work/$1/latest").safetensors"
}
alike() { # WHAT NAME: the runs NAME and alone
    checks=$((checks + 1))
    python3 "$compare" "$tolerance" "$work/alone/report" "$(newest alone)" \
        "$work/$2/report" "$(newest "$2")" >"$out" 2>"$err" ||
        fail "$1 is not what one worker learns"
    echo "$1: $(cat "$out")"
}
digest() { # NAME
    sed -n 's/.*"params_sha256": "\([^"]*\).*/\1/p' "$work/$1/report"
}

# An epoch is one step of these data, so that losses are those of each step.
step="--split 0.04 --epochs 20 --optimizer momentum --lr 0.02"
alone() { # OPTION...
    rm -rf "$work/alone"
    # shellcheck disable=SC2086
    train "one worker" 0 alone --workers 1 --shards 0 $step --batch 64 "$@"
}
cut() { # LAYOUT BATCH OPTION...
    local layout=$1 batch=$2
    shift 2
    rm -rf "$work/cut"
    # shellcheck disable=SC2086
    train "$layout $*" 0 cut --parallel "$layout" $step --batch "$batch" "$@"
    alike "$layout $*" cut
}

# One, two, three and four layers, of widths that are no multiples.
alone --hidden none
cut tensor=2 64 --hidden none
alone --hidden 61
cut tensor=2 64 --hidden 61
cut tensor=3 64 --hidden 61
alone --hidden 33,47
cut tensor=2 64 --hidden 33,47
says "the layout" "$work/cut/report" '"parallel": "tensor=2,data=1"'
cut tensor=2,data=2 32 --hidden 33,47
says "the layout" "$work/cut/report" '"parallel": "tensor=2,data=2"'
says "nothing is coded" "$work/cut/report" '"layer2.weight": "none"'
equals "files of a cut run" "$(ls "$work/cut" | tr '\n' ' ')" \
    "epoch-000019.safetensors epoch-000020.safetensors latest report "
alone --hidden 33,47,20 --loss mse
cut tensor=3 64 --hidden 33,47,20 --loss mse
# Stages of layers, as many as there are, and copies of them.
alone --hidden 33,47,20
cut pipeline=2 64 --hidden 33,47,20
says "the layout" "$work/cut/report" '"parallel": "pipeline=2,data=1"'
says "micro-batches" "$work/cut/report" '"micro_batches": 4'
cut pipeline=4 64 --hidden 33,47,20 --micro-batches 1
cut pipeline=4 64 --hidden 33,47,20 --micro-batches 9
cut pipeline=3 64 --hidden 33,47,20 --micro-batches 64
cut pipeline=2,data=2 32 --hidden 33,47,20 --micro-batches 3
# More parts than the last of three layers has outputs.
train "narrow" 0 narrow --parallel tensor=11 --hidden 16,16 --epochs 1

# The same layout gives the same bits, and a checkpoint goes on in any.
alone --hidden 33,47
train "again" 0 again --parallel tensor=2 $step --hidden 33,47
first=$(digest again)
train "again" 0 again --parallel tensor=2 $step --hidden 33,47
equals "a run repeats" "$(digest again)" "$first"
whole=$step
step="--split 0.04 --epochs 10 --optimizer momentum --lr 0.02"
train "half" 0 again --parallel tensor=2 $step --hidden 33,47
train "half" 0 moved --parallel tensor=2 $step --hidden 33,47
step=$whole
train "resumed" 0 again --parallel tensor=2 $step --hidden 33,47 --resume
equals "the other half says nothing" "$(cat "$err")" ""
equals "a resumed run" "$(digest again)" "$first"
train "on one worker" 0 moved --workers 1 --shards 0 $step --hidden 33,47 \
    --resume
says "on one worker" "$err" "--parallel was tensor=2,data=1, now it is data"
checks=$((checks + 1))
python3 - "$work/moved/report" "$work/alone/report" <<'PYTHON' || fail "moved"
import json, sys
moved, alone = (json.load(open(f))["epochs"] for f in sys.argv[1:])
assert [e["epoch"] for e in moved] == list(range(11, 21))
for a, b in zip(moved, alone[10:]):
    assert abs(a["train_loss"] - b["train_loss"]) <= 1e-5, (a, b)
    assert a["test_accuracy"] == b["test_accuracy"]
PYTHON
train "and back" 0 moved --parallel tensor=3 --split 0.04 --epochs 21 \
    --optimizer momentum --lr 0.02 --hidden 33,47 --resume
says "and back" "$err" "--parallel was data, now it is tensor=3,data=1"

train "and on in stages" 0 moved --parallel pipeline=3 --split 0.04 \
    --epochs 22 --optimizer momentum --lr 0.02 --hidden 33,47 --resume
says "and on in stages" "$err" "now it is pipeline=3,data=1"
train "stages again" 0 moved --parallel pipeline=3 --split 0.04 \
    --epochs 23 --optimizer momentum --lr 0.02 --hidden 33,47 --resume
equals "stages again say nothing" "$(cat "$err")" ""
train "others" 0 moved --parallel pipeline=3 --micro-batches 2 --split 0.04 \
    --epochs 24 --optimizer momentum --lr 0.02 --hidden 33,47 --resume
says "others" "$err" "--micro-batches was 6, now it is 2"

# All ranks learn of a loss that is none, whoever has it.
for layout in tensor=2 pipeline=2; do
    train "$layout diverges" 1 diverged --parallel $layout --lr 100000
    equals "$layout diverges" "$(grep -c "training diverged" "$err")" 2
done

# Mistakes.
refused() { # STATUS TEXT OPTION...
    local expected=$1 text=$2
    shift 2
    train "$*" "$expected" refused "$@"
    says "$*" "$err" "$text"
}
refused 2 "it takes data, tensor=T" --parallel tensr
refused 2 "2 parts x 2 copies are not the 3" --parallel tensor=2,data=2 \
    --workers 3
refused 2 "train in step" --parallel tensor=2 --mode async
refused 2 "step on the workers" --parallel tensor=2 --optimizer adam
refused 2 "leave out --codec" --parallel tensor=2 --codec q8
refused 2 "no worker has them" --parallel tensor=2 --dump-gradients "$work/d"
refused 2 "are of --parallel pipeline" --micro-batches 2
refused 2 "more than the 64 samples" --parallel pipeline=2 --micro-batches 65
refused 2 "do not go together" --parallel pipeline=2,tensor=2
refused 2 "the network has 2 layers" --parallel pipeline=3 --hidden 5
refused 1 "outputs of layer 0 cannot be cut into 3" --parallel tensor=3 \
    --hidden 2
finish
