/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rows_member.c - what one worker of a benchmark of rows does.
 *
 * Everybody's indices follow from rank and turn, so each worker can say what a
 * step must have changed: a row that it pulls before and after a step differs
 * by the mean of what all have pushed of it. Gradients are small whole numbers.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/codec.h>

#include "base/base.h"
#include "bench_rows.h"

#define TRIAL_ROWS 64u
#define GRADIENT   8.0 /* the largest magnitude of the pattern */

typedef struct rig {
    gp_rows_bench *bench;
    gp_worker *worker;
    gp_rows *table[GP_BENCH_SIZES_MAX];
    uint32_t rank;
    uint64_t most;                 /* rows of a call */
    uint64_t *index[GP_ROWS_SETS]; /* of each turn */
    uint64_t *others;              /* sorted, of one rank */
    float *grad, *out, *before;
    double *samples, push_loss, pull_loss;
} rig;

/* The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t
mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Bounded power law by its inverse; 1 is a case of its own. */
static uint64_t
draw(uint64_t rows, double exponent, double u)
{
    double n = (double)rows, at;

    if (exponent <= 0)
        at = u * n;
    else if (fabs(exponent - 1) < 1e-9)
        at = exp(u * log(n + 1)) - 1;
    else
        at =
            pow(1 + u * (pow(n + 1, 1 - exponent) - 1), 1 / (1 - exponent)) - 1;
    return GP_MIN((uint64_t)(at > 0 ? at : 0), rows - 1);
}

void
gp_rows_bench_indices(const gp_rows_bench *bench, uint32_t rank, uint32_t set,
                      uint64_t count, uint64_t *out)
{
    uint64_t seed = mix((uint64_t)rank << 32 | set);

    for (uint64_t i = 0; i < count; i++)
        out[i] = draw((uint64_t)bench->rows, bench->zipf,
                      (double)(mix(seed + i) >> 11) * 0x1p-53);
}

/* What a pipeline does to rows of irregular numbers; 0 with none. */
static gp_status
try_rows(const gp_pipeline *pipeline, uint32_t width, const float *in,
         uint8_t *bytes, float *back, void *workspace, double *loss)
{
    gp_codec_context context = {.rank = 0};
    size_t length, bound = gp_pipeline_bound(pipeline, width);
    gp_status status = GP_OK;

    for (uint32_t r = 0; r < TRIAL_ROWS && status == GP_OK; r++) {
        const float *row = in + (size_t)r * width;
        double largest = 1e-30, worst = 0;

        status = gp_pipeline_encode(pipeline, &context, NULL, row, width, bytes,
                                    bound, &length, workspace);
        if (status == GP_OK)
            status = gp_pipeline_decode(pipeline, &context, bytes, length, back,
                                        width, workspace);
        for (uint32_t i = 0; i < width && status == GP_OK; i++) {
            largest = fmax(largest, fabs((double)row[i]));
            worst = fmax(worst, fabs((double)row[i] - (double)back[i]));
        }
        *loss = fmax(*loss, worst / largest);
    }
    return status;
}

static gp_status
try_pipeline(const gp_pipeline *pipeline, uint32_t width, double *loss)
{
    size_t numbers = (size_t)TRIAL_ROWS * width;
    float *in = malloc(numbers * sizeof(float));
    float *back = malloc(width * sizeof(float));
    uint8_t *bytes = malloc(gp_pipeline_bound(pipeline, width));
    void *workspace = malloc(gp_pipeline_workspace(pipeline, width) + 1);
    gp_status status;

    for (size_t i = 0; in && i < numbers; i++)
        in[i] = (float)((double)(mix(i) >> 11) * 0x1p-52 - 1);
    status = in && back && bytes && workspace
                 ? try_rows(pipeline, width, in, bytes, back, workspace, loss)
                 : gp_fail(GP_ERR_NO_MEMORY, "no memory to try a pipeline");
    free(in);
    free(back);
    free(bytes);
    free(workspace);
    return status;
}

/* Those that look at more than a row are refused here already. */
static gp_status
try_codec(const char *text, uint32_t width, double *loss)
{
    gp_pipeline *pipeline = NULL;
    gp_status status = gp_pipeline_parse(text, &pipeline);

    *loss = 0;
    if (status != GP_OK)
        return status;
    if (!(gp_pipeline_properties(pipeline) & GP_CODEC_FIXED_RATE) ||
        gp_pipeline_needs(pipeline) &
            (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES | GP_PIPELINE_SELECTS))
        status = gp_fail(GP_ERR_CONFIG,
                         "codec '%.100s': rows travel one by one, through "
                         "none, fp16, bf16, q8 or their like",
                         text);
    else
        status = try_pipeline(pipeline, width, loss);
    gp_pipeline_destroy(pipeline);
    return status;
}

gp_status
gp_rows_bench_losses(const gp_rows_bench *bench, double *push, double *pull)
{
    gp_status status = try_codec(bench->codec, (uint32_t)bench->dim, push);

    return status == GP_OK
               ? try_codec(bench->pull_codec, (uint32_t)bench->dim, pull)
               : status;
}

uint32_t
gp_rows_bench_iterations(const gp_rows_bench *bench)
{
    return GP_MAX(bench->common.warmup,
                  gp_bench_iterations(&bench->common, bench->common.sizes[0]));
}

static uint64_t
rows_of(const rig *r, uint32_t size)
{
    uint64_t row = (uint64_t)r->bench->dim * sizeof(float);

    return r->bench->common.sizes[size] / row;
}

static int
compare(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static void
sort(uint64_t *index, uint64_t count)
{
    qsort(index, count, sizeof(*index), compare);
}

/* How often a row is among sorted ones. */
static uint64_t
occurrences(const uint64_t *index, uint64_t count, uint64_t row)
{
    uint64_t low = 0, high = count, first;

    while (low < high) {
        uint64_t middle = (low + high) / 2;

        if (index[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    for (first = low; low < count && index[low] == row; low++)
        ;
    return low - first;
}

static float
gradient(uint64_t row, uint64_t column, uint32_t rank)
{
    return gp_bench_pattern(row + column, 0, rank);
}

/* Turn 0 of all: what each of this worker's rows must lose, and how often it
 * is pushed. */
static void
expect(const rig *r, uint64_t count, float *sum, uint64_t *pushes)
{
    uint64_t dim = (uint64_t)r->bench->dim;

    memset(sum, 0, count * dim * sizeof(*sum));
    memset(pushes, 0, count * sizeof(*pushes));
    for (uint32_t rank = 0; rank < (uint32_t)r->bench->crew.workers; rank++) {
        gp_rows_bench_indices(r->bench, rank, 0, count, r->others);
        sort(r->others, count);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t row = r->index[0][i];
            uint64_t times = occurrences(r->others, count, row);

            pushes[i] += times;
            for (uint64_t c = 0; times && c < dim; c++)
                sum[i * dim + c] += (float)times * gradient(row, c, rank);
        }
    }
}

static double
largest_of(const float *row, uint64_t dim)
{
    double largest = 0;

    for (uint64_t i = 0; i < dim; i++)
        largest = fmax(largest, fabs((double)row[i]));
    return largest;
}

/* Numbers of a row that are not what the step must have made of them. */
static uint64_t
wrong_in_row(const rig *r, uint64_t i, const float *sum, uint64_t pushes)
{
    uint64_t dim = (uint64_t)r->bench->dim, wrong = 0;
    const float *before = r->before + i * dim, *after = r->out + i * dim;
    double workers = (double)r->bench->crew.workers;
    double size = largest_of(before, dim) + largest_of(after, dim);
    double may = size * (1e-5 + 2 * r->pull_loss) +
                 2 * r->push_loss * (double)pushes * GRADIENT / workers + 1e-5;

    for (uint64_t c = 0; c < dim; c++) {
        double change = (double)after[c] - (double)before[c];

        /* Not "greater", so that NaN is wrong too. */
        wrong += !(fabs(change + (double)sum[i * dim + c] / workers) <= may);
    }
    return wrong;
}

static gp_status
check(const rig *r, uint64_t count, uint64_t *errors)
{
    float *sum = malloc(count * (uint64_t)r->bench->dim * sizeof(*sum));
    uint64_t *pushes = malloc(count * sizeof(*pushes));
    gp_status status = sum && pushes ? GP_OK
                                     : gp_fail(GP_ERR_NO_MEMORY,
                                               "no memory to verify %llu rows",
                                               (unsigned long long)count);

    if (status == GP_OK)
        expect(r, count, sum, pushes);
    for (uint64_t i = 0; i < count && status == GP_OK; i++)
        *errors += wrong_in_row(r, i, sum, pushes[i]);
    free(sum);
    free(pushes);
    return status;
}

static gp_status
wait_for(gp_status status, gp_request **request)
{
    return status == GP_OK ? gp_wait(request, -1) : status;
}

static gp_status
push_pull(const rig *r, uint32_t size, uint32_t push, uint32_t pull)
{
    uint64_t count = rows_of(r, size);
    gp_request *request = NULL;

    return wait_for(gp_push_pull_rows(r->table[size], count, r->index[push],
                                      r->grad, count, r->index[pull], r->out,
                                      &request),
                    &request);
}

/* An untimed step of which every number is checked. */
static gp_status
run_checked(const rig *r, uint32_t size, uint64_t *errors, uint64_t *wire)
{
    uint64_t count = rows_of(r, size);
    gp_stats before, after;
    gp_request *request = NULL;
    gp_status status;

    status = wait_for(
        gp_pull_rows(r->table[size], count, r->index[0], r->before, &request),
        &request);
    if (status != GP_OK)
        return status;
    gp_worker_stats(r->worker, &before);
    status = push_pull(r, size, 0, 0);
    if (status != GP_OK)
        return status;
    gp_worker_stats(r->worker, &after);
    *wire = after.bytes_pushed - before.bytes_pushed + after.bytes_pulled -
            before.bytes_pulled;
    return r->bench->common.check ? check(r, count, errors) : GP_OK;
}

static gp_status
run_iterations(const rig *r, uint32_t size, uint32_t iterations)
{
    size_t row = gp_rows_bench_iterations(r->bench);
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < iterations && status == GP_OK; i++) {
        gp_crew_stamp *stamp = &r->bench->shared->stamps[r->rank * row + i];

        status = gp_barrier(r->worker);
        stamp->start = gp_clock_ns();
        if (status == GP_OK)
            status =
                push_pull(r, size, i % GP_ROWS_SETS, (i + 1) % GP_ROWS_SETS);
        stamp->end = gp_clock_ns();
    }
    return status;
}

static void
print_row(const gp_bench_result *b)
{
    printf("%12llu %13llu %11llu %9.1f %9.1f %9.1f %8.3f %10.0f %9.1f %11llu "
           "%7llu\n",
           (unsigned long long)b->bytes, (unsigned long long)b->rows,
           (unsigned long long)b->iterations, b->median_us, b->p99_us,
           b->min_us, b->algbw, b->rows_per_s, 100 * b->distinct,
           (unsigned long long)b->wire_bytes, (unsigned long long)b->errors);
    fflush(stdout);
}

static double
distinct_share(const rig *r, uint64_t count)
{
    uint64_t distinct = count > 0;

    memcpy(r->others, r->index[0], count * sizeof(*r->others));
    sort(r->others, count);
    for (uint64_t i = 1; i < count; i++)
        distinct += r->others[i] != r->others[i - 1];
    return (double)distinct / (double)count;
}

/* On rank 0, after a barrier that all ranks reach with their errors counted. */
static void
report(const rig *r, uint32_t size, uint32_t iterations, uint64_t wire)
{
    gp_bench_result *b = &r->bench->shared->results[size];

    for (uint32_t i = 0; i < iterations; i++)
        r->samples[i] = gp_crew_time(&r->bench->crew, r->bench->shared->stamps,
                                     gp_rows_bench_iterations(r->bench), i);
    gp_bench_summarize(r->samples, iterations, b);
    b->bytes = r->bench->common.sizes[size];
    b->rows = rows_of(r, size);
    b->distinct = distinct_share(r, b->rows);
    b->iterations = iterations;
    b->wire_bytes = wire;
    b->algbw = (double)b->bytes / b->median_us / 1e3;
    b->busbw = b->algbw;
    b->rows_per_s =
        (double)r->bench->crew.workers * (double)b->rows / b->median_us * 1e6;
    b->errors = atomic_load(&r->bench->shared->errors[size]);
    if (gp_bench_table(&r->bench->common))
        print_row(b);
}

static void
prepare(const rig *r, uint64_t count)
{
    uint64_t dim = (uint64_t)r->bench->dim;

    for (uint32_t s = 0; s < GP_ROWS_SETS; s++)
        gp_rows_bench_indices(r->bench, r->rank, s, count, r->index[s]);
    for (uint64_t i = 0; i < count; i++)
        for (uint64_t c = 0; c < dim; c++)
            r->grad[i * dim + c] = gradient(r->index[0][i], c, r->rank);
}

static gp_status
measure_size(const rig *r, uint32_t size)
{
    const gp_bench *common = &r->bench->common;
    uint32_t iterations = gp_bench_iterations(common, common->sizes[size]);
    uint64_t errors = 0, wire = 0;
    gp_status status;

    prepare(r, rows_of(r, size));
    status = run_iterations(r, size, common->warmup);
    if (status == GP_OK)
        status = run_iterations(r, size, iterations);
    if (status == GP_OK)
        status = run_checked(r, size, &errors, &wire);
    if (status != GP_OK)
        return status;
    atomic_fetch_add(&r->bench->shared->errors[size], errors);
    status = gp_barrier(r->worker);
    if (status == GP_OK && r->rank == 0)
        report(r, size, iterations, wire);
    return status;
}

static gp_status
register_tables(rig *r)
{
    const gp_bench *common = &r->bench->common;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < common->size_count && status == GP_OK; i++) {
        gp_rows_options o = GP_ROWS_INIT;
        char name[48];

        snprintf(name, sizeof(name), "bench-%llu",
                 (unsigned long long)common->sizes[i]);
        o.name = name;
        o.rows = (uint64_t)r->bench->rows;
        o.width = (uint32_t)r->bench->dim;
        o.batch = (uint32_t)rows_of(r, i);
        o.updater = r->bench->updater;
        o.codec = r->bench->codec;
        o.pull_codec = r->bench->pull_codec;
        o.mode = "sync";
        status = gp_rows_register(r->worker, &o, &r->table[i]);
    }
    return status == GP_OK ? gp_worker_ready(r->worker) : status;
}

static gp_status
allocate(rig *r)
{
    uint64_t numbers;
    bool there = true;

    r->most = rows_of(r, r->bench->common.size_count - 1);
    numbers = r->most * (uint64_t)r->bench->dim;
    for (uint32_t s = 0; s < GP_ROWS_SETS; s++) {
        r->index[s] = malloc(r->most * sizeof(*r->index[s]));
        there = there && r->index[s];
    }
    r->others = malloc(r->most * sizeof(*r->others));
    r->grad = calloc(numbers, sizeof(float));
    r->out = calloc(numbers, sizeof(float));
    r->before = calloc(numbers, sizeof(float));
    r->samples =
        calloc(gp_rows_bench_iterations(r->bench), sizeof(*r->samples));
    if (there && r->others && r->grad && r->out && r->before && r->samples)
        return GP_OK;
    return gp_fail(GP_ERR_NO_MEMORY, "no memory for calls of %llu rows",
                   (unsigned long long)r->most);
}

static void
let_go(rig *r)
{
    for (uint32_t s = 0; s < GP_ROWS_SETS; s++)
        free(r->index[s]);
    free(r->others);
    free(r->grad);
    free(r->out);
    free(r->before);
    free(r->samples);
}

gp_status
gp_rows_bench_worker(gp_rows_bench *bench, uint32_t rank)
{
    rig r = {.bench = bench, .rank = rank};
    gp_config *config = NULL;
    gp_status status = gp_crew_config(&bench->crew, rank, NULL, 0, &config);

    if (status == GP_OK)
        status = gp_rows_bench_losses(bench, &r.push_loss, &r.pull_loss);
    if (status == GP_OK)
        status = allocate(&r);
    if (status == GP_OK)
        status = gp_worker_create(config, &r.worker);
    if (status == GP_OK)
        status = register_tables(&r);
    for (uint32_t i = 0; i < bench->common.size_count && status == GP_OK; i++)
        status = measure_size(&r, i);
    gp_worker_destroy(r.worker);
    gp_config_destroy(config);
    let_go(&r);
    return status;
}
