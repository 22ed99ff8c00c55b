/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_msg.c - the wire form of message headers.
 *
 * tests/golden/msg_*.hex are the bytes that version 1 of the protocol sends.
 * They were not made by this library, and must never change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/bytes.h"

#include <gradpush/worker.h>

#include "wire/proto.h"

#include <stdio.h>
#include <string.h>

static const gp_msg zero;

static const gp_msg fields = {
    .type = 0x11,
    .flags = 0x1213,
    .job = 0x1415161718191a1b,
    .worker = 0x1c1d1e1f,
    .incarnation = 0x20212223,
    .epoch = 0x24252627,
    .chunk = 0x28292a2b,
    .step = 0x2c2d2e2f30313233,
    .pipeline = 0x34353637,
    .dtype = 0x38,
    .slot = 0x393a,
    .elements = 0x3b3c3d3e3f404142,
    .payload = 0x434445464748494a,
    .region = 0x4b4c4d4e,
    .status = 0x4f505152,
    .offset = 0x535455565758595a,
    .cookie = 0x5b5c5d5e5f606162,
    .credits = 0x636465666768696a,
    .aux = 0x6b6c6d6e6f707172,
    .payload_crc = 0x73747576,
};

static const gp_msg limits = {
    .type = UINT8_MAX,
    .flags = UINT16_MAX,
    .job = UINT64_MAX,
    .worker = UINT32_MAX,
    .incarnation = UINT32_MAX,
    .epoch = UINT32_MAX,
    .chunk = UINT32_MAX,
    .step = UINT64_MAX,
    .pipeline = UINT32_MAX,
    .dtype = UINT8_MAX,
    .slot = UINT16_MAX,
    .elements = UINT64_MAX,
    .payload = UINT64_MAX,
    .region = UINT32_MAX,
    .status = INT32_MIN,
    .offset = UINT64_MAX,
    .cookie = UINT64_MAX,
    .credits = UINT64_MAX,
    .aux = UINT64_MAX,
    .payload_crc = UINT32_MAX,
};

static const gp_msg propose = {
    .type = GP_MSG_PROPOSE,
    .dtype = GP_FP32,
    .job = 0x0123456789abcdef,
    .worker = 5,
    .incarnation = 2,
    .epoch = 3,
    .chunk = 6,
    .step = 7,
    .pipeline = 0xfeedbeef,
    .elements = 4096,
    .cookie = 99,
    .aux = 0x40200000, /* 2.5 */
};

static const gp_msg agree = {
    .type = GP_MSG_AGREE,
    .job = 0x0123456789abcdef,
    .worker = 1,
    .incarnation = 2,
    .epoch = 3,
    .chunk = 6,
    .step = 7,
    .cookie = 99,
    .aux = 0xbf400000, /* -0.75 */
};

static const struct {
    const char *path;
    const gp_msg *msg;
} golden[] = {
    {"golden/msg_propose.hex", &propose}, {"golden/msg_agree.hex", &agree},
    {"golden/msg_zero.hex", &zero},       {"golden/msg_fields.hex", &fields},
    {"golden/msg_limits.hex", &limits},
};

/* Lines of bytes in hexadecimal; those that start with # are for people. */
static void
read_hex(const char *path, uint8_t *out, size_t length)
{
    FILE *file = fopen(path, "r");
    char line[256];
    size_t used = 0;

    if (!file)
        fail_msg("cannot open %s; run this in the folder tests", path);
    while (fgets(line, sizeof(line), file)) {
        unsigned byte;
        int n;

        for (char *p = line; *line != '#' && sscanf(p, "%2x%n", &byte, &n) == 1;
             p += n) {
            assert_true(used < length);
            out[used++] = (uint8_t)byte;
        }
    }
    fclose(file);
    assert_int_equal(used, length);
}

static void
assert_same(const gp_msg *a, const gp_msg *b)
{
#define SAME(field) assert_true(a->field == b->field)
    SAME(type);
    SAME(dtype);
    SAME(flags);
    SAME(slot);
    SAME(status);
    SAME(job);
    SAME(worker);
    SAME(incarnation);
    SAME(epoch);
    SAME(chunk);
    SAME(step);
    SAME(pipeline);
    SAME(region);
    SAME(elements);
    SAME(payload);
    SAME(offset);
    SAME(cookie);
    SAME(credits);
    SAME(aux);
    SAME(payload_crc);
#undef SAME
}

static void
golden_bytes_are_written_and_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(golden); i++) {
        uint8_t expected[GP_MSG_BYTES], bytes[GP_MSG_BYTES];
        gp_msg msg;

        read_hex(golden[i].path, expected, sizeof(expected));
        memset(bytes, 0xcc, sizeof(bytes));
        gp_msg_encode(golden[i].msg, bytes);
        assert_memory_equal(bytes, expected, sizeof(bytes));
        memset(&msg, 0xcc, sizeof(msg));
        assert_int_equal(gp_msg_decode(expected, &msg), GP_OK);
        assert_same(&msg, golden[i].msg);
    }
}

/* No alignment is asked for. */
static void
headers_may_lie_anywhere(void **state)
{
    uint8_t bytes[GP_MSG_BYTES + 8];
    gp_msg msg;

    (void)state;
    for (size_t offset = 0; offset < 8; offset++) {
        gp_msg_encode(&fields, bytes + offset);
        assert_int_equal(gp_msg_decode(bytes + offset, &msg), GP_OK);
        assert_same(&msg, &fields);
    }
}

/* Decodes `bytes`, which must be refused with that status and message. */
static void
assert_refused(const uint8_t *bytes, gp_status status, const char *message)
{
    gp_msg msg = limits;

    assert_int_equal(gp_msg_decode(bytes, &msg), status);
    assert_non_null(strstr(gp_last_error(), message));
    assert_same(&msg, &limits); /* untouched */
}

static void
other_protocols_are_told_apart(void **state)
{
    uint8_t bytes[GP_MSG_BYTES] = "GET / HTTP/1.1\r\n";

    (void)state;
    assert_refused(bytes, GP_ERR_PROTOCOL, "47 45 54 20");
    gp_msg_encode(&fields, bytes);
    bytes[4] = 2;
    assert_refused(bytes, GP_ERR_VERSION, "version 2");
}

static void
every_damaged_bit_is_seen(void **state)
{
    uint8_t bytes[GP_MSG_BYTES];
    gp_msg msg;

    (void)state;
    gp_msg_encode(&fields, bytes);
    for (size_t bit = 0; bit < 8 * GP_MSG_BYTES; bit++) {
        gp_status expected = bit < 32   ? GP_ERR_PROTOCOL
                             : bit < 40 ? GP_ERR_VERSION
                                        : GP_ERR_CHECKSUM;

        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(gp_msg_decode(bytes, &msg), expected);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(gp_msg_decode(bytes, &msg), GP_OK);
}

static void
the_reserved_byte_must_be_zero(void **state)
{
    uint8_t bytes[GP_MSG_BYTES];

    (void)state;
    gp_msg_encode(&fields, bytes);
    bytes[45] = 9;
    gp_put32(bytes + 108, gp_crc32c(0, bytes, 108));
    assert_refused(bytes, GP_ERR_PROTOCOL, "is 9, not 0");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_are_written_and_read),
        cmocka_unit_test(headers_may_lie_anywhere),
        cmocka_unit_test(other_protocols_are_told_apart),
        cmocka_unit_test(every_damaged_bit_is_seen),
        cmocka_unit_test(the_reserved_byte_must_be_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
