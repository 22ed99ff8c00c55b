/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_set.c - reading, printing and measuring alternatives.
 */
#include "shard/codec_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/worker.h>

#include "compress/pipeline.h"

#define TEXT_MAX 1024u

const char *
gp_native_name(uint8_t dtype)
{
    return dtype == GP_FP16 ? "fp16" : dtype == GP_BF16 ? "bf16" : "none";
}

static gp_status
open_one(const char *part, size_t length, const char *native,
         const gp_codec_shape *shape, gp_pipeline **out)
{
    char text[TEXT_MAX];
    gp_status status;

    if (length >= sizeof(text))
        return gp_fail(GP_ERR_CONFIG,
                       "codec '%.60s...': an alternative has at most %u "
                       "characters",
                       part, TEXT_MAX - 1);
    memcpy(text, part, length);
    text[length] = '\0';
    status = gp_pipeline_open(text, shape, out);
    if (status != GP_OK || strcmp(gp_pipeline_name(*out), "none") != 0)
        return status;
    gp_pipeline_destroy(*out);
    return gp_pipeline_parse(native, out);
}

/* Takes over the pipeline. */
static gp_status
add(gp_codec_set *set, gp_pipeline *p, const char *text)
{
    int same = gp_codec_set_find(set, gp_pipeline_id(p));
    bool twice = same >= 0 && strcmp(gp_pipeline_name(set->pipeline[same]),
                                     gp_pipeline_name(p)) == 0;

    if (same < 0 && set->count < GP_CODEC_SET_MAX) {
        set->id[set->count] = gp_pipeline_id(p);
        set->pipeline[set->count++] = p;
        return GP_OK;
    }
    gp_pipeline_destroy(p);
    if (twice)
        return GP_OK;
    if (same >= 0)
        return gp_fail(GP_ERR_CONFIG,
                       "codec '%.100s': two alternatives have the same number "
                       "on the wire; change a parameter of one of them",
                       text);
    return gp_fail(GP_ERR_CONFIG, "codec '%.100s': at most %u alternatives",
                   text, GP_CODEC_SET_MAX);
}

static bool
sends_differences(const gp_pipeline *p)
{
    return gp_pipeline_properties(p) & GP_CODEC_DIFFERENCE;
}

static gp_status
check_differences(const gp_codec_set *set, const char *text)
{
    for (uint32_t i = 1; i < set->count; i++)
        if (sends_differences(set->pipeline[i]) !=
            sends_differences(set->pipeline[0]))
            return gp_fail(GP_ERR_CONFIG,
                           "codec '%.100s': %.60s and %.60s cannot be "
                           "alternatives, because one sends differences to "
                           "what the shard holds; begin all or none with ef21",
                           text, gp_pipeline_name(set->pipeline[0]),
                           gp_pipeline_name(set->pipeline[i]));
    return GP_OK;
}

gp_status
gp_codec_set_open(const char *text, const char *native,
                  const gp_codec_shape *shape, gp_codec_set *out)
{
    gp_codec_set set = {0};
    const char *part = text;
    gp_status status;

    for (;;) {
        size_t length = strcspn(part, "|");
        gp_pipeline *p = NULL;

        status = open_one(part, length, native, shape, &p);
        if (status == GP_OK)
            status = add(&set, p, text);
        if (status != GP_OK || part[length] == '\0')
            break;
        part += length + 1;
    }
    if (status == GP_OK)
        status = check_differences(&set, text);
    if (status != GP_OK) {
        gp_codec_set_close(&set);
        return status;
    }
    *out = set;
    return GP_OK;
}

void
gp_codec_set_close(gp_codec_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        gp_pipeline_destroy(set->pipeline[i]);
    set->count = 0;
}

gp_status
gp_codec_set_print(const gp_codec_set *set, char *out, size_t capacity)
{
    size_t at = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        int n = snprintf(out + at, capacity - at, "%s%s", i ? "|" : "",
                         gp_pipeline_name(set->pipeline[i]));

        if (n < 0 || (size_t)n >= capacity - at)
            return gp_fail(GP_ERR_TOO_LARGE,
                           "codec '%.100s...': with all parameters written "
                           "out it is longer than %zu characters",
                           gp_pipeline_name(set->pipeline[0]), capacity - 1);
        at += (size_t)n;
    }
    return GP_OK;
}

int
gp_codec_set_find(const gp_codec_set *set, uint32_t id)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (set->id[i] == id)
            return (int)i;
    return -1;
}

size_t
gp_codec_set_bound(const gp_codec_set *set, size_t count)
{
    size_t most = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        size_t bound = gp_pipeline_bound(set->pipeline[i], count);

        most = GP_MAX(most, bound);
    }
    return most;
}

size_t
gp_codec_set_workspace(const gp_codec_set *set, size_t count)
{
    size_t most = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        size_t bytes = gp_pipeline_workspace(set->pipeline[i], count);

        most = GP_MAX(most, bytes);
    }
    return most;
}

bool
gp_codec_set_is_wide(const gp_codec_set *set, const gp_pipeline *pull)
{
    uint32_t properties = gp_pipeline_properties(pull);

    for (uint32_t i = 0; i < set->count; i++)
        properties |= gp_pipeline_properties(set->pipeline[i]);
    return (properties & GP_CODEC_WIDE) != 0;
}

bool
gp_codec_set_differs(const gp_codec_set *set)
{
    return set->count > 0 && sends_differences(set->pipeline[0]);
}

/* A majority that makes up for earlier ones takes the sum itself. */
static bool
corrects_votes(const gp_pipeline *pull, bool feedback)
{
    return gp_pipeline_properties(pull) & GP_CODEC_VOTES &&
           (feedback || gp_pipeline_needs(pull) & GP_PIPELINE_REMEMBERS);
}

int
gp_codec_set_summed(const gp_codec_set *push, const gp_pipeline *pull,
                    const gp_updater *updater, bool feedback, uint32_t workers)
{
    bool sums = gp_pipeline_needs(pull) & GP_PIPELINE_AGGREGATES &&
                !gp_updater_keeps(updater) && workers <= GP_CODEC_FOLD &&
                !corrects_votes(pull, feedback);

    return sums ? gp_codec_set_find(push, gp_pipeline_id(pull)) : -1;
}

gp_status
gp_codec_set_check_sum(const gp_codec_set *push, int summed, uint32_t workers)
{
    size_t most =
        summed < 0 ? workers : gp_pipeline_most_summed(push->pipeline[summed]);

    if (most >= workers)
        return GP_OK;
    return gp_fail(GP_ERR_CONFIG,
                   "codec '%.100s': a sum holds the pushes of %zu workers, and "
                   "the job has %u; give it a parameter that holds all",
                   gp_pipeline_name(push->pipeline[summed]), most, workers);
}

/* Casts have a range to lose, and so no bound, but are what parameters of
 * mixed precision are kept in. */
static bool
is_half(const gp_pipeline *p)
{
    return p->array->ops == &gp_codec_fp16 || p->array->ops == &gp_codec_bf16;
}

#define PULL_COUNT 4096
/* q8 in its largest blocks passes, four bits of any kind do not. */
#define PULL_ERROR 0.02

/* Whether parameters would not survive. */
static bool
ruins(const gp_pipeline *pull)
{
    return !(gp_pipeline_properties(pull) & GP_CODEC_LOSSLESS) &&
           !is_half(pull) &&
           !(gp_pipeline_error_bound(pull, PULL_COUNT) <= PULL_ERROR);
}

static gp_status
check_precision(const gp_pipeline *pull, const gp_updater *updater)
{
    if (!ruins(pull))
        return GP_OK;
    return gp_fail(GP_ERR_CONFIG,
                   "pull codec '%.100s': with the updater %s a pull returns "
                   "parameters, and this codec may lose a part of %g of their "
                   "energy, more than %g; pull them with none, fp16, bf16 or "
                   "q8",
                   gp_pipeline_name(pull), updater->ops->name,
                   gp_pipeline_error_bound(pull, PULL_COUNT), PULL_ERROR);
}

gp_status
gp_codec_check_pull(const gp_pipeline *pull, const gp_updater *updater)
{
    uint32_t needs = gp_pipeline_needs(pull);
    const char *why = NULL;

    if (sends_differences(pull))
        return gp_fail(GP_ERR_CONFIG,
                       "pull codec '%.100s': differences are for pushes; a "
                       "worker holds nothing that results could be differences "
                       "to",
                       gp_pipeline_name(pull));
    if (!gp_updater_keeps(updater))
        return GP_OK;
    if (needs & GP_PIPELINE_SELECTS)
        why = "some of the elements";
    else if (gp_pipeline_properties(pull) & GP_CODEC_WIDE)
        why = "low-rank factors";
    else if (needs & GP_PIPELINE_REMEMBERS)
        why = "what depends on earlier steps";
    return why ? gp_fail(GP_ERR_CONFIG,
                         "pull codec '%.100s': with the updater %s a pull "
                         "returns parameters, of which %s would be wrong ones; "
                         "pull them with none, fp16, bf16 or q8",
                         gp_pipeline_name(pull), updater->ops->name, why)
               : check_precision(pull, updater);
}

gp_status
gp_codec_check_feedback(const gp_pipeline *p, bool feedback)
{
    if (!feedback || !gp_pipeline_overshoots(p))
        return GP_OK;
    return gp_fail(GP_ERR_CONFIG,
                   "codec '%.100s': error feedback with a codec whose error "
                   "may exceed its input grows without bound: choose the "
                   "biased variant, or feedback 0",
                   gp_pipeline_name(p));
}

bool
gp_codec_loses_much(const gp_pipeline *p, size_t count)
{
    uint32_t needs = gp_pipeline_needs(p);
    bool half = gp_pipeline_properties(p) & GP_CODEC_FIXED_RATE &&
                gp_pipeline_bound(p, count) / 2 >= count;

    return needs & GP_PIPELINE_FEEDBACK &&
           (needs & GP_PIPELINE_SELECTS ||
            (!half && !(gp_pipeline_error_bound(p, count) <= 0.01)));
}

/* What its size for a row is, by trying; for any row it is the same. */
static gp_status
measure_row(gp_row_codec *c)
{
    size_t bound = gp_pipeline_bound(c->pipeline, c->width);
    float *row = calloc(c->width, sizeof(*row));
    void *out = gp_alloc_aligned(bound);
    void *workspace =
        gp_alloc_aligned(gp_pipeline_workspace(c->pipeline, c->width) + 1);
    gp_codec_context context = {.size = 1};
    gp_status status = GP_ERR_NO_MEMORY;

    if (row && out && workspace)
        status = gp_pipeline_encode(c->pipeline, &context, NULL, row, c->width,
                                    out, bound, &c->bytes, workspace);
    free(row);
    free(out);
    free(workspace);
    return status == GP_OK
               ? GP_OK
               : gp_fail(status, "codec '%.100s' of a row: %s",
                         gp_pipeline_name(c->pipeline), gp_status_text(status));
}

gp_status
gp_row_codec_open(const gp_pipeline *p, uint32_t width, gp_row_codec *out)
{
    uint32_t needs = gp_pipeline_needs(p), has = gp_pipeline_properties(p);
    gp_row_codec c = {.pipeline = p, .width = width};
    gp_status status;

    if (!(has & GP_CODEC_FIXED_RATE) ||
        has & (GP_CODEC_WIDE | GP_CODEC_DIFFERENCE | GP_CODEC_VOTES) ||
        needs & (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES |
                 GP_PIPELINE_REMEMBERS | GP_PIPELINE_SELECTS))
        return gp_fail(GP_ERR_CONFIG,
                       "codec '%.100s': rows travel one by one, through codecs "
                       "that make as many bytes of each, without a look at "
                       "others: none, fp16, bf16 or q8",
                       gp_pipeline_name(p));
    c.plain = strcmp(gp_pipeline_name(p), "none") == 0;
    c.bytes = width * sizeof(float);
    status = c.plain ? GP_OK : measure_row(&c);
    if (status == GP_OK)
        *out = c;
    return status;
}
