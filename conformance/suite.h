/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite.h - what the parts of the conformance suite share.
 *
 * Buffers are allocated at their exact size, so that an address sanitizer sees
 * every byte too many; without one, canaries behind them do. Encoded bytes lie
 * at odd addresses. A failed allocation jumps back to the entry.
 */
#ifndef GP_CONFORMANCE_SUITE_H
#define GP_CONFORMANCE_SUITE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/codec.h>
#include <gradpush/conformance.h>

#define GP_SUITE_STAGES 16
#define GP_SUITE_VALUES 16

/* NMSE that fp32 arithmetic may add, of a rotation and back for example. */
#define GP_SUITE_ROUNDING 1e-12

/* One stage of the canonical text. */
typedef struct gp_suite_stage {
    const gp_codec_ops *ops;
    double values[GP_SUITE_VALUES];
} gp_suite_stage;

typedef struct gp_suite {
    const char *text;
    gp_conformance_options options;
    void (*report)(void *user, const char *line);
    void *user;
    int failures;
    gp_pipeline *pipeline;
    gp_suite_stage stages[GP_SUITE_STAGES];
    size_t count;
    /* Those of the chain, or NULL. */
    const gp_codec_ops *memory, *zeros, *select, *transform, *array;
    bool fake, random; /* random: another step gives other bytes */
    void *blocks;      /* list of what is allocated */
    jmp_buf out;
} gp_suite;

typedef struct gp_suite_trial {
    size_t count, bound, length, room; /* room: bytes of workspace */
    gp_codec_context context;          /* of the last encode */
    uint8_t *bytes;                    /* `bound`, then canaries */
    float *decoded, *added;
    void *workspace;
} gp_suite_trial;

typedef struct gp_suite_input {
    const char *name;
    double (*element)(uint64_t i);
    bool ordinary; /* of magnitudes that a gradient may have, or 0 */
} gp_suite_input;

/* The first is normal; ten in all. */
enum { GP_SUITE_INPUTS = 10 };
extern const gp_suite_input gp_suite_inputs[GP_SUITE_INPUTS];

/* splitmix64 of a counter. */
uint64_t gp_suite_random(uint64_t counter);
/* In [-1, 1). */
float gp_suite_noise(uint64_t counter);
void gp_suite_fill(const gp_suite_input *in, float *out, size_t count);

void gp_suite_fail(gp_suite *s, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Memory that lives until gp_suite_free(), or the end of the suite. */
void *gp_suite_alloc(gp_suite *s, size_t size);
float *gp_suite_floats(gp_suite *s, size_t count); /* zeros */
void gp_suite_free(gp_suite *s, void *memory);

gp_suite_trial gp_suite_trial_make(gp_suite *s, size_t count);
void gp_suite_trial_free(gp_suite *s, gp_suite_trial *t);

/* With a memory, or without (then a fresh one serves where one must be). All
 * that comes before an encode is done too. */
gp_status gp_suite_trial_run(gp_suite *s, gp_suite_trial *t,
                             gp_codec_memory *memory, const float *x);
/* The same; a failure is one of the codec. */
bool gp_suite_trial_encode(gp_suite *s, gp_suite_trial *t,
                           gp_codec_memory *memory, const float *x,
                           uint64_t step);
bool gp_suite_trial_decode(gp_suite *s, gp_suite_trial *t);
bool gp_suite_trial_both(gp_suite *s, gp_suite_trial *t,
                         gp_codec_memory *memory, const float *x,
                         uint64_t step);

/* A memory under error feedback, and an array in it; NULL when none. */
gp_codec_memory *gp_suite_memory(gp_suite *s, const gp_pipeline *p, size_t n);
float *gp_suite_field(gp_codec_memory *memory, const char *name);

/* Bit for bit, NaN being equal to NaN. */
bool gp_suite_same(float a, float b);
/* Index of the first element that differs, or count. */
size_t gp_suite_differ(const float *a, const float *b, size_t count);

bool gp_suite_claims(const gp_suite *s, uint32_t property);
bool gp_suite_needs(const gp_suite *s, uint32_t need);

/* Finds stages and values in the canonical text. */
void gp_suite_read_stages(gp_suite *s);

/* The requirements. */
void gp_suite_check_inputs(gp_suite *s);
void gp_suite_check_feedback(gp_suite *s);
void gp_suite_check_random(gp_suite *s);
void gp_suite_check_sums(gp_suite *s);
void gp_suite_check_hostile(gp_suite *s);
void gp_suite_check_nonfinite(gp_suite *s);
void gp_suite_check_chain(gp_suite *s);
void gp_suite_check_same(gp_suite *s);

#endif
