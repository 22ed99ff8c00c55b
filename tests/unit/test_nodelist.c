/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_nodelist.c - Slurm's compressed lists, good and bad.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rendezvous/nodelist.h"
#include "rendezvous/rendezvous.h"

static void
test_first_host(void **state)
{
    static const char *const table[][2] = {
        {"node001", "node001"},
        {"node001,host2", "node001"},
        {"node001, host2", "node001"},
        {"node001 host2", "node001"},
        {"  node001", "node001"},
        {"node001 ", "node001"},
        {"node[001-0015],host2", "node001"},
        {"node[001,007-015],host2", "node001"},
        {"node[7]", "node7"},
        {"rack[0-1]n[03,05]-ib,x", "rack0n03-ib"},
        {"[10-12].example.org", "10.example.org"},
        {"gpu_a-1", "gpu_a-1"},
    };
    char host[64];

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        assert_int_equal(gp_nodelist_first(table[i][0], host, sizeof(host)),
                         GP_OK);
        assert_string_equal(host, table[i][1]);
    }
}

static void
test_damaged_lists(void **state)
{
    static const char *const table[] = {
        "",          " ",           ",",        "node001,",  ",node001",
        "node[001-", "node[001",    "node[",    "node[]",    "node[a]",
        "node[1,]",  "node[1-]",    "node[-1]", "node]",     "node[1]]",
        "a,,b",      "node[1 ,2]",  "a;b",      "$(reboot)", "node[[1]]",
        "a/b",       "node[1-2-3]", "a,b[",
    };
    char host[64] = "untouched";

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        assert_int_equal(gp_nodelist_first(table[i], host, sizeof(host)),
                         GP_ERR_CORRUPT);
        assert_string_equal(host, "untouched");
    }
    assert_non_null(strstr(gp_last_error(), "a,b["));
}

static void
test_long_names(void **state)
{
    char list[400], host[300] = "untouched";

    (void)state;
    memset(list, 'n', sizeof(list) - 1);
    list[sizeof(list) - 1] = '\0';
    assert_int_equal(gp_nodelist_first(list, host, sizeof(host)),
                     GP_ERR_CORRUPT);
    list[253] = '\0';
    assert_int_equal(gp_nodelist_first(list, host, 253), GP_ERR_TOO_LARGE);
    assert_string_equal(host, "untouched");
    assert_int_equal(gp_nodelist_first(list, host, 254), GP_OK);
    assert_int_equal(strlen(host), 253);
}

static void
test_tasks_per_node(void **state)
{
    static const struct {
        const char *text;
        int64_t node, tasks;
    } table[] = {
        {"4", 0, 4},         {"4", 1, -1},
        {"2(x3),1", 0, 2},   {"2(x3),1", 2, 2},
        {"2(x3),1", 3, 1},   {"2(x3),1", 4, -1},
        {"", 0, -1},         {"x", 0, -1},
        {"2(x", 0, -1},      {"2(x0)", 0, -1},
        {"2(x3", 0, -1},     {"2;3", 1, -1},
        {"99999999", 0, -1}, {"2(x99999999)", 0, -1},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        assert_int_equal(gp_nodelist_tasks(table[i].text, table[i].node),
                         table[i].tasks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_host),
        cmocka_unit_test(test_damaged_lists),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_tasks_per_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
