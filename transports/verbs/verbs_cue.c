/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_cue.c - see verbs_cue.h.
 *
 * What a cue can say is found out by reading it: a cue is made of what differs,
 * and taken only when it gives back the very message.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "transports/verbs/verbs_cue.h"

#define INDEX      (GP_VB_CUES - 1)
#define INDEX_BITS 9
#define FIRST_AT   9
#define FIRST      0x3Fu
#define COUNT_AT   15
#define COUNT      0x3Fu
#define STEP_AT    21
#define STEP       0x3u
#define COOKIE_AT  23
#define COOKIE     0x3Fu
#define NUMBER_AT  29
#define NUMBER     0x7u

/* Chunks of a shard are spaced by the number of shards, often a power of two.
 */
static uint32_t
index_of(uint32_t chunk)
{
    return (chunk ^ chunk >> INDEX_BITS) & INDEX;
}

void
gp_vb_cues_reset(gp_vb_cues *cues)
{
    gp_msg *kept = cues->kept;

    if (cues->any) /* who says so again and again makes no work */
        memset(kept, 0, GP_VB_CUES * sizeof(*kept));
    *cues = (gp_vb_cues){.kept = kept};
}

void
gp_vb_cues_free(gp_vb_cues *cues)
{
    free(cues->kept);
    *cues = (gp_vb_cues){0};
}

/* What the next cue counts from. */
static void
note(gp_vb_cues *cues, const gp_msg *msg)
{
    cues->step = msg->step;
    cues->cookie = msg->cookie;
}

bool
gp_vb_cues_keep(gp_vb_cues *cues, const gp_msg *msg)
{
    if (!cues->kept && !cues->missed)
        cues->kept = calloc(GP_VB_CUES, sizeof(*cues->kept));
    if (!cues->kept) {
        cues->missed = true;
        return false;
    }
    if (msg->slot && msg->offset % msg->slot == 0)
        cues->stride = msg->offset / msg->slot;
    cues->kept[index_of(msg->chunk)] = *msg;
    cues->any = true;
    note(cues, msg);
    return true;
}

/* Only its slot may differ, and what follows from that; else the credits. */
static bool
is_slotted(const gp_vb_cues *cues, const gp_msg *kept)
{
    return cues->stride && kept->slot <= FIRST &&
           kept->offset == kept->slot * cues->stride;
}

/* Where credits begin; 0 has none. */
static uint32_t
first_of(uint64_t credits)
{
    return credits ? (uint32_t)__builtin_ctzll(credits) : 0;
}

/* kept->region is not 0. */
static void
follow(const gp_vb_cues *cues, const gp_msg *kept, uint32_t cue, gp_msg *out)
{
    uint32_t first = cue >> FIRST_AT & FIRST, count = cue >> COUNT_AT & COUNT;
    uint64_t cookie = cue >> COOKIE_AT & COOKIE, sign = (COOKIE + 1) / 2;

    *out = *kept;
    out->step = cues->step + (cue >> STEP_AT & STEP) - 1;
    out->cookie = cues->cookie + (cookie ^ sign) - sign;
    if (is_slotted(cues, kept)) {
        out->slot = (uint16_t)first;
        out->offset = first * cues->stride;
    } else {
        out->credits = (((uint64_t)1 << count) - 1) << first;
    }
}

static bool
is_same(const gp_msg *a, const gp_msg *b)
{
    return a->type == b->type && a->dtype == b->dtype && a->flags == b->flags &&
           a->slot == b->slot && a->status == b->status && a->job == b->job &&
           a->worker == b->worker && a->incarnation == b->incarnation &&
           a->epoch == b->epoch && a->chunk == b->chunk && a->step == b->step &&
           a->pipeline == b->pipeline && a->region == b->region &&
           a->elements == b->elements && a->payload == b->payload &&
           a->offset == b->offset && a->cookie == b->cookie &&
           a->credits == b->credits && a->aux == b->aux &&
           a->payload_crc == b->payload_crc;
}

bool
gp_vb_cue_make(gp_vb_cues *cues, uint32_t number, const gp_msg *msg,
               uint32_t *cue)
{
    const gp_msg *kept = cues->kept ? &cues->kept[index_of(msg->chunk)] : NULL;
    uint32_t first, count = 0;
    gp_msg read;

    if (!kept || !kept->region)
        return false;
    if (is_slotted(cues, kept)) {
        first = msg->slot;
    } else {
        first = first_of(msg->credits);
        count = (uint32_t)__builtin_popcountll(msg->credits);
    }
    *cue = index_of(msg->chunk) | (first & FIRST) << FIRST_AT |
           (count & COUNT) << COUNT_AT |
           ((uint32_t)(msg->step - cues->step + 1) & STEP) << STEP_AT |
           ((uint32_t)(msg->cookie - cues->cookie) & COOKIE) << COOKIE_AT |
           (number & NUMBER) << NUMBER_AT;
    follow(cues, kept, *cue, &read);
    if (!is_same(msg, &read))
        return false;
    note(cues, msg);
    return true;
}

bool
gp_vb_cue_read(gp_vb_cues *cues, uint32_t number, uint32_t cue, gp_msg *out)
{
    const gp_msg *kept = cues->kept ? &cues->kept[cue & INDEX] : NULL;

    if (!kept || !kept->region || ((cue >> NUMBER_AT ^ number) & NUMBER))
        return false;
    follow(cues, kept, cue, out);
    note(cues, out);
    return true;
}
