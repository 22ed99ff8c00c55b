/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_reference.h - what a synchronous job must compute, as plain loops over
 * whole tensors: no chunks, no shards, no messages.
 */
#ifndef JOB_REFERENCE_H
#define JOB_REFERENCE_H

#include <gradpush/gradpush.h>

#include "job_harness.h"

typedef struct reference_tensor {
    const char *name;
    gp_dtype dtype;
    uint64_t count;
    const char *codec, *pull_codec; /* NULL: none */
    const char *updater;
    int feedback; /* as in gp_tensor_options */
} reference_tensor;

typedef struct reference reference;

/* Computes `steps` steps of every tensor; parameters start as what
 * reference_initial() gives. */
reference *reference_make(const reference_tensor *tensors, uint32_t count,
                          uint32_t workers, uint32_t steps);
void reference_free(reference *r);

/* Bytes of one tensor in its own type. */
uint64_t reference_bytes(const reference_tensor *t);

/* What a rank pushes in a step, and the initial values of an sgd tensor, in
 * the tensor's type. */
void reference_gradient(const reference_tensor *t, uint32_t index,
                        uint32_t rank, uint64_t step, void *out);
void reference_initial(const reference_tensor *t, uint32_t index, void *out);

/* What every worker receives in a step. */
const void *reference_result(const reference *r, uint32_t tensor,
                             uint32_t step);

/* Registers it with a worker. */
gp_tensor *reference_register(gp_worker *w, const reference_tensor *t);

/* A job's `data` for the body below: every step of every tensor, by all
 * workers, each in an order of its own; what comes back must be the bytes of
 * `expected`. */
#define REFERENCE_TENSORS 8
typedef struct reference_plan {
    const reference_tensor *tensors;
    uint32_t count; /* at most REFERENCE_TENSORS */
    uint32_t steps;
    reference *expected;
} reference_plan;
void reference_body(job *j, gp_worker *w, uint32_t rank);

/* Runs the job, whose body and data it sets; fails the test when a worker was
 * not created or a server ended badly. */
void reference_run(job *j, reference_plan *p);

#endif
