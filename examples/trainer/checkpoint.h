/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.h - a training run on disk, at the end of an epoch.
 *
 *     DIR/epoch-000003.safetensors         parameters, momentum, settings
 *     DIR/epoch-000003.rank1.safetensors   residuals of a lossy codec
 *     DIR/latest                           "epoch-000003"
 *
 * `latest` is replaced after all ranks have their files on disk, so it always
 * names a whole checkpoint. The one before is kept as well. There is no random
 * state to save: random.h computes it from seed and epoch.
 */
#ifndef GT_CHECKPOINT_H
#define GT_CHECKPOINT_H

#include "train.h"

/* All ranks call it. */
gp_status gt_checkpoint_save(gt_trainer *trainer);

/* Parameters, momentum, epoch and steps. Settings that must not change are
 * compared: GP_ERR_MISMATCH names the option. */
gp_status gt_checkpoint_load(gt_trainer *trainer);

/* Whether `latest` names the epoch that the trainer is at. */
bool gt_checkpoint_is_latest(gt_trainer *trainer);

/* After the tensors are registered. */
gp_status gt_checkpoint_load_states(gt_trainer *trainer);

#endif
