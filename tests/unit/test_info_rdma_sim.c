/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_info_rdma_sim.c - what `gradpush info --devices` says about devices of
 * the simulated fabric, and that listing them leaves nothing open whichever
 * call fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "info_rdma.h"
#include "tests/sim/sim.h"
#include "transports/verbs/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_SYSFS "/nonexistent"

static char text[16384];

/* Two devices: one with a port down and one up, and an iWARP one. */
static gp_sim *
open_fabric(void)
{
    static const gp_sim_device devices[] = {
        {.name = "sim0", .ports = 2, .port = {{.down = true}, {.mtu = 3}}},
        {.name = "sim1", .iwarp = true},
    };
    const gp_sim_options options = {
        .step = true, .device = devices, .devices = GP_COUNT_OF(devices)};
    gp_sim *sim = gp_sim_open(&options);

    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    return sim;
}

static void
close_fabric(gp_sim *sim)
{
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
}

static gp_config *
make_config(const char *hca)
{
    gp_config *config = NULL;

    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "ib_hca", hca), GP_OK);
    return config;
}

/* What is printed, into `text`. */
static void
print_info(const char *hca)
{
    gp_config *config = make_config(hca);
    FILE *file = tmpfile();
    int kept = dup(STDOUT_FILENO);
    size_t length;

    assert_true(file && kept >= 0);
    fflush(stdout);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    gp_info_rdma(config, NO_SYSFS, NULL, NULL);
    fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    rewind(file);
    length = fread(text, 1, sizeof(text) - 1, file);
    text[length] = '\0';
    fclose(file);
    gp_config_destroy(config);
}

static void
assert_says(const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void
text_has_ports_gids_and_the_choice(void **state)
{
    gp_sim *sim = open_fabric();

    (void)state;
    print_info("");
    assert_says("rdma   sim0 port 1: DOWN, RoCE in software");
    assert_says("rdma   sim0 port 2: ACTIVE, RoCE in software");
    assert_says("MTU 1024, ");
    assert_says("rdma   sim1 port 1: ACTIVE, iWARP in software");
    assert_says("GID 0: ");
    assert_says("; in use\n");
    assert_says("rdma   chosen: sim0 port 2: RoCE");
    assert_says("; first of 2 usable ports\n");
    print_info("^sim0:2,sim1");
    assert_says("rdma   chosen: none; sim0 port 1: DOWN; sim0 port 2: left out "
                "by GRADPUSH_IB_HCA; sim1 port 1: left out");
    print_info("sim0,");
    assert_says("rdma   chosen: none; GRADPUSH_IB_HCA is 'sim0,'");
    close_fabric(sim);
}

static void
json_has_the_same(void **state)
{
    gp_sim *sim = open_fabric();
    gp_config *config = make_config("sim0");
    gp_json *document = gp_json_create("gradpush.info/1");
    char path[] = "/tmp/gp_test_info_XXXXXX";
    int fd = mkstemp(path);
    ssize_t length;

    (void)state;
    assert_true(fd >= 0);
    gp_info_rdma(config, NO_SYSFS, document,
                 gp_json_array(document, "devices"));
    assert_int_equal(gp_json_write(document, path), GP_OK);
    length = read(fd, text, sizeof(text) - 1);
    assert_true(length > 0);
    text[length] = '\0';
    close(fd);
    unlink(path);
    assert_says("\"device\": \"sim0\"");
    assert_says("\"state\": \"DOWN\"");
    assert_says("\"layer\": \"RoCE\"");
    assert_says("\"layer\": \"iWARP\"");
    assert_says("\"mtu\": 1024");
    assert_says("\"opened\": true");
    assert_says("\"gids\": [");
    assert_says("\"used\": true");
    assert_says("\"libraries\": \"loaded\"");
    assert_says("\"ports\": 3");
    assert_says("\"chosen\": [\n      \"sim0:2\"\n    ]");
    assert_says("the only usable port");
    gp_json_destroy(document);
    gp_config_destroy(config);
    close_fabric(sim);
}

/* A report is an answer or an error whatever fails, and nothing stays open. */
static void
any_call_may_fail(void **state)
{
    gp_sim *sim = open_fabric();
    gp_config *config = make_config("");
    uint64_t n = 1;

    (void)state;
    for (bool failed = true; failed; n++) {
        gp_verbs_report *report = NULL;
        gp_status status;

        gp_sim_fail(sim, NULL, n, ENOMEM);
        status = gp_verbs_report_create(config, NULL, NO_SYSFS, &report);
        failed = gp_sim_failed(sim);
        gp_sim_fail(sim, NULL, 0, 0);
        if (status == GP_OK)
            assert_true(report->count <= 3);
        else
            assert_null(report);
        free(report);
        assert_int_equal(gp_sim_leaks(sim, NULL, 0), 0);
    }
    assert_true(n > 10);
    gp_config_destroy(config);
    close_fabric(sim);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_ports_gids_and_the_choice),
        cmocka_unit_test(json_has_the_same),
        cmocka_unit_test(any_call_may_fail),
    };

    if (!gp_json_available()) {
        puts("skipped: this build cannot write JSON");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
