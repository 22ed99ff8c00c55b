/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outputs.h - whether a run can write what it was asked for.
 */
#ifndef GT_OUTPUTS_H
#define GT_OUTPUTS_H

#include "options.h"

/* Said before hours of training rather than after them, by writing a file there
 * for a moment. Leaves nothing: folders and files that are not there yet need a
 * folder to be in. */
gp_status gt_outputs_check(const gt_options *options);

#endif
