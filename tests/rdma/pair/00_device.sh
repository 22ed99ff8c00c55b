# SPDX-License-Identifier: Apache-2.0
# The network between the guests, with the tools of perftest.
# timeout: 60
. "$LAB_LIB"

if [ "$GUEST" = 0 ]; then
    ib_write_bw -R -F -d rxe0 -s 65536 -n 300 >/tmp/bw &
    server=$!
    until_true 20 listens 18515 || fail "ib_write_bw does not listen"
    barrier device-listens
    wait "$server" || fail "the server of ib_write_bw: $(cat /tmp/bw)"
else
    barrier device-listens
    ib_write_bw -R -F -d rxe0 -s 65536 -n 300 "$PEER" >/tmp/bw 2>&1 ||
        fail "ib_write_bw: $(cat /tmp/bw)"
    read -r _ _ _ average _ <<<"$(perftest_row /tmp/bw)"
    echo "figure: ib_write_bw 65536 B between two guests: $average MB/s"
fi
