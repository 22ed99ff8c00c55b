/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fit_text.c - what only a whole job would find out, found out before it.
 *
 * The number of workers is known where this program starts them, and under most
 * launchers; where it is 0 here, what depends on it is found when they meet.
 */
#include <string.h>

#include <gradpush/collective.h>
#include <gradpush/transport.h>
#include <gradpush/worker.h>

#include "launch.h"
#include "options.h"

static gp_status
check_transport(const gt_options *o)
{
    const char *names[32], *near = NULL;
    const gp_transport_ops *ops;
    size_t count = 0;

    if (strcmp(o->transport, "auto") == 0 || gp_transport_find(o->transport))
        return GP_OK;
    while (count < GT_COUNT_OF(names) && (ops = gp_transport_at(count)))
        names[count++] = ops->name;
    near = gt_nearest(o->transport, names, count);
    return gt_fail(GP_ERR_CONFIG,
                   "--transport '%.40s': no such transport in this build; "
                   "%s%s%s",
                   o->transport, near ? "did you mean '" : "",
                   near ? near : "'gradpush info --transports' lists them",
                   near ? "'?" : "");
}

static gp_status
check_slow(const gt_options *o, uint32_t workers)
{
    if (workers && o->slow_factor > 0 && o->slow_rank >= workers)
        return gt_fail(GP_ERR_CONFIG,
                       "--slow %u: the last of %u --workers is %u",
                       o->slow_rank, workers, workers - 1);
    return GP_OK;
}

/* How many there are is the launcher's to say. */
static gp_status
check_workers(const gt_options *o, uint32_t launched)
{
    if (!o->workers_given || launched == 0 || launched == o->workers)
        return GP_OK;
    return gt_fail(GP_ERR_CONFIG,
                   "--workers %u: this is a worker of a job of %u, as its "
                   "launcher says (GRADPUSH_SIZE); leave --workers out here, "
                   "or GRADPUSH_RANK to start a job of its own",
                   o->workers, launched);
}

/* A round of workers knows neither modes nor updaters. */
static gp_status
check_round(const gt_options *o)
{
    if (o->codec_given && gp_group_codec_check(o->codec) != GP_OK)
        return gt_fail(
            GP_ERR_CONFIG,
            "--mode allreduce: %s; use --mode sync, or another --codec",
            gp_last_error());
    return GP_OK;
}

static gp_status
check_shards(const gt_options *o, uint32_t workers)
{
    bool elastic = o->min_workers > 0;
    char updater[512];

    if (gt_options_updater(o, updater, sizeof(updater)) < 0)
        return gt_fail(GP_ERR_CONFIG, "--optimizer: the text is too long");
    if (gp_job_check(o->mode, updater, o->codec, 0, elastic) != GP_OK)
        return gt_fail(GP_ERR_CONFIG,
                       "%s%s; change --mode, --optimizer or --codec",
                       elastic ? "--min-workers: " : "", gp_last_error());
    if (gp_job_check(o->mode, updater, o->codec, workers, elastic) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--mode: %s; give more --workers",
                       gp_last_error());
    return GP_OK;
}

gp_status
gt_options_check_job(const gt_options *o)
{
    gt_role role = gt_role_of(o, NULL);
    bool launched = role == GT_ROLE_WORKER;
    uint32_t workers = launched ? gt_launched_size(NULL) : o->workers;
    gp_status status = check_transport(o);

    if (status == GP_OK && launched)
        status = check_workers(o, workers);
    if (status == GP_OK)
        status = check_slow(o, workers);
    if (status != GP_OK || role == GT_ROLE_LOCAL || gt_layout_cuts(&o->layout))
        return status;
    return o->mode_kind == GT_MODE_ALLREDUCE ? check_round(o)
                                             : check_shards(o, workers);
}
