/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aliases.c - names that stand for pipeline texts.
 */
#include "compress/families.h"

const gp_codec_alias gp_codec_aliases[] = {
    {"dgc", "momentum:factor=0.9,mask=1+topk:@scope=tensor",
     "deep gradient compression (Lin et al. 2018): momentum correction and "
     "factor masking over an exact selection"},
    {NULL, NULL, NULL},
};
