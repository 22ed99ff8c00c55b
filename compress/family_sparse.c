/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_sparse.c - the list of selections and index codings.
 */
#include "compress/families.h"

const gp_codec_ops *const gp_codecs_sparse[] = {
    NULL,
};
