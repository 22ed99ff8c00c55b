/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ladder_sim.c - memory of simulated GPUs and the devices of a simulated
 * RDMA fabric: by which way one reaches the other, and what is said about the
 * others; that results are those of tensors on the host by each way, and when
 * it fails on the way.
 */
#include "tests/gpu/ladder.h"

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
