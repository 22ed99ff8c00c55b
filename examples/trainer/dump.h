/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump.h - gradients on disk, for those who compare codecs on real ones.
 */
#ifndef GT_DUMP_H
#define GT_DUMP_H

#include "train.h"

/* Makes the folder of --dump-gradients. */
gp_status gt_dump_open(const char *folder);

/* Writes the gradients of a layer that is about to be pushed, on rank 0 and in
 * every --dump-every'th step; else does nothing. Files are fp32 .npy:
 *
 *     step-000120.layer0.weight.npy    the gradient g
 *     step-000120.layer0.weight.u.npy  g + residual, which is what gets encoded
 *                                      under error feedback; only then
 */
gp_status gt_dump_layer(gt_trainer *trainer, size_t layer);

#endif
