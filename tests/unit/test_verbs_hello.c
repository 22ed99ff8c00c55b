/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_hello.c - the private data of a connection: its bytes, and what is
 * not taken for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/token.h"
#include "hex_file.h"
#include "transports/verbs/verbs_int.h"

#define TOKEN "5e2f1c0a9b8d7e6f"

static const gp_vb_hello sample = {.version = GP_PROTOCOL_VERSION,
                                   .flags =
                                       GP_VB_HELLO_IMM | GP_VB_HELLO_RESUME,
                                   .lane = 2,
                                   .lanes = 4,
                                   .group = 0x1122334455667788,
                                   .epoch = 3,
                                   .next_frame = 0xA0B0C0D0,
                                   .frames = 64,
                                   .frame_bytes = 2048,
                                   .ring_address = 0x7F00112233440000,
                                   .ring_key = 0x00010203};

static bool
can_prove(void)
{
    uint8_t out[GP_TOKEN_PROOF];

    return gp_token_hmac("k", 1, "d", 1, out) == GP_OK;
}

static void
assert_same(const gp_vb_hello *a, const gp_vb_hello *b)
{
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->lane, b->lane);
    assert_int_equal(a->lanes, b->lanes);
    assert_true(a->group == b->group);
    assert_int_equal(a->epoch, b->epoch);
    assert_true(a->next_frame == b->next_frame);
    assert_int_equal(a->frames, b->frames);
    assert_int_equal(a->frame_bytes, b->frame_bytes);
    assert_true(a->ring_address == b->ring_address);
    assert_int_equal(a->ring_key, b->ring_key);
}

static void
golden_bytes(void **state)
{
    uint8_t want[GP_VB_HELLO_BYTES], got[GP_VB_HELLO_BYTES];
    gp_vb_hello hello;

    (void)state;
    if (!can_prove())
        skip();
    assert_int_equal(
        read_hex_file("golden/verbs_hello.hex", want, sizeof(want)),
        sizeof(want));
    gp_vb_hello_encode(&sample, TOKEN, got);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(gp_vb_hello_decode(want, sizeof(want), TOKEN, &hello),
                     GP_OK);
    assert_same(&hello, &sample);
}

/* rdma_cm gives more bytes than were sent, and does not align them. */
static void
padded_and_unaligned(void **state)
{
    uint8_t bytes[1 + 196] = {0};
    gp_vb_hello hello;

    (void)state;
    gp_vb_hello_encode(&sample, "", bytes + 1);
    assert_int_equal(gp_vb_hello_decode(bytes + 1, 196, "", &hello), GP_OK);
    assert_same(&hello, &sample);
}

static void
every_length(void **state)
{
    uint8_t bytes[GP_VB_HELLO_BYTES];
    gp_vb_hello hello = {.group = 7};

    (void)state;
    gp_vb_hello_encode(&sample, "", bytes);
    for (size_t i = 0; i < sizeof(bytes); i++)
        assert_int_equal(gp_vb_hello_decode(bytes, i, "", &hello),
                         GP_ERR_PROTOCOL);
    assert_int_equal(gp_vb_hello_decode(NULL, 0, "", &hello), GP_ERR_PROTOCOL);
    assert_true(hello.group == 7);
}

/* Every bit counts: none can change under a token. */
static void
every_bit_is_proven(void **state)
{
    uint8_t bytes[GP_VB_HELLO_BYTES];
    gp_vb_hello hello;

    (void)state;
    if (!can_prove())
        skip();
    for (size_t i = 0; i < 8 * sizeof(bytes); i++) {
        gp_vb_hello_encode(&sample, TOKEN, bytes);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_not_equal(
            gp_vb_hello_decode(bytes, sizeof(bytes), TOKEN, &hello), GP_OK);
    }
}

static void
tokens_must_agree(void **state)
{
    static const char *const tokens[] = {"", TOKEN, "another"};
    uint8_t bytes[GP_VB_HELLO_BYTES];
    gp_vb_hello hello;

    (void)state;
    if (!can_prove())
        skip();
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++) {
            gp_vb_hello_encode(&sample, tokens[i], bytes);
            assert_int_equal(
                gp_vb_hello_decode(bytes, sizeof(bytes), tokens[k], &hello),
                i == k ? GP_OK : GP_ERR_AUTH);
        }
}

static void
set_and_expect(size_t at, uint8_t value, gp_status status)
{
    uint8_t bytes[GP_VB_HELLO_BYTES];
    gp_vb_hello hello = {0};

    gp_vb_hello_encode(&sample, "", bytes);
    bytes[at] = value;
    assert_int_equal(gp_vb_hello_decode(bytes, sizeof(bytes), "", &hello),
                     status);
    if (status == GP_ERR_VERSION)
        assert_int_equal(hello.version, gp_get16(bytes + 4));
}

static void
what_makes_no_sense(void **state)
{
    (void)state;
    set_and_expect(0, 'X', GP_ERR_PROTOCOL);
    set_and_expect(4, 2, GP_ERR_VERSION);
    set_and_expect(5, 1, GP_ERR_VERSION);
    set_and_expect(6, 0x10, GP_ERR_PROTOCOL);
    set_and_expect(6, 0x80, GP_ERR_PROTOCOL); /* an unknown flag */
    set_and_expect(7, 4, GP_ERR_PROTOCOL);    /* lane 4 of 4 */
    set_and_expect(26, 0, GP_ERR_PROTOCOL);
    set_and_expect(26, 17, GP_ERR_PROTOCOL);
    set_and_expect(27, 1, GP_ERR_PROTOCOL);
    set_and_expect(44, 1, GP_ERR_PROTOCOL);
    set_and_expect(48, 1, GP_ERR_AUTH); /* a proof where there is no token */
}

static void
rejects(void **state)
{
    uint8_t bytes[148] = {0};
    uint16_t version = 0;

    (void)state;
    for (int r = GP_VB_REJECT_VERSION; r <= GP_VB_REJECT_BUSY; r++) {
        gp_vb_reject_encode((gp_vb_reject)r, bytes);
        assert_int_equal(gp_vb_reject_decode(bytes, sizeof(bytes), &version),
                         r);
        assert_int_equal(version, GP_PROTOCOL_VERSION);
    }
    assert_int_equal(gp_vb_reject_decode(bytes, 7, NULL), 0);
    assert_int_equal(gp_vb_reject_decode(NULL, 0, NULL), 0);
    bytes[3] = 'B';
    assert_int_equal(gp_vb_reject_decode(bytes, sizeof(bytes), NULL), 0);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(padded_and_unaligned),
        cmocka_unit_test(every_length),
        cmocka_unit_test(every_bit_is_proven),
        cmocka_unit_test(tokens_must_agree),
        cmocka_unit_test(what_makes_no_sense),
        cmocka_unit_test(rejects),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
