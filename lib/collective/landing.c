/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landing.c - slots that pieces land in, and pieces that copies leave from.
 *
 * Slots are given back when their payload was used. Messages of one slot have
 * slots of their own, the last ones, and are given back several at a time, so
 * that neither kind can cut up the room of the other.
 */
#include <stdlib.h>
#include <string.h>

#include "collective/coll_int.h"

#define LARGE (GP_LANDING_SLOTS - GP_LANDING_SMALL)

static uint64_t
small_mask(void)
{
    return gp_slots_mask(LARGE, GP_LANDING_SMALL);
}

static size_t
slots_bytes(const gp_member *m)
{
    return GP_LANDING_SLOTS * m->group->slot_bytes;
}

/* Whether payloads will be copied before they are sent, as opposed to a few of
 * them at most: then the copies lie in one memory with the slots, because each
 * memory costs a region of the device. */
static bool
will_copy(const gp_member *m)
{
    const gp_group *g = m->group;

    return gp_link_registers(m->mate->via) && !m->staging.base &&
           (g->coded || g->mesh->worker->buffers == 0);
}

static gp_status
open_memory(gp_member *m)
{
    worker_link *via = m->mate->via;
    size_t bytes = slots_bytes(m) * (will_copy(m) ? 2 : 1);
    gp_status status;

    m->arrival = calloc(GP_LANDING_SLOTS, sizeof(*m->arrival));
    m->memory = gp_alloc_aligned(bytes);
    if (!m->memory || !m->arrival)
        return gp_fail(GP_ERR_NO_MEMORY, "landing slots of %zu bytes", bytes);
    status = via->ops->mem_reg(via->domain, m->memory, bytes, &m->mem);
    if (status != GP_OK)
        return status;
    m->bytes = bytes;
    atomic_fetch_add(&m->group->mesh->worker->memory, bytes);
    return GP_OK;
}

gp_status
gp_landing_open(gp_member *m)
{
    gp_mate *mate = m->mate;
    gp_msg msg = {.type = GP_MSG_GRANT,
                  .cookie = m->group->id,
                  .elements = m->group->slot_bytes};
    gp_status status = GP_OK;

    if (m->token)
        return GP_OK;
    if (!m->memory)
        status = open_memory(m);
    if (status == GP_OK)
        status = mate->via->ops->expose(mate->ep, m->mem, 0, slots_bytes(m),
                                        GP_REGION_LANDING, &m->token);
    msg.aux = m->token;
    if (status == GP_OK)
        status = gp_mate_post(mate, &msg, NULL, NULL, 0);
    return status;
}

static gp_status
open_staging(gp_member *m)
{
    worker_link *via = m->mate->via;
    scratch *s = &m->staging;
    size_t bytes = slots_bytes(m);

    s->base = m->bytes > bytes ? m->memory + bytes : gp_alloc_aligned(bytes);
    if (!s->base)
        return gp_fail(GP_ERR_NO_MEMORY, "buffers of %zu bytes", bytes);
    s->bytes = m->group->slot_bytes;
    s->count = GP_LANDING_SLOTS;
    s->free = UINT64_MAX;
    if (m->bytes > bytes) {
        m->staging_mem = m->mem;
        return GP_OK;
    }
    atomic_fetch_add(&m->group->mesh->worker->memory, bytes);
    return via->ops->mem_reg(via->domain, s->base, bytes, &m->staging_mem);
}

bool
gp_member_copies(const gp_member *m)
{
    return m->group->coded && gp_link_registers(m->mate->via) &&
           !gp_link_opens_parts(m->mate->via, m->mate->ep);
}

int
gp_staging_take(gp_member *m, uint64_t bytes)
{
    scratch *s = &m->staging;
    uint64_t count;
    int first;

    if (!s->base && open_staging(m) != GP_OK) {
        gp_group_fail(m->group, GP_ERR_NO_MEMORY, true, "%s", gp_last_error());
        return -1;
    }
    count = gp_slots_for(bytes, s->bytes);
    first = gp_slots_find(s->free, count);
    if (first < 0)
        return -1;
    s->run[first] = (uint8_t)count;
    s->free &= ~gp_slots_mask((uint32_t)first, (uint32_t)count);
    return first;
}

void
gp_staging_give(gp_member *m, int first)
{
    if (first >= 0)
        m->staging.free |=
            gp_slots_mask((uint32_t)first, m->staging.run[first]);
}

/* Without its connection, which has ended or no longer knows the memory. */
void
gp_landing_close(gp_member *m)
{
    const gp_mate *mate = m->mate;
    size_t apart = slots_bytes(m);

    if (!m->staging.base || m->bytes > apart)
        apart = 0;
    if (m->token && mate->ep)
        mate->via->ops->unexpose(mate->ep, m->token);
    m->token = 0;
    if (m->mem)
        mate->via->ops->mem_dereg(m->mem);
    if (m->staging_mem && m->staging_mem != m->mem)
        mate->via->ops->mem_dereg(m->staging_mem);
    m->mem = m->staging_mem = NULL;
    atomic_fetch_sub(&m->group->mesh->worker->memory, m->bytes + apart);
    if (apart)
        free(m->staging.base);
    free(m->memory);
    free(m->arrival);
    m->memory = m->staging.base = NULL;
    m->bytes = 0;
    m->arrival = NULL;
}

void
gp_landing_grant(gp_member *m, const gp_msg *msg)
{
    char name[192];

    if (msg->elements < GP_SLOT_LEAST || msg->elements > GP_SLOT_MOST ||
        msg->elements % GP_SLOT_LEAST || msg->aux == 0 ||
        msg->aux > UINT32_MAX) {
        gp_mate_lose(
            m->mate, GP_ERR_PROTOCOL, "%s granted slots of %llu bytes",
            gp_mate_name(m->group->mesh, m->mate->rank, name, sizeof(name)),
            (unsigned long long)msg->elements);
        return;
    }
    m->region = (uint32_t)msg->aux;
    m->slot_bytes = msg->elements;
    m->free = UINT64_MAX;
}

int
gp_landing_reserve(gp_member *m, uint64_t bytes)
{
    uint64_t count = gp_slots_for(bytes, m->slot_bytes);
    uint64_t kind = count == 1 ? small_mask() : ~small_mask();
    int first = gp_slots_find(m->free & kind, count);

    if (first >= 0)
        m->free &= ~gp_slots_mask((uint32_t)first, (uint32_t)count);
    return first;
}

void
gp_landing_unreserve(gp_member *m, int slot, uint64_t bytes)
{
    uint64_t count = gp_slots_for(bytes, m->slot_bytes);

    m->free |= gp_slots_mask((uint32_t)slot, (uint32_t)count);
}

/* The slots that a message says it occupies; 0: they cannot be. */
static uint64_t
slots_of(const gp_member *m, const gp_msg *msg)
{
    uint64_t bytes = m->group->slot_bytes;
    uint64_t count = gp_slots_for(msg->payload, bytes);

    if (msg->slot >= GP_LANDING_SLOTS || msg->offset != msg->slot * bytes ||
        count > GP_LANDING_SLOTS - msg->slot)
        return 0;
    return gp_slots_mask(msg->slot, (uint32_t)count);
}

void
gp_landing_event(gp_member *m, const gp_event *event)
{
    const gp_msg *msg = &event->msg;
    uint64_t slots = slots_of(m, msg);
    char name[192];

    m->free |= msg->credits;
    if (!m->token || msg->region != m->token) {
        gp_exec_direct(m, msg);
        return;
    }
    if (!slots || slots & m->occupied) {
        m->mate->via->ops->release(m->mate->ep, msg, event->payload);
        gp_mate_lose(
            m->mate, GP_ERR_PROTOCOL, "%s used slot %u, which it may not",
            gp_mate_name(m->group->mesh, m->mate->rank, name, sizeof(name)),
            msg->slot);
        return;
    }
    if (gp_check_is_stale(m, msg)) {
        m->mate->via->ops->release(m->mate->ep, msg, event->payload);
        return;
    }
    m->occupied |= slots;
    m->held |= 1ull << msg->slot;
    m->arrival[msg->slot] = (gp_arrival){*msg, event->payload};
}

gp_arrival *
gp_landing_take(gp_member *m, uint64_t seq, uint32_t tag, uint64_t offset)
{
    for (uint64_t left = m->held; left; left &= left - 1) {
        gp_arrival *a = &m->arrival[__builtin_ctzll(left)];

        if (a->msg.step == seq && a->msg.chunk == tag &&
            (uint64_t)a->msg.pipeline * GP_UNIT == offset)
            return a;
    }
    return NULL;
}

void
gp_landing_release(gp_member *m, gp_arrival *a)
{
    const gp_mate *mate = m->mate;
    uint64_t slots = slots_of(m, &a->msg);

    m->held &= ~(1ull << a->msg.slot);
    m->occupied &= ~slots;
    m->freed |= slots;
    if (mate->ep)
        mate->via->ops->release(mate->ep, &a->msg, a->payload);
}

void
gp_landing_return(gp_member *m)
{
    gp_msg msg = {.type = GP_MSG_RETURN, .cookie = m->group->id};

    if (!m->freed || m->mate->state != MATE_READY)
        return;
    if (!(m->freed & ~small_mask()) &&
        __builtin_popcountll(m->freed) < (int)GP_RETURN_AT)
        return;
    msg.credits = m->freed;
    if (gp_mate_post(m->mate, &msg, NULL, NULL, 0) == GP_OK)
        m->freed = 0;
}
