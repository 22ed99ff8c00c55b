/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_registry.h - what the reader of updater texts shares with the list of
 * updaters.
 */
#ifndef GP_UPDATER_REGISTRY_H
#define GP_UPDATER_REGISTRY_H

#include "shard/updater.h"

/* Names of the keys that every optimizer takes. */
extern const char *const gp_updater_keys[GP_KEYS];

#endif
