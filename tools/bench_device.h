/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_device.h - what a pipeline does on a device: times by its own clock.
 */
#ifndef GP_BENCH_DEVICE_H
#define GP_BENCH_DEVICE_H

#include <gradpush/codec.h>

#include "device/device.h"

/* In the order of the first ones of gp_codec_job. */
typedef enum gp_device_job {
    GP_DEVICE_COPY, /* within the device: elements to elements */
    GP_DEVICE_ENCODE,
    GP_DEVICE_DECODE,
    GP_DEVICE_DECODE_ADD,
    GP_DEVICE_FOLD,
    GP_DEVICE_JOBS
} gp_device_job;

typedef struct gp_device_bench {
    gp_device *device;
    const gp_pipeline *pipeline;
    const float *values; /* `count` of them */
    uint64_t count, chunk;
    uint32_t workers, iterations, warmup;
    uint64_t seed;
    /* Of the device's memory that is gone through before any of it is used
     * again; more than its caches hold. */
    uint64_t fresh_bytes;
    bool feedback;
    bool check; /* compare with the pipeline on the host */
} gp_device_bench;

typedef struct gp_device_figures {
    double *samples[GP_DEVICE_JOBS]; /* microseconds; NULL: it cannot */
    uint64_t payload;                /* bytes of one worker's messages */
    uint64_t memory_bytes;           /* that an encoder remembers */
    bool remembers;                  /* residuals among them */
    uint64_t wrong; /* bytes that are not those of the host, or messages */
    float *decoded; /* `count` of them; NULL: it cannot */
} gp_device_figures;

gp_status gp_bench_device(const gp_device_bench *bench, gp_device_figures *out);
void gp_device_figures_destroy(gp_device_figures *figures);

#endif
