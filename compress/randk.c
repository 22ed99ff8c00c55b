/* SPDX-License-Identifier: Apache-2.0 */
/*
 * randk.c - the selection randk: elements drawn without replacement.
 *
 * All ranks draw the same, so that indices need not travel and the selected
 * values can be summed. Floyd's method (Bentley and Floyd 1987) over a bitmap:
 * integers only, hence the same everywhere, and sorted as a matter of course.
 * Each draw takes two words; where more than half are selected, those left out
 * are drawn, so that an element's own words are enough.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/bitlist.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/ratio.h"
#include "compress/reduce.h"
#include "compress/scatter.h"
#include "compress/select.h"

#define WORDS 256u /* drawn at a time; even */

enum { SCALE_NONE = 0, SCALE_UNBIASED = 1 };

typedef struct randk_instance {
    gp_ratio ratio;
    int scale;
} randk_instance;

static const char *const scales[] = {"none", "unbiased", NULL};

static const gp_codec_param randk_params[] = {
    {.name = "ratio",
     .value = 0.01,
     .minimum = 1e-9,
     .maximum = 1,
     .text = "share of the elements that is sent"},
    {.name = "scale",
     .words = scales,
     .text = "unbiased: values are sent times n / k"},
    GP_RATIO_START,
    GP_RATIO_OVER,
    {.name = NULL},
};

static gp_status
randk_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_ratio ratio;
    randk_instance *z;
    gp_status status = gp_ratio_make(values[0], values[2], values[3], &ratio);

    (void)shape;
    if (status)
        return status;
    z = malloc(sizeof(*z));
    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    *z = (randk_instance){ratio, (int)values[1]};
    *instance = z;
    return GP_OK;
}

/* Scaling rounds, and may saturate. */
static uint32_t
randk_properties(const void *instance)
{
    const randk_instance *z = instance;

    return GP_CODEC_FIXED_RATE |
           (z->scale == SCALE_UNBIASED ? GP_CODEC_UNBIASED : GP_CODEC_LINEAR);
}

static size_t
randk_bound(const void *instance, size_t size)
{
    const randk_instance *z = instance;

    return gp_ratio_most(&z->ratio, size);
}

/* A bit per element. */
static size_t
randk_scratch(const void *instance, size_t size)
{
    (void)instance;
    return size / 8 + 1;
}

/* In expectation, over the draws. */
static double
randk_error(const void *instance, size_t count)
{
    const randk_instance *z = instance;
    double share;

    if (count == 0)
        return 0;
    share = (double)gp_ratio_least(&z->ratio, count) / (double)count;
    return z->scale == SCALE_UNBIASED ? 1 / share - 1 : 1 - share;
}

/* Sets `draws` of the n bits, each set of that size as likely as any other (but
 * for 2^-64 n). Draw i is uniform over 0 .. n - draws + i; what is set already
 * gives way to the last of the range. */
static void
draw(const gp_codec_context *context, uint8_t *bits, size_t n, size_t draws)
{
    gp_stream stream = gp_stream_of(context, GP_USE_SELECTION);
    uint32_t words[WORDS];

    memset(bits, 0, n / 8 + 1);
    for (size_t i = 0; i < draws; i++) {
        size_t at = 2 * i % WORDS, last = n - draws + i, t;
        uint64_t u;

        if (at == 0)
            gp_philox_words(&stream, context->offset + 2 * i, words,
                            GP_MIN(2 * (draws - i), WORDS));
        u = words[at] | (uint64_t)words[at + 1] << 32;
        t = (size_t)((unsigned __int128)u * (last + 1) >> 64);
        t = bits[t >> 3] >> (t & 7) & 1 ? last : t;
        bits[t >> 3] = (uint8_t)(bits[t >> 3] | 1u << (t & 7));
    }
}

static gp_status
randk_imply(const void *instance, const gp_codec_context *context, size_t count,
            uint32_t *indices, size_t *selected)
{
    const randk_instance *z = instance;
    size_t k = gp_ratio_count(&z->ratio, context->step, count);
    bool most = k > count / 2;

    if (count > UINT32_MAX)
        return GP_ERR_TOO_LARGE;
    draw(context, context->scratch, count, most ? count - k : k);
    *selected =
        gp_bitlist(context->scratch, count, most ? 0xff : 0, indices, k);
    return GP_OK;
}

/* Numbers stay numbers. */
static void
scale_up(float *values, size_t k, float factor)
{
    for (size_t j = 0; j < k; j++) {
        float x = values[j], y = x * factor;

        values[j] = isinf(y) && !isinf(x) ? copysignf(FLT_MAX, x) : y;
    }
}

static gp_status
randk_select(const void *instance, const gp_codec_context *context,
             const float *source, size_t count, uint32_t *indices,
             float *values, size_t *selected)
{
    const randk_instance *z = instance;
    gp_status status;
    size_t k;

    status = randk_imply(instance, context, count, indices, &k);
    if (status)
        return status;
    /* What is not drawn must not hide that the gradient is of no use. */
    if (gp_max_magnitude(source, count) >= GP_FP32_INFINITY) {
        for (size_t j = 0; j < k; j++)
            values[j] = gp_float(GP_FP32_NAN);
    } else {
        gp_gather(source, indices, values, k);
        if (z->scale == SCALE_UNBIASED && k)
            scale_up(values, k, (float)((double)count / (double)k));
    }
    *selected = k;
    return GP_OK;
}

const gp_codec_ops gp_codec_randk = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_SELECT,
    .properties = GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "randk",
    .text = "elements drawn at random, the same on all workers",
    .params = randk_params,
    .open = randk_open,
    .close = free,
    .properties_of = randk_properties,
    .bound = randk_bound,
    .scratch = randk_scratch,
    .error_bound = randk_error,
    .select = randk_select,
    .imply = randk_imply,
};
