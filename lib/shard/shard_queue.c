/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_queue.c - in which order a worker's answers leave.
 *
 * By priority, equal ones in the order in which they became due. What a
 * transport has taken cannot be passed any more: so while priorities differ, it
 * is given little at a time, and the rest waits here. Nothing waits for ever:
 * after SHARD_PATIENCE results that passed it, the oldest goes.
 */
#include "shard/shard_int.h"

/* What does not lie in the worker's memory is small, and goes first. */
static int64_t
rank_of(const gp_entry *e)
{
    return e->answer == ANSWER_RESULT ? e->priority : INT64_MAX;
}

static int64_t
rank_at(const gp_list *item)
{
    return rank_of(GP_CONTAINER_OF(item, gp_entry, due));
}

/* Before what an answer belongs. Backward passes end with the front layers: so
 * it is mostly near one of the ends, and is looked for from both. */
static gp_list *
find_place(gp_list *head, int64_t rank)
{
    gp_list *back = head, *front = head->next;

    while (back->prev != head && rank_at(back->prev) < rank) {
        if (rank_at(front) < rank)
            return front;
        back = back->prev;
        front = front->next;
    }
    return back;
}

/* Where all have one priority, nothing can be passed, and nothing is held. */
void
gp_entry_ask(gp_shard *s, gp_entry *e, int32_t priority)
{
    s->ranked |= s->prioritized && priority != s->priority;
    s->prioritized = true;
    s->priority = priority;
    e->priority = priority;
}

void
gp_entry_owe(gp_peer *peer, gp_entry *e)
{
    gp_entry_disown(e);
    gp_list_insert(find_place(&peer->backlog, rank_of(e)), &e->due);
    if (e->answer == ANSWER_RESULT)
        gp_list_insert(&peer->ages, &e->age);
}

void
gp_entry_disown(gp_entry *e)
{
    gp_list_remove(&e->due);
    gp_list_remove(&e->age);
}

void
gp_entry_posted(gp_peer *peer, gp_entry *e, uint64_t bytes)
{
    peer->passed = peer->ages.next == &e->age ? 0 : peer->passed + 1;
    peer->unsent += bytes;
    e->unsent += bytes;
    e->posted++;
}

/* Of several results of one chunk, which one is not said. */
void
gp_entry_sent(gp_peer *peer, gp_entry *e)
{
    uint64_t bytes = e->posted ? e->unsent / e->posted : 0;

    if (e->posted)
        e->posted--;
    e->unsent -= bytes;
    peer->unsent -= bytes;
}

/* The worker of this process gets at its results without a link. */
static bool
must_wait(const gp_shard *s, const gp_peer *peer, const gp_entry *e)
{
    return e->answer == ANSWER_RESULT && s->ranked && !peer->local &&
           peer->unsent >= SHARD_UNSENT;
}

/* The oldest result, when enough others have passed it; else `e`. */
static gp_entry *
choose(gp_peer *peer, gp_entry *e)
{
    if (e->answer != ANSWER_RESULT || peer->passed < SHARD_PATIENCE)
        return e;
    peer->passed = 0; /* also when it cannot be sent: others can */
    return GP_CONTAINER_OF(peer->ages.next, gp_entry, age);
}

/* False: there is no room for more. */
static bool
answer(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_status status;

    if (must_wait(s, peer, e))
        return false;
    status = gp_entry_answer(s, peer, e);
    if (status == GP_OK || status == GP_PENDING)
        return true;
    if (status != GP_AGAIN && status != GP_ERR_PEER_LOST)
        gp_shard_fail(s, status, "shard cannot answer: %s", gp_last_error());
    return false;
}

/* Sends answers until the transport has enough; the rest waits for the next
 * turn, as do parameters of which too many copies are under way. */
void
gp_shard_send_due(gp_shard *s, gp_peer *peer)
{
    gp_list *before = &peer->backlog;

    while (before->next != &peer->backlog) {
        gp_entry *first = GP_CONTAINER_OF(before->next, gp_entry, due);
        gp_entry *e = choose(peer, first);

        if (!answer(s, peer, e))
            return;
        if (gp_list_empty(before))
            before = &peer->backlog; /* it was the oldest, and went */
        else if (e == first && before->next == &first->due)
            before = &first->due; /* it stays: on to what is behind it */
    }
}
