/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_early.c - messages that are seen in memory before their completion
 * came, and progress(), which looks for them first.
 *
 * Between the last byte of a message and the owner, who may answer it, is only
 * what has to be: what is to be noted for later looks, and what else there is
 * to do, waits for the next call. A message that is nothing but data for a
 * region is read where it arrived: its header once, before it is believed, and
 * what its sender changes in the payload after that is the sender's own.
 */
#ifdef GP_HAVE_VERBS

#include <string.h>

#include "transports/verbs/verbs_early.h"

/* Looks into memory, of all watched lanes: in each call; and at most, before
 * anything else is done; and messages so found in a row. */
#define LOOKS_EACH 8u
#ifdef __SANITIZE_THREAD__ /* each takes a hundred times as long there */
#define LOOKS_MAX 64u
#else
#define LOOKS_MAX 8192u
#endif
#define FOUND_MAX 16u

/* Calls cost more than what they call. */
#ifdef __SANITIZE_THREAD__
#define WHOLLY_INLINE inline
#else
#define WHOLLY_INLINE inline __attribute__((always_inline))
#endif

/* Looks at a frame that has begun to arrive. */
#define PARTLY 32u

/* Where the next frame will be: in the buffer that was posted first. NULL: in
 * none, or in one that was not given back yet. */
static inline gp_vb_received *
awaited(gp_vb_lane *lane)
{
    gp_vb_received *f = lane->awaited;

    if (!f) {
        if (lane->arrived == lane->posted)
            return NULL;
        f = &lane->buffers[lane->order[lane->arrived % lane->rx_frames]];
        lane->awaited = f;
        lane->look_at = gp_vb_place_of(lane, f->buffer);
    }
    return gp_list_empty(&f->link) ? f : NULL;
}

/* A brief frame can go to the owner at once, and need not wait behind others.
 */
static inline bool
may_deliver(const gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;

    return ep->state == GP_VB_OPEN && ep->announced && !ep->deaf &&
           ep->lane_count == 1 && gp_list_empty(&ep->received) &&
           gp_list_empty(&ep->domain->broken);
}

/* Nothing is special about data that comes on it. */
static inline bool
is_plain(const gp_vb_lane *lane)
{
    return lane->state == GP_VB_LANE_UP && !lane->assembles &&
           !lane->ep->shows_peers && !lane->ep->domain->checksum;
}

/* Short enough for a loop, which is in the cache when others are not. */
GP_VB_UNWATCHED static inline void
store(uint8_t *to, const volatile gp_vb_word *from, size_t bytes)
{
    uint64_t value, next;

    for (; bytes >= 16; bytes -= 16, to += 16, from += 2) {
        value = from[0];
        next = from[1];
        memcpy(to, &value, 8);
        memcpy(to + 8, &next, 8);
    }
    if (bytes & 8) {
        value = *from++;
        memcpy(to, &value, 8);
        to += 8;
    }
    if (bytes & 7)
        for (value = le64toh(*from), bytes &= 7; bytes; bytes--, value >>= 8)
            *to++ = (uint8_t)value;
}

/* The frame that has begun to arrive there: OTHER where it is more than data
 * for a region that is there. */
GP_VB_UNWATCHED static WHOLLY_INLINE gp_vb_seen
take_plain(gp_vb_lane *lane, const uint8_t *from, gp_event *event)
{
    const volatile gp_vb_word *words =
        (const volatile gp_vb_word *)(const void *)from + GP_VB_BRIEF_HEAD;
    const gp_endpoint *ep = lane->ep;
    gp_msg *msg = &event->msg;
    uint64_t first;
    uint8_t *to;

    if (!gp_vb_brief_whole(from, GP_VB_BRIEF_MAX, lane->expected, &first))
        return GP_VB_NOTHING;
    if (gp_vb_brief_granted(first) != (uint16_t)lane->granted)
        return GP_VB_OTHER;
    words = gp_vb_brief_read(first, words, msg);
    if (!words || !msg->region)
        return GP_VB_OTHER;
    to = gp_regions_at(&ep->regions, msg->region, msg->offset, msg->payload);
    if (!to)
        return GP_VB_OTHER;
    store(to, words, (size_t)msg->payload);
    event->payload = to;
    return GP_VB_EVENT;
}

/* Such a frame is done with, but for its completion. */
static inline void
note_taken(gp_vb_lane *lane, gp_vb_received *f)
{
    lane->expected++;
    lane->arrived++;
    lane->awaited = NULL;
    lane->messages++;
    f->early = f->released = lane->alive = true;
}

static inline void
describe(gp_event *event, gp_endpoint *ep)
{
    event->type = GP_EVENT_MESSAGE;
    event->status = GP_OK;
    event->ep = ep;
    event->user = ep->user;
    event->cookie = 0;
}

static inline __attribute__((always_inline)) gp_vb_seen
look(gp_vb_lane *lane, uint32_t looks, gp_event *events, int max)
{
    gp_vb_received *f = awaited(lane);
    uint32_t left = looks, partly = PARTLY, number = lane->expected;
    bool now = max > 0 && may_deliver(lane), plain = now && is_plain(lane);
    gp_vb_seen seen = GP_VB_NOTHING;

    while (left && f && !seen) {
        left--;
        if (!gp_vb_brief_here(lane->look_at, number))
            continue;
        seen = plain ? take_plain(lane, lane->look_at, events) : GP_VB_OTHER;
        if (seen == GP_VB_EVENT) {
            describe(events, lane->ep);
            note_taken(lane, f);
        } else if (seen) {
            seen = gp_vb_take_early(f, now ? events : NULL);
        }
        if (!seen && !--partly)
            seen = GP_VB_OTHER;
    }
    lane->ep->domain->looks += looks - (seen ? left : 0);
    return seen;
}

gp_vb_seen
gp_vb_look(gp_vb_lane *lane, uint32_t looks, gp_event *events, int max)
{
    return look(lane, looks, events, max);
}

/* Delivers what waits on a lane; how many events. */
static __attribute__((noinline)) int
hand_over(gp_vb_lane *lane, gp_event *events, int max)
{
    gp_vb_out out = {events, 0, max};

    if (lane->ep->state == GP_VB_OPEN && lane->ep->announced &&
        gp_list_empty(&lane->ep->domain->broken))
        gp_vb_hand_over(lane->ep, &out);
    return out.count;
}

/* So many looks, at all lanes in turn, for a message; returns how many events
 * came of it, or -1: there was none, or something that cannot be taken by
 * looking. */
static inline int
look_around(gp_domain *d, uint32_t looks, gp_event *events, int max)
{
    uint32_t lanes = d->watched_count, each = lanes > 1 ? 1 : looks;

    for (uint32_t i = 0; looks; looks -= GP_MIN(looks, each)) {
        gp_vb_lane *lane = d->watched[i];
        gp_vb_seen seen = look(lane, each, events, max);

        if (seen == GP_VB_EVENT)
            return 1;
        if (seen)
            return seen == GP_VB_WAITS ? hand_over(lane, events, max) : -1;
        i = i + 1 == lanes ? 0 : i + 1;
    }
    return -1;
}

/* How many looks the next message gets before anything else is done: twice as
 * many as the last one took; less again only slowly. */
static inline void
be_patient(gp_domain *d)
{
    uint32_t before = d->patience - d->patience / 8;

    if (d->looks >= LOOKS_MAX)
        before = d->looks = d->patience / 4;
    d->patience = GP_MIN(GP_MAX(2 * d->looks, before), LOOKS_MAX);
    d->looks = 0;
    d->looked = d->waited = false;
}

/* How many more looks there are when those of this call found nothing. */
static uint32_t
more_looks(gp_domain *d)
{
    if (d->waited || !gp_vb_all_rest(d))
        return 0;
    d->waited = true;
    return d->patience;
}

/*
 * A message that is seen in memory goes to the owner at once; what else there
 * is to do, for this endpoint too, waits for one of the next calls. All of that
 * takes much longer than a look. So where the last message was seen in memory,
 * the next one is waited for a little before anything else is done.
 */
static inline int
serve_at_once(gp_domain *d, gp_event *events, int max)
{
    uint32_t looks = GP_MAX(LOOKS_EACH, d->watched_count);
    int found;

    if (d->looked)
        be_patient(d);
    if (!d->watched_count || d->found == FOUND_MAX) {
        d->found = 0;
        return 0;
    }
    d->looks = GP_MIN(d->looks, LOOKS_MAX);
    do {
        found = look_around(d, looks, events, max);
        if (found >= 0) {
            d->looked = true;
            d->found++;
            return found;
        }
        looks = more_looks(d);
    } while (looks);
    d->found = 0;
    return 0;
}

int
gp_vb_progress(gp_domain *d, gp_event *events, int max)
{
    int found = serve_at_once(d, events, max);

    return found ? found : gp_vb_progress_all(d, events, max);
}

#endif
