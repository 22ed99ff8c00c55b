/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_gather.c - waits until every member has put its address into the store,
 * and says who is missing.
 *
 * The wait itself is a get of the first missing key; every few seconds all
 * other missing keys are looked up too, so that the report is right. The result
 * is written only when it is complete.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h>

#include "rendezvous/store_client.h"

#define REPORT_EVERY 3.0 /* seconds */
#define NAMES_MAX    8u

typedef struct gather {
    gp_store *store;
    const char *prefix, *noun;
    uint32_t count;
    char *rows;  /* count of GP_ADDRESS_MAX */
    bool *found; /* count */
} gather;

/* One key; GP_ERR_TIMEOUT leaves it missing. */
static gp_status
fetch(gather *g, uint32_t index, uint64_t deadline_ns)
{
    char key[300];
    char *row = g->rows + (size_t)index * GP_ADDRESS_MAX;
    size_t length = 0;
    gp_status status;

    snprintf(key, sizeof(key), "%s%u", g->prefix, index);
    status = gp_store_get(g->store, key, row, GP_ADDRESS_MAX - 1, &length,
                          deadline_ns);
    if (status != GP_OK)
        return status;
    if (memchr(row, 0, length))
        return gp_fail(GP_ERR_CORRUPT, "the value of '%s' is no text", key);
    row[length] = '\0';
    g->found[index] = true;
    return GP_OK;
}

/* All that are there already, from `first` on; not one by one against a store
 * that does not answer. */
static gp_status
look(gather *g, uint32_t first)
{
    for (uint32_t i = first; i < g->count; i++) {
        gp_status status = g->found[i] ? GP_OK : fetch(g, i, 0);

        if (status == GP_ERR_TIMEOUT && g->store->fd < 0)
            return GP_OK;
        if (status != GP_OK && status != GP_ERR_TIMEOUT)
            return status;
    }
    return GP_OK;
}

/* "shard 1, 3 and 5 of 8", or with more than fit "... and 40 more of 64". */
static void
list_missing(const gather *g, char *out, size_t capacity)
{
    uint32_t missing = 0, named = 0;
    size_t used = (size_t)snprintf(out, capacity, "%.64s ", g->noun);

    for (uint32_t i = 0; i < g->count; i++)
        missing += !g->found[i];
    for (uint32_t i = 0; i < g->count && named < NAMES_MAX; i++) {
        const char *glue = named == 0             ? ""
                           : named + 1 == missing ? " and "
                                                  : ", ";

        if (g->found[i])
            continue;
        used += (size_t)snprintf(out + used, capacity - used, "%s%u", glue, i);
        named++;
    }
    if (missing > named)
        used += (size_t)snprintf(out + used, capacity - used, " and %u more",
                                 missing - named);
    snprintf(out + used, capacity - used, " of %u", g->count);
}

static void
report(const gather *g, uint64_t deadline_ns)
{
    char who[256];

    list_missing(g, who, sizeof(who));
    if (deadline_ns == UINT64_MAX)
        GP_WARN("waiting for %s", who);
    else
        GP_WARN("waiting for %s, %d s left", who,
                gp_deadline_ms(deadline_ns) / 1000);
}

static gp_status
give_up(gather *g, uint32_t first)
{
    char who[256];
    gp_status status = look(g, first);

    if (status != GP_OK)
        return status;
    for (uint32_t i = first; i < g->count; i++) {
        if (g->found[i])
            continue;
        list_missing(g, who, sizeof(who));
        return gp_fail(GP_ERR_TIMEOUT,
                       "%s did not appear in time: has it started, and can it "
                       "reach the store? Waiting longer: "
                       "GRADPUSH_CONNECT_TIMEOUT",
                       who);
    }
    return GP_OK;
}

static gp_status
collect(gather *g, uint64_t deadline_ns)
{
    uint64_t next_report = gp_deadline(REPORT_EVERY);
    uint32_t first = 0;

    while (first < g->count) {
        gp_status status = GP_OK;

        if (!g->found[first])
            status = fetch(g, first, GP_MIN(deadline_ns, next_report));
        if (status == GP_OK) {
            first++;
            continue;
        }
        if (status != GP_ERR_TIMEOUT)
            return status;
        if (gp_expired(deadline_ns))
            return g->store->fd < 0 ? status : give_up(g, first);
        if (!gp_expired(next_report))
            continue;
        next_report = gp_deadline(REPORT_EVERY);
        status = g->store->fd < 0 ? GP_OK : look(g, first);
        if (status != GP_OK)
            return status;
        report(g, deadline_ns);
    }
    return GP_OK;
}

gp_status
gp_store_gather(gp_store *store, const char *prefix, const char *noun,
                uint32_t count, char *out, uint64_t deadline_ns)
{
    gather g = {.store = store, .prefix = prefix, .noun = noun, .count = count};
    gp_status status = GP_ERR_NO_MEMORY;

    if (strlen(prefix) > 240)
        return gp_fail(GP_ERR_INVALID, "the prefix is too long");
    if (count == 0)
        return GP_OK;
    g.rows = malloc((size_t)count * GP_ADDRESS_MAX);
    g.found = calloc(count, sizeof(bool));
    if (g.rows && g.found)
        status = collect(&g, deadline_ns);
    else
        gp_fail(GP_ERR_NO_MEMORY, "no memory for %u addresses", count);
    if (status == GP_OK)
        memcpy(out, g.rows, (size_t)count * GP_ADDRESS_MAX);
    free(g.rows);
    free(g.found);
    return status;
}
