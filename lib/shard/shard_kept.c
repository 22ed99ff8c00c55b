/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_kept.c - what is kept of a chunk between steps, to and from worker 0.
 *
 * It comes before that worker's first push and goes between two of its steps,
 * so that it never changes while a part is under way.
 */
#include <string.h>

#include "shard/shard_rows.h"

bool
gp_chunk_rounds(const gp_chunk *c)
{
    const shard_tensor *t = c->tensor;

    return gp_updater_keeps(&t->updater) &&
           !(t->pull_dense && t->spec->dtype == GP_FP32);
}

bool
gp_chunk_is_restored(const gp_chunk *c)
{
    return c->restored == c->info->count;
}

/* Of the pull pipeline. */
static float *
find_remembered(gp_chunk *c, uint32_t which, uint64_t *count)
{
    static const char *const names[GP_KEPT_COUNT] = {
        [GP_KEPT_RESIDUAL] = "residual",
        [GP_KEPT_VELOCITY] = "velocity",
        [GP_KEPT_SELECT] = "selection_state",
        [GP_KEPT_STATE] = "state",
    };
    const char *name;
    float *values;

    if (which >= GP_KEPT_COUNT || !names[which])
        return NULL;
    for (size_t i = 0;
         (*count = gp_codec_memory_field(c->memory, i, &name, &values)) > 0;
         i++)
        if (strcmp(name, names[which]) == 0)
            return values;
    return NULL;
}

/* An array of *count numbers, or NULL. */
static float *
find_kept(gp_chunk *c, uint32_t which, uint64_t *count)
{
    float *values;

    *count = c->info->count;
    if (c->rows)
        return NULL;
    if (c->device && (values = gp_chunk_device_kept(c, which)))
        return values;
    if (which == GP_KEPT_HISTORY)
        return c->history;
    if (which == GP_KEPT_PARAMETERS)
        return gp_chunk_rounds(c) || c->tensor->arrives ? c->value : NULL;
    if (which >= GP_KEPT_ARRAY && which < GP_KEPT_ARRAYS_END)
        return c->array[which - GP_KEPT_ARRAY];
    return find_remembered(c, which, count);
}

/* The part that a message is about; NULL says why there is none. */
static float *
find_part(gp_shard *s, gp_peer *peer, const gp_msg *m, gp_chunk **chunk)
{
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    uint64_t count = 0;
    float *values = c ? find_kept(c, m->pipeline, &count) : NULL;
    gp_status status = gp_push_check_sender(s, peer, m);

    if (status == GP_OK && peer->rank != 0 && !s->elastic)
        status = gp_fail(GP_ERR_PROTOCOL, "worker 0 alone may do that");
    else if (status == GP_OK && !values)
        status = gp_fail(GP_ERR_PROTOCOL, "chunk %u here has no %u", m->chunk,
                         m->pipeline);
    else if (status == GP_OK &&
             (m->elements == 0 || m->elements > GP_KEPT_PART ||
              m->aux > count || m->elements > count - m->aux))
        status =
            gp_fail(GP_ERR_PROTOCOL,
                    "%llu numbers from %llu of the %llu that chunk %u "
                    "keeps",
                    (unsigned long long)m->elements, (unsigned long long)m->aux,
                    (unsigned long long)count, m->chunk);
    if (status != GP_OK)
        return NULL;
    *chunk = c;
    return values + m->aux;
}

static void
offend(gp_shard *s, gp_peer *peer, const char *what)
{
    GP_ERROR("worker %u %s: %s", peer->rank, what, gp_last_error());
    gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
}

void
gp_shard_give_kept(gp_shard *s, gp_peer *peer, const gp_msg *m,
                   gp_status status, const float *values)
{
    gp_msg msg = {.type = GP_MSG_KEPT,
                  .dtype = m->dtype,
                  .chunk = m->chunk,
                  .pipeline = m->pipeline,
                  .elements = m->elements,
                  .aux = m->aux,
                  .cookie = m->cookie,
                  .status = status,
                  .payload = values ? m->elements * sizeof(float) : 0};

    (void)gp_peer_post(s, peer, &msg, values, 0);
}

/* Differences that were added cannot be differences to something else. */
static gp_status
check_restore(const gp_chunk *c, const gp_entry *e, const gp_msg *m)
{
    bool history = m->pipeline == GP_KEPT_HISTORY;

    if (m->payload != m->elements * sizeof(float))
        return gp_fail(GP_ERR_PROTOCOL, "%llu bytes for %llu elements",
                       (unsigned long long)m->payload,
                       (unsigned long long)m->elements);
    if (e->pending || e->next_step != c->tensor->spec->first_step)
        return gp_fail(GP_ERR_PROTOCOL, "it has pushed chunk %u before",
                       m->chunk);
    if (m->pipeline == GP_KEPT_PARAMETERS && !gp_chunk_rounds(c))
        return gp_fail(GP_ERR_PROTOCOL, "parameters of chunk %u are broadcast",
                       m->chunk);
    if (history && (!c->tensor->spec->restored || m->aux > c->restored))
        return gp_fail(GP_ERR_PROTOCOL,
                       "history of chunk %u that was not announced, or not in "
                       "order",
                       m->chunk);
    return GP_OK;
}

void
gp_shard_restore(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *m = &event->msg;
    gp_chunk *c;
    float *values;

    if (s->fault != GP_OK)
        return;
    if (m->pipeline == GP_KEPT_ROWS) {
        gp_rows_restore(s, peer, event);
        return;
    }
    values = find_part(s, peer, m, &c);
    if (values && s->members_epoch > 0) { /* what is here is newer */
        gp_shard_give_kept(s, peer, m, GP_OK, NULL);
        return;
    }
    if (!values || check_restore(c, &c->entry[peer->rank], m) != GP_OK) {
        offend(s, peer, "restores");
        return;
    }
    if (c->device)
        gp_chunk_device_restore(s, c, m, values, event->payload);
    else
        memcpy(values, event->payload, m->payload);
    if (m->pipeline == GP_KEPT_HISTORY)
        c->restored = GP_MAX(c->restored, m->aux + m->elements);
    c->returned |= m->pipeline == GP_KEPT_PARAMETERS;
    gp_shard_give_kept(s, peer, m, GP_OK, NULL);
}

/* Worker 0 is between two steps, but the shard may have to wait for others
 * until it is. */
void
gp_shard_recall(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    gp_chunk *c;
    const float *values;
    uint64_t steps;

    if (s->fault != GP_OK)
        return;
    if (m->pipeline == GP_KEPT_ROWS) {
        gp_rows_recall(s, peer, m);
        return;
    }
    values = find_part(s, peer, m, &c);
    if (!values) {
        offend(s, peer, "asks what is kept");
        return;
    }
    steps = c->tensor->arrives ? c->entry[peer->rank].next_step : c->version;
    if (m->step > steps)
        gp_shard_give_kept(s, peer, m, GP_ERR_STATE, NULL);
    else if (c->device)
        gp_chunk_device_recall(s, peer, c, m, values);
    else
        gp_shard_give_kept(s, peer, m, GP_OK, values);
}
