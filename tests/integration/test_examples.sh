# SPDX-License-Identifier: Apache-2.0
# The examples, alone and as jobs.
. "$(dirname "${BASH_SOURCE[0]}")/cli_lib.sh"
bin=${BUILD_DIR:-$1}/bin

# alone WHAT STATUS COMMAND...
alone() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    timeout 60 "$@" >"$out" 2>"$err" </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
# Nothing on standard error, but for what a build without OpenSSL says.
quiet() {
    equals "$1: standard error" "$(grep -v 'this build has no OpenSSL' "$err")" ""
}

# 01: all elements are right, with shards of their own and without.
for shards in 2 1 0; do
    run "01 with $shards shards" 0 run -w 2 -s "$shards" -- "$bin/01_push_pull"
    for rank in 0 1; do
        says "01 with $shards shards" "$out" \
            "[$rank] mean of 2 workers: 1000000 of 1000000 elements right"
    done
    quiet "01 with $shards shards"
done
run "01, three workers" 0 run -w 3 -s 2 -- "$bin/01_push_pull"
says "01, three workers" "$out" "[2] mean of 3 workers: 1000000 of 1000000"
alone "01 alone" 0 "$bin/01_push_pull"
says "01 alone" "$out" "mean of 1 workers: 1000000 of 1000000 elements right"
quiet "01 alone"
# What fails is said, and gives the job's exit status.
alone "01, bad rank" 1 env GRADPUSH_RANK=1 GRADPUSH_SIZE=1 "$bin/01_push_pull"
says "01, bad rank" "$err" "01_push_pull: "
run "01, bad codec" 1 run -w 2 -s 2 --env GRADPUSH_CODEC=q9 -- \
    "$bin/01_push_pull"
says "01, bad codec" "$err" "q9"
equals "01, bad codec: standard output" "$(cat "$out")" ""

# 02: converges to the same loss on all workers.
run 02 0 run -w 2 -s 2 -- "$bin/02_server_optimizer"
says 02 "$out" "[0] step   0  loss "
says 02 "$out" "parameters within 0.00"
quiet 02
first=$(sed -n 's/.*worker 0: //p' "$out")
equals "02: what workers end with" "$(sed -n 's/.*worker 1: //p' "$out")" \
    "$first"
# The number of shards does not change a bit of it.
run "02, co-located" 0 run -w 2 -s 0 -- "$bin/02_server_optimizer"
equals "02, co-located: end" "$(sed -n 's/.*worker 0: //p' "$out")" "$first"
alone "02 alone" 0 "$bin/02_server_optimizer"
says "02 alone" "$out" "parameters within 0.00"

# 03: the codec's author decides what is pushed; feedback makes up for it.
run 03 0 run -w 2 -s 0 -- "$bin/03_custom_codec"
says 03 "$out" "[0] worker 0: error 0."
says 03 "$out" "[1] worker 1: error 0."
percent=$(sed -n 's/.*worker 0.*pushed \([0-9]*\)\..*/\1/p' "$out")
checks=$((checks + 1))
[ "${percent:-100}" -le 4 ] || fail "03 pushed $percent % of the dense bytes"
quiet 03
alone "03 alone" 0 "$bin/03_custom_codec"
# Shards that do not know a codec say its name.
run "03, unknown to shards" 1 run -w 2 -s 2 -- "$bin/03_custom_codec"
says "03, unknown to shards" "$err" "there is no codec 'sign1'"
says "03, unknown to shards" "$err" "registered in the server's program too"

# 07: learns what it was not shown, with the same bits for any shards.
run 07 0 run -w 2 -s 2 -- "$bin/07_embeddings"
says 07 "$out" "[0] step   0  loss 0.69"
recall=$(sed -n 's/.*per user \([0-9]*\)\.. % are right.*/\1/p' "$out")
loss=$(sed -n 's/.*step 239  loss 0\.\([0-9]*\)/\1/p' "$out")
checks=$((checks + 1))
[ "${recall:-0}" -ge 90 ] && [ "${loss:-999999}" -lt 100000 ] ||
    fail "07: recall ${recall:-none} %, loss 0.${loss:-none}"
quiet 07
same=$(cat "$out")
counts="1 4 0"
[ -z "${SANITIZE:-}" ] || counts=0 # each takes seconds there
for shards in $counts; do
    run "07 with $shards shards" 0 run -w 2 -s "$shards" -- "$bin/07_embeddings"
    equals "07 with $shards shards" "$(cat "$out")" "$same"
done

# 04: what one worker sent, the other received.
run 04 0 run -w 2 -s 0 --env GRADPUSH_TRANSPORT=counted -- \
    "$bin/04_custom_transport"
data=$(sed -n 's/.*worker 0 sent [0-9]* control and \([0-9]*\) data.*/\1/p' \
    "$out")
checks=$((checks + 1))
[ "${data:-0}" -gt 0 ] || fail "04: worker 0 sent no data messages"
says 04 "$out" "worker 1 received"
equals "04: data sent and received" \
    "$(sed -n 's/.*1 received [0-9]* control and \([0-9]*\) data.*/\1/p' \
        "$out")" "$data"
quiet 04
run "04, over tcp" 0 run -w 2 -s 0 -- "$bin/04_custom_transport"
says "04, over tcp" "$out" "worker 0 sent 0 control and 0 data messages"
alone "04 alone" 0 "$bin/04_custom_transport"
run "04, no such transport" 1 run -w 2 -s 0 \
    --env GRADPUSH_TRANSPORT=countd -- "$bin/04_custom_transport"
says "04, no such transport" "$err" "did you mean 'counted'?"

# 05: an updater from outside the library, on co-located shards.
run 05 0 run -w 2 -s 0 -- "$bin/05_custom_updater"
says 05 "$out" "worker 1: weights within 0.0"
quiet 05
alone "05 alone" 0 "$bin/05_custom_updater"
# Shards that do not know an updater say its name.
run "05, unknown to shards" 1 run -w 2 -s 2 -- "$bin/05_custom_updater"
says "05, unknown to shards" "$err" "unknown updater 'lion'"

# 06: on a GPU, or without one.
alone "06 alone" 0 "$bin/06_cuda_stream"
grep -q "no CUDA device" "$out" ||
    says "06 alone" "$out" "mean 1, expected 1"

finish
