/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - tables of calls that programs add to the built-in ones, by name.
 *
 * A list that only grows: a node is complete before the pointer to it is
 * stored, so readers take no lock. The lock is for two threads that register
 * at once. Tables are the caller's, and live as long as the program.
 */
#ifndef GP_REGISTRY_H
#define GP_REGISTRY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

#define GP_REGISTRY_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789_"

struct gp_registry_node;

typedef struct gp_registry {
    pthread_mutex_t lock;
    _Atomic(struct gp_registry_node *) first;
    const char *what, *one; /* "codec", "a codec" */
    const char *call;       /* of the interface, for its messages */
    uint32_t abi;
    /* A text that says what is wrong with the table, or NULL. */
    const char *(*fault)(const void *ops);
    bool (*taken)(const char *name);
} gp_registry;

/* The table at that place among the registered ones; NULL behind the last. */
const void *gp_registry_at(gp_registry *r, size_t index);

/*
 * Adds a table that the caller has looked into for its abi and name; ops is
 * NULL where the caller of the interface gave none. Errors: GP_ERR_INVALID,
 * GP_ERR_VERSION, GP_ERR_EXISTS, GP_ERR_NO_MEMORY.
 */
gp_status gp_registry_add(gp_registry *r, const void *ops, uint32_t abi,
                          const char *name);

/* Whether it is 1 to 31 of the letters and begins with one of a to z. */
bool gp_registry_name_valid(const char *name, const char *letters);

#endif
