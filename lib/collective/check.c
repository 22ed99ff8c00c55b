/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.c - whether all members have called the same.
 *
 * Pieces say what they are of; whoever waits for longer says what it waits in.
 * An operation is compared also when it has ended here, since members that
 * disagree may have nothing to wait for.
 */
#include "collective/coll_int.h"

uint64_t
gp_check_signature(const gp_collective *c)
{
    if (c->call.kind == COLL_RECV || c->call.kind == COLL_SEND)
        return gp_coll_signature(COLL_SEND, 0, 0, 0);
    return gp_coll_signature(c->call.kind, c->call.reduction,
                             (uint8_t)c->algorithm, c->call.root);
}

/* @param own  what this worker has called there; NULL: that is forgotten */
static void
say_mismatch(const gp_member *m, const gp_msg *msg, const gp_call *own)
{
    gp_group *g = m->group;
    char name[192], mine[160] = "something else", theirs[160];
    gp_call other = {.kind = (uint8_t)(msg->aux >> 56),
                     .reduction = (uint8_t)(msg->aux >> 48),
                     .dtype = msg->dtype,
                     .root = (uint32_t)msg->aux,
                     .count = msg->elements};

    if (own)
        gp_collective_describe(own, mine, sizeof(mine));
    gp_collective_describe(&other, theirs, sizeof(theirs));
    gp_group_fail(g, GP_ERR_MISMATCH, true,
                  "group '%s', operation %llu: %s calls %s where worker %u "
                  "calls %s",
                  g->name, (unsigned long long)msg->step,
                  gp_mate_name(g->mesh, m->mate->rank, name, sizeof(name)),
                  theirs, g->mesh->worker->rank, mine);
}

bool
gp_check_fits(const gp_collective *c, const gp_hop *hop, const gp_member *m,
              const gp_msg *msg)
{
    if (msg->aux == gp_check_signature(c) && msg->elements == c->call.count &&
        msg->dtype == c->call.dtype &&
        (hop->coded || msg->payload <= hop->bytes - hop->done))
        return true;
    say_mismatch(m, msg, &c->call);
    return false;
}

/* An operation ends when all pieces of it are here: one more is of a member
 * that has called another. */
bool
gp_check_is_stale(const gp_member *m, const gp_msg *msg)
{
    const gp_group *g = m->group;

    if (msg->step & GP_POINT_BIT || msg->step >= g->ended)
        return false;
    say_mismatch(m, msg, msg->step + 1 == g->ended ? &g->last : NULL);
    return true;
}

/* Likewise those that were here before. */
void
gp_check_leftovers(gp_group *g)
{
    for (uint32_t i = 0; i < g->size && !g->failed; i++) {
        const gp_member *m = g->member[i];

        for (uint64_t left = m ? m->held : 0; left; left &= left - 1)
            if (gp_check_is_stale(m, &m->arrival[__builtin_ctzll(left)].msg))
                break;
    }
}

void
gp_check_answer(gp_member *m, const gp_msg *msg)
{
    const gp_group *g = m->group;
    gp_collective *c = gp_group_active(g);
    gp_hop any = {.bytes = UINT64_MAX};

    if (c && c->started && c->seq == msg->step)
        (void)gp_check_fits(c, &any, m, msg);
    else if (msg->step + 1 == g->ended &&
             (msg->aux != g->last_signature || msg->dtype != g->last.dtype ||
              msg->elements != g->last.count))
        say_mismatch(m, msg, &g->last);
}

/* Says what this worker waits in, so that others can tell a mistake. */
void
gp_check_ask(const gp_collective *c)
{
    gp_group *g = c->group;

    for (uint32_t i = 0; i < g->size; i++) {
        gp_mate *mate =
            i == g->rank ? NULL : gp_mate_meet(g->mesh, g->ranks[i]);
        gp_msg msg = {.type = GP_MSG_CHECK,
                      .cookie = g->id,
                      .step = c->seq,
                      .dtype = c->call.dtype,
                      .elements = c->call.count,
                      .aux = gp_check_signature(c)};

        if (mate && mate->state == MATE_READY) {
            (void)gp_mate_post(mate, &msg, NULL, NULL, 0);
            (void)mate->via->ops->flush(mate->ep);
        }
    }
}
