/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor.c - what `gradpush doctor` says of machines made of files: RDMA
 * devices, counters, limits, clocks.
 */
#include "doctor_fixture.h"

#include <errno.h>

#define NIC "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0"

/* --- rdma --- */

static void
no_rdma_is_no_fault(void **state)
{
    (void)state;
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_SKIP, "travel over TCP", "rdma_rxe");
    expect("libraries", "", GP_CHECK_SKIP, "no libraries", "libibverbs1");
    expect("modules", "", GP_CHECK_SKIP, "ib_uverbs", "");
    expect("node", "/dev/infiniband", GP_CHECK_SKIP, "no device", "");
    expect("cgroup", "", GP_CHECK_SKIP, "no device", "");
}

static void
no_rdma_is_a_fault_for_who_wants_it(void **state)
{
    (void)state;
    doctor.required = true;
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_FAIL, "never falls back",
           "GRADPUSH_TRANSPORT=auto");
    expect("libraries", "", GP_CHECK_FAIL, "no libraries", "libibverbs1");
    expect("modules", "", GP_CHECK_FAIL, "rdma_ucm",
           "modprobe -a ib_uverbs rdma_ucm");
}

/* The configuration decides who wants it. */
static void
transport_verbs_is_what_wants_it(void **state)
{
    gp_doctor one;

    (void)state;
    gp_doctor_init(&one, config);
    assert_false(one.required);
    assert_int_equal(gp_config_set(config, "transport", "verbs"), GP_OK);
    gp_doctor_init(&one, config);
    assert_true(one.required);
}

static void
adapter_without_driver_is_named(void **state)
{
    (void)state;
    put("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x15b3");
    put("/sys/bus/pci/devices/0000:01:00.0/device", "0x1021");
    put("/sys/bus/pci/devices/0000:01:00.0/class", "0x020700");
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_WARN, "Mellanox", "modprobe mlx5_ib");
}

static void
healthy_device_is_ok(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put("/sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0");
    put("/sys/class/misc/rdma_cm/dev", "10:122");
    put("/sys/module/mlx5_ib/refcnt", "0");
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_OK, "mlx5_0", "");
    expect("modules", "", GP_CHECK_OK, "ib_uverbs rdma_ucm mlx5_ib", "");
    expect("node", "/dev/infiniband/rdma_cm", GP_CHECK_OK, "opened", "");
    expect("node", "/dev/infiniband/uverbs0", GP_CHECK_OK, "opened", "");
    expect("cgroup", "", GP_CHECK_OK, "no rdma cgroup", "");
    assert_int_equal(number_of("devices", "", "active_ports"), 1);
}

static void
disabled_devices_are_told(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    assert_int_equal(gp_config_set(config, "ib_disable", "1"), GP_OK);
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_WARN, "travel over TCP",
           "unset GRADPUSH_IB_DISABLE NCCL_IB_DISABLE");
}

static void
modules_of_a_device_are_needed(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put("/sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0");
    examine(gp_doctor_check_rdma);
    expect("modules", "", GP_CHECK_FAIL, "lacks the module rdma_ucm",
           "modprobe -a rdma_ucm");
}

/* The same refusal has another fix on a host, in docker, in a pod. */
static void
closed_nodes_have_the_fix_of_the_place(void **state)
{
    static const char uverbs[] = "/dev/infiniband/uverbs0";

    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put("/sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0");
    node_error = EACCES;
    examine(gp_doctor_check_rdma);
    expect("node", uverbs, GP_CHECK_FAIL, "Permission denied", "usermod");
    assert_int_equal(number_of("node", uverbs, "errno"), EACCES);
    node_error = EPERM;
    examine(gp_doctor_check_rdma);
    expect("node", uverbs, GP_CHECK_FAIL, "not permitted", "DeviceAllow");
    node_error = ENOENT;
    examine(gp_doctor_check_rdma);
    expect("node", uverbs, GP_CHECK_FAIL, "No such file", "modprobe");
    put("/.dockerenv", "%s", "");
    examine(gp_doctor_check_rdma);
    expect("node", uverbs, GP_CHECK_FAIL, "", "--device=/dev/infiniband");
    put("/proc/1/cgroup", "0::/kubepods.slice/pod1");
    examine(gp_doctor_check_rdma);
    expect("node", uverbs, GP_CHECK_FAIL, "", "device plugin");
}

/* sysfs has all devices of the machine, /dev those of the container. */
static void
devices_of_others_are_no_matter(void **state)
{
    static const char other[] = "/dev/infiniband/uverbs1";
    char sign[128];

    (void)state;
    put("/.dockerenv", "%s", "");
    put("/sys/module/rdma_ucm/refcnt", "0");
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put_port("mlx5_1", 1, "InfiniBand", "", "/sys/devices/pci0000:00/x");
    put(IB "/mlx5_1/ports/1/state", "1: DOWN");
    put("/sys/class/infiniband_verbs/uverbs0/ibdev", "mlx5_0");
    put("/sys/class/infiniband_verbs/uverbs1/ibdev", "mlx5_1");
    node_error = ENOENT;
    spared = "uverbs0";
    examine(gp_doctor_check_rdma);
    expect("node", "/dev/infiniband/uverbs0", GP_CHECK_OK, "", "");
    expect("node", other, GP_CHECK_SKIP, "mlx5_1 is not given", "");
    expect("devices", "", GP_CHECK_OK, "1 of 1 ports active of those", "");
    expect("node", "/dev/infiniband/rdma_cm", GP_CHECK_FAIL, "", "--device");
    examine(gp_doctor_check_ports);
    expect("link", "mlx5_0:1", GP_CHECK_OK, "ACTIVE", "");
    expect("link", "mlx5_1:1", GP_CHECK_SKIP, "not given", "");
    examine(gp_doctor_check_loopback);
    expect("write", "mlx5_1:1", GP_CHECK_SKIP, "", "");
    examine(gp_doctor_check_counters);
    assert_null(find("port", "mlx5_1:1"));
    assert_non_null(find("port", "mlx5_0:1"));
    spared = "uverbs1"; /* and that one is down */
    examine(gp_doctor_check_rdma);
    expect("devices", "", GP_CHECK_FAIL, "0 of 1 ports active of those", "");
    /* Given none, a container lacks what it needs. */
    spared = NULL;
    examine(gp_doctor_check_rdma);
    expect("node", other, GP_CHECK_FAIL, "No such file", "--device");
    /* On a host there are no others. */
    spared = "uverbs0";
    snprintf(sign, sizeof(sign), "%s/.dockerenv", root);
    assert_int_equal(remove(sign), 0);
    examine(gp_doctor_check_rdma);
    expect("node", other, GP_CHECK_FAIL, "No such file", "modprobe");
}

static void
cgroup_limit_is_found_above(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put("/proc/self/cgroup", "0::/jobs/7");
    put("/sys/fs/cgroup/jobs/7/rdma.max",
        "mlx5_0 hca_handle=max hca_object=max");
    put("/sys/fs/cgroup/jobs/rdma.max", "mlx5_0 hca_handle=2 hca_object=20");
    examine(gp_doctor_check_rdma);
    expect("cgroup", "", GP_CHECK_WARN, "hca_object=20",
           "'mlx5_0 hca_handle=max hca_object=max'");
    expect("cgroup", "", GP_CHECK_WARN, "/sys/fs/cgroup/jobs/rdma.max", "");
    put("/proc/self/cgroup", "5:rdma:/a\n0::/jobs/7");
    put("/sys/fs/cgroup/rdma/a/rdma.max",
        "mlx5_0 hca_handle=max hca_object=max");
    examine(gp_doctor_check_rdma);
    expect("cgroup", "", GP_CHECK_OK, "no limit", "");
}

/* --- counters --- */

static void
counters_tell_faults_from_congestion(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    examine(gp_doctor_check_counters);
    expect("port", "mlx5_0:1", GP_CHECK_SKIP, "counts nothing", "");
    put(IB "/mlx5_0/ports/1/hw_counters/out_of_sequence", "0");
    put(IB "/mlx5_0/ports/1/hw_counters/np_cnp_sent", "17");
    examine(gp_doctor_check_counters);
    expect("port", "mlx5_0:1", GP_CHECK_OK,
           "2 counters read, 0 with faults; np_cnp_sent 17", "");
    put(IB "/mlx5_0/ports/1/hw_counters/out_of_sequence", "4711");
    put(IB "/mlx5_0/ports/1/counters/symbol_error", "2");
    examine(gp_doctor_check_counters);
    expect("out_of_sequence", "mlx5_0:1", GP_CHECK_WARN, "4711", "PFC");
    expect("symbol_error", "mlx5_0:1", GP_CHECK_WARN, "bit errors", "cable");
    expect("port", "mlx5_0:1", GP_CHECK_OK, "2 with faults", "");
}

static void
congestion_control_is_read_by_priority(void **state)
{
    char path[128];

    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    examine(gp_doctor_check_counters);
    expect("ecn", "mlx5_0:1", GP_CHECK_SKIP, "does not show", "");
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof(path),
                 "/sys/class/net/eth2/ecn/roce_np/enable/%d", i);
        put(path, "%d", i == 3);
        snprintf(path, sizeof(path),
                 "/sys/class/net/eth2/ecn/roce_rp/enable/%d", i);
        put(path, "0");
    }
    examine(gp_doctor_check_counters);
    expect("ecn", "mlx5_0:1", GP_CHECK_WARN, "notifies on priorities 0x08",
           "roce_{np,rp}");
    put("/sys/class/net/eth2/ecn/roce_rp/enable/3", "1");
    examine(gp_doctor_check_counters);
    expect("ecn", "mlx5_0:1", GP_CHECK_OK, "reacts on 0x08", "");
}

static void
lossless_priorities_are_asked_for(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    examine(gp_doctor_check_counters);
    expect("pfc", "mlx5_0:1", GP_CHECK_SKIP, "eth2 does not tell", "");
    given_pfc = 0x08;
    examine(gp_doctor_check_counters);
    expect("pfc", "mlx5_0:1", GP_CHECK_OK, "priorities 0x08", "");
    given_pfc = 0;
    examine(gp_doctor_check_counters);
    expect("pfc", "mlx5_0:1", GP_CHECK_WARN, "packets are lost",
           "mlnx_qos -i eth2");
    put("/sys/class/net/eth2/ecn/roce_np/enable/3", "1");
    put("/sys/class/net/eth2/ecn/roce_rp/enable/3", "1");
    examine(gp_doctor_check_counters);
    expect("pfc", "mlx5_0:1", GP_CHECK_OK, "ECN alone", "");
}

static void
pauses_are_no_faults_and_discards_are(void **state)
{
    static const gp_doctor_stat stats[] = {
        {"rx_packets", 12345},         {"rx_prio3_pause", 7},
        {"rx_prio30_pause", 8},        {"tx_prio3_pause", 0},
        {"rx_prio5_buf_discard", 900}, {"tx_pause_storm_error_events", 1},
        {"rx_crc_errors_phy", 0},      {"", 0}};

    (void)state;
    put_port("mlx5_0", 1, "Ethernet", "eth2", NIC);
    examine(gp_doctor_check_counters);
    expect("interface", "mlx5_0:1", GP_CHECK_SKIP, "no counters", "");
    given_stats = stats;
    examine(gp_doctor_check_counters);
    expect("interface", "mlx5_0:1", GP_CHECK_OK,
           "7 counters read, 2 with faults; rx_prio3_pause 7: the neighbour",
           "");
    expect("rx_prio#_buf_discard", "mlx5_0:1", GP_CHECK_WARN,
           "rx_prio5_buf_discard is 900", "PFC");
    expect("tx_pause_storm_error_events", "mlx5_0:1", GP_CHECK_WARN, "cut off",
           "ports.pcie");
    assert_null(find("rx_crc_errors_phy", "mlx5_0:1"));
}

/* Puts an attribute at `at`; returns what it takes. */
static size_t
put_attribute(uint8_t *at, uint16_t kind, const void *data, size_t length)
{
    const uint16_t head[] = {(uint16_t)(4 + length), kind};

    memcpy(at, head, sizeof(head));
    memcpy(at + 4, data, length);
    return 4 + (length + 3) / 4 * 4;
}

/* The kernel's answer: netlink header, dcbmsg, interface name, and within
 * DCB_ATTR_IEEE (13) first DCB_ATTR_IEEE_ETS (1), then DCB_ATTR_IEEE_PFC (2),
 * whose second byte is the mask. */
static size_t
build_answer(uint8_t *answer, uint8_t mask)
{
    uint8_t nested[256] = {0}, ets[59] = {0}, pfc[136] = {8, mask};
    uint32_t head[] = {0, 78, 0, 0};
    size_t inner = put_attribute(nested, 1, ets, sizeof(ets)), used = 20;

    inner += put_attribute(nested + inner, 2, pfc, sizeof(pfc));
    used += put_attribute(answer + used, 1, "eth2", 5);
    used += put_attribute(answer + used, 13 | 0x8000, nested, inner);
    head[0] = (uint32_t)used;
    memcpy(answer, head, sizeof(head));
    return used;
}

static void
answers_about_pfc_are_read_with_care(void **state)
{
    _Alignas(8) uint8_t answer[512] = {0};
    size_t length = build_answer(answer, 0x28);
    const int32_t refusal[] = {36, 2, 0, 0, -EOPNOTSUPP, 0, 0, 0, 0};
    uint8_t enabled = 0;

    (void)state;
    assert_int_equal(gp_doctor_read_pfc(answer, length, &enabled), 0);
    assert_int_equal(enabled, 0x28);
    for (size_t cut = 0; cut < length; cut++) {
        _Alignas(8) uint8_t part[512];

        memcpy(part, answer, cut);
        assert_int_not_equal(gp_doctor_read_pfc(part, cut, &enabled), 0);
    }
    memcpy(answer, refusal, sizeof(refusal));
    assert_int_equal(gp_doctor_read_pfc(answer, 36, &enabled), EOPNOTSUPP);
    assert_int_equal(enabled, 0x28);
}

/* Interfaces that are no Ethernet adapters, and none at all: a reason, and
 * memory that is not there stays untouched. */
static void
every_interface_may_be_asked(void **state)
{
    static const char *const names[] = {
        "lo", "no-such-device", "",
        "a name that is longer than any interface can have"};
    gp_doctor_stats stats;
    uint8_t enabled = 0xa5;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(names); i++) {
        assert_int_not_equal(gp_doctor_pfc(names[i], &enabled), 0);
        assert_int_equal(enabled, 0xa5);
        if (gp_doctor_read_stats(names[i], &stats) != 0)
            assert_null(stats.list);
        free(stats.list);
    }
}

/* --- limits --- */

static void
put_limits(const char *memlock, const char *files, const char *capabilities)
{
    put("/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           "
        "Units\n"
        "Max open files            %s                files\n"
        "Max locked memory         %s                bytes",
        files, memlock);
    put("/proc/self/status", "Name:\tgradpush\nCapEff:\t%s", capabilities);
}

static void
memlock_is_weighed_against_the_job(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put_limits("65536 65536", "1048576 1048576", "0000000000000000");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_FAIL, "64 KiB (hard limit 64 KiB)",
           "limits.d/rdma.conf");
    put_limits("8388608 unlimited", "1048576 1048576", "0000000000000000");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_WARN, "8 MiB", "ulimit -l unlimited");
    put_limits("8388608 8388608", "1048576 1048576", "0000000000000000");
    put("/run/.containerenv", "%s", "");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_WARN, "8 MiB", "--ulimit memlock=-1");
    put_limits("unlimited unlimited", "1048576 1048576", "0000000000000000");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_OK, "unlimited", "");
}

static void
memlock_grows_with_the_job(void **state)
{
    int64_t before;

    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put_limits("unlimited unlimited", "1048576 1048576", "0");
    examine(gp_doctor_check_limits);
    before = number_of("memlock", "", "needed_bytes");
    assert_int_equal(gp_config_set(config, "size", "16"), GP_OK);
    examine(gp_doctor_check_limits);
    assert_int_equal(number_of("memlock", "", "peers"), 16);
    assert_int_equal(number_of("memlock", "", "needed_bytes"), 2 * before);
}

static void
capability_lifts_memlock_unless_it_is_of_a_namespace(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put_limits("65536 65536", "1048576 1048576", "0000000000004000");
    put("/proc/self/uid_map", "         0          0 4294967295");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_OK, "CAP_IPC_LOCK", "");
    put("/proc/self/uid_map", "         0     100000      65536");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_FAIL, "64 KiB", "limits.d");
}

static void
memlock_without_devices_is_no_matter(void **state)
{
    (void)state;
    put_limits("65536 65536", "256 1048576", "0");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_SKIP, "nothing is registered", "");
    expect("files", "", GP_CHECK_WARN, "256 open files", "ulimit -n 65536");
    put_limits("65536 65536", "256 256", "0");
    examine(gp_doctor_check_limits);
    expect("files", "", GP_CHECK_WARN, "256", "LimitNOFILE");
}

static void
unreadable_limits_are_skipped(void **state)
{
    (void)state;
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_SKIP, "cannot be read", "");
    put("/proc/self/limits", "Max locked memory   nonsense");
    examine(gp_doctor_check_limits);
    expect("memlock", "", GP_CHECK_SKIP, "cannot be read", "");
}

/* --- tcp, clock, host --- */

static void
small_sockets_are_seen(void **state)
{
    (void)state;
    put("/proc/sys/net/core/somaxconn", "128");
    put("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t212992");
    put("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304");
    examine(gp_doctor_check_tcp);
    expect("listen", "", GP_CHECK_OK, "IPv4", "");
    expect("somaxconn", "", GP_CHECK_WARN, "128", "sysctl");
    expect("buffers", "", GP_CHECK_WARN, "208 KiB", "tcp_rmem");
    put("/proc/sys/net/core/somaxconn", "4096");
    put("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456");
    examine(gp_doctor_check_tcp);
    expect("somaxconn", "", GP_CHECK_OK, "4096", "");
    expect("buffers", "", GP_CHECK_OK, "6144 KiB", "");
}

static int
unsynchronized(struct timex *t)
{
    t->status = STA_UNSYNC;
    return TIME_ERROR;
}

static int
forbidden(struct timex *t)
{
    (void)t;
    errno = EPERM;
    return -1;
}

static void
clocks_are_judged(void **state)
{
    static const char source[] =
        "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    (void)state;
    put(source, "tsc");
    examine(gp_doctor_check_clock);
    expect("source", "", GP_CHECK_OK, "tsc", "");
    expect("monotonic", "", GP_CHECK_OK, "forward", "");
    expect("sync", "", GP_CHECK_OK, "at most 1500 us", "");
    put(source, "acpi_pm");
    doctor.adjtime = unsynchronized;
    examine(gp_doctor_check_clock);
    expect("source", "", GP_CHECK_WARN, "acpi_pm", "tsc");
    expect("sync", "", GP_CHECK_WARN, "no time service", "chrony");
    doctor.adjtime = forbidden;
    examine(gp_doctor_check_clock);
    expect("sync", "", GP_CHECK_SKIP, "not permitted", "");
}

static void
processors_are_judged(void **state)
{
    (void)state;
    put_port("mlx5_0", 1, "InfiniBand", "", NIC);
    put(NIC "/numa_node", "1");
    put("/sys/devices/system/node/node0/cpulist", "0");
    put("/sys/devices/system/node/node1/cpulist", "1");
    put("/proc/sys/kernel/numa_balancing", "1");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave");
    put("/sys/fs/cgroup/cpu.max", "50000 100000");
    examine(gp_doctor_check_host);
    expect("container", "", GP_CHECK_OK, "none", "");
    expect("numa", "", GP_CHECK_WARN, "2 NUMA nodes; mlx5_0:1 at node 1",
           "numa_balancing=0");
    expect("governor", "", GP_CHECK_WARN, "powersave", "cpupower");
    expect("processors", "", GP_CHECK_WARN, "only 0.50", "quota");
    put("/proc/sys/kernel/numa_balancing", "0");
    put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance");
    put("/sys/fs/cgroup/cpu.max", "max 100000");
    examine(gp_doctor_check_host);
    expect("numa", "", GP_CHECK_OK, "2 NUMA nodes", "");
    expect("governor", "", GP_CHECK_OK, "performance", "");
    expect("processors", "", GP_CHECK_OK, "for this process", "");
}

/* --- results --- */

static void
verdict_is_the_worst(void **state)
{
    size_t counts[4];
    gp_check *c;

    (void)state;
    gp_check_set(gp_doctor_add(&doctor, "a", "skipped", NULL), GP_CHECK_SKIP,
                 "x");
    assert_int_equal(gp_doctor_verdict(&doctor, counts), GP_CHECK_OK);
    gp_check_set(gp_doctor_add(&doctor, "a", "warned", NULL), GP_CHECK_WARN,
                 "x");
    assert_int_equal(gp_doctor_verdict(&doctor, counts), GP_CHECK_WARN);
    gp_check_set(gp_doctor_add(&doctor, "a", "failed", NULL), GP_CHECK_FAIL,
                 "x");
    assert_int_equal(gp_doctor_verdict(&doctor, counts), GP_CHECK_FAIL);
    assert_int_equal(counts[GP_CHECK_SKIP], 1);
    c = gp_doctor_add(&doctor, "a", "many", NULL);
    for (int i = 0; i < 2 * GP_CHECK_VALUES; i++)
        gp_check_int(c, "value", i);
    assert_int_equal(c->value_count, GP_CHECK_VALUES);
}

/* Names from the machine are cut, not trusted: nothing runs over. */
static void
odd_files_do_no_harm(void **state)
{
    char name[256], path[512], text[4000];

    (void)state;
    memset(name, 'n', 200);
    name[200] = '\0';
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    put_port(name, 1, "Ethernet", "eth2", NULL);
    snprintf(path, sizeof(path), IB "/%s/ports/1/state", name);
    put(path, "%s", text);
    snprintf(path, sizeof(path), IB "/%s/ports/1/rate", name);
    put(path, "\033[2J\001");
    snprintf(path, sizeof(path), IB "/%s/ports/1/gids/7", name);
    put(path, "%s", text);
    put("/proc/self/cgroup", "%s", text);
    put("/proc/self/limits", "%s", text);
    for (size_t i = 0; gp_doctor_groups[i].name; i++)
        examine(gp_doctor_groups[i].run);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(no_rdma_is_no_fault),
        TEST(no_rdma_is_a_fault_for_who_wants_it),
        TEST(transport_verbs_is_what_wants_it),
        TEST(adapter_without_driver_is_named),
        TEST(healthy_device_is_ok),
        TEST(disabled_devices_are_told),
        TEST(modules_of_a_device_are_needed),
        TEST(closed_nodes_have_the_fix_of_the_place),
        TEST(devices_of_others_are_no_matter),
        TEST(cgroup_limit_is_found_above),
        TEST(counters_tell_faults_from_congestion),
        TEST(congestion_control_is_read_by_priority),
        TEST(lossless_priorities_are_asked_for),
        TEST(pauses_are_no_faults_and_discards_are),
        TEST(answers_about_pfc_are_read_with_care),
        TEST(every_interface_may_be_asked),
        TEST(memlock_is_weighed_against_the_job),
        TEST(memlock_grows_with_the_job),
        TEST(capability_lifts_memlock_unless_it_is_of_a_namespace),
        TEST(memlock_without_devices_is_no_matter),
        TEST(unreadable_limits_are_skipped),
        TEST(small_sockets_are_seen),
        TEST(clocks_are_judged),
        TEST(processors_are_judged),
        TEST(verdict_is_the_worst),
        TEST(odd_files_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
