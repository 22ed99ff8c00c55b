/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thc.c - the codec thc: rotated numbers on a few of many levels.
 *
 * Li, Basat, Vargaftik, Lao, Xu, Mitzenmacher, Yu, "THC: Accelerating
 * Distributed Deep Learning Using Tensor Homomorphic Compression", NSDI 2024.
 * All workers rotate by the same signs and share the range, so a level means
 * the same number to all, and a shard adds levels without rotating back.
 *
 * Layout: unit (fp32), contributors (u16), lane width (u8), 0 (u8), lanes. With
 * one contributor a lane is an index into the table of levels, with more it is
 * the sum S of levels. A rotated number is (2 S - granularity * contributors) *
 * unit.
 *
 * Blocks are rotated; what is left after the last whole one is rotated together
 * with the end of that, so that no block is small.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/hadamard.h"
#include "compress/kernels.h"
#include "compress/lanes.h"
#include "compress/philox.h"
#include "compress/reduce.h"
#include "compress/thc.h"

#define HEAD         GP_THC_HEAD
#define CONTRIBUTORS GP_THC_CONTRIBUTORS

typedef struct thc {
    const gp_thc_table *table;
    size_t block;
    gp_levels levels;
    int32_t level[16];
} thc;

static const char *const widths[] = {"2", "4", NULL};
static const char *const spacings[] = {"optimal", "uniform", NULL};

static const gp_codec_param thc_params[] = {
    {"bits", 1, 0, 0, 0, "of a worker's code; sums take 8 or 16", widths},
    {"levels", 0, 0, 0, 0, "closer around 0, or evenly spaced", spacings},
    {"block", GP_HADAMARD_LARGEST, 32, GP_HADAMARD_LARGEST, 1,
     "elements that are rotated together, a power of two", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
thc_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    size_t block = (size_t)values[2];
    const gp_thc_table *t =
        &gp_thc_tables[gp_thc_which((uint32_t)values[0], (uint32_t)values[1])];
    thc *c;

    (void)shape;
    if (block & (block - 1))
        return gp_fail(GP_ERR_CONFIG, "block=%zu is not a power of two", block);
    c = calloc(1, sizeof(*c));
    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    c->table = t;
    c->block = block;
    for (size_t i = 0; i < 16; i++)
        c->level[i] = t->level[i];
    c->levels.most = (float)t->granularity;
    gp_thc_cells(t, c->levels.below, c->levels.level, c->levels.distance);
    *instance = c;
    return GP_OK;
}

static size_t
thc_bound(const void *instance, size_t count)
{
    size_t bytes;

    (void)instance;
    if (!gp_mul(count, 2, &bytes) || !gp_add(bytes, HEAD, &bytes))
        return SIZE_MAX;
    return bytes;
}

static size_t
thc_scratch(const void *instance, size_t count)
{
    size_t bytes;

    (void)instance;
    return gp_mul(count, sizeof(float), &bytes) ? bytes : SIZE_MAX;
}

/* ---- rotation ---------------------------------------------------------- */

static size_t
block_of(const thc *c, size_t count)
{
    return gp_hadamard_block(count, 0, c->block);
}

static void
rotate(const thc *c, const gp_codec_context *context, const float *source,
       float *out, size_t count)
{
    gp_stream signs = gp_stream_of(context, GP_USE_SIGNS);
    size_t block = block_of(c, count), whole = count / block * block;
    float *last = out + count - block;

    gp_hadamard_forward(&signs, context->offset, source, out, whole, block);
    if (whole == count)
        return;
    memcpy(out + whole, source + whole, (count - whole) * sizeof(float));
    gp_hadamard_forward(&signs, GP_THC_AGAIN + context->offset, last, last,
                        block, block);
}

static void
rotate_back(const thc *c, const gp_codec_context *context, float *data,
            size_t count)
{
    gp_stream signs = gp_stream_of(context, GP_USE_SIGNS);
    size_t block = block_of(c, count), whole = count / block * block;

    if (whole < count)
        gp_hadamard_inverse(&signs, GP_THC_AGAIN + context->offset,
                            data + count - block, block, block);
    gp_hadamard_inverse(&signs, context->offset, data, whole, block);
}

/* ---- messages ----------------------------------------------------------- */

typedef struct message {
    float unit;
    unsigned contributors, width;
    uint32_t limit; /* largest lane */
    const uint8_t *lanes;
} message;

static bool
read_head(const thc *c, const void *bytes, size_t length, size_t count,
          message *m)
{
    const uint8_t *p = bytes;

    if (length < HEAD || length > thc_bound(c, count))
        return false;
    m->unit = gp_float(gp_get32(p));
    m->contributors = gp_get16(p + 4);
    if (!gp_thc_unit_valid(c->table, gp_get32(p)) || m->contributors == 0 ||
        m->contributors > CONTRIBUTORS)
        return false;
    m->width = gp_thc_width(c->table, m->contributors);
    m->limit = gp_thc_limit(c->table, m->contributors, m->unit);
    m->lanes = p + HEAD;
    return p[6] == m->width && p[7] == 0 &&
           length - HEAD == gp_lane_bytes(count, m->width);
}

static void
write_head(uint8_t *out, float unit, unsigned contributors, unsigned width)
{
    gp_put32(out, gp_bits(unit));
    gp_put16(out + 4, (uint16_t)contributors);
    out[6] = (uint8_t)width;
    out[7] = 0;
}

static size_t
strip_of(size_t count, size_t at)
{
    return GP_MIN(count - at, (size_t)GP_STRIP);
}

/* Sums of levels of a strip; false where no encoder wrote it. */
static bool
read_strip(const thc *c, const message *m, size_t at, size_t n, int32_t *sum)
{
    const gp_lane_kernels *k = gp_lanes_get();
    const uint8_t *from = m->lanes + gp_lane_bytes(at, m->width);
    size_t in_byte = 8 / m->width;

    k->widen_unsigned(from, m->width, sum, n);
    if (m->width < 8 && n % in_byte &&
        from[n / in_byte] >> n % in_byte * m->width)
        return false;
    if (k->most(sum, n) > m->limit)
        return false;
    if (m->contributors == 1)
        k->look_up(c->level, sum, n);
    return true;
}

/* ---- encode ------------------------------------------------------------ */

/* What workers agree on: the root mean square, NaN for what is not finite. */
static float
proposal(const thc *c, const float *x, size_t count)
{
    double most = 0, energy = 0, rest = 0;
    size_t block = count ? block_of(c, count) : 1;
    size_t whole = count / block * block;

    if (gp_max_magnitude(x, count) >= GP_FP32_INFINITY)
        return gp_float(GP_FP32_NAN);
    for (size_t at = 0; at < whole; at += block) {
        energy = gp_sum_squares(x + at, block);
        most = fmax(most, energy / (double)block);
    }
    if (whole < count)
        rest = gp_sum_squares(x + whole, count - whole);
    return gp_thc_proposal(most, energy, rest, count - whole, block);
}

static gp_status
thc_propose(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, float *value)
{
    (void)context;
    *value = proposal(instance, source, count);
    return GP_OK;
}

static void
write_nothing(const thc *c, float unit, size_t count, uint8_t *out)
{
    write_head(out, unit, 1, c->table->width);
    memset(out + HEAD, 0, gp_lane_bytes(count, c->table->width));
}

static void
write_codes(const thc *c, const gp_codec_context *context, const float *z,
            float unit, size_t count, uint8_t *out)
{
    gp_stream stream = gp_stream_of(context, GP_USE_ROUNDING);
    unsigned width = c->table->width;
    uint32_t words[GP_STRIP];
    int32_t q[GP_STRIP];

    write_head(out, unit, 1, width);
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        gp_philox_words(&stream, context->offset + at, words, n);
        gp_lanes_get()->place(&c->levels, z + at, words, 0.5f / unit, q, n);
        gp_lanes_get()->narrow(q, width, out + HEAD + gp_lane_bytes(at, width),
                               n);
    }
}

/* Where nothing was agreed, the elements' own root mean square serves. */
static gp_status
thc_encode(const void *instance, const gp_codec_context *context,
           const float *source, size_t count, void *out, size_t capacity,
           size_t *length)
{
    const thc *c = instance;
    float unit = 0;

    if (thc_bound(c, count) == SIZE_MAX || capacity < thc_bound(c, count))
        return GP_ERR_TOO_LARGE;
    if (gp_max_magnitude(source, count) >= GP_FP32_INFINITY)
        unit = gp_float(GP_FP32_NAN);
    else if (context->shared != 0)
        unit = gp_thc_unit(c->table, fabsf(context->shared));
    else
        unit = gp_thc_unit(c->table, proposal(c, source, count));
    if (unit > 0 && count) {
        rotate(c, context, source, context->scratch, count);
        write_codes(c, context, context->scratch, unit, count, out);
    } else {
        write_nothing(c, unit, count, out);
    }
    *length = HEAD + gp_lane_bytes(count, c->table->width);
    return GP_OK;
}

/* ---- decode -------------------------------------------------------------- */

static gp_status
thc_decode(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t length, float *target, size_t count)
{
    const thc *c = instance;
    int32_t sum[GP_STRIP];
    message m;

    if (!read_head(c, bytes, length, count, &m))
        return GP_ERR_CORRUPT;
    for (size_t at = 0; at < count; at += GP_STRIP) {
        int32_t middle = (int32_t)(c->table->granularity * m.contributors);
        size_t n = strip_of(count, at);

        if (!read_strip(c, &m, at, n, sum))
            return GP_ERR_CORRUPT;
        gp_lanes_get()->centre(sum, middle, m.unit, target + at, n);
    }
    if (m.unit > 0 && count)
        rotate_back(c, context, target, count);
    else
        for (size_t i = 0; i < count; i++)
            target[i] = m.unit;
    return GP_OK;
}

static gp_status
thc_decode_add(const void *instance, const gp_codec_context *context,
               const void *bytes, size_t length, float *target, size_t count)
{
    gp_status status =
        thc_decode(instance, context, bytes, length, context->scratch, count);

    if (status == GP_OK)
        gp_add_fp32(target, context->scratch, count);
    return status;
}

/* ---- sums ------------------------------------------------------------------
 */

/* One unit for all, but that NaN makes all NaN. */
static bool
common_head(const thc *c, const gp_codec_input *input, size_t inputs,
            size_t count, message *all, message *sum)
{
    if (inputs == 0 || inputs > GP_CODEC_FOLD)
        return false;
    sum->contributors = 0;
    for (size_t i = 0; i < inputs; i++) {
        if (!read_head(c, input[i].bytes, input[i].length, count, &all[i]))
            return false;
        sum->contributors += all[i].contributors;
        if (i == 0 || isnan(all[i].unit))
            sum->unit = all[i].unit;
    }
    for (size_t i = 0; i < inputs; i++)
        if (!isnan(sum->unit) && all[i].unit != sum->unit)
            return false;
    return true;
}

static bool
sum_levels(const thc *c, const message *all, size_t inputs, size_t at, size_t n,
           int32_t *sum)
{
    int32_t one[GP_STRIP];

    memset(sum, 0, n * sizeof(*sum));
    for (size_t i = 0; i < inputs; i++) {
        if (!read_strip(c, &all[i], at, n, one))
            return false;
        gp_lanes_get()->add(sum, one, n);
    }
    return true;
}

static gp_status
thc_aggregate(const void *instance, const gp_codec_input *input, size_t inputs,
              size_t count, void *out, size_t capacity, size_t *length)
{
    const thc *c = instance;
    uint8_t *to = (uint8_t *)out + HEAD;
    message all[GP_CODEC_FOLD], total;
    int32_t sum[GP_STRIP];

    if (!common_head(c, input, inputs, count, all, &total))
        return GP_ERR_CORRUPT;
    if (total.contributors > CONTRIBUTORS || capacity < thc_bound(c, count))
        return GP_ERR_TOO_LARGE;
    total.width = gp_thc_width(c->table, total.contributors);
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        if (!sum_levels(c, all, inputs, at, n, sum))
            return GP_ERR_CORRUPT;
        if (!(total.unit > 0))
            memset(sum, 0, n * sizeof(*sum));
        if (total.contributors > 1)
            gp_lanes_get()->narrow(sum, total.width,
                                   to + gp_lane_bytes(at, total.width), n);
    }
    write_head(out, total.unit, total.contributors, total.width);
    *length = HEAD + gp_lane_bytes(count, total.width);
    if (total.contributors == 1)
        memcpy(out, input[0].bytes, *length);
    return GP_OK;
}

const gp_codec_ops gp_codec_thc = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "thc",
    .text = "rotated, on levels that all workers share, summed as integers",
    .params = thc_params,
    .open = thc_open,
    .close = free,
    .bound = thc_bound,
    .scratch = thc_scratch,
    .encode = thc_encode,
    .decode = thc_decode,
    .decode_add = thc_decode_add,
    .aggregate = thc_aggregate,
    .propose = thc_propose,
};
