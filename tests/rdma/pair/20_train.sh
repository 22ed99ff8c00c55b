# SPDX-License-Identifier: Apache-2.0
# A job on two hosts: the shard on one, a worker on each.
# timeout: 60
. "$LAB_LIB"
need_transport
WORK=$(mktemp -d)
port=4730
address=("10.77.0.1:$port")

# Guest 0 has the shard and worker 0, guest 1 has worker 1.
if [ "$GUEST" = 0 ]; then
    GRADPUSH_RANK=-1 start shard0 env GRADPUSH_SHARDS=1 GRADPUSH_SIZE=2 \
        GRADPUSH_FIRST_SHARD=0 GRADPUSH_STORE_HOST=off \
        GRADPUSH_TRANSPORT="$transport" gradpush server --listen "$SELF:$port"
fi
start_worker "$GUEST" 2 --epochs 1 --quiet
all_end_well 50
# Worker 0 writes the report.
[ "$GUEST" = 0 ] || exit 0
there=$(digest "$WORK/worker0.json")
timeout 50 gradpush-train --workers 2 --shards 1 --transport tcp --epochs 1 \
    --quiet --json "$WORK/tcp.json" >/dev/null || fail "training over tcp"
here=$(digest "$WORK/tcp.json")
[ -n "$here" ] && [ "$here" = "$there" ] ||
    fail "digest '$there' over $transport between hosts, '$here' over tcp here"
echo "figure: params_sha256 ${here:0:16}... on two hosts"
