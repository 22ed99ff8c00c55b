/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_cue.c - headers as 32 bits: what one end makes of a message the
 * other reads as the same message, and what does not follow has no cue.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "transports/verbs/verbs_cue.h"

#define STRIDE 4096u

/* Both ends of one way. */
typedef struct ends {
    gp_vb_cues out, in;
    uint32_t number;
    size_t cued, kept;
} ends;

static void
ends_free(ends *e)
{
    gp_vb_cues_free(&e->out);
    gp_vb_cues_free(&e->in);
}

static gp_msg
push_of(uint32_t chunk, uint64_t step, uint16_t slot, uint64_t cookie)
{
    return (gp_msg){.type = 2,
                    .dtype = 1,
                    .flags = 8,
                    .slot = slot,
                    .job = 0x0102030405060708,
                    .worker = 3,
                    .epoch = 1,
                    .chunk = chunk,
                    .step = step,
                    .pipeline = 7,
                    .region = 0x00300001,
                    .elements = 1000,
                    .payload = 4000,
                    .offset = (uint64_t)slot * STRIDE,
                    .cookie = cookie,
                    .aux = chunk + 1};
}

static gp_msg
result_of(uint32_t chunk, uint64_t step, uint64_t credits, uint64_t cookie)
{
    gp_msg msg = push_of(chunk, step, 0, cookie);

    msg.type = 3;
    msg.offset = 64 * (uint64_t)(chunk + 1);
    msg.credits = credits;
    return msg;
}

/* Members one by one: there are holes between them. */
static void
assert_same(const gp_msg *a, const gp_msg *b)
{
    uint8_t x[GP_MSG_BYTES], y[GP_MSG_BYTES];

    gp_msg_encode(a, x);
    gp_msg_encode(b, y);
    assert_memory_equal(x, y, sizeof(x));
}

/* Sends one message as a lane does; whether it went by a cue. */
static bool
say(ends *e, const gp_msg *msg)
{
    uint32_t number = e->number++, cue = 0;
    gp_msg read;

    if (!gp_vb_cue_make(&e->out, number, msg, &cue)) {
        assert_true(gp_vb_cues_keep(&e->out, msg));
        assert_true(gp_vb_cues_keep(&e->in, msg));
        e->kept++;
        return false;
    }
    memset(&read, 0xEE, sizeof(read));
    assert_true(gp_vb_cue_read(&e->in, number, cue, &read));
    assert_same(msg, &read);
    e->cued++;
    return true;
}

/* After its first two steps a worker says nothing but cues, whatever slots its
 * chunks get; the shard answers likewise, whatever slots are free again. */
static void
steps_are_cues(void **state)
{
    ends push = {0}, pull = {0};
    uint64_t cookie = 0;

    (void)state;
    for (uint64_t step = 0; step < 50; step++)
        for (uint32_t chunk = 0; chunk < 40; chunk++) {
            uint16_t slot = (uint16_t)((chunk * 5 + step * 7) % 64);
            uint64_t run = ((uint64_t)1 << (chunk + step) % 8) - 1;
            gp_msg there = push_of(chunk, step, slot, ++cookie);
            gp_msg back = result_of(chunk, step + 1, run << slot % 57, cookie);
            bool pushed = say(&push, &there), pulled = say(&pull, &back);

            assert_true(step < 2 || (pushed && pulled));
        }
    assert_in_range(push.cued, 50 * 40 - 80, 50 * 40);
    assert_int_equal(pull.kept, 40);
    ends_free(&push);
    ends_free(&pull);
}

/* Each change of a header that no cue can tell of is told by a record, and
 * after it cues go on. */
static void
what_does_not_follow(void **state)
{
    ends e = {0};
    gp_msg usual = result_of(5, 10, 0, 100), odd[20];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(odd); i++)
        odd[i] = usual;
    odd[n++].type ^= 1;
    odd[n++].dtype ^= 1;
    odd[n++].flags ^= 1;
    odd[n++].slot ^= 1;
    odd[n++].status = -1;
    odd[n++].job ^= 1;
    odd[n++].worker ^= 1;
    odd[n++].incarnation ^= 1;
    odd[n++].epoch ^= 1;
    odd[n++].chunk = GP_VB_CUES + 4; /* leads to the same header */
    odd[n++].step += 3;
    odd[n++].step -= 2;
    odd[n++].pipeline ^= 1;
    odd[n++].region ^= 1;
    odd[n++].elements ^= 1;
    odd[n++].payload ^= 1;
    odd[n++].offset ^= 1;
    odd[n++].cookie += 32;
    odd[n++].credits = 5;
    odd[n++].aux ^= 1;
    assert_int_equal(n, GP_COUNT_OF(odd));
    assert_int_equal(usual.chunk, 5);
    assert_false(say(&e, &usual));
    for (size_t i = 0; i < n; i++) {
        assert_true(say(&e, &usual));
        assert_false(say(&e, &odd[i]));
        (void)say(&e, &usual); /* as far as it follows from the odd one */
    }
    odd[0] = usual;
    odd[0].payload_crc = 1;
    assert_false(say(&e, &odd[0]));
    ends_free(&e);
}

/* Chunks of a shard are a shard's number apart, and each has its own header. */
static void
chunks_of_one_shard(void **state)
{
    (void)state;
    for (uint32_t shards = 1; shards <= 64; shards *= 2) {
        ends e = {0};

        for (uint64_t step = 0; step < 2; step++)
            for (uint32_t i = 0; i < GP_VB_CUES; i++) {
                gp_msg msg = result_of(i * shards, step, 0, i);

                msg.cookie = 1;
                (void)say(&e, &msg);
            }
        assert_int_equal(e.cued, GP_VB_CUES);
        ends_free(&e);
    }
}

/* The farthest that a cue reaches. */
static void
limits(void **state)
{
    ends e = {0};
    gp_msg first = result_of(GP_VB_CUES - 1, 100, 0, 1000), next = first;

    (void)state;
    assert_false(say(&e, &first));
    next.step += 2;
    next.cookie += 31;
    next.credits = UINT64_MAX >> 1;
    assert_true(say(&e, &next));
    next.step -= 1;
    next.cookie -= 32;
    next.credits = (uint64_t)1 << 63;
    assert_true(say(&e, &next));
    next.credits = UINT64_MAX; /* 64 in a row are more than it can say */
    assert_false(say(&e, &next));
    next.cookie -= 33;
    assert_false(say(&e, &next));
    /* Numbers go round. */
    next.credits = 0;
    next.step = UINT64_MAX;
    assert_false(say(&e, &next));
    next.step = 0;
    next.cookie = UINT64_MAX;
    assert_false(say(&e, &next));
    next.step = UINT64_MAX;
    next.cookie = 3;
    assert_true(say(&e, &next));
    ends_free(&e);
}

static uint64_t
roll(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed % below;
}

/* Members from few values each, so that much follows and much does not; both
 * ends forget all now and then, as when a queue pair is lost. */
static void
random_headers(void **state)
{
    uint64_t seed = 0x9e3779b97f4a7c15, cookie = 0;
    ends e = {0};

    (void)state;
    for (size_t i = 0; i < 200000; i++) {
        uint32_t chunk = (uint32_t)roll(&seed, 4) * GP_VB_CUES / 2;
        uint16_t slot = (uint16_t)(roll(&seed, 3) ? roll(&seed, 70) : 0);
        gp_msg msg = push_of(chunk, i / 100 + roll(&seed, 5), slot, 0);

        cookie += roll(&seed, 40) - 3;
        msg.cookie = cookie;
        msg.offset = slot * (roll(&seed, 9) ? STRIDE : 2 * STRIDE);
        msg.offset += roll(&seed, 20) ? 0 : 64;
        msg.credits = roll(&seed, 3) ? 0 : roll(&seed, UINT64_MAX);
        msg.aux = roll(&seed, 20) ? 1 : roll(&seed, 3);
        (void)say(&e, &msg);
        if (roll(&seed, 5000) == 0) {
            gp_vb_cues_reset(&e.out);
            gp_vb_cues_reset(&e.in);
        }
    }
    assert_true(e.cued > 10000 && e.kept > 10000);
    ends_free(&e);
}

/* Any 32 bits: what is read lies in what is kept, or nothing is. */
static void
any_cue(void **state)
{
    gp_vb_cues in = {0};
    gp_msg kept = push_of(1, 5, 3, 70), read;
    uint64_t seed = 88172645463325252;
    size_t taken = 0;

    (void)state;
    assert_false(gp_vb_cue_read(&in, 0, 0, &read)); /* nothing is kept */
    assert_true(gp_vb_cues_keep(&in, &kept));
    for (size_t i = 0; i < 100000; i++) {
        uint32_t cue = (uint32_t)roll(&seed, UINT64_MAX);

        if (i % 2)
            cue = (cue & ~(uint32_t)(GP_VB_CUES - 1)) | 1;
        if (!gp_vb_cue_read(&in, (uint32_t)i, cue, &read))
            continue;
        taken++;
        assert_int_equal(cue % GP_VB_CUES, 1);
        assert_int_equal(cue >> 29, i % 8);
        assert_int_equal(read.offset, read.slot * STRIDE);
        assert_in_range(read.slot, 0, 63);
        assert_int_equal(read.region, kept.region);
        assert_int_equal(read.payload, kept.payload);
    }
    assert_true(taken > 1000);
    gp_vb_cues_reset(&in);
    assert_false(gp_vb_cue_read(&in, 0, 1, &read));
    gp_vb_cues_free(&in);
}

/* A peer may say SYNC in each four bytes of a frame: where nothing was kept
 * since the last one, there is nothing to clear. */
static void
forgotten_once(void **state)
{
    gp_msg msg = push_of(1, 5, 3, 70);
    gp_vb_cues in = {0};

    (void)state;
    gp_vb_cues_reset(&in);
    assert_null(in.kept);
    for (int i = 0; i < 3; i++) {
        assert_true(gp_vb_cues_keep(&in, &msg));
        gp_vb_cues_reset(&in);
        assert_int_equal(in.kept[1].region, 0);
        assert_int_equal(in.kept[1].step, 0);
        in.kept[2].step = 9; /* what a second pass would clear */
        gp_vb_cues_reset(&in);
        assert_int_equal(in.kept[2].step, 9);
    }
    gp_vb_cues_free(&in);
}

/* The layout, which the two ends of a connection must share. */
static void
layout(void **state)
{
    gp_vb_cues out = {0};
    gp_msg msg = push_of(0x105, 20, 9, 400);
    uint32_t cue = 0;

    (void)state;
    assert_true(gp_vb_cues_keep(&out, &msg));
    msg = push_of(0x105, 22, 33, 398);
    assert_true(gp_vb_cue_make(&out, 0xD, &msg, &cue));
    assert_int_equal(cue,
                     0x105u | 33u << 9 | 3u << 21 | 0x3Eu << 23 | 5u << 29);
    msg = result_of(2, 22, 0, 398);
    assert_true(gp_vb_cues_keep(&out, &msg));
    msg = result_of(2, 21, 0x380, 400);
    assert_true(gp_vb_cue_make(&out, 2, &msg, &cue));
    assert_int_equal(cue,
                     2u | 7u << 9 | 3u << 15 | 0u << 21 | 2u << 23 | 2u << 29);
    gp_vb_cues_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_cues),
        cmocka_unit_test(what_does_not_follow),
        cmocka_unit_test(chunks_of_one_shard),
        cmocka_unit_test(limits),
        cmocka_unit_test(random_headers),
        cmocka_unit_test(any_cue),
        cmocka_unit_test(forgotten_once),
        cmocka_unit_test(layout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
