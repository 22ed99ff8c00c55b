/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_answer_order.c - which of a worker's answers leaves first: by priority,
 * in chunks, and nothing for ever last. A transport that takes everything and
 * writes down what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shard/shard_int.h"

#define CHUNKS   64u
#define ELEMENTS 65536u /* 256 KiB: two of them are SHARD_UNSENT */
#define POSTS    256u

typedef struct fixture {
    gp_shard shard;
    gp_peer peer, *worker[1];
    gp_chunk chunk[CHUNKS];
    gp_chunk_info info[CHUNKS];
    gp_entry entry[CHUNKS];
    uint32_t chunk_of[CHUNKS];
    gp_tensor_spec spec;
    shard_tensor tensor;
    float value[ELEMENTS];
} fixture;

static fixture f;

/* What was posted: chunks, in their order; + 1000: not a result. */
static uint32_t posted[POSTS];
static uint32_t posts, room;

static gp_status
post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
     uint64_t cookie)
{
    (void)ep;
    (void)payload;
    (void)mem;
    (void)cookie;
    if (posts == room)
        return GP_AGAIN;
    assert_true(posts < POSTS);
    posted[posts++] = msg->chunk + (msg->type == GP_MSG_RESULT ? 0 : 1000);
    return GP_OK;
}

static gp_status
flush(gp_endpoint *ep)
{
    (void)ep;
    return GP_OK;
}

static const gp_transport_ops ops = {.post = post, .flush = flush};

static int
set_up(void **state)
{
    (void)state;
    memset(&f, 0, sizeof(f));
    posts = 0;
    room = POSTS;
    gp_list_init(&f.shard.peers);
    gp_list_init(&f.peer.link);
    gp_list_init(&f.peer.backlog);
    gp_list_init(&f.peer.ages);
    f.peer.ops = &ops;
    f.worker[0] = &f.peer;
    f.shard.worker = f.worker;
    f.shard.size = 1;
    f.shard.chunk = f.chunk;
    f.shard.chunks = CHUNKS;
    f.shard.chunk_of = f.chunk_of;
    f.tensor.spec = &f.spec;
    f.tensor.pull_dense = true;
    if (gp_pipeline_parse("none", &f.tensor.pull) != GP_OK)
        return -1;
    for (uint32_t i = 0; i < CHUNKS; i++) {
        f.info[i].count = ELEMENTS;
        f.chunk[i].info = &f.info[i];
        f.chunk[i].tensor = &f.tensor;
        f.chunk[i].number = i;
        f.chunk[i].value = f.value;
        f.chunk[i].sum = f.value;
        f.chunk[i].entry = &f.entry[i];
        f.entry[i].chunk = &f.chunk[i];
        gp_list_init(&f.entry[i].due);
        gp_list_init(&f.entry[i].age);
        f.chunk_of[i] = i + 1;
    }
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    gp_pipeline_destroy(f.tensor.pull);
    return 0;
}

static void
owe(uint32_t chunk, int32_t priority)
{
    gp_entry *e = &f.entry[chunk];

    gp_entry_ask(&f.shard, e, priority);
    e->answer = ANSWER_RESULT;
    f.chunk[chunk].sending++;
    e->in_flight++;
    gp_entry_owe(&f.peer, e);
}

static void
owe_ack(uint32_t chunk)
{
    f.entry[chunk].answer = ANSWER_ACK;
    gp_entry_owe(&f.peer, &f.entry[chunk]);
}

/* The link has room for `count` more: what has left is reported, and the next
 * is sent, as in turns of the driver. */
static void
send(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t before = posts;

        gp_shard_send_due(&f.shard, &f.peer);
        for (uint32_t k = before; k < posts; k++)
            if (posted[k] < 1000)
                gp_shard_sent(&f.shard, &f.peer, posted[k] + 1);
    }
}

static void
expect(const uint32_t *chunks, uint32_t count)
{
    assert_int_equal(posts, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(posted[i], chunks[i]);
}

#define EXPECT(...)                                      \
    do {                                                 \
        static const uint32_t chunks_[] = {__VA_ARGS__}; \
        expect(chunks_, (uint32_t)GP_COUNT_OF(chunks_)); \
    } while (0)

/* One priority: the order is that of before, and nothing is held back. */
static void
equal_ones_keep_their_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20; i++)
        owe((i * 7) % 20, 3);
    gp_shard_send_due(&f.shard, &f.peer);
    assert_int_equal(posts, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(posted[i], (i * 7) % 20);
}

static void
higher_ones_go_first(void **state)
{
    (void)state;
    owe(0, 1);
    owe(1, 5);
    owe(2, 3);
    owe(3, 5);
    owe(4, -2);
    owe(5, 3);
    owe(6, 9);
    owe_ack(7);
    send(8);
    EXPECT(1007, 6, 1, 3, 2, 5, 0, 4);
}

/* The back layer's chunks are under way when the front layer's come: what the
 * transport has stays first, the rest is passed. */
static void
what_waits_is_passed(void **state)
{
    (void)state;
    owe(50, 2); /* so that the shard knows of two priorities */
    send(1);
    posts = 0;
    for (uint32_t i = 0; i < 6; i++)
        owe(i, 1);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(0, 1);
    owe(10, 2);
    owe(11, 2);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(0, 1);
    gp_shard_sent(&f.shard, &f.peer, 0 + 1);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(0, 1, 10);
    gp_shard_sent(&f.shard, &f.peer, 1 + 1);
    gp_shard_sent(&f.shard, &f.peer, 10 + 1);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(0, 1, 10, 11, 2);
    /* An acknowledgement waits for nothing. */
    owe_ack(20);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(0, 1, 10, 11, 2, 1020);
}

/* Front layers that always have something do not keep others for ever: the
 * oldest answer goes after SHARD_PATIENCE that passed it. */
static void
nothing_waits_for_ever(void **state)
{
    uint32_t first = 0, second = 0;

    (void)state;
    owe(0, 0);
    owe(1, 0);
    f.peer.unsent = SHARD_UNSENT;
    for (uint32_t c = 2; c < 6; c++) /* two priorities: held back */
        owe(c, 1);
    gp_shard_send_due(&f.shard, &f.peer);
    assert_int_equal(posts, 0);
    f.peer.unsent = 0;
    for (uint32_t i = 0; i < 4 * SHARD_PATIENCE; i++) {
        uint32_t before = posts;

        gp_shard_send_due(&f.shard, &f.peer);
        for (uint32_t k = before; k < posts; k++) {
            gp_shard_sent(&f.shard, &f.peer, posted[k] + 1);
            if (posted[k] < 2)
                *(posted[k] ? &second : &first) = k + 1;
        }
        for (uint32_t c = 2; c < 6; c++) /* there is always something */
            if (gp_list_empty(&f.entry[c].due))
                owe(c, 1);
    }
    assert_true(first > SHARD_PATIENCE / 2 && first <= SHARD_PATIENCE + 1);
    assert_true(second > first && second <= 2 * (SHARD_PATIENCE + 1));
}

/* Without room nothing is lost, and nothing counted. */
static void
a_full_transport_is_asked_again(void **state)
{
    (void)state;
    owe(0, 1);
    owe(1, 2);
    room = 1;
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(1);
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(1);
    assert_int_equal(f.peer.unsent, ELEMENTS * sizeof(float));
    room = POSTS;
    gp_shard_send_due(&f.shard, &f.peer);
    EXPECT(1, 0);
    gp_shard_sent(&f.shard, &f.peer, 0 + 1);
    gp_shard_sent(&f.shard, &f.peer, 1 + 1);
    assert_int_equal(f.peer.unsent, 0);
    /* What nobody posted gives nothing back. */
    gp_shard_sent(&f.shard, &f.peer, 1 + 1);
    assert_int_equal(f.peer.unsent, 0);
}

/* Any order of coming: it leaves sorted, and equal ones by age. */
static void
sorted_whatever_comes(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t count = 1 + (uint32_t)(seed >> 33) % 14;

        posts = 0;
        for (uint32_t i = 0; i < count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            owe(i, (int32_t)(seed >> 40) % 4 - 2);
        }
        send(count);
        assert_int_equal(posts, count);
        for (uint32_t i = 1; i < count; i++) {
            const gp_entry *a = &f.entry[posted[i - 1]];
            const gp_entry *b = &f.entry[posted[i]];

            assert_true(a->priority > b->priority ||
                        (a->priority == b->priority && a < b));
        }
        f.peer.passed = 0;
    }
}

#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(equal_ones_keep_their_order),
        TEST(higher_ones_go_first),
        TEST(what_waits_is_passed),
        TEST(nothing_waits_for_ever),
        TEST(a_full_transport_is_asked_again),
        TEST(sorted_whatever_comes)};

    return cmocka_run_group_tests_name("answer_order", tests, NULL, NULL);
}
