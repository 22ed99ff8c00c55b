/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer_cuda.h - how long work on a stream of a CUDA device took, by its own
 * clock.
 */
#ifndef GP_TIMER_CUDA_H
#define GP_TIMER_CUDA_H

#include "device/device.h"

typedef struct gp_cuda_timer gp_cuda_timer;

/* GP_ERR_UNSUPPORTED for devices of another kind. */
gp_status gp_cuda_timer_create(gp_device *device, gp_cuda_timer **out);
void gp_cuda_timer_destroy(gp_cuda_timer *timer); /* NULL is fine */

/* Places in a stream. */
gp_status gp_cuda_timer_start(gp_cuda_timer *timer, void *stream);
gp_status gp_cuda_timer_stop(gp_cuda_timer *timer, void *stream);

/* Between the two, once both are done. */
gp_status gp_cuda_timer_read(gp_cuda_timer *timer, double *microseconds);

#endif
