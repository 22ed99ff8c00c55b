/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec.c - the codec suite over the built-in codecs and chains of them,
 * over a codec that offers the least, and over codecs with one flaw each, which
 * it has to find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/conformance.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "conformance/suite.h"
#include "tests/conformance/codec_suite.h"
#include "tests/conformance/pipelines.h"

/* A codec that keeps the high 16 bits of each element. */
enum {
    SOUND,
    WRITES_BEYOND,
    IGNORES_EXCESS,
    ADDS_BEFORE_CHECK,
    LOSES_NAN,
    SPREADS_NAN,
    EXPANDS,
    SHORTENS,
    KEEPS_RESIDUAL,
    ADDS_TWICE,
    BOUND_WRAPS,
    CLAIMS_LOSSLESS,
    CLAIMS_LINEAR,
    CLAIMS_LESS_ERROR,
    FOLDS_FEWER,
    SUMS_ONE,
    READS_SCRATCH,
    COUNTS_CALLS,
    TIRES,
    TIRES_EARLY,
    FLAWS
};

static const gp_codec_param cut_params[] = {
    {"flaw", 0, 0, FLAWS - 1, 1, "what is wrong with it", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static int flaws[FLAWS];

static gp_status
cut_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    int *flaw = &flaws[(int)values[0]];

    (void)shape;
    *flaw = (int)values[0];
    *instance = flaw;
    return GP_OK;
}

static bool
has(const void *instance, int flaw)
{
    return *(const int *)instance == flaw;
}

static size_t
cut_bound(const void *instance, size_t count)
{
    size_t bytes;

    if (has(instance, BOUND_WRAPS))
        return count * 2;
    return gp_mul(count, 2, &bytes) ? bytes : SIZE_MAX;
}

static uint16_t
cut(const void *instance, float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    if (isnan(x))
        return has(instance, LOSES_NAN) ? 0 : 0x7fc0;
    return (uint16_t)(b >> 16);
}

static gp_status
cut_encode(const void *instance, const gp_codec_context *context,
           const float *source, size_t count, void *out, size_t capacity,
           size_t *length)
{
    uint8_t *bytes = out;

    (void)context;
    if (capacity < cut_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    for (size_t i = 0; i < count; i++)
        gp_put16(bytes + 2 * i, cut(instance, source[i]));
    for (size_t i = 0; i + 1 < count && has(instance, SPREADS_NAN); i++)
        if (isnan(source[i]))
            gp_put16(bytes + 2 * i + 2, 0);
    if (has(instance, WRITES_BEYOND) && count)
        bytes[2 * count] = 0;
    *length = 2 * count;
    if (has(instance, SHORTENS) && count)
        *length -= 1;
    return GP_OK;
}

static gp_status
cut_decode(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t length, float *target, size_t count)
{
    size_t expected = 2 * count - (count && has(instance, SHORTENS));
    const uint8_t *from = bytes;

    (void)context;
    if (length < expected ||
        (length > expected && !has(instance, IGNORES_EXCESS)))
        return GP_ERR_CORRUPT;
    for (size_t i = 0; i < count; i++) {
        uint32_t b = from[2 * i];

        if (2 * i + 1 < length)
            b |= (uint32_t)from[2 * i + 1] << 8;
        b <<= 16;
        memcpy(&target[i], &b, sizeof(b));
        if (has(instance, EXPANDS))
            target[i] *= 2.5f;
    }
    return GP_OK;
}

static gp_status
cut_decode_add(const void *instance, const gp_codec_context *context,
               const void *bytes, size_t length, float *target, size_t count)
{
    if (length != 2 * count) {
        if (has(instance, ADDS_BEFORE_CHECK) && count)
            target[0] += 1;
        return GP_ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        float x = 0;

        (void)!cut_decode(instance, context, (const uint8_t *)bytes + 2 * i, 2,
                          &x, 1);
        target[i] += has(instance, ADDS_TWICE) ? x + x : x;
    }
    return GP_OK;
}

static gp_status
cut_feedback(const void *instance, const gp_codec_context *context,
             const float *source, float *residual, size_t count, void *out,
             size_t capacity, size_t *length)
{
    gp_status status =
        cut_encode(instance, context, source, count, out, capacity, length);

    for (size_t i = 0; i < count && has(instance, KEEPS_RESIDUAL); i++)
        residual[i] += 0.001f;
    return status;
}

static double
cut_error(const void *instance, size_t count)
{
    (void)count;
    return has(instance, CLAIMS_LESS_ERROR) ? 1e-9 : 0x1p-12;
}

/* Leaves out the last message. */
static gp_status
cut_fold(const void *instance, const gp_codec_input *input, size_t inputs,
         int add, float *target, size_t count)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i + 1 < inputs && status == GP_OK; i++, add = 1)
        status = (add ? cut_decode_add
                      : cut_decode)(instance, input[i].context, input[i].bytes,
                                    input[i].length, target, count);
    return status;
}

static gp_status
cut_aggregate(const void *instance, const gp_codec_input *input, size_t inputs,
              size_t count, void *out, size_t capacity, size_t *length)
{
    (void)inputs;
    if (input[0].length > capacity ||
        input[0].length != cut_bound(instance, count))
        return GP_ERR_CORRUPT;
    memcpy(out, input[0].bytes, input[0].length);
    *length = input[0].length;
    return GP_OK;
}

static size_t
cut_scratch(const void *instance, size_t count)
{
    (void)instance;
    (void)count;
    return 64;
}

/* Follows something that it must not, in numbers of usual size. */
static gp_status
cut_encode_more(const void *instance, const gp_codec_context *context,
                const float *source, size_t count, void *out, size_t capacity,
                size_t *length)
{
    static uint8_t calls;
    gp_status status =
        cut_encode(instance, context, source, count, out, capacity, length);
    uint8_t *bytes = out;

    if (status != GP_OK || count == 0 || (bytes[1] & 0x70) != 0x30)
        return status;
    if ((has(instance, TIRES) && context->step > 50) ||
        (has(instance, TIRES_EARLY) && context->step > 1))
        memset(bytes, 0, *length);
    if (has(instance, COUNTS_CALLS))
        bytes[0] ^= __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) & 1;
    if (has(instance, READS_SCRATCH))
        bytes[0] ^= *(const uint8_t *)context->scratch & 1;
    return status;
}

/* Offers only what it must: the pipeline composes the rest. */
static const gp_codec_ops cut_least = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_CONTRACTS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "cut",
    .text = "the high 16 bits",
    .params = cut_params,
    .open = cut_open,
    .bound = cut_bound,
    .encode = cut_encode,
    .decode = cut_decode,
};

static gp_codec_ops cut_most;

/* The table for a flaw. */
static void
spoil(int flaw)
{
    cut_most = cut_least;
    cut_most.name = "flawed";
    cut_most.decode_add = cut_decode_add;
    cut_most.error_bound = cut_error;
    if (flaw == KEEPS_RESIDUAL)
        cut_most.encode_feedback = cut_feedback;
    if (flaw == CLAIMS_LOSSLESS)
        cut_most.properties |= GP_CODEC_LOSSLESS;
    if (flaw == CLAIMS_LINEAR)
        cut_most.properties |= GP_CODEC_LINEAR;
    if (flaw == FOLDS_FEWER)
        cut_most.fold = cut_fold;
    if (flaw == SUMS_ONE)
        cut_most.aggregate = cut_aggregate;
    if (flaw == READS_SCRATCH)
        cut_most.scratch = cut_scratch;
    if (flaw >= READS_SCRATCH)
        cut_most.encode = cut_encode_more;
}

static const void *
none_instance(void)
{
    void *instance = NULL;

    (void)!gp_codec_none.open(NULL, &(gp_codec_shape){0, 0}, &instance);
    return instance;
}

/* Rounds to quarters at random, so that the mean is right; with `shift`, not
 * quite right. Large numbers stay. */
static const gp_codec_param dither_params[] = {
    {"shift", 0, 0, 1, 0, "bias of the random numbers", NULL},
    {"shared", 0, 0, 1, 1, "1: all ranks draw the same", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

typedef struct dithering {
    double shift;
    uint64_t ranks; /* factor of the rank in the key */
} dithering;

static dithering ditherings[3];

static gp_status
dither_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    dithering *d = &ditherings[values[0] > 0 ? 1 : values[1] > 0 ? 2 : 0];

    (void)shape;
    d->shift = values[0];
    d->ranks = values[1] > 0 ? 0 : 1;
    *instance = d;
    return GP_OK;
}

static size_t
dither_bound(const void *instance, size_t count)
{
    (void)instance;
    return gp_codec_none.bound(none_instance(), count);
}

static gp_status
dither_encode(const void *instance, const gp_codec_context *context,
              const float *source, size_t count, void *out, size_t capacity,
              size_t *length)
{
    const dithering *d = instance;

    if (capacity < dither_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    for (size_t i = 0; i < count; i++) {
        uint64_t key = (context->step << 32) +
                       (d->ranks * context->rank << 56) + context->offset + i;
        double u = (double)(gp_suite_random(key) >> 11) * 0x1p-53;
        float q = (float)(floor(source[i] * 4.0 + u + d->shift) / 4);
        float x = fabsf(source[i]) < 1000 ? q : source[i];

        memcpy((char *)out + 4 * i, &x, 4);
    }
    *length = 4 * count;
    return GP_OK;
}

static gp_status
dither_decode(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    (void)instance;
    return gp_codec_none.decode(none_instance(), context, bytes, length, target,
                                count);
}

static const gp_codec_ops dither = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "dither",
    .text = "quarters, at random",
    .params = dither_params,
    .open = dither_open,
    .bound = dither_bound,
    .encode = dither_encode,
    .decode = dither_decode,
};

/* Whether a pipeline's canonical text names a codec. */
static bool
names(const char *text, size_t columns, const char *codec)
{
    gp_codec_shape shape = {0, columns};
    size_t length = strlen(codec);
    gp_pipeline *p;
    bool found = false;

    assert_int_equal(gp_pipeline_open(text, &shape, &p), GP_OK);
    for (const char *at = gp_pipeline_name(p); at && !found;) {
        found = strncmp(at, codec, length) == 0 && strchr(":+", at[length]);
        at = strchr(at, '+');
        at += at != NULL;
    }
    gp_pipeline_destroy(p);
    return found;
}

static void
every_built_in_codec_is_in_a_text(void **state)
{
    const gp_codec_ops *ops;

    (void)state;
    for (size_t i = 0; (ops = gp_codec_at(i)); i++) {
        bool found = false;

        for (size_t j = 0; j < gp_test_pipeline_count && !found; j++)
            found = names(gp_test_pipelines[j].text,
                          gp_test_pipelines[j].columns, ops->name);
        if (!found)
            fail_msg("no text of pipelines.c has %s", ops->name);
    }
}

static void
every_name_is_in_a_text(void **state)
{
    const char *name, *text, *what;

    (void)state;
    for (size_t i = 0; (name = gp_codec_alias_at(i, &text, &what)); i++) {
        bool found = false;

        for (size_t j = 0; j < gp_test_pipeline_count && !found; j++)
            found = strncmp(gp_test_pipelines[j].text, name, strlen(name)) == 0;
        if (!found)
            fail_msg("no text of pipelines.c has %s", name);
    }
}

static void
codecs_claim_what_is_proven(void **state)
{
    static const struct {
        const char *text;
        uint32_t claims, denies;
    } proven[] = {
        {"none", GP_CODEC_LOSSLESS | GP_CODEC_LINEAR, 0},
        {"bf16", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"fp16", 0, GP_CODEC_CONTRACTS | GP_CODEC_UNBIASED},
        {"q8", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"q8:round=stochastic", GP_CODEC_UNBIASED, 0},
        {"q4:round=dither", GP_CODEC_UNBIASED, 0},
        {"q2", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"q2:round=stochastic", GP_CODEC_UNBIASED, GP_CODEC_CONTRACTS},
        {"uq:round=stochastic", GP_CODEC_UNBIASED, 0},
        {"sign:scale=l1", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"sign:scale=l2", 0, GP_CODEC_CONTRACTS | GP_CODEC_UNBIASED},
        {"sign:scale=unit", 0, GP_CODEC_CONTRACTS},
        {"onebit", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"qsgd", GP_CODEC_UNBIASED, 0},
        {"natural", GP_CODEC_UNBIASED, 0},
        {"natural-dither", GP_CODEC_UNBIASED, 0},
        {"terngrad:clip=0", GP_CODEC_UNBIASED, GP_CODEC_CONTRACTS},
        {"terngrad:clip=2.5", 0, GP_CODEC_UNBIASED | GP_CODEC_CONTRACTS},
        {"drive:scale=mse", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"eden:scale=mse", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"topk:0.1", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"randk:0.1,scale=unbiased", GP_CODEC_UNBIASED, GP_CODEC_CONTRACTS},
        {"topk:0.1+q8", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
        {"hadamard+q8", GP_CODEC_CONTRACTS, GP_CODEC_UNBIASED},
    };
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(proven); i++) {
        gp_pipeline *p;
        uint32_t has_all;

        assert_int_equal(gp_pipeline_parse(proven[i].text, &p), GP_OK);
        has_all = gp_pipeline_properties(p);
        if (~has_all & proven[i].claims || has_all & proven[i].denies) {
            print_error("%s claims 0x%x\n", proven[i].text, has_all);
            wrong++;
        }
        gp_pipeline_destroy(p);
    }
    assert_int_equal(wrong, 0);
}

/* C(C(x)) is C(x), bit for bit, where codes stand for fixed numbers. */
static void
what_is_rounded_once_stays(void **state)
{
    static const char *const texts[] = {
        "none",
        "fp16",
        "bf16",
        "mxfp8",
        "mxfp6",
        "mxfp4",
        "topk:0.1",
        "topk:0.1+bf16",
        "threshold:0.5",
        "zeros",
        "zeros+bf16",
        "natural",
        "sign:scale=unit",
    };
    enum { COUNT = 1003 };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        gp_codec_context context = {.seed = 42};
        float x[COUNT], once[COUNT];
        gp_pipeline *p;
        size_t bound, length;
        void *bytes, *workspace;

        assert_int_equal(gp_pipeline_parse(texts[i], &p), GP_OK);
        bound = gp_pipeline_bound(p, COUNT);
        bytes = malloc(bound);
        workspace = gp_alloc_aligned(gp_pipeline_workspace(p, COUNT) + 1);
        assert_true(bytes && workspace);
        gp_suite_fill(&gp_suite_inputs[2], x, COUNT);
        assert_int_equal(gp_pipeline_fake(p, &context, NULL, x, COUNT, bytes,
                                          bound, &length, workspace),
                         GP_OK);
        memcpy(once, x, sizeof(x));
        context.step = 1;
        assert_int_equal(gp_pipeline_fake(p, &context, NULL, x, COUNT, bytes,
                                          bound, &length, workspace),
                         GP_OK);
        if (memcmp(x, once, sizeof(x)) != 0)
            fail_msg("%s changes what it has rounded", texts[i]);
        free(bytes);
        free(workspace);
        gp_pipeline_destroy(p);
    }
}

static void
a_codec_that_offers_the_least_passes(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_register(&cut_least), GP_OK);
    assert_int_equal(gp_codec_suite("cut"), 0);
#ifdef GP_HAVE_LZ4
    assert_int_equal(gp_codec_suite("cut+lz4"), 0);
    assert_int_equal(gp_codec_suite("cut+lz4+lz4"), 0);
#endif
}

/* What the suite says of each flaw; among its first lines. */
static const char *const findings[FLAWS] = {
    [WRITES_BEYOND] = "wrote beyond",
    [IGNORES_EXCESS] = "a byte too many",
    [ADDS_BEFORE_CHECK] = "touched its target",
    [LOSES_NAN] = "came out as",
    [SPREADS_NAN] = "changed element",
    [EXPANDS] = "contracts, yet",
    [SHORTENS] = "fixed rate, yet",
    [KEEPS_RESIDUAL] = "feedback",
    [ADDS_TWICE] = "decode_add differs",
    [BOUND_WRAPS] = "the bound falls",
    [CLAIMS_LOSSLESS] = "lossless, yet",
    [CLAIMS_LINEAR] = "linear, yet",
    [CLAIMS_LESS_ERROR] = "exceeds the bound",
    [FOLDS_FEWER] = "fold differs",
    [SUMS_ONE] = "the sum depends on the grouping",
    [READS_SCRATCH] = "to other bytes",
    [COUNTS_CALLS] = "feedback encodes",
    [TIRES] = "the residual grows",
    [TIRES_EARLY] = "ef21 leaves",
};

typedef struct search {
    const char *words;
    bool found;
} search;

static void
look_for(void *user, const char *line)
{
    search *s = user;

    fprintf(stderr, "  %s\n", line);
    s->found = s->found || strstr(line, s->words);
}

static void
every_flaw_is_found(void **state)
{
    (void)state;
    fprintf(stderr, "what follows is found in flawed codecs on purpose:\n");
    spoil(SOUND);
    assert_int_equal(gp_codec_register(&cut_most), GP_OK);
    assert_int_equal(gp_codec_suite("flawed:flaw=0"), 0);
    for (int flaw = 1; flaw < FLAWS; flaw++) {
        search s = {findings[flaw], false};
        char text[32];

        spoil(flaw);
        snprintf(text, sizeof(text), "flawed:flaw=%d", flaw);
        if (gp_conformance_codec(text, NULL, look_for, &s) == 0 || !s.found)
            fail_msg("the suite does not see flaw %d: %s", flaw, s.words);
    }
}

static void
a_bias_is_found(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_register(&dither), GP_OK);
    assert_int_equal(gp_codec_suite("dither"), 0);
    assert_true(gp_codec_suite("dither:shift=0.02") > 0);
    assert_true(gp_codec_suite("dither:shared=1") > 0);
}

static void
an_unknown_pipeline_is_a_failure(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite("no-such-codec"), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_built_in_codec_is_in_a_text),
        cmocka_unit_test(every_name_is_in_a_text),
        cmocka_unit_test(codecs_claim_what_is_proven),
        cmocka_unit_test(what_is_rounded_once_stays),
        cmocka_unit_test(a_codec_that_offers_the_least_passes),
        cmocka_unit_test(every_flaw_is_found),
        cmocka_unit_test(a_bias_is_found),
        cmocka_unit_test(an_unknown_pipeline_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
