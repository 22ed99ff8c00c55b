/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_list.c - what is read of RDMA ports, from a folder that looks like
 * sysfs and from devices of a table made up here.
 *
 * The folder of a test is filled by put() and removed at its end. Devices count
 * how often they are opened and closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "transports/verbs/verbs.h"
#include "transports/verbs/verbs_api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PCI "devices/pci0000:3a/0000:3a:00.0/0000:3b:00."

static char root[64];
static gp_verbs_port ports[8];
static size_t count;

/* ------------------------------------------------------------------ folder */

static void
full_path(const char *path, char out[512])
{
    snprintf(out, 512, "%s/%s", root, path);
    for (char *p = out + strlen(root) + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(out, 0755);
            *p = '/';
        }
}

static void
put(const char *path, const char *text)
{
    char full[512];
    FILE *file;

    full_path(path, full);
    file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void
put_link(const char *path, const char *target)
{
    char full[512], absolute[512];

    full_path(path, full);
    snprintf(absolute, sizeof(absolute), "%s/%s", root, target);
    assert_int_equal(symlink(absolute, full), 0);
}

/* "ports/1/state" of a device. */
static void
put_port(const char *device, int port, const char *file, const char *text)
{
    char path[256];

    snprintf(path, sizeof(path), "class/infiniband/%s/ports/%d/%s", device,
             port, file);
    put(path, text);
}

static void
put_gid(const char *device, int index, const char *gid, const char *type,
        const char *netdev)
{
    char name[64];

    snprintf(name, sizeof(name), "gids/%d", index);
    put_port(device, 1, name, gid);
    snprintf(name, sizeof(name), "gid_attrs/types/%d", index);
    if (type)
        put_port(device, 1, name, type);
    snprintf(name, sizeof(name), "gid_attrs/ndevs/%d", index);
    if (netdev)
        put_port(device, 1, name, netdev);
}

static int
start(void **state)
{
    (void)state;
    strcpy(root, "/tmp/gp_test_sysfs_XXXXXX");
    memset(ports, 0xee, sizeof(ports));
    count = 99;
    return mkdtemp(root) ? 0 : -1;
}

static int
remove_one(const char *path, const struct stat *status, int kind,
           struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static int
stop(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
list(const gp_verbs_api *api)
{
    assert_int_equal(
        gp_verbs_list(api, root, ports, GP_COUNT_OF(ports), &count), GP_OK);
}

static void
assert_address(const gp_verbs_port *port, const char *expected)
{
    char text[64];

    gp_verbs_address_text(&port->address, text, sizeof(text));
    assert_string_equal(text, expected);
}

/* An InfiniBand device with two ports; its interface is the loopback one, which
 * every machine has with an address. */
static void
put_infiniband(void)
{
    put_link("class/infiniband/mlx5_10/device", PCI "0");
    put(PCI "0/numa_node", "1\n");
    put("class/infiniband/mlx5_10/node_type", "1: CA\n");
    put("class/infiniband/mlx5_10/fw_ver", "28.39.1002\n");
    put_port("mlx5_10", 1, "state", "4: ACTIVE\n");
    put_port("mlx5_10", 1, "link_layer", "InfiniBand\n");
    put_port("mlx5_10", 1, "rate", "400 Gb/sec (4X NDR)\n");
    put_port("mlx5_10", 1, "lid", "0x1f\n");
    put_gid("mlx5_10", 0, "fe80:0000:0000:0000:a088:c203:0012:3456\n",
            "IB/RoCE v1\n", NULL);
    put_port("mlx5_10", 2, "state", "1: DOWN\n");
    put_port("mlx5_10", 2, "link_layer", "InfiniBand\n");
    put_port("mlx5_10", 2, "rate", "2.5 Gb/sec (1X SDR)\n");
    put(PCI "0/net/lo/x", "");
    put(PCI "0/net/lo.8001/x", "");
    put("class/net/lo/type", "32\n");
    put("class/net/lo/dev_port", "0\n");
    put("class/net/lo.8001/type", "32\n");
}

static void
put_roce(void)
{
    put_link("class/infiniband/mlx5_2/device", PCI "1");
    put(PCI "1/numa_node", "-1\n");
    put_port("mlx5_2", 1, "state", "4: ACTIVE\n");
    put_port("mlx5_2", 1, "link_layer", "Ethernet\n");
    put_port("mlx5_2", 1, "rate", "100 Gb/sec (4X EDR)\n");
    put_gid("mlx5_2", 0, "fe80:0000:0000:0000:a088:c2ff:fe12:3456\n",
            "IB/RoCE v1\n", "eth7\n");
    put_gid("mlx5_2", 1, "fe80:0000:0000:0000:a088:c2ff:fe12:3456\n",
            "RoCE v2\n", "eth7\n");
    put_gid("mlx5_2", 2, "0000:0000:0000:0000:0000:ffff:0a00:0001\n",
            "IB/RoCE v1\n", "eth7\n");
    put_gid("mlx5_2", 3, "0000:0000:0000:0000:0000:ffff:0a00:0001\n",
            "RoCE v2\n", "eth7\n");
    put_gid("mlx5_2", 4, "0000:0000:0000:0000:0000:0000:0000:0000\n", NULL,
            NULL);
    put_gid("mlx5_2", 9, "2001:0db8:0000:0000:0000:0000:0000:0001\n",
            "RoCE v2\n", "eth7.5\n");
}

/* As rdma_rxe: no device below, a parent interface. */
static void
put_software(void)
{
    put_port("rxe0", 1, "state", "4: ACTIVE\n");
    put_port("rxe0", 1, "link_layer", "Ethernet\n");
    put_port("rxe0", 1, "rate", "2.5 Gb/sec (1X SDR)\n");
    put("class/infiniband/rxe0/parent", "gpnone0\n");
    put_link("class/net/gpnone0/device", PCI "2");
    put(PCI "2/numa_node", "0\n");
}

/* As siw: its GID begins with the MAC address of its interface. */
static void
put_iwarp(void)
{
    put("class/infiniband/siw0/node_type", "4: RNIC\n");
    put_port("siw0", 1, "state", "4: ACTIVE\n");
    put_port("siw0", 1, "link_layer", "Ethernet\n");
    put_gid("siw0", 0, "0255:2211:3344:0000:0000:0000:0000:0000\n", NULL, NULL);
    put("class/net/gpnone1/address", "02:55:22:11:33:45\n");
    put("class/net/lo/address", "02:55:22:11:33:44\n");
}

/* ------------------------------------------------------------ sysfs, alone */

static void
infiniband_ports_are_read(void **state)
{
    (void)state;
    put_infiniband();
    list(NULL);
    assert_int_equal(count, 2);
    assert_string_equal(ports[0].device, "mlx5_10");
    assert_int_equal(ports[0].number, 1);
    assert_int_equal(ports[0].state, GP_VERBS_STATE_ACTIVE);
    assert_int_equal(ports[0].link_layer, GP_VERBS_LAYER_INFINIBAND);
    assert_int_equal(ports[0].rate_mbps, 400000);
    assert_int_equal(ports[0].lid, 0x1f);
    assert_int_equal(ports[0].numa, 1);
    assert_false(ports[0].is_software);
    assert_false(ports[0].is_iwarp);
    assert_false(ports[0].asked);
    assert_non_null(strstr(ports[0].pci, "/devices/pci0000:3a/"));
    assert_string_equal(ports[0].firmware, "28.39.1002");
    assert_int_equal(ports[0].gid_count, 1);
    assert_int_equal(ports[0].gid_type, GP_VERBS_GID_IB);
    assert_int_equal(ports[0].gid[8], 0xa0);
    /* The partition's interface has no number of its own and comes second. */
    assert_string_equal(ports[0].netdev, "lo");
    assert_address(&ports[0], "127.0.0.1");
    assert_int_equal(ports[1].number, 2);
    assert_int_equal(ports[1].state, 1);
    assert_int_equal(ports[1].rate_mbps, 2500);
    assert_int_equal(ports[1].gid_index, -1);
    assert_string_equal(ports[1].netdev, "");
    assert_address(&ports[1], "");
}

/* IPoIB interfaces in a bond have no address themselves. */
static void
the_active_part_of_a_bond_has_its_address(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "link_layer", "InfiniBand\n");
    put_link("class/infiniband/mlx5_0/device", PCI "0");
    put(PCI "0/net/gpnone0/x", "");
    put("class/net/gpnone0/type", "32\n");
    put("class/net/lo/x", ""); /* the bond: it has an address everywhere */
    put_link("class/net/gpnone0/master", "class/net/lo");
    list(NULL);
    assert_address(&ports[0], "");
    put("class/net/lo/bonding/active_slave", "gpnone1\n");
    list(NULL);
    assert_address(&ports[0], "");
    put("class/net/lo/bonding/active_slave", "gpnone0\n");
    list(NULL);
    assert_address(&ports[0], "127.0.0.1");
    assert_string_equal(ports[0].netdev, "gpnone0");
}

/* Where only a partition has an address, that leads to the port. */
static void
an_address_of_a_partition_will_do(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "link_layer", "InfiniBand\n");
    put_link("class/infiniband/mlx5_0/device", PCI "0");
    put(PCI "0/net/gp0/x", "");
    put(PCI "0/net/gp0.8001/x", "");
    put("class/net/gp0/type", "32\n");
    put("class/net/gp0.8001/type", "32\n");
    put("class/net/lo/type", "32\n");
    list(NULL);
    assert_string_equal(ports[0].netdev, "gp0");
    assert_address(&ports[0], "");
    put(PCI "0/net/lo/x", "");
    list(NULL);
    assert_string_equal(ports[0].netdev, "lo");
    assert_address(&ports[0], "127.0.0.1");
    put("class/net/lo/dev_port", "1\n"); /* the other port's */
    list(NULL);
    assert_string_equal(ports[0].netdev, "gp0");
    assert_address(&ports[0], "");
}

static void
roce_ports_take_the_best_gid(void **state)
{
    (void)state;
    put_roce();
    list(NULL);
    assert_int_equal(count, 1);
    assert_int_equal(ports[0].link_layer, GP_VERBS_LAYER_ETHERNET);
    assert_int_equal(ports[0].numa, -1);
    assert_int_equal(ports[0].gid_count, 5); /* without the empty one */
    assert_int_equal(ports[0].gids[4].index, 9);
    assert_string_equal(ports[0].gids[4].netdev, "eth7.5");
    assert_int_equal(ports[0].gid_index, 3);
    assert_int_equal(ports[0].gid_type, GP_VERBS_GID_ROCE_V2);
    assert_string_equal(ports[0].netdev, "eth7");
    assert_address(&ports[0], "10.0.0.1");
}

static void
software_is_placed_by_its_interface(void **state)
{
    (void)state;
    put_software();
    list(NULL);
    assert_int_equal(count, 1);
    assert_true(ports[0].is_software);
    assert_string_equal(ports[0].netdev, "gpnone0");
    assert_int_equal(ports[0].numa, 0);
    assert_non_null(strstr(ports[0].pci, "0000:3b:00.2"));
    assert_int_equal(ports[0].gid_index, -1);
    assert_address(&ports[0], "");
}

static void
iwarp_ports_are_found_by_address(void **state)
{
    (void)state;
    put_iwarp();
    list(NULL);
    assert_int_equal(count, 1);
    assert_true(ports[0].is_iwarp);
    assert_string_equal(gp_verbs_layer_name(&ports[0]), "iWARP");
    assert_string_equal(ports[0].netdev, "lo");
    assert_address(&ports[0], "127.0.0.1");
}

static void
types_may_be_missing(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "link_layer", "Ethernet\n");
    put_gid("mlx5_0", 0, "fe80:0000:0000:0000:a088:c2ff:fe12:3456\n", NULL,
            NULL);
    put_gid("mlx5_0", 5, "0000:0000:0000:0000:0000:ffff:0a00:0001\n", NULL,
            NULL);
    list(NULL);
    assert_int_equal(ports[0].gid_index, 5);
    assert_int_equal(ports[0].gid_type, GP_VERBS_GID_UNKNOWN);
    assert_address(&ports[0], "10.0.0.1");
}

/* An address that others can reach this host by. */
static bool
own_address(struct in_addr *out)
{
    struct ifaddrs *all = NULL;
    bool found = false;

    assert_int_equal(getifaddrs(&all), 0);
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
            (i->ifa_flags & IFF_LOOPBACK))
            continue;
        *out =
            ((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr;
        found = true;
    }
    freeifaddrs(all);
    return found;
}

/* Of a table with more than is kept it is found, wherever it stands. */
static void
what_this_namespace_has_is_kept(void **state)
{
    static const int places[] = {0, 7, 31, 32, 200};
    struct in_addr own;
    const uint8_t *b = (const uint8_t *)&own;
    char text[64], expected[INET_ADDRSTRLEN];

    (void)state;
    if (!own_address(&own)) {
        print_message("skipped: no interface but the loopback's has IPv4\n");
        skip();
    }
    inet_ntop(AF_INET, &own, expected, sizeof(expected));
    put_port("mlx5_0", 1, "link_layer", "Ethernet\n");
    for (size_t k = 0; k < GP_COUNT_OF(places); k++) {
        for (int i = 0; i < 210; i++) {
            snprintf(text, sizeof(text),
                     "0000:0000:0000:0000:0000:ffff:c633:64%02x\n", i);
            if (i == places[k])
                snprintf(text, sizeof(text),
                         "0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x\n",
                         b[0], b[1], b[2], b[3]);
            put_gid("mlx5_0", i, text, "RoCE v2\n", NULL);
        }
        list(NULL);
        assert_int_equal(ports[0].gid_count, GP_VERBS_GIDS_MAX);
        assert_int_equal(ports[0].gid_index, places[k]);
        assert_address(&ports[0], expected);
        for (size_t i = 1; i < ports[0].gid_count; i++)
            assert_true(ports[0].gids[i - 1].index < ports[0].gids[i].index);
    }
}

static void
lists_are_in_order_and_within_their_room(void **state)
{
    (void)state;
    put_infiniband();
    put_roce();
    put_software();
    list(NULL);
    assert_int_equal(count, 4);
    assert_string_equal(ports[0].device, "mlx5_2"); /* 2 is before 10 */
    assert_string_equal(ports[1].device, "mlx5_10");
    assert_string_equal(ports[3].device, "rxe0");
    memset(ports, 0xee, sizeof(ports));
    assert_int_equal(gp_verbs_list(NULL, root, ports, 2, &count), GP_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ports[2].number, 0xee);
    assert_int_equal(gp_verbs_list(NULL, root, ports, 0, &count), GP_OK);
    assert_int_equal(count, 0);
}

static void
what_is_no_number_is_not_there(void **state)
{
    static char longer[8192];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    put_port("a", 1, "state", "ACTIVE\n");
    put_port("a", 1, "rate", "-4 Gb/sec\n");
    put_port("a", 1, "lid", "0x123456789\n");
    put_port("a", 1, "link_layer", longer);
    put("class/infiniband/a/fw_ver", longer);
    put("class/infiniband/a/parent", longer);
    put("class/infiniband/a/device/numa_node", "99999999999999999999\n");
    put_gid("a", 0, "0000:0000:0000:0000:0000:ffff:0a00\n", NULL, NULL);
    put_gid("a", 1, "0000:0000:0000:0000:0000:ffff:0a00:0001:0001\n", NULL,
            NULL);
    put_gid("a", 2, longer, NULL, NULL);
    put_gid("a", 3, "-001:0000:0000:0000:0000:ffff:0a00:0001\n", NULL, NULL);
    put_gid("a", 4, "0x01:0000:0000:0000:0000:ffff:0a00:0001\n", NULL, NULL);
    put_port("a", 0, "state", "4: ACTIVE\n");
    put_port("a", 256, "state", "4: ACTIVE\n");
    put("class/infiniband/a/ports/x/state", "4: ACTIVE\n");
    list(NULL);
    assert_int_equal(count, 1);
    assert_int_equal(ports[0].number, 1);
    assert_int_equal(ports[0].state, 0);
    assert_int_equal(ports[0].rate_mbps, 0);
    assert_int_equal(ports[0].lid, 0);
    assert_int_equal(ports[0].link_layer, GP_VERBS_LAYER_NONE);
    assert_int_equal(strlen(ports[0].firmware), sizeof(ports[0].firmware) - 1);
    assert_int_equal(ports[0].numa, -1);
    assert_int_equal(ports[0].gid_count, 0);
    assert_string_equal(ports[0].netdev, "");
}

static void
no_sysfs_is_no_device(void **state)
{
    (void)state;
    list(NULL);
    assert_int_equal(count, 0);
    assert_int_equal(gp_verbs_list(NULL, "/nowhere", ports, 8, &count), GP_OK);
    assert_int_equal(count, 0);
}

/* ----------------------------------------------------------------- devices */

#ifdef GP_HAVE_VERBS

typedef struct fake {
    struct ibv_device device; /* first: both have one address */
    struct ibv_context context;
    struct ibv_device_attr attr;
    struct ibv_port_attr port;
    union ibv_gid gids[4];
    bool closed_to_us, silent;
} fake;

static fake fakes[3];
static int fake_count, list_errno, lists, opened;

static struct ibv_device **
fake_list(int *n)
{
    struct ibv_device **devices;

    if (list_errno) {
        errno = list_errno;
        return NULL;
    }
    devices = calloc((size_t)fake_count + 1, sizeof(struct ibv_device *));
    assert_non_null(devices);
    for (int i = 0; i < fake_count; i++)
        devices[i] = &fakes[i].device;
    *n = fake_count;
    lists++;
    return devices;
}

static void
fake_free(struct ibv_device **devices)
{
    lists--;
    free(devices);
}

static const char *
fake_name(struct ibv_device *device)
{
    return device->name;
}

static fake *
fake_of(struct ibv_context *context)
{
    return (fake *)(void *)context->device;
}

static struct ibv_context *
fake_open(struct ibv_device *device)
{
    fake *f = (fake *)(void *)device;

    if (f->closed_to_us) {
        errno = EACCES;
        return NULL;
    }
    f->context.device = device;
    opened++;
    return &f->context;
}

static int
fake_close(struct ibv_context *context)
{
    (void)context;
    opened--;
    return 0;
}

static int
fake_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    *attr = fake_of(context)->attr;
    return 0;
}

static int
fake_port(struct ibv_context *context, uint8_t number,
          struct ibv_port_attr *attr)
{
    (void)number;
    if (fake_of(context)->silent)
        return EIO;
    *attr = fake_of(context)->port;
    return 0;
}

static int
fake_gid(struct ibv_context *context, uint8_t number, int index,
         union ibv_gid *gid)
{
    (void)number;
    if (index >= 4)
        return ENODATA; /* what an empty entry says */
    *gid = fake_of(context)->gids[index];
    return 0;
}

static const gp_verbs_api table = {
    .source = "test",
    .get_device_list = fake_list,
    .free_device_list = fake_free,
    .get_device_name = fake_name,
    .open_device = fake_open,
    .close_device = fake_close,
    .query_device = fake_device,
    .query_port = fake_port,
    .query_gid = fake_gid,
};

static fake *
add_device(const char *name, uint8_t layer)
{
    fake *f = &fakes[fake_count++];

    memset(f, 0, sizeof(*f));
    strcpy(f->device.name, name);
    strcpy(f->attr.fw_ver, "1.2.3");
    f->attr.phys_port_cnt = 1;
    f->attr.max_mr_size = UINT64_MAX;
    f->attr.max_qp_wr = 1024;
    f->attr.device_cap_flags = IBV_DEVICE_MEM_WINDOW_TYPE_2B;
    f->port.state = IBV_PORT_ACTIVE;
    f->port.active_mtu = IBV_MTU_1024;
    f->port.active_width = 2;  /* 4x */
    f->port.active_speed = 32; /* EDR */
    f->port.link_layer = layer;
    f->port.gid_tbl_len = 300;
    return f;
}

static int
start_devices(void **state)
{
    fake_count = list_errno = lists = opened = 0;
    return start(state);
}

/* Nothing may stay open, whatever the test was about. */
static int
stop_devices(void **state)
{
    assert_int_equal(opened, 0);
    assert_int_equal(lists, 0);
    return stop(state);
}

static void
devices_are_asked_before_sysfs(void **state)
{
    fake *f = add_device("mlx5_2", IBV_LINK_LAYER_ETHERNET);

    (void)state;
    put_roce();
    put_software();
    put_port("mlx5_2", 1, "state", "1: DOWN\n");
    memcpy(f->gids[2].raw + 10, "\xff\xff\x0a\x00\x00\x09", 6);
    memcpy(f->gids[3].raw + 10, "\xff\xff\x0a\x00\x00\x09", 6);
    list(&table);
    assert_int_equal(count, 2);
    assert_true(ports[0].asked);
    assert_int_equal(ports[0].state, GP_VERBS_STATE_ACTIVE);
    assert_int_equal(ports[0].mtu, 1024);
    assert_int_equal(ports[0].rate_mbps, 100000);
    assert_string_equal(ports[0].firmware, "1.2.3");
    assert_true(ports[0].max_mr_size == UINT64_MAX);
    assert_int_equal(ports[0].max_qp_wr, 1024);
    assert_true(ports[0].has_windows);
    assert_int_equal(ports[0].gid_count, 2);
    assert_int_equal(ports[0].gid_index, 3); /* sysfs knows the types */
    assert_string_equal(ports[0].netdev, "eth7");
    assert_address(&ports[0], "10.0.0.9");
    assert_string_equal(ports[1].device, "rxe0");
    assert_false(ports[1].asked);
    f->port.active_speed = 128; /* NDR, or what is above it */
    list(&table);
    assert_int_equal(ports[0].rate_mbps, 400000);
    put_port("mlx5_2", 1, "rate", "800 Gb/sec (4X XDR)\n");
    list(&table);
    assert_int_equal(ports[0].rate_mbps, 800000);
}

static void
devices_need_no_sysfs(void **state)
{
    fake *f = add_device("sim0", IBV_LINK_LAYER_ETHERNET);
    fake *old = add_device("sim1", IBV_LINK_LAYER_UNSPECIFIED);
    fake *iwarp = add_device("sim2", IBV_LINK_LAYER_ETHERNET);

    (void)state;
    f->attr.phys_port_cnt = 2;
    f->gids[0].raw[15] = 1; /* ::1 */
    old->port.active_mtu = 77;
    old->port.active_speed = 3;
    old->attr.max_qp_wr = -1;
    iwarp->device.transport_type = IBV_TRANSPORT_IWARP;
    iwarp->gids[0].raw[0] = 2; /* a MAC address */
    memcpy(iwarp->gids[1].raw + 10, "\xff\xff\x0a\x00\x00\x09", 6);
    list(&table);
    assert_int_equal(count, 4);
    assert_true(ports[0].is_software);
    assert_int_equal(ports[0].numa, -1);
    assert_address(&ports[0], "::1");
    assert_int_equal(ports[1].number, 2);
    assert_int_equal(ports[2].link_layer, GP_VERBS_LAYER_INFINIBAND);
    assert_int_equal(ports[2].mtu, 0);
    assert_int_equal(ports[2].rate_mbps, 0);
    assert_int_equal(ports[2].max_qp_wr, 0);
    assert_address(&ports[2], "");
    assert_true(ports[3].is_iwarp);
    assert_address(&ports[3], "10.0.0.9");
}

static void
devices_that_do_not_answer_are_listed(void **state)
{
    (void)state;
    put_roce();
    put_infiniband();
    add_device("mlx5_2", IBV_LINK_LAYER_ETHERNET)->closed_to_us = true;
    add_device("mlx5_10", IBV_LINK_LAYER_INFINIBAND)->silent = true;
    list(&table);
    assert_int_equal(count, 3);
    assert_string_equal(ports[0].device, "mlx5_2");
    assert_false(ports[0].asked);
    assert_address(&ports[0], "10.0.0.1");
    assert_false(ports[1].asked);
    assert_int_equal(ports[1].state, GP_VERBS_STATE_ACTIVE);
}

static void
a_kernel_without_rdma_has_no_devices(void **state)
{
    (void)state;
    list_errno = ENOSYS;
    list(&table);
    assert_int_equal(count, 0);
    list_errno = ENOMEM;
    count = 99;
    assert_int_equal(gp_verbs_list(&table, root, ports, 8, &count),
                     GP_ERR_SYSTEM);
    assert_int_equal(count, 99);
    assert_non_null(strstr(gp_last_error(), "cannot list RDMA devices"));
}

static void
reports_list_and_choose(void **state)
{
    fake *f = add_device("sim0", IBV_LINK_LAYER_ETHERNET);
    gp_verbs_report *report = NULL;
    gp_config *config = NULL;

    (void)state;
    add_device("sim1", IBV_LINK_LAYER_ETHERNET)->port.state = IBV_PORT_DOWN;
    f->gids[0].raw[15] = 1;
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_verbs_report_create(config, &table, root, &report),
                     GP_OK);
    assert_string_equal(report->missing, "");
    assert_int_equal(report->count, 2);
    assert_int_equal(report->rails, 1);
    assert_int_equal(gp_verbs_report_rail(report, &report->ports[0]), 1);
    assert_int_equal(gp_verbs_report_rail(report, &report->ports[1]), 0);
    assert_non_null(strstr(report->why, "sim0 port 1: RoCE, 100 Gb/s"));
    free(report);
    assert_int_equal(gp_config_set(config, "ib_hca", "sim1"), GP_OK);
    assert_int_equal(gp_verbs_report_create(config, &table, root, &report),
                     GP_OK);
    assert_int_equal(report->rails, 0);
    assert_string_equal(report->why, "sim0 port 1: left out by GRADPUSH_IB_HCA;"
                                     " sim1 port 1: DOWN");
    free(report);
    gp_config_destroy(config);
}

#endif

#define SYSFS(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define DEVICE(test) \
    cmocka_unit_test_setup_teardown(test, start_devices, stop_devices)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SYSFS(infiniband_ports_are_read),
        SYSFS(the_active_part_of_a_bond_has_its_address),
        SYSFS(an_address_of_a_partition_will_do),
        SYSFS(roce_ports_take_the_best_gid),
        SYSFS(software_is_placed_by_its_interface),
        SYSFS(iwarp_ports_are_found_by_address),
        SYSFS(types_may_be_missing),
        SYSFS(what_this_namespace_has_is_kept),
        SYSFS(lists_are_in_order_and_within_their_room),
        SYSFS(what_is_no_number_is_not_there),
        SYSFS(no_sysfs_is_no_device),
#ifdef GP_HAVE_VERBS
        DEVICE(devices_are_asked_before_sysfs),
        DEVICE(devices_need_no_sysfs),
        DEVICE(devices_that_do_not_answer_are_listed),
        DEVICE(a_kernel_without_rdma_has_no_devices),
        DEVICE(reports_list_and_choose),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
