/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_suite.h - what every kind of device has to do, for the test programs
 * of each kind.
 */
#ifndef GP_DEVICE_SUITE_H
#define GP_DEVICE_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/device.h"

enum { BYTES = 100000 };

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gp_last_error());
}

static void
copies_are_exact(gp_device *d)
{
    const gp_device_ops *ops = d->ops;
    uint8_t *in = malloc(BYTES), *out = malloc(BYTES);
    void *a, *b;

    assert_non_null(in);
    assert_non_null(out);
    for (size_t i = 0; i < BYTES; i++)
        in[i] = (uint8_t)(i * 31 + i / 256);
    check(ops->alloc(d, BYTES, &a));
    check(ops->alloc(d, BYTES, &b));
    assert_int_equal((uintptr_t)a % 64, 0);
    check(ops->copy_in(d, a, in, BYTES));
    check(ops->copy_within(d, b, a, BYTES));
    check(ops->fill(d, a, 0x5A, BYTES));
    check(ops->copy_out(d, out, b, BYTES));
    assert_memory_equal(in, out, BYTES);
    check(ops->copy_out(d, out, a, BYTES));
    assert_true(out[0] == 0x5A && out[BYTES - 1] == 0x5A);
    /* Overlapping, both ways. */
    check(ops->copy_within(d, (char *)b + 10, b, 1000));
    check(ops->copy_out(d, out, (char *)b + 10, 1000));
    assert_memory_equal(in, out, 1000);
    check(ops->copy_within(d, b, (char *)b + 10, 1000));
    check(ops->copy_out(d, out, b, 1000));
    assert_memory_equal(in, out, 1000);
    check(ops->synchronize(d));
    ops->free(d, a);
    ops->free(d, b);
    free(in);
    free(out);
}

static void
nothing_is_fine(gp_device *d)
{
    const gp_device_ops *ops = d->ops;
    void *block = NULL;

    check(ops->copy_in(d, NULL, NULL, 0));
    check(ops->copy_out(d, NULL, NULL, 0));
    check(ops->copy_within(d, NULL, NULL, 0));
    check(ops->fill(d, NULL, 1, 0));
    check(ops->alloc(d, 0, &block));
    assert_non_null(block);
    ops->free(d, block);
    ops->free(d, NULL);
}

static void
too_much_is_refused(gp_device *d)
{
    void *block = &block;

    assert_int_equal(d->ops->alloc(d, SIZE_MAX / 2, &block), GP_ERR_NO_MEMORY);
    assert_ptr_equal(block, &block);
}

static void
suite(gp_device *d, const char *kind)
{
    gp_device_properties p;

    assert_string_equal(d->ops->kind, kind);
    d->ops->properties(d, &p);
    assert_true(p.name[0] && p.memory_bytes > 0);
    copies_are_exact(d);
    nothing_is_fine(d);
    too_much_is_refused(d);
}

#endif
