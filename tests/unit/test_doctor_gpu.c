/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor_gpu.c - GPUDirect as `gradpush doctor` sees it: the way between
 * GPU and adapter, DMA-BUF, peermem, ACS, IOMMU, on machines made of files,
 * with a CUDA driver and a table of verbs that say what a test wants.
 */
#include "doctor_fixture.h"

#include <errno.h>

#ifdef GP_HAVE_VERBS
#include "transports/verbs/verbs_api.h"
#endif

/* A root port with a switch (01:00.0) below, and another root port. */
#define RC0    "/sys/devices/pci0000:00"
#define SWITCH RC0 "/0000:00:01.0/0000:01:00.0"
#define GPU    SWITCH "/0000:02:00.0/0000:03:00.0"
#define NEAR   SWITCH "/0000:02:01.0/0000:04:00.0"
#define DEEPER SWITCH "/0000:02:01.0/0000:05:00.0/0000:06:00.0/0000:07:00.0"
#define OTHER  RC0 "/0000:00:02.0/0000:08:00.0"
#define RC1    "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0"
#define FAR    "/sys/devices/pci0000:80/0000:80:01.0/0000:81:00.0"
#define DRIVER "/proc/driver/nvidia/version"
#define OPEN   "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65"

static void
put_pci(const char *folder, const char *vendor, const char *class)
{
    char path[256];
    const char *id = strrchr(folder, '/') + 1;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", id);
    put_link(path, folder);
    snprintf(path, sizeof(path), "%s/vendor", folder);
    put(path, "%s", vendor);
    snprintf(path, sizeof(path), "%s/class", folder);
    put(path, "%s", class);
}

static void
put_gpu(void)
{
    put_pci(GPU, "0x10de", "0x030200");
    put(DRIVER, "%s", OPEN);
    put("/proc/sys/kernel/osrelease", "6.8.0-52-generic");
}

/* --- the way --- */

static void
distances_have_their_names(void **state)
{
    (void)state;
    put(RC1 "/numa_node", "0");
    put(FAR "/numa_node", "1");
    put(GPU "/numa_node", "0");
    assert_int_equal(gp_doctor_distance(&doctor, GPU, NEAR), GP_PCI_PIX);
    assert_int_equal(gp_doctor_distance(&doctor, GPU, DEEPER), GP_PCI_PXB);
    assert_int_equal(gp_doctor_distance(&doctor, GPU, OTHER), GP_PCI_PHB);
    assert_int_equal(gp_doctor_distance(&doctor, GPU, RC1), GP_PCI_NODE);
    assert_int_equal(gp_doctor_distance(&doctor, GPU, FAR), GP_PCI_SYS);
    assert_string_equal(gp_pci_distance_name(GP_PCI_PXB), "PXB");
    /* A machine that does not tell nodes has no common one. */
    assert_int_equal(gp_doctor_distance(&doctor, OTHER, "/sys/devices/x"),
                     GP_PCI_SYS);
}

static void
distance_is_the_same_from_both_ends(void **state)
{
    static const char *const places[] = {GPU, NEAR, DEEPER, OTHER, RC1, FAR};

    (void)state;
    for (size_t a = 0; a < GP_COUNT_OF(places); a++)
        for (size_t b = 0; b < GP_COUNT_OF(places); b++)
            assert_int_equal(gp_doctor_distance(&doctor, places[a], places[b]),
                             gp_doctor_distance(&doctor, places[b], places[a]));
}

static void
nearest_adapter_decides(void **state)
{
    (void)state;
    put_gpu();
    examine(gp_doctor_check_gpu);
    expect("distance", "GPU0", GP_CHECK_SKIP, "no RDMA adapter", "");
    put_port("mlx5_0", 1, "InfiniBand", "", OTHER);
    examine(gp_doctor_check_gpu);
    expect("distance", "GPU0", GP_CHECK_WARN, "mlx5_0:1 PHB", "PCIe switch");
    put_port("mlx5_1", 1, "InfiniBand", "", NEAR);
    examine(gp_doctor_check_gpu);
    expect("distance", "GPU0", GP_CHECK_OK, "mlx5_0:1 PHB, mlx5_1:1 PIX", "");
}

/* --- driver, memory window, peermem --- */

static void
no_gpu_is_no_fault(void **state)
{
    (void)state;
    put_pci(OTHER, "0x10de", "0x020000"); /* its maker makes adapters too */
    examine(gp_doctor_check_gpu);
    expect("devices", "", GP_CHECK_SKIP, "no NVIDIA GPU", "");
    assert_null(find("driver", ""));
}

static void
driver_has_to_be_loaded(void **state)
{
    (void)state;
    put_pci(GPU, "0x10de", "0x030200");
    examine(gp_doctor_check_gpu);
    expect("driver", "", GP_CHECK_FAIL, "not loaded", "modprobe nvidia");
    put("/.dockerenv", "%s", "");
    examine(gp_doctor_check_gpu);
    expect("driver", "", GP_CHECK_FAIL, "not loaded", "--gpus all");
    put(DRIVER, "%s", OPEN);
    examine(gp_doctor_check_gpu);
    expect("driver", "", GP_CHECK_OK, "580.65", "");
}

static void
small_window_is_seen(void **state)
{
    (void)state;
    put_gpu();
    put(GPU "/resource",
        "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
        "0x00000000e0000000 0x00000000efffffff 0x000000000014220c");
    examine(gp_doctor_check_gpu);
    expect("bar1", "GPU0", GP_CHECK_WARN, "256 MiB", "resizable BAR");
    put(GPU "/resource",
        "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
        "0x0000022000000000 0x0000023fffffffff 0x000000000014220c");
    examine(gp_doctor_check_gpu);
    expect("bar1", "GPU0", GP_CHECK_OK, "131072 MiB", "");
    /* Hopper: the first one takes two lines. */
    put(GPU "/resource",
        "0x000038c002000000 0x000038c002ffffff 0x000000000014220c\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x000038a000000000 0x000038bfffffffff 0x000000000014220c\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x000038c000000000 0x000038c001ffffff 0x000000000014220c");
    examine(gp_doctor_check_gpu);
    expect("bar1", "GPU0", GP_CHECK_OK, "131072 MiB", "");
    put(GPU "/resource",
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
        "0x0000000000000000 0xffffffffffffffff 0x0000000000000000");
    examine(gp_doctor_check_gpu);
    expect("bar1", "GPU0", GP_CHECK_SKIP, "does not tell", "");
}

static void
peermem_is_found_by_any_of_its_files(void **state)
{
    (void)state;
    put_gpu();
    examine(gp_doctor_check_gpu);
    expect("peermem", "", GP_CHECK_SKIP, "not loaded",
           "modprobe nvidia-peermem");
    put("/sys/module/nvidia_peermem/version", "580.65.06");
    examine(gp_doctor_check_gpu);
    expect("peermem", "", GP_CHECK_OK, "580.65.06", "");
}

/* --- the CUDA driver --- */

#if defined(GP_HAVE_CUDA) && defined(GP_HAVE_VERBS)

#include "device/device_cuda.h"

static int cuda_dmabuf, cuda_init_result;

static int
cuda_init(unsigned flags)
{
    (void)flags;
    return cuda_init_result;
}

static int
cuda_version(int *out)
{
    *out = 13000;
    return 0;
}

static int
cuda_count(int *out)
{
    *out = 1;
    return 0;
}

static int
cuda_get(int *out, int index)
{
    *out = index;
    return 0;
}

static int
cuda_name(char *out, int capacity, int device)
{
    (void)device;
    snprintf(out, (size_t)capacity, "NVIDIA Test");
    return 0;
}

static int
cuda_bus_id(char *out, int capacity, int device)
{
    (void)device;
    snprintf(out, (size_t)capacity, "00000000:03:00.0");
    return 0;
}

static int
cuda_attribute(int *out, int which, int device)
{
    (void)device;
    *out = which == 124 ? cuda_dmabuf : which == 118 ? 200 : 1;
    return 0;
}

static void *
resolve(const char *symbol)
{
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {
        {"cuInit", (void (*)(void))cuda_init},
        {"cuDriverGetVersion", (void (*)(void))cuda_version},
        {"cuDeviceGetCount", (void (*)(void))cuda_count},
        {"cuDeviceGet", (void (*)(void))cuda_get},
        {"cuDeviceGetName", (void (*)(void))cuda_name},
        {"cuDeviceGetPCIBusId", (void (*)(void))cuda_bus_id},
        {"cuDeviceGetAttribute", (void (*)(void))cuda_attribute},
    };
    void *out = NULL;

    for (size_t i = 0; i < GP_COUNT_OF(calls); i++)
        if (!strncmp(symbol, calls[i].name, strlen(calls[i].name)) &&
            (symbol[strlen(calls[i].name)] == '\0' ||
             symbol[strlen(calls[i].name)] == '_'))
            memcpy(&out, &calls[i].call, sizeof(out));
    return out;
}

/* --- a table with one device --- */

static struct ibv_device fake_device;
static struct ibv_context fake_context = {.device = &fake_device};
static struct ibv_pd fake_pd;
static int dmabuf_errno, opened;
static enum ibv_mtu active_mtu;

static struct ibv_device **
list_devices(int *count)
{
    static struct ibv_device *list[] = {&fake_device, NULL};

    *count = 1;
    return list;
}

static void
free_list(struct ibv_device **list)
{
    (void)list;
}

static const char *
name_of(struct ibv_device *device)
{
    (void)device;
    return "mlx5_0";
}

static struct ibv_context *
open_device(struct ibv_device *device)
{
    (void)device;
    opened++;
    return &fake_context;
}

static int
close_device(struct ibv_context *context)
{
    (void)context;
    opened--;
    return 0;
}

static int
query_port(struct ibv_context *context, uint8_t port,
           struct ibv_port_attr *attr)
{
    (void)context;
    (void)port;
    attr->active_mtu = active_mtu;
    attr->max_mtu = IBV_MTU_4096;
    return 0;
}

static int
query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    (void)context;
    attr->max_qp = 131072;
    return 0;
}

static int
query_gid(struct ibv_context *context, uint8_t port, int index,
          union ibv_gid *gid)
{
    (void)context;
    (void)port;
    (void)index;
    *gid = (union ibv_gid){.raw = {0}};
    return 0;
}

static struct ibv_pd *
alloc_pd(struct ibv_context *context)
{
    (void)context;
    opened++;
    return &fake_pd;
}

static int
dealloc_pd(struct ibv_pd *pd)
{
    (void)pd;
    opened--;
    return 0;
}

static struct ibv_mr *
reg_dmabuf(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova,
           int fd, int access)
{
    (void)pd;
    (void)offset;
    (void)length;
    (void)iova;
    (void)access;
    assert_int_equal(fd, -1);
    errno = dmabuf_errno;
    return NULL;
}

static const gp_verbs_api table = {.source = "test",
                                   .get_device_list = list_devices,
                                   .free_device_list = free_list,
                                   .get_device_name = name_of,
                                   .open_device = open_device,
                                   .close_device = close_device,
                                   .query_port = query_port,
                                   .query_device = query_device,
                                   .query_gid = query_gid,
                                   .alloc_pd = alloc_pd,
                                   .dealloc_pd = dealloc_pd,
                                   .reg_dmabuf_mr = reg_dmabuf};

static void
use_everything(void)
{
    put_gpu();
    put_port("mlx5_0", 1, "InfiniBand", "", NEAR);
    doctor.api = &table;
    doctor.cuda = true;
    gp_cuda_resolve = resolve;
    cuda_init_result = 0;
    cuda_dmabuf = 1;
    dmabuf_errno = EBADF;
    active_mtu = IBV_MTU_4096;
}

static void
dmabuf_needs_kernel_driver_and_adapter(void **state)
{
    (void)state;
    use_everything();
    examine(gp_doctor_check_gpu);
    expect("dmabuf", "", GP_CHECK_OK, "kernel 6.8", "");
    expect("gpudirect", "", GP_CHECK_OK, "by DMA-BUF", "");
    expect("ordering", "GPU0", GP_CHECK_OK, "all devices", "");
    assert_string_equal(doctor.gpus[0].name, "NVIDIA Test");
    put("/proc/sys/kernel/osrelease", "5.4.0");
    examine(gp_doctor_check_gpu);
    expect("dmabuf", "", GP_CHECK_WARN, "5.12", "later kernel");
    put("/proc/sys/kernel/osrelease", "6.8.0");
    cuda_dmabuf = 0;
    examine(gp_doctor_check_gpu);
    expect("dmabuf", "", GP_CHECK_WARN, "GPU0", "11.7");
    cuda_dmabuf = 1;
    dmabuf_errno = EOPNOTSUPP;
    examine(gp_doctor_check_gpu);
    expect("dmabuf", "", GP_CHECK_WARN, "mlx5_0 is refused", "mlx5, efa");
    expect("gpudirect", "", GP_CHECK_WARN, "through host memory",
           "gpu.peermem");
    assert_int_equal(opened, 0);
}

/* A container was given one of two. */
static void
gpus_of_others_are_no_matter(void **state)
{
    (void)state;
    use_everything();
    put_pci("/sys/devices/pci0000:80/0000:81:00.0", "0x10de", "0x030200");
    examine(gp_doctor_check_gpu);
    assert_int_equal(doctor.gpu_count, 2);
    expect("dmabuf", "", GP_CHECK_OK, "kernel 6.8", "");
    expect("gpudirect", "", GP_CHECK_OK, "by DMA-BUF", "");
    expect("shown", "GPU1", GP_CHECK_SKIP, "CUDA_VISIBLE_DEVICES", "");
    assert_null(find("distance", "GPU1"));
    assert_non_null(find("distance", "GPU0"));
    cuda_init_result = 803;
    examine(gp_doctor_check_gpu);
    expect("dmabuf", "", GP_CHECK_WARN, "no CUDA driver to ask", "");
    assert_non_null(find("distance", "GPU1"));
    doctor.cuda_reason[0] = '\0';
}

static void
peermem_is_the_second_rung(void **state)
{
    (void)state;
    use_everything();
    dmabuf_errno = EOPNOTSUPP;
    put("/sys/kernel/mm/memory_peers/nv_mem/version", "1.3");
    examine(gp_doctor_check_gpu);
    expect("gpudirect", "", GP_CHECK_OK, "nvidia-peermem", "");
}

static void
driver_that_does_not_start_is_a_fault(void **state)
{
    (void)state;
    use_everything();
    cuda_init_result = 803;
    examine(gp_doctor_check_gpu);
    expect("driver", "", GP_CHECK_FAIL, "does not start", "nvidia-smi");
    doctor.cuda_reason[0] = '\0';
}

static void
packet_size_is_asked_of_the_device(void **state)
{
    (void)state;
    use_everything();
    put_port("mlx5_0", 2, "Ethernet", "eth2", NULL);
    put("/sys/class/net/eth2/mtu", "1500");
    examine(gp_doctor_check_ports);
    expect("mtu", "mlx5_0:1", GP_CHECK_OK, "active 4096 of 4096", "");
    active_mtu = IBV_MTU_1024;
    examine(gp_doctor_check_ports);
    expect("mtu", "mlx5_0:1", GP_CHECK_WARN, "active 1024", "partitions.conf");
    expect("mtu", "mlx5_0:2", GP_CHECK_WARN, "interface 1500",
           "ip link set dev eth2 mtu 9000");
    assert_int_equal(number_of("mtu", "mlx5_0:1", "max_qp"), 131072);
    /* The device itself says that the port is in no state to be used. */
    expect("choice", "", GP_CHECK_FAIL, "mlx5_0", "GRADPUSH_IB_HCA");
    assert_int_equal(opened, 0);
}

static void
device_unknown_to_the_library_is_named(void **state)
{
    (void)state;
    use_everything();
    examine(gp_doctor_check_rdma);
    expect("providers", "", GP_CHECK_OK, "every device", "");
    put_port("bnxt_re0", 1, "Ethernet", "eth3", OTHER);
    examine(gp_doctor_check_rdma);
    expect("providers", "", GP_CHECK_FAIL, "the kernel has bnxt_re0",
           "ibverbs-providers");
}

#endif

/* --- ACS and IOMMU --- */

/* A bridge's configuration: an extended capability of another kind, then ACS
 * with this control word. */
static void
put_config(const char *folder, unsigned control, size_t length)
{
    uint8_t bytes[4096] = {0};
    char path[256];

    bytes[0x100] = 0x01; /* error reporting, next at 0x148 */
    bytes[0x102] = 0x81;
    bytes[0x103] = 0x14;
    bytes[0x148] = 0x0d;
    bytes[0x14a] = 0x01;
    bytes[0x14e] = (uint8_t)control;
    snprintf(path, sizeof(path), "%s/config", folder);
    put_bytes(path, bytes, length);
}

static void
acs_redirection_is_found(void **state)
{
    static const char bridge[] = RC0 "/0000:00:01.0";

    (void)state;
    put_gpu();
    put_pci(bridge, "0x8086", "0x060400");
    put_config(bridge, 0x1d, 4096);
    examine(gp_doctor_check_gpu);
    expect("acs", "", GP_CHECK_WARN, "1 of 1 bridges: 0000:00:01.0",
           "setpci -s $b ECAP_ACS+0x6.w=0000");
    put_config(bridge, 0x01, 4096); /* source validation alone is harmless */
    examine(gp_doctor_check_gpu);
    expect("acs", "", GP_CHECK_OK, "no bridge of 1", "");
    put_config(bridge, 0x1d, 64); /* what others than root can read */
    examine(gp_doctor_check_gpu);
    expect("acs", "", GP_CHECK_SKIP, "only be read by root", "sudo");
}

/* A chain of capabilities that bites its tail has an end. */
static void
damaged_configuration_does_no_harm(void **state)
{
    static const char bridge[] = RC0 "/0000:00:01.0";
    uint8_t bytes[4096] = {0};

    (void)state;
    put_gpu();
    put_pci(bridge, "0x8086", "0x060400");
    bytes[0x100] = 0x01;
    bytes[0x103] = 0x10;
    put_bytes(RC0 "/0000:00:01.0/config", bytes, sizeof(bytes));
    examine(gp_doctor_check_gpu);
    expect("acs", "", GP_CHECK_OK, "no bridge", "");
    bytes[0x103] = 0xff;
    bytes[0x102] = 0xf0;
    put_bytes(RC0 "/0000:00:01.0/config", bytes, sizeof(bytes));
    examine(gp_doctor_check_gpu);
    expect("acs", "", GP_CHECK_OK, "no bridge", "");
}

static void
iommu_that_translates_is_seen(void **state)
{
    (void)state;
    put_gpu();
    examine(gp_doctor_check_gpu);
    expect("iommu", "", GP_CHECK_OK, "off", "");
    put_link(GPU "/iommu_group", "/sys/kernel/iommu_groups/7");
    put("/sys/kernel/iommu_groups/7/type", "identity");
    examine(gp_doctor_check_gpu);
    expect("iommu", "", GP_CHECK_OK, "passing", "");
    put("/sys/kernel/iommu_groups/7/type", "DMA-FQ");
    examine(gp_doctor_check_gpu);
    expect("iommu", "", GP_CHECK_WARN, "GPU0", "iommu=pt");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(distances_have_their_names),
        TEST(distance_is_the_same_from_both_ends),
        TEST(nearest_adapter_decides),
        TEST(no_gpu_is_no_fault),
        TEST(driver_has_to_be_loaded),
        TEST(small_window_is_seen),
        TEST(peermem_is_found_by_any_of_its_files),
#if defined(GP_HAVE_CUDA) && defined(GP_HAVE_VERBS)
        TEST(dmabuf_needs_kernel_driver_and_adapter),
        TEST(gpus_of_others_are_no_matter),
        TEST(peermem_is_the_second_rung),
        TEST(driver_that_does_not_start_is_a_fault),
        TEST(packet_size_is_asked_of_the_device),
        TEST(device_unknown_to_the_library_is_named),
#endif
        TEST(acs_redirection_is_found),
        TEST(damaged_configuration_does_no_harm),
        TEST(iommu_that_translates_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
