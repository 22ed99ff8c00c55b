/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_brief.c - brief frames as bytes: what comes back, and that nothing
 * but a whole frame is ever taken from memory that a device writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/bytes.h"
#include "transports/verbs/verbs_brief.h"

/* Number 0x01020304, granted 7, turn 3: type 5, step 9, aux 0x100000000, with a
 * payload of three bytes. */
static const uint8_t golden[] = {
    0x04, 0x3b, 0x00, 0x08, 0x88, 0x09, 0x05, 0x03, 0x46, 0x33,
    0xd6, 0xf3, 0x8f, 0x55, 0x0c, 0x73, 0x00, 0x00, 0x00, 0x00,
    0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x00, 0x00, 0x61, 0x62, 0x63, 0x00, 0x00, 0x00, 0x00, 0x00,
};

/* Words: frames are aligned to 8. */
typedef union room {
    uint64_t words[GP_VB_BRIEF_MAX / 8 + 1];
    uint8_t bytes[GP_VB_BRIEF_MAX + 8];
} room;

static const gp_msg full = {.type = 1,
                            .dtype = 2,
                            .flags = 3,
                            .slot = 4,
                            .status = -5,
                            .job = 0x0600000000000006,
                            .worker = 7,
                            .incarnation = 8,
                            .epoch = 9,
                            .chunk = 10,
                            .step = 0x0b0000000000000b,
                            .pipeline = 12,
                            .region = 13,
                            .elements = 0x0e0000000000000e,
                            .payload = GP_VB_BRIEF_PAYLOAD,
                            .offset = 0x0f0000000000000f,
                            .cookie = 0x1000000000000010,
                            .credits = 0x1100000000000011,
                            .aux = 0x1200000000000012,
                            .payload_crc = 0x13};

static size_t
make_full(room *out, uint32_t number, uint8_t filling)
{
    uint8_t payload[GP_VB_BRIEF_PAYLOAD];

    memset(payload, filling, sizeof(payload));
    memset(out, 0xEE, sizeof(*out));
    return gp_vb_brief_encode(number, 0x12345, 6, &full, payload, out->bytes);
}

static void
golden_bytes(void **state)
{
    gp_msg msg = {.type = 5, .step = 9, .aux = 1ull << 32, .payload = 3};
    room made;

    (void)state;
    memset(&made, 0xEE, sizeof(made));
    assert_int_equal(
        gp_vb_brief_encode(0x01020304, 7, 3, &msg, "abc", made.bytes),
        sizeof(golden));
    for (size_t i = 0; i < sizeof(golden); i++)
        if (made.bytes[i] != golden[i])
            fail_msg("byte %zu is %02x, not %02x", i, made.bytes[i], golden[i]);
}

static void
all_fields_come_back(void **state)
{
    const uint8_t *payload = NULL;
    room made, taken;
    uint64_t first;
    gp_msg msg;
    size_t n = make_full(&made, 77, 0x21);

    (void)state;
    assert_int_equal(n, GP_VB_BRIEF_MAX);
    assert_true(gp_vb_brief_is(made.bytes, n));
    assert_true(gp_vb_brief_here(made.bytes, 77));
    assert_false(gp_vb_brief_here(made.bytes, 78));
    assert_int_equal(gp_vb_brief_take(made.bytes, n, 77, taken.bytes), n);
    first = gp_vb_brief_first(taken.bytes);
    assert_int_equal(gp_vb_brief_granted(first), 0x2345);
    assert_int_equal(gp_vb_brief_turn(first), 6);
    memset(&msg, 0, sizeof(msg));
    assert_true(gp_vb_brief_decode(taken.bytes, &msg, &payload));
    assert_memory_equal(&msg, &full, sizeof(msg));
    assert_true(payload >= taken.bytes &&
                payload + GP_VB_BRIEF_PAYLOAD <= taken.bytes + n);
    for (size_t i = 0; i < GP_VB_BRIEF_PAYLOAD; i++)
        assert_int_equal(payload[i], 0x21);
}

/* Nothing but zero is a message, too. */
static void
the_shortest(void **state)
{
    const uint8_t *payload = NULL;
    gp_msg none, msg;
    room made, taken;

    (void)state;
    memset(&none, 0, sizeof(none));
    memset(&msg, 0xEE, sizeof(msg));
    assert_int_equal(gp_vb_brief_encode(0, 0, 0, &none, NULL, made.bytes), 16);
    assert_int_equal(gp_vb_brief_take(made.bytes, 16, 0, taken.bytes), 16);
    assert_true(gp_vb_brief_decode(taken.bytes, &msg, &payload));
    assert_int_equal(msg.payload, 0);
    assert_int_equal(msg.cookie, 0);
    assert_int_equal(msg.status, 0);
    assert_false(gp_vb_brief_is(made.bytes, 15));
}

/* As take() sees it, which copies. */
static bool
is_whole(const room *made, size_t n, uint32_t number)
{
    uint64_t first = 0;
    bool whole = gp_vb_brief_whole(made->bytes, n, number, &first);

    assert_true(!whole || first == le64toh(made->words[0]));
    return whole;
}

/* A frame arrives word by word, in whatever order, over an older one or over
 * zeros: it is taken when the last word is there. */
static void
only_when_whole(void **state)
{
    room before, after, memory, taken;
    size_t n = make_full(&after, 128, 2), words = n / 8;

    (void)state;
    for (unsigned old = 0; old < 2; old++) {
        memset(&before, 0, sizeof(before));
        if (old)
            (void)make_full(&before, 64, 1);
        for (size_t stride = 1; stride < words; stride += 2) {
            size_t differ = 0, seen = 0;

            if (words % stride == 0 && stride > 1)
                continue;
            memory = before;
            for (size_t i = 0; i < words; i++)
                differ += before.words[i] != after.words[i];
            for (size_t i = 0, at = 0; i < words; i++) {
                seen += memory.words[at] != after.words[at];
                memory.words[at] = after.words[at];
                assert_int_equal(
                    gp_vb_brief_here(memory.bytes, 128) &&
                        gp_vb_brief_take(memory.bytes, n, 128, taken.bytes),
                    seen == differ);
                assert_int_equal(is_whole(&memory, n, 128), seen == differ);
                at = (at + stride) % words;
                while (memory.words[at] == after.words[at] && seen < differ)
                    at = (at + 1) % words;
            }
        }
    }
}

static void
damaged_frames(void **state)
{
    room made, copy, taken;
    size_t n = make_full(&made, 5, 9);

    (void)state;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        copy = made;
        copy.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(gp_vb_brief_take(copy.bytes, n, 5, taken.bytes), 0);
        assert_false(is_whole(&copy, n, 5));
    }
    assert_true(is_whole(&made, n, 5));
    assert_int_equal(gp_vb_brief_take(made.bytes, n - 8, 5, taken.bytes), 0);
    assert_false(is_whole(&made, n - 8, 5));
}

/* The head has only a part of the number; the check is of all of it. */
static void
numbers_of_other_frames(void **state)
{
    static const uint32_t others[] = {6, 5 + 2048, 5 + (1u << 31), 5 - 64u};
    room made, taken;
    size_t n = make_full(&made, 5, 9);

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(others); i++) {
        assert_int_equal(
            gp_vb_brief_take(made.bytes, n, others[i], taken.bytes), 0);
        assert_false(is_whole(&made, n, others[i]));
    }
    assert_true(is_whole(&made, n, 5));
}

/* Says `length` and `words`, and seals it. */
static void
seal(room *frame, uint64_t length, uint64_t words)
{
    size_t n = 16 + (((size_t)length + 7) & ~(size_t)7);
    uint64_t sum = 0;

    gp_put64(frame->bytes, length << 39 | words << 27);
    sum = sum >> 32 | sum << 32; /* of number 0 */
    for (size_t at = 0; at < n; at += 8)
        if (at != 8) {
            sum = (sum ^ gp_get64(frame->bytes + at)) * 0x9e3779b97f4a7c15u;
            sum = sum >> 32 | sum << 32;
        }
    gp_put64(frame->bytes + 8, (sum >> 32 | sum << 32) | 0x80000000u);
}

static void
words_that_are_not_there(void **state)
{
    const uint8_t *payload = NULL;
    room made, taken;
    gp_msg msg;

    (void)state;
    memset(&made, 0, sizeof(made));
    memset(&taken, 0, sizeof(taken));
    seal(&made, 8, 7); /* three words in eight bytes */
    assert_int_equal(gp_vb_brief_take(made.bytes, 64, 0, taken.bytes), 24);
    assert_false(gp_vb_brief_decode(taken.bytes, &msg, &payload));
    seal(&made, 95, 0xFFF); /* the last one is cut off */
    assert_int_equal(gp_vb_brief_take(made.bytes, 128, 0, taken.bytes), 112);
    assert_false(gp_vb_brief_decode(taken.bytes, &msg, &payload));
    seal(&made, 8, 1);
    assert_int_equal(gp_vb_brief_take(made.bytes, 64, 0, taken.bytes), 24);
    assert_true(gp_vb_brief_decode(taken.bytes, &msg, &payload));
}

/* It is read no further than there is room. */
static void
lengths_beyond_the_room(void **state)
{
    room made, taken;

    (void)state;
    memset(&made, 0, sizeof(made));
    seal(&made, 48, 0);
    assert_int_equal(gp_vb_brief_take(made.bytes, 64, 0, taken.bytes), 64);
    assert_int_equal(gp_vb_brief_take(made.bytes, 63, 0, taken.bytes), 0);
    gp_put64(made.bytes, 511ull << 39);
    assert_int_equal(
        gp_vb_brief_take(made.bytes, GP_VB_BRIEF_MAX, 0, taken.bytes), 0);
    assert_false(is_whole(&made, GP_VB_BRIEF_MAX, 0));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(all_fields_come_back),
        cmocka_unit_test(the_shortest),
        cmocka_unit_test(only_when_whole),
        cmocka_unit_test(damaged_frames),
        cmocka_unit_test(numbers_of_other_frames),
        cmocka_unit_test(words_that_are_not_there),
        cmocka_unit_test(lengths_beyond_the_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
