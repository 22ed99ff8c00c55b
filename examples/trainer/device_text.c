/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_text.c - --device and --shard-device, and what goes with them.
 *
 * `auto` is the CPU: what a run gives must not depend on what a machine has.
 */
#include <stdlib.h>
#include <string.h>

#include "options.h"

static bool
is_index(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n > 0 && n < 5 && !text[n];
}

gp_status
gt_options_device(const char *text, gt_options *o)
{
    bool cuda = strncmp(text, "cuda", 4) == 0 &&
                (!text[4] || (text[4] == ':' && is_index(text + 5)));

    if (!cuda && strcmp(text, "auto") != 0 && strcmp(text, "cpu") != 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--device '%s': it takes: auto, cpu, cuda, cuda:N",
                       text);
    o->device = text;
    o->cuda = cuda;
    return GP_OK;
}

/* The shards look closer. */
gp_status
gt_options_shard_device(const char *text, gt_options *o)
{
    if (strncmp(text, "cuda", 4) != 0 && strncmp(text, "cpu", 3) != 0 &&
        strcmp(text, "auto") != 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--shard-device '%s': it takes: cpu, auto, cuda, "
                       "cuda:N, cuda:all, or a list such as cuda:0,cuda:1",
                       text);
    o->shard_device = text;
    return GP_OK;
}

gp_status
gt_options_settle_device(const gt_options *o)
{
    const char *with = NULL;

    if (o->shard_device && o->placed && o->workers == 1 && o->shards == 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--shard-device: there are no shards with --workers 1 "
                       "--shards 0: give --shards 1 or more");
    if (!o->cuda && o->precision != GT_FP32)
        return gt_fail(GP_ERR_CONFIG,
                       "--precision %s needs --device cuda: add that, or "
                       "leave --precision out",
                       gt_precision_name(o->precision));
    if (!o->cuda)
        return GP_OK;
    if (o->mode_kind == GT_MODE_LOCAL || o->mode_kind == GT_MODE_ALLREDUCE)
        with = "--mode local:H and allreduce";
    else if (gt_layout_cuts(&o->layout))
        with = "--parallel tensor and pipeline";
    else if (o->dump)
        with = "--dump-gradients";
    if (with)
        return gt_fail(GP_ERR_CONFIG,
                       "--device %s does not go with %s in this version; use "
                       "--device cpu for that",
                       o->device, with);
    return GP_OK;
}
