/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec_rig.c - runs a pipeline over a tensor as the engine does: chunk
 * by chunk, with the context that both ends have.
 *
 * Thread t of T does chunks c*t/T to c*(t+1)/T of all jobs, so that each works
 * on the same memory all the time. The time of a job ends when the last one is
 * done.
 */
#include <stdlib.h>
#include <string.h>

#include "bench_codec.h"

#define CHUNK_QUANTUM 4096u
#define CHUNK_BYTES   ((uint64_t)512 << 10) /* the engine's default */
#define WIDE_BYTES    ((uint64_t)64 << 20)  /* and its largest */
#define SLOTS_MAX     ((uint64_t)16 << 30)
/* Ranks' messages lie as in a shard: shifted against each other within pages,
 * lest lines of all share one place in the first cache. */
#define PAGE_BYTES   4096u
#define COLOUR_BYTES 512u

uint64_t
gp_codec_chunk_count(const gp_codec_rig *rig, uint64_t chunk)
{
    return GP_MIN(rig->chunk, rig->count - chunk * rig->chunk);
}

gp_codec_context
gp_codec_context_of(const gp_codec_rig *rig, uint32_t rank, uint64_t chunk)
{
    return (gp_codec_context){.seed = rig->seed,
                              .tensor = 1,
                              .offset = chunk * rig->chunk,
                              .step = rig->step,
                              .rank = rank,
                              .size = rig->ranks,
                              .shared = rig->shared[chunk]};
}

static uint8_t *
message_of(const gp_codec_rig *rig, uint32_t rank, uint64_t chunk)
{
    return rig->messages + rank * rig->stride + chunk * rig->slot;
}

uint64_t
gp_codec_payload(const gp_codec_rig *rig, uint32_t rank)
{
    uint64_t sum = 0;

    for (uint64_t c = 0; c < rig->chunks; c++)
        sum += rig->lengths[rank * rig->chunks + c];
    return sum;
}

/* --- one chunk --- */

static gp_status
encode_chunk(gp_codec_rig *rig, uint32_t thread, uint64_t chunk)
{
    gp_codec_context context = gp_codec_context_of(rig, rig->rank, chunk);

    return gp_pipeline_encode(
        rig->pipeline, &context, rig->memory, rig->source + context.offset,
        gp_codec_chunk_count(rig, chunk), message_of(rig, rig->rank, chunk),
        rig->slot, &rig->lengths[rig->rank * rig->chunks + chunk],
        rig->workspaces[thread]);
}

static gp_status
decode_chunk(gp_codec_rig *rig, uint32_t thread, uint64_t chunk, bool add,
             float *target)
{
    gp_codec_context context = gp_codec_context_of(rig, rig->rank, chunk);
    size_t length = rig->lengths[rig->rank * rig->chunks + chunk];
    const uint8_t *bytes = message_of(rig, rig->rank, chunk);
    uint64_t count = gp_codec_chunk_count(rig, chunk);

    if (add)
        return gp_pipeline_decode_add(rig->pipeline, &context, bytes, length,
                                      target, count, rig->workspaces[thread]);
    return gp_pipeline_decode(rig->pipeline, &context, bytes, length, target,
                              count, rig->workspaces[thread]);
}

static gp_status
fold_chunk(gp_codec_rig *rig, uint32_t thread, uint64_t chunk, bool aggregate)
{
    gp_codec_context contexts[GP_CODEC_FOLD];
    gp_codec_input inputs[GP_CODEC_FOLD];
    uint64_t count = gp_codec_chunk_count(rig, chunk);

    for (uint32_t r = 0; r < rig->ranks; r++) {
        contexts[r] = gp_codec_context_of(rig, r, chunk);
        inputs[r] = (gp_codec_input){&contexts[r], message_of(rig, r, chunk),
                                     rig->lengths[r * rig->chunks + chunk]};
    }
    if (aggregate)
        return gp_pipeline_aggregate(rig->pipeline, inputs, rig->ranks, count,
                                     rig->sums + chunk * rig->slot, rig->slot,
                                     &rig->sum_lengths[chunk],
                                     rig->workspaces[thread]);
    return gp_pipeline_fold(rig->pipeline, inputs, rig->ranks, 0,
                            rig->target + chunk * rig->chunk, count,
                            rig->workspaces[thread]);
}

/* --- error feedback by hand, without the pipeline's memory --- */

static void
add_residual(const float *source, const float *residual, float *sum,
             uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        sum[i] = source[i] + residual[i];
}

static void
take_residual(const float *sum, const float *decoded, float *residual,
              uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        residual[i] = sum[i] - decoded[i];
}

/* Encodes rig->spare[0] without the memory. */
static gp_status
encode_sum(gp_codec_rig *rig, uint32_t thread, uint64_t chunk)
{
    gp_codec_context context = gp_codec_context_of(rig, rig->rank, chunk);

    return gp_pipeline_encode(
        rig->pipeline, &context, NULL, rig->spare[0] + context.offset,
        gp_codec_chunk_count(rig, chunk), message_of(rig, rig->rank, chunk),
        rig->slot, &rig->lengths[rig->rank * rig->chunks + chunk],
        rig->workspaces[thread]);
}

/* Elements `at` to `at + count`, and the chunks they are. */
static gp_status
unfused(gp_codec_rig *rig, uint32_t thread, uint64_t from, uint64_t to)
{
    uint64_t at = from * rig->chunk;
    uint64_t count = GP_MIN(to * rig->chunk, rig->count) - at;
    gp_status status = GP_OK;

    add_residual(rig->source + at, rig->spare[2] + at, rig->spare[0] + at,
                 count);
    for (uint64_t c = from; c < to && status == GP_OK; c++)
        status = encode_sum(rig, thread, c);
    for (uint64_t c = from; c < to && status == GP_OK; c++)
        status =
            decode_chunk(rig, thread, c, false, rig->spare[1] + c * rig->chunk);
    take_residual(rig->spare[0] + at, rig->spare[1] + at, rig->spare[2] + at,
                  count);
    return status;
}

gp_status
gp_codec_part(gp_codec_rig *rig, gp_codec_job job, uint32_t thread,
              uint64_t from, uint64_t to)
{
    uint64_t at = from * rig->chunk, end = GP_MIN(to * rig->chunk, rig->count);
    gp_status status = GP_OK;

    if (from >= to)
        return GP_OK;
    if (job == GP_JOB_COPY)
        memcpy(rig->target + at, rig->source + at, (end - at) * sizeof(float));
    if (job == GP_JOB_SEPARATE)
        return unfused(rig, thread, from, to);
    for (uint64_t c = from; c < to && status == GP_OK; c++) {
        float *target = rig->target + c * rig->chunk;

        if (job == GP_JOB_ENCODE)
            status = encode_chunk(rig, thread, c);
        else if (job == GP_JOB_DECODE || job == GP_JOB_DECODE_ADD)
            status =
                decode_chunk(rig, thread, c, job == GP_JOB_DECODE_ADD, target);
        else if (job == GP_JOB_FOLD || job == GP_JOB_AGGREGATE)
            status = fold_chunk(rig, thread, c, job == GP_JOB_AGGREGATE);
        else if (job == GP_JOB_CHUNKWISE)
            status = unfused(rig, thread, c, c + 1);
    }
    return status;
}

/* --- the crew --- */

static void
do_share(gp_codec_rig *rig, uint32_t thread)
{
    rig->status[thread] = gp_codec_part(
        rig, rig->job, thread, rig->chunks * thread / rig->threads,
        rig->chunks * (thread + 1) / rig->threads);
}

typedef struct gp_hand {
    gp_codec_rig *rig;
    uint32_t thread;
} gp_hand;

static void *
hand_main(void *user)
{
    gp_hand hand = *(gp_hand *)user;

    free(user);
    /* Until all are there and the barriers too. */
    pthread_mutex_lock(&hand.rig->gate);
    pthread_mutex_unlock(&hand.rig->gate);
    for (;;) {
        pthread_barrier_wait(&hand.rig->start);
        if (hand.rig->over)
            return NULL;
        do_share(hand.rig, hand.thread);
        pthread_barrier_wait(&hand.rig->end);
    }
}

static bool
start_hand(gp_codec_rig *rig, uint32_t thread)
{
    gp_hand *hand = malloc(sizeof(*hand));

    if (!hand)
        return false;
    *hand = (gp_hand){rig, thread};
    if (pthread_create(&rig->crew[thread], NULL, hand_main, hand) == 0)
        return true;
    free(hand);
    return false;
}

/* The barriers count those that could be started: they can be ended then. */
static gp_status
start_crew(gp_codec_rig *rig)
{
    uint32_t wanted = rig->threads, t = 1;

    pthread_mutex_lock(&rig->gate);
    while (t < wanted && start_hand(rig, t))
        t++;
    rig->threads = t;
    pthread_barrier_init(&rig->start, NULL, t);
    pthread_barrier_init(&rig->end, NULL, t);
    rig->running = true;
    pthread_mutex_unlock(&rig->gate);
    return t == wanted
               ? GP_OK
               : gp_fail(GP_ERR_SYSTEM,
                         "only %u of %u threads could be started", t, wanted);
}

static void
end_crew(gp_codec_rig *rig)
{
    if (!rig->running)
        return;
    rig->over = true;
    pthread_barrier_wait(&rig->start);
    for (uint32_t t = 1; t < rig->threads; t++)
        pthread_join(rig->crew[t], NULL);
    pthread_barrier_destroy(&rig->start);
    pthread_barrier_destroy(&rig->end);
}

/* Passes over the tensor that come before its chunks; on the caller. */
static gp_status
before_encode(gp_codec_rig *rig)
{
    uint32_t needs = gp_pipeline_needs(rig->pipeline);
    gp_codec_context whole = gp_codec_context_of(rig, rig->rank, 0);
    gp_status status = GP_OK;

    if (needs & GP_PIPELINE_PREPARES)
        status = gp_pipeline_prepare(rig->pipeline, &whole, rig->memory,
                                     rig->source, rig->count);
    for (uint64_t c = 0;
         c < rig->chunks && (needs & GP_PIPELINE_PROPOSES) && status == GP_OK;
         c++) {
        gp_codec_context context = gp_codec_context_of(rig, rig->rank, c);
        float value = 0;

        status = gp_pipeline_propose(rig->pipeline, &context, rig->memory,
                                     rig->source + context.offset,
                                     gp_codec_chunk_count(rig, c), &value);
        /* Not "greater", so that a NaN wins. */
        if (status == GP_OK && !(value <= rig->shared[c]))
            rig->shared[c] = value;
    }
    return status;
}

static gp_status
crew_run(gp_codec_rig *rig)
{
    if (rig->threads > 1)
        pthread_barrier_wait(&rig->start);
    do_share(rig, 0);
    if (rig->threads > 1)
        pthread_barrier_wait(&rig->end);
    for (uint32_t t = 0; t < rig->threads; t++)
        if (rig->status[t] != GP_OK)
            return t == 0 ? rig->status[t]
                          : gp_fail(rig->status[t], "thread %u failed with %s",
                                    t, gp_status_name(rig->status[t]));
    return GP_OK;
}

gp_status
gp_codec_rig_run(gp_codec_rig *rig, gp_codec_job job, const float *source,
                 uint32_t rank, double *seconds)
{
    uint64_t start = gp_clock_ns();
    gp_status status = GP_OK;

    rig->source = source;
    rig->rank = rank;
    rig->job = job;
    if (job == GP_JOB_ENCODE)
        status = before_encode(rig);
    if (status == GP_OK)
        status = crew_run(rig);
    if (seconds)
        *seconds = (double)(gp_clock_ns() - start) / 1e9;
    return status;
}

/* A memory for one encode of another rank than 0. */
static gp_status
with_own_memory(gp_codec_rig *rig, const float *source, uint32_t rank,
                gp_status (*encode)(gp_codec_rig *rig, const float *source,
                                    uint32_t rank))
{
    gp_codec_memory *mine = rig->memory;
    gp_status status = GP_OK;

    rig->memory = NULL;
    status =
        gp_codec_memory_create(rig->pipeline, 0, rig->count, 0, &rig->memory);
    if (status == GP_OK) {
        status = encode(rig, source, rank);
        gp_codec_memory_destroy(rig->memory);
    }
    rig->memory = mine;
    return status;
}

static gp_status
encode_rank(gp_codec_rig *rig, const float *source, uint32_t rank)
{
    return gp_codec_rig_run(rig, GP_JOB_ENCODE, source, rank, NULL);
}

static gp_status
propose_rank(gp_codec_rig *rig, const float *source, uint32_t rank)
{
    rig->source = source;
    rig->rank = rank;
    return before_encode(rig);
}

gp_status
gp_codec_rig_fill(gp_codec_rig *rig, const gp_codec_source *source)
{
    bool agree = gp_pipeline_needs(rig->pipeline) & GP_PIPELINE_PROPOSES;
    gp_status status = GP_OK;

    memset(rig->shared, 0, rig->chunks * sizeof(float));
    for (uint32_t r = 0; r < rig->ranks && agree && status == GP_OK; r++)
        status = with_own_memory(rig, gp_codec_source_at(source, rig->step, r),
                                 r, propose_rank);
    for (uint32_t r = 0; r < rig->ranks && status == GP_OK; r++)
        status = with_own_memory(rig, gp_codec_source_at(source, rig->step, r),
                                 r, encode_rank);
    return status;
}

/* --- making one --- */

static void
choose_chunks(gp_codec_rig *rig)
{
    uint64_t bytes = rig->bench->chunk_bytes;

    if (!bytes)
        bytes = gp_pipeline_properties(rig->pipeline) & GP_CODEC_WIDE
                    ? WIDE_BYTES
                    : CHUNK_BYTES;
    rig->chunk =
        GP_MAX(bytes / sizeof(float) / CHUNK_QUANTUM, 1u) * CHUNK_QUANTUM;
    rig->chunks = GP_MAX((rig->count + rig->chunk - 1) / rig->chunk, 1u);
}

static gp_status
allocate_messages(gp_codec_rig *rig)
{
    uint64_t largest = GP_MIN(rig->chunk, rig->count);
    size_t bound = gp_pipeline_bound(rig->pipeline, largest), bytes;
    size_t messages = rig->ranks * rig->chunks;

    if (bound == SIZE_MAX || !gp_mul(messages, bound + 64, &bytes) ||
        bytes > SLOTS_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "messages of %u workers take more than %llu GiB: lower "
                       "--workers or the size",
                       rig->ranks, (unsigned long long)(SLOTS_MAX >> 30));
    rig->slot = (bound + 63) / 64 * 64;
    rig->stride =
        (rig->chunks * rig->slot + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES +
        COLOUR_BYTES;
    rig->messages = gp_alloc_aligned(rig->ranks * rig->stride + 1);
    rig->lengths = calloc(messages, sizeof(size_t));
    rig->shared = calloc(rig->chunks, sizeof(float));
    if (gp_pipeline_needs(rig->pipeline) & GP_PIPELINE_AGGREGATES) {
        rig->sums = gp_alloc_aligned(rig->chunks * rig->slot + 1);
        rig->sum_lengths = calloc(rig->chunks, sizeof(size_t));
    }
    return rig->messages && rig->lengths && rig->shared
               ? GP_OK
               : gp_fail(GP_ERR_NO_MEMORY, "no memory for messages");
}

static gp_status
allocate_rest(gp_codec_rig *rig)
{
    uint64_t largest = GP_MIN(rig->chunk, rig->count);
    size_t workspace = gp_pipeline_workspace(rig->pipeline, largest);
    bool ok = true;

    rig->target = gp_alloc_aligned(rig->count * sizeof(float) + 1);
    rig->workspaces = calloc(rig->threads, sizeof(void *));
    rig->crew = calloc(rig->threads, sizeof(pthread_t));
    rig->status = calloc(rig->threads, sizeof(gp_status));
    for (uint32_t t = 0; t < rig->threads && rig->workspaces; t++)
        ok &= (rig->workspaces[t] = gp_alloc_aligned(workspace + 1)) != NULL;
    for (size_t i = 0; i < 3 && rig->bench->feedback; i++) {
        rig->spare[i] = gp_alloc_aligned(rig->count * sizeof(float) + 1);
        ok &= rig->spare[i] != NULL;
        if (rig->spare[i])
            memset(rig->spare[i], 0, rig->count * sizeof(float));
    }
    if (!ok || !rig->target || !rig->workspaces || !rig->crew || !rig->status)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %llu elements",
                       (unsigned long long)rig->count);
    memset(rig->target, 0, rig->count * sizeof(float));
    return GP_OK;
}

gp_status
gp_codec_rig_create(const gp_codec_bench *bench, const char *text,
                    const gp_codec_source *source, gp_codec_rig *rig)
{
    gp_codec_shape shape = {source->count, source->columns};
    gp_status status;

    *rig = (gp_codec_rig){.bench = bench,
                          .count = source->count,
                          .ranks = bench->workers,
                          .threads = bench->threads,
                          .seed = bench->seed,
                          .gate = PTHREAD_MUTEX_INITIALIZER};
    status = gp_pipeline_open(text, &shape, &rig->pipeline);
    if (status != GP_OK)
        return status;
    choose_chunks(rig);
    status = allocate_messages(rig);
    if (status == GP_OK)
        status = allocate_rest(rig);
    if (status == GP_OK)
        status = gp_codec_memory_create(rig->pipeline, 0, rig->count,
                                        bench->feedback, &rig->memory);
    if (status == GP_OK)
        status = start_crew(rig);
    return status;
}

void
gp_codec_rig_destroy(gp_codec_rig *rig)
{
    end_crew(rig);
    gp_codec_memory_destroy(rig->memory);
    gp_pipeline_destroy(rig->pipeline);
    for (uint32_t t = 0; t < rig->bench->threads && rig->workspaces; t++)
        free(rig->workspaces[t]);
    for (size_t i = 0; i < 3; i++)
        free(rig->spare[i]);
    free(rig->workspaces);
    free(rig->crew);
    free(rig->status);
    free(rig->messages);
    free(rig->lengths);
    free(rig->sums);
    free(rig->sum_lengths);
    free(rig->shared);
    free(rig->target);
}
