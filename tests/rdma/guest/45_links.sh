# SPDX-License-Identifier: Apache-2.0
# Links that go away in the middle of a job: a network that loses everything for
# a while is waited for, and so is the only port when it goes down and comes up
# again. A rail that does the same is used again, one that stays dead is left to
# the other, and when no port is left the job ends by itself and says so. Who
# comes when the first rail is lost goes over the second. What ends well ends in
# the parameters that tcp ends in.
# timeout: 150
. "$LAB_LIB"
need_transport
[ "$transport" = verbs ] || skip "this is about ports of devices"
WORK=$(mktemp -d)
# Whatever happens, the cases after this one have their device. What is left of
# a job ends when its port is up and not before, which would make it deaf.
clean() {
    local status=$?
    ip link set v0 up
    # shellcheck disable=SC2046
    [ "$status" = 0 ] || kill -9 $(jobs -p) 2>/dev/null
    single_rail
    single_device
    [ "$status" = 0 ] || fresh_device
    exit "$status"
}
trap clean EXIT
SIZE=(--epochs 40 --hidden 32)

# tcp stays on lo meanwhile.
within 100 gradpush-train --transport tcp --workers 2 --shards 1 --quiet \
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
# What workers say counts: it is they who connect again. Which cause a lane is
# lost for depends on who notices first, this side, the peer or the device.
count() { cat "$WORK"/worker?.err | grep -c "$1"; }
all_back() { [ "$(count 'to come back')" = "$(count 'is back')" ]; }
missed() { [ "$(count 'to come back')" -gt "$1" ]; }

darken() {
    local device before
    before=$(count 'to come back')
    for device in v0 v1; do
        tc qdisc add dev "$device" root netem loss 100%
    done
    until_true 30 missed "$before" ||
        fail "nobody notices that all is lost: $(errors)"
    for device in v0 v1; do tc qdisc del dev "$device" root; done
    until_true 30 all_back || fail "it does not come back: $(errors)"
}
# goes_down DEVICE, until somebody misses it.
goes_down() {
    local before
    before=$(count 'to come back')
    ip link set "$1" down
    until_true 30 missed "$before" || fail "nobody misses $1: $(errors)"
}
flap() {
    local up
    goes_down v0
    ip link set v0 up
    # A route by hand does not come back with the port.
    ip route replace "$SECOND" dev v0 src "$RDMA_ADDR" table 100
    up=$(date +%s%N)
    until_true 30 all_back || fail "the port is back, lanes are not: $(errors)"
    echo "figure: back $((($(date +%s%N) - up) / 1000000)) ms after the only port"
}
lose_all() { darken && flap; }
second_device
export GRADPUSH_IB_TIMEOUT=15 GRADPUSH_IB_RECONNECT=30s GRADPUSH_KEEPALIVE=1s
train_with lose_all rxe1 rxe0 "$SECOND"
lost=$found
[ "$(count 'is back')" -ge 2 ] || fail "one loss was not noticed: $(errors)"
single_device

second_rail
export GRADPUSH_IB_RAILS=2
sent_more() { [ "$(packets "$1")" -gt $(($2 + 50)) ]; }
carries() {
    until_true 30 sent_more "$1" "$(packets "$1")" || fail "$1 sends nothing: $(errors)"
}
flap_rail() {
    carries rxe2
    goes_down v2
    still=$(packets rxe2)
    carries rxe0
    [ "$(packets rxe2)" = "$still" ] || fail "rxe2 sends without a link"
    ip link set v2 up
    until_true 30 all_back || fail "rxe2 is back, its lanes are not: $(errors)"
    carries rxe2
    ip link set v2 down
}
train_with flap_rail rxe0,rxe2 rxe0,rxe2 ''
railed=$found
[ "$(count 'lane 1 is back')" -ge 1 ] || fail "rxe2 was not missed: $(errors)"
unset GRADPUSH_IB_RAILS GRADPUSH_IB_TIMEOUT GRADPUSH_IB_RECONNECT GRADPUSH_KEEPALIVE

wait "$reference" || fail "over tcp: $(cat /tmp/expected.err)"
expected=$(digest /tmp/expected)
[ -n "$expected" ] && [ "$lost" = "$expected" ] &&
    [ "$railed" = "$expected" ] ||
    fail "digests '$lost' and '$railed', not '$expected'"

# A device of its own: what ends while its port is down harms soft-RoCE.
single_rail
second_rail
before=$(packets rxe2)
GRADPUSH_IB_HCA=rxe2 within 60 gradpush bench pushpull --transport verbs \
    --workers 1 --shards 1 -b 64K -e 64K -n 1000000 >/tmp/bench 2>&1 &
bench=$!
moves() { [ "$(packets rxe2)" -gt $((before + 1000)) ]; }
until_true 30 moves || fail "no benchmark: $(cat /tmp/bench)"
ip link set v2 down
down=$(date +%s%N)
! wait "$bench" || fail "a benchmark without a link ended well"
echo "figure: over $((($(date +%s%N) - down) / 1000000)) ms after its link"
grep -qE 'port 1 is down|link went down' /tmp/bench || fail "no cause: $(cat /tmp/bench)"

# Who comes when the first rail is lost reaches a shard by its second address.
single_rail
second_rail
member=() address=()
export GRADPUSH_IB_RAILS=2 GRADPUSH_IB_HCA=rxe0,rxe2
start_server 0 1 1 ''
[[ ${address[0]} == verbs:"$RDMA_ADDR":*'|verbs:10.78.0.1:'* ]] ||
    fail "published at ${address[0]}"
ip link set v0 down
start_worker 0 1 --epochs 2 --hidden 32
all_end_well 60
ip link set v0 up
grep -q 'connected over rxe2:1 to 10.78.0.1:' "$WORK/worker0.err" ||
    fail "over which rail? $(errors)"
