/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_fold.c - from pushes to the result of a step.
 *
 * Weighted pushes are folded one by one, since they are multiplied first.
 *
 * A step of a chunk is complete when the pushes of all ranks have been folded,
 * in rank order: the sum has the same bits whatever the order of arrival. With
 * workers that come and go, it is those of ranks that have pushed or take part;
 * the sum is divided at the end, by what is in it.
 * Neighbours that went through one pipeline are a run. Its first may stay in
 * their slots until the last is there, because one pass over all costs less
 * memory traffic than one for each. When a step is one run of messages that can
 * be summed as they are, and results travel in the same form, nothing is
 * decoded at all; then the run must not be broken, or results would depend on
 * the moment.
 *
 * A sum whose result travels encoded is formed in a buffer of the shard's, one
 * for all chunks, when all pushes are there at once: it stays in the cache, and
 * nobody needs the sum once it is encoded.
 */
#include <math.h>
#include <stdlib.h>

#include "shard/fold.h"
#include "shard/shard_rows.h"

static bool
is_dense(const gp_chunk *c, uint32_t rank)
{
    return c->entry[rank].codec == c->tensor->dense;
}

static bool
is_next(const gp_chunk *c, uint32_t rank)
{
    return c->entry[rank].pending && c->entry[rank].msg.step == c->version;
}

static bool
is_weighted(const gp_chunk *c, uint32_t rank)
{
    return c->entry[rank].weight != 1.0;
}

static bool
any_weighted(const gp_shard *s, const gp_chunk *c)
{
    for (int64_t r = 0; r < s->size; r++)
        if (is_weighted(c, (uint32_t)r))
            return true;
    return false;
}

static bool
all_next(const gp_shard *s, const gp_chunk *c)
{
    for (int64_t r = 0; r < s->size; r++)
        if (!is_next(c, (uint32_t)r) && gp_rank_is_awaited(s, (uint32_t)r))
            return false;
    return true;
}

/* The memory of the local worker's result, when the sum may be formed there:
 * every worker waits for this very result, and folding does not overwrite a
 * push before it is read. */
static float *
lendable(const gp_shard *s, const gp_chunk *c)
{
    const gp_entry *e;
    const char *low, *high, *payload;
    float *target;
    int64_t local = -1;

    for (int64_t r = 0; r < s->size; r++) {
        if (!s->worker[r] || c->entry[r].answer != ANSWER_RESULT)
            return NULL;
        if (s->worker[r]->local)
            local = r;
    }
    if (!s->destination || local < 0 || !c->tensor->pull_dense)
        return NULL;
    /* A device would not know that memory. */
    if (s->size > 1 &&
        s->link[0].ops->caps & (GP_CAP_REGISTERED | GP_CAP_DEVICE))
        return NULL;
    e = &c->entry[local];
    if (any_weighted(s, c))
        return NULL;
    target = s->destination(s->user, c->number, e->cookie);
    low = (const char *)target;
    high = low + c->info->count * sizeof(float);
    payload = e->payload;
    if (!target || payload >= high || payload + e->length <= low)
        return target;
    /* In place: safe when both are read and written element by element. */
    return payload == low && local <= 1 && is_dense(c, 0) &&
                   (s->size < 2 || is_dense(c, 1))
               ? target
               : NULL;
}

/* Whether folding may begin, and into which buffer. A worker that has pushed
 * the next step will not ask for the last result any more: when all have, the
 * sum is formed in place, once that result has left. Otherwise it is formed in
 * the second buffer. */
static bool
begin_step(gp_shard *s, gp_chunk *c)
{
    if (gp_updater_keeps(&c->tensor->updater))
        return true;
    c->sum = c->value;
    if (all_next(s, c)) {
        float *target = c->sending == 0 ? gp_chunk_slot_sum(s, c) : NULL;

        if (c->sending == 0 && !target)
            target = lendable(s, c);

        if (!c->tensor->pull_dense && c->info->count <= s->hot_count)
            target = s->hot;
        if (target)
            c->sum = target;
        return c->sending == 0;
    }
    if (c->spent)
        return c->sending == 0;
    c->sum = c->spare;
    return true;
}

static float
last_scale(const gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    if (s->elastic || rank + 1 < s->size || c->weighted)
        return 1.0f;
    return gp_updater_scale(&c->tensor->updater, (uint32_t)s->size);
}

gp_codec_context
gp_chunk_context(const gp_shard *s, const gp_chunk *c, uint64_t step,
                 uint32_t rank)
{
    return (gp_codec_context){.seed = s->list.seed,
                              .tensor = c->info->tensor,
                              .offset = c->info->offset,
                              .step = step,
                              .rank = rank,
                              .size = (uint32_t)s->size,
                              .shared = c->shared};
}

/* Ranks from `first` on whose pushes are there and went through one pipeline.
 */
static uint32_t
run_length(const gp_shard *s, const gp_chunk *c, uint32_t first)
{
    int codec = c->entry[first].codec;
    uint32_t last = first + 1;

    while (last < s->size && is_next(c, last) &&
           c->entry[last].codec == codec && !is_weighted(c, last) &&
           !is_weighted(c, first))
        last++;
    return last - first;
}

static bool
is_stashed(const gp_chunk *c, uint32_t first, uint32_t count)
{
    for (uint32_t r = first; r < first + count; r++)
        if (c->entry[r].stash)
            return true;
    return false;
}

/* Whether a run may yet grow, and it pays to wait for that. */
static bool
may_grow(const gp_shard *s, const gp_chunk *c, uint32_t first, uint32_t count)
{
    const shard_tensor *t = c->tensor;
    uint32_t end = first + count;
    int codec = c->entry[first].codec;

    if (end == s->size || is_next(c, end) || is_weighted(c, first) ||
        !gp_rank_is_awaited(s, end))
        return false;
    if (first == 0 && codec == t->summed)
        return true;
    if (!s->worker[end] || is_stashed(c, first, count))
        return false;
    if (codec == t->dense)
        return first == 0 && count == 1;
    return t->folds >> codec & 1;
}

/* A payload that is fp32 as it lies. */
static void
fold_dense(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];
    float scale = last_scale(s, c, rank);
    size_t n = c->info->count;

    c->scaled = !s->elastic && rank + 1 == s->size && !c->weighted;
    if (c->folded > 0)
        gp_fold_add(c->sum, c->sum, e->payload, scale, n);
    else if (scale != 1.0f)
        gp_fold_scale(c->sum, e->payload, scale, n);
    else if (c->sum != e->payload)
        gp_fold_copy(c->sum, e->payload, n);
}

/* The first two at once, when both are there. */
static uint32_t
fold_dense_run(gp_shard *s, gp_chunk *c, uint32_t first, uint32_t count)
{
    const gp_entry *e = &c->entry[first];

    if (c->folded > 0 || count < 2) {
        fold_dense(s, c, first);
        return 1;
    }
    gp_fold_add(c->sum, e[0].payload, e[1].payload, last_scale(s, c, first + 1),
                c->info->count);
    c->scaled = !s->elastic && s->size == 2;
    return 2;
}

static size_t
list_inputs(gp_shard *s, const gp_chunk *c, uint32_t first, uint32_t count)
{
    size_t n = GP_MIN(count, GP_CODEC_FOLD);

    for (size_t i = 0; i < n; i++) {
        const gp_entry *e = &c->entry[first + i];

        s->context[i] =
            gp_chunk_context(s, c, e->msg.step, first + (uint32_t)i);
        s->input[i] = (gp_codec_input){&s->context[i], e->payload, e->length};
    }
    return n;
}

static const gp_pipeline *
pipeline_of(const gp_chunk *c, uint32_t rank)
{
    return c->tensor->push.pipeline[c->entry[rank].codec];
}

static gp_status
try_decode(gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];
    gp_codec_context context = gp_chunk_context(s, c, e->msg.step, rank);

    return gp_pipeline_decode(pipeline_of(c, rank), &context, e->payload,
                              e->length, c->sum, c->info->count, s->workspace);
}

/* A run could not be folded: finds out whose message it was. */
static void
blame(gp_shard *s, gp_chunk *c, uint32_t first, uint32_t count,
      gp_status status)
{
    uint32_t rank = first;

    while (rank < first + count && try_decode(s, c, rank) == GP_OK)
        rank++;
    if (rank < first + count)
        gp_shard_fail(s, status,
                      "worker %u pushed damaged data for tensor '%.60s': "
                      "%.200s",
                      rank, c->tensor->spec->name, gp_last_error());
    else
        gp_shard_fail(s, status,
                      "tensor '%.60s': codec %.100s cannot sum the pushes of "
                      "%u workers, each of which is sound",
                      c->tensor->spec->name,
                      gp_pipeline_name(pipeline_of(c, first)), count);
}

/* Sums messages as they are, into what will be sent. */
static gp_status
sum_encoded(gp_shard *s, gp_chunk *c, uint32_t count)
{
    const gp_pipeline *p = c->tensor->pull;
    size_t bound = gp_pipeline_bound(p, c->info->count);

    c->summed = true;
    c->encoded_shared = c->shared;
    return gp_pipeline_aggregate(p, s->input, count, c->info->count, c->encoded,
                                 bound, &c->encoded_length, s->workspace);
}

/* A buffer for one push of any chunk, made when first needed. */
static float *
scaled_buffer(gp_shard *s)
{
    size_t bytes = s->scaled_count * sizeof(float);

    if (!s->scaled)
        s->scaled = gp_alloc_aligned(bytes);
    if (!s->scaled)
        gp_shard_fail(s, GP_ERR_NO_MEMORY, "weighted push of %zu bytes", bytes);
    return s->scaled;
}

/* One push times its weight, decoded into `out`, which it replaces. */
static bool
decode_weighted(gp_shard *s, gp_chunk *c, uint32_t rank, float *out)
{
    const gp_entry *e = &c->entry[rank];
    float weight = (float)e->weight;
    gp_status status;

    if (is_dense(c, rank)) {
        gp_fold_scale(out, e->payload, weight, c->info->count);
        return true;
    }
    list_inputs(s, c, rank, 1);
    status = gp_pipeline_fold(pipeline_of(c, rank), s->input, 1, false, out,
                              c->info->count, s->workspace);
    if (status != GP_OK) {
        blame(s, c, rank, 1, status);
        return false;
    }
    if (weight != 1.0f)
        gp_fold_scale(out, out, weight, c->info->count);
    return true;
}

bool
gp_entry_fold(gp_shard *s, gp_chunk *c, uint32_t rank, bool add)
{
    const gp_entry *e = &c->entry[rank];
    size_t n = c->info->count;
    gp_status status;

    if (c->rows)
        return gp_rows_fold(s, c, rank, add);
    if (!add)
        return decode_weighted(s, c, rank, c->sum);
    if (is_weighted(c, rank)) {
        float *scaled = scaled_buffer(s);

        if (!scaled || !decode_weighted(s, c, rank, scaled))
            return false;
        gp_fold_add(c->sum, c->sum, scaled, 1.0f, n);
        return true;
    }
    if (is_dense(c, rank)) {
        gp_fold_add(c->sum, c->sum, e->payload, 1.0f, n);
        return true;
    }
    list_inputs(s, c, rank, 1);
    status = gp_pipeline_fold(pipeline_of(c, rank), s->input, 1, true, c->sum,
                              n, s->workspace);
    if (status != GP_OK)
        blame(s, c, rank, 1, status);
    return status == GP_OK;
}

/* Folds as many of a run as one pass takes; 0 when that failed. */
static uint32_t
fold_run(gp_shard *s, gp_chunk *c, uint32_t first, uint32_t count)
{
    const shard_tensor *t = c->tensor;
    uint32_t n;
    gp_status status;

    if (is_weighted(c, first) || c->rows)
        return gp_entry_fold(s, c, first, c->folded > 0);
    if (c->entry[first].codec == t->dense)
        return fold_dense_run(s, c, first, count);
    n = (uint32_t)list_inputs(s, c, first, count);
    if (n == s->size && c->entry[first].codec == t->summed)
        status = sum_encoded(s, c, n);
    else
        status =
            gp_pipeline_fold(pipeline_of(c, first), s->input, n, c->folded > 0,
                             c->sum, c->info->count, s->workspace);
    if (status == GP_OK)
        return n;
    blame(s, c, first, n, status);
    return 0;
}

static void
folded(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = &c->entry[rank];
    bool in_slot =
        e->payload && c->sum == e->payload && !gp_shard_is_local(s, rank);

    if (in_slot)
        gp_chunk_keep_slot(c);
    else
        gp_entry_free(s, s->worker[rank], e);
    e->pending = false;
    e->next_step = c->version + 1;
    c->weight += e->weight;
    c->weighted |= e->weight != 1.0;
    if (e->answer == ANSWER_ACK)
        gp_entry_settle(s, c, rank);
}

/* Differences add up to what they are differences to. What is not finite is in
 * the result of its step, and not in those after it. */
static void
add_history(float *history, float *sum, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float h = history[i] + sum[i];

        history[i] = isfinite(h) ? h : history[i];
        sum[i] = h * scale;
    }
}

/* What the sum of a step is multiplied with. */
static float
scale_of(const gp_shard *s, const gp_chunk *c)
{
    const gp_updater *u = &c->tensor->updater;

    if (c->weighted && u->kind != GP_UPDATER_SUM)
        return (float)(1.0 / c->weight);
    return gp_updater_scale(u, s->elastic ? c->folded : (uint32_t)s->size);
}

/* The sum as the updater wants it. */
static void
finish_sum(gp_shard *s, gp_chunk *c)
{
    float scale = scale_of(s, c);
    size_t n = c->info->count;

    if (c->rows) {
        c->rows->scale = scale;
    } else if (c->history) {
        add_history(c->history, c->sum, scale, n);
    } else if (!c->scaled && scale != 1.0f) {
        gp_fold_scale(c->sum, c->sum, scale, n);
    }
}

/* The sum becomes the result, where it lies or through the updater. */
static void
take_sum(gp_chunk *c)
{
    c->lent = NULL;
    c->spent = false;
    if (gp_updater_keeps(&c->tensor->updater)) {
        (void)gp_chunk_update(c, c->sum);
    } else if (c->sum == c->spare) {
        c->spare = c->value;
        c->value = c->sum;
    } else if (c->sum != c->value) {
        c->lent = c->sum;
        c->sum = c->value;
    }
}

static void
settle_results(gp_shard *s, gp_chunk *c, bool local)
{
    for (int64_t r = 0; r < s->size; r++)
        if (gp_shard_is_local(s, r) == local &&
            c->entry[r].answer == ANSWER_RESULT && !c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
}

void
gp_chunk_begin_next(gp_chunk *c)
{
    c->version++;
    c->next_rank = c->folded = 0;
    c->weight = 0;
    c->weighted = c->scaled = false;
    c->encoded_valid = c->encoded_is_sum = c->summed;
    c->summed = false;
    c->crc_valid = false;
    c->since_ns = 0;
}

void
gp_chunk_settle_step(gp_shard *s, gp_chunk *c)
{
    for (int64_t r = 0; r < s->size; r++)
        if (!c->since_ns &&
            (is_next(c, (uint32_t)r) || c->entry[r].answer == ANSWER_AGREE))
            c->since_ns = gp_clock_ns();
    settle_results(s, c, false);
    settle_results(s, c, true);
}

/* False when it has to wait for norms. */
static bool
complete(gp_shard *s, gp_chunk *c)
{
    bool hot = c->sum == s->hot && !c->summed;

    if (!c->summed && !c->stage)
        finish_sum(s, c);
    if (gp_updater_keeps(&c->tensor->updater) && !gp_chunk_measure(s, c))
        return false;
    if (c->sum == s->hot)
        c->sum = c->value;
    take_sum(c);
    gp_chunk_begin_next(c);
    if (hot && gp_chunk_encode(s, c, s->hot) != GP_OK)
        return true;
    gp_chunk_settle_step(s, c);
    return true;
}

/* Its push of this step is folded, or nobody waits for one. */
static bool
is_absent(const gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    return !is_next(c, rank) && (c->entry[rank].next_step > c->version ||
                                 !gp_rank_is_awaited(s, rank));
}

/* Without members there are no steps: what the dead have pushed waits for
 * whoever comes. */
static void
skip_absent(const gp_shard *s, gp_chunk *c)
{
    if (!s->elastic || gp_shard_members_here(s) == 0)
        return;
    while (c->next_rank < s->size && is_absent(s, c, c->next_rank))
        c->next_rank++;
}

uint32_t
gp_chunk_run(const gp_shard *s, gp_chunk *c)
{
    skip_absent(s, c);
    return c->next_rank < s->size && is_next(c, c->next_rank)
               ? run_length(s, c, c->next_rank)
               : 0;
}

bool
gp_chunk_is_whole(const gp_shard *s, const gp_chunk *c)
{
    return c->next_rank == s->size && c->folded > 0 && c->sending == 0;
}

float
gp_chunk_scale(const gp_shard *s, const gp_chunk *c)
{
    return scale_of(s, c);
}

/* Folds what can be folded, completes the step when all ranks are in. */
void
gp_chunk_advance(gp_shard *s, gp_chunk *c)
{
    if (c->device) {
        gp_chunk_device_advance(s, c);
        return;
    }
    if (c->tensor->arrives) {
        gp_chunk_arrive(s, c);
        return;
    }
    skip_absent(s, c);
    if (c->next_rank == s->size) {
        if (c->folded == 0 || c->sending > 0 || !complete(s, c))
            return;
        skip_absent(s, c);
    }
    while (c->next_rank < s->size && is_next(c, c->next_rank)) {
        uint32_t first = c->next_rank, count = run_length(s, c, first), done;

        if (may_grow(s, c, first, count))
            return;
        if (c->folded == 0 && !begin_step(s, c))
            return;
        done = fold_run(s, c, first, count);
        if (done == 0)
            return;
        for (uint32_t r = first; r < first + done; r++)
            folded(s, c, r);
        c->next_rank = first + done;
        c->folded += done;
        skip_absent(s, c);
        if (c->next_rank < s->size)
            continue;
        if (c->sending > 0 || !complete(s, c))
            return;
        skip_absent(s, c);
    }
}
