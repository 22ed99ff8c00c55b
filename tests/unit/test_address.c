/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_address.c - host:port texts, interface patterns, the local host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rendezvous/net.h"
#include "rendezvous/rendezvous.h"

static void
test_split(void **state)
{
    static const struct {
        const char *address, *host;
        uint16_t port;
    } table[] = {
        {"node1:80", "node1", 80},
        {"10.0.0.1:65535", "10.0.0.1", 65535},
        {"[::1]:5", "::1", 5},
        {"[fe80::1%eth0]:5", "fe80::1%eth0", 5},
        {":7000", "", 7000},
        {"node1", "node1", 0},
        {"::1", "::1", 0},
        {"[::1]", "::1", 0},
        {"2001:db8::5", "2001:db8::5", 0},
        {"a:0", "a", 0},
    };
    char host[64];
    uint16_t port;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        port = 1;
        assert_int_equal(
            gp_address_split(table[i].address, host, sizeof(host), &port),
            GP_OK);
        assert_string_equal(host, table[i].host);
        assert_int_equal(port, table[i].port);
    }
}

static void
test_bad_addresses(void **state)
{
    static const char *const table[] = {
        "",
        "node1:",
        "node1:65536",
        "node1:-1",
        "node1:8o",
        "[::1",
        "[::1]5",
        "[]:5",
        "node1:0x10",
        "a b:5",
        "node1: 5",
        "node1:123456",
        "[::1]:",
        "a\n:5",
        "node1:+5",
        "this-host-name-is-longer-than-the-buffer-of-the-test-which-has-64:5",
    };
    char host[64] = "untouched";
    uint16_t port = 77;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        assert_int_equal(gp_address_split(table[i], host, sizeof(host), &port),
                         GP_ERR_ADDRESS);
        assert_string_equal(host, "untouched");
        assert_int_equal(port, 77);
    }
    assert_non_null(strstr(gp_last_error(), "host:port"));
}

static void
test_join(void **state)
{
    char text[20] = "untouched";

    (void)state;
    assert_int_equal(gp_address_join("10.0.0.1", 5, text, sizeof(text)), 0);
    assert_string_equal(text, "10.0.0.1:5");
    assert_int_equal(gp_address_join("::1", 65535, text, sizeof(text)), 0);
    assert_string_equal(text, "[::1]:65535");
    assert_int_equal(
        gp_address_join("sixteen-bytes-ab", 500, text, sizeof(text)),
        GP_ERR_ADDRESS);
    assert_string_equal(text, "[::1]:65535");
}

static void
test_interface_patterns(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool match;
    } table[] = {
        {"eth", "eth0", true},         {"eth", "ib0", false},
        {"eth,ib", "ib0", true},       {"=eth0", "eth0", true},
        {"=eth0", "eth01", false},     {"eth0", "eth01", true},
        {"=eth,ib0", "ib0", true},     {"=eth,ib0", "eth0", false},
        {"^docker", "docker0", false}, {"^docker", "eth0", true},
        {"^lo,eth", "eth1", false},    {"^=lo", "lo", false},
        {"^=lo", "lo1", true},         {",", "eth0", false},
        {"eth0,", "ib0", false},       {"^", "eth0", true},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        assert_int_equal(gp_interface_matches(table[i].pattern, table[i].name),
                         table[i].match);
}

static gp_config *
make_config(const char *field, const char *value)
{
    gp_config *config = NULL;

    assert_int_equal(gp_config_create(&config), GP_OK);
    if (field)
        assert_int_equal(gp_config_set(config, field, value), GP_OK);
    return config;
}

static void
expect_host(const char *field, const char *value, const char *towards,
            const char *want)
{
    gp_config *config = make_config(field, value);
    char host[64] = "";

    assert_int_equal(gp_local_host(config, towards, host, sizeof(host)), GP_OK);
    assert_string_equal(host, want);
    gp_config_destroy(config);
}

static void
test_local_host(void **state)
{
    (void)state;
    expect_host("advertise", "node9.example", "127.0.0.1:5", "node9.example");
    expect_host("interface", "=lo", NULL, "127.0.0.1");
    expect_host(NULL, NULL, "127.0.0.1:5", "127.0.0.1");
    expect_host(NULL, NULL, NULL, "127.0.0.1");
    expect_host(NULL, NULL, "no such host:5", "127.0.0.1");
}

static void
test_unknown_interface(void **state)
{
    gp_config *config = make_config("interface", "=nosuch7");
    char host[64] = "untouched";

    (void)state;
    assert_int_equal(gp_local_host(config, NULL, host, sizeof(host)),
                     GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_INTERFACE"));
    assert_non_null(strstr(gp_last_error(), "nosuch7"));
    assert_non_null(strstr(gp_last_error(), "lo"));
    assert_string_equal(host, "untouched");
    gp_config_destroy(config);
}

static void
test_host_that_does_not_fit(void **state)
{
    gp_config *config = make_config("advertise", "a-long-host-name");
    char host[8] = "same";

    (void)state;
    assert_int_equal(gp_local_host(config, NULL, host, sizeof(host)),
                     GP_ERR_TOO_LARGE);
    assert_string_equal(host, "same");
    gp_config_destroy(config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_interface_patterns),
        cmocka_unit_test(test_local_host),
        cmocka_unit_test(test_unknown_interface),
        cmocka_unit_test(test_host_that_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
