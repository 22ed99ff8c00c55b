/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mistakes_setup.c - classic mistakes with verbs, part four: setting up,
 * what peers may say, and how much of everything is used.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define KIB   1024u
#define PEERS 64

static bool
has_three_lanes(world *w)
{
    return lanes_up(w->r.a.ep) == 3;
}

/* The address of the table's entry that is asked for, and of no other: the one
 * of the route where none is. */
static void
item_39_connections_have_the_gid_that_was_chosen(void **state)
{
    static const struct {
        const char *index, *from;
    } cases[] = {{"-1", "127.0.0.1"}, {"1", "10.77.0.1"}, {"3", "127.0.0.1"}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        const char *const settings[] = {"ib_gid_index", cases[i].index, NULL};
        const struct sockaddr *name;
        char text[INET_ADDRSTRLEN];
        struct sockaddr_in v4;
        world w;

        world_connected(&w, &(gp_sim_options){.step = true}, settings);
        name = &w.r.a.ep->lane[0]->id->route.addr.src_addr;
        assert_int_equal(name->sa_family, AF_INET);
        memcpy(&v4, name, sizeof(v4));
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
        assert_string_equal(text, cases[i].from);
        world_close(&w);
    }
}

/* On all lanes, before their routes are resolved; the kernel's own without. */
static void
item_41_the_traffic_class_is_set(void **state)
{
    static const char *const settings[] = {"ib_qps", "3", "ib_traffic_class",
                                           "106", NULL};
    world w;

    (void)state;
    world_connected(&w, &(gp_sim_options){.step = true}, settings);
    pump_until(&w, has_three_lanes);
    assert_int_equal(gp_sim_traffic_class(w.sim, w.a), 106);
    world_close(&w);
    world_connected(&w, &(gp_sim_options){.step = true}, NULL);
    assert_int_equal(gp_sim_traffic_class(w.sim, w.a), -1);
    world_close(&w);
}

/* 42: reads outstanding, 43: access flags, 55: ACK time-outs, 56: time-outs in
 * milliseconds, 58: blocking calls, 59, 60: what is whose to destroy. */
static void
item_42_to_60_connections_are_made_as_specified(void **state)
{
    static const char *const settings[] = {"ib_qps", "2", "ib_timeout", "20",
                                           NULL};
    const gp_sim_device poor = {.max_rd_atomic = 1};
    const gp_sim_options options = {
        .step = true, .device = &poor, .devices = 1};
    world w;
    area in;

    (void)state;
    world_connected(&w, &options, settings);
    area_expose(&w, &in, &w.r.b, 64 * KIB);
    settle(&w.r);
    assert_int_equal(gp_sim_calls(w.sim, "close_device"),
                     gp_sim_calls(w.sim, "open_device"));
    assert_true(gp_sim_calls(w.sim, "rdma_set_option") >= 2);
    world_close(&w);
}

/* What cannot be registered is sent in another way, or refused with the fix. */
static void
item_47_little_memory_may_be_locked(void **state)
{
    const gp_sim_device poor = {.memlock = 700 * KIB};
    const gp_sim_options options = {
        .step = true, .device = &poor, .devices = 1};
    world w;
    area out, in;
    uint32_t token = 0;
    gp_status status;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &options, NULL);
    area_make(&w, &out, &w.r.a, 2048 * KIB);
    area_make(&w, &in, &w.r.b, 2048 * KIB);
    status = w.r.ops->expose(w.r.b.ep, in.mem, 0, in.length, 0, &token);
    assert_true(status == GP_OK || status == GP_ERR_NO_MEMORY);
    if (status != GP_OK) {
        assert_non_null(strstr(gp_last_error(), "registered"));
        in.length = 64 * KIB;
        assert_int_equal(
            w.r.ops->expose(w.r.b.ep, in.mem, 0, in.length, 0, &token), GP_OK);
    }
    in.token = token;
    fill_pattern(out.bytes, in.length, 3);
    push(&w, &out, &in, 0, in.length, 1);
    arrived(&w, &w.r.b, 1);
    assert_pattern(in.bytes, in.length, 3);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

static void
item_49_the_first_device_may_not_be_the_one(void **state)
{
    const gp_sim_device devices[3] = {
        {.port = {{.down = true}}},
        {.ports = 2, .port = {{.down = true}}},
        {.port = {{.down = true}}},
    };
    const gp_sim_options options = {
        .step = true, .device = devices, .devices = 3};
    world w;

    (void)state;
    world_open(&w, &options, NULL);
    rig_of.listen = "10.77.1.2:0"; /* device 1, port 2 */
    rig_connect(&w.r);
    send_control(&w.r, &w.r.a, 1);
    arrived(&w, &w.r.b, 1);
    world_close(&w);
}

static void
item_50_devices_differ(void **state)
{
    static const gp_sim_device devices[] = {
        {.max_msg = 4096},  {.max_sge = 1},
        {.max_qp_wr = 100}, {.max_cqe = 600},
        {.max_mr = 12},     {.no_windows = true},
        {.max_mw = 1},      {.max_mr_bytes = 1u << 20},
        {.iwarp = true},
    };

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (size_t i = 0; i < GP_COUNT_OF(devices); i++) {
        const gp_sim_options options = {
            .step = true, .device = &devices[i], .devices = 1};
        world w;
        area out, in;

        world_connected(&w, &options, NULL);
        area_make(&w, &out, &w.r.a, 300 * KIB);
        area_expose(&w, &in, &w.r.b, 300 * KIB);
        fill_pattern(out.bytes, out.length, i);
        for (size_t k = 0; k < 3; k++)
            push(&w, &out, &in, k * 100 * KIB, 100 * KIB, k + 1);
        arrived(&w, &w.r.b, 3);
        assert_pattern(in.bytes, in.length, i);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* A stranger who knocks with verbs but does not speak as we do. */
typedef struct stranger {
    const gp_verbs_api *api;
    struct rdma_event_channel *channel;
    struct rdma_cm_id *id;
    struct ibv_pd *pd;
    struct ibv_cq *cq;
    enum rdma_cm_event_type last;
} stranger;

static bool
take_event(stranger *k)
{
    struct rdma_cm_event *event;

    if (k->api->rdma_get_cm_event(k->channel, &event))
        return false;
    k->last = event->event;
    assert_int_equal(k->api->rdma_ack_cm_event(event), 0);
    return true;
}

static void
await_event(world *w, stranger *k)
{
    uint64_t deadline = test_deadline();

    while (!take_event(k)) {
        assert_false(gp_expired(deadline));
        pump(&w->r);
    }
}

static void
knock(world *w, stranger *k, const void *data, uint8_t length)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC,
                                    .cap = {.max_send_wr = 1,
                                            .max_recv_wr = 1,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1}};
    struct rdma_conn_param param = {.private_data = data,
                                    .private_data_len = length,
                                    .initiator_depth = 1,
                                    .responder_resources = 1};

    memset(k, 0, sizeof(*k));
    k->api = gp_sim_api(w->sim);
    to.sin_port = htons((uint16_t)atoi(strrchr(w->r.bound, ':') + 1));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    k->channel = k->api->rdma_create_event_channel();
    fcntl(k->channel->fd, F_SETFL, O_NONBLOCK);
    assert_int_equal(
        k->api->rdma_create_id(k->channel, &k->id, NULL, RDMA_PS_TCP), 0);
    assert_int_equal(
        k->api->rdma_resolve_addr(k->id, NULL, (struct sockaddr *)&to, 1000),
        0);
    await_event(w, k);
    assert_int_equal(k->api->rdma_resolve_route(k->id, 1000), 0);
    await_event(w, k);
    k->pd = k->api->alloc_pd(k->id->verbs);
    k->cq = k->api->create_cq(k->id->verbs, 8, NULL, NULL, 0);
    attr.send_cq = attr.recv_cq = k->cq;
    assert_int_equal(k->api->rdma_create_qp(k->id, k->pd, &attr), 0);
    assert_int_equal(k->api->rdma_connect(k->id, &param), 0);
}

static void
leave(stranger *k)
{
    k->api->rdma_destroy_qp(k->id);
    assert_int_equal(k->api->destroy_cq(k->cq), 0);
    assert_int_equal(k->api->dealloc_pd(k->pd), 0);
    assert_int_equal(k->api->rdma_destroy_id(k->id), 0);
    k->api->rdma_destroy_event_channel(k->channel);
}

static void
item_57_private_data_is_checked(void **state)
{
    static const struct {
        const char *data;
        uint8_t length;
    } cases[] = {
        {"", 0},
        {"GET / HTTP/1.1", 14},
        {"GPVB", 4},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
         "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
         56},
        {"GPVBffffffffffffffffffffffffffffffffffffffffffffffffffff", 56},
    };
    const gp_sim_device iwarp = {.iwarp = true};

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int exact = 0; exact < 2; exact++) {
        const gp_sim_options options = {
            .step = true, .device = exact ? &iwarp : NULL, .devices = 1};
        world w;
        stranger k;

        world_connected(&w, &options, NULL);
        for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
            knock(&w, &k, cases[i].data, cases[i].length);
            await_event(&w, &k);
            assert_int_equal(k.last, RDMA_CM_EVENT_REJECTED);
            leave(&k);
        }
        send_control(&w.r, &w.r.a, 1);
        arrived(&w, &w.r.b, 1);
        assert_int_equal(w.r.b.count, 1);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* Strangers who knock and leave at once, at every moment. */
static void
item_57_strangers_may_leave_any_time(void **state)
{
    const gp_sim_options options = {.step = true, .shuffle = true, .seed = 3};
    world w;
    stranger k;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &options, NULL);
    for (int turns = 0; turns < 20; turns++) {
        knock(&w, &k, "nobody", 6);
        for (int i = 0; i < turns; i++)
            pump(&w.r);
        while (take_event(&k))
            continue;
        leave(&k);
    }
    settle(&w.r);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_ACCEPTED), 0);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* 63: one queue pair a peer, unless more are asked for. */
static void
item_61_63_few_regions_and_queue_pairs_a_peer(void **state)
{
    const gp_sim_options options = {.step = true};
    gp_endpoint *ep;
    world w;
    area out, in, areas[PEERS];

    (void)state;
    world_open(&w, &options, NULL);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    area_make(&w, &in, &w.r.b, PEERS * 64 * KIB);
    world_listen(&w, "127.0.0.1:0");
    for (size_t i = 0; i < PEERS; i++) {
        assert_int_equal(
            w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep),
            GP_OK);
        await(&w.r, &w.r.a, GP_EVENT_CONNECTED, i + 1);
        await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, i + 1);
        areas[i] = in;
        assert_int_equal(w.r.ops->expose(w.r.b.ep, in.mem, i * 64 * KIB,
                                         64 * KIB, 0, &areas[i].token),
                         GP_OK);
        areas[i].length = 64 * KIB;
        push(&w, &out, &areas[i], 0, 64 * KIB, i + 1);
        arrived(&w, &w.r.b, i + 1);
    }
    assert_true(gp_sim_regions(w.sim, w.a) <= 3 * PEERS + 8);
    assert_true(gp_sim_regions(w.sim, w.b) <= 3 * PEERS + 8);
    assert_int_equal(stats_of(&w).live[GP_SIM_QP], 2 * PEERS);
    print_message("regions of a process with %d peers: %zu and %zu\n", PEERS,
                  gp_sim_regions(w.sim, w.a), gp_sim_regions(w.sim, w.b));
    world_close(&w);
}

static void
item_62_nothing_is_registered_on_the_way(void **state)
{
    const gp_sim_options options = {.step = true};
    gp_sim_stats before, after;
    world w;
    area out, in;

    (void)state;
    world_connected(&w, &options, NULL);
    area_make(&w, &out, &w.r.a, 256 * KIB);
    area_expose(&w, &in, &w.r.b, 256 * KIB);
    settle(&w.r); /* until a knows where it may write */
    push(&w, &out, &in, 0, 256 * KIB, 1);
    arrived(&w, &w.r.b, 1);
    before = stats_of(&w);
    for (size_t i = 0; i < 200; i++) {
        push(&w, &out, &in, i * KIB, 50 * KIB, i + 2);
        send_control(&w.r, &w.r.b, i);
        arrived(&w, &w.r.b, i + 2);
        arrived(&w, &w.r.a, i + 1);
    }
    after = stats_of(&w);
    for (int kind = 0; kind <= GP_SIM_ID; kind++)
        assert_int_equal(after.created[kind], before.created[kind]);
    world_close(&w);
}

static void
item_64_small_messages_travel_together(void **state)
{
    const gp_sim_options options = {.step = true};
    gp_sim_stats before, after;
    world w;

    (void)state;
    world_connected(&w, &options, NULL);
    settle(&w.r);
    before = stats_of(&w);
    for (size_t i = 0; i < 100; i++) {
        gp_msg msg = control_msg(i, 0);

        post(&w.r, &w.r.a, &msg, NULL, 0);
    }
    flush(&w.r.a);
    arrived(&w, &w.r.b, 100);
    after = stats_of(&w);
    assert_true(after.sends - before.sends <= 20);
    assert_true(after.doorbells - before.doorbells <= 20);
    world_close(&w);
}

/* An acknowledged WRITE and its notification share a doorbell. */
static void
item_64_a_push_is_one_doorbell(void **state)
{
    const gp_sim_options options = {.step = true};
    uint64_t doorbells;
    world w;
    area out, in;

    (void)state;
    world_connected(&w, &options, NULL);
    area_make(&w, &out, &w.r.a, 256 * KIB);
    area_expose(&w, &in, &w.r.b, 256 * KIB);
    push(&w, &out, &in, 0, 64 * KIB, 1);
    arrived(&w, &w.r.b, 1);
    settle(&w.r);
    doorbells = stats_of(&w).doorbells;
    push(&w, &out, &in, 0, 64 * KIB, 2);
    assert_int_equal(stats_of(&w).doorbells, doorbells + 1);
    arrived(&w, &w.r.b, 2);
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_39_connections_have_the_gid_that_was_chosen),
        cmocka_unit_test(item_41_the_traffic_class_is_set),
        cmocka_unit_test(item_42_to_60_connections_are_made_as_specified),
        cmocka_unit_test(item_47_little_memory_may_be_locked),
        cmocka_unit_test(item_49_the_first_device_may_not_be_the_one),
        cmocka_unit_test(item_50_devices_differ),
        cmocka_unit_test(item_57_private_data_is_checked),
        cmocka_unit_test(item_57_strangers_may_leave_any_time),
        cmocka_unit_test(item_61_63_few_regions_and_queue_pairs_a_peer),
        cmocka_unit_test(item_62_nothing_is_registered_on_the_way),
        cmocka_unit_test(item_64_small_messages_travel_together),
        cmocka_unit_test(item_64_a_push_is_one_doorbell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
