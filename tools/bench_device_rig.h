/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_device_rig.h - what a pipeline is timed with on a device; between
 * bench_device.c and bench_device_check.c.
 *
 * The tensor lies there in several copies, each with what an encoder remembers
 * of it.
 */
#ifndef GP_BENCH_DEVICE_RIG_H
#define GP_BENCH_DEVICE_RIG_H

#include "base/base.h"
#include "bench_device.h"
#include "device/coder.h"
#include "device/timer_cuda.h"

typedef enum gp_device_kept {
    GP_DEVICE_RESIDUAL,
    GP_DEVICE_VELOCITY,
    GP_DEVICE_HISTORY,
    GP_DEVICE_STATE, /* of the codec's own */
    GP_DEVICE_FIELDS
} gp_device_kept;

typedef struct gp_device_rig {
    const gp_device_bench *bench;
    gp_device *device;
    gp_coder *coder;
    gp_codec_memory *memory; /* the host's, of a first step; NULL: none */
    gp_cuda_timer *timer;
    void *stream;
    uint32_t copies;
    size_t slot, chunks;
    size_t fill;
    float *source, *target;           /* of all copies */
    float *field[GP_DEVICE_FIELDS];   /* likewise; NULL: nothing */
    size_t numbers[GP_DEVICE_FIELDS]; /* of one copy */
    void *whole;                      /* of the copy under way */
    size_t whole_bytes;
    bool proposes;
    uint8_t *messages, *scratch;
    uint64_t *encoded; /* pinned, for all workers' chunks, as the next two */
    uint32_t *status;
    float *proposals;
    float *shared; /* what was agreed on, by chunks */
    gp_coder_part *parts;
    gp_coder_sum *sums;
    gp_codec_input *inputs;
    gp_codec_context *contexts;
} gp_device_rig;

/* What is remembered of a copy, from an element on; NULL: nothing. */
static inline float *
gp_device_field(const gp_device_rig *r, gp_device_kept field, uint32_t copy,
                size_t from)
{
    return r->field[field] ? r->field[field] + copy * r->numbers[field] + from
                           : NULL;
}

static inline gp_codec_context
gp_device_context(const gp_device_rig *r, uint32_t worker, size_t chunk)
{
    return (gp_codec_context){.seed = r->bench->seed,
                              .offset = chunk * r->bench->chunk,
                              .rank = worker,
                              .size = r->bench->workers,
                              .shared = r->shared[chunk]};
}

static inline size_t
gp_device_count(const gp_device_rig *r, size_t chunk)
{
    uint64_t at = chunk * r->bench->chunk;

    return (size_t)GP_MIN(r->bench->chunk, r->bench->count - at);
}

static inline uint8_t *
gp_device_message(const gp_device_rig *r, uint32_t worker, size_t chunk)
{
    return r->messages + (worker * r->chunks + chunk) * r->slot;
}

/* Worker 0's messages of a first step, with what the host makes of the same
 * numbers: adds the bytes, and messages, that are wrong. */
gp_status gp_device_compare(gp_device_rig *rig, uint64_t *wrong);
/* Numbers that are not those of the host's decoder, which is given the bytes of
 * the device. */
gp_status gp_device_compare_decoded(gp_device_rig *rig, const float *decoded,
                                    uint64_t *wrong);

#endif
