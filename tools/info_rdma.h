/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_rdma.h - the RDMA part of `gradpush info --devices`.
 */
#ifndef GP_INFO_RDMA_H
#define GP_INFO_RDMA_H

#include <gradpush/config.h>

#include "json.h"

/* Adds a device per port to `list` and the object "rdma" to `document`; prints
 * text when `document` is NULL. */
void gp_info_rdma(const gp_config *config, gp_json *document, gp_json *list);

#endif
