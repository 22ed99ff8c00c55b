# SPDX-License-Identifier: Apache-2.0
# The library's own kill tests: workers, shards and co-located members die or
# are stopped for a moment.
# timeout: 120
. "$LAB_LIB"
need_transport
program=$BUILD_DIR/tests/bin/test_kill

[ -x "$program" ] || fail "$program is not built"
GRADPUSH_TRANSPORT=$transport TEST_HOST=$RDMA_ADDR TEST_SLOW=1 \
    "$program" 2>&1 | tee /tmp/kill
[ "${PIPESTATUS[0]}" = 0 ] || fail "test_kill"
echo "figure: $(grep -c '^\[       OK \]' /tmp/kill) cases passed"
