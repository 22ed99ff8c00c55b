/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder.h - pipelines on a device: elements in its memory become messages, and
 * messages become elements, in the order of a stream of the caller's.
 *
 * The bytes are those of gp_pipeline_encode(), and decoded elements those of
 * gp_pipeline_decode(), bit for bit, but where docs/gpu.md states a rule. All
 * parts of a call go in one launch per kernel. Calls queue work and return:
 * nothing is allocated, nothing waits. What a kernel reads of a call travels
 * through a ring of slots, each free again when the work that used it is done.
 *
 * A coder is used by one thread at a time, on any number of streams.
 */
#ifndef GP_CODER_H
#define GP_CODER_H

#include <gradpush/codec.h>

#include "device/device.h"

typedef struct gp_coder gp_coder;

/* A chunk of a tensor and its message. Elements lie in the device's memory;
 * messages there or in pinned memory, 16-byte aligned. */
typedef struct gp_coder_part {
    gp_codec_context context; /* scratch, state and prepared are ignored */
    size_t count;             /* elements */
    const float *source;      /* encode */
    float *residual;          /* encode: error feedback; NULL: without */
    void *whole;              /* encode: what gp_coder_prepare() left */
    /* Propose, encode: what momentum and ef21 remember; NULL: as if it were 0,
     * and is forgotten. Where there is a proposal, momentum comes with a
     * residual. */
    float *velocity, *history;
    float *target; /* decode */
    /* Decode without `add`: what becomes of the elements of sums. Of a vote
     * the majority, 1 where there is none; of others a multiple, 0 being 1. */
    bool signs;
    float scale;
    /* Propose, pinned: becomes what gp_pipeline_propose() gives. Encode:
     * whether that was done; context.shared is what came of it. */
    float *proposal;
    bool proposed;
    void *bytes;   /* the message, gp_coder_bound() to write to */
    size_t length; /* decode: of the message */
    /* Encode, pinned: becomes the length once the work is done. NULL is fine
     * where lengths are fixed. */
    uint64_t *encoded;
    /* Decode, pinned: becomes not 0 for a message that is damaged, whose target
     * is then unspecified. At once, or once the work is done. */
    uint32_t *status;
} gp_coder_part;

/* A tensor that its pipeline looks at whole, before its chunks are encoded; all
 * of it in the device's memory. */
typedef struct gp_coder_whole {
    gp_codec_context context; /* of offset 0 */
    size_t count;
    const float *source;
    float *residual; /* the source is added to it; NULL: without */
    float *state;    /* what the codec remembers, or NULL */
    /* What momentum and ef21 remember, or NULL; powersgd has momentum with a
     * residual. */
    float *velocity, *history;
    void *whole; /* gp_coder_whole_bytes(), 256-byte aligned */
} gp_coder_whole;

/* Messages of workers and the elements that are their sum. */
typedef struct gp_coder_sum {
    const gp_codec_input *input; /* bytes as in a part */
    size_t inputs;               /* 1 to GP_CODEC_FOLD */
    float *target;
    size_t count;
    uint32_t *status; /* as in a part */
} gp_coder_sum;

/* What one call can take, and how many can be under way. */
typedef struct gp_coder_room {
    size_t parts;    /* of a call */
    size_t messages; /* of a call's sums together */
    size_t slots;
    size_t elements; /* of a call's parts together */
} gp_coder_room;

/* Borrows the pipeline and the device. GP_ERR_UNSUPPORTED names the stage, or
 * the argument of it, for which there is no kernel. There is room for 64 parts,
 * 512 messages and 2^24 elements in 8 slots. */
gp_status gp_coder_open(gp_device *device, const gp_pipeline *pipeline,
                        gp_coder **out);
/* Waits for the device. NULL is fine. */
void gp_coder_close(gp_coder *coder);

/* Makes room for at least so much; waits for the device. What is 0 stays as it
 * is. After a failure there is as much room as before. */
gp_status gp_coder_reserve(gp_coder *coder, const gp_coder_room *room);

/* Bytes of the device's memory, and of pinned memory, that it holds. */
size_t gp_coder_memory(const gp_coder *coder);
size_t gp_coder_pinned(const gp_coder *coder);

/* As gp_pipeline_bound(). */
size_t gp_coder_bound(const gp_coder *coder, size_t count);

/* Whether lengths follow from counts alone: gp_coder_length() is then what an
 * encoder gives, without waiting for the device. */
bool gp_coder_fixed(const gp_coder *coder);
size_t gp_coder_length(const gp_coder *coder, size_t count);

/* What is kept of a tensor between gp_coder_prepare() and the encoding of its
 * chunks; 0: these need no such call. Otherwise the call adds the source to the
 * residual, which is what is encoded. */
size_t gp_coder_whole_bytes(const gp_coder *coder, size_t count);

/* Whether that call has products of the device's library. */
bool gp_coder_multiplies(const gp_coder *coder);

/* Whether it can decode at all; gp_coder_decode() says what it lacks. */
bool gp_coder_decodes(const gp_coder *coder);

/* All of these: GP_OK, GP_AGAIN when all slots are in use (nothing is queued:
 * call again later), GP_ERR_TOO_LARGE for more than there is room for,
 * GP_ERR_INVALID, GP_ERR_UNSUPPORTED for what the pipeline cannot do or when a
 * graph is being captured from the stream, or what the device says. */
gp_status gp_coder_prepare(gp_coder *coder, const gp_coder_whole *tensors,
                           size_t n, void *stream);
gp_status gp_coder_encode(gp_coder *coder, const gp_coder_part *parts, size_t n,
                          void *stream);
/* Of pipelines whose workers agree on a number: adds the sources, or what
 * momentum makes of them, to the residuals, which is what is encoded, and says
 * this worker's numbers. */
gp_status gp_coder_propose(gp_coder *coder, const gp_coder_part *parts,
                           size_t n, void *stream);
/* With `add` the decoded elements are added to the targets. */
gp_status gp_coder_decode(gp_coder *coder, const gp_coder_part *parts, size_t n,
                          bool add, void *stream);
/* target = ((d0 + d1) + d2) + ..., or target + that with `add`. */
gp_status gp_coder_fold(gp_coder *coder, const gp_coder_sum *sums, size_t n,
                        bool add, void *stream);

#endif
