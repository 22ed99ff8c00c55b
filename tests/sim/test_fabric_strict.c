/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fabric_strict.c - each mistake that the fabric is there to find is made
 * once, with plain verbs calls, and has to be named as a violation.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "base/base.h"
#include "tests/sim/peers.h"

static const gp_sim_options late = {.late_acks = true};

static void
test_buffer_reused(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 100, 1, IBV_SEND_SIGNALED),
                     0);
    p.a.memory[8192 + 50]++;
    gp_sim_settle(p.sim);
    expect_violation(p.sim, "reused before its completion (seen at delivery");
    peers_close(&p);
}

static void
test_buffer_reused_after_delivery(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, &late);
    assert_int_equal(peer_send(&p.a, 8192, 100, 1, IBV_SEND_SIGNALED), 0);
    peer_completion(&p, &p.b);
    p.a.memory[8192 + 50]++;
    peer_completion(&p, &p.a);
    expect_violation(p.sim, "reused before its completion (seen at its comp");
    peers_close(&p);
}

static void
test_inline_is_copied(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    p.a.memory[8192] = 'x';
    assert_int_equal(
        peer_send(&p.a, 8192, 64, 1, IBV_SEND_INLINE | IBV_SEND_SIGNALED), 0);
    p.a.memory[8192] = 'y';
    peer_completion(&p, &p.b);
    assert_int_equal(p.b.memory[0], 'x');
    assert_int_equal(peer_send(&p.a, 8192, 65, 2, IBV_SEND_INLINE), EINVAL);
    expect_violation(p.sim, "65 inline bytes, the queue pair takes 64");
    peers_close(&p);
}

static void
test_unsignaled_requests_fill_the_queue(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    for (int i = 0; i < 15; i++)
        assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, 0), 0);
    assert_true(peer_quiet(&p, &p.a));
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, IBV_SEND_SIGNALED), 0);
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, 0), ENOMEM);
    expect_violation(p.sim, "the send queue of 16 requests is full");
    peer_completion(&p, &p.a);
    for (int i = 0; i < 16; i++)
        assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, 0), 0);
    peers_close(&p);
}

static void
test_list_stops_at_the_first_not_posted(void **state)
{
    peers p;
    struct ibv_send_wr wr[18], *bad = NULL;

    (void)state;
    peers_connected(&p, NULL);
    memset(wr, 0, sizeof(wr));
    for (int i = 0; i < 18; i++) {
        wr[i].opcode = IBV_WR_RDMA_WRITE;
        wr[i].next = i < 17 ? &wr[i + 1] : NULL;
    }
    assert_int_equal(p.api->post_send(p.a.qp, wr, &bad), ENOMEM);
    assert_ptr_equal(bad, &wr[16]);
    assert_int_equal(gp_sim_stats_now(p.sim).send_wrs, 16);
    assert_int_equal(gp_sim_stats_now(p.sim).doorbells, 1);
    expect_violation(p.sim, "is full");
    gp_sim_settle(p.sim);
    assert_int_equal(gp_sim_stats_now(p.sim).writes, 16);
    peers_close(&p);
}

static void
test_queue_overrun(void **state)
{
    peers p;
    struct ibv_async_event event;

    (void)state;
    peers_open(&p, NULL);
    p.entries = 4;
    peers_connect(&p);
    expect_violation(p.sim, "the completion queue has 4 entries for 32");
    for (int i = 0; i < 5; i++)
        assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, IBV_SEND_SIGNALED),
                         0);
    gp_sim_settle(p.sim);
    expect_violation(p.sim, "completion queue overrun");
    assert_int_equal(p.api->get_async_event(p.a.id->verbs, &event), 0);
    assert_int_equal(event.event_type, IBV_EVENT_CQ_ERR);
    assert_ptr_equal(event.element.cq, p.a.cq);
    p.api->ack_async_event(&event);
    assert_int_equal(p.a.qp->state, IBV_QPS_ERR);
    peers_close(&p);
}

static void
test_receiver_not_ready(void **state)
{
    peers p;
    struct ibv_wc wc;

    (void)state;
    peers_connected(&p, NULL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    wc = peer_completion(&p, &p.a);
    assert_int_equal(wc.status, IBV_WC_RNR_RETRY_EXC_ERR);
    assert_int_equal(gp_sim_stats_now(p.sim).rnr, 1);
    expect_violation(p.sim, "receiver not ready");
    peers_close(&p);
}

static void
test_not_ready_is_tried_again(void **state)
{
    const gp_sim_options options = {.expect_rnr = true};
    peers p;

    (void)state;
    peers_open(&p, &options);
    p.rnr_retry = 3;
    peers_connect(&p);
    for (int i = 0; i < 5; i++)
        assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    while (!gp_sim_stats_now(p.sim).rnr)
        peer_completion(&p, &p.b);
    assert_int_equal(peer_receive(&p.b, 0, 256, 9), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_SUCCESS);
    peers_close(&p);
}

static void
test_short_receive(void **state)
{
    peers p;
    struct ibv_wc wc;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(peer_send(&p.a, 4096, 300, 1, 0), 0);
    wc = peer_completion(&p, &p.a);
    assert_int_equal(wc.status, IBV_WC_REM_INV_REQ_ERR);
    wc = peer_completion(&p, &p.b);
    assert_int_equal(wc.status, IBV_WC_LOC_LEN_ERR);
    assert_int_equal(peer_completion(&p, &p.b).status, IBV_WC_WR_FLUSH_ERR);
    expect_violation(p.sim, "message of 300 bytes for a receive of 256");
    peers_close(&p);
}

static void
test_region_in_flight(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 8, 1, IBV_SEND_SIGNALED), 0);
    assert_int_equal(p.api->dereg_mr(p.a.mr), 0);
    p.a.mr = NULL;
    expect_violation(p.sim, "dereg_mr: a send queue still uses it");
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_LOC_PROT_ERR);
    assert_int_equal(p.api->dereg_mr(p.b.mr), 0);
    p.b.mr = NULL;
    expect_violation(p.sim, "dereg_mr: a receive queue still uses it");
    peers_close(&p);
}

static void
test_objects_in_use(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->dealloc_pd(p.a.pd), EBUSY);
    expect_violation(p.sim, "dealloc_pd: 2 regions");
    assert_int_equal(p.api->destroy_cq(p.a.cq), EBUSY);
    expect_violation(p.sim, "destroy_cq: queue pairs still use it");
    assert_int_equal(p.api->destroy_comp_channel(p.a.channel), EBUSY);
    expect_violation(p.sim, "destroy_comp_channel");
    assert_int_equal(p.api->close_device(p.a.id->verbs), EINVAL);
    expect_violation(p.sim, "belongs to rdma_cm");
    p.api->rdma_destroy_event_channel(p.a.events);
    expect_violation(p.sim, "1 ids are on it");
    peers_close(&p);
}

static void
test_id_with_queue_pair(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->rdma_destroy_id(p.a.id), 0);
    expect_violation(p.sim, "its queue pair is still there");
    p.a.id = NULL;
    p.a.qp = NULL;
    peer_event(&p, &p.b, RDMA_CM_EVENT_DISCONNECTED, false);
    peers_close(&p);
}

static void
test_used_after_release(void **state)
{
    peers p;
    struct ibv_qp *qp;
    struct ibv_send_wr wr = {.opcode = IBV_WR_SEND}, *bad;

    (void)state;
    peers_connected(&p, NULL);
    qp = p.a.qp;
    p.api->rdma_destroy_qp(p.a.id);
    p.a.qp = NULL;
    assert_int_equal(p.api->post_send(qp, &wr, &bad), EINVAL);
    expect_violation(p.sim, "is no queue pair, or no longer");
    p.api->rdma_destroy_qp(p.a.id);
    expect_violation(p.sim, "rdma_destroy_qp: the id has none");
    peers_close(&p);
}

static void
test_events_not_acknowledged(void **state)
{
    peers p;
    struct rdma_cm_event *event;
    struct ibv_cq *cq;
    void *user;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->req_notify_cq(p.a.cq, 0), 0);
    assert_int_equal(p.api->rdma_disconnect(p.a.id), 0);
    event = peer_event(&p, &p.b, RDMA_CM_EVENT_DISCONNECTED, true);
    gp_sim_settle(p.sim); /* receives are flushed */
    assert_int_equal(p.api->get_cq_event(p.a.channel, &cq, &user), 0);
    assert_ptr_equal(user, &p.a);
    assert_int_equal(gp_sim_stats_now(p.sim).live[GP_SIM_CQ_EVENT], 1);
    assert_int_equal(gp_sim_stats_now(p.sim).live[GP_SIM_CM_EVENT], 1);
    peer_drop(&p.a);
    expect_violation(p.sim, "destroy_cq: 1 completion and 0 async events");
    peer_drop(&p.b);
    expect_violation(p.sim, "rdma_destroy_id: 1 events were not acknowledged");
    assert_int_equal(p.api->rdma_ack_cm_event(event), 0);
    peers_close(&p);
}

static void
test_nothing_to_wait_for(void **state)
{
    peers p;
    struct rdma_cm_event *event;

    (void)state;
    peers_open(&p, NULL);
    fcntl(p.a.events->fd, F_SETFL, 0);
    assert_int_equal(p.api->rdma_get_cm_event(p.a.events, &event), EAGAIN);
    expect_violation(p.sim, "this thread would hang");
    peers_close(&p);
}

static void
test_no_receive_before_ready(void **state)
{
    peers p;

    (void)state;
    peers_open(&p, NULL);
    p.receives = 0;
    peers_connect(&p);
    assert_int_equal(peer_receive(&p.a, 0, 256, 1), 0);
    expect_violation(p.sim, "the first receive of queue pair 0 comes after");
    peers_close(&p);
}

static void
test_default_timer(void **state)
{
    peers p;
    struct ibv_qp_attr attr = {.min_rnr_timer = 0};

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->modify_qp(p.a.qp, &attr, IBV_QP_MIN_RNR_TIMER), 0);
    expect_violation(p.sim, "RNR timer code 0");
    assert_int_equal(p.api->modify_qp(p.a.qp, &attr, IBV_QP_TIMEOUT), EINVAL);
    expect_violation(p.sim, "cannot be changed while rdma_cm");
    peers_close(&p);
}

static void
test_error_completions_hold_garbage(void **state)
{
    peers p;
    struct ibv_wc wc;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->rdma_disconnect(p.a.id), 0);
    for (int i = 0; i < 4; i++) {
        wc = peer_completion(&p, &p.a);
        assert_int_equal(wc.status, IBV_WC_WR_FLUSH_ERR);
        assert_int_equal(wc.wr_id, 1000 + i);
        assert_int_equal(wc.qp_num, p.a.qp->qp_num);
        assert_int_equal(wc.byte_len, 0xDBDBDBDB);
        assert_int_equal((unsigned)wc.opcode, 0xDBDBDBDB);
    }
    peers_close(&p);
}

static void
test_private_data(void **state)
{
    peers p;
    struct rdma_conn_param param = {.private_data = "0123456789",
                                    .private_data_len = 57};

    (void)state;
    peers_connected(&p, NULL);
    peer_drop(&p.a);
    peer_drop(&p.b);
    assert_int_equal(
        p.api->rdma_create_id(p.a.events, &p.a.id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(p.api->rdma_connect(p.a.id, &param), EINVAL);
    assert_int_equal(p.api->rdma_create_id(NULL, &p.b.id, NULL, RDMA_PS_TCP),
                     EINVAL);
    expect_violation(p.sim, "without a channel every call blocks");
    peers_close(&p);
}

static void
test_remote_write_needs_local(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    assert_null(
        p.api->reg_mr(p.a.pd, p.a.memory, 100, IBV_ACCESS_REMOTE_WRITE));
    assert_int_equal(errno, EINVAL);
    expect_violation(p.sim, "remote write without local write");
    peers_close(&p);
}

/* What this fabric does not have cannot be used wrongly: READs and atomics,
 * datagrams, shared receive queues. */
static void
test_what_is_not_there(void **state)
{
    static const enum ibv_wr_opcode opcodes[] = {
        IBV_WR_RDMA_READ, IBV_WR_ATOMIC_CMP_AND_SWP,
        IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_SEND_WITH_INV};
    struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_UD};
    struct ibv_srq srq = {0};
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    for (size_t i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++) {
        struct ibv_send_wr wr = {.opcode = opcodes[i]}, *bad = NULL;

        assert_int_equal(p.api->post_send(p.a.qp, &wr, &bad), EINVAL);
        assert_ptr_equal(bad, &wr);
        expect_violation(p.sim, "is not in this fabric");
    }
    attr.send_cq = attr.recv_cq = p.a.cq;
    p.api->rdma_destroy_qp(p.a.id);
    p.a.qp = NULL;
    assert_int_equal(p.api->rdma_create_qp(p.a.id, p.a.pd, &attr), EINVAL);
    expect_violation(p.sim, "no reliable connection");
    attr.qp_type = IBV_QPT_RC;
    attr.srq = &srq;
    assert_int_equal(p.api->rdma_create_qp(p.a.id, p.a.pd, &attr), EINVAL);
    expect_violation(p.sim, "no reliable connection");
    peers_close(&p);
}

/* Port, partition, path and its MTU: rdma_cm sets them, and who does it again
 * by hand may get them wrong. */
static void
test_what_belongs_to_rdma_cm(void **state)
{
    static const int masks[] = {IBV_QP_PORT,     IBV_QP_PKEY_INDEX,
                                IBV_QP_AV,       IBV_QP_PATH_MTU,
                                IBV_QP_DEST_QPN, IBV_QP_RQ_PSN};
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR};
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        assert_int_equal(p.api->modify_qp(p.a.qp, &attr, masks[i]), EINVAL);
        expect_violation(p.sim, "cannot be changed while rdma_cm");
    }
    assert_int_equal(p.api->modify_qp(p.a.qp, &attr, IBV_QP_STATE), EINVAL);
    expect_violation(p.sim, "cannot be changed while rdma_cm");
    peers_close(&p);
}

static void
test_device_list(void **state)
{
    peers p;
    int count = 0;
    struct ibv_device **list, *device;
    struct ibv_context *context;

    (void)state;
    peers_open(&p, NULL);
    list = p.api->get_device_list(&count);
    assert_int_equal(count, 1);
    device = list[0];
    assert_string_equal(p.api->get_device_name(device), "sim0");
    p.api->free_device_list(list);
    context = p.api->open_device(device);
    assert_non_null(context);
    expect_violation(p.sim, "comes from a list freed already");
    assert_int_equal(p.api->close_device(context), 0);
    peers_close(&p);
}

static void
test_leaks_are_counted(void **state)
{
    gp_sim *sim = gp_sim_open(NULL);
    const gp_verbs_api *api = gp_sim_api(sim);
    struct rdma_event_channel *channel = api->rdma_create_event_channel();
    struct rdma_cm_id *id;
    char text[200];

    (void)state;
    assert_int_equal(api->rdma_create_id(channel, &id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(gp_sim_leaks(sim, text, sizeof(text)), 2);
    assert_string_equal(text, "1 event channel, 1 id");
    gp_sim_close(sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer_reused),
        cmocka_unit_test(test_buffer_reused_after_delivery),
        cmocka_unit_test(test_inline_is_copied),
        cmocka_unit_test(test_unsignaled_requests_fill_the_queue),
        cmocka_unit_test(test_list_stops_at_the_first_not_posted),
        cmocka_unit_test(test_queue_overrun),
        cmocka_unit_test(test_receiver_not_ready),
        cmocka_unit_test(test_not_ready_is_tried_again),
        cmocka_unit_test(test_short_receive),
        cmocka_unit_test(test_region_in_flight),
        cmocka_unit_test(test_objects_in_use),
        cmocka_unit_test(test_id_with_queue_pair),
        cmocka_unit_test(test_used_after_release),
        cmocka_unit_test(test_events_not_acknowledged),
        cmocka_unit_test(test_nothing_to_wait_for),
        cmocka_unit_test(test_no_receive_before_ready),
        cmocka_unit_test(test_default_timer),
        cmocka_unit_test(test_error_completions_hold_garbage),
        cmocka_unit_test(test_private_data),
        cmocka_unit_test(test_remote_write_needs_local),
        cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_what_belongs_to_rdma_cm),
        cmocka_unit_test(test_device_list),
        cmocka_unit_test(test_leaks_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
