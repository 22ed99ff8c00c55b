/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_memory.c - what the peer's device may write, what a stranger
 * costs, and what is said when too little memory may be locked.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/transports.h"
#include "transports/verbs/verbs_int.h"
#include "transports/verbs/verbs_limit.h"

#define KIB       1024u
#define CROWD     24u
#define COST      (4096u * KIB) /* of each */
#define STRANGERS 16u

static const gp_sim_options step = {.step = true};

/* ------------------------------------------------------------- protection */

/* What a's queue pair writes to an address of b with a key that b told. */
static void
write_at(world *w, uint64_t address, uint32_t key)
{
    gp_vb_lane *lane = w->r.a.ep->lane[0];
    struct ibv_sge sge = {
        .addr = (uintptr_t)lane->tx, .length = 8, .lkey = lane->tx_mr->lkey};
    struct ibv_send_wr *bad = NULL;
    struct ibv_send_wr wr = {
        .wr_id = gp_vb_wr_id(lane, GP_VB_WR_WRITE, ++lane->sq_posted),
        .opcode = IBV_WR_RDMA_WRITE,
        .send_flags = IBV_SEND_SIGNALED,
        .sg_list = &sge,
        .num_sge = 1,
        .wr.rdma = {.remote_addr = address, .rkey = key}};

    assert_int_equal(gp_sim_api(w->sim)->post_send(lane->qp, &wr, &bad), 0);
}

/* With frames that are written the ring is open, and nothing around it. */
static void
only_the_ring_is_open(void **state)
{
    static const char *const imm[] = {"ib_notify", "imm", "ib_reconnect", "0",
                                      NULL};

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int inside = 0; inside < 2; inside++) {
        const gp_vb_lane *a, *b;
        uint8_t before[8];
        world w;

        world_connected(&w, &step, imm);
        settle(&w.r);
        a = w.r.a.ep->lane[0];
        b = w.r.b.ep->lane[0];
        assert_true(a->imm && b->imm);
        assert_ptr_equal((void *)(uintptr_t)a->peer_ring, b->rx);
        memcpy(before, b->tx, sizeof(before));
        memset(a->tx, 0x77, 8);
        write_at(&w, (uintptr_t)(inside ? b->rx : b->tx), a->peer_ring_key);
        if (inside) {
            settle(&w.r);
            assert_int_equal(b->rx[0], 0x77);
        } else {
            assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
            assert_memory_equal(b->tx, before, sizeof(before));
        }
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* ---------------------------------------------------------------- regions */

/* Without windows memory that is exposed as a whole has one region, which is
 * sent from as well: also where it was sent from before it was exposed, and
 * when it is withdrawn while it is sent from. */
static void
one_region_for_both_ways(void **state)
{
    const gp_sim_device bare = {.no_windows = true};
    const gp_sim_options options = {
        .step = true, .device = &bare, .devices = 1};
    const size_t bytes = 64 * KIB;
    area out, in;
    world w;

    (void)state;
    world_connected(&w, &options, NULL);
    area_make(&w, &out, &w.r.a, bytes);
    area_expose(&w, &in, &w.r.b, bytes);
    settle(&w.r);
    assert_int_equal(gp_sim_regions(w.sim, w.a), 1);
    push(&w, &out, &in, 0, bytes, 1);
    assert_int_equal(gp_sim_regions(w.sim, w.a), 2);
    /* While that is under way. */
    assert_int_equal(
        w.r.ops->expose(w.r.a.ep, out.mem, 0, bytes, 0, &out.token), GP_OK);
    assert_int_equal(gp_sim_regions(w.sim, w.a), 3);
    arrived(&w, &w.r.b, 1);
    settle(&w.r);
    assert_int_equal(gp_sim_regions(w.sim, w.a), 2);
    for (uint64_t i = 2; i < 6; i++) {
        fill_pattern(out.bytes, bytes, i);
        push(&w, &out, &in, 0, bytes, i);
        if (i == 4)
            w.r.ops->unexpose(w.r.a.ep, out.token);
        arrived(&w, &w.r.b, i);
        await(&w.r, &w.r.a, GP_EVENT_SENT, i);
        assert_pattern(in.bytes, bytes, i);
        assert_int_equal(gp_sim_regions(w.sim, w.a), i == 4 ? 1 : 2);
    }
    assert_true(w.r.a.domain->reconnects == 0);
    world_close(&w);
}

/* Requests are counted in 32 bits, and most of them may be no writes. */
static void
writes_of_long_ago_have_ended(void **state)
{
    const gp_sim_device bare = {.no_windows = true};
    const gp_sim_options options = {
        .step = true, .device = &bare, .devices = 1};
    const size_t bytes = 64 * KIB;
    gp_vb_lane *lane;
    area out;
    world w;

    (void)state;
    world_connected(&w, &options, NULL);
    area_expose(&w, &out, &w.r.a, bytes);
    settle(&w.r);
    lane = w.r.a.ep->lane[0];
    for (uint32_t i = 0; i < 3; i++) {
        gp_vb_probe(lane); /* all before it has ended with it */
        settle(&w.r);
        assert_int_equal(lane->sq_posted, lane->sq_retired);
        lane->sq_posted += 0x60000000u;
        lane->sq_retired = lane->sq_polled = lane->sq_posted;
        gp_vb_probe(lane);
        settle(&w.r);
        w.r.ops->unexpose(w.r.a.ep, out.token);
        assert_true(lane->state == GP_VB_LANE_UP);
        assert_int_equal(
            w.r.ops->expose(w.r.a.ep, out.mem, 0, bytes, 0, &out.token), GP_OK);
        settle(&w.r);
    }
    assert_true(w.r.a.domain->reconnects == 0);
    world_close(&w);
}

/* A part that is exposed opens nothing but itself. */
static void
a_part_has_its_own_key(void **state)
{
    static const char *const final[] = {"ib_reconnect", "0", NULL};
    const gp_sim_device bare = {.no_windows = true};
    const gp_sim_options options = {
        .step = true, .device = &bare, .devices = 1};
    const gp_vb_remote *to;
    bool withdrawn;
    area in;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &options, final);
    area_make(&w, &in, &w.r.b, 8 * KIB);
    assert_int_equal(
        w.r.ops->expose(w.r.b.ep, in.mem, 4 * KIB, 4 * KIB, 0, &in.token),
        GP_OK);
    settle(&w.r);
    to = gp_vb_remote_find(w.r.a.ep, in.token, 0, 1, &withdrawn);
    assert_non_null(to);
    memset(w.r.a.ep->lane[0]->tx, 0x77, 8);
    write_at(&w, to->address, to->key[0]);
    settle(&w.r);
    assert_int_equal(in.bytes[4 * KIB], 0x77);
    write_at(&w, to->address - 8, to->key[0]);
    assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_int_equal(in.bytes[4 * KIB - 1], 0xEE);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* -------------------------------------------------------------- wr_id */

/* Each queue pair has a name of its own, also where a lane takes the place of
 * one that is gone. */
static void
no_name_comes_again(void **state)
{
    static uint64_t name[700];
    gp_endpoint *ep;
    size_t count = 0;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &step, NULL);
    for (int i = 0; i < 280; i++) {
        uint64_t deadline = test_deadline();
        uint64_t before = w.r.a.domain->reconnects;

        name[count++] = gp_vb_wr_id(w.r.a.ep->lane[0], GP_VB_WR_RECEIVE, 0);
        gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
        while (w.r.a.domain->reconnects == before || lanes_up(w.r.a.ep) == 0) {
            send_control(&w.r, &w.r.b, 1);
            assert_false(gp_expired(deadline));
            pump(&w.r);
        }
        side_forget(&w.r.a);
        send_control(&w.r, &w.r.b, 1);
        arrived(&w, &w.r.a, 1);
    }
    w.r.ops->ep_close(w.r.a.ep);
    assert_int_equal(ended(&w, &w.r.b), GP_OK);
    w.r.ops->ep_close(w.r.b.ep);
    side_forget(&w.r.a);
    side_forget(&w.r.b);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep),
            GP_OK);
        await(&w.r, &w.r.a, GP_EVENT_CONNECTED, (size_t)i + 1);
        name[count++] = gp_vb_wr_id(ep->lane[0], GP_VB_WR_RECEIVE, 0);
        w.r.ops->ep_close(ep);
        settle(&w.r);
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(name[i] != name[k]);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* What is in a name comes out again, at the end of the numbers too. */
static void
positions_wrap(void **state)
{
    gp_vb_lane lane = {.slot = UINT16_MAX, .generation = 0xFFFFFF};

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t position = UINT32_MAX - 2 + i;
        uint64_t wr_id = gp_vb_wr_id(&lane, GP_VB_WR_DRAIN, position);

        lane.sq_retired = position - 100;
        assert_int_equal(gp_vb_wr_kind(wr_id), GP_VB_WR_DRAIN);
        assert_int_equal(gp_vb_wr_position(&lane, wr_id), position);
    }
}

/* -------------------------------------------------------------- strangers */

static size_t
pinned(const gp_domain *d)
{
    size_t bytes = 0;

    GP_LIST_EACH (item, &d->endpoints)
        bytes += GP_CONTAINER_OF(item, gp_endpoint, link)->slab_bytes;
    GP_LIST_EACH (item, &d->retired)
        bytes += GP_CONTAINER_OF(item, gp_endpoint, link)->slab_bytes;
    return bytes;
}

/* Peers that have proven nothing come and cost much each: some get in, the
 * others wait until those are trusted. */
static void
a_crowd_of_strangers(void **state)
{
    static const char *const many[] = {"ib_frames", "512", "ib_frame", "4K",
                                       NULL};
    gp_endpoint *ep[CROWD];
    uint64_t deadline = test_deadline();
    size_t inside = 0, trusted = 0, most = 0;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &step, many);
    world_listen(&w, "127.0.0.1:0");
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(
            w.r.ops->connect(w.r.a.domain, w.r.bound, deadline, &ep[i]), GP_OK);
    while (trusted < CROWD) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
        most = GP_MAX(most, pinned(w.r.b.domain) - trusted * COST);
        inside = side_count(&w.r.b, GP_EVENT_ACCEPTED);
        /* Only when no more come. */
        if (inside == trusted + STRANGERS || inside == CROWD)
            while (trusted < inside)
                w.r.ops->ep_trust(
                    side_nth(&w.r.b, GP_EVENT_ACCEPTED, trusted++)->event.ep);
    }
    assert_int_equal(most, STRANGERS * COST);
    assert_int_equal(w.r.b.domain->stranger_bytes, 0);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* ------------------------------------------------------- locked memory */

/* What cannot be had for lack of locked memory names the limit and the fix. */
static void
the_fix_is_named(void **state)
{
    static const char *const calls[] = {"reg_mr", "create_cq",
                                        "rdma_create_qp"};
    const gp_sim_device poor = {.memlock = 64 * KIB};
    const gp_sim_options options = {
        .step = true, .device = &poor, .devices = 1};
    gp_sim *sim = gp_sim_open(&options);
    const gp_verbs_api *api = gp_sim_api(sim);

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(calls); i++) {
        assert_int_equal(gp_verbs_refused(api, ENOMEM, "no %s", calls[i]),
                         GP_ERR_NO_MEMORY);
        assert_non_null(strstr(gp_last_error(), calls[i]));
        assert_non_null(strstr(gp_last_error(), "64 KiB"));
        assert_non_null(strstr(gp_last_error(), "ulimit -l unlimited"));
        assert_non_null(strstr(gp_last_error(), "--ulimit memlock=-1"));
        assert_non_null(strstr(gp_last_error(), "IPC_LOCK"));
    }
    assert_int_equal(gp_verbs_refused(api, EINVAL, "no luck"), GP_ERR_SYSTEM);
    assert_null(strstr(gp_last_error(), "ulimit"));
    assert_int_equal(gp_sim_finish(sim), 0);
}

/* Connects a to b while `call` fails. The cause is a's: it waits for nobody,
 * and what it says names the fix. */
static void
ends_with_the_fix(world *w, const char *call)
{
    uint64_t deadline = test_deadline();
    gp_endpoint *ep;

    assert_int_equal(
        w->r.ops->connect(w->r.a.domain, w->r.bound, UINT64_MAX - 1, &ep),
        GP_OK);
    side_forget(&w->r.a);
    while (!side_count(&w->r.a, GP_EVENT_CLOSED)) {
        assert_false(gp_expired(deadline));
        if (call)
            gp_sim_fail(w->sim, call, 1, ENOMEM);
        pump(&w->r);
    }
    gp_sim_fail(w->sim, NULL, 0, 0);
    assert_int_equal(side_nth(&w->r.a, GP_EVENT_CLOSED, 0)->event.status,
                     GP_ERR_NO_MEMORY);
    assert_non_null(strstr(ep->why, "--ulimit memlock=-1"));
    w->r.ops->ep_close(ep);
}

static void
refused_connections_name_the_fix(void **state)
{
    const gp_sim_device poor = {.memlock = 4096 * KIB, .max_qp = 2};
    const gp_sim_options options = {
        .step = true, .device = &poor, .devices = 1};
    static const char *const named[] = {"transport", "verbs", NULL};
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &options, named);
    world_listen(&w, "127.0.0.1:0");
    ends_with_the_fix(&w, "reg_mr");
    ends_with_the_fix(&w, "create_cq");
    world_close(&w);
    /* No third queue pair. */
    world_connected(&w, &options, named);
    ends_with_the_fix(&w, NULL);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* auto looks at the limit before it takes verbs; who names verbs gets it. */
static void
auto_counts_before(void **state)
{
    const gp_sim_device poor = {.memlock = 8192 * KIB};
    const gp_sim_options options = {
        .step = true, .device = &poor, .devices = 1};
    gp_sim *sim = gp_sim_open(&options);
    gp_config *c = NULL;
    char why[512];

    (void)state;
    gp_verbs_api_use(gp_sim_api(sim));
    assert_int_equal(gp_config_create(&c), GP_OK);
    assert_int_equal(gp_config_set(c, "transport", "auto"), GP_OK);
    assert_int_equal(gp_config_set(c, "chunk_bytes", "1M"), GP_OK);
    assert_int_equal(gp_verbs_ops.probe(c, why, sizeof(why)), GP_ERR_NO_MEMORY);
    assert_non_null(strstr(why, "8192 KiB"));
    assert_non_null(strstr(why, "ulimit -l unlimited"));
    assert_int_equal(gp_config_set(c, "transport", "verbs"), GP_OK);
    assert_int_equal(gp_verbs_ops.probe(c, why, sizeof(why)), GP_OK);
    assert_int_equal(gp_config_set(c, "transport", "auto"), GP_OK);
    assert_int_equal(gp_config_set(c, "chunk_bytes", "64K"), GP_OK);
    assert_int_equal(gp_verbs_ops.probe(c, why, sizeof(why)), GP_OK);
    assert_int_equal(gp_config_set(c, "size", "16"), GP_OK);
    assert_int_equal(gp_verbs_ops.probe(c, why, sizeof(why)), GP_ERR_NO_MEMORY);
    gp_config_destroy(c);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(only_the_ring_is_open),
        cmocka_unit_test(one_region_for_both_ways),
        cmocka_unit_test(writes_of_long_ago_have_ended),
        cmocka_unit_test(a_part_has_its_own_key),
        cmocka_unit_test(no_name_comes_again),
        cmocka_unit_test(positions_wrap),
        cmocka_unit_test(a_crowd_of_strangers),
        cmocka_unit_test(the_fix_is_named),
        cmocka_unit_test(refused_connections_name_the_fix),
        cmocka_unit_test(auto_counts_before),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
