/* SPDX-License-Identifier: Apache-2.0 */
/*
 * option_words.c - what options of gradpush-train take: words, numbers, and
 * what is said of others.
 */
#include "option_words.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const gt_word gt_losses[] = {
    {"ce", GT_CROSS_ENTROPY}, {"mse", GT_MEAN_SQUARES}, {NULL, 0}};
const gt_word gt_optimizers[] = {{"sgd", GT_SGD},
                                 {"momentum", GT_MOMENTUM},
                                 {"nesterov", GT_NESTEROV},
                                 {"adagrad", GT_ADAGRAD},
                                 {"rmsprop", GT_RMSPROP},
                                 {"adam", GT_ADAM},
                                 {"adamw", GT_ADAMW},
                                 {"lamb", GT_LAMB},
                                 {NULL, 0}};
const gt_word gt_updates[] = {
    {"worker", GT_UPDATE_WORKER}, {"shard", GT_UPDATE_SHARD}, {NULL, 0}};
const gt_word gt_partitions[] = {
    {"random", GT_RANDOM}, {"contiguous", GT_CONTIGUOUS}, {NULL, 0}};
const gt_word gt_normalizations[] = {{"none", GT_NORMALIZE_NONE},
                                     {"scale", GT_NORMALIZE_SCALE},
                                     {"standard", GT_NORMALIZE_STANDARD},
                                     {NULL, 0}};
const gt_word gt_progresses[] = {{"auto", GT_PROGRESS_AUTO},
                                 {"on", GT_PROGRESS_ON},
                                 {"off", GT_PROGRESS_OFF},
                                 {NULL, 0}};
const gt_word gt_precisions[] = {
    {"fp32", GT_FP32}, {"tf32", GT_TF32}, {"bf16", GT_BF16}, {NULL, 0}};
static const gt_word switches[] = {{"on", 1}, {"off", 0}, {NULL, 0}};

static const char *
word_of(const gt_word *words, int value)
{
    while (words->name && words->value != value)
        words++;
    return words->name;
}

const char *
gt_loss_name(gt_loss loss)
{
    return word_of(gt_losses, (int)loss);
}

const char *
gt_optim_name(gt_optim_kind kind)
{
    return word_of(gt_optimizers, (int)kind);
}

const char *
gt_update_name(gt_update update)
{
    return word_of(gt_updates, (int)update);
}

const char *
gt_partition_name(gt_partition partition)
{
    return word_of(gt_partitions, (int)partition);
}

const char *
gt_normalize_name(gt_normalize normalize)
{
    return word_of(gt_normalizations, (int)normalize);
}

const char *
gt_precision_name(gt_precision precision)
{
    return word_of(gt_precisions, (int)precision);
}

static void
list_words(const gt_word *words, char *out, size_t capacity)
{
    size_t used = 0;

    out[0] = '\0';
    for (; words->name && used < capacity; words++)
        used += (size_t)snprintf(out + used, capacity - used, "%s%s",
                                 used ? ", " : "", words->name);
}

static gp_status
parse_word(const char *option, const char *text, const gt_word *words, int *out)
{
    char list[128];

    for (const gt_word *w = words; w->name; w++)
        if (strcmp(w->name, text) == 0) {
            *out = w->value;
            return GP_OK;
        }
    list_words(words, list, sizeof(list));
    return gt_fail(GP_ERR_CONFIG, "--%s '%s': it takes: %s", option, text,
                   list);
}

gp_status
gt_parse_count(const char *option, const char *text, uint64_t minimum,
               uint64_t maximum, uint64_t *out)
{
    char *stop;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &stop, 10);
    if (*text < '0' || *text > '9' || *stop || errno || v < minimum ||
        v > maximum)
        return gt_fail(GP_ERR_CONFIG,
                       "--%s '%s': it takes a whole number from %llu to %llu",
                       option, text, (unsigned long long)minimum,
                       (unsigned long long)maximum);
    *out = v;
    return GP_OK;
}

gp_status
gt_parse_count32(const char *option, const char *text, uint32_t minimum,
                 uint32_t maximum, uint32_t *out)
{
    uint64_t v = 0;
    gp_status status = gt_parse_count(option, text, minimum, maximum, &v);

    if (status == GP_OK)
        *out = (uint32_t)v;
    return status;
}

gp_status
gt_parse_real(const char *option, const char *text, double minimum,
              double maximum, double *out)
{
    char *stop;
    double v = strtod(text, &stop);

    if (stop == text || *stop || !isfinite(v) || v < minimum || v > maximum)
        return gt_fail(GP_ERR_CONFIG,
                       "--%s '%s': it takes a number from %g to %g", option,
                       text, minimum, maximum);
    *out = v;
    return GP_OK;
}

gp_status
gt_parse_float(const char *option, const char *text, double minimum,
               double maximum, float *out)
{
    double v = 0;
    gp_status status = gt_parse_real(option, text, minimum, maximum, &v);

    if (status == GP_OK)
        *out = (float)v;
    return status;
}

gp_status
gt_parse_enum(const char *option, const char *text, const gt_word *words,
              unsigned *out)
{
    int value = 0;
    gp_status status = parse_word(option, text, words, &value);

    if (status == GP_OK)
        *out = (unsigned)value;
    return status;
}

gp_status
gt_parse_switch(const char *option, const char *text, bool *out)
{
    int value = 0;
    gp_status status = parse_word(option, text, switches, &value);

    if (status == GP_OK)
        *out = value != 0;
    return status;
}
