/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_device_check.c - compares what a device has made with what the host
 * makes of the same numbers.
 *
 * Bytes are the same, but where the products of powersgd are another library's:
 * there what is decoded is near the host's, as docs/gpu.md says.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_device_rig.h"

/* How far apart results of factors may be, as a part of their norm. */
#define WITHIN      1e-4
#define WITHIN_FP16 2e-3

typedef struct twin {
    gp_device_rig *rig;
    void *space;
    uint8_t *bytes, *got;  /* a message of each */
    float *near[2];        /* decoded, where these are compared; or NULL */
    double distance, norm; /* squares of all */
} twin;

static bool
by_factors(const gp_device_rig *r)
{
    return r->whole && strstr(gp_pipeline_name(r->bench->pipeline), "powersgd");
}

static void
close_twin(twin *t)
{
    free(t->space);
    free(t->bytes);
    free(t->got);
    free(t->near[0]);
    free(t->near[1]);
}

static gp_status
open_twin(gp_device_rig *r, twin *t)
{
    const gp_device_bench *b = r->bench;
    size_t most = (size_t)GP_MIN(b->chunk, b->count);
    bool near = by_factors(r);

    *t = (twin){.rig = r};
    t->space = gp_alloc_aligned(gp_pipeline_workspace(b->pipeline, most) + 1);
    t->bytes = malloc(r->slot + 1);
    t->got = malloc(r->slot + 1);
    for (int i = 0; i < 2 && near; i++)
        t->near[i] = malloc(most * sizeof(float) + 1);
    if (!t->space || !t->bytes || !t->got ||
        (near && !(t->near[0] && t->near[1])))
        return gp_fail(GP_ERR_NO_MEMORY, "no memory to verify");
    return GP_OK;
}

static gp_status
look(twin *t)
{
    const gp_device_bench *b = t->rig->bench;
    gp_codec_context context = gp_device_context(t->rig, 0, 0);

    return gp_pipeline_needs(b->pipeline) & GP_PIPELINE_PREPARES
               ? gp_pipeline_prepare(b->pipeline, &context, t->rig->memory,
                                     b->values, (size_t)b->count)
               : GP_OK;
}

/* The chunk's message of the host; what both propose is the same. */
static gp_status
encode(twin *t, size_t c, size_t *length, uint64_t *wrong)
{
    const gp_device_rig *r = t->rig;
    const gp_device_bench *b = r->bench;
    const float *values = b->values + c * b->chunk;
    gp_codec_context context = gp_device_context(r, 0, c);
    size_t n = gp_device_count(r, c);
    gp_status status = GP_OK;
    float proposal = 0;

    if (r->proposes) {
        status = gp_pipeline_propose(b->pipeline, &context, t->rig->memory,
                                     values, n, &proposal);
        *wrong += memcmp(&proposal, &context.shared, sizeof(proposal)) != 0;
    }
    return status == GP_OK
               ? gp_pipeline_encode(b->pipeline, &context, t->rig->memory,
                                    values, n, t->bytes, r->slot, length,
                                    t->space)
               : status;
}

static void
count_bytes(const twin *t, size_t length, uint64_t *wrong)
{
    for (size_t i = 0; i < length; i++)
        *wrong += t->got[i] != t->bytes[i];
}

/* Adds what both messages decode to. The same bytes are no distance apart,
 * whatever they stand for. */
static gp_status
measure_distance(twin *t, size_t c, size_t length)
{
    const gp_pipeline *p = t->rig->bench->pipeline;
    gp_codec_context context = gp_device_context(t->rig, 0, c);
    size_t n = gp_device_count(t->rig, c);
    gp_status status = gp_pipeline_decode(p, &context, t->bytes, length,
                                          t->near[0], n, t->space);

    if (memcmp(t->bytes, t->got, length) == 0)
        return status;
    if (status == GP_OK)
        status = gp_pipeline_decode(p, &context, t->got, length, t->near[1], n,
                                    t->space);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        double host = (double)t->near[0][i];
        double off = (double)t->near[1][i] - host;

        t->distance += off * off;
        t->norm += host * host;
    }
    return status;
}

/* Worker 0's are the only ones looked at. */
static gp_status
compare_chunk(twin *t, size_t c, uint64_t *wrong)
{
    gp_device_rig *r = t->rig;
    size_t length = 0, have = (size_t)r->encoded[c];
    gp_status status = encode(t, c, &length, wrong);

    if (status == GP_OK && have <= r->slot)
        status = r->device->ops->copy_out(r->device, t->got,
                                          gp_device_message(r, 0, c), have);
    if (status != GP_OK)
        return status;
    *wrong += have != length;
    if (have != length)
        return GP_OK;
    if (t->near[0])
        return measure_distance(t, c, length);
    count_bytes(t, length, wrong);
    return GP_OK;
}

gp_status
gp_device_compare(gp_device_rig *r, uint64_t *wrong)
{
    const char *name = gp_pipeline_name(r->bench->pipeline);
    twin t;
    gp_status status = open_twin(r, &t);

    if (status == GP_OK)
        status = look(&t);
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++)
        status = compare_chunk(&t, c, wrong);
    if (status == GP_OK && t.near[0]) {
        double within = strstr(name, "factors=fp16") ? WITHIN_FP16 : WITHIN;

        *wrong += !(sqrt(t.distance) <= within * sqrt(t.norm));
    }
    close_twin(&t);
    return status;
}

gp_status
gp_device_compare_decoded(gp_device_rig *r, const float *decoded,
                          uint64_t *wrong)
{
    const gp_device_bench *b = r->bench;
    size_t most = (size_t)GP_MIN(b->chunk, b->count);
    void *space =
        gp_alloc_aligned(gp_pipeline_workspace(b->pipeline, most) + 1);
    uint8_t *bytes = malloc(r->slot + 1);
    uint32_t *want = malloc(most * sizeof(float) + 1), have;
    gp_status status = GP_OK;

    if (!space || !bytes || !want)
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory to verify");
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++) {
        gp_codec_context context = gp_device_context(r, 0, c);
        size_t n = gp_device_count(r, c), length = (size_t)r->encoded[c];

        status = r->device->ops->copy_out(r->device, bytes,
                                          gp_device_message(r, 0, c), length);
        if (status == GP_OK)
            status = gp_pipeline_decode(b->pipeline, &context, bytes, length,
                                        (float *)want, n, space);
        for (size_t i = 0; i < n && status == GP_OK; i++) {
            memcpy(&have, decoded + c * b->chunk + i, sizeof(have));
            *wrong += have != want[i];
        }
    }
    free(space);
    free(bytes);
    free(want);
    return status;
}
