# SPDX-License-Identifier: Apache-2.0
# gradpush and perftest on the same device in pairs, one right after the other
# and each first in turn: ratios of the pairs, and medians, also as
# side_by_side.json in OUT. Judges nothing: what a machine does besides is not
# known here. In a pair both have the same size and number of messages, the same
# number under way, a completion for each, a warm-up as long as what is under
# way, and a processor for each end, on which it spins where it waits.
# timeout: 170
. "$LAB_LIB"
need_transport
ROUNDS=$LAB_ROUNDS
PAIRS=$((ROUNDS > 2 ? 4 : 1)) # of latencies, which change most
# One round shows that all of it runs; rounds that are compared take more bytes.
BYTES=$((ROUNDS > 2 ? 33554432 : 16777216))
export GRADPUSH_SPIN=1s
server_on=(taskset -c 1) client_on=(taskset -c 0)
rows=$OUT/side_by_side.txt
: >"$rows"

# field NAME: of the one result in /tmp/report.
field() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" /tmp/report | tail -n 1; }
# row WHAT BYTES PAIR WHO VALUE
row() { echo "$*" >>"$rows"; }
# gradpush_ends OPTION...: both ends, as perftest of lib.sh has them.
gradpush_ends() {
    local server status=0
    "${server_on[@]}" gradpush bench transport --transport "$transport" \
        --listen "$RDMA_ADDR:0" >/tmp/server 2>&1 &
    server=$!
    until_true 20 grep -q 'listening on' /tmp/server &&
        within 60 "${client_on[@]}" gradpush bench transport \
            --transport "$transport" \
            --connect "$(sed -n 's/.*listening on //p' /tmp/server)" \
            "$@" --json - >/tmp/report 2>/tmp/error || status=1
    [ "$status" = 0 ] || kill -9 "$server"
    wait "$server" || status=1
    [ "$status" = 0 ] ||
        fail "gradpush bench transport: $(cat /tmp/error /tmp/server)"
}
# figure COLUMN FACTOR PROGRAM OPTION...: of perftest's row, if it tells one. Tried
# again when its client came too early, which it does not survive, and when it
# could not find out how fast its clock counts: a machine that stops for a moment
# in those milliseconds has it tell a rate of 0.00, or a time of inf.
figure() {
    local column=$1 factor=$2 try value
    shift 2
    for try in 1 2 3; do
        value=$(perftest "$@" 2>/tmp/error |
            awk "\$$column + 0 > 0 && \$$column !~ /[^0-9.]/ {
                print \$$column * $factor }")
        if [ -n "$value" ]; then
            echo "$value"
            return
        fi
        echo "$1 told no figure, try $try: $(tail -n 2 /tmp/error)" >&2
    done
    return 1
}
# rate WAYS [OPTION]...: of ib_write_bw, in MB/s each way
rate() {
    local ways=$1
    shift
    figure 4 "1.048576 / $ways" ib_write_bw -s "$size" -n "$count" -t "$depth" \
        -Q 1 --perform_warm_up "$@"
}
# one WHO KIND PAIR: one side of a pair.
one() {
    local value
    case $1.$2 in
    perftest.bw) value=$(rate 1) ;;
    perftest.lat) value=$(figure 5 1 ib_write_lat -s 64 -n "$count") ;;
    gradpush.bw)
        gradpush_ends --test bw -b "$size" -e "$size" -n "$count" -t "$depth" \
            -w "$depth"
        value=$(field algbw_GBps | awk '{ print $1 * 1000 }')
        ;;
    gradpush.lat)
        gradpush_ends --test lat -b 64 -e 64 -n "$count"
        value=$(field median_us)
        ;;
    esac
    # Without perftest's figure there is no pair, which is no fault of gradpush.
    [ -n "$value" ] || [ "$1" = perftest ] || fail "$1 has no result"
    [ -z "$value" ] || row "$2" "$size" "$3" "$1" "$value"
}
# pair KIND NUMBER
pair() {
    if (($2 % 2)); then
        one gradpush "$1" "$2"
        one perftest "$1" "$2"
    else
        one perftest "$1" "$2"
        one gradpush "$1" "$2"
    fi
}
# push_pull WHAT PAIR OPTION...
# Worker and shard are placed by the kernel: there is one processor for each.
push_pull() {
    local what=$1 pair=$2
    shift 2
    within 60 gradpush bench pushpull --transport "$transport" --workers 1 \
        --shards 1 -b 1M -e 1M "$@" --json - >/tmp/report 2>/tmp/error ||
        fail "gradpush bench pushpull: $(cat /tmp/error)"
    row "$what" 1048576 "$pair" gradpush "$(field algbw_GBps |
        awk '{ print $1 * 1000 }')"
}
# One tensor at a time, and as many as ib_write_bw has messages under way.
push_pulls() {
    push_pull pushpull "$1" -n 32
    push_pull pushpull8 "$1" --tensors 8 -n $((ROUNDS > 2 ? 4 : 2)) -w 1
}

for ((round = 0; round < ROUNDS; round++)); do
    size=65536 count=$((BYTES / 65536)) depth=32
    pair bw "$round"
    size=64 count=20000
    for ((n = 0; n < PAIRS; n++)); do
        pair lat $((round * PAIRS + n))
    done
    # Their pair is with the rate of perftest, on either side of it in turn.
    size=1048576 count=$((BYTES / 1048576)) depth=8
    ((round % 2)) || push_pulls "$round"
    pair bw "$round"
    ((round % 2 == 0)) || push_pulls "$round"
    # Of both directions at once perftest says the sum.
    if value=$(rate 2 -b); then
        row both 1048576 "$round" perftest "$value"
    fi
done
python3 "$SOURCE_DIR/tests/rdma/side_by_side.py" "$rows" \
    "$OUT/side_by_side.json" "$transport" "$ROUNDS"
