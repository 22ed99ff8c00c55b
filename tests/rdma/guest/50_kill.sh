# SPDX-License-Identifier: Apache-2.0
# kill -9 in the middle of training: all others end by themselves, soon, with
# an error that names who is gone.
# timeout: 90
. "$LAB_LIB"
need_transport
WORK=$(mktemp -d)
BOUND=30 # seconds; the figure says what it was

under_way() { grep -q '^ *[1-9][0-9]* ' "$WORK/worker0.out"; }
# kill_one VICTIM WHAT NAMES...: of two workers and two shards.
kill_one() {
    local victim=$1 names=$2 name before
    member=() address=()
    rm -f "$WORK"/*
    start_server 0 2 2 "$RDMA_ADDR"
    start_server 1 2 2 "$RDMA_ADDR"
    start_worker 0 2 --epochs 100000
    start_worker 1 2 --epochs 100000
    until_true 40 under_way || fail "training does not begin: $(
        cat "$WORK"/*.err)"
    before=$(date +%s%N)
    kill -9 "${member[$victim]}"
    for name in "${!member[@]}"; do
        [ "$name" != "$victim" ] || continue
        ends "$name" "$BOUND"
        # A shard hears of another's death from workers, if at all.
        [[ $victim = shard* && $name = shard* ]] && continue
        [ "$ended" != 0 ] || fail "$name ended well after $victim was killed"
        grep -qE "$names" "$WORK/$name.err" ||
            fail "$name does not name $victim: $(cat "$WORK/$name.err")"
    done
    echo "figure: all over $((($(date +%s%N) - before) / 1000000)) ms after" \
        "kill -9 of $victim"
}

kill_one worker1 'worker 1 \('
kill_one shard1 'shard 1 at'
