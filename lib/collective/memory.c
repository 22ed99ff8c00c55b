/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - users' memory, as the links know it.
 *
 * Where a device moves the data only what gp_buffer_register() named is used,
 * and each range is exposed once to each worker and stays so. Elsewhere an
 * operation's output is exposed while it runs.
 */
#include <stdlib.h>

#include "collective/coll_int.h"

static gp_buffer *
buffer_of(const gp_mate *mate, const void *from, uint64_t bytes)
{
    return gp_buffer_find(mate->mesh->worker, from, bytes);
}

static size_t
link_number(const gp_mate *mate)
{
    return (size_t)(mate->via - mate->mesh->worker->link);
}

gp_mem *
gp_memory_of(const gp_mate *mate, const void *from, uint64_t bytes)
{
    gp_buffer *b = buffer_of(mate, from, bytes);

    return b ? b->mem[link_number(mate)] : NULL;
}

/* Room for the token of a buffer. */
static uint32_t *
token_of(gp_mate *mate, uint32_t number)
{
    uint32_t *grown;

    if (number >= mate->tokens) {
        grown = realloc(mate->token, (number + 1u) * sizeof(*grown));
        if (!grown)
            return NULL;
        for (uint32_t i = mate->tokens; i <= number; i++)
            grown[i] = 0;
        mate->token = grown;
        mate->tokens = number + 1;
    }
    return &mate->token[number];
}

static bool
expose_buffer(gp_mate *mate, const gp_buffer *b, uint32_t *out)
{
    uint32_t *token = token_of(mate, b->number);

    if (!token)
        return false;
    if (*token == 0 &&
        mate->via->ops->expose(mate->ep, b->mem[link_number(mate)], 0, b->bytes,
                               0, token) != GP_OK)
        return false;
    *out = *token;
    return true;
}

bool
gp_memory_expose(gp_collective *c, gp_mate *mate, uint32_t *token,
                 uint64_t *base)
{
    gp_mem **mem = &c->out_mem[link_number(mate)];
    const gp_transport_ops *ops = mate->via->ops;

    *base = 0;
    if (gp_link_registers(mate->via)) {
        const gp_buffer *b = buffer_of(mate, c->out, c->out_bytes);

        if (!b || !expose_buffer(mate, b, token))
            return false;
        *base = (uint64_t)(c->out - b->base);
        return true;
    }
    if (!*mem &&
        ops->mem_reg(mate->via->domain, c->out, c->out_bytes, mem) != GP_OK)
        return false;
    return ops->expose(mate->ep, *mem, 0, c->out_bytes, 0, token) == GP_OK;
}

void
gp_memory_withdraw(gp_mate *mate, uint32_t *token)
{
    if (mate->ep && !gp_link_registers(mate->via))
        mate->via->ops->unexpose(mate->ep, *token);
    *token = 0;
}

void
gp_memory_forget(gp_collective *c)
{
    gp_worker *w = c->group->mesh->worker;

    for (int i = 0; i < w->links; i++) {
        if (c->out_mem[i])
            w->link[i].ops->mem_dereg(c->out_mem[i]);
        c->out_mem[i] = NULL;
    }
}
