/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_direct_sim.c - results that leave from the memory of a simulated
 * GPU, read by the devices of a simulated RDMA fabric: they are those of shards
 * on the host by each way, when a way fails, and for who has none.
 */
#include "tests/gpu/ladder.h"

#include "shard/shard.h"
#include "shard/shard_device.h"
#include "tests/rounds.h"

#define READ "network devices have read"

static void
results_leave_from_the_device(void **state)
{
    static const gp_sim_device *const devices[] = {&only_dmabuf, &only_peermem,
                                                   &no_way};

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(devices); i++) {
        plan p = {.shards = "cuda", .on_device = i % 2};
        gp_sim_foreign seen[64];
        size_t count = 64;

        job_log_start();
        ok_on(&p, devices[i / 2], seen, &count);
        if (job_log_has(READ) != (i < 4))
            fail_msg("case %zu", i);
        assert_int_equal(count > 0, i < 4);
        job_log_stop();
    }
}

/* A part of the workers, or of the connections, does not get there. */
static void
results_that_pass_the_host(void **state)
{
    static const gp_sim_device two[] = {{.dmabuf = true}, {0}};
    plan a = {.shards = "cuda", .setting = "checksum", .value = "on"};
    plan b = {
        .shards = "cuda", .devices = 2, .setting = "ib_rails", .value = "2"};
    plan c = {.shards = "cuda", .dmabuf = "no", .peermem = "no"};

    (void)state;
    job_log_start();
    ok_on(&a, &both_ways, NULL, NULL);
    ok_on(&b, two, NULL, NULL);
    ok_on(&c, &both_ways, NULL, NULL);
    assert_false(job_log_has(READ));
    job_log_stop();
}

static void
protect_shard(gp_sim *sim)
{
    static const gp_sim_break how = {.process = A_SHARD,
                                     .after_bytes = 20000,
                                     .status = IBV_WC_LOC_PROT_ERR};

    gp_sim_break_qp(sim, &how);
}

static void
results_take_the_next_way(void **state)
{
    static const gp_sim_device *const devices[] = {&both_ways, &only_dmabuf};
    static const char *const next[] = {"through nvidia-peermem from now on",
                                       "through the host's memory from now on"};
    static void (*const troubles[])(gp_sim * sim) = {protect_shard, deny_shard};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        plan p = {.shards = "cuda", .trouble = troubles[i / 2]};

        job_log_start();
        ok_on(&p, devices[i % 2], NULL, NULL);
        assert_true(job_log_has(READ));
        if (i < 2 && (!job_log_has("by DMA-BUF any more") ||
                      !job_log_has("a WRITE from there ended with") ||
                      !job_log_has(next[i % 2])))
            fail_msg("case %zu", i);
        job_log_stop();
    }
}

static void
shards_of_which_any_call_fails(void **state)
{
    static const char *const members[] = {"reg_dmabuf_mr", "reg_mr", "dereg_mr",
                                          "post_send", "post_recv"};

    (void)state;
    for (uint64_t n = 0; n < GP_COUNT_OF(members); n++) {
        plan p = {.shards = "cuda",
                  .on_device = true,
                  .setting = "ib_reconnect",
                  .value = "200ms",
                  .early = true,
                  .member = members[n],
                  .nth = 1 + 3 * (n % 2),
                  .may_end = true,
                  .may_last = true};
        job j;

        open_plan(&p);
        (void)run_on(&p, &both_ways, &j, NULL, NULL);
        close_plan(&p);
    }
}

/* --- a shard alone on the fabric --- */

static gp_sim *
open_fabric(const gp_sim_device *device)
{
    const gp_sim_options fabric = {.device = device,
                                   .devices = 1,
                                   .ignore_buffers = true,
                                   .foreign = gp_sim_cuda_owns};
    gp_sim *sim = gp_sim_open(&fabric);

    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    return sim;
}

static void
close_fabric(gp_sim *sim)
{
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

static gp_status
make_shard(const char *dmabuf, gp_shard **out)
{
    const gp_shard_options o = {
        .job = "x", .token = "", .shards = 1, .index = 0, .size = 1};
    gp_config *c;
    gp_status status;

    job_check(gp_config_create(&c));
    job_set(c, "transport", "verbs");
    job_set(c, "shard_device", "cuda");
    job_set(c, "gdr_dmabuf", dmabuf);
    status = gp_shard_create(c, &o, out);
    gp_config_destroy(c);
    return status;
}

/* Of the driver's calls the nth fails. */
static gp_status
try_shard(const gp_sim_device *device, const char *dmabuf, uint32_t n,
          bool *failed)
{
    gp_sim *sim = open_fabric(device);
    gp_shard *shard = NULL;
    gp_status status;

    gp_sim_cuda_fail(NULL, n, 999);
    status = make_shard(dmabuf, &shard);
    *failed = gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    gp_shard_destroy(shard);
    close_fabric(sim);
    return status;
}

static void
shards_that_cannot_begin(void **state)
{
    bool failed = true;

    (void)state;
    assert_int_equal(try_shard(&only_peermem, "yes", 0, &failed),
                     GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_GDR_DMABUF=yes"));
    job_log_start();
    failed = true;
    for (uint32_t n = 1; failed; n += GP_ROUNDS(1, 3)) {
        gp_status status;

        assert_true(n < 400);
        status = try_shard(&both_ways, "try", n, &failed);
        assert_true(failed || status == GP_OK);
        if (status != GP_OK)
            assert_non_null(strstr(gp_last_error(), "CUDA_ERROR_UNKNOWN"));
    }
    job_log_stop();
}

/* Whoever comes back by a link that does not get there. */
static void
results_are_brought_to_the_host(void **state)
{
    static float from[5000], value[5000], encoded[5000];
    gp_chunk_info info = {.count = 5000};
    gp_tensor_spec spec = {.name = "brought"};
    struct gp_tensor_device way = {.pull = NULL};
    shard_tensor tensor = {.spec = &spec, .device = &way};
    struct gp_chunk_device x = {.shown = (uint8_t *)from, .direct = true};
    gp_chunk c = {.info = &info,
                  .tensor = &tensor,
                  .device = &x,
                  .value = value,
                  .encoded = encoded,
                  .encoded_length = 4000};
    gp_peer peer = {.link_number = 0};
    const void *out = NULL;
    gp_sim *sim = open_fabric(&both_ways);
    gp_shard *s = NULL;

    (void)state;
    job_check(make_shard("try", &s));
    for (size_t i = 0; i < 5000; i++)
        from[i] = (float)i + 1;
    job_check(gp_chunk_device_result(s, &peer, &c, true, &out));
    assert_null(out);
    assert_memory_equal(value, from, sizeof(from));
    memset(value, 0, sizeof(value));
    job_check(gp_chunk_device_result(s, &peer, &c, true, &out));
    assert_int_equal((int)value[7], 0); /* once is enough */
    way.pull = (gp_coder *)&way;        /* the device encodes */
    x.brought = false;
    job_check(gp_chunk_device_result(s, &peer, &c, true, &out));
    assert_memory_equal(encoded, from, 4000);
    assert_int_equal((int)encoded[1000], 0);
    x.brought = false;
    gp_sim_cuda_fail("cuMemcpyAsync", 1, 999);
    job_log_start();
    assert_int_equal(gp_chunk_device_result(s, &peer, &c, true, &out),
                     GP_ERR_SYSTEM);
    job_log_stop();
    assert_int_equal(s->fault, GP_ERR_SYSTEM);
    assert_non_null(strstr(s->fault_text, "cuMemcpyAsync"));
    assert_false(x.brought);
    gp_shard_destroy(s);
    close_fabric(sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_leave_from_the_device),
        cmocka_unit_test(results_that_pass_the_host),
        cmocka_unit_test(results_take_the_next_way),
        cmocka_unit_test(shards_of_which_any_call_fails),
        cmocka_unit_test(shards_that_cannot_begin),
        cmocka_unit_test(results_are_brought_to_the_host),
    };

    use_cuda(true, 100);
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
