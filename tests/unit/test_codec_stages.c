/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_stages.c - byte stages: shuffles by their definition, what ans and
 * zstd refuse, and the one line about a stage that never shrinks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <gradpush/config.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "tests/unit/numbers.h"

enum { SIZE = 200000, HEAD = 9 };

static uint8_t source[SIZE], packed[SIZE + HEAD], out[SIZE];

typedef struct stage {
    const gp_codec_ops *ops;
    void *instance;
    gp_codec_context context;
} stage;

static stage
open_stage(const gp_codec_ops *ops, double value)
{
    static const gp_codec_shape no_shape = {0, 0};
    stage s = {.ops = ops};

    assert_int_equal(ops->open(&value, &no_shape, &s.instance), GP_OK);
    if (ops->scratch) {
        s.context.scratch = gp_alloc_aligned(ops->scratch(s.instance, SIZE));
        assert_non_null(s.context.scratch);
    }
    return s;
}

static void
close_stage(stage *s)
{
    s->ops->close(s->instance);
    free(s->context.scratch);
}

static size_t
pack(const stage *s, size_t size)
{
    size_t length = 0;

    assert_int_equal(s->ops->pack(s->instance, &s->context, source, size,
                                  packed, s->ops->bound(s->instance, size),
                                  &length),
                     GP_OK);
    return length;
}

static gp_status
unpack(const stage *s, size_t length, size_t capacity)
{
    size_t size = 0;
    gp_status status = s->ops->unpack(s->instance, &s->context, packed, length,
                                      out, capacity, &size);

    return status == GP_OK && size != capacity ? GP_ERR_CORRUPT : status;
}

static void
fill_random(size_t size)
{
    for (size_t i = 0; i < size; i++)
        source[i] = (uint8_t)number_bits(i);
}

/* ---- shuffles ---------------------------------------------------------- */

static void
check_shuffle(size_t width, size_t size)
{
    stage s = open_stage(&gp_codec_shuffle, (double)width);
    size_t n = size / width;

    assert_int_equal(pack(&s, size), size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(packed[i], i < n * width
                                        ? source[i % n * width + i / n]
                                        : source[i]);
    assert_int_equal(unpack(&s, size, size), GP_OK);
    assert_memory_equal(source, out, size);
    if (size)
        assert_int_equal(unpack(&s, size, size - 1), GP_ERR_CORRUPT);
    close_stage(&s);
}

static unsigned
bit_of(const uint8_t *bytes, size_t bit)
{
    return bytes[bit / 8] >> bit % 8 & 1;
}

static void
check_bitshuffle(size_t width, size_t size)
{
    stage s = open_stage(&gp_codec_bitshuffle, (double)width);
    size_t n = size / width / 8 * 8;

    assert_int_equal(pack(&s, size), size);
    for (size_t plane = 0; plane < 8 * width; plane++)
        for (size_t e = 0; e < n; e++)
            assert_int_equal(bit_of(packed, plane * n + e),
                             bit_of(source, 8 * width * e + plane));
    assert_memory_equal(packed + n * width, source + n * width,
                        size - n * width);
    assert_int_equal(unpack(&s, size, size), GP_OK);
    assert_memory_equal(source, out, size);
    close_stage(&s);
}

static void
shuffles_follow_their_definition(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 63, 64, 255, 256, 1000, 5003};
    gp_simd before = gp_simd_get();

    (void)state;
    fill_random(SIZE);
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t width = 2; width <= 16; width += width < 5 ? 1 : 3)
            for (size_t i = 0; i < GP_COUNT_OF(sizes); i++) {
                check_shuffle(width, sizes[i]);
                check_bitshuffle(width, sizes[i]);
            }
    }
    gp_simd_set(before);
}

/* ---- ans --------------------------------------------------------------- */

static void
ans_codes_blocks_apart(void **state)
{
    stage s = open_stage(&gp_codec_ans, 0);
    size_t length;

    (void)state;
    fill_random(SIZE);
    memset(source, 7, 65536); /* a lonely byte */
    for (size_t i = 131072; i < SIZE; i++)
        source[i] &= 3; /* two bits of eight */
    length = pack(&s, SIZE);
    assert_int_equal(packed[HEAD], 1);
    assert_true(gp_get32(packed + HEAD + 1) < 300);
    assert_int_equal(packed[HEAD + 5 + gp_get32(packed + HEAD + 1)], 0);
    assert_true(length < 65536 + 65536 / 4 + 3000);
    assert_int_equal(unpack(&s, length, SIZE), GP_OK);
    assert_memory_equal(source, out, SIZE);
    assert_int_equal(unpack(&s, length - 1, SIZE), GP_ERR_CORRUPT);
    assert_int_equal(unpack(&s, length, SIZE - 1), GP_ERR_CORRUPT);
    close_stage(&s);
}

static void
ans_refuses_other_tables(void **state)
{
    stage s = open_stage(&gp_codec_ans, 0);
    size_t length, table = HEAD + 5;

    (void)state;
    memset(source, 0, 1000);
    for (size_t i = 0; i < 1000; i += 3)
        source[i] = 1;
    length = pack(&s, 1000);
    assert_int_equal(packed[0], 1);
    for (size_t i = table; i < table + 32 + 4; i++)
        for (int bit = 0; bit < 8; bit++) {
            packed[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(unpack(&s, length, 1000), GP_ERR_CORRUPT);
            packed[i] ^= (uint8_t)(1 << bit);
        }
    packed[HEAD] = 2; /* kind */
    assert_int_equal(unpack(&s, length, 1000), GP_ERR_CORRUPT);
    close_stage(&s);
}

/* ---- zstd -------------------------------------------------------------- */

#ifdef GP_HAVE_ZSTD
static void
zstd_refuses_bombs_and_more(void **state)
{
    static const double levels[] = {-7, 1, 9};

    (void)state;
    memset(source, 0, SIZE);
    for (size_t i = 0; i < GP_COUNT_OF(levels); i++) {
        stage s = open_stage(&gp_codec_zstd, levels[i]);
        size_t length = pack(&s, SIZE);

        assert_int_equal(packed[0], 1);
        assert_true(length < 100);
        assert_int_equal(unpack(&s, length, SIZE), GP_OK);
        assert_memory_equal(source, out, SIZE);
        assert_int_equal(unpack(&s, length, SIZE - 1), GP_ERR_CORRUPT);
        gp_put64(packed + 1, SIZE - 1);
        assert_int_equal(unpack(&s, length, SIZE - 1), GP_ERR_CORRUPT);
        gp_put64(packed + 1, SIZE);
        packed[length] = 0;
        assert_int_equal(unpack(&s, length + 1, SIZE), GP_ERR_CORRUPT);
        /* An empty skippable frame behind it. */
        gp_put32(packed + length, 0x184d2a50);
        gp_put32(packed + length + 4, 0);
        assert_int_equal(unpack(&s, length + 8, SIZE), GP_ERR_CORRUPT);
        close_stage(&s);
    }
}
#else
static void
zstd_says_that_it_is_absent(void **state)
{
    gp_pipeline *pipeline;

    (void)state;
    assert_null(gp_codec_find("zstd"));
    assert_int_equal(gp_pipeline_parse("q8+zstd", &pipeline), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "this build has no zstd"));
}
#endif

/* ---- the log ----------------------------------------------------------- */

static int lines;

static void
count_line(void *user, gp_log_level level, const char *line)
{
    (void)user;
    lines += level == GP_LOG_WARN && strstr(line, "shrank none") != NULL;
}

static void
what_never_shrinks_is_told_once(void **state)
{
    stage s = open_stage(&gp_codec_ans, 0);

    (void)state;
    lines = 0;
    gp_log_set_level(GP_LOG_WARN);
    gp_log_set_callback(count_line, NULL);
    fill_random(4096);
    for (int i = 0; i < 100; i++)
        pack(&s, 4095); /* too short to tell */
    for (int i = 0; i < 15; i++)
        pack(&s, 4096);
    assert_int_equal(lines, 0);
    for (int i = 0; i < 100; i++)
        pack(&s, 4096);
    assert_int_equal(lines, 1);
    close_stage(&s);
    gp_log_set_callback(NULL, NULL);
}

static void
what_shrinks_once_is_not_told(void **state)
{
    stage s = open_stage(&gp_codec_ans, 0);

    (void)state;
    lines = 0;
    gp_log_set_callback(count_line, NULL);
    memset(source, 0, 4096);
    pack(&s, 4096);
    fill_random(4096);
    for (int i = 0; i < 100; i++)
        pack(&s, 4096);
    assert_int_equal(lines, 0);
    close_stage(&s);
    gp_log_set_callback(NULL, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffles_follow_their_definition),
        cmocka_unit_test(ans_codes_blocks_apart),
        cmocka_unit_test(ans_refuses_other_tables),
#ifdef GP_HAVE_ZSTD
        cmocka_unit_test(zstd_refuses_bombs_and_more),
#else
        cmocka_unit_test(zstd_says_that_it_is_absent),
#endif
        cmocka_unit_test(what_never_shrinks_is_told_once),
        cmocka_unit_test(what_shrinks_once_is_not_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
