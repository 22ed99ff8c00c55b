/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device_cuda.c - CUDA memory: no driver, a driver made of host memory,
 * and the real one where there is one.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/device_cuda.h"
#include "tests/unit/device_suite.h"

/* Runs in a process of its own, because a driver is loaded once. Exit status
 * 77: skipped, the reason is printed. */
static void
in_a_child(void (*body)(void))
{
    pid_t child;
    int status;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define REQUIRE(condition)                                        \
    do {                                                          \
        if (!(condition)) {                                       \
            fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, \
                    gp_last_error());                             \
            _exit(1);                                             \
        }                                                         \
    } while (0)

static void *
no_function(const char *symbol)
{
    (void)symbol;
    return NULL;
}

static void
without_driver(void)
{
    gp_device *d = NULL;
    uint32_t count = 7;

    gp_cuda_resolve = no_function;
    REQUIRE(gp_device_cuda.count(&count) == GP_ERR_UNSUPPORTED && count == 7);
    REQUIRE(strstr(gp_last_error(), "install") ||
            strstr(gp_last_error(), "update"));
    REQUIRE(gp_device_open("cuda", &d) == GP_ERR_UNSUPPORTED && !d);
    REQUIRE(gp_device_open("auto", &d) == GP_OK);
    REQUIRE(strcmp(d->ops->kind, "host") == 0);
}

static void
no_driver_is_told_and_auto_goes_on(void **state)
{
    (void)state;
    in_a_child(without_driver);
}

static void
real_driver(void)
{
    gp_device *d;

    if (gp_device_open("cuda", &d) != GP_OK) {
        printf("skipped: %s\n", gp_last_error());
        fflush(stdout);
        _exit(77);
    }
    suite(d, "cuda");
    gp_device_close(d);
}

static void
the_real_driver_passes(void **state)
{
    (void)state;
    in_a_child(real_driver);
}

#ifdef GP_HAVE_CUDA
#include <cuda.h>

/* A driver with one device whose memory is the host's. It counts contexts
 * pushed and blocks alive, and fails the call it is told to. */
static int pushed, alive, calls_left = -1;
static bool refused;

static CUresult
answer(void)
{
    if (calls_left == 0) {
        refused = true;
        return CUDA_ERROR_UNKNOWN;
    }
    if (calls_left > 0)
        calls_left--;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_init(unsigned flags)
{
    (void)flags;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_error_name(CUresult error, const char **name)
{
    *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
                                              : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_count(int *count)
{
    *count = 1;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_get(CUdevice *device, int index)
{
    *device = index;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_name(char *name, int length, CUdevice device)
{
    (void)device;
    snprintf(name, (size_t)length, "paper");
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_attribute(int *value, CUdevice_attribute which, CUdevice device)
{
    (void)device;
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 9 : 0;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_total(size_t *bytes, CUdevice device)
{
    (void)device;
    *bytes = 1 << 30;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_retain(CUcontext *context, CUdevice device)
{
    (void)device;
    *context = (CUcontext)(void *)&pushed;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_release(CUdevice device)
{
    (void)device;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_push(CUcontext context)
{
    CUresult result = answer();

    pushed += result == CUDA_SUCCESS && context == (CUcontext)(void *)&pushed;
    return result;
}

static CUresult CUDAAPI
fake_pop(CUcontext *context)
{
    pushed--;
    *context = (CUcontext)(void *)&pushed;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_synchronize(void)
{
    return answer();
}

static CUresult CUDAAPI
fake_stream_synchronize(CUstream stream)
{
    (void)stream;
    return answer();
}

static CUresult CUDAAPI
fake_alloc(CUdeviceptr *out, size_t bytes)
{
    void *block =
        bytes < 1 << 30 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    CUresult result = answer();

    if (result != CUDA_SUCCESS || !block) {
        free(block);
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_OUT_OF_MEMORY;
    }
    alive++;
    *out = (CUdeviceptr)(uintptr_t)block;
    return CUDA_SUCCESS;
}

static CUresult CUDAAPI
fake_free(CUdeviceptr block)
{
    alive--;
    free((void *)(uintptr_t)block);
    return CUDA_SUCCESS;
}

static CUresult
copy(void *to, const void *from, size_t bytes)
{
    const char *f = from;
    char *t = to;

    /* As the driver: no promise for ranges that overlap. */
    if (t < f + bytes && f < t + bytes)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, from, bytes);
    return answer();
}

static CUresult CUDAAPI
fake_in(CUdeviceptr to, const void *from, size_t bytes)
{
    return copy((void *)(uintptr_t)to, from, bytes);
}

static CUresult CUDAAPI
fake_out(void *to, CUdeviceptr from, size_t bytes)
{
    return copy(to, (const void *)(uintptr_t)from, bytes);
}

static CUresult CUDAAPI
fake_within(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    return copy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
}

static CUresult CUDAAPI
fake_fill(CUdeviceptr to, unsigned char value, size_t bytes)
{
    memset((void *)(uintptr_t)to, value, bytes);
    return answer();
}

static void *
fake_function(const char *symbol)
{
    static const struct {
        const char *name; /* before any "_v2" */
        void (*function)(void);
    } functions[] = {
        {"cuInit", (void (*)(void))fake_init},
        {"cuGetErrorName", (void (*)(void))fake_error_name},
        {"cuDeviceGetCount", (void (*)(void))fake_count},
        {"cuDeviceGet", (void (*)(void))fake_get},
        {"cuDeviceGetName", (void (*)(void))fake_name},
        {"cuDeviceGetAttribute", (void (*)(void))fake_attribute},
        {"cuDeviceTotalMem", (void (*)(void))fake_total},
        {"cuDevicePrimaryCtxRetain", (void (*)(void))fake_retain},
        {"cuDevicePrimaryCtxRelease", (void (*)(void))fake_release},
        {"cuCtxPushCurrent", (void (*)(void))fake_push},
        {"cuCtxPopCurrent", (void (*)(void))fake_pop},
        {"cuCtxSynchronize", (void (*)(void))fake_synchronize},
        {"cuStreamSynchronize", (void (*)(void))fake_stream_synchronize},
        {"cuMemAlloc", (void (*)(void))fake_alloc},
        {"cuMemFree", (void (*)(void))fake_free},
        {"cuMemcpyHtoD", (void (*)(void))fake_in},
        {"cuMemcpyDtoH", (void (*)(void))fake_out},
        {"cuMemcpyDtoD", (void (*)(void))fake_within},
        {"cuMemsetD8", (void (*)(void))fake_fill},
    };
    size_t length = strlen(symbol);
    void *result;

    if (length > 3 && strcmp(symbol + length - 3, "_v2") == 0)
        length -= 3;
    for (size_t i = 0; i < GP_COUNT_OF(functions); i++) {
        if (strlen(functions[i].name) != length ||
            strncmp(functions[i].name, symbol, length) != 0)
            continue;
        memcpy(&result, &functions[i].function, sizeof(result));
        return result;
    }
    return NULL;
}

static void
paper_driver(void)
{
    gp_device_properties p;
    gp_device *d = NULL;

    gp_cuda_resolve = fake_function;
    REQUIRE(gp_device_open("cuda:1", &d) == GP_ERR_NOT_FOUND && !d);
    REQUIRE(strstr(gp_last_error(), "sees 1 CUDA devices"));
    REQUIRE(gp_device_open("auto", &d) == GP_OK);
    d->ops->properties(d, &p);
    REQUIRE(strcmp(p.name, "paper") == 0 && p.major == 9 && !p.unified);
    suite(d, "cuda");
    REQUIRE(pushed == 0 && alive == 0);
    gp_device_close(d);
}

static void
a_driver_of_host_memory_passes(void **state)
{
    (void)state;
    in_a_child(paper_driver);
}

/* Whichever call of the driver fails, contexts and blocks stay balanced. */
static void
failing_driver(void)
{
    char bytes[64] = {0};
    gp_device *d;

    gp_cuda_resolve = fake_function;
    REQUIRE(gp_device_open("cuda", &d) == GP_OK);
    for (int n = 0; n < 40; n++) {
        void *block = NULL;
        gp_status status;

        calls_left = n;
        refused = false;
        status = d->ops->alloc(d, 64, &block);
        if (status == GP_OK)
            status = d->ops->copy_in(d, block, bytes, 64);
        if (status == GP_OK)
            status = d->ops->copy_within(d, (char *)block + 8, block, 32);
        if (status == GP_OK)
            status = d->ops->fill(d, block, 1, 64);
        if (status == GP_OK)
            status = d->ops->copy_out(d, bytes, block, 64);
        if (status == GP_OK)
            status = d->ops->synchronize(d);
        REQUIRE(status == GP_OK || status == GP_ERR_SYSTEM);
        REQUIRE((status == GP_OK) == !refused);
        calls_left = -1;
        d->ops->free(d, block);
        REQUIRE(pushed == 0 && alive == 0);
    }
    REQUIRE(!refused); /* the last rounds went through */
    gp_device_close(d);
}

static void
failures_leave_nothing_behind(void **state)
{
    (void)state;
    in_a_child(failing_driver);
}
#endif

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_driver_is_told_and_auto_goes_on),
        cmocka_unit_test(the_real_driver_passes),
#ifdef GP_HAVE_CUDA
        cmocka_unit_test(a_driver_of_host_memory_passes),
        cmocka_unit_test(failures_leave_nothing_behind),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
