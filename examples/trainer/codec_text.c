/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_text.c - codecs and the mode, of the command line or, where it says
 * nothing, of the configuration.
 */
#include <stdio.h>
#include <string.h>

#include <gradpush/codec.h>
#include <gradpush/config.h>
#include <gradpush/worker.h>

#include "options.h"

/* Results are encoded once for all workers, so there is nothing to choose. */
static gp_status
check_pull_codec(const char *text)
{
    if (strcmp(text, "auto") == 0 || strchr(text, '|'))
        return gt_fail(GP_ERR_CONFIG,
                       "--pull-codec %s: results have one pipeline; auto and "
                       "alternatives between '|' are for --codec",
                       text);
    if (gp_codec_check(text) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--pull-codec: %s", gp_last_error());
    return GP_OK;
}

gp_status
gt_options_settle_codecs(gt_options *o)
{
    static char codec[1024], pull_codec[1024], mode[64];
    gp_config *c;

    if (o->codec_given && gp_codec_check(o->codec) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "--codec: %s", gp_last_error());
    if (o->pull_codec_given && check_pull_codec(o->pull_codec) != GP_OK)
        return GP_ERR_CONFIG;
    if (gp_config_create(&c) != GP_OK)
        return gt_fail(GP_ERR_CONFIG, "%s", gp_last_error());
    snprintf(codec, sizeof(codec), "%s", gp_config_get(c, "codec"));
    snprintf(pull_codec, sizeof(pull_codec), "%s",
             gp_config_get(c, "pull_codec"));
    snprintf(mode, sizeof(mode), "%s", gp_config_get(c, "mode"));
    gp_config_destroy(c);
    if (!o->mode_given)
        o->mode = mode;
    if (!o->codec_given)
        o->codec = codec;
    if (!o->pull_codec_given)
        o->pull_codec = pull_codec;
    return GP_OK;
}
