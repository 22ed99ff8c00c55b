/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device.c - host memory as a device, and the names of devices.
 */
#include "tests/unit/device_suite.h"

static void
the_host_passes(void **state)
{
    static const char *const names[] = {"cpu", "host"};
    gp_device *d;
    uint32_t count = 0;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(names); i++) {
        check(gp_device_open(names[i], &d));
        suite(d, "host");
        gp_device_close(d);
    }
    check(gp_device_host.count(&count));
    assert_int_equal(count, 1);
    assert_int_equal(gp_device_host.open(1, &d), GP_ERR_NOT_FOUND);
    gp_device_close(NULL);
}

static void
wrong_names_are_told(void **state)
{
    static const struct {
        const char *name, *text;
    } cases[] = {{"cdua", "did you mean 'cuda'?"},
                 {"tpu-v5-pod", "known are auto, cpu, cuda and cuda:N"},
                 {"cuda:", "cuda:N"},
                 {"cuda:x", "cuda:N"},
                 {"cuda:-1", "cuda:N"},
                 {"cuda:99999999999", "cuda:N"}};
    gp_device *untouched = NULL;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        assert_int_equal(gp_device_open(cases[i].name, &untouched),
                         GP_ERR_CONFIG);
        assert_non_null(strstr(gp_last_error(), cases[i].text));
        assert_null(untouched);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_passes),
        cmocka_unit_test(wrong_names_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
