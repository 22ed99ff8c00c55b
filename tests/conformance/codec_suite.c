/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_suite.c - the public suite, with its reports on stderr and all SIMD
 * levels of this machine.
 */
#include "tests/conformance/codec_suite.h"

#include <stdio.h>
#include <string.h>

#include <gradpush/conformance.h>

#include "compress/codec_internal.h"
#include "tests/conformance/pipelines.h"
#include "tests/rounds.h"

static void
print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "codec suite: %s\n", line);
}

#ifndef __SANITIZE_THREAD__
static int
use_level(void *user, int level)
{
    (void)user;
    return gp_simd_set((gp_simd)level);
}
#endif

int
gp_codec_suite_matrix(const gp_codec_claim *claim, size_t columns)
{
    gp_conformance_options options = GP_CONFORMANCE_INIT;
    gp_simd before = gp_simd_get();
    int failures;

    options.nmse = claim->nmse;
    options.columns = columns;
#ifndef __SANITIZE_THREAD__ /* these take minutes there, and start no thread \
                             */
    options.levels = GP_SIMD_LEVELS;
    options.use_level = use_level;
    options.thorough = GP_ROUNDS(1, 0);
#endif
    failures =
        gp_conformance_codec(claim->pipeline, &options, print_line, NULL);
    gp_simd_set(before);
    return failures;
}

int
gp_codec_suite_claim(const gp_codec_claim *claim)
{
    return gp_codec_suite_matrix(claim, 0);
}

int
gp_codec_suite(const char *pipeline)
{
    gp_codec_claim claim = {pipeline, -1};

    return gp_codec_suite_claim(&claim);
}

int
gp_codec_suite_family(const char *family)
{
    int failures = 0, texts = 0;

    for (size_t i = 0; i < gp_test_pipeline_count; i++) {
        const gp_test_pipeline *p = &gp_test_pipelines[i];
        gp_codec_claim claim = {p->text, p->nmse};

        if (strcmp(p->family, family) != 0)
            continue;
        texts++;
        failures += gp_codec_suite_matrix(&claim, p->columns);
    }
    return texts ? failures : 1;
}
