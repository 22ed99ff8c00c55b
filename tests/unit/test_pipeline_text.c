/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pipeline_text.c - what the pipeline parser accepts, the canonical text
 * it makes of it, and the message for everything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "compress/codec_internal.h"

/* A codec with parameters that are no whole numbers. */
static const gp_codec_param many_params[] = {
    {"ratio", 0.01, 0, 1, 0, "a share", NULL},
    {"size", 1e20, 1, 1e300, 0, "a size", NULL},
    {"level", 3, -5, 9, 1, "a level", NULL},
    {.name = NULL},
};

static gp_status
many_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    *instance = NULL;
    return values[0] == 0.75 ? GP_ERR_UNSUPPORTED : GP_OK;
}

static size_t
many_bound(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

static gp_status
many_pack(const void *instance, const gp_codec_context *context,
          const void *source, size_t size, void *out, size_t capacity,
          size_t *length)
{
    (void)context;
    (void)instance;
    if (size > capacity)
        return GP_ERR_CORRUPT;
    memcpy(out, source, size);
    *length = size;
    return GP_OK;
}

static const gp_codec_ops many = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .name = "many",
    .text = "many parameters",
    .params = many_params,
    .open = many_open,
    .bound = many_bound,
    .pack = many_pack,
    .unpack = many_pack,
};

static int
set_up(void **state)
{
    (void)state;
    return gp_codec_register(&many);
}

static void
canonical(const char *text, const char *expected)
{
    gp_pipeline *pipeline, *again;

    if (gp_pipeline_parse(text, &pipeline))
        fail_msg("%s", gp_last_error());
    assert_string_equal(gp_pipeline_name(pipeline), expected);
    assert_int_equal(gp_pipeline_id(pipeline),
                     gp_crc32c(0, expected, strlen(expected)));
    assert_int_equal(gp_pipeline_parse(expected, &again), GP_OK);
    assert_string_equal(gp_pipeline_name(again), expected);
    gp_pipeline_destroy(pipeline);
    gp_pipeline_destroy(again);
}

static void
texts_become_canonical(void **state)
{
    (void)state;
    canonical("none", "none");
    canonical("fp16", "fp16:round=nearest");
    canonical("q8", "q8:block=256,round=nearest,scale=fp32");
    canonical("q8:64", "q8:block=64,round=nearest,scale=fp32");
    canonical("q8:block=16e1", "q8:block=160,round=nearest,scale=fp32");
    canonical("many", "none+many:ratio=0.01,size=1e20,level=3");
    canonical("q8+many:level=-5", "q8:block=256,round=nearest,scale=fp32+many:"
                                  "ratio=0.01,size=1e20,level=-5");
    canonical("many:0.1,size=2.5e-0", "none+many:ratio=0.1,size=2.5,level=3");
    canonical("many:level=0,0.30000000000000004",
              "none+many:ratio=0.30000000000000004,size=1e20,level=0");
    canonical("many:-0,level=-0", "none+many:ratio=0,size=1e20,level=0");
#ifdef GP_HAVE_LZ4
    canonical("lz4", "none+lz4:acceleration=1");
    canonical("q8:block=128+lz4:9+lz4",
              "q8:block=128,round=nearest,scale=fp32+lz4:acceleration=9+lz4:"
              "acceleration=1");
#endif
}

/* The parser reads numbers as C does, whatever the program's locale. */
static void
locale_does_not_matter(void **state)
{
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        print_message("skipped: no de_DE.UTF-8 locale here\n");
        skip();
    }
    canonical("many:0.5", "none+many:ratio=0.5,size=1e20,level=3");
    setlocale(LC_ALL, "C");
}

/* Column of the caret in the message's last line, from 1, without the indent.
 */
static int
caret_column(void)
{
    const char *line = strrchr(gp_last_error(), '\n');

    assert_non_null(line);
    return (int)(strchr(line, '^') - line) - 2;
}

static void
refused(const char *text, int column, const char *reason)
{
    gp_pipeline *pipeline = (gp_pipeline *)(uintptr_t)64;

    assert_int_equal(gp_pipeline_parse(text, &pipeline), GP_ERR_CONFIG);
    assert_ptr_equal(pipeline, (gp_pipeline *)(uintptr_t)64);
    if (!strstr(gp_last_error(), reason) || !strstr(gp_last_error(), text))
        fail_msg("'%s' does not say '%s'", gp_last_error(), reason);
    assert_int_equal(caret_column(), column);
}

static void
messages_point_at_the_place(void **state)
{
    (void)state;
    refused("", 1, "expected the name of a codec; 'none'");
    refused("q9", 1, "did you mean 'q8'?");
    refused("FP16", 1, "did you mean 'fp16'?");
    refused("zzzzzz", 1, "info --codecs");
    refused("q8+", 4, "expected the name of a codec");
    refused("+q8", 1, "expected the name of a codec");
    refused("q8++many", 4, "expected the name of a codec");
    refused("q8:", 4, "expected a value or key=value for q8");
    refused("q8:blok=64", 4, "no parameter 'blok'; did you mean 'block'?");
    refused("q8:x=64", 4, "its first one is 'block'");
    refused("q8:block=", 10, "expected a number");
    refused("q8:block=ten", 10, "expected a number for block of q8");
    refused("q8:block=nan", 10, "expected a number");
    refused("q8:block=0x40", 10, "expected a number");
    refused("q8:block=1e999", 10, "expected a number");
    refused("q8:block=16", 10, "block of q8 takes 32 to 65536, not 16");
    refused("q8:65537", 4, "takes 32 to 65536");
    refused("q8:64.5", 4, "whole numbers");
    refused("q8:33", 1, "33 is not a multiple of 32; write 32");
    refused("q8:64,64", 7, "given twice");
    refused("q8:64,block=64", 7, "given twice");
    refused("q8:64=3", 4, "no parameter '64'");
    refused("q8:block=64=3", 12, "expected ',' or the end");
    refused("q8=3", 3, "expected ',' or the end");
    refused("none:1", 6, "takes no parameters");
    refused("fp16+q8", 6, "q8 takes fp32 elements, but fp16 before it");
    refused("many+bf16", 6, "many before it");
    refused("many:0.75", 1, "refuses its parameters: not supported");
    refused("q8+many+many+many+many+many+many+many+many+many+many+many+many",
            59, "more than 12 stages");
}

/* A caret under what the user wrote, or under the longer text, which is said.
 */
static void
names_for_longer_texts(void **state)
{
    (void)state;
    refused("dgc:2", 5, "ratio of topk takes 1e-09 to 1, not 2");
    refused("dgc:0.1,rato=3", 9, "topk has no parameter 'rato'");
    refused("dgc+q9", 5, "did you mean 'q8'");
    refused("dgc+q8:blok=3+rice", 8, "no parameter 'blok'");
    refused("dgc:0.01+q8+rice:1", 18, "takes no parameters");
    refused("q8+onebit:grace", 4,
            "pipeline 'q8+onebit:grace', in what onebit:grace stands for: "
            "onebit takes fp32 elements, but q8 before it");
    refused("efsignsgd+q9", 11, "did you mean 'q8'");
    refused("q8+efsignsgd", 4, "in what efsignsgd stands for: ef remembers");
    refused("efsignsgd:block=64", 18,
            "in what efsignsgd stands for: block of "
            "sign is given twice");
    refused("onebit:deepspeed+", 18, "expected the name of a codec");
}

static void
long_and_unprintable_texts(void **state)
{
    gp_pipeline *pipeline;
    char text[1200];

    (void)state;
    memset(text, 'a', sizeof(text));
    text[1100] = '\0';
    assert_int_equal(gp_pipeline_parse(text, &pipeline), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "longer than 1000"));
    text[500] = '\0';
    assert_int_equal(gp_pipeline_parse(text, &pipeline), GP_ERR_CONFIG);
    assert_true(strlen(gp_last_error()) < 300);
    assert_int_equal(gp_pipeline_parse("q8\x1b[31m\n+x", &pipeline),
                     GP_ERR_CONFIG);
    assert_null(strchr(gp_last_error(), '\x1b'));
    snprintf(text, sizeof(text), "q8:block=64.%0200d", 5);
    assert_int_equal(gp_pipeline_parse(text, &pipeline), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "expected a number"));
}

static void
null_is_refused(void **state)
{
    gp_pipeline *pipeline;

    (void)state;
    assert_int_equal(gp_pipeline_parse(NULL, &pipeline), GP_ERR_INVALID);
    assert_int_equal(gp_pipeline_parse("q8", NULL), GP_ERR_INVALID);
    gp_pipeline_destroy(NULL);
}

static void
properties_of_a_chain(void **state)
{
    gp_pipeline *pipeline;

    (void)state;
    assert_int_equal(gp_pipeline_parse("none", &pipeline), GP_OK);
    assert_int_equal(gp_pipeline_properties(pipeline),
                     GP_CODEC_LOSSLESS | GP_CODEC_UNBIASED |
                         GP_CODEC_CONTRACTS | GP_CODEC_FIXED_RATE |
                         GP_CODEC_LINEAR);
    gp_pipeline_destroy(pipeline);
    assert_int_equal(gp_pipeline_parse("q8+many", &pipeline), GP_OK);
    assert_int_equal(gp_pipeline_properties(pipeline), GP_CODEC_CONTRACTS);
    gp_pipeline_destroy(pipeline);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_canonical),
        cmocka_unit_test(locale_does_not_matter),
        cmocka_unit_test(messages_point_at_the_place),
        cmocka_unit_test(names_for_longer_texts),
        cmocka_unit_test(long_and_unprintable_texts),
        cmocka_unit_test(null_is_refused),
        cmocka_unit_test(properties_of_a_chain),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
