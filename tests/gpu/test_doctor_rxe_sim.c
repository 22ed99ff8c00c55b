/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor_rxe_sim.c - memory of a simulated GPU and the RDMA devices of
 * this machine, such as soft-RoCE: it is no DMA-BUF, so no real device takes
 * it, and what is said is why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "direct.h"
#include "tests/gpu/sim_cuda.h"

static gp_config *config;

static void
has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in '%s'", part, text);
}

static void
real_devices_say_why_they_stage(void **state)
{
    gp_direct_pair pairs[GP_DIRECT_PAIRS];
    size_t count = 0;

    (void)state;
    assert_int_equal(gp_config_set(config, "gdr_peermem", "no"), GP_OK);
    if (gp_direct_try(config, 0, pairs, GP_DIRECT_PAIRS, &count) != GP_OK)
        fail_msg("%s", gp_last_error());
    assert_true(count >= 1);
    for (size_t i = 0; i < count; i++) {
        printf("%s\n", pairs[i].text);
        assert_string_equal(gp_direct_name(pairs[i].way), "staging");
        has(pairs[i].text, "not by DMA-BUF: ibv_reg_dmabuf_mr");
        has(pairs[i].text, "nvidia-peermem: GRADPUSH_GDR_PEERMEM=no");
    }
}

static void
insisting_names_the_cause(void **state)
{
    gp_direct_pair pairs[GP_DIRECT_PAIRS];
    size_t count = 0;

    (void)state;
    assert_int_equal(gp_config_set(config, "gdr_dmabuf", "yes"), GP_OK);
    assert_int_equal(gp_direct_try(config, 0, pairs, GP_DIRECT_PAIRS, &count),
                     GP_ERR_UNSUPPORTED);
    has(gp_last_error(), "GRADPUSH_GDR_DMABUF=yes, but");
    has(gp_last_error(), "by DMA-BUF: ibv_reg_dmabuf_mr");
}

int
main(void)
{
    static const gp_sim_cuda_options options = {
        .devices = 1, .dma_buf = true, .writes_ordering = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_devices_say_why_they_stage),
        cmocka_unit_test(insisting_names_the_cause),
    };
    const gp_transport_ops *verbs = gp_transport_find("verbs");
    char why[256] = "this build has no verbs";
    int failed;

    gp_sim_cuda_install(&options);
    if (gp_config_create(&config) != GP_OK || !verbs ||
        verbs->probe(config, why, sizeof(why)) != GP_OK) {
        printf("skipped: %s\n", why);
        gp_config_destroy(config);
        return 77;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    gp_config_destroy(config);
    return failed;
}
