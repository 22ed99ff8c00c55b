/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.h - tensors in the memory of devices: pinned memory, where the engine
 * finds gradients and leaves results, and the copies between the two.
 *
 * A staged request begins with an event on the user's stream. When that is
 * done, its chunks wait for their copy in the order of priorities; a chunk that
 * has arrived takes the way of all others. So no copy of ours ever waits for
 * work of the user's, a late gradient holds up no early one, and only a few
 * chunks are being copied at a time, which lets urgent ones overtake. Results
 * go back as they come; an event behind the last ends the request.
 *
 * Everything here is touched under the driver's hold, but for what
 * gp_on_stream, gp_staged_begin, gp_staged_wait and the functions of memory
 * say.
 */
#ifndef GP_STAGING_H
#define GP_STAGING_H

#include "device/arena.h"
#include "device/aside.h"
#include "device/coder.h"
#include "worker/worker_int.h"

/* Batches to the host that are under way at a time, and when more of them wait:
 * enough to keep the copy engine busy between two turns of ours, and where
 * kernels wait for a product to leave them a multiprocessor, or for another
 * process's turn on the device, which takes milliseconds. Small chunks share a
 * batch, which is one launch of each kernel and one event. */
#define STAGE_COPIES 16u
#define STAGE_WINDOW (32u << 20)
#define STAGE_BATCH  (4u << 20)
#define STAGE_PARTS  64u
/* While gradients keep coming nobody sleeps for the next one. */
#define STAGE_AWAKE_NS 2000000u
#define STAGE_NAP_NS   1000000u

typedef struct gp_segment gp_segment; /* direct.c */

typedef struct stage_copy {
    gp_device_event *done;
    gp_list ops;
    size_t bytes;
} stage_copy;

/* One device of one worker. */
struct gp_staging {
    gp_staging *next;
    gp_worker *worker;
    char name[24];
    uint32_t index; /* of the device */
    gp_device *device;
    gp_device_arena *pinned, *memory; /* of the host, and its own */
    size_t counted;  /* of the arena, in gp_worker.memory; under submit_lock */
    void *in, *back; /* streams: to the host, and from it */
    void *news;      /* stream: behind users' streams, wakes the driver */
    gp_device_event *settled;
    struct gp_devcoder *coders; /* by pipeline */
    /* Memory that network devices reach: direct.c. */
    gp_aside aside;
    gp_device_arena *shown; /* NULL: they do not */
    gp_segment *segments;   /* of it, registered */
    bool blind;        /* what they wrote cannot be flushed: they only read */
    gp_list waiting;   /* staged requests whose stream is not there yet */
    gp_list copying;   /* operations by priority */
    gp_list results;   /* operations whose results are to be decoded */
    gp_list returning; /* staged requests, all of whose results are on `back` */
    stage_copy copy[STAGE_COPIES]; /* a ring */
    uint32_t head, copies;
    size_t bytes; /* of these copies */
    uint64_t news_ns;
    gp_status failed; /* not GP_OK: the next turn ends the job */
    char why[GP_TEXT_MAX];
};

/* What a request of such a tensor has more than others, kept with it. */
struct gp_staged {
    gp_list link; /* in waiting or returning */
    gp_request *request;
    gp_staging *stage;
    uint8_t *memory;   /* pinned, as long as the tensor */
    uint8_t *messages; /* pinned, of pushes and results, one per chunk */
    size_t stride;     /* between these */
    /* The same two in memory that network devices reach, or NULL. */
    uint8_t *shown, *shown_messages;
    gp_segment *segment;
    uint32_t *counter; /* pinned, what streams wait for ... */
    uint32_t value;    /* ... to become this */
    gp_device_event *begun, *ended;
    void *stream;        /* of the push */
    const uint8_t *grad; /* on the device */
    uint8_t *out;        /* likewise */
    uint32_t absent;     /* chunks that are not copied */
    uint32_t undecoded;  /* results that are here, but not on `back` */
    bool detached;       /* nobody waits on the host; under submit_lock */
};

/* What a request is given besides. */
struct gp_on_stream {
    void *stream;
};

/* --- staging.c --- */

/* The one of that name, opened when it is the first use; NULL for the host. */
gp_status gp_staging_find(gp_worker *w, const char *device, gp_staging **out);
void gp_stagings_close(gp_worker *w);
/* Until nothing of ours is on a stream of ours, at most `timeout`. */
void gp_staging_settle(gp_staging *s, void *stream);
/* One request for each tensor on a device, so that the first step allocates
 * nothing. Without the driver held. */
gp_status gp_stagings_prepare(gp_worker *w);

/* A turn: how much was done. */
int gp_stagings_turn(gp_worker *w);
/* Whether something is about to happen on a device. */
bool gp_stagings_busy(const gp_worker *w);
uint64_t gp_stagings_deadline(const gp_worker *w);

/* The operations of a request that has been started wait for their data. */
void gp_staged_start(gp_request *r);
/* The workers have agreed on the number of a chunk that the device encodes: it
 * waits for that. False: the host encodes it. */
bool gp_staged_agreed(gp_op *op);
/* A chunk's result lies in pinned memory. */
void gp_staged_result(gp_op *op);
/* All have come: true when the request ends later, by a turn. */
bool gp_staged_return(gp_request *r);
/* The request ends: nothing is copied any more, streams go on. */
void gp_staged_end(gp_request *r, gp_status status);

/* --- staged.c: without the driver held --- */

gp_status gp_staged_create(gp_request *r);
void gp_staged_free(gp_staged *s);
/* Marks the place in the user's stream. */
gp_status gp_staged_begin(gp_request *r, const gp_on_stream *on,
                          const void *grad, void *out);
/* Whether a tensor of the host, or one on a device, is used as the other. */
gp_status gp_staging_check(const gp_tensor *t, const gp_on_stream *on,
                           const void *grad, const void *out);

/* --- devcode.c: what the device encodes and decodes --- */

/* Finds out whether it can; if not, the host does. */
gp_status gp_devcode_open(gp_tensor *t);
void gp_devcode_close(gp_tensor *t);
/* With the device, after all tensors. */
void gp_devcoders_close(gp_staging *s);
/* What one message of a request takes. */
size_t gp_devcode_stride(const gp_tensor *t);
/* Whether messages, not gradients, come to pinned memory. */
bool gp_devcode_pushes(const gp_request *r);
/* Whether it looks at the tensor as a whole before each step. */
bool gp_devcode_is_whole(const gp_tensor *t);
/* Whether byte stages come behind what the device has encoded. */
bool gp_devcode_packs(const gp_tensor *t);
/* The same of results. */
bool gp_devcode_unpacks(const gp_tensor *t);
/* Whether it is the request's turn, and that it is taken. */
bool gp_devcode_is_next(const gp_request *r);
void gp_devcode_begin(const gp_request *r);
/* Whoever came late goes on with the steps of the others. */
void gp_devcode_catch_up(gp_tensor *t);
/* What can go in one batch has the same one; NULL: copies as they are. */
const gp_coder *gp_devcode_encoder(const gp_op *op);
const gp_coder *gp_devcode_decoder(const gp_op *op);
/* Queues the work of a batch. GP_AGAIN: later. */
gp_status gp_devcode_encode(gp_op *const *ops, size_t n);
gp_status gp_devcode_decode(gp_op *const *ops, size_t n);
/* Of pipelines whose workers agree on a number first: whether that is still to
 * come, what finds this worker's, and what it is. */
bool gp_devcode_asks(const gp_op *op);
gp_status gp_devcode_propose(gp_op *const *ops, size_t n);
float gp_devcode_proposal(const gp_op *op);
/* What encoding has made. */
const void *gp_devcode_message(const gp_op *op, size_t *length);
/* Whether the device decodes the result, and takes the message for that. */
bool gp_devcode_pulls(const gp_op *op);
gp_status gp_devcode_keep(gp_op *op, const gp_codec_context *context, bool sum,
                          const void *bytes, size_t length);
/* Once all of a request are decoded: what was wrong with a message. */
gp_status gp_devcode_check(const gp_request *r);

/* --- direct.c: memory of devices that network devices reach --- */

/* Finds out which do; before the first request, without the driver held. */
gp_status gp_direct_open(gp_worker *w);
/* After all connections are closed. */
void gp_direct_close(gp_staging *s);
/* For a request of the tensor, where it is of use. Without the driver held. */
gp_status gp_direct_create(gp_staged *staged, const gp_tensor *t,
                           size_t messages);
/* Whether each chunk of a request that starts is sent from there, and its
 * result written there. */
void gp_direct_choose(gp_request *r);
/* Where a chunk lies there, and its encoded message. */
uint8_t *gp_direct_place(const gp_op *op);
uint8_t *gp_direct_message(const gp_op *op);
/* What is sent of a chunk that is there; op->length becomes its length. */
const void *gp_direct_payload(gp_op *op, gp_mem **mem);
/* Where a shard may write a chunk's result. */
gp_status gp_direct_expose(const gp_op *op, uint32_t *token, uint64_t *offset);
/* It has written so many: work that is queued from now on sees them. */
gp_status gp_direct_arrived(const gp_op *op, uint64_t bytes);
/* The n-th pair of a device and a network device, as it is now. */
bool gp_direct_describe(const gp_worker *w, uint32_t n, gp_direct *way,
                        char *text, size_t capacity);
/* Before a connection ends. */
void gp_direct_withdraw(gp_conn *conn);

#endif
