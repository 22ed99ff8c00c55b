# SPDX-License-Identifier: Apache-2.0
# One connection between two hosts, every payload verified.
# timeout: 60
. "$LAB_LIB"
need_transport

for test in bw lat; do
    if [ "$GUEST" = 0 ]; then
        gradpush bench transport --transport "$transport" \
            --listen "$SELF:4720" >/tmp/out 2>/tmp/err &
        server=$!
        until_true 30 grep -q 'listening on' /tmp/err ||
            fail "the server does not listen: $(cat /tmp/err)"
        barrier "transport-$test"
        wait "$server" || fail "the server: $(cat /tmp/err)"
    else
        barrier "transport-$test"
        within 50 gradpush bench transport --transport "$transport" \
            --connect "$PEER:4720" --test "$test" -b 64 -e 1M -f 128 -n 40 \
            >/tmp/out 2>/tmp/err || fail "the client: $(cat /tmp/out /tmp/err)"
        cat /tmp/out
    fi
done
