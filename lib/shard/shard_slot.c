/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_slot.c - results that leave from the slot in which their push landed.
 *
 * The sum of a single worker's push is that push. Where a device sends it, the
 * slot is as good as any memory, and nothing is copied: the slot goes back when
 * the result was sent, not when the push was folded. As with a result that was
 * formed in a local worker's memory, nobody asks for it again.
 *
 * Such slots are given back with the next message. One of its own would cost
 * more than it brings, as long as the worker has enough others.
 */
#include "shard/shard_int.h"

/* Slots that the worker does not have, or does not know that it has. */
static uint64_t
missing_slots(const gp_peer *peer)
{
    return peer->held | peer->idle_credits;
}

static bool
are_few_left(const gp_shard *s, const gp_peer *peer)
{
    uint64_t missing = missing_slots(peer), all = gp_slots_mask(0, s->slots);

    return 2 * (uint32_t)__builtin_popcountll(missing) > s->slots ||
           gp_slots_find(all & ~missing, s->most_slots) < 0;
}

float *
gp_chunk_slot_sum(const gp_shard *s, const gp_chunk *c)
{
    const gp_entry *e = &c->entry[0];
    const gp_peer *peer = s->worker[0];

    if (s->size != 1 || s->elastic || !peer || peer->local || c->history ||
        !(peer->ops->caps & GP_CAP_DEVICE) || !c->tensor->pull_dense ||
        e->codec != c->tensor->dense || e->weight != 1.0 || e->stash ||
        e->answer != ANSWER_RESULT || are_few_left(s, peer))
        return NULL;
    return (float *)(uintptr_t)e->payload;
}

void
gp_chunk_keep_slot(gp_chunk *c)
{
    gp_entry *e = &c->entry[0];

    c->slot_payload = e->payload;
    c->slot_msg = e->msg;
    e->payload = NULL;
}

void
gp_chunk_leave_slot(gp_shard *s, gp_peer *peer, gp_chunk *c)
{
    uint64_t slots;

    if (!c->slot_payload)
        return;
    peer->ops->release(peer->ep, &c->slot_msg, c->slot_payload);
    slots = gp_push_slots(s, &c->slot_msg);
    peer->held &= ~slots;
    peer->idle_credits |= slots;
    if (peer->full_since_ns && !gp_peer_is_full(s, peer))
        peer->full_since_ns = 0;
    c->slot_payload = NULL;
    c->lent = NULL;
    c->spent = true;
    if (!are_few_left(s, peer))
        return;
    peer->free_credits |= peer->idle_credits;
    peer->idle_credits = 0;
}
