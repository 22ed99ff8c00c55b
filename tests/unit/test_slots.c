/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_slots.c - runs of bits, against counting them one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/slots.h"

static int
find_plainly(uint64_t free, uint32_t count)
{
    for (uint32_t first = 0; first + count <= 64; first++) {
        uint32_t i = 0;

        while (i < count && free >> (first + i) & 1)
            i++;
        if (i == count)
            return (int)first;
    }
    return -1;
}

static void
runs_are_found(void **state)
{
    uint64_t random = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint64_t mask;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        mask = round % 3 ? random | random << 1 | random << 2 : random;
        if (round < 3)
            mask = round == 0 ? 0 : round == 1 ? UINT64_MAX : 1ull << 63;
        for (uint32_t count = 1; count <= 64; count++) {
            int first = gp_slots_find(mask, count);

            assert_int_equal(first, find_plainly(mask, count));
            if (first >= 0)
                assert_true((mask & gp_slots_mask((uint32_t)first, count)) ==
                            gp_slots_mask((uint32_t)first, count));
        }
        assert_int_equal(gp_slots_find(mask, 65), -1);
        assert_int_equal(gp_slots_find(mask, UINT64_MAX), -1);
    }
}

static void
payloads_take_whole_slots(void **state)
{
    (void)state;
    assert_int_equal(gp_slots_for(0, 64), 1);
    assert_int_equal(gp_slots_for(64, 64), 1);
    assert_int_equal(gp_slots_for(65, 64), 2);
    assert_int_equal(gp_slots_for(UINT64_MAX, 64), 1ull << 58);
}

static void
buffers_are_cut(void **state)
{
    static const uint64_t sizes[] = {
        64, 100, 4096, 4097, 2097152, 2097153, (1ull << 40) + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t slot_bytes;
        uint32_t count = gp_slots_cut(sizes[i], &slot_bytes);

        assert_true(count >= 1 && count <= 64);
        assert_int_equal(slot_bytes % 64, 0);
        assert_true(count * slot_bytes >= sizes[i]);
        assert_true((count - 1) * slot_bytes < sizes[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_found),
        cmocka_unit_test(payloads_take_whole_slots),
        cmocka_unit_test(buffers_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
