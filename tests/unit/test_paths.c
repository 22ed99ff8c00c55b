/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_paths.c - addresses with alternatives: what shards publish and which one
 * a worker takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shard/host.h"
#include "shard/paths.h"

#define BOTH  "verbs:10.0.0.2:4711|tcp:10.0.0.2:4712"
#define RAILS "verbs:10.0.0.2:4711|verbs:[fd00::2]:4711|tcp:10.0.0.2:4712"

static gp_config *
config_of(const char *transport)
{
    gp_config *config = NULL;

    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "transport", transport), GP_OK);
    assert_int_equal(gp_config_set(config, "ib_disable", "1"), GP_OK);
    assert_int_equal(gp_config_set(config, "advertise", "fd00::2"), GP_OK);
    return config;
}

static void
assert_taken(const char *transport, const char *published, const char *name,
             const char *address)
{
    gp_config *config = config_of(transport);
    const gp_transport_ops *ops = NULL;
    char text[GP_ADDRESS_MAX] = "";

    assert_int_equal(gp_paths_take(config, "shard 3", published, NULL, &ops,
                                   text, sizeof(text)),
                     GP_OK);
    assert_string_equal(ops->name, name);
    assert_string_equal(text, address);
    gp_config_destroy(config);
}

static void
plain_addresses(void **state)
{
    (void)state;
    assert_taken("auto", "10.0.0.2:4711", "tcp", "10.0.0.2:4711");
    assert_taken("tcp", "[fd00::1]:4711", "tcp", "[fd00::1]:4711");
    assert_taken("loop", "loop:7.name", "loop", "loop:7.name");
    /* Hosts may have such names. */
    assert_taken("auto", "verbs:4711", "tcp", "verbs:4711");
    assert_taken("tcp", "tcp:4711", "tcp", "tcp:4711");
    assert_taken("tcp", "tcp:tcp:4711", "tcp", "tcp:4711");
}

/* Without verbs, or with it switched off, auto is tcp. */
static void
alternatives(void **state)
{
    (void)state;
    assert_taken("auto", BOTH, "tcp", "10.0.0.2:4712");
    assert_taken("tcp", BOTH, "tcp", "10.0.0.2:4712");
    assert_taken("auto", "tcp:[fd00::1]:1|verbs:[fd00::1]:2", "tcp",
                 "[fd00::1]:1");
    if (gp_transport_find("verbs"))
        assert_taken("verbs", BOTH, "verbs", "10.0.0.2:4711");
}

/* All addresses of one transport go to it, in their order. */
static void
several_of_one(void **state)
{
    (void)state;
    assert_taken("tcp", "tcp:10.0.0.2:1|tcp:10.0.1.2:1", "tcp",
                 "10.0.0.2:1|10.0.1.2:1");
    assert_taken("auto", RAILS, "tcp", "10.0.0.2:4712");
    assert_taken("tcp", "10.0.0.2:1|10.0.1.2:1", "tcp",
                 "10.0.0.2:1|10.0.1.2:1");
    if (gp_transport_find("verbs"))
        assert_taken("verbs", RAILS, "verbs", "10.0.0.2:4711|[fd00::2]:4711");
}

/* Those that a text has no room for are left out. */
static void
more_than_there_is_room(void **state)
{
    gp_config *config = config_of("tcp");
    const gp_transport_ops *ops = NULL;
    char text[24] = "";

    (void)state;
    assert_int_equal(gp_paths_take(config, "shard 3",
                                   "tcp:10.0.0.2:47|tcp:10.0.1.2:47|tcp:h:1",
                                   NULL, &ops, text, sizeof(text)),
                     GP_OK);
    assert_string_equal(text, "10.0.0.2:47|10.0.1.2:47");
    assert_int_equal(gp_paths_take(config, "shard 3",
                                   "tcp:10.0.0.2:4711|tcp:10.0.1.2:4711", NULL,
                                   &ops, text, sizeof(text)),
                     GP_OK);
    assert_string_equal(text, "10.0.0.2:4711");
    gp_config_destroy(config);
}

/* What is left after verbs, only to who may choose. */
static void
the_other_way(void **state)
{
    static const struct {
        const char *transport, *published, *taken, *left;
    } cases[] = {
        {"auto", BOTH, "verbs", "10.0.0.2:4712"},
        {"auto", RAILS, "verbs", "10.0.0.2:4712"},
        {"auto", BOTH, "tcp", NULL},
        {"verbs", BOTH, "verbs", NULL},
        {"auto", "verbs:10.0.0.2:4711", "verbs", NULL},
        {"auto", "10.0.0.2:4711", "tcp", NULL},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        gp_config *config = config_of(cases[i].transport);
        const gp_transport_ops *taken = gp_transport_find(cases[i].taken);
        char text[GP_ADDRESS_MAX] = "";

        if (taken)
            assert_ptr_equal(gp_paths_other(config, cases[i].published, taken,
                                            text, sizeof(text)),
                             cases[i].left ? gp_transport_find("tcp") : NULL);
        if (taken && cases[i].left)
            assert_string_equal(text, cases[i].left);
        gp_config_destroy(config);
    }
}

static bool
have_device(const char *transport, const char *published)
{
    gp_config *config = config_of(transport);
    bool result = gp_paths_have_device(config, published);

    gp_config_destroy(config);
    return result;
}

/* Whatever this process takes: all must find the same. */
static void
devices(void **state)
{
    (void)state;
    assert_true(have_device("auto", BOTH));
    assert_true(have_device("tcp", BOTH));
    assert_true(have_device("tcp", "tcp:[fd00::1]:1|verbs:[fd00::1]:2"));
    assert_false(have_device("auto", "10.0.0.2:4711"));
    assert_false(have_device("tcp", "tcp:10.0.0.2:4711"));
    assert_false(have_device("loop", "loop:7.name"));
    assert_false(have_device("nonsense", "10.0.0.2:4711"));
    assert_false(have_device("auto", ""));
    if (gp_transport_find("verbs"))
        assert_true(have_device("verbs", "10.0.0.2:4711"));
}

static void
none_fits(void **state)
{
    gp_config *config = config_of("tcp");
    const gp_transport_ops *ops = NULL;
    char text[GP_ADDRESS_MAX] = "untouched";

    (void)state;
    assert_int_equal(gp_paths_take(config, "shard 3", "verbs:10.0.0.2:4711",
                                   NULL, &ops, text, sizeof(text)),
                     GP_ERR_CONFIG);
    assert_null(ops);
    assert_string_equal(text, "untouched");
    assert_non_null(strstr(gp_last_error(), "shard 3"));
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_TRANSPORT"));
    gp_config_destroy(config);
}

static void
published(void **state)
{
    gp_config *config = config_of("tcp");
    char out[GP_ADDRESS_MAX];

    (void)state;
    assert_int_equal(gp_host_address(config, "verbs:10.0.0.2:1|tcp::2", "", out,
                                     sizeof(out)),
                     GP_OK);
    assert_string_equal(out, "verbs:10.0.0.2:1|tcp:[fd00::2]:2");
    assert_int_equal(gp_host_address(config, ":2", "", out, sizeof(out)),
                     GP_OK);
    assert_string_equal(out, "[fd00::2]:2");
    assert_int_equal(
        gp_host_address(config, "verbs:10.0.0.2:1|verbs:[fd00::3]:1|tcp::2", "",
                        out, sizeof(out)),
        GP_OK);
    assert_string_equal(out,
                        "verbs:10.0.0.2:1|verbs:[fd00::3]:1|tcp:[fd00::2]:2");
    gp_config_destroy(config);
}

/* What a transport gave as several gets its name in front of each. */
static void
appended(void **state)
{
    static const struct {
        const char *transport, *address, *text;
        bool several;
    } cases[] = {
        {"verbs", "10.0.0.2:1|[fd00::3]:1",
         "verbs:10.0.0.2:1|verbs:[fd00::3]:1", false},
        {"verbs", "10.0.0.2:1|[fd00::3]:1",
         "verbs:10.0.0.2:1|verbs:[fd00::3]:1", true},
        {"verbs", "10.0.0.2:1", "10.0.0.2:1", false},
        {"loop", "loop:a|b", "loop:a|b", false},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        char out[GP_ADDRESS_MAX] = "";

        assert_int_equal(gp_paths_append(cases[i].transport, cases[i].address,
                                         cases[i].several, out, sizeof(out)),
                         GP_OK);
        assert_string_equal(out, cases[i].text);
    }
}

static void
too_long(void **state)
{
    char out[24] = "";

    (void)state;
    assert_int_equal(
        gp_paths_append("verbs", "10.0.0.2:4711", true, out, sizeof(out)),
        GP_OK);
    assert_int_equal(
        gp_paths_append("tcp", "10.0.0.2:4712", true, out, sizeof(out)),
        GP_ERR_TOO_LARGE);
    assert_string_equal(out, "verbs:10.0.0.2:4711");
}

static void
offered(void **state)
{
    gp_config *config = config_of("auto");
    const gp_transport_ops *ops[GP_PATHS_MAX];
    size_t count = 0;

    (void)state;
    assert_int_equal(gp_paths_offer(config, ops, &count), GP_OK);
    assert_int_equal(count, 1);
    assert_string_equal(ops[0]->name, "tcp");
    assert_int_equal(gp_config_set(config, "transport", "tpc"), GP_OK);
    assert_int_equal(gp_paths_offer(config, ops, &count), GP_ERR_CONFIG);
    gp_config_destroy(config);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(plain_addresses),
        cmocka_unit_test(alternatives),
        cmocka_unit_test(several_of_one),
        cmocka_unit_test(more_than_there_is_room),
        cmocka_unit_test(the_other_way),
        cmocka_unit_test(devices),
        cmocka_unit_test(none_fits),
        cmocka_unit_test(published),
        cmocka_unit_test(appended),
        cmocka_unit_test(too_long),
        cmocka_unit_test(offered),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
