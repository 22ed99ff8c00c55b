/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.h - a parsed pipeline and what an encoder remembers.
 *
 * Stages stand in the order of the text. Their parts in it are found once, by
 * the parser: NULL for a part that is not there; `array` always is.
 */
#ifndef GP_PIPELINE_H
#define GP_PIPELINE_H

#include "compress/codec_internal.h"

typedef struct gp_stage {
    const gp_codec_ops *ops;
    void *instance;
    double values[GP_CODEC_PARAMS];
} gp_stage;

/* A run of byte stages. */
typedef struct gp_stage_run {
    const gp_stage *first;
    size_t count;
} gp_stage_run;

struct gp_pipeline {
    size_t count; /* of stages, at least 1 once parsed */
    gp_stage stages[GP_PIPELINE_STAGES];
    const gp_stage *memory, *zeros, *select, *transform, *array, *index;
    bool fake;
    gp_stage_run values, whole; /* byte stages on values and on messages */
    char *name;
    uint32_t id;
    uint32_t properties;
    uint32_t needs;
};

/* Canonical text of the stages, for free(); NULL when out of memory. */
char *gp_pipeline_print(const gp_pipeline *pipeline);

/* Finds the parts and what follows from them. */
void gp_pipeline_settle(gp_pipeline *pipeline);

/* Properties of a stage: of its instance, where parameters decide. */
uint32_t gp_stage_properties(const gp_stage *stage);

/* Whether errors may exceed what goes in, so that they would grow if they were
 * fed back. Biased codecs of that kind (votes) are fed back where asked for. */
bool gp_pipeline_overshoots(const gp_pipeline *pipeline);

/* Whether the array stage leaves less than it gets, in the sense of EF21. */
bool gp_array_contracts(const gp_pipeline *pipeline);

/* Whether a stage has a pass over the whole tensor. */
bool gp_stage_prepares(const gp_stage *stage);

extern const gp_codec_ops gp_codec_fake;

/* ---- memory.c -------------------------------------------------------- */

typedef enum gp_memory_kind {
    GP_MEMORY_NONE = 0, /* state of codecs alone */
    GP_MEMORY_EF = 1,
    GP_MEMORY_EF21 = 2,
    GP_MEMORY_MOMENTUM = 3
} gp_memory_kind;

extern const gp_codec_ops gp_codec_ef, gp_codec_ef21, gp_codec_momentum;

struct gp_codec_memory {
    gp_memory_kind kind;
    uint64_t origin;
    size_t count;
    float *sum; /* ef, momentum: the residual; ef21: what is being encoded */
    float *velocity; /* momentum */
    float *history;  /* ef21: what the receiver holds */
    float *state[2]; /* of the select and of the array stage */
    size_t states[2];
    void *prepared[2];
    double decay, factor, clip;
    bool nesterov, mask;
};

/* The elements that a context speaks of. */
size_t gp_memory_at(const gp_codec_memory *m, const gp_codec_context *context);
/* Whether gp_codec_memory_create() would make that field: "residual",
 * "velocity", "history", or "state" for what a codec itself remembers. */
bool gp_memory_will_have(const gp_pipeline *p, int feedback, const char *name);
/* Numbers that the selection, or the array stage, remembers of so many
 * elements: "selection_state" and "state". */
size_t gp_memory_states(const gp_pipeline *p, bool selection, size_t count);

/* Adds a gradient: afterwards m->sum + at holds what must be encoded. */
void gp_memory_add(gp_codec_memory *m, const gp_codec_context *context,
                   const float *source, size_t at, size_t count);

/* Afterwards: what was sent, densely. */
void gp_memory_sent(gp_codec_memory *m, size_t at, const float *decoded,
                    size_t count);

/* What was sent of a selection from `count` elements; only these are looked
 * at, unless one is not finite. */
void gp_memory_sent_some(gp_codec_memory *m, size_t at, size_t count,
                         const uint32_t *indices, const float *decoded,
                         size_t selected);

/* Where the parts of a workspace begin, and how large they are. */
typedef struct gp_layout {
    size_t most;       /* elements that the selection can keep, or count */
    size_t encoded;    /* bound of the values' message for `most` elements */
    size_t between[2]; /* buffers between byte stages of the values */
    size_t whole[2];   /* buffers between byte stages of the message */
    size_t turned;     /* fp32: after the transform */
    size_t dense[2];   /* fp32: for decoded or kept elements */
    size_t indices;    /* uint32_t: selected, then their values and decoded */
    size_t chosen, undone;
    size_t scratch;
    size_t total;
} gp_layout;

/* One call's view of its surroundings. */
typedef struct gp_work {
    const gp_pipeline *pipeline;
    gp_codec_context context; /* with scratch set */
    gp_layout layout;
    uint8_t *at; /* the workspace */
} gp_work;

/* ---- pipeline_message.c: what goes on the wire, but for `fake` --------- */

size_t gp_message_bound(const gp_pipeline *p, size_t count);
size_t gp_message_workspace(const gp_pipeline *pipeline, size_t count);
/* False: sizes overflow. */
bool gp_work_begin(gp_work *w, const gp_pipeline *p,
                   const gp_codec_context *context, size_t count,
                   void *workspace);
/* What stages that are asked next may see of a memory: 0 select, 1 array. */
void gp_work_show(gp_work *w, const gp_codec_memory *m, size_t which);
/* `u` is what a memory holds, or without one the elements. */
gp_status gp_message_encode(gp_work *w, gp_codec_memory *m, const float *u,
                            size_t count, void *out, size_t capacity,
                            size_t *length);
gp_status gp_message_decode(gp_work *w, const void *bytes, size_t length,
                            float *target, size_t count, bool add);

/* Where a device does what is before them: how many byte stages get a whole
 * message at the end of a pipeline, and these alone. The workspace is that of
 * the pipeline; *message lies in it. */
size_t gp_pipeline_tail(const gp_pipeline *pipeline);
gp_status gp_pipeline_pack(const gp_pipeline *pipeline,
                           const gp_codec_context *context, const void *message,
                           size_t size, size_t count, void *out,
                           size_t capacity, size_t *length, void *workspace);
gp_status gp_pipeline_unpack(const gp_pipeline *pipeline,
                             const gp_codec_context *context, const void *bytes,
                             size_t length, size_t count, const void **message,
                             size_t *size, void *workspace);

/* ---- pipeline_values.c ------------------------------------------------ */

/* Bound of transform, array and value stages for `count` elements. */
size_t gp_values_bound(const gp_pipeline *pipeline, size_t count);

/* Bound of a run of byte stages; SIZE_MAX when it overflows. */
size_t gp_run_bound(const gp_stage_run *run, size_t size);

/* @param decoded  not NULL: receives the elements as they will be decoded. */
gp_status gp_values_encode(gp_work *w, const float *source, size_t count,
                           void *out, size_t capacity, size_t *length,
                           float *decoded);
/* Error feedback in one pass, where the array stage offers it. */
gp_status gp_values_feedback(gp_work *w, const float *source, float *residual,
                             size_t count, void *out, size_t capacity,
                             size_t *length);
gp_status gp_values_decode(gp_work *w, const void *bytes, size_t length,
                           float *target, size_t count);
/* False when it cannot be done without a dense temporary. */
bool gp_values_add(gp_work *w, const void *bytes, size_t length, float *target,
                   size_t count, gp_status *status);

/* Packs through a run of byte stages, from `source` to `out`. The two buffers
 * are used in turn; `source` may lie in the first. */
gp_status gp_run_pack(const gp_stage_run *run, const gp_codec_context *context,
                      const void *source, size_t size, size_t unpacked_bound,
                      void *out, size_t capacity, size_t *length,
                      uint8_t *buffer[2]);
/* Undoes it; `*bytes` then lies in one of the buffers. Nothing is unpacked to
 * more than the bound that the packer started from. */
gp_status gp_run_unpack(const gp_stage_run *run,
                        const gp_codec_context *context, const void **bytes,
                        size_t *length, size_t unpacked_bound,
                        uint8_t *buffer[2]);

#endif
