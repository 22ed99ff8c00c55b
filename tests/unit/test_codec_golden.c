/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_golden.c - the codecs write and read the bytes of version 1.
 *
 * tests/golden/codec_*.hex come from the scripts beside them, which do not use
 * this library. They must never change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "tests/conformance/codec_residual.h"

enum { INPUT, ENCODED, DECODED, SECTIONS };

typedef struct golden {
    char pipeline[64];
    uint8_t bytes[SECTIONS][2048];
    size_t lengths[SECTIONS];
    float input[512], decoded[512];
    size_t count, columns; /* columns: of a matrix, or 0 */
} golden;

static void
read_bytes(golden *g, int section, const char *line)
{
    unsigned byte;
    int n;

    assert_true(section >= 0 && section < SECTIONS);
    for (; sscanf(line, "%2x%n", &byte, &n) == 1; line += n) {
        assert_true(g->lengths[section] < sizeof(g->bytes[section]));
        g->bytes[section][g->lengths[section]++] = (uint8_t)byte;
    }
}

static void
to_floats(const golden *g, int section, float *out)
{
    assert_int_equal(g->lengths[section], 4 * g->count);
    for (size_t i = 0; i < g->count; i++) {
        uint32_t b = gp_get32(g->bytes[section] + 4 * i);

        memcpy(&out[i], &b, sizeof(b));
    }
}

/* "# text" begins the next section; the first one is the pipeline. */
static golden
read_golden(const char *path)
{
    FILE *file = fopen(path, "r");
    golden g = {.count = 0};
    char line[256];
    int section = -2;

    if (!file)
        fail_msg("cannot open %s; run this in the folder tests", path);
    while (fgets(line, sizeof(line), file)) {
        if (line[0] != '#')
            read_bytes(&g, section, line);
        else if (++section == -1)
            sscanf(line, "# %63s columns=%zu", g.pipeline, &g.columns);
    }
    fclose(file);
    assert_int_equal(section, DECODED);
    g.count = g.lengths[INPUT] / 4;
    to_floats(&g, INPUT, g.input);
    to_floats(&g, DECODED, g.decoded);
    return g;
}

static void
check_decode(const golden *g, const gp_pipeline *p, void *workspace)
{
    gp_codec_context context = {.seed = 1};
    float out[512];

    assert_int_equal(gp_pipeline_decode(p, &context, g->bytes[ENCODED],
                                        g->lengths[ENCODED], out, g->count,
                                        workspace),
                     GP_OK);
    for (size_t i = 0; i < g->count; i++)
        if (out[i] == out[i] || g->decoded[i] == g->decoded[i])
            assert_memory_equal(&out[i], &g->decoded[i], 4);
}

static void
check_encode(const golden *g, const gp_pipeline *p, void *workspace)
{
    gp_codec_context context = {.seed = 1};
    uint8_t bytes[4096];
    size_t length;

    assert_int_equal(gp_encode_residual(p, &context, g->input, NULL, g->count,
                                        bytes, sizeof(bytes), &length,
                                        workspace),
                     GP_OK);
    assert_int_equal(length, g->lengths[ENCODED]);
    assert_memory_equal(bytes, g->bytes[ENCODED], length);
}

/* An LZ4 block is read by every version, but written differently by some. */
static void
check_file(const char *path, bool encodes)
{
    golden g = read_golden(path);
    gp_codec_shape shape = {g.count, g.columns};
    gp_pipeline *p;
    void *workspace;

    assert_int_equal(gp_pipeline_open(g.pipeline, &shape, &p), GP_OK);
    workspace = gp_alloc_aligned(gp_pipeline_workspace(p, g.count) + 64);
    assert_non_null(workspace);
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        check_decode(&g, p, workspace);
        if (encodes)
            check_encode(&g, p, workspace);
    }
    free(workspace);
    gp_pipeline_destroy(p);
}

static void
version_1_of_casts(void **state)
{
    (void)state;
    check_file("golden/codec_none.hex", true);
    check_file("golden/codec_fp16.hex", true);
    check_file("golden/codec_bf16.hex", true);
}

static void
version_1_of_q8(void **state)
{
    (void)state;
    check_file("golden/codec_q8.hex", true);
}

static void
version_1_of_block_formats(void **state)
{
    static const char *const names[] = {
        "q8_stochastic",
        "q8_stratified",
        "q8_dither",
        "q8_bf16",
        "q4",
        "q4_dither",
        "q2",
        "q2_dense",
        "fp8_e4m3",
        "fp8_e5m2",
        "mxfp8_e4m3",
        "mxfp8_e5m2",
        "mxfp6_e2m3",
        "mxfp6_e3m2",
        "mxfp4",
        "mxfp4_stochastic",
        "mxint8",
        "nvfp4",
        "nvfp4_stochastic",
        "fp16_stochastic",
        "bf16_stratified",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(names); i++) {
        char path[64];

        snprintf(path, sizeof(path), "golden/codec_%s.hex", names[i]);
        check_file(path, true);
    }
}

static void
version_1_of_lz4(void **state)
{
    (void)state;
#ifdef GP_HAVE_LZ4
    check_file("golden/codec_lz4.hex", false);
#else
    print_message("skipped: this build has no lz4\n");
    skip();
#endif
}

static void
version_1_of_selections(void **state)
{
    (void)state;
    check_file("golden/codec_topk.hex", true);
    check_file("golden/codec_threshold.hex", true);
    check_file("golden/codec_randk.hex", true);
    check_file("golden/codec_randk_most.hex", true);
    check_file("golden/codec_randk_unbiased.hex", true);
    check_file("golden/codec_zeros.hex", true);
}

static void
version_1_of_indices(void **state)
{
    (void)state;
    check_file("golden/codec_raw.hex", true);
    check_file("golden/codec_rice.hex", true);
    check_file("golden/codec_bitmap.hex", true);
    check_file("golden/codec_auto.hex", true);
}

static void
version_1_of_uq(void **state)
{
    (void)state;
    check_file("golden/codec_uq.hex", true);
    check_file("golden/codec_uq_dither.hex", true);
}

static void
version_1_of_byte_stages(void **state)
{
    (void)state;
    check_file("golden/codec_shuffle.hex", true);
    check_file("golden/codec_shuffle_odd.hex", true);
    check_file("golden/codec_bitshuffle.hex", true);
    check_file("golden/codec_ans.hex", true);
}

static void
version_1_of_signs(void **state)
{
    (void)state;
    check_file("golden/codec_sign.hex", true);
    check_file("golden/codec_sign_l2.hex", true);
    check_file("golden/codec_onebit.hex", true);
    check_file("golden/codec_vote.hex", true);
}

static void
version_1_of_random_roundings(void **state)
{
    (void)state;
    check_file("golden/codec_qsgd.hex", true);
    check_file("golden/codec_qsgd_max.hex", true);
    check_file("golden/codec_qsgd_odd.hex", true);
    check_file("golden/codec_natural.hex", true);
    check_file("golden/codec_natural_small.hex", true);
    check_file("golden/codec_natural_dither.hex", true);
    check_file("golden/codec_terngrad.hex", true);
}

static void
version_1_of_rotations(void **state)
{
    (void)state;
    check_file("golden/codec_hadamard.hex", true);
    check_file("golden/codec_drive.hex", true);
    check_file("golden/codec_eden.hex", true);
    check_file("golden/codec_eden_4.hex", true);
}

static void
version_1_of_integers_of_one_step(void **state)
{
    (void)state;
    check_file("golden/codec_intsum.hex", true);
    check_file("golden/codec_intsum_4.hex", true);
    check_file("golden/codec_intsum_16.hex", true);
    check_file("golden/codec_intsum_huge.hex", true);
    check_file("golden/codec_intsum_tiny.hex", true);
    check_file("golden/codec_intsum_nan.hex", true);
    check_file("golden/codec_intsum_sum.hex", false);
}

static void
version_1_of_thc(void **state)
{
    (void)state;
    check_file("golden/codec_thc.hex", true);
    check_file("golden/codec_thc_uniform.hex", true);
    check_file("golden/codec_thc_2.hex", true);
}

static void
version_1_of_powersgd(void **state)
{
    (void)state;
    check_file("golden/codec_powersgd_1.hex", true);
    check_file("golden/codec_powersgd_2.hex", true);
    check_file("golden/codec_powersgd_3.hex", true);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_of_signs),
        cmocka_unit_test(version_1_of_random_roundings),
        cmocka_unit_test(version_1_of_rotations),
        cmocka_unit_test(version_1_of_casts),
        cmocka_unit_test(version_1_of_q8),
        cmocka_unit_test(version_1_of_block_formats),
        cmocka_unit_test(version_1_of_lz4),
        cmocka_unit_test(version_1_of_selections),
        cmocka_unit_test(version_1_of_indices),
        cmocka_unit_test(version_1_of_uq),
        cmocka_unit_test(version_1_of_byte_stages),
        cmocka_unit_test(version_1_of_integers_of_one_step),
        cmocka_unit_test(version_1_of_thc),
        cmocka_unit_test(version_1_of_powersgd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
