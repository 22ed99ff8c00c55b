# SPDX-License-Identifier: Apache-2.0
# A small limit of locked memory, and no right to exceed it: verbs says what to
# do, and auto takes tcp aloud.
# timeout: 60
. "$LAB_LIB"
need_transport
[ "$transport" = verbs ] || skip "tcp locks no memory"
command -v setpriv >/dev/null || skip "no setpriv"

# limited COMMAND...: its output is in /tmp/limited.
limited() {
    setpriv --bounding-set=-ipc_lock \
        bash -c 'ulimit -l 64; exec "$@"' limited timeout 50 "$@" \
        >/tmp/limited 2>&1
}
says() { # PATTERN
    grep -qE "$1" /tmp/limited || fail "no '$1': $(cat /tmp/limited)"
}

export GRADPUSH_CONNECT_TIMEOUT=5s
! limited gradpush bench pushpull --transport verbs --workers 1 --shards 1 \
    -b 64K -e 64K -n 3 || fail "verbs within 64 KiB: $(cat /tmp/limited)"
says 'limit of locked memory is 64 KiB: raise it with ulimit -l'
limited gradpush run -w 1 -s 1 --env GRADPUSH_TRANSPORT=auto -- \
    "$BUILD_DIR/bin/01_push_pull" || fail "auto: $(cat /tmp/limited)"
says 'warn: transport tcp, not verbs: .*limit of locked memory'
