/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_devices.c - lists RDMA devices.
 *
 * libibverbs is loaded when it is asked for and never linked, so that one
 * binary runs where there is RDMA and where there is not. The library names
 * the devices; what a port is doing is read from sysfs, where the kernel gives
 * it as text and no device has to be opened.
 */
#include "transports/verbs/verbs.h"

#include "base/base.h"

#ifndef GP_HAVE_VERBS

gp_status
gp_verbs_devices(char *text, size_t capacity)
{
    (void)text;
    (void)capacity;
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "this build has no libibverbs; install libibverbs-dev and "
                   "configure with -DGRADPUSH_VERBS=ON");
}

#else

#include <dirent.h>
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct verbs_library {
    void *handle;
    struct ibv_device **(*get_device_list)(int *count);
    void (*free_device_list)(struct ibv_device **list);
    const char *(*get_device_name)(struct ibv_device *device);
} verbs_library;

/* dlsym gives an object pointer; POSIX wants it stored through one. */
static bool
load_symbol(void *handle, const char *name, void *target)
{
    void *symbol = dlsym(handle, name);

    memcpy(target, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static gp_status
open_library(verbs_library *out)
{
    verbs_library v = {.handle = dlopen("libibverbs.so.1", RTLD_NOW)};

    if (!v.handle)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "libibverbs cannot be loaded: %s; hint: install "
                       "libibverbs1 and ibverbs-providers",
                       dlerror());
    if (!load_symbol(v.handle, "ibv_get_device_list", &v.get_device_list) ||
        !load_symbol(v.handle, "ibv_free_device_list", &v.free_device_list) ||
        !load_symbol(v.handle, "ibv_get_device_name", &v.get_device_name)) {
        dlclose(v.handle);
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "libibverbs.so.1 lacks the calls that list devices; "
                       "hint: install libibverbs1 of rdma-core");
    }
    *out = v;
    return GP_OK;
}

/* First line of a file of a port, "?" when it cannot be read. */
static void
read_port(const char *device, const char *port, const char *file, char *out,
          size_t capacity)
{
    char path[512];
    FILE *stream;

    snprintf(out, capacity, "?");
    snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/%s/%s", device,
             port, file);
    stream = fopen(path, "re");
    if (!stream)
        return;
    if (fgets(out, (int)capacity, stream))
        out[strcspn(out, "\n")] = '\0';
    fclose(stream);
}

/* Appends a line whole or not at all. */
static void
append_port(const char *device, const char *port, char *text, size_t capacity)
{
    char state[64], layer[64], rate[64], line[512];
    const char *word;
    size_t used = strlen(text);
    int length;

    read_port(device, port, "state", state, sizeof(state));
    read_port(device, port, "link_layer", layer, sizeof(layer));
    read_port(device, port, "rate", rate, sizeof(rate));
    word = strstr(state, ": "); /* "4: ACTIVE" */
    length = snprintf(line, sizeof(line), "%s port %s: %s, %s, %s\n", device,
                      port, word ? word + 2 : state, layer, rate);
    if (length > 0 && (size_t)length < sizeof(line) &&
        (size_t)length < capacity - used)
        memcpy(text + used, line, (size_t)length + 1);
}

static int
is_port(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void
append_device(const char *device, char *text, size_t capacity)
{
    char path[512];
    struct dirent **ports;
    int count;

    snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports", device);
    count = scandir(path, &ports, is_port, versionsort);
    if (count < 0) {
        append_port(device, "?", text, capacity);
        return;
    }
    for (int i = 0; i < count; i++) {
        append_port(device, ports[i]->d_name, text, capacity);
        free(ports[i]);
    }
    free(ports);
}

gp_status
gp_verbs_devices(char *text, size_t capacity)
{
    verbs_library verbs = {0};
    struct ibv_device **list;
    int count = 0;
    gp_status status = open_library(&verbs);

    if (status != GP_OK)
        return status;
    text[0] = '\0';
    list = verbs.get_device_list(&count);
    for (int i = 0; list && i < count; i++)
        append_device(verbs.get_device_name(list[i]), text, capacity);
    if (list)
        verbs.free_device_list(list);
    dlclose(verbs.handle);
    return GP_OK;
}

#endif
