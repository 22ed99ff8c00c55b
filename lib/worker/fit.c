/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fit.c - whether options go together, before there is a job.
 *
 * Workers and shards find the same out when a tensor is registered: the checks
 * are theirs.
 */
#include <string.h>

#include <gradpush/worker.h>

#include "shard/mode.h"

static gp_status
check_elastic(const gp_mode *mode, const gp_updater *updater,
              const gp_codec_set *push)
{
    const char *what = gp_mode_elastic_clash(mode, updater, push);

    return what ? gp_fail(GP_ERR_CONFIG,
                          "workers that come and go do not go with %s", what)
                : GP_OK;
}

gp_status
gp_job_check(const char *mode, const char *updater, const char *codec,
             uint32_t workers, int elastic)
{
    const gp_codec_shape shape = {0, 0};
    gp_codec_set push = {0};
    gp_updater u;
    gp_mode m;
    gp_status status;

    if (!mode || !updater)
        return gp_fail(GP_ERR_INVALID, "gp_job_check: NULL");
    if (!codec || strcmp(codec, "auto") == 0)
        codec = "none";
    status = gp_mode_parse(mode, workers, &m);
    if (status == GP_OK)
        status = gp_updater_parse(updater, &u);
    if (status == GP_OK)
        status = gp_codec_set_open(codec, "none", &shape, &push);
    if (status == GP_OK)
        status = gp_mode_check_fit(&m, &u, &push);
    if (status == GP_OK && elastic)
        status = check_elastic(&m, &u, &push);
    gp_codec_set_close(&push);
    return status;
}
