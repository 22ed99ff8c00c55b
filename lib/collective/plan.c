/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - the hops of each operation, for one member.
 *
 * Every member makes its own plan from the same call, so both ends of a hop
 * agree on its tag and range without a word. Which operands are added in which
 * order is in the plans alone: docs/collectives.md says it in words.
 *
 * Ring: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for
 * clusters of workstations", 2009. Halving and doubling: Thakur, Rabenseifner
 * and Gropp, "Optimization of collective communication operations in MPICH",
 * 2005; members beyond a power of two hand their part to a neighbour first.
 */
#include <stdlib.h>

#include "collective/coll_int.h"

#define ALIGN_ELEMENTS 16u
#define GATHER_DIRECT  32768u /* below it all send to all */
#define BCAST_CHAIN    65536u /* from here on a chain, below a tree */
#define BARRIER_BYTES  8u

static gp_hop *
add(gp_collective *c, gp_hop_kind kind, uint32_t peer, uint32_t tag)
{
    gp_group *g = c->group;
    gp_hop *hop = &g->hop[c->hops++];

    *hop =
        (gp_hop){.kind = (uint8_t)kind, .peer = peer, .tag = tag, .after = -1};
    return hop;
}

static int32_t
last(const gp_collective *c)
{
    return (int32_t)c->hops - 1;
}

static gp_status
reserve(gp_group *g, uint64_t hops)
{
    gp_hop *grown;

    if (hops <= g->hop_capacity)
        return GP_OK;
    grown = realloc(g->hop, hops * sizeof(*grown));
    if (!grown)
        return gp_fail(GP_ERR_NO_MEMORY, "a plan of %llu hops",
                       (unsigned long long)hops);
    g->hop = grown;
    g->hop_capacity = (uint32_t)hops;
    return GP_OK;
}

static gp_status
need_temporary(gp_group *g, uint64_t bytes)
{
    uint8_t *grown;

    if (bytes <= g->temporary_bytes)
        return GP_OK;
    grown = gp_alloc_aligned(bytes);
    if (!grown)
        return gp_fail(GP_ERR_NO_MEMORY, "%llu bytes of a group's own",
                       (unsigned long long)bytes);
    atomic_fetch_add(&g->mesh->worker->memory, bytes - g->temporary_bytes);
    free(g->temporary);
    g->temporary = grown;
    g->temporary_bytes = bytes;
    return GP_OK;
}

/* Where block b of `parts` begins, in elements: whole lines of the cache, so
 * that neighbours do not write to one. */
static uint64_t
bound_of(uint64_t count, uint32_t b, uint32_t parts)
{
    uint64_t at = count / parts * b + count % parts * b / parts;

    if (b >= parts)
        return count;
    at = (at + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    return GP_MIN(at, count);
}

static void
place_hop(gp_hop *hop, uint8_t *to, uint64_t bytes)
{
    hop->action = ACT_PLACE;
    hop->to = to;
    hop->bytes = bytes;
    hop->direct = bytes >= GP_INTO_LEAST;
}

/* --- direct
 * ------------------------------------------------------------------- */

static gp_hop *
add_local(gp_collective *c, const uint8_t *from, uint8_t *to, uint64_t bytes)
{
    gp_hop *hop = add(c, HOP_LOCAL, c->group->rank, 0);

    hop->own = from;
    hop->to = to;
    hop->bytes = bytes;
    return hop;
}

/* Sends leave while results arrive: in place they need a copy of the input. */
static gp_status
copy_input(gp_collective *c, const uint8_t **in)
{
    gp_status status;

    *in = c->in;
    if (c->in != c->out)
        return GP_OK;
    status = need_temporary(c->group, c->in_bytes);
    if (status != GP_OK)
        return status;
    add_local(c, c->in, c->group->temporary, c->in_bytes);
    *in = c->group->temporary;
    return GP_OK;
}

/* What is summed up in the order of ranks: this member's own operand, and where
 * the sum goes. */
typedef struct range {
    const uint8_t *own;
    uint8_t *to;
    uint64_t bytes;
} range;

/* to = to with what member r has, after what came before. */
static void
add_term(gp_collective *c, const range *g, uint32_t r)
{
    int32_t before = last(c);
    gp_hop *hop;

    if (r == c->group->rank) {
        hop = add_local(c, g->own, g->to, g->bytes);
    } else {
        hop = add(c, HOP_RECEIVE, r, 0);
        hop->to = g->to;
        hop->bytes = g->bytes;
    }
    hop->action = ACT_REDUCE;
    hop->from = g->to;
    hop->other_first = true;
    hop->after = before;
    hop->scaled = r + 1 == c->group->size;
}

/* The first two terms: one of them may be its own. */
static void
add_first_terms(gp_collective *c, const range *r)
{
    const gp_group *g = c->group;
    gp_hop *hop = add(c, HOP_RECEIVE, g->rank == 0 ? 1 : 0, 0);

    hop->to = r->to;
    hop->bytes = r->bytes;
    if (g->rank > 1) {
        add_term(c, r, 1);
        return;
    }
    hop->action = ACT_REDUCE;
    hop->from = r->own;
    hop->other_first = g->rank == 0;
    hop->scaled = g->size == 2;
}

static void
add_terms(gp_collective *c, const range *r)
{
    add_first_terms(c, r);
    for (uint32_t i = 2; i < c->group->size; i++)
        add_term(c, r, i);
}

/* All send all they have to all; each adds in the order of ranks. */
static gp_status
plan_direct(gp_collective *c)
{
    const gp_group *g = c->group;
    const uint8_t *in;
    gp_status status = copy_input(c, &in);

    for (uint32_t i = 1; status == GP_OK && i < g->size; i++) {
        gp_hop *hop = add(c, HOP_SEND, (g->rank + i) % g->size, 0);

        hop->from = in;
        hop->bytes = c->in_bytes;
    }
    if (status != GP_OK)
        return status;
    add_terms(c, &(range){in, c->out, c->in_bytes});
    return GP_OK;
}

/* --- ring
 * ---------------------------------------------------------------------- */

typedef struct ring {
    gp_collective *c;
    uint32_t n, rank;
    uint64_t count; /* elements in all */
    size_t unit;    /* bytes of one */
} ring;

static uint64_t
ring_offset(const ring *r, uint32_t block)
{
    return bound_of(r->count, block % r->n, r->n) * r->unit;
}

static uint64_t
ring_bytes(const ring *r, uint32_t block)
{
    uint32_t b = block % r->n;

    return (bound_of(r->count, b + 1, r->n) - bound_of(r->count, b, r->n)) *
           r->unit;
}

/* Step s: block `rank - s` leaves to the right, the one before comes from the
 * left. In the first n - 1 steps blocks grow, then they are passed round. */
static void
ring_step(const ring *r, uint32_t s)
{
    gp_collective *c = r->c;
    uint32_t n = r->n, right = (r->rank + 1) % n, left = (r->rank + n - 1) % n;
    uint32_t out = r->rank + 2 * n - s, in = out - 1;
    bool grows = s + 1 < n;
    gp_hop *hop = add(c, HOP_SEND, right, s);

    hop->from = (s == 0 ? c->in : c->out) + ring_offset(r, out);
    hop->bytes = ring_bytes(r, out);
    hop->after = s == 0 ? -1 : last(c) - 1; /* what came the step before */
    hop->place = ring_offset(r, out);
    hop->direct = !grows && hop->bytes >= GP_INTO_LEAST;
    hop = add(c, HOP_RECEIVE, left, s);
    place_hop(hop, c->out + ring_offset(r, in), ring_bytes(r, in));
    if (!grows)
        return;
    hop->action = ACT_REDUCE;
    hop->direct = false;
    hop->from = c->in + ring_offset(r, in);
    hop->scaled = s + 2 == n;
}

static void
plan_ring(gp_collective *c)
{
    const gp_group *g = c->group;
    ring r = {.c = c,
              .n = g->size,
              .rank = g->rank,
              .count = c->call.count,
              .unit = gp_dtype_bytes((gp_dtype)c->call.dtype)};

    for (uint32_t s = 0; s < 2 * (g->size - 1); s++)
        ring_step(&r, s);
}

/* As above, shifted by one so that each ends with its own block; what is on its
 * way lies in memory of the group. */
static gp_status
plan_reduce_scatter(gp_collective *c)
{
    gp_group *g = c->group;
    uint32_t n = g->size;
    uint64_t bytes = c->out_bytes;
    gp_status status = n > 2 ? need_temporary(g, (n - 2) * bytes) : GP_OK;

    for (uint32_t s = 0; status == GP_OK && s + 1 < n; s++) {
        uint32_t out = (g->rank + 2 * n - s - 1) % n;
        uint32_t in = (out + n - 1) % n;
        gp_hop *hop = add(c, HOP_SEND, (g->rank + 1) % n, s);

        hop->from =
            s == 0 ? c->in + out * bytes : g->temporary + (s - 1) * bytes;
        hop->bytes = bytes;
        hop->after = s == 0 ? -1 : last(c) - 1;
        hop = add(c, HOP_RECEIVE, (g->rank + n - 1) % n, s);
        hop->action = ACT_REDUCE;
        hop->from = c->in + in * bytes;
        hop->to = s + 2 == n ? c->out : g->temporary + s * bytes;
        hop->bytes = bytes;
        hop->scaled = s + 2 == n;
    }
    return status;
}

static void
add_own_copy(gp_collective *c, const uint8_t *from, uint8_t *to, uint64_t bytes)
{
    if (from != to)
        (void)add_local(c, from, to, bytes);
}

static void
plan_allgather(gp_collective *c)
{
    gp_group *g = c->group;
    uint32_t n = g->size, rank = g->rank;
    uint64_t bytes = c->in_bytes;
    bool direct = bytes < GATHER_DIRECT || n == 2;

    for (uint32_t s = 0; s + 1 < n; s++) {
        uint32_t out = direct ? rank : (rank + n - s) % n;
        uint32_t in = (rank + 2 * n - s - 1) % n;
        uint32_t to = direct ? (rank + s + 1) % n : (rank + 1) % n;
        uint32_t from = direct ? in : (rank + n - 1) % n;
        gp_hop *hop = add(c, HOP_SEND, to, direct ? 0 : s);

        hop->from = out == rank ? c->in : c->out + out * bytes;
        hop->bytes = bytes;
        hop->place = out * bytes;
        hop->direct = bytes >= GP_INTO_LEAST;
        hop->after = out == rank ? -1 : last(c) - 1;
        hop = add(c, HOP_RECEIVE, from, direct ? 0 : s);
        place_hop(hop, c->out + in * bytes, bytes);
    }
    add_own_copy(c, c->in, c->out + rank * bytes, bytes);
}

/* --- shards
 * -------------------------------------------------------------------- */

/* In place the sum grows where this member's own operand is, which is only in
 * its turn then. */
static gp_status
keep_operand(gp_collective *c, range *own)
{
    gp_status status;

    if (c->in != c->out || c->group->rank < 2)
        return GP_OK;
    status = need_temporary(c->group, own->bytes);
    if (status != GP_OK)
        return status;
    add_local(c, own->own, c->group->temporary, own->bytes);
    own->own = c->group->temporary;
    return GP_OK;
}

/* Each member is the shard of a block: all send it theirs, and it sends all the
 * sum. What it overwrites with a result it has sent before: the result has it
 * in it. */
static gp_status
plan_shards(gp_collective *c)
{
    gp_group *g = c->group;
    ring r = {.c = c,
              .n = g->size,
              .rank = g->rank,
              .count = c->call.count,
              .unit = gp_dtype_bytes((gp_dtype)c->call.dtype)};
    uint64_t offset = ring_offset(&r, g->rank);
    range own = {c->in + offset, c->out + offset, ring_bytes(&r, g->rank)};
    gp_status status = keep_operand(c, &own);
    int32_t sum;

    if (status != GP_OK)
        return status;
    for (uint32_t i = 1; i < g->size; i++) {
        gp_hop *hop = add(c, HOP_SEND, (g->rank + i) % g->size, 0);

        hop->from = c->in + ring_offset(&r, g->rank + i);
        hop->bytes = ring_bytes(&r, g->rank + i);
    }
    add_terms(c, &own);
    sum = last(c);
    for (uint32_t i = 1; i < g->size; i++) {
        uint32_t peer = (g->rank + i) % g->size;
        gp_hop *hop = add(c, HOP_SEND, peer, 1);

        hop->from = own.to;
        hop->bytes = own.bytes;
        hop->after = sum;
        hop->place = offset;
        hop->direct = own.bytes >= GP_INTO_LEAST;
        hop = add(c, HOP_RECEIVE, peer, 1);
        place_hop(hop, c->out + ring_offset(&r, peer), ring_bytes(&r, peer));
    }
    return GP_OK;
}

/* --- halving and doubling
 * -------------------------------------------------------- */

typedef struct halving {
    gp_collective *c;
    uint32_t power, extra, number; /* its number among `power` members */
    uint64_t low, high;            /* elements that are still its own */
    size_t unit;
    const uint8_t *source; /* the latest values: in, then out */
    int32_t before;        /* the last receive */
    uint32_t tag;
} halving;

static uint32_t
halving_rank(const halving *h, uint32_t number)
{
    return number < h->extra ? 2 * number + 1 : number + h->extra;
}

static gp_hop *
halving_send(halving *h, uint32_t to, uint64_t low, uint64_t high)
{
    gp_hop *hop = add(h->c, HOP_SEND, to, h->tag);

    hop->from = h->source + low * h->unit;
    hop->bytes = (high - low) * h->unit;
    hop->place = low * h->unit;
    hop->after = h->before;
    hop->whole = true;
    return hop;
}

static gp_hop *
halving_receive(halving *h, uint32_t from, uint64_t low, uint64_t high)
{
    gp_hop *hop = add(h->c, HOP_RECEIVE, from, h->tag);

    place_hop(hop, h->c->out + low * h->unit, (high - low) * h->unit);
    hop->after = h->before;
    hop->whole = true;
    return hop;
}

static void
reduce_with(halving *h, gp_hop *hop, uint32_t from, bool scaled)
{
    hop->action = ACT_REDUCE;
    hop->direct = false;
    hop->from = h->source + (hop->to - h->c->out);
    hop->other_first = from > h->c->group->rank;
    hop->scaled = scaled;
}

/* Halves what it is responsible for, and adds what the partner has of it. */
static void
halve(halving *h, uint32_t distance, uint64_t *middle)
{
    uint32_t peer = halving_rank(h, h->number ^ distance);
    bool upper = h->number & distance;
    uint64_t mid = h->low + bound_of(h->high - h->low, 1, 2);
    gp_hop *hop;

    *middle = mid;
    h->tag++;
    halving_send(h, peer, upper ? h->low : mid, upper ? mid : h->high);
    hop = halving_receive(h, peer, upper ? mid : h->low, upper ? h->high : mid);
    reduce_with(h, hop, peer, distance == 1);
    h->before = last(h->c);
    h->source = h->c->out;
    if (upper)
        h->low = mid;
    else
        h->high = mid;
}

/* Gives the partner its part and gets the other half of both. */
static void
redouble(halving *h, uint32_t distance, uint64_t low, uint64_t middle,
         uint64_t high)
{
    uint32_t peer = halving_rank(h, h->number ^ distance);
    bool upper = h->number & distance;
    gp_hop *hop;

    h->tag++;
    hop = halving_send(h, peer, h->low, h->high);
    hop->direct = hop->bytes >= GP_INTO_LEAST;
    halving_receive(h, peer, upper ? low : middle, upper ? middle : high);
    h->before = last(h->c);
    h->low = low;
    h->high = high;
}

static void
exchange_halves(halving *h)
{
    uint64_t low[32], middle[32], high[32];
    int depth = 0;

    for (uint32_t d = h->power / 2; d; d /= 2, depth++) {
        low[depth] = h->low;
        high[depth] = h->high;
        halve(h, d, &middle[depth]);
    }
    for (uint32_t d = 1; d < h->power; d *= 2) {
        depth--;
        redouble(h, d, low[depth], middle[depth], high[depth]);
    }
}

/* One of those beyond a power of two: gives all, and gets the result. */
static void
stand_aside(halving *h)
{
    const gp_group *g = h->c->group;

    halving_send(h, g->rank + 1, 0, h->high);
    h->tag = 99;
    halving_receive(h, g->rank + 1, 0, h->high);
}

static void
plan_halving(gp_collective *c)
{
    const gp_group *g = c->group;
    halving h = {.c = c,
                 .power = 1,
                 .high = c->call.count,
                 .unit = gp_dtype_bytes((gp_dtype)c->call.dtype),
                 .source = c->in,
                 .before = -1};
    gp_hop *hop;

    while (h.power * 2 <= g->size)
        h.power *= 2;
    h.extra = g->size - h.power;
    if (g->rank < 2 * h.extra && g->rank % 2 == 0) {
        stand_aside(&h);
        return;
    }
    h.number = g->rank < 2 * h.extra ? g->rank / 2 : g->rank - h.extra;
    if (g->rank < 2 * h.extra) {
        hop = halving_receive(&h, g->rank - 1, 0, h.high);
        reduce_with(&h, hop, g->rank - 1, false);
        h.before = last(c);
        h.source = c->out;
    }
    exchange_halves(&h);
    if (g->rank < 2 * h.extra) {
        h.tag = 99;
        hop = halving_send(&h, g->rank - 1, 0, h.high);
        hop->direct = hop->bytes >= GP_INTO_LEAST;
    }
}

/* --- the others
 * --------------------------------------------------------------------- */

static void
pass_on(gp_collective *c, uint32_t child, int32_t source)
{
    gp_hop *hop = add(c, HOP_SEND, (child + c->call.root) % c->group->size, 0);

    hop->from = c->out;
    hop->bytes = c->call.count;
    hop->after = source;
    hop->direct = hop->bytes >= GP_INTO_LEAST;
}

/* Numbered from the root. Short ones go down a binomial tree, long ones along a
 * chain, in pieces. */
static void
plan_bcast(gp_collective *c)
{
    const gp_group *g = c->group;
    uint32_t n = g->size, me = (g->rank + n - c->call.root) % n;
    bool chain = c->call.count >= BCAST_CHAIN;
    uint32_t parent = chain ? me - 1 : me & (me - 1);
    uint32_t lowest = me ? me & (~me + 1) : n;
    int32_t source = -1;
    gp_hop *hop;

    if (me) {
        hop = add(c, HOP_RECEIVE, (parent + c->call.root) % n, 0);
        place_hop(hop, c->out, c->call.count);
        source = last(c);
    }
    if (chain && me + 1 < n)
        pass_on(c, me + 1, source);
    for (uint32_t bit = 1; !chain && bit < lowest && me + bit < n; bit *= 2)
        pass_on(c, me + bit, source);
}

static gp_status
plan_alltoall(gp_collective *c)
{
    gp_group *g = c->group;
    uint32_t n = g->size;
    uint64_t bytes = c->call.count;
    const uint8_t *in;
    gp_status status = copy_input(c, &in);

    if (status != GP_OK)
        return status;
    for (uint32_t i = 1; i < n; i++) {
        uint32_t to = (g->rank + i) % n, from = (g->rank + n - i) % n;
        gp_hop *hop = add(c, HOP_SEND, to, 0);

        hop->from = in + to * bytes;
        hop->bytes = bytes;
        hop->place = g->rank * bytes;
        hop->direct = bytes >= GP_INTO_LEAST;
        hop = add(c, HOP_RECEIVE, from, 0);
        place_hop(hop, c->out + from * bytes, bytes);
    }
    add_own_copy(c, c->in + g->rank * bytes, c->out + g->rank * bytes, bytes);
    return GP_OK;
}

/* Round k: a word to the member 2^k further, which waits for it. */
static void
plan_barrier(gp_collective *c)
{
    static const uint64_t word;
    const gp_group *g = c->group;
    uint32_t n = g->size, tag = 0;
    int32_t before = -1;

    for (uint32_t d = 1; d < n; d *= 2, tag++) {
        gp_hop *hop = add(c, HOP_SEND, (g->rank + d) % n, tag);

        hop->from = (const uint8_t *)&word;
        hop->bytes = BARRIER_BYTES;
        hop->after = before;
        hop->whole = true;
        hop->staged = true;
        hop = add(c, HOP_RECEIVE, (g->rank + n - d) % n, tag);
        hop->to = (uint8_t *)&c->sink;
        hop->bytes = BARRIER_BYTES;
        hop->after = before;
        hop->whole = true;
        before = last(c);
    }
}

/* All send all they have, encoded, to all; each adds by rank, piece by piece.
 */
static gp_status
plan_coded(gp_collective *c)
{
    const gp_group *g = c->group;
    gp_status status = gp_coded_begin(c);
    int32_t before = -1;

    for (uint32_t i = 1; status == GP_OK && i < g->size; i++) {
        gp_hop *hop = add(c, HOP_SEND, (g->rank + i) % g->size, 0);

        hop->coded = true;
        hop->bytes = gp_coded_pieces(c) * GP_UNIT;
    }
    for (uint32_t r = 0; status == GP_OK && r < g->size; r++) {
        gp_hop *hop = add(c, r == g->rank ? HOP_LOCAL : HOP_RECEIVE, r, 0);

        hop->coded = true;
        hop->bytes = gp_coded_pieces(c) * GP_UNIT;
        hop->after = before;
        before = last(c);
    }
    return status;
}

/* Of all pieces that a member is the shard of. */
static gp_hop *
add_coded(gp_collective *c, gp_hop_kind kind, uint32_t peer, uint32_t shard,
          bool again)
{
    gp_hop *hop = add(c, kind, peer, again);

    hop->coded = true;
    hop->again = again;
    hop->first = gp_coded_first(c, shard);
    hop->bytes = (gp_coded_first(c, shard + 1) - hop->first) * GP_UNIT;
    return hop;
}

/* As plan_shards(), with vectors encoded by their members and sums by their
 * shards. */
static gp_status
plan_coded_shards(gp_collective *c)
{
    uint32_t n = c->group->size, rank = c->group->rank;
    gp_status status = gp_coded_begin(c);
    int32_t sum = -1;

    for (uint32_t i = 1; status == GP_OK && i < n; i++)
        add_coded(c, HOP_SEND, (rank + i) % n, (rank + i) % n, false);
    for (uint32_t r = 0; status == GP_OK && r < n; r++) {
        add_coded(c, r == rank ? HOP_LOCAL : HOP_RECEIVE, r, rank, false)
            ->after = sum;
        sum = last(c);
    }
    for (uint32_t i = 1; status == GP_OK && i < n; i++) {
        uint32_t peer = (rank + i) % n;

        add_coded(c, HOP_SEND, peer, rank, true)->after = sum;
        add_coded(c, HOP_RECEIVE, peer, peer, true);
    }
    return status;
}

static bool
is_coded(const gp_collective *c)
{
    return c->group->coded && c->group->size > 1 &&
           (c->call.reduction == GP_SUM || c->call.reduction == GP_MEAN);
}

static gp_status
plan_allreduce(gp_collective *c)
{
    if (c->group->size == 1) {
        add_own_copy(c, c->in, c->out, c->in_bytes);
        return GP_OK;
    }
    if (is_coded(c) && gp_coded_has_shards(c)) {
        c->algorithm = ALGORITHM_CODED_SHARDS;
        return plan_coded_shards(c);
    }
    if (is_coded(c)) {
        c->algorithm = ALGORITHM_CODED;
        return plan_coded(c);
    }
    c->algorithm = gp_collective_choose(c->group, c->in_bytes);
    if (c->algorithm == ALGORITHM_DIRECT)
        return plan_direct(c);
    if (c->algorithm == ALGORITHM_SHARDS)
        return plan_shards(c);
    if (c->algorithm == ALGORITHM_HALVING)
        plan_halving(c);
    else
        plan_ring(c);
    return GP_OK;
}

gp_status
gp_plan_make(gp_collective *c)
{
    gp_group *g = c->group;
    gp_status status = reserve(g, 4ull * g->size + 128);

    c->hops = 0;
    if (status == GP_OK && c->call.kind == COLL_ALLREDUCE)
        status = plan_allreduce(c);
    else if (status == GP_OK && c->call.kind == COLL_REDUCE_SCATTER)
        status = plan_reduce_scatter(c);
    else if (status == GP_OK && c->call.kind == COLL_ALLGATHER)
        plan_allgather(c);
    else if (status == GP_OK && c->call.kind == COLL_BCAST)
        plan_bcast(c);
    else if (status == GP_OK && c->call.kind == COLL_ALLTOALL)
        status = plan_alltoall(c);
    else if (status == GP_OK)
        plan_barrier(c);
    if (status == GP_OK && g->size == 1 && c->call.kind == COLL_REDUCE_SCATTER)
        add_own_copy(c, c->in, c->out, c->out_bytes);
    c->hop = g->hop;
    return status;
}
