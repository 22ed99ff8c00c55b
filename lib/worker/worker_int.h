/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_int.h - the inside of a worker.
 *
 * A request is cut into one operation per chunk. Operations on one chunk run
 * one after the other (gp_worker.chain), so a push of step n+1 never overtakes
 * the answer to step n, and the shard needs to keep only one push per worker
 * and chunk. A request that only pushes ends when the shard has its data,
 * though the chain is held until the shard has folded it. The first of a chain
 * waits in its connection's `ready` list, by priority, for a landing slot and
 * buffers.
 *
 * Workers may push in different orders: then the buffers for results can all
 * belong to chunks that wait for pushes which the other worker, short of
 * buffers as well, does not send. So an operation that has lacked a buffer for
 * a while is split: pushed at once, pulled when a buffer is free.
 *
 * Where a device moves the data (gp_conn_registers()), users' memory is sent
 * from and written into only within what they registered (gp_buffer). Such a
 * range is exposed once to each shard and stays so, since exposing costs;
 * elsewhere, a tensor's memory is exposed while a request is under way. Both
 * end before the requests do when the job fails: see gp_worker_close_conns().
 *
 * Everything below is touched only by the thread that holds the driver, but for
 * what is marked as shared.
 */
#ifndef GP_WORKER_INT_H
#define GP_WORKER_INT_H

#include <gradpush/codec.h>
#include <gradpush/transport.h>
#include <gradpush/worker.h>

#include "base/driver.h"
#include "base/list.h"
#include "rendezvous/rendezvous.h"
#include "rendezvous/reporter.h"
#include "shard/codec_set.h"
#include "shard/host.h"
#include "shard/map.h"
#include "shard/mode.h"
#include "wire/proto.h"
#include "wire/rows.h"
#include "wire/slots.h"
#include "worker/auto.h"

#define WORKER_LINKS     3
#define WORKER_EVENTS    32
#define SCRATCH_BUDGET   (24u << 20) /* bytes per direction, all shards */
#define SCRATCH_PAYLOADS 8u
/* What may be copied beside encoded chunks: a quarter of their bytes. */
#define COPIED_PART 4u
#define FLUSH_BYTES 32768u /* data from here on leaves at once */
#define STARVED_NS  5000000u
/* Bytes of pushes that no other one passes any more, where tensors differ in
 * priority and a system has its own queue. */
#define UNSENT_BYTES 524288u
#define HEARSAY_NS   5000000u

typedef enum conn_state {
    CONN_CONNECTING,
    CONN_HELLO,   /* connected; waits for the challenge, then the welcome */
    CONN_WELCOME, /* the shard has proven itself; waits for the others */
    CONN_STARTED, /* all workers are there */
    CONN_AGREED,  /* tensors agreed, slots granted */
    CONN_CLOSED
} conn_state;

/* Buffers for payloads that are not the user's memory as it lies: `count`
 * pieces of `bytes`, of which a payload takes a run. */
typedef struct scratch {
    uint8_t *base;
    uint64_t bytes;
    uint32_t count;
    uint64_t free;   /* bit set: piece is free */
    uint8_t run[64]; /* of payloads under way, by first piece: how many */
    uint32_t region; /* 0: not exposed */
} scratch;

typedef struct worker_link {
    const gp_transport_ops *ops;
    gp_domain *domain;
} worker_link;

typedef struct gp_experiment gp_experiment;
typedef struct gp_pool gp_pool;
typedef struct gp_trial gp_trial;
typedef struct gp_mesh gp_mesh;
typedef struct gp_collective gp_collective;
typedef struct gp_staging gp_staging;     /* worker/staging.h */
typedef struct gp_devcode gp_devcode;     /* worker/devcode.c */
typedef struct gp_staged gp_staged;       /* likewise */
typedef struct gp_on_stream gp_on_stream; /* likewise */
typedef struct gp_rows_plan gp_rows_plan; /* worker/rows.h */

typedef struct gp_conn {
    struct gp_worker *worker;
    worker_link *link;
    gp_endpoint *ep;
    uint32_t shard;
    atomic_int state; /* conn_state; read by waiting threads */
    char address[GP_ADDRESS_MAX];
    const gp_transport_ops *other; /* when `link` leads nowhere, or NULL */
    char other_address[GP_ADDRESS_MAX];
    uint64_t deadline_ns; /* of connecting */
    uint8_t nonce[GP_NONCE_BYTES];
    uint32_t slots, region;
    uint64_t slot_bytes;
    uint64_t free_slots;
    /* The same slots in the memory of the shard's device: region, 0 when there
     * are none; the least that lands there, and of which tensors. */
    uint32_t landing_region;
    uint64_t landing_least;
    gp_landing_bits *landing;
    gp_list ready;       /* operations by priority, then age */
    gp_list unbuffered;  /* split operations that wait for a receive piece */
    uint64_t starved_ns; /* since when pieces are lacking and none was freed */
    uint64_t unsent;     /* bytes of pushes that the transport still has */
    uint32_t open;       /* operations not answered */
    uint64_t pushed;     /* of tensors whose pushes are added as they arrive */
    scratch send, receive;
    uint8_t *memory; /* of both */
    gp_mem *mem;
    bool copies; /* through them goes what could be sent from where it lies */
    bool flush;
    bool told; /* it said that the job has failed */
} gp_conn;

typedef enum op_kind {
    OP_PUSH,
    OP_PULL,
    OP_PUSH_PULL,
    OP_INIT_PUSH,
    OP_INIT_PULL
} op_kind;

typedef struct gp_op {
    gp_list chain; /* in gp_worker.chain[chunk] */
    gp_list ready; /* in gp_conn.ready */
    gp_request *request;
    gp_conn *conn;
    uint32_t chunk;
    int receive_piece; /* -1: none; the first of a run */
    int slot;          /* of a prepared push that could not be sent, or -1 */
    int send_piece;    /* where it lies */
    uint64_t length;
    uint64_t cookie;
    uint64_t destination; /* of the result that was asked for */
    bool sent;
    bool split;    /* of a push_pull, only the push was sent */
    bool pushed;   /* ... and answered: what is left is a pull */
    bool measured; /* `shared` is what this worker proposes */
    bool asking;   /* it was sent; the agreement is not here */
    bool agreed;   /* `shared` is what all encode with */
    bool absent;   /* its gradient is not here: on a device, or not made */
    bool coded;    /* its result is a message that a device will decode */
    /* Network devices read and write it on the device. */
    bool from_device, to_device;
    uint64_t lacking;     /* elements of it, in a request of parts ... */
    atomic_bool answered; /* ... shared: its result is here */
    float shared;
} gp_op;

struct gp_request {
    gp_list link; /* submitted, then active, then the tensor's free list */
    gp_collective *collective; /* not NULL: the rest but `status` and `done` is
                                  not used */
    gp_tensor *tensor;
    op_kind kind;
    int32_t priority;
    uint64_t step;
    uint32_t codec; /* of a push: which of the tensor's alternatives */
    const uint8_t *grad;
    uint8_t *out;
    uint32_t left;        /* operations not answered */
    gp_buffer *from, *to; /* where grad and out lie; NULL: in none */
    /* Links that do without registration expose `out` by itself. */
    uint8_t *noted;            /* the memory that mem[] stands for */
    gp_mem *mem[WORKER_LINKS]; /* by link; NULL: none, or `to` has it */
    uint32_t *token;           /* by shard; 0: not exposed */
    gp_trial *trial;           /* of an experiment, or NULL */
    gp_staged *staged;         /* of a tensor on a device, or NULL */
    gp_rows_plan *plan;        /* of a tensor of rows, or NULL */
    double weight;             /* of a push; OP_INIT_PULL: the root's rank */
    bool parts;                /* its gradient comes in parts (parts.c) ... */
    uint64_t lacking;          /* ... so many elements of it have not come */
    uint64_t version;          /* least of the results */
    uint64_t wire_bytes;       /* pushed */
    uint64_t encode_ns;
    gp_status status; /* valid once done */
    atomic_bool done; /* shared */
    gp_op op[];       /* one per chunk of the tensor */
};

/* Memory that the user registered. */
struct gp_buffer {
    gp_worker *worker;
    uint8_t *base;
    size_t bytes;
    uint32_t number; /* in gp_worker.buffer */
    bool leaving;    /* being unregistered */
    gp_mem *mem[WORKER_LINKS];
    atomic_uint sending; /* payloads that devices may still read */
    uint32_t token[];    /* by shard; 0: not exposed */
};

struct gp_tensor {
    gp_worker *worker;
    uint32_t index;
    gp_tensor_spec spec;
    int32_t priority;
    gp_codec_set push;
    atomic_uint preferred; /* shared: what gp_tensor_choose() says */
    bool automatic;        /* codec=auto */
    gp_tensor *truth;      /* in an experiment: pushes the same, dense */
    uint64_t warmup;       /* steps that go dense */
    gp_cost cost[GP_CODEC_SET_MAX];
    int direct; /* the alternative whose bytes are the user's, or -1 */
    gp_pipeline *pull, *native;
    bool pull_direct;                /* wire bytes are the user's bytes */
    gp_row_codec row_push, row_pull; /* of rows */
    float scale;                     /* of sums that come undivided */
    gp_updater updater;
    gp_mode mode;
    bool keeps;      /* results are parameters, which shards hold */
    uint8_t *anchor; /* local: parameters at the round's begin, owned */
    bool anchored;   /* ... is known */
    /* Shared, under submit_lock. */
    uint32_t local_calls;                      /* of this round */
    double local_weight;                       /* likewise */
    bool in_round;                             /* its result is not here */
    int feedback;                              /* of the options */
    gp_codec_memory *memory[GP_CODEC_SET_MAX]; /* by alternative, or NULL */
    uint32_t holder;  /* the alternative whose memory has the residual */
    atomic_bool owes; /* the residual may not be zero */
    bool loaded;      /* this worker's history, from a checkpoint */
    float *kept[GP_KEPT_COUNT]; /* worker 0: to be restored on shards, owned */
    bool ordered;               /* one step is encoded after the other */
    bool begun, flushing;
    uint64_t encoding;     /* the step whose chunks are being encoded */
    uint32_t unencoded;    /* chunks of it that are not */
    gp_list parked;        /* operations of later steps */
    uint64_t steps;        /* shared, under submit_lock: of the next push */
    uint64_t pulled;       /* shared likewise: results given out, in steps */
    atomic_ullong version; /* shared: of what was pulled last */
    uint32_t first, chunks;
    gp_devcode *devcode; /* what that device encodes, decodes; NULL: the host */
    gp_staging *stage;   /* the device that it is on; NULL: the host */
    gp_list unused;      /* shared, under submit_lock: requests to reuse */
};

/* One part at a time of what shards keep, on its way to or from one. */
typedef struct gp_keeping {
    pthread_mutex_t lock; /* held from the first part to the last */
    uint64_t cookie;      /* of the part that is asked for, or 0 */
    float *into;          /* where its answer belongs; NULL: nowhere */
    uint32_t count;   /* ... of so many numbers; of rows: how many are there */
    size_t record;    /* bytes of a row, at `rows`; 0: numbers are asked for */
    void *rows;       /* NULL: nowhere */
    uint64_t total;   /* rows that the shard has */
    int status;       /* of the answer; valid once done */
    atomic_bool done; /* shared */
} gp_keeping;

typedef enum worker_phase {
    PHASE_REGISTER,
    PHASE_AGREE,
    PHASE_RUN
} worker_phase;

/* Who takes part, as shard 0 said last. */
typedef struct gp_membership {
    bool elastic;
    bool asked;       /* and not been answered yet */
    atomic_bool told; /* shared: the answer to it is here */
    bool changed;     /* it differs from the one before */
    bool late;        /* this worker came to a job under way */
    uint32_t epoch, count, index;
    uint32_t *rank; /* room for all; the caller's between two calls */
} gp_membership;

/* What a shard's link gives this worker, as it is being measured. */
typedef struct gp_probe {
    gp_conn *conn; /* NULL: nothing is */
    uint32_t open; /* answers under way */
    uint64_t bytes, begun_ns, first_ns, last_ns;
    atomic_bool done; /* shared */
} gp_probe;

struct gp_worker {
    gp_config *config;
    gp_job job;
    char token[256];
    uint64_t job_hash;
    uint32_t rank, size, shards;
    uint32_t *weights; /* of shards; NULL: all equal */
    uint32_t incarnation, epoch;
    uint64_t seed;
    double timeout;
    gp_driver *driver;
    worker_link link[WORKER_LINKS];
    int links;
    gp_conn *conn; /* one per shard */
    gp_store_server *store_server;
    gp_store *store;       /* from the end of joining on the reporter's */
    gp_reporter *reporter; /* or NULL */
    gp_shard *shard;       /* co-located, or NULL */
    uint32_t shard_index;
    char waiting[GP_TEXT_MAX]; /* what shards last said they wait for */
    gp_tensor **tensor;
    uint32_t tensors, tensor_capacity;
    gp_map map;
    gp_list *chain; /* by chunk */
    uint64_t *held; /* by chunk: the push that holds up its chain, or 0 */
    uint64_t next_cookie;
    float *plain;           /* one chunk as fp32, for half types */
    uint8_t *workspace;     /* of pipelines, one for each thread */
    size_t workspace_bytes; /* of one */
    gp_pool *pool;          /* of codec_threads, or NULL */
    gp_list active;         /* requests under way */
    /* What has happened stays so when the job fails after it. */
    atomic_uint started, agreed; /* shards that have said so */
    atomic_uint barriers_entered, barriers_passed;
    uint64_t hearsay_ns; /* when to believe what a shard told, or 0 */
    gp_status hearsay;
    char hearsay_text[GP_TEXT_MAX];
    gp_auto automatic;
    gp_keeping keeping;
    struct gp_norms *norms; /* or NULL */
    bool norms_unsent;
    bool nudged;                         /* parts of gradients have come */
    char history_name[32], sum_name[32]; /* with the number of workers */
    bool rules_checked;                  /* all of codec_rules can be read */
    gp_experiment *experiment;           /* or NULL */
    gp_buffer **buffer;                  /* NULL where one was unregistered */
    uint32_t buffers;
    bool went_other_way; /* the log says that some shard is reached by tcp */
    bool copied;         /* the log says that buffers are not registered */
    bool device;         /* data may travel by one, also other workers' */
    bool ranked;         /* tensors differ in priority */
    bool added;          /* to the driver */
    bool joined;         /* all members were there */
    gp_mesh *mesh;       /* of collectives, or NULL */
    gp_staging *stages;  /* devices that tensors are on */
    pthread_mutex_t mesh_lock; /* one gp_group_create() at a time */
    bool leaving;
    gp_probe probe;
    gp_membership membership; /* of a job whose workers come and go */
    /* Shared. */
    pthread_mutex_t submit_lock;
    gp_list submitted;
    atomic_int phase;
    atomic_int fault; /* gp_status; the text is written before it is set */
    char fault_text[GP_TEXT_MAX];
    atomic_ullong bytes_pushed, bytes_pulled, dense_bytes, plain_pushed,
        messages_sent, messages_received, requests, memory, open_ns, waited_ns,
        direct_bytes,
        open_since_ns; /* of the first of those that are under way */
    atomic_uint open;  /* requests under way */
    /* What shard 0 said last of who waits for whom. */
    atomic_ullong lag_ns, awaited_ns, straggler_lag_ns;
    atomic_uint straggler;
};

/* A request begins, or ends: for the time in which there are any. */
static inline void
gp_worker_opened(gp_worker *w)
{
    if (atomic_fetch_add(&w->open, 1) == 0)
        atomic_store(&w->open_since_ns, gp_clock_ns());
}

static inline void
gp_worker_closed(gp_worker *w)
{
    uint64_t since = atomic_load(&w->open_since_ns), now = gp_clock_ns();

    if (atomic_fetch_sub(&w->open, 1) == 1 && now > since)
        atomic_fetch_add(&w->open_ns, now - since);
}

/* members.c */
gp_status gp_membership_open(gp_worker *w, bool colocated);
void gp_membership_answer(gp_conn *conn, const gp_event *event);
/* A newcomer's pull has brought the version that the others are at. */
void gp_membership_catch_up(gp_tensor *t, uint64_t version);

static inline size_t
gp_element_bytes(const gp_tensor *t)
{
    return gp_dtype_bytes((gp_dtype)t->spec.dtype);
}

static inline size_t
gp_tensor_bytes(const gp_tensor *t)
{
    return t->spec.count * gp_element_bytes(t);
}

static inline bool
gp_kind_pushes(op_kind kind)
{
    return kind == OP_PUSH || kind == OP_PUSH_PULL || kind == OP_INIT_PUSH;
}

static inline bool
gp_kind_pulls(op_kind kind)
{
    return kind == OP_PULL || kind == OP_PUSH_PULL || kind == OP_INIT_PULL;
}

/* What the next message of an operation is. */
static inline bool
gp_op_sends_push(const gp_op *op)
{
    return gp_kind_pushes(op->request->kind) && !op->pushed;
}

static inline bool
gp_kind_is_init(op_kind kind)
{
    return kind == OP_INIT_PUSH || kind == OP_INIT_PULL;
}

/* Initial values travel in the tensor's own type, whatever the pipelines. */
static inline bool
gp_pull_is_direct(const gp_request *r)
{
    return gp_kind_is_init(r->kind) || r->tensor->pull_direct;
}

static inline bool
gp_push_is_direct(const gp_request *r)
{
    return gp_kind_is_init(r->kind) ||
           ((int)r->codec == r->tensor->direct && !r->tensor->flushing);
}

static inline const gp_chunk_info *
gp_op_info(const gp_op *op)
{
    return &op->conn->worker->map.chunk[op->chunk];
}

/* Bytes of an operation's part of the user's buffers, and where it begins. */
static inline size_t
gp_op_plain_bytes(const gp_op *op)
{
    return gp_op_info(op)->count * gp_element_bytes(op->request->tensor);
}

static inline size_t
gp_op_plain_offset(const gp_op *op)
{
    return gp_op_info(op)->offset * gp_element_bytes(op->request->tensor);
}

/* rows_plan.c: bytes of its result. */
size_t gp_rows_op_result(const gp_op *op);

static inline size_t
gp_op_result_bound(const gp_op *op)
{
    const gp_request *r = op->request;

    if (r->plan)
        return gp_rows_op_result(op);
    return gp_pull_is_direct(r)
               ? gp_op_plain_bytes(op)
               : gp_pipeline_bound(r->tensor->pull, gp_op_info(op)->count);
}

/* Whether payloads must, or had better, lie in registered memory. */
static inline bool
gp_link_registers(const worker_link *link)
{
    return link->ops->caps & (GP_CAP_REGISTERED | GP_CAP_DEVICE);
}

/* Whether what is exposed of memory costs nothing beside what sends from it. */
static inline bool
gp_link_opens_parts(const worker_link *link, const gp_endpoint *ep)
{
    return !ep || !(link->ops->caps & GP_CAP_PARTS) ||
           link->ops->ep_opens_parts(ep);
}

static inline bool
gp_conn_registers(const gp_conn *conn)
{
    return gp_link_registers(conn->link);
}

/* Whether a result is written straight into the user's memory. */
static inline bool
gp_op_lands(const gp_op *op)
{
    const gp_request *r = op->request;

    if (op->to_device)
        return true;
    if (!gp_pull_is_direct(r) || !gp_conn_registers(op->conn))
        return gp_pull_is_direct(r);
    return r->to && !op->conn->copies &&
           (size_t)(r->out - r->to->base) % GP_DESTINATION_UNIT == 0;
}

/* Whether a push is sent from where the gradient lies. */
static inline bool
gp_op_leaves(const gp_op *op)
{
    const gp_request *r = op->request;

    return gp_push_is_direct(r) &&
           ((r->from && !op->conn->copies) || !gp_conn_registers(op->conn));
}

/* worker.c */
/* The link of a transport, opened when it is the first use. Under the driver's
 * hold once the worker is driven. */
gp_status gp_worker_link(gp_worker *w, const gp_transport_ops *ops,
                         worker_link **out);
gp_status gp_worker_fault(const gp_worker *w);
/* GP_ERR_TIMEOUT: what did not happen, within so many seconds unless negative,
 * and who is late. */
gp_status gp_worker_late(gp_worker *w, const char *what, double seconds);

/* conn.c: connections and handshakes */
void gp_conn_event(gp_worker *w, const gp_event *event);
gp_status gp_conn_post(gp_conn *conn, gp_msg *msg, const void *payload,
                       gp_mem *mem, uint64_t cookie);
void gp_worker_fail(gp_worker *w, gp_status status, const char *format, ...)
    GP_PRINTF(3, 4);
void gp_worker_close_conns(gp_worker *w);
void gp_conn_believe(gp_worker *w);
gp_status gp_conn_connect(gp_conn *conn);
/* `why`: what is said, once. False: there is no other way. */
bool gp_conn_go_other_way(gp_conn *conn, const char *why);

/* engine.c: operations */
gp_driven gp_worker_driven(gp_worker *w);
void gp_engine_result(gp_conn *conn, const gp_event *event);
void gp_engine_ack(gp_conn *conn, const gp_msg *msg);
void gp_engine_agree(gp_conn *conn, const gp_msg *msg);
void gp_engine_sent(gp_conn *conn, uint64_t cookie);
float *gp_engine_destination(void *worker, uint32_t chunk, uint64_t cookie);
void gp_engine_finish(gp_request *request, gp_status status);
/* What an operation was absent for is here. */
void gp_engine_arrived(gp_op *op);

/* choose.c: which alternative of its push pipelines a tensor uses in a step.
 * Called once per step, in the order of the steps, under the driver's hold. */
uint32_t gp_tensor_choose(gp_tensor *t, uint64_t step);
/* The text of a tensor's alternatives, and what the tensor needs for them. */
gp_status gp_tensor_push_text(gp_worker *w, const gp_tensor_options *o,
                              gp_tensor *t, char *out, size_t capacity);
/* Says why a tensor goes through what gp_tensor_choose() says; false when there
 * was nothing to choose. Under the driver's hold. */
bool gp_tensor_explain(const gp_tensor *t, uint64_t step, char *out,
                       size_t capacity);
/* Warns of rules that hold for no tensor; after the last is registered. */
gp_status gp_worker_check_rules(gp_worker *w);
/* Before the first operation, when some tensor has codec=auto. */
gp_status gp_worker_measure(gp_worker *w);
/* Requests are under way, or none is any more. */
void gp_worker_busy(gp_worker *w);
void gp_worker_idle(gp_worker *w);
/* From the next step on; any thread. */
void gp_tensor_prefer(gp_tensor *t, uint32_t alternative);

/* experiment.c: a tensor's gradients travel densely as well, in a tensor
 * beside it, so that what codecs lose can be told. */
gp_status gp_experiment_open(gp_worker *w);
void gp_experiment_close(gp_worker *w);
/* Registers the tensors beside those with codecs. Under the driver's hold. */
gp_status gp_experiment_register(gp_worker *w);
/* Before a push_pull is handed over. */
gp_status gp_trial_begin(gp_request *r, const void *grad);
bool gp_trial_done(const gp_trial *trial);
/* After both are done, with what the request ended with: writes the line. */
gp_status gp_trial_end(gp_request *r, gp_status status);
void gp_trial_free(gp_trial *trial);

/* send.c */
bool gp_op_sends_proposal(const gp_op *op);
/* Whether a push had better wait until what was posted before has left. */
bool gp_op_holds_back(const gp_op *op);
gp_status gp_op_send(gp_op *op);
void gp_scratch_give(scratch *s, int first);

/* buffer.c: memory that users register */
/* The registered range that holds that memory, or NULL. */
gp_buffer *gp_buffer_find(const gp_worker *w, const void *p, size_t bytes);
/* Tells a new link of all of them. */
gp_status gp_buffer_link(gp_worker *w, int link);
/* Finds where the buffers of a request lie. */
void gp_buffer_attach(gp_request *r);
/* The token under which a shard may write into a range. */
gp_status gp_buffer_expose(gp_buffer *b, gp_conn *conn, uint32_t *token);
/* What a payload sent from a range asks SENT for, and that event. */
uint64_t gp_buffer_cookie(const gp_buffer *b);
void gp_buffer_sent(gp_worker *w, uint64_t cookie);
/* Before a connection ends: nothing is written any more. */
void gp_buffer_withdraw(gp_conn *conn);
/* After all have ended. */
void gp_buffer_let_go(gp_worker *w);
void gp_worker_free_buffers(gp_worker *w);

/* encode.c */
/* Whether a gradient is looked at as a whole, when all of it is there. */
bool gp_encode_is_whole(const gp_tensor *t);
bool gp_encode_waits(const gp_op *op);
gp_status gp_encode_begin(gp_op *op);
/* Whether something must be agreed on before the chunk is encoded, and what
 * this worker proposes. */
bool gp_encode_proposes(const gp_op *op);
gp_status gp_encode_propose(gp_op *op);
/* @param thread  of the pool; 0 is whoever drives. */
gp_status gp_encode_chunk(gp_op *op, uint8_t *out, size_t capacity,
                          size_t *length, unsigned thread);
/* A push was sent. True: it was its step's last, the next one may begin. */
bool gp_encode_end(gp_op *op);
gp_status gp_decode_chunk(gp_op *op, const gp_msg *msg, const void *bytes);

/* memory.c */
gp_status gp_memory_open(gp_tensor *t, int feedback);
void gp_memory_close(gp_tensor *t);
/* Before a step through an alternative; others' residual moves to it. */
gp_status gp_memory_use(gp_tensor *t, uint32_t alternative);
float *gp_memory_residual(const gp_tensor *t);
/* devcode.c: a residual on a device to and from where checkpoints find it. */
gp_status gp_devcode_fetch(gp_tensor *t);
gp_status gp_devcode_store(gp_tensor *t);
/* Whether differences go on from a checkpoint: for the tensor list. */
gp_status gp_memory_announce(gp_tensor *t);

/* norm.c: sums of squares over shards, which one worker adds up. */
void gp_worker_norm(gp_conn *conn, const gp_event *event);
/* What did not leave before. */
void gp_worker_send_totals(gp_worker *w);
void gp_worker_free_norms(gp_worker *w);

/* kept.c: what shards remember of a tensor, of which worker 0 takes care. */
void gp_kept_open(gp_worker *w);
void gp_kept_close(gp_tensor *t);
/* Numbers that shards keep of the whole tensor, in the order of its chunks. */
uint64_t gp_kept_count(const gp_tensor *t, int which);
/* The index-th that this worker has; NULL beyond the last. */
const char *gp_kept_name(const gp_tensor *t, size_t index, uint64_t *count);
/* Which one has that name, or -1. */
int gp_kept_find(const gp_tensor *t, const char *name);
/* ... with what can be saved, though it is not loaded. */
int gp_kept_find_saved(const gp_tensor *t, const char *name);
/* Without the driver held; these block. */
gp_status gp_kept_save(gp_tensor *t, int which, float *values);
gp_status gp_kept_load(gp_tensor *t, int which, const float *values);
/* One part of the rows of a chunk: RECALL from number `*at` on into `rows`, or
 * RESTORE of `*count` records. Under the keeping's lock, without the driver.
 * @param count, at  receive how many came, and how many rows there are. */
gp_status gp_kept_rows(gp_tensor *t, uint8_t type, uint32_t chunk,
                       size_t record, void *rows, uint32_t *count,
                       uint64_t *at);
/* Gives shards what was loaded, once they have agreed on the tensors. */
gp_status gp_worker_restore(gp_worker *w);
void gp_kept_answer(gp_conn *conn, const gp_event *event);

/* request.c */
gp_status gp_request_submit(gp_tensor *t, op_kind kind, const void *grad,
                            void *out, double weight, gp_request **request);
/* The same on a stream. `grad` and `out` are memory of the tensor's device. */
gp_status gp_request_submit_on(gp_tensor *t, op_kind kind, const void *grad,
                               void *out, double weight, const gp_on_stream *on,
                               gp_request **request);
/* The same for rows. */
typedef struct gp_rows_call gp_rows_call;
gp_status gp_request_submit_rows(gp_tensor *t, op_kind kind,
                                 const gp_rows_call *call,
                                 gp_request **request);
/* So that the first step finds one. */
gp_status gp_request_reserve(gp_tensor *t);
/* One that is done already. */
gp_status gp_request_finished(gp_tensor *t, gp_request **request);

/* weights.c: what the configuration, or worker 0 for all, says of them. */
gp_status gp_worker_weigh(gp_worker *w, uint64_t deadline);
/* ... when they are to be measured: after all have joined. */
gp_status gp_worker_weigh_measured(gp_worker *w);

/* probe.c */
/* @param rate  Mbit/s of all shards, zeros on entry; worker 0's are the sums
 *              over the workers, 0 where nobody knows. */
gp_status gp_worker_probe(gp_worker *w, double *rate);
void gp_probe_answer(gp_conn *conn, const gp_msg *msg);

/* parts.c: a request before it is handed over. */
void gp_parts_open(gp_request *r);
void gp_parts_close(gp_request *r);

/* modes.c */
gp_status gp_local_open(gp_tensor *t);
void gp_local_close(gp_tensor *t);
/* When a request of a local tensor has ended. */
void gp_local_end(gp_request *r);
/* With backup workers: waits for a request, and says so when that takes long,
 * because those whose pushes are missing may wait for this worker's. */
bool gp_backups_wait(gp_request *r, bool (*done)(void *request),
                     uint64_t deadline);
gp_status gp_weight_check(const gp_tensor *t, double weight);

/* status.c */
/* Answers `gradpush status` from now on. */
void gp_worker_report(gp_worker *w);

/* tensor.c */
/* gp_tensor_register() under the driver's hold. */
gp_status gp_tensor_add(gp_worker *w, const gp_tensor_options *options,
                        gp_tensor **out);
/* The same, of rows. */
gp_status gp_tensor_add_rows(gp_worker *w, const gp_tensor_options *options,
                             const gp_row_spec *rows, gp_tensor **out);
gp_status gp_worker_open_scratch(gp_worker *w, gp_conn *conn);
void gp_worker_free_tensors(gp_worker *w);
void gp_worker_free_map(gp_worker *w);
/* What of a tensor decides where it is cut. */
gp_map_tensor gp_tensor_cut(const gp_tensor *t);
void gp_request_free(gp_request *request);

#endif
