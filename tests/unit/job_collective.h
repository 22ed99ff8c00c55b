/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_collective.h - every collective with every shape, as the body of a job.
 */
#ifndef JOB_COLLECTIVE_H
#define JOB_COLLECTIVE_H

#include <gradpush/collective.h>

#include "job_harness.h"

/* A job's body: all operations, algorithms and counts, in place and not. With
 * job.data not NULL their memory is registered. */
void job_collectives(job *j, gp_worker *w, uint32_t rank);

/* Small whole numbers, and their sum over ranks. */
float job_pattern(uint64_t i, uint32_t rank);
float job_total(uint64_t i, uint32_t size);
void job_check_sum(const float *out, uint64_t count, uint32_t size,
                   const char *what);

/* Memory for `count` elements, registered if the thread's job says so. */
float *job_numbers(uint64_t count);
void job_give(float *p);

/* Waits for a request that must end well. */
void job_finish(gp_request **request);

#endif
