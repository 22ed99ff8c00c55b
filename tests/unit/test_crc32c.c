/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crc32c.c - every kernel against the definition of CRC32C.
 *
 * A kernel that this machine cannot run is named and left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/crc32c.h"

#include <gradpush/transport.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BIG (256u * 1024 + 77)

/* One bit at a time, as the polynomial is written. */
static uint32_t
reference(uint32_t state, const uint8_t *data, size_t length)
{
    for (; length; data++, length--) {
        state ^= *data;
        for (int i = 0; i < 8; i++)
            state = state >> 1 ^ (state & 1 ? 0x82f63b78u : 0);
    }
    return state;
}

static uint8_t *
noise(size_t length)
{
    uint8_t *data = malloc(length);
    uint32_t x = 12345;

    assert_non_null(data);
    for (size_t i = 0; i < length; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
    return data;
}

static const gp_crc32c_choice *
next_choice(size_t *index)
{
    while (*index < gp_crc32c_choice_count) {
        const gp_crc32c_choice *choice = &gp_crc32c_choices[(*index)++];

        if (choice->supported())
            return choice;
        print_message("skipped: this machine has no %s\n", choice->name);
    }
    return NULL;
}

static void *
hash_noise(void *user)
{
    return (void *)(uintptr_t)gp_crc32c(0, user, 1000);
}

/* Must run first: the choice of the kernel happens at the first call. */
static void
first_calls_may_come_together(void **state)
{
    pthread_t threads[8];
    uint8_t *data = noise(1000);
    uint32_t expected = ~reference(UINT32_MAX, data, 1000);

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hash_noise, data),
                         0);
    for (size_t i = 0; i < GP_COUNT_OF(threads); i++) {
        void *got;

        assert_int_equal(pthread_join(threads[i], &got), 0);
        assert_int_equal((uint32_t)(uintptr_t)got, expected);
    }
    free(data);
}

/* RFC 3720, appendix B.4, and the usual check value. */
static void
standard_vectors(void **state)
{
    uint8_t b[32];

    (void)state;
    assert_int_equal(gp_crc32c(0, "", 0), 0);
    assert_int_equal(gp_crc32c(0, NULL, 0), 0);
    assert_int_equal(gp_crc32c(0, "123456789", 9), 0xe3069283);
    memset(b, 0, sizeof(b));
    assert_int_equal(gp_crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, sizeof(b));
    assert_int_equal(gp_crc32c(0, b, 32), 0x62a8ab43);
    for (size_t i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(gp_crc32c(0, b, 32), 0x46dd794e);
    for (size_t i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(gp_crc32c(0, b, 32), 0x113fdb5c);
}

static void
kernels_agree_at_short_lengths_and_any_offset(void **state)
{
    uint8_t *data = noise(512);
    const gp_crc32c_choice *choice;
    size_t index = 0;

    (void)state;
    while ((choice = next_choice(&index)))
        for (size_t offset = 0; offset < 65; offset += offset < 17 ? 1 : 16)
            for (size_t length = 0; length <= 300; length++)
                assert_int_equal(
                    choice->kernel(0xdeadbeef, data + offset, length),
                    reference(0xdeadbeef, data + offset, length));
    free(data);
}

/* Around every block size of every kernel, and far beyond. */
static void
kernels_agree_at_long_lengths(void **state)
{
    static const size_t sizes[] = {383,  384,   385,   511,    512,  513,
                                   767,  1000,  1024,  3071,   3072, 3073,
                                   3456, 65535, 65536, BIG - 3};
    uint8_t *data = noise(BIG);
    const gp_crc32c_choice *choice;
    size_t index = 0;

    (void)state;
    while ((choice = next_choice(&index)))
        for (size_t i = 0; i < GP_COUNT_OF(sizes); i++)
            for (size_t offset = 0; offset < 4; offset += 3)
                assert_int_equal(choice->kernel(7, data + offset, sizes[i]),
                                 reference(7, data + offset, sizes[i]));
    free(data);
}

static void
a_checksum_continues(void **state)
{
    uint8_t *data = noise(3000);
    uint32_t whole = gp_crc32c(0, data, 3000);

    (void)state;
    for (size_t cut = 0; cut <= 3000; cut += 7)
        assert_int_equal(
            gp_crc32c(gp_crc32c(0, data, cut), data + cut, 3000 - cut), whole);
    free(data);
}

static void
every_flipped_bit_is_seen(void **state)
{
    uint8_t *data = noise(600);
    uint32_t whole = gp_crc32c(0, data, 600);

    (void)state;
    for (size_t bit = 0; bit < 600 * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(gp_crc32c(0, data, 600), whole);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_calls_may_come_together),
        cmocka_unit_test(standard_vectors),
        cmocka_unit_test(kernels_agree_at_short_lengths_and_any_offset),
        cmocka_unit_test(kernels_agree_at_long_lengths),
        cmocka_unit_test(a_checksum_continues),
        cmocka_unit_test(every_flipped_bit_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
