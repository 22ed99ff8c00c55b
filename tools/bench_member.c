/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_member.c - what one worker of a push_pull benchmark does.
 *
 * The first, middle and last element of each tensor change with every iteration
 * and are checked after it; all elements are checked in an iteration of its
 * own, which also gives the bytes on the wire. Where each push is an update by
 * itself, the parameters are checked after all pushes of a size: they began
 * with zeros, and are what all gradients take away from that.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_pushpull.h"

/* Of tensors that are large enough to be matrices. */
#define COLUMNS 1024u

#define MARKS          3
#define TRIAL_ELEMENTS 4096
#define PATTERN_MOST   8 /* the largest magnitude */

typedef struct gp_measure {
    gp_pushpull *bench;
    gp_worker *worker;
    gp_tensor **tensors; /* [size][tensor] */
    gp_request **requests;
    float *memory;     /* of both, registered at once */
    float *grad, *out; /* of the largest size, one tensor after another */
    double *samples;
    uint64_t bytes;          /* of each tensor's part of the two */
    double tolerance, scale; /* of the sum */
    uint32_t rank;
} gp_measure;

gp_status
gp_pushpull_config(const gp_pushpull *bench, int64_t rank, gp_config **out)
{
    const char *const texts[][2] = {{"codec", bench->codec},
                                    {"pull_codec", bench->pull_codec},
                                    {"mode", bench->mode},
                                    {"updater", bench->updater}};

    return gp_crew_config(&bench->crew, rank, texts, GP_COUNT_OF(texts), out);
}

/* One encode as the engine does it, without what earlier steps have left. */
static gp_status
try_encode(const gp_pipeline *pipeline, gp_codec_context *context,
           const float *in, void *bytes, size_t bound, size_t *length,
           void *workspace)
{
    uint32_t needs = gp_pipeline_needs(pipeline);
    gp_codec_memory *memory = NULL;
    gp_status status =
        gp_codec_memory_create(pipeline, 0, TRIAL_ELEMENTS, 0, &memory);

    if (status == GP_OK && (needs & GP_PIPELINE_PREPARES))
        status =
            gp_pipeline_prepare(pipeline, context, memory, in, TRIAL_ELEMENTS);
    if (status == GP_OK && (needs & GP_PIPELINE_PROPOSES))
        status = gp_pipeline_propose(pipeline, context, memory, in,
                                     TRIAL_ELEMENTS, &context->shared);
    if (status == GP_OK)
        status =
            gp_pipeline_encode(pipeline, context, memory, in, TRIAL_ELEMENTS,
                               bytes, bound, length, workspace);
    gp_codec_memory_destroy(memory);
    return status;
}

/* The largest error of a pipeline on the benchmark's numbers times `factor`;
 * infinity when it is as large as the numbers: such pipelines leave elements
 * out, or the lesser part of a matrix, and what error feedback brings later has
 * no limit. */
static gp_status
try_pipeline(const gp_pipeline *pipeline, float factor, double *out)
{
    gp_codec_context context = {.rank = 0};
    float in[TRIAL_ELEMENTS], decoded[TRIAL_ELEMENTS];
    size_t length = 0, bound = gp_pipeline_bound(pipeline, TRIAL_ELEMENTS);
    void *bytes = gp_alloc_aligned(bound);
    void *workspace =
        gp_alloc_aligned(gp_pipeline_workspace(pipeline, TRIAL_ELEMENTS) + 1);
    gp_status status = GP_OK;

    for (size_t i = 0; i < TRIAL_ELEMENTS; i++)
        in[i] = factor * gp_bench_pattern(i, 0, 0);
    if (!bytes || !workspace)
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory to try a pipeline");
    else
        status = try_encode(pipeline, &context, in, bytes, bound, &length,
                            workspace);
    if (status == GP_OK)
        status = gp_pipeline_decode(pipeline, &context, bytes, length, decoded,
                                    TRIAL_ELEMENTS, workspace);
    *out = 0;
    for (size_t i = 0; i < TRIAL_ELEMENTS && status == GP_OK; i++)
        *out = fmax(*out, fabs((double)in[i] - (double)decoded[i]));
    if (*out >= (double)factor * PATTERN_MOST / 2 ||
        gp_pipeline_properties(pipeline) & GP_CODEC_WIDE)
        *out = (double)INFINITY;
    free(bytes);
    free(workspace);
    return status;
}

/* The largest among alternatives. */
static gp_status
pipeline_error(const char *texts, float factor, double *out)
{
    gp_status status = GP_OK;

    for (const char *part = texts; part && status == GP_OK;) {
        size_t length = strcspn(part, "|");
        char *text = strndup(part, length);
        gp_pipeline *pipeline = NULL;
        double error = 0;

        status = text ? gp_pipeline_parse(text, &pipeline)
                      : gp_fail(GP_ERR_NO_MEMORY, "no memory for a text");
        if (status == GP_OK)
            status = try_pipeline(pipeline, factor, &error);
        gp_pipeline_destroy(pipeline);
        free(text);
        *out = fmax(*out, error);
        part = part[length] ? part + length + 1 : NULL;
    }
    return status;
}

gp_status
gp_pushpull_tolerance(const gp_pushpull *bench, double *out)
{
    double push = 0, pull = 0, workers = (double)bench->crew.workers;
    gp_status status = pipeline_error(bench->codec, 1, &push);

    if (status == GP_OK)
        status = pipeline_error(bench->pull_codec, (float)workers, &pull);
    /* Twice: error feedback adds what the step before has lost. A mean is
     * rounded once more. How errors of many updates add up is not known. */
    if (status == GP_OK && bench->applies)
        *out = push > 0 || pull > 0 ? (double)INFINITY : 0;
    else if (status == GP_OK)
        *out =
            2 * (workers * push + pull) + (bench->updater[0] == 'm' ? 1e-5 : 0);
    return status;
}

static float *
grad_of(const gp_measure *m, uint32_t tensor)
{
    return m->grad + tensor * (m->bytes / sizeof(float));
}

static float *
out_of(const gp_measure *m, uint32_t tensor)
{
    return m->out + tensor * (m->bytes / sizeof(float));
}

/* A gradient's element; no tensor is like another. */
static float
pattern_of(uint32_t tensor, uint64_t index, uint64_t step, uint32_t rank)
{
    return gp_bench_pattern(index + tensor, step, rank);
}

/* All gradients of an element in one step. */
static double
sum_of(const gp_measure *m, uint32_t tensor, uint64_t index, uint64_t step)
{
    double sum = 0;

    for (uint32_t r = 0; r < (uint32_t)m->bench->crew.workers; r++)
        sum += (double)pattern_of(tensor, index, step, r);
    return sum;
}

static bool
element_wrong(const gp_measure *m, uint32_t tensor, uint64_t index,
              uint64_t step)
{
    double sum = sum_of(m, tensor, index, step);
    double got = (double)out_of(m, tensor)[index];

    /* Not "greater", so that NaN is wrong too. */
    return !isfinite(got) || !(fabs(got - sum * m->scale) <= m->tolerance);
}

static void
set_marks(const gp_measure *m, uint64_t count, uint64_t step)
{
    const uint64_t marks[MARKS] = {0, count / 2, count - 1};

    for (uint32_t t = 0; t < m->bench->tensors; t++)
        for (size_t i = 0; i < MARKS; i++)
            grad_of(m, t)[marks[i]] = pattern_of(t, marks[i], step, m->rank);
}

static uint64_t
check_marks(const gp_measure *m, uint64_t count, uint64_t step)
{
    const uint64_t marks[MARKS] = {0, count / 2, count - 1};
    uint64_t wrong = 0;

    if (!m->bench->common.check || m->bench->applies)
        return 0;
    for (uint32_t t = 0; t < m->bench->tensors; t++)
        for (size_t i = 0; i < MARKS; i++)
            wrong += element_wrong(m, t, marks[i], step);
    return wrong;
}

static gp_tensor *
tensor_of(const gp_measure *m, uint32_t index, uint32_t tensor)
{
    return m->tensors[index * m->bench->tensors + tensor];
}

/* All tensors of a size: what was begun is waited for, also when another could
 * not be, and the first failure is the result. */
static gp_status
push_pull(const gp_measure *m, uint32_t index, gp_crew_stamp *stamp)
{
    gp_status status = GP_OK, ended;
    uint32_t begun = 0;

    stamp->start = gp_clock_ns();
    while (begun < m->bench->tensors && status == GP_OK) {
        status = gp_push_pull(tensor_of(m, index, begun), grad_of(m, begun),
                              out_of(m, begun), &m->requests[begun]);
        begun += status == GP_OK;
    }
    for (uint32_t t = 0; t < begun; t++) {
        ended = gp_wait(&m->requests[t], -1);
        if (status == GP_OK)
            status = ended;
    }
    stamp->end = gp_clock_ns();
    return status;
}

uint32_t
gp_pushpull_iterations(const gp_pushpull *bench)
{
    return GP_MAX(bench->common.warmup,
                  gp_bench_iterations(&bench->common, bench->common.sizes[0]));
}

static gp_crew_stamp *
stamp_of(const gp_measure *m, uint32_t iteration)
{
    size_t row = gp_pushpull_iterations(m->bench);

    return &m->bench->shared->stamps[m->rank * row + iteration];
}

static gp_status
run_iterations(const gp_measure *m, uint32_t index, uint32_t iterations,
               uint64_t *errors)
{
    uint64_t count = m->bench->common.sizes[index] / sizeof(float);
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < iterations && status == GP_OK; i++) {
        set_marks(m, count, i);
        status = gp_barrier(m->worker);
        if (status == GP_OK)
            status = push_pull(m, index, stamp_of(m, i));
        if (status != GP_OK)
            break;
        *errors += check_marks(m, count, i);
    }
    return status;
}

/* An untimed iteration of which every element is checked. */
static gp_status
run_checked(const gp_measure *m, uint32_t index, uint64_t *errors,
            uint64_t *wire)
{
    uint64_t count = m->bench->common.sizes[index] / sizeof(float);
    gp_crew_stamp ignored;
    gp_stats before, after;
    gp_status status;

    set_marks(m, count, 0);
    /* No earlier result is to pass for this one: all of these are NaN. */
    memset(m->out, 0xff, m->bench->tensors * m->bytes);
    gp_worker_stats(m->worker, &before);
    status = push_pull(m, index, &ignored);
    if (status != GP_OK)
        return status;
    gp_worker_stats(m->worker, &after);
    *wire = after.bytes_pushed - before.bytes_pushed + after.bytes_pulled -
            before.bytes_pulled;
    if (!m->bench->common.check || m->bench->applies)
        return GP_OK;
    for (uint32_t t = 0; t < m->bench->tensors; t++)
        for (uint64_t i = 0; i < count; i++)
            *errors += element_wrong(m, t, i, 0);
    return GP_OK;
}

static gp_status
start_parameters(const gp_measure *m, uint32_t index)
{
    gp_status status = GP_OK;

    for (uint32_t t = 0;
         m->bench->applies && t < m->bench->tensors && status == GP_OK; t++) {
        gp_request *request = NULL;

        memset(out_of(m, t), 0, m->bench->common.sizes[index]);
        status =
            gp_broadcast(tensor_of(m, index, t), out_of(m, t), 0, &request);
        if (status == GP_OK)
            status = gp_wait(&request, -1);
    }
    return status;
}

/* The parameters, after warm-up, iterations and the checked one of all. */
static uint64_t
wrong_parameters(const gp_measure *m, uint32_t tensor, uint64_t count,
                 uint32_t iterations)
{
    uint32_t warmup = m->bench->common.warmup;
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < count; i++) {
        bool mark = i == 0 || i == count / 2 || i == count - 1;
        double expected = -sum_of(m, tensor, i, 0);
        double got = (double)out_of(m, tensor)[i];

        if (!mark)
            expected *= 1.0 + warmup + iterations;
        for (uint32_t n = 0; mark && n < warmup + iterations; n++)
            expected -= sum_of(m, tensor, i, n < warmup ? n : n - warmup);
        wrong += !isfinite(got) || !(fabs(got - expected) <= m->tolerance);
    }
    return wrong;
}

static gp_status
check_parameters(const gp_measure *m, uint32_t index, uint32_t iterations,
                 uint64_t *errors)
{
    uint64_t count = m->bench->common.sizes[index] / sizeof(float);
    gp_status status = gp_barrier(m->worker); /* all pushes are in */

    for (uint32_t t = 0; t < m->bench->tensors && status == GP_OK; t++) {
        gp_request *request = NULL;

        status = gp_pull(tensor_of(m, index, t), out_of(m, t), &request);
        if (status == GP_OK)
            status = gp_wait(&request, -1);
        if (status == GP_OK)
            *errors += wrong_parameters(m, t, count, iterations);
    }
    return status;
}

static void
print_row(const gp_bench_result *r)
{
    printf("%12llu %13llu %11llu %9.1f %9.1f %9.1f %7.3f %7.3f %11llu %7llu\n",
           (unsigned long long)r->bytes,
           (unsigned long long)(r->bytes / sizeof(float)),
           (unsigned long long)r->iterations, r->median_us, r->p99_us,
           r->min_us, r->algbw, r->busbw, (unsigned long long)r->wire_bytes,
           (unsigned long long)r->errors);
    fflush(stdout);
}

/* On rank 0, after a barrier that all ranks reach with their errors counted. */
static void
report(const gp_measure *m, uint32_t index, uint32_t iterations, uint64_t wire)
{
    gp_bench_result *r = &m->bench->shared->results[index];

    for (uint32_t i = 0; i < iterations; i++)
        m->samples[i] = gp_crew_time(&m->bench->crew, m->bench->shared->stamps,
                                     gp_pushpull_iterations(m->bench), i);
    gp_bench_summarize(m->samples, iterations, r);
    r->bytes = m->bench->common.sizes[index];
    r->iterations = iterations;
    r->wire_bytes = wire;
    r->algbw = (double)(r->bytes * m->bench->tensors) / r->median_us / 1e3;
    r->busbw = r->algbw;
    r->errors = atomic_load(&m->bench->shared->errors[index]);
    if (gp_bench_table(&m->bench->common))
        print_row(r);
}

static gp_status
measure_size(const gp_measure *m, uint32_t index)
{
    const gp_bench *common = &m->bench->common;
    uint64_t bytes = common->sizes[index], errors = 0, wire = 0;
    uint32_t iterations = gp_bench_iterations(common, bytes);
    gp_status status;

    for (uint32_t t = 0; t < m->bench->tensors; t++)
        for (uint64_t i = 0; i < bytes / sizeof(float); i++)
            grad_of(m, t)[i] = pattern_of(t, i, 0, m->rank);
    status = start_parameters(m, index);
    if (status == GP_OK)
        status = run_iterations(m, index, common->warmup, &errors);
    if (status == GP_OK)
        status = run_iterations(m, index, iterations, &errors);
    if (status == GP_OK)
        status = run_checked(m, index, &errors, &wire);
    if (status == GP_OK && m->bench->applies && common->check)
        status = check_parameters(m, index, iterations, &errors);
    if (status != GP_OK)
        return status;
    atomic_fetch_add(&m->bench->shared->errors[index], errors);
    status = gp_barrier(m->worker);
    if (status == GP_OK && m->rank == 0)
        report(m, index, iterations, wire);
    return status;
}

static gp_status
register_tensor(gp_measure *m, uint64_t bytes, uint32_t number, gp_tensor **out)
{
    gp_tensor_options options = GP_TENSOR_INIT;
    char name[48];

    snprintf(name, sizeof(name), "bench-%llu-%u", (unsigned long long)bytes,
             number);
    options.name = name;
    options.count = bytes / sizeof(float);
    if (options.count % COLUMNS == 0)
        options.columns = COLUMNS;
    return gp_tensor_register(m->worker, &options, out);
}

static gp_status
register_tensors(gp_measure *m)
{
    const gp_bench *common = &m->bench->common;
    uint32_t tensors = m->bench->tensors;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < common->size_count * tensors && status == GP_OK;
         i++)
        status = register_tensor(m, common->sizes[i / tensors], i % tensors,
                                 &m->tensors[i]);
    if (status == GP_OK)
        status = gp_worker_ready(m->worker);
    return status;
}

static gp_status
allocate(gp_measure *m)
{
    const gp_bench *common = &m->bench->common;
    uint64_t largest = common->sizes[common->size_count - 1], all;
    uint32_t tensors = m->bench->tensors;

    m->bytes = (largest + 63) / 64 * 64;
    all = tensors * m->bytes;
    m->memory = gp_alloc_aligned(2 * all);
    m->grad = m->memory;
    m->out = m->memory + all / sizeof(float);
    m->samples = calloc(gp_pushpull_iterations(m->bench), sizeof(*m->samples));
    m->requests = calloc(tensors, sizeof(*m->requests));
    m->tensors =
        calloc((size_t)common->size_count * tensors, sizeof(gp_tensor *));
    if (!m->memory || !m->samples || !m->requests || !m->tensors)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %u x 2 x %llu bytes",
                       tensors, (unsigned long long)largest);
    memset(m->out, 0, all);
    return GP_OK;
}

gp_status
gp_pushpull_worker(gp_pushpull *bench, uint32_t rank)
{
    gp_measure m = {.bench = bench, .rank = rank, .scale = 1};
    gp_config *config = NULL;
    gp_buffer *buffer; /* ends with the worker */
    gp_status status = gp_pushpull_config(bench, rank, &config);

    if (bench->updater[0] == 'm')
        m.scale = 1.0 / (double)bench->crew.workers;
    if (status == GP_OK)
        status = gp_pushpull_tolerance(bench, &m.tolerance);
    if (status == GP_OK)
        status = allocate(&m);
    if (status == GP_OK)
        status = gp_worker_create(config, &m.worker);
    if (status == GP_OK)
        status = gp_buffer_register(m.worker, m.memory,
                                    2 * m.bytes * bench->tensors, &buffer);
    if (status == GP_OK)
        status = register_tensors(&m);
    for (uint32_t i = 0; i < bench->common.size_count && status == GP_OK; i++)
        status = measure_size(&m, i);
    gp_worker_destroy(m.worker);
    gp_config_destroy(config);
    free(m.memory);
    free(m.samples);
    free(m.requests);
    free(m.tensors);
    return status;
}
