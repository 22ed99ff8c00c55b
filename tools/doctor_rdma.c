/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_rdma.c - the way from a program to RDMA devices: hardware, kernel
 * modules, device nodes, libraries, and the cgroup that may ration them.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "doctor.h"
#include "transports/verbs/verbs_probe.h"

#define GROUP "rdma"

/* Adapters that do RDMA whatever the model, by PCI vendor and, unless 0,
 * device. */
static const struct {
    int64_t vendor, device;
    const char *module, *provider, *text;
} adapters[] = {
    {0x15b3, 0, "mlx5_ib", "mlx5", "NVIDIA (Mellanox) adapter"},
    {0x1d0f, 0xefa0, "efa", "efa", "Amazon EFA"},
    {0x1d0f, 0xefa1, "efa", "efa", "Amazon EFA"},
    {0x1d0f, 0xefa2, "efa", "efa", "Amazon EFA"},
    {0x1d0f, 0xefa3, "efa", "efa", "Amazon EFA"},
};

/* An entry of `adapters` that is on the PCI bus, as a network controller. */
static int
find_adapter(const gp_doctor *doctor)
{
    gp_doctor_names names;
    int found = -1;

    gp_doctor_list(doctor, &names, "/sys/bus/pci/devices");
    for (int i = 0; i < names.count && found < 0; i++) {
        const char *id = names.list[i]->d_name;
        int64_t vendor = 0, device = 0, kind = 0;

        gp_doctor_number(doctor, &vendor, "/sys/bus/pci/devices/%s/vendor", id);
        gp_doctor_number(doctor, &device, "/sys/bus/pci/devices/%s/device", id);
        gp_doctor_number(doctor, &kind, "/sys/bus/pci/devices/%s/class", id);
        for (size_t a = 0; a < GP_COUNT_OF(adapters); a++)
            if (vendor == adapters[a].vendor && kind >> 16 == 0x02 &&
                (!adapters[a].device || device == adapters[a].device))
                found = (int)a;
    }
    gp_doctor_list_free(&names);
    return found;
}

static void
no_devices(gp_doctor *doctor, gp_check *c)
{
    int adapter = find_adapter(doctor);

    if (adapter >= 0) {
        gp_check_set(c, gp_doctor_need(doctor, GP_CHECK_WARN),
                     "the PCI bus has an %s, but the kernel has no RDMA device",
                     adapters[adapter].text);
        gp_check_fix(c,
                     "modprobe %s; dmesg | tail   # in a container: on the "
                     "host",
                     adapters[adapter].module);
        return;
    }
    gp_check_set(
        c, gp_doctor_need(doctor, GP_CHECK_SKIP),
        "no RDMA device: /sys/class/infiniband is %s%s",
        gp_doctor_exists(doctor, "/sys/class/infiniband") ? "empty" : "missing",
        doctor->required ? ", and GRADPUSH_TRANSPORT=verbs never falls back"
                         : "; gradients travel over TCP");
    gp_check_fix(c,
                 "%sto try RDMA without hardware: modprobe rdma_rxe && rdma "
                 "link add rxe0 type rxe netdev eth0",
                 doctor->required ? "use GRADPUSH_TRANSPORT=auto; or "
                                  : "none is needed for TCP; ");
}

/* A setting that is easily inherited from a job of NCCL. */
static void
say_disabled(const gp_doctor *doctor, gp_check *c)
{
    c->status = GP_CHECK_WARN;
    gp_doctor_append(c->reason, sizeof(c->reason),
                     ", but GRADPUSH_IB_DISABLE is 1 (from %s): gradients "
                     "travel over TCP",
                     gp_config_origin(doctor->config, "ib_disable"));
    gp_check_fix(c, "unset GRADPUSH_IB_DISABLE NCCL_IB_DISABLE");
}

static void
check_devices(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "devices", "");
    char text[256] = "", last[64] = "";
    size_t active = 0, absent = 0;

    gp_check_int(c, "devices", (int64_t)doctor->device_count);
    gp_check_int(c, "ports", (int64_t)doctor->port_count);
    if (!doctor->device_count) {
        no_devices(doctor, c);
        return;
    }
    for (size_t i = 0; i < doctor->port_count; i++) {
        const gp_doctor_port *p = &doctor->ports[i];

        active += p->active && !p->absent;
        absent += p->absent;
        if (strcmp(last, p->device))
            gp_doctor_append(text, sizeof(text), "%s%s", *last ? ", " : "",
                             p->device);
        memcpy(last, p->device, sizeof(last));
    }
    if (absent)
        gp_check_int(c, "absent_ports", (int64_t)absent);
    gp_check_int(c, "active_ports", (int64_t)active);
    gp_check_set(c, active ? GP_CHECK_OK : GP_CHECK_FAIL,
                 "%zu RDMA device%s (%s), %zu of %zu ports active%s",
                 doctor->device_count, doctor->device_count == 1 ? "" : "s",
                 text, active, doctor->port_count - absent,
                 absent ? " of those that this container was given" : "");
    if (!active)
        gp_check_fix(c, "see ports.link below");
    else if (gp_config_int(doctor->config, "ib_disable"))
        say_disabled(doctor, c);
}

/* --- modules --- */

/* Built into the kernel or loaded: what a module makes shows that it runs. */
static bool
module_runs(const gp_doctor *doctor, const char *module)
{
    if (!strcmp(module, "ib_uverbs") &&
        gp_doctor_exists(doctor, "/sys/class/infiniband_verbs"))
        return true;
    if (!strcmp(module, "rdma_ucm") &&
        gp_doctor_exists(doctor, "/sys/class/misc/rdma_cm"))
        return true;
    return gp_doctor_exists(doctor, "/sys/module/%s", module);
}

static void
check_modules(gp_doctor *doctor)
{
    static const char *const needed[] = {"ib_uverbs", "rdma_ucm"};
    static const char *const drivers[] = {
        "mlx5_ib", "mlx4_ib",        "bnxt_re",  "irdma", "efa",
        "qedr",    "hns_roce_hw_v2", "rdma_rxe", "siw"};
    gp_check *c = gp_doctor_add(doctor, GROUP, "modules", "");
    char missing[64] = "", running[160] = "";

    for (size_t i = 0; i < GP_COUNT_OF(needed); i++)
        if (!module_runs(doctor, needed[i]))
            gp_doctor_append(missing, sizeof(missing), " %s", needed[i]);
        else
            gp_doctor_append(running, sizeof(running), " %s", needed[i]);
    for (size_t i = 0; i < GP_COUNT_OF(drivers); i++)
        if (module_runs(doctor, drivers[i]))
            gp_doctor_append(running, sizeof(running), " %s", drivers[i]);
    gp_check_text(c, "running", *running ? running + 1 : "");
    gp_check_text(c, "missing", *missing ? missing + 1 : "");
    if (!*missing)
        gp_check_set(c, GP_CHECK_OK, "kernel modules:%s", running);
    else if (doctor->device_count || doctor->required)
        gp_check_set(c, GP_CHECK_FAIL, "the kernel lacks the module%s%s",
                     strchr(missing + 1, ' ') ? "s" : "", missing);
    else
        gp_check_set(c, GP_CHECK_SKIP,
                     "not loaded:%s; not needed without a "
                     "device",
                     missing);
    if (c->status == GP_CHECK_FAIL)
        gp_check_fix(c,
                     "sudo modprobe -a%s\n%sto keep it: printf '%%s\\n'%s | "
                     "sudo tee /etc/modules-load.d/rdma.conf",
                     missing,
                     gp_doctor_container(doctor)
                         ? "on the host, not in this container; "
                         : "",
                     missing);
}

/* --- device nodes --- */

static void
node_fix(gp_doctor *doctor, gp_check *c, const char *path, int error)
{
    const char *container = gp_doctor_container(doctor);

    if (container && !strcmp(container, "kubernetes"))
        gp_check_fix(c, "run an RDMA device plugin (rdma/hca resources) and "
                        "request its resource in the pod, or mount "
                        "/dev/infiniband with privileged: true");
    else if (container && error != EACCES)
        gp_check_fix(c, "start the container with --device=/dev/infiniband "
                        "--cap-add=IPC_LOCK --ulimit memlock=-1");
    else if (error == EACCES)
        gp_check_fix(c,
                     "sudo usermod -aG \"$(stat -c %%G %s)\" $USER and log in "
                     "again, or install rdma-core, whose udev rules give the "
                     "node mode 0666",
                     path);
    else if (error == EPERM)
        gp_check_fix(c, "allow the device in the unit or job: DeviceAllow="
                        "char-infiniband_verbs rw and char-infiniband_cm rw; "
                        "for Slurm ConstrainDevices see cgroup.conf");
    else
        gp_check_fix(c, "modprobe -a ib_uverbs rdma_ucm; udevadm trigger "
                        "--subsystem-match=infiniband_verbs "
                        "--subsystem-match=misc");
}

static void
check_node(gp_doctor *doctor, const char *path)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "node", path);
    int error = gp_doctor_node_error(doctor, path);

    if (!error) {
        gp_check_set(c, GP_CHECK_OK, "can be opened");
        return;
    }
    gp_check_int(c, "errno", error);
    gp_check_set(c, GP_CHECK_FAIL, "cannot be opened by user %u: %s",
                 (unsigned)geteuid(), strerror(error));
    node_fix(doctor, c, path, error);
}

static void
check_uverbs(gp_doctor *doctor, const char *name)
{
    char path[PATH_MAX], device[64];

    snprintf(path, sizeof(path), "/dev/infiniband/%s", name);
    gp_doctor_line(doctor, device, sizeof(device),
                   "/sys/class/infiniband_verbs/%s/ibdev", name);
    if (gp_doctor_absent(doctor, device))
        gp_check_set(gp_doctor_add(doctor, GROUP, "node", path), GP_CHECK_SKIP,
                     "%s is not given to this container, others are", device);
    else
        check_node(doctor, path);
}

static void
check_nodes(gp_doctor *doctor)
{
    gp_doctor_names names;

    if (!doctor->device_count) {
        gp_check_set(gp_doctor_add(doctor, GROUP, "node", "/dev/infiniband"),
                     GP_CHECK_SKIP, "no device that a node would lead to");
        return;
    }
    check_node(doctor, "/dev/infiniband/rdma_cm");
    gp_doctor_list(doctor, &names, "/sys/class/infiniband_verbs");
    for (int i = 0; i < names.count; i++)
        if (!strncmp(names.list[i]->d_name, "uverbs", 6))
            check_uverbs(doctor, names.list[i]->d_name);
    gp_doctor_list_free(&names);
}

/* --- libraries --- */

/* The file behind a loaded library, "libibverbs.so.1.14.44.0": its name has
 * the version of rdma-core. */
static void
library_file(const gp_doctor *doctor, const char *name, char *out,
             size_t capacity)
{
    const size_t size = 1 << 20;
    char *maps = malloc(size), path[PATH_MAX], *at, *end;

    snprintf(out, capacity, "%s", "");
    if (!maps || gp_doctor_load(doctor, maps, size, "/proc/self/maps") < 0) {
        free(maps);
        return;
    }
    at = strstr(maps, name);
    if (at) {
        while (at > maps && at[-1] != ' ' && at[-1] != '\n')
            at--;
        end = at + strcspn(at, "\n");
        *end = '\0';
        if (gp_doctor_resolve(doctor, path, "%s", at) && strrchr(path, '/'))
            at = strrchr(path, '/') + 1;
        snprintf(out, capacity, "%.63s", at);
    }
    free(maps);
}

static void
check_libraries(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "libraries", "");
    char verbs[64], cm[64];

    if (!doctor->api) {
        gp_check_set(c,
                     gp_doctor_need(doctor, doctor->device_count
                                                ? GP_CHECK_FAIL
                                                : GP_CHECK_SKIP),
                     "%s", doctor->api_reason);
        gp_check_fix(c, "apt install libibverbs1 librdmacm1 ibverbs-providers"
                        "   # or: dnf install libibverbs librdmacm");
        return;
    }
    library_file(doctor, "libibverbs.so", verbs, sizeof(verbs));
    library_file(doctor, "librdmacm.so", cm, sizeof(cm));
    gp_check_text(c, "libibverbs", verbs);
    gp_check_text(c, "librdmacm", cm);
    gp_check_set(c, GP_CHECK_OK, "libibverbs and librdmacm are there%s%s%s%s%s",
                 *verbs ? " (" : "", verbs, *cm ? ", " : "", cm,
                 *verbs ? ")" : "");
}

/* Every device of the kernel has to be known to the library as well. */
static void
check_providers(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "providers", "");
    gp_doctor_names names;
    char unlisted[256] = "", last[64] = "";

    gp_doctor_list(doctor, &names, "/etc/libibverbs.d");
    gp_check_int(c, "configured", names.count);
    gp_check_set(c, GP_CHECK_OK, "%d providers in /etc/libibverbs.d",
                 names.count);
    gp_doctor_list_free(&names);
    if (!doctor->device_count || !doctor->api) {
        c->status = GP_CHECK_SKIP;
        return;
    }
    for (size_t i = 0; i < doctor->port_count; i++) {
        const char *device = doctor->ports[i].device;

        if (strcmp(last, device) && !doctor->ports[i].absent &&
            !gp_verbs_probe_listed(doctor->api, device))
            gp_doctor_append(unlisted, sizeof(unlisted), " %s", device);
        snprintf(last, sizeof(last), "%s", device);
    }
    if (!*unlisted) {
        gp_check_set(c, GP_CHECK_OK,
                     "libibverbs lists every device of the "
                     "kernel");
        return;
    }
    gp_check_text(c, "unlisted", unlisted + 1);
    gp_check_set(c, GP_CHECK_FAIL,
                 "the kernel has%s, but libibverbs does not list it: its "
                 "provider is missing, or its device node",
                 unlisted);
    gp_check_fix(c, "apt install ibverbs-providers   # or: dnf install "
                    "libibverbs; with a vendor's driver its own rdma-core; "
                    "see also rdma.node");
}

/* --- cgroup --- */

/* The entry of a device in "mlx5_0 hca_handle=2 hca_object=2000", or of the
 * first device that has a limit. */
static bool
find_limit(char *text, char *line, size_t capacity)
{
    char *save = NULL;

    for (char *l = strtok_r(text, "\n", &save); l;
         l = strtok_r(NULL, "\n", &save)) {
        if (!strstr(l, "hca_handle=max") || !strstr(l, "hca_object=max")) {
            snprintf(line, capacity, "%.200s", l);
            return true;
        }
    }
    return false;
}

/* This process's folder below the mount of version 2, or of the rdma
 * controller of version 1. */
static void
cgroup_folder(const gp_doctor *doctor, char out[PATH_MAX])
{
    char text[8192], *save = NULL;

    snprintf(out, PATH_MAX, "/sys/fs/cgroup");
    if (gp_doctor_load(doctor, text, sizeof(text), "/proc/self/cgroup") < 0)
        return;
    for (char *l = strtok_r(text, "\n", &save); l;
         l = strtok_r(NULL, "\n", &save)) {
        const char *controllers = strchr(l, ':');
        const char *path = controllers ? strchr(controllers + 1, ':') : NULL;

        if (!path)
            continue;
        if (!strncmp(l, "0::", 3))
            snprintf(out, PATH_MAX, "/sys/fs/cgroup%s", path + 1);
        if (strncmp(controllers, ":rdma:", 6))
            continue;
        snprintf(out, PATH_MAX, "/sys/fs/cgroup/rdma%s", path + 1);
        return;
    }
}

static void
check_cgroup(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "cgroup", "");
    char folder[PATH_MAX], text[4096], line[256] = "";
    bool seen = false;

    if (!doctor->device_count) {
        gp_check_set(c, GP_CHECK_SKIP, "no device to ration");
        return;
    }
    cgroup_folder(doctor, folder);
    while (strlen(folder) > strlen("/sys/fs/cgroup") - 1 && !*line) {
        if (gp_doctor_load(doctor, text, sizeof(text), "%s/rdma.max", folder) >=
            0) {
            seen = true;
            if (find_limit(text, line, sizeof(line)))
                break;
        }
        *strrchr(folder, '/') = '\0';
    }
    if (!*line) {
        gp_check_set(c, GP_CHECK_OK,
                     seen ? "the rdma cgroup sets no limit"
                          : "no rdma cgroup rations handles");
        return;
    }
    gp_check_text(c, "rdma_max", line);
    gp_check_set(c, GP_CHECK_WARN,
                 "%s/rdma.max limits this process to %s; each peer takes "
                 "about 12 objects",
                 folder, line);
    gp_check_fix(c,
                 "echo '%.*s hca_handle=max hca_object=max' | sudo tee "
                 "%s/rdma.max",
                 (int)strcspn(line, " "), line, folder);
}

void
gp_doctor_check_rdma(gp_doctor *doctor)
{
    check_devices(doctor);
    check_libraries(doctor);
    check_modules(doctor);
    check_nodes(doctor);
    check_providers(doctor);
    check_cgroup(doctor);
}
