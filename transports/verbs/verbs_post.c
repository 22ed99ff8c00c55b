/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_post.c - what is posted: queues, completions, and the way back when a
 * lane is lost.
 *
 * An entry is in one place at a time: waiting in the endpoint, assigned to a
 * lane, flying in a frame of a lane, in `sent` until SENT is reported, or free.
 * It is reported or freed only after its frame's completion, or the peer, said
 * that the frame arrived: until then it may have to be sent again.
 */
#ifdef GP_HAVE_VERBS

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_entry.h"
#include "transports/verbs/verbs_frame.h"

/* What post() takes before GP_AGAIN: data, and what control may use beyond. */
#define DATA_DEPTH    1024u
#define CONTROL_DEPTH 256u
#define CONTROL_BYTES (16u << 20)

/* Entries allocated at a time. */
#define CHUNK 64

typedef struct chunk {
    struct chunk *next;
    gp_vb_entry entries[CHUNK];
} chunk;

/* --------------------------------------------------------------- entries */

static bool
more_entries(gp_endpoint *ep)
{
    chunk *c = malloc(sizeof(*c));

    if (!c)
        return false;
    c->next = ep->pool;
    ep->pool = c;
    for (size_t i = 0; i < CHUNK; i++) {
        c->entries[i].heap = false;
        gp_list_insert(&ep->free_entries, &c->entries[i].link);
    }
    return true;
}

/* It is in no list, and its link says nothing. */
static inline gp_vb_entry *
take_entry(gp_endpoint *ep)
{
    gp_list *all = &ep->free_entries, *item = all->next;

    if (item == all) {
        if (!more_entries(ep))
            return NULL;
        item = all->next;
    }
    all->next = item->next;
    item->next->prev = all;
    return GP_CONTAINER_OF(item, gp_vb_entry, link);
}

static void
free_entry(gp_endpoint *ep, gp_vb_entry *e)
{
    if (e->heap)
        free((void *)(uintptr_t)e->payload);
    e->heap = false;
    gp_list_remove(&e->link);
    /* The one used last is in the cache. */
    gp_list_insert(ep->free_entries.next, &e->link);
}

/* The entry no longer counts against what post() takes. */
static void
forget(gp_endpoint *ep, gp_vb_entry *e)
{
    if (!e->kind && e->msg.region)
        ep->data.count--;
    else if (!e->kind)
        ep->control.count--;
    free_entry(ep, e);
}

void
gp_vb_entry_done(gp_endpoint *ep, gp_vb_entry *e)
{
    if (gp_vb_is_control(e))
        ep->control_bytes -= (size_t)e->length;
    if (!e->cookie) {
        forget(ep, e);
        return;
    }
    gp_list_remove(&e->link);
    gp_list_insert(&ep->sent, &e->link);
}

void
gp_vb_entries_free(gp_endpoint *ep)
{
    while (ep->pool) {
        chunk *c = ep->pool;

        for (size_t i = 0; i < CHUNK; i++)
            if (c->entries[i].heap)
                free((void *)(uintptr_t)c->entries[i].payload);
        ep->pool = c->next;
        free(c);
    }
    gp_list_init(&ep->free_entries);
    gp_list_init(&ep->control.waiting);
    gp_list_init(&ep->data.waiting);
    gp_list_init(&ep->notes);
    gp_list_init(&ep->sent);
    gp_vb_bounce_free(ep);
}

/* ------------------------------------------------------------------ post */

static bool
has_room(const gp_endpoint *ep, const gp_msg *msg)
{
    if (msg->region)
        return ep->data.count < DATA_DEPTH;
    return ep->data.count + ep->control.count < DATA_DEPTH + CONTROL_DEPTH &&
           ep->control_bytes + msg->payload <= CONTROL_BYTES;
}

/* Control payloads are copied: into the entry, or when longer to the heap. */
static bool
copy_control(gp_vb_entry *e, const void *payload, size_t length)
{
    uint8_t *to = e->small;

    e->payload = e->small;
    if (length > GP_VB_INLINE) {
        to = malloc(length);
        if (!to)
            return false;
        e->payload = to;
        e->heap = true;
    }
    if (length)
        memcpy(to, payload, length);
    return true;
}

/* Where a payload that is to be written lies: what the caller says, when that
 * is so, else the memory around it; NULL: in none. */
static gp_vb_mem *
memory_of(gp_domain *d, gp_mem *mem, const uint8_t *payload, uint64_t length)
{
    if (mem && payload >= mem->base &&
        (size_t)(payload - mem->base) <= mem->bytes &&
        length <= mem->bytes - (size_t)(payload - mem->base))
        return (gp_vb_mem *)mem;
    return gp_vb_mem_find(d, payload, length);
}

/* What goes by value is read with the processor: a short payload of an
 * accelerator's at once, so that nothing later needs to know. */
static gp_status
fetch_short(const gp_endpoint *ep, gp_vb_entry *e)
{
    const gp_vb_mem *mem = e->mem;
    uint8_t *copy = e->small;
    gp_status status;

    if (!mem->peer || !e->length ||
        e->length > GP_MAX(ep->domain->eager, GP_VB_BRIEF_PAYLOAD))
        return GP_OK;
    if (e->length > GP_VB_INLINE)
        copy = malloc((size_t)e->length);
    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    e->heap = copy != e->small;
    status = mem->peer->copy_out(mem->peer->user, copy, e->payload,
                                 (size_t)e->length);
    e->payload = copy;
    e->mem = NULL;
    return status;
}

static inline void
fill(gp_vb_entry *e, const gp_msg *msg, const void *payload, uint64_t cookie)
{
    e->msg = *msg;
    e->length = msg->payload;
    e->cookie = cookie;
    e->sent = 0;
    e->kind = 0;
    e->begun = false;
    e->only_lane = GP_VB_ANY_LANE;
    e->payload = payload;
    e->mem = NULL;
}

static gp_status
append(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
       uint64_t cookie)
{
    bool control = !msg->region;
    gp_vb_entry *e = take_entry(ep);

    if (!e)
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    fill(e, msg, payload, cookie);
    if (control && !copy_control(e, payload, (size_t)msg->payload)) {
        gp_list_insert(ep->free_entries.next, &e->link);
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    }
    if (control) {
        ep->control.count++;
        ep->control_bytes += (size_t)msg->payload;
        gp_list_insert(&ep->control.waiting, &e->link);
        return GP_OK;
    }
    if (e->length > ep->domain->eager ||
        e->length > ep->domain->frame_bytes / 2)
        e->mem = memory_of(ep->domain, mem, payload, e->length);
    else if (mem && ((gp_vb_mem *)mem)->peer)
        e->mem = (gp_vb_mem *)mem;
    if (e->mem && fetch_short(ep, e) != GP_OK) {
        gp_list_init(&e->link);
        ep->data.count++; /* which forget() takes back */
        forget(ep, e);
        return gp_fail(GP_ERR_SYSTEM, "%s", gp_last_error());
    }
    ep->data.count++;
    gp_list_insert(&ep->data.waiting, &e->link);
    return GP_OK;
}

static __attribute__((noinline)) gp_status
post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
     uint64_t cookie)
{
    gp_status status;

    if (ep->state == GP_VB_CLOSED || ep->state == GP_VB_LINGERING)
        return gp_fail(GP_ERR_PEER_LOST, "post: %s: the connection is closed",
                       ep->peer);
    if (msg->payload && !payload)
        return gp_fail(GP_ERR_INVALID, "post: payload is NULL");
    if (!msg->region && msg->payload > GP_CONTROL_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "post: control payload of %llu bytes, limit %u",
                       (unsigned long long)msg->payload, GP_CONTROL_MAX);
    if (!has_room(ep, msg))
        return GP_AGAIN;
    status = append(ep, msg, payload, mem, cookie);
    if (status == GP_OK)
        gp_vb_ready(ep);
    return status;
}

/* Data of the host's that goes by value, and nothing is in its way. */
static inline bool
is_simple(const gp_endpoint *ep, const gp_msg *msg, const void *payload,
          const gp_mem *mem)
{
    const gp_domain *d = ep->domain;

    return ep->state == GP_VB_OPEN && msg->region && payload &&
           ep->data.count < DATA_DEPTH && !gp_list_empty(&ep->free_entries) &&
           msg->payload <= d->eager && msg->payload <= d->frame_bytes / 2 &&
           !(mem && ((const gp_vb_mem *)mem)->peer);
}

gp_status
gp_vb_post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
           uint64_t cookie)
{
    gp_vb_entry *e;

    if (!is_simple(ep, msg, payload, mem))
        return post(ep, msg, payload, mem, cookie);
    e = take_entry(ep);
    fill(e, msg, payload, cookie);
    ep->data.count++;
    gp_list_insert(&ep->data.waiting, &e->link);
    gp_vb_ready(ep);
    return GP_OK;
}

/* ----------------------------------------------------------------- notes */

static gp_status
note(gp_endpoint *ep, gp_list *queue, gp_vb_record kind, uint8_t flags,
     const void *bytes, size_t length)
{
    gp_vb_entry *e;

    if (length > GP_VB_INLINE)
        return gp_fail(GP_ERR_INVALID, "verbs: a record of %zu bytes", length);
    e = take_entry(ep);
    if (!e)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    e->kind = (uint8_t)kind;
    e->flags = flags;
    e->length = length;
    e->cookie = 0;
    e->sent = 0;
    e->begun = false;
    e->only_lane = GP_VB_ANY_LANE;
    e->payload = e->small;
    e->mem = NULL;
    if (length)
        memcpy(e->small, bytes, length);
    gp_list_insert(queue, &e->link);
    gp_vb_ready(ep);
    return GP_OK;
}

gp_status
gp_vb_note(gp_endpoint *ep, gp_vb_record kind, uint8_t flags, const void *bytes,
           size_t length)
{
    gp_list *queue =
        kind == GP_VB_RECORD_BYE ? &ep->control.waiting : &ep->notes;

    return note(ep, queue, kind, flags, bytes, length);
}

gp_status
gp_vb_lane_note(gp_vb_lane *lane, gp_vb_record kind, uint8_t flags,
                const void *bytes, size_t length)
{
    gp_status status = note(lane->ep, &lane->notes, kind, flags, bytes, length);

    if (status == GP_OK)
        GP_CONTAINER_OF(lane->notes.prev, gp_vb_entry, link)->only_lane =
            (uint8_t)lane->index;
    return status;
}

void
gp_vb_unnote(gp_endpoint *ep, uint32_t token)
{
    for (uint32_t i = 0; i < ep->lane_count; i++) {
        if (!ep->lane[i])
            continue;
        GP_LIST_EACH (item, &ep->lane[i]->notes) {
            gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

            if (e->kind == GP_VB_RECORD_EXPOSE && gp_get32(e->small) == token)
                free_entry(ep, e);
        }
    }
}

static gp_status
repeat_withdrawals(gp_vb_lane *lane, gp_list *list)
{
    gp_status status = GP_OK;

    GP_LIST_EACH (item, list) {
        gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

        if (e->kind == GP_VB_RECORD_UNEXPOSE && status == GP_OK)
            status = gp_vb_lane_note(lane, GP_VB_RECORD_UNEXPOSE, 0, e->small,
                                     e->length);
    }
    return status;
}

/* What was said on other lanes and may not have arrived is said again here, so
 * that after SYNC the peer writes nowhere it must not. */
gp_status
gp_vb_greet(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    gp_status status = repeat_withdrawals(lane, &ep->notes);

    for (uint32_t i = 0; i < ep->lane_count && status == GP_OK; i++)
        if (ep->lane[i] && ep->lane[i] != lane)
            status = repeat_withdrawals(lane, &ep->lane[i]->flying);
    if (status == GP_OK)
        status = gp_vb_expose_all(lane);
    if (status == GP_OK)
        status = gp_vb_lane_note(lane, GP_VB_RECORD_SYNC, 0, NULL, 0);
    return status;
}

/* ----------------------------------------------------------- completions */

static gp_vb_entry *
first(const gp_list *list)
{
    return gp_list_empty(list) ? NULL
                               : GP_CONTAINER_OF(list->next, gp_vb_entry, link);
}

/* What a lane counts of an entry that it does not have any more. */
static void
leave_lane(gp_vb_lane *lane, const gp_vb_entry *e)
{
    if (gp_vb_is_data(e))
        lane->queued_bytes -= GP_MSG_BYTES + e->length;
    else if (gp_vb_is_ordered(e) && e->begun)
        lane->flying_control--;
}

static void
complete_flying(gp_vb_lane *lane)
{
    gp_vb_entry *e;

    while ((e = first(&lane->flying)) &&
           (int32_t)(e->frame - lane->done_frame) < 0) {
        lane->messages += !e->kind;
        leave_lane(lane, e);
        gp_vb_entry_done(lane->ep, e);
    }
}

void
gp_vb_retire(gp_vb_lane *lane, uint32_t position)
{
    gp_endpoint *ep = lane->ep;

    if (position - lane->sq_retired > lane->sq_posted - lane->sq_retired)
        return;
    lane->sq_retired = position;
    while (lane->done_frame != lane->next_frame &&
           (int32_t)(lane->tx_end[lane->done_frame % lane->tx_frames] -
                     position) <= 0)
        lane->done_frame++;
    complete_flying(lane);
    if (ep->bounce)
        gp_vb_bounce_give(lane, position, false);
    if (ep->stale_keys)
        gp_vb_mem_tidy(ep);
    gp_vb_ready(ep);
}

/* In front of those that wait, so that order is kept when entries come back
 * last first. */
static void
put_back(gp_vb_lane *lane, gp_vb_entry *e)
{
    gp_endpoint *ep = lane->ep;
    gp_list *queue = &ep->data.waiting;

    leave_lane(lane, e);
    if (e->only_lane != GP_VB_ANY_LANE ||
        (gp_vb_is_data(e) && ep->state == GP_VB_LINGERING)) {
        gp_vb_entry_done(ep, e);
        return;
    }
    if (gp_vb_is_ordered(e))
        queue = &ep->control.waiting;
    else if (e->kind)
        queue = &ep->notes;
    e->sent = 0;
    e->begun = false;
    gp_list_remove(&e->link);
    gp_list_insert(queue->next, &e->link);
}

static void
put_all_back(gp_vb_lane *lane, gp_list *list)
{
    while (!gp_list_empty(list))
        put_back(lane, GP_CONTAINER_OF(list->prev, gp_vb_entry, link));
}

void
gp_vb_requeue(gp_vb_lane *lane, uint32_t next)
{
    lane->next_frame = lane->done_frame = next;
    lane->tx_place = lane->tx_frames ? next % lane->tx_frames : 0;
    complete_flying(lane);
    lane->open = NULL;
    put_all_back(lane, &lane->data);
    put_all_back(lane, &lane->flying);
    put_all_back(lane, &lane->notes);
    if (lane->ep->bounce)
        gp_vb_bounce_give(lane, 0, true);
    gp_vb_ready(lane->ep);
}

/* What was begun waits for the peer's word: its writes may still be under way
 * to a queue pair that the peer has not ended yet. */
void
gp_vb_unassign(gp_vb_lane *lane)
{
    gp_list *item = lane->data.prev;

    while (item != &lane->data) {
        gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

        item = item->prev;
        if (gp_vb_is_data(e) && !e->begun && !e->sent)
            put_back(lane, e);
    }
    gp_vb_ready(lane->ep);
}

void
gp_vb_report_sent(gp_endpoint *ep, gp_vb_out *out)
{
    gp_vb_entry *e;

    while (out->count < out->max && (e = first(&ep->sent))) {
        gp_vb_emit(out, ep, GP_EVENT_SENT)->cookie = e->cookie;
        forget(ep, e);
    }
}

bool
gp_vb_has_unsent(const gp_endpoint *ep)
{
    if (!gp_list_empty(&ep->control.waiting) || !gp_list_empty(&ep->notes))
        return true;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && (ep->lane[i]->flying_control ||
                            !gp_list_empty(&ep->lane[i]->notes)))
            return true;
    return false;
}

void
gp_vb_post_failed(gp_vb_lane *lane, int error)
{
    gp_vb_break(lane, false, GP_ERR_SYSTEM,
                "posting to the send queue (%u of %u places used): %s",
                lane->sq_posted - lane->sq_retired, lane->sq_depth,
                strerror(error));
}

/* ------------------------------------------------------- single requests */

static bool
post_one(gp_vb_lane *lane, gp_vb_wr kind, enum ibv_wr_opcode opcode)
{
    struct ibv_send_wr *bad = NULL;
    struct ibv_send_wr wr = {.wr_id =
                                 gp_vb_wr_id(lane, kind, lane->sq_posted + 1),
                             .opcode = opcode,
                             .send_flags = IBV_SEND_SIGNALED};

    if (lane->ep->domain->api->post_send(lane->qp, &wr, &bad))
        return false;
    lane->sq_posted++;
    lane->unsignaled = lane->unsignaled_entries = 0;
    return true;
}

bool
gp_vb_post_drain(gp_vb_lane *lane)
{
    return post_one(lane, GP_VB_WR_DRAIN, IBV_WR_SEND);
}

void
gp_vb_probe(gp_vb_lane *lane)
{
    if (!lane->probing && gp_vb_lane_usable(lane) && gp_vb_free_places(lane))
        lane->probing = post_one(lane, GP_VB_WR_PROBE, IBV_WR_RDMA_WRITE);
}

/* ----------------------------------------------------------------- close */

/* Payloads that are in a frame were copied; those written may be read now. */
static bool
drop_lane_data(gp_vb_lane *lane)
{
    bool busy = false;

    GP_LIST_EACH (item, &lane->data) {
        gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

        if (!gp_vb_is_data(e))
            continue;
        if (e->sent || e->begun) {
            busy = true;
            continue;
        }
        leave_lane(lane, e);
        forget(lane->ep, e);
    }
    GP_LIST_EACH (item, &lane->flying) {
        gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

        busy |= gp_vb_is_data(e) && !e->begun;
    }
    return busy;
}

bool
gp_vb_drop_data(gp_endpoint *ep)
{
    bool busy = false;
    gp_vb_entry *e;

    while ((e = first(&ep->data.waiting)))
        forget(ep, e);
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i])
            busy |= drop_lane_data(ep->lane[i]);
    return busy;
}

static void
leave_list(gp_list *list, const gp_vb_mem *mem)
{
    GP_LIST_EACH (item, list) {
        gp_vb_entry *e = GP_CONTAINER_OF(item, gp_vb_entry, link);

        if (e->mem == mem)
            e->mem = NULL;
    }
}

void
gp_vb_entries_leave(gp_endpoint *ep, const gp_vb_mem *mem)
{
    leave_list(&ep->data.waiting, mem);
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i]) {
            leave_list(&ep->lane[i]->data, mem);
            leave_list(&ep->lane[i]->flying, mem);
        }
}

#endif
