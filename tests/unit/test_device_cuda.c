/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device_cuda.c - CUDA devices: no driver, and the real one where there is
 * one. gpu/test_device_sim.c has the simulated one.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/device_cuda.h"
#include "tests/unit/device_suite.h"

/* Runs in a process of its own, because a driver is loaded once. Exit status
 * 77: skipped, the reason is printed. */
static void
in_a_child(void (*body)(void))
{
    pid_t child;
    int status;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define REQUIRE(condition)                                        \
    do {                                                          \
        if (!(condition)) {                                       \
            fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, \
                    gp_last_error());                             \
            _exit(1);                                             \
        }                                                         \
    } while (0)

static void *
no_function(const char *symbol)
{
    (void)symbol;
    return NULL;
}

static void
without_driver(void)
{
    gp_device *d = NULL;
    uint32_t count = 7;

    gp_cuda_resolve = no_function;
    REQUIRE(gp_device_cuda.count(&count) == GP_ERR_UNSUPPORTED && count == 7);
    REQUIRE(strstr(gp_last_error(), "install") ||
            strstr(gp_last_error(), "update"));
    REQUIRE(gp_device_open("cuda", &d) == GP_ERR_UNSUPPORTED && !d);
    REQUIRE(gp_device_open("auto", &d) == GP_OK);
    REQUIRE(strcmp(d->ops->kind, "host") == 0);
}

static void
no_driver_is_told_and_auto_goes_on(void **state)
{
    (void)state;
    in_a_child(without_driver);
}

static void
real_driver(void)
{
    gp_device *d;

    if (gp_device_open("cuda", &d) != GP_OK) {
        printf("skipped: %s\n", gp_last_error());
        fflush(stdout);
        _exit(77);
    }
    suite(d, "cuda");
    gp_device_close(d);
}

static void
the_real_driver_passes(void **state)
{
    (void)state;
    in_a_child(real_driver);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_driver_is_told_and_auto_goes_on),
        cmocka_unit_test(the_real_driver_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
