/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mode_text.c - what --mode asks of the other options, and --slow.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/updater.h>

#include "options.h"

/* The text was checked. */
static gt_mode
kind_of(const char *text)
{
    if (strncmp(text, "local", 5) == 0)
        return GT_MODE_LOCAL;
    if (strncmp(text, "sync", 4) != 0)
        return GT_MODE_FREE;
    return text[4] ? GT_MODE_BACKUPS : GT_MODE_SYNC;
}

static gp_status
settle_local(gt_options *o)
{
    if (o->update_given && o->update == GT_UPDATE_SHARD)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode %s: workers step on their own, and shards take "
                       "--outer; leave --update out",
                       o->mode);
    if (o->optim.kind > GT_NESTEROV || *o->optim_keys)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode %s: workers step on their own, with --optimizer "
                       "sgd, momentum or nesterov; others run on shards",
                       o->mode);
    if (gp_updater_check(o->outer) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--outer: %s", gp_last_error());
    if (strncmp(o->outer, "sum", 3) == 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--outer sum: parameters would go as far as all "
                       "workers together; use mean or sgd:lr=1");
    o->update = GT_UPDATE_WORKER;
    o->update_given = true;
    return GP_OK;
}

/* Whoever comes late gets the parameters from the shards, or with --update
 * worker from another one. */
static gp_status
settle_elastic(gt_options *o)
{
    const char *with = NULL;
    bool local = o->mode_kind == GT_MODE_LOCAL;

    if (o->mode_kind == GT_MODE_ALLREDUCE)
        with = "--mode allreduce: a ring of workers needs them all, and nobody "
               "else has the parameters";
    else if (local && strncmp(o->outer, "mean", 4) == 0)
        with = "--outer mean, which leaves the parameters to the workers: "
               "sgd:lr=1, which is the default, does the same";
    else if (gt_layout_cuts(&o->layout))
        with = "--parallel tensor and pipeline";
    else if (o->dump)
        with = "--dump-gradients";
    else if (o->partition != GT_RANDOM)
        with = "--partition contiguous";
    else if (o->placed && (o->shards == 0 || o->workers < o->min_workers))
        with = "--shards 0 and fewer --workers than that";
    else if (o->max_workers && o->max_workers < o->min_workers)
        with = "fewer --max-workers than that";
    else if (o->placed && o->max_workers > o->workers)
        with = "more --max-workers than --workers, which are all there are";
    if (with)
        return gt_fail(GP_ERR_CONFIG, "--min-workers does not go with %s",
                       with);
    if (!local && !o->update_given)
        o->update = GT_UPDATE_SHARD;
    o->update_given = true;
    return GP_OK;
}

uint32_t
gt_options_period(const gt_options *o)
{
    return o->mode_kind == GT_MODE_LOCAL
               ? (uint32_t)strtoul(o->mode + strlen("local:"), NULL, 10)
               : 1;
}

static gp_status settle_kind(gt_options *o);

gp_status
gt_options_settle_mode(gt_options *o)
{
    gp_status status = settle_kind(o);

    if (status == GP_OK && o->outer_given && o->mode_kind != GT_MODE_LOCAL)
        return gt_fail(GP_ERR_CONFIG,
                       "--outer is of --mode local:H: leave it out, or give "
                       "--mode local:16");
    if (status == GP_OK && o->max_workers && !o->min_workers)
        return gt_fail(GP_ERR_CONFIG, "--max-workers needs --min-workers");
    return status == GP_OK && o->min_workers ? settle_elastic(o) : status;
}

static gp_status
settle_kind(gt_options *o)
{
    if (strcmp(o->mode, "allreduce") == 0) {
        o->mode_kind = GT_MODE_ALLREDUCE;
        return GP_OK;
    }
    if (gp_mode_check(o->mode) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--mode: %s", gp_last_error());
    o->mode_kind = kind_of(o->mode);
    if (o->placed && o->workers == 1 && o->shards == 0 &&
        o->mode_kind != GT_MODE_SYNC)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode %s needs shards: give --shards 1 or more",
                       o->mode);
    if (o->mode_kind == GT_MODE_SYNC)
        return GP_OK;
    if (o->mode_kind == GT_MODE_LOCAL)
        return settle_local(o);
    if (o->update_given && o->update == GT_UPDATE_WORKER)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode %s: shards hold the parameters; leave --update "
                       "worker out",
                       o->mode);
    o->update = GT_UPDATE_SHARD;
    o->update_given = true;
    return GP_OK;
}

/* Where gradients go round the copies of each part, everything that shards
 * would do has no place. */
static gp_status
check_cut(const gt_options *o)
{
    if (o->mode_kind != GT_MODE_SYNC && o->mode_kind != GT_MODE_ALLREDUCE)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel tensor and pipeline train in step: leave "
                       "out --mode %s",
                       o->mode);
    if (o->update == GT_UPDATE_SHARD)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel tensor and pipeline step on the workers, "
                       "with sgd, momentum or nesterov, and without --update "
                       "shard");
    if (o->codec_given || o->pull_codec_given)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel tensor and pipeline send everything as it "
                       "is: leave out --codec and --pull-codec");
    if (o->dump)
        return gt_fail(GP_ERR_CONFIG,
                       "--dump-gradients writes whole gradients, and with "
                       "--parallel tensor and pipeline no worker has them");
    if (o->layout.pipeline > o->hidden_count + 1)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel pipeline=%u: the network has %zu layers; "
                       "give more --hidden layers or use fewer stages",
                       o->layout.pipeline, o->hidden_count + 1);
    if (o->micro_batches > o->batch)
        return gt_fail(GP_ERR_CONFIG,
                       "--micro-batches %u are more than the %zu samples of "
                       "--batch",
                       o->micro_batches, o->batch);
    return GP_OK;
}

gp_status
gt_options_settle_layout(gt_options *o)
{
    uint32_t members = gt_layout_members(&o->layout);
    gt_layout settled = o->layout;
    gp_status status;

    if (o->layout.pipeline == 1 && o->micro_batches)
        return gt_fail(GP_ERR_CONFIG,
                       "--micro-batches are of --parallel pipeline: leave "
                       "them out, or give --parallel pipeline=2");
    if (!gt_layout_cuts(&o->layout)) {
        if (o->layout.data && !o->workers_given)
            o->workers = o->layout.data;
        return o->workers_given ? gt_layout_settle(o->workers, &settled)
                                : GP_OK;
    }
    status = check_cut(o);
    if (status != GP_OK)
        return status;
    o->codec = o->pull_codec = "none";
    /* As many as the layout asks for, each with its own shard: those only add
     * up counts. */
    if (!o->workers_given && members)
        o->workers = members * (o->layout.data ? o->layout.data : 1);
    if (!o->shards_given)
        o->shards = 0;
    return o->workers_given ? gt_layout_settle(o->workers, &settled) : GP_OK;
}

gp_status
gt_options_slow(const char *text, gt_options *o)
{
    char *stop;
    unsigned long rank;

    errno = 0;
    rank = strtoul(text, &stop, 10);
    o->slow_factor = 0;
    if (*text >= '0' && *text <= '9' && *stop == ':' && rank < 4096)
        o->slow_factor = strtod(stop + 1, &stop);
    if (errno || *stop || !(o->slow_factor >= 1) || o->slow_factor > 1000)
        return gt_fail(GP_ERR_CONFIG,
                       "--slow '%s': it takes a rank and a factor from 1 to "
                       "1000, as in 3:2.5",
                       text);
    o->slow_rank = (uint32_t)rank;
    return GP_OK;
}
