/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_collective.c - every collective with every shape, as the body of a job.
 *
 * Sums of small whole numbers are exact in every order, so they are compared
 * with the true value.
 */
#include "job_collective.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t counts[] = {0, 1, 3, 17, 4099, 150001};

#define COUNTS (sizeof(counts) / sizeof(counts[0]))

float
job_pattern(uint64_t i, uint32_t rank)
{
    return (float)((i * 7 + rank * 3) % 16) - 8.0f;
}

float
job_total(uint64_t i, uint32_t size)
{
    float sum = 0;

    for (uint32_t r = 0; r < size; r++)
        sum += job_pattern(i, r);
    return sum;
}

/* Memory of the thread's worker that is registered. */
#define KEPT 4

static _Thread_local gp_worker *registering;
static _Thread_local struct {
    float *memory;
    gp_buffer *buffer;
} kept[KEPT];

float *
job_numbers(uint64_t count)
{
    size_t bytes = ((count + 1) * sizeof(float) + 63) / 64 * 64;
    float *p = aligned_alloc(64, bytes);

    job_require(p != NULL);
    for (size_t i = 0; registering && i < KEPT; i++)
        if (!kept[i].memory) {
            kept[i].memory = p;
            job_check(
                gp_buffer_register(registering, p, bytes, &kept[i].buffer));
            break;
        }
    return p;
}

void
job_give(float *p)
{
    for (size_t i = 0; registering && i < KEPT; i++)
        if (kept[i].memory == p) {
            job_check(gp_buffer_unregister(kept[i].buffer));
            kept[i].memory = NULL;
        }
    free(p);
}

void
job_finish(gp_request **request)
{
    job_check(gp_wait(request, -1));
    job_require(*request == NULL);
}

void
job_check_sum(const float *out, uint64_t count, uint32_t size, const char *what)
{
    for (uint64_t i = 0; i < count; i++)
        job_require(
            out[i] == job_total(i, size), "%s: element %llu is %g not %g", what,
            (unsigned long long)i, (double)out[i], (double)job_total(i, size));
}

static void
reduce_all(gp_group *g, uint64_t count, bool in_place)
{
    uint32_t rank = gp_group_rank(g), size = gp_group_size(g);
    float *in = job_numbers(count), *out = in_place ? in : job_numbers(count);
    gp_request *request;

    for (uint64_t i = 0; i < count; i++)
        in[i] = job_pattern(i, rank);
    job_check(gp_allreduce(g, in, out, count, GP_FP32, GP_SUM, &request));
    job_finish(&request);
    job_check_sum(out, count, size, in_place ? "in place" : "all-reduce");
    for (uint64_t i = 0; i < count && !in_place; i++)
        job_require(in[i] == job_pattern(i, rank));
    for (uint64_t i = 0; i < count; i++)
        in[i] = job_pattern(i, rank);
    job_check(gp_allreduce(g, in, out, count, GP_FP32, GP_LARGEST, &request));
    job_finish(&request);
    for (uint64_t i = 0; i < count; i++) {
        float most = -100;

        for (uint32_t r = 0; r < size; r++)
            most = job_pattern(i, r) > most ? job_pattern(i, r) : most;
        job_require(out[i] == most);
    }
    job_give(in);
    if (!in_place)
        job_give(out);
}

static void
scatter_sums(gp_group *g, uint64_t count, bool in_place)
{
    uint32_t rank = gp_group_rank(g), size = gp_group_size(g);
    float *in = job_numbers(size * count);
    float *out = in_place ? in + rank * count : job_numbers(count);
    gp_request *request;

    for (uint64_t i = 0; i < size * count; i++)
        in[i] = job_pattern(i, rank);
    job_check(gp_reduce_scatter(g, in, out, count, GP_FP32, GP_MEAN, &request));
    job_finish(&request);
    for (uint64_t i = 0; i < count; i++)
        job_require(out[i] ==
                    job_total(rank * count + i, size) * (1.0f / (float)size));
    job_give(in);
    if (!in_place)
        job_give(out);
}

static void
gather(gp_group *g, uint64_t count, bool in_place)
{
    uint32_t rank = gp_group_rank(g), size = gp_group_size(g);
    float *out = job_numbers(size * count);
    float *in = in_place ? out + rank * count : job_numbers(count);
    gp_request *request;

    memset(out, 0xff, size * count * sizeof(float));
    for (uint64_t i = 0; i < count; i++)
        in[i] = job_pattern(i, rank);
    job_check(gp_allgather(g, in, out, count * sizeof(float), &request));
    job_finish(&request);
    for (uint64_t i = 0; i < size * count; i++)
        job_require(out[i] == job_pattern(i % count, (uint32_t)(i / count)));
    job_give(out);
    if (!in_place)
        job_give(in);
}

static void
spread(gp_group *g, uint64_t count, uint32_t root)
{
    uint32_t rank = gp_group_rank(g);
    float *values = job_numbers(count);
    gp_request *request;

    for (uint64_t i = 0; i < count; i++)
        values[i] = job_pattern(i, rank);
    job_check(gp_bcast(g, values, count * sizeof(float), root, &request));
    job_finish(&request);
    for (uint64_t i = 0; i < count; i++)
        job_require(values[i] == job_pattern(i, root));
    job_give(values);
}

static void
exchange(gp_group *g, uint64_t count, bool in_place)
{
    uint32_t rank = gp_group_rank(g), size = gp_group_size(g);
    float *in = job_numbers(size * count);
    float *out = in_place ? in : job_numbers(size * count);
    gp_request *request;

    for (uint64_t i = 0; i < size * count; i++)
        in[i] = job_pattern(i, rank);
    job_check(gp_alltoall(g, in, out, count * sizeof(float), &request));
    job_finish(&request);
    for (uint64_t i = 0; i < size * count; i++)
        job_require(out[i] == job_pattern(rank * count + i % count,
                                          (uint32_t)(i / count)));
    job_give(in);
    if (!in_place)
        job_give(out);
}

static void
run_all(gp_group *g, bool others)
{
    uint32_t size = gp_group_size(g);

    for (size_t i = 0; i < COUNTS; i++) {
        uint64_t count = counts[i];

        reduce_all(g, count, false);
        reduce_all(g, count, true);
        if (!others)
            continue;
        scatter_sums(g, count / size, i % 2);
        gather(g, count / size + (i > 0), i % 2);
        spread(g, count, (uint32_t)i % size);
        exchange(g, count / size, i % 2);
        job_check(gp_group_barrier(g));
    }
}

void
job_collectives(job *j, gp_worker *w, uint32_t rank)
{
    static const char *const algorithms[] = {"auto", "direct", "halving",
                                             "ring", "shards"};
    gp_group *g;

    registering = j->data ? w : NULL;
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        gp_group_options o = GP_GROUP_INIT;

        o.algorithm = algorithms[i];
        o.name = algorithms[i];
        job_check(gp_group_create(w, &o, &g));
        job_require(gp_group_rank(g) == rank);
        run_all(g, i == 0);
        gp_group_destroy(g);
    }
}
