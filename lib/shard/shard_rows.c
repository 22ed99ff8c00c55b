/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_rows.c - pushes and pulls of rows.
 *
 * A row exists from its first update on; before, it is computed when somebody
 * asks. So pulls never take memory, and two shards or two runs cannot differ in
 * what they begin with.
 *
 * The rows of a step are summed in a table of their own, rank by rank, then
 * each is updated by itself: nothing depends on the order of rows, nor on which
 * shard they are on. The number that an optimizer corrects its averages with is
 * the row's own, the learning rate is that of the tensor's step.
 *
 * A push's values may lie in memory that its worker's device can write: they
 * are read once, and their counts were taken before.
 */
#include "shard/shard_rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "shard/row_init.h"

/* Results of one worker begin at a cache line. */
static size_t
result_stride(const gp_chunk *c)
{
    uint32_t batch = gp_row_spec_of(c->tensor->spec).batch;
    size_t bytes = gp_rows_result_bytes(batch, c->tensor->row_pull.bytes);

    /* Encoders want room for their bound, also behind the last row. */
    bytes += gp_pipeline_bound(c->tensor->pull, c->tensor->row_pull.width);
    return (bytes + 63) & ~(size_t)63;
}

size_t
gp_rows_result_room(const gp_shard *s, const gp_chunk *c)
{
    return result_stride(c) * (size_t)s->size;
}

static uint32_t
count_arrays(const gp_updater *u)
{
    return (uint32_t)__builtin_popcount(u->arrays);
}

gp_status
gp_rows_open(gp_shard *s, gp_chunk *c)
{
    const shard_tensor *t = c->tensor;
    gp_row_store *store = calloc(1, sizeof(*store));
    uint64_t *index;

    if (!store)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor of rows");
    c->rows = store;
    store->shard = s;
    store->scale = 1.0f;
    store->spec = gp_row_spec_of(t->spec);
    store->push = t->row_push;
    store->pull = t->row_pull;
    store->row = calloc(store->spec.width, sizeof(*store->row));
    gp_row_table_open(&store->kept,
                      (size_t)store->spec.width *
                          (1 + count_arrays(&t->updater)),
                      &s->rows_budget);
    gp_row_table_open(&store->sum, store->spec.width, &s->rows_budget);
    store->wanted = calloc((size_t)s->size, sizeof(*store->wanted));
    index = calloc((size_t)s->size * store->spec.batch, sizeof(*index));
    if (!store->wanted || !index || !store->row) {
        free(index);
        return gp_fail(GP_ERR_NO_MEMORY, "tensor of rows");
    }
    for (int64_t r = 0; r < s->size; r++)
        store->wanted[r].index = index + (size_t)r * store->spec.batch;
    return GP_OK;
}

void
gp_rows_close(gp_chunk *c)
{
    gp_row_store *store = c->rows;

    if (!store)
        return;
    gp_row_table_close(&store->kept);
    gp_row_table_close(&store->sum);
    if (store->wanted)
        free(store->wanted[0].index);
    free(store->wanted);
    free(store->row);
    free(store);
    c->rows = NULL;
}

gp_status
gp_rows_take(gp_shard *s, gp_chunk *c, uint32_t rank, const gp_msg *m,
             const void *payload, gp_rows_view *view)
{
    bool lookup = m->type == GP_MSG_LOOKUP;
    gp_row_wanted *wanted = &c->rows->wanted[rank];
    const gp_row_spec *spec = &c->rows->spec;
    gp_rows_view v;
    gp_status status =
        gp_rows_decode(payload, m->payload, spec, c->rows->push.bytes,
                       (uint32_t)s->index, (uint32_t)s->shards, &v);

    if (status == GP_OK && lookup && v.pushed > 0)
        status = gp_fail(GP_ERR_PROTOCOL, "%u rows pushed by a pull", v.pushed);
    if (status != GP_OK)
        return status;
    *view = v;
    if (!lookup && !(m->flags & GP_MSG_WANT))
        return GP_OK;
    wanted->count = v.wanted;
    for (uint32_t i = 0; i < v.wanted; i++)
        wanted->index[i] = gp_get64(v.want_index + 8 * (size_t)i);
    return GP_OK;
}

static bool
give_up(gp_shard *s, const gp_chunk *c)
{
    gp_shard_fail(s, GP_ERR_NO_MEMORY, "tensor '%.60s', %u rows: %.300s",
                  c->tensor->spec->name, c->rows->kept.rows, gp_last_error());
    return false;
}

static gp_rows_view
parts_of(const gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];

    return gp_rows_parts(e->payload, e->rows, e->wanted);
}

/* A row that may be any of a batch or of what is kept: what is random in codecs
 * depends on it, the step and the worker, not on those beside it. */
static gp_codec_context
context_of(const gp_shard *s, const gp_chunk *c, uint64_t index, uint64_t step,
           uint32_t rank)
{
    return (gp_codec_context){.seed = s->list.seed,
                              .tensor = c->info->tensor,
                              .offset = index * c->rows->spec.width,
                              .step = step,
                              .rank = rank,
                              .size = (uint32_t)s->size};
}

/* The i-th row of a push as fp32, wherever that lies; NULL: it is damaged,
 * which ends the job. */
static const void *
read_values(gp_shard *s, gp_chunk *c, uint32_t rank, const gp_rows_view *v,
            uint32_t i)
{
    gp_row_store *store = c->rows;
    const uint8_t *bytes = v->values + store->push.bytes * i;
    gp_codec_context context;

    if (store->push.plain)
        return bytes;
    context = context_of(s, c, gp_get64(v->push_index + 8 * (size_t)i),
                         c->entry[rank].msg.step, rank);
    if (gp_pipeline_decode(store->push.pipeline, &context, bytes,
                           store->push.bytes, store->row, store->spec.width,
                           s->workspace) == GP_OK)
        return store->row;
    gp_shard_fail(s, GP_ERR_CORRUPT,
                  "worker %u pushed damaged data for tensor '%.60s': %.200s",
                  rank, c->tensor->spec->name, gp_last_error());
    return NULL;
}

static void
add_values(float *sum, const void *values, uint32_t width, bool fresh)
{
    const uint8_t *bytes = values;

    if (fresh) {
        memcpy(sum, values, width * sizeof(float));
        return;
    }
    for (uint32_t i = 0; i < width; i++) {
        float x;

        memcpy(&x, bytes + i * sizeof(x), sizeof(x));
        sum[i] += x;
    }
}

bool
gp_rows_fold(gp_shard *s, gp_chunk *c, uint32_t rank, bool add)
{
    gp_row_store *store = c->rows;
    uint32_t width = store->spec.width;
    gp_rows_view v = parts_of(c, rank);

    if (!add)
        gp_row_table_clear(&store->sum);
    for (uint32_t i = 0; i < v.pushed; i++) {
        const void *values = read_values(s, c, rank, &v, i);
        gp_row *row;
        bool fresh;

        if (!values)
            return false;
        if (gp_row_table_add(&store->sum, gp_get64(v.push_index + 8ull * i),
                             &row, &fresh) != GP_OK)
            return give_up(s, c);
        add_values(row->value, values, width, fresh);
    }
    return true;
}

/* The row with what it begins with. */
static gp_row *
get_row(gp_row_store *store, uint64_t index)
{
    size_t width = store->spec.width;
    gp_row *row;
    bool fresh;

    if (gp_row_table_add(&store->kept, index, &row, &fresh) != GP_OK)
        return NULL;
    if (fresh) {
        gp_row_initialize(&store->spec, index, row->value);
        memset(row->value + width, 0,
               (store->kept.numbers - width) * sizeof(float));
    }
    return row;
}

static void
update_row(const gp_chunk *c, gp_row *row, double lr, const float *gradient)
{
    const gp_updater *u = &c->tensor->updater;
    size_t width = c->rows->spec.width;
    float *arrays[GP_UPDATER_ARRAYS] = {NULL}, *next = row->value + width;
    gp_updater_step step = {.number = ++row->updates,
                            .lr = lr,
                            .values = u->value,
                            .offset = row->index * width};

    for (uint32_t i = 0; i < GP_UPDATER_ARRAYS; i++) {
        if (!(u->arrays >> i & 1))
            continue;
        arrays[i] = next;
        next += width;
    }
    u->ops->apply(u->instance, &step, gradient, row->value, arrays, width);
}

bool
gp_rows_update(gp_chunk *c)
{
    gp_row_store *store = c->rows;
    uint32_t width = store->spec.width;
    double lr = gp_updater_lr(&c->tensor->updater, c->version);

    for (uint32_t i = 0; i < store->sum.rows; i++) {
        gp_row *sum = gp_row_table_at(&store->sum, i);
        gp_row *row = get_row(store, sum->index);

        if (!row)
            return give_up(store->shard, c);
        for (uint32_t k = 0; store->scale != 1.0f && k < width; k++)
            sum->value[k] *= store->scale;
        update_row(c, row, lr, sum->value);
    }
    store->pushed += store->sum.rows;
    gp_row_table_clear(&store->sum);
    return true;
}

bool
gp_rows_update_with(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_row_store *store = c->rows;
    gp_rows_view v = parts_of(c, rank);
    double lr = gp_updater_lr(&c->tensor->updater, c->version);

    if (store->push.plain && (uintptr_t)v.values % sizeof(float) != 0) {
        store->scale = 1.0f;
        return gp_rows_fold(s, c, rank, false) && gp_rows_update(c);
    }
    for (uint32_t i = 0; i < v.pushed; i++) {
        const void *values = read_values(s, c, rank, &v, i);
        gp_row *row;

        if (!values)
            return false;
        row = get_row(store, gp_get64(v.push_index + 8ull * i));
        if (!row)
            return give_up(s, c);
        update_row(c, row, lr, values);
    }
    store->pushed += v.pushed;
    return true;
}

/* A row into where it is sent from. */
static gp_status
put_row(gp_shard *s, gp_chunk *c, uint64_t index, uint8_t *out)
{
    gp_row_store *store = c->rows;
    const gp_row *row = gp_row_table_find(&store->kept, index);
    const float *values = row ? row->value : store->row;
    gp_codec_context context;
    size_t length;

    if (!row)
        gp_row_initialize(&store->spec, index, store->row);
    if (store->pull.plain) {
        memcpy(out, values, store->pull.bytes);
        return GP_OK;
    }
    context = context_of(s, c, index, c->version, GP_RANK_SHARD);
    return gp_pipeline_encode(
        store->pull.pipeline, &context, NULL, values, store->spec.width, out,
        gp_pipeline_bound(store->pull.pipeline, store->spec.width), &length,
        s->workspace);
}

/* What a worker asked for. */
static gp_status
gather(gp_shard *s, gp_chunk *c, uint32_t rank, uint8_t *out)
{
    const gp_row_store *store = c->rows;
    const gp_row_wanted *wanted = &store->wanted[rank];
    gp_status status = GP_OK;

    if (wanted->count == 0)
        memset(out, 0, gp_rows_result_bytes(0, store->pull.bytes));
    for (uint32_t i = 0; status == GP_OK && i < wanted->count; i++)
        status = put_row(s, c, wanted->index[i], out + store->pull.bytes * i);
    return status;
}

/* Each worker has room for one result, which may still be on its way when the
 * worker, which has it already, asks for the next. */
gp_status
gp_rows_send(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_chunk *c = e->chunk;
    const gp_row_store *store = c->rows;
    uint8_t *out = (uint8_t *)c->value + result_stride(c) * peer->rank;
    gp_msg msg = {.type = GP_MSG_RESULT,
                  .dtype = c->tensor->spec->dtype,
                  .chunk = c->number,
                  .step = c->version,
                  .pipeline = gp_pipeline_id(c->tensor->pull),
                  .elements = c->info->count,
                  .region = (uint32_t)(e->aux >> 32),
                  .offset = (e->aux & UINT32_MAX) * GP_DESTINATION_UNIT,
                  .cookie = e->cookie};
    gp_status status;

    if (e->in_flight > 0)
        return GP_PENDING;
    status = gather(s, c, peer->rank, out);
    if (status != GP_OK)
        return status;
    msg.payload = gp_rows_result_bytes(store->wanted[peer->rank].count,
                                       store->pull.bytes);
    status = gp_peer_post(s, peer, &msg, out, s->chunk_of[c->number]);
    if (status != GP_OK)
        return status;
    gp_entry_posted(peer, e, msg.payload);
    e->in_flight = 1;
    e->given = c->version;
    return GP_OK;
}
