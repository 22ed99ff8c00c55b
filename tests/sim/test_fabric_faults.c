/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fabric_faults.c - faults that tests ask for, and what protection
 * refuses: both ends see what the specification says they see.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "base/base.h"
#include "tests/sim/peers.h"

static struct ibv_async_event
async_of(peers *p, const peer *of)
{
    struct ibv_async_event event;

    assert_int_equal(p->api->get_async_event(of->id->verbs, &event), 0);
    p->api->ack_async_event(&event);
    return event;
}

/* The error, then the flush of everything behind it. */
static void
expect_dead(peers *p, peer *of, enum ibv_wc_status status, int requests)
{
    struct ibv_wc wc = peer_completion(p, of);

    if (wc.status == IBV_WC_WR_FLUSH_ERR)
        wc = peer_completion(p, of);
    assert_int_equal(wc.status, status);
    for (int i = 0; i < requests; i++)
        assert_int_equal(peer_completion(p, of).status, IBV_WC_WR_FLUSH_ERR);
    assert_int_equal(of->qp->state, IBV_QPS_ERR);
}

static void
test_foreign_key(void **state)
{
    peers p;
    struct ibv_wc wc;
    struct ibv_mr *mr;
    struct ibv_pd *pd;
    uint32_t key;

    (void)state;
    peers_connected(&p, NULL);
    pd = p.api->alloc_pd(p.b.id->verbs);
    mr = p.api->reg_mr(pd, p.b.memory, PEER_BYTES,
                       IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    key = p.b.mr->rkey;
    p.b.mr->rkey = mr->rkey;
    assert_int_equal(peer_write(&p.a, &p.b, 0, 8, 1, 0), 0);
    p.b.mr->rkey = key;
    wc = peer_completion(&p, &p.a);
    assert_int_equal(wc.status, IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(async_of(&p, &p.b).event_type, IBV_EVENT_QP_ACCESS_ERR);
    assert_int_equal(p.b.qp->state, IBV_QPS_ERR);
    assert_int_equal(p.api->dereg_mr(mr), 0);
    assert_int_equal(p.api->dealloc_pd(pd), 0);
    peers_close(&p);
}

static void
test_bounds(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, &(gp_sim_options){.piece = 16});
    p.b.memory += 8; /* one word too far */
    assert_int_equal(peer_write(&p.a, &p.b, PEER_BYTES - 64, 64, 1, 0), 0);
    p.b.memory -= 8;
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(p.b.memory[PEER_BYTES - 56], 0);
    peers_close(&p);
}

static void
test_access_flags(void **state)
{
    peers p;
    struct ibv_qp_attr attr = {.qp_access_flags = IBV_ACCESS_LOCAL_WRITE};

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(p.api->modify_qp(p.b.qp, &attr, IBV_QP_ACCESS_FLAGS), 0);
    assert_int_equal(peer_write(&p.a, &p.b, 0, 8, 1, 0), 0);
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_REM_ACCESS_ERR);
    peers_close(&p);
}

static void
bind_window(peers *p, struct ibv_mw *mw, uint32_t key, size_t at, size_t bytes)
{
    struct ibv_send_wr wr = {
        .opcode = IBV_WR_BIND_MW, .wr_id = 50, .send_flags = IBV_SEND_SIGNALED};
    struct ibv_send_wr *bad;

    wr.bind_mw.mw = mw;
    wr.bind_mw.rkey = key;
    wr.bind_mw.bind_info =
        (struct ibv_mw_bind_info){.mr = p->b.mr,
                                  .addr = (uintptr_t)p->b.memory + at,
                                  .length = bytes,
                                  .mw_access_flags = IBV_ACCESS_REMOTE_WRITE};
    assert_int_equal(p->api->post_send(p->b.qp, &wr, &bad), 0);
    assert_int_equal(peer_completion(p, &p->b).status, IBV_WC_SUCCESS);
}

static struct ibv_wc
write_window(peers *p, uint32_t key, size_t at)
{
    uint32_t keep = p->b.mr->rkey;
    int error;

    p->b.mr->rkey = key;
    error = peer_write(&p->a, &p->b, at, 8, 1, IBV_SEND_SIGNALED);
    p->b.mr->rkey = keep;
    assert_int_equal(error, 0);
    return peer_completion(p, &p->a);
}

static void
window_case(bool invalidate)
{
    peers p;
    struct ibv_mw *mw;
    struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV,
                             .send_flags = IBV_SEND_SIGNALED};
    struct ibv_send_wr *bad;
    uint32_t key;

    peers_connected(&p, NULL);
    mw = p.api->alloc_mw(p.b.pd, IBV_MW_TYPE_2);
    assert_non_null(mw);
    key = ibv_inc_rkey(mw->rkey);
    bind_window(&p, mw, key, 4096, 64);
    assert_int_equal(write_window(&p, key, 4096).status, IBV_WC_SUCCESS);
    if (invalidate) {
        assert_int_equal(p.api->dereg_mr(p.b.mr), EBUSY);
        expect_violation(p.sim, "1 windows are bound to it");
        wr.invalidate_rkey = key;
        assert_int_equal(p.api->post_send(p.b.qp, &wr, &bad), 0);
        assert_int_equal(peer_completion(&p, &p.b).opcode, IBV_WC_LOCAL_INV);
    }
    assert_int_equal(
        write_window(&p, key, invalidate ? 4096 : 4096 + 60).status,
        IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(p.api->dealloc_mw(mw), 0);
    peers_close(&p);
}

static void
test_windows(void **state)
{
    (void)state;
    window_case(false);
    window_case(true);
}

static void
test_no_windows(void **state)
{
    const gp_sim_device device = {.no_windows = true};
    peers p;
    struct ibv_device_attr attr;

    (void)state;
    peers_connected(&p, &(gp_sim_options){.device = &device, .devices = 1});
    assert_int_equal(p.api->query_device(p.a.id->verbs, &attr), 0);
    assert_int_equal(attr.max_mw, 0);
    assert_null(p.api->alloc_mw(p.a.pd, IBV_MW_TYPE_2));
    assert_int_equal(errno, EOPNOTSUPP);
    peers_close(&p);
}

static void
test_iwarp(void **state)
{
    const gp_sim_device device = {.iwarp = true};
    peers p;

    (void)state;
    peers_connected(&p, &(gp_sim_options){.device = &device, .devices = 1});
    assert_int_equal(p.a.id->verbs->device->transport_type,
                     IBV_TRANSPORT_IWARP);
    assert_int_equal(peer_write_imm(&p.a, &p.b, 0, 8, 1, 0), EINVAL);
    expect_violation(p.sim, "iWARP has neither immediate data");
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    assert_int_equal(peer_completion(&p, &p.b).byte_len, 8);
    peers_close(&p);
}

static void
test_broken(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_break_qp(p.sim, &(gp_sim_break){.after_wrs = 2});
    for (int i = 0; i < 4; i++)
        assert_int_equal(peer_write(&p.a, &p.b, 0, 8, (uint64_t)i, 0), 0);
    expect_dead(&p, &p.a, IBV_WC_RETRY_EXC_ERR, 1);
    assert_int_equal(gp_sim_stats_now(p.sim).writes, 2);
    assert_int_equal(p.b.qp->state, IBV_QPS_RTS); /* nobody told it */
    peers_close(&p);
}

static void
test_acknowledgement_lost(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_break_qp(p.sim, &(gp_sim_break){.delivered = true});
    p.a.memory[4096] = 'z';
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    assert_int_equal(peer_completion(&p, &p.b).status, IBV_WC_SUCCESS);
    assert_int_equal(p.b.memory[0], 'z');
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_RETRY_EXC_ERR);
    assert_int_equal(gp_sim_stats_now(p.sim).lost_acks, 1);
    peers_close(&p);
}

static void
test_half_a_write(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, &(gp_sim_options){.piece = 100});
    memset(p.a.memory + 8192, 1, 1000);
    gp_sim_break_qp(p.sim, &(gp_sim_break){.after_bytes = 300});
    assert_int_equal(peer_write(&p.a, &p.b, 8192, 1000, 1, 0), 0);
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_RETRY_EXC_ERR);
    assert_int_equal(p.b.memory[8192 + 299], 1);
    assert_int_equal(p.b.memory[8192 + 300], 0);
    peers_close(&p);
}

static void
test_link_down(void **state)
{
    peers p;
    struct ibv_port_attr port;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_link(p.sim, 0, 1, false);
    assert_int_equal(async_of(&p, &p.a).event_type, IBV_EVENT_PORT_ERR);
    assert_int_equal(p.api->query_port(p.a.id->verbs, 1, &port), 0);
    assert_int_equal(port.state, IBV_PORT_DOWN);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_RETRY_EXC_ERR);
    gp_sim_link(p.sim, 0, 1, true);
    assert_int_equal(async_of(&p, &p.a).event_type, IBV_EVENT_PORT_ACTIVE);
    peers_close(&p);
}

static void
test_partition(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_partition(p.sim, "127.0.0.1", "127.0.0.1");
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    for (int i = 0; i < 20; i++)
        assert_true(p.api->poll_cq(p.a.cq, 1, &(struct ibv_wc){0}) == 0);
    gp_sim_partition(p.sim, NULL, NULL);
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_SUCCESS);
    gp_sim_partition(p.sim, "127.0.0.1", "127.0.0.1");
    assert_int_equal(p.api->rdma_disconnect(p.a.id), 0);
    peer_event(&p, &p.a, RDMA_CM_EVENT_DISCONNECTED, false);
    assert_true(peer_no_event(&p, &p.b));
    peers_close(&p);
}

static void
test_stall(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_stall(p.sim, 1000000);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    for (int i = 0; i < 50; i++)
        assert_true(p.api->poll_cq(p.a.cq, 1, &(struct ibv_wc){0}) == 0);
    assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_SUCCESS);
    peers_close(&p);
}

static void
test_peer_gone(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    peer_drop(&p.b);
    peer_event(&p, &p.a, RDMA_CM_EVENT_DISCONNECTED, false);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    expect_dead(&p, &p.a, IBV_WC_RETRY_EXC_ERR, 4);
    peers_close(&p);
}

static void
kill_case(bool silent)
{
    peers p;

    peers_connected(&p, NULL);
    gp_sim_kill(p.sim, 2, silent);
    if (silent)
        assert_true(peer_no_event(&p, &p.a));
    else
        peer_event(&p, &p.a, RDMA_CM_EVENT_DISCONNECTED, false);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    assert_int_equal(peer_send(&p.b, 4096, 8, 1, 0), 0);
    expect_dead(&p, &p.a, IBV_WC_RETRY_EXC_ERR, 4);
    expect_dead(&p, &p.b, IBV_WC_WR_FLUSH_ERR, 3);
    assert_int_equal(gp_sim_stats_now(p.sim).sends, 0);
    peers_close(&p);
}

static void
test_kill(void **state)
{
    (void)state;
    kill_case(false);
    kill_case(true);
}

static void
test_member_fails(void **state)
{
    peers p;

    (void)state;
    peers_connected(&p, NULL);
    gp_sim_fail(p.sim, "post_send", 2, ENOMEM);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    assert_false(gp_sim_failed(p.sim));
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), ENOMEM);
    assert_true(gp_sim_failed(p.sim));
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, 0), 0);
    assert_int_equal(gp_sim_calls(p.sim, "post_send"), 3);
    gp_sim_fail(p.sim, "dereg_mr", 1, 0);
    assert_int_equal(p.api->dereg_mr(p.a.mr), EIO); /* and is gone */
    p.a.mr = NULL;
    expect_violation(p.sim, "dereg_mr: a");
    peers_close(&p);
}

static struct rdma_cm_event *
answer_to(peers *p, const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(4711)};
    struct rdma_conn_param param = {.initiator_depth = 1,
                                    .responder_resources = 1,
                                    .private_data = "why",
                                    .private_data_len = 3};
    struct rdma_cm_event *event;
    int error = EAGAIN;

    inet_pton(AF_INET, address, &to.sin_addr);
    assert_int_equal(
        p->api->rdma_create_id(p->a.events, &p->a.id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(
        p->api->rdma_resolve_addr(p->a.id, NULL, (struct sockaddr *)&to, 1000),
        0);
    for (int i = 0; i < 100 && error == EAGAIN; i++)
        error = p->api->rdma_get_cm_event(p->a.events, &event);
    assert_int_equal(error, 0);
    if (event->event != RDMA_CM_EVENT_ADDR_RESOLVED)
        return event;
    p->api->rdma_ack_cm_event(event);
    assert_int_equal(p->api->rdma_resolve_route(p->a.id, 1000), 0);
    peer_event(p, &p->a, RDMA_CM_EVENT_ROUTE_RESOLVED, false);
    peer_make_qp(p, &p->a);
    assert_int_equal(p->api->rdma_connect(p->a.id, &param), 0);
    return NULL;
}

static void
expect_end(peers *p, enum rdma_cm_event_type type, int status)
{
    struct rdma_cm_event *event = peer_event(p, &p->a, type, true);

    assert_int_equal(event->status, status);
    p->api->rdma_ack_cm_event(event);
    peer_drop(&p->a);
}

static void
test_connects_that_fail(void **state)
{
    peers p;
    struct rdma_cm_event *event;

    (void)state;
    peers_open(&p, NULL);
    event = answer_to(&p, "192.0.2.1");
    assert_non_null(event);
    assert_int_equal(event->event, RDMA_CM_EVENT_ADDR_ERROR);
    assert_int_equal(event->status, -ENODEV);
    p.api->rdma_ack_cm_event(event);
    peer_drop(&p.a);
    assert_null(answer_to(&p, "127.0.0.1"));
    expect_end(&p, RDMA_CM_EVENT_REJECTED, 8);
    assert_null(answer_to(&p, "10.77.0.200"));
    expect_end(&p, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
    gp_sim_refuse(p.sim, 1, 10);
    assert_null(answer_to(&p, "127.0.0.1"));
    expect_end(&p, RDMA_CM_EVENT_REJECTED, 10);
    gp_sim_lose_requests(p.sim, 1);
    assert_null(answer_to(&p, "127.0.0.1"));
    expect_end(&p, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
    peers_close(&p);
}

static void
test_reject(void **state)
{
    peers p;
    struct rdma_cm_event *event;

    (void)state;
    peers_connected(&p, NULL);
    peer_drop(&p.a);
    peer_event(&p, &p.b, RDMA_CM_EVENT_DISCONNECTED, false);
    peer_drop(&p.b);
    assert_null(answer_to(&p, "127.0.0.1"));
    event = peer_event(&p, &p.b, RDMA_CM_EVENT_CONNECT_REQUEST, true);
    p.b.id = event->id;
    assert_int_equal(event->param.conn.private_data_len, 56);
    assert_memory_equal(event->param.conn.private_data, "why\0\0", 5);
    assert_int_equal((uintptr_t)event->param.conn.private_data & 1, 1);
    assert_int_equal(p.api->rdma_ack_cm_event(event), 0);
    assert_int_equal(p.api->rdma_reject(p.b.id, "no", 2), 0);
    event = peer_event(&p, &p.a, RDMA_CM_EVENT_REJECTED, true);
    assert_int_equal(event->status, 28);
    assert_memory_equal(event->param.conn.private_data, "no", 2);
    assert_int_equal(p.api->rdma_ack_cm_event(event), 0);
    peers_close(&p);
}

static void
test_port_in_use(void **state)
{
    peers p;
    struct rdma_cm_id *other;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(4711)};

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(
        p.api->rdma_create_id(p.b.events, &other, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(p.api->rdma_bind_addr(other, (struct sockaddr *)&any),
                     EADDRINUSE);
    any.sin_port = 0;
    assert_int_equal(p.api->rdma_bind_addr(other, (struct sockaddr *)&any), 0);
    assert_int_not_equal(p.api->rdma_get_src_port(other), 0);
    assert_int_equal(p.api->rdma_destroy_id(other), 0);
    peers_close(&p);
}

static void
test_arming(void **state)
{
    peers p;
    struct ibv_cq *cq;
    void *user;

    (void)state;
    peers_connected(&p, NULL);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    gp_sim_settle(p.sim);
    assert_int_equal(p.api->req_notify_cq(p.b.cq, 1), 0);
    /* There already: no event. Unsolicited: none either. */
    assert_int_equal(p.api->get_cq_event(p.b.channel, &cq, &user), EAGAIN);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SIGNALED), 0);
    gp_sim_settle(p.sim);
    assert_int_equal(p.api->get_cq_event(p.b.channel, &cq, &user), EAGAIN);
    assert_int_equal(peer_send(&p.a, 4096, 8, 1, IBV_SEND_SOLICITED), 0);
    gp_sim_settle(p.sim);
    assert_int_equal(p.api->get_cq_event(p.b.channel, &cq, &user), 0);
    /* One event for one arming. */
    assert_int_equal(p.api->get_cq_event(p.b.channel, &cq, &user), EAGAIN);
    p.api->ack_cq_events(cq, 1);
    peers_close(&p);
}

/* With the fabric's own thread: who sleeps on a descriptor is woken. */
static void
test_thread(void **state)
{
    gp_sim *sim = gp_sim_open(NULL);
    const gp_verbs_api *api = gp_sim_api(sim);
    struct rdma_event_channel *channel = api->rdma_create_event_channel();
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(1)};
    struct pollfd fd = {.fd = channel->fd, .events = POLLIN};
    struct rdma_cm_event *event;
    struct rdma_cm_id *id;

    (void)state;
    inet_pton(AF_INET, "10.77.0.1", &to.sin_addr);
    assert_int_equal(api->rdma_create_id(channel, &id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(
        api->rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 1000), 0);
    assert_int_equal(poll(&fd, 1, 20000), 1);
    assert_int_equal(api->rdma_get_cm_event(channel, &event), 0);
    assert_int_equal(event->event, RDMA_CM_EVENT_ADDR_RESOLVED);
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(api->rdma_ack_cm_event(event), 0);
    assert_int_equal(api->rdma_destroy_id(id), 0);
    api->rdma_destroy_event_channel(channel);
    assert_int_equal(gp_sim_finish(sim), 0);
}

/* The same seed gives the same run. */
static uint64_t
turns_of(uint64_t seed)
{
    const gp_sim_options options = {.seed = seed, .shuffle = true};
    peers p;
    uint64_t turns;

    peers_connected(&p, &options);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            peer_write(&p.a, &p.b, 8192, 20000, 1, IBV_SEND_SIGNALED), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(peer_completion(&p, &p.a).status, IBV_WC_SUCCESS);
    turns = gp_sim_stats_now(p.sim).turns;
    peers_close(&p);
    return turns;
}

static void
test_seed(void **state)
{
    (void)state;
    assert_int_equal(turns_of(1), turns_of(1));
    assert_int_not_equal(turns_of(1), turns_of(2));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_key),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_access_flags),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_no_windows),
        cmocka_unit_test(test_iwarp),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_acknowledgement_lost),
        cmocka_unit_test(test_half_a_write),
        cmocka_unit_test(test_link_down),
        cmocka_unit_test(test_partition),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_peer_gone),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_member_fails),
        cmocka_unit_test(test_connects_that_fail),
        cmocka_unit_test(test_reject),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_arming),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
