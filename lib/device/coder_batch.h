/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_batch.h - a coder, and what a call has put into a slot of it; between
 * coder.c (memory), coder_calls.c (what a call says) and coder_launch.c.
 */
#ifndef GP_CODER_BATCH_H
#define GP_CODER_BATCH_H

#include "device/coder_codecs.h"

typedef struct gp_coder_slot {
    uint8_t *pinned;
    uint8_t *block; /* of the device */
    gp_device_event *event;
    bool used; /* the event stands for work */
    bool lost; /* work may be under way that no event stands for */
} gp_coder_slot;

struct gp_coder {
    gp_device *device;
    const gp_pipeline *pipeline;
    gp_coder_plan plan;
    gp_coder_room room;
    gp_coder_slot *slots;
    uint8_t *space;      /* what codecs ask for; one call uses it at a time */
    gp_coder_slot *last; /* that used it, on a stream */
    void *last_stream;
};

/* What a call has put into its slot. */
typedef struct gp_coder_batch {
    gp_coder_slot *slot;
    gp_cuda_part *parts;       /* pinned */
    gp_cuda_message *messages; /* behind the parts */
    size_t message_count;
    /* Selections: likewise, what is chosen of each, and what was sent. */
    gp_cuda_part *values, *sent;
    gp_select *selects;
    uint64_t value_blocks, sent_blocks;
    bool back;  /* selections: something is fed back */
    bool ends;  /* sums have to be finished */
    bool fades; /* there are residuals that decay */
    bool makes; /* and gradients of which something is made */
    bool clips; /* some of which may be too long */
    bool keeps; /* what was sent goes to a history */
    size_t n;
    uint64_t blocks;
    size_t space; /* bytes of the coder's that are taken */
} gp_coder_batch;

/* Whether the array stage works on some of the elements. */
static inline bool
gp_coder_selects(const gp_coder *c)
{
    return c->pipeline->select || c->pipeline->zeros;
}

/* Whether the array stage works on what other kernels made. */
static inline bool
gp_coder_around(const gp_coder *c)
{
    return gp_coder_selects(c) || c->plan.rotated;
}

/* Whether more is made of gradients than the sum with a residual. */
static inline bool
gp_coder_remembers(const gp_coder *c)
{
    return c->plan.memory == GP_MEMORY_EF21 ||
           c->plan.memory == GP_MEMORY_MOMENTUM;
}

/* Whether selections are from whole tensors, which are looked at before. */
static inline bool
gp_coder_looks(const gp_coder *c)
{
    return c->plan.look[0].tile != 0;
}

/* Whether that, or anything else, is done ahead of all chunks of a tensor. */
static inline bool
gp_coder_prepares(const gp_coder *c)
{
    return gp_coder_looks(c) || c->plan.whole[0].tile != 0;
}

/* The first kernel of an encoder, or of the look ahead of it: by its tiles more
 * is made of gradients. */
static inline const gp_coder_kernel *
gp_coder_encoder(const gp_coder *c)
{
    if (gp_coder_looks(c))
        return c->plan.look;
    return gp_coder_around(c) ? c->plan.before : c->plan.encode;
}

/* Bytes of the device that a part of `count` elements takes, and those of all
 * that a coder has room for; false where they cannot be counted. */
size_t gp_coder_space_of(const gp_coder *c, size_t count);
bool gp_coder_space(const gp_coder *c, const gp_coder_room *room, size_t *out);
/* Elements behind a transform, and a status that nobody reads. */
size_t gp_coder_rotation_bytes(const gp_coder *c, size_t count);
/* What is encoded in place of gradients, and such a status. */
size_t gp_coder_memory_bytes(const gp_coder *c, size_t count);

/* coder_whole.c: what is encoded of a tensor that was looked at, in place of
 * gradients; or NULL. */
float *gp_coder_whole_made(const gp_coder *c, void *whole);
/* The squares of a gradient's tiles; tells the part of them. */
size_t gp_coder_norm_bytes(const gp_coder *c, size_t count);
void gp_coder_place_norm(const gp_coder *c, gp_coder_batch *b,
                         const gp_codec_context *context, void *space,
                         gp_cuda_part *to);

/* coder_lowrank.c: as the functions of coder.h */
size_t gp_coder_lowrank_bytes(const gp_coder *c, size_t count);
gp_status gp_coder_lowrank_prepare(gp_coder *c, const gp_coder_whole *tensors,
                                   size_t n, void *stream);

/* coder_launch.c: takes a free slot for a call of `n` parts. */
gp_status gp_coder_begin(gp_coder *c, const gp_coder_kernel *kernel,
                         const char *what, size_t n, void *stream,
                         gp_coder_batch *out);
/* coder_calls.c: what momentum makes needs somewhere to go. */
gp_status gp_coder_check_sums(const gp_coder *c, const float *velocity,
                              const float *residual);
/* Random numbers of a part. */
gp_cuda_stream gp_coder_random(const gp_coder *c,
                               const gp_codec_context *context);
/* Where the next part goes, told of its share of the grid; with `heads` also
 * where there are no elements. */
gp_cuda_part *gp_coder_place(gp_coder_batch *b, size_t i,
                             const gp_coder_kernel *kernel, bool heads,
                             size_t count);
/* Queues one kernel over the parts of the call. */
gp_status gp_coder_launch_one(gp_coder *c, const gp_coder_batch *b,
                              const gp_coder_kernel *kernel, bool add,
                              void *stream);
/* coder_lowrank.c: and all of a tensor's. */
gp_status gp_coder_launch_whole(gp_coder *c, const gp_coder_batch *b,
                                void *stream);
/* Queues the call. */
gp_status gp_coder_finish(gp_coder *c, gp_coder_batch *b,
                          const gp_coder_kernel *kernel, bool add,
                          void *stream);

#endif
