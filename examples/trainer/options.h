/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the command line of gradpush-train.
 */
#ifndef GT_OPTIONS_H
#define GT_OPTIONS_H

#include "data.h"
#include "gpu.h"
#include "loader.h"
#include "loss.h"
#include "mlp.h"
#include "optim.h"
#include "parallel.h"

typedef enum gt_update {
    GT_UPDATE_WORKER, /* shards return the mean gradient, workers step */
    GT_UPDATE_SHARD   /* shards hold the parameters and return them */
} gt_update;

/* What a mode asks of the trainer; the text says the rest. */
typedef enum gt_mode {
    GT_MODE_SYNC,
    GT_MODE_BACKUPS, /* sync:N-b */
    GT_MODE_FREE,    /* async, ssp:K: each push is an update */
    GT_MODE_LOCAL,
    GT_MODE_ALLREDUCE /* gradients go round the workers, not to shards */
} gt_mode;

typedef enum gt_progress_when {
    GT_PROGRESS_AUTO, /* on a terminal */
    GT_PROGRESS_ON,
    GT_PROGRESS_OFF
} gt_progress_when;

typedef struct gt_options {
    gt_data_options data;
    uint32_t workers, shards;
    bool placed; /* --workers or --shards was given */
    bool workers_given;
    bool shards_given; /* --shards was */
    size_t hidden[GT_LAYERS_MAX];
    size_t hidden_count;
    gt_loss loss;
    gt_optim optim;
    /* "key=value,..." behind the optimizer's name, for the shards; or "" */
    const char *optim_keys;
    bool lr_given, weight_decay_given;
    gt_update update;
    bool update_given;
    const char *mode; /* that of the configuration, unless given */
    bool mode_given;
    gt_mode mode_kind;
    gt_layout layout;
    uint32_t micro_batches; /* of a pipeline; 0: not given */
    const char *outer;      /* updater of mode local:H */
    bool outer_given;
    uint32_t slow_rank;
    double slow_factor;   /* 0: nobody is slowed */
    uint32_t max_workers; /* with min_workers: that take part at once, or 0 */
    uint32_t min_workers; /* they come and go, at least so many; 0: they stay */
    gt_partition partition;
    uint32_t epochs;
    size_t batch;
    uint64_t seed;
    uint32_t threads;
    /* Those of the configuration, unless given here. */
    const char *codec, *pull_codec;
    bool codec_given, pull_codec_given;
    const char *transport, *device;
    bool cuda;                /* the device is not the CPU */
    const char *shard_device; /* NULL: not given */
    gt_precision precision;
    bool deterministic; /* on a CUDA device; on the CPU it always is */
    const char *checkpoint;
    uint32_t checkpoint_every;
    bool resume;
    const char *json, *logdir;
    const char *dump;    /* folder for gradients, or NULL */
    uint32_t dump_every; /* steps */
    bool quiet;
    const char *steps_file; /* FILE of --steps-file, or NULL */
    gt_progress_when progress;
    gt_progress_when overlap; /* of pushes with backward */
} gt_options;

/* What gt_options_parse() asks its caller to do. */
typedef enum gt_action {
    GT_ACTION_TRAIN,
    GT_ACTION_DONE, /* --help or --version was printed */
    GT_ACTION_USAGE /* gt_last_error() says what is wrong: exit status 2 */
} gt_action;

/* Strings of the result point into argv. */
gt_action gt_options_parse(int argc, char **argv, gt_options *out);

/* Defaults of the optimizer that was chosen, and whether it can be where it is
 * to be. */
gp_status gt_options_settle(gt_options *options);

/* Codecs and mode, with those of the configuration; before the others. */
gp_status gt_options_settle_codecs(gt_options *options);

/* --slow, and whether --mode goes with the others. */
gp_status gt_options_slow(const char *text, gt_options *options);
gp_status gt_options_settle_mode(gt_options *options);
/* Steps that a worker makes for one of the tensors: more with --mode local. */
uint32_t gt_options_period(const gt_options *options);

/* --device, and whether the other options go with it; after the layout. */
gp_status gt_options_device(const char *text, gt_options *options);
gp_status gt_options_shard_device(const char *text, gt_options *options);
gp_status gt_options_settle_device(const gt_options *options);

/* Whether a cut network goes with the other options; after the mode. */
gp_status gt_options_settle_layout(gt_options *options);

/* What workers and shards would refuse later, all together; at the end. */
gp_status gt_options_check_job(const gt_options *options);

/* The text of the shards' updater for these options; -1 when it is too long. */
int gt_options_updater(const gt_options *options, char *out, size_t capacity);

/* Words of enumerations, for messages and the report. */
const char *gt_loss_name(gt_loss loss);
const char *gt_optim_name(gt_optim_kind kind);
const char *gt_update_name(gt_update update);
const char *gt_partition_name(gt_partition partition);
const char *gt_normalize_name(gt_normalize normalize);
const char *gt_precision_name(gt_precision precision);

#endif
