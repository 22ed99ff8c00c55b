/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device.h - the inside of shards whose sums and parameters are on a
 * device.
 *
 * Life of a step of such a chunk: pushes land in pinned memory, or the
 * device's, and kernels add them to the sum from there, in rank order. When all
 * are in, the sum is scaled, perhaps measured, and becomes new parameters; the
 * result goes to the pinned memory that answers are sent from, encoded if there
 * are kernels for that. All of it is work on one stream of the shard's, which
 * runs in order. A turn of the shard queues what can be queued and records an
 * event behind it; when the event is done, what the work stood for has
 * happened: then slots go back to their workers, and results to those who wait.
 * Nothing is waited for but by asking.
 */
#ifndef GP_SHARD_DEVICE_H
#define GP_SHARD_DEVICE_H

#include "device/arena.h"
#include "device/aside.h"
#include "device/coder.h"
#include "shard/norm.h"
#include "shard/shard_int.h"

#define DEVICE_JOBS   16u  /* under way at a time, each behind an event */
#define DEVICE_ITEMS  32u  /* of a job */
#define DEVICE_INPUTS 256u /* messages of one call of a coder */

typedef enum item_kind {
    ITEM_FOLD,    /* pushes are added */
    ITEM_MEASURE, /* squares of a sum are there */
    ITEM_PUBLISH, /* a result is in the host's memory */
    ITEM_MOVE,    /* what was in `block` is on the device */
    ITEM_RECALL   /* what was asked for is in `block` */
} item_kind;

/* What the device says of an item; pinned. */
typedef struct device_note {
    uint64_t encoded; /* length of a result */
    uint32_t status;  /* not 0: a message is damaged */
} device_note;

typedef struct device_item {
    item_kind kind;
    gp_chunk *chunk;
    uint32_t first, count; /* FOLD: ranks */
    device_note *note;
    void *block;   /* pinned; free when it is done */
    gp_peer *peer; /* RECALL: who asked ... */
    gp_msg msg;    /* ... what */
} device_item;

typedef struct device_job {
    gp_device_event *event;
    device_note *notes; /* of the items */
    uint32_t count;
    device_item item[DEVICE_ITEMS];
} device_job;

/* Of all tensors with that pipeline: a coder holds much memory. */
typedef struct device_coder {
    struct device_coder *next;
    gp_pipeline *pipeline;
    gp_codec_shape shape; /* of tensors, where that matters; else 0 */
    gp_coder *coder;      /* NULL: there are no kernels */
    bool folds;
} device_coder;

/* Work for one call of a coder. */
typedef struct device_group {
    gp_coder *coder; /* NULL: nothing */
    bool folds, adds;
    uint32_t count, inputs;
    gp_chunk *chunk[DEVICE_ITEMS];
    device_item *item[DEVICE_ITEMS];
    gp_coder_sum sum[DEVICE_ITEMS];
    gp_coder_part part[DEVICE_ITEMS];
    gp_codec_input input[DEVICE_INPUTS];
    gp_codec_context context[DEVICE_INPUTS];
} device_group;

typedef struct gp_shard_device {
    gp_device *device;
    char name[32]; /* "cuda:0" */
    char model[64];
    gp_device_arena *memory, *pinned;
    void *stream;
    gp_device_event *settled; /* for gp_shard_device_settle() */
    device_note *notes;       /* pinned, of all jobs */
    device_job *job;          /* a ring */
    uint32_t first, used;     /* jobs that are behind an event */
    bool blocked;             /* something found no room in this turn */
    gp_list ready;            /* chunks that may go on */
    device_group group;
    device_coder *coders;
    gp_coder *dense;      /* adds numbers as they lie */
    float *scratch;       /* on the device: a push that is multiplied first */
    size_t scratch_count; /* elements */
    /* Pushes that kernels decoded, and that the host did; tensors that are not
     * on the device. */
    uint64_t pushes, pushes_host;
    uint32_t tensors, tensors_host;
    /* What network devices read (shard_device_direct.c). */
    gp_aside aside;
    bool reached; /* one of them gets there */
    gp_device_arena *shown;
    uint8_t *results; /* of all chunks; NULL: pinned memory has them */
    size_t results_bytes;
    gp_mem *results_mem[SHARD_LINKS];
    uint64_t direct_bytes; /* sent from there */
    /* ... and write (shard_device_slots.c). */
    bool blind; /* the device would not see it */
    gp_device_arena *landing;
    bool unflushed; /* something was written since the last flush */
    uint64_t landed_bytes;
} gp_shard_device;

/* Of a worker (shard_device_slots.c). */
struct gp_device_slots {
    uint8_t *base;
    size_t bytes; /* whole segments */
    gp_mem *mem;
    uint32_t region; /* 0: not exposed */
    bool told;       /* the worker takes them */
};

/* Who decodes one of a tensor's alternatives. */
typedef struct device_decoder {
    const device_coder *coder; /* NULL, or without a coder: the host */
    bool unpacks;              /* byte stages are the host's */
} device_decoder;

/* One update of a chunk, queued. */
typedef gp_status (*device_update)(gp_shard_device *d, gp_chunk *c,
                                   const gp_updater_step *step);

struct gp_tensor_device {
    device_decoder push[GP_CODEC_SET_MAX];
    gp_coder *pull;       /* NULL: the host encodes */
    device_update update; /* NULL: the result is the sum, or the mean */
    bool keeps_copy;      /* parameters go to the host beside encoded results */
};

typedef enum device_phase {
    DEVICE_FOLDS,
    DEVICE_MEASURES, /* the norm is being found */
    DEVICE_UPDATED,  /* the result has yet to be fetched */
    DEVICE_PUBLISHES
} device_phase;

struct gp_chunk_device {
    gp_list ready; /* in gp_shard_device.ready */
    gp_chunk *chunk;
    device_phase phase;
    bool finished;   /* the sum has been scaled */
    bool measured;   /* its norm is known, which gradients are clipped by */
    bool directed;   /* the sum is a direction, and both norms are known */
    bool grouped;    /* waits to be encoded with others */
    gp_norm norm[2]; /* of the sum; or of the parameters, and of the sum */
    float *sum, *value, *history, *residual;
    float *array[GP_UPDATER_ARRAYS];
    uint8_t *shown;  /* where network devices read results; or NULL */
    bool direct;     /* this result is there and not in pinned memory ... */
    bool brought;    /* ... or has been brought there as well */
    double *squares; /* pinned; of both norms where there are two */
};

/* shard_device.c */
/* How many items the job that is being filled has room for. */
uint32_t gp_device_room(const gp_shard_device *d);
/* The last of it; NULL: there is no room. */
device_item *gp_device_item(gp_shard_device *d, item_kind kind, gp_chunk *c);
/* No work stands behind the last items: others have to be done first. */
void gp_device_take_back(gp_shard_device *d, uint32_t items);
/* Records an event behind what was queued. */
void gp_device_seal(gp_shard *s);
/* The driver refused something: ends the job, and says what and where. */
void gp_device_failed(gp_shard *s, const gp_chunk *c, gp_status status);
/* Looks at events; returns how many items are done. */
int gp_device_look(gp_shard *s);
/* Waits until there is room for an item, not long. */
device_item *gp_device_await_item(gp_shard *s, item_kind kind, gp_chunk *c);

/* shard_device_publish.c */
/* The result goes to where answers are sent from: GP_PENDING while the last one
 * leaves, GP_AGAIN when there is no room. */
gp_status gp_device_publish(gp_shard *s, gp_chunk *c);
/* Encodes the results that wait for others of their kind. */
void gp_device_publish_rest(gp_shard *s);
void gp_device_published(gp_shard *s, device_item *it);

/* shard_device_open.c */
/* shape NULL: of any tensor. */
gp_status gp_device_coder_find(gp_shard_device *d, const char *text,
                               const gp_codec_shape *shape,
                               const device_coder **out);
void gp_device_coders_close(gp_shard_device *d);

/* shard_device_fold.c */
/* Whether kernels read the message where it lies, and nobody else. */
bool gp_device_reads(const device_decoder *k);
/* Queues what can be added of the chunks that are ready. */
void gp_device_fold_ready(gp_shard *s);
/* The item's pushes are in the sum. */
void gp_device_folded(gp_shard *s, device_item *it);

/* shard_device_update.c: kernels of one chunk. */
/* GP_ERR_UNSUPPORTED says which updaters there are. */
gp_status gp_device_updater_find(const shard_tensor *t, device_update *out);
gp_status gp_device_scale(gp_shard_device *d, float *x, size_t count,
                          float scale);
gp_status gp_device_add(gp_shard_device *d, float *sum, const float *x,
                        size_t count);
gp_status gp_device_history(gp_shard_device *d, gp_chunk *c, float scale);
gp_status gp_device_squares(gp_shard_device *d, const float *x, size_t count,
                            double *out);
/* The first half of an update with norms: the sum becomes a direction. */
gp_status gp_device_direct(gp_shard_device *d, gp_chunk *c);
gp_status gp_device_update(gp_shard_device *d, gp_chunk *c);

/* shard_device_direct.c: decides where the next result goes. */
void gp_device_choose_way(gp_shard *s, gp_chunk *c);

/* shard_device_slots.c: before kernels read what has landed; false when the job
 * has failed of it. */
bool gp_device_slots_flush(gp_shard *s);

/* shard_device_kept.c */
void gp_device_recalled(gp_shard *s, device_item *it);

#endif
