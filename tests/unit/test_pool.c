/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pool.c - every part is done once, by a thread with a number of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>

#include "base/base.h"
#include "base/pool.h"

enum { PARTS = 1000, SIZE = 4 };

static atomic_int done[PARTS];
static atomic_int busy[SIZE];
static atomic_bool clash;

static void
work(void *arg, size_t part, unsigned thread)
{
    unsigned *size = arg;

    if (thread >= *size || atomic_fetch_add(&busy[thread], 1) != 0)
        atomic_store(&clash, true);
    atomic_fetch_add(&done[part], 1);
    atomic_fetch_sub(&busy[thread], 1);
}

static void
parts_are_done_once(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= SIZE; size++) {
        gp_pool *p;

        assert_int_equal(gp_pool_create(size, &p), GP_OK);
        assert_int_equal(gp_pool_size(p), size);
        for (size_t parts = 0; parts <= PARTS; parts += parts < 8 ? 1 : 248) {
            for (size_t i = 0; i < PARTS; i++)
                atomic_store(&done[i], 0);
            gp_pool_run(p, work, &size, parts);
            for (size_t i = 0; i < PARTS; i++)
                assert_int_equal(atomic_load(&done[i]), i < parts);
        }
        gp_pool_destroy(p);
    }
    assert_false(atomic_load(&clash));
    gp_pool_destroy(NULL);
}

/* A pool that has nothing to do ends at once. */
static void
idle_pools_end(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        gp_pool *p;

        assert_int_equal(gp_pool_create(SIZE, &p), GP_OK);
        gp_pool_destroy(p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_done_once),
        cmocka_unit_test(idle_pools_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
