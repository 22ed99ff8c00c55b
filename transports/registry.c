/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c - the transports a process knows, by name.
 *
 * Entries are only ever appended and never move, so a pointer that find() or
 * at() returned stays good for the life of the process.
 */
#include <ctype.h>
#include <pthread.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "transports/transports.h"

#define TRANSPORTS_MAX 32u
#define NAME_MAX_BYTES 32u

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static const gp_transport_ops *table[TRANSPORTS_MAX] = {
    &gp_tcp_ops,
    &gp_loop_ops,
#ifdef GP_HAVE_VERBS
    &gp_verbs_ops,
#endif
};
#ifdef GP_HAVE_VERBS
static size_t table_count = 3;
#else
static size_t table_count = 2;
#endif

static const char *
missing_member(const gp_transport_ops *ops)
{
#define PART(name, cap)                              \
    {                                                \
#name, offsetof(gp_transport_ops, name), cap \
    }
#define MEMBER(name) PART(name, 0)
    static const struct {
        const char *name;
        size_t offset;
        uint32_t cap; /* without which nobody calls it */
    } members[] = {
        MEMBER(name),
        MEMBER(text),
        MEMBER(probe),
        MEMBER(open),
        MEMBER(close),
        MEMBER(listen),
        MEMBER(connect),
        MEMBER(ep_close),
        MEMBER(ep_set_user),
        MEMBER(ep_trust),
        MEMBER(mem_reg),
        MEMBER(ep_describe),
        MEMBER(mem_dereg),
        MEMBER(expose),
        MEMBER(unexpose),
        MEMBER(post),
        MEMBER(flush),
        MEMBER(release),
        MEMBER(progress),
        MEMBER(event_fd),
        MEMBER(arm),
        PART(peer_probe, GP_CAP_PEER_MEMORY),
        PART(mem_reg_peer, GP_CAP_PEER_MEMORY),
        PART(peer_way, GP_CAP_PEER_MEMORY),
        PART(peer_describe, GP_CAP_PEER_MEMORY),
        PART(ep_opens_parts, GP_CAP_PARTS),
    };
#undef MEMBER
#undef PART

    for (size_t i = 0; i < GP_COUNT_OF(members); i++) {
        void *value;

        if (members[i].cap & ~ops->caps)
            continue;
        memcpy(&value, (const char *)ops + members[i].offset, sizeof(value));
        if (!value)
            return members[i].name;
    }
    return NULL;
}

/* "auto" is what the configuration calls the choice among them. */
static bool
good_name(const char *name)
{
    size_t length = strnlen(name, NAME_MAX_BYTES);

    if (length == 0 || length == NAME_MAX_BYTES || !strcmp(name, "auto"))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!islower((unsigned char)name[i]) &&
            !isdigit((unsigned char)name[i]) && name[i] != '_')
            return false;
    return true;
}

static const gp_transport_ops *
find_locked(const char *name)
{
    for (size_t i = 0; i < table_count; i++)
        if (!strcmp(table[i]->name, name))
            return table[i];
    return NULL;
}

static gp_status
append(const gp_transport_ops *ops)
{
    gp_status status = GP_OK;

    pthread_mutex_lock(&registry_lock);
    if (find_locked(ops->name))
        status = gp_fail(GP_ERR_EXISTS, "a transport named '%s' exists already",
                         ops->name);
    else if (table_count == TRANSPORTS_MAX)
        status = gp_fail(GP_ERR_NO_MEMORY,
                         "no room for transport '%s': %u are registered",
                         ops->name, TRANSPORTS_MAX);
    else
        table[table_count++] = ops;
    pthread_mutex_unlock(&registry_lock);
    return status;
}

gp_status
gp_transport_register(const gp_transport_ops *ops)
{
    const char *missing;

    if (!ops)
        return gp_fail(GP_ERR_INVALID, "gp_transport_register: ops is NULL");
    if (ops->abi != GP_TRANSPORT_ABI)
        return gp_fail(GP_ERR_VERSION,
                       "transport table has interface version %u, this library "
                       "takes %u: build it against this transport.h",
                       ops->abi, GP_TRANSPORT_ABI);
    missing = missing_member(ops);
    if (missing)
        return gp_fail(GP_ERR_INVALID, "transport '%s': member '%s' is missing",
                       ops->name ? ops->name : "?", missing);
    if (!good_name(ops->name))
        return gp_fail(GP_ERR_INVALID,
                       "transport name '%.40s': use 1 to %u of a-z, 0-9 and _, "
                       "and not 'auto'",
                       ops->name, NAME_MAX_BYTES - 1);
    return append(ops);
}

const gp_transport_ops *
gp_transport_find(const char *name)
{
    const gp_transport_ops *ops;

    if (!name)
        return NULL;
    pthread_mutex_lock(&registry_lock);
    ops = find_locked(name);
    pthread_mutex_unlock(&registry_lock);
    return ops;
}

const gp_transport_ops *
gp_transport_at(size_t index)
{
    const gp_transport_ops *ops = NULL;

    pthread_mutex_lock(&registry_lock);
    if (index < table_count)
        ops = table[index];
    pthread_mutex_unlock(&registry_lock);
    return ops;
}
