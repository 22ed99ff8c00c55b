/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.c - what shards remember of a tensor between steps, for checkpoints.
 *
 * The shards' sum of all workers' differences is not the sum of the workers'
 * histories to the last bit, and residuals of pulls are nowhere else. So worker
 * 0 asks for them when a checkpoint is written, and gives them back before its
 * first push of the job that goes on: no step is complete without that push, so
 * none is missing what was restored. It goes in parts, one at a time: that is
 * once per checkpoint, and needs no memory but the caller's.
 *
 * Where workers come and go any of them asks and gives back, all the same; what
 * comes when the job is under way is ignored.
 */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/pipeline.h"
#include "worker/worker_int.h"

static const char *const fields[] = {"history", "residual", "velocity"};

void
gp_kept_open(gp_worker *w)
{
    snprintf(w->history_name, sizeof(w->history_name), "history_of_%u",
             w->size);
    snprintf(w->sum_name, sizeof(w->sum_name), "histories_of_%u", w->size);
}

void
gp_kept_close(gp_tensor *t)
{
    for (int i = 0; i < GP_KEPT_COUNT; i++) {
        free(t->kept[i]);
        t->kept[i] = NULL;
    }
}

static const char *
name_of(const gp_tensor *t, int which)
{
    static const char *const names[GP_KEPT_COUNT] = {
        [GP_KEPT_RESIDUAL] = "pull_residual",
        [GP_KEPT_VELOCITY] = "pull_velocity",
        [GP_KEPT_PARAMETERS] = "parameters",
        [GP_KEPT_SELECT] = "pull_selection_state",
        [GP_KEPT_STATE] = "pull_state",
    };

    if (which >= GP_KEPT_ARRAY && which < GP_KEPT_ARRAYS_END)
        return t->updater.ops->arrays[which - GP_KEPT_ARRAY];
    return which == GP_KEPT_HISTORY ? t->worker->sum_name : names[which];
}

/* How many numbers shards keep of a chunk of so many elements. */
static size_t
count_of(const gp_tensor *t, int which, uint64_t elements)
{
    return which == GP_KEPT_SELECT || which == GP_KEPT_STATE
               ? gp_memory_states(t->pull, which == GP_KEPT_SELECT,
                                  (size_t)elements)
               : (size_t)elements;
}

/* Also before there is a map: chunks of such tensors are as long as the
 * configuration says (choose_chunk_bytes() in tensor.c). */
uint64_t
gp_kept_count(const gp_tensor *t, int which)
{
    const gp_worker *w = t->worker;
    const gp_map_tensor cut = gp_tensor_cut(t);
    uint64_t step, count = t->spec.count;

    if (which != GP_KEPT_SELECT && which != GP_KEPT_STATE)
        return count;
    step =
        gp_map_step(&cut, gp_config_size(w->config, "chunk_bytes"), w->shards);
    return count / step * count_of(t, which, step) +
           (count % step ? count_of(t, which, count % step) : 0);
}

/* Whether shards keep it, and this worker takes care of it. */
static bool
has(const gp_tensor *t, int which)
{
    if (t->worker->rank != 0 && !t->worker->membership.elastic)
        return false;
    if (which == GP_KEPT_HISTORY)
        return gp_codec_set_differs(&t->push);
    if (which == GP_KEPT_PARAMETERS)
        return gp_updater_keeps(&t->updater) &&
               !(t->pull_direct && t->spec.dtype == GP_FP32);
    if (which == GP_KEPT_SELECT || which == GP_KEPT_STATE)
        return t->spec.rows == 0 && gp_kept_count(t, which) > 0;
    if (which == GP_KEPT_ROWS)
        return false; /* kept by rows_kept.c */
    if (which >= GP_KEPT_ARRAY)
        return t->updater.arrays >> (which - GP_KEPT_ARRAY) & 1;
    return gp_memory_will_have(t->pull, t->spec.feedback, fields[which]);
}

const char *
gp_kept_name(const gp_tensor *t, size_t index, uint64_t *count)
{
    for (int i = 0; i < GP_KEPT_COUNT; i++) {
        if (!has(t, i) || index-- > 0)
            continue;
        *count = gp_kept_count(t, i);
        return name_of(t, i);
    }
    return NULL;
}

int
gp_kept_find(const gp_tensor *t, const char *name)
{
    for (int i = 0; i < GP_KEPT_COUNT; i++)
        if (has(t, i) && strcmp(name, name_of(t, i)) == 0)
            return i;
    return -1;
}

/* Where updates are made as pushes arrive, a pull and what is kept are not of
 * one moment: so parameters can be read with the rest, but not given back. */
int
gp_kept_find_saved(const gp_tensor *t, const char *name)
{
    bool mine = t->worker->rank == 0 || t->worker->membership.elastic;

    if (mine && t->spec.rows == 0 && gp_mode_arrives(&t->mode) &&
        strcmp(name, name_of(t, GP_KEPT_PARAMETERS)) == 0)
        return GP_KEPT_PARAMETERS;
    return gp_kept_find(t, name);
}

/* A part of what is kept of a chunk, and where it lies in the tensor's. */
typedef struct part {
    uint32_t chunk;
    uint64_t offset; /* in the chunk's */
    uint32_t count;
    float *values;
} part;

static bool
is_answered(void *arg)
{
    const gp_worker *w = arg;

    return atomic_load_explicit(&w->keeping.done, memory_order_acquire) ||
           atomic_load(&w->fault) != GP_OK;
}

/* Under the driver's hold. */
static gp_status
post_part(gp_tensor *t, uint8_t type, int which, const part *p)
{
    gp_worker *w = t->worker;
    gp_conn *conn = &w->conn[w->map.chunk[p->chunk].shard];
    bool restores = type == GP_MSG_RESTORE;
    gp_msg msg = {.type = type,
                  .dtype = GP_FP32,
                  .chunk = p->chunk,
                  .step = t->steps,
                  .pipeline = (uint32_t)which,
                  .elements = p->count,
                  .aux = p->offset,
                  .payload = restores ? p->count * sizeof(float) : 0,
                  .cookie = ++w->next_cookie};
    gp_status status = gp_worker_fault(w); /* it closes the connections */

    if (status != GP_OK)
        return status;
    w->keeping.cookie = msg.cookie;
    w->keeping.record = 0;
    w->keeping.into = restores ? NULL : p->values;
    w->keeping.count = p->count;
    atomic_store(&w->keeping.done, false);
    status = gp_conn_post(conn, &msg, restores ? p->values : NULL, NULL, 0);
    if (status == GP_OK)
        status = conn->link->ops->flush(conn->ep);
    return status;
}

/* What came, or why nothing did. A late answer finds no place any more. */
static gp_status
conclude(gp_tensor *t, uint32_t shard)
{
    gp_worker *w = t->worker;
    gp_keeping *k = &w->keeping;
    gp_status status;
    bool done;

    gp_driver_hold(w->driver);
    done = atomic_load(&k->done);
    k->cookie = 0;
    k->into = NULL;
    k->rows = NULL;
    gp_driver_release(w->driver);
    if (done && k->status == GP_OK)
        return GP_OK;
    if (done)
        return gp_fail((gp_status)k->status,
                       "tensor '%.60s': shard %u has not finished step %llu: "
                       "save its state when its last push is pulled",
                       t->spec.name, shard, (unsigned long long)t->steps - 1);
    status = gp_worker_fault(w);
    return status == GP_OK
               ? gp_worker_late(w, "a shard did not say what it remembers",
                                w->timeout)
               : status;
}

/* Of rows: their records, which RECALL makes of the answer. */
typedef struct rows_part {
    size_t record;
    void *rows;
    uint32_t count;
    uint64_t at;
} rows_part;

/* Under the driver's hold. */
static gp_status
post_rows(gp_tensor *t, uint8_t type, const part *p, const rows_part *rows)
{
    gp_worker *w = t->worker;
    gp_conn *conn = &w->conn[w->map.chunk[p->chunk].shard];
    bool restores = type == GP_MSG_RESTORE;
    gp_msg msg = {.type = type,
                  .dtype = GP_FP32,
                  .chunk = p->chunk,
                  .step = t->steps,
                  .pipeline = GP_KEPT_ROWS,
                  .elements = restores ? rows->count : 0,
                  .aux = rows->at,
                  .payload = restores ? rows->count * rows->record : 0,
                  .cookie = ++w->next_cookie};
    gp_status status = gp_worker_fault(w);

    if (status != GP_OK)
        return status;
    w->keeping.cookie = msg.cookie;
    w->keeping.record = rows->record;
    w->keeping.rows = restores ? NULL : rows->rows;
    w->keeping.into = NULL;
    w->keeping.count = 0;
    atomic_store(&w->keeping.done, false);
    status = gp_conn_post(conn, &msg, restores ? rows->rows : NULL, NULL, 0);
    if (status == GP_OK)
        status = conn->link->ops->flush(conn->ep);
    return status;
}

static gp_status
exchange(gp_tensor *t, uint8_t type, int which, const part *p,
         const rows_part *rows)
{
    gp_worker *w = t->worker;
    uint64_t deadline = gp_deadline(w->timeout);
    gp_status status;

    do {
        gp_driver_hold(w->driver);
        status =
            rows ? post_rows(t, type, p, rows) : post_part(t, type, which, p);
        gp_driver_release(w->driver);
        if (status == GP_AGAIN)
            sched_yield(); /* the driver sends what is in the way */
    } while (status == GP_AGAIN && gp_clock_ns() < deadline);
    if (status == GP_OK)
        (void)gp_driver_wait(w->driver, is_answered, w, deadline);
    else if (status != GP_AGAIN)
        return status;
    return conclude(t, w->map.chunk[p->chunk].shard);
}

gp_status
gp_kept_rows(gp_tensor *t, uint8_t type, uint32_t chunk, size_t record,
             void *rows, uint32_t *count, uint64_t *at)
{
    const part p = {.chunk = chunk};
    const rows_part asked = {record, rows, *count, *at};
    gp_status status = exchange(t, type, GP_KEPT_ROWS, &p, &asked);

    if (status != GP_OK)
        return status;
    *count = t->worker->keeping.count;
    *at = t->worker->keeping.total;
    return GP_OK;
}

/* Bytes that the answer may have: rows are as many as it says, within what fits
 * into one. */
static size_t
answer_bytes(const gp_keeping *k, const gp_msg *msg)
{
    if (k->rows)
        return GP_MIN(msg->elements, gp_row_records_max(k->record)) * k->record;
    return k->into ? k->count * sizeof(float) : 0;
}

void
gp_kept_answer(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    gp_keeping *k = &w->keeping;
    const gp_msg *msg = &event->msg;
    void *into = k->rows ? k->rows : k->into;
    size_t bytes = answer_bytes(k, msg);

    if (msg->cookie == 0 || msg->cookie != k->cookie)
        return; /* it was not waited for any longer */
    if (msg->status == GP_OK && msg->payload != bytes) {
        gp_worker_fail(w, GP_ERR_PROTOCOL,
                       "shard %u at %s keeps %llu bytes where %zu were asked "
                       "for",
                       conn->shard, conn->address,
                       (unsigned long long)msg->payload, bytes);
        return;
    }
    if (msg->status == GP_OK && bytes)
        memcpy(into, event->payload, bytes);
    if (k->record) {
        k->count = k->rows ? (uint32_t)(bytes / k->record) : 0;
        k->total = msg->aux;
    }
    k->status = msg->status;
    k->cookie = 0;
    atomic_store_explicit(&k->done, true, memory_order_release);
    gp_driver_signal(w->driver);
}

/* All parts of a tensor. */
static gp_status
exchange_all(gp_tensor *t, uint8_t type, int which, float *values)
{
    gp_worker *w = t->worker;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < t->chunks; i++) {
        uint64_t count = count_of(t, which, w->map.chunk[t->first + i].count);

        for (uint64_t at = 0; status == GP_OK && at < count;) {
            uint64_t left = count - at;
            part p = {.chunk = t->first + i,
                      .offset = at,
                      .count = (uint32_t)GP_MIN(left, GP_KEPT_PART),
                      .values = values};

            status = exchange(t, type, which, &p, NULL);
            at += p.count;
            values += p.count;
        }
    }
    return status;
}

/* Before the shards have anything: what will be restored, or zeros. */
static bool
save_own(gp_tensor *t, int which, float *values)
{
    gp_worker *w = t->worker;
    size_t bytes = gp_kept_count(t, which) * sizeof(float);
    bool own;

    gp_driver_hold(w->driver);
    own = atomic_load(&w->phase) != PHASE_RUN;
    if (own && t->kept[which])
        memcpy(values, t->kept[which], bytes);
    else if (own)
        memset(values, 0, bytes);
    gp_driver_release(w->driver);
    return own;
}

gp_status
gp_kept_save(gp_tensor *t, int which, float *values)
{
    gp_worker *w = t->worker;
    gp_status status;

    if (save_own(t, which, values))
        return GP_OK;
    pthread_mutex_lock(&w->keeping.lock);
    status = exchange_all(t, GP_MSG_RECALL, which, values);
    pthread_mutex_unlock(&w->keeping.lock);
    return status;
}

/* Under the driver's hold. */
gp_status
gp_kept_load(gp_tensor *t, int which, const float *values)
{
    uint64_t count = gp_kept_count(t, which);
    size_t bytes = count * sizeof(float);

    if (atomic_load(&t->worker->phase) != PHASE_REGISTER)
        return gp_fail(GP_ERR_STATE,
                       "tensor '%.60s': state '%s' is the shards' and can be "
                       "loaded before the first operation only",
                       t->spec.name, name_of(t, which));
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return gp_fail(GP_ERR_INVALID,
                           "tensor '%.60s': element %llu of its state '%s' is "
                           "no finite number",
                           t->spec.name, (unsigned long long)i,
                           name_of(t, which));
    if (!t->kept[which])
        t->kept[which] = malloc(bytes);
    if (!t->kept[which])
        return gp_fail(GP_ERR_NO_MEMORY, "state of %zu bytes", bytes);
    memcpy(t->kept[which], values, bytes);
    return GP_OK;
}

static gp_status
restore_tensor(gp_tensor *t)
{
    gp_status status = GP_OK;

    for (int i = 0; status == GP_OK && i < GP_KEPT_COUNT; i++) {
        if (!t->kept[i])
            continue;
        status = exchange_all(t, GP_MSG_RESTORE, i, t->kept[i]);
        if (status != GP_OK)
            return status;
        free(t->kept[i]);
        t->kept[i] = NULL;
    }
    return status;
}

/* Whoever comes second waits here, and finds nothing left to do. */
gp_status
gp_worker_restore(gp_worker *w)
{
    gp_status status = GP_OK;

    pthread_mutex_lock(&w->keeping.lock);
    for (uint32_t i = 0; status == GP_OK && i < w->tensors; i++)
        status = restore_tensor(w->tensor[i]);
    pthread_mutex_unlock(&w->keeping.lock);
    return status;
}
