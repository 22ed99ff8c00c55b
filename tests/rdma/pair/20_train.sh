# SPDX-License-Identifier: Apache-2.0
# A job on two hosts over two rails: the shard on one host, a worker on each.
# Both rails carry some of it, then the second one is cut, for as long as it takes
# to be missed.
# timeout: 60
. "$LAB_LIB"
need_transport
WORK=$(mktemp -d)
port=4730
address=("10.77.0.1:$port")
SIZE=(--epochs 12 --hidden 32)

# Of verbs only: the shard tells of its other rail, and lanes use both.
if [ "$transport" = verbs ]; then
    ip link set eth1 mtu 4200 up
    ip addr add "10.78.0.$((GUEST + 1))/24" dev eth1
    rdma link add rxe1 type rxe netdev eth1 || fail "no rxe1"
    until_true 20 is_active rxe1 || fail "rxe1 does not come up"
    export GRADPUSH_IB_RAILS=2 GRADPUSH_IB_HCA=rxe0,rxe1
    export GRADPUSH_IB_RECONNECT=1s
    declare -A before=([rxe0]=$(packets rxe0) [rxe1]=0)
fi
# Guest 0 has the shard and worker 0, guest 1 has worker 1.
if [ "$GUEST" = 0 ]; then
    GRADPUSH_RANK=-1 start shard0 env GRADPUSH_SHARDS=1 GRADPUSH_SIZE=2 \
        GRADPUSH_FIRST_SHARD=0 GRADPUSH_STORE_HOST=off \
        GRADPUSH_TRANSPORT="$transport" gradpush server --listen ":$port"
fi
barrier rails
start_worker "$GUEST" 2 "${SIZE[@]}"
# The rail's packets of guest 1 all go between the hosts.
sent() { echo $(($(packets "$1") - ${before[$1]})); }
sends() { [ "$(sent "$1")" -gt 50 ]; }
missed() { grep -qE 'rxe1:1\]; it has|goes on with 1 of 2' "$WORK/worker1.err"; }
if [ "$transport" = verbs ] && [ "$GUEST" = 1 ]; then
    for device in rxe0 rxe1; do
        until_true 40 sends "$device" || fail "$device carries nothing: $(
            tail -n 5 "$WORK/worker1.err")"
    done
    echo "figure: over the rails before one is cut: $(sent rxe0) and $(
        )$(sent rxe1) packets"
    # With packets in it, as a rule. The kernel destroys their queue pairs only
    # after a minute, or when the link is up again: who leaves a rail must not
    # wait for that, and who ends does.
    cut=$SECONDS
    ip link set eth1 down
    until_true 20 missed || fail "nobody misses the rail: $(
        tail -n 5 "$WORK/worker1.err")"
    ip link set eth1 up
    echo "figure: the rail was missed after $((SECONDS - cut)) s"
fi
all_end_well 50
# Worker 0 writes the report.
[ "$GUEST" = 0 ] || exit 0
there=$(digest "$WORK/worker0.json")
within 50 gradpush-train --workers 2 --shards 1 --transport tcp \
    "${SIZE[@]}" --quiet --json "$WORK/tcp.json" >/dev/null ||
    fail "training over tcp"
here=$(digest "$WORK/tcp.json")
[ -n "$here" ] && [ "$here" = "$there" ] ||
    fail "digest '$there' over $transport between hosts, '$here' over tcp here"
echo "figure: params_sha256 ${here:0:16}... on two hosts"
