/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater.h - what the author of an updater implements.
 *
 * An updater is one table. Shards hold a tensor's parameters and, beside them,
 * the updater's arrays: fp32 numbers, one for each parameter, all 0 at first,
 * such as Adam's two averages. When a step's gradients have been added up and
 * divided by the number of workers, the updater makes new parameters of them,
 * and pulls return these.
 *
 * The library does the rest: it reads the text of gp_tensor_options.updater,
 * "name:key=value,...", checks every number against its range, and follows the
 * schedule of the learning rate and the clipping that the same text may ask
 * for (docs/updaters.md); it saves the arrays into checkpoints and brings them
 * back. All built-in updaters are such tables.
 *
 * Shards and workers both read the text: an updater is registered in every
 * process, before gp_worker_create() and gp_server_create().
 */
#ifndef GRADPUSH_UPDATER_H
#define GRADPUSH_UPDATER_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this interface; a table with another one is refused. */
#define GP_UPDATER_ABI 1u

/** Most parameters and most arrays of one updater. */
#define GP_UPDATER_PARAMS 16
#define GP_UPDATER_ARRAYS 4

/** A parameter. One that is named "lr" follows the schedule. Every updater
 *  takes warmup, step_size, gamma, cosine, lr_min and clip beside its own, so
 *  none may be named like that. */
typedef struct gp_updater_param {
    const char *name;
    double value, minimum, maximum; /**< default and inclusive range */
    int integer;                    /**< not 0: whole numbers only */
    const char *text;
} gp_updater_param;

/** Where an update stands. */
typedef struct gp_updater_step {
    /** Number of this update of these parameters, from 1: for corrections of a
     *  bias. Goes on where the job before ended, as
     * gp_tensor_options.first_step says. */
    uint64_t number;
    double lr;            /**< of this step; 0 for a table without lr */
    const double *values; /**< one per parameter; lr as it was given */
    uint64_t offset;      /**< of the first element within the tensor */
    /** With `norms`, for apply(): Euclidean norms, over the whole tensor, of
     *  the parameters and of what direction() left. The same bits for any
     *  number of shards. */
    double parameter_norm, direction_norm;
} gp_updater_step;

/**
 * The table of an updater.
 *
 * direction() and apply() are called by the shard's own thread, with a chunk of
 * a tensor at a time: any range of elements, in any order, each element once
 * per step. So that results do not depend on chunks, an element's may depend on
 * nothing but its own numbers and the step. No call may block, allocate or log:
 * while it runs, no worker of the shard is served. Buffers are 4-byte aligned
 * and never overlap; `count` is at least 1.
 */
typedef struct gp_updater_ops {
    uint32_t abi;                   /**< GP_UPDATER_ABI */
    const char *name;               /**< [a-z][a-z0-9_-]*, at most 31 bytes */
    const char *text;               /**< one line for people */
    const gp_updater_param *params; /**< ends with name NULL; may be NULL */
    /** Names under which gp_tensor_state() offers the arrays, ended by NULL:
     *  [a-z][a-z0-9_]*, best those that PyTorch uses. NULL: none. */
    const char *const *arrays;
    /** Not 0: apply() needs the two norms, for which all shards of a tensor
     *  have to hear of each other first. */
    int norms;

    /** Whether values, each of which is in its range, go together.
     *  @return NULL, or words that say what is wrong. Optional. */
    const char *(*check)(const double *values);
    /** Which arrays are there with these values: bit i stands for arrays[i].
     *  The others are NULL in every call. Optional: all. */
    uint32_t (*arrays_of)(const double *values);

    /** An instance per tensor and shard, for what the calls below share.
     *  Optional, as is close(). */
    gp_status (*open)(const double *values, void **instance);
    void (*close)(void *instance);

    /** With `norms`: replaces the gradient by what apply() is to be given.
     *  Optional: it stays the gradient. */
    void (*direction)(void *instance, const gp_updater_step *step,
                      float *gradient, const float *parameters,
                      float *const *arrays, size_t count);
    /** Makes the new parameters. */
    void (*apply)(void *instance, const gp_updater_step *step,
                  const float *gradient, float *parameters,
                  float *const *arrays, size_t count);
} gp_updater_ops;

/**
 * Adds an updater to those that a text can name.
 *
 * Any thread. The table is borrowed for the life of the process.
 *
 * @return GP_OK, GP_ERR_VERSION, GP_ERR_EXISTS, GP_ERR_INVALID (the message
 *         says which member), GP_ERR_NO_MEMORY.
 */
GP_API GP_MUST_CHECK gp_status gp_updater_register(const gp_updater_ops *ops);

/** The updater at an index below the count, or NULL; for tools. sum and mean
 *  are the first two and have no apply(). */
GP_API const gp_updater_ops *gp_updater_at(size_t index);

/**
 * Whether a text can be a tensor's `updater`.
 *
 * @return GP_OK; GP_ERR_CONFIG: gp_last_error() says what is wrong, and where.
 */
GP_API GP_MUST_CHECK gp_status gp_updater_check(const char *text);

#ifdef __cplusplus
}
#endif
#endif
