/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elastic.c - where a worker is in a training that others began, left or will
 * go on with.
 *
 * Shards know versions only. A position (gt_position) ties one of them to steps
 * and epochs, and all positions of a job, that which it began with and those of
 * its checkpoints, lie on one line: so a newcomer finds the others' place from
 * whichever it has read.
 *
 * With local:H a checkpoint has what shards keep, which is of the last
 * exchange. When an epoch ends between two, it is written at the second one.
 */
#include "elastic.h"

#include "checkpoint.h"
#include "leave.h"

#define MEMBERS_EVERY 16 /* steps, where workers are not in the same */

bool
gt_trainer_shares_work(const gt_trainer *t)
{
    return t->comm && (t->options->mode_kind == GT_MODE_FREE ||
                       t->options->mode_kind == GT_MODE_BACKUPS);
}

bool
gt_trainer_is_elastic(const gt_trainer *t)
{
    return t->comm && t->options->min_workers > 0;
}

bool
gt_trainer_saves(const gt_trainer *t)
{
    return (gt_trainer_is_elastic(t) ? t->loader.rank : t->rank) == 0;
}

/* In steps, or in updates of all where these are what is counted. */
static uint64_t
epoch_length(const gt_trainer *t)
{
    bool free = t->comm && t->options->mode_kind == GT_MODE_FREE;

    return t->loader.steps * (free ? t->size : 1);
}

/* Steps of a worker that lead to a version: all workers' pushes are versions,
 * or rounds of local steps. */
static uint64_t
steps_at(const gt_trainer *t, uint64_t version)
{
    uint64_t updates =
        version > t->base.updates ? version - t->base.updates : 0;

    if (t->options->mode_kind == GT_MODE_FREE)
        return t->base.steps + updates / t->size;
    return t->base.steps + updates * gt_options_period(t->options);
}

/* Steps since the last exchange of mode local:H. */
static uint64_t
steps_of_round(const gt_trainer *t)
{
    return (t->steps - t->base.steps) % gt_options_period(t->options);
}

void
gt_elastic_catch_up(gt_trainer *t)
{
    uint64_t version = gt_comm_version(t->comm), at;

    t->steps = steps_at(t, version);
    at = gt_trainer_shares_work(t) ? version : t->steps;
    t->epoch = t->base.epoch;
    if (at > t->base.goal)
        t->epoch += (uint32_t)((at - t->base.goal) / epoch_length(t));
    /* Where workers do not step together, pushes go on beyond the end. */
    if (t->epoch > t->options->epochs && t->base.epoch <= t->options->epochs)
        t->epoch = t->options->epochs;
    gt_loader_shuffle(&t->loader, t->epoch);
}

size_t
gt_elastic_begun(const gt_trainer *t)
{
    return (t->steps - t->base.goal) % t->loader.steps;
}

/* Where the last epoch that is done has ended, had nobody been ahead. */
static uint64_t
last_goal(const gt_trainer *t)
{
    return t->base.goal + (t->epoch - t->base.epoch) * epoch_length(t);
}

void
gt_trainer_set_goal(gt_trainer *t)
{
    t->goal = last_goal(t) + epoch_length(t);
}

gt_position
gt_trainer_position(const gt_trainer *t)
{
    gt_position at = {t->epoch, t->steps, t->steps, last_goal(t)};

    if (t->comm && t->options->mode_kind != GT_MODE_ALLREDUCE &&
        !gt_layout_cuts(&t->layout))
        at.updates = gt_comm_version(t->comm);
    if (gt_trainer_is_elastic(t) && gt_trainer_shares_work(t))
        at.steps = steps_at(t, at.updates);
    return at;
}

/* Who steps with the others asks when they do, which is when all push; others
 * ask now and then. */
static bool
asks_for_members(const gt_trainer *t, size_t step)
{
    if (gt_trainer_shares_work(t))
        return step % MEMBERS_EVERY == 0;
    return steps_of_round(t) == 0;
}

bool
gt_trainer_checkpoint_due(const gt_trainer *t)
{
    const gt_options *o = t->options;

    return o->checkpoint &&
           (t->epoch % o->checkpoint_every == 0 || t->epoch == o->epochs);
}

/* At an exchange: an epoch has ended since the last one. */
static bool
is_overdue(const gt_trainer *t)
{
    size_t begun = gt_elastic_begun(t);

    return t->options->mode_kind == GT_MODE_LOCAL && t->epoch > t->base.epoch &&
           begun > 0 && begun < gt_options_period(t->options) &&
           gt_trainer_checkpoint_due(t);
}

gp_status
gt_elastic_begin_step(gt_trainer *t, size_t step)
{
    gp_status status;

    if (!asks_for_members(t, step))
        return GP_OK;
    status = gt_trainer_finish(t);
    if (status == GP_OK)
        status =
            gt_comm_begin_step(t->comm, gt_trainer_shares_work(t) ? t->goal : 0,
                               &t->loader.rank, &t->loader.size);
    if (status == GP_OK && t->gpu && gt_trainer_shares_work(t))
        status = gt_gpu_refresh(t->gpu); /* it may have pulled */
    return status == GP_OK && is_overdue(t) ? gt_trainer_save(t) : status;
}

/* Others may be behind or ahead, and whoever wrote the last one may be gone.
 * One who has slept through the next epoch leaves it to them. */
static gp_status
save_apart(gt_trainer *t)
{
    bool last = t->epoch == t->options->epochs;
    gp_status status =
        gt_comm_look_around(t->comm, &t->loader.rank, &t->loader.size);

    if (status == GP_OK && gt_trainer_saves(t))
        status = gt_trainer_refresh(t);
    if (status != GP_OK || !gt_trainer_saves(t) ||
        (!last && gt_comm_version(t->comm) >= t->goal + epoch_length(t)))
        return status;
    return gt_trainer_save(t);
}

gp_status
gt_elastic_end_epoch(gt_trainer *t)
{
    bool last = t->epoch == t->options->epochs;

    if (gt_trainer_is_elastic(t) && gt_trainer_shares_work(t))
        return save_apart(t);
    if (gt_trainer_is_elastic(t) && !last && steps_of_round(t) > 0)
        return GP_OK; /* begin_step() will */
    return gt_trainer_save(t);
}

gp_status
gt_elastic_end_late(gt_trainer *t)
{
    if (!gt_trainer_shares_work(t) || !t->options->checkpoint ||
        t->epoch != t->options->epochs || gt_checkpoint_is_latest(t))
        return GP_OK;
    return save_apart(t);
}
