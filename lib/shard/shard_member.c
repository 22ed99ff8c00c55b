/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_member.c - workers that come and go.
 *
 * Shards do not know each other, yet all of them must let a newcomer in at the
 * same step. So it is shard 0 that says who takes part: workers ask it at the
 * beginning of a step, when their requests have ended, and it answers when all
 * who take part have asked. Each of them passes the answer on to the other
 * shards, on the connections that its next pushes take: whichever comes first
 * is there before any push of that step. At that moment no member has a push
 * under way, so the versions of a tensor's chunks are equal, and a newcomer
 * goes on from there.
 *
 * Where no tensor has steps that need all workers (async, ssp, backups), nobody
 * waits for the others' questions: each is answered at once, and a newcomer is
 * let in at any moment, as if it had made as many steps as the slowest. How
 * many that is, shard 0 says to it, and it to the others.
 *
 * Who dies or leaves is known to each shard by itself, at any moment: its
 * pushes that are here count, and nobody waits for others. A rank is told from
 * its former life by the incarnation.
 */
#include <stdio.h>
#include <stdlib.h>

#include "shard/shard_int.h"

#define AHEAD_MAX (UINT64_MAX / 4)

static bool
is_member(const gp_peer *peer)
{
    return peer && peer->member && peer->state == PEER_READY;
}

bool
gp_rank_is_awaited(const gp_shard *s, uint32_t rank)
{
    return !s->elastic || is_member(s->worker[rank]);
}

uint32_t
gp_shard_members_here(const gp_shard *s)
{
    uint32_t count = 0;

    for (int64_t r = 0; r < s->size; r++)
        count += is_member(s->worker[r]);
    return count;
}

/* Those who are connected and have proven who they are. */
static uint32_t
count_present(const gp_shard *s)
{
    uint32_t count = 0;

    for (int64_t r = 0; r < s->size; r++)
        count += s->worker[r] && s->worker[r]->state != PEER_LEFT;
    return count;
}

bool
gp_member_check(gp_shard *s, gp_peer *peer)
{
    if (!s->elastic || peer->member)
        return true;
    gp_peer_refuse(s, peer, GP_ERR_STATE,
                   "worker %u takes no part yet: call gp_worker_members() "
                   "first, and set GRADPUSH_ELASTIC=on for workers as for "
                   "servers",
                   peer->rank);
    return false;
}

gp_status
gp_member_check_fit(const shard_tensor *t)
{
    const char *what = gp_mode_elastic_clash(&t->mode, &t->updater, &t->push);

    return what ? gp_fail(GP_ERR_CONFIG,
                          "tensor '%.60s': workers that come and go "
                          "(GRADPUSH_ELASTIC=on) do not go with %s",
                          t->spec->name, what)
                : GP_OK;
}

void
gp_members_joined(gp_shard *s, gp_peer *peer)
{
    gp_msg msg = {.type = GP_MSG_START};

    s->deserted_ns = 0;
    if (s->started)
        (void)gp_peer_post(s, peer, &msg, NULL, 0);
    else if (count_present(s) >= GP_MIN(s->least, (uint32_t)s->size))
        gp_shard_start(s);
}

/* What the rank has left here of a former life makes room for this one. A push
 * of the open step that is in its sum already stays its part of it. */
static void
admit_to_chunk(gp_shard *s, gp_chunk *c, uint32_t rank, bool late)
{
    gp_entry *e = &c->entry[rank];
    uint64_t open = c->version + (c->next_rank == s->size);

    if (e->pending)
        gp_entry_free(s, NULL, e);
    e->pending = false;
    if (c->tensor->arrives) {
        gp_entry_restart(c, e, late);
        return;
    }
    e->next_step = GP_MAX(e->next_step, open);
    if (e->next_step == c->version)
        c->next_rank = GP_MIN(c->next_rank, rank);
}

/* @param late  the job has begun without it. */
static void
admit(gp_shard *s, gp_peer *peer, bool late)
{
    GP_INFO("shard %lld: worker %u takes part", (long long)s->index,
            peer->rank);
    s->barrier[peer->rank] = s->barrier_count;
    gp_shard_device_drain(s); /* no push of its former life is being added */
    for (uint32_t i = 0; i < s->chunks; i++)
        admit_to_chunk(s, &s->chunk[i], peer->rank, late);
    peer->member = true;
    peer->late = late;
}

/* To all who have asked and take part. */
static gp_status
tell_members(gp_shard *s)
{
    gp_member_list list = {.epoch = s->members_epoch};
    gp_msg msg = {.type = GP_MSG_MEMBERS};
    uint32_t here = gp_shard_members_here(s);
    void *bytes = malloc(gp_member_list_bytes(here));

    list.member = calloc(here, sizeof(*list.member));
    if (!bytes || !list.member) {
        free(bytes);
        free(list.member);
        return gp_fail(GP_ERR_NO_MEMORY, "list of %u members", here);
    }
    for (int64_t r = 0; r < s->size; r++)
        if (is_member(s->worker[r]))
            list.member[list.count++] =
                (gp_life){(uint32_t)r, s->worker[r]->incarnation};
    gp_member_list_encode(&list, bytes);
    for (int64_t r = 0; r < s->size; r++) {
        if (!is_member(s->worker[r]) || !s->worker[r]->asks)
            continue;
        s->worker[r]->asks = false;
        msg.step = s->worker[r]->ahead;
        msg.payload = gp_member_list_bytes(here);
        (void)gp_peer_post(s, s->worker[r], &msg, bytes, 0);
    }
    free(bytes);
    free(list.member);
    return GP_OK;
}

/* Whether all who take part have asked, and they are enough: any number to see
 * that the others are done. */
static bool
may_begin(const gp_shard *s)
{
    uint32_t asking = 0, all = 0;

    for (int64_t r = 0; r < s->size; r++) {
        bool asks = s->worker[r] && s->worker[r]->asks;

        if (is_member(s->worker[r]) && !asks && !s->apart)
            return false;
        asking += asks;
        all += asks || is_member(s->worker[r]);
    }
    return asking > 0 &&
           (s->members_ended || all >= GP_MIN(s->least, (uint32_t)s->size));
}

/* How many may still be let in. */
static uint32_t
count_places(const gp_shard *s)
{
    uint32_t here = gp_shard_members_here(s);
    uint32_t most = s->most ? s->most : (uint32_t)s->size;

    return most - GP_MIN(most, here);
}

void
gp_members_tell_spare(gp_shard *s)
{
    char text[160];

    if (!s->elastic || s->members_epoch == 0 || count_places(s) > 0)
        return;
    for (int64_t r = 0; r < s->size; r++) {
        gp_peer *peer = s->worker[r];

        if (!peer || !peer->asks || peer->member)
            continue;
        snprintf(text, sizeof(text),
                 "%u workers take part, the most that may (max_workers); "
                 "worker %lld waits for one of them to leave",
                 gp_shard_members_here(s), (long long)r);
        gp_peer_text(s, peer, GP_MSG_WAITING, GP_PENDING, text);
    }
}

static void
begin(gp_shard *s)
{
    uint32_t places = count_places(s);

    if (s->fault != GP_OK || !may_begin(s))
        return;
    for (int64_t r = 0; r < s->size; r++) {
        gp_peer *peer = s->worker[r];

        if (!peer || !peer->asks || peer->member || places == 0)
            continue;
        admit(s, peer, s->members_epoch > 0);
        gp_shard_place(s, peer, gp_shard_slowest(s, peer->rank));
        places--;
        s->members_changed = true;
    }
    s->members_ended = false;
    s->members_epoch += s->members_changed;
    s->members_changed = false;
    s->members_since_ns = 0;
    if (tell_members(s) != GP_OK)
        gp_shard_fail(s, GP_ERR_NO_MEMORY, "%s", gp_last_error());
}

/* Whoever begins late has no first values to give. */
static bool
may_broadcast(const gp_shard *s, uint32_t rank)
{
    if (rank >= s->size)
        return false;
    if (!s->elastic)
        return !s->left[rank];
    return is_member(s->worker[rank]) && !s->worker[rank]->late;
}

/* Whether it has come to a job of which there is nothing yet, and nobody is
 * left who began it. */
static bool
has_come_too_late(const gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    const gp_peer *peer = s->worker[rank];

    if (!s->elastic || !peer || !peer->late || c->rows || c->arrived > 0 ||
        c->folded > 0 || c->version > c->tensor->spec->first_step ||
        !gp_updater_keeps(&c->tensor->updater))
        return false;
    for (uint32_t r = 0; r < (uint32_t)s->size; r++)
        if (may_broadcast(s, r))
            return false;
    return true;
}

void
gp_chunk_check_root(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];

    if (e->answer != ANSWER_RESULT || c->initialized || c->initializer)
        return;
    if (!e->init_answer && has_come_too_late(s, c, rank))
        gp_shard_fail(s, GP_ERR_PEER_LOST,
                      "all who began the job died or left before they had "
                      "broadcast tensor '%.60s', of which worker %u wants the "
                      "first values: start the job anew",
                      c->tensor->spec->name, rank);
    if (!e->init_answer || e->root == 0 || may_broadcast(s, e->root - 1))
        return;
    gp_shard_fail(s, s->elastic ? GP_ERR_PEER_LOST : GP_ERR_PEER_LEFT,
                  "worker %u died or left before it had broadcast tensor "
                  "'%.60s', of which worker %u waits for the first values: "
                  "start the job anew",
                  e->root - 1, c->tensor->spec->name, rank);
}

void
gp_shard_check_roots(gp_shard *s)
{
    for (uint32_t i = 0; i < s->chunks; i++)
        for (int64_t r = 0; r < s->size && s->fault == GP_OK; r++)
            gp_chunk_check_root(s, &s->chunk[i], (uint32_t)r);
}

void
gp_members_gone(gp_shard *s, bool in_order)
{
    s->members_changed = true;
    if (in_order && s->members_epoch > 0 && gp_shard_members_here(s) == 0)
        s->members_ended = true;
    if (count_present(s) == 0) {
        s->members_since_ns = 0;
        s->deserted_ns = in_order && s->started ? 0 : gp_deadline(s->patience);
    }
    gp_shard_check_roots(s);
    for (uint32_t i = 0; i < s->chunks && s->fault == GP_OK; i++)
        gp_chunk_advance(s, &s->chunk[i]);
    gp_shard_recount(s);
    gp_barrier_advance(s);
    begin(s);
}

void
gp_members_expire(gp_shard *s, uint64_t now)
{
    if (!s->deserted_ns || now < s->deserted_ns || s->fault != GP_OK)
        return;
    gp_shard_fail(s, GP_ERR_PEER_LOST,
                  "all workers died, and nobody came within %g s "
                  "(connect_timeout)",
                  s->patience);
}

bool
gp_members_all_left(const gp_shard *s)
{
    return s->joined > 0 && !s->deserted_ns && count_present(s) == 0;
}

void
gp_members_describe(const gp_shard *s, char *text, size_t capacity)
{
    uint32_t present = count_present(s),
             least = GP_MIN(s->least, (uint32_t)s->size);
    int64_t late = 0;

    if (present < least) {
        snprintf(text, capacity,
                 "%u of at least %u workers (min_workers) are here", present,
                 least);
        return;
    }
    while (late < s->size &&
           (!is_member(s->worker[late]) || s->worker[late]->asks))
        late++;
    if (late < s->size)
        snprintf(text, capacity,
                 "the next step waits for worker %lld to call "
                 "gp_worker_members()",
                 (long long)late);
    else
        snprintf(text, capacity, "the next step waits for newcomers");
}

static const gp_life *
find_member(const gp_member_list *list, uint32_t rank)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->member[i].rank == rank)
            return &list->member[i];
    return NULL;
}

static bool
is_listed(const gp_member_list *list, const gp_peer *peer)
{
    const gp_life *m = find_member(list, peer->rank);

    return m && m->incarnation == peer->incarnation;
}

/* What shard 0 has said, by way of a worker. Who is not named has died. */
static void
follow(gp_shard *s, const gp_member_list *list)
{
    s->members_epoch = list->epoch;
    for (int64_t r = 0; r < s->size; r++) {
        gp_peer *peer = s->worker[r];

        if (!peer || peer->state != PEER_READY)
            continue;
        if (!is_listed(list, peer) || peer->member)
            continue;
        admit(s, peer, list->epoch > 1);
        peer->late = false; /* until its own first list says so */
    }
    for (int64_t r = 0; r < s->size; r++)
        if (is_member(s->worker[r]) && !is_listed(list, s->worker[r]))
            gp_shard_drop(s, s->worker[r], GP_ERR_PEER_LOST);
}

static gp_status
take_list(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    gp_member_list list;
    gp_status status;

    if (s->index == 0)
        return gp_fail(GP_ERR_PROTOCOL, "list of members for shard 0");
    status = gp_member_list_decode(event->payload, event->msg.payload,
                                   (uint32_t)s->size, &list);
    if (status != GP_OK)
        return status;
    if (!is_listed(&list, peer))
        status = gp_fail(GP_ERR_PROTOCOL, "list of members without itself");
    else if (event->msg.step > AHEAD_MAX)
        status = gp_fail(GP_ERR_PROTOCOL, "%llu steps ahead",
                         (unsigned long long)event->msg.step);
    else if (list.epoch > s->members_epoch)
        follow(s, &list);
    if (status == GP_OK && peer->member && !peer->placed) {
        peer->late = list.epoch > 1;
        gp_shard_place(s, peer, event->msg.step);
        gp_shard_check_roots(s);
    }
    free(list.member);
    return status;
}

static gp_status
take_question(gp_shard *s, gp_peer *peer)
{
    if (s->index != 0 || peer->asks)
        return gp_fail(GP_ERR_PROTOCOL, "question for members out of turn");
    peer->asks = true;
    if (!s->members_since_ns)
        s->members_since_ns = gp_clock_ns();
    begin(s);
    return GP_OK;
}

void
gp_shard_members(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    gp_status status;

    if (s->fault != GP_OK)
        return;
    if (!s->elastic) {
        gp_peer_refuse(s, peer, GP_ERR_MISMATCH,
                       "this shard serves no workers that come and go: set "
                       "GRADPUSH_ELASTIC=on for servers as for workers");
        return;
    }
    status = gp_push_check_sender(s, peer, &event->msg);
    if (status == GP_OK)
        status = event->msg.payload ? take_list(s, peer, event)
                                    : take_question(s, peer);
    if (status == GP_OK)
        return;
    GP_ERROR("worker %u: %s", peer->rank, gp_last_error());
    gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
}
