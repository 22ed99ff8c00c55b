/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - the name a person types to an open device.
 */
#include "device/device.h"

#include <stdlib.h>
#include <string.h>

static gp_status
bad_name(const char *text)
{
    static const char *const words[] = {"auto", "cpu", "host", "cuda"};
    const char *near;

    if (gp_nearest(text, words, GP_COUNT_OF(words), &near))
        return gp_fail(GP_ERR_CONFIG,
                       "device '%.64s': did you mean '%s'? known are auto, "
                       "cpu, cuda and cuda:N",
                       text, near);
    return gp_fail(GP_ERR_CONFIG,
                   "device '%.64s': known are auto, cpu, cuda and cuda:N",
                   text);
}

/* The N of "cuda:N": digits only, below 65536. */
static bool
read_index(const char *text, uint32_t *out)
{
    uint32_t index = 0;

    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || index > 6553)
            return false;
        index = index * 10 + (uint32_t)(*text - '0');
    }
    *out = index;
    return true;
}

/* Absence of CUDA is no fault here, so its error is not passed on. */
static gp_status
open_any(gp_device **out)
{
    uint32_t count = 0;

    if (gp_device_cuda.count(&count) == GP_OK && count > 0 &&
        gp_device_cuda.open(0, out) == GP_OK)
        return GP_OK;
    return gp_device_host.open(0, out);
}

gp_status
gp_device_open(const char *text, gp_device **out)
{
    uint32_t index = 0;

    if (strcmp(text, "auto") == 0)
        return open_any(out);
    if (strcmp(text, "cpu") == 0 || strcmp(text, "host") == 0)
        return gp_device_host.open(0, out);
    if (strcmp(text, "cuda") == 0 ||
        (strncmp(text, "cuda:", 5) == 0 && read_index(text + 5, &index)))
        return gp_device_cuda.open(index, out);
    return bad_name(text);
}

void
gp_device_close(gp_device *device)
{
    if (device)
        device->ops->close(device);
}
