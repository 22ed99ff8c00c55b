/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_arena.c - memory that is kept: no two blocks share a byte, what was
 * given back is found again, and segments are multiples of 2 MiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "device/arena.h"

#define BLOCKS 64u

typedef struct fixture {
    gp_device *device;
    gp_device_arena *arena;
} fixture;

static void
open_fixture(fixture *f, bool pinned)
{
    assert_int_equal(gp_device_open("cpu", &f->device), GP_OK);
    assert_int_equal(gp_device_arena_open(f->device, pinned, &f->arena), GP_OK);
    assert_int_equal(gp_device_arena_bytes(f->arena), 0);
}

static void
close_fixture(fixture *f)
{
    gp_device_arena_close(f->arena);
    gp_device_close(f->device);
}

static void *
take(fixture *f, size_t bytes)
{
    void *block = NULL;

    assert_int_equal(gp_device_arena_take(f->arena, bytes, &block), GP_OK);
    assert_int_equal((uintptr_t)block % 64, 0);
    return block;
}

static void
segments_are_multiples(void **state)
{
    fixture f;
    void *first, *second;

    (void)state;
    open_fixture(&f, true);
    take(&f, 1);
    assert_int_equal(gp_device_arena_bytes(f.arena), GP_ARENA_SEGMENT);
    first = take(&f, GP_ARENA_SEGMENT - 256);
    assert_int_equal(gp_device_arena_bytes(f.arena), GP_ARENA_SEGMENT);
    second = take(&f, 2 * GP_ARENA_SEGMENT + 1);
    assert_int_equal(gp_device_arena_bytes(f.arena), 4 * GP_ARENA_SEGMENT);
    gp_device_arena_give(f.arena, first);
    gp_device_arena_give(f.arena, second);
    gp_device_arena_give(f.arena, NULL);
    assert_ptr_equal(take(&f, 3 * GP_ARENA_SEGMENT), second);
    assert_ptr_equal(take(&f, 300), first);
    assert_int_equal(gp_device_arena_bytes(f.arena), 4 * GP_ARENA_SEGMENT);
    close_fixture(&f);
}

/* Blocks of all lengths, taken and given back in an order of their own, keep
 * what was written to them; then all becomes one again. */
static void
blocks_are_apart(void **state)
{
    fixture f;
    uint8_t *block[BLOCKS] = {NULL};
    size_t length[BLOCKS] = {0}, most;
    uint32_t at = 1;

    (void)state;
    open_fixture(&f, false);
    for (uint32_t turn = 0; turn < 4000; turn++) {
        uint32_t i = (at = at * 1664525u + 1013904223u) >> 26;

        for (size_t k = 0; k < length[i]; k += 97)
            assert_int_equal(block[i][k], (uint8_t)(i + k));
        gp_device_arena_give(f.arena, block[i]);
        length[i] = at % 40000;
        block[i] = take(&f, length[i]);
        for (size_t k = 0; k < length[i]; k += 97)
            block[i][k] = (uint8_t)(i + k);
    }
    most = gp_device_arena_bytes(f.arena);
    assert_true(most <= 2 * GP_ARENA_SEGMENT);
    for (uint32_t i = 0; i < BLOCKS; i++)
        gp_device_arena_give(f.arena, block[i]);
    for (size_t n = 0; n < most / GP_ARENA_SEGMENT; n++)
        take(&f, GP_ARENA_SEGMENT);
    assert_int_equal(gp_device_arena_bytes(f.arena), most);
    close_fixture(&f);
}

static void
too_much_is_refused(void **state)
{
    fixture f;
    void *block = &f;

    (void)state;
    open_fixture(&f, false);
    for (size_t less = 0; less < 3; less++) {
        static const size_t from_the_end[] = {0, GP_ARENA_ALIGN,
                                              2 * GP_ARENA_ALIGN};

        assert_int_equal(gp_device_arena_take(
                             f.arena, SIZE_MAX - from_the_end[less], &block),
                         GP_ERR_NO_MEMORY);
    }
    assert_ptr_equal(block, &f);
    assert_int_equal(gp_device_arena_bytes(f.arena), 0);
    close_fixture(&f);
    gp_device_arena_close(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_multiples),
        cmocka_unit_test(blocks_are_apart),
        cmocka_unit_test(too_much_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
