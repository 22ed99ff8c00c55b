/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paths.c - see paths.h.
 *
 * Only tcp and verbs have names in addresses: both use host:port, so a name in
 * front makes a second colon, and no host:port is taken for one. Addresses of
 * other transports are theirs to read.
 */
#include "shard/paths.h"

#include <stdio.h>
#include <string.h>

#include "shard/shard.h"

static const char *const named[] = {"verbs", "tcp"};

static bool
is_auto(const gp_config *config)
{
    return strcmp(gp_config_get(config, "transport"), "auto") == 0;
}

/* Whether this machine can use verbs; if not, `why` says why. Where it has all
 * but room in a limit the status is GP_ERR_NO_MEMORY. */
static gp_status
verbs_usable(const gp_config *config, const gp_transport_ops **out, char *why,
             size_t capacity)
{
    const gp_transport_ops *verbs = gp_transport_find("verbs");

    why[0] = '\0';
    if (!verbs) {
        snprintf(why, capacity, "this build has no verbs");
        return GP_ERR_UNSUPPORTED;
    }
    if (gp_config_int(config, "ib_disable")) {
        snprintf(why, capacity, "GRADPUSH_IB_DISABLE is set");
        return GP_ERR_UNSUPPORTED;
    }
    *out = verbs;
    return verbs->probe(config, why, capacity);
}

gp_status
gp_paths_offer(const gp_config *config,
               const gp_transport_ops *out[GP_PATHS_MAX], size_t *count)
{
    const gp_transport_ops *chosen;
    gp_status status = gp_transport_choose(config, &chosen);
    char why[256];

    if (status != GP_OK)
        return status;
    *count = 0;
    if (is_auto(config)) {
        status = verbs_usable(config, &out[0], why, sizeof(why));
        if (status == GP_OK)
            (*count)++;
        else if (status == GP_ERR_NO_MEMORY)
            GP_WARN("transport tcp, not verbs: %s", why);
        else
            GP_INFO("transport tcp, not verbs: %s", why);
    }
    out[(*count)++] = chosen;
    return GP_OK;
}

static gp_status
append(const char *transport, const char *address, bool several, char *out,
       size_t capacity)
{
    size_t used = strlen(out);
    int n = snprintf(out + used, capacity - used, "%s%s%s%s", used ? "|" : "",
                     several ? transport : "", several ? ":" : "", address);

    if (n >= 0 && (size_t)n < capacity - used)
        return GP_OK;
    out[used] = '\0';
    return gp_fail(GP_ERR_TOO_LARGE,
                   "the addresses of a shard are longer than %zu bytes: set "
                   "GRADPUSH_TRANSPORT, or a shorter GRADPUSH_ADVERTISE",
                   capacity - 1);
}

static bool
is_named(const char *transport)
{
    for (size_t i = 0; i < GP_COUNT_OF(named); i++)
        if (!strcmp(transport, named[i]))
            return true;
    return false;
}

static void
copy(const char *text, size_t length, char *out, size_t capacity)
{
    length = GP_MIN(length, capacity - 1);
    memcpy(out, text, length);
    out[length] = '\0';
}

gp_status
gp_paths_append(const char *transport, const char *address, bool several,
                char *out, size_t capacity)
{
    gp_status status = GP_OK;

    if (!strchr(address, '|') || !is_named(transport))
        return append(transport, address, several, out, capacity);
    for (const char *at = address; at && status == GP_OK;) {
        size_t length = strcspn(at, "|");
        char one[GP_ADDRESS_MAX];

        copy(at, length, one, sizeof(one));
        status = append(transport, one, true, out, capacity);
        at = at[length] ? at + length + 1 : NULL;
    }
    return status;
}

/* The length of a transport's name and its colon in front of host:port. */
static size_t
name_length(const char *text, size_t length)
{
    for (size_t i = 0; i < GP_COUNT_OF(named); i++) {
        size_t n = strlen(named[i]);

        if (length > n + 1 && !strncmp(text, named[i], n) && text[n] == ':' &&
            memchr(text + n + 1, ':', length - n - 1))
            return n + 1;
    }
    return 0;
}

bool
gp_paths_next(const char **next, char *transport, size_t transport_capacity,
              char *address, size_t capacity)
{
    const char *text = *next;
    size_t length, name;

    if (!text)
        return false;
    length = strcspn(text, "|");
    name = name_length(text, length);
    copy(text, name ? name - 1 : 0, transport, transport_capacity);
    copy(text + name, length - name, address, capacity);
    *next = text[length] ? text + length + 1 : NULL;
    return true;
}

/* Finds the alternatives of that transport; those without a name are it too
 * when `unnamed`. */
static bool
find(const char *published, const char *wanted, bool unnamed, char *address,
     size_t capacity)
{
    const char *next = published;
    char transport[16], text[GP_ADDRESS_MAX];
    size_t used = 0;

    while (gp_paths_next(&next, transport, sizeof(transport), text,
                         sizeof(text))) {
        if (strcmp(transport, wanted) != 0 && (transport[0] || !unnamed))
            continue;
        if (used + !!used + strlen(text) >= capacity)
            break;
        used += (size_t)snprintf(address + used, capacity - used, "%s%s",
                                 used ? "|" : "", text);
    }
    return used > 0;
}

/* verbs if it can be, and the reason if not. */
static const gp_transport_ops *
try_verbs(const gp_config *config, const char *who, const char *published,
          bool *said, char *address, size_t capacity)
{
    const gp_transport_ops *verbs = NULL;
    char text[GP_ADDRESS_MAX], why[256];

    if (!find(published, "verbs", false, text, sizeof(text))) {
        GP_DEBUG("%s offers no verbs", who);
        return NULL;
    }
    if (verbs_usable(config, &verbs, why, sizeof(why)) != GP_OK) {
        if (!said || !*said)
            GP_WARN("%s offers verbs, but tcp is used: %s", who, why);
        if (said)
            *said = true;
        return NULL;
    }
    snprintf(address, capacity, "%s", text);
    return verbs;
}

gp_status
gp_paths_take(const gp_config *config, const char *who, const char *published,
              bool *said, const gp_transport_ops **ops, char *address,
              size_t capacity)
{
    const gp_transport_ops *chosen, *verbs = NULL;
    gp_status status = gp_transport_choose(config, &chosen);

    if (status != GP_OK)
        return status;
    if (is_auto(config))
        verbs = try_verbs(config, who, published, said, address, capacity);
    if (verbs) {
        *ops = verbs;
        return GP_OK;
    }
    if (!find(published, chosen->name, true, address, capacity))
        return gp_fail(GP_ERR_CONFIG,
                       "%s cannot be reached over %s: it listens on %s; set "
                       "GRADPUSH_TRANSPORT to the same on both sides",
                       who, chosen->name, published);
    *ops = chosen;
    return GP_OK;
}

const gp_transport_ops *
gp_paths_other(const gp_config *config, const char *published,
               const gp_transport_ops *taken, char *address, size_t capacity)
{
    if (!is_auto(config) || strcmp(taken->name, "verbs") != 0 ||
        !find(published, "tcp", false, address, capacity))
        return NULL;
    return gp_transport_find("tcp");
}

bool
gp_paths_have_device(const gp_config *config, const char *published)
{
    const gp_transport_ops *ops = NULL;
    const char *next = published;
    char transport[16], text[GP_ADDRESS_MAX];

    while (
        gp_paths_next(&next, transport, sizeof(transport), text, sizeof(text)))
        if (!strcmp(transport, "verbs") ||
            (!transport[0] && gp_transport_choose(config, &ops) == GP_OK &&
             ops->caps & GP_CAP_DEVICE))
            return true;
    return false;
}
