# SPDX-License-Identifier: Apache-2.0
# What every transport must do, over verbs in its configurations.
# timeout: 150
. "$LAB_LIB"
need_transport
program=$BUILD_DIR/tests/bin/test_transport_verbs

[ -x "$program" ] || fail "$program is not built"
cd "$SOURCE_DIR/tests" || exit 1
before=$(packets rxe0)
TEST_SLOW=1 "$program" 2>&1 | tee /tmp/conformance
status=${PIPESTATUS[0]}
[ "$status" = 0 ] || fail "status $status: $(
    grep -E 'FAILED|ERROR|skipped:' /tmp/conformance | head -n 20)"
[ "$(packets rxe0)" -gt "$before" ] || fail "rxe0 has sent nothing"
echo "figure: $(grep -c '^\[       OK \]' /tmp/conformance) cases passed"
