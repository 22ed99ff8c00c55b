/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_parts.c - what a chain of stages is as a whole, and names that stand
 * for chains.
 */
#include <string.h>

#include "base/base.h"
#include "compress/families.h"
#include "compress/pipeline.h"

bool
gp_stage_prepares(const gp_stage *stage)
{
    return stage && stage->ops->prepare &&
           stage->ops->prepare_bytes(stage->instance, 1) > 0;
}

static void
find_parts(gp_pipeline *p)
{
    p->values.first = p->whole.first = p->stages;
    for (size_t i = 0; i < p->count; i++) {
        const gp_stage *stage = &p->stages[i];
        gp_stage_run *run = p->index ? &p->whole : &p->values;

        switch (stage->ops->kind) {
        case GP_CODEC_FAKE:
            p->fake = true;
            break;
        case GP_CODEC_MEMORY:
            p->memory = stage;
            break;
        case GP_CODEC_ZEROS:
            p->zeros = stage;
            break;
        case GP_CODEC_SELECT:
            p->select = stage;
            break;
        case GP_CODEC_TRANSFORM:
            p->transform = stage;
            break;
        case GP_CODEC_ARRAY:
            p->array = stage;
            break;
        case GP_CODEC_INDEX:
            p->index = stage;
            break;
        case GP_CODEC_BYTES:
            if (run->count++ == 0)
                run->first = stage;
            break;
        }
    }
}

uint32_t
gp_stage_properties(const gp_stage *stage)
{
    return stage->ops->properties_of
               ? stage->ops->properties_of(stage->instance)
               : stage->ops->properties;
}

/* What holds for a stage; one that loses nothing has every virtue. */
static uint32_t
virtues(const gp_stage *stage)
{
    const uint32_t all = GP_CODEC_LOSSLESS | GP_CODEC_UNBIASED |
                         GP_CODEC_CONTRACTS | GP_CODEC_LINEAR;
    uint32_t has = stage ? gp_stage_properties(stage) : all;

    return has & GP_CODEC_LOSSLESS ? all : has & all;
}

static uint32_t
chain_properties(const gp_pipeline *p)
{
    uint32_t all = gp_stage_properties(p->array);

    if (p->select || p->transform)
        all = (all & ~virtues(NULL)) |
              (virtues(p->array) & virtues(p->select) & virtues(p->transform));
    for (size_t i = 0; i < p->count; i++) {
        uint32_t has = gp_stage_properties(&p->stages[i]);

        all |= has & (GP_CODEC_WIDE | GP_CODEC_DIFFERENCE);
        if (!(has & GP_CODEC_FIXED_RATE))
            all &= ~GP_CODEC_FIXED_RATE;
    }
    if (p->fake)
        return all | GP_CODEC_FIXED_RATE;
    return p->select || p->zeros ? all & ~GP_CODEC_FIXED_RATE : all;
}

/* Errors that may be more than twice what goes in are random, or meant (votes,
 * signs alone): kept, they would come back larger. */
static bool
forgets(const gp_pipeline *p)
{
    const gp_codec_ops *a = p->array->ops;

    return !p->select && a->error_bound &&
           a->error_bound(p->array->instance, 4096) > 2;
}

static uint32_t
chain_needs(const gp_pipeline *p)
{
    const gp_codec_ops *a = p->array->ops;
    bool bare = !p->fake && !p->zeros && !p->select && !p->transform &&
                p->values.count == 0;
    uint32_t needs = 0;

    if (gp_stage_prepares(p->select) || gp_stage_prepares(p->array))
        needs |= GP_PIPELINE_PREPARES;
    if (a->propose)
        needs |= GP_PIPELINE_PROPOSES;
    if (a->fold && bare)
        needs |= GP_PIPELINE_FOLDS;
    if (a->aggregate && bare)
        needs |= GP_PIPELINE_AGGREGATES;
    if (p->memory || a->state_count ||
        (p->select && p->select->ops->state_count))
        needs |= GP_PIPELINE_REMEMBERS;
    if (!(p->properties & (GP_CODEC_LOSSLESS | GP_CODEC_UNBIASED)) &&
        !forgets(p))
        needs |= GP_PIPELINE_FEEDBACK;
    if (p->select)
        needs |= GP_PIPELINE_SELECTS;
    return needs;
}

void
gp_pipeline_settle(gp_pipeline *pipeline)
{
    find_parts(pipeline);
    pipeline->properties = chain_properties(pipeline);
    pipeline->needs = chain_needs(pipeline);
}

const char *
gp_codec_alias_at(size_t index, const char **text, const char **what)
{
    const gp_codec_alias *a = gp_codec_aliases;

    while (a->name && index--)
        a++;
    if (!a->name)
        return NULL;
    *text = a->text;
    *what = a->what;
    return a->name;
}

/* Whether an alias can be what the stage says: arguments need a place. */
static bool
fits(const gp_codec_alias *a, const char *stage, size_t length)
{
    size_t size = strlen(a->name);

    if (size > length || strncmp(stage, a->name, size) != 0)
        return false;
    return size == length ||
           (strchr(",:", stage[size]) && strchr(a->text, '@'));
}

/* The longest alias that begins the stage, or NULL. */
static const gp_codec_alias *
find_alias(const char *stage, size_t length)
{
    const gp_codec_alias *best = NULL;
    size_t longest = 0;

    for (const gp_codec_alias *a = gp_codec_aliases; a->name; a++) {
        size_t size = strlen(a->name);

        if (size > longest && fits(a, stage, length)) {
            best = a;
            longest = size;
        }
    }
    return best;
}

typedef struct writer {
    char *at;
    size_t left; /* with room for the end of the text */
    bool ok;
} writer;

static void
append(writer *w, const char *text, size_t length)
{
    if (!w->ok || length >= w->left) {
        w->ok = false;
        return;
    }
    memcpy(w->at, text, length);
    w->at += length;
    w->left -= length;
    *w->at = '\0';
}

static void
append_stage(writer *w, const char *stage, size_t length)
{
    const gp_codec_alias *a = find_alias(stage, length);
    size_t name = a ? strlen(a->name) : 0;

    if (!a) {
        append(w, stage, length);
        return;
    }
    for (const char *c = a->text; *c; c++) {
        if (*c != '@') {
            append(w, c, 1);
        } else if (length > name) {
            append(w, stage + name + 1, length - name - 1);
            append(w, ",", 1);
        }
    }
}

bool
gp_alias_expand(const char *text, char *out, size_t capacity)
{
    writer w = {out, capacity, capacity > 0};

    append(&w, "", 0);
    for (;;) {
        size_t length = strcspn(text, "+");

        append_stage(&w, text, length);
        text += length;
        if (*text == '\0' || !w.ok)
            return w.ok;
        append(&w, "+", 1);
        text++;
    }
}

/* The same for one stage, `place` being counted from its beginning; moves it
 * back by what the stage expands to when it lies behind. */
static bool
place_in_alias(const gp_codec_alias *a, size_t length, size_t *place,
               size_t *from, const char **inside)
{
    size_t name = strlen(a->name);

    for (const char *c = a->text; *c; c++) {
        if (*c != '@' && *place == 0) {
            *from = 0;
            *inside = a->name;
            return true;
        }
        if (*c != '@') {
            (*place)--;
        } else if (length > name) {
            if (*place < length - name) {
                *from = name + 1 + *place;
                return true;
            }
            *place -= length - name;
        }
    }
    *from = length;
    return *place == 0; /* what follows the stage */
}

const char *
gp_alias_place(const char *text, size_t place, size_t *at)
{
    const char *stage = text, *inside = NULL;

    for (;;) {
        size_t length = strcspn(stage, "+"), from = place;
        const gp_codec_alias *a = find_alias(stage, length);
        bool here = place <= length;

        if (a)
            here = place_in_alias(a, length, &place, &from, &inside);
        else
            place -= here ? 0 : length;
        if (here || stage[length] == '\0') {
            *at = (size_t)(stage - text) + GP_MIN(from, length);
            return inside;
        }
        place--; /* the plus */
        stage += length + 1;
    }
}
