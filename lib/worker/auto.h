/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auto.h - codec=auto: measures what alternatives cost and what the link
 * carries, and takes the shortest.
 *
 * The first steps go dense and show the link's rate; then each tensor gets the
 * alternative with the shortest push by gp_policy_best(). The steps after are
 * watched: when they are slower than the dense ones were, everything goes back
 * to dense. From time to time the link is looked at again.
 *
 * All calls under the driver's hold. Nothing here allocates but auto_open().
 */
#ifndef GP_AUTO_H
#define GP_AUTO_H

#include <stdbool.h>
#include <stdint.h>

#include <gradpush/codec.h>
#include <gradpush/status.h>

#include "worker/policy.h"

/* A stretch of time in which requests were under way. */
typedef struct gp_busy {
    uint64_t since_ns;      /* 0: none is */
    uint64_t pushed, plain; /* counters at its beginning */
} gp_busy;

typedef enum gp_auto_phase {
    GP_AUTO_OFF = 0,
    GP_AUTO_DENSE, /* looks at the link */
    GP_AUTO_CHOSEN /* watches what was chosen */
} gp_auto_phase;

typedef struct gp_auto {
    gp_auto_phase phase;
    uint32_t periods; /* busy ones of this phase that counted */
    double rate;      /* bytes pushed per second, the best dense period */
    double dense_speed, chosen_speed; /* fp32 bytes per second, best period */
    gp_busy busy;
    bool coded;   /* something was chosen: the decision's to say */
    bool gave_up; /* what was chosen was slower */
} gp_auto;

/* What the busy period says, in counters of all pushes. */
typedef struct gp_auto_sample {
    uint64_t now_ns, pushed, plain;
} gp_auto_sample;

/* A busy period begins, or ends. */
void gp_auto_begin(gp_auto *a, const gp_auto_sample *s);

/* True when a decision is due: tensors are to choose again, by a->rate, or all
 * dense when it is 0. */
bool gp_auto_end(gp_auto *a, const gp_auto_sample *s);

/* How many elements are measured for a tensor of that many. */
uint64_t gp_auto_sized(uint64_t count);

/* Seconds and bytes per element, measured on this processor now: the best of a
 * few passes over at most 128 Ki elements of noise. */
gp_status gp_auto_measure(const gp_pipeline *pipeline, uint64_t count,
                          gp_cost *out);

#endif
