/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group.c - making, failing and ending a group.
 *
 * All members know a group by the same number, made from its name, its ranks
 * and how many of the kind there were before. Each puts its options into the
 * store and reads all others', which is also how they wait for each other: no
 * message can come for a group that is not known yet.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/coll_int.h"

/* --- what a group is ------------------------------------------------------ */

gp_group *
gp_group_find(gp_mesh *mesh, uint64_t id)
{
    GP_LIST_EACH (item, &mesh->groups) {
        gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        if (g->id == id)
            return g;
    }
    return NULL;
}

gp_member *
gp_group_member(gp_group *g, uint32_t number)
{
    gp_member *m = g->member[number];
    gp_mate *mate;

    if (m || number == g->rank)
        return m;
    mate = gp_mate_meet(g->mesh, g->ranks[number]);
    m = mate ? aligned_alloc(GP_MEMBER_ALIGN,
                             (sizeof(*m) + GP_MEMBER_ALIGN - 1) /
                                 GP_MEMBER_ALIGN * GP_MEMBER_ALIGN)
             : NULL;
    if (!m) {
        gp_group_fail(g, GP_ERR_NO_MEMORY, true, "a member of group '%s'",
                      g->name);
        return NULL;
    }
    memset(m, 0, sizeof(*m));
    m->group = g;
    m->mate = mate;
    m->number = number;
    gp_list_init(&m->tickets);
    g->member[number] = m;
    return m;
}

void
gp_group_tell(gp_group *g, gp_mate *mate)
{
    gp_msg msg = {.type = GP_MSG_GROUP_FAULT,
                  .cookie = g->id,
                  .status = atomic_load(&g->fault),
                  .payload = strlen(g->fault_text)};

    (void)gp_mate_post(mate, &msg, g->fault_text, NULL, 0);
}

static void
tell_members(gp_group *g)
{
    for (uint32_t i = 0; i < g->size; i++) {
        gp_mate *mate = i == g->rank ? NULL : g->mesh->mate[g->ranks[i]];

        if (mate && mate->state == MATE_READY)
            gp_group_tell(g, mate);
    }
}

/* The first cause stays. Requests end when what they sent has left. */
void
gp_group_fail(gp_group *g, gp_status status, bool tell, const char *format, ...)
{
    va_list args;

    if (g->failed)
        return;
    g->failed = true;
    g->dirty = true;
    va_start(args, format);
    vsnprintf(g->fault_text, sizeof(g->fault_text), format, args);
    va_end(args);
    atomic_store(&g->fault, (int)status);
    if (status != GP_ERR_CANCELED)
        GP_INFO("group '%s': %s", g->name, g->fault_text);
    if (tell)
        tell_members(g);
}

void
gp_group_unsend(gp_group *g, const gp_mate *mate)
{
    int32_t number = g->number[mate->rank];
    gp_member *m = number >= 0 ? g->member[number] : NULL;

    if (!m)
        return;
    if (!gp_list_empty(&g->queue))
        GP_CONTAINER_OF(g->queue.next, gp_collective, link)->sending -=
            m->sending;
    GP_LIST_EACH (item, &g->points) {
        gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);

        if (c->call.root == m->number)
            c->sending = 0;
    }
    atomic_fetch_sub(&g->mesh->sending, m->outstanding);
    atomic_fetch_sub(&g->sending, m->outstanding);
    m->sending = m->outstanding = 0;
    m->staging.free = UINT64_MAX;
    g->dirty = true;
}

void
gp_group_detach(gp_group *g, const gp_mate *mate)
{
    int32_t number = g->number[mate->rank];
    gp_member *m = number >= 0 ? g->member[number] : NULL;

    if (!m)
        return;
    while (m->held)
        gp_landing_release(m, &m->arrival[__builtin_ctzll(m->held)]);
    m->token = m->region = m->exposed = 0;
    gp_points_clear(m);
}

bool
gp_group_uses(const gp_group *g, const void *base, size_t bytes)
{
    const gp_list *lists[] = {&g->queue, &g->points};
    uintptr_t low = (uintptr_t)base, high = low + bytes;

    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        GP_LIST_EACH (item, (gp_list *)lists[i]) {
            const gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);

            if (((uintptr_t)c->in < high &&
                 (uintptr_t)c->in + c->in_bytes > low) ||
                ((uintptr_t)c->out < high &&
                 (uintptr_t)c->out + c->out_bytes > low))
                return true;
        }
    return false;
}

static void
free_members(gp_group *g)
{
    for (uint32_t i = 0; g->member && i < g->size; i++) {
        gp_member *m = g->member[i];

        if (!m)
            continue;
        gp_points_clear(m);
        gp_landing_close(m);
        free(m);
    }
}

void
gp_group_free(gp_group *g)
{
    gp_list *item;

    gp_list_remove(&g->link);
    free_members(g);
    while ((item = gp_list_pop(&g->every)))
        gp_collective_free(GP_CONTAINER_OF(item, gp_collective, every));
    free(g->member);
    free(g->ranks);
    free(g->number);
    free(g->hop);
    free(g->temporary);
    gp_coded_close(g->coded);
    free(g);
}

/* --- making one ------------------------------------------------------------
 */

static gp_status
take_ranks(gp_group *g, const gp_worker *w, const gp_group_options *o)
{
    g->size = o->ranks ? o->count : w->size;
    if (g->size == 0 || g->size > w->size)
        return gp_fail(GP_ERR_INVALID, "a group of %u of %u workers", g->size,
                       w->size);
    g->ranks = calloc(g->size, sizeof(*g->ranks));
    g->number = calloc(w->size, sizeof(*g->number));
    g->member = calloc(g->size, sizeof(gp_member *));
    if (!g->ranks || !g->number || !g->member)
        return gp_fail(GP_ERR_NO_MEMORY, "a group of %u", g->size);
    for (uint32_t r = 0; r < w->size; r++)
        g->number[r] = -1;
    for (uint32_t i = 0; i < g->size; i++) {
        uint32_t rank = o->ranks ? o->ranks[i] : i;

        if (rank >= w->size || g->number[rank] >= 0)
            return gp_fail(GP_ERR_INVALID,
                           "rank %u of a group: there are %u workers, each can "
                           "be in it once",
                           rank, w->size);
        g->ranks[i] = rank;
        g->number[rank] = (int32_t)i;
    }
    if (g->number[w->rank] < 0)
        return gp_fail(GP_ERR_INVALID,
                       "worker %u makes a group that it is not in", w->rank);
    g->rank = (uint32_t)g->number[w->rank];
    return GP_OK;
}

static gp_status
take_options(gp_group *g, const gp_worker *w, const gp_group_options *o)
{
    const char *name = o->name ? o->name : "default";
    const char *algorithm =
        o->algorithm ? o->algorithm
                     : gp_config_get(w->config, "collective_algorithm");
    uint64_t share = GP_LANDING_BUDGET / GP_LANDING_SLOTS / g->size;

    if (!name[0] || strlen(name) >= sizeof(g->name))
        return gp_fail(GP_ERR_CONFIG,
                       "the name of a group has 1 to %zu bytes: '%.80s'",
                       sizeof(g->name) - 1, name);
    strcpy(g->name, name);
    for (g->slot_bytes = GP_SLOT_MOST;
         g->slot_bytes > share && g->slot_bytes > GP_SLOT_LEAST;)
        g->slot_bytes /= 2;
    if (o->codec && strcmp(o->codec, "none") != 0) {
        gp_status status = gp_coded_open(
            o->codec, o->feedback, GP_MESSAGE_SLOTS * g->slot_bytes, &g->coded);

        if (status != GP_OK)
            return status;
    }
    return gp_algorithm_parse(algorithm, &g->algorithm);
}

gp_status
gp_group_new(gp_worker *w, const gp_group_options *o, gp_group **out)
{
    gp_group *g = calloc(1, sizeof(*g));
    gp_status status;

    if (!g)
        return gp_fail(GP_ERR_NO_MEMORY, "group");
    g->mesh = w->mesh;
    gp_list_init(&g->link);
    gp_list_init(&g->queue);
    gp_list_init(&g->points);
    gp_list_init(&g->unused);
    gp_list_init(&g->every);
    status = take_ranks(g, w, o);
    if (status == GP_OK)
        status = take_options(g, w, o);
    if (status != GP_OK) {
        gp_group_free(g);
        return status;
    }
    *out = g;
    return GP_OK;
}

/* How many groups of that name and these ranks were made before. */
static uint64_t
generation_of(const gp_mesh *mesh, uint64_t kind)
{
    uint64_t count = 0;

    for (size_t i = 0; i < mesh->made_count; i++)
        count += mesh->made[i] == kind;
    return count;
}

static uint64_t
kind_of(const gp_group *g)
{
    uint64_t parts[2] = {
        gp_hash(g->name, sizeof(g->name)),
        gp_hash(g->ranks, g->size * sizeof(*g->ranks)),
    };

    return gp_hash(parts, sizeof(parts));
}

static gp_status
number_group(gp_mesh *mesh, gp_group *g)
{
    uint64_t parts[2] = {kind_of(g), 0};

    GP_LIST_EACH (item, &mesh->groups) {
        const gp_group *other = GP_CONTAINER_OF(item, gp_group, link);

        if (!other->closing && kind_of(other) == parts[0])
            return gp_fail(GP_ERR_EXISTS,
                           "there is a group '%s' of these ranks: give this "
                           "one another name",
                           g->name);
    }
    parts[1] = generation_of(mesh, parts[0]);
    g->id = gp_hash(parts, sizeof(parts));
    return GP_OK;
}

static gp_status
remember(gp_mesh *mesh, const gp_group *g)
{
    uint64_t *grown =
        realloc(mesh->made, (mesh->made_count + 1) * sizeof(*mesh->made));

    if (!grown)
        return gp_fail(GP_ERR_NO_MEMORY, "group");
    mesh->made = grown;
    mesh->made[mesh->made_count++] = kind_of(g);
    return GP_OK;
}

static void
describe_options(const gp_group *g, const gp_group_options *o, char *out,
                 size_t capacity)
{
    snprintf(out, capacity, "algorithm %s, codec %.120s, feedback %d",
             gp_algorithm_name(g->algorithm),
             g->coded ? gp_coded_name(g->coded) : "none", o->feedback);
}

static gp_status
compare_options(const gp_group *g, const char *own, const char *rows)
{
    for (uint32_t i = 0; i < g->size; i++) {
        const char *other = rows + (size_t)i * GP_ADDRESS_MAX;

        if (strcmp(other, own) != 0)
            return gp_fail(GP_ERR_MISMATCH,
                           "group '%s' has '%.150s' on worker %u and '%.150s' "
                           "on worker %u",
                           g->name, other, g->ranks[i], own, g->ranks[g->rank]);
    }
    return GP_OK;
}

/* Waits until all members are here and compares what they were told. */
static gp_status
agree(gp_mesh *mesh, gp_group *g, const gp_group_options *o, uint64_t deadline)
{
    char prefix[64], key[80], own[GP_ADDRESS_MAX];
    char *rows = calloc(g->size, GP_ADDRESS_MAX);
    gp_status status = rows ? GP_OK : gp_fail(GP_ERR_NO_MEMORY, "group");

    snprintf(prefix, sizeof(prefix), "group/%016llx/",
             (unsigned long long)g->id);
    snprintf(key, sizeof(key), "%s%u", prefix, g->rank);
    describe_options(g, o, own, sizeof(own));
    if (status == GP_OK)
        status = gp_store_set(mesh->store, key, own, strlen(own));
    if (status == GP_OK)
        status = gp_store_gather(mesh->store, prefix, "member", g->size, rows,
                                 deadline);
    if (status == GP_OK)
        status = compare_options(g, own, rows);
    free(rows);
    return status;
}

static gp_status
join(gp_mesh *mesh, gp_group *g, const gp_group_options *o)
{
    gp_worker *w = mesh->worker;
    uint64_t deadline =
        gp_deadline(gp_config_seconds(w->config, "connect_timeout"));
    gp_status status = number_group(mesh, g);

    if (status != GP_OK)
        return status;
    gp_driver_hold(w->driver);
    status = gp_worker_fault(w);
    if (status == GP_OK)
        gp_list_insert(&mesh->groups, &g->link);
    gp_driver_release(w->driver);
    if (status != GP_OK || g->size == 1)
        return status == GP_OK ? remember(mesh, g) : status;
    status = agree(mesh, g, o, deadline);
    for (uint32_t i = 0; status == GP_OK && i < g->size; i++)
        status = gp_mesh_find(mesh, g->ranks[i], deadline);
    return status == GP_OK ? remember(mesh, g) : status;
}

static gp_status
find_mesh(gp_worker *w)
{
    gp_mesh *mesh = NULL;
    gp_status status;

    if (w->mesh)
        return GP_OK;
    status = gp_mesh_open(w, &mesh);
    if (status != GP_OK)
        return status;
    gp_driver_hold(w->driver);
    w->mesh = mesh;
    gp_driver_release(w->driver);
    return GP_OK;
}

static void
discard(gp_group *g)
{
    gp_driver *driver = g->mesh->worker->driver;

    gp_driver_hold(driver);
    gp_group_free(g);
    gp_driver_release(driver);
}

/* One at a time: the store's connection is shared, and members make groups in
 * the same order. */
static gp_status
create(gp_worker *w, const gp_group_options *o, gp_group **out)
{
    gp_group *g = NULL;
    gp_status status = find_mesh(w);

    if (status == GP_OK)
        status = gp_group_new(w, o, &g);
    if (status == GP_OK)
        status = join(w->mesh, g, o);
    if (status == GP_OK)
        *out = g;
    else if (g)
        discard(g);
    return status;
}

gp_status
gp_group_create(gp_worker *w, const gp_group_options *options, gp_group **out)
{
    static const gp_group_options defaults = GP_GROUP_INIT;
    gp_status status;

    if (!w || !out)
        return gp_fail(GP_ERR_INVALID, "gp_group_create: NULL");
    if (!options)
        options = &defaults;
    if (options->size != sizeof(*options))
        return gp_fail(GP_ERR_INVALID,
                       "gp_group_create: options of %zu bytes: start from "
                       "GP_GROUP_INIT",
                       options->size);
    status = gp_worker_fault(w);
    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&w->mesh_lock);
    status = create(w, options, out);
    pthread_mutex_unlock(&w->mesh_lock);
    return status;
}

static bool
is_quiet(void *arg)
{
    return atomic_load(&((gp_group *)arg)->sending) == 0;
}

void
gp_group_destroy(gp_group *g)
{
    gp_worker *w;

    if (!g)
        return;
    w = g->mesh->worker;
    /* Copies that others wait for leave first. */
    (void)gp_driver_wait(w->driver, is_quiet, g, gp_deadline(w->timeout));
    gp_driver_hold(w->driver);
    g->closing = true;
    gp_group_fail(g, GP_ERR_CANCELED, false, "the group was destroyed");
    for (uint32_t i = 0; i < g->size; i++)
        if (g->member[i] && g->member[i]->outstanding)
            gp_mate_lose(g->member[i]->mate, GP_ERR_CANCELED,
                         "group '%s' was destroyed while data was under way",
                         g->name);
    (void)gp_group_turn(g);
    gp_group_free(g);
    gp_driver_release(w->driver);
}

uint32_t
gp_group_rank(const gp_group *g)
{
    return g ? g->rank : 0;
}

uint32_t
gp_group_size(const gp_group *g)
{
    return g ? g->size : 0;
}

/* --- what codecs remember ---------------------------------------------------
 */

static size_t
find_state(gp_group *g, size_t index, uint64_t *key, const char **name,
           float **values)
{
    return g && g->coded ? gp_coded_state(g->coded, index, key, name, values)
                         : 0;
}

gp_status
gp_group_state(gp_group *g, size_t index, uint64_t *key, const char **name,
               uint64_t *count)
{
    float *values;
    size_t found;

    if (!g || !key || !name || !count)
        return gp_fail(GP_ERR_INVALID, "gp_group_state: NULL");
    gp_driver_hold(g->mesh->worker->driver);
    found = find_state(g, index, key, name, &values);
    gp_driver_release(g->mesh->worker->driver);
    if (found == 0)
        return gp_fail(GP_ERR_NOT_FOUND, "group '%s' keeps %zu states", g->name,
                       index);
    *count = found;
    return GP_OK;
}

gp_status
gp_group_save_state(gp_group *g, size_t index, float *out)
{
    const char *name;
    float *values;
    uint64_t key;
    size_t found;

    if (!g || !out)
        return gp_fail(GP_ERR_INVALID, "gp_group_save_state: NULL");
    gp_driver_hold(g->mesh->worker->driver);
    found = find_state(g, index, &key, &name, &values);
    if (found > 0)
        memcpy(out, values, found * sizeof(*out));
    gp_driver_release(g->mesh->worker->driver);
    return found > 0 ? GP_OK
                     : gp_fail(GP_ERR_NOT_FOUND, "group '%s' has no state %zu",
                               g->name, index);
}

gp_status
gp_group_load_state(gp_group *g, uint64_t key, const char *name,
                    const float *values, uint64_t count)
{
    gp_status status;

    if (!g || !name || !values)
        return gp_fail(GP_ERR_INVALID, "gp_group_load_state: NULL");
    if (!g->coded)
        return gp_fail(GP_ERR_NOT_FOUND, "group '%s' has no codec", g->name);
    gp_driver_hold(g->mesh->worker->driver);
    status = gp_coded_load(g->coded, key, name, values, count);
    gp_driver_release(g->mesh->worker->driver);
    return status;
}

gp_status
gp_group_reset_state(gp_group *g)
{
    if (!g)
        return gp_fail(GP_ERR_INVALID, "gp_group_reset_state: NULL");
    gp_driver_hold(g->mesh->worker->driver);
    if (g->coded)
        gp_coded_reset(g->coded);
    gp_driver_release(g->mesh->worker->driver);
    return GP_OK;
}

gp_status
gp_group_skip(gp_group *g, uint64_t calls)
{
    if (!g)
        return gp_fail(GP_ERR_INVALID, "gp_group_skip: NULL");
    gp_driver_hold(g->mesh->worker->driver);
    if (g->coded)
        gp_coded_skip(g->coded, calls);
    gp_driver_release(g->mesh->worker->driver);
    return GP_OK;
}
