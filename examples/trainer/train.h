/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train.h - the training loop of one worker.
 *
 * Everything a rank needs lives in gt_trainer. A step is: batch, forward,
 * loss, backward; gradients leave as backward finishes them and parameters are
 * updated just before the next forward pass reads them, so the network in
 * between is not quite the newest: gt_trainer_settle() makes it so.
 */
#ifndef GT_TRAIN_H
#define GT_TRAIN_H

#include "comm.h"
#include "gpu.h"
#include "loader.h"
#include "options.h"
#include "progress.h"
#include "steps_file.h"
#include "tensorboard.h"

typedef struct gt_epoch {
    uint32_t epoch; /* from 1 */
    double train_loss, test_loss, test_accuracy;
    double seconds;   /* of the steps, without the evaluation */
    uint64_t samples; /* trained on by all workers */
} gt_epoch;

/* Where a run begins: epochs and steps done, updates of the shards' parameters,
 * and where the last of those epochs ended, in steps, or in updates where
 * workers do not step together: a little before the others. */
typedef struct gt_position {
    uint32_t epoch;
    uint64_t steps, updates, goal;
} gt_position;

typedef struct gt_pipeline gt_pipeline;

typedef struct gt_trainer {
    const gt_options *options;
    gt_data data;
    gt_layout layout;
    uint32_t member, copy; /* which part, of which copy of the network */
    gt_slice part;
    size_t parameters; /* of the whole network */
    gt_mlp mlp;        /* this worker's part, which may be the whole */
    /* Owned; NULL: the CPU computes. With it the memory of `mlp` is filled for
     * checkpoints and digests only. */
    gt_gpu *gpu;
    /* Of a last layer that is cut: rows x classes, and its parts. */
    float *outputs, *output_delta, *pieces;
    uint32_t micro_batches; /* of a step, in a pipeline */
    gt_pipeline *pipeline;  /* owned; NULL without */
    float *velocity;        /* as mlp.params; NULL for GT_SGD and on shards */
    gt_loader loader;
    gt_comm *comm; /* NULL: a single worker without shards */
    bool shares;   /* gradients travel */
    bool overlap;  /* layers are pushed while backward goes on */
    uint32_t rank, size, shards;
    float *x;
    uint16_t *labels;
    bool pending[GT_LAYERS_MAX]; /* gradients not applied yet */
    /* Of pending layers, elements of the weights that are. */
    size_t applied[GT_LAYERS_MAX];
    uint32_t epoch; /* epochs done, since the very start */
    uint64_t steps; /* steps done, since the very start */
    gt_position base;
    bool left; /* before the end, because it was asked to */
    gt_steps_file steps_file;
    gt_progress progress;
    gt_events events;     /* rank 0 with --logdir */
    gt_epoch *epochs;     /* of this run */
    uint32_t epoch_count; /* 0: came when the others were done */
    double test_accuracy; /* when this run ends */
    uint64_t samples;     /* trained on in this run, by all workers */
    uint64_t goal;        /* version at which this epoch ends, in modes where
                             workers do not step together */
    double waited;        /* seconds of this step spent waiting */
    double step_seconds;  /* spent in steps of this run */
    double total_seconds; /* of this run, evaluation and checkpoints too */
    gp_stats stats;       /* summed over workers */
    char digest[65];      /* of the whole network at the end, on rank 0 */
} gt_trainer;

/* Loads data, joins the job, sets initial or resumed parameters. */
gp_status gt_trainer_create(const gt_options *options, bool distributed,
                            gt_trainer *out);
void gt_trainer_free(gt_trainer *trainer);

/* Called after each epoch with its result. */
typedef void (*gt_epoch_hook)(gt_trainer *trainer, const gt_epoch *epoch);
/* Whether this worker writes the checkpoint: who does may be gone the next
 * time, where workers come and go. */
bool gt_trainer_saves(const gt_trainer *trainer);
bool gt_trainer_is_elastic(const gt_trainer *trainer);
/* Whether workers go on until all of them together have done an epoch's work,
 * rather than each its part. */
bool gt_trainer_shares_work(const gt_trainer *trainer);
/* Where this run is: what one that goes on from here begins with. */
gt_position gt_trainer_position(const gt_trainer *trainer);
/* Writes a checkpoint; all call it. */
gp_status gt_trainer_save(gt_trainer *trainer);
gp_status gt_trainer_run(gt_trainer *trainer, gt_epoch_hook report);

/* One step of the current epoch; adds to *score. */
gp_status gt_trainer_step(gt_trainer *trainer, size_t step, gt_score *score);

/* Applies the next `count` elements of a layer's weights, which have come. */
void gt_trainer_apply(gt_trainer *trainer, size_t layer, size_t count);

/* Applies what is still pending: after it params are the newest. */
gp_status gt_trainer_settle(gt_trainer *trainer);
/* The same, and no request is open any more, though a device computes. */
gp_status gt_trainer_finish(gt_trainer *trainer);

/* When no request is open: as gt_comm_refresh(). */
gp_status gt_trainer_refresh(gt_trainer *trainer);

#endif
