/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - what a worker is doing, for `gradpush status`.
 *
 * The document is written by the reporter's thread under the driver's hold,
 * from numbers that the engine keeps anyway: the data path knows nothing of it.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "worker/staging.h"

#define TENSORS_MAX 16u
#define SHARDS_MAX  32u

static const char *
phase_name(const gp_worker *w)
{
    static const char *const names[] = {"registering", "agreeing", "running"};

    if (atomic_load(&w->fault) != GP_OK)
        return "failed";
    if (w->leaving)
        return "leaving";
    return names[atomic_load(&w->phase)];
}

static const char *
conn_state_name(const gp_conn *conn)
{
    static const char *const names[] = {"connecting", "hello",  "welcome",
                                        "started",    "agreed", "closed"};

    return names[conn->state];
}

static void
put_connection(const gp_conn *conn, gp_json_text *j)
{
    char text[160] = "";

    if (conn->ep)
        conn->link->ops->ep_describe(conn->ep, text, sizeof(text));
    gp_json_open(j, NULL, '{');
    gp_json_put_count(j, "shard", conn->shard);
    gp_json_put_text(j, "address", conn->address);
    gp_json_put_text(j, "transport", conn->link->ops->name);
    gp_json_put_text(j, "link", text);
    gp_json_put_text(j, "state", conn_state_name(conn));
    gp_json_put_count(j, "operations", conn->open);
    gp_json_put_count(j, "slots", conn->slots);
    gp_json_put_int(j, "slots_free", __builtin_popcountll(conn->free_slots));
    gp_json_shut(j, '}');
}

static void
put_connections(const gp_worker *w, gp_json_text *j)
{
    gp_json_open(j, "connections", '[');
    for (uint32_t i = 0; i < GP_MIN(w->shards, SHARDS_MAX); i++)
        put_connection(&w->conn[i], j);
    gp_json_shut(j, ']');
}

/* The first shard that it waits for. */
static void
put_awaited(const gp_request *r, gp_json_text *j)
{
    for (uint32_t i = 0; i < r->tensor->chunks; i++)
        if (!gp_list_empty(&r->op[i].chain)) {
            gp_json_put_count(j, "shard", r->op[i].conn->shard);
            return;
        }
}

static void
put_requests(gp_worker *w, gp_json_text *j)
{
    const gp_request *oldest = NULL;
    uint64_t open = 0;

    GP_LIST_EACH (item, &w->active) {
        if (open++ == 0)
            oldest = GP_CONTAINER_OF(item, gp_request, link);
    }
    gp_json_put_count(j, "requests", atomic_load(&w->requests));
    gp_json_put_count(j, "requests_open", open);
    if (!oldest)
        return;
    gp_json_open(j, "oldest", '{');
    gp_json_put_text(j, "tensor", oldest->tensor->spec.name);
    gp_json_put_count(j, "step", oldest->step);
    gp_json_put_count(j, "chunks", oldest->tensor->chunks);
    gp_json_put_count(j, "chunks_open", oldest->left);
    put_awaited(oldest, j);
    gp_json_shut(j, '}');
}

static void
put_tensor(gp_tensor *t, uint64_t steps, gp_json_text *j)
{
    char why[192];

    gp_json_open(j, NULL, '{');
    gp_json_put_text(j, "name", t->spec.name);
    gp_json_put_count(j, "elements", t->spec.count);
    gp_json_put_count(j, "steps", steps);
    gp_json_put_text(
        j, "codec",
        gp_pipeline_name(t->push.pipeline[gp_tensor_choose(t, steps)]));
    gp_json_put_text(j, "pull_codec", t->spec.pull);
    gp_json_put_text(j, "mode", t->spec.mode);
    if (gp_tensor_explain(t, steps, why, sizeof(why)))
        gp_json_put_text(j, "why", why);
    gp_json_shut(j, '}');
}

static uint64_t
steps_of(gp_tensor *t)
{
    uint64_t steps;

    pthread_mutex_lock(&t->worker->submit_lock);
    steps = t->steps;
    pthread_mutex_unlock(&t->worker->submit_lock);
    return steps;
}

/* The largest ones, in order. */
static uint32_t
find_largest(const gp_worker *w, gp_tensor *out[TENSORS_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < w->tensors; i++) {
        gp_tensor *t = w->tensor[i];
        uint32_t at = count;

        while (at > 0 && out[at - 1]->spec.count < t->spec.count)
            at--;
        if (at == TENSORS_MAX)
            continue;
        count = GP_MIN(count + 1, TENSORS_MAX);
        memmove(&out[at + 1], &out[at], (count - 1 - at) * sizeof(out[0]));
        out[at] = t;
    }
    return count;
}

static void
put_tensors(const gp_worker *w, gp_json_text *j)
{
    gp_tensor *largest[TENSORS_MAX];
    uint32_t listed = find_largest(w, largest);
    uint64_t steps = 0, elements = 0;

    for (uint32_t i = 0; i < w->tensors; i++) {
        uint64_t s = steps_of(w->tensor[i]);

        steps = GP_MAX(steps, s);
        elements += w->tensor[i]->spec.count;
    }
    gp_json_put_count(j, "steps", steps);
    gp_json_put_count(j, "tensors_all", w->tensors);
    gp_json_put_count(j, "elements_all", elements);
    gp_json_open(j, "tensors", '[');
    for (uint32_t i = 0; i < listed; i++)
        put_tensor(largest[i], steps_of(largest[i]), j);
    gp_json_shut(j, ']');
}

static void
put_stats(const gp_worker *w, gp_json_text *j)
{
    gp_stats s;

    gp_worker_stats(w, &s);
    gp_json_put_count(j, "bytes_pushed", s.bytes_pushed);
    gp_json_put_count(j, "bytes_pulled", s.bytes_pulled);
    gp_json_put_count(j, "dense_bytes", s.dense_bytes);
    gp_json_put_count(j, "messages_sent", s.messages_sent);
    gp_json_put_count(j, "messages_received", s.messages_received);
    gp_json_put_count(j, "memory", s.memory);
    gp_json_put_count(j, "direct_bytes", s.direct_bytes);
}

static void
put_direct(const gp_worker *w, gp_json_text *j)
{
    static const char *const names[] = {"dmabuf", "peermem", "staging"};
    gp_direct way;
    char text[640];

    gp_json_open(j, "gpudirect", '[');
    for (uint32_t n = 0; gp_direct_describe(w, n, &way, text, sizeof(text));
         n++) {
        gp_json_open(j, NULL, '{');
        gp_json_put_text(j, "way", names[way]);
        gp_json_put_text(j, "text", text);
        gp_json_shut(j, '}');
    }
    gp_json_shut(j, ']');
}

static void
put_identity(const gp_worker *w, gp_json_text *j)
{
    char host[64] = "?";

    gethostname(host, sizeof(host) - 1);
    gp_json_put_text(j, "kind", "worker");
    gp_json_put_count(j, "rank", w->rank);
    gp_json_put_count(j, "workers", w->size);
    gp_json_put_count(j, "shards", w->shards);
    gp_json_put_text(j, "host", host);
    gp_json_put_int(j, "pid", getpid());
    gp_json_put_text(j, "phase", phase_name(w));
    if (atomic_load(&w->fault) != GP_OK)
        gp_json_put_text(j, "fault", w->fault_text);
    if (w->waiting[0])
        gp_json_put_text(j, "waiting", w->waiting);
}

static size_t
write_worker(gp_reported *r, uint64_t round, char *out, size_t capacity)
{
    gp_worker *w = r->self;
    gp_json_text j;

    gp_json_begin(&j, out, capacity);
    gp_json_open(&j, NULL, '{');
    gp_json_put_text(&j, "schema", GP_MEMBER_SCHEMA);
    gp_json_put_count(&j, "round", round);
    gp_driver_hold(w->driver);
    gp_json_put_count(&j, "clock_ns", gp_clock_ns());
    put_identity(w, &j);
    put_requests(w, &j);
    put_stats(w, &j);
    put_direct(w, &j);
    put_connections(w, &j);
    put_tensors(w, &j);
    gp_driver_release(w->driver);
    gp_json_shut(&j, '}');
    return gp_json_end(&j);
}

static size_t
write_shard(gp_reported *r, uint64_t round, char *out, size_t capacity)
{
    gp_worker *w = r->self;

    return gp_host_describe(r, w->driver, w->shard, round, out, capacity);
}

/* Without it the job runs as well. */
void
gp_worker_report(gp_worker *w)
{
    gp_reported reported[2] = {{.prefix = GP_STATUS_WORKER,
                                .number = w->rank,
                                .self = w,
                                .write = write_worker},
                               {.prefix = GP_STATUS_SHARD,
                                .number = w->shard_index,
                                .self = w,
                                .write = write_shard}};

    if (w->store && gp_reporter_start(w->store, reported, w->shard ? 2 : 1,
                                      &w->reporter) != GP_OK)
        GP_WARN("gradpush status will not see this worker: %s",
                gp_last_error());
}
