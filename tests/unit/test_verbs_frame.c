/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_frame.c - frames and records as bytes: golden ones, and what a
 * peer may send instead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef GP_HAVE_VERBS

#include "base/bytes.h"
#include "transports/verbs/verbs_int.h"

/* Number 0x01020304, granted 7, UNEXPOSE of token 0x00100002, then SYNC. */
static const uint8_t golden[] = {
    0x04, 0x03, 0x02, 0x01, 0x07, 0x00, 0x00, 0x00, 0x0c, 0x00,
    0x00, 0x00, 0x73, 0xd7, 0x89, 0xc7, 0x05, 0x00, 0x04, 0x00,
    0x02, 0x00, 0x10, 0x00, 0x06, 0x00, 0x00, 0x00,
};

static size_t
make(uint8_t *out)
{
    uint8_t *records = out + GP_VB_FRAME_HEADER, *at;

    at = gp_vb_record_begin(records, GP_VB_RECORD_UNEXPOSE, 0, 4);
    gp_put32(at, 0x00100002);
    at = gp_vb_record_begin(at + 4, GP_VB_RECORD_SYNC, 0, 0);
    gp_vb_frame_encode(0x01020304, 7, (size_t)(at - records), out);
    return (size_t)(at - out);
}

static void
golden_bytes(void **state)
{
    uint8_t made[64];

    (void)state;
    assert_int_equal(make(made), sizeof(golden));
    for (size_t i = 0; i < sizeof(golden); i++)
        if (made[i] != golden[i])
            fail_msg("byte %zu is %02x, not %02x", i, made[i], golden[i]);
}

static void
records_come_back(void **state)
{
    gp_vb_frame f;
    gp_vb_piece r;
    size_t at = 0;

    (void)state;
    assert_int_equal(gp_vb_frame_decode(golden, sizeof(golden), &f), GP_OK);
    assert_int_equal(f.number, 0x01020304);
    assert_int_equal(f.granted, 7);
    assert_int_equal(f.bytes, 12);
    assert_true(gp_vb_record_next(f.records, f.bytes, &at, &r));
    assert_int_equal(r.kind, GP_VB_RECORD_UNEXPOSE);
    assert_int_equal(r.length, 4);
    assert_int_equal(gp_get32(r.bytes), 0x00100002);
    assert_true(gp_vb_record_next(f.records, f.bytes, &at, &r));
    assert_int_equal(r.kind, GP_VB_RECORD_SYNC);
    assert_int_equal(r.length, 0);
    assert_int_equal(at, f.bytes);
    assert_false(gp_vb_record_next(f.records, f.bytes, &at, &r));
}

static void
empty_frame(void **state)
{
    uint8_t bytes[GP_VB_FRAME_HEADER];
    gp_vb_frame f;

    (void)state;
    gp_vb_frame_encode(0, UINT32_MAX, 0, bytes);
    assert_int_equal(gp_vb_frame_decode(bytes, sizeof(bytes), &f), GP_OK);
    assert_int_equal(f.bytes, 0);
    assert_int_equal(f.granted, UINT32_MAX);
}

/* The frame's length, or that of one of its two records. */
static bool
is_length(size_t at)
{
    return at / 4 == 2 || at / 2 == 9 || at / 2 == 13;
}

/* What messages carry has checksums of its own. */
static void
messages_are_left_out(void **state)
{
    uint8_t bytes[GP_VB_FRAME_HEADER + 3 * (GP_VB_RECORD_HEADER + 8)];
    gp_vb_frame f;

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    for (uint8_t i = 0; i < 3; i++)
        (void)gp_vb_record_begin(bytes + GP_VB_FRAME_HEADER +
                                     i * (GP_VB_RECORD_HEADER + 8u),
                                 (gp_vb_record)(GP_VB_RECORD_DATA + i), 0, 8);
    gp_vb_frame_encode(1, 1, sizeof(bytes) - GP_VB_FRAME_HEADER, bytes);
    for (size_t i = GP_VB_FRAME_HEADER; i < sizeof(bytes); i++) {
        bool head = (i - GP_VB_FRAME_HEADER) % (GP_VB_RECORD_HEADER + 8) <
                    GP_VB_RECORD_HEADER;

        bytes[i] ^= 0x40;
        assert_int_equal(gp_vb_frame_decode(bytes, sizeof(bytes), &f) != GP_OK,
                         head);
        bytes[i] ^= 0x40;
    }
}

/* Every bit counts; memory of exactly that length lets a checker see a read
 * beyond. */
static void
damaged_frames(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(golden); bit++) {
        uint8_t *copy = malloc(sizeof(golden));
        gp_vb_frame f;
        gp_status status;

        assert_non_null(copy);
        memcpy(copy, golden, sizeof(golden));
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        status = gp_vb_frame_decode(copy, sizeof(golden), &f);
        assert_true(status == GP_ERR_CHECKSUM ||
                    (status == GP_ERR_PROTOCOL && is_length(bit / 8)));
        free(copy);
    }
}

static void
other_lengths(void **state)
{
    (void)state;
    for (size_t length = 0; length < 2 * sizeof(golden); length++) {
        uint8_t *copy = calloc(1, length + 1);
        gp_vb_frame f;

        assert_non_null(copy);
        memcpy(copy, golden, GP_MIN(length, sizeof(golden)));
        assert_int_equal(gp_vb_frame_decode(copy, length, &f),
                         length == sizeof(golden) ? GP_OK : GP_ERR_PROTOCOL);
        free(copy);
    }
}

/* A record that ends beyond its frame, by every length it may claim. */
static void
records_beyond_the_end(void **state)
{
    uint8_t bytes[12] = {GP_VB_RECORD_VALUE};

    (void)state;
    for (uint32_t claimed = 0; claimed <= UINT16_MAX; claimed++) {
        gp_vb_piece r;
        size_t at = 2;

        gp_put16(bytes + 4, (uint16_t)claimed);
        assert_int_equal(gp_vb_record_next(bytes, sizeof(bytes), &at, &r),
                         claimed <= 6);
        assert_int_equal(at, claimed <= 6 ? 6 + claimed : 2);
    }
    for (size_t at = 9; at <= sizeof(bytes); at++) {
        gp_vb_piece r;
        size_t end = at;

        assert_false(gp_vb_record_next(bytes, sizeof(bytes), &end, &r));
        assert_int_equal(end, at);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(empty_frame),
        cmocka_unit_test(damaged_frames),
        cmocka_unit_test(messages_are_left_out),
        cmocka_unit_test(other_lengths),
        cmocka_unit_test(records_beyond_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int
main(void)
{
    puts("skipped: this build has no verbs");
    return 77;
}

#endif
