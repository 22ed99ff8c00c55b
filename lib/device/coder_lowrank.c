/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_lowrank.c - powersgd on a device: the two products by the device's
 * library, all else by our kernels.
 *
 * Nothing waits for a number of the device: how a matrix is scaled, and whether
 * it has numbers that are none, is decided there, and what is then of no use is
 * computed all the same.
 */
#include "base/base.h"
#include "compress/cuda/lowrank.h"
#include "compress/powersgd.h"
#include "device/coder_batch.h"

#define FP16_FACTORS 0x100u
#define ALONE        0x200u

enum { BEGIN, ADD, MAKE_Q, MAKE_P, END };

static const gp_powersgd *
codec_of(const gp_pipeline *p)
{
    return p->array->instance;
}

/* rows_of() of powersgd.c, of elements that begin a row. */
static size_t
rows_of(const gp_powersgd *c, size_t count)
{
    size_t rows = c->columns ? count / c->columns : 0;

    return rows && 2 * c->rank * (rows + c->columns) < count ? rows : 0;
}

/* Factors that pay have less than half as many numbers as there are elements;
 * behind them a status that nobody reads. */
static size_t
space_of(const gp_pipeline *p, size_t count)
{
    (void)p;
    return 2 * count + 128;
}

static bool
length_right(const gp_pipeline *p, size_t length, size_t count)
{
    return length >= 4 && length <= gp_pipeline_bound(p, count);
}

static gp_coder_kernel
kernel(gp_kernel_id id)
{
    return (gp_coder_kernel){id, GP_LOWRANK_TILE, GP_LOWRANK_THREADS, false, 0,
                             0};
}

static gp_coder_kernel
per_part(gp_kernel_id id, uint32_t threads)
{
    return (gp_coder_kernel){id, GP_LOWRANK_TILE, threads, true, 0, 0};
}

static void
plan_whole(const gp_powersgd *c, gp_coder_plan *plan)
{
    gp_coder_kernel *w = plan->whole;

    w[BEGIN] = per_part(GP_KERNEL_gp_cuda_lowrank_begin, 32);
    w[ADD] = kernel(GP_KERNEL_gp_cuda_lowrank_add);
    w[MAKE_Q] = per_part(GP_KERNEL_gp_cuda_lowrank_q, GP_LOWRANK_LONG);
    w[MAKE_P] = per_part(GP_KERNEL_gp_cuda_lowrank_p, GP_LOWRANK_LONG);
    w[END] = per_part(GP_KERNEL_gp_cuda_lowrank_end, GP_LOWRANK_LONG);
    plan->rounds = (uint32_t)c->power;
    plan->sums = plan->memory == GP_MEMORY_MOMENTUM;
}

gp_status
gp_coder_plan_powersgd(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_powersgd *c = codec_of(p);

    plan->word[0] = (uint32_t)c->columns;
    plan->word[1] = (uint32_t)c->rank | (c->format == FP16 ? FP16_FACTORS : 0);
    plan->use = GP_USE_START;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_lowrank_encode);
    plan->encode[1] = kernel(GP_KERNEL_gp_cuda_lowrank_reread);
    plan->encode[2] = kernel(GP_KERNEL_gp_cuda_lowrank_feed_back);
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_lowrank_read);
    plan->decode[1] = kernel(GP_KERNEL_gp_cuda_lowrank_decode);
    plan->heads = plan->varies = plan->reads = true;
    plan->space = space_of;
    plan->right = length_right;
    if (c->columns)
        plan_whole(c, plan);
    else
        plan->word[1] |= ALONE;
    return GP_OK;
}

/* Of a tensor: the head, P twice, Q. */
static size_t
factor_bytes(const gp_powersgd *c, size_t rows)
{
    if (!rows)
        return GP_LOWRANK_HEAD;
    return GP_LOWRANK_HEAD + c->rank * sizeof(float) *
                                 (size_t)(2 * GP_LOWRANK_STRIDE(rows) +
                                          GP_LOWRANK_STRIDE(c->columns));
}

size_t
gp_coder_lowrank_bytes(const gp_coder *c, size_t count)
{
    const gp_powersgd *codec;
    size_t rows;

    if (!c->plan.whole[0].tile)
        return 0;
    codec = codec_of(c->pipeline);
    rows = rows_of(codec, count);
    return factor_bytes(codec, rows) + gp_coder_norm_bytes(c, count);
}

/* Momentum goes to the residual, ahead of all that looks at it. */
static void
place_velocity(const gp_coder *c, gp_coder_batch *b, const gp_coder_whole *t,
               gp_cuda_part *to)
{
    size_t rows = rows_of(codec_of(c->pipeline), t->count);

    if (!c->plan.sums || !t->residual)
        return;
    b->makes = true;
    to->gradient = t->source;
    to->source = NULL;
    to->velocity = t->velocity;
    to->scale = c->plan.factor;
    to->signs = t->velocity ? c->plan.remember : 0;
    if (t->velocity)
        gp_coder_place_norm(c, b, &t->context,
                            (uint8_t *)t->whole +
                                factor_bytes(codec_of(c->pipeline), rows),
                            to);
}

/* M lies by rows, so that by columns it is its transpose. P = M Q, or, with
 * `back`, Q = M^T P. */
static gp_status
multiply(gp_coder *c, const gp_cuda_part *part, bool back, void *stream)
{
    const gp_powersgd *codec = codec_of(c->pipeline);
    size_t rows = rows_of(codec, (size_t)part->count);
    size_t p_stride = GP_LOWRANK_STRIDE(rows);
    float *p = (float *)((uint8_t *)part->whole + GP_LOWRANK_HEAD);
    float *scaled = p + p_stride * codec->rank;
    float *q = scaled + p_stride * codec->rank;
    size_t q_stride = GP_LOWRANK_STRIDE(codec->columns);
    const gp_product product = {.ta = !back,
                                .m = back ? codec->columns : rows,
                                .n = codec->rank,
                                .k = back ? rows : codec->columns,
                                .a = part->residual ? part->residual
                                                    : part->source,
                                .b = back ? scaled : q,
                                .c = back ? q : p,
                                .lda = codec->columns,
                                .ldb = back ? p_stride : q_stride,
                                .ldc = back ? q_stride : p_stride};

    return rows ? c->device->ops->multiply(c->device, &product, stream) : GP_OK;
}

static gp_status
multiply_all(gp_coder *c, const gp_coder_batch *b, bool back, void *stream)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < b->n && status == GP_OK; i++)
        status = multiply(c, &b->parts[i], back, stream);
    return status;
}

gp_status
gp_coder_launch_whole(gp_coder *c, const gp_coder_batch *b, void *stream)
{
    const gp_coder_kernel *w = c->plan.whole;
    gp_status status = gp_coder_launch_one(c, b, &w[BEGIN], false, stream);

    if (status == GP_OK)
        status = gp_coder_launch_one(c, b, &w[ADD], false, stream);
    for (uint32_t i = 0; i < c->plan.rounds && status == GP_OK; i++) {
        status = gp_coder_launch_one(c, b, &w[MAKE_Q], i == 0, stream);
        if (status == GP_OK)
            status = multiply_all(c, b, false, stream);
        if (status == GP_OK)
            status = gp_coder_launch_one(c, b, &w[MAKE_P], false, stream);
        if (status == GP_OK)
            status = multiply_all(c, b, true, stream);
    }
    return status == GP_OK ? gp_coder_launch_one(c, b, &w[END], false, stream)
                           : status;
}

gp_status
gp_coder_lowrank_prepare(gp_coder *c, const gp_coder_whole *tensors, size_t n,
                         void *stream)
{
    const gp_coder_kernel *kernel = &c->plan.whole[ADD];
    size_t columns;
    gp_coder_batch b;
    gp_status status = gp_coder_begin(c, kernel, "prepare", n, stream, &b);

    if (status != GP_OK)
        return status;
    columns = codec_of(c->pipeline)->columns;
    for (size_t i = 0; i < n; i++) {
        const gp_coder_whole *t = &tensors[i];
        gp_cuda_part *to;

        if (columns && t->count % columns)
            return gp_fail(GP_ERR_INVALID,
                           "codec %s: %zu elements are no whole rows",
                           c->pipeline->name, t->count);
        to = gp_coder_place(&b, i, kernel, true, t->count);
        to->source = t->source;
        to->residual = t->residual;
        to->target = t->state;
        to->whole = t->whole;
        to->random = gp_coder_random(c, &t->context);
        to->scale = c->plan.decay;
        b.fades = b.fades || (t->residual && c->plan.decay != 1);
        status = gp_coder_check_sums(c, t->velocity, t->residual);
        if (status != GP_OK)
            return status;
        place_velocity(c, &b, t, to);
    }
    return gp_coder_finish(c, &b, kernel, false, stream);
}
