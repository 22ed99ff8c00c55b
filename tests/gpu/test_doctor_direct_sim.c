/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor_direct_sim.c - what `gradpush info` and `gradpush doctor` find
 * out about GPUDirect, on a simulated driver and fabric.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "direct.h"
#include "doctor.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/sim/sim.h"

static gp_sim *sim;
static gp_config *config;

static void
start(const gp_sim_device *device, bool dma_buf)
{
    const gp_sim_options fabric = {
        .device = device, .devices = 2, .foreign = gp_sim_cuda_owns};
    const gp_sim_cuda_options cuda = {
        .devices = 2, .dma_buf = dma_buf, .writes_ordering = 0};

    gp_sim_cuda_install(&cuda);
    sim = gp_sim_open(&fabric);
    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "ib_rails", "2"), GP_OK);
}

static void
stop(void)
{
    gp_config_destroy(config);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static const gp_sim_device mixed[] = {{.dmabuf = true}, {.peermem = true}};
static const gp_sim_device neither[] = {{0}, {0}};

static void
pairs_are_tried(void **state)
{
    gp_direct_pair pairs[4];
    size_t count = 0;

    (void)state;
    start(mixed, true);
    assert_int_equal(gp_direct_try(config, 1, pairs, 4, &count), GP_OK);
    assert_int_equal(count, 2);
    assert_string_equal(gp_direct_name(pairs[0].way), "dmabuf");
    assert_string_equal(pairs[0].text, "cuda:1 and sim0: by DMA-BUF");
    assert_string_equal(gp_direct_name(pairs[1].way), "peermem");
    assert_non_null(strstr(pairs[1].text, "sim1: by nvidia-peermem; not by "
                                          "DMA-BUF: ibv_reg_dmabuf_mr"));
    stop();
}

static void
reasons_are_given(void **state)
{
    gp_direct_pair pairs[4];
    size_t count = 7;

    (void)state;
    start(neither, false);
    assert_int_equal(gp_direct_try(config, 0, pairs, 4, &count), GP_OK);
    assert_string_equal(gp_direct_name(pairs[1].way), "staging");
    assert_non_null(strstr(pairs[1].text, "does not export memory of cuda:0"));
    assert_non_null(strstr(pairs[1].text, "nvidia-peermem is not loaded"));
    count = 7;
    assert_int_equal(gp_direct_try(config, 2, pairs, 4, &count),
                     GP_ERR_NOT_FOUND);
    assert_int_equal(gp_config_set(config, "gdr_dmabuf", "yes"), GP_OK);
    assert_int_equal(gp_direct_try(config, 0, pairs, 4, &count),
                     GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_GDR_DMABUF=yes"));
    assert_int_equal(count, 7);
    stop();
}

/* Registered, but the device cannot write there. */
static void
writes_that_fail_count(void **state)
{
    const gp_sim_break lost = {.after_bytes = 100, .status = IBV_WC_REM_OP_ERR};
    gp_direct_pair pairs[4];
    size_t count = 0;

    (void)state;
    start(mixed, true);
    gp_sim_break_qp(sim, &lost);
    assert_int_equal(gp_direct_try(config, 0, pairs, 4, &count), GP_OK);
    assert_string_equal(gp_direct_name(pairs[0].way), "staging");
    assert_non_null(strstr(pairs[0].text, "a WRITE of one page to itself "
                                          "failed (write)"));
    assert_string_equal(gp_direct_name(pairs[1].way), "peermem");
    stop();
}

static const gp_check *
trial_of(const gp_doctor *doctor)
{
    const gp_check *c = doctor->first;

    while (c && strcmp(c->name, "trial") != 0)
        c = c->next;
    assert_non_null(c);
    return c;
}

static void
examine(gp_check_status status, const char *reason, const char *fix)
{
    static gp_doctor doctor;
    const gp_check *c;

    gp_doctor_init(&doctor, config);
    doctor.root = "/nonexistent";
    doctor.api = gp_sim_api(sim);
    doctor.tries = true;
    doctor.device_count = 2;
    doctor.gpu_count = 1;
    doctor.gpus[0] = (gp_doctor_gpu){
        .label = "GPU0", .cuda = true, .ordinal = 1, .ordering = 100};
    gp_doctor_check_gpu(&doctor);
    c = trial_of(&doctor);
    assert_int_equal(c->status, status);
    assert_non_null(strstr(c->reason, reason));
    assert_non_null(strstr(c->fix, fix));
    gp_doctor_free(&doctor);
}

static void
the_doctor_tries(void **state)
{
    (void)state;
    start(mixed, true);
    examine(GP_CHECK_OK, "cuda:1 and sim0: by DMA-BUF. cuda:1 and sim1: by",
            "");
    assert_int_equal(gp_config_set(config, "gdr_peermem", "no"), GP_OK);
    examine(GP_CHECK_WARN, "GRADPUSH_GDR_PEERMEM=no", "gpu.dmabuf");
    assert_int_equal(gp_config_set(config, "gdr_dmabuf", "yes"), GP_OK);
    examine(GP_CHECK_FAIL, "GRADPUSH_GDR_DMABUF=yes, but sim1", "gpu.dmabuf");
    stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_tried),
        cmocka_unit_test(reasons_are_given),
        cmocka_unit_test(writes_that_fail_count),
        cmocka_unit_test(the_doctor_tries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
