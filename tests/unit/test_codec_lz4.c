/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_lz4.c - the lz4 stage: what it stores, and the bombs it refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"

#ifdef GP_HAVE_LZ4
enum { SIZE = 1000, HEAD = 9 };

static gp_codec_context context;
static const gp_codec_shape no_shape = {0, 0};
static void *instance;

static int
set_up(void **state)
{
    const double values[] = {1};

    (void)state;
    if (gp_codec_lz4.open(values, &no_shape, &instance))
        return 1;
    context.scratch = malloc(gp_codec_lz4.scratch(instance, SIZE));
    return context.scratch ? 0 : 1;
}

static int
tear_down(void **state)
{
    (void)state;
    gp_codec_lz4.close(instance);
    free(context.scratch);
    return 0;
}

static size_t
pack(const uint8_t *source, size_t size, uint8_t *out)
{
    size_t length;

    assert_int_equal(gp_codec_lz4.pack(instance, &context, source, size, out,
                                       gp_codec_lz4.bound(instance, size),
                                       &length),
                     GP_OK);
    assert_true(length <= size + HEAD);
    return length;
}

static gp_status
unpack(const uint8_t *bytes, size_t size, uint8_t *out, size_t capacity)
{
    size_t length = 77;
    gp_status status = gp_codec_lz4.unpack(instance, &context, bytes, size, out,
                                           capacity, &length);

    if (status)
        assert_int_equal(length, 77);
    return status;
}

static void
round_trip(const uint8_t *source, size_t size, int mode)
{
    uint8_t packed[SIZE + HEAD], out[SIZE];
    size_t length = pack(source, size, packed);

    assert_int_equal(packed[0], mode);
    assert_int_equal(gp_get64(packed + 1), size);
    assert_int_equal(unpack(packed, length, out, size), GP_OK);
    assert_memory_equal(out, source, size);
    assert_int_equal(length < size + HEAD, mode == 1);
    if (size)
        assert_int_equal(unpack(packed, length, out, size - 1), GP_ERR_CORRUPT);
}

static void
stores_what_does_not_shrink(void **state)
{
    uint8_t noise[SIZE], zeros[SIZE] = {0};
    uint64_t x = 1;

    (void)state;
    for (size_t i = 0; i < SIZE; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        noise[i] = (uint8_t)(x >> 56);
    }
    for (size_t size = 0; size < 12; size++)
        round_trip(noise, size, 0);
    round_trip(noise, SIZE, 0);
    round_trip(zeros, SIZE, 1);
    round_trip(zeros, 100, 1);
}

static void
bombs_are_refused(void **state)
{
    uint8_t zeros[SIZE] = {0}, packed[SIZE + HEAD], out[SIZE];
    size_t length;

    (void)state;
    length = pack(zeros, SIZE, packed);
    gp_put64(packed + 1, UINT64_MAX);
    assert_int_equal(unpack(packed, length, out, SIZE), GP_ERR_CORRUPT);
    gp_put64(packed + 1, (uint64_t)1 << 32);
    assert_int_equal(unpack(packed, length, out, SIZE), GP_ERR_CORRUPT);
    gp_put64(packed + 1, SIZE - 1);
    assert_int_equal(unpack(packed, length, out, SIZE), GP_ERR_CORRUPT);
}

static void
malformed_heads_are_refused(void **state)
{
    uint8_t zeros[SIZE] = {0}, packed[SIZE + HEAD], out[SIZE];
    size_t length;

    (void)state;
    length = pack(zeros, SIZE, packed);
    for (int mode = 2; mode < 256; mode += 50) {
        packed[0] = (uint8_t)mode;
        assert_int_equal(unpack(packed, length, out, SIZE), GP_ERR_CORRUPT);
    }
    packed[0] = 0; /* stored, and of another length */
    assert_int_equal(unpack(packed, length, out, SIZE), GP_ERR_CORRUPT);
    packed[0] = 1;
    for (size_t size = 0; size < HEAD + 1; size++)
        assert_int_equal(unpack(packed, size, out, SIZE), GP_ERR_CORRUPT);
}

/* 10 literals as an LZ4 block take 11 bytes: must have been stored. */
static void
a_block_that_grew_is_refused(void **state)
{
    uint8_t packed[HEAD + 11] = {1}, out[10];

    (void)state;
    gp_put64(packed + 1, 10);
    packed[HEAD] = 10 << 4;
    assert_int_equal(unpack(packed, sizeof(packed), out, 10), GP_ERR_CORRUPT);
}

static void
a_short_buffer_is_refused(void **state)
{
    uint8_t zeros[SIZE] = {0}, packed[SIZE + HEAD];
    size_t length = 5;

    (void)state;
    assert_int_equal(gp_codec_lz4.pack(instance, &context, zeros, SIZE, packed,
                                       SIZE + HEAD - 1, &length),
                     GP_ERR_TOO_LARGE);
    assert_int_equal(length, 5);
    assert_true(gp_codec_lz4.bound(instance, SIZE_MAX - 4) == SIZE_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_what_does_not_shrink),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(malformed_heads_are_refused),
        cmocka_unit_test(a_block_that_grew_is_refused),
        cmocka_unit_test(a_short_buffer_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
#else
#include <stdio.h>

static void
the_error_says_so(void **state)
{
    gp_pipeline *pipeline;

    (void)state;
    assert_null(gp_codec_find("lz4"));
    assert_int_equal(gp_pipeline_parse("q8+lz4", &pipeline), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "this build has no lz4"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_error_says_so)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
