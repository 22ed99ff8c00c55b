/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows_plan.c - sorting a call's rows, and the payloads that follow from it.
 *
 * What is pushed of one row more than once is added up here, in the caller's
 * order, so that a row crosses the wire once; a row that is pulled more than
 * once is copied here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "worker/rows.h"

#define DIGIT_BITS 11u
#define DIGITS     (1u << DIGIT_BITS)
#define SORT_FEW   48u

static bool
open_side(gp_rows_side *side, uint32_t batch, uint32_t shards)
{
    side->place = malloc(batch * sizeof(*side->place));
    side->begin = calloc(shards + 1u, sizeof(*side->begin));
    side->distinct = calloc(shards, sizeof(*side->distinct));
    return side->place && side->begin && side->distinct;
}

static void
close_side(gp_rows_side *side)
{
    free(side->place);
    free(side->begin);
    free(side->distinct);
}

void
gp_rows_plan_free(gp_rows_plan *plan)
{
    if (!plan)
        return;
    close_side(&plan->push);
    close_side(&plan->pull);
    free(plan->spare);
    free(plan->row);
    free(plan->coded);
    free(plan);
}

gp_status
gp_rows_plan_create(gp_request *r)
{
    gp_worker *w = r->tensor->worker;
    gp_row_spec spec = gp_row_spec_of(&r->tensor->spec);
    gp_rows_plan *plan = calloc(1, sizeof(*plan));

    if (!plan)
        return GP_ERR_NO_MEMORY;
    plan->spare = malloc(spec.batch * sizeof(*plan->spare));
    plan->row = malloc(spec.width * sizeof(*plan->row));
    plan->coded = gp_alloc_aligned(
        gp_pipeline_bound(r->tensor->push.pipeline[0], spec.width));
    if (!plan->spare || !plan->row || !plan->coded ||
        !open_side(&plan->push, spec.batch, w->shards) ||
        !open_side(&plan->pull, spec.batch, w->shards)) {
        gp_rows_plan_free(plan);
        return GP_ERR_NO_MEMORY;
    }
    r->plan = plan;
    atomic_fetch_add(&w->memory,
                     3 * (uint64_t)spec.batch * sizeof(*plan->spare));
    return GP_OK;
}

static void
sort_few(gp_row_place *place, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        gp_row_place p = place[i];
        size_t at = i;

        for (; at > 0 && place[at - 1].index > p.index; at--)
            place[at] = place[at - 1];
        place[at] = p;
    }
}

/* One pass of a radix sort, lowest digit first. */
static void
sort_digit(const gp_row_place *from, gp_row_place *to, size_t count,
           unsigned shift)
{
    uint32_t at[DIGITS] = {0}, sum = 0;

    for (size_t i = 0; i < count; i++)
        at[from[i].index >> shift & (DIGITS - 1)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint32_t here = at[d];

        at[d] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++)
        to[at[from[i].index >> shift & (DIGITS - 1)]++] = from[i];
}

void
gp_rows_sort(gp_row_place *place, gp_row_place *spare, size_t count)
{
    gp_row_place *from = place, *to = spare;
    uint64_t all = 0, none = 0;

    if (count <= SORT_FEW) {
        sort_few(place, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        all |= place[i].index;
        none |= ~place[i].index;
    }
    for (unsigned shift = 0; shift < 64; shift += DIGIT_BITS) {
        gp_row_place *other = from;

        if (!((all & none) >> shift & (DIGITS - 1)))
            continue; /* all have the same digit */
        sort_digit(from, to, count, shift);
        from = to;
        to = other;
    }
    if (from != place)
        memcpy(place, from, count * sizeof(*place));
}

/* Whether a place is another row than the one before. */
static bool
is_first(const gp_row_place *place, uint32_t at, uint32_t begin)
{
    return at == begin || place[at].index != place[at - 1].index;
}

static uint32_t
count_distinct(const gp_rows_side *side, uint32_t shard)
{
    uint32_t begin = side->begin[shard], end = side->begin[shard + 1], n = 0;

    for (uint32_t i = begin; i < end; i++)
        n += is_first(side->place, i, begin);
    return n;
}

/* By shard, keeping the order; then by index within each. */
static void
deal(gp_rows_side *side, const gp_rows_list *list, gp_row_place *spare,
     uint32_t shards)
{
    uint32_t *at = side->distinct, sum = 0;

    memset(at, 0, shards * sizeof(*at));
    for (size_t i = 0; i < list->count; i++)
        at[gp_row_shard(list->index[i], shards)]++;
    for (uint32_t s = 0; s < shards; s++) {
        side->begin[s] = sum;
        sum += at[s];
        at[s] = side->begin[s];
    }
    side->begin[shards] = sum;
    for (size_t i = 0; i < list->count; i++)
        side->place[at[gp_row_shard(list->index[i], shards)]++] =
            (gp_row_place){list->index[i], (uint32_t)i};
    for (uint32_t s = 0; s < shards; s++) {
        gp_rows_sort(side->place + side->begin[s], spare,
                     side->begin[s + 1] - side->begin[s]);
        side->distinct[s] = count_distinct(side, s);
    }
}

void
gp_rows_plan_make(gp_request *r, const gp_rows_call *call)
{
    gp_rows_plan *plan = r->plan;
    uint32_t shards = r->tensor->worker->shards;

    plan->values = call->values;
    plan->out = call->out;
    deal(&plan->push, &call->push, plan->spare, shards);
    deal(&plan->pull, &call->pull, plan->spare, shards);
}

static const gp_row_codec *
push_codec(const gp_op *op)
{
    return &op->request->tensor->row_push;
}

static const gp_row_codec *
pull_codec(const gp_op *op)
{
    return &op->request->tensor->row_pull;
}

/* As the shard's: by the row, not by those beside it. */
static gp_codec_context
context_of(const gp_op *op, uint64_t index, uint64_t step, uint32_t rank)
{
    const gp_tensor *t = op->request->tensor;

    return (gp_codec_context){.seed = t->worker->seed,
                              .tensor = t->index,
                              .offset = index * t->row_push.width,
                              .step = step,
                              .rank = rank,
                              .size = t->worker->size};
}

/* Of the next message: a push has also what is pulled, whether or not the shard
 * is to answer with it. */
static uint32_t
pushed(const gp_op *op)
{
    return gp_op_sends_push(op)
               ? op->request->plan->push.distinct[op->conn->shard]
               : 0;
}

static uint32_t
wanted(const gp_op *op)
{
    return op->request->plan->pull.distinct[op->conn->shard];
}

size_t
gp_rows_op_bytes(const gp_op *op)
{
    return gp_rows_bytes(pushed(op), wanted(op), push_codec(op)->bytes);
}

size_t
gp_rows_op_result(const gp_op *op)
{
    return gp_rows_result_bytes(wanted(op), pull_codec(op)->bytes);
}

static uint8_t *
put_indices(const gp_rows_side *side, uint32_t shard, uint8_t *out)
{
    uint32_t begin = side->begin[shard];

    for (uint32_t i = begin; i < side->begin[shard + 1]; i++)
        if (is_first(side->place, i, begin)) {
            gp_put64(out, side->place[i].index);
            out += 8;
        }
    return out;
}

/* What was pushed of a row, from place i on, added up; the place behind. */
static uint32_t
add_up(const gp_rows_plan *plan, uint32_t i, uint32_t end, uint32_t width,
       float *sum)
{
    const gp_row_place *place = plan->push.place;
    uint64_t index = place[i].index;

    memcpy(sum, plan->values + (size_t)place[i].position * width,
           width * sizeof(float));
    while (++i < end && place[i].index == index) {
        const float *row = plan->values + (size_t)place[i].position * width;

        for (uint32_t k = 0; k < width; k++)
            sum[k] += row[k];
    }
    return i;
}

static gp_status
put_values(const gp_op *op, uint8_t *out)
{
    const gp_rows_plan *plan = op->request->plan;
    const gp_row_codec *codec = push_codec(op);
    gp_worker *w = op->conn->worker;
    uint32_t end = plan->push.begin[op->conn->shard + 1];
    size_t bound = gp_pipeline_bound(codec->pipeline, codec->width), length;
    gp_status status = GP_OK;

    for (uint32_t i = plan->push.begin[op->conn->shard];
         status == GP_OK && i < end; out += codec->bytes) {
        gp_codec_context context = context_of(op, plan->push.place[i].index,
                                              op->request->step, w->rank);

        i = add_up(plan, i, end, codec->width, plan->row);
        if (!codec->plain)
            status = gp_pipeline_encode(codec->pipeline, &context, NULL,
                                        plan->row, codec->width, plan->coded,
                                        bound, &length, w->workspace);
        memcpy(out, codec->plain ? (const void *)plan->row : plan->coded,
               codec->bytes);
    }
    return status;
}

gp_status
gp_rows_encode(const gp_op *op, uint8_t *out, size_t capacity, size_t *length)
{
    const gp_rows_plan *plan = op->request->plan;
    uint32_t shard = op->conn->shard;
    size_t bytes = gp_rows_op_bytes(op);
    uint8_t *at = out + GP_ROWS_HEAD;

    if (bytes > capacity)
        return gp_fail(GP_ERR_TOO_LARGE, "%zu bytes of rows", bytes);
    gp_put32(out, pushed(op));
    gp_put32(out + 4, wanted(op));
    if (gp_op_sends_push(op))
        at = put_indices(&plan->push, shard, at);
    at = put_indices(&plan->pull, shard, at);
    *length = bytes;
    return gp_op_sends_push(op) ? put_values(op, at) : GP_OK;
}

gp_status
gp_rows_scatter(const gp_op *op, const void *bytes, size_t length,
                uint64_t version)
{
    const gp_rows_plan *plan = op->request->plan;
    const gp_rows_side *side = &plan->pull;
    const gp_row_codec *codec = pull_codec(op);
    uint32_t begin = side->begin[op->conn->shard];
    const uint8_t *next = bytes;
    const float *row = plan->row;
    gp_status status = GP_OK;

    if (length != gp_rows_op_result(op))
        return gp_fail(GP_ERR_PROTOCOL, "%zu bytes for %u rows", length,
                       wanted(op));
    for (uint32_t i = begin;
         status == GP_OK && i < side->begin[op->conn->shard + 1]; i++) {
        gp_codec_context context =
            context_of(op, side->place[i].index, version, GP_RANK_SHARD);
        float *out = plan->out + (size_t)side->place[i].position * codec->width;

        if (!is_first(side->place, i, begin)) {
            memcpy(out, row, codec->width * sizeof(float));
            continue;
        }
        row = out;
        if (codec->plain)
            memcpy(out, next, codec->bytes);
        else
            status = gp_pipeline_decode(codec->pipeline, &context, next,
                                        codec->bytes, out, codec->width,
                                        op->conn->worker->workspace);
        next += codec->bytes;
    }
    return status;
}
