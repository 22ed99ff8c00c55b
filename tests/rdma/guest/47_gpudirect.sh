# SPDX-License-Identifier: Apache-2.0
# Memory of a GPU, simulated, and soft-RoCE, real: EOPNOTSUPP, and what is said.
# timeout: 60
. "$LAB_LIB"
need_transport
[ "$transport" = verbs ] || skip "tcp reaches no GPU"
test=$BUILD_DIR/tests/bin/test_doctor_rxe_sim
[ -x "$test" ] || skip "this build has no simulated CUDA driver"
"$test" >/tmp/gpudirect 2>&1 || fail "$(cat /tmp/gpudirect)"
grep -q 'staging\|not by DMA-BUF: ibv_reg_dmabuf_mr' /tmp/gpudirect ||
    fail "no reason: $(cat /tmp/gpudirect)"
