/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collective.h - operations among workers, without a shard in between.
 *
 * A group is all workers or some of them. Its members call the same operations
 * in the same order, each with its own memory; every call returns at once with
 * a request, which gp_wait() and gp_test() of worker.h end. Operations of one
 * group run one after the other, whatever the number of open requests; groups
 * are independent of each other, and so are gp_send() and gp_recv().
 *
 * Workers connect to each other when an operation first needs it, over the
 * transports that they reach shards by, and prove the job token to each other.
 *
 * Every rank gets the same bits, whatever arrived first: docs/collectives.md
 * has the order of the sums of each algorithm, and what codecs change.
 *
 * Threads: as in worker.h. Members must agree on the order of operations of a
 * group, so usually one thread calls them.
 *
 * Buffers: borrowed until the request ends, however it ends. `in` and `out` may
 * be equal, "in place", but must not overlap otherwise. After an error `out` is
 * unspecified. Where a network device moves the data, buffers should lie in
 * memory that gp_buffer_register() was told of.
 */
#ifndef GRADPUSH_COLLECTIVE_H
#define GRADPUSH_COLLECTIVE_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>
#include <gradpush/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_group gp_group; /**< ends with its worker at the latest */

/** What is done with the elements of all members. */
typedef enum gp_reduction {
    GP_SUM = 1,
    GP_MEAN = 2,    /**< the sum times fp32(1 / size), rounded once more */
    GP_LARGEST = 3, /**< a NaN of any member wins */
    GP_SMALLEST = 4 /**< likewise */
} gp_reduction;

/** What gp_group_create() is told; start from GP_GROUP_INIT. */
typedef struct gp_group_options {
    size_t size;           /**< sizeof(gp_group_options) */
    const char *name;      /**< 1 to 63 bytes; tells groups of the same ranks
                                apart. NULL: "default" */
    const uint32_t *ranks; /**< workers, in the order of their group ranks,
                                each once, this one among them; NULL: all */
    uint32_t count;        /**< of ranks */
    /** Pipeline of all-reduce sums and means; NULL: none. See
     *  docs/collectives.md for those that cannot be used. */
    const char *codec;
    int feedback; /**< error feedback: 1 on, 0 off, -1 as the codec needs it */
    /** "auto", "direct", "halving", "ring" or "shards", of all-reduce; NULL:
     * the configuration's `collective_algorithm`. */
    const char *algorithm;
} gp_group_options;

#define GP_GROUP_INIT                                           \
    {                                                           \
        sizeof(gp_group_options), NULL, NULL, 0, NULL, -1, NULL \
    }

/**
 * Makes a group. All its members call it, with the same options.
 *
 * Blocks until they have, at most `connect_timeout`. Workers find each other in
 * the store of the job.
 *
 * @param options  NULL: all workers and defaults.
 * @param out      destroy with gp_group_destroy(), or with the worker.
 * @return GP_OK
 *         GP_ERR_INVALID   ranks: out of range, twice, or without this one
 *         GP_ERR_CONFIG    codec, algorithm or name (the message says what is
 *                          wrong); or there is no store
 *         GP_ERR_EXISTS    this worker has a group of that name and ranks
 *         GP_ERR_MISMATCH  another member has other options, which are named
 *         GP_ERR_TIMEOUT   the message names who did not call it
 *         GP_ERR_NO_MEMORY, GP_ERR_ADDRESS, GP_ERR_UNREACHABLE
 */
GP_API GP_MUST_CHECK gp_status gp_group_create(gp_worker *worker,
                                               const gp_group_options *options,
                                               gp_group **out);

/**
 * Whether a text can be a group's `codec`.
 *
 * @return GP_OK; GP_ERR_CONFIG: gp_last_error() says what is wrong.
 */
GP_API GP_MUST_CHECK gp_status gp_group_codec_check(const char *text);

/**
 * Ends a group in this process; NULL is fine. Its open requests end with
 * GP_ERR_CANCELED and must not be used any more. Blocks, at most `timeout`,
 * until what other members wait for has left.
 */
GP_API void gp_group_destroy(gp_group *group);

GP_API uint32_t gp_group_rank(const gp_group *group); /**< this worker's */
GP_API uint32_t gp_group_size(const gp_group *group);

/**
 * out = the reduction of all members' `in`.
 *
 * Sums are formed in fp32; half types are rounded after each hop of halving and
 * ring, and once by direct.
 *
 * Errors of this and the calls below, at once: GP_ERR_INVALID for NULL, a wrong
 * dtype, reduction or rank; GP_ERR_TOO_LARGE; GP_ERR_NO_MEMORY; or what the
 * group has failed of. The request ends with
 *         GP_ERR_MISMATCH  a member called another operation, or with another
 *                          count, dtype, reduction or root: both are named
 *         GP_ERR_PEER_LOST, GP_ERR_PEER_LEFT, GP_ERR_UNREACHABLE: who
 *         GP_ERR_CANCELED  the group or worker was destroyed
 * After a failure the group fails all further calls with the same status.
 *
 * @param count  elements, equal on all members; may be 0, or below the size.
 */
GP_API GP_MUST_CHECK gp_status gp_allreduce(gp_group *group, const void *in,
                                            void *out, uint64_t count,
                                            gp_dtype dtype,
                                            gp_reduction reduction,
                                            gp_request **request);

/**
 * gp_allreduce() of one of several tensors of a group with a codec.
 *
 * @param key  which tensor: what its codec has lost is added to the next call
 *             with the same key and count. gp_allreduce() has key 0.
 */
GP_API GP_MUST_CHECK gp_status gp_allreduce_keyed(
    gp_group *group, uint64_t key, const void *in, void *out, uint64_t count,
    gp_dtype dtype, gp_reduction reduction, gp_request **request);

/**
 * out = the member's own part of the reduction.
 *
 * @param in     size times `count` elements: one part for each member.
 * @param out    `count` elements. In place: in + rank * count elements.
 */
GP_API GP_MUST_CHECK gp_status gp_reduce_scatter(gp_group *group,
                                                 const void *in, void *out,
                                                 uint64_t count, gp_dtype dtype,
                                                 gp_reduction reduction,
                                                 gp_request **request);

/**
 * out = all members' `in`, in the order of group ranks.
 *
 * @param in     `bytes`. In place: out + rank * bytes.
 * @param out    size times `bytes`.
 */
GP_API GP_MUST_CHECK gp_status gp_allgather(gp_group *group, const void *in,
                                            void *out, uint64_t bytes,
                                            gp_request **request);

/** Gives every member the root's bytes. (gp_broadcast() is for tensors.)
 *  @param root  a group rank. */
GP_API GP_MUST_CHECK gp_status gp_bcast(gp_group *group, void *values,
                                        uint64_t bytes, uint32_t root,
                                        gp_request **request);

/**
 * Member i's part j goes to member j's part i.
 *
 * @param in, out  size parts of `bytes` each.
 */
GP_API GP_MUST_CHECK gp_status gp_alltoall(gp_group *group, const void *in,
                                           void *out, uint64_t bytes,
                                           gp_request **request);

/** Waits until every member has called it, and with it for all operations of
 *  the group before. At most `timeout`. */
GP_API GP_MUST_CHECK gp_status gp_group_barrier(gp_group *group);

/**
 * Sends to one member, which calls gp_recv() with the same tag and number of
 * bytes. Those of one tag between two members match in the order of the calls.
 * Nothing leaves before the other side has called gp_recv(): post it early.
 *
 * @param to  a group rank, not this one.
 */
GP_API GP_MUST_CHECK gp_status gp_send(gp_group *group, const void *values,
                                       uint64_t bytes, uint32_t to,
                                       uint32_t tag, gp_request **request);
GP_API GP_MUST_CHECK gp_status gp_recv(gp_group *group, void *values,
                                       uint64_t bytes, uint32_t from,
                                       uint32_t tag, gp_request **request);

/**
 * What codecs remember between calls, as gp_tensor_state() does: index from 0.
 *
 * Only between requests. Only what was called before has any.
 *
 * @param key    receives the key of the call it belongs to.
 * @param name   receives "residual", "velocity" or "state".
 * @param count  receives the number of fp32 elements.
 * @return GP_OK, GP_ERR_NOT_FOUND beyond the last.
 */
GP_API GP_MUST_CHECK gp_status gp_group_state(gp_group *group, size_t index,
                                              uint64_t *key, const char **name,
                                              uint64_t *count);
/** Copies one of them out or in.
 *  @return GP_OK, GP_ERR_NOT_FOUND. */
GP_API GP_MUST_CHECK gp_status gp_group_save_state(gp_group *group,
                                                   size_t index, float *values);
/** Makes what is loaded, if need be: `count` is that of the calls. */
GP_API GP_MUST_CHECK gp_status gp_group_load_state(gp_group *group,
                                                   uint64_t key,
                                                   const char *name,
                                                   const float *values,
                                                   uint64_t count);
/** Forgets all of them. */
GP_API GP_MUST_CHECK gp_status gp_group_reset_state(gp_group *group);
/** Has random codecs go on in a new group as if so many calls had been made
 * with each key: those of the group that was saved. All members say the same.
 */
GP_API GP_MUST_CHECK gp_status gp_group_skip(gp_group *group, uint64_t calls);

#ifdef __cplusplus
}
#endif
#endif
