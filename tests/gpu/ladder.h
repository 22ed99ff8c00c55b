/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ladder.h - jobs whose memory is partly that of simulated GPUs, on a simulated
 * RDMA fabric: the same results whichever way bytes take.
 */
#ifndef LADDER_H
#define LADDER_H

#include <dirent.h>
#include <errno.h>

/* Before names that its parameters have, too. */
#include "worker/staging.h"

#include "shard/shard.h"
#include "tests/gpu/stream_trainer.h"
#include "tests/sim/sim.h"

#define WORKERS 2u
#define COUNT   6u

/* Bytes of a step that do not touch the host: of each chunk but the last of
 * "both", which is short, at least one for each element; "low" and "packed" are
 * encoded by the host. */
#define DIRECT_PUSHES (90001u * 4 + 70001u + 3 * 16384u + 40001u * 2)
#define DIRECT_PULLS \
    (90001u * 4 + 70001u * 4 + 3 * 16384u + 40001u * 2 + 128u * 96 * 4)

static const kind parts[COUNT] = {
    {"many", GP_FP32, 90001, 0, NULL, NULL, "mean", 1},
    {"q8", GP_FP32, 70001, 0, "q8", NULL, "mean", 2},
    {"both", GP_FP32, 50001, 0, "q8", "q8", "mean", 3},
    {"half", GP_FP16, 40001, 0, NULL, NULL, "mean", 4},
    {"packed", GP_FP32, 40001, 0, "q8+ans", "q8+ans", "mean", 6},
    {"low", GP_FP32, 128 * 96, 96, "powersgd:2", NULL, "sgd:lr=0.5", 5},
};

typedef struct plan {
    bool on_device;
    const char *shards; /* where they are; NULL: the host */
    const char *dmabuf, *peermem, *flush;
    const char *setting, *value; /* one more */
    unsigned devices;            /* of the fabric; 0: one */
    uint8_t *result[WORKERS][COUNT][STEPS];
    uint64_t direct[WORKERS]; /* bytes */
    gp_status ended[WORKERS];
    char text[WORKERS][640];
    gp_direct way[WORKERS]; /* in the end */
    /* What goes wrong, before step 1 or before the first one; called by rank
     * 0's thread. */
    void (*trouble)(gp_sim *sim);
    bool early;
    uint32_t pairs;     /* of GPU and device that are known; 0: one */
    bool may_end;       /* the job does not survive it ... */
    bool may_last;      /* ... or does */
    const char *member; /* whose nth call fails, early */
    uint64_t nth;
    void (*before)(gp_sim *sim);                       /* anything begins */
    void (*body)(job *j, gp_worker *w, uint32_t rank); /* NULL: train() */
    gp_sim *sim;
} plan;

static inline gp_status
try_step(gp_tensor *t, const kind *k, gp_device *d, void *block, uint8_t *bytes)
{
    gp_request *r;
    gp_status status;

    job_check(d->ops->copy_in(d, block, bytes, bytes_of(k)));
    status = gp_push_pull_on(t, block, block, GP_STREAM_DEFAULT, &r);
    return status == GP_OK ? gp_wait(&r, -1) : status;
}

static inline void
one_step(gp_tensor *t, const kind *k, gp_device *d, void *block, uint8_t *bytes)
{
    gp_request *r;

    if (!d) {
        job_check(gp_push_pull(t, bytes, bytes, &r));
        job_check(gp_wait(&r, -1));
        return;
    }
    job_check(try_step(t, k, d, block, bytes));
    job_check(d->ops->copy_out(d, bytes, block, bytes_of(k)));
}

/* Steps of a job that will end. */
static inline void
train_to_the_end(plan *p, gp_tensor **t, uint32_t rank, gp_device *d,
                 void **block)
{
    uint32_t most = p->may_last ? STEPS : 1000;

    for (uint32_t s = 0; p->ended[rank] == GP_OK && s < most; s++) {
        if (s == 1 && rank == 0 && !p->early)
            p->trouble(p->sim);
        for (uint32_t i = 0; i < COUNT && p->ended[rank] == GP_OK; i++)
            p->ended[rank] =
                try_step(t[i], &parts[i], d, block[i], p->result[rank][i][0]);
    }
    snprintf(p->text[rank], sizeof(p->text[rank]), "%s", gp_last_error());
}

static inline void
give_first(gp_tensor *t, const kind *k, gp_device *d, void *block)
{
    uint8_t *bytes = room(bytes_of(k));
    gp_request *r;

    fill(k, 77, 0, 0, bytes);
    if (d) {
        job_check(d->ops->copy_in(d, block, bytes, bytes_of(k)));
        job_check(gp_broadcast_on(t, block, 0, GP_STREAM_DEFAULT, &r));
        job_check(gp_wait(&r, -1));
        job_check(d->ops->copy_out(d, bytes, block, bytes_of(k)));
    } else {
        job_check(gp_broadcast(t, bytes, 0, &r));
        job_check(gp_wait(&r, -1));
    }
    job_require(((float *)bytes)[1000] == job_value(77, 0, 0, 1000));
    free(bytes);
}

static inline void
train(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t[COUNT];
    gp_device *d = NULL;
    void *block[COUNT] = {NULL};
    gp_stats stats;

    for (uint32_t i = 0; i < COUNT; i++)
        t[i] = add(w, &parts[i], p->on_device ? "cuda" : NULL);
    if (p->on_device)
        job_check(gp_device_open("cuda", &d));
    for (uint32_t i = 0; d && i < COUNT; i++)
        job_check(d->ops->alloc(d, bytes_of(&parts[i]), &block[i]));
    p->ended[rank] = gp_worker_ready(w);
    job_note(j, rank, p->ended[rank]);
    if (p->early)
        job_check(gp_barrier(w)); /* all have found out what works */
    if (p->nth && rank == 0)
        gp_sim_fail(p->sim, p->member, p->nth, ENOMEM);
    else if (p->early && rank == 0)
        p->trouble(p->sim);
    if (p->may_end)
        train_to_the_end(p, t, rank, d, block);
    else if (p->ended[rank] == GP_OK)
        give_first(t[COUNT - 1], &parts[COUNT - 1], d, block[COUNT - 1]);
    for (uint32_t s = 0; p->ended[rank] == GP_OK && s < STEPS; s++) {
        if (s == 1 && rank == 0 && p->trouble && !p->early)
            p->trouble(p->sim);
        for (uint32_t i = 0; i < COUNT; i++) {
            fill(&parts[i], rank, i, s, p->result[rank][i][s]);
            one_step(t[i], &parts[i], d, block[i], p->result[rank][i][s]);
        }
    }
    if (p->on_device && p->ended[rank] == GP_OK) {
        gp_driver_hold(w->driver);
        job_require(gp_direct_describe(w, 0, &p->way[rank], p->text[rank],
                                       sizeof(p->text[rank])));
        job_require(!gp_direct_describe(w, p->pairs ? p->pairs : 1,
                                        &p->way[rank], p->text[rank],
                                        sizeof(p->text[rank])));
        gp_driver_release(w->driver);
    }
    gp_worker_stats(w, &stats);
    p->direct[rank] = stats.direct_bytes;
    for (uint32_t i = 0; d && i < COUNT; i++)
        d->ops->free(d, block[i]);
    gp_device_close(d);
}

static inline void
open_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                p->result[r][i][s] = room(bytes_of(&parts[i]));
}

static inline void
close_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                free(p->result[r][i][s]);
}

static inline unsigned
descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static const char *
or_try(const char *text)
{
    return text ? text : "try";
}

/* Runs the job on a fabric with that device; everything is given back. */
static inline gp_status
run_on(plan *p, const gp_sim_device *device, job *j, gp_sim_foreign *seen,
       size_t *count)
{
    const gp_sim_options fabric = {.device = device,
                                   .devices = p->devices ? p->devices : 1,
                                   .ignore_buffers = true,
                                   .foreign = gp_sim_cuda_owns,
                                   .store = gp_sim_cuda_store};
    unsigned before = descriptors();
    gp_status status;

    *j = (job){
        .transport = "verbs",
        .workers = WORKERS,
        .shards = 2,
        .settings = {"chunk_bytes", "64K", "log", "info", "gdr_dmabuf",
                     or_try(p->dmabuf), "gdr_peermem", or_try(p->peermem),
                     "gdr_flush", p->flush ? p->flush : "auto", "shard_device",
                     p->shards ? p->shards : "cpu", p->setting, p->value},
        .body = p->body ? p->body : train,
        .data = p};
    p->sim = gp_sim_open(&fabric);
    assert_non_null(p->sim);
    gp_verbs_api_use(gp_sim_api(p->sim));
    if (p->before)
        p->before(p->sim);
    status = run_job(j);
    gp_verbs_api_use(NULL);
    /* The other one's may have ended the job before. */
    for (uint32_t r = 0; r < WORKERS; r++)
        if (j->created[r] != GP_OK) {
            p->ended[r] = j->created[r];
            snprintf(p->text[r], sizeof(p->text[r]), "%.600s", j->message[r]);
        }
    if (seen)
        *count = gp_sim_foreigners(p->sim, seen, *count);
    assert_int_equal(gp_sim_finish(p->sim), 0);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
    assert_int_equal(descriptors(), before);
    return status;
}

static inline void
compare(const plan *a, const plan *b)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                if (memcmp(a->result[r][i][s], b->result[r][i][s],
                           bytes_of(&parts[i])) != 0)
                    fail_msg("rank %u tensor %s step %u", r, parts[i].name, s);
}

static plan host; /* of tensors on the host: what all others must give */

static inline int
prepare(void **state)
{
    const gp_sim_device plain = {0};
    job j;

    (void)state;
    open_plan(&host);
    return run_on(&host, &plain, &j, NULL, NULL) == GP_OK ? 0 : -1;
}

static inline int
clean_up(void **state)
{
    (void)state;
    close_plan(&host);
    return 0;
}

static inline void
check_bytes(const plan *p, bool pushes, bool pulls)
{
    for (uint32_t r = 0; r < WORKERS; r++) {
        if (!pushes && !pulls) {
            assert_int_equal(p->direct[r], 0);
            continue;
        }
        assert_true(p->direct[r] >= STEPS * DIRECT_PUSHES);
        if (pulls)
            assert_true(p->direct[r] >= STEPS * (DIRECT_PUSHES + DIRECT_PULLS));
    }
}

static inline void
ok_on(plan *p, const gp_sim_device *device, gp_sim_foreign *seen, size_t *count)
{
    job j;

    p->on_device = !p->shards || p->on_device;
    open_plan(p);
    if (run_on(p, device, &j, seen, count) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    compare(&host, p);
    close_plan(p);
}

static inline void
use_cuda(bool dma_buf, int ordering)
{
    const gp_sim_cuda_options options = {
        .devices = 1, .dma_buf = dma_buf, .writes_ordering = ordering};

    gp_sim_cuda_install(&options);
}

static const gp_sim_device both_ways = {.dmabuf = true, .peermem = true};
static const gp_sim_device only_dmabuf = {.dmabuf = true};
static const gp_sim_device only_peermem = {.peermem = true};
static const gp_sim_device no_way = {0};

/* The first processes of the fabric are the shards, those behind them the
 * workers, in any order. */
#define A_WORKER 3u
#define A_SHARD  1u

static inline void
deny_shard(gp_sim *sim)
{
    static const gp_sim_break how = {.process = A_SHARD,
                                     .after_bytes = 20000,
                                     .status = IBV_WC_REM_ACCESS_ERR};

    gp_sim_break_qp(sim, &how);
}

#endif
