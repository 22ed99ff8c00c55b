# SPDX-License-Identifier: Apache-2.0
# Training ends in the same parameters over every transport.
# timeout: 90
. "$LAB_LIB"
need_transport

# train OPTION...: prints the digest.
train() {
    within 60 "$@" --epochs 1 --quiet --json - >/tmp/report 2>/tmp/error ||
        fail "$*: $(cat /tmp/error)"
    digest /tmp/report
}
over() { # TRANSPORT WORKERS SHARDS
    train gradpush-train --transport "$1" --workers "$2" --shards "$3"
}
same() { # WHAT DIGEST EXPECTED
    [ -n "$2" ] && [ "$2" = "$3" ] || fail "$1: digest '$2', not '$3'"
}

loop=$(train env GRADPUSH_RANK=0 GRADPUSH_SIZE=1 GRADPUSH_COLOCATED=on \
    gradpush-train --transport loop)
same "one worker, tcp" "$(over tcp 1 1)" "$loop"
same "one worker, $transport" "$(over "$transport" 1 1)" "$loop"
tcp=$(over tcp 2 2)
before=$(packets rxe0)
same "two shards, $transport" "$(over "$transport" 2 2)" "$tcp"
same "co-located, $transport" "$(over "$transport" 2 0)" "$tcp"
[ "$transport" != verbs ] || [ "$(packets rxe0)" -gt $((before + 1000)) ] ||
    fail "rxe0 has sent next to nothing"
echo "figure: params_sha256 ${tcp:0:16}... over tcp and $transport"
