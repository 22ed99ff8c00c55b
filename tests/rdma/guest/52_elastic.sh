# SPDX-License-Identifier: Apache-2.0
# kill -9 of a worker of a job that goes on without it, and its next life: the
# others make steps, and it does too.
# timeout: 90
. "$LAB_LIB"
need_transport
WORK=$(mktemp -d)
export GRADPUSH_ELASTIC=on
member=() address=()

steps() { cat "$WORK/steps.$1" 2>/dev/null || echo 0; }
# more RANK THAN: it has made so many steps.
more() { [ "$(steps "$1")" -gt "$2" ]; }
goes_on() { # RANK
    local now
    now=$(steps "$1")
    until_true 30 more "$1" $((now + 2)) ||
        fail "worker $1 stays at step $(steps "$1"): $(cat "$WORK"/*.err)"
}
train() { # RANK
    start_worker "$1" 2 --min-workers 1 --epochs 100000 \
        --steps-file "$WORK/steps"
}

start_server 0 1 2 "$RDMA_ADDR"
train 0
train 1
goes_on 1
before=$(date +%s%N)
kill -9 "${member[worker1]}"
goes_on 0
echo "figure: 2 steps $((($(date +%s%N) - before) / 1000000)) ms after" \
    "kill -9 of the other worker"
rm -f "$WORK/steps.1"
before=$(date +%s%N)
train 1
goes_on 1
goes_on 0
echo "figure: its next life had made 2 steps" \
    "$((($(date +%s%N) - before) / 1000000)) ms after its start"
kill -TERM "${member[worker0]}"
ends worker0 20
[ "$ended" = 143 ] || fail "worker 0 left with status $ended"
kill -TERM "${member[worker1]}"
ends worker1 20
ends shard0 20
[ "$ended" = 0 ] || fail "shard 0: $(cat "$WORK/shard0.err")"
