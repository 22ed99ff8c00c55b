/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_select.c - which port of which device is taken, from lists made up
 * here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "transports/verbs/verbs.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/sys/devices/pci0000:3a/0000:3a:00.0/"

typedef struct choice {
    gp_status status;
    size_t count;
    char why[512];
    gp_verbs_port out[8];
} choice;

static gp_config *
config_with(const char *name, const char *value)
{
    gp_config *config = NULL;

    assert_int_equal(gp_config_create(&config), GP_OK);
    if (name)
        assert_int_equal(gp_config_set(config, name, value), GP_OK);
    return config;
}

static void
add_gid(gp_verbs_port *port, int index, gp_verbs_gid_type type,
        const char *text)
{
    gp_verbs_gid *gid = &port->gids[port->gid_count++];

    gid->index = index;
    gid->type = type;
    assert_int_equal(inet_pton(AF_INET6, text, gid->raw), 1);
}

/* An active InfiniBand port that is asked and has an address. */
static gp_verbs_port
make_port(const char *device, uint8_t number, uint32_t gbps, int numa)
{
    gp_verbs_port port = {.number = number,
                          .state = GP_VERBS_STATE_ACTIVE,
                          .link_layer = GP_VERBS_LAYER_INFINIBAND,
                          .rate_mbps = gbps * 1000,
                          .numa = numa,
                          .asked = true};

    snprintf(port.device, sizeof(port.device), "%s", device);
    add_gid(&port, 0, GP_VERBS_GID_IB, "fe80::1");
    port.address.ss_family = AF_INET;
    return port;
}

static gp_verbs_port
make_roce(const char *device)
{
    gp_verbs_port port = make_port(device, 1, 100, -1);

    port.link_layer = GP_VERBS_LAYER_ETHERNET;
    port.gid_count = 0;
    memset(port.gids, 0, sizeof(port.gids));
    return port;
}

static int
far_nodes(int from, int to)
{
    return from == to ? 10 : 10 + 10 * abs(from - to);
}

static choice
choose_at(const gp_config *config, const gp_verbs_place *place,
          const gp_verbs_port *ports, size_t count, size_t max)
{
    choice c = {.count = 99};

    c.status = gp_verbs_choose_near(config, place, far_nodes, ports, count,
                                    c.out, max, &c.count, c.why, sizeof(c.why));
    return c;
}

static choice
choose_with(const char *name, const char *value, const gp_verbs_port *ports,
            size_t count, size_t max)
{
    const gp_verbs_place place = {.numa = 0};
    gp_config *config = config_with(name, value);
    choice c = choose_at(config, &place, ports, count, max);

    gp_config_destroy(config);
    return c;
}

static void
assert_names(const choice *c, const char *expected)
{
    char names[256] = "";

    assert_int_equal(c->status, GP_OK);
    for (size_t i = 0; i < c->count; i++)
        snprintf(names + strlen(names), sizeof(names) - strlen(names),
                 "%s%s:%u", i ? " " : "", c->out[i].device, c->out[i].number);
    assert_string_equal(names, expected);
}

/* ------------------------------------------------------------------ filter */

static void
filters_pass_what_they_name(void **state)
{
    static const struct {
        const char *filter, *device;
        uint8_t port;
        bool passes;
    } cases[] = {
        {"", "mlx5_0", 1, true},
        {"mlx5_0", "mlx5_0", 2, true},
        {"mlx5", "mlx5_7", 1, true},
        {"mlx5_1", "mlx5_10", 1, true}, /* a beginning */
        {"=mlx5_1", "mlx5_10", 1, false},
        {"=mlx5_1", "mlx5_1", 1, true},
        {"mlx5_0:1", "mlx5_0", 1, true},
        {"mlx5_0:1", "mlx5_0", 2, false},
        {"mlx5_0:1,mlx5_2", "mlx5_2", 2, true},
        {"mlx5_0:1,mlx5_2", "mlx5_1", 1, false},
        {"^mlx5_0", "mlx5_0", 1, false},
        {"^mlx5_0", "rxe0", 1, true},
        {"^mlx5_0:1,rxe", "mlx5_0", 2, true},
        {"^=mlx5_1", "mlx5_10", 1, true},
        {"^=mlx5_1", "mlx5_1", 1, false},
        {"mlx5_0:255", "mlx5_0", 255, true},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        assert_int_equal(gp_verbs_filter_check(cases[i].filter), GP_OK);
        if (gp_verbs_filter_pass(cases[i].filter, cases[i].device,
                                 cases[i].port) != cases[i].passes)
            fail_msg("'%s' and %s:%u", cases[i].filter, cases[i].device,
                     cases[i].port);
    }
}

static void
bad_filters_are_named(void **state)
{
    static const char *const bad[] = {
        "^",
        "=",
        ",",
        "mlx5_0,",
        "mlx5_0,,rxe0",
        "mlx5_0:",
        "mlx5_0:0",
        "mlx5_0:x",
        "mlx5_0:256",
        ":1",
        "a:1:2",
        "a:1 ",
        "a:99999999999999999999",
        "a234567890123456789012345678901234567890123456789012345678901234"};
    gp_verbs_port port = make_port("mlx5_0", 1, 100, 0);

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        choice c = choose_with("ib_hca", bad[i], &port, 1, 8);

        if (c.status != GP_ERR_CONFIG)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(c.count, 99);
        assert_non_null(strstr(c.why, "GRADPUSH_IB_HCA is '"));
    }
}

/* ------------------------------------------------------------------ choice */

static void
near_comes_before_fast_and_fast_before_names(void **state)
{
    gp_verbs_port ports[] = {
        make_port("mlx5_10", 1, 200, 1), make_port("mlx5_3", 1, 400, 1),
        make_port("mlx5_2", 1, 200, 0), make_port("mlx5_1", 1, 400, 2),
        make_port("mlx5_9", 1, 200, 1)};
    choice c;

    (void)state;
    c = choose_with(NULL, NULL, ports, GP_COUNT_OF(ports), 8);
    assert_names(&c, "mlx5_2:1 mlx5_3:1 mlx5_9:1 mlx5_10:1 mlx5_1:1");
    assert_string_equal(c.why, "mlx5_2 port 1: InfiniBand, 200 Gb/s, NUMA node "
                               "0 as this thread; first of 5 usable ports");
    c = choose_with(NULL, NULL, ports, GP_COUNT_OF(ports), 2);
    assert_names(&c, "mlx5_2:1 mlx5_3:1");
}

static void
a_port_on_an_unknown_node_is_not_far(void **state)
{
    gp_verbs_port ports[] = {make_port("a", 1, 100, 1),
                             make_port("b", 1, 100, -1)};
    choice c = choose_with(NULL, NULL, ports, 2, 8);

    (void)state;
    assert_names(&c, "b:1 a:1");
}

static void
software_comes_after_hardware(void **state)
{
    gp_verbs_port ports[] = {make_port("rxe0", 1, 100, -1),
                             make_port("mlx5_0", 1, 100, 3)};
    choice c;

    (void)state;
    ports[0].is_software = true;
    c = choose_with(NULL, NULL, ports, 2, 1);
    assert_names(&c, "mlx5_0:1");
}

static void
rails_take_each_device_before_second_ports(void **state)
{
    gp_verbs_port ports[] = {
        make_port("mlx5_0", 1, 200, 0), make_port("mlx5_0", 2, 200, 0),
        make_port("mlx5_1", 1, 200, 1), make_port("mlx5_1", 2, 200, 1)};
    choice c = choose_with(NULL, NULL, ports, 4, 8);

    (void)state;
    assert_names(&c, "mlx5_0:1 mlx5_1:1 mlx5_0:2 mlx5_1:2");
}

/* A port that only its own link can reach: others may be told of it in vain. */
static void
a_link_local_address_comes_last(void **state)
{
    gp_verbs_port ports[3] = {make_roce("mlx5_0"), make_roce("mlx5_1"),
                              make_roce("rxe0")};
    struct sockaddr_in6 local = {.sin6_family = AF_INET6, .sin6_scope_id = 1};
    struct sockaddr_in6 global = {.sin6_family = AF_INET6};
    choice c;

    (void)state;
    assert_int_equal(inet_pton(AF_INET6, "fe80::7", &local.sin6_addr), 1);
    assert_int_equal(inet_pton(AF_INET6, "fd00::7", &global.sin6_addr), 1);
    memcpy(&ports[0].address, &local, sizeof(local));
    memcpy(&ports[1].address, &global, sizeof(global));
    ports[2].is_software = true;
    for (size_t i = 0; i < 3; i++) {
        add_gid(&ports[i], 0, GP_VERBS_GID_ROCE_V2, "fe80::7");
        ports[i].gid_index = 0;
    }
    c = choose_with(NULL, NULL, ports, 3, 3);
    assert_names(&c, "mlx5_1:1 rxe0:1");
    c = choose_with("ib_hca", "mlx5_0", ports, 3, 3);
    assert_names(&c, "mlx5_0:1");
    memcpy(&ports[1].address, &local, sizeof(local));
    c = choose_with("ib_hca", "mlx5", ports, 3, 3);
    assert_names(&c, "mlx5_0:1 mlx5_1:1");
}

static void
rails_are_of_one_kind(void **state)
{
    gp_verbs_port ports[] = {
        make_port("a", 1, 400, 0), make_port("b", 1, 200, 0),
        make_port("c", 1, 100, 0), make_port("d", 1, 400, 0),
        make_port("e", 1, 400, 0)};
    choice c;

    (void)state;
    ports[3].link_layer = GP_VERBS_LAYER_ETHERNET;
    ports[4].is_iwarp = true;
    c = choose_with(NULL, NULL, ports, GP_COUNT_OF(ports), 8);
    assert_names(&c, "a:1 b:1");
}

static void
a_gpu_draws_the_device_at_its_switch(void **state)
{
    gp_verbs_port ports[] = {make_port("a", 1, 400, 0),
                             make_port("b", 1, 400, 0),
                             make_port("c", 1, 200, 0)};
    gp_verbs_place gpu = {.numa = 0};
    gp_config *config = config_with(NULL, NULL);
    choice c;

    (void)state;
    strcpy(gpu.pci, ROOT "0000:3b:00.0/0000:3c:00.0/0000:3d:00.0");
    strcpy(ports[0].pci, "/sys/devices/pci0000:80/0000:81:00.0");
    strcpy(ports[1].pci, "/sys/devices/pci0000:3a/0000:3a:04.0/0000:90:00.0");
    strcpy(ports[2].pci, ROOT "0000:3b:00.0/0000:3c:01.0/0000:3e:00.0");
    c = choose_at(config, &gpu, ports, 3, 1);
    assert_names(&c, "c:1");
    assert_non_null(strstr(c.why, "4 bridges from the GPU"));
    c = choose_at(config, &gpu, ports, 3, 8);
    assert_names(&c, "c:1 b:1 a:1");
    gp_config_destroy(config);
}

static void
what_keeps_each_port_out_is_said(void **state)
{
    gp_verbs_port ports[] = {
        make_port("a", 1, 100, 0), make_port("b", 1, 100, 0),
        make_port("c", 2, 100, 0), make_port("d", 1, 100, 0),
        make_port("x", 1, 100, 0)};
    choice c;

    (void)state;
    ports[0].asked = false;
    ports[1].state = 1;
    ports[2].gid_index = -1;
    ports[3].address.ss_family = AF_UNSPEC;
    c = choose_with("ib_hca", "^x", ports, GP_COUNT_OF(ports), 8);
    assert_int_equal(c.status, GP_ERR_UNSUPPORTED);
    assert_int_equal(c.count, 99);
    assert_string_equal(
        c.why, "a port 1: cannot be opened (library, provider or permission "
               "missing); b port 1: DOWN; c port 2: it has no GID; d port 1: "
               "no IP address: give its IPoIB interface one; x port 1: left "
               "out by GRADPUSH_IB_HCA");
    assert_non_null(
        strstr(gp_last_error(), "no RDMA port can be used: a port"));
    c = choose_with(NULL, NULL, ports, 0, 8);
    assert_int_equal(c.status, GP_ERR_UNSUPPORTED);
    assert_string_equal(c.why, "no RDMA device");
}

static void
a_short_text_is_cut(void **state)
{
    gp_verbs_port ports[40], out;
    gp_config *config = config_with("ib_hca", "none");
    char why[16];
    size_t count = 7;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(ports); i++)
        ports[i] = make_port("mlx5_0", (uint8_t)(i + 1), 100, 0);
    memset(why, 'x', sizeof(why));
    assert_int_equal(gp_verbs_choose(config, ports, GP_COUNT_OF(ports), &out, 1,
                                     &count, why, sizeof(why) - 1),
                     GP_ERR_UNSUPPORTED);
    assert_int_equal(strlen(why), sizeof(why) - 2);
    assert_int_equal(why[sizeof(why) - 1], 'x');
    gp_config_destroy(config);
}

/* -------------------------------------------------------------------- GIDs */

static void
the_best_gid_is_v2_and_ipv4(void **state)
{
    gp_verbs_port port = make_roce("mlx5_0");
    static const struct {
        gp_verbs_gid_type type;
        const char *text;
    } order[] = {
        {GP_VERBS_GID_ROCE_V1, "fe80::1"},
        {GP_VERBS_GID_ROCE_V1, "2001:db8::1"},
        {GP_VERBS_GID_ROCE_V1, "::ffff:10.0.0.1"},
        {GP_VERBS_GID_UNKNOWN, "fe80::1"},
        {GP_VERBS_GID_ROCE_V2, "fe80::1"},
        {GP_VERBS_GID_UNKNOWN, "2001:db8::1"},
        {GP_VERBS_GID_UNKNOWN, "::ffff:10.0.0.1"},
        {GP_VERBS_GID_ROCE_V2, "2001:db8::1"},
        {GP_VERBS_GID_ROCE_V2, "::ffff:10.0.0.1"},
    };

    (void)state;
    assert_null(gp_verbs_gid_best(&port));
    for (size_t i = 0; i < GP_COUNT_OF(order); i++) {
        add_gid(&port, (int)i, order[i].type, order[i].text);
        assert_int_equal(gp_verbs_gid_best(&port)->index, i);
    }
    add_gid(&port, 20, GP_VERBS_GID_ROCE_V2, "::ffff:10.0.0.2");
    assert_int_equal(gp_verbs_gid_best(&port)->index, 8); /* the first of two */
    port.link_layer = GP_VERBS_LAYER_INFINIBAND;
    assert_int_equal(gp_verbs_gid_best(&port)->index, 0);
}

/* Of a device that containers share the table has all their addresses. */
static void
a_gid_of_this_namespace_comes_first(void **state)
{
    gp_verbs_port port = make_roce("mlx5_0");

    (void)state;
    add_gid(&port, 0, GP_VERBS_GID_ROCE_V2, "::ffff:10.0.0.1");
    add_gid(&port, 1, GP_VERBS_GID_ROCE_V1, "::ffff:10.0.0.2");
    add_gid(&port, 2, GP_VERBS_GID_ROCE_V2, "::ffff:10.0.0.2");
    assert_int_equal(gp_verbs_gid_best(&port)->index, 0);
    port.gids[1].is_here = true;
    assert_int_equal(gp_verbs_gid_best(&port)->index, 1);
    port.gids[2].is_here = true;
    assert_int_equal(gp_verbs_gid_best(&port)->index, 2);
}

static void
a_gid_index_that_is_asked_for_is_used(void **state)
{
    gp_verbs_port port = make_roce("mlx5_0");
    char text[64];
    choice c;

    (void)state;
    add_gid(&port, 1, GP_VERBS_GID_ROCE_V1, "::ffff:10.0.0.1");
    add_gid(&port, 3, GP_VERBS_GID_ROCE_V2, "2001:db8::7");
    add_gid(&port, 5, GP_VERBS_GID_ROCE_V2, "fe80::7"); /* on no link */
    c = choose_with("ib_gid_index", "3", &port, 1, 1);
    assert_names(&c, "mlx5_0:1");
    assert_int_equal(c.out[0].gid_index, 3);
    assert_int_equal(c.out[0].gid_type, GP_VERBS_GID_ROCE_V2);
    assert_memory_equal(c.out[0].gid, port.gids[1].raw, 16);
    gp_verbs_address_text(&c.out[0].address, text, sizeof(text));
    assert_string_equal(text, "2001:db8::7");
    c = choose_with("ib_gid_index", "1", &port, 1, 1);
    gp_verbs_address_text(&c.out[0].address, text, sizeof(text));
    assert_string_equal(text, "10.0.0.1");
    c = choose_with("ib_gid_index", "2", &port, 1, 1);
    assert_int_equal(c.status, GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(c.why, "GRADPUSH_IB_GID_INDEX is empty"));
    c = choose_with("ib_gid_index", "5", &port, 1, 1);
    assert_int_equal(c.status, GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(c.why, "network interface"));
}

/* ---------------------------------------------------------------- distance */

static void
distances_count_bridges(void **state)
{
    const char *same = ROOT "0000:3b:00.0";

    (void)state;
    assert_int_equal(gp_verbs_pci_distance(same, same), 0);
    assert_int_equal(gp_verbs_pci_distance(same, ROOT "0000:3b:00.1"), 2);
    /* Under one root only: farther than anything below one switch. */
    assert_int_equal(
        gp_verbs_pci_distance(same, "/sys/devices/pci0000:3a/0000:3a:01.0"),
        35);
    assert_int_equal(
        gp_verbs_pci_distance(same, "/sys/devices/pci0000:40/0000:40:00.0"),
        INT_MAX);
    /* A name that only begins alike is another one. */
    assert_int_equal(gp_verbs_pci_distance("/sys/devices/pci0000:3a", same),
                     34);
    assert_int_equal(gp_verbs_pci_distance("/sys/devices/pci0000:3", same),
                     INT_MAX);
    assert_int_equal(gp_verbs_pci_distance("", same), INT_MAX);
    assert_int_equal(gp_verbs_pci_distance("/sys/devices/virtual/net/v0",
                                           "/sys/devices/virtual/net/v0"),
                     INT_MAX);
}

static void
this_thread_is_on_a_node_of_the_kernel(void **state)
{
    int here = gp_verbs_numa_here();

    (void)state;
    assert_true(here >= -1);
    if (here >= 0 && gp_verbs_numa_distance(here, here) >= 0)
        assert_int_equal(gp_verbs_numa_distance(here, here), 10);
    assert_int_equal(gp_verbs_numa_distance(-1, 0), -1);
    assert_int_equal(gp_verbs_numa_distance(here, 1 << 20), -1);
}

/* ------------------------------------------------------------------- words */

static void
words_stand_for_what_is_known(void **state)
{
    gp_verbs_port port = make_port("mlx5_0", 1, 400, 1);
    char text[320];

    (void)state;
    port.mtu = 4096;
    strcpy(port.pci, ROOT "0000:3b:00.0");
    strcpy(port.netdev, "ib0");
    gp_verbs_port_text(&port, text, sizeof(text));
    assert_string_equal(text,
                        "mlx5_0 port 1: ACTIVE, InfiniBand, 400 Gb/s, MTU "
                        "4096, NUMA node 1, PCI 0000:3b:00.0, ib0, "
                        "0.0.0.0");
    port = make_roce("rxe0");
    port.is_software = true;
    port.state = 1;
    port.rate_mbps = 2500;
    port.asked = false;
    port.address.ss_family = AF_UNSPEC;
    gp_verbs_port_text(&port, text, sizeof(text));
    assert_string_equal(text, "rxe0 port 1: DOWN, RoCE in software, 2.5 Gb/s, "
                              "no address, not opened");
    gp_verbs_port_text(&port, text, 8);
    assert_string_equal(text, "rxe0 po");
    assert_string_equal(gp_verbs_state_name(-1), "UNKNOWN");
    assert_string_equal(gp_verbs_state_name(77), "UNKNOWN");
    gp_verbs_pci_text("/sys/devices/virtual/net/v0", text, sizeof(text));
    assert_string_equal(text, "");
    gp_verbs_pci_text(ROOT "0000:3b:00.0/virtio0", text, sizeof(text));
    assert_string_equal(text, "0000:3b:00.0");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_pass_what_they_name),
        cmocka_unit_test(bad_filters_are_named),
        cmocka_unit_test(near_comes_before_fast_and_fast_before_names),
        cmocka_unit_test(a_port_on_an_unknown_node_is_not_far),
        cmocka_unit_test(software_comes_after_hardware),
        cmocka_unit_test(rails_take_each_device_before_second_ports),
        cmocka_unit_test(a_link_local_address_comes_last),
        cmocka_unit_test(rails_are_of_one_kind),
        cmocka_unit_test(a_gpu_draws_the_device_at_its_switch),
        cmocka_unit_test(what_keeps_each_port_out_is_said),
        cmocka_unit_test(a_short_text_is_cut),
        cmocka_unit_test(the_best_gid_is_v2_and_ipv4),
        cmocka_unit_test(a_gid_of_this_namespace_comes_first),
        cmocka_unit_test(a_gid_index_that_is_asked_for_is_used),
        cmocka_unit_test(distances_count_bridges),
        cmocka_unit_test(this_thread_is_on_a_node_of_the_kernel),
        cmocka_unit_test(words_stand_for_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
