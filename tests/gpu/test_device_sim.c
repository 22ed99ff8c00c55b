/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device_sim.c - CUDA devices on a simulated driver: what every device has
 * to do, the order of streams, and faults.
 */
#include <time.h>
#include <unistd.h>

#include "device/device_cuda.h"
#include "device/driver_cuda.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/unit/device_suite.h"

static gp_device *
device(void)
{
    gp_device *d = NULL;

    check(gp_device_open("cuda:1", &d));
    return d;
}

static void
does_what_devices_do(void **state)
{
    gp_device *d = device(), *none = NULL;
    gp_device_properties p;

    (void)state;
    suite(d, "cuda");
    d->ops->properties(d, &p);
    assert_string_equal(p.name, "simulated device 1");
    assert_string_equal(p.bus, "0000:11:00.0");
    assert_true(p.dma_buf && p.rdma && p.host_flush);
    assert_int_equal(p.writes_ordering, 100);
    assert_int_equal(gp_device_open("cuda:2", &none), GP_ERR_NOT_FOUND);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* Polls, since nothing else is promised. */
static void
wait_for(gp_device *d, gp_device_event *event)
{
    gp_status status = GP_PENDING;

    for (int i = 0; status == GP_PENDING && i < 100000; i++) {
        status = d->ops->event_query(d, event);
        usleep(100);
    }
    check(status);
}

/* a waits for a number from the host, b for a place in a. */
static void
streams_wait_for_each_other(void **state)
{
    gp_device *d = device();
    const gp_device_ops *ops = d->ops;
    void *a, *b, *block, *pinned, *number;
    gp_device_event *first, *last;

    (void)state;
    check(ops->stream_create(d, &a));
    check(ops->stream_create(d, &b));
    check(ops->event_create(d, &first));
    check(ops->event_create(d, &last));
    check(ops->alloc(d, 1000, &block));
    check(ops->alloc_pinned(d, 1000, &pinned));
    check(ops->alloc_pinned(d, 4, &number));
    memset(pinned, 0, 1000);
    __atomic_store_n((uint32_t *)number, 0xfffffff0u, __ATOMIC_RELEASE);
    check(ops->wait_value(d, number, 5, a));
    check(ops->fill_async(d, block, 7, 1000, a));
    check(ops->event_record(d, first, a));
    check(ops->event_wait(d, first, b));
    check(ops->copy_async(d, pinned, block, 1000, b));
    check(ops->event_record(d, last, b));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ops->event_query(d, last), GP_PENDING);
        usleep(100);
    }
    /* Beyond the end of the numbers. */
    __atomic_store_n((uint32_t *)number, 5, __ATOMIC_RELEASE);
    wait_for(d, last);
    assert_int_equal(((uint8_t *)pinned)[0], 7);
    assert_int_equal(((uint8_t *)pinned)[999], 7);
    ops->event_destroy(d, first);
    ops->event_destroy(d, last);
    ops->stream_destroy(d, a);
    ops->stream_destroy(d, b);
    ops->free(d, block);
    ops->free_pinned(d, pinned);
    ops->free_pinned(d, number);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static void
pointers_are_known(void **state)
{
    gp_device *d = device();
    gp_device_range r;
    void *block, *pinned;
    int fd = -1;

    (void)state;
    check(d->ops->alloc(d, 8192, &block));
    check(d->ops->alloc_pinned(d, 100, &pinned));
    check(d->ops->range_of(d, (char *)block + 77, &r));
    assert_true(r.device && !r.pinned && !r.managed && !r.pooled);
    assert_int_equal(r.index, 1);
    assert_ptr_equal(r.base, block);
    assert_int_equal(r.bytes, 8192);
    check(d->ops->range_of(d, pinned, &r));
    assert_true(!r.device && r.pinned);
    assert_int_equal(d->ops->range_of(d, &r, &r), GP_ERR_NOT_FOUND);
    check(d->ops->export_range(d, block, 8192, &fd));
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(d->ops->export_range(d, (char *)block + 64, 4096, &fd),
                     GP_ERR_INVALID);
    check(d->ops->flush_writes(d));
    d->ops->free(d, block);
    d->ops->free_pinned(d, pinned);
    gp_device_close(d);
}

static void
captures_are_seen(void **state)
{
    gp_device *d = device();
    void *stream;
    bool capturing = true;

    (void)state;
    check(d->ops->stream_create(d, &stream));
    check(d->ops->is_capturing(d, stream, &capturing));
    assert_false(capturing);
    gp_sim_cuda_capture(stream, true);
    check(d->ops->is_capturing(d, stream, &capturing));
    assert_true(capturing);
    gp_sim_cuda_capture(stream, false);
    d->ops->stream_destroy(d, stream);
    gp_device_close(d);
}

static void
load(gp_device *d, gp_kernel_id kernel)
{
    const gp_launch launch = {.kernel = kernel, .grid = 1, .block = 32};

    check(d->ops->load(d, &launch));
}

/* Of all kernels only those of the same file. */
static void
kernels_are_loaded_by_file(void **state)
{
    gp_device *d = device();

    (void)state;
    load(d, GP_KERNEL_gp_cuda_zeros_look);
    assert_int_equal(gp_sim_cuda_objects(), 1);
    load(d, GP_KERNEL_gp_cuda_zeros_pack);
    assert_int_equal(gp_sim_cuda_objects(), 1);
    load(d, GP_KERNEL_gp_cuda_q8_fold);
    assert_int_equal(gp_sim_cuda_objects(), gp_cuda_images[0] ? 2 : 1);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* Bytes of an image of several architectures. */
static size_t
image_bytes(const void *image)
{
    struct {
        uint32_t magic;
        uint16_t version, head;
        uint64_t body;
    } h;

    memcpy(&h, image, sizeof(h));
    assert_int_equal(h.magic, 0xba55ed50);
    return h.head + h.body;
}

static bool
image_has(size_t i, const char *text, size_t bytes)
{
    return memmem(gp_cuda_images[i], image_bytes(gp_cuda_images[i]), text,
                  bytes) != NULL;
}

/* A kernel that is in another file would be missed on a device alone. */
static void
files_have_their_kernels(void **state)
{
    static const char *const kernels[][2] = {
#define GP_KERNEL(file, name) {#file, ".text." #name},
#include "device/kernels.def"
#undef GP_KERNEL
    };

    (void)state;
    if (!gp_cuda_images[0] || !image_has(0, ".text.", 6)) {
        print_message("%s\n", gp_cuda_images[0]
                                  ? "skipped: the kernels are compressed"
                                  : "skipped: this build has no CUDA kernels");
        skip();
    }
    for (size_t k = 0; k < GP_COUNT_OF(kernels); k++) {
        const char *section = kernels[k][1];
        size_t i = 0;

        while (gp_cuda_images[i] &&
               strcmp(gp_cuda_image_names[i], kernels[k][0]) != 0)
            i++;
        if (!gp_cuda_images[i] || !image_has(i, section, strlen(section) + 1))
            fail_msg("%s.cu has no %s", kernels[k][0], section + 6);
    }
}

static gp_status
try_call(gp_device *d, size_t which)
{
    const gp_device_ops *ops = d->ops;
    static uint8_t bytes[16];
    void *block = NULL, *stream = NULL;
    gp_device_event *event = NULL;
    gp_launch launch = {.kernel = GP_KERNEL_gp_cuda_q8_encode,
                        .grid = 1,
                        .block = 32,
                        .args = NULL};
    uint32_t number = 0;
    int fd = -1;

    switch (which) {
    case 0:
        return ops->alloc(d, 1, &block);
    case 1:
        return ops->copy_in(d, bytes, bytes + 8, 8);
    case 2:
        return ops->copy_out(d, bytes, bytes + 8, 8);
    case 3:
        return ops->fill(d, bytes, 0, 8);
    case 4:
        return ops->synchronize(d);
    case 5:
        return ops->alloc_pinned(d, 1, &block);
    case 6:
        return ops->stream_create(d, &stream);
    case 7:
        return ops->copy_async(d, bytes, bytes + 8, 8, NULL);
    case 8:
        return ops->fill_async(d, bytes, 0, 8, NULL);
    case 9:
        return ops->event_create(d, &event);
    case 10:
        return ops->wait_value(d, &number, 1, NULL);
    case 11:
        return ops->launch(d, &launch, NULL);
    default:
        return ops->export_range(d, NULL, 4096, &fd);
    }
}

static void
faults_are_told(void **state)
{
    static const struct {
        const char *function;
        gp_status expected;
    } calls[] = {
        {"cuMemAlloc", GP_ERR_NO_MEMORY},
        {"cuMemcpyHtoD", GP_ERR_NO_MEMORY},
        {"cuMemcpyDtoH", GP_ERR_NO_MEMORY},
        {"cuMemsetD8", GP_ERR_NO_MEMORY},
        {"cuCtxSynchronize", GP_ERR_NO_MEMORY},
        {"cuMemHostAlloc", GP_ERR_NO_MEMORY},
        {"cuStreamCreateWithPriority", GP_ERR_NO_MEMORY},
        {"cuMemcpyAsync", GP_ERR_NO_MEMORY},
        {"cuMemsetD8Async", GP_ERR_NO_MEMORY},
        {"cuEventCreate", GP_ERR_NO_MEMORY},
        {"cuStreamWaitValue32", GP_ERR_NO_MEMORY},
        {"cuModuleLoadData", GP_ERR_NO_MEMORY},
        {"cuMemGetHandleForAddressRange", GP_ERR_NO_MEMORY},
    };
    gp_device *d = device();

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(calls); i++) {
        gp_sim_cuda_fail(calls[i].function, 1, 2 /* out of memory */);
        assert_int_equal(try_call(d, i), calls[i].expected);
        if (!strstr(gp_last_error(), "CUDA_ERROR_OUT_OF_MEMORY"))
            fail_msg("%s: '%s'", calls[i].function, gp_last_error());
    }
    gp_sim_cuda_fail("", 0, 0);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* Whichever call of the driver fails, contexts and blocks stay balanced. */
static gp_status
use_memory(gp_device *d, void **block)
{
    const gp_device_ops *ops = d->ops;
    char bytes[64] = {0};
    gp_status status = ops->alloc(d, 64, block);

    if (status == GP_OK)
        status = ops->copy_in(d, *block, bytes, 64);
    if (status == GP_OK)
        status = ops->copy_within(d, (char *)*block + 8, *block, 32);
    if (status == GP_OK)
        status = ops->fill(d, *block, 1, 64);
    if (status == GP_OK)
        status = ops->copy_out(d, bytes, *block, 64);
    if (status == GP_OK)
        status = ops->synchronize(d);
    return status;
}

static void
failures_leave_nothing_behind(void **state)
{
    gp_device *d = device();
    bool failed = true;

    (void)state;
    for (uint32_t n = 1; failed; n++) {
        void *block = NULL;
        gp_status status;

        assert_true(n < 100);
        gp_sim_cuda_fail(NULL, n, 999 /* unknown */);
        status = use_memory(d, &block);
        failed = gp_sim_cuda_failed();
        gp_sim_cuda_fail(NULL, 0, 0);
        assert_int_equal(status, failed ? GP_ERR_SYSTEM : GP_OK);
        d->ops->free(d, block);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
        assert_int_equal(gp_sim_cuda_objects(), 0);
    }
    gp_device_close(d);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {
        .devices = 2, .dma_buf = true, .writes_ordering = 100, .delay_us = 200};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(does_what_devices_do),
        cmocka_unit_test(streams_wait_for_each_other),
        cmocka_unit_test(pointers_are_known),
        cmocka_unit_test(captures_are_seen),
        cmocka_unit_test(kernels_are_loaded_by_file),
        cmocka_unit_test(files_have_their_kernels),
        cmocka_unit_test(faults_are_told),
        cmocka_unit_test(failures_leave_nothing_behind),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
