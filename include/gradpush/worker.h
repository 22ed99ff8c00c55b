/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - push gradients, pull results.
 *
 * A worker is one rank of the job. It registers its tensors, all workers the
 * same ones in the same order, then pushes and pulls them. Operations return
 * at once with a request; gp_wait() ends it.
 *
 * Threads: any thread may call any function of one worker at any time, except
 * gp_worker_destroy(), which must be the last call. The library runs one
 * progress thread per worker; a thread inside gp_wait() drives progress itself.
 * Another one sleeps until `gradpush status` asks what the worker is doing.
 *
 * Buffers: `grad` and `out` are borrowed from the call until the request ends,
 * however it ends. They may be the same buffer. Results arrive in `out` piece
 * by piece while the request is open: do not hand over memory that a backward
 * pass still reads. After an error the content of `out` is unspecified, and
 * nothing is written to it any more. Where a network device moves the data,
 * buffers should lie in memory that gp_buffer_register() was told of.
 */
#ifndef GRADPUSH_WORKER_H
#define GRADPUSH_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_worker gp_worker;
typedef struct gp_tensor gp_tensor;   /**< lives as long as its worker */
typedef struct gp_request gp_request; /**< lives until waited for */
typedef struct gp_buffer gp_buffer;   /**< registered memory */

/** Element types. Sums are always formed in fp32. */
typedef enum gp_dtype { GP_FP32 = 1, GP_FP16 = 2, GP_BF16 = 3 } gp_dtype;

/** Bytes of one element; 0 for a value that is no dtype. */
GP_API size_t gp_dtype_bytes(gp_dtype dtype);

/**
 * Joins the job: finds rank, size and shards (GRADPUSH_*, torchrun, DMLC_*,
 * Open MPI, MPICH, Slurm; docs/launchers.md), connects to every shard and
 * proves the job token. Hosts a shard in this process when the job has no
 * stand-alone ones (colocated=auto).
 *
 * Blocks until all shards answer or `connect_timeout` passes; while waiting it
 * logs who is missing.
 *
 * @param config  NULL for environment and defaults; copied.
 * @param out     destroy with gp_worker_destroy().
 * @return GP_OK
 *         GP_ERR_CONFIG       rank, size or an address is missing or wrong
 *         GP_ERR_TIMEOUT      the message lists who did not show up
 *         GP_ERR_AUTH         this worker's token is not the job's
 *         GP_ERR_VERSION      a shard speaks another protocol version
 *         GP_ERR_EXISTS       another live worker has this rank, or a server
 *                             the shard that this worker hosts
 *         GP_ERR_MISMATCH     a shard or another worker counts other workers
 *                             or shards
 *         GP_ERR_REFUSED      the store or a shard belongs to another job
 *         GP_ERR_PEER_LOST, GP_ERR_PEER_LEFT  a member went away meanwhile
 *         GP_ERR_ADDRESS, GP_ERR_UNREACHABLE, GP_ERR_NO_MEMORY, GP_ERR_SYSTEM
 */
GP_API GP_MUST_CHECK gp_status gp_worker_create(const gp_config *config,
                                                gp_worker **out);

/**
 * Leaves the job and frees everything; NULL is fine.
 *
 * Requests still open end with GP_ERR_CANCELED and must not be used any more.
 * A worker that hosts a shard stays, up to `timeout`, until the other workers
 * have left as well, because they need that shard. Blocks for that long; no
 * thread of the library is left behind.
 */
GP_API void gp_worker_destroy(gp_worker *worker);

GP_API uint32_t gp_worker_rank(const gp_worker *worker);
GP_API uint32_t gp_worker_size(const gp_worker *worker);
GP_API uint32_t gp_worker_shards(const gp_worker *worker);

/** What gp_tensor_register() is told; start from GP_TENSOR_INIT. */
typedef struct gp_tensor_options {
    size_t size;      /**< sizeof(gp_tensor_options) */
    const char *name; /**< unique within the worker, 1 to 255 bytes, copied */
    gp_dtype dtype;
    uint64_t count;   /**< elements, at least 1 */
    uint64_t columns; /**< length of a matrix's rows; 0 or 1: a vector */
    int32_t priority; /**< higher goes first, to shards and back; front layers
                           should. Results of others may wait meanwhile, but
                           never for ever. */
    /** Push pipeline, "auto" (the fastest of none and codec_candidates, as
     *  measured on this processor and link), or up to 8 alternatives as in
     * "none|q8|topk:0.01+rice", between which each push may choose (the last,
     * unless a policy says otherwise); NULL: what codec_rules says for it, else
     * `codec`. */
    const char *codec;
    const char *pull_codec; /**< NULL: configuration's `pull_codec` */
    const char *updater;    /**< NULL: configuration's `updater` */
    int feedback; /**< error feedback on push: 1 on, 0 off, -1 when lossy */
    /** On shards, for the pull pipeline: 1 on, 0 off, -1 when it may lose more
     *  than 1 % of a result's energy and 16 bits are not left. Never for
     * parameters (sgd). */
    int pull_feedback;
    /** Dense below this count: pipelines other than none are not applied to
     *  tensors with fewer elements. */
    uint64_t codec_minimum;
    /** Number of the first push, at most 2^63 - 1, equal on all workers: what
     *  was pushed before a job that this one continues, so that schedules,
     *  codec_warmup and random codecs go on where they were. */
    uint64_t first_step;
    /** Who waits for whom, see gp_tensor_register(); NULL: configuration's
     *  `mode`. */
    const char *mode;
    /** Where gradients and results lie: "cpu" (NULL), or "cuda", "cuda:N" for
     *  gp_push_pull_on(), see gradpush/cuda.h. Not part of what workers agree
     *  on. */
    const char *device;
} gp_tensor_options;

#define GP_TENSOR_INIT                                                       \
    {                                                                        \
        sizeof(gp_tensor_options), NULL, GP_FP32, 0, 0, 0, NULL, NULL, NULL, \
            -1, -1, 1024, 0, NULL, NULL                                      \
    }

/**
 * Names a tensor. All workers register the same tensors in the same order,
 * before the first operation on any of them.
 *
 * Updaters: "sum", "mean" (a pull returns the aggregated gradients), and
 * optimizers such as "sgd:lr=0.1,momentum=0.9" or
 * "adamw:lr=3e-4,warmup=500,cosine=20000" (the shard holds the parameters, set
 * by gp_broadcast(); a pull returns them). docs/updaters.md has all of them.
 *
 * Modes, W being the number of workers (docs/modes.md):
 *
 *     sync             a step is complete when all have pushed it; a result is
 *                      that of exactly this step
 *     sync:N-b         the first W - b pushes of a chunk are a step. A push
 *                      that was made with older parameters than those of the
 *                      running step is late: dropped and answered at once, or,
 *                      with ",late=carry" behind it, one of the running step
 *     ssp:K            each push is an update of its own; its result is held
 *                      back until every worker has pushed all steps but the
 *                      last K of this one's (stale synchronous parallel: Ho et
 *                      al., NIPS 2013)
 *     async            each push is an update of its own, and nobody waits
 *     local:H          gp_local_step() instead of gp_push_pull()
 *
 * All but sync and local:H need an updater that keeps parameters. One that does
 * is applied W times as often with ssp and async as with sync, to gradients
 * that are not divided: the learning rate should be smaller accordingly.
 *
 * Does not block.
 *
 * @param out  the tensor, owned by the worker.
 * @return GP_OK
 *         GP_ERR_INVALID   name, dtype, count or columns
 *         GP_ERR_CONFIG    pipeline, updater or mode text (message points at
 *                          it), or a mode that does not go with the others; a
 *                          device of unknown name
 *         GP_ERR_UNSUPPORTED  a device with a build without CUDA or on a
 *                          machine without a driver; with mode local:H, or in
 *                          a job with `experiment`
 *         GP_ERR_NOT_FOUND there are fewer devices
 *         GP_ERR_EXISTS    the name is registered
 *         GP_ERR_STATE     after the first operation
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_tensor_register(
    gp_worker *worker, const gp_tensor_options *options, gp_tensor **out);

/**
 * Whether a text can be a tensor's `codec`: a pipeline, alternatives between
 * '|', or "auto".
 *
 * @return GP_OK; GP_ERR_CONFIG: gp_last_error() says what is wrong, and where.
 */
GP_API GP_MUST_CHECK gp_status gp_codec_check(const char *text);

/**
 * Whether a text can be a tensor's `mode`, in a job of some size.
 *
 * @return GP_OK; GP_ERR_CONFIG: gp_last_error() says what is wrong, and where.
 */
GP_API GP_MUST_CHECK gp_status gp_mode_check(const char *text);

/**
 * Whether a tensor's mode, updater and codec go together in a job: what
 * gp_tensor_register() and the shards would find out later.
 *
 * @param codec    as gp_codec_check() takes it; NULL or "auto": any.
 * @param workers  in the job; 0: not known yet.
 * @param elastic  not 0: workers come and go (GRADPUSH_ELASTIC=on).
 * @return GP_OK; GP_ERR_CONFIG: gp_last_error() says what does not go with
 * what.
 */
GP_API GP_MUST_CHECK gp_status gp_job_check(const char *mode,
                                            const char *updater,
                                            const char *codec, uint32_t workers,
                                            int elastic);

/**
 * The canonical text of the pipeline that the tensor's next pushes go through,
 * warm-up steps aside; with codec=auto it changes while the job runs. Lives as
 * long as the tensor. Any thread.
 */
GP_API const char *gp_tensor_codec(const gp_tensor *tensor);

/**
 * Ends registration: agrees with all shards on the tensors. Called implicitly
 * by the first operation. Blocks until the shards answer, at most `timeout`.
 *
 * @return GP_OK
 *         GP_ERR_MISMATCH  another worker's list differs; the message names
 *                          the first tensor that does, and how
 *         GP_ERR_STATE     nothing is registered
 *         GP_ERR_TIMEOUT, GP_ERR_PEER_LOST
 */
GP_API GP_MUST_CHECK gp_status gp_worker_ready(gp_worker *worker);

/**
 * Pushes a gradient and pulls the result of the same step.
 *
 * The n-th push of a tensor, counted from its first_step, belongs to its step
 * n. In sync mode the request
 * ends when all workers have pushed that step.
 *
 * Does not block (the first operation does, see gp_worker_ready()).
 *
 * @param grad     the tensor's count elements, borrowed until the request ends.
 * @param out      the same size, borrowed; may equal grad.
 * @param request  receives the request; end it with gp_wait() or gp_test().
 * @return GP_OK; GP_ERR_INVALID for NULL; GP_ERR_STATE with mode local:H;
 *         GP_ERR_NO_MEMORY; of the first operation those of gp_worker_ready();
 *         else the error the job has died of.
 */
GP_API GP_MUST_CHECK gp_status gp_push_pull(gp_tensor *tensor, const void *grad,
                                            void *out, gp_request **request);

/**
 * gp_push_pull() of a gradient that is made part by part: nothing of it is read
 * before gp_part_ready() has said that it is there, and gp_part_wait() waits
 * for a part of the result, so that a large layer's gradient travels while the
 * rest of it is computed. Chunks leave in the order in which they are complete.
 * Pipelines that look at a gradient as a whole (topk by tensor, powersgd) begin
 * with its last part.
 *
 * The request ends as any other, in gp_wait(), when all parts were ready.
 *
 * @return as gp_push_pull(); GP_ERR_UNSUPPORTED for tensors on a device, in
 *         experiments, and with mode sync:N-b: nothing was submitted then.
 */
GP_API GP_MUST_CHECK gp_status gp_push_pull_parts(gp_tensor *tensor,
                                                  const void *grad, void *out,
                                                  gp_request **request);

/**
 * The elements from `offset` on are in `grad`, each said once. Any thread.
 *
 * @return GP_OK; GP_ERR_INVALID for a range that is empty or reaches beyond the
 *         tensor, or another kind of request; GP_ERR_STATE when a part of it
 *         was ready before; else the error the job has died of.
 */
GP_API GP_MUST_CHECK gp_status gp_part_ready(gp_request *request,
                                             uint64_t offset, uint64_t count);

/**
 * Waits until the result of these elements is in `out`. The request goes on.
 *
 * @param seconds  below 0: the configured timeout.
 * @return GP_OK; GP_ERR_INVALID as gp_part_ready(); GP_ERR_TIMEOUT; else what
 *         the request ended with.
 */
GP_API GP_MUST_CHECK gp_status gp_part_wait(gp_request *request,
                                            uint64_t offset, uint64_t count,
                                            double seconds);

/**
 * gp_push_pull() of a gradient that counts more or less than those of others,
 * by the number of its samples, say. Plain ones weigh 1.
 *
 * With mean, and updaters that keep parameters, the shard forms
 * sum(w_i g_i) / sum(w_i), with sum sum(w_i g_i). With modes ssp:K and async,
 * where each push is an update, its gradient is multiplied by the weight.
 *
 * @param weight  from 1e-30 to 1e30.
 * @return as gp_push_pull(); GP_ERR_INVALID for another weight,
 *         GP_ERR_UNSUPPORTED for one other than 1 with a codec that sends
 *         differences (ef21).
 */
GP_API GP_MUST_CHECK gp_status gp_push_pull_weighted(gp_tensor *tensor,
                                                     const void *grad,
                                                     void *out, double weight,
                                                     gp_request **request);

/**
 * For tensors with mode local:H: to be called after each step of the worker's
 * own optimizer, with the parameters it has made. Of H calls H - 1 only count;
 * the H-th ends a round: it pushes anchor - params, through the tensor's codec
 * with its error feedback, where the anchor is what the last round has ended
 * with, at first the values of gp_broadcast() or zeros. The shard forms the
 * mean over workers, weighted, and hands it to the tensor's updater as if it
 * were a gradient. Then params receives the new parameters, equal on all
 * workers.
 *
 *     updater                     is
 *     sgd:lr=1, or mean           params = weighted mean of the workers' params
 *                                 (FedAvg: McMahan et al., AISTATS 2017,
 *                                 algorithm 1; with equal weights local SGD:
 *                                 Stich, ICLR 2019, algorithm 1)
 *     sgd:lr=0.7,momentum=0.9,    outer Nesterov momentum (DiLoCo: Douillard et
 *         nesterov=1              al. 2023, algorithm 1)
 *
 * With mean, shards return the mean difference rather than parameters, so that
 * results can be compressed as gradients can.
 *
 * All workers make the same number of calls, and may do so for each tensor at
 * another time.
 *
 * @param params   the tensor's elements, borrowed until the request ends, which
 *                 it does at once unless the call is an H-th. The difference is
 *                 formed in them: when a round fails, they are no parameters
 *                 any more. The anchor is the worker's own copy, see
 *                 gp_stats.memory.
 * @param weight   of this local step, such as its number of samples, from 1e-30
 *                 to 1e30; a round weighs the mean of its calls.
 * @return GP_OK
 *         GP_ERR_STATE        the tensor has another mode, or its last round's
 *                             request has not been waited for
 *         GP_ERR_INVALID      NULL, weight
 *         GP_ERR_UNSUPPORTED  a weight other than 1 with ef21
 */
GP_API GP_MUST_CHECK gp_status gp_local_step(gp_tensor *tensor, void *params,
                                             double weight,
                                             gp_request **request);

/** Pushes only. The request ends when every shard has the gradient.
 *  @return as gp_push_pull() */
GP_API GP_MUST_CHECK gp_status gp_push(gp_tensor *tensor, const void *grad,
                                       gp_request **request);

/**
 * Pulls only: the result of the last step this worker pushed, or the initial
 * values before the first push.
 *
 * Updaters that keep parameters (optimizers) answer any number of pulls. The
 * result of sum and mean is given to each worker once per step: GP_ERR_STATE
 * after that.
 *
 * @param out  the tensor's elements, borrowed until the request ends.
 * @return as gp_push_pull(); GP_ERR_STATE for a result that was given.
 */
GP_API GP_MUST_CHECK gp_status gp_pull(gp_tensor *tensor, void *out,
                                       gp_request **request);

/**
 * Gives every worker the root's values, and the shards too (they are the
 * parameters of an updater such as sgd). All workers call it, once per tensor,
 * before its first push.
 *
 * @param values  read on the root, written on the others; borrowed until the
 *                request ends.
 * @param root    a worker's rank.
 * @return as gp_push_pull(), whatever the mode; GP_ERR_INVALID for a root that
 *         is no worker.
 */
GP_API GP_MUST_CHECK gp_status gp_broadcast(gp_tensor *tensor, void *values,
                                            uint32_t root,
                                            gp_request **request);

/**
 * Says that gradients and results will lie in a range of memory, so that a
 * network device sends from it and writes into it directly. Best one range for
 * all gradients and one for all parameters, or a single one for both: each
 * costs a registration with every peer, and its pages are pinned.
 *
 * Results go there directly when they begin at a multiple of 64 bytes from
 * `base`. What lies elsewhere is copied through buffers of the worker; the log
 * says so once. Transports without a device, such as tcp, need none of this:
 * there it changes nothing.
 *
 * The memory stays the caller's, who may read and write it as the rules for
 * `grad` and `out` allow, and must keep it mapped where it is: no free, no
 * munmap, no mremap before gp_buffer_unregister() returned GP_OK or
 * gp_worker_destroy() did. While it is registered every shard of the job is
 * able to write into all of it, and does so only where and when a request
 * asked for a result; a job token keeps strangers out.
 *
 * A device is told of the range when a request first needs it there; when it
 * refuses, for the limit of locked memory, say, the worker fails with a message
 * that names the limit.
 *
 * Any thread, at any time while the worker lives. Does not block.
 *
 * @param out  ends with gp_buffer_unregister(), or with the worker.
 * @return GP_OK
 *         GP_ERR_INVALID   NULL, no bytes, or a range that wraps around
 *         GP_ERR_EXISTS    it overlaps a registered range
 *         GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_buffer_register(gp_worker *worker, void *base,
                                                  size_t bytes,
                                                  gp_buffer **out);

/**
 * Ends a registration. On GP_OK the handle is gone, nothing reads or writes the
 * memory any more, and it may be freed. Requests that use the memory must have
 * ended. Waits, at most `timeout`, until the device has let go of what was sent
 * from it. Any thread; NULL is fine.
 *
 * @return GP_OK, also after the job has failed
 *         GP_ERR_STATE    a request that uses it is open, or another thread is
 *                         unregistering it
 *         GP_ERR_TIMEOUT  it is still being sent from; it stays registered
 */
GP_API GP_MUST_CHECK gp_status gp_buffer_unregister(gp_buffer *buffer);

/**
 * The version of a tensor's parameters or result that the last pull which ended
 * has brought, the least of its chunks: with sync and local:H completed steps,
 * with ssp:K and async updates of all workers, counted from first_step on. It
 * never goes back. Any thread.
 */
GP_API uint64_t gp_tensor_version(const gp_tensor *tensor);

/**
 * Says that this worker will push nothing for a while: others that are bound to
 * it by ssp:K or sync:N-b do not wait for its next push, as if it had left. Its
 * next push ends the rest. Without use for other modes, and without harm.
 *
 * To be called when all requests have ended, before something that waits for
 * the other workers otherwise: a barrier, a push with mode sync. A worker that
 * waits there for others, which wait for its push, waits for ever.
 *
 * @return GP_OK; GP_ERR_STATE before the first operation; else what the job has
 *         died of.
 */
GP_API GP_MUST_CHECK gp_status gp_worker_rest(gp_worker *worker);

/**
 * With modes ssp:K, async and sync:N-b: from here on, and until it is called
 * with `on` 0, shards apply nobody's pushes, so that what this worker saves
 * of a tensor, "parameters" of gp_tensor_save_state() among it, belongs
 * together. Others wait meanwhile, as long as it takes: do nothing else. The
 * worker's next push ends it, and so does its death. Of use where others do not
 * stop by themselves; with sync and local:H they do, and it changes nothing.
 *
 * To be called when all requests have ended.
 *
 * @return as gp_worker_rest()
 */
GP_API GP_MUST_CHECK gp_status gp_worker_hold(gp_worker *worker, int on);

/** Who takes part in a job. */
typedef struct gp_members {
    uint64_t epoch;        /**< goes up with every change; 0: not elastic */
    uint32_t count;        /**< how many */
    uint32_t index;        /**< this worker's place among them, from 0 */
    const uint32_t *ranks; /**< of all, ascending; the worker's, until the next
                                call */
    int changed;           /**< not as the call before said */
    int late; /**< this worker has come to a job under way: it pulls what the
                   others have (first call only) */
} gp_members;

/**
 * With elastic=on, where workers may die, leave and join while the job runs:
 * waits until all who take part have called it, and says who they are from here
 * on. To be called at the beginning of a step or of several, by all at the same
 * ones, when all requests have ended; a newcomer calls it before anything else
 * and is let in with the others' next call. Tensors are registered before.
 *
 * Between two calls members may be lost, though nobody joins: steps then end
 * with the pushes that came, and the mean is that of those. While fewer than
 * `min_workers` are there it waits for more.
 *
 * A newcomer (`late`) calls gp_pull() for each tensor: with updaters that keep
 * parameters it gets them, and with all its next push is that of the step that
 * the others are at, see gp_tensor_version(). The others need no gp_broadcast()
 * again; the root of the first one should be ranks[0].
 *
 * Where no tensor has mode sync (without backups) or local it does not wait for
 * the others' calls: each may call it when it likes.
 *
 * Without elastic it does not wait: all workers take part.
 *
 * Not from two threads at once.
 *
 * @return GP_OK
 *         GP_ERR_TIMEOUT  after `timeout`: the message says who or how many are
 *                         missing; another call goes on waiting
 *         otherwise as gp_worker_ready(), or what the job has died of
 */
GP_API GP_MUST_CHECK gp_status gp_worker_members(gp_worker *worker,
                                                 gp_members *out);

/**
 * gp_worker_members() that waits so many seconds instead of `timeout`;
 * negative: `timeout`. After GP_ERR_TIMEOUT the worker may call again, or
 * leave.
 */
GP_API GP_MUST_CHECK gp_status gp_worker_members_within(gp_worker *worker,
                                                        double seconds,
                                                        gp_members *out);

/** Waits until every worker has called it. At most `timeout`.
 *  @return GP_OK; GP_ERR_TIMEOUT; else the error the job has died of. */
GP_API GP_MUST_CHECK gp_status gp_barrier(gp_worker *worker);

/**
 * Waits for a request and frees it.
 *
 * @param request  set to NULL on return, whatever the result, except
 *                 GP_ERR_TIMEOUT after which the request still lives. A
 *                 pointer to NULL is fine and gives GP_OK.
 * @param seconds  how long to wait; negative: the configured `timeout`.
 * @return GP_OK
 *         GP_ERR_TIMEOUT   the message says which shards have not answered
 *         GP_ERR_PEER_LOST, GP_ERR_PEER_LEFT, ... why the request failed; the
 *                          message names the peer
 */
GP_API GP_MUST_CHECK gp_status gp_wait(gp_request **request, double seconds);

/** Waits for all; returns the first failure. All are freed but timed-out ones.
 *  With negative seconds it goes on as long as the next one is done within the
 *  configured `timeout`. */
GP_API GP_MUST_CHECK gp_status gp_wait_all(gp_request **requests, size_t count,
                                           double seconds);

/** GP_PENDING while under way; otherwise like gp_wait(). Does not block. */
GP_API GP_MUST_CHECK gp_status gp_test(gp_request **request);

/** Counters since creation. `bytes` count payloads and headers on the wire,
 *  whether or not a peer is in the same process. */
typedef struct gp_stats {
    uint64_t bytes_pushed, bytes_pulled;
    uint64_t dense_bytes; /**< what fp32 without a codec would have been,
                               both directions, payload only */
    uint64_t messages_sent, messages_received;
    uint64_t requests;
    uint64_t memory; /**< bytes the worker engine holds beyond user buffers */
    /** Nanoseconds during which at least one request was under way, and those
     *  that threads spent waiting for one in gp_wait() and gp_wait_all(). With
     *  one thread that waits, 1 - waited_ns / open_ns is the share of
     *  communication that was hidden behind its own work. */
    uint64_t open_ns, waited_ns;
    /** Who waits for whom, as shard 0 sees it and says twice a second; zeros
     *  before that. This worker's pushes come `lag_ns` after those of the first
     *  worker, on average over about 8 steps, and the others have waited
     *  `awaited_ns` for it alone, in all. Worker `straggler` has the largest
     *  lag, which is `straggler_lag_ns`. */
    uint64_t lag_ns, awaited_ns, straggler_lag_ns;
    uint32_t straggler;
    /** Payload bytes that network devices read from and wrote into the memory
     *  of GPUs themselves. */
    uint64_t direct_bytes;
} gp_stats;

/** Any thread. */
GP_API void gp_worker_stats(const gp_worker *worker, gp_stats *out);

/**
 * What codecs remember of a tensor between steps and a checkpoint must keep:
 * "residual" of error feedback, "velocity" of momentum, "state" of a codec,
 * "history_of_W" of ef21 in a job of W workers. Of the alternatives of the push
 * pipeline it is the one that was used last, at first the last.
 *
 * Worker 0, or with elastic=on each, also has what shards remember:
 * "histories_of_W", the sum of what ef21 sent; of pulls "pull_residual",
 * "pull_velocity", "pull_selection_state" and "pull_state"; of an optimizer its
 * arrays, such as "exp_avg" (docs/updaters.md), and, where pulls are rounded,
 * "parameters". So the states of two workers of one tensor may differ. A
 * pull_state, such as factors of powersgd, is one of each chunk: with another
 * number of shards or chunk_bytes it may have another length.
 *
 * A job that registers its tensors with the first_step where another one was
 * when all its workers saved all states, and that loads them all, has the same
 * results from there on, to the last bit. What is the shards', and histories,
 * must be loaded before the first operation, and a history by all workers or by
 * none: else gp_worker_ready() gives GP_ERR_MISMATCH to all, or GP_ERR_STATE
 * to a worker 0 that has loaded one of its two. Names with another number of
 * workers are not found: such a job begins anew.
 *
 * Only between requests.
 *
 * @param index  from 0.
 * @param name   receives a text that lives as long as the worker.
 * @param count  receives the number of fp32 elements.
 * @return GP_OK, GP_ERR_NOT_FOUND beyond the last.
 */
GP_API GP_MUST_CHECK gp_status gp_tensor_state(gp_tensor *tensor, size_t index,
                                               const char **name,
                                               uint64_t *count);

/**
 * Copies one of them out or in.
 *
 * Saving what is the shards' asks them and blocks until they answer, at most
 * `timeout`; the last step must have been pulled. Loading does not block: they
 * get it from gp_worker_ready().
 *
 * With modes ssp:K, async and sync:N-b "parameters", as many elements as the
 * tensor has, can always be saved (by worker 0, or by any where workers come
 * and go), though they may be loaded only where gp_tensor_state() names them:
 * see gp_worker_hold().
 *
 * @param values  as many elements as gp_tensor_state() says.
 * @return GP_OK
 *         GP_ERR_UNSUPPORTED  the tensor has none of that name
 *         GP_ERR_STATE        save: a step that this worker pushed is not
 *                             complete; load: after the first operation, of
 *                             what must be loaded before
 *         GP_ERR_INVALID      load: not finite, of what is the shards'
 *         GP_ERR_TIMEOUT, GP_ERR_PEER_LOST, GP_ERR_NO_MEMORY
 */
GP_API GP_MUST_CHECK gp_status gp_tensor_save_state(gp_tensor *tensor,
                                                    const char *name,
                                                    float *values);
GP_API GP_MUST_CHECK gp_status gp_tensor_load_state(gp_tensor *tensor,
                                                    const char *name,
                                                    const float *values);

/**
 * Forgets all of them. Only between requests.
 *
 * @return GP_OK, GP_ERR_STATE for ef21 after the first push, or when shards
 *         went on from a checkpoint.
 */
GP_API GP_MUST_CHECK gp_status gp_tensor_reset_state(gp_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
