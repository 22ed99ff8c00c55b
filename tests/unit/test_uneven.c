/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_uneven.c - workers that push in different orders, with fewer slots and
 * buffers than chunks: nothing may stand still. And who goes first: priorities.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"
#include "worker/worker_int.h"

/* A build without liblz4 runs the same jobs without that stage. */
#ifdef GP_HAVE_LZ4
#define LZ4 "+lz4"
#else
#define LZ4 ""
#endif

#define COUNT   200000u /* 49 chunks of 16 KiB */
#define TENSORS 3

typedef struct uneven {
    const char *codec, *pull_codec;
} uneven;

static gp_tensor *
add(gp_worker *w, const uneven *u, int k)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    char name[16];
    gp_tensor *t;

    snprintf(name, sizeof(name), "t%d", k);
    o.name = name;
    o.count = COUNT;
    o.updater = "sum";
    o.codec = u->codec;
    o.pull_codec = u->pull_codec;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* Each worker begins with another tensor, and waits only at the end. */
static void
turned_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t[TENSORS];
    float *data[TENSORS];
    gp_request *r[TENSORS];

    for (int k = 0; k < TENSORS; k++) {
        t[k] = add(w, j->data, k);
        data[k] = malloc(COUNT * sizeof(float));
    }
    for (int step = 0; step < 2; step++) {
        for (int i = 0; i < TENSORS; i++) {
            int k = (i + (int)rank) % TENSORS;

            for (uint32_t e = 0; e < COUNT; e++)
                data[k][e] = (float)(k + 1);
            job_check(gp_push_pull(t[k], data[k], data[k], &r[k]));
        }
        for (int i = 0; i < TENSORS; i++)
            job_check(gp_wait(&r[(i + (int)rank) % TENSORS], -1));
        for (int k = 0; k < TENSORS; k++)
            for (uint32_t e = 0; e < COUNT; e++)
                job_require(data[k][e] == (float)((k + 1) * (int)j->workers));
    }
    for (int k = 0; k < TENSORS; k++)
        free(data[k]);
}

static void
run(const char *transport, uint32_t workers, uint32_t shards, const char *slots,
    const char *codec, const char *pull_codec)
{
    uneven u = {codec, pull_codec};
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "16K", "slots", slots},
             .body = turned_body,
             .data = &u};
    gp_status status = run_job(&j);

    for (uint32_t r = 0; r < workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
}

static void
other_orders(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *t = transports[i];

        run(t, 2, 1, "1", "none", "none");
        run(t, 2, 1, "4", "none", "none");
        run(t, 3, 2, "2", "q8", "none");
        run(t, 3, 1, "64", "none", "q8");
        run(t, 3, 2, "4", "fp16", "bf16");
        run(t, 3, 0, "3", "none", "none");
        run(t, 2, 0, "2", "q8" LZ4, "q8");
    }
}

/* What the relief of a shard is for: without it the slots of both workers would
 * hold pushes that wait for the other's. The log says that it was used. */
static void
shard_relieves(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        uneven u = {"none", "none"};
        job j = {
            .transport = i ? "tcp" : "loop",
            .workers = 2,
            .shards = 1,
            .settings = {"chunk_bytes", "16K", "slots", "2", "log", "debug"},
            .body = turned_body,
            .data = &u};

        job_log_start();
        assert_int_equal(run_job(&j), GP_OK);
        job_log_stop();
        assert_true(job_log_has("its pushes move to the heap"));
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* A transport that notes the order of pushes and how often they are sent off,
 * and is loop otherwise. */

#define LAYERS 6
#define NOTES  1000

static gp_transport_ops watched;
static uint32_t noted[NOTES], notes;
static atomic_uint flushes;
static _Atomic(gp_endpoint *) pusher;

static gp_status
watch_post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
           uint64_t cookie)
{
    gp_status status =
        gp_transport_find("loop")->post(ep, msg, payload, mem, cookie);

    if (status == GP_OK && msg->type == GP_MSG_PUSH && notes < NOTES) {
        noted[notes++] = msg->chunk;
        pusher = ep;
    }
    return status;
}

static gp_status
watch_flush(gp_endpoint *ep)
{
    if (ep == pusher)
        flushes++;
    return gp_transport_find("loop")->flush(ep);
}

static int
watch_transport(void **state)
{
    (void)state;
    watched = *gp_transport_find("loop");
    watched.name = "watched";
    watched.post = watch_post;
    watched.flush = watch_flush;
    return gp_transport_register(&watched) == GP_OK ? 0 : -1;
}

/* All are submitted before any is sent: then priority alone decides. */
static void
priority_body(job *j, gp_worker *w, uint32_t rank)
{
    static const int32_t priority[LAYERS] = {0, -5, 7, 7, 3, 100};
    static const uint32_t order[LAYERS] = {5, 2, 3, 4, 0, 1};
    float *data = calloc(COUNT, sizeof(float));
    gp_request *r[LAYERS];
    gp_tensor *t[LAYERS];
    uint32_t at = 0;

    (void)j, (void)rank;
    for (int k = 0; k < LAYERS; k++) {
        gp_tensor_options o = GP_TENSOR_INIT;
        char name[16];

        snprintf(name, sizeof(name), "t%d", k);
        o.name = name;
        o.count = COUNT;
        o.priority = priority[k];
        job_check(gp_tensor_register(w, &o, &t[k]));
    }
    job_check(gp_worker_ready(w));
    gp_driver_hold(w->driver);
    for (int k = 0; k < LAYERS; k++)
        job_check(gp_push(t[k], data, &r[k]));
    gp_driver_release(w->driver);
    job_check(gp_wait_all(r, LAYERS, -1));
    job_require(notes == w->map.chunks, "%u pushes", notes);
    for (uint32_t k = 0; k < LAYERS; k++)
        for (uint32_t c = w->map.first[order[k]];
             c < w->map.first[order[k] + 1]; c++)
            job_require(noted[at++] == c, "push %u is of chunk %u, not %u",
                        at - 1, noted[at - 1], c);
    free(data);
}

static void
priorities(void **state)
{
    job j = {.transport = "watched",
             .workers = 1,
             .shards = 1,
             .settings = {"chunk_bytes", "16K", "slots", "2"},
             .body = priority_body};

    (void)state;
    notes = 0;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Where another tensor goes first, a system's queue gets little at a time; else
 * as much as there are slots. Codecs and plain gradients alike. */
static void
little_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { WIDE = 1 << 20, PIECE = 256 << 10 };
    const bool *ranked = j->data;
    const char *codecs[] = {"none", "fp16", "none"};
    float *data[3];
    gp_request *r[3];
    gp_tensor *t[3];
    uint64_t most = 0;

    (void)rank;
    for (int k = 0; k < 3; k++) {
        gp_tensor_options o = GP_TENSOR_INIT;
        char name[16];

        snprintf(name, sizeof(name), "t%d", k);
        o.name = name;
        o.count = WIDE;
        o.codec = codecs[k];
        o.updater = "sum";
        o.priority = *ranked ? k : 4;
        job_check(gp_tensor_register(w, &o, &t[k]));
        data[k] = malloc(WIDE * sizeof(float));
        for (uint32_t e = 0; e < WIDE; e++)
            data[k][e] = (float)(k + 1);
    }
    for (int step = 0; step < 2; step++) {
        for (int k = 0; k < 3; k++)
            job_check(gp_push_pull(t[k], data[k], data[k], &r[k]));
        while (w->open > 0) {
            gp_driver_hold(w->driver);
            most = GP_MAX(most, w->conn[0].unsent);
            gp_driver_release(w->driver);
            usleep(50);
        }
        job_check(gp_wait_all(r, 3, -1));
    }
    job_require(most < UNSENT_BYTES + PIECE, "%llu bytes were queued",
                (unsigned long long)most);
    job_require(*ranked || most == 0, "queued without another priority");
    job_require(w->conn[0].unsent == 0, "what has left is still counted");
    for (int k = 0; k < 3; k++) {
        for (uint32_t e = 0; e < WIDE; e++)
            job_require(data[k][e] == (float)(4 * (k + 1)));
        free(data[k]);
    }
}

static void
queues_stay_short(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        bool ranked = i;
        job j = {.transport = "tcp",
                 .workers = 2,
                 .shards = 1,
                 .settings = {"chunk_bytes", "256K", "slots", "64"},
                 .body = little_body,
                 .data = &ranked};

        assert_int_equal(run_job(&j), GP_OK);
        assert_int_equal(j.ended[0], GP_OK);
    }
}

/* What goes to one shard in one turn is sent off together. */
static void
small_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { SMALL = 60 };
    gp_request *r[SMALL];
    gp_tensor *t[SMALL];
    float data[10] = {0};

    (void)j, (void)rank;
    for (int k = 0; k < SMALL; k++) {
        char name[16];

        snprintf(name, sizeof(name), "s%d", k);
        t[k] = job_tensor(w, name, 10, "sum");
    }
    job_check(gp_worker_ready(w));
    gp_driver_hold(w->driver);
    for (int k = 0; k < SMALL; k++)
        job_check(gp_push(t[k], data, &r[k]));
    gp_driver_release(w->driver);
    job_check(gp_wait_all(r, SMALL, -1));
    job_require(notes == SMALL, "%u pushes", notes);
    job_require(flushes == 1, "sent off in %u parts", flushes);
}

static void
small_tensors_leave_together(void **state)
{
    job j = {.transport = "watched",
             .workers = 1,
             .shards = 1,
             .settings = {"slots", "64"},
             .body = small_body};

    (void)state;
    notes = 0;
    flushes = 0;
    pusher = NULL;
    assert_int_equal(run_job(&j), GP_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_orders),
        cmocka_unit_test(shard_relieves),
        cmocka_unit_test(priorities),
        cmocka_unit_test(queues_stay_short),
        cmocka_unit_test(small_tensors_leave_together),
    };

    return cmocka_run_group_tests(tests, watch_transport, NULL);
}
