/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conformance.c - the entry, and the stages that a canonical text names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/suite.h"

/* A number, or a word's index among those of the parameter. */
static double
value_of(const gp_codec_param *param, const char *text, size_t length)
{
    char copy[64];

    for (int i = 0; param->words && param->words[i]; i++)
        if (strlen(param->words[i]) == length &&
            strncmp(param->words[i], text, length) == 0)
            return i;
    snprintf(copy, sizeof(copy), "%.*s", (int)length, text);
    return strtod(copy, NULL);
}

/* "name:key=value,key=value", all parameters in their order. */
static void
read_stage(gp_suite_stage *stage, const char *text, size_t length)
{
    size_t name = strcspn(text, ":+"), left = length;
    char copy[64];

    snprintf(copy, sizeof(copy), "%.*s", (int)name, text);
    stage->ops = gp_codec_find(copy);
    for (size_t i = 0; stage->ops && stage->ops->params && left > name; i++) {
        const char *value = memchr(text, '=', left);
        size_t size;

        if (!stage->ops->params[i].name || i == GP_SUITE_VALUES || !value)
            return;
        value++;
        size = strcspn(value, ",+");
        stage->values[i] = value_of(&stage->ops->params[i], value, size);
        left -= (size_t)(value - text) + size;
        text = value + size;
        name = 0;
    }
}

void
gp_suite_read_stages(gp_suite *s)
{
    const char *text = gp_pipeline_name(s->pipeline);

    while (*text && s->count < GP_SUITE_STAGES) {
        gp_suite_stage *stage = &s->stages[s->count];
        size_t length = strcspn(text, "+");

        read_stage(stage, text, length);
        text += length + (text[length] == '+');
        if (!stage->ops)
            continue;
        s->count++;
        if (strcmp(stage->ops->name, "fake") == 0)
            s->fake = true;
        else if (stage->ops->kind == GP_CODEC_MEMORY)
            s->memory = stage->ops;
        else if (stage->ops->kind == GP_CODEC_ZEROS)
            s->zeros = stage->ops;
        else if (stage->ops->kind == GP_CODEC_SELECT)
            s->select = stage->ops;
        else if (stage->ops->kind == GP_CODEC_TRANSFORM)
            s->transform = stage->ops;
        else if (stage->ops->kind == GP_CODEC_ARRAY)
            s->array = stage->ops;
    }
}

static void
see_randomness(gp_suite *s)
{
    enum { SOME = 300 };
    gp_suite_trial a = gp_suite_trial_make(s, SOME);
    gp_suite_trial b = gp_suite_trial_make(s, SOME);
    float *x = gp_suite_floats(s, SOME);

    gp_suite_fill(&gp_suite_inputs[0], x, SOME);
    if (gp_suite_trial_encode(s, &a, NULL, x, 0) &&
        gp_suite_trial_encode(s, &b, NULL, x, 1))
        s->random =
            a.length != b.length || memcmp(a.bytes, b.bytes, a.length) != 0;
    gp_suite_free(s, x);
    gp_suite_trial_free(s, &a);
    gp_suite_trial_free(s, &b);
}

static void
run_all(gp_suite *s)
{
    gp_codec_shape shape = {0, s->options.columns};

    if (gp_pipeline_open(s->text, &shape, &s->pipeline) != GP_OK) {
        gp_suite_fail(s, "%s", gp_last_error());
        return;
    }
    gp_suite_read_stages(s);
    if (!s->array) {
        gp_suite_fail(s, "its canonical text '%s' names no array stage",
                      gp_pipeline_name(s->pipeline));
        return;
    }
    see_randomness(s);
    gp_suite_check_inputs(s);
    gp_suite_check_feedback(s);
    gp_suite_check_random(s);
    gp_suite_check_sums(s);
    gp_suite_check_hostile(s);
    gp_suite_check_nonfinite(s);
    gp_suite_check_chain(s);
    gp_suite_check_same(s);
}

int
gp_conformance_codec(const char *pipeline,
                     const gp_conformance_options *options,
                     void (*report)(void *user, const char *line), void *user)
{
    static const gp_conformance_options usual = GP_CONFORMANCE_INIT;
    gp_suite *s = calloc(1, sizeof(*s));
    int failures;

    if (!s || !pipeline) {
        free(s);
        return 1;
    }
    s->text = pipeline;
    s->options = usual;
    if (options)
        memcpy(&s->options, options,
               options->size < sizeof(*options) ? options->size
                                                : sizeof(*options));
    s->report = report;
    s->user = user;
    if (setjmp(s->out) == 0)
        run_all(s);
    else
        gp_suite_fail(s, "out of memory");
    while (s->blocks)
        gp_suite_free(s, (char *)s->blocks + 64);
    gp_pipeline_destroy(s->pipeline);
    failures = s->failures;
    if (report && failures > 5) {
        char line[300];

        snprintf(line, sizeof(line), "%.200s: %d failures in all", pipeline,
                 failures);
        report(user, line);
    }
    free(s);
    return failures;
}
