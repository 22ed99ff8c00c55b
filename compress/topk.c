/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk.c - the selections topk and threshold.
 *
 * With scope=tensor one pass over the whole tensor finds what separates the
 * chosen from the rest, and each chunk then takes its own: together exactly
 * those that a selection from the whole would take.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/ratio.h"
#include "compress/reduce.h"
#include "compress/select.h"
#include "compress/topk_select.h"

enum { SCOPE_CHUNK = 0, SCOPE_TENSOR = 1 };

static const char *const scopes[] = {"chunk", "tensor", NULL};

#define SCOPE                                             \
    {                                                     \
        .name = "scope", .words = scopes,                 \
        .text = "what to choose from: each chunk or the " \
                "whole tensor"                            \
    }

/* topk */

typedef struct topk_instance {
    gp_ratio ratio;
    int scope;
    uint64_t total; /* elements of the tensor, 0: unknown */
} topk_instance;

/* What prepare() leaves; the workspace comes behind it. */
typedef struct topk_prepared {
    uint64_t origin;
    gp_topk_cut cut;
} topk_prepared;

#define PREPARED 64u

static const gp_codec_param topk_params[] = {
    {.name = "ratio",
     .value = 0.01,
     .minimum = 1e-9,
     .maximum = 1,
     .text = "share of the elements that is sent"},
    SCOPE,
    GP_RATIO_START,
    GP_RATIO_OVER,
    {.name = NULL},
};

static gp_status
topk_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_ratio ratio;
    topk_instance *z;
    gp_status status = gp_ratio_make(values[0], values[2], values[3], &ratio);

    if (status)
        return status;
    z = malloc(sizeof(*z));
    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    *z = (topk_instance){ratio, (int)values[1], shape->count};
    *instance = z;
    return GP_OK;
}

static size_t
topk_bound(const void *instance, size_t size)
{
    const topk_instance *z = instance;
    size_t most;

    if (z->scope == SCOPE_CHUNK)
        return gp_ratio_most(&z->ratio, size);
    if (z->total == 0)
        return size;
    most = gp_ratio_most(&z->ratio, (size_t)z->total);
    return most < size ? most : size;
}

static size_t
topk_scratch(const void *instance, size_t size)
{
    const topk_instance *z = instance;

    return gp_topk_workspace(size, gp_ratio_most(&z->ratio, size));
}

/* A chunk of a larger tensor may have no part in what is chosen. */
static double
topk_error(const void *instance, size_t count)
{
    const topk_instance *z = instance;

    if (count == 0)
        return 0;
    if (z->scope == SCOPE_TENSOR && z->total > count)
        return 1;
    return 1 - (double)gp_ratio_least(&z->ratio, count) / (double)count;
}

static size_t
topk_prepare_bytes(const void *instance, size_t count)
{
    const topk_instance *z = instance;

    if (z->scope == SCOPE_CHUNK)
        return 0;
    return PREPARED + topk_scratch(z, count);
}

static gp_status
topk_prepare(const void *instance, const gp_codec_context *context,
             const float *source, size_t count, void *out)
{
    const topk_instance *z = instance;
    topk_prepared prepared = {context->offset, {0, 0}};

    if (z->scope == SCOPE_CHUNK)
        return GP_OK;
    if (count)
        prepared.cut = gp_topk_find(
            source, count, gp_ratio_count(&z->ratio, context->step, count),
            (uint8_t *)out + PREPARED);
    memcpy(out, &prepared, sizeof(prepared));
    return GP_OK;
}

/* Tensor scope with more of NaN and Inf than are to be sent: a chunk that has
 * some and no share in what is chosen sends one, lest the step looks sound
 * there and error feedback keeps them. */
static size_t
first_nonfinite(const float *source, size_t count, uint32_t *indices,
                float *values)
{
    for (size_t i = 0; i < count; i++)
        if ((gp_bits(source[i]) & GP_FP32_MAGNITUDE) >= GP_FP32_INFINITY) {
            indices[0] = (uint32_t)i;
            values[0] = source[i];
            return 1;
        }
    return 0;
}

static gp_status
topk_select(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, uint32_t *indices, float *values,
            size_t *selected)
{
    const topk_instance *z = instance;
    const topk_prepared *prepared = context->prepared;
    size_t k, bound = topk_bound(z, count);

    if (count > UINT32_MAX)
        return GP_ERR_TOO_LARGE;
    if (z->scope == SCOPE_CHUNK || !prepared) {
        k = gp_ratio_count(&z->ratio, context->step, count);
        if (k)
            gp_topk_select(source, count, k, indices, values, context->scratch);
    } else {
        k = gp_topk_take(source, count, context->offset - prepared->origin,
                         prepared->cut, indices, values, bound);
        if (k > bound)
            return gp_fail(GP_ERR_INVALID,
                           "topk: elements changed after the tensor was "
                           "prepared");
        if (k == 0 && prepared->cut.bits >= GP_FP32_INFINITY)
            k = first_nonfinite(source, count, indices, values);
    }
    *selected = k;
    return GP_OK;
}

const gp_codec_ops gp_codec_topk = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_SELECT,
    .properties = GP_CODEC_CONTRACTS,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "topk",
    .text = "the elements of largest magnitude, exactly",
    .params = topk_params,
    .open = topk_open,
    .close = free,
    .bound = topk_bound,
    .scratch = topk_scratch,
    .error_bound = topk_error,
    .prepare = topk_prepare,
    .prepare_bytes = topk_prepare_bytes,
    .select = topk_select,
};

/* threshold */

typedef struct threshold_instance {
    double value;
    bool relative;
    int scope;
    uint64_t total;
} threshold_instance;

static const gp_codec_param threshold_params[] = {
    {.name = "value",
     .value = 0.001,
     .minimum = 1e-38,
     .maximum = 1e38,
     .text = "least magnitude that is sent"},
    {.name = "relative",
     .value = 0,
     .minimum = 0,
     .maximum = 1,
     .integer = 1,
     .text = "1: value is times the root mean square"},
    SCOPE,
    {.name = NULL},
};

static gp_status
threshold_open(const double *values, const gp_codec_shape *shape,
               void **instance)
{
    threshold_instance *z = malloc(sizeof(*z));

    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    *z = (threshold_instance){values[0], values[1] > 0, (int)values[2],
                              shape->count};
    *instance = z;
    return GP_OK;
}

static size_t
threshold_bound(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

/* What is left out has magnitudes below value * RMS. */
static double
threshold_error(const void *instance, size_t count)
{
    const threshold_instance *z = instance;
    bool part = z->scope == SCOPE_TENSOR && z->total > count;

    if (!z->relative || part || z->value > 1)
        return 1;
    return z->value * z->value;
}

/* Bits of the smallest fp32 that is not below the threshold; never of 0, and of
 * Inf, which leaves NaN and Inf, when it is beyond all numbers. */
static uint32_t
threshold_bits(const threshold_instance *z, const float *source, size_t count)
{
    double t = z->value;
    uint32_t bits;

    if (z->relative)
        t *= sqrt(gp_sum_squares(source, count) / (double)(count ? count : 1));
    if (!(t < 0x1p128))
        return GP_FP32_INFINITY;
    bits = gp_bits((float)t);
    if ((double)gp_float(bits) < t)
        bits++;
    return bits ? bits : 1;
}

static size_t
threshold_prepare_bytes(const void *instance, size_t count)
{
    const threshold_instance *z = instance;

    (void)count;
    return z->scope == SCOPE_TENSOR ? PREPARED : 0;
}

static gp_status
threshold_prepare(const void *instance, const gp_codec_context *context,
                  const float *source, size_t count, void *out)
{
    const threshold_instance *z = instance;
    uint32_t bits;

    (void)context;
    if (z->scope == SCOPE_CHUNK)
        return GP_OK;
    bits = threshold_bits(z, source, count);
    memcpy(out, &bits, sizeof(bits));
    return GP_OK;
}

static gp_status
threshold_select(const void *instance, const gp_codec_context *context,
                 const float *source, size_t count, uint32_t *indices,
                 float *values, size_t *selected)
{
    const threshold_instance *z = instance;
    uint32_t bits;

    if (count > UINT32_MAX)
        return GP_ERR_TOO_LARGE;
    if (z->scope == SCOPE_TENSOR && context->prepared)
        memcpy(&bits, context->prepared, sizeof(bits));
    else
        bits = threshold_bits(z, source, count);
    *selected = gp_topk_above(source, count, bits, indices, values, count);
    return GP_OK;
}

const gp_codec_ops gp_codec_threshold = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_SELECT,
    .properties = 0,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "threshold",
    .text = "the elements of at least a given magnitude",
    .params = threshold_params,
    .open = threshold_open,
    .close = free,
    .bound = threshold_bound,
    .error_bound = threshold_error,
    .prepare = threshold_prepare,
    .prepare_bytes = threshold_prepare_bytes,
    .select = threshold_select,
};
