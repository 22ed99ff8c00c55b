#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `gradpush run` as a starter of processes: output, failures, signals, what is
# left behind. The workers are shell commands that know nothing of gradpush.
# shellcheck source=cli_lib.sh disable=SC2016
. "$(dirname "$0")/cli_lib.sh"
export TMPDIR=$work

no_token() { ! ls "$work" | grep -q 'token\|gradpush-run'; }
no_files() { # WHAT
    checks=$((checks + 1))
    no_token || fail "$1: a file is left"
}

# Variables, prefixes, streams.
run "variables" 0 run -w 3 --colocated --env COLOR=blue -- sh -c \
    'echo "$GRADPUSH_RANK/$GRADPUSH_SIZE $COLOR $GRADPUSH_COLOCATED"
     echo no >&2'
equals "variables" "$(sort "$out" | tr '\n' ';')" \
    "[0] 0/3 blue on;[1] 1/3 blue on;[2] 2/3 blue on;"
equals "standard error" "$(sort "$err" | tr '\n' ';')" "[0] no;[1] no;[2] no;"
run "the token" 0 run -w 1 -s 0 -- sh -c \
    '[ -z "$GRADPUSH_TOKEN_FILE" ] || stat -c %a "$GRADPUSH_TOKEN_FILE"'
if [ -s "$out" ]; then
    equals "the token" "$(cat "$out")" "[0] 600"
fi
no_files "the token"
GRADPUSH_TOKEN=mine run "the user's token" 0 run -w 1 -s 0 -- sh -c \
    'echo "$GRADPUSH_TOKEN ${GRADPUSH_TOKEN_FILE:-no file}"'
equals "the user's token" "$(cat "$out")" "[0] mine no file"
run "no prefix" 0 run -w 1 -s 0 --no-prefix -- echo plain
equals "no prefix" "$(cat "$out")" plain
run "a last line without its end" 0 run -w 1 -s 0 -- printf 'a\nb'
equals "a last line without its end" "$(od -c <"$out" | head -1)" \
    "$(printf '[0] a\n[0] b\n' | od -c | head -1)"
run "standard input is empty" 0 run -w 2 -s 0 -- cat
equals "standard input is empty" "$(cat "$out")" ""

# Nothing is lost, lines stay whole.
run "both kinds of shards" 0 run -w 2 -s 1 --colocated -- sh -c \
    'echo "$GRADPUSH_SHARDS shards, $GRADPUSH_COLOCATED"'
says "both kinds of shards" "$out" "3 shards, on"
run "many lines" 0 run -w 3 --colocated -- sh -c \
    'seq -f "line-%.0f-of-$GRADPUSH_RANK" 20000'
for rank in 0 1 2; do
    equals "many lines of $rank" "$(grep "^\[$rank\]" "$out" | md5sum)" \
        "$(seq -f "[$rank] line-%.0f-of-$rank" 20000 | md5sum)"
done
run "a long line" 0 run -w 2 --colocated -- sh -c \
    'head -c 600000 /dev/zero | tr "\0" x; echo'
equals "a long line" "$(awk '{ print length }' "$out" | tr '\n' ' ')" \
    "600004 600004 "
run "an endless line" 0 run -w 1 --colocated -- sh -c \
    'head -c 3000000 /dev/zero | tr "\0" x; echo'
equals "an endless line" "$(tr -d -c x <"$out" | wc -c)" 3000000

# Workers that may die: started anew, done without, or too few.
tries='echo try >>"$TMPDIR/tries.$GRADPUSH_RANK"
    tried() { wc -l <"$TMPDIR/tries.1" 2>/dev/null || echo 0; }
    if [ "$GRADPUSH_RANK" = 1 ]; then [ "$(tried)" -ge 3 ] || exit 7
    else until [ "$(tried)" -ge 3 ]; do sleep 0.02; done; fi
    echo "$GRADPUSH_ELASTIC $GRADPUSH_MIN_WORKERS"'
run "restarts" 0 run -w 2 -s 1 --elastic 1 --restarts 2 -- sh -c "$tries"
equals "restarts" "$(sort "$out" | tr '\n' ';')" "[0] on 1;[1] on 1;"
says "restarts" "$err" "worker 1 exited with status 7; it is started anew"
run "without one" 0 run -w 2 -s 1 --elastic 1 -- sh -c \
    '[ "$GRADPUSH_RANK" = 1 ] || kill -9 $$
     until grep -q "goes on without it" "$TMPDIR/err"; do sleep 0.02; done
     echo done'
equals "without one" "$(cat "$out")" "[1] done"
says "without one" "$err" "the job goes on without it"
run "all fail" 1 run -w 2 -s 1 --elastic 1 --restarts 1 -- sh -c 'exit 7'
says "all fail" "$err" "exited with status 7"

# Who would fail again is not started anew; who is needed ends the job.
for lasting in 2 78; do
    rm -f "$work"/tries.*
    run "status $lasting" 1 run -w 2 -s 1 --elastic 1 --restarts 1000 -- \
        sh -c 'echo try >>"$TMPDIR/tries.$GRADPUSH_RANK"; exit '$lasting
    says "status $lasting" "$err" \
        "exited with status $lasting, which starting it anew would not mend"
    equals "status $lasting, tries" "$(cat "$work"/tries.* | sort -u)" try
    equals "status $lasting, more tries" \
        "$(cat "$work"/tries.* | awk 'END { print NR <= 2 }')" 1
done
rm -f "$work"/tries.*
later='echo try >>"$TMPDIR/tries.$GRADPUSH_RANK"
    tried() { wc -l <"$TMPDIR/tries.1" 2>/dev/null || echo 0; }
    if [ "$GRADPUSH_RANK" = 1 ]; then [ "$(tried)" -ge 2 ] || exit 7; exit 78
    else until [ "$(tried)" -ge 2 ]; do sleep 0.02; done; fi
    sleep 0.3; echo done'
run "status 78 of one started anew" 0 run -w 3 -s 1 --elastic 2 --restarts 9 -- \
    sh -c "$later"
equals "status 78 of one started anew" "$(sort "$out" | tr '\n' ';')" \
    "[0] done;[2] done;"
says "status 78 of one started anew" "$err" \
    "would not mend; the job goes on without it"
run "status 78 at the start" 1 run -w 2 -s 1 --elastic 1 --restarts 9 -- \
    sh -c '[ "$GRADPUSH_RANK" != 1 ] || exit 78; exec sleep 60'
says "status 78 at the start" "$err" "worker 1 exited with status 78"
GRADPUSH_MODE=sync:N-2 run "a mode for more workers" 1 \
    run -w 2 -s 1 --elastic 1 -- echo started
says "a mode for more workers" "$err" "sync:N-2"
equals "a mode for more workers, output" "$(cat "$out")" ""
run "a codec that all must have been with" 1 run -w 2 -s 1 --elastic 1 \
    --env GRADPUSH_CODEC=intsum -- echo started
says "a codec that all must have been with" "$err" "GRADPUSH_CODEC"
equals "a codec that all must have been with, output" "$(cat "$out")" ""
GRADPUSH_MODE=async run "a mode that goes with it" 0 \
    run -w 2 -s 1 --elastic 1 --no-prefix -- true
run "co-located and elastic" 2 run -w 2 -s 0 --elastic 1 -- true
run "more than there are" 2 run -w 2 --elastic 3 -- true
run "restarts of what ends" 2 run -w 2 --restarts 3 -- true
no_files "workers that may die"

# The first failure ends all and is named.
run "an exit status" 1 run -w 3 --colocated -- sh -c \
    '[ "$GRADPUSH_RANK" != 1 ] || exit 7; exec sleep 60'
says "an exit status" "$err" "worker 1 exited with status 7"
says_not "an exit status" "$err" "worker 0"
run "a signal" 1 run -w 3 --colocated -- sh -c \
    '[ "$GRADPUSH_RANK" != 2 ] || kill -9 $$; exec sleep 60'
says "a signal" "$err" "worker 2 was killed by signal 9"
no_files "a signal"
run "a command that is not there" 1 run -w 2 --colocated -- ./no-such-program
says "a command that is not there" "$err" "No such file"
run "a worker that ignores SIGTERM" 1 run -w 2 --colocated -- sh -c \
    '[ "$GRADPUSH_RANK" = 0 ] && exit 3
     trap "" TERM; while :; do sleep 1; done'
says "a worker that ignores SIGTERM" "$err" "worker 0 exited with status 3"
run "--timeout" 1 run -w 2 --colocated --timeout 0.3 -- sleep 60
says "--timeout" "$err" "did not end within 0.3 s"

# Grandchildren end with the job, however it ends.
tree='sleep 61 & echo $! >"'$work'/tree.$GRADPUSH_RANK"; wait'
start_tree() {
    rm -f "$work"/tree.*
    # A background job of a shell ignores SIGINT unless that is undone.
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' \
        "$gradpush" run -w 2 --colocated -- sh -c "$tree" >"$out" 2>"$err" &
    job=$!
    until_true test -s "$work/tree.0" -a -s "$work/tree.1" ||
        fail "the workers did not start"
}
tree_gone() { # WHAT
    local rank
    for rank in 0 1; do
        checks=$((checks + 1))
        until_true gone "$(cat "$work/tree.$rank")" ||
            fail "$1: a process of rank $rank is left"
    done
}
for signal in TERM INT HUP; do
    start_tree
    kill -"$signal" "$job"
    wait "$job"
    status=$?
    equals "SIG$signal" "$status" 1
    says "SIG$signal" "$err" "ended by signal"
    tree_gone "SIG$signal"
    no_files "SIG$signal"
done
start_tree
kill -KILL "$job"
wait "$job" 2>/dev/null
tree_gone SIGKILL
checks=$((checks + 1))
until_true no_token || fail "SIGKILL: the token's file is left"
run "a grandchild that stays" 0 run -w 1 --colocated -- sh -c \
    'sleep 62 & echo $! >"'"$work"'/stays"; echo done'
equals "a grandchild that stays" "$(cat "$out")" "[0] done"
checks=$((checks + 1))
until_true gone "$(cat "$work/stays")" || fail "the grandchild is left"

# A real job: whoever dies is named the same by run and by the survivors.
trainer=$(dirname "$gradpush")/gradpush-train
start_job() {
    rm -f "$out"
    "$gradpush" run -w 2 -s 3 -- "$trainer" --data digits --epochs 1000000 \
        2>"$err" >"$out" &
    job=$!
    until_true grep -qs '%' "$out" || fail "the training did not start"
}
# The n-th child of the job that pgrep's arguments name, in order of starting.
member() {
    local n=$1
    shift
    pgrep -P "$job" "$@" | sort -n | sed -n "${n}p"
}
kill_member() { # WHAT PID
    kill -9 "$2"
    until_true gone "$job" || kill "$job"
    wait "$job"
    status=$?
    equals "$1" "$status" 1
    says "$1" "$err" "gradpush run: $1 was killed by signal 9"
    no_files "$1"
}
if [ -x "$trainer" ]; then
    start_job
    kill_member "shard 1" "$(member 2 -f 'gradpush server')"
    says "shard 1" "$err" "[0] gradpush-train: "
    says "shard 1" "$err" "shard 1 at"
    says_not "shard 1" "$err" "shard 2 at"
    start_job
    kill_member "worker 1" "$(member 2 -x gradpush-train)"
    says "worker 1" "$err" "[0] gradpush-train: "
    says_not "worker 1" "$err" "was killed by signal 6"
    run "a job that ends" 0 run -w 2 -s 2 -- "$trainer" --data digits --epochs 1
    equals "a job that ends" "$(cat "$err")" ""
fi

# A reader that goes away ends the job instead of blocking it.
timeout 30 "$gradpush" run -w 1 --colocated -- yes 2>"$err" | head -1 >"$out"
equals "a reader that goes away" "$(cat "$out")" "[0] y"
finish
