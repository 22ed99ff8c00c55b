/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - tensors of which each step touches few rows: embeddings.
 *
 * Shards hold the rows and the optimizer's state of each, dealt over all shards
 * by a hash of their index. A row costs memory from its first push on; until
 * then it is what the initialiser says, computed from the seed and the row's
 * index, so that it does not matter who asks first, or how many shards there
 * are. Workers push gradients of rows and pull rows, named by their indices.
 *
 *     gp_rows_options options = GP_ROWS_INIT;
 *     options.name = "words";
 *     options.rows = 1u << 20;
 *     options.width = 64;
 *     options.init = GP_ROWS_UNIFORM;
 *     options.scale = 0.5f / 64;
 *     options.updater = "adagrad:lr=0.05";
 *     gp_rows_register(worker, &options, &words);
 *     ...
 *     gp_pull_rows(words, n, batch, values, &request);     // n x 64 numbers
 *     gp_wait(&request, -1);
 *     ...
 *     gp_push_rows(words, n, batch, gradients, &request);
 *
 * docs/rows.md has what optimizers and modes mean for rows. Threads, requests
 * and errors are those of worker.h.
 */
#ifndef GRADPUSH_ROWS_H
#define GRADPUSH_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>
#include <gradpush/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_rows gp_rows; /**< lives as long as its worker */

/** Most rows of a tensor, numbers of a row, and rows of one call. */
#define GP_ROWS_MAX       ((uint64_t)1 << 40)
#define GP_ROWS_WIDTH_MAX 65536u
#define GP_ROWS_BATCH_MAX 1048576u

/** What a row is before its first update. */
typedef enum gp_rows_init {
    GP_ROWS_ZERO = 0,
    GP_ROWS_UNIFORM = 1, /**< from -scale to scale */
    GP_ROWS_NORMAL = 2   /**< of mean 0 and standard deviation scale */
} gp_rows_init;

/** What gp_rows_register() is told; start from GP_ROWS_INIT. */
typedef struct gp_rows_options {
    size_t size;      /**< sizeof(gp_rows_options) */
    const char *name; /**< unique among all tensors, 1 to 255 bytes, copied */
    uint64_t rows;    /**< indices are below it; 1 to GP_ROWS_MAX */
    uint32_t width;   /**< fp32 numbers of a row, 1 to GP_ROWS_WIDTH_MAX */
    /** Most indices of one call, for each of push and pull. Buffers on both
     *  sides are made for it: with width at most 64 MiB. */
    uint32_t batch;
    gp_rows_init init;
    uint64_t seed; /**< of the initialiser */
    float scale;   /**< likewise: finite, not negative */
    int32_t priority;
    /** How gradients and parameters travel, row by row: a pipeline whose size
     *  depends on the count alone, such as fp16, bf16 or q8. NULL: none. */
    const char *codec, *pull_codec;
    const char *updater; /**< an optimizer; NULL: configuration's `updater` */
    const char *mode;    /**< NULL: configuration's `mode` */
    uint64_t first_step; /**< as of gp_tensor_options */
} gp_rows_options;

#define GP_ROWS_INIT                                                      \
    {                                                                     \
        sizeof(gp_rows_options), NULL, 0, 0, 4096, GP_ROWS_ZERO, 0, 0, 0, \
            NULL, NULL, NULL, NULL, 0                                     \
    }

/**
 * Names a tensor of rows. All workers register the same tensors, dense ones and
 * these, in the same order, before the first operation.
 *
 * The updater must be one that keeps parameters, without `clip` and norms over
 * the whole tensor (sum, mean and lamb are refused); it sees rows that were
 * pushed, and only these. Modes are all but local:H.
 *
 * Codecs are those of `codec` and `pull_codec` alone, whatever the
 * configuration says of dense tensors; there is no error feedback.
 *
 * @param out  owned by the worker.
 * @return GP_OK
 *         GP_ERR_INVALID   name, rows, width, batch, init or scale
 *         GP_ERR_CONFIG    updater, mode or codec
 *         GP_ERR_EXISTS    the name is registered
 *         GP_ERR_STATE     after the first operation
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_rows_register(gp_worker *worker,
                                                const gp_rows_options *options,
                                                gp_rows **out);

/**
 * Pushes gradients of rows. The n-th push of a tensor, from its first_step,
 * belongs to step n, and all workers push in every step, if need be no row.
 *
 * With mode sync, a row's gradient is the sum over the workers, in rank order,
 * divided by the number of workers: those who did not push the row count as
 * zeros, as with a dense tensor.
 *
 * @param count    of indices, 0 to the tensor's batch.
 * @param indices  of rows, in any order; read before the call returns. What is
 *                 pushed of a row more than once is added up, in the order
 *                 given.
 * @param values   count rows of `width` numbers, borrowed until the request
 *                 ends; may be NULL when count is 0.
 * @return GP_OK
 *         GP_ERR_INVALID    NULL, or an index that is not below `rows`
 *         GP_ERR_TOO_LARGE  more than `batch`
 *         otherwise as gp_push_pull()
 */
GP_API GP_MUST_CHECK gp_status gp_push_rows(gp_rows *rows, size_t count,
                                            const uint64_t *indices,
                                            const float *values,
                                            gp_request **request);

/**
 * Pulls rows, as they are after the last step that this worker pushed (as the
 * mode says). Does not make rows: one that was never pushed is computed.
 *
 * @param indices  may have duplicates; read before the call returns.
 * @param out      receives count rows in the order of the indices; borrowed
 *                 until the request ends.
 * @return as gp_push_rows()
 */
GP_API GP_MUST_CHECK gp_status gp_pull_rows(gp_rows *rows, size_t count,
                                            const uint64_t *indices, float *out,
                                            gp_request **request);

/**
 * Pushes gradients of some rows and pulls others, those of the next batch, say,
 * as they are after this step: one round trip.
 */
GP_API GP_MUST_CHECK gp_status gp_push_pull_rows(
    gp_rows *rows, size_t push_count, const uint64_t *push_indices,
    const float *values, size_t pull_count, const uint64_t *pull_indices,
    float *out, gp_request **request);

/** As gp_tensor_version(). */
GP_API uint64_t gp_rows_version(const gp_rows *rows);

/** Takes or gives bytes of a checkpoint, all of them.
 *  @return GP_OK, or what the call that is under way ends with. */
typedef gp_status (*gp_rows_write)(void *user, const void *bytes, size_t size);
typedef gp_status (*gp_rows_read)(void *user, void *bytes, size_t size);

/**
 * Writes all rows that were pushed, with the optimizer's state of each: worker
 * 0 alone, when all its requests have ended and no other worker pushes
 * (gp_barrier()). What is written can be loaded by a job of any numbers of
 * shards and workers. Blocks; shards are asked part by part, each answer within
 * `timeout`.
 *
 * @return GP_OK
 *         GP_ERR_STATE  another worker than 0; or the last step is not complete
 *         otherwise what `write` returned, or what the job has died of
 */
GP_API GP_MUST_CHECK gp_status gp_rows_save(gp_rows *rows, gp_rows_write write,
                                            void *user);

/**
 * Gives the shards what gp_rows_save() wrote: worker 0 alone, after all tensors
 * are registered and before its first push of this one; the others wait for it
 * in gp_barrier(). Width, number of rows and the updater's arrays must be those
 * of the tensor that was saved; its parameters, such as lr, may differ.
 *
 * @return GP_OK
 *         GP_ERR_STATE     another worker than 0, or after a push
 *         GP_ERR_MISMATCH  saved from another kind of tensor
 *         GP_ERR_CORRUPT   damaged
 *         otherwise what `read` returned, or what the job has died of
 */
GP_API GP_MUST_CHECK gp_status gp_rows_load(gp_rows *rows, gp_rows_read read,
                                            void *user);

#ifdef __cplusplus
}
#endif
#endif
