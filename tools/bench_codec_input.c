/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec_input.c - numbers to compress: made ones and files.
 *
 * Made numbers depend on the seed and their place alone, so that a run can be
 * repeated and compared. Windows of different ranks and steps overlap, shifted
 * by a prime; element i of one and element i of another are independent.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_codec.h"
#include "npy.h"

#define SHIFT 4099u
#define STEPS 64u /* that differ */

enum { GAUSS, LAPLACE, STUDENT, LOGNORMAL, SPIKE, ZEROS, KINDS };

static const char *const kinds[KINDS] = {"gauss",     "laplace", "student",
                                         "lognormal", "spike",   "zeros"};

static int
kind_of(const char *text)
{
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(text, kinds[i]))
            return i;
    return KINDS;
}

/* In (0, 1): number `index` of a sequence (splitmix64). */
static double
uniform(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * 0xd1342543de82ef95ull + index * 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return ((double)(z >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller. */
static double
normal(uint64_t seed, uint64_t index)
{
    double radius = sqrt(-2 * log(uniform(seed, 2 * index)));

    return radius * cos(2 * M_PI * uniform(seed, 2 * index + 1));
}

static double
make(int kind, uint64_t seed, uint64_t i)
{
    double a, b, c;

    switch (kind) {
    case GAUSS:
        return normal(seed, i);
    case LAPLACE:
        a = uniform(seed, i) - 0.5;
        return copysign(log(1 - 2 * fabs(a)), a) * -M_SQRT1_2;
    case STUDENT: /* three degrees of freedom */
        a = normal(seed, 4 * i + 1);
        b = normal(seed, 4 * i + 2);
        c = normal(seed, 4 * i + 3);
        return normal(seed, 4 * i) / sqrt((a * a + b * b + c * c) / 3);
    case LOGNORMAL:
        return exp(normal(seed, i));
    case SPIKE: /* one in 65536 */
        return i % 65536 == 32768 ? 1 : 0;
    default:
        return 0;
    }
}

static gp_status
source_memory(uint64_t count, float **out)
{
    size_t bytes;

    if (!gp_mul(count, sizeof(float), &bytes) ||
        !(*out = gp_alloc_aligned(bytes + 64)))
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %llu elements",
                       (unsigned long long)count);
    return GP_OK;
}

static gp_status
make_source(const gp_codec_bench *bench, int kind, gp_codec_source *out)
{
    uint64_t windows = GP_MAX(out->ranks, STEPS);
    uint64_t total = out->count + windows * SHIFT;
    gp_status status = source_memory(total, &out->values);

    if (status != GP_OK)
        return status;
    for (uint64_t i = 0; i < total; i++)
        out->values[i] = (float)make(kind, bench->seed, i);
    out->rank_stride = out->step_stride = SHIFT;
    out->steps = STEPS;
    return GP_OK;
}

static uint64_t
columns_of(const gp_npy *npy)
{
    uint64_t columns = 1;

    for (uint32_t i = 1; i < npy->dimensions; i++)
        columns *= npy->shape[i];
    return columns;
}

static gp_status
read_one(const gp_codec_bench *bench, uint32_t index, gp_codec_source *out)
{
    const char *path = bench->inputs[index];
    gp_npy npy;
    gp_status status = gp_npy_read(path, &npy);

    if (status != GP_OK)
        return status;
    if (npy.count < out->count)
        status = gp_fail(GP_ERR_MISMATCH,
                         "%s has %zu elements, %llu are needed; all files of a "
                         "run have the same number",
                         path, npy.count, (unsigned long long)out->count);
    else
        memcpy(out->values + index * out->step_stride, npy.values,
               out->count * sizeof(float));
    if (index == 0 && !out->columns)
        out->columns = columns_of(&npy);
    free(npy.values);
    return status;
}

static gp_status
read_source(const gp_codec_bench *bench, gp_codec_source *out)
{
    gp_status status;
    size_t total;

    out->step_stride = (out->count + 15) / 16 * 16;
    out->steps = bench->input_count;
    if (!gp_mul(out->step_stride, out->steps, &total))
        return gp_fail(GP_ERR_TOO_LARGE, "too many elements");
    status = source_memory(total, &out->values);
    for (uint32_t i = 0; i < bench->input_count && status == GP_OK; i++)
        status = read_one(bench, i, out);
    return status;
}

gp_status
gp_codec_source_limit(const gp_codec_bench *bench, uint64_t *out)
{
    gp_npy npy;
    gp_status status;

    if (kind_of(bench->inputs[0]) < KINDS) {
        if (bench->input_count > 1)
            return gp_fail(GP_ERR_INVALID,
                           "several are steps, and must all be files");
        *out = UINT64_MAX;
        return GP_OK;
    }
    status = gp_npy_read(bench->inputs[0], &npy);
    if (status != GP_OK)
        return status;
    *out = npy.count;
    free(npy.values);
    if (!npy.count)
        return gp_fail(GP_ERR_INVALID, "%s has no elements", bench->inputs[0]);
    return GP_OK;
}

gp_status
gp_codec_source_create(const gp_codec_bench *bench, uint64_t count,
                       gp_codec_source *out)
{
    gp_codec_source source = {
        .count = count, .columns = bench->columns, .ranks = bench->workers};
    int kind = kind_of(bench->inputs[0]);
    gp_status status = kind < KINDS ? make_source(bench, kind, &source)
                                    : read_source(bench, &source);

    if (status != GP_OK) {
        free(source.values);
        return status;
    }
    *out = source;
    return GP_OK;
}

const float *
gp_codec_source_at(const gp_codec_source *source, uint64_t step, uint32_t rank)
{
    uint64_t at = rank * source->rank_stride;

    /* Made ones: rank and step share one row of windows. */
    if (source->rank_stride)
        return source->values +
               (at + step % source->steps * source->step_stride) %
                   (GP_MAX(source->ranks, source->steps) * SHIFT);
    return source->values + step % source->steps * source->step_stride;
}
