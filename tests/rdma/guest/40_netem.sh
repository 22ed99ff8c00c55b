# SPDX-License-Identifier: Apache-2.0
# A network that delays and loses packets: training is slower, and otherwise the
# same. Shards are behind rxe1, workers behind rxe0, all packets cross the pair.
# timeout: 120
. "$LAB_LIB"
need_transport
trap single_device EXIT
second_device

# train WHAT: a job of two workers and two shards; sets report.
train() {
    WORK=$(mktemp -d)
    member=() address=()
    start_server 0 2 2 "$SECOND" GRADPUSH_IB_HCA=rxe1 GRADPUSH_IB_TIMEOUT=15
    start_server 1 2 2 "$SECOND" GRADPUSH_IB_HCA=rxe1 GRADPUSH_IB_TIMEOUT=15
    export GRADPUSH_IB_HCA=rxe0 GRADPUSH_IB_TIMEOUT=15
    start_worker 0 2 --epochs 1 --quiet
    start_worker 1 2 --epochs 1 --quiet
    all_end_well 60
    unset GRADPUSH_IB_HCA GRADPUSH_IB_TIMEOUT
    report=$WORK/worker0.json
    took=$(sed -n '/"final"/,$s/.*"seconds": \([0-9]*\.[0-9]\).*/\1/p' "$report")
    echo "figure: training with $1: $took s"
}
netem() {
    local device
    for device in v0 v1; do
        tc qdisc del dev "$device" root 2>/dev/null
        tc qdisc add dev "$device" root netem "$@"
    done
}
# seen Sent|dropped: bytes, packets, since the last netem.
seen() { tc -s qdisc show dev v0 | sed -n "s/.*$1 \([0-9]*\).*/\1/p"; }
same() {
    [ "$(digest "$report")" = "$expected" ] ||
        fail "$1: digest '$(digest "$report")', not '$expected'"
}

train "a good network"
expected=$(digest "$report")
[ -n "$expected" ] || fail "no digest"
netem delay 5ms limit 10000
train "5 ms of delay each way"
same "5 ms of delay"
[ "$(seen Sent)" -gt 100000 ] || fail "next to nothing went over the pair"
netem loss 1% limit 10000
train "1 % of the packets lost"
same "1 % of loss"
lost=$(seen dropped)
[ "$lost" -gt 0 ] || fail "no packet was lost: $(tc -s qdisc show dev v0)"
echo "figure: $lost packets lost on the workers' side"
