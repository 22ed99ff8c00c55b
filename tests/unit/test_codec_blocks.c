/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_blocks.c - the mathematics of the block formats and of their ways
 * of rounding: bounds, variances, bias, what workers' errors add up to, folds,
 * and independence of how a tensor is cut into chunks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/kernels.h"
#include "tests/conformance/codec_residual.h"

#define MOST 65536

static float x[MOST], out[MOST], sum[MOST], other[MOST];
static uint8_t bytes[8 * (4 * MOST + 64)];
static uint8_t *workspace;

static uint64_t
random64(uint64_t i)
{
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ i >> 30) * 0xbf58476d1ce4e5b9u;
    i = (i ^ i >> 27) * 0x94d049bb133111ebu;
    return i ^ i >> 31;
}

static double
uniform(uint64_t i)
{
    return ((double)(random64(i) >> 11) + 0.5) * 0x1p-53;
}

static void
gauss(float *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)(sqrt(-2 * log(uniform(2 * i))) *
                        cos(2 * 3.14159265358979 * uniform(2 * i + 1)));
}

static gp_pipeline *
open_text(const char *text)
{
    gp_pipeline *p;

    if (gp_pipeline_parse(text, &p))
        fail_msg("%s: %s", text, gp_last_error());
    return p;
}

static size_t
encode(const gp_pipeline *p, const gp_codec_context *context, const float *from,
       size_t n, uint8_t *to)
{
    size_t length;

    assert_int_equal(gp_pipeline_encode(p, context, NULL, from, n, to,
                                        gp_pipeline_bound(p, n), &length,
                                        workspace),
                     GP_OK);
    return length;
}

static void
decode(const gp_pipeline *p, const gp_codec_context *context,
       const uint8_t *from, size_t length, float *to, size_t n)
{
    assert_int_equal(
        gp_pipeline_decode(p, context, from, length, to, n, workspace), GP_OK);
}

static double
nmse_of(const float *decoded, const float *from, size_t n)
{
    double error = 0, norm = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)decoded[i] - (double)from[i];

        error += d * d;
        norm += (double)from[i] * (double)from[i];
    }
    return error / norm;
}

static double
nmse(const char *text, const gp_codec_context *context, size_t n)
{
    gp_pipeline *p = open_text(text);
    size_t length = encode(p, context, x, n, bytes);

    decode(p, context, bytes, length, out, n);
    gp_pipeline_destroy(p);
    return nmse_of(out, x, n);
}

static const gp_codec_context plain = {.seed = 7, .tensor = 1, .size = 1};

/* ---- errors ---------------------------------------------------------- */

/* On Gaussian numbers; each figure follows from the format's step sizes. */
static void
errors_are_as_known(void **state)
{
    static const struct {
        const char *text;
        double least, most;
    } known[] = {
        {"fp8", 6.5e-4, 7.0e-4},
        {"fp8:format=e5m2", 2.6e-3, 2.9e-3},
        {"mxfp8", 8.0e-4, 1.1e-3},
        {"mxfp8:format=e5m2", 2.7e-3, 3.0e-3},
        {"mxfp6:format=e2m3", 7.5e-4, 9.0e-4},
        {"mxfp6:format=e3m2", 2.7e-3, 3.1e-3},
        {"mxfp4", 1.2e-2, 1.6e-2},
        {"mxint8", 5.0e-5, 7.5e-5},
        {"nvfp4", 8.0e-3, 9.6e-3},
        {"q8", 3.0e-5, 7.5e-5},
        {"q8:scale=bf16", 3.0e-5, 7.6e-5},
        {"q4", 7.0e-3, 1.1e-2},
        {"q4:block=256", 1.0e-2, 2.5e-2},
        {"q2:block=32", 0.40, 0.46},
        {"q2", 0.64, 0.70},
        {"q2:round=stochastic", 0.95, 1.77},
        {"bf16", 2.5e-6, 2.9e-6},
    };

    (void)state;
    gauss(x, MOST);
    for (size_t i = 0; i < GP_COUNT_OF(known); i++) {
        double e = nmse(known[i].text, &plain, MOST);

        if (e < known[i].least || e > known[i].most)
            fail_msg("%s: nmse %g is not within %g and %g", known[i].text, e,
                     known[i].least, known[i].most);
    }
}

static const char *const nearest[] = {
    "q8",    "q8:scale=bf16", "q4",    "q4:scale=bf16,block=96",
    "q2",    "q2:block=32",   "fp8",   "fp8:e5m2,scale=bf16",
    "mxfp8", "mxfp8:e5m2",    "mxfp6", "mxfp6:e3m2",
    "mxfp4", "mxint8",        "nvfp4", "q2:dense=1,scale=bf16",
};

/* The worst there is for a block: one large element, the others half a step
 * apart from codes, at every scale within two octaves. */
static void
no_input_exceeds_the_bound(void **state)
{
    enum { COUNT = 512 };

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(nearest); k++)
        for (size_t j = 0; j < 400; j++) {
            gp_pipeline *p = open_text(nearest[k]);
            double bound = gp_pipeline_error_bound(p, COUNT), e;
            double half = exp2(-(double)(j % 40) / 4);

            for (size_t i = 0; i < COUNT; i++)
                x[i] = (float)(half * (1 + 0.01 * uniform(i + j)));
            for (size_t i = 0; i < COUNT; i += 16)
                x[i] = (float)exp2(uniform(j) * 2);
            e = nmse(nearest[k], &plain, COUNT);
            if (e > bound * (1 + 1e-6))
                fail_msg("%s: nmse %g exceeds %g", nearest[k], e, bound);
            gp_pipeline_destroy(p);
        }
}

/* Rounding at random has twice the variance of rounding to nearest where steps
 * are fine: 1/6 of a squared step in place of 1/12. */
static void
stochastic_is_twice_nearest(void **state)
{
    static const struct {
        const char *one, *two;
        double tolerance; /* floats: few large elements make the error */
    } pairs[] = {
        {"q8", "q8:round=stochastic", 0.02},
        {"q8", "q8:round=stratified", 0.02},
        {"q8:scale=bf16", "q8:scale=bf16,round=stochastic", 0.02},
        {"bf16", "bf16:stochastic", 0.08},
        {"fp16", "fp16:stochastic", 0.08},
        {"fp8:block=32", "fp8:block=32,round=stochastic", 0.08},
    };

    (void)state;
    gauss(x, MOST);
    for (size_t i = 0; i < GP_COUNT_OF(pairs); i++) {
        double ratio =
            nmse(pairs[i].two, &plain, MOST) / nmse(pairs[i].one, &plain, MOST);

        if (fabs(ratio - 2) > pairs[i].tolerance)
            fail_msg("%s: %g times the error of %s", pairs[i].two, ratio,
                     pairs[i].one);
    }
}

/* Subtractive dither: an error of s^2 / 12 whatever the numbers are, also
 * where nearest would make none or always the same one. */
static void
dither_does_not_see_its_input(void **state)
{
    static const double places[] = {0, 0.25, 0.5, 0.77};
    const double unit = 1 / (7 * 4095.0 / 4096);

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(places); k++) {
        gp_pipeline *p = open_text("q4:block=65536,round=dither");
        double mean = 0, square = 0;
        size_t length;

        for (size_t i = 0; i < MOST; i++)
            x[i] = (float)(unit * places[k]);
        x[0] = 1;
        length = encode(p, &plain, x, MOST, bytes);
        decode(p, &plain, bytes, length, out, MOST);
        for (size_t i = 0; i < MOST; i++) {
            double e = ((double)out[i] - (double)x[i]) / unit;

            assert_true(fabs(e) <= 0.5001);
            mean += e / MOST;
            square += e * e / MOST;
        }
        assert_true(fabs(mean) < 5 * sqrt(1.0 / 12 / MOST));
        assert_true(fabs(square * 12 - 1) < 0.02);
        gp_pipeline_destroy(p);
    }
}

/* ---- means ----------------------------------------------------------- */

/* Error of the mean over `many` encodings that differ by rank or step. */
static double
mean_error(const char *text, size_t n, uint32_t many, bool by_rank,
           double *single)
{
    gp_pipeline *p = open_text(text);

    memset(sum, 0, n * sizeof(*sum));
    *single = 0;
    for (uint32_t k = 0; k < many; k++) {
        gp_codec_context c = {.seed = 7, .tensor = 1, .size = 1};
        size_t length;

        if (by_rank) {
            c.rank = k;
            c.size = many;
        } else {
            c.step = k;
        }
        length = encode(p, &c, x, n, bytes);
        decode(p, &c, bytes, length, out, n);
        *single += nmse_of(out, x, n) / many;
        for (size_t i = 0; i < n; i++)
            sum[i] += (out[i] - x[i]) / (float)many;
    }
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i];
    gp_pipeline_destroy(p);
    return nmse_of(sum, x, n);
}

/* The error of a mean over R steps is 1/R of one's: any bias would add. */
static void
means_are_unbiased(void **state)
{
    enum { COUNT = 4096, TIMES = 256 };
    static const char *const texts[] = {
        "q8:round=stochastic",
        "q8:round=dither,scale=bf16",
        "q4:round=stochastic",
        "q4:round=stratified",
        "q4:round=dither",
        "q2:round=stochastic,dense=1",
        "q2:block=32,round=dither,scale=bf16",
        "fp8:round=stochastic",
        "fp8:e5m2,round=stratified",
        "mxfp8:round=stochastic",
        "mxfp6:round=stochastic",
        "mxfp4:round=stochastic",
        "mxint8:round=stochastic",
        "nvfp4:round=stochastic",
        "bf16:stochastic",
    };

    (void)state;
    gauss(x, COUNT);
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        double single,
            mean = mean_error(texts[i], COUNT, TIMES, false, &single);

        if (fabs(mean * TIMES / single - 1) > 5 * sqrt(4.0 / COUNT))
            fail_msg("%s: the mean of %d has error %g, not %g", texts[i], TIMES,
                     mean, single / TIMES);
    }
}

/* Eight workers that send equal numbers: independent errors average to 1/8,
 * equal ones stay, stratified ones fall to 1/64. */
static void
workers_errors_add_up(void **state)
{
    enum { COUNT = 32768, WORKERS = 8 };
    gp_pipeline *p = open_text("q4:block=512,round=stochastic");
    double single, apart, together, strata;
    size_t length;

    (void)state;
    gauss(x, COUNT);
    apart = mean_error("q4:block=512,round=stochastic", COUNT, WORKERS, true,
                       &single);
    assert_true(fabs(apart / (single / 8) - 1) < 0.05);
    length = encode(p, &plain, x, COUNT, bytes);
    decode(p, &plain, bytes, length, out, COUNT);
    together = nmse_of(out, x, COUNT);
    assert_true(fabs(together / single - 1) < 0.05);
    strata = mean_error("q4:block=512,round=stratified", COUNT, WORKERS, true,
                        &single);
    assert_true(fabs(strata / (single / 64) - 1) < 0.05);
    print_message("q4, 8 workers: %.5f independent, %.4f equal, %.5f "
                  "stratified\n",
                  apart, together, strata);
    gp_pipeline_destroy(p);
}

/* A rank beyond the size, such as a shard's, and no size at all. */
static void
strata_of_odd_ranks(void **state)
{
    gp_pipeline *p = open_text("q4:round=stratified");
    const uint32_t pairs[][2] = {
        {GP_RANK_SHARD, 0}, {GP_RANK_SHARD, 3}, {9, 8}, {0, 0}, {4095, 4096}};

    (void)state;
    gauss(x, 4096);
    for (size_t i = 0; i < GP_COUNT_OF(pairs); i++) {
        gp_codec_context c = {
            .seed = 7, .rank = pairs[i][0], .size = pairs[i][1]};
        size_t length = encode(p, &c, x, 4096, bytes);

        decode(p, &c, bytes, length, out, 4096);
        assert_true(nmse_of(out, x, 4096) < 0.03);
    }
    gp_pipeline_destroy(p);
}

/* ---- folds and chunks ------------------------------------------------ */

static const char *const all[] = {
    "none",
    "fp16",
    "bf16:stochastic",
    "q8",
    "q8:block=96",
    "q8:round=stochastic,block=32",
    "q8:round=dither",
    "q8:scale=bf16",
    "q4",
    "q4:round=dither,scale=bf16",
    "q2",
    "q2:dense=1,block=96",
    "fp8",
    "mxfp8:e5m2",
    "mxfp6:e3m2",
    "mxfp4",
    "mxint8",
    "nvfp4",
};

static void
fill_messages(const gp_pipeline *p, size_t n, size_t inputs,
              gp_codec_context *contexts, gp_codec_input *input)
{
    size_t bound = gp_pipeline_bound(p, n);

    for (size_t k = 0; k < inputs; k++) {
        contexts[k] = (gp_codec_context){
            .seed = 3, .offset = 8192, .rank = (uint32_t)k, .size = 8};
        for (size_t i = 0; i < n; i++)
            other[i] = x[(i + 31 * k) % n] * (float)(k + 1);
        if (k == 3 && n > 40)
            other[40] = NAN;
        input[k].context = &contexts[k];
        input[k].bytes = bytes + k * bound;
        input[k].length = encode(p, &contexts[k], other, n, bytes + k * bound);
    }
}

static bool
equal(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof(*a)) && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

static void
check_fold(const char *text, size_t n, size_t inputs, int add)
{
    gp_pipeline *p = open_text(text);
    gp_codec_context contexts[8];
    gp_codec_input input[8];

    fill_messages(p, n, inputs, contexts, input);
    for (size_t i = 0; i < n; i++)
        out[i] = sum[i] = (float)(i % 17) - 8;
    for (size_t k = 0; k < inputs; k++)
        assert_int_equal(
            (k || add ? gp_pipeline_decode_add
                      : gp_pipeline_decode)(p, input[k].context, input[k].bytes,
                                            input[k].length, sum, n, workspace),
            GP_OK);
    assert_int_equal(gp_pipeline_fold(p, input, inputs, add, out, n, workspace),
                     GP_OK);
    if (!equal(out, sum, n))
        fail_msg("%s, %zu elements: the fold of %zu differs", text, n, inputs);
    gp_pipeline_destroy(p);
}

static void
folds_equal_sums(void **state)
{
    static const size_t counts[] = {1, 31, 33, 257, 4096, 6007};
    gp_simd before = gp_simd_get();

    (void)state;
    gauss(x, 8192);
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t i = 0; i < GP_COUNT_OF(all); i++)
            for (size_t j = 0; j < GP_COUNT_OF(counts); j++)
                for (int add = 0; add < 2; add++) {
                    check_fold(all[i], counts[j], 8, add);
                    check_fold(all[i], counts[j], 1, add);
                }
    }
    gp_simd_set(before);
}

/* Whichever message it is, and wherever the wrong code stands. */
static void
a_bad_message_is_found(void **state)
{
    static const size_t counts[] = {300, 1, 96, 4096};
    gp_simd before = gp_simd_get();

    (void)state;
    gauss(x, 4096);
    for (size_t i = 1; i < GP_COUNT_OF(all); i++) {
        gp_pipeline *p = open_text(all[i]);
        gp_codec_context contexts[8];
        gp_codec_input input[8];

        fill_messages(p, 300, 8, contexts, input);
        input[7].length--;
        assert_int_equal(gp_pipeline_fold(p, input, 8, 1, out, 300, workspace),
                         GP_ERR_CORRUPT);
        gp_pipeline_destroy(p);
    }
    for (int level = 0; level < GP_SIMD_LEVELS; level++)
        for (size_t j = 0; j < 400 && gp_simd_set((gp_simd)level); j++) {
            gp_pipeline *p = open_text(j % 2 ? "q8:block=96" : "q8");
            size_t n = counts[j / 2 % GP_COUNT_OF(counts)], k = j % 8, at;
            gp_codec_context contexts[8];
            gp_codec_input input[8];

            fill_messages(p, n, 8, contexts, input);
            at = input[k].length - 1 - random64(j) % n;
            bytes[k * gp_pipeline_bound(p, n) + at] = 0x80;
            assert_int_equal(
                gp_pipeline_fold(p, input, 8, 1, out, n, workspace),
                GP_ERR_CORRUPT);
            gp_pipeline_destroy(p);
        }
    gp_simd_set(before);
}

/* Elements know their place in the tensor: chunks of it give the same numbers
 * as the whole, but for nvfp4, whose scales have one in common. */
static void
chunks_give_the_same_numbers(void **state)
{
    enum { COUNT = 12288 + 77 };

    (void)state;
    gauss(x, COUNT);
    for (size_t i = 0; i + 1 < GP_COUNT_OF(all); i++) {
        gp_pipeline *p = open_text(all[i]);
        gp_codec_context c = {.seed = 5, .rank = 2, .size = 3};
        size_t length = encode(p, &c, x, COUNT, bytes);

        if (strstr(all[i], "block=96")) {
            gp_pipeline_destroy(p);
            continue;
        }
        decode(p, &c, bytes, length, out, COUNT);
        for (size_t at = 0; at < COUNT; at += 4096) {
            size_t n = GP_MIN((size_t)4096, COUNT - at);

            c.offset = at;
            length = encode(p, &c, x + at, n, bytes);
            decode(p, &c, bytes, length, sum + at, n);
        }
        if (!equal(out, sum, COUNT))
            fail_msg("%s depends on chunks", all[i]);
        gp_pipeline_destroy(p);
    }
}

/* ---- codes ----------------------------------------------------------- */

/* Every code of every float format, as its definition reads. */
static double
float_value(unsigned code, int bits, int mantissa, int bias)
{
    unsigned m = code & ((1u << mantissa) - 1);
    int e = (int)(code >> mantissa & ((1u << (bits - 1 - mantissa)) - 1));
    double v = e ? ldexp(1 + ldexp(m, -mantissa), e - bias)
                 : ldexp(ldexp(m, -mantissa), 1 - bias);

    return code >> (bits - 1) ? -v : v;
}

static void
check_codes(const char *text, int bits, int mantissa, int bias, unsigned codes,
            double largest)
{
    gp_pipeline *p = open_text(text);
    gp_simd before = gp_simd_get();
    size_t n = 0, length;

    x[n++] = (float)largest;
    for (unsigned c = 0; c < codes; c++) {
        double v = float_value(c, bits, mantissa, bias);
        double next = float_value(c + 1, bits, mantissa, bias);

        x[n++] = (float)v;
        x[n++] = (float)-v;
        if (c + 1 < codes)
            x[n++] = (float)((v + next) / 2); /* a tie */
    }
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        length = encode(p, &plain, x, n, bytes);
        decode(p, &plain, bytes, length, out, n);
        for (unsigned c = 0, i = 1; c < codes; c++) {
            double v = float_value(c, bits, mantissa, bias);

            assert_true((double)out[i] == v && (double)x[i] == v);
            i++;
            assert_true((double)out[i] == -v);
            i++;
            if (c + 1 < codes)
                assert_true((double)out[i++] ==
                            float_value(c + (c & 1), bits, mantissa, bias));
        }
    }
    gp_simd_set(before);
    gp_pipeline_destroy(p);
}

/* One block whose unit is 1, so that elements are what codes stand for. */
static void
every_float_code_is_exact(void **state)
{
    (void)state;
    check_codes("fp8:block=65536", 8, 3, 7, 0x7f, 448);
    check_codes("fp8:e5m2,block=65536", 8, 2, 15, 0x7c, 57344);
}

/* Four codes of a block are checked against the specification by hand. */
static void
shared_exponents_follow_the_standard(void **state)
{
    static const struct {
        const char *text;
        float largest;
        uint8_t scale, code;
        float decoded;
    } known[] = {
        {"mxfp8", 1.0f, 127 - 8, 0x78, 1.0f},
        {"mxfp8", 1.9f, 127 - 8, 0x7e, 1.75f},
        {"mxfp8:e5m2", 3.0f, 127 + 1 - 15, 0x7a, 3.0f},
        {"mxfp8:e5m2", 0x1p127f, 127 + 127 - 15, 0x78, 0x1p127f},
        {"mxfp6", 1.0f, 127 - 2, 0x18, 1.0f},
        {"mxfp6:e3m2", 1.0f, 127 - 4, 0x1c, 1.0f},
        {"mxfp4", 1.0f, 127 - 2, 0x06, 1.0f},
        {"mxfp4", 7.9f, 127, 0x07, 6.0f},
        {"mxint8", 1.0f, 127, 0x40, 1.0f},
        {"mxint8", 1.999f, 127, 0x7f, 127 / 64.0f},
        {"mxfp8:e5m2", 0x1p-111f, 1, 0x78, 0x1p-111f},
        {"mxfp8:e5m2", 0x1.8p-112f, 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(known); i++) {
        gp_pipeline *p = open_text(known[i].text);
        size_t length;

        memset(x, 0, 32 * sizeof(*x));
        x[0] = known[i].largest;
        length = encode(p, &plain, x, 32, bytes);
        assert_int_equal(bytes[0], known[i].scale);
        assert_int_equal(bytes[1], known[i].code);
        decode(p, &plain, bytes, length, out, 32);
        assert_true(out[0] == known[i].decoded);
        gp_pipeline_destroy(p);
    }
}

static void
nvfp4_by_hand(void **state)
{
    gp_pipeline *p = open_text("nvfp4");
    size_t length;

    (void)state;
    memset(x, 0, 32 * sizeof(*x));
    x[0] = 2688;
    x[1] = -448;
    x[16] = 6;
    x[17] = 0.5f;
    length = encode(p, &plain, x, 32, bytes);
    assert_int_equal(length, 4 + 2 + 16);
    assert_int_equal(gp_get32(bytes), gp_bits(1));
    assert_int_equal(bytes[4], 0x7e);
    assert_int_equal(bytes[5], 0x38);
    assert_int_equal(bytes[6], 0x07 | 0xa << 4);
    assert_int_equal(bytes[14], 0x07 | 0x1 << 4);
    decode(p, &plain, bytes, length, out, 32);
    assert_true(out[0] == 2688 && out[1] == -448);
    assert_true(out[16] == 6 && out[17] == 0.5f);
    gp_pipeline_destroy(p);
}

/* One bit more than the encoder can have written. */
static void
decoders_refuse(void **state)
{
    static const struct {
        const char *text;
        size_t count, at;
        uint8_t byte;
    } bad[] = {
        {"q8:scale=bf16", 3, 2, 0x80},
        {"q8:scale=bf16", 3, 1, 0xbf},
        {"q4", 3, 4, 0x08},
        {"q4", 3, 4, 0x80},
        {"q4", 3, 5, 0x10},
        {"q2", 3, 4, 0x02},
        {"q2", 3, 4, 0x40},
        {"q2:dense=1", 5, 4, 243},
        {"q2:dense=1", 3, 4, 27},
        {"fp8", 2, 4, 0x7f},
        {"fp8", 2, 4, 0xff},
        {"fp8:e5m2", 2, 4, 0x7c},
        {"fp8:e5m2", 2, 4, 0xfd},
        {"mxfp8", 2, 0, 254},
        {"mxfp8", 2, 1, 0x7f},
        {"mxfp6", 2, 2, 0x10},
        {"mxfp4", 1, 1, 0x10},
        {"mxint8", 2, 1, 0x80},
        {"mxint8", 2, 0, 1},
        {"nvfp4", 2, 4, 0x80},
        {"nvfp4", 2, 3, 0x80},
        {"nvfp4", 3, 6, 0x10},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        gp_pipeline *p = open_text(bad[i].text);
        size_t length;

        for (size_t j = 0; j < bad[i].count; j++)
            x[j] = 1;
        length = encode(p, &plain, x, bad[i].count, bytes);
        bytes[bad[i].at] = bad[i].byte;
        if (gp_pipeline_decode(p, &plain, bytes, length, out, bad[i].count,
                               workspace) != GP_ERR_CORRUPT)
            fail_msg("%s takes byte %zu = 0x%02x", bad[i].text, bad[i].at,
                     bad[i].byte);
        gp_pipeline_destroy(p);
    }
}

static void
parameters_are_checked(void **state)
{
    static const char *const bad[] = {
        "q4:block=48",         "q2:dense=2",          "fp8:format=e3m4",
        "q8:round=up",         "mxfp8:e4m3,block=64", "fp16:round=dither",
        "q8:scale=fp16",       "fp8:round=dither",    "nvfp4:round=dither",
        "mxint8:round=dither",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        gp_pipeline *p;

        assert_int_not_equal(gp_pipeline_parse(bad[i], &p), GP_OK);
    }
}

static int
set_up(void **state)
{
    (void)state;
    workspace = gp_alloc_aligned(16 * MOST);
    return workspace == NULL;
}

static int
tear_down(void **state)
{
    (void)state;
    free(workspace);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_as_known),
        cmocka_unit_test(no_input_exceeds_the_bound),
        cmocka_unit_test(stochastic_is_twice_nearest),
        cmocka_unit_test(dither_does_not_see_its_input),
        cmocka_unit_test(means_are_unbiased),
        cmocka_unit_test(workers_errors_add_up),
        cmocka_unit_test(strata_of_odd_ranks),
        cmocka_unit_test(folds_equal_sums),
        cmocka_unit_test(a_bad_message_is_found),
        cmocka_unit_test(chunks_give_the_same_numbers),
        cmocka_unit_test(every_float_code_is_exact),
        cmocka_unit_test(shared_exponents_follow_the_standard),
        cmocka_unit_test(nvfp4_by_hand),
        cmocka_unit_test(decoders_refuse),
        cmocka_unit_test(parameters_are_checked),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
