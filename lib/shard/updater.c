/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater.c - updater texts, and updates by their tables.
 *
 * Texts come from peers as well as from users, so the reader trusts nothing.
 * Numbers are read and written in the C locale, whatever the program's: members
 * compare these texts.
 */
#include "shard/updater.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/updater_registry.h"

#define WORDS_MAX (GP_UPDATER_PARAMS + GP_KEYS + 8u)

/* Steps are whole numbers that a double holds. */
static const gp_updater_param keys[GP_KEYS] = {
    {"warmup", 0, 0, 1e15, 1, "steps in which lr rises"},
    {"step_size", 0, 0, 1e15, 1, "steps from one change of lr to the next"},
    {"gamma", 0.1, 0, 1, 0, "what step_size multiplies lr with"},
    {"cosine", 0, 0, 1e15, 1, "steps in which lr falls to lr_min"},
    {"lr_min", 0, 0, 1e9, 0, "where cosine ends"},
    {"clip", 0, 0, 1e30, 0, "largest norm of all clipped gradients"},
};

/* Where the reader is: `part` points into `text`. */
typedef struct place {
    const char *text, *part;
    size_t length; /* of the part */
} place;

static size_t
name_updaters(const char **words)
{
    const gp_updater_ops *ops;
    size_t count = 0;

    while (count < WORDS_MAX && (ops = gp_updater_at(count)))
        words[count++] = ops->name;
    return count;
}

static size_t
name_parameters(const gp_updater *u, const char **words)
{
    size_t count = 0;

    for (; u->ops->params && u->ops->params[count].name; count++)
        words[count] = u->ops->params[count].name;
    for (size_t i = 0; i < GP_KEYS; i++)
        words[count++] = gp_updater_keys[i];
    return count;
}

static gp_status
unknown(const place *at, const char *what, const char *const *words,
        size_t count)
{
    char word[64], list[320] = "";
    const char *near = NULL;
    size_t used = 0;

    snprintf(word, sizeof(word), "%.*s", (int)GP_MIN(at->length, 63), at->part);
    if (gp_nearest(word, words, count, &near))
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': unknown %s '%s' at character %td; "
                       "did you mean '%s'?",
                       at->text, what, word, at->part - at->text + 1, near);
    for (size_t i = 0; i < count && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
                                 i ? ", " : "", words[i]);
    return gp_fail(GP_ERR_CONFIG,
                   "updater '%.100s': unknown %s '%s' at character %td; known "
                   "are %s",
                   at->text, what, word, at->part - at->text + 1, list);
}

static gp_status
read_number(const place *at, const gp_updater_param *p, double *out)
{
    const char *begin = at->part + at->length + 1;
    char *end;
    double value = strtod(begin, &end);

    if (end == begin || (*end != ',' && *end != '\0') || !isfinite(value) ||
        value < p->minimum || value > p->maximum ||
        (p->integer && value != floor(value)))
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': character %td should begin a %s from "
                       "%.9g to %.9g",
                       at->text, begin - at->text + 1,
                       p->integer ? "whole number" : "number", p->minimum,
                       p->maximum);
    *out = value;
    return GP_OK;
}

static bool
is_named(const place *at, const char *name)
{
    return strlen(name) == at->length &&
           strncmp(at->part, name, at->length) == 0;
}

/* The parameter or key of that name, and where its value goes. */
static const gp_updater_param *
find_parameter(gp_updater *u, const place *at, double **value)
{
    const gp_updater_param *p = u->ops->params;

    for (size_t i = 0; p && p[i].name; i++)
        if (is_named(at, p[i].name)) {
            *value = &u->value[i];
            return &p[i];
        }
    for (size_t i = 0; i < GP_KEYS; i++)
        if (is_named(at, keys[i].name)) {
            *value = &u->key[i];
            return &keys[i];
        }
    return NULL;
}

static gp_status
read_parameter(const place *at, gp_updater *u)
{
    const char *words[WORDS_MAX];
    double *value = NULL;
    const gp_updater_param *p = find_parameter(u, at, &value);

    if (!p)
        return unknown(at, "parameter", words, name_parameters(u, words));
    if (at->part[at->length] != '=')
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': %s at character %td needs a value, "
                       "as in %s=%g",
                       at->text, p->name, at->part - at->text + 1, p->name,
                       p->value);
    return read_number(at, p, value);
}

static gp_status
find_ops(const char *text, gp_updater *u)
{
    place at = {text, text, strcspn(text, ":")};
    const char *words[WORDS_MAX];
    size_t i = 0;

    while ((u->ops = gp_updater_at(i)) && !is_named(&at, u->ops->name))
        i++;
    if (!u->ops)
        return unknown(&at, "updater", words, name_updaters(words));
    u->kind = u->ops == &gp_updater_sum    ? GP_UPDATER_SUM
              : u->ops == &gp_updater_mean ? GP_UPDATER_MEAN
                                           : GP_UPDATER_OPTIMIZER;
    return GP_OK;
}

static void
set_defaults(gp_updater *u)
{
    const gp_updater_param *p = u->ops->params;

    u->lr = -1;
    for (size_t i = 0; p && p[i].name; i++) {
        u->value[i] = p[i].value;
        if (strcmp(p[i].name, "lr") == 0)
            u->lr = (int)i;
    }
    for (size_t i = 0; i < GP_KEYS; i++)
        u->key[i] = keys[i].value;
}

/* Which arrays there are; bits without one count for nothing. */
static uint32_t
find_arrays(const gp_updater *u)
{
    uint32_t all = 0;

    for (uint32_t i = 0; u->ops->arrays && u->ops->arrays[i]; i++)
        all |= 1u << i;
    return u->ops->arrays_of ? all & u->ops->arrays_of(u->value) : all;
}

/* Whether what was read goes together, and can be told to the shards. */
static gp_status
check_whole(const char *text, gp_updater *u)
{
    const char *fault = u->ops->check ? u->ops->check(u->value) : NULL;
    char canonical[2 * GP_UPDATER_TEXT];

    if (!fault)
        fault = gp_schedule_fault(u);
    if (fault)
        return gp_fail(GP_ERR_CONFIG, "updater '%.100s': %s", text, fault);
    u->arrays = find_arrays(u);
    gp_updater_print(u, canonical, sizeof(canonical));
    if (strlen(canonical) >= GP_UPDATER_TEXT)
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': with all its parameters it is longer "
                       "than %u characters: use numbers of fewer digits",
                       text, GP_UPDATER_TEXT - 1);
    return GP_OK;
}

static gp_status
parse(const char *text, gp_updater *out)
{
    gp_updater u = {0};
    gp_status status = find_ops(text, &u);
    place at = {text, text + strcspn(text, ":"), 0};

    if (status != GP_OK)
        return status;
    if (*at.part && u.kind != GP_UPDATER_OPTIMIZER)
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': %s takes no parameters", text,
                       u.ops->name);
    set_defaults(&u);
    while (*at.part) {
        at.part++;
        at.length = strcspn(at.part, "=,");
        status = read_parameter(&at, &u);
        if (status != GP_OK)
            return status;
        at.part += strcspn(at.part, ",");
    }
    if (u.kind == GP_UPDATER_OPTIMIZER)
        status = check_whole(text, &u);
    if (status == GP_OK)
        *out = u;
    return status;
}

gp_status
gp_updater_parse(const char *text, gp_updater *out)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before;
    gp_status status;

    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "the C locale");
    before = uselocale(c);
    status = parse(text, out);
    uselocale(before);
    freelocale(c);
    return status;
}

gp_status
gp_updater_check(const char *text)
{
    gp_updater u;

    if (!text)
        return gp_fail(GP_ERR_CONFIG, "updater: the text is NULL");
    return gp_updater_parse(text, &u);
}

/* Fewest digits that read back as the same number. */
static void
print_number(double value, char *out, size_t capacity)
{
    if (value == floor(value) && value < 1e6) {
        snprintf(out, capacity, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, capacity, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static size_t
print_one(const char *name, double value, size_t used, char *out,
          size_t capacity)
{
    char number[32];

    print_number(value, number, sizeof(number));
    return used + (size_t)snprintf(out + GP_MIN(used, capacity),
                                   capacity - GP_MIN(used, capacity), "%c%s=%s",
                                   strchr(out, ':') ? ',' : ':', name, number);
}

static void
print_all(const gp_updater *u, char *out, size_t capacity)
{
    const gp_updater_param *p = u->ops->params;
    size_t used = (size_t)snprintf(out, capacity, "%s", u->ops->name);

    for (size_t i = 0; p && p[i].name; i++)
        used = print_one(p[i].name, u->value[i], used, out, capacity);
    for (size_t i = 0; i < GP_KEYS; i++)
        if (i == GP_KEY_GAMMA ? u->key[GP_KEY_STEP_SIZE] > 0 : u->key[i] > 0)
            used = print_one(keys[i].name, u->key[i], used, out, capacity);
}

void
gp_updater_print(const gp_updater *u, char *out, size_t capacity)
{
    locale_t c, before;

    if (u->kind != GP_UPDATER_OPTIMIZER) {
        snprintf(out, capacity, "%s", u->ops->name);
        return;
    }
    c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    before = c ? uselocale(c) : (locale_t)0;
    print_all(u, out, capacity);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
}

gp_status
gp_updater_open(gp_updater *u)
{
    void *instance = NULL;
    gp_status status = u->ops->open ? u->ops->open(u->value, &instance) : GP_OK;

    if (status != GP_OK)
        return gp_fail(status, "updater '%s' cannot be opened: %s",
                       u->ops->name, gp_status_text(status));
    u->instance = instance;
    return GP_OK;
}

void
gp_updater_close(gp_updater *u)
{
    if (u->ops && u->ops->close && u->instance)
        u->ops->close(u->instance);
    u->instance = NULL;
}

const char *
gp_updater_array(const gp_updater *u, size_t index)
{
    for (uint32_t i = 0; i < GP_UPDATER_ARRAYS; i++)
        if (u->arrays >> i & 1 && index-- == 0)
            return u->ops->arrays[i];
    return NULL;
}

float
gp_updater_clip(const gp_updater *u, double norm)
{
    double most = u->key[GP_KEY_CLIP], factor = most / (norm + 1e-6);

    return most > 0 && !(factor >= 1.0) ? (float)factor : 1.0f;
}

void
gp_updater_fill(const gp_updater *u, gp_updater_step *step)
{
    step->lr = gp_updater_lr(u, step->number - 1);
    step->values = u->value;
}

void
gp_updater_apply(const gp_updater *u, gp_updater_step *step,
                 const float *gradient, float *parameters, float *const *arrays,
                 size_t count)
{
    gp_updater_fill(u, step);
    if (count > 0)
        u->ops->apply(u->instance, step, gradient, parameters, arrays, count);
}

void
gp_updater_direct(const gp_updater *u, gp_updater_step *step, float *gradient,
                  const float *parameters, float *const *arrays, size_t count)
{
    gp_updater_fill(u, step);
    if (count > 0 && u->ops->direction)
        u->ops->direction(u->instance, step, gradient, parameters, arrays,
                          count);
}
