/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_devices.c - the listing agrees with the kernel's, on machines with
 * and without devices, in builds with and without libibverbs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>

#include "transports/verbs/verbs.h"

/* Every device that sysfs has is in the text. */
static void
expect_kernel_devices(const char *text)
{
    DIR *folder = opendir("/sys/class/infiniband");
    struct dirent *entry;
    int devices = 0;

    while (folder && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        devices++;
        assert_non_null(strstr(text, entry->d_name));
    }
    if (folder)
        closedir(folder);
    if (devices == 0)
        assert_string_equal(text, "");
}

static void
lists_devices_or_says_why_not(void **state)
{
    char text[4096] = "before";
    gp_status status = gp_verbs_devices(text, sizeof(text));

    (void)state;
    if (status == GP_OK) {
        expect_kernel_devices(text);
        return;
    }
    assert_int_equal(status, GP_ERR_UNSUPPORTED);
    assert_string_equal(text, "before");
    assert_non_null(strstr(gp_last_error(), "install libibverbs"));
}

static void
short_buffer_is_respected(void **state)
{
    char text[2] = {'x', 'y'};
    gp_status status = gp_verbs_devices(text, 1);

    (void)state;
    if (status == GP_OK)
        assert_int_equal(text[0], '\0');
    else
        assert_int_equal(text[0], 'x');
    assert_int_equal(text[1], 'y');
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_devices_or_says_why_not),
        cmocka_unit_test(short_buffer_is_respected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
