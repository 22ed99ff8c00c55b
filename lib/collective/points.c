/* SPDX-License-Identifier: Apache-2.0 */
/*
 * points.c - gp_send() and gp_recv().
 *
 * The receiver begins: a ticket says that it is there, with which tag, for how
 * many bytes and, if it can be written to, where. The sender matches tickets
 * and calls by tag, in the order of both. So nothing arrives that is not waited
 * for, whatever else the group does.
 */
#include <stdlib.h>

#include "collective/coll_int.h"

#define TICKETS_MAX 65536u

typedef struct ticket {
    gp_list link;
    uint64_t number, bytes, base;
    uint32_t tag, token;
} ticket;

void
gp_points_clear(gp_member *m)
{
    gp_list *item;

    while ((item = gp_list_pop(&m->tickets)))
        free(GP_CONTAINER_OF(item, ticket, link));
    m->ticket_count = 0;
}

void
gp_points_ticket(gp_member *m, const gp_msg *msg)
{
    ticket *t = m->ticket_count < TICKETS_MAX ? malloc(sizeof(*t)) : NULL;

    if (!t) {
        gp_group_fail(m->group, GP_ERR_NO_MEMORY, true,
                      "more than %u receives of worker %u wait for a send",
                      m->ticket_count, m->mate->rank);
        return;
    }
    *t = (ticket){.number = msg->step | GP_POINT_BIT,
                  .bytes = msg->elements,
                  .base = msg->offset,
                  .tag = msg->chunk,
                  .token = (uint32_t)msg->aux};
    gp_list_insert(&m->tickets, &t->link);
    m->ticket_count++;
}

gp_collective *
gp_points_find(gp_group *g, const gp_member *m, uint64_t seq)
{
    GP_LIST_EACH (item, &g->points) {
        gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);

        if (c->call.kind == COLL_RECV && c->told && c->seq == seq &&
            c->call.root == m->number)
            return c;
    }
    return NULL;
}

static void
begin(gp_collective *c)
{
    c->started = true;
    c->hop = &c->own;
    c->hops = c->incomplete = 1;
    c->first_open = 0;
    c->own = (gp_hop){
        .kind = c->call.kind == COLL_SEND ? HOP_SEND : HOP_RECEIVE,
        .action = ACT_PLACE,
        .after = -1,
        .peer = c->call.root,
        .from = c->in,
        .to = c->out,
        .bytes = c->call.count,
        .direct = c->call.count >= GP_INTO_LEAST,
    };
}

/* The first ticket with the tag of a send. */
static bool
match(gp_collective *c, gp_member *m)
{
    GP_LIST_EACH (item, &m->tickets) {
        ticket *t = GP_CONTAINER_OF(item, ticket, link);

        if (t->tag != c->tag)
            continue;
        if (t->bytes != c->call.count)
            gp_group_fail(
                c->group, GP_ERR_MISMATCH, true,
                "group '%s', tag %u: worker %u sends %llu bytes where "
                "worker %u receives %llu",
                c->group->name, c->tag, c->group->mesh->worker->rank,
                (unsigned long long)c->call.count, m->mate->rank,
                (unsigned long long)t->bytes);
        c->seq = t->number;
        c->token = t->token;
        c->base = t->base;
        gp_list_remove(&t->link);
        m->ticket_count--;
        free(t);
        return true;
    }
    return false;
}

static bool
say_ready(gp_collective *c, gp_member *m)
{
    gp_group *g = c->group;
    gp_msg msg = {.type = GP_MSG_TICKET,
                  .cookie = g->id,
                  .step = g->tickets,
                  .chunk = c->tag,
                  .elements = c->call.count};

    if (!m->token && gp_landing_open(m) != GP_OK) {
        gp_group_fail(g, GP_ERR_NO_MEMORY, true, "%s", gp_last_error());
        return false;
    }
    c->seq = g->tickets | GP_POINT_BIT;
    if (c->own.direct && !gp_member_copies(m) &&
        gp_memory_expose(c, m->mate, &c->token, &msg.offset))
        msg.aux = c->token;
    if (gp_mate_post(m->mate, &msg, NULL, NULL, 0) != GP_OK)
        return false;
    g->tickets++;
    return true;
}

static int
turn(gp_collective *c)
{
    gp_group *g = c->group;
    gp_member *m;

    if (!c->started)
        begin(c);
    m = gp_group_member(g, c->call.root);
    if (!m)
        return 0;
    if (c->call.kind == COLL_SEND && !c->told)
        c->told = match(c, m);
    if (c->call.kind == COLL_RECV && !c->told) {
        if (!gp_mate_usable(g, m->mate) || !say_ready(c, m))
            return 0;
        c->told = true;
    }
    if (!c->told) {
        (void)gp_mate_usable(g, m->mate);
        return 0;
    }
    return c->own.complete ? 0 : gp_exec_hop(c, &c->own);
}

/* Receives of one tag are told in their order, so a later one never goes before
 * an earlier one that could not be told. */
int
gp_points_turn(gp_group *g)
{
    int done = 0;

    GP_LIST_EACH (item, &g->points) {
        gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);

        done += turn(c);
        if (g->failed)
            break;
        if (c->incomplete || c->sending)
            continue;
        if (c->call.kind == COLL_RECV && c->token)
            gp_memory_withdraw(g->member[c->call.root]->mate, &c->token);
        gp_exec_end(c, GP_OK);
        done++;
    }
    return done;
}
