/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater.c - updater texts and stochastic gradient descent.
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

static const char *const kind_names[] = {"sum", "mean", "sgd"};
static const char *const sgd_keys[] = {"lr", "momentum", "nesterov",
                                       "weight_decay"};

static gp_status
bad_name(const char *text, const char *part, size_t length,
         const char *const *words, size_t count, const char *what)
{
    char word[64];
    const char *near = NULL;

    snprintf(word, sizeof(word), "%.*s", (int)GP_MIN(length, 63), part);
    if (gp_nearest(word, words, count, &near))
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': unknown %s '%s' at character %td; "
                       "did you mean '%s'?",
                       text, what, word, part - text + 1, near);
    return gp_fail(GP_ERR_CONFIG,
                   "updater '%.100s': unknown %s '%s' at character %td; known "
                   "are sum, mean and sgd:lr=,momentum=,nesterov=,"
                   "weight_decay=",
                   text, what, word, part - text + 1);
}

static gp_status
read_number(const char *text, const char *part, double *out)
{
    char *end;
    double value = strtod(part, &end);

    if (end == part || (*end != ',' && *end != '\0') || !isfinite(value) ||
        value < 0 || value > 1e9)
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': character %td should begin a number "
                       "from 0 to 1e9",
                       text, part - text + 1);
    *out = value;
    return GP_OK;
}

static gp_status
read_parameter(const char *text, const char *part, gp_updater *u)
{
    size_t length = strcspn(part, "=,");
    double value = 0;
    gp_status status;
    size_t key = 0;

    while (key < GP_COUNT_OF(sgd_keys) &&
           (strlen(sgd_keys[key]) != length ||
            strncmp(part, sgd_keys[key], length) != 0))
        key++;
    if (key == GP_COUNT_OF(sgd_keys))
        return bad_name(text, part, length, sgd_keys, GP_COUNT_OF(sgd_keys),
                        "parameter");
    if (part[length] != '=')
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': %s at character %td needs a value, "
                       "as in %s=0.1",
                       text, sgd_keys[key], part - text + 1, sgd_keys[key]);
    status = read_number(text, part + length + 1, &value);
    if (status != GP_OK)
        return status;
    if (key == 0)
        u->lr = (float)value;
    else if (key == 1)
        u->momentum = (float)value;
    else if (key == 2)
        u->nesterov = value != 0;
    else
        u->weight_decay = (float)value;
    return GP_OK;
}

static gp_status
parse(const char *text, gp_updater *out)
{
    size_t length = strcspn(text, ":");
    gp_updater u = {.lr = 0.1f};
    const char *part = text + length;
    size_t kind = 0;

    while (kind < GP_COUNT_OF(kind_names) &&
           (strlen(kind_names[kind]) != length ||
            strncmp(text, kind_names[kind], length) != 0))
        kind++;
    if (kind == GP_COUNT_OF(kind_names))
        return bad_name(text, text, length, kind_names, GP_COUNT_OF(kind_names),
                        "updater");
    u.kind = (gp_updater_kind)(kind + 1);
    if (*part && u.kind != GP_UPDATER_SGD)
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': %s takes no parameters", text,
                       kind_names[kind]);
    while (*part) {
        gp_status status = read_parameter(text, part + 1, &u);

        if (status != GP_OK)
            return status;
        part += 1 + strcspn(part + 1, ",");
    }
    if (u.nesterov && u.momentum == 0)
        return gp_fail(GP_ERR_CONFIG,
                       "updater '%.100s': nesterov needs momentum above 0",
                       text);
    *out = u;
    return GP_OK;
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

/* Fewest digits that read back as the same number. */
static void
print_number(float value, char *out, size_t capacity)
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, capacity, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value)
            return;
    }
}

static void
print_sgd(const gp_updater *u, char *out, size_t capacity)
{
    char lr[24], momentum[24], decay[24];

    print_number(u->lr, lr, sizeof(lr));
    print_number(u->momentum, momentum, sizeof(momentum));
    print_number(u->weight_decay, decay, sizeof(decay));
    snprintf(out, capacity, "sgd:lr=%s,momentum=%s,nesterov=%d,weight_decay=%s",
             lr, momentum, u->nesterov, decay);
}

void
gp_updater_print(const gp_updater *u, char *out, size_t capacity)
{
    locale_t c, before;

    if (u->kind != GP_UPDATER_SGD) {
        snprintf(out, capacity, "%s", kind_names[u->kind - 1]);
        return;
    }
    c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    before = c ? uselocale(c) : (locale_t)0;
    print_sgd(u, out, capacity);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
}

/* One pass; the branches on constants leave the loop when inlined. */
static inline void
sgd_loop(const gp_updater *u, const float *restrict gradient,
         float *restrict value, float *restrict velocity, size_t count,
         bool momentum, bool nesterov)
{
    const float lr = u->lr, mu = u->momentum, decay = u->weight_decay;

    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + decay * value[i];

        if (momentum) {
            float v = mu * velocity[i] + g;

            velocity[i] = v;
            g = nesterov ? g + mu * v : v;
        }
        value[i] -= lr * g;
    }
}

void
gp_updater_sgd(const gp_updater *u, const float *gradient, float *value,
               float *velocity, size_t count)
{
    if (u->momentum == 0)
        sgd_loop(u, gradient, value, NULL, count, false, false);
    else if (u->nesterov)
        sgd_loop(u, gradient, value, velocity, count, true, true);
    else
        sgd_loop(u, gradient, value, velocity, count, true, false);
}
