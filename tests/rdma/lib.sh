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
# until_true SECONDS COMMAND...: polls; 1 when the time is over.
until_true() {
    local end=$((SECONDS + $1))
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

# perftest PROGRAM OPTION...: both ends here, over rdma_cm; prints the row.
perftest() {
    local program=$1 server port=$((18000 + RANDOM % 2000)) log
    shift
    log=$(mktemp -d)
    "$program" -R -F -d rxe0 -p "$port" "$@" >"$log/server" 2>&1 &
    server=$!
    if ! until_true 20 listens "$port" ||
        ! "$program" -R -F -d rxe0 -p "$port" "$@" "$RDMA_ADDR" \
            >"$log/client" 2>&1; then
        kill -9 "$server"
        cat "$log/server" "$log/client" >&2
        return 1
    fi
    wait "$server" || return 1
    perftest_row "$log/client"
    rm -r "$log"
}
