/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_jobs.c - jobs through every kind of pipeline compute what plain
 * calls of the codecs compute, bit for bit.
 *
 * The model knows how tensors are cut and in which order ranks are added, and
 * nothing else: no messages, slots, runs or requests. Chunks of all shard
 * counts begin at the same places unless a pipeline is wide, so that then
 * results must not depend on the number of shards either.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <gradpush/codec.h>

#include "job_harness.h"
#include "shard/codec_set.h"
#include "shard/map.h"
#include "tests/rounds.h"

#define COLUMNS     128u
#define COUNT       (GP_ROUNDS(391u, 199u) * COLUMNS)
#define STEPS       5u
#define WORKERS     3u
#define CHUNK_BYTES 16384u

typedef struct plan {
    const char *push, *pull, *updater;
    int feedback, pull_feedback;
    uint64_t first; /* number of the first step */
    float *result[STEPS];
    const char *field; /* of the worker's memory, compared at the end */
    float *kept[WORKERS];
    uint64_t kept_count;
} plan;

/* ---- the model -------------------------------------------------------- */

typedef struct model {
    const plan *plan;
    gp_pipeline *push, *pull;
    gp_map map;
    bool mean, summed, votes;
    gp_codec_memory *memory[WORKERS], **chunk; /* by rank; by chunk, of pulls */
    float *history, *gradient[WORKERS], *sum;
    uint8_t *bytes[WORKERS], *out;
    size_t bound;
    void *work;
} model;

static void *
room(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);

    job_require(p != NULL);
    memset(p, 0, bytes);
    return p;
}

static size_t
at_least(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void
open_model(model *m, const plan *p, uint32_t shards)
{
    const gp_codec_shape shape = {COUNT, COLUMNS};
    gp_map_tensor t = {COUNT, COLUMNS, false, false};
    uint32_t needs;

    *m = (model){.plan = p, .mean = strcmp(p->updater, "mean") == 0};
    job_check(gp_pipeline_open(p->push, &shape, &m->push));
    job_check(gp_pipeline_open(p->pull, &shape, &m->pull));
    t.wide =
        (gp_pipeline_properties(m->push) | gp_pipeline_properties(m->pull)) &
        GP_CODEC_WIDE;
    job_check(gp_map_build(&t, 1, CHUNK_BYTES, shards, NULL, &m->map));
    needs = gp_pipeline_needs(m->push);
    m->summed = needs & GP_PIPELINE_AGGREGATES &&
                gp_pipeline_id(m->push) == gp_pipeline_id(m->pull);
    m->votes = gp_pipeline_properties(m->pull) & GP_CODEC_VOTES;
    m->bound = at_least(gp_pipeline_bound(m->push, COUNT),
                        gp_pipeline_bound(m->pull, COUNT));
    m->work = room(at_least(gp_pipeline_workspace(m->push, COUNT),
                            gp_pipeline_workspace(m->pull, COUNT)));
    for (uint32_t r = 0; r < WORKERS; r++) {
        int feedback =
            p->feedback < 0 ? (needs & GP_PIPELINE_FEEDBACK) != 0 : p->feedback;

        job_check(
            gp_codec_memory_create(m->push, 0, COUNT, feedback, &m->memory[r]));
        m->gradient[r] = room(COUNT * sizeof(float));
        m->bytes[r] = room(m->bound);
    }
    m->out = room(m->bound);
    m->sum = room(COUNT * sizeof(float));
    if (gp_pipeline_properties(m->push) & GP_CODEC_DIFFERENCE)
        m->history = room(COUNT * sizeof(float));
    m->chunk = room(m->map.chunks * sizeof(*m->chunk));
    for (uint32_t i = 0; i < m->map.chunks; i++) {
        bool loses = gp_codec_loses_much(m->pull, COUNT);
        int feedback = p->pull_feedback < 0 ? loses : p->pull_feedback;

        job_check(gp_codec_memory_create(m->pull, m->map.chunk[i].offset,
                                         m->map.chunk[i].count, feedback,
                                         &m->chunk[i]));
    }
}

static void
close_model(model *m)
{
    for (uint32_t r = 0; r < WORKERS; r++) {
        gp_codec_memory_destroy(m->memory[r]);
        free(m->gradient[r]);
        free(m->bytes[r]);
    }
    for (uint32_t i = 0; i < m->map.chunks; i++)
        gp_codec_memory_destroy(m->chunk[i]);
    gp_pipeline_destroy(m->push);
    gp_pipeline_destroy(m->pull);
    gp_map_free(&m->map);
    free(m->chunk);
    free(m->history);
    free(m->sum);
    free(m->out);
    free(m->work);
}

static gp_codec_context
context_of(uint64_t offset, uint64_t step, uint32_t rank, float shared)
{
    return (gp_codec_context){.seed = 7,
                              .offset = offset,
                              .step = step,
                              .rank = rank,
                              .size = WORKERS,
                              .shared = shared};
}

static float
agree(model *m, const gp_chunk_info *c, uint64_t step)
{
    float most = 0;

    for (uint32_t r = 0; r < WORKERS; r++) {
        gp_codec_context context = context_of(c->offset, step, r, 0);
        float value;

        job_check(gp_pipeline_propose(m->push, &context, m->memory[r],
                                      m->gradient[r] + c->offset, c->count,
                                      &value));
        most = r == 0 || value > most ? value : most;
    }
    return most;
}

/* All ranks' messages, and their sum in rank order. */
static void
push_chunk(model *m, const gp_chunk_info *c, uint64_t step, float shared,
           size_t *length)
{
    float *sum = m->sum + c->offset;

    for (uint32_t r = 0; r < WORKERS; r++) {
        gp_codec_context context = context_of(c->offset, step, r, shared);

        job_check(gp_pipeline_encode(
            m->push, &context, m->memory[r], m->gradient[r] + c->offset,
            c->count, m->bytes[r], m->bound, &length[r], m->work));
        if (r == 0)
            job_check(gp_pipeline_decode(m->push, &context, m->bytes[r],
                                         length[r], sum, c->count, m->work));
        else
            job_check(gp_pipeline_decode_add(m->push, &context, m->bytes[r],
                                             length[r], sum, c->count,
                                             m->work));
    }
    for (uint64_t i = 0; i < c->count && m->history; i++)
        sum[i] = m->history[c->offset + i] += sum[i];
    for (uint64_t i = 0; i < c->count && m->mean; i++)
        sum[i] *= 1.0f / (float)WORKERS;
}

/* The workers' messages as one, decoded where it arrives. */
static void
pull_sum(model *m, const gp_chunk_info *c, uint64_t step, float shared,
         const size_t *length, float *out)
{
    gp_codec_context context[WORKERS];
    gp_codec_input input[WORKERS];
    size_t size;

    for (uint32_t r = 0; r < WORKERS; r++) {
        context[r] = context_of(c->offset, step, r, shared);
        input[r] = (gp_codec_input){&context[r], m->bytes[r], length[r]};
    }
    job_check(gp_pipeline_aggregate(m->pull, input, WORKERS, c->count, m->out,
                                    m->bound, &size, m->work));
    context[0].rank = GP_RANK_SHARD;
    job_check(gp_pipeline_decode(m->pull, &context[0], m->out, size, out,
                                 c->count, m->work));
    for (uint64_t i = 0; i < c->count && m->votes; i++)
        out[i] = out[i] < 0 ? -1.0f : 1.0f;
    for (uint64_t i = 0; i < c->count && m->mean && !m->votes; i++)
        out[i] *= 1.0f / (float)WORKERS;
}

static void
pull_chunk(model *m, uint32_t number, uint64_t step, float *out)
{
    const gp_chunk_info *c = &m->map.chunk[number];
    const float *sum = m->sum + c->offset;
    gp_codec_context context =
        context_of(c->offset, step + 1, GP_RANK_SHARD, 0);
    size_t size;

    if (gp_pipeline_needs(m->pull) & GP_PIPELINE_PREPARES)
        job_check(gp_pipeline_prepare(m->pull, &context, m->chunk[number], sum,
                                      c->count));
    if (gp_pipeline_needs(m->pull) & GP_PIPELINE_PROPOSES)
        job_check(gp_pipeline_propose(m->pull, &context, m->chunk[number], sum,
                                      c->count, &context.shared));
    job_check(gp_pipeline_encode(m->pull, &context, m->chunk[number], sum,
                                 c->count, m->out, m->bound, &size, m->work));
    job_check(gp_pipeline_decode(m->pull, &context, m->out, size, out, c->count,
                                 m->work));
}

static void
model_step(model *m, uint64_t step, float *out)
{
    for (uint32_t r = 0; r < WORKERS; r++) {
        gp_codec_context context = context_of(0, step, r, 0);

        for (uint32_t i = 0; i < COUNT; i++)
            m->gradient[r][i] = job_value(r, 0, step, i);
        if (gp_pipeline_needs(m->push) & GP_PIPELINE_PREPARES)
            job_check(gp_pipeline_prepare(m->push, &context, m->memory[r],
                                          m->gradient[r], COUNT));
    }
    for (uint32_t k = 0; k < m->map.chunks; k++) {
        const gp_chunk_info *c = &m->map.chunk[k];
        size_t length[WORKERS];
        float shared = 0;

        if (gp_pipeline_needs(m->push) & GP_PIPELINE_PROPOSES)
            shared = agree(m, c, step);
        push_chunk(m, c, step, shared, length);
        if (m->summed)
            pull_sum(m, c, step, shared, length, out + c->offset);
        else
            pull_chunk(m, k, step, out + c->offset);
    }
}

static void
keep_field(plan *p, uint32_t rank, gp_codec_memory *memory)
{
    const char *name;
    float *values;
    size_t count;

    if (rank == 0)
        p->field = NULL;
    count = gp_codec_memory_field(memory, 0, &name, &values);
    if (count == 0 || strcmp(name, "history") == 0)
        return;
    p->field = name;
    p->kept_count = count;
    p->kept[rank] = room(count * sizeof(float));
    memcpy(p->kept[rank], values, count * sizeof(float));
}

static void
compute(plan *p, uint32_t shards)
{
    model m;

    open_model(&m, p, shards);
    for (uint32_t s = 0; s < STEPS; s++) {
        p->result[s] = room(COUNT * sizeof(float));
        model_step(&m, p->first + s, p->result[s]);
    }
    for (uint32_t r = 0; r < WORKERS; r++)
        keep_field(p, r, m.memory[r]);
    close_model(&m);
}

static void
forget(plan *p)
{
    for (uint32_t s = 0; s < STEPS; s++)
        free(p->result[s]);
    for (uint32_t r = 0; r < WORKERS; r++) {
        free(p->kept[r]);
        p->kept[r] = NULL;
    }
}

/* ---- the job ---------------------------------------------------------- */

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = room(COUNT * sizeof(float));
    gp_request *request;
    gp_tensor *t;

    o.name = "t";
    o.count = COUNT;
    o.columns = COLUMNS;
    o.codec = p->push;
    o.pull_codec = p->pull;
    o.updater = p->updater;
    o.feedback = p->feedback;
    o.pull_feedback = p->pull_feedback;
    o.first_step = p->first;
    job_check(gp_tensor_register(w, &o, &t));
    job_check(gp_broadcast(t, data, 0, &request));
    job_check(gp_wait(&request, -1));
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t i = 0; i < COUNT; i++)
            data[i] = job_value(rank, 0, p->first + s, i);
        job_check(gp_push_pull(t, data, data, &request));
        job_check(gp_wait(&request, -1));
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(memcmp(&data[i], &p->result[s][i], 4) == 0,
                        "%s, %s: rank %u step %u element %u: %g, not %g",
                        p->push, p->pull, rank, s, i, (double)data[i],
                        (double)p->result[s][i]);
    }
    if (p->field) {
        float *kept = room(p->kept_count * sizeof(float));

        job_check(gp_tensor_save_state(t, p->field, kept));
        job_require(
            memcmp(kept, p->kept[rank], p->kept_count * sizeof(float)) == 0,
            "%s: %s of rank %u", p->push, p->field, rank);
        free(kept);
    }
    free(data);
}

static void
run(plan *p, const char *transport, uint32_t shards, const char *slots)
{
    job j = {.transport = transport,
             .workers = WORKERS,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "16K", "slots", slots, "seed", "7"},
             .body = body,
             .data = p};
    gp_status status = run_job(&j);

    for (uint32_t r = 0; r < WORKERS; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s, %s: %s", p->push, p->pull, j.server_message);
}

/* The same model holds whatever the number of shards, and wherever they are,
 * where chunks are alike. */
static void
check_from(uint64_t first, const char *push, const char *pull,
           const char *updater, int feedback)
{
    plan p = {.push = push,
              .pull = pull,
              .updater = updater,
              .feedback = feedback,
              .pull_feedback = feedback,
              .first = first};
    bool wide = strstr(push, "powersgd") || strstr(pull, "powersgd");

    print_message("%s, pulled as %s\n", push, pull);
    compute(&p, 1);
    run(&p, "loop", 1, "4");
    if (wide) {
        forget(&p);
        compute(&p, 3);
    } else {
        run(&p, "tcp", 2, "1");
    }
    run(&p, "loop", 3, "2");
    if (GP_ROUNDS(true, false))
        run(&p, "loop", 0, "64");
    forget(&p);
}

static void
check(const char *push, const char *pull, const char *updater, int feedback)
{
    check_from(0, push, pull, updater, feedback);
}

/* A job that continues another one: random numbers and schedules go on. */
static void
later_steps(void **state)
{
    (void)state;
    check_from(1000, "q4:round=stochastic", "bf16:round=stochastic", "mean", 1);
    check_from(27, "dgc:ratio=0.01,start=0.25,over=30", "none", "mean", -1);
    check_from(UINT64_MAX / 2, "randk:0.1", "none", "sum", 1);
}

static void
quantizers(void **state)
{
    (void)state;
    check("q8", "q8", "mean", -1);
    check("q4:round=stochastic", "bf16:round=stochastic", "mean", 1);
    check("sign", "sign", "mean", -1);
    check("qsgd:levels=7", "none", "sum", -1);
    check("uq:scope=tensor", "q8", "mean", -1);
    check("hadamard+q4", "fp16", "mean", -1);
    check("eden", "q8", "mean", -1);
}

static void
selections(void **state)
{
    (void)state;
    check("topk:0.02,scope=tensor+q8+rice", "topk:0.1", "mean", -1);
    check("topk:0.01,scope=tensor", "topk:0.05,scope=tensor+q8+auto", "sum",
          -1);
    check("randk:0.1", "none", "mean", 1);
    check("dgc:ratio=0.01", "none", "mean", -1);
    check("momentum:nesterov=1+topk:0.05", "q8", "mean", -1);
}

static void
differences(void **state)
{
    (void)state;
    check("ef21+topk:0.05", "none", "mean", -1);
    check("ef21+q4", "q8", "sum", -1);
}

static void
factors(void **state)
{
    (void)state;
    check("powersgd:rank=2", "none", "mean", -1);
    check("q8", "powersgd:rank=4", "mean", -1);
}

/* Shared scales, summed undecoded and not. */
static void
sums(void **state)
{
    (void)state;
    check("intsum", "intsum", "mean", -1);
    check("intsum", "intsum", "sum", 0);
    check("intsum:bits=4", "q8", "mean", -1);
    check("q8", "intsum", "mean", -1);
    check("vote:workers=3", "vote:workers=3", "sum", -1);
    check("vote", "vote", "mean", -1);
}

/* A telescope: all that was ever pulled, and what the shard still owes, is all
 * that was ever pushed. */
static void
pulls_lose_nothing(void **state)
{
    plan p = {.push = "none",
              .pull = "topk:0.2",
              .updater = "sum",
              .feedback = -1,
              .pull_feedback = -1};
    model m;
    double worst = 0;

    (void)state;
    compute(&p, 1);
    run(&p, "loop", 1, "4");
    open_model(&m, &p, 1);
    for (uint32_t s = 0; s < STEPS; s++)
        model_step(&m, s, p.result[s]);
    for (uint32_t k = 0; k < m.map.chunks; k++) {
        const gp_chunk_info *c = &m.map.chunk[k];
        const char *name;
        float *owed;

        assert_int_equal(gp_codec_memory_field(m.chunk[k], 0, &name, &owed),
                         c->count);
        for (uint64_t i = 0; i < c->count; i++) {
            double pushed = 0, pulled = (double)owed[i];

            for (uint32_t s = 0; s < STEPS; s++) {
                pulled += (double)p.result[s][c->offset + i];
                for (uint32_t r = 0; r < WORKERS; r++)
                    pushed += (double)job_value(r, 0, s, c->offset + i);
            }
            pushed -= pulled;
            worst = pushed > worst ? pushed : -pushed > worst ? -pushed : worst;
        }
    }
    print_message("what was pulled and is owed differs by %g\n", worst);
    assert_true(worst < 1e-4);
    close_model(&m);
    forget(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_steps),
        cmocka_unit_test(quantizers),
        cmocka_unit_test(selections),
        cmocka_unit_test(differences),
        cmocka_unit_test(factors),
        cmocka_unit_test(sums),
        cmocka_unit_test(pulls_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
