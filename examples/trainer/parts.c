/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.c - rows of large layers, pushed and awaited one part after the other.
 *
 * A layer's request begins with its first rows in backward, and ends when
 * forward, or whoever needs the parameters, waits for the layer as any other:
 * what was applied before is known by then (gt_trainer.applied).
 */
#include "parts.h"

static gp_status
rows_made(void *user, size_t l, size_t first, size_t rows)
{
    gt_trainer *t = user;
    size_t in = t->mlp.layer[l].in;

    return gt_comm_push_rows(t->comm, l, first * in, rows * in);
}

/* Rows are applied in order, each once. */
static gp_status
rows_wanted(void *user, size_t l, size_t first, size_t rows)
{
    gt_trainer *t = user;
    size_t in = t->mlp.layer[l].in;
    double start = gt_now();
    bool arrived = false;
    gp_status status;

    if (!t->pending[l])
        return GP_OK;
    status = gt_comm_wait_rows(t->comm, l, first * in, rows * in, &arrived);
    t->waited += gt_now() - start;
    if (status == GP_OK && arrived)
        gt_trainer_apply(t, l, rows * in);
    return status;
}

void
gt_parts_open(gt_trainer *t)
{
    const gt_options *o = t->options;

    if (!t->comm || !t->overlap || t->pipeline || gt_layout_cuts(&t->layout) ||
        o->mode_kind == GT_MODE_LOCAL || o->mode_kind == GT_MODE_BACKUPS ||
        !gt_comm_has_parts(t->comm))
        return;
    t->mlp.rows_made = rows_made;
    t->mlp.rows_wanted = rows_wanted;
    t->mlp.rows_user = t;
}
