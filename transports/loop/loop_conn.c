/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_conn.c - names, pairs, and their end.
 *
 * The registry of names exists once in a process. A connecting domain makes
 * both endpoints of a pair and leaves one in the listener's `incoming`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transports/loop/loop_int.h"

#define REPORT_NS    UINT64_C(3000000000)
#define CLOSE_WAIT_S 5

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static gp_list registry = {&registry, &registry};
static uint64_t next_name;

void
gp_loop_enter(gp_domain *d)
{
    pthread_mutex_lock(&registry_lock);
    gp_list_insert(&registry, &d->everywhere);
    pthread_mutex_unlock(&registry_lock);
}

void
gp_loop_leave(gp_domain *d)
{
    pthread_mutex_lock(&registry_lock);
    gp_list_remove(&d->everywhere);
    pthread_mutex_unlock(&registry_lock);
}

static gp_domain *
find_listener(const char *name)
{
    GP_LIST_EACH (item, &registry) {
        gp_domain *d = GP_CONTAINER_OF(item, gp_domain, everywhere);

        if (*d->name && !strcmp(d->name, name))
            return d;
    }
    return NULL;
}

/* "loop:NAME" and "NAME" are the same. */
static const char *
plain_name(const char *address)
{
    return strncmp(address, "loop:", 5) ? address : address + 5;
}

static gp_status
listen_locked(gp_domain *d, const char *name, char *bound, size_t capacity)
{
    char made[32];

    if (*d->name)
        return gp_fail(GP_ERR_STATE, "listen on %s: the domain listens already",
                       name);
    if (!*name) {
        snprintf(made, sizeof(made), "auto-%llu",
                 (unsigned long long)next_name++);
        name = made;
    }
    if (find_listener(name))
        return gp_fail(GP_ERR_ADDRESS,
                       "listen on %s: the name is taken; choose another", name);
    strcpy(d->name, name);
    snprintf(bound, capacity, "loop:%s", name);
    GP_LIST_EACH (item, &registry) {
        gp_domain *other = GP_CONTAINER_OF(item, gp_domain, everywhere);

        pthread_mutex_lock(&other->lock);
        other->retry = true;
        gp_loop_wake(other);
        pthread_mutex_unlock(&other->lock);
    }
    return GP_OK;
}

gp_status
gp_loop_listen(gp_domain *d, const char *address, char *bound, size_t capacity)
{
    const char *name = plain_name(address);
    gp_status status;

    if (strlen(name) >= GP_ADDRESS_MAX - 5)
        return gp_fail(GP_ERR_ADDRESS, "listen: the name is too long");
    pthread_mutex_lock(&registry_lock);
    status = listen_locked(d, name, bound, capacity);
    pthread_mutex_unlock(&registry_lock);
    return status;
}

static gp_endpoint *
ep_create(gp_domain *d, const char *name)
{
    gp_endpoint *ep = calloc(1, sizeof(*ep));

    if (!ep)
        return NULL;
    gp_list *lists[] = {&ep->link,   &ep->event,   &ep->dirty,   &ep->ready,
                        &ep->outbox, &ep->done,    &ep->idle,    &ep->held,
                        &ep->inbox,  &ep->lent_in, &ep->returned};
    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
    ep->domain = d;
    snprintf(ep->name, sizeof(ep->name), "%s", name);
    return ep;
}

static gp_loop_pair *
pair_create(void)
{
    gp_loop_pair *pair = calloc(1, sizeof(*pair));
    pthread_condattr_t attributes;

    if (!pair)
        return NULL;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pair->lock, NULL);
    pthread_cond_init(&pair->returned, &attributes);
    pthread_condattr_destroy(&attributes);
    return pair;
}

static void
pair_destroy(gp_loop_pair *pair)
{
    pthread_cond_destroy(&pair->returned);
    pthread_mutex_destroy(&pair->lock);
    free(pair);
}

static void
sit(gp_loop_pair *pair, gp_endpoint *ep, int index)
{
    pair->side[index] = ep;
    ep->pair = pair;
    ep->index = index;
    ep->state = GP_LOOP_OPEN;
}

/* Registry lock held: the listener cannot go away meanwhile. */
static bool
meet(gp_endpoint *ep, gp_domain *listener)
{
    gp_loop_pair *pair = pair_create();
    gp_endpoint *other = pair ? ep_create(listener, ep->name) : NULL;

    if (!other) {
        if (pair)
            pair_destroy(pair);
        return false;
    }
    other->accepted = true;
    sit(pair, ep, 0);
    sit(pair, other, 1);
    pthread_mutex_lock(&listener->lock);
    gp_list_insert(&listener->incoming, &other->link);
    gp_loop_wake(listener);
    pthread_mutex_unlock(&listener->lock);
    gp_list_remove(&ep->link);
    gp_list_insert(&ep->domain->endpoints, &ep->link);
    gp_list_insert(&ep->domain->opened, &ep->event);
    if (!gp_list_empty(&ep->outbox) && gp_list_empty(&ep->dirty))
        gp_list_insert(&ep->domain->dirty, &ep->dirty);
    return true;
}

static void
try_meet(gp_endpoint *ep)
{
    gp_domain *listener;

    pthread_mutex_lock(&registry_lock);
    listener = find_listener(plain_name(ep->name));
    if (listener)
        (void)meet(ep, listener);
    pthread_mutex_unlock(&registry_lock);
}

gp_status
gp_loop_connect(gp_domain *d, const char *address, uint64_t deadline_ns,
                gp_endpoint **out)
{
    const char *name = plain_name(address);
    gp_endpoint *ep;

    if (!*name || strlen(address) >= GP_ADDRESS_MAX)
        return gp_fail(GP_ERR_ADDRESS, "connect: '%.40s' is not a name",
                       address);
    ep = ep_create(d, address);
    if (!ep)
        return gp_fail(GP_ERR_NO_MEMORY, "connect to %s: out of memory",
                       address);
    ep->start_ns = gp_clock_ns();
    ep->deadline_ns = deadline_ns;
    ep->report_ns = ep->start_ns + REPORT_NS;
    gp_list_insert(&d->waiting, &ep->link);
    try_meet(ep);
    *out = ep;
    return GP_OK;
}

static void
try_one(gp_endpoint *ep, bool appeared, uint64_t now)
{
    if (appeared)
        try_meet(ep);
    if (ep->state != GP_LOOP_CONNECTING)
        return;
    if (now >= ep->deadline_ns) {
        gp_list_remove(&ep->link);
        gp_list_insert(&ep->domain->endpoints, &ep->link);
        gp_loop_fail(ep, GP_ERR_UNREACHABLE, "nobody listens there");
    } else if (now >= ep->report_ns) {
        GP_WARN("waiting for %s: nobody listens there", ep->name);
        ep->report_ns = now + REPORT_NS;
    }
}

void
gp_loop_try_waiting(gp_domain *d, bool appeared)
{
    uint64_t now;

    if (gp_list_empty(&d->waiting))
        return;
    now = gp_clock_ns();
    GP_LIST_EACH (item, &d->waiting)
        try_one(GP_CONTAINER_OF(item, gp_endpoint, link), appeared, now);
}

uint64_t
gp_loop_next_timer(const gp_domain *d)
{
    uint64_t when = UINT64_MAX;

    GP_LIST_EACH (item, &d->waiting) {
        const gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        when = GP_MIN(when, GP_MIN(ep->deadline_ns, ep->report_ns));
    }
    return when;
}

/* Pair lock held. What the peer has not seen of our memory it never will. */
static void
take_data_back(gp_endpoint *ep, gp_endpoint *peer)
{
    GP_LIST_EACH (item, &peer->inbox) {
        if (!GP_CONTAINER_OF(item, gp_loop_message, link)->msg.region)
            continue;
        gp_list_remove(item);
        gp_list_insert(&ep->done, item);
    }
}

static bool
same_thread(const gp_endpoint *peer)
{
    return atomic_load(&peer->domain->thread) == (uintptr_t)pthread_self();
}

/* Pair lock held; the peer has been told that we close and will release. */
static void
await_lent(gp_endpoint *ep)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLOSE_WAIT_S;
    while (ep->lent && ep->pair->side[!ep->index] &&
           !same_thread(ep->pair->side[!ep->index]))
        if (pthread_cond_timedwait(&ep->pair->returned, &ep->pair->lock,
                                   &until)) {
            GP_ERROR("loop %s: the peer holds %u payloads and does not release "
                     "them",
                     ep->name, ep->lent);
            return;
        }
}

/* Leaves the pair. The last one out frees it. */
static void
part(gp_endpoint *ep)
{
    gp_loop_pair *pair = ep->pair;
    gp_endpoint *peer;

    pthread_mutex_lock(&pair->lock);
    gp_loop_return_all(ep);
    peer = pair->side[!ep->index];
    if (peer) {
        take_data_back(ep, peer);
        peer->peer_closed = true;
        gp_loop_tell(peer);
        await_lent(ep);
        peer = pair->side[!ep->index];
    }
    pair->side[ep->index] = NULL;
    ep->pair = NULL;
    pthread_mutex_unlock(&pair->lock);
    if (!peer)
        pair_destroy(pair);
}

/* The peer learns of it at once; memory is settled by ep_close(). */
static void
tell_closed(gp_endpoint *ep)
{
    gp_endpoint *peer;

    pthread_mutex_lock(&ep->pair->lock);
    peer = ep->pair->side[!ep->index];
    if (peer) {
        peer->peer_closed = true;
        gp_loop_tell(peer);
    }
    pthread_mutex_unlock(&ep->pair->lock);
}

void
gp_loop_fail(gp_endpoint *ep, gp_status status, const char *why)
{
    if (ep->state == GP_LOOP_CLOSED)
        return;
    ep->state = GP_LOOP_CLOSED;
    ep->status = status;
    if (ep->pair)
        tell_closed(ep);
    if (gp_list_empty(&ep->event))
        gp_list_insert(&ep->domain->closed, &ep->event);
    if (status != GP_OK)
        GP_WARN("loop %s: %s (%s)", ep->name, why, gp_status_text(status));
    else
        GP_DEBUG("loop %s: %s", ep->name, why);
}

void
gp_loop_ep_free(gp_endpoint *ep)
{
    gp_list_remove(&ep->link);
    gp_loop_messages_free(&ep->outbox);
    gp_loop_messages_free(&ep->done);
    gp_loop_messages_free(&ep->idle);
    gp_loop_messages_free(&ep->held);
    gp_loop_messages_free(&ep->inbox);
    gp_loop_messages_free(&ep->returned);
    gp_regions_free(&ep->regions);
    free(ep);
}

void
gp_loop_ep_close(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    if (ep->state == GP_LOOP_OPEN)
        (void)gp_loop_flush(ep);
    if (ep->pair)
        part(ep);
    ep->state = GP_LOOP_CLOSED;
    pthread_mutex_lock(&d->lock);
    gp_list_remove(&ep->ready);
    pthread_mutex_unlock(&d->lock);
    gp_list_remove(&ep->event);
    gp_list_remove(&ep->dirty);
    gp_list_remove(&ep->link);
    /* Events of the last progress() may still point into it. */
    gp_list_insert(&d->retired, &ep->link);
}
