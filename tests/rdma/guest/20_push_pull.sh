# SPDX-License-Identifier: Apache-2.0
# Jobs over the transport: benchmark with verification, examples.
# timeout: 90
. "$LAB_LIB"
need_transport
before=$(packets rxe0)

# push_pull OPTION...: every element is checked by the command.
push_pull() {
    within 60 gradpush bench pushpull --transport "$transport" -n 5 "$@" ||
        fail "bench pushpull $*"
}
push_pull --workers 1 --shards 1 -b 1 -e 1M -f 37
push_pull --workers 2 --shards 2 -b 4K -e 512K -f 8
push_pull --workers 2 --colocated -b 100 -e 300K -f 50 --codec q8+lz4

# rows OPTION...: rows of a table, whose payloads and results have any length.
rows() {
    within 60 gradpush bench rows --transport "$transport" --rows 10K -n 5 \
        -w 1 "$@" || fail "bench rows $*"
}
rows --workers 2 --shards 2 --dim 17 -b 1 -e 256K -f 60 --zipf 1.1
rows --workers 2 --colocated --batch 600 --codec q8 --pull-codec fp16

# example NAME SHARDS
example() {
    within 60 gradpush run -w 2 -s "$2" \
        --env "GRADPUSH_TRANSPORT=$transport" -- "$BUILD_DIR/bin/$1" \
        >/tmp/example 2>&1 || fail "$1: $(cat /tmp/example)"
}
example 01_push_pull 2
example 02_server_optimizer 2
example 03_custom_codec 0
[ "$transport" != verbs ] || [ "$(packets rxe0)" -gt $((before + 1000)) ] ||
    fail "rxe0 has sent next to nothing"
