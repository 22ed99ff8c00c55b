/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_rig.h - a coder, parts for three workers, and the comparison with what
 * pipelines do on the host: many parts in one call, of any length and
 * alignment, with numbers that are none among them.
 *
 * Devices are simulated, unless GRADPUSH_TEST_CUDA=real is in the environment.
 */
#ifndef CODER_RIG_H
#define CODER_RIG_H

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
    size_t used, room;
    side part[WORKERS][PARTS];
} rig;

static inline void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gp_last_error());
}

/* A block is filled when it is new: it has room for the parts, and some. */
enum { SPARE = 2 << 20, WIDE = 36 << 20 };

static inline size_t
room_for(size_t bytes)
{
    return (bytes + 79) / 16 * 16;
}

static inline size_t
room_of(const gp_pipeline *pipeline)
{
    size_t sum = 0;

    for (size_t p = 0; p < PARTS; p++)
        sum += 3 * room_for(4 * (counts[p] + 4)) +
               room_for(gp_pipeline_bound(pipeline, counts[p])) + room_for(8) +
               room_for(4);
    return WORKERS * sum;
}

static inline void *
take(rig *r, size_t bytes)
{
    void *out = r->block + r->used;

    r->used += room_for(bytes);
    assert_true(r->used <= r->room);
    return out;
}

/* Of a part of a worker; each is drawn once, for all rigs of a program. */
static inline const float (*numbers_of(size_t worker, size_t p))[MOST]
{
    static float numbers[WORKERS][PARTS][3][MOST];
    static bool drawn[WORKERS][PARTS];
    float(*out)[MOST] = numbers[worker][p];

    for (size_t i = 0; i < counts[p] && !drawn[worker][p]; i++) {
        uint64_t at = (worker * PARTS + p) * MOST + i;

        out[0][i] = number_gauss(at) * 0.01f;
        out[1][i] = number_gauss(at + 10000000) * 0.001f;
        out[2][i] = number_gauss(at + 20000000);
    }
    drawn[worker][p] = true;
    return out;
}

/* Gradients of a worker, with what is special in some parts. */
static inline void
fill_part(side *s, size_t worker, size_t p)
{
    const float(*from)[MOST] = numbers_of(worker, p);

    memcpy(s->source, from[0], 4 * counts[p]);
    memcpy(s->residual, from[1], 4 * counts[p]);
    memcpy(s->target, from[2], 4 * counts[p]);
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

static inline rig
open_rig_with(const char *text, size_t spare)
{
    rig r = {0};
    void *block;

    check(gp_device_open("cuda", &r.device));
    check(gp_pipeline_parse(text, &r.pipeline));
    check(gp_coder_open(r.device, r.pipeline, &r.coder));
    check(r.device->ops->stream_create(r.device, &r.stream));
    r.room = room_of(r.pipeline) + spare;
    check(r.device->ops->alloc_pinned(r.device, r.room, &block));
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

static inline rig
open_rig(const char *text)
{
    return open_rig_with(text, SPARE);
}

static inline void
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

static inline gp_codec_context
context_of(size_t worker, size_t p)
{
    return (gp_codec_context){.seed = 77,
                              .tensor = 5 + p,
                              .offset = p < 4 ? 0 : 1000 * p + p % 5,
                              .step = 12,
                              .rank = (uint32_t)worker,
                              .size = WORKERS};
}

static inline void
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

static inline void
encode_all(rig *r, size_t worker, bool feedback)
{
    gp_coder_part parts[PARTS];

    list_parts(r, worker, feedback, parts);
    check(gp_coder_encode(r->coder, parts, PARTS, r->stream));
    check(r->device->ops->synchronize(r->device));
}

static inline void
decode_all(rig *r, size_t worker, bool add)
{
    gp_coder_part parts[PARTS];

    list_parts(r, worker, false, parts);
    check(gp_coder_decode(r->coder, parts, PARTS, add, r->stream));
    check(r->device->ops->synchronize(r->device));
}

static inline void
expect_floats(const float *got, const float *want, size_t n, const char *codec,
              const char *what, size_t p)
{
    for (size_t i = 0; i < n; i++)
        if (gp_bits(got[i]) != gp_bits(want[i]) &&
            !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s, %s: element %zu of %zu in part %zu is %a, not %a",
                     codec, what, i, n, p, (double)got[i], (double)want[i]);
}

static inline void
expect_bytes(const uint8_t *got, const uint8_t *want, size_t n,
             const char *codec, size_t p)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %zu of %zu in part %zu is %02x, not %02x", codec,
                     i, n, p, got[i], want[i]);
}

/* A part as the host encodes it; the residual is changed. */
static inline size_t
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

static inline void
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

static inline void
compare_encoded(rig *r, const char *text, bool feedback)
{
    static float residual[PARTS][MOST];
    uint8_t *bytes = malloc(gp_pipeline_bound(r->pipeline, MOST) + 1);

    for (size_t p = 0; p < PARTS; p++)
        memcpy(residual[p], r->part[1][p].residual, 4 * counts[p]);
    encode_all(r, 1, feedback);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r->part[1][p];
        size_t length = host_encode(r, 1, p, feedback, residual[p], bytes);

        if (*s->encoded != length)
            fail_msg("%s: part %zu has %zu bytes, not %zu", text, p,
                     (size_t)*s->encoded, length);
        expect_bytes(s->bytes, bytes, length, text, p);
        expect_floats(s->residual, residual[p], counts[p], text, "residual", p);
    }
    free(bytes);
}

static inline void
compare_encoding(const char *text, bool feedback)
{
    rig r = open_rig(text);

    compare_encoded(&r, text, feedback);
    close_rig(&r);
}

static inline void
compare(const char *text, bool feedback, bool add)
{
    static float before[PARTS][MOST], target[MOST];
    rig r = open_rig(text);

    compare_encoded(&r, text, feedback);
    for (size_t p = 0; p < PARTS; p++)
        memcpy(before[p], r.part[1][p].target, 4 * counts[p]);
    decode_all(&r, 1, add);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r.part[1][p];

        memcpy(target, before[p], 4 * counts[p]);
        assert_int_equal(*s->status, 0);
        host_decode(&r, 1, p, s->bytes, (size_t)*s->encoded, add, target);
        expect_floats(s->target, target, counts[p], text, "decoded", p);
    }
    close_rig(&r);
}

/* The messages of all workers, as they are listed for a sum. */
static inline void
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

static inline void
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

static inline void
compare_all(const char *text, bool folds)
{
    compare(text, false, false);
    compare(text, true, true);
    if (folds) {
        compare_fold(text, false);
        compare_fold(text, true);
    }
}

static inline bool
real_driver(void)
{
    const char *which = getenv("GRADPUSH_TEST_CUDA");

    return which && strcmp(which, "real") == 0;
}

/* A real context takes a good part of a second, and goes with the last device
 * that is closed: one stays open. */
static inline void
choose_driver(void)
{
    static const gp_sim_cuda_options options = {.devices = 1};
    static gp_device *kept;

    if (real_driver())
        (void)gp_device_open("cuda", &kept);
    else
        gp_sim_cuda_install(&options);
}

#endif
