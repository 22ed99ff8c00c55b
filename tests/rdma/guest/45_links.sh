# SPDX-License-Identifier: Apache-2.0
# Links that go away in the middle of a job: a network that loses everything for
# a while is waited for, a rail that stays dead is left to the other, and when no
# port is left the job ends by itself and says so. What ends well ends in the
# parameters that tcp ends in.
# timeout: 120
. "$LAB_LIB"
need_transport
[ "$transport" = verbs ] || skip "this is about ports of devices"
WORK=$(mktemp -d)
trap 'single_rail; single_device' EXIT
SIZE=(--epochs 60 --hidden 32)

# tcp stays on lo meanwhile.
timeout 100 gradpush-train --transport tcp --workers 2 --shards 1 --quiet \
    --json - "${SIZE[@]}" >/tmp/expected 2>/tmp/expected.err &
reference=$!

under_way() { grep -q '^ *1 ' "$WORK/worker0.out"; }
errors() { tail -n 5 "$WORK"/*.err; }
# train_with FAULT SERVER-HCA WORKER-HCA HOST: a job of two workers and a shard in
# which that happens after the first epoch; what it ends in is in found.
train_with() {
    member=() address=()
    rm -f "$WORK"/*
    start_server 0 1 2 "$4" GRADPUSH_IB_HCA="$2"
    export GRADPUSH_IB_HCA=$3
    start_worker 0 2 "${SIZE[@]}"
    start_worker 1 2 "${SIZE[@]}"
    unset GRADPUSH_IB_HCA
    until_true 60 under_way || fail "training does not begin: $(errors)"
    $1
    all_end_well 60
    found=$(digest "$WORK/worker0.json")
}
says() { grep -qE "$1" "$WORK"/*.err; }

darken() {
    local device
    for device in v0 v1; do
        tc qdisc add dev "$device" root netem loss 100%
    done
    until_true 20 says 'it has .* s to come back' ||
        fail "nobody notices that all is lost: $(errors)"
    for device in v0 v1; do tc qdisc del dev "$device" root; done
}
second_device
export GRADPUSH_IB_TIMEOUT=15 GRADPUSH_IB_RECONNECT=30s
train_with darken rxe1 rxe0 "$SECOND"
darkened=$found
says 'lane 0 is back' || fail "no lane came back: $(errors)"
single_device

second_rail
export GRADPUSH_IB_RAILS=2 GRADPUSH_IB_RECONNECT=1s
# It is cut when it has carried some of the job, which goes on for a while.
cut_rail() {
    until_true 20 rail_carries || fail "rxe2 has sent nothing: $(errors)"
    ip link set v2 down
}
before=$(packets rxe2)
rail_carries() { [ "$(packets rxe2)" -gt $((before + 50)) ]; }
train_with cut_rail rxe0,rxe2 rxe0,rxe2 ''
railed=$found
says 'goes on (with 1 of 2 lanes|without lane 1)' || fail "no rail was left: $(errors)"
unset GRADPUSH_IB_RAILS GRADPUSH_IB_TIMEOUT

wait "$reference" || fail "over tcp: $(cat /tmp/expected.err)"
expected=$(digest /tmp/expected)
[ -n "$expected" ] && [ "$darkened" = "$expected" ] &&
    [ "$railed" = "$expected" ] ||
    fail "digests '$darkened' and '$railed', not '$expected'"

# A device of its own: soft-RoCE does not come back when its port was down.
single_rail
second_rail
before=$(packets rxe2)
GRADPUSH_IB_HCA=rxe2 timeout 60 gradpush bench pushpull --transport verbs \
    --workers 1 --shards 1 -b 64K -e 64K -n 1000000 >/tmp/bench 2>&1 &
bench=$!
moves() { [ "$(packets rxe2)" -gt $((before + 1000)) ]; }
until_true 30 moves || fail "no benchmark: $(cat /tmp/bench)"
ip link set v2 down
down=$(date +%s%N)
! wait "$bench" || fail "a benchmark without a link ended well"
echo "figure: over $((($(date +%s%N) - down) / 1000000)) ms after its link"
grep -qE 'port 1 is down|link went down' /tmp/bench || fail "no cause: $(cat /tmp/bench)"
