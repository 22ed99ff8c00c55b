/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_limit.h - how much memory may be locked for devices.
 */
#ifndef GP_VERBS_LIMIT_H
#define GP_VERBS_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "transports/verbs/verbs_api.h"

/* Of this process: UINT64_MAX when there is no limit, or when a capability
 * lifts it. */
uint64_t gp_verbs_memlock(void);

/* What the members of a job register for each of their peers, about: tensors
 * in memory that users register come on top. */
uint64_t gp_verbs_peer_bytes(const gp_config *config);

/* What a device refused, in words, with the way to raise the limit when it is
 * that: GP_ERR_NO_MEMORY for ENOMEM, else GP_ERR_SYSTEM. */
gp_status gp_verbs_refused(const gp_verbs_api *api, int error,
                           const char *format, ...) GP_PRINTF(3, 4);

/* Whether the limit allows what this job will register; `why`: what it lacks
 * and the fix, else untouched. */
bool gp_verbs_affordable(const gp_verbs_api *api, const gp_config *config,
                         char *why, size_t capacity);

#endif
