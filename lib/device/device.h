/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - memory of the host and of accelerators behind one table.
 *
 * The engine moves gradients; it does not compute on devices. So a table has
 * what moving needs: memory, copies, and waiting for them. Copies are complete
 * when they return; synchronize() is for work that others queued on the device.
 *
 * Threads: a device may be used from any thread, at the same time.
 */
#ifndef GP_DEVICE_H
#define GP_DEVICE_H

#include "base/base.h"

typedef struct gp_device gp_device;

/* What is known about a device once it is open. */
typedef struct gp_device_properties {
    char name[128];        /* "host", "NVIDIA H100 ..." */
    uint64_t memory_bytes; /* all of it; 0: not known */
    uint32_t index;        /* among devices of this kind */
    uint32_t major, minor; /* CUDA compute capability; 0 for the host */
    bool host_accessible;  /* a CPU may load and store through pointers */
    bool unified;          /* pointers are unique across host and device */
} gp_device_properties;

/* One kind of device. No member that an open device can be used with is NULL.
 * `device` is one that this kind's open
 * returned; pointers named `device_*` came from its alloc (or lie inside such a
 * block), the others are host memory. A size of 0 is fine and does nothing. */
typedef struct gp_device_ops {
    const char *kind; /* "host", "cuda"; what a person types */

    /* How many there are. GP_ERR_UNSUPPORTED with the reason when this machine
     * cannot have any: no driver, a driver that refuses. */
    gp_status (*count)(uint32_t *out);

    /* Takes hold of device `index`. GP_ERR_NOT_FOUND when there are fewer. */
    gp_status (*open)(uint32_t index, gp_device **out);

    /* All blocks must have been freed. NULL is fine. */
    void (*close)(gp_device *device);

    void (*properties)(const gp_device *device, gp_device_properties *out);

    /* At least 64-byte aligned, content unspecified. GP_ERR_NO_MEMORY. */
    gp_status (*alloc)(gp_device *device, size_t bytes, void **out);
    void (*free)(gp_device *device, void *device_block); /* NULL is fine */

    /* Complete on return. Blocks do not overlap, except in copy_within, which
     * behaves as memmove. */
    gp_status (*copy_in)(gp_device *device, void *device_to, const void *from,
                         size_t bytes);
    gp_status (*copy_out)(gp_device *device, void *to, const void *device_from,
                          size_t bytes);
    gp_status (*copy_within)(gp_device *device, void *device_to,
                             const void *device_from, size_t bytes);

    /* Every byte becomes `value`. */
    gp_status (*fill)(gp_device *device, void *device_block, uint8_t value,
                      size_t bytes);

    /* Waits for everything that was queued on the device, by anyone in this
     * process; returns the error of work that failed. */
    gp_status (*synchronize)(gp_device *device);
} gp_device_ops;

struct gp_device {
    const gp_device_ops *ops; /* the first member of every implementation */
};

extern const gp_device_ops gp_device_host;

/* Loads libcuda.so.1 when first used. In a build without cuda.h every call
 * says so with GP_ERR_UNSUPPORTED. */
extern const gp_device_ops gp_device_cuda;

/* Opens what a person typed: "cpu" or "host", "cuda", "cuda:1", or "auto" (the
 * first CUDA device, else the host). GP_ERR_CONFIG for anything else;
 * GP_ERR_UNSUPPORTED, GP_ERR_NOT_FOUND. */
gp_status gp_device_open(const char *text, gp_device **out);

/* device->ops->close(), for NULL too. */
void gp_device_close(gp_device *device);

#endif
