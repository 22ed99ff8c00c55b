/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_rdma.h - the RDMA part of `gradpush info --devices`.
 */
#ifndef GP_INFO_RDMA_H
#define GP_INFO_RDMA_H

#include <gradpush/config.h>

#include "json.h"

/* Adds a device per port to `list` and the object "rdma" to `document`; prints
 * text when `document` is NULL. `sysfs_root` is NULL for "/sys". */
void gp_info_rdma(const gp_config *config, const char *sysfs_root,
                  gp_json *document, gp_json *list);

#endif
