/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_device.c - where shards may live on this machine, with this build:
 * always in the host's memory, and on a device only if there is one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <gradpush/server.h>

#include "device/device.h"

static gp_status
start(const char *device)
{
    gp_config *c = NULL;
    gp_server *server = NULL;
    gp_status status;

    assert_int_equal(gp_config_create(&c), GP_OK);
    assert_int_equal(gp_config_set(c, "transport", "loop"), GP_OK);
    assert_int_equal(gp_config_set(c, "shard_device", device), GP_OK);
    status = gp_server_create(c, &server);
    assert_true((server != NULL) == (status == GP_OK));
    gp_server_destroy(server);
    gp_config_destroy(c);
    return status;
}

static void
the_host_always_does(void **state)
{
    (void)state;
    assert_int_equal(start("cpu"), GP_OK);
    assert_int_equal(start("host"), GP_OK);
}

static void
names_are_checked(void **state)
{
    (void)state;
    assert_int_equal(start("gpu"), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_SHARD_DEVICE is 'gpu'"));
    assert_int_equal(start("cuda:x"), GP_ERR_CONFIG);
    assert_int_equal(start(""), GP_ERR_CONFIG);
    assert_int_equal(start("gpu,"), GP_ERR_CONFIG);
    assert_int_equal(start("a-name-that-is-longer-than-any-device-has,gpu"),
                     GP_ERR_CONFIG);
    assert_int_equal(start("gpu,a-name-that-is-longer-than-any-device-has"),
                     GP_ERR_CONFIG);
    assert_int_equal(start("cpu,host"), GP_OK);
}

/* Without a driver, or in a build without CUDA. */
static void
what_is_not_there_is_told(void **state)
{
    uint32_t count = 0;

    (void)state;
    if (gp_device_cuda.count(&count) == GP_OK && count > 0) {
        print_message("a CUDA device is here: tests/gpu/run.sh uses it\n");
        skip();
    }
    assert_int_equal(start("auto"), GP_OK);
    assert_int_equal(start("cuda:1"), GP_ERR_UNSUPPORTED);
    assert_int_not_equal(start("cuda:all"), GP_OK);
    assert_non_null(strstr(gp_last_error(), "set it to cpu"));
    assert_int_equal(start("cuda:1"), GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_SHARD_DEVICE"));
    assert_non_null(strstr(gp_last_error(), "set it to cpu"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_always_does),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(what_is_not_there_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
