/* SPDX-License-Identifier: Apache-2.0 */
/* test_bytes.c - little-endian access, bounds, memory, hashes, random bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

static void
numbers_are_little_endian(void **state)
{
    uint8_t b[16] = {0};

    (void)state;
    gp_put16(b + 1, 0x0201);
    gp_put32(b + 3, 0x06050403);
    gp_put64(b + 7, 0x0e0d0c0b0a090807);
    for (uint8_t i = 0; i < 15; i++)
        assert_int_equal(b[i], i);
    assert_int_equal(b[15], 0);
    assert_int_equal(gp_get16(b + 1), 0x0201);
    assert_int_equal(gp_get32(b + 3), 0x06050403);
    assert_true(gp_get64(b + 7) == 0x0e0d0c0b0a090807);
    gp_put64(b, UINT64_MAX);
    assert_true(gp_get64(b) == UINT64_MAX);
    assert_true(gp_get32(b + 4) == UINT32_MAX);
    assert_int_equal(gp_get16(b + 6), UINT16_MAX);
}

static void
a_reader_gives_back_what_a_writer_took(void **state)
{
    uint8_t b[64];
    char text[8];
    gp_writer w = {b, sizeof(b), true};
    gp_reader r = {b, sizeof(b), true};

    (void)state;
    gp_write8(&w, 7);
    gp_write16(&w, 0x1234);
    gp_write32(&w, 0x12345678);
    gp_write64(&w, 0x123456789abcdef0);
    gp_write_text(&w, "shard");
    assert_true(w.ok);
    assert_int_equal(w.left, 64 - 1 - 2 - 4 - 8 - 2 - 5);
    assert_int_equal(gp_read8(&r), 7);
    assert_int_equal(gp_read16(&r), 0x1234);
    assert_int_equal(gp_read32(&r), 0x12345678);
    assert_true(gp_read64(&r) == 0x123456789abcdef0);
    gp_read_text(&r, text, sizeof(text));
    assert_string_equal(text, "shard");
    assert_true(r.ok);
    assert_int_equal(r.left, w.left);
}

static void
a_reader_stays_bad_after_the_end(void **state)
{
    const uint8_t b[5] = {1, 2, 3, 4, 5};
    gp_reader r = {b, sizeof(b), true};

    (void)state;
    assert_int_equal(gp_read32(&r), 0x04030201);
    assert_int_equal(gp_read16(&r), 0);
    assert_false(r.ok);
    assert_int_equal(gp_read8(&r), 0); /* there is one byte, but it is late */
    assert_null(gp_read(&r, 0));
    assert_null(gp_read(&r, SIZE_MAX));
}

static void
a_writer_stays_bad_when_full(void **state)
{
    uint8_t b[5] = {0, 0, 0, 0, 0xee};
    gp_writer w = {b, 4, true};

    (void)state;
    gp_write64(&w, 1);
    assert_false(w.ok);
    gp_write8(&w, 1);
    assert_false(w.ok);
    assert_int_equal(b[4], 0xee);
    assert_int_equal(b[0], 0);
}

static void
bad_texts_are_refused(void **state)
{
    static const struct {
        uint8_t bytes[8];
        size_t length, capacity;
    } cases[] = {
        {{4, 0, 'a', 'b', 'c'}, 5, 8}, /* longer than the input */
        {{3, 0, 'a', 'b', 'c'}, 5, 3}, /* no room for the zero */
        {{3, 0, 'a', 0, 'c'}, 5, 8},   /* a zero inside */
        {{0xff, 0xff, 'a'}, 3, 8},     /* the longest length */
        {{1}, 1, 8},                   /* half a length */
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        gp_reader r = {cases[i].bytes, cases[i].length, true};
        char text[8] = "old";

        gp_read_text(&r, text, cases[i].capacity);
        assert_false(r.ok);
        assert_string_equal(text, "");
    }
}

static void
sizes_do_not_wrap(void **state)
{
    size_t out = 0;

    (void)state;
    assert_true(gp_mul(3, 5, &out));
    assert_int_equal(out, 15);
    assert_false(gp_mul(SIZE_MAX / 2, 3, &out));
    assert_true(gp_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(gp_add(SIZE_MAX, 1, &out));
}

static void
aligned_memory_is_aligned(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < 40000; bytes += bytes < 1000 ? 37 : 3001) {
        char *p = gp_alloc_aligned(bytes);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (bytes < 16384 ? 64 : 4096), 0);
        memset(p, 1, bytes);
        free(p);
    }
    assert_null(gp_alloc_aligned(SIZE_MAX));
    assert_null(gp_alloc_aligned(PTRDIFF_MAX));
}

/* Members of a job compare hashes, so they must never change. */
static void
hashes_are_fixed(void **state)
{
    (void)state;
    assert_true(gp_hash("", 0) == 0xefd01f60ba992926);
    assert_true(gp_hash("gradpush", 8) == 0x96c1d4a62c90ea2c);
    assert_true(gp_hash("gradpush", 7) != gp_hash("gradpush", 8));
    assert_true(gp_hash("ab", 2) != gp_hash("ba", 2));
}

static void
random_bytes_differ(void **state)
{
    uint8_t a[64] = {0}, b[64] = {0};

    (void)state;
    assert_int_equal(gp_random(a, sizeof(a)), GP_OK);
    assert_int_equal(gp_random(b, sizeof(b)), GP_OK);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(gp_random(NULL, 0), GP_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(a_reader_gives_back_what_a_writer_took),
        cmocka_unit_test(a_reader_stays_bad_after_the_end),
        cmocka_unit_test(a_writer_stays_bad_when_full),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(aligned_memory_is_aligned),
        cmocka_unit_test(hashes_are_fixed),
        cmocka_unit_test(random_bytes_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
