/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_slots_sim.c - pushes that the devices of a simulated RDMA fabric
 * write into the memory of a simulated GPU, where shards add them: results are
 * those of shards on the host by each way, when a way fails, and when a push
 * has to leave its place before it is added.
 */
#include "tests/gpu/ladder.h"

#include "shard/shard.h"
#include "shard/shard_device.h"
#include "tests/rounds.h"

#define WRITTEN "network devices have written "

/* Bytes of a step that land on the device: of each chunk but the last ones of
 * what is coded, which are short, at least one for each element; "packed" is
 * unpacked by the host, and "low" is short. */
#define LANDED (90001u * 4 + 4 * 16384u + 3 * 16384u + 40001u * 2)

static void
expect_landed(const plan *p, uint64_t steps)
{
    uint64_t bytes = job_log_sum(WRITTEN), least = WORKERS * steps * LANDED;

    (void)p;
    if (bytes < least || bytes > least + least / 16)
        fail_msg("%llu bytes, not %llu", (unsigned long long)bytes,
                 (unsigned long long)least);
}

/* --- by each way --- */

static void
pushes_land_on_the_device(void **state)
{
    static const gp_sim_device *const devices[] = {&only_dmabuf, &only_peermem,
                                                   &no_way};
    static const char *const said[] = {
        "pushes of worker 1 land in memory of cuda:0, by DMA-BUF",
        "pushes of worker 1 land in memory of cuda:0, by nvidia-peermem",
        "by the host's memory"};

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(devices); i += GP_ROUNDS(1, 3)) {
        plan p = {.shards = "cuda", .on_device = i % 2};

        job_log_start();
        ok_on(&p, devices[i / 2], NULL, NULL);
        if (i < 4)
            expect_landed(&p, STEPS);
        else
            assert_false(job_log_has(WRITTEN));
        assert_true(job_log_has(said[i / 2]));
        job_log_stop();
    }
}

/* Of all that is shown of a shard's GPU: two ends of a trial, results in the
 * domain of each worker, and each worker's slots in its own. */
static void
slots_are_registered_once(void **state)
{
    plan p = {.shards = "cuda"};
    gp_sim_foreign seen[64];
    size_t count = 64, alone = 0;

    (void)state;
    ok_on(&p, &only_dmabuf, seen, &count);
    assert_int_equal(count, 2 * (2 + WORKERS + WORKERS));
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;

        assert_true(seen[i].fd >= 0);
        assert_int_equal(seen[i].offset, 0);
        assert_int_equal(seen[i].iova % 4096, 0);
        assert_int_equal(seen[i].length % GP_ARENA_SEGMENT, 0);
        assert_int_equal(seen[i].access & IBV_ACCESS_MW_BIND, 0);
        for (size_t k = 0; k < count; k++) {
            same += seen[k].iova == seen[i].iova;
            assert_false(k != i && seen[k].pd == seen[i].pd &&
                         seen[k].iova == seen[i].iova);
        }
        alone += same == 1;
        if (same == 1)
            assert_int_equal(seen[i].access & ~IBV_ACCESS_RELAXED_ORDERING,
                             IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    }
    assert_int_equal(alone, 2 * WORKERS);
}

static void
pushes_that_land_in_pinned_memory(void **state)
{
    static const gp_sim_device two[] = {{.dmabuf = true}, {0}};
    static const gp_sim_cuda_options old = {
        .devices = 1, .dma_buf = true, .no_flush = true};
    plan a = {.shards = "cuda", .setting = "checksum", .value = "on"};
    plan b = {
        .shards = "cuda", .devices = 2, .setting = "ib_rails", .value = "2"};
    plan c = {.shards = "cuda", .dmabuf = "no", .peermem = "no"};
    plan d = {.shards = "cuda"};

    (void)state;
    job_log_start();
    ok_on(&a, &both_ways, NULL, NULL);
    ok_on(&b, two, NULL, NULL);
    ok_on(&c, &both_ways, NULL, NULL);
    gp_sim_cuda_install(&old);
    ok_on(&d, &both_ways, NULL, NULL);
    use_cuda(true, 100);
    assert_true(job_log_has("cuda:0 cannot flush what network devices write"));
    assert_true(job_log_has("network devices have read"));
    assert_false(job_log_has(WRITTEN));
    job_log_stop();
}

static void
connections_of_all_kinds_get_there(void **state)
{
    static const gp_sim_device bare = {.dmabuf = true, .no_windows = true};
    static const char *const settings[][2] = {{"ib_domains", "shared"},
                                              {"ib_qps", "3"},
                                              {"ib_notify", "imm"},
                                              {"ib_relaxed", "off"},
                                              {"ib_rails", "2"}};
    static const gp_sim_device two[] = {{.dmabuf = true}, {.peermem = true}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(settings); i++) {
        plan p = {.shards = "cuda",
                  .devices = i == 4 ? 2 : 1,
                  .setting = settings[i][0],
                  .value = settings[i][1]};

        job_log_start();
        ok_on(&p, i == 4 ? two : i % 2 ? &bare : &both_ways, NULL, NULL);
        expect_landed(&p, STEPS);
        job_log_stop();
    }
}

/* --- what is seen of them --- */

static void
hide(gp_sim *sim)
{
    (void)sim;
    gp_sim_cuda_hide(true);
}

/* What was written is not there before it is flushed. */
static void
writes_are_flushed_before_they_are_read(void **state)
{
    static const struct {
        int ordering;
        const char *flush;
    } cases[] = {{0, "auto"}, {100, "on"}, {100, "auto"}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        bool flushes = i < 2;
        plan p = {.shards = "cuda",
                  .flush = cases[i].flush,
                  .trouble = flushes ? hide : NULL,
                  .early = flushes};
        uint64_t before = gp_sim_cuda_flushes();

        use_cuda(true, cases[i].ordering);
        job_log_start();
        ok_on(&p, &only_peermem, NULL, NULL);
        expect_landed(&p, STEPS);
        job_log_stop();
        gp_sim_cuda_hide(false);
        if (flushes)
            assert_true(gp_sim_cuda_flushes() - before >= STEPS);
        else
            assert_int_equal(gp_sim_cuda_flushes(), before);
    }
    use_cuda(true, 100);
}

static bool
is_same(const plan *a, const plan *b)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < COUNT; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                if (memcmp(a->result[r][i][s], b->result[r][i][s],
                           bytes_of(&parts[i])) != 0)
                    return false;
    return true;
}

/* The test above would find out. What is missed are zeros here, which a decoder
 * takes. */
static void
writes_that_are_not_flushed_are_missed(void **state)
{
    const gp_sim_cuda_options zeros = {
        .devices = 1, .dma_buf = true, .zeros = true};
    plan p = {.shards = "cuda", .flush = "off", .trouble = hide, .early = true};
    gp_status status;
    job j;

    (void)state;
    gp_sim_cuda_install(&zeros);
    open_plan(&p);
    status = run_on(&p, &only_peermem, &j, NULL, NULL);
    gp_sim_cuda_hide(false);
    assert_true(status != GP_OK || !is_same(&p, &host));
    close_plan(&p);
    use_cuda(true, 100);
}

/* --- ways that fail --- */

static void
deny_pushes(gp_sim *sim)
{
    gp_sim_async(sim, A_SHARD, IBV_EVENT_QP_ACCESS_ERR);
    job_require(job_log_wait("by DMA-BUF any more", 30));
}

/* The latest process is a worker, if those have no trials of their own. */
static void
break_worker(gp_sim *sim)
{
    const gp_sim_break how = {.process = gp_sim_processes(sim),
                              .after_bytes = 20000};

    gp_sim_break_qp(sim, &how);
}

static void
break_worker_late(gp_sim *sim)
{
    const gp_sim_break how = {.process = gp_sim_processes(sim),
                              .after_bytes = 20000,
                              .delivered = true};

    gp_sim_break_qp(sim, &how);
}

static void
pushes_take_the_next_way(void **state)
{
    static const gp_sim_device *const devices[] = {&both_ways, &only_dmabuf};
    static const char *const next[] = {"through nvidia-peermem from now on",
                                       "through the host's memory from now on"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        plan p = {.shards = "cuda", .trouble = deny_pushes, .on_device = i / 2};

        job_log_start();
        ok_on(&p, devices[i % 2], NULL, NULL);
        assert_true(job_log_has("by DMA-BUF any more"));
        assert_true(job_log_has("refused a WRITE of the peer's to there"));
        assert_true(job_log_has(next[i % 2]));
        if (i % 2 == 0)
            assert_false(job_log_has("land in pinned memory again"));
        else
            assert_true(job_log_has("land in pinned memory again"));
        assert_true(job_log_sum(WRITTEN) >= WORKERS * LANDED);
        job_log_stop();
    }
}

static void
pushes_come_again_with_their_connection(void **state)
{
    static void (*const troubles[])(gp_sim * sim) = {break_worker,
                                                     break_worker_late};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(troubles); i++) {
        plan p = {.shards = "cuda", .trouble = troubles[i]};

        job_log_start();
        ok_on(&p, &only_dmabuf, NULL, NULL);
        expect_landed(&p, STEPS);
        assert_true(job_log_has("lost"));
        job_log_stop();
    }
}

static uint64_t refused_at;

static void
refuse_one(gp_sim *sim)
{
    gp_sim_fail(sim, "reg_dmabuf_mr", refused_at, ENOMEM);
}

/* Whichever registration it is: of the trial, of results, of slots. */
static void
registrations_may_fail(void **state)
{
    (void)state;
    for (refused_at = 1; refused_at <= 12; refused_at++) {
        plan p = {.shards = "cuda", .before = refuse_one};

        ok_on(&p, refused_at % 2 ? &both_ways : &only_dmabuf, NULL, NULL);
    }
}

/* --- the driver fails --- */

static const char *fail_function;
static uint32_t fail_at;
static atomic_bool armed;

/* What a step gives is right, or it says what has failed. */
static void
stumble(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t[COUNT];
    uint8_t *bytes = room(90001 * sizeof(float));
    gp_request *r;

    for (uint32_t i = 0; i < COUNT; i++)
        t[i] = add(w, &parts[i], NULL);
    if (!p->early && !p->before && rank == 0)
        gp_sim_cuda_fail(fail_function, fail_at, 999);
    if (rank == 0)
        atomic_store(&armed, true);
    while (!atomic_load(&armed))
        usleep(100);
    p->ended[rank] = gp_worker_ready(w);
    if (p->ended[rank] == GP_OK)
        p->ended[rank] = gp_barrier(w);
    if (p->ended[rank] == GP_OK && p->early && rank == 0)
        gp_sim_cuda_fail(fail_function, fail_at, 999);
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t i = 0; i < COUNT - 1 && p->ended[rank] == GP_OK; i++) {
            fill(&parts[i], rank, i, s, bytes);
            p->ended[rank] = gp_push_pull(t[i], bytes, bytes, &r);
            if (p->ended[rank] == GP_OK)
                p->ended[rank] = gp_wait(&r, -1);
            job_require(p->ended[rank] != GP_OK ||
                        memcmp(bytes, host.result[rank][i][s],
                               bytes_of(&parts[i])) == 0);
        }
    snprintf(p->text[rank], sizeof(p->text[rank]), "%s", gp_last_error());
    free(bytes);
}

static bool went_without; /* memory for slots */

/* Whether it has failed. */
static bool
fail_once(bool early)
{
    plan p = {.shards = "cuda", .flush = "on", .body = stumble, .early = early};
    bool failed;
    job j;

    open_plan(&p);
    job_log_start();
    atomic_store(&armed, false);
    (void)run_on(&p, &both_ways, &j, NULL, NULL);
    failed = gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    went_without |= job_log_has("in that of cuda:0: cuMemAlloc") &&
                    p.ended[0] == GP_OK && p.ended[1] == GP_OK;
    job_log_stop();
    for (uint32_t r = 0; r < WORKERS; r++)
        if (!failed && (j.created[r] != GP_OK || p.ended[r] != GP_OK))
            fail_msg("%s%s", j.message[r], p.text[r]);
    close_plan(&p);
    return failed;
}

/* A way that the configuration insists on: the job ends, and says why. */
static void
a_way_that_is_insisted_on_may_fail(void **state)
{
    (void)state;
    job_log_start();
    for (refused_at = 5; refused_at <= 12; refused_at++) {
        plan p = {.shards = "cuda",
                  .dmabuf = "yes",
                  .setting = "ib_reconnect",
                  .value = "200ms",
                  .body = stumble,
                  .before = refuse_one};
        job j;

        open_plan(&p);
        (void)run_on(&p, &both_ways, &j, NULL, NULL);
        assert_true(p.ended[0] != GP_OK || p.ended[1] != GP_OK);
        close_plan(&p);
    }
    assert_true(job_log_has("GRADPUSH_GDR_DMABUF=yes, but sim0 cannot reach"));
    job_log_stop();
}

static void
faults_of_the_driver_are_told(void **state)
{
    static const struct {
        const char *function;
        uint32_t most;
        bool early;
    } calls[] = {{"cuMemAlloc", 100, false},
                 {"cuMemGetHandleForAddressRange", 20, false},
                 {"cuFlushGPUDirectRDMAWrites", 20, true},
                 {"cuMemcpyAsync", 20, true},
                 {"cuLaunchKernel", 20, true},
                 {"cuEventRecord", 20, true},
                 {"cuEventQuery", 20, true},
                 {NULL, 60, true}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(calls); i++) {
        uint32_t n = i == 0 ? 1 : GP_ROUNDS(2, 5);

        fail_function = calls[i].function;
        assert_true((fail_at = 1, fail_once(calls[i].early)));
        for (fail_at = 2; fail_at <= calls[i].most; fail_at += n)
            if (!fail_once(calls[i].early))
                break;
        assert_true(went_without);
    }
}

/* --- pushes that leave their place --- */

static const kind wide = {"wide", GP_FP32, 600001, 0, NULL, NULL, "mean", 0};

/* Rank 0, whose pushes are added first, begins when rank 1 has pushed so much
 * that its slots are full, and these had to be emptied. */
static void
run_ahead(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, &wide, NULL);
    float *values = (float *)room(bytes_of(&wide));
    gp_request *r;

    (void)j;
    job_check(gp_worker_ready(w));
    if (rank == 0)
        job_require(job_log_wait("its pushes move to the heap", 30));
    fill(&wide, rank, 0, 0, values);
    job_check(gp_push_pull(t, values, values, &r));
    job_check(gp_wait(&r, -1));
    for (uint64_t i = 0; i < wide.count; i++)
        job_require(values[i] ==
                    (job_value(0, 0, 0, i) + job_value(1, 0, 0, i)) * 0.5f);
    free(values);
}

static void
pushes_may_have_to_make_room(void **state)
{
    plan p = {.shards = "cuda",
              .body = run_ahead,
              .before = hide,
              .flush = "on",
              .setting = "log",
              .value = "debug"};
    uint64_t copied = gp_sim_cuda_copied_out();
    job j;

    (void)state;
    job_log_start();
    if (run_on(&p, &only_peermem, &j, NULL, NULL) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    gp_sim_cuda_hide(false);
    assert_true(job_log_sum(WRITTEN) >= WORKERS * (bytes_of(&wide) - 65536));
    job_log_stop();
    /* What had to leave its slot, which the host cannot read: how much that was
     * depends on when rank 0 began. */
    assert_true(gp_sim_cuda_copied_out() - copied >= 65536);
}

/* Rank 1 pushes and leaves; rank 0 comes after that. */
static void
leave(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t = add(w, &parts[0], NULL);
    uint8_t *bytes = p->result[rank][0][0];
    double until = job_seconds() + 30;
    gp_request *r;

    job_check(gp_worker_ready(w));
    fill(&parts[0], rank, 0, 0, bytes);
    if (rank == 1) {
        job_check(gp_push(t, bytes, &r));
        job_check(gp_wait(&r, -1));
        return;
    }
    while (!atomic_load(&j->gone[1]) && job_seconds() < until)
        usleep(200);
    job_require(atomic_load(&j->gone[1]));
    job_check(gp_push_pull(t, bytes, bytes, &r));
    job_check(gp_wait(&r, -1));
}

static void
pushes_of_who_has_left_count(void **state)
{
    plan p = {.shards = "cuda", .body = leave, .before = hide, .flush = "on"};
    uint64_t copied = gp_sim_cuda_copied_out();
    job j;

    (void)state;
    open_plan(&p);
    job_log_start();
    if (run_on(&p, &only_peermem, &j, NULL, NULL) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    gp_sim_cuda_hide(false);
    assert_true(job_log_sum(WRITTEN) >= 2 * 90001 * 4);
    job_log_stop();
    assert_true(gp_sim_cuda_copied_out() - copied >= bytes_of(&parts[0]));
    assert_memory_equal(p.result[0][0][0], host.result[0][0][0],
                        bytes_of(&parts[0]));
    close_plan(&p);
}

/* --- damage --- */

static void
damage(void *user, enum ibv_wr_opcode opcode, uint32_t imm_be,
       const void *bytes, size_t length)
{
    (void)user, (void)imm_be;
    if (opcode == IBV_WR_RDMA_WRITE && length > 20000 &&
        gp_sim_cuda_owns(bytes))
        memset((void *)(uintptr_t)bytes, 0xff, length);
}

static void
damage_all(gp_sim *sim)
{
    gp_sim_observe(sim, damage, NULL);
}

static const kind top = {"top",  GP_FP32, 16384, 0, "topk:0.9+none+raw",
                         "none", "mean",  0};

static void
push_once(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t = add(w, &top, NULL);
    float *values = (float *)room(bytes_of(&top));
    gp_request *r;

    fill(&top, rank, 0, 0, values);
    /* The other one's may have ended the job at any time. */
    p->ended[rank] = gp_worker_ready(w);
    if (p->ended[rank] == GP_OK)
        p->ended[rank] = gp_push_pull(t, values, values, &r);
    if (p->ended[rank] == GP_OK)
        p->ended[rank] = gp_wait(&r, -1);
    snprintf(p->text[rank], sizeof(p->text[rank]), "%s", gp_last_error());
    free(values);
}

/* Who has sent it is found out from a copy; there are no results. */
static void
damaged_pushes_are_told(void **state)
{
    plan p = {.shards = "cuda", .body = push_once, .before = damage_all};
    uint64_t copied = gp_sim_cuda_copied_out();
    job j;

    (void)state;
    job_log_start();
    (void)run_on(&p, &only_peermem, &j, NULL, NULL);
    job_log_stop();
    assert_true(gp_sim_cuda_copied_out() - copied >= 32768);
    for (uint32_t r = 0; r < WORKERS; r++)
        if (p.ended[r] == GP_OK ||
            !strstr(p.text[r], "pushed damaged data for tensor 'top'"))
            fail_msg("%d %s", (int)p.ended[r], p.text[r]);
}

/* --- what may lie there --- */

static void
only_pushes_for_kernels_may_land(void **state)
{
    gp_coder *some = (gp_coder *)&state;
    device_coder with = {.coder = some, .folds = true}, without = {0};
    struct gp_tensor_device way = {
        .push = {{.coder = &with}, {.coder = &without}, {&with, true}}};
    shard_tensor tensor = {.device = &way,
                           .push = {.count = 3, .id = {10, 11, 12}}};
    gp_chunk c = {.tensor = &tensor};
    gp_device_slots slots = {.region = 7};
    gp_peer peer = {.landing = &slots, .region = 6};
    gp_msg push = {.type = GP_MSG_PUSH, .region = 7, .pipeline = 10}, m = push;

    assert_true(gp_push_may_land(&peer, &c, &m));
    m.pipeline = 11; /* the host decodes */
    assert_false(gp_push_may_land(&peer, &c, &m));
    m.pipeline = 12; /* the host unpacks */
    assert_false(gp_push_may_land(&peer, &c, &m));
    m.pipeline = 13; /* nobody knows */
    assert_false(gp_push_may_land(&peer, &c, &m));
    m = push;
    m.flags = GP_MSG_INIT;
    assert_false(gp_push_may_land(&peer, &c, &m));
    m = push;
    m.type = GP_MSG_LOOKUP;
    assert_false(gp_push_may_land(&peer, &c, &m));
    m = push;
    m.region = 6;
    assert_false(gp_push_may_land(&peer, &c, &m));
    tensor.device = NULL; /* it stays in the host's memory */
    assert_false(gp_push_may_land(&peer, &c, &push));
    tensor.device = &way;
    peer.landing = NULL;
    assert_false(gp_push_may_land(&peer, &c, &push));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_land_on_the_device),
        cmocka_unit_test(slots_are_registered_once),
        cmocka_unit_test(pushes_that_land_in_pinned_memory),
        cmocka_unit_test(connections_of_all_kinds_get_there),
        cmocka_unit_test(writes_are_flushed_before_they_are_read),
        cmocka_unit_test(writes_that_are_not_flushed_are_missed),
        cmocka_unit_test(pushes_take_the_next_way),
        cmocka_unit_test(pushes_come_again_with_their_connection),
        cmocka_unit_test(registrations_may_fail),
        cmocka_unit_test(a_way_that_is_insisted_on_may_fail),
        cmocka_unit_test(faults_of_the_driver_are_told),
        cmocka_unit_test(pushes_may_have_to_make_room),
        cmocka_unit_test(pushes_of_who_has_left_count),
        cmocka_unit_test(damaged_pushes_are_told),
        cmocka_unit_test(only_pushes_for_kernels_may_land),
    };

    use_cuda(true, 100);
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
