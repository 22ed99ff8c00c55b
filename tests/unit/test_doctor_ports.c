/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor_ports.c - what `gradpush doctor` says of ports of RDMA devices,
 * on machines made of files.
 */
#include "doctor_fixture.h"

#define NIC "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"

/* Of a device that containers share the table has everybody's addresses. */
static void
own_address_is_preferred(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(IB "/mlx5_0/ports/1/gids/5", "0000:0000:0000:0000:0000:ffff:0a4d:0009");
    put(IB "/mlx5_0/ports/1/gid_attrs/types/5", "RoCE v2");
    put(IB "/mlx5_0/ports/1/gid_attrs/ndevs/5", "net1");
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_OK, "10.77.0.1 on eth2", "");
    own_gid = "::ffff:10.77.0.9";
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_OK, "index 5 is 10.77.0.9", "");
    expect("address", "mlx5_0:1", GP_CHECK_OK, "10.77.0.9 on net1", "");
    put(IB "/mlx5_0/ports/1/gid_attrs/types/0", "RoCE v2");
    own_gid = "fe80::526b:4bff:fe4f:8f41";
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_WARN, "eth2 has no IPv4", "ip addr");
}

static void
healthy_roce_port_is_ok(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(NIC "/current_link_speed", "16.0 GT/s PCIe");
    put(NIC "/max_link_speed", "16.0 GT/s PCIe");
    put(NIC "/current_link_width", "16");
    put(NIC "/max_link_width", "16");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_OK, "100 Gb/sec (4X EDR), RoCE on eth2",
           "");
    expect("gid", "mlx5_0:1", GP_CHECK_OK, "index 3 is 10.77.0.1", "");
    expect("address", "mlx5_0:1", GP_CHECK_OK, "10.77.0.1 on eth2", "");
    expect("pcie", "mlx5_0:1", GP_CHECK_OK, "x16: 252 Gbit/s", "");
    assert_int_equal(number_of("gid", "mlx5_0:1", "roce_v2"), 1);
}

static void
links_that_are_down_say_what_to_do(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(IB "/mlx5_0/ports/1/state", "1: DOWN");
    put(IB "/mlx5_0/ports/1/phys_state", "3: Disabled");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_FAIL, "DOWN, Disabled",
           "ip link set dev eth2 up");
    assert_null(find("gid", "mlx5_0:1"));
    put(IB "/mlx5_0/ports/1/phys_state", "2: Polling");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_FAIL, "Polling", "cable");
    put_port("mlx5_1", 1, "InfiniBand", "", "/sys/devices/pci0000:00/x");
    put(IB "/mlx5_1/ports/1/state", "2: INIT");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_1:1", GP_CHECK_FAIL, "INIT", "opensm");
    put(IB "/mlx5_1/ports/1/state", "4: ACTIVE");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_WARN, "DOWN", "");
    expect("link", "mlx5_1:1", GP_CHECK_OK, "InfiniBand", "");
}

static void
gids_are_judged(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(IB "/mlx5_0/ports/1/gid_attrs/types/3", "IB/RoCE v1");
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_WARN, "all RoCE v1", "cma_roce_mode");
    put(IB "/mlx5_0/ports/1/gids/3", "0000:0000:0000:0000:0000:0000:0000:0000");
    put(IB "/mlx5_0/ports/1/gid_attrs/types/0", "RoCE v2");
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_WARN, "only link-local", "ip addr add");
    expect("address", "mlx5_0:1", GP_CHECK_WARN, "eth2 has no IPv4",
           "ip addr add");
    put(IB "/mlx5_0/ports/1/gids/0", "0000:0000:0000:0000:0000:0000:0000:0000");
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_FAIL, "empty", "ip addr add");
}

static void
rdma_cm_set_to_v1_is_seen(void **state)
{
    static const char mode[] =
        "/sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_mode";

    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(mode, "RoCE v2");
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_OK, "index 3", "");
    put(mode, "IB/RoCE v1");
    examine(gp_doctor_check_ports);
    expect("gid", "mlx5_0:1", GP_CHECK_WARN, "set to IB/RoCE v1",
           "cma_roce_mode -d mlx5_0 -p 1 -m 2");
}

static void
ipv6_port_has_an_address_too(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(IB "/mlx5_0/ports/1/gids/3", "fd00:0000:0000:0000:0000:0000:0000:0005");
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_OK, "fd00::5 on eth2; IPv6 only",
           "");
}

static void
infiniband_needs_an_ipoib_address(void **state)
{
    (void)state;
    put_port("mlx5_0", 2, "InfiniBand", "", NIC);
    put(NIC "/net/ib0/dev_port", "0");
    put(NIC "/net/ib1/dev_port", "1");
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:2", GP_CHECK_WARN, "no IPoIB address", "dev ib1");
    given_ipv4 = 0x0a000007;
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:2", GP_CHECK_OK, "10.0.0.7 on ib1", "");
}

/* The address may be that of a bond, or of a partition alone. */
static void
bonds_and_partitions_have_addresses(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put(NIC "/net/ib0/dev_port", "0");
    put(NIC "/net/ib0.8001/dev_port", "0");
    put(NIC "/net/ib1/dev_port", "1");
    put("/sys/class/net/bond0/bonding/active_slave", "ib1");
    put_link("/sys/class/net/ib0/master", "/sys/class/net/bond0");
    given_ipv4 = 0x0a000007;
    given_to = "bond0";
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_WARN, "no IPoIB address", "dev ib0");
    put("/sys/class/net/bond0/bonding/active_slave", "ib0");
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_OK, "10.0.0.7 on ib0", "");
    given_to = "ib0.8001";
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_OK, "10.0.0.7 on ib0.8001", "");
    given_to = "ib1";
    examine(gp_doctor_check_ports);
    expect("address", "mlx5_0:1", GP_CHECK_WARN, "no IPoIB address", "dev ib0");
}

static void
slow_slots_and_lanes_are_seen(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put(NIC "/current_link_speed", "8.0 GT/s PCIe");
    put(NIC "/max_link_speed", "8.0 GT/s PCIe");
    put(NIC "/current_link_width", "8");
    put(NIC "/max_link_width", "16");
    examine(gp_doctor_check_ports);
    expect("pcie", "mlx5_0:1", GP_CHECK_WARN, "can do 8.0 GT/s PCIe x16",
           "lspci -vvs 0000:01:00.0");
    put(NIC "/max_link_width", "8");
    examine(gp_doctor_check_ports);
    expect("pcie", "mlx5_0:1", GP_CHECK_WARN, "63 Gbit/s", "later");
    put(IB "/mlx5_0/ports/1/rate", "25 Gb/sec (1X EDR)");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_WARN, "one lane", "mlxlink");
    expect("pcie", "mlx5_0:1", GP_CHECK_OK, "63 Gbit/s", "");
}

/* 25 and 100 Gbit/s Ethernet have one lane. */
static void
ethernet_of_one_lane_is_whole(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    put(IB "/mlx5_0/ports/1/rate", "25 Gb/sec (1X EDR)");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_OK, "25 Gb/sec (1X EDR), RoCE", "");
}

/* Virtual functions have the files, and nothing in them. */
static void
virtual_functions_have_no_slot(void **state)
{
    static const char *const widths[] = {"0", "63", "255"};

    (void)state;
    put_port("mlx5_5", 1, "Ethernet", "eth2", NIC);
    put(NIC "/current_link_speed", "Unknown");
    put(NIC "/max_link_speed", "Unknown");
    for (size_t i = 0; i < GP_COUNT_OF(widths); i++) {
        put(NIC "/current_link_width", "%s", widths[i]);
        put(NIC "/max_link_width", "%s", widths[i]);
        examine(gp_doctor_check_ports);
        expect("pcie", "mlx5_5:1", GP_CHECK_SKIP, "virtual function", "");
    }
    put(NIC "/current_link_speed", "16.0 GT/s PCIe");
    examine(gp_doctor_check_ports);
    expect("pcie", "mlx5_5:1", GP_CHECK_SKIP, "virtual function", "");
}

/* Soft-RoCE names its interface, runs on one lane and has no slot. */
static void
soft_roce_is_not_blamed(void **state)
{
    (void)state;
    put_port("rxe0", 1, "Ethernet", "v0", NULL);
    put(IB "/rxe0/ports/1/rate", "10 Gb/sec (1X FDR10)");
    examine(gp_doctor_check_ports);
    expect("link", "rxe0:1", GP_CHECK_OK, "RoCE in software on v0", "");
    expect("pcie", "rxe0:1", GP_CHECK_SKIP, "software", "");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(own_address_is_preferred),
        TEST(healthy_roce_port_is_ok),
        TEST(links_that_are_down_say_what_to_do),
        TEST(gids_are_judged),
        TEST(rdma_cm_set_to_v1_is_seen),
        TEST(ipv6_port_has_an_address_too),
        TEST(infiniband_needs_an_ipoib_address),
        TEST(bonds_and_partitions_have_addresses),
        TEST(slow_slots_and_lanes_are_seen),
        TEST(ethernet_of_one_lane_is_whole),
        TEST(virtual_functions_have_no_slot),
        TEST(soft_roce_is_not_blamed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
