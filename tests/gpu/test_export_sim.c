/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_export_sim.c - what network devices are shown of a GPU's memory: whole
 * segments, as descriptors that are closed by then. On a simulated driver, or
 * with GRADPUSH_TEST_CUDA=real on the machine's; no network device is needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/arena.h"
#include "tests/gpu/sim_cuda.h"

#define BIG (64u << 20)

static gp_device *device;
static gp_device_properties properties;

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gp_last_error());
}

static void
expect_exported(void *base, size_t bytes)
{
    struct stat about;
    int fd = -1;

    check(device->ops->export_range(device, base, bytes, &fd));
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &about), 0);
    assert_int_equal(close(fd), 0);
}

/* As often as peers need it; each stands for the same memory. */
static void
segments_are_exported(void **state)
{
    gp_device_arena *arena;
    void *block, *base;
    size_t bytes;

    (void)state;
    check(gp_device_arena_open(device, false, &arena));
    check(gp_device_arena_take(arena, 1000, &block));
    assert_true(gp_device_arena_segment(arena, block, &base, &bytes));
    assert_int_equal(bytes, GP_ARENA_SEGMENT);
    assert_int_equal((uintptr_t)base % (size_t)sysconf(_SC_PAGESIZE), 0);
    for (int i = 0; i < 3; i++)
        expect_exported(base, bytes);
    check(gp_device_arena_take(arena, BIG, &block));
    assert_true(gp_device_arena_segment(arena, (uint8_t *)block + BIG - 1,
                                        &base, &bytes));
    assert_ptr_equal(base, block);
    assert_int_equal(bytes, BIG);
    expect_exported(base, bytes);
    assert_false(gp_device_arena_segment(arena, &bytes, &base, &bytes));
    gp_device_arena_close(arena);
}

static void
other_ranges_are_refused(void **state)
{
    gp_device_arena *arena;
    uint8_t *block;
    int fd = -7;

    (void)state;
    check(gp_device_arena_open(device, false, &arena));
    check(gp_device_arena_take(arena, GP_ARENA_SEGMENT, (void **)&block));
    assert_int_equal(device->ops->export_range(device, block + 64, 4096, &fd),
                     GP_ERR_INVALID);
    assert_int_equal(device->ops->export_range(device, block, 100, &fd),
                     GP_ERR_INVALID);
    assert_int_equal(device->ops->export_range(device, block, 0, &fd),
                     GP_ERR_INVALID);
    assert_int_equal(fd, -7);
    gp_device_arena_close(arena);
}

/* What was exported is still the device's to write and to free. */
static void
exported_memory_goes_on(void **state)
{
    uint8_t pattern[4096], back[4096];
    void *block;

    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 13);
    check(device->ops->alloc(device, GP_ARENA_SEGMENT, &block));
    expect_exported(block, GP_ARENA_SEGMENT);
    check(device->ops->copy_in(device, block, pattern, sizeof(pattern)));
    expect_exported(block, GP_ARENA_SEGMENT);
    if (properties.host_flush)
        check(device->ops->flush_writes(device));
    check(device->ops->copy_out(device, back, block, sizeof(back)));
    assert_memory_equal(back, pattern, sizeof(back));
    device->ops->free(device, block);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {
        .devices = 1, .dma_buf = true, .writes_ordering = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_exported),
        cmocka_unit_test(other_ranges_are_refused),
        cmocka_unit_test(exported_memory_goes_on),
    };
    const char *which = getenv("GRADPUSH_TEST_CUDA");
    int failed;

    if (!which || strcmp(which, "real") != 0)
        gp_sim_cuda_install(&options);
    if (gp_device_open("cuda", &device) != GP_OK) {
        printf("skipped: %s\n", gp_last_error());
        return 77;
    }
    device->ops->properties(device, &properties);
    printf("%s %s: DMA-BUF %s, GPUDirect RDMA %s, order of writes %d, flush "
           "%s\n",
           properties.name, properties.bus, properties.dma_buf ? "yes" : "no",
           properties.rdma ? "yes" : "no", properties.writes_ordering,
           properties.host_flush ? "yes" : "no");
    if (!properties.dma_buf) {
        printf("skipped: the driver exports no DMA-BUF of this device\n");
        gp_device_close(device);
        return 77;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    gp_device_close(device);
    return failed;
}
