# SPDX-License-Identifier: Apache-2.0
# gradpush and perftest on the same device in turn: medians and ratios, also as
# side_by_side.json in OUT. Judges nothing: what a machine does besides is not
# known here. All of ours spin where they wait, as perftest's always do, and short
# messages have many under way, as perftest's have. A latency is measured within
# milliseconds: of those each round has more.
# timeout: 170
. "$LAB_LIB"
need_transport
ROUNDS=$LAB_ROUNDS
PAIRS=$((ROUNDS > 2 ? 4 : 1))
export GRADPUSH_SPIN=1s
rows=$OUT/side_by_side.txt
: >"$rows"

# field NAME: of the one result in /tmp/report.
field() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" /tmp/report | tail -n 1; }
# ours TEST SIZE COUNT [OPTION]...
ours() {
    within 60 gradpush bench transport --transport "$transport" --test "$1" \
        -b "$2" -e "$2" -n "$3" "${@:4}" --json - >/tmp/report 2>/tmp/error ||
        fail "gradpush bench transport: $(cat /tmp/error)"
}
for ((round = 0; round < ROUNDS; round++)); do
    for size in 65536 1048576; do
        count=$((33554432 / size))
        row=$(perftest ib_write_bw --report_gbits -s "$size" -n "$count") ||
            fail "ib_write_bw"
        # Gbit/s, in MB/s
        echo "bw $size perftest $(awk '{ print $4 * 125 }' <<<"$row")" >>"$rows"
        ours bw "$size" "$count" -t $((size < 1048576 ? 32 : 8))
        echo "bw $size gradpush $(field algbw_GBps | awk '{ print $1 * 1000 }')" \
            >>"$rows"
    done
    for ((pair = 0; pair < PAIRS; pair++)); do
        row=$(perftest ib_write_lat -s 64 -n 1000) || fail "ib_write_lat"
        echo "lat 64 perftest $(awk '{ print $5 }' <<<"$row")" >>"$rows"
        ours lat 64 1000
        echo "lat 64 gradpush $(field median_us)" >>"$rows"
    done
    # Of both directions at once perftest says the sum.
    row=$(perftest ib_write_bw -b --report_gbits -s 1048576 -n 32) ||
        fail "ib_write_bw -b"
    echo "both 1048576 perftest $(awk '{ print $4 * 125 / 2 }' <<<"$row")" \
        >>"$rows"
    within 60 gradpush bench pushpull --transport "$transport" --workers 1 \
        --shards 1 -b 1M -e 1M -n 32 --json - >/tmp/report 2>/tmp/error ||
        fail "gradpush bench pushpull: $(cat /tmp/error)"
    echo "pushpull 1048576 gradpush $(field algbw_GBps |
        awk '{ print $1 * 1000 }')" >>"$rows"
done
python3 "$SOURCE_DIR/tests/rdma/side_by_side.py" "$rows" \
    "$OUT/side_by_side.json" "$transport" "$ROUNDS"
