#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test_silence.sh - a host that vanishes is noticed; a peer that only pauses is
# not taken for dead.
#
# The vanished host is a network namespace whose link goes down in the middle of
# a stream: no reset and no end of stream tells of it.
. "$(dirname "${BASH_SOURCE[0]}")/cli_lib.sh"

space=gp-silence-$$
link=gps$$
net=10.$((200 + $$ % 50)).$(($$ / 50 % 250))
server='' client=''
cleanup() {
    for pid in $server $client; do
        kill -CONT "$pid" 2>/dev/null
        kill -KILL "$pid" 2>/dev/null
    done
    ip link del "${link}a" 2>/dev/null
    ip netns del "$space" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# start_pair COMMAND... : a listening bench run by COMMAND, and one that
# connects to it; sets server, client.
start_pair() {
    rm -f "$work/s.err"
    "$@" --listen "$listen" >"$work/s.out" 2>"$work/s.err" </dev/null &
    server=$!
    until_true grep -qs 'listening on' "$work/s.err" || fail "nobody listens"
    address=$(sed -n 's/.*listening on //p' "$work/s.err" | head -1)
    "$gradpush" $stream --connect "$address" >"$out" 2>"$err" </dev/null &
    client=$!
}
end_pair() {
    kill -KILL "$client" "$server" 2>/dev/null
    wait "$client" "$server" 2>/dev/null
}

# Some of the stream's bytes have left this side.
flowing() {
    [ "$(cat "/sys/class/net/${link}a/statistics/tx_bytes")" -gt 4000000 ]
}

# wait_end PID SECONDS: 0 when it ended in time.
wait_end() {
    for _ in $(seq $(($2 * 20))); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}

export GRADPUSH_KEEPALIVE=1s GRADPUSH_TIMEOUT=60s
stream="bench transport --test bw -b 1M -e 1M -n 200000 -c 0"

echo "a receiver that is stopped for three times the keepalive"
listen=127.0.0.1:0
start_pair "$gradpush" $stream
sleep 0.5
kill -STOP "$server"
sleep 3
checks=$((checks + 2))
alive "$client" || fail "the sender took a stopped peer for dead"
kill -CONT "$server"
sleep 0.5
{ alive "$client" && alive "$server"; } || fail "the two did not go on"
end_pair

echo "a host whose link goes down"
if ! ip netns add "$space" 2>"$work/netns"; then
    echo "  skipped: no network namespace: $(cat "$work/netns")"
else
    ip link add "${link}a" type veth peer name "${link}b" netns "$space"
    ip addr add "$net.1/24" dev "${link}a"
    ip link set "${link}a" up
    ip -n "$space" addr add "$net.2/24" dev "${link}b"
    ip -n "$space" link set "${link}b" up
    listen=$net.2:0
    start_pair ip netns exec "$space" "$gradpush" $stream
    until_true flowing || fail "the stream did not begin"
    ip -n "$space" link set "${link}b" down
    checks=$((checks + 1))
    wait_end "$client" 40 || fail "the sender did not notice within 40 s"
    says "a vanished host" "$err" "not answered"
    end_pair
fi
finish
