# SPDX-License-Identifier: Apache-2.0
# What the cases share; sourced in the guest.

skip() {
    echo "skipped: $*"
    exit 77
}
fail() {
    echo "failed: $*"
    exit 1
}
# On a slow machine all that have SECONDS have LAB_SLOW times as many.
# within SECONDS COMMAND...: ended by SIGTERM when the time is over.
within() {
    local limit=$(($1 * ${LAB_SLOW:-1}))
    shift
    timeout "$limit" "$@"
}
# until_true SECONDS COMMAND...: polls; 1 when the time is over.
until_true() {
    local end=$((SECONDS + $1 * ${LAB_SLOW:-1}))
    shift
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}
# listens PORT: a listener of rdma_cm is there.
listens() { rdma resource show cm_id | grep -q "state LISTEN .*:$1 "; }

# barrier NAME: both guests have come here. OUT is the one place that both see.
barrier() {
    [ "$GUESTS" = 2 ] || return 0
    touch "$OUT/barrier.$1.$GUEST"
    until_true 60 test -e "$OUT/barrier.$1.$((1 - GUEST))" ||
        fail "the other guest does not come to $1"
}

# perftest_row OUTPUT: the row of figures of a program of perftest.
perftest_row() { grep -E '^ *[0-9]+ +[0-9]+ ' "$1" | tail -n 1; }

# What begins the commands of the two ends of a measurement, where that matters:
# taskset, for instance.
server_on=() client_on=()

# perftest PROGRAM OPTION...: both ends here, over rdma_cm; prints the row. The
# kernel says LISTEN a moment before it does: who comes then is rejected.
perftest() {
    local program=$1 server port=$((18000 + RANDOM % 2000)) log tries=5
    shift
    set -- -R -F -d rxe0 -p "$port" "$@"
    log=$(mktemp -d)
    "${server_on[@]}" "$program" "$@" >"$log/server" 2>&1 &
    server=$!
    until until_true 20 listens "$port" &&
        "${client_on[@]}" "$program" "$@" "$RDMA_ADDR" >"$log/client" 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$server" ||
            ! grep -q 'CM_EVENT_REJECTED; error: 8' "$log/client"; then
            kill -9 "$server"
            cat "$log/server" "$log/client" >&2
            return 1
        fi
        sleep 0.1
    done
    wait "$server" || return 1
    perftest_row "$log/client"
    rm -r "$log"
}

# Which transport is tried; tcp and verbs can be compared by this.
transport=${LAB_TRANSPORT:-verbs}
export PATH=$BUILD_DIR/bin:$PATH
need_transport() {
    local line
    line=$(gradpush info --transports | grep "^$transport ") ||
        fail "this build has no $transport"
    [[ $line =~ ^$transport\ +yes ]] || fail "$transport cannot be used: $line"
}

# packets DEVICE: how many it has sent.
packets() {
    rdma statistic show link "$1/1" | grep -o 'sent_pkts [0-9]*' | cut -d ' ' -f 2
}

# second_device: rxe1 with the address SECOND on the other end of the veth pair.
# Two addresses of one machine would speak to each other inside of it: these
# rules send whatever goes from here to SECOND over v0, and to RDMA_ADDR over v1.
second_device() {
    local name
    SECOND=10.77.0.2
    [ ! -e /sys/class/infiniband/rxe1 ] || return 0
    ip addr add "$SECOND/24" dev v1
    for name in all v0 v1; do
        echo 1 >"/proc/sys/net/ipv4/conf/$name/accept_local"
        echo 0 >"/proc/sys/net/ipv4/conf/$name/rp_filter"
    done
    ip route replace "$SECOND" dev v0 src "$RDMA_ADDR" table 100
    ip route replace "$RDMA_ADDR" dev v1 src "$SECOND" table 101
    # When a port is down nothing goes the short way instead.
    ip route replace unreachable "$SECOND" metric 9999 table 100
    ip route replace unreachable "$RDMA_ADDR" metric 9999 table 101
    ip rule add pref 10 lookup local
    # Both what has chosen no device and what has.
    ip rule add pref 1 iif lo to "$SECOND" lookup 100
    ip rule add pref 2 iif lo to "$RDMA_ADDR" lookup 101
    ip rule add pref 3 oif v0 to "$SECOND" lookup 100
    ip rule add pref 4 oif v1 to "$RDMA_ADDR" lookup 101
    ip rule del pref 0
    rdma link add rxe1 type rxe netdev v1 || fail "no rxe1"
    until_true 20 second_ready || fail "rxe1 does not come up"
}
second_ready() {
    rdma link show rxe1/1 | grep -q 'state ACTIVE' &&
        grep -qix 0000:0000:0000:0000:0000:ffff:0a4d:0002 \
            /sys/class/infiniband/rxe1/ports/1/gids/*
}
# single_device: as it was before second_device.
single_device() {
    rdma link del rxe1
    ip rule add pref 0 lookup local
    ip rule del pref 10
    for name in 1 2 3 4; do ip rule del pref "$name"; done
    for name in 100 101; do ip route flush table "$name"; done
    ip addr del 10.77.0.2/24 dev v1
    tc qdisc del dev v0 root
    tc qdisc del dev v1 root
} 2>/dev/null

# fresh_device: rxe0 anew, when something has made it deaf.
fresh_device() {
    rdma link del rxe0
    rdma link add rxe0 type rxe netdev v0
    until_true 20 is_active rxe0
}

# second_rail: rxe2 on a pair of its own, so that it lives when v0 does not.
second_rail() {
    [ ! -e /sys/class/infiniband/rxe2 ] || return 0
    ip link add v2 type veth peer name v3
    ip link set v3 mtu 4200 up
    ip link set v2 mtu 4200 up
    ip addr add 10.78.0.1/24 dev v2
    rdma link add rxe2 type rxe netdev v2 || fail "no rxe2"
    until_true 20 is_active rxe2 || fail "rxe2 does not come up"
}
is_active() { rdma link show "$1/1" | grep -q 'state ACTIVE'; }
single_rail() {
    rdma link del rxe2
    ip link del v2
} 2>/dev/null

# A job whose processes are started one by one: each has its own address and
# log, and nobody ends the others. Uses WORK (a folder) and the trainer.
declare -A member # name: process
# start NAME COMMAND...
start() {
    local name=$1
    shift
    "$@" >"$WORK/$name.out" 2>"$WORK/$name.err" </dev/null &
    member[$name]=$!
}
# start_server NUMBER OF WORKERS HOST [NAME=VALUE]...: sets ${address[NUMBER]}.
address=()
start_server() {
    local number=$1 of=$2 workers=$3 host=$4
    shift 4
    start "shard$number" env GRADPUSH_SHARDS="$of" GRADPUSH_SIZE="$workers" \
        GRADPUSH_FIRST_SHARD="$number" GRADPUSH_TRANSPORT="$transport" \
        GRADPUSH_STORE_HOST=off "$@" gradpush server --listen "$host:0"
    until_true 30 grep -q . "$WORK/shard$number.out" ||
        fail "shard $number: $(cat "$WORK/shard$number.err")"
    address[number]=$(cut -d ' ' -f 2 "$WORK/shard$number.out")
}
# start_worker RANK WORKERS OPTION...
start_worker() {
    local rank=$1 workers=$2
    shift 2
    start "worker$rank" env GRADPUSH_RANK="$rank" GRADPUSH_SIZE="$workers" \
        GRADPUSH_SERVERS="$(IFS=,; echo "${address[*]}")" \
        GRADPUSH_STORE_HOST=off \
        gradpush-train --transport "$transport" --json "$WORK/worker$rank.json" \
        "$@"
}
is_over() { ! kill -0 "${member[$1]}"; }
# ends NAME SECONDS: its exit status is in ended.
ends() {
    until_true "$2" is_over "$1" || fail "$1 still runs after $2 s: $(
        tail -n 5 "$WORK/$1.err")"
    ended=0
    wait "${member[$1]}" || ended=$?
}
all_end_well() {
    local name
    for name in "${!member[@]}"; do
        ends "$name" "$1"
        [ "$ended" = 0 ] ||
            fail "$name ended with status $ended: $(tail -n 5 "$WORK/$name.err")"
    done
    member=()
}
digest() { sed -n 's/.*"params_sha256": "\(.*\)".*/\1/p' "$1"; }
