/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.c - life of a shard, and its turn of the driver.
 *
 * Messages posted while events are handled are flushed once at the end of the
 * turn, so that everything for one worker leaves in one system call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/paths.h"
#include "shard/shard_int.h"

/* A second network without events for so many polls is polled this rarely. */
#define IDLE_POLLS 256u
#define REST_POLLS 16u
#define BUSY_TURNS 64u /* between two looks at the clock */

static int
handle(gp_shard *s, shard_link *link, const gp_event *event)
{
    gp_peer *peer = event->user;

    if (event->type != GP_EVENT_ACCEPTED && (!peer || peer->dead))
        return 1;
    switch (event->type) {
    case GP_EVENT_ACCEPTED:
        gp_shard_accept(s, event, link);
        break;
    case GP_EVENT_MESSAGE:
        if (event->msg.type == GP_MSG_PUSH && peer->state >= PEER_READY)
            gp_shard_push(s, peer, event);
        else if (event->msg.type == GP_MSG_LOOKUP && peer->state >= PEER_READY)
            gp_shard_lookup(s, peer, event);
        else
            gp_shard_control(s, peer, event);
        break;
    case GP_EVENT_SENT:
        gp_shard_sent(s, peer, event->cookie);
        break;
    case GP_EVENT_CLOSED:
        gp_shard_drop(s, peer, event->status);
        break;
    default:
        break;
    }
    return 1;
}

/* Credits that found no message to ride on get one of their own. */
static void
return_credits(gp_shard *s, gp_peer *peer)
{
    gp_msg msg = {.type = GP_MSG_CREDIT};

    if (peer->free_credits && peer->state == PEER_READY)
        (void)gp_peer_post(s, peer, &msg, NULL, 0);
}

static void
flush_peers(gp_shard *s)
{
    if (s->norm_unsent)
        gp_norms_send(s);
    GP_LIST_EACH (item, &s->peers) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (!gp_list_empty(&peer->backlog))
            gp_shard_send_due(s, peer);
        return_credits(s, peer);
        if (peer->flush) {
            peer->flush = false;
            (void)peer->ops->flush(peer->ep);
        }
    }
}

static bool
all_gone(const gp_shard *s)
{
    if (s->fault != GP_OK) {
        if (s->size < 0)
            return true;
        for (int64_t r = 0; r < s->size; r++)
            if (s->worker[r] && s->worker[r]->state != PEER_LEFT)
                return false;
        return true;
    }
    if (s->elastic)
        return gp_members_all_left(s);
    return s->size > 0 && s->departed == (uint32_t)s->size;
}

static void
finish(gp_shard *s)
{
    if (s->finished || !all_gone(s))
        return;
    s->finished = true;
    if (s->on_finished)
        s->on_finished(s->user, s->fault, s->fault_text);
}

/* With auto most jobs use one of two networks: the other one is looked at now
 * and then, and whenever arm() says that it has something. */
static bool
is_resting(shard_link *link, int number)
{
    return number > 0 && !link->local && link->idle > IDLE_POLLS &&
           ++link->idle % REST_POLLS != 0;
}

/* Connections have time to give up, and workers to go on, while there is
 * something to do; who is late is said even if there always is. */
static void
look_at_clock(gp_shard *s, bool busy)
{
    uint64_t now;

    if (busy && ++s->busy_turns < BUSY_TURNS)
        return;
    s->busy_turns = 0;
    now = gp_clock_ns();
    if (!busy) {
        gp_shard_expire(s, now);
        gp_members_expire(s, now);
    }
    if (now >= s->report_ns)
        gp_shard_report(s, now);
}

static int
shard_poll(void *self)
{
    gp_shard *s = self;
    gp_event events[SHARD_EVENTS];
    int done = 0;

    for (int i = 0; i < s->links; i++) {
        shard_link *link = &s->link[i];
        int n;

        if (is_resting(link, i))
            continue;
        n = link->ops->progress(link->domain, events, SHARD_EVENTS);

        if (n < 0)
            gp_shard_fail(s, (gp_status)n, "transport %s failed: %s",
                          link->ops->name, gp_status_text((gp_status)n));
        link->idle = n ? 0 : link->idle + 1;
        for (int k = 0; k < n; k++)
            done += handle(s, link, &events[k]);
    }
    look_at_clock(s, done > 0);
    if (s->device)
        done += gp_shard_device_turn(s);
    flush_peers(s);
    gp_shard_bury(s);
    finish(s);
    return done;
}

static bool
shard_arm(void *self)
{
    gp_shard *s = self;

    if (s->device && gp_shard_device_is_busy(s))
        return false;
    for (int i = 0; i < s->links; i++)
        if (s->link[i].ops->arm(s->link[i].domain) != GP_OK)
            return false;
    return true;
}

static uint64_t
shard_deadline(void *self)
{
    gp_shard *s = self;
    uint64_t at = s->report_ns;

    GP_LIST_EACH (item, &s->peers) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (peer->state == PEER_STRANGER)
            at = GP_MIN(at, peer->deadline);
        if (peer->full_since_ns)
            at = GP_MIN(at, peer->full_since_ns + SHARD_RELIEF_NS);
    }
    return at;
}

gp_driven
gp_shard_driven(gp_shard *s)
{
    gp_driven driven = {.self = s,
                        .poll = shard_poll,
                        .arm = shard_arm,
                        .deadline = shard_deadline,
                        .fd_count = s->links};

    for (int i = 0; i < s->links; i++)
        driven.fds[i] = s->link[i].ops->event_fd(s->link[i].domain);
    return driven;
}

bool
gp_shard_done(void *self)
{
    return atomic_load(&((gp_shard *)self)->finished);
}

const char *
gp_shard_address(const gp_shard *s)
{
    return s->address;
}

gp_status
gp_transport_choose(const gp_config *config, const gp_transport_ops **out)
{
    const char *name = gp_config_get(config, "transport");
    const gp_transport_ops *ops;
    const char *names[32];
    const char *near = NULL;
    size_t count = 0;

    if (strcmp(name, "auto") == 0)
        name = "tcp";
    ops = gp_transport_find(name);
    if (ops) {
        *out = ops;
        return GP_OK;
    }
    for (; count < GP_COUNT_OF(names) && gp_transport_at(count); count++)
        names[count] = gp_transport_at(count)->name;
    if (gp_nearest(name, names, count, &near))
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TRANSPORT is '%s': no such transport in this "
                       "build; did you mean '%s'?",
                       name, near);
    return gp_fail(GP_ERR_CONFIG,
                   "GRADPUSH_TRANSPORT is '%s': no such transport in this "
                   "build; 'gradpush info --transports' lists them",
                   name);
}

/* As transports read the setting: with auto, memory and devices are trusted, so
 * nobody would look at it. */
static bool
wants_checksum(const gp_config *config, const gp_transport_ops *ops)
{
    const char *checksum = gp_config_get(config, "checksum");

    if (strcmp(checksum, "auto") == 0)
        return !(ops->caps & (GP_CAP_LOCAL | GP_CAP_DEVICE));
    return strcmp(checksum, "on") == 0;
}

/* A wrong address is named with where it was given. */
static gp_status
explain_listen(const gp_config *config, const char *address, gp_status status)
{
    char why[GP_TEXT_MAX];

    if (!*address || strcmp(address, gp_config_get(config, "listen")) != 0)
        return status;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(status, "GRADPUSH_LISTEN: %s", why);
}

static gp_status
open_link(gp_shard *s, const gp_config *config, const gp_transport_ops *ops,
          const char *address, char *bound)
{
    shard_link *link = &s->link[s->links];
    gp_status status = ops->open(config, &link->domain);

    if (status != GP_OK)
        return status;
    status = ops->listen(link->domain, address, bound, GP_ADDRESS_MAX);
    if (status != GP_OK) {
        ops->close(link->domain);
        link->domain = NULL;
        return explain_listen(config, address, status);
    }
    link->ops = ops;
    link->checksum = wants_checksum(config, ops);
    s->links++;
    return GP_OK;
}

/* Listens on every transport that is offered. The last one must work; what is
 * offered beside it is left out when it does not. */
static gp_status
open_offered(gp_shard *s, const gp_config *config)
{
    const gp_transport_ops *ops[GP_PATHS_MAX];
    char bound[GP_PATHS_MAX][GP_ADDRESS_MAX];
    size_t count = 0;
    gp_status status = gp_paths_offer(config, ops, &count);

    for (size_t i = 0; status == GP_OK && i < count; i++) {
        status = open_link(s, config, ops[i], gp_config_get(config, "listen"),
                           bound[s->links]);
        if (status != GP_OK && i + 1 < count) {
            GP_INFO("shards listen without %s: %s", ops[i]->name,
                    gp_last_error());
            status = GP_OK;
        }
    }
    for (int i = 0; status == GP_OK && i < s->links; i++)
        status = gp_paths_append(s->link[i].ops->name, bound[i], s->links > 1,
                                 s->address, sizeof(s->address));
    return status;
}

static gp_status
open_links(gp_shard *s, const gp_config *config, const gp_shard_options *o)
{
    char ignored[GP_ADDRESS_MAX];
    gp_status status = open_offered(s, config);

    if (status != GP_OK || !o->local)
        return status;
    status = open_link(s, config, gp_transport_find("loop"), o->local, ignored);
    if (status == GP_OK)
        s->link[s->links - 1].local = true;
    return status;
}

static void
configure(gp_shard *s, const gp_config *config, const gp_shard_options *o)
{
    s->index = o->index;
    s->shards = o->shards;
    s->size = -1;
    s->told = o->size;
    s->window = (uint32_t)gp_config_int(config, "slots");
    s->chunk_bytes = gp_config_size(config, "chunk_bytes");
    s->rows_budget.limit = gp_config_size(config, "rows_memory");
    s->epoch = (uint32_t)gp_config_int(config, "epoch");
    s->elastic = strcmp(gp_config_get(config, "elastic"), "on") == 0;
    s->least = (uint32_t)gp_config_int(config, "min_workers");
    s->most = (uint32_t)gp_config_int(config, "max_workers");
    s->patience = gp_config_seconds(config, "connect_timeout");
    s->lag_threshold_ns =
        (uint64_t)(gp_config_seconds(config, "straggler_threshold") * 1e9);
    s->handshake_timeout = gp_config_seconds(config, "handshake_timeout");
    s->job = gp_hash(o->job, strlen(o->job));
    strncpy(s->job_name, o->job, sizeof(s->job_name) - 1);
    strncpy(s->token, o->token, sizeof(s->token) - 1);
    s->report_ns = UINT64_MAX;
    s->on_finished = o->finished;
    s->destination = o->destination;
    s->user = o->user;
    gp_list_init(&s->peers);
    gp_list_init(&s->graves);
}

gp_status
gp_shard_create(const gp_config *config, const gp_shard_options *options,
                gp_shard **out)
{
    gp_shard *s = calloc(1, sizeof(*s));
    gp_status status;

    if (!s)
        return gp_fail(GP_ERR_NO_MEMORY, "shard");
    configure(s, config, options);
    status = gp_shard_device_open(s, config);
    if (status == GP_OK)
        status = open_links(s, config, options);
    if (status == GP_OK)
        status = gp_shard_direct_open(s, config);
    if (status != GP_OK) {
        gp_shard_destroy(s);
        return status;
    }
    *out = s;
    return GP_OK;
}

void
gp_shard_destroy(gp_shard *s)
{
    if (!s)
        return;
    s->finished = true;
    gp_shard_device_settle(s);
    while (!gp_list_empty(&s->peers))
        gp_shard_drop(s, GP_CONTAINER_OF(s->peers.next, gp_peer, link), GP_OK);
    gp_shard_bury(s);
    gp_shard_forget(s); /* memory that domains know goes before they do */
    for (int i = 0; i < s->links; i++)
        s->link[i].ops->close(s->link[i].domain);
    gp_shard_device_close(s);
    free(s->worker);
    free(s->left);
    free(s->barrier);
    free(s->lag);
    free(s);
}
