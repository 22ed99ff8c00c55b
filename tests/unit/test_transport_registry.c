/* SPDX-License-Identifier: Apache-2.0 */
/* test_transport_registry.c - names of transports, and tables with holes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <gradpush/transport.h>

static gp_transport_ops
copy_as(const char *name)
{
    gp_transport_ops ops = *gp_transport_find("loop");

    ops.name = name;
    return ops;
}

static void
built_in(void **state)
{
    size_t n = 0;

    (void)state;
    assert_non_null(gp_transport_find("tcp"));
    assert_non_null(gp_transport_find("loop"));
    assert_null(gp_transport_find("pigeon"));
    assert_null(gp_transport_find(NULL));
    while (gp_transport_at(n)) {
        assert_ptr_equal(gp_transport_find(gp_transport_at(n)->name),
                         gp_transport_at(n));
        n++;
    }
    assert_true(n >= 2);
    assert_null(gp_transport_at(n));
    assert_null(gp_transport_at(SIZE_MAX));
}

static void
out_of_tree(void **state)
{
    static gp_transport_ops mine;
    gp_transport_ops twin = copy_as("tcp");

    (void)state;
    mine = copy_as("mine_2");
    assert_int_equal(gp_transport_register(&mine), GP_OK);
    assert_ptr_equal(gp_transport_find("mine_2"), &mine);
    assert_int_equal(gp_transport_register(&mine), GP_ERR_EXISTS);
    assert_int_equal(gp_transport_register(&twin), GP_ERR_EXISTS);
}

static void
tables_with_faults(void **state)
{
    static const char *const names[] = {
        "", "auto", "Upper", "with space",
        "a_name_that_is_longer_than_any_transport_needs"};
    gp_transport_ops ops = copy_as("faulty");

    (void)state;
    assert_int_equal(gp_transport_register(NULL), GP_ERR_INVALID);
    ops.abi++;
    assert_int_equal(gp_transport_register(&ops), GP_ERR_VERSION);
    ops = copy_as("faulty");
    ops.unexpose = NULL;
    assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "unexpose"));
    ops = copy_as("faulty");
    ops.arm = NULL;
    assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "arm"));
    ops = copy_as("faulty");
    ops.caps |= GP_CAP_PEER_MEMORY;
    assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "peer_probe"));
    ops = copy_as("faulty");
    ops.caps |= GP_CAP_PARTS;
    assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "ep_opens_parts"));
    ops = copy_as(NULL);
    assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ops = copy_as(names[i]);
        assert_int_equal(gp_transport_register(&ops), GP_ERR_INVALID);
    }
    assert_null(gp_transport_find("faulty"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in),
        cmocka_unit_test(out_of_tree),
        cmocka_unit_test(tables_with_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
