/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_rows_kept.c - rows to and from worker 0, for checkpoints.
 *
 * They go in the order in which they were made, as records; a place in it is a
 * row's number, which never changes. What comes back comes row by row, from
 * whatever shards there were: each row goes to the shard that has it now.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "shard/shard_rows.h"

static void
offend(gp_shard *s, gp_peer *peer, const char *what)
{
    GP_ERROR("worker %u %s: %s", peer->rank, what, gp_last_error());
    gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
}

static size_t
record_bytes(const gp_row_store *store)
{
    return GP_ROW_HEAD + store->kept.numbers * sizeof(float);
}

static void
answer(gp_shard *s, gp_peer *peer, const gp_msg *m, gp_status status,
       uint32_t count, const void *records)
{
    gp_row_store *store = gp_shard_find_chunk(s, m->chunk)->rows;
    gp_msg msg = {.type = GP_MSG_KEPT,
                  .dtype = m->dtype,
                  .chunk = m->chunk,
                  .pipeline = m->pipeline,
                  .elements = count,
                  .aux = store->kept.rows,
                  .cookie = m->cookie,
                  .status = status,
                  .payload = records ? count * record_bytes(store) : 0};

    (void)gp_peer_post(s, peer, &msg, records, 0);
}

static gp_status
check(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    const gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    gp_status status = gp_push_check_sender(s, peer, m);

    if (status == GP_OK && peer->rank != 0 && !s->elastic)
        return gp_fail(GP_ERR_PROTOCOL, "worker 0 alone may do that");
    if (status == GP_OK && (!c || !c->rows))
        return gp_fail(GP_ERR_PROTOCOL, "chunk %u here has no rows", m->chunk);
    return status;
}

/* As many as fit, from number `aux` on. */
void
gp_rows_recall(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    uint64_t steps;
    uint32_t count;
    uint8_t *bytes;
    size_t record;

    if (check(s, peer, m) != GP_OK) {
        offend(s, peer, "asks for rows");
        return;
    }
    steps = c->tensor->arrives ? c->entry[peer->rank].next_step : c->version;
    record = record_bytes(c->rows);
    count = c->rows->kept.rows;
    count = m->aux < count ? count - (uint32_t)m->aux : 0;
    count = GP_MIN(count, gp_row_records_max(record));
    bytes = count ? malloc(count * record) : NULL;
    if (m->step > steps || (count && !bytes)) {
        answer(s, peer, m, m->step > steps ? GP_ERR_STATE : GP_ERR_NO_MEMORY, 0,
               NULL);
        free(bytes);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const gp_row *row =
            gp_row_table_at(&c->rows->kept, (uint32_t)m->aux + i);
        uint8_t *p = bytes + i * record;

        gp_put64(p, row->index);
        gp_put64(p + 8, row->updates);
        memcpy(p + GP_ROW_HEAD, row->value, record - GP_ROW_HEAD);
    }
    answer(s, peer, m, GP_OK, count, bytes);
    free(bytes);
}

static gp_status
check_restore(const gp_shard *s, const gp_chunk *c, const gp_entry *e,
              const gp_msg *m)
{
    size_t record = record_bytes(c->rows);

    (void)s;
    if (m->elements == 0 || m->elements > gp_row_records_max(record) ||
        m->payload != m->elements * record)
        return gp_fail(GP_ERR_PROTOCOL, "%llu bytes for %llu rows",
                       (unsigned long long)m->payload,
                       (unsigned long long)m->elements);
    if (e->pending || e->next_step != c->tensor->spec->first_step)
        return gp_fail(GP_ERR_PROTOCOL, "it has pushed chunk %u before",
                       m->chunk);
    return GP_OK;
}

/* A row that comes twice is what came last. */
static gp_status
restore_row(gp_shard *s, gp_chunk *c, const uint8_t *p)
{
    gp_row_store *store = c->rows;
    uint64_t index = gp_get64(p);
    gp_row *row;
    bool fresh;
    gp_status status;

    if (index >= store->spec.rows ||
        gp_row_shard(index, (uint32_t)s->shards) != (uint32_t)s->index)
        return gp_fail(GP_ERR_PROTOCOL, "row %llu, which is not here",
                       (unsigned long long)index);
    status = gp_row_table_add(&store->kept, index, &row, &fresh);
    if (status != GP_OK)
        return status;
    row->updates = gp_get64(p + 8);
    memcpy(row->value, p + GP_ROW_HEAD, store->kept.numbers * sizeof(float));
    return GP_OK;
}

void
gp_rows_restore(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *m = &event->msg;
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    const uint8_t *p = event->payload;
    gp_status status = check(s, peer, m);

    if (status == GP_OK)
        status = check_restore(s, c, &c->entry[peer->rank], m);
    for (uint64_t i = 0; status == GP_OK && i < m->elements; i++)
        status = restore_row(s, c, p + i * record_bytes(c->rows));
    if (status == GP_ERR_NO_MEMORY)
        gp_shard_fail(s, status, "tensor '%.60s', %u rows: %.300s",
                      c->tensor->spec->name, c->rows->kept.rows,
                      gp_last_error());
    else if (status != GP_OK)
        offend(s, peer, "restores");
    else
        answer(s, peer, m, GP_OK, 0, NULL);
}
