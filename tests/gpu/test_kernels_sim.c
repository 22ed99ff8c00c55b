/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kernels_sim.c - kernels give the bits of the codecs, many parts in one
 * launch, whatever the alignment and length of a part.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "compress/cuda/parts.h"
#include "compress/kernels.h"
#include "device/device.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/unit/numbers.h"

enum { PARTS = 9, MOST = 20000 };
static const uint64_t counts[PARTS] = {1,    31,   256,  257,  4096,
                                       8192, 8193, 1000, 19999};

typedef struct rig {
    gp_device *device;
    gp_cuda_part *part; /* pinned */
    float *source[PARTS], *residual[PARTS], *target[PARTS];
    uint8_t *bytes[PARTS];
    uint32_t *status;
} rig;

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gp_last_error());
}

static void *
pinned(rig *r, size_t bytes)
{
    void *out = NULL;

    check(r->device->ops->alloc_pinned(r->device, bytes, &out));
    return out;
}

/* Gradients, with what is special in the first parts and off a line. */
static rig
open_rig(void)
{
    rig r = {0};

    check(gp_device_open("cuda", &r.device));
    r.part = pinned(&r, PARTS * sizeof(*r.part));
    r.status = pinned(&r, 4);
    *r.status = 0;
    for (int p = 0; p < PARTS; p++) {
        size_t off = p % 3;

        r.source[p] = (float *)pinned(&r, 4 * (MOST + 4)) + off;
        r.residual[p] = (float *)pinned(&r, 4 * (MOST + 4)) + off;
        r.target[p] = (float *)pinned(&r, 4 * (MOST + 4)) + off;
        r.bytes[p] = pinned(&r, 4 * MOST + 4096);
        for (uint64_t i = 0; i < counts[p]; i++) {
            r.source[p][i] = number_gauss(i * PARTS + (uint64_t)p) * 0.01f;
            r.residual[p][i] = number_gauss(i + 1000000) * 0.001f;
            r.target[p][i] = number_gauss(i + 2000000);
        }
    }
    r.source[3][7] = NAN;
    r.source[4][300] = -INFINITY;
    for (int i = 0; i < 256; i++)
        r.source[5][i] = (float)i * 0x1p-140f;
    for (int i = 256; i < 512; i++)
        r.source[5][i] = 0x1.fffffep127f / (float)(i - 255);
    memset(r.source[6], 0, 1024);
    return r;
}

static void
close_rig(rig *r)
{
    gp_device *d = r->device;

    for (int p = 0; p < PARTS; p++) {
        d->ops->free_pinned(d, r->source[p] - p % 3);
        d->ops->free_pinned(d, r->residual[p] - p % 3);
        d->ops->free_pinned(d, r->target[p] - p % 3);
        d->ops->free_pinned(d, r->bytes[p]);
    }
    d->ops->free_pinned(d, r->part);
    d->ops->free_pinned(d, r->status);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* One launch over all parts, `tile` elements to a block of the grid. */
static void
launch(rig *r, gp_kernel_id kernel, uint32_t tile, bool feedback, uint32_t a,
       uint32_t b)
{
    const gp_cuda_part *part = r->part;
    uint32_t parts = PARTS, blocks = 0;
    void *args[] = {&part, &parts, &a, &b};
    gp_launch l = {.kernel = kernel, .block = 256, .args = args};

    for (int p = 0; p < PARTS; p++) {
        r->part[p] = (gp_cuda_part){
            .source = r->source[p],
            .residual = feedback ? r->residual[p] : NULL,
            .target = r->target[p],
            .bytes = r->bytes[p],
            .count = counts[p],
            .first_block = blocks,
            .status = r->status,
        };
        blocks += (uint32_t)((counts[p] + tile - 1) / tile);
    }
    l.grid = blocks;
    check(r->device->ops->launch(r->device, &l, NULL));
    check(r->device->ops->synchronize(r->device));
}

static void
expect_floats(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (gp_bits(got[i]) != gp_bits(want[i]) &&
            !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: element %zu of %zu is %a, not %a", what, i, n,
                     (double)got[i], (double)want[i]);
}

typedef struct host_codec {
    void (*encode)(const float *x, float *residual, size_t n, uint8_t *out);
    void (*decode)(const uint8_t *in, float *out, size_t n, bool add);
    size_t (*bytes)(size_t n);
    gp_kernel_id encoder, decoder;
    uint32_t tile, parameter;
} host_codec;

static void
compare(const host_codec *c, bool feedback, bool add)
{
    rig r = open_rig();
    float *residual[PARTS], *target[PARTS];
    static uint8_t bytes[4 * MOST + 4096];

    for (int p = 0; p < PARTS; p++) {
        residual[p] = malloc(4 * counts[p]);
        target[p] = malloc(4 * counts[p]);
        memcpy(residual[p], r.residual[p], 4 * counts[p]);
        memcpy(target[p], r.target[p], 4 * counts[p]);
    }
    launch(&r, c->encoder, c->tile, feedback, c->parameter, 0);
    launch(&r, c->decoder, c->tile, false, c->parameter, add);
    assert_int_equal(*r.status, 0);
    for (int p = 0; p < PARTS; p++) {
        c->encode(r.source[p], feedback ? residual[p] : NULL, counts[p], bytes);
        assert_memory_equal(r.bytes[p], bytes, c->bytes(counts[p]));
        expect_floats(r.residual[p], residual[p], counts[p], "residual");
        c->decode(bytes, target[p], counts[p], add);
        expect_floats(r.target[p], target[p], counts[p], "decoded");
        free(residual[p]);
        free(target[p]);
    }
    close_rig(&r);
}

static void
compare_all(const host_codec *c)
{
    compare(c, false, false);
    compare(c, true, false);
    compare(c, false, true);
}

static void
cast(const gp_cast_kernels *k, const float *x, float *residual, size_t n,
     uint8_t *out)
{
    if (residual)
        k->feedback(x, residual, out, n);
    else
        k->encode(x, out, n);
}

static void
fp16_encode(const float *x, float *residual, size_t n, uint8_t *out)
{
    cast(&gp_kernels_scalar.fp16, x, residual, n, out);
}

static void
bf16_encode(const float *x, float *residual, size_t n, uint8_t *out)
{
    cast(&gp_kernels_scalar.bf16, x, residual, n, out);
}

static void
fp16_decode(const uint8_t *in, float *out, size_t n, bool add)
{
    if (add)
        gp_kernels_scalar.fp16.decode_add(in, out, n);
    else
        gp_kernels_scalar.fp16.decode(in, out, n);
}

static void
bf16_decode(const uint8_t *in, float *out, size_t n, bool add)
{
    if (add)
        gp_kernels_scalar.bf16.decode_add(in, out, n);
    else
        gp_kernels_scalar.bf16.decode(in, out, n);
}

static size_t
two_each(size_t n)
{
    return 2 * n;
}

static uint32_t block; /* of q8 */

static size_t
q8_bytes(size_t n)
{
    return (n + block - 1) / block * 4 + n;
}

static void
q8_encode(const float *x, float *residual, size_t n, uint8_t *out)
{
    int8_t *codes = (int8_t *)out + (n + block - 1) / block * 4;

    if (residual)
        gp_kernels_scalar.q8.feedback(x, residual, n, block, out, codes);
    else
        gp_kernels_scalar.q8.encode(x, n, block, out, codes);
}

static void
q8_decode(const uint8_t *in, float *out, size_t n, bool add)
{
    const int8_t *codes = (const int8_t *)in + (n + block - 1) / block * 4;

    if (add)
        gp_kernels_scalar.q8.decode_add(in, codes, out, n, block);
    else
        assert_true(gp_kernels_scalar.q8.decode(in, codes, out, n, block));
}

static void
casts_have_the_same_bits(void **state)
{
    static const host_codec fp16 = {fp16_encode,
                                    fp16_decode,
                                    two_each,
                                    GP_KERNEL_gp_cuda_cast_encode,
                                    GP_KERNEL_gp_cuda_cast_decode,
                                    8192,
                                    1};
    static const host_codec bf16 = {bf16_encode,
                                    bf16_decode,
                                    two_each,
                                    GP_KERNEL_gp_cuda_cast_encode,
                                    GP_KERNEL_gp_cuda_cast_decode,
                                    8192,
                                    2};

    (void)state;
    compare_all(&fp16);
    compare_all(&bf16);
}

static void
q8_has_the_same_bits(void **state)
{
    static const uint32_t sizes[] = {256, 32, 128, 4096};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(sizes); i++) {
        host_codec q8 = {q8_encode,
                         q8_decode,
                         q8_bytes,
                         GP_KERNEL_gp_cuda_q8_encode,
                         GP_KERNEL_gp_cuda_q8_decode,
                         32 * sizes[i],
                         sizes[i]};

        block = sizes[i];
        compare_all(&q8);
    }
}

static void
damage_is_seen(void **state)
{
    rig r = open_rig();

    (void)state;
    launch(&r, GP_KERNEL_gp_cuda_q8_encode, 8192, false, 256, 0);
    r.bytes[7][16 + 999] = 0x80; /* -128 */
    launch(&r, GP_KERNEL_gp_cuda_q8_decode, 8192, false, 256, 0);
    assert_int_equal(*r.status, 1);
    r.bytes[7][16 + 999] = 0;
    *r.status = 0;
    gp_put32(r.bytes[8], 0x80000000u);
    launch(&r, GP_KERNEL_gp_cuda_q8_decode, 8192, false, 256, 0);
    assert_int_equal(*r.status, 1);
    close_rig(&r);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_have_the_same_bits),
        cmocka_unit_test(q8_has_the_same_bits),
        cmocka_unit_test(damage_is_seen),
    };

    if (!getenv("GRADPUSH_TEST_CUDA") ||
        strcmp(getenv("GRADPUSH_TEST_CUDA"), "real") != 0)
        gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
