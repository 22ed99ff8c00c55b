/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aliases.c - names that stand for pipeline texts.
 */
#include "compress/families.h"

const gp_codec_alias gp_codec_aliases[] = {
    {NULL, NULL, NULL},
};
