/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c - a list of tables that only grows; see the header.
 */
#include "base/registry.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LENGTH 31

typedef struct gp_registry_node {
    const void *ops;
    _Atomic(struct gp_registry_node *) next;
} gp_registry_node;

const void *
gp_registry_at(gp_registry *r, size_t index)
{
    gp_registry_node *node =
        atomic_load_explicit(&r->first, memory_order_acquire);

    while (node && index--)
        node = atomic_load_explicit(&node->next, memory_order_acquire);
    return node ? node->ops : NULL;
}

bool
gp_registry_name_valid(const char *name, const char *letters)
{
    size_t length = name ? strlen(name) : 0;

    return length > 0 && length <= NAME_MAX_LENGTH && name[0] >= 'a' &&
           name[0] <= 'z' && strspn(name, letters) == length;
}

static gp_status
append(gp_registry *r, const void *ops, const char *name)
{
    _Atomic(gp_registry_node *) *last = &r->first;
    gp_registry_node *node, *next;

    if (r->taken(name))
        return gp_fail(GP_ERR_EXISTS, "%s '%s' exists; choose another name",
                       r->what, name);
    node = calloc(1, sizeof(*node));
    if (!node)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %s '%s'", r->what,
                       name);
    node->ops = ops;
    while ((next = atomic_load_explicit(last, memory_order_relaxed)))
        last = &next->next;
    atomic_store_explicit(last, node, memory_order_release);
    return GP_OK;
}

gp_status
gp_registry_add(gp_registry *r, const void *ops, uint32_t abi, const char *name)
{
    const char *fault;
    gp_status status;

    if (!ops)
        return gp_fail(GP_ERR_INVALID, "%s: the table is NULL", r->call);
    if (abi != r->abi)
        return gp_fail(GP_ERR_VERSION,
                       "%s has interface version %u, this library %u: "
                       "build it with this library's headers",
                       r->one, abi, r->abi);
    fault = r->fault(ops);
    if (fault)
        return gp_fail(GP_ERR_INVALID, "%s '%s': %s", r->what,
                       name ? name : "?", fault);
    pthread_mutex_lock(&r->lock);
    status = append(r, ops, name);
    pthread_mutex_unlock(&r->lock);
    return status;
}
