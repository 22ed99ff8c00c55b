/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vote.c - the codec vote: signs that a shard counts without decoding them.
 *
 * Layout: u32 number of votes V, then as many bit planes as V has binary
 * digits, the lowest first, of ceil(count / 8) bytes each: how many of the V
 * votes for an element are below zero. It decodes to V minus twice that, the
 * sum of the signs. One encode is V = 1 and one plane. V = 0 and a plane of
 * zeros say that somebody saw a NaN or Inf: all elements decode to NaN.
 *
 * Counting is bit-sliced: 64 elements are added at once, digit by digit.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/sign_kernels.h"
#include "compress/stochastic.h"

#define HEAD 4

/* Elements that are counted at once, and the same in words of 64. */
#define PART  2048
#define WORDS (PART / 64)
/* Digits of the largest sum: 64 messages of 65535 votes. */
#define DIGITS 22

typedef struct vote_instance {
    uint32_t workers;
} vote_instance;

static const gp_codec_param vote_params[] = {
    {"workers", GP_CODEC_FOLD, 1, 65535, 1,
     "most votes that a sum may hold; sizes the buffers of sums", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
vote_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    vote_instance *v = malloc(sizeof(*v));

    (void)shape;
    if (!v)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    v->workers = (uint32_t)values[0];
    *instance = v;
    return GP_OK;
}

static size_t
digits_of(uint32_t votes)
{
    return votes ? 32 - (size_t)__builtin_clz(votes) : 1;
}

static size_t
stride_of(size_t count)
{
    return count / 8 + (count % 8 != 0);
}

static size_t
vote_bound(const void *instance, size_t count)
{
    const vote_instance *v = instance;
    size_t bytes;

    if (!gp_mul(stride_of(count), digits_of(v->workers), &bytes) ||
        !gp_add(bytes, HEAD, &bytes))
        return SIZE_MAX;
    return bytes;
}

/* Of votes nothing is kept, unless asked for. */
static double
vote_error_bound(const void *instance, size_t count)
{
    (void)instance;
    (void)count;
    return INFINITY;
}

static gp_status
vote_encode_feedback(const void *instance, const gp_codec_context *context,
                     const float *source, float *residual, size_t count,
                     void *out, size_t capacity, size_t *length)
{
    static const float levels[] = {1, -1};
    const gp_sign_kernels *k = gp_sign_kernels_get();
    size_t bound = vote_bound(instance, count), stride = stride_of(count);
    uint8_t *bits = (uint8_t *)out + HEAD;
    gp_sign_stats stats = {.most = 0};

    (void)context;
    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    k->scan(source, residual, count, GP_SIGN_NOTHING, 0, bits, &stats);
    gp_put32(out, stats.most < GP_FP32_INFINITY);
    if (stats.most >= GP_FP32_INFINITY) {
        memset(bits, 0, stride);
        if (residual)
            memset(residual, 0, count * sizeof(*residual));
    } else if (residual) {
        k->paint_sub(bits, levels, residual, count);
    }
    *length = HEAD + stride;
    return GP_OK;
}

static gp_status
vote_encode(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, void *out, size_t capacity,
            size_t *length)
{
    return vote_encode_feedback(instance, context, source, NULL, count, out,
                                capacity, length);
}

/* A word of up to 64 bits, the first `n` of which count. */
static uint64_t
word_of(const uint8_t *plane, size_t n)
{
    uint64_t word = 0;

    if (n >= 64)
        return gp_get64(plane);
    for (size_t j = 0; j < (n + 7) / 8; j++)
        word |= (uint64_t)plane[j] << 8 * j;
    return word;
}

/* No element has more votes below zero than there are, and the bits after the
 * last element are 0. */
static bool
planes_valid(const uint8_t *planes, size_t stride, uint32_t votes, size_t count)
{
    size_t digits = digits_of(votes), first = 0;

    /* Of 2^d - 1 votes every number of d digits is possible. */
    if (votes && (votes & (votes + 1)) == 0)
        first = count / 64 * 64;
    for (size_t i = first; i < count; i += 64) {
        size_t n = count - i < 64 ? count - i : 64;
        uint64_t more = 0, equal = UINT64_MAX, any = 0;

        for (size_t k = digits; k-- > 0;) {
            uint64_t word = word_of(planes + k * stride + i / 8, n);

            any |= word;
            more |= votes >> k & 1 ? 0 : equal & word;
            equal &= votes >> k & 1 ? word : ~word;
        }
        if (more || (n < 64 && any >> n))
            return false;
    }
    return true;
}

/* The number of votes is read here and nowhere else: a peer may write its
 * message again, and the number of planes follows from it. */
static bool
vote_valid(const vote_instance *v, const uint8_t *bytes, size_t length,
           size_t count, uint32_t *votes)
{
    size_t stride = stride_of(count);

    if (length < HEAD)
        return false;
    *votes = gp_once32(bytes);
    return *votes <= v->workers &&
           length - HEAD == stride * digits_of(*votes) &&
           planes_valid(bytes + HEAD, stride, *votes, count);
}

/* Elements [from, from + n) of a message; `from` is a multiple of 8. */
static void
decode_part(const uint8_t *bytes, uint32_t votes, size_t count, size_t from,
            size_t n, float *target)
{
    static const float nan[] = {NAN, NAN};
    const gp_sign_kernels *k = gp_sign_kernels_get();
    const uint8_t *planes = bytes + HEAD + from / 8;

    if (votes)
        k->count(planes, stride_of(count), digits_of(votes), (float)votes,
                 target, n);
    else
        k->paint(planes, nan, target, n);
}

static void
add_part(const uint8_t *bytes, uint32_t votes, size_t count, size_t from,
         size_t n, float *target)
{
    static const float one[] = {1, -1};
    float decoded[PART];

    if (votes == 1) {
        gp_sign_kernels_get()->paint_add(bytes + HEAD + from / 8, one, target,
                                         n);
        return;
    }
    decode_part(bytes, votes, count, from, n, decoded);
    gp_add_fp32(target, decoded, n);
}

static gp_status
vote_decode(const void *instance, const gp_codec_context *context,
            const void *bytes, size_t length, float *target, size_t count)
{
    uint32_t votes;

    (void)context;
    if (!vote_valid(instance, bytes, length, count, &votes))
        return GP_ERR_CORRUPT;
    decode_part(bytes, votes, count, 0, count, target);
    return GP_OK;
}

static gp_status
vote_decode_add(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    uint32_t votes;

    (void)context;
    if (!vote_valid(instance, bytes, length, count, &votes))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < PART ? count - at : PART;
        add_part(bytes, votes, count, at, n, target + at);
    }
    return GP_OK;
}

typedef struct tally {
    uint64_t plane[DIGITS][WORDS];
    size_t digits;
    uint32_t votes;
} tally;

/* Adds one plane of weight 2^from. A carry cannot leave the digits that the sum
 * of all votes has. */
static void
add_plane(tally *t, size_t from, const uint8_t *plane, size_t bytes)
{
    uint64_t carry[WORDS] = {0};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(carry, plane, bytes);
#else
    for (size_t j = 0; j < bytes; j++)
        carry[j / 8] |= (uint64_t)plane[j] << j % 8 * 8;
#endif
    for (size_t k = from; k < t->digits; k++)
        for (size_t j = 0; j < WORDS; j++) {
            uint64_t both = t->plane[k][j] & carry[j];

            t->plane[k][j] ^= carry[j];
            carry[j] = both;
        }
}

/* The sum of all messages for elements [from, from + n). */
static void
count_part(tally *t, const gp_codec_input *input, const uint32_t *votes,
           size_t inputs, size_t count, size_t from, size_t n)
{
    size_t stride = stride_of(count), bytes = (n + 7) / 8;

    t->votes = 0;
    t->digits = 0;
    for (size_t i = 0; i < inputs; i++) {
        const uint8_t *message = input[i].bytes;

        t->votes += votes[i];
        while (t->digits < digits_of(t->votes))
            memset(t->plane[t->digits++], 0, sizeof(t->plane[0]));
        for (size_t k = 0; k < digits_of(votes[i]); k++)
            add_plane(t, k, message + HEAD + k * stride + from / 8, bytes);
    }
}

/* The number of all votes, 0 when a message stands for NaN. */
static uint32_t
all_votes(const uint32_t *votes, size_t inputs)
{
    uint32_t all = 0;

    for (size_t i = 0; i < inputs; i++) {
        if (!votes[i])
            return 0;
        all += votes[i];
    }
    return all;
}

static bool
all_valid(const vote_instance *v, const gp_codec_input *input, size_t inputs,
          size_t count, uint32_t votes[GP_CODEC_FOLD])
{
    for (size_t i = 0; i < inputs; i++)
        if (!vote_valid(v, input[i].bytes, input[i].length, count, &votes[i]))
            return false;
    return true;
}

/* Single votes in one pass, sums of votes one after the other. */
static void
add_parts(const gp_codec_input *input, const uint32_t *votes, size_t inputs,
          bool add, size_t count, size_t from, size_t n, float *target)
{
    static const float one[] = {1, -1};
    const uint8_t *bits[GP_CODEC_FOLD];
    float levels[GP_CODEC_FOLD][2];

    for (size_t i = 0; i < inputs; i++) {
        const uint8_t *bytes = input[i].bytes;

        memcpy(levels[i], one, sizeof(one));
        bits[i] = bytes + HEAD + from / 8;
        if (votes[i] == 1)
            continue;
        if (!add)
            decode_part(input[0].bytes, votes[0], count, from, n, target);
        for (size_t j = !add; j < inputs; j++)
            add_part(input[j].bytes, votes[j], count, from, n, target);
        return;
    }
    gp_sign_kernels_get()->fold(bits, (const float(*)[2])levels, inputs, add,
                                target, n);
}

static gp_status
vote_fold(const void *instance, const gp_codec_input *input, size_t inputs,
          int add, float *target, size_t count)
{
    uint32_t votes[GP_CODEC_FOLD];

    if (!all_valid(instance, input, inputs, count, votes))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < PART ? count - at : PART;
        add_parts(input, votes, inputs, add, count, at, n, target + at);
    }
    return GP_OK;
}

static void
put_planes(const tally *t, uint8_t *planes, size_t stride, size_t bytes)
{
    for (size_t k = 0; k < t->digits; k++)
        for (size_t j = 0; j < bytes; j++)
            planes[k * stride + j] = (uint8_t)(t->plane[k][j / 8] >> j % 8 * 8);
}

static gp_status
vote_aggregate(const void *instance, const gp_codec_input *input, size_t inputs,
               size_t count, void *out, size_t capacity, size_t *length)
{
    const vote_instance *v = instance;
    size_t bound = vote_bound(v, count), stride = stride_of(count);
    uint8_t *planes = (uint8_t *)out + HEAD;
    uint32_t votes[GP_CODEC_FOLD], all;
    tally t;

    if (!all_valid(v, input, inputs, count, votes))
        return GP_ERR_CORRUPT;
    all = all_votes(votes, inputs);
    if (bound == SIZE_MAX || capacity < bound || all > v->workers)
        return GP_ERR_TOO_LARGE;
    gp_put32(out, all);
    *length = HEAD + stride * digits_of(all);
    if (!all)
        memset(planes, 0, stride);
    for (size_t at = 0, n; all && at < count; at += n) {
        n = count - at < PART ? count - at : PART;
        count_part(&t, input, votes, inputs, count, at, n);
        put_planes(&t, planes + at / 8, stride, (n + 7) / 8);
    }
    return GP_OK;
}

static size_t
vote_most_summed(const void *instance)
{
    return ((const vote_instance *)instance)->workers;
}

const gp_codec_ops gp_codec_vote = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_VOTES,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "vote",
    .text = "signs, which a shard counts: majority vote",
    .params = vote_params,
    .open = vote_open,
    .close = free,
    .bound = vote_bound,
    .error_bound = vote_error_bound,
    .encode = vote_encode,
    .encode_feedback = vote_encode_feedback,
    .decode = vote_decode,
    .decode_add = vote_decode_add,
    .fold = vote_fold,
    .aggregate = vote_aggregate,
    .most_summed = vote_most_summed,
};
