/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim_text.c - from options to the text of the shards' updater.
 */
#include <stdio.h>
#include <stdlib.h>

#include <gradpush/updater.h>

#include "options.h"

/* Fewest digits that read back as the same number. */
static void
print_float(float value, char *out, size_t capacity)
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, capacity, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value)
            return;
    }
}

int
gt_options_updater(const gt_options *o, char *out, size_t capacity)
{
    const gt_optim *m = &o->optim;
    char lr[24], decay[24], momentum[24];
    const char *comma = *o->optim_keys ? "," : "";
    int n;

    print_float(m->lr, lr, sizeof(lr));
    print_float(m->weight_decay, decay, sizeof(decay));
    print_float(m->kind == GT_SGD ? 0 : m->momentum, momentum,
                sizeof(momentum));
    if (o->mode_kind == GT_MODE_LOCAL)
        n = snprintf(out, capacity, "%s", o->outer);
    else if (o->update == GT_UPDATE_WORKER)
        n = snprintf(out, capacity, "mean");
    else if (m->kind >= GT_ADAGRAD)
        n = snprintf(out, capacity, "%s:lr=%s,weight_decay=%s%s%s",
                     gt_optim_name(m->kind), lr, decay, comma, o->optim_keys);
    else
        n = snprintf(out, capacity,
                     "sgd:lr=%s,weight_decay=%s,momentum=%s,nesterov=%d%s%s",
                     lr, decay, momentum, m->kind == GT_NESTEROV, comma,
                     o->optim_keys);
    return n < 0 || (size_t)n >= capacity ? -1 : n;
}

gp_status
gt_options_settle(gt_options *o)
{
    gt_optim_kind kind = o->optim.kind;
    char text[512];

    if (!o->lr_given && kind >= GT_ADAGRAD)
        o->optim.lr = kind >= GT_ADAM ? 0.001f : 0.01f;
    if (!o->weight_decay_given && kind >= GT_ADAMW)
        o->optim.weight_decay = 0.01f;
    if (kind >= GT_ADAGRAD && !o->update_given)
        o->update = GT_UPDATE_SHARD;
    if (o->update == GT_UPDATE_WORKER && (kind >= GT_ADAGRAD || *o->optim_keys))
        return gt_fail(GP_ERR_CONFIG,
                       "--optimizer %s%s%s runs on shards: give --update shard",
                       gt_optim_name(kind), *o->optim_keys ? ":" : "",
                       o->optim_keys);
    if (gt_options_updater(o, text, sizeof(text)) < 0)
        return gt_fail(GP_ERR_CONFIG, "--optimizer: the text is too long");
    if (gp_updater_check(text) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--optimizer: %s", gp_last_error());
    return GP_OK;
}
