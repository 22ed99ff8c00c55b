/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_sim.c - docs/gpu.md says of every codec what devices do of it.
 *
 * The rows between the two marks of the page are what coders of all registered
 * codecs answer when they are opened. After a change, `GP_REGENERATE=1
 * test_table_sim` in the folder tests writes them anew.
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
#include "compress/pipeline.h"
#include "device/coder.h"
#include "page_text.h"
#include "tests/gpu/sim_cuda.h"

#define PAGE  "../docs/gpu.md"
#define BEGIN "<!-- coders: written by tests/gpu/test_table_sim.c -->\n"
#define END   "<!-- end of coders -->\n"

enum { COUNT = 4096, COLUMNS = 64 };

/* What each array stage is asked about: '@' is its name. */
static const char *const around[] = {
    "ef+@",    "ef21+@",          "momentum+@",  "hadamard+@",
    "zeros+@", "topk:0.01+@+raw", "randk:0.01+@"};

/* What stands for the stages of other kinds. */
static const struct {
    gp_codec_kind kind;
    const char *name; /* NULL: all of that kind */
    const char *text;
} others[] = {
    {GP_CODEC_TRANSFORM, NULL, "@+q8"},
    {GP_CODEC_ZEROS, NULL, "@+q8"},
    {GP_CODEC_SELECT, "randk", "@:0.01+q8"},
    {GP_CODEC_SELECT, NULL, "@:0.01+q8+raw"},
    {GP_CODEC_INDEX, NULL, "topk:0.01+q8+@"},
    {GP_CODEC_MEMORY, NULL, "@+q8"},
    {GP_CODEC_FAKE, NULL, "@+q8"},
};

static char *
text_of(const char *pattern, const char *name)
{
    const char *at = strchr(pattern, '@');
    char *out = NULL;

    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - pattern), pattern, name,
                         at + 1) > 0);
    return out;
}

/* A coder of that text: "no" where there is no such pipeline, "host" where
 * there is none on a device; else NULL, and both are the caller's. */
static const char *
open_text(gp_device *d, const char *text, gp_pipeline **p, gp_coder **c)
{
    const gp_codec_shape shape = {COUNT, COLUMNS};
    gp_status status;

    if (gp_pipeline_open(text, &shape, p) != GP_OK)
        return "no";
    status = gp_coder_open(d, *p, c);
    if (status == GP_OK)
        return NULL;
    if (status != GP_ERR_UNSUPPORTED)
        fail_msg("%s: %s", text, gp_last_error());
    gp_pipeline_destroy(*p);
    return "host";
}

/* What there are kernels for; calls of nothing say that, too. */
static void
print_calls(FILE *out, gp_coder *c)
{
    if (gp_coder_whole_bytes(c, COUNT))
        fputs("look, ", out);
    if (gp_coder_propose(c, NULL, 0, NULL) == GP_OK)
        fputs("propose, ", out);
    assert_int_equal(gp_coder_encode(c, NULL, 0, NULL), GP_OK);
    fputs("encode", out);
    if (gp_coder_decodes(c))
        fputs(", decode", out);
    if (gp_coder_fold(c, NULL, 0, false, NULL) == GP_OK)
        fputs(", fold", out);
}

static void
print_cell(FILE *out, gp_device *d, const char *pattern, const char *name,
           bool calls)
{
    char *text = text_of(pattern, name);
    gp_pipeline *p = NULL;
    gp_coder *c = NULL;
    const char *word = open_text(d, text, &p, &c);

    if (word)
        fputs(word[0] == 'n' ? "-" : word, out);
    else if (calls)
        print_calls(out, c);
    else
        fputs("yes", out);
    fputs(" |", out);
    if (!word) {
        gp_coder_close(c);
        gp_pipeline_destroy(p);
    }
    free(text);
}

static void
print_arrays(FILE *out, gp_device *d)
{
    const gp_codec_ops *ops;

    fputs("| array stage | on the device | `ef` | `ef21` | `momentum` | "
          "`hadamard` | `zeros` | `topk` | `randk` |\n"
          "|---|---|---|---|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; (ops = gp_codec_at(i)); i++) {
        if (ops->kind != GP_CODEC_ARRAY)
            continue;
        fprintf(out, "| `%s` | ", ops->name);
        print_cell(out, d, "@", ops->name, true);
        for (size_t k = 0; k < GP_COUNT_OF(around); k++) {
            fputc(' ', out);
            print_cell(out, d, around[k], ops->name, false);
        }
        fputc('\n', out);
    }
}

static const char *
pattern_for(const gp_codec_ops *ops)
{
    for (size_t k = 0; k < GP_COUNT_OF(others); k++)
        if (others[k].kind == ops->kind &&
            (!others[k].name || strcmp(others[k].name, ops->name) == 0))
            return others[k].text;
    return NULL;
}

static void
print_others(FILE *out, gp_device *d)
{
    const gp_codec_ops *ops;

    fputs("\n| other stage | as in | on the device |\n|---|---|---|\n", out);
    for (size_t i = 0; (ops = gp_codec_at(i)); i++) {
        const char *pattern = pattern_for(ops);
        char *text;

        if (!pattern) {
            assert_true(ops->kind == GP_CODEC_ARRAY ||
                        ops->kind == GP_CODEC_BYTES);
            continue;
        }
        text = text_of(pattern, ops->name);
        fprintf(out, "| `%s` | `%s` | ", ops->name, text);
        print_cell(out, d, pattern, ops->name, true);
        fputc('\n', out);
        free(text);
    }
}

static char *
print_tables(void)
{
    gp_device *d;
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(out);
    assert_int_equal(gp_device_open("cuda", &d), GP_OK);
    print_arrays(out, d);
    print_others(out, d);
    gp_device_close(d);
    fclose(out);
    return text;
}

static void
the_page_says_what_coders_do(void **state)
{
    char *tables = print_tables();

    (void)state;
    page_must_say(PAGE, BEGIN, END, tables, "what coders do");
    free(tables);
}

/* Byte stages are the host's, behind what a device does. */
static void
bytes_are_the_hosts(void **state)
{
    const gp_codec_ops *ops;
    size_t seen = 0;
    gp_device *d;

    (void)state;
    assert_int_equal(gp_device_open("cuda", &d), GP_OK);
    for (size_t i = 0; (ops = gp_codec_at(i)); i++) {
        gp_pipeline *p = NULL;
        gp_coder *c = NULL;
        char *text;

        if (ops->kind != GP_CODEC_BYTES)
            continue;
        text = text_of("q8+@", ops->name);
        assert_string_equal(open_text(d, text, &p, &c), "host");
        free(text);
        seen++;
    }
    assert_in_range(seen, 3, 100);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_says_what_coders_do),
        cmocka_unit_test(bytes_are_the_hosts),
    };

    gp_sim_cuda_install(&options);
    gp_sim_cublas_install(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
