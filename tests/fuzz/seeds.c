/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seeds.c - writes the corpora that follow from the table of pipelines, so that
 * they need not be kept: what encoders write, elements to encode, texts.
 *
 *     fuzz_seeds FOLDER
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "base/bytes.h"
#include "tests/fuzz/pipeline_fuzz.h"

enum { HEAD = 5, SIMD_BEST = 3 };

static const char *folder;

static void
write_seed(const char *target, const char *kind, size_t number,
           const void *bytes, size_t size)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, target);
    gp_fuzz_require(mkdir(path, 0777) == 0 || errno == EEXIST);
    snprintf(path, sizeof(path), "%s/%s/%s_%zu", folder, target, kind, number);
    file = fopen(path, "wb");
    gp_fuzz_require(file && fwrite(bytes, 1, size, file) == size);
    gp_fuzz_require(fclose(file) == 0);
}

/* Heavy tails, exact zeros and both signs. */
static float
element(size_t i)
{
    float x = (float)((int)(i * 2654435761u % 2001) - 1000) * 1e-3f;

    return i % 5 == 3 ? 0 : x * x * x;
}

static size_t
encode(const gp_pipeline *p, const float *source, size_t count, uint8_t *out,
       size_t bound)
{
    gp_codec_context context = {
        .seed = 1, .size = 3, .rank = 1, .shared = 0.5f};
    void *workspace =
        gp_fuzz_need(gp_alloc_aligned(gp_pipeline_workspace(p, count) + 1));
    gp_codec_memory *memory;
    size_t length = 0;

    gp_fuzz_require(gp_codec_memory_create(p, 0, count, 0, &memory) == GP_OK);
    if (gp_pipeline_needs(p) & GP_PIPELINE_PREPARES)
        gp_fuzz_require(
            gp_pipeline_prepare(p, &context, memory, source, count) == GP_OK);
    gp_fuzz_require(gp_pipeline_encode(p, &context, memory, source, count, out,
                                       bound, &length, workspace) == GP_OK);
    gp_codec_memory_destroy(memory);
    free(workspace);
    return length;
}

/* The number that gp_fuzz_count() takes for so many. */
static size_t
many(size_t count)
{
    return 0x8000 + count;
}

static void
write_message(size_t which, size_t mode, size_t count)
{
    const gp_pipeline *p = gp_fuzz_pipeline(which);
    size_t bound = gp_pipeline_bound(p, count);
    uint8_t *seed = gp_fuzz_need(malloc(HEAD + bound));
    float source[300];

    for (size_t i = 0; i < count; i++)
        source[i] = element(i + which);
    gp_put16(seed, (uint16_t)which);
    seed[2] = (uint8_t)(SIMD_BEST | mode << 2);
    gp_put16(seed + 3, (uint16_t)(count < 257 ? count : many(count)));
    bound = encode(p, source, count, seed + HEAD, bound);
    write_seed("decode", count < 100 ? "few" : "many", which, seed,
               HEAD + bound);
    free(seed);
}

static void
write_elements(size_t which)
{
    uint8_t seed[HEAD + 4 * 40] = {0};

    gp_put16(seed, (uint16_t)which);
    seed[2] = SIMD_BEST | 4;
    gp_put16(seed + 3, 100);
    for (size_t i = 0; i < 40; i++) {
        float x = element(i + 3 * which);

        memcpy(seed + HEAD + 4 * i, &x, 4);
    }
    write_seed("encode", "seed", which, seed, sizeof(seed));
}

int
main(int argc, char **argv)
{
    const char *alias, *text, *what;

    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    gp_fuzz_require(mkdir(folder, 0777) == 0 || errno == EEXIST);
    for (size_t i = 0; i < gp_test_pipeline_count; i++) {
        write_message(i, i % 4, 40);
        write_message(i, (i + 1) % 4, 200 + 100 * (i % 2));
        write_elements(i);
        text = gp_test_pipelines[i].text;
        write_seed("pipeline_text", "text", i, text, strlen(text));
    }
    for (size_t i = 0; (alias = gp_codec_alias_at(i, &text, &what)); i++)
        write_seed("pipeline_text", "alias", i, alias, strlen(alias));
    return 0;
}
