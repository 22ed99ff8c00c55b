/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_collective_run.c - one worker of a benchmark of collectives.
 *
 * Every worker fills its input with small whole numbers, so sums are exact in
 * every order and in half types. The first, middle and last element change with
 * every iteration and are checked after it; all are checked in an iteration of
 * their own. Where input and output are the same memory, the input is put back
 * before every iteration, outside the time.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_collective.h"

#define MARKS    3
#define NO_VALUE 30000.0f /* that no pattern, nor a sum of patterns, has */

typedef struct rig {
    gp_collective_bench *bench;
    gp_worker *worker;
    gp_group *group[GP_COLLECTIVE_ALGORITHMS];
    uint8_t *memory, *in, *out;
    double *samples;
    uint32_t rank, size;
    size_t unit;
} rig;

/* Bytes of input and output for a size, as nccl-tests counts. */
static uint64_t
in_bytes(const rig *r, uint64_t bytes)
{
    return r->bench->what == WHAT_ALLGATHER ? bytes / r->size : bytes;
}

static uint64_t
out_bytes(const rig *r, uint64_t bytes)
{
    return r->bench->what == WHAT_REDUCESCATTER ? bytes / r->size : bytes;
}

static uint64_t
in_count(const rig *r, uint64_t bytes)
{
    return in_bytes(r, bytes) / r->unit;
}

/* Of the benchmark's whole numbers, which all types hold exactly. */
static uint16_t
to_half(float value)
{
    int exponent;
    double mantissa = frexp(fabs((double)value), &exponent);
    uint16_t sign = value < 0 ? 0x8000 : 0;

    if (value == 0)
        return 0;
    return (uint16_t)(sign | (exponent + 14) << 10 |
                      ((int)(mantissa * 2048) - 1024));
}

static float
from_half(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent == 31 ? (double)NAN
                   : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                  : ldexp(mantissa, -24);

    return (float)(half & 0x8000 ? -value : value);
}

static void
store(const rig *r, uint8_t *to, uint64_t index, float value)
{
    uint32_t bits;
    uint16_t half = to_half(value);

    memcpy(&bits, &value, sizeof(bits));
    if (r->bench->dtype == GP_BF16)
        half = (uint16_t)(bits >> 16);
    if (r->bench->dtype == GP_FP32)
        memcpy(to + index * r->unit, &value, sizeof(value));
    else
        memcpy(to + index * r->unit, &half, sizeof(half));
}

static float
fetch(const rig *r, const uint8_t *from, uint64_t index)
{
    uint16_t half = 0;
    uint32_t bits;
    float value;

    if (r->bench->dtype == GP_FP32) {
        memcpy(&value, from + index * r->unit, sizeof(value));
        return value;
    }
    memcpy(&half, from + index * r->unit, sizeof(half));
    if (r->bench->dtype == GP_FP16)
        return from_half(half);
    bits = (uint32_t)half << 16;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static double
reduced(const rig *r, uint64_t index, uint64_t step)
{
    gp_reduction op = r->bench->reduction;
    double value = (double)gp_bench_pattern(index, step, 0);

    for (uint32_t rank = 1; rank < r->size; rank++) {
        double other = (double)gp_bench_pattern(index, step, rank);

        if (op == GP_LARGEST)
            value = fmax(value, other);
        else if (op == GP_SMALLEST)
            value = fmin(value, other);
        else
            value += other;
    }
    return op == GP_MEAN ? value * (double)(1.0f / (float)r->size) : value;
}

/* What element `index` of the output of a step must be; marks are elements of
 * the inputs that change with the step. */
static double
expected(const rig *r, uint64_t bytes, uint64_t index, uint64_t step)
{
    uint64_t part = bytes / r->unit / r->size;

    switch (r->bench->what) {
    case WHAT_ALLREDUCE:
        return reduced(r, index, step);
    case WHAT_REDUCESCATTER:
        return reduced(r, r->rank * part + index, step);
    case WHAT_ALLGATHER:
        return (double)gp_bench_pattern(index % part, step,
                                        (uint32_t)(index / part));
    case WHAT_BROADCAST:
        return (double)gp_bench_pattern(index, step, (uint32_t)r->bench->root);
    default:
        return (double)gp_bench_pattern(r->rank * part + index % part, step,
                                        (uint32_t)(index / part));
    }
}

static bool
is_wrong(const rig *r, uint64_t bytes, uint64_t index, uint64_t step)
{
    double want = expected(r, bytes, index, step);
    double got = (double)fetch(r, r->out, index);
    double slack = r->bench->reduction == GP_MEAN ? 0.01 * fabs(want) : 0;

    if (strcmp(r->bench->codec, "none") != 0)
        slack = r->bench->selects ? DBL_MAX : 16.0 * r->size;
    return !(fabs(got - want) <= slack); /* NaN is wrong too */
}

static void
fill(const rig *r, uint64_t bytes, uint64_t step)
{
    for (uint64_t i = 0; i < in_count(r, bytes); i++)
        store(r, r->in, i, gp_bench_pattern(i, step, r->rank));
}

/* What an operation before has left must not pass for its result. */
static void
spoil(const rig *r, uint64_t first, uint64_t end, uint64_t by)
{
    for (uint64_t i = first; i < end && r->in != r->out; i += by)
        store(r, r->out, i, NO_VALUE);
}

/* All of the input changes with the step where it is small or was overwritten;
 * else the elements that are looked at. */
static void
prepare(const rig *r, uint64_t bytes, uint64_t step)
{
    uint64_t count = in_count(r, bytes);
    uint64_t marks[MARKS] = {0, count / 2, count - 1};
    uint64_t results = out_bytes(r, bytes) / r->unit;

    spoil(r, 0, results, GP_MAX(results / 2, 1u));
    spoil(r, results - 1, results, 1);
    if (r->in == r->out || r->bench->what != WHAT_ALLREDUCE) {
        if (r->in == r->out || step == 0)
            fill(r, bytes, 0);
        return;
    }
    for (size_t i = 0; i < MARKS; i++)
        store(r, r->in, marks[i], gp_bench_pattern(marks[i], step, r->rank));
}

static uint64_t
check_marks(const rig *r, uint64_t bytes, uint64_t step)
{
    uint64_t count = out_bytes(r, bytes) / r->unit, wrong = 0;
    uint64_t marks[MARKS] = {0, count / 2, count - 1};

    if (r->in == r->out || r->bench->what != WHAT_ALLREDUCE)
        step = 0;
    for (size_t i = 0; i < MARKS && r->bench->common.check; i++)
        wrong += is_wrong(r, bytes, marks[i], step);
    return wrong;
}

static gp_status
call(const rig *r, gp_group *g, uint64_t bytes, gp_request **request)
{
    const gp_collective_bench *b = r->bench;

    switch (b->what) {
    case WHAT_ALLREDUCE:
        return gp_allreduce(g, r->in, r->out, bytes / r->unit, b->dtype,
                            b->reduction, request);
    case WHAT_REDUCESCATTER:
        return gp_reduce_scatter(g, r->in, r->out, bytes / r->unit / r->size,
                                 b->dtype, b->reduction, request);
    case WHAT_ALLGATHER:
        return gp_allgather(g, r->in, r->out, bytes / r->size, request);
    case WHAT_BROADCAST:
        return gp_bcast(g, r->out, bytes, (uint32_t)b->root, request);
    default:
        return gp_alltoall(g, r->in, r->out, bytes / r->size, request);
    }
}

static gp_status
operate(const rig *r, gp_group *g, uint64_t bytes, gp_crew_stamp *stamp)
{
    gp_request *request = NULL;
    gp_status status;

    stamp->start = gp_clock_ns();
    status = call(r, g, bytes, &request);
    if (status == GP_OK)
        status = gp_wait(&request, -1);
    stamp->end = gp_clock_ns();
    return status;
}

uint32_t
gp_collective_bench_iterations(const gp_collective_bench *bench)
{
    return GP_MAX(bench->common.warmup,
                  gp_bench_iterations(&bench->common, bench->common.sizes[0]));
}

static gp_crew_stamp *
stamp_of(const rig *r, uint32_t iteration)
{
    size_t row = gp_collective_bench_iterations(r->bench);

    return &r->bench->shared->stamps[r->rank * row + iteration];
}

static gp_status
run_iterations(const rig *r, gp_group *g, uint64_t bytes, uint32_t iterations,
               uint64_t *errors)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < iterations && status == GP_OK; i++) {
        prepare(r, bytes, i);
        status = gp_group_barrier(g);
        if (status == GP_OK)
            status = operate(r, g, bytes, stamp_of(r, i));
        if (status == GP_OK)
            *errors += check_marks(r, bytes, i);
    }
    return status;
}

static gp_status
run_checked(const rig *r, gp_group *g, uint64_t bytes, uint64_t *errors,
            uint64_t *wire)
{
    uint64_t count = out_bytes(r, bytes) / r->unit;
    gp_crew_stamp ignored;
    gp_stats before, after;
    gp_status status;

    fill(r, bytes, 0);
    spoil(r, 0, count, 1);
    gp_worker_stats(r->worker, &before);
    status = operate(r, g, bytes, &ignored);
    gp_worker_stats(r->worker, &after);
    *wire = after.bytes_pushed - before.bytes_pushed;
    for (uint64_t i = 0; i < count && r->bench->common.check; i++)
        *errors += is_wrong(r, bytes, i, 0);
    return status;
}

static double
bus_factor(const rig *r)
{
    double n = r->size;

    if (r->bench->what == WHAT_ALLREDUCE)
        return 2 * (n - 1) / n;
    return r->bench->what == WHAT_BROADCAST ? 1 : (n - 1) / n;
}

static void
print_row(const rig *r, const gp_bench_result *row, const char *algorithm)
{
    const gp_collective_bench *b = r->bench;
    bool reduces = b->what == WHAT_ALLREDUCE || b->what == WHAT_REDUCESCATTER;

    printf("%12llu %13llu %9s %7s %7lld %10s %9.1f %9.1f %9.1f %7.3f %7.3f "
           "%11llu %7llu\n",
           (unsigned long long)row->bytes,
           (unsigned long long)(row->bytes / r->unit), b->dtype_name,
           reduces ? b->reduction_name : "none",
           b->what == WHAT_BROADCAST ? (long long)b->root : -1ll, algorithm,
           row->median_us, row->p99_us, row->min_us, row->algbw, row->busbw,
           (unsigned long long)row->wire_bytes,
           (unsigned long long)row->errors);
    fflush(stdout);
}

/* On rank 0. */
static void
report(const rig *r, uint64_t bytes, uint32_t row, uint32_t iterations,
       uint64_t wire)
{
    gp_bench_result *result = &r->bench->shared->results[row];

    for (uint32_t i = 0; i < iterations; i++)
        r->samples[i] =
            gp_crew_time(&r->bench->crew, r->bench->shared->stamps,
                         gp_collective_bench_iterations(r->bench), i);
    gp_bench_summarize(r->samples, iterations, result);
    result->bytes = bytes;
    result->iterations = iterations;
    result->wire_bytes = wire;
    result->algbw = (double)bytes / result->median_us / 1e3;
    result->busbw = result->algbw * bus_factor(r);
    result->errors = atomic_load(&r->bench->shared->errors[row]);
    if (gp_bench_table(&r->bench->common))
        print_row(r, result, r->bench->algorithm[row % r->bench->algorithms]);
}

static gp_status
measure(rig *r, uint32_t row)
{
    const gp_bench *common = &r->bench->common;
    uint64_t bytes = common->sizes[row / r->bench->algorithms];
    gp_group *g = r->group[row % r->bench->algorithms];
    uint64_t errors = 0, wire = 0;
    uint32_t iterations = gp_bench_iterations(common, bytes);
    gp_status status;

    fill(r, bytes, 0);
    status = run_iterations(r, g, bytes, common->warmup, &errors);
    if (status == GP_OK)
        status = run_iterations(r, g, bytes, iterations, &errors);
    if (status == GP_OK)
        status = run_checked(r, g, bytes, &errors, &wire);
    if (status != GP_OK)
        return status;
    atomic_fetch_add(&r->bench->shared->errors[row], errors);
    status = gp_group_barrier(g);
    if (status == GP_OK && r->rank == 0)
        report(r, bytes, row, iterations, wire);
    return status == GP_OK ? gp_group_barrier(g) : status;
}

static gp_status
make_groups(rig *r)
{
    gp_status status = GP_OK;

    for (uint32_t a = 0; a < r->bench->algorithms && status == GP_OK; a++) {
        gp_group_options o = GP_GROUP_INIT;

        o.name = r->bench->algorithm[a];
        o.algorithm = r->bench->algorithm[a];
        o.codec = r->bench->codec;
        status = gp_group_create(r->worker, &o, &r->group[a]);
    }
    return status;
}

static gp_status
allocate(rig *r)
{
    const gp_bench *common = &r->bench->common;
    uint64_t bytes = (common->sizes[common->size_count - 1] + 63) / 64 * 64;
    bool same = r->bench->in_place || r->bench->what == WHAT_BROADCAST;

    r->memory = gp_alloc_aligned(2 * bytes);
    r->samples =
        calloc(gp_collective_bench_iterations(r->bench), sizeof(*r->samples));
    if (!r->memory || !r->samples)
        return gp_fail(GP_ERR_NO_MEMORY, "2 x %llu bytes",
                       (unsigned long long)bytes);
    memset(r->memory, 0, 2 * bytes);
    r->in = r->memory;
    r->out = same ? r->memory : r->memory + bytes;
    return GP_OK;
}

gp_status
gp_collective_bench_worker(gp_collective_bench *bench, uint32_t rank)
{
    rig r = {.bench = bench,
             .rank = rank,
             .size = (uint32_t)bench->crew.workers,
             .unit = gp_dtype_bytes(bench->dtype)};
    uint64_t largest = bench->common.sizes[bench->common.size_count - 1];
    gp_config *config = NULL;
    gp_buffer *buffer; /* ends with the worker */
    gp_status status = gp_crew_config(&bench->crew, rank, NULL, 0, &config);

    if (status == GP_OK)
        status = allocate(&r);
    if (status == GP_OK)
        status = gp_worker_create(config, &r.worker);
    if (status == GP_OK)
        status = gp_buffer_register(r.worker, r.memory,
                                    2 * ((largest + 63) / 64 * 64), &buffer);
    if (status == GP_OK)
        status = make_groups(&r);
    for (uint32_t row = 0;
         row < bench->common.size_count * bench->algorithms && status == GP_OK;
         row++)
        status = measure(&r, row);
    for (uint32_t a = 0; a < bench->algorithms; a++)
        gp_group_destroy(r.group[a]);
    gp_worker_destroy(r.worker);
    gp_config_destroy(config);
    free(r.memory);
    free(r.samples);
    return status;
}
