/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - what the benchmarks share: message sizes, samples, the table and
 * the JSON document gradpush.bench/1.
 */
#ifndef GP_BENCH_H
#define GP_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "tool.h"

/* The options every benchmark has; keys of its own start at 300. */
#define GP_BENCH_OPTIONS                                                     \
    {"minbytes", 'b', "MIN", "smallest message (default 4K)"},               \
        {"maxbytes", 'e', "MAX", "largest message (default 64M)"},           \
        {"stepfactor", 'f', "FACTOR",                                        \
         "from one size to the next (default 4)"},                           \
        {"iters", 'n', "N",                                                  \
         "timed iterations (default: by size, 10 to 1000)"},                 \
        {"warmup", 'w', "N", "untimed iterations before (default 5)"},       \
        {"check", 'c', "0|1", "verify results (default 1)"},                 \
        {"min-bw", 256, "GBPS", "fail when the average of algbw is lower"},  \
    {                                                                        \
        "json", 'j', "FILE",                                                 \
            "write a JSON document; - is standard output, without the table" \
    }

#define GP_BENCH_SIZES_MAX 64

typedef struct gp_bench {
    uint64_t minimum, maximum, factor;
    uint32_t iterations, warmup; /* iterations 0: by size */
    bool check;
    double least; /* GB/s, 0: any */
    const char *json;

    uint64_t sizes[GP_BENCH_SIZES_MAX];
    uint32_t size_count;
} gp_bench;

#define GP_BENCH_INIT                                   \
    {                                                   \
        4096, 64u << 20, 4, 0, 5, true, 0, NULL, {0}, 0 \
    }

/* Handles a common option. False after saying what is wrong. */
bool gp_bench_apply(gp_bench *bench, int key, const char *value);

/* Fills `sizes`, each rounded down to a multiple of `unit`; an exit status. */
int gp_bench_prepare(gp_bench *bench, uint64_t unit);

/* Timed iterations for a size. */
uint32_t gp_bench_iterations(const gp_bench *bench, uint64_t bytes);

/* One row. Plain data: it is passed between processes in shared memory. */
typedef struct gp_bench_result {
    uint64_t bytes, iterations;
    double median_us, p99_us, min_us, max_us, mean_us;
    double algbw, busbw; /* GB/s */
    uint64_t wire_bytes, errors;
    uint64_t rows; /* of a call, of a benchmark of rows; 0: of another one */
    double rows_per_s, distinct;
} gp_bench_result;

/* Sorts the samples (microseconds, at least one) and takes their figures. */
void gp_bench_summarize(double *samples, uint32_t count,
                        gp_bench_result *result);

/* A small whole number for an element, a step and a rank: sums over ranks are
 * exact in every order, and in fp16 and bf16 too. */
static inline float
gp_bench_pattern(uint64_t index, uint64_t step, uint32_t rank)
{
    return (float)((index * 7 + step * 5 + rank * 3) % 16) - 8.0f;
}

/* The JSON document with "what" and "environment"; `config` receives the object
 * for the caller's options, after the common ones. NULL without --json. */
gp_json *gp_bench_document(const gp_bench *bench, const char *what,
                           gp_json **config);

/* Whether the table goes to standard output: not when the document does. */
bool gp_bench_table(const gp_bench *bench);

/* Closing lines, the document, and the exit status for the results. */
int gp_bench_finish(const gp_bench *bench, gp_json *document,
                    const gp_bench_result *results, uint32_t count);

#endif
