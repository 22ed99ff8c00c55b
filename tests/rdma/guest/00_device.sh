# SPDX-License-Identifier: Apache-2.0
# The device itself, with the tools of rdma-core and perftest: when this fails,
# it is not gradpush.
# timeout: 90
. "$LAB_LIB"

ibv_devinfo -d rxe0 >/tmp/devinfo || fail "ibv_devinfo: no rxe0"
grep -q 'PORT_ACTIVE' /tmp/devinfo || fail "rxe0 is not active"
grep -q 'active_mtu:.*4096' /tmp/devinfo || fail "the active MTU is not 4096"

rping -s -a "$RDMA_ADDR" -p 7174 -C 10 &
server=$!
until_true 20 listens 7174 || fail "rping does not listen"
# It is said to listen a moment before it does.
until_true 5 rping -c -a "$RDMA_ADDR" -p 7174 -C 10 || fail "rping"
wait "$server" || fail "rping's server"

for size in 65536 1048576; do
    row=$(perftest ib_write_bw -s "$size" -n $((33554432 / size))) ||
        fail "ib_write_bw"
    read -r _ _ _ average _ <<<"$row"
    echo "figure: ib_write_bw $size B: $average MB/s"
done
row=$(perftest ib_write_lat -s 64 -n 2000) || fail "ib_write_lat"
read -r _ _ _ _ typical _ <<<"$row"
echo "figure: ib_write_lat 64 B: $typical us"
