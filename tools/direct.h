/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.h - by which way RDMA devices reach a GPU's memory, found out as a
 * worker does.
 */
#ifndef GP_TOOL_DIRECT_H
#define GP_TOOL_DIRECT_H

#include <gradpush/config.h>
#include <gradpush/transport.h>

#define GP_DIRECT_TEXT  640
#define GP_DIRECT_PAIRS 4

typedef struct gp_direct_pair {
    gp_direct way;
    char text[GP_DIRECT_TEXT]; /* names both, and why not by a better way */
} gp_direct_pair;

/* "dmabuf", "peermem", "staging". */
const char *gp_direct_name(gp_direct way);

/* Tries the CUDA device with those RDMA devices that the configuration chooses,
 * in 2 MiB of its memory; takes a context there meanwhile. GP_ERR_UNSUPPORTED
 * with the reason: there is no GPU, no RDMA device, or the configuration
 * insists on a way that is closed. */
gp_status gp_direct_try(const gp_config *config, uint32_t index,
                        gp_direct_pair *out, size_t max, size_t *count);

#endif
