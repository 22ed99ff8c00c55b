/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec.h - the parts of `gradpush bench codec`: what goes in, a rig that
 * runs a pipeline over all chunks of a tensor, and what is measured with it.
 */
#ifndef GP_BENCH_CODEC_H
#define GP_BENCH_CODEC_H

#include <pthread.h>

#include <gradpush/codec.h>

#include "base/base.h"
#include "bench.h"
#include "device/device.h"

#define GP_CODEC_TEXTS  256 /* pipelines in one run */
#define GP_CODEC_INPUTS 256 /* files in one run */

typedef struct gp_codec_bench {
    gp_bench common;
    bool sized;     /* -b or -e was given */
    uint64_t count; /* of elements; 0: by -b and -e, or the file's */
    uint64_t columns;
    const char *codecs[GP_CODEC_TEXTS];
    uint32_t codec_count;
    const char *inputs[GP_CODEC_INPUTS];
    uint32_t input_count;
    uint64_t chunk_bytes; /* 0: as the engine would */
    uint32_t threads, workers, trials;
    uint64_t seed;
    bool feedback;
    const char *device_name; /* as it was typed */
    gp_device *device;       /* NULL: the host */
    uint32_t steps;          /* under error feedback, before the timed ones */
    double link;             /* bit/s, 0: not given */
} gp_codec_bench;

/*
 * The numbers to compress. Rank r's gradient of step t is a window into one
 * long row of them, so that it costs no time to have many; with files it is
 * file t mod their number, for all ranks.
 */
typedef struct gp_codec_source {
    float *values;
    uint64_t count; /* of one window */
    uint64_t columns;
    uint64_t rank_stride, step_stride; /* in elements */
    uint32_t ranks, steps;
} gp_codec_source;

/* The most elements that the inputs have; UINT64_MAX for made ones. */
gp_status gp_codec_source_limit(const gp_codec_bench *bench, uint64_t *out);
gp_status gp_codec_source_create(const gp_codec_bench *bench, uint64_t count,
                                 gp_codec_source *out);
const float *gp_codec_source_at(const gp_codec_source *source, uint64_t step,
                                uint32_t rank);

/* One pipeline and one tensor: messages of all ranks, threads that share the
 * chunks between them. */
typedef struct gp_codec_rig gp_codec_rig;

/* What is done over all chunks; each is timed. */
typedef enum gp_codec_job {
    GP_JOB_COPY,       /* memcpy from the source to the target */
    GP_JOB_ENCODE,     /* rank 0: prepare, propose, encode */
    GP_JOB_DECODE,     /* rank 0's messages into the target */
    GP_JOB_DECODE_ADD, /* the same, added to it */
    GP_JOB_FOLD,       /* the messages of all ranks into the target */
    GP_JOB_AGGREGATE,  /* of all ranks into one message */
    GP_JOB_SEPARATE,   /* error feedback as four passes over the tensor */
    GP_JOB_CHUNKWISE,  /* the same, chunk by chunk */
    GP_JOBS
} gp_codec_job;

struct gp_codec_rig {
    const gp_codec_bench *bench;
    gp_pipeline *pipeline;
    gp_codec_memory *memory;
    uint64_t count, chunk, chunks; /* elements; elements; number */
    uint32_t ranks, threads;
    size_t slot;   /* bytes per message */
    size_t stride; /* from a rank's messages to those of the next */
    uint8_t *messages;
    uint8_t *sums; /* aggregated, one per chunk; NULL without */
    size_t *lengths, *sum_lengths;
    float *shared; /* per chunk */
    float *target;
    float *spare[3]; /* u, decoded and residual of unfused feedback, or NULL */
    void **workspaces;
    uint64_t seed, step;
    const float *source; /* of the job under way */
    uint32_t rank;
    /* The crew. Thread 0 is the caller. */
    pthread_t *crew;
    gp_status *status;
    pthread_mutex_t gate;
    pthread_barrier_t start, end;
    gp_codec_job job;
    bool running, over;
};

gp_status gp_codec_rig_create(const gp_codec_bench *bench, const char *text,
                              const gp_codec_source *source, gp_codec_rig *rig);
void gp_codec_rig_destroy(gp_codec_rig *rig);

/* Does a job; *seconds may be NULL. */
gp_status gp_codec_rig_run(gp_codec_rig *rig, gp_codec_job job,
                           const float *source, uint32_t rank, double *seconds);

/* Agrees on what must agree, then encodes the messages of all ranks. */
gp_status gp_codec_rig_fill(gp_codec_rig *rig, const gp_codec_source *source);

/* Part of a job, by one thread: chunks `from` to `to`. */
gp_status gp_codec_part(gp_codec_rig *rig, gp_codec_job job, uint32_t thread,
                        uint64_t from, uint64_t to);
gp_codec_context gp_codec_context_of(const gp_codec_rig *rig, uint32_t rank,
                                     uint64_t chunk);
uint64_t gp_codec_chunk_count(const gp_codec_rig *rig, uint64_t chunk);

/* Bytes of rank's messages, without headers. */
uint64_t gp_codec_payload(const gp_codec_rig *rig, uint32_t rank);

/* |a-b|^2, |a|^2, |b|^2 and a.b, as doubles. */
typedef struct gp_codec_distance {
    double error, a, b, dot;
} gp_codec_distance;
gp_codec_distance gp_codec_compare(const float *a, const float *b,
                                   uint64_t count);
double gp_codec_nmse(const gp_codec_distance *d);
double gp_codec_cosine(const gp_codec_distance *d);

typedef struct gp_codec_result {
    const char *codec;
    char name[256]; /* canonical */
    uint64_t bytes, count, chunk, chunks;
    uint32_t iterations;
    gp_bench_result times[GP_JOBS]; /* iterations 0: not measured */
    double bits, payload_bits;      /* per element */
    double nmse, nmse_least, nmse_most, bound, cosine;
    double mean_nmse; /* of the mean over trials */
    double density;   /* share of elements that do not decode to 0 */
    uint32_t trials;
    double average_nmse, average_cosine; /* of the sum of all ranks */
    double residual;                     /* |e|/|g|; NaN without */
    uint64_t memory_bytes;
    uint64_t errors;
    const char *wrong; /* what was the first error; NULL: none */
} gp_codec_result;

/* Everything about one pipeline and one input. */
gp_status gp_codec_measure(const gp_codec_bench *bench, const char *text,
                           const gp_codec_source *source,
                           gp_codec_result *result);

/* The same on bench->device. */
gp_status gp_codec_measure_device(const gp_codec_bench *bench, const char *text,
                                  const gp_codec_source *source,
                                  gp_codec_result *result);

/* Accuracy and verification; `rig` holds the messages of all ranks. */
gp_status gp_codec_judge(gp_codec_rig *rig, const gp_codec_source *source,
                         gp_codec_result *result);
/* Steps under error feedback: leaves the memory in its steady state. */
gp_status gp_codec_settle(gp_codec_rig *rig, const gp_codec_source *source,
                          gp_codec_result *result);

/* GB/s of fp32: all that a job took in or gave. */
double gp_codec_rate(const gp_codec_result *result, gp_codec_job job,
                     uint32_t workers);
/* Bytes read and written by a job. */
double gp_codec_moved(const gp_codec_result *result, gp_codec_job job,
                      uint32_t workers);
/* Those per second, as a part of what memcpy moves; from the least times, which
 * a busy machine disturbs least. */
double gp_codec_share(const gp_codec_result *result, gp_codec_job job,
                      uint32_t workers);

/* Rows, and objects in the document. */
void gp_codec_print_header(const gp_codec_bench *bench);
void gp_codec_print_row(const gp_codec_bench *bench, const gp_codec_result *r);
void gp_codec_add_result(const gp_codec_bench *bench, gp_json *list,
                         const gp_codec_result *r);

#endif
