/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_gpu.c - whether an RDMA adapter can reach a GPU's memory itself, by
 * which way, and if not, what is missing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "direct.h"
#include "doctor.h"
#include "transports/verbs/verbs_probe.h"

#define GROUP "gpu"

/* "Open" kernel modules name themselves so; the first number with two dots, or
 * one, is the version. */
static void
check_driver(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "driver", "");
    char line[256];
    bool open_module;

    if (!gp_doctor_line(doctor, line, sizeof(line),
                        "/proc/driver/nvidia/version")) {
        gp_check_set(c, GP_CHECK_FAIL,
                     "the NVIDIA kernel module is not loaded");
        gp_check_fix(c, "%s",
                     gp_doctor_container(doctor)
                         ? "start the container with --gpus all and the NVIDIA "
                           "container toolkit"
                         : "modprobe nvidia; dmesg | tail");
        return;
    }
    open_module = strstr(line, "Open Kernel Module") != NULL;
    gp_check_text(c, "module", open_module ? "open" : "closed");
    if (doctor->cuda_driver)
        gp_check_int(c, "cuda", doctor->cuda_driver);
    gp_check_set(c, GP_CHECK_OK, "%.300s", line);
    if (*doctor->cuda_reason) {
        gp_check_set(c, GP_CHECK_FAIL, "the kernel module is there, but %s",
                     doctor->cuda_reason);
        gp_check_fix(c, "nvidia-smi; the versions of libcuda and of the kernel "
                        "module must be the same");
    }
}

/* The second window is where an adapter sees the GPU's memory: BAR1, or, where
 * the first one has 64 bits and takes two (Hopper and later), BAR2. */
static int64_t
bar1_bytes(const gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    unsigned long long start, end;
    char text[1024], *line;

    if (gp_doctor_load(doctor, text, sizeof(text), "%s/resource", gpu->pci) < 0)
        return -1;
    line = text;
    for (int bar = 1; bar <= 2; bar++) {
        line = strchr(line, '\n');
        if (!line || sscanf(++line, "%llx %llx", &start, &end) != 2)
            return -1;
        if (end > start && end - start < INT64_MAX)
            return (int64_t)(end - start + 1);
    }
    return -1;
}

static void
check_bar(gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "bar1", gpu->label);
    int64_t bytes = bar1_bytes(doctor, gpu);

    if (bytes < 0) {
        gp_check_set(c, GP_CHECK_SKIP, "%s/resource does not tell", gpu->pci);
        return;
    }
    gp_check_int(c, "bytes", bytes);
    gp_check_text(c, "name", gpu->name);
    gp_check_text(c, "bus_id", gpu->bus_id);
    gp_check_set(c, bytes <= 256 << 20 ? GP_CHECK_WARN : GP_CHECK_OK,
                 "%" PRId64 " MiB of its memory can be registered at a time",
                 bytes >> 20);
    if (bytes <= 256 << 20)
        gp_check_fix(c, "enable \"above 4G decoding\" and \"resizable BAR\" in "
                        "the BIOS; consumer GPUs stay at 256 MiB");
}

/* --- the way --- */

static void
check_distance(gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "distance", gpu->label);
    gp_pci_distance best = GP_PCI_SYS;
    char text[384] = "";
    bool any = false;

    for (size_t i = 0; i < doctor->port_count; i++) {
        const gp_doctor_port *p = &doctor->ports[i];
        gp_pci_distance d;

        if (p->software || p->absent)
            continue;
        d = gp_doctor_distance(doctor, gpu->pci, p->pci);
        best = any ? GP_MIN(best, d) : d;
        gp_doctor_append(text, sizeof(text), "%s%s %s", any ? ", " : "",
                         p->label, gp_pci_distance_name(d));
        gp_check_text(c, p->label, gp_pci_distance_name(d));
        any = true;
    }
    if (!any) {
        gp_check_set(c, GP_CHECK_SKIP, "no RDMA adapter on the PCI bus");
        return;
    }
    gp_check_text(c, "bus_id", gpu->bus_id);
    gp_check_text(c, "nearest", gp_pci_distance_name(best));
    if (best <= GP_PCI_PXB) {
        gp_check_set(c, GP_CHECK_OK, "%s: near enough for GPUDirect", text);
        return;
    }
    gp_check_set(c, GP_CHECK_WARN,
                 "%s: every way leads through a processor, where GPUDirect is "
                 "slow; gradients go through host memory",
                 text);
    gp_check_fix(c, "put GPU and adapter behind one PCIe switch; in a virtual "
                    "machine pass the topology on");
}

static void
check_peermem(gp_doctor *doctor)
{
    static const char *const files[] = {
        "/sys/kernel/mm/memory_peers/nv_mem/version",
        "/sys/kernel/mm/memory_peers/nv_mem_nc/version",
        "/sys/module/nvidia_peermem/version",
        "/sys/module/nv_peer_mem/version"};
    gp_check *c = gp_doctor_add(doctor, GROUP, "peermem", "");
    char version[64];

    for (size_t i = 0; i < GP_COUNT_OF(files); i++) {
        if (!gp_doctor_line(doctor, version, sizeof(version), "%s", files[i]))
            continue;
        gp_check_text(c, "file", files[i]);
        gp_check_text(c, "version", version);
        gp_check_set(c, GP_CHECK_OK, "nvidia-peermem %s is loaded (%s)",
                     version, files[i]);
        return;
    }
    gp_check_set(
        c, GP_CHECK_SKIP,
        "nvidia-peermem is not loaded: not needed where DMA-BUF works");
    gp_check_fix(c, "modprobe nvidia-peermem   # needs an RDMA stack with "
                    "peer-memory clients: DOCA-OFED, or a kernel with them");
}

/* --- DMA-BUF --- */

static bool
kernel_at_least(const gp_doctor *doctor, int major, int minor, char *release,
                size_t capacity)
{
    int a = 0, b = 0;

    gp_doctor_line(doctor, release, capacity, "/proc/sys/kernel/osrelease");
    if (sscanf(release, "%d.%d", &a, &b) != 2)
        return false;
    return a > major || (a == major && b >= minor);
}

/* A container may be given some of the machine's GPUs, and a process shown some
 * by CUDA_VISIBLE_DEVICES: the others do not concern it. */
static bool
concerns(const gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    for (size_t i = 0; i < doctor->gpu_count; i++)
        if (doctor->gpus[i].cuda)
            return gpu->cuda;
    return true;
}

/* Any GPU whose driver denies it, or none to ask. */
static bool
gpu_has_dmabuf(const gp_doctor *doctor, char *why, size_t capacity)
{
    for (size_t i = 0; i < doctor->gpu_count; i++) {
        const gp_doctor_gpu *g = &doctor->gpus[i];

        if (g->dmabuf == 1 || !concerns(doctor, g))
            continue;
        snprintf(why, capacity,
                 g->dmabuf == 0 ? "the driver does not export %s's memory as "
                                  "DMA-BUF"
                                : "no CUDA driver to ask about %s",
                 g->label);
        return false;
    }
    return true;
}

static bool
adapter_has_dmabuf(const gp_doctor *doctor, char *why, size_t capacity)
{
    const char *last = "";
    bool any = false;

    if (!doctor->api) {
        snprintf(why, capacity, "no libibverbs to ask");
        return false;
    }
    for (size_t i = 0; i < doctor->port_count; i++) {
        const gp_doctor_port *p = &doctor->ports[i];

        if (!strcmp(last, p->device) || p->absent)
            continue;
        last = p->device;
        any = true;
        if (gp_verbs_probe_dmabuf(doctor->api, p->device) != GP_OK) {
            snprintf(why, capacity, "%s", gp_last_error());
            return false;
        }
    }
    if (!any)
        snprintf(why, capacity, "no RDMA device to register with");
    return any;
}

static bool
check_dmabuf(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "dmabuf", "");
    char release[96], why[400] = "", line[256];

    gp_doctor_line(doctor, line, sizeof(line), "/proc/driver/nvidia/version");
    gp_check_set(c, GP_CHECK_WARN, "%s", "");
    if (!kernel_at_least(doctor, 5, 12, release, sizeof(release))) {
        gp_check_set(c, GP_CHECK_WARN,
                     "kernel %s: DMA-BUF for RDMA came with "
                     "5.12",
                     release);
        gp_check_fix(c, "use a later kernel, or nvidia-peermem");
    } else if (!gpu_has_dmabuf(doctor, why, sizeof(why))) {
        gp_check_set(c, GP_CHECK_WARN, "%s", why);
        gp_check_fix(c, "%s",
                     strstr(line, "Open Kernel Module")
                         ? "update the driver and CUDA to 11.7 or later"
                         : "install the open kernel modules (nvidia-open) with "
                           "CUDA 11.7 or later");
    } else if (!adapter_has_dmabuf(doctor, why, sizeof(why))) {
        gp_check_set(c, GP_CHECK_WARN, "%s", why);
        gp_check_fix(c, "use an adapter whose driver has it (mlx5, efa, irdma, "
                        "bnxt_re) with rdma-core 34 or later, or "
                        "nvidia-peermem");
    } else {
        gp_check_set(c, GP_CHECK_OK,
                     "kernel %s, GPU driver and every adapter "
                     "can",
                     release);
    }
    gp_check_text(c, "kernel", release);
    if (c->status == GP_CHECK_WARN && !doctor->device_count)
        c->status = GP_CHECK_SKIP;
    return c->status == GP_CHECK_OK;
}

static void
check_rung(gp_doctor *doctor, bool dmabuf)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "gpudirect", "");
    const gp_check *peermem = NULL;

    for (const gp_check *o = doctor->first; o; o = o->next)
        if (!strcmp(o->group, GROUP) && !strcmp(o->name, "peermem"))
            peermem = o;
    if (!doctor->device_count) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "no RDMA device; gradients of GPUs go "
                     "through host memory");
    } else if (dmabuf) {
        gp_check_set(c, GP_CHECK_OK, "by DMA-BUF");
        gp_check_text(c, "rung", "dmabuf");
    } else if (peermem && peermem->status == GP_CHECK_OK) {
        gp_check_set(c, GP_CHECK_OK, "by nvidia-peermem");
        gp_check_text(c, "rung", "peermem");
    } else {
        gp_check_set(c, GP_CHECK_WARN,
                     "neither DMA-BUF nor nvidia-peermem: "
                     "gradients of GPUs are copied through host memory");
        gp_check_text(c, "rung", "staging");
        gp_check_fix(c, "the fix of gpu.dmabuf, or else that of gpu.peermem");
    }
}

/* What a worker would find: memory is registered, written to and compared. */
static void
check_trial(gp_doctor *doctor, size_t index)
{
    gp_check *c =
        gp_doctor_add(doctor, GROUP, "trial", doctor->gpus[index].label);
    gp_direct_pair pairs[GP_DIRECT_PAIRS];
    char text[2 * GP_DIRECT_TEXT] = "";
    bool staged = false;
    size_t count = 0;

    if (gp_direct_try(doctor->config, doctor->gpus[index].ordinal, pairs,
                      GP_DIRECT_PAIRS, &count) != GP_OK) {
        gp_check_set(c, GP_CHECK_FAIL, "%.500s", gp_last_error());
        gp_check_fix(c, "the fixes of gpu.dmabuf and gpu.peermem, or without "
                        "GRADPUSH_GDR_DMABUF and GRADPUSH_GDR_PEERMEM");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        gp_doctor_append(text, sizeof(text), "%s%s", i ? ". " : "",
                         pairs[i].text);
        gp_check_text(c, "way", gp_direct_name(pairs[i].way));
        staged |= pairs[i].way == GP_DIRECT_STAGING;
    }
    gp_check_set(c, staged ? GP_CHECK_WARN : GP_CHECK_OK, "%.500s", text);
    if (staged)
        gp_check_fix(c, "the fix of gpu.dmabuf, or else that of gpu.peermem; "
                        "gpu.acs and gpu.iommu where a write fails");
}

static void
check_ordering(gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "ordering", gpu->label);
    const char *name = gpu->ordering >= 200   ? "all devices"
                       : gpu->ordering >= 100 ? "owner"
                                              : "none";

    if (!gpu->cuda || gpu->ordering < 0) {
        gp_check_set(c, GP_CHECK_SKIP, "no CUDA driver to ask");
        return;
    }
    gp_check_int(c, "writes_ordering", gpu->ordering);
    gp_check_int(c, "flush_options", gpu->flush);
    gp_check_int(c, "gpudirect_rdma", gpu->gdr);
    gp_check_int(c, "dmabuf", gpu->dmabuf);
    gp_check_set(c, GP_CHECK_OK, "order of writes from adapters: %s%s", name,
                 gpu->ordering < 100 ? ": each arrival needs a flush" : "");
    if (gpu->gdr == 0) {
        gp_check_set(c, GP_CHECK_WARN,
                     "the driver has no GPUDirect RDMA for "
                     "this GPU");
        gp_check_fix(c, "data-centre and workstation GPUs have it; update the "
                        "driver if this is one");
    }
}

/* --- ACS and IOMMU --- */

#define ACS_ID         0x000d
#define ACS_P2P_REDIR  0x0004u
#define ACS_CMPL_REDIR 0x0008u

static unsigned
word_at(const uint8_t *config, size_t at)
{
    return config[at] | (unsigned)config[at + 1] << 8;
}

/* The ACS control word of a bridge; -1: it has none, -2: it cannot be read. */
static int
acs_control(const gp_doctor *doctor, const char *bus_id)
{
    uint8_t config[4097];
    long length = gp_doctor_load(doctor, config, sizeof(config),
                                 "/sys/bus/pci/devices/%s/config", bus_id);
    size_t at = 0x100;

    if (length < 0x104)
        return -2;
    for (int hops = 0; at && hops < 64; hops++) {
        if (at + 8 > (size_t)length)
            return -1;
        if (word_at(config, at) == ACS_ID)
            return (int)word_at(config, at + 6);
        at = word_at(config, at + 2) >> 4;
        if (at < 0x100)
            break;
    }
    return -1;
}

static void
check_acs(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "acs", "");
    char on[256] = "", first[64] = "";
    unsigned bridges = 0, redirecting = 0, hidden = 0;
    gp_doctor_names names;

    gp_doctor_list(doctor, &names, "/sys/bus/pci/devices");
    for (int i = 0; i < names.count; i++) {
        const char *id = names.list[i]->d_name;
        int64_t kind = 0;
        int control;

        gp_doctor_number(doctor, &kind, "/sys/bus/pci/devices/%s/class", id);
        if (kind >> 8 != 0x0604)
            continue;
        bridges++;
        control = acs_control(doctor, id);
        hidden += control == -2;
        if (control < 0 || !(control & (ACS_P2P_REDIR | ACS_CMPL_REDIR)))
            continue;
        if (!redirecting++)
            snprintf(first, sizeof(first), "%.63s", id);
        gp_doctor_append(on, sizeof(on), " %s", id);
    }
    gp_doctor_list_free(&names);
    gp_check_int(c, "bridges", bridges);
    gp_check_int(c, "redirecting", redirecting);
    gp_check_int(c, "unreadable", hidden);
    if (redirecting) {
        gp_check_set(c, GP_CHECK_WARN,
                     "ACS sends traffic between devices through the root "
                     "complex at %u of %u bridges:%s",
                     redirecting, bridges, on);
        gp_check_fix(c,
                     "for b in%s; do sudo setpci -s $b ECAP_ACS+0x6.w=0000;"
                     " done   # or switch ACS off in the BIOS; not while "
                     "devices are passed to virtual machines",
                     on);
    } else if (hidden) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "the configuration of %u bridges can "
                     "only be read by root",
                     hidden);
        gp_check_fix(c, "sudo gradpush doctor --only gpu");
    } else {
        gp_check_set(c, GP_CHECK_OK, "no bridge of %u redirects", bridges);
    }
}

/* What the IOMMU does with a PCI device: "identity", "DMA", "DMA-FQ", "". */
static void
iommu_type(const gp_doctor *doctor, const char *pci, char *out, size_t capacity)
{
    char group[PATH_MAX];

    out[0] = '\0';
    if (*pci && gp_doctor_resolve(doctor, group, "%s/iommu_group", pci))
        gp_doctor_line(doctor, out, capacity, "%s/type", group);
}

static void
check_iommu(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "iommu", "");
    char type[32], text[256] = "";

    for (size_t i = 0; i < doctor->gpu_count; i++) {
        if (!concerns(doctor, &doctor->gpus[i]))
            continue;
        iommu_type(doctor, doctor->gpus[i].pci, type, sizeof(type));
        if (!strncmp(type, "DMA", 3))
            gp_doctor_append(text, sizeof(text), " %s", doctor->gpus[i].label);
    }
    for (size_t i = 0; i < doctor->port_count; i++) {
        if (doctor->ports[i].absent)
            continue;
        iommu_type(doctor, doctor->ports[i].pci, type, sizeof(type));
        if (!strncmp(type, "DMA", 3))
            gp_doctor_append(text, sizeof(text), " %s", doctor->ports[i].label);
    }
    if (!*text) {
        gp_check_set(c, GP_CHECK_OK, "off, or passing addresses through");
        return;
    }
    gp_check_text(c, "translated", text + 1);
    gp_check_set(c, GP_CHECK_WARN,
                 "translates the addresses of%s: peers reach "
                 "each other slowly or not at all",
                 text);
    gp_check_fix(c, "add iommu=pt to the kernel's command line "
                    "(GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub) "
                    "and reboot");
}

static void
not_shown(gp_doctor *doctor, const gp_doctor_gpu *gpu)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "shown", gpu->label);

    gp_check_text(c, "bus_id", gpu->bus_id);
    gp_check_set(c, GP_CHECK_SKIP,
                 "CUDA does not show %s to this process: it is not given to "
                 "this container, or left out by CUDA_VISIBLE_DEVICES",
                 gpu->bus_id);
}

void
gp_doctor_check_gpu(gp_doctor *doctor)
{
    bool dmabuf;

    if (!doctor->gpu_count) {
        gp_check_set(gp_doctor_add(doctor, GROUP, "devices", ""), GP_CHECK_SKIP,
                     "no NVIDIA GPU on the PCI bus");
        return;
    }
    gp_check_set(gp_doctor_add(doctor, GROUP, "devices", ""), GP_CHECK_OK,
                 "%zu NVIDIA GPU%s%s%s", doctor->gpu_count,
                 doctor->gpu_count == 1 ? "" : "s",
                 *doctor->gpus[0].name ? ": " : "", doctor->gpus[0].name);
    check_driver(doctor);
    for (size_t i = 0; i < doctor->gpu_count; i++) {
        const gp_doctor_gpu *gpu = &doctor->gpus[i];

        if (!concerns(doctor, gpu)) {
            not_shown(doctor, gpu);
            continue;
        }
        check_bar(doctor, gpu);
        check_ordering(doctor, gpu);
        check_distance(doctor, gpu);
    }
    check_peermem(doctor);
    dmabuf = check_dmabuf(doctor);
    check_rung(doctor, dmabuf);
    for (size_t i = 0; i < doctor->gpu_count; i++)
        if (doctor->tries && doctor->device_count && doctor->gpus[i].cuda)
            check_trial(doctor, i);
    check_acs(doctor);
    check_iommu(doctor);
}
