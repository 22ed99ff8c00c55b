/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tcp_parser.c - the receiving state machine, fed byte by byte, in pieces
 * of every kind, and with what it must refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/tcp/tcp_int.h"

#define REGION_BYTES 300000u

typedef struct fixture {
    gp_tcp_rx rx;
    gp_regions regions;
    gp_mem mem;
    uint8_t memory[REGION_BYTES];
    uint32_t token;
    gp_event event;
} fixture;

static fixture *
begin(void)
{
    fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->mem = (gp_mem){f->memory, REGION_BYTES};
    assert_int_equal(
        gp_regions_expose(&f->regions, &f->mem, 0, REGION_BYTES, 0, &f->token),
        GP_OK);
    f->rx.regions = &f->regions;
    f->rx.control_limit = GP_CONTROL_MAX_UNTRUSTED;
    f->rx.check = true;
    return f;
}

static void
end(fixture *f)
{
    gp_tcp_rx_free(&f->rx);
    gp_regions_free(&f->regions);
    free(f);
}

/* Appends header and payload; returns the length. */
static size_t
encode(uint8_t *out, gp_msg msg, const uint8_t *payload)
{
    msg.flags |= GP_MSG_PAYLOAD_CRC;
    msg.payload_crc = gp_crc32c(0, payload, (size_t)msg.payload);
    gp_msg_encode(&msg, out);
    if (msg.payload)
        memcpy(out + GP_MSG_BYTES, payload, (size_t)msg.payload);
    return GP_MSG_BYTES + (size_t)msg.payload;
}

/* Puts at most `length` bytes where the parser wants them; returns how many. */
static size_t
put(gp_tcp_rx *rx, const uint8_t *bytes, size_t length)
{
    struct iovec iov[2];
    int pieces = gp_tcp_rx_space(rx, iov);
    size_t done = 0;

    assert_true(pieces >= 0);
    for (int i = 0; i < pieces && done < length; i++) {
        size_t n = GP_MIN(iov[i].iov_len, length - done);

        memcpy(iov[i].iov_base, bytes + done, n);
        done += n;
    }
    gp_tcp_rx_fill(rx, done);
    return done;
}

static int
feed(fixture *f, const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    int result = 0;

    while (at < length && !result) {
        at += put(&f->rx, bytes + at, length - at);
        result = gp_tcp_rx_next(&f->rx, &f->event);
    }
    return result;
}

static void
stream_in_pieces_of(size_t piece)
{
    enum { COUNT = 40 };
    fixture *f = begin();
    uint8_t *wire = malloc(COUNT * (GP_MSG_BYTES + 5000));
    uint8_t payload[5000];
    size_t length = 0, at = 0, seen = 0;

    assert_non_null(wire);
    for (size_t i = 0; i < COUNT; i++) {
        gp_msg msg = {.type = 1, .aux = i, .payload = i * 97 % 4096};

        if (i % 2) {
            msg.region = f->token;
            msg.offset = i * 5000;
            msg.payload = i * 123 % 5000;
        }
        memset(payload, (int)i + 1, sizeof(payload));
        length += encode(wire + length, msg, payload);
    }
    while (at < length) {
        int result;

        gp_tcp_rx_renew(&f->rx);
        at += put(&f->rx, wire + at, GP_MIN(piece, length - at));
        while ((result = gp_tcp_rx_next(&f->rx, &f->event)) > 0) {
            const uint8_t *p = f->event.payload;

            assert_true(f->event.msg.aux == seen++);
            for (size_t k = 0; k < f->event.msg.payload; k++)
                assert_int_equal(p[k], seen);
        }
        assert_int_equal(result, 0);
    }
    assert_int_equal(seen, COUNT);
    assert_true(gp_tcp_rx_at_boundary(&f->rx));
    free(wire);
    end(f);
}

static void
any_fragmentation(void **state)
{
    static const size_t pieces[] = {1,   2,   7,    111,  112,   113,
                                    200, 999, 4208, 8192, 65536, 1u << 20};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(pieces); i++)
        stream_in_pieces_of(pieces[i]);
}

static void
large_payload_goes_straight_to_its_place(void **state)
{
    fixture *f = begin();
    uint8_t header[GP_MSG_BYTES];
    gp_msg msg = {.type = 2, .payload = 250000, .offset = 1000};
    struct iovec iov[2];

    (void)state;
    msg.region = f->token;
    gp_msg_encode(&msg, header);
    assert_int_equal(feed(f, header, sizeof(header)), 0);
    assert_int_equal(gp_tcp_rx_space(&f->rx, iov), 2);
    assert_ptr_equal(iov[0].iov_base, f->memory + 1000);
    assert_true(iov[0].iov_len == 250000);
    /* The next header may come in the same call. */
    assert_true(iov[1].iov_len >= GP_MSG_BYTES);
    end(f);
}

static void
held_events_are_not_overwritten(void **state)
{
    fixture *f = begin();
    uint8_t wire[GP_MSG_BYTES + 4000], payload[4000];
    gp_msg msg = {.type = 1, .payload = sizeof(payload)};
    const uint8_t *first = NULL;
    size_t total = 0, n;

    (void)state;
    memset(payload, 0x42, sizeof(payload));
    encode(wire, msg, payload);
    do {
        size_t at = 0;

        while (at < sizeof(wire) &&
               (n = put(&f->rx, wire + at, sizeof(wire) - at)) > 0)
            at += n;
        if (gp_tcp_rx_next(&f->rx, &f->event) == 1 && !first)
            first = f->event.payload;
        total += at;
        if (at < sizeof(wire))
            break;
        memset(wire + GP_MSG_BYTES, 0x42, sizeof(payload));
    } while (total < 10 * GP_TCP_STAGE);
    /* The stage was full before it would have wrapped around. */
    assert_true(total <= GP_TCP_STAGE);
    assert_non_null(first);
    for (size_t i = 0; i < sizeof(payload); i++)
        assert_int_equal(first[i], 0x42);
    gp_tcp_rx_renew(&f->rx);
    assert_true(put(&f->rx, wire, 1) == 1);
    end(f);
}

static void
revoked_half_way(void **state)
{
    fixture *f = begin();
    uint8_t *wire = malloc(GP_MSG_BYTES + 200000), *payload = malloc(200000);
    gp_msg msg = {.type = 2, .payload = 200000}, note = {.type = 1, .aux = 9};
    uint8_t tail[GP_MSG_BYTES];

    (void)state;
    assert_true(wire && payload);
    memset(payload, 7, 200000);
    msg.region = f->token;
    encode(wire, msg, payload);
    assert_int_equal(feed(f, wire, 100000), 0);
    assert_int_equal(f->memory[99000], 7);
    gp_regions_withdraw(&f->regions, f->token);
    gp_tcp_rx_revoke(&f->rx, f->token);
    memset(f->memory, 1, sizeof(f->memory));
    assert_int_equal(feed(f, wire + 100000, GP_MSG_BYTES + 100000), 0);
    for (size_t i = 0; i < sizeof(f->memory); i++)
        assert_int_equal(f->memory[i], 1);
    assert_true(gp_tcp_rx_at_boundary(&f->rx));
    gp_msg_encode(&note, tail);
    assert_int_equal(feed(f, tail, sizeof(tail)), 1);
    assert_true(f->event.msg.aux == 9);
    free(wire);
    free(payload);
    end(f);
}

static void
expect_refusal(const gp_msg *msg, gp_status status)
{
    fixture *f = begin();
    uint8_t wire[GP_MSG_BYTES + 64] = {0};
    gp_msg m = *msg;

    if (m.region == 1)
        m.region = f->token;
    gp_msg_encode(&m, wire);
    assert_int_equal(feed(f, wire, sizeof(wire)), status);
    assert_non_null(f->rx.why);
    for (size_t i = 0; i < sizeof(f->memory); i++)
        assert_int_equal(f->memory[i], 0);
    end(f);
}

static void
lengths_from_outside(void **state)
{
    static const uint64_t lengths[] = {GP_CONTROL_MAX_UNTRUSTED + 1,
                                       UINT64_C(1) << 32, UINT64_C(1) << 63,
                                       UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(lengths); i++) {
        gp_msg control = {.type = 1, .payload = lengths[i]};
        gp_msg data = {.type = 2,
                       .region = 1,
                       .payload = GP_MAX(lengths[i], REGION_BYTES + 1)};
        gp_msg wrap = {.type = 2,
                       .region = 1,
                       .payload = 64,
                       .offset = UINT64_MAX - lengths[i] % 63};

        expect_refusal(&control, GP_ERR_PROTOCOL);
        expect_refusal(&data, GP_ERR_PROTOCOL);
        expect_refusal(&wrap, GP_ERR_PROTOCOL);
    }
}

static void
damage_is_noticed(void **state)
{
    uint8_t wire[GP_MSG_BYTES + 100], payload[100] = {3};
    gp_msg msg = {.type = 1, .payload = sizeof(payload)};

    (void)state;
    for (size_t i = 0; i < sizeof(wire); i += 3) {
        fixture *f = begin();

        encode(wire, msg, payload);
        wire[i] ^= 0x10;
        assert_true(feed(f, wire, sizeof(wire)) < 0);
        end(f);
    }
    for (size_t i = GP_MSG_BYTES; i < sizeof(wire); i += 9) {
        fixture *f = begin();
        gp_msg data = msg;

        data.region = f->token;
        encode(wire, data, payload);
        wire[i] ^= 1;
        assert_int_equal(feed(f, wire, sizeof(wire)), GP_ERR_CHECKSUM);
        end(f);
    }
}

static void
tokens_are_never_reused(void **state)
{
    gp_regions r = {0};
    uint8_t bytes[64];
    gp_mem mem = {bytes, sizeof(bytes)};
    uint32_t token = 0, last = 0;
    uint8_t *to = bytes;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(gp_regions_expose(&r, &mem, 0, 64, 0, &token), GP_OK);
        assert_int_not_equal(token, 0);
        assert_int_not_equal(token, last);
        if (last) {
            assert_int_equal(gp_regions_find(&r, last, 0, 1, &to, NULL), GP_OK);
            assert_null(to);
        }
        gp_regions_withdraw(&r, token);
        gp_regions_withdraw(&r, token);
        last = token;
    }
    /* Even a withdrawn token does not make us discard without end. */
    assert_int_equal(gp_regions_find(&r, last, 0, 65, &to, NULL),
                     GP_ERR_PROTOCOL);
    gp_regions_free(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_fragmentation),
        cmocka_unit_test(large_payload_goes_straight_to_its_place),
        cmocka_unit_test(held_events_are_not_overwritten),
        cmocka_unit_test(revoked_half_way),
        cmocka_unit_test(lengths_from_outside),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(tokens_are_never_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
