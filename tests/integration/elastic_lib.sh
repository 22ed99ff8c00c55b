# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# What the tests of workers that come and go share; after cli_lib.sh.

# One shard for up to three workers: its process is in server, its address the
# second word of $work/address.
serve() {
    rm -f "$work/address" "$work"/steps.*
    GRADPUSH_SIZE=3 GRADPUSH_SHARDS=1 GRADPUSH_ELASTIC=on \
        GRADPUSH_SERVERS=127.0.0.1:1 GRADPUSH_STORE_HOST=off \
        timeout 240 "$gradpush" server -l 127.0.0.1:0 >"$work/address" \
        2>"$work/server" &
    server=$!
    until_true grep -q . "$work/address" || fail "no server"
}
