/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aside.h - what transports ask of a device whose memory network devices are to
 * reach: to export it, and copies beside all other work.
 */
#ifndef GP_DEVICE_ASIDE_H
#define GP_DEVICE_ASIDE_H

#include <gradpush/transport.h>

#include "device/device.h"

/* Zero before it is opened, and not moved afterwards: `peer` points to it. One
 * thread at a time. */
typedef struct gp_aside {
    gp_device *device;
    const char *name; /* borrowed */
    double seconds;   /* that a copy may take */
    bool flushes;     /* before what network devices wrote is read */
    void *stream;     /* NULL: not open */
    gp_device_event *settled;
    char bus[16];
    gp_peer_memory peer; /* for transports */
} gp_aside;

/* `flushes` is the owner's to set. On failure gp_aside_close() is due too. */
gp_status gp_aside_open(gp_aside *a, gp_device *device, const char *name,
                        double seconds);
void gp_aside_close(gp_aside *a);

/* Has a transport try its ways to `bytes` at `base`, which is of the device;
 * *reached becomes true when one of them is better than staging. */
gp_status gp_aside_probe(gp_aside *a, const gp_transport_ops *ops,
                         gp_domain *domain, void *base, size_t bytes,
                         bool *reached);

/* Blocks until it is done; GP_ERR_TIMEOUT: it may be under way still. */
gp_status gp_aside_copy(gp_aside *a, void *to, const void *from, size_t bytes);

#endif
