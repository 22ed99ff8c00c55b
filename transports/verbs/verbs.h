/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs.h - what this version knows about RDMA devices: their names and ports.
 * There is no verbs transport in it; gradients go over TCP.
 */
#ifndef GP_VERBS_H
#define GP_VERBS_H

#include <stddef.h>

#include <gradpush/status.h>

/*
 * Writes one line per port of each RDMA device:
 * "mlx5_0 port 1: ACTIVE, InfiniBand, 400 Gb/sec (4X NDR)". Blocking, any
 * thread.
 *
 * text  "" when there is no device; cut at a line's end when `capacity` is
 *       short, which is at least 1.
 * Returns GP_OK; GP_ERR_UNSUPPORTED when this build has no verbs, or when
 * libibverbs.so.1 cannot be loaded here: the message says which and the fix.
 */
gp_status gp_verbs_devices(char *text, size_t capacity);

#endif
