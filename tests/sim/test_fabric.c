/* SPDX-License-Identifier: Apache-2.0 */
/* test_fabric.c - the simulated fabric does what verbs and rdma_cm say. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/sim/peers.h"

static const gp_sim_options shuffled = {.seed = 7, .shuffle = true};

static void
test_connects(void **state)
{
    peers p;
    gp_sim_stats stats;

    (void)state;
    peers_connected(&p, NULL);
    stats = gp_sim_stats_now(p.sim);
    assert_int_equal(stats.live[GP_SIM_QP], 2);
    assert_int_equal(stats.live[GP_SIM_ID], 3);
    assert_int_equal(p.api->rdma_disconnect(p.a.id), 0);
    peer_event(&p, &p.a, RDMA_CM_EVENT_DISCONNECTED, false);
    peer_event(&p, &p.b, RDMA_CM_EVENT_DISCONNECTED, false);
    peers_close(&p);
}

static void
test_send(void **state)
{
    peers p;
    struct ibv_wc wc;

    (void)state;
    peers_connected(&p, &shuffled);
    memcpy(p.a.memory + 4096, "gradient", 9);
    assert_int_equal(peer_send(&p.a, 4096, 9, 5, IBV_SEND_SIGNALED), 0);
    wc = peer_completion(&p, &p.b);
    assert_int_equal(wc.status, IBV_WC_SUCCESS);
    assert_int_equal(wc.opcode, IBV_WC_RECV);
    assert_int_equal(wc.wr_id, 1000);
    assert_int_equal(wc.byte_len, 9);
    assert_string_equal((char *)p.b.memory, "gradient");
    wc = peer_completion(&p, &p.a);
    assert_int_equal(wc.wr_id, 5);
    assert_int_equal(wc.opcode, IBV_WC_SEND);
    peers_close(&p);
}

static void
fill(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void
write_case(const gp_sim_options *options)
{
    peers p;
    struct ibv_wc wc;

    peers_connected(&p, options);
    fill(p.a.memory + 8192, 50000);
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 50000, 1, 0), 0);
    assert_int_equal(peer_send(&p.a, 4096, 8, 2, IBV_SEND_SIGNALED), 0);
    wc = peer_completion(&p, &p.b);
    assert_int_equal(wc.wr_id, 1000);
    assert_memory_equal(p.a.memory + 8192, p.b.memory + 8192, 50000);
    wc = peer_completion(&p, &p.a);
    assert_int_equal(wc.wr_id, 2);
    assert_true(peer_quiet(&p, &p.a));
    peers_close(&p);
}

static void
test_write(void **state)
{
    (void)state;
    write_case(NULL);
    write_case(&shuffled);
    write_case(&(gp_sim_options){.late_acks = true});
    write_case(&(gp_sim_options){.seed = 3,
                                 .shuffle = true,
                                 .late_acks = true,
                                 .piece = 100,
                                 .grant_more = true});
}

static void
test_write_with_immediate(void **state)
{
    peers p;
    struct ibv_wc wc;

    (void)state;
    peers_connected(&p, &shuffled);
    fill(p.a.memory + 8192, 3000);
    assert_int_equal(peer_write_imm(&p.a, &p.b, 8192, 3000, 1, htobe32(77)), 0);
    wc = peer_completion(&p, &p.b);
    assert_int_equal(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
    assert_int_equal(be32toh(wc.imm_data), 77);
    assert_int_equal(wc.byte_len, 3000);
    assert_memory_equal(p.a.memory + 8192, p.b.memory + 8192, 3000);
    peers_close(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connects),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_with_immediate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
