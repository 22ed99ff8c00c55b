/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ladder_sim.c - memory of simulated GPUs and the devices of a simulated
 * RDMA fabric: by which way one reaches the other, and what is said about the
 * others; that results are those of tensors on the host by each way, and when
 * it fails on the way.
 */
#include <dirent.h>
#include <errno.h>

/* Before names that its parameters have, too. */
#include "worker/staging.h"

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
    gp_sim *sim;
} plan;

static gp_status
try_step(gp_tensor *t, const kind *k, gp_device *d, void *block, uint8_t *bytes)
{
    gp_request *r;
    gp_status status;

    job_check(d->ops->copy_in(d, block, bytes, bytes_of(k)));
    status = gp_push_pull_on(t, block, block, GP_STREAM_DEFAULT, &r);
    return status == GP_OK ? gp_wait(&r, -1) : status;
}

static void
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
static void
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

static void
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

static void
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

static void
open_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                p->result[r][i][s] = room(bytes_of(&parts[i]));
}

static void
close_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                free(p->result[r][i][s]);
}

static unsigned
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
static gp_status
run_on(plan *p, const gp_sim_device *device, job *j, gp_sim_foreign *seen,
       size_t *count)
{
    const gp_sim_options fabric = {.device = device,
                                   .devices = p->devices ? p->devices : 1,
                                   .ignore_buffers = true,
                                   .foreign = gp_sim_cuda_owns};
    unsigned before = descriptors();
    gp_status status;

    *j = (job){.transport = "verbs",
               .workers = WORKERS,
               .shards = 2,
               .settings = {"chunk_bytes", "64K", "log", "info", "gdr_dmabuf",
                            or_try(p->dmabuf), "gdr_peermem",
                            or_try(p->peermem), "gdr_flush",
                            p->flush ? p->flush : "auto", p->setting, p->value},
               .body = train,
               .data = p};
    p->sim = gp_sim_open(&fabric);
    assert_non_null(p->sim);
    gp_verbs_api_use(gp_sim_api(p->sim));
    status = run_job(j);
    gp_verbs_api_use(NULL);
    if (seen)
        *count = gp_sim_foreigners(p->sim, seen, *count);
    assert_int_equal(gp_sim_finish(p->sim), 0);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
    assert_int_equal(descriptors(), before);
    return status;
}

static void
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

static int
prepare(void **state)
{
    const gp_sim_device plain = {0};
    job j;

    (void)state;
    open_plan(&host);
    return run_on(&host, &plain, &j, NULL, NULL) == GP_OK ? 0 : -1;
}

static int
clean_up(void **state)
{
    (void)state;
    close_plan(&host);
    return 0;
}

static void
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

static void
ok_on(plan *p, const gp_sim_device *device, gp_sim_foreign *seen, size_t *count)
{
    job j;

    p->on_device = true;
    open_plan(p);
    if (run_on(p, device, &j, seen, count) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    compare(&host, p);
    close_plan(p);
}

static void
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

static void
memory_goes_by_dmabuf(void **state)
{
    plan p = {0};
    gp_sim_foreign seen[64];
    size_t count = 64;

    (void)state;
    job_log_start();
    ok_on(&p, &only_dmabuf, seen, &count);
    check_bytes(&p, true, true);
    assert_int_equal(p.way[0], GP_DIRECT_DMABUF);
    assert_string_equal(p.text[1], "cuda:0 and sim0: by DMA-BUF");
    assert_true(job_log_has("GPUDirect between cuda:0 and sim0: by DMA-BUF"));
    job_log_stop();
    /* Two trials of two ends each, then a segment for each shard. */
    assert_true(count >= 2 * (2 + 2) && count <= 64);
    for (size_t i = 0; i < count; i++) {
        assert_true(seen[i].fd >= 0);
        assert_int_equal(seen[i].offset, 0);
        assert_int_equal(seen[i].iova % 4096, 0);
        assert_int_equal(seen[i].length % GP_ARENA_SEGMENT, 0);
        assert_true(seen[i].access & IBV_ACCESS_LOCAL_WRITE);
        assert_int_equal(seen[i].access & IBV_ACCESS_MW_BIND, 0);
    }
    /* Nothing is registered twice in a domain. */
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_false(seen[i].pd == seen[k].pd &&
                         seen[i].iova == seen[k].iova);
}

static void
memory_goes_by_peermem(void **state)
{
    plan p = {0};
    gp_sim_foreign seen[64];
    size_t count = 64;

    (void)state;
    job_log_start();
    ok_on(&p, &only_peermem, seen, &count);
    check_bytes(&p, true, true);
    assert_int_equal(p.way[1], GP_DIRECT_PEERMEM);
    assert_true(
        job_log_has("GPUDirect between cuda:0 and sim0: by "
                    "nvidia-peermem; not by DMA-BUF: ibv_reg_dmabuf_mr"));
    job_log_stop();
    assert_true(count >= 8);
    for (size_t i = 0; i < GP_MIN(count, 64u); i++) {
        assert_int_equal(seen[i].fd, -1);
        assert_int_equal(seen[i].length % GP_ARENA_SEGMENT, 0);
    }
}

static void
memory_is_staged(void **state)
{
    plan p = {0}, q = {.dmabuf = "no", .peermem = "no"};
    plan r = {.setting = "checksum", .value = "on"};
    gp_sim_foreign seen[64];
    size_t count = 64;

    (void)state;
    job_log_start();
    ok_on(&p, &no_way, seen, &count);
    check_bytes(&p, false, false);
    assert_int_equal(p.way[0], GP_DIRECT_STAGING);
    assert_int_equal(count, 0);
    assert_true(job_log_has("by the host's memory; not by DMA-BUF: "
                            "ibv_reg_dmabuf_mr: Operation not supported; "
                            "nvidia-peermem: nvidia-peermem is not loaded"));
    count = 64;
    ok_on(&q, &both_ways, seen, &count);
    check_bytes(&q, false, false);
    assert_int_equal(count, 0);
    assert_true(job_log_has("DMA-BUF: GRADPUSH_GDR_DMABUF=no; nvidia-peermem: "
                            "GRADPUSH_GDR_PEERMEM=no"));
    ok_on(&r, &both_ways, seen, &count);
    check_bytes(&r, false, false);
    assert_true(job_log_has("GRADPUSH_CHECKSUM=on reads every payload"));
    job_log_stop();
}

/* One worker ends with the cause. */
static void
lose(plan *p, const gp_sim_device *device, const char *part)
{
    bool found = false;
    job j;

    p->on_device = p->may_end = true;
    open_plan(p);
    (void)run_on(p, device, &j, NULL, NULL);
    for (uint32_t r = 0; r < WORKERS; r++) {
        assert_int_not_equal(p->ended[r], GP_OK);
        found |= p->ended[r] == GP_ERR_UNSUPPORTED && strstr(p->text[r], part);
    }
    if (!found)
        fail_msg("%s; %s", p->text[0], p->text[1]);
    close_plan(p);
}

/* A way that the configuration insists on, and that is closed. */
static void
refuse(plan *p, const gp_sim_device *device, const char *part)
{
    job j;

    p->on_device = true;
    open_plan(p);
    (void)run_on(p, device, &j, NULL, NULL);
    for (uint32_t r = 0; r < WORKERS; r++)
        job_expect_end(&j, r, GP_ERR_UNSUPPORTED, part);
    close_plan(p);
}

static void
a_way_may_be_insisted_on(void **state)
{
    plan a = {.dmabuf = "yes"}, b = {.dmabuf = "no", .peermem = "yes"};
    plan c = {.dmabuf = "yes"}, d = {.dmabuf = "no", .peermem = "yes"};

    (void)state;
    refuse(&a, &only_peermem,
           "GRADPUSH_GDR_DMABUF=yes, but sim0 cannot reach memory of cuda:0 by "
           "DMA-BUF: ibv_reg_dmabuf_mr: Operation not supported");
    refuse(&b, &only_dmabuf, "GRADPUSH_GDR_PEERMEM=yes, but sim0");
    ok_on(&c, &both_ways, NULL, NULL);
    check_bytes(&c, true, true);
    ok_on(&d, &both_ways, NULL, NULL);
    check_bytes(&d, true, true);
    use_cuda(false, 100);
    refuse(&a, &both_ways, "the driver does not export memory of cuda:0");
    use_cuda(true, 100);
}

/* The first processes of the fabric are the shards, those behind them the
 * workers, in any order. */
#define A_WORKER 3u
#define A_SHARD  1u

static void
refuse_dmabuf(gp_sim *sim)
{
    gp_sim_fail(sim, "reg_dmabuf_mr", 1, ENOMEM);
}

static void
protect(gp_sim *sim)
{
    static const gp_sim_break how = {.process = A_WORKER,
                                     .after_bytes = 20000,
                                     .status = IBV_WC_LOC_PROT_ERR};

    gp_sim_break_qp(sim, &how);
}

static void
deny(gp_sim *sim)
{
    gp_sim_async(sim, A_WORKER, IBV_EVENT_QP_ACCESS_ERR);
}

static void
deny_shard(gp_sim *sim)
{
    static const gp_sim_break how = {.process = A_SHARD,
                                     .after_bytes = 20000,
                                     .status = IBV_WC_REM_ACCESS_ERR};

    gp_sim_break_qp(sim, &how);
}

static void
ways_are_left_for_the_next(void **state)
{
    static const struct {
        void (*trouble)(gp_sim *sim);
        bool early;
        const char *said;
    } cases[] = {
        {refuse_dmabuf, true, "is BAR1 too small? see nvidia-smi -q): Cannot"},
        {protect, false, "a WRITE from there ended with"},
        {deny, false, "the device refused a WRITE of the peer's to there"},
        {deny_shard, false, NULL},
    };
    static const gp_sim_device *const devices[] = {&both_ways, &only_dmabuf};
    static const char *const next[] = {"through nvidia-peermem from now on",
                                       "through the host's memory from now on"};

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(cases); i++) {
        plan p = {.trouble = cases[i / 2].trouble, .early = cases[i / 2].early};

        job_log_start();
        ok_on(&p, devices[i % 2], NULL, NULL);
        if (cases[i / 2].said) {
            if (!job_log_has("by DMA-BUF any more") ||
                !job_log_has(cases[i / 2].said) || !job_log_has(next[i % 2]))
                fail_msg("case %zu", i);
            assert_int_equal(GP_MAX(p.way[0], p.way[1]),
                             i % 2 ? GP_DIRECT_STAGING : GP_DIRECT_PEERMEM);
        }
        job_log_stop();
    }
}

/* Whatever the fabric does not do: nothing is left behind. */
static void
any_call_may_fail(void **state)
{
    static const char *const members[] = {"reg_dmabuf_mr", "reg_mr", "dereg_mr",
                                          "post_send", "post_recv"};

    (void)state;
    for (uint64_t n = 0; n < 2 * GP_COUNT_OF(members); n++) {
        plan p = {.on_device = true,
                  .setting = "ib_reconnect",
                  .value = "200ms",
                  .early = true,
                  .member = members[n / 2],
                  .nth = 1 + 3 * (n % 2),
                  .may_end = true,
                  .may_last = true};
        job j;

        open_plan(&p);
        (void)run_on(&p, &both_ways, &j, NULL, NULL);
        close_plan(&p);
    }
}

/* Lanes on several devices, of which each has its way, domains of all peers,
 * and regions that are no windows. */
static void
all_kinds_of_connections_reach_it(void **state)
{
    static const gp_sim_device two[] = {{.dmabuf = true}, {.peermem = true}};
    static const gp_sim_device half[] = {{.dmabuf = true}, {0}};
    static const gp_sim_device bare[] = {{.dmabuf = true, .no_windows = true}};
    static const struct {
        const gp_sim_device *device;
        unsigned devices;
        const char *setting, *value;
        bool direct;
    } cases[] = {{two, 1, "ib_domains", "shared", true},
                 {two, 1, "ib_qps", "3", true},
                 {two, 1, "ib_notify", "imm", true},
                 {two, 2, "ib_rails", "2", true},
                 {half, 2, "ib_rails", "2", false},
                 {bare, 1, "ib_relaxed", "off", true}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++)
        for (int broken = 0; broken < 2; broken++) {
            plan p = {.setting = cases[i].setting,
                      .value = cases[i].value,
                      .devices = cases[i].devices,
                      .pairs = cases[i].devices,
                      .trouble = broken ? protect : NULL};

            ok_on(&p, cases[i].device, NULL, NULL);
            if (!broken)
                check_bytes(&p, cases[i].direct, cases[i].direct);
        }
}

static void
a_way_that_is_insisted_on_may_fail(void **state)
{
    plan a = {.dmabuf = "yes",
              .setting = "ib_reconnect",
              .value = "200ms",
              .trouble = refuse_dmabuf,
              .early = true};
    plan b = {.dmabuf = "yes",
              .setting = "ib_reconnect",
              .value = "200ms",
              .trouble = protect};

    (void)state;
    lose(&a, &both_ways, "GRADPUSH_GDR_DMABUF=yes, but sim0 cannot reach");
    lose(&b, &both_ways, "GRADPUSH_GDR_DMABUF=yes, but sim0 cannot reach");
}

static void
writes_are_flushed_where_they_must(void **state)
{
    static const struct {
        int ordering;
        const char *flush;
        bool flushes;
    } cases[] = {{0, "auto", true},
                 {100, "auto", false},
                 {200, "auto", false},
                 {100, "on", true},
                 {0, "off", false}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        plan p = {.flush = cases[i].flush};
        uint64_t before = gp_sim_cuda_flushes();

        use_cuda(true, cases[i].ordering);
        ok_on(&p, &only_dmabuf, NULL, NULL);
        if (cases[i].flushes)
            assert_true(gp_sim_cuda_flushes() - before >= WORKERS * STEPS * 3);
        else
            assert_int_equal(gp_sim_cuda_flushes(), before);
    }
    use_cuda(true, 100);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_goes_by_dmabuf),
        cmocka_unit_test(memory_goes_by_peermem),
        cmocka_unit_test(memory_is_staged),
        cmocka_unit_test(a_way_may_be_insisted_on),
        cmocka_unit_test(ways_are_left_for_the_next),
        cmocka_unit_test(a_way_that_is_insisted_on_may_fail),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(all_kinds_of_connections_reach_it),
        cmocka_unit_test(writes_are_flushed_where_they_must),
    };

    use_cuda(true, 100);
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
