/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_coder_sim.c - pipelines on a device have the bytes and the bits that
 * they have on the host: many parts in one call, of any length and alignment,
 * with numbers that are none among them.
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
#include "compress/kernels.h"
#include "compress/pipeline.h"
#include "device/coder.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/unit/numbers.h"

enum { PARTS = 12, MOST = 20000, WORKERS = 3 };
static const size_t counts[PARTS] = {1,    31,  0,    256,   257, 4096,
                                     8193, 999, 8192, 19999, 64,  5};

/* What one part has on both sides. */
typedef struct side {
    float *source, *residual, *target;
    uint8_t *bytes;
    uint64_t *encoded;
    uint32_t *status;
} side;

typedef struct rig {
    gp_device *device;
    gp_pipeline *pipeline;
    gp_coder *coder;
    void *stream;
    uint8_t *block; /* everything, pinned */
    size_t used;
    side part[WORKERS][PARTS];
} rig;

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gp_last_error());
}

enum { BLOCK = 36 << 20 };

static void *
take(rig *r, size_t bytes)
{
    void *out = r->block + r->used;

    r->used += (bytes + 79) / 16 * 16;
    assert_true(r->used <= BLOCK);
    return out;
}

/* Gradients of a worker, with what is special in some parts. */
static void
fill_part(side *s, size_t worker, size_t p)
{
    for (size_t i = 0; i < counts[p]; i++) {
        uint64_t at = (worker * PARTS + p) * MOST + i;

        s->source[i] = number_gauss(at) * 0.01f;
        s->residual[i] = number_gauss(at + 10000000) * 0.001f;
        s->target[i] = number_gauss(at + 20000000);
    }
    if (p == 4)
        s->source[7] = NAN;
    if (p == 5)
        s->source[300] = -INFINITY;
    for (size_t i = 0; p == 6 && i < 256; i++) {
        s->source[i] = (float)i * 0x1p-140f;
        s->source[256 + i] = 0x1.fffffep127f / (float)(i + 1);
        s->residual[256 + i] = i % 2 ? -0x1p100f : 0x1p126f;
        s->source[512 + i] = i % 3 ? -0.0f : 0x1p-126f;
        s->source[1024 + i] = 0;
        s->residual[1024 + i] = 0;
        s->source[2048 + i] = i == 9 ? 1e30f : (float)i * 1e-30f;
    }
}

static rig
open_rig(const char *text)
{
    rig r = {0};
    void *block;

    check(gp_device_open("cuda", &r.device));
    check(gp_pipeline_parse(text, &r.pipeline));
    check(gp_coder_open(r.device, r.pipeline, &r.coder));
    check(r.device->ops->stream_create(r.device, &r.stream));
    check(r.device->ops->alloc_pinned(r.device, BLOCK, &block));
    r.block = block;
    for (size_t w = 0; w < WORKERS; w++)
        for (size_t p = 0; p < PARTS; p++) {
            side *s = &r.part[w][p];
            size_t off = p % 3, n = counts[p];

            s->source = (float *)take(&r, 4 * (n + 4)) + off;
            s->residual = (float *)take(&r, 4 * (n + 4)) + off;
            s->target = (float *)take(&r, 4 * (n + 4)) + off;
            s->bytes = take(&r, gp_pipeline_bound(r.pipeline, n));
            s->encoded = take(&r, 8);
            s->status = take(&r, 4);
            *s->encoded = 0;
            *s->status = 0;
            fill_part(s, w, p);
        }
    return r;
}

static void
close_rig(rig *r)
{
    gp_device *d = r->device;

    gp_coder_close(r->coder);
    gp_pipeline_destroy(r->pipeline);
    d->ops->stream_destroy(d, r->stream);
    d->ops->free_pinned(d, r->block);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static gp_codec_context
context_of(size_t worker, size_t p)
{
    return (gp_codec_context){.seed = 77,
                              .tensor = 5 + p,
                              .offset = p < 4 ? 0 : 1000 * p + p % 5,
                              .step = 12,
                              .rank = (uint32_t)worker,
                              .size = WORKERS};
}

static void
list_parts(const rig *r, size_t worker, bool feedback, gp_coder_part *out)
{
    for (size_t p = 0; p < PARTS; p++) {
        const side *s = &r->part[worker][p];

        out[p] = (gp_coder_part){
            .context = context_of(worker, p),
            .count = counts[p],
            .source = s->source,
            .residual = feedback ? s->residual : NULL,
            .target = s->target,
            .bytes = s->bytes,
            .length = (size_t)*s->encoded,
            .encoded = s->encoded,
            .status = s->status,
        };
    }
}

static void
encode_all(rig *r, size_t worker, bool feedback)
{
    gp_coder_part parts[PARTS];

    list_parts(r, worker, feedback, parts);
    check(gp_coder_encode(r->coder, parts, PARTS, r->stream));
    check(r->device->ops->synchronize(r->device));
}

static void
decode_all(rig *r, size_t worker, bool add)
{
    gp_coder_part parts[PARTS];

    list_parts(r, worker, false, parts);
    check(gp_coder_decode(r->coder, parts, PARTS, add, r->stream));
    check(r->device->ops->synchronize(r->device));
}

static void
expect_floats(const float *got, const float *want, size_t n, const char *codec,
              const char *what, size_t p)
{
    for (size_t i = 0; i < n; i++)
        if (gp_bits(got[i]) != gp_bits(want[i]) &&
            !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, %s: element %zu of %zu in part %zu is %a, not %a",
                     codec, what, i, n, p, (double)got[i], (double)want[i]);
}

static void
expect_bytes(const uint8_t *got, const uint8_t *want, size_t n,
             const char *codec, size_t p)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %zu of %zu in part %zu is %02x, not %02x", codec,
                     i, n, p, got[i], want[i]);
}

/* A part as the host encodes it; the residual is changed. */
static size_t
host_encode(const rig *r, size_t worker, size_t p, bool feedback,
            float *residual, uint8_t *out)
{
    gp_codec_context context = context_of(worker, p);
    size_t length = 0, n = counts[p];
    size_t bound = gp_pipeline_bound(r->pipeline, n), fields;
    gp_codec_memory *memory = NULL;
    const char *name;
    float *values;
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r->pipeline, n) + 1);

    if (feedback) {
        check(
            gp_codec_memory_create(r->pipeline, context.offset, n, 1, &memory));
        fields = gp_codec_memory_field(memory, 0, &name, &values);
        assert_true(fields == n);
        memcpy(values, residual, n * sizeof(float));
    }
    check(gp_pipeline_encode(r->pipeline, &context, memory,
                             r->part[worker][p].source, n, out, bound, &length,
                             space));
    if (feedback)
        memcpy(residual, values, n * sizeof(float));
    gp_codec_memory_destroy(memory);
    free(space);
    return length;
}

static void
host_decode(const rig *r, size_t worker, size_t p, const uint8_t *bytes,
            size_t length, bool add, float *target)
{
    gp_codec_context context = context_of(worker, p);
    size_t n = counts[p];
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r->pipeline, n) + 1);

    if (add)
        check(gp_pipeline_decode_add(r->pipeline, &context, bytes, length,
                                     target, n, space));
    else
        check(gp_pipeline_decode(r->pipeline, &context, bytes, length, target,
                                 n, space));
    free(space);
}

static void
compare(const char *text, bool feedback, bool add)
{
    static float residual[PARTS][MOST], target[MOST];
    rig r = open_rig(text);
    uint8_t *bytes = malloc(gp_pipeline_bound(r.pipeline, MOST) + 1);

    for (size_t p = 0; p < PARTS; p++)
        memcpy(residual[p], r.part[1][p].residual, 4 * counts[p]);
    encode_all(&r, 1, feedback);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r.part[1][p];
        size_t length = host_encode(&r, 1, p, feedback, residual[p], bytes);

        assert_int_equal(*s->encoded, length);
        expect_bytes(s->bytes, bytes, length, text, p);
        expect_floats(s->residual, residual[p], counts[p], text, "residual", p);
    }
    for (size_t p = 0; p < PARTS; p++)
        memcpy(residual[p], r.part[1][p].target, 4 * counts[p]);
    decode_all(&r, 1, add);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r.part[1][p];

        memcpy(target, residual[p], 4 * counts[p]);
        assert_int_equal(*s->status, 0);
        host_decode(&r, 1, p, s->bytes, (size_t)*s->encoded, add, target);
        expect_floats(s->target, target, counts[p], text, "decoded", p);
    }
    free(bytes);
    close_rig(&r);
}

/* The messages of all workers, as they are listed for a sum. */
static void
list_sum(const rig *r, size_t p, gp_codec_context context[WORKERS],
         gp_codec_input input[WORKERS], gp_coder_sum *sum)
{
    for (size_t w = 0; w < WORKERS; w++) {
        context[w] = context_of(w, p);
        input[w] = (gp_codec_input){&context[w], r->part[w][p].bytes,
                                    (size_t)*r->part[w][p].encoded};
    }
    *sum = (gp_coder_sum){input, WORKERS, r->part[0][p].target, counts[p],
                          r->part[0][p].status};
}

static void
compare_fold(const char *text, bool add)
{
    static float target[PARTS][MOST];
    gp_codec_context context[PARTS][WORKERS];
    gp_codec_input input[PARTS][WORKERS];
    gp_coder_sum sum[PARTS];
    rig r = open_rig(text);
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r.pipeline, MOST) + 1);

    for (size_t w = 0; w < WORKERS; w++)
        encode_all(&r, w, false);
    for (size_t p = 0; p < PARTS; p++) {
        list_sum(&r, p, context[p], input[p], &sum[p]);
        memcpy(target[p], sum[p].target, 4 * counts[p]);
        check(gp_pipeline_fold(r.pipeline, input[p], WORKERS, add, target[p],
                               counts[p], space));
    }
    check(gp_coder_fold(r.coder, sum, PARTS, add, r.stream));
    check(r.device->ops->synchronize(r.device));
    for (size_t p = 0; p < PARTS; p++) {
        assert_int_equal(*sum[p].status, 0);
        expect_floats(sum[p].target, target[p], counts[p], text, "sum", p);
    }
    free(space);
    close_rig(&r);
}

static void
compare_all(const char *text, bool folds)
{
    compare(text, false, false);
    compare(text, true, true);
    if (folds) {
        compare_fold(text, false);
        compare_fold(text, true);
    }
}

static void
casts_are_those_of_the_host(void **state)
{
    (void)state;
    compare_all("none", true);
    compare_all("fp16", true);
    compare_all("bf16", true);
    compare_all("fp16:round=stochastic", false);
    compare_all("bf16:round=stratified", false);
}

static void
blocks_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "q4",
        "q4:block=256,round=dither",
        "q4:block=160,round=stochastic,scale=bf16",
        "q4:block=4096,round=stratified",
        "q2",
        "q2:block=1024,round=stochastic",
        "q8:round=stochastic",
        "q8:block=64,scale=bf16",
        "fp8",
        "fp8:format=e5m2,block=64,round=stochastic",
        "fp8:block=512,scale=bf16",
        "mxfp8",
        "mxfp8:format=e5m2,round=stratified",
        "mxfp4",
        "mxfp4:round=stochastic",
        "mxint8",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], i % 2, i % 4 > 1);
        if (i % 3 == 0)
            compare_fold(texts[i], i % 2);
    }
}

static void
q8_is_that_of_the_host(void **state)
{
    (void)state;
    compare_all("q8", true);
    compare_all("ef+q8:block=96", true);
    compare_all("q8:block=4096", true);
}

/* Messages with a few bytes that are others: the device says no where the host
 * does. */
enum { MUTANTS = 48 };

static void
mutate(uint8_t *bytes, size_t length, size_t n)
{
    static const uint8_t values[] = {0x80, 0xff, 0x7f, 0x00, 0x08, 0xfe};
    uint64_t r = number_bits(n);
    size_t at = n % 4 == 0   ? length - 1
                : n % 4 == 1 ? (r >> 32) % GP_MIN(length, 16)
                             : (r >> 32) % length;

    bytes[at] = n % 3 ? values[r % 6] : (uint8_t)(bytes[at] ^ 1u << r % 8);
}

static void
compare_damage(const char *text, size_t p)
{
    rig r = open_rig(text);
    gp_coder_part parts[MUTANTS], one[PARTS];
    gp_codec_context context = context_of(0, p);
    size_t length, refused = 0;
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r.pipeline, MOST) + 1);

    encode_all(&r, 0, false);
    list_parts(&r, 0, false, one);
    length = one[p].length;
    for (size_t n = 0; n < MUTANTS; n++) {
        parts[n] = one[p];
        parts[n].bytes = take(&r, length);
        parts[n].status = take(&r, 4);
        parts[n].target = take(&r, 4 * counts[p]);
        *parts[n].status = 0;
        memcpy(parts[n].bytes, one[p].bytes, length);
        mutate(parts[n].bytes, length, n);
    }
    check(gp_coder_decode(r.coder, parts, MUTANTS, false, r.stream));
    check(r.device->ops->synchronize(r.device));
    for (size_t n = 0; n < MUTANTS; n++) {
        bool good =
            gp_pipeline_decode(r.pipeline, &context, parts[n].bytes, length,
                               one[p].target, counts[p], space) == GP_OK;

        refused += !good;
        if (good != (*parts[n].status == 0))
            fail_msg("%s: mutant %zu: host %d, device %u", text, n, good,
                     *parts[n].status);
        if (good)
            expect_floats(parts[n].target, one[p].target, counts[p], text,
                          "mutant", n);
    }
    if (!refused)
        fail_msg("%s: no mutant was refused", text);
    free(space);
    close_rig(&r);
}

static void
damage_is_seen_as_on_the_host(void **state)
{
    static const char *const texts[] = {
        "q8",
        "q4",
        "q4:scale=bf16,round=dither",
        "q2",
        "q8:scale=bf16",
        "fp8",
        "fp8:format=e5m2",
        "mxfp8",
        "mxint8",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        compare_damage(texts[i], i % 2 ? 3 : 1);
}

static uint32_t
decode_part(rig *r, size_t p, size_t length)
{
    gp_coder_part parts[PARTS];
    uint32_t status;

    list_parts(r, 0, false, parts);
    parts[p].length = length;
    check(gp_coder_decode(r->coder, parts + p, 1, false, r->stream));
    check(r->device->ops->synchronize(r->device));
    status = *parts[p].status;
    *parts[p].status = 0;
    return status;
}

static uint32_t
fold_part(rig *r, size_t p)
{
    gp_codec_context context[WORKERS];
    gp_codec_input input[WORKERS];
    gp_coder_sum sum;
    uint32_t status;

    list_sum(r, p, context, input, &sum);
    check(gp_coder_fold(r->coder, &sum, 1, false, r->stream));
    check(r->device->ops->synchronize(r->device));
    status = *sum.status;
    *sum.status = 0;
    return status;
}

static void
damage_is_told(void **state)
{
    rig r = open_rig("q8");
    size_t p = 7, length;

    (void)state;
    for (size_t w = 0; w < WORKERS; w++)
        encode_all(&r, w, false);
    length = (size_t)*r.part[0][p].encoded;
    assert_int_equal(decode_part(&r, p, length), 0);
    assert_int_equal(decode_part(&r, p, length - 1), 1);
    assert_int_equal(decode_part(&r, p, length + 1), 1);
    assert_int_equal(fold_part(&r, p), 0);
    *r.part[1][p].encoded -= 1;
    assert_int_equal(fold_part(&r, p), 1);
    *r.part[1][p].encoded += 1;
    r.part[0][p].bytes[length - 1] = 0x80;
    assert_int_equal(decode_part(&r, p, length), 1);
    assert_int_equal(fold_part(&r, p), 1);
    r.part[0][p].bytes[length - 1] = 0;
    gp_put32(r.part[0][p].bytes, 0x80000000u);
    assert_int_equal(decode_part(&r, p, length), 1);
    assert_int_equal(fold_part(&r, p), 1);
    close_rig(&r);
}

/* The number of calls that go under way while the device waits. */
static size_t
fill_ring(rig *r, const uint32_t *number, const gp_coder_part *part)
{
    gp_status status = GP_OK;
    size_t n = 0;

    check(r->device->ops->wait_value(r->device, number, 1, r->stream));
    for (; status == GP_OK && n < 100; n += status == GP_OK)
        status = gp_coder_encode(r->coder, part, 1, r->stream);
    assert_int_equal(status, GP_AGAIN);
    return n;
}

static void
the_ring_says_when_it_is_full(void **state)
{
    gp_coder_room more = {.slots = 11};
    rig r = open_rig("q8");
    gp_coder_part parts[PARTS];
    void *number;

    (void)state;
    check(r.device->ops->alloc_pinned(r.device, 4, &number));
    list_parts(&r, 0, false, parts);
    __atomic_store_n((uint32_t *)number, 0, __ATOMIC_RELEASE);
    assert_int_equal(fill_ring(&r, number, &parts[9]), 8);
    __atomic_store_n((uint32_t *)number, 1, __ATOMIC_RELEASE);
    check(r.device->ops->synchronize(r.device));
    check(gp_coder_encode(r.coder, &parts[9], 1, r.stream));
    check(gp_coder_reserve(r.coder, &more));
    __atomic_store_n((uint32_t *)number, 0, __ATOMIC_RELEASE);
    assert_int_equal(fill_ring(&r, number, &parts[9]), 11);
    __atomic_store_n((uint32_t *)number, 1, __ATOMIC_RELEASE);
    check(r.device->ops->synchronize(r.device));
    r.device->ops->free_pinned(r.device, number);
    close_rig(&r);
}

static void
room_is_kept_to(void **state)
{
    gp_coder_room more = {.parts = 65, .messages = 3 * 64};
    rig r = open_rig("bf16");
    gp_codec_context context[WORKERS];
    gp_codec_input input[WORKERS];
    static gp_coder_part many[65];
    gp_coder_sum sum;
    size_t before = gp_coder_memory(r.coder);

    (void)state;
    for (size_t i = 0; i < 65; i++)
        many[i] = (gp_coder_part){.count = 1,
                                  .source = r.part[0][0].source,
                                  .bytes = r.part[0][0].bytes};
    assert_int_equal(gp_coder_encode(r.coder, many, 65, r.stream),
                     GP_ERR_TOO_LARGE);
    check(gp_coder_reserve(r.coder, &more));
    assert_true(gp_coder_memory(r.coder) > before);
    assert_true(gp_coder_pinned(r.coder) > before);
    check(gp_coder_encode(r.coder, many, 65, r.stream));
    many[1].bytes = r.part[0][1].bytes + 8;
    assert_int_equal(gp_coder_encode(r.coder, many, 2, r.stream),
                     GP_ERR_INVALID);
    list_sum(&r, 0, context, input, &sum);
    sum.inputs = 0;
    assert_int_equal(gp_coder_fold(r.coder, &sum, 1, false, r.stream),
                     GP_ERR_INVALID);
    sum.inputs = 65;
    assert_int_equal(gp_coder_fold(r.coder, &sum, 1, false, r.stream),
                     GP_ERR_INVALID);
    check(r.device->ops->synchronize(r.device));
    close_rig(&r);
}

static void
refuse(const char *text, const char *word)
{
    gp_device *d;
    gp_pipeline *p;
    gp_coder *c = NULL;

    check(gp_device_open("cuda", &d));
    check(gp_pipeline_parse(text, &p));
    assert_int_equal(gp_coder_open(d, p, &c), GP_ERR_UNSUPPORTED);
    assert_null(c);
    if (!strstr(gp_last_error(), word))
        fail_msg("%s: '%s' does not name %s", text, gp_last_error(), word);
    gp_pipeline_destroy(p);
    gp_device_close(d);
}

static void
what_has_no_kernel_is_refused_by_name(void **state)
{
    gp_device *host;
    gp_pipeline *p;
    gp_coder *c = NULL;

    (void)state;
    refuse("fake+q8", "fake");
    refuse("ef21+q8", "ef21");
    refuse("ef:decay=0.5+q8", "ef");
    refuse("zeros+q8", "zeros");
    refuse("natural", "natural");
    refuse("q8+shuffle", "shuffle");
    refuse("q2:dense=1", "dense");
    refuse("mxfp6", "6 bits");
    check(gp_device_open("cpu", &host));
    check(gp_pipeline_parse("q8", &p));
    assert_int_equal(gp_coder_open(host, p, &c), GP_ERR_UNSUPPORTED);
    gp_pipeline_destroy(p);
    gp_device_close(host);
}

/* Whichever call of the driver fails: an error, and nothing is left behind. */
static gp_status
use(gp_device *d, gp_pipeline *p, void *pinned, gp_coder **c)
{
    gp_coder_part part = {
        .count = 100, .source = pinned, .bytes = (char *)pinned + 512};
    gp_status status = gp_coder_open(d, p, c);

    if (status == GP_OK)
        status = gp_coder_encode(*c, &part, 1, NULL);
    if (status == GP_OK)
        status = gp_coder_encode(*c, &part, 1, NULL);
    return status;
}

static void
failures_leave_nothing_behind(void **state)
{
    gp_device *d;
    gp_pipeline *p;
    void *pinned;
    bool failed = true;

    (void)state;
    check(gp_device_open("cuda", &d));
    check(gp_pipeline_parse("fp16", &p));
    check(d->ops->alloc_pinned(d, 4096, &pinned));
    memset(pinned, 0, 4096);
    for (uint32_t n = 1; failed; n++) {
        gp_coder *c = NULL;
        gp_status status;

        assert_true(n < 400);
        gp_sim_cuda_fail(NULL, n, 999 /* unknown */);
        status = use(d, p, pinned, &c);
        failed = gp_sim_cuda_failed();
        gp_sim_cuda_fail(NULL, 0, 0);
        assert_int_equal(status == GP_OK, !failed);
        gp_coder_close(c);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
        check(d->ops->synchronize(d));
    }
    d->ops->free_pinned(d, pinned);
    gp_pipeline_destroy(p);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_are_those_of_the_host),
        cmocka_unit_test(q8_is_that_of_the_host),
        cmocka_unit_test(blocks_are_those_of_the_host),
        cmocka_unit_test(damage_is_seen_as_on_the_host),
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(the_ring_says_when_it_is_full),
        cmocka_unit_test(room_is_kept_to),
        cmocka_unit_test(what_has_no_kernel_is_refused_by_name),
        cmocka_unit_test(failures_leave_nothing_behind),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
