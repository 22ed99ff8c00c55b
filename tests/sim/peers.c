/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c - see peers.h. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "tests/sim/peers.h"

#define TURNS    20000
#define PORT     4711
#define TIME_OUT 1000

static struct sockaddr_in
name_of(const char *address, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    assert_int_equal(inet_pton(AF_INET, address, &name.sin_addr), 1);
    return name;
}

static void
peer_open(peers *p, peer *of)
{
    of->api = p->api;
    of->events = p->api->rdma_create_event_channel();
    assert_non_null(of->events);
    fcntl(of->events->fd, F_SETFL, O_NONBLOCK);
    of->memory = calloc(1, PEER_BYTES);
    assert_non_null(of->memory);
}

void
peers_open(peers *p, const gp_sim_options *options)
{
    gp_sim_options o = {0};

    memset(p, 0, sizeof(*p));
    if (options)
        o = *options;
    o.step = true;
    p->sim = gp_sim_open(&o);
    assert_non_null(p->sim);
    p->api = gp_sim_api(p->sim);
    p->send_wrs = p->recv_wrs = 16;
    p->receives = 4;
    p->entries = 64;
    peer_open(p, &p->a);
    peer_open(p, &p->b);
}

struct rdma_cm_event *
peer_event(peers *p, peer *of, enum rdma_cm_event_type type, bool keep)
{
    struct rdma_cm_event *event;
    int i, error = EAGAIN;

    for (i = 0; i < TURNS && error == EAGAIN; i++)
        error = p->api->rdma_get_cm_event(of->events, &event);
    if (error)
        fail_msg("no event %s: error %d", p->api->rdma_event_str(type), error);
    assert_int_equal(event->event, type);
    if (!keep)
        assert_int_equal(p->api->rdma_ack_cm_event(event), 0);
    return keep ? event : NULL;
}

bool
peer_no_event(peers *p, peer *of)
{
    struct rdma_cm_event *event;

    gp_sim_settle(p->sim);
    return p->api->rdma_get_cm_event(of->events, &event) == EAGAIN;
}

void
peer_make_qp(peers *p, peer *of)
{
    struct ibv_context *context = of->id->verbs;
    struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC,
                                    .cap = {.max_send_wr = p->send_wrs,
                                            .max_recv_wr = p->recv_wrs,
                                            .max_send_sge = 2,
                                            .max_recv_sge = 2,
                                            .max_inline_data = 64}};

    of->pd = p->api->alloc_pd(context);
    of->channel = p->api->create_comp_channel(context);
    fcntl(of->channel->fd, F_SETFL, O_NONBLOCK);
    of->cq = p->api->create_cq(context, (int)p->entries, of, of->channel, 0);
    of->mr = p->api->reg_mr(of->pd, of->memory, PEER_BYTES,
                            IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                IBV_ACCESS_MW_BIND);
    assert_non_null(of->mr);
    attr.send_cq = attr.recv_cq = of->cq;
    assert_int_equal(p->api->rdma_create_qp(of->id, of->pd, &attr), 0);
    of->qp = of->id->qp;
    for (unsigned i = 0; i < p->receives; i++)
        assert_int_equal(peer_receive(of, i * 256, 256, 1000 + i), 0);
}

static void
set_timer(peer *of)
{
    struct ibv_qp_attr attr = {.min_rnr_timer = 12};

    assert_int_equal(of->api->modify_qp(of->qp, &attr, IBV_QP_MIN_RNR_TIMER),
                     0);
}

static void
listen_at(peers *p)
{
    struct sockaddr_in name = name_of("127.0.0.1", PORT);

    if (p->b.listener)
        return;
    assert_int_equal(
        p->api->rdma_create_id(p->b.events, &p->b.listener, NULL, RDMA_PS_TCP),
        0);
    assert_int_equal(
        p->api->rdma_bind_addr(p->b.listener, (struct sockaddr *)&name), 0);
    assert_int_equal(p->api->rdma_listen(p->b.listener, 8), 0);
}

void
peers_connect(peers *p)
{
    struct sockaddr_in to = name_of("127.0.0.1", PORT);
    uint8_t timeout = 14;
    struct rdma_conn_param param = {.private_data = "hello",
                                    .private_data_len = 5,
                                    .initiator_depth = 1,
                                    .responder_resources = 1,
                                    .retry_count = 7,
                                    .rnr_retry_count = p->rnr_retry};
    struct rdma_cm_event *event;

    listen_at(p);
    assert_int_equal(
        p->api->rdma_create_id(p->a.events, &p->a.id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(p->api->rdma_set_option(p->a.id, RDMA_OPTION_ID,
                                             RDMA_OPTION_ID_ACK_TIMEOUT,
                                             &timeout, sizeof(timeout)),
                     0);
    assert_int_equal(p->api->rdma_resolve_addr(
                         p->a.id, NULL, (struct sockaddr *)&to, TIME_OUT),
                     0);
    peer_event(p, &p->a, RDMA_CM_EVENT_ADDR_RESOLVED, false);
    assert_int_equal(p->api->rdma_resolve_route(p->a.id, TIME_OUT), 0);
    peer_event(p, &p->a, RDMA_CM_EVENT_ROUTE_RESOLVED, false);
    peer_make_qp(p, &p->a);
    assert_int_equal(p->api->rdma_connect(p->a.id, &param), 0);
    event = peer_event(p, &p->b, RDMA_CM_EVENT_CONNECT_REQUEST, true);
    p->b.id = event->id;
    assert_memory_equal(event->param.conn.private_data, "hello", 5);
    assert_int_equal(p->api->rdma_ack_cm_event(event), 0);
    peer_make_qp(p, &p->b);
    param.private_data_len = 0;
    assert_int_equal(p->api->rdma_accept(p->b.id, &param), 0);
    set_timer(&p->b);
    peer_event(p, &p->a, RDMA_CM_EVENT_ESTABLISHED, false);
    set_timer(&p->a);
    peer_event(p, &p->b, RDMA_CM_EVENT_ESTABLISHED, false);
}

void
peers_connected(peers *p, const gp_sim_options *options)
{
    peers_open(p, options);
    peers_connect(p);
}

void
peer_drop(peer *of)
{
    if (of->qp)
        of->api->rdma_destroy_qp(of->id);
    if (of->mr)
        assert_int_equal(of->api->dereg_mr(of->mr), 0);
    if (of->cq)
        assert_int_equal(of->api->destroy_cq(of->cq), 0);
    if (of->channel)
        assert_int_equal(of->api->destroy_comp_channel(of->channel), 0);
    if (of->pd)
        assert_int_equal(of->api->dealloc_pd(of->pd), 0);
    if (of->id)
        assert_int_equal(of->api->rdma_destroy_id(of->id), 0);
    of->qp = NULL;
    of->mr = NULL;
    of->cq = NULL;
    of->channel = NULL;
    of->pd = NULL;
    of->id = NULL;
}

void
peers_release(peers *p)
{
    peer *both[] = {&p->a, &p->b};

    for (int i = 0; i < 2; i++) {
        peer_drop(both[i]);
        if (both[i]->listener)
            assert_int_equal(p->api->rdma_destroy_id(both[i]->listener), 0);
        both[i]->listener = NULL;
        p->api->rdma_destroy_event_channel(both[i]->events);
        free(both[i]->memory);
    }
}

void
peers_close_after(peers *p, size_t violations)
{
    peers_release(p);
    assert_int_equal(gp_sim_violations(p->sim, NULL, 0), violations);
    gp_sim_forgive(p->sim);
    assert_int_equal(gp_sim_finish(p->sim), 0);
}

void
peers_close(peers *p)
{
    peers_release(p);
    assert_int_equal(gp_sim_finish(p->sim), 0);
}

static int
post(peer *from, struct ibv_send_wr *wr, size_t at, size_t bytes)
{
    struct ibv_sge sge = {.addr = (uintptr_t)from->memory + at,
                          .length = (uint32_t)bytes,
                          .lkey = from->mr->lkey};
    struct ibv_send_wr *bad = NULL;
    int error;

    if (bytes) {
        wr->sg_list = &sge;
        wr->num_sge = 1;
    }
    error = from->api->post_send(from->qp, wr, &bad);
    assert_ptr_equal(bad, error ? wr : NULL);
    return error;
}

int
peer_send(peer *from, size_t at, size_t bytes, uint64_t wr_id, unsigned flags)
{
    struct ibv_send_wr wr = {
        .wr_id = wr_id, .opcode = IBV_WR_SEND, .send_flags = flags};

    return post(from, &wr, at, bytes);
}

int
peer_write(peer *from, const peer *to, size_t at, size_t bytes, uint64_t wr_id,
           unsigned flags)
{
    struct ibv_send_wr wr = {
        .wr_id = wr_id,
        .opcode = IBV_WR_RDMA_WRITE,
        .send_flags = flags,
        .wr.rdma = {.remote_addr = (uintptr_t)to->memory + at,
                    .rkey = to->mr->rkey}};

    return post(from, &wr, at, bytes);
}

int
peer_write_imm(peer *from, const peer *to, size_t at, size_t bytes,
               uint64_t wr_id, uint32_t imm_be)
{
    struct ibv_send_wr wr = {
        .wr_id = wr_id,
        .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
        .send_flags = IBV_SEND_SIGNALED,
        .imm_data = imm_be,
        .wr.rdma = {.remote_addr = (uintptr_t)to->memory + at,
                    .rkey = to->mr->rkey}};

    return post(from, &wr, at, bytes);
}

int
peer_receive(peer *at, size_t offset, size_t bytes, uint64_t wr_id)
{
    struct ibv_sge sge = {.addr = (uintptr_t)at->memory + offset,
                          .length = (uint32_t)bytes,
                          .lkey = at->mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = wr_id, .sg_list = &sge, .num_sge = 1};
    struct ibv_recv_wr *bad = NULL;
    int error = at->api->post_recv(at->qp, &wr, &bad);

    assert_ptr_equal(bad, error ? &wr : NULL);
    return error;
}

struct ibv_wc
peer_completion(peers *p, peer *of)
{
    struct ibv_wc wc;
    int n = 0;

    for (int i = 0; i < TURNS && n == 0; i++)
        n = p->api->poll_cq(of->cq, 1, &wc);
    if (n != 1)
        fail_msg("no completion: %d", n);
    return wc;
}

bool
peer_quiet(peers *p, peer *of)
{
    struct ibv_wc wc;

    gp_sim_settle(p->sim);
    return p->api->poll_cq(of->cq, 1, &wc) == 0;
}

void
expect_violation(gp_sim *sim, const char *text)
{
    char seen[4096];

    gp_sim_violations(sim, seen, sizeof(seen));
    if (!strstr(seen, text))
        fail_msg("no violation with '%s' in '%s'", text, seen);
    gp_sim_forgive(sim);
}
