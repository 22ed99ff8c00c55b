/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - cutting and placing.
 *
 * Longest-processing-time-first list scheduling (Graham 1969): chunks sorted by
 * size, each to the least loaded shard, the lowest number on ties. The sort is
 * by (size, chunk number), a total order, so the result does not depend on the
 * C library's qsort. Tensors whose rows are dealt over all shards have a chunk
 * on each, which stands for as many elements as one call has at most; they
 * burden all shards alike, so they do not count.
 */
#include "shard/map.h"

#include <stdlib.h>

/* What a message costs beside its bytes, so that many tiny chunks spread too.
 */
#define CHUNK_OVERHEAD_BYTES 256u

/* What landing zones of half-precision results must begin at a multiple of. */
#define ALIGNMENT 64u

static uint64_t
common_multiple(uint64_t a, uint64_t b)
{
    uint64_t x = a, y = b;
    size_t multiple;

    while (y) {
        uint64_t rest = x % y;

        x = y;
        y = rest;
    }
    return gp_mul(a / x, b, &multiple) ? multiple : UINT64_MAX;
}

/* Of what chunk lengths are multiples: the quantum, for wide ones of whole rows
 * as well, where that does not make them too long. */
static uint64_t
chunk_unit(const gp_map_tensor *t, uint64_t most)
{
    uint64_t unit;

    if (!t->wide || t->columns <= 1)
        return GP_CHUNK_QUANTUM;
    unit = common_multiple(t->columns, GP_CHUNK_QUANTUM);
    if (unit <= most)
        return unit;
    unit = common_multiple(t->columns, ALIGNMENT);
    return unit <= GP_CHUNK_WIDE ? unit : GP_CHUNK_QUANTUM;
}

/* Tensors of at least two quanta are spread over the shards even when they are
 * smaller than a chunk: halves travel at the same time. */
uint64_t
gp_map_step(const gp_map_tensor *t, uint64_t chunk_bytes, uint32_t shards)
{
    uint64_t limit = chunk_bytes / sizeof(float);
    uint64_t share = t->count / shards + (t->count % shards != 0);
    uint64_t elements, unit;

    if (t->wide)
        limit = GP_MAX(limit, GP_CHUNK_WIDE);
    elements = GP_MIN(limit, share);
    unit = chunk_unit(t, elements);
    /* At least one unit: a peer's chunk_bytes may be anything. */
    elements = GP_MAX(elements, 1) + unit - 1;
    elements -= elements % unit;
    return elements;
}

typedef struct by_size {
    uint64_t count;
    uint32_t chunk;
} by_size;

static int
larger_first(const void *a, const void *b)
{
    const by_size *x = a, *y = b;

    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->chunk < y->chunk ? -1 : 1;
}

/* Whether a shard with that load would be done before another one. */
static bool
is_better(const uint32_t *weights, uint32_t shard, uint64_t load,
          uint32_t other, uint64_t other_load)
{
    if (!weights)
        return load < other_load;
    return (unsigned __int128)load * weights[other] <
           (unsigned __int128)other_load * weights[shard];
}

static gp_status
place(gp_map *map, const gp_map_tensor *tensors, const uint32_t *weights)
{
    by_size *order = malloc(sizeof(*order) * map->chunks);
    uint64_t *load = calloc(map->shards, sizeof(*load));
    uint32_t placed = 0;

    if (!order || !load) {
        free(order);
        free(load);
        return gp_fail(GP_ERR_NO_MEMORY, "shard map of %u chunks", map->chunks);
    }
    for (uint32_t i = 0; i < map->chunks; i++)
        if (!tensors[map->chunk[i].tensor].dealt)
            order[placed++] = (by_size){map->chunk[i].count, i};
    qsort(order, placed, sizeof(*order), larger_first);
    for (uint32_t i = 0; i < placed; i++) {
        gp_chunk_info *chunk = &map->chunk[order[i].chunk];
        uint32_t best = 0;

        uint64_t bytes = chunk->count * sizeof(float) + CHUNK_OVERHEAD_BYTES;

        for (uint32_t s = 1; s < map->shards; s++)
            if (is_better(weights, s, load[s] + bytes, best,
                          load[best] + bytes))
                best = s;
        chunk->shard = best;
        load[best] += bytes;
    }
    free(order);
    free(load);
    return GP_OK;
}

static gp_status
count_chunks(const gp_map_tensor *tensors, uint32_t count, uint64_t chunk_bytes,
             uint32_t shards, uint64_t *out)
{
    uint64_t total = 0;

    for (uint32_t t = 0; t < count; t++) {
        uint64_t elements = gp_map_step(&tensors[t], chunk_bytes, shards);

        total +=
            tensors[t].dealt ? shards : (tensors[t].count - 1) / elements + 1;
        if (total > INT32_MAX)
            return gp_fail(GP_ERR_TOO_LARGE,
                           "more than 2^31 chunks: raise chunk_bytes");
    }
    *out = total;
    return GP_OK;
}

static void
cut(gp_map *map, const gp_map_tensor *tensors, uint64_t chunk_bytes)
{
    uint32_t at = 0;

    for (uint32_t t = 0; t < map->tensors; t++) {
        uint64_t step = gp_map_step(&tensors[t], chunk_bytes, map->shards);
        uint64_t count = tensors[t].count;

        map->first[t] = at;
        for (uint32_t s = 0; tensors[t].dealt && s < map->shards; s++)
            map->chunk[at++] =
                (gp_chunk_info){.tensor = t, .shard = s, .count = count};
        if (tensors[t].dealt)
            continue;
        for (uint64_t offset = 0; offset < count; offset += step)
            map->chunk[at++] =
                (gp_chunk_info){.tensor = t,
                                .offset = offset,
                                .count = GP_MIN(step, count - offset)};
    }
    map->first[map->tensors] = at;
}

gp_status
gp_map_build(const gp_map_tensor *tensors, uint32_t count, uint64_t chunk_bytes,
             uint32_t shards, const uint32_t *weights, gp_map *out)
{
    gp_map map = {.shards = shards, .tensors = count};
    uint64_t chunks = 0;
    gp_status status;

    status = count_chunks(tensors, count, chunk_bytes, shards, &chunks);
    if (status != GP_OK)
        return status;
    map.chunks = (uint32_t)chunks;
    map.chunk = calloc(chunks, sizeof(*map.chunk));
    map.first = calloc((size_t)count + 1, sizeof(*map.first));
    if (!map.chunk || !map.first) {
        gp_map_free(&map);
        return gp_fail(GP_ERR_NO_MEMORY, "shard map of %llu chunks",
                       (unsigned long long)chunks);
    }
    cut(&map, tensors, chunk_bytes);
    status = place(&map, tensors, weights);
    if (status != GP_OK) {
        gp_map_free(&map);
        return status;
    }
    *out = map;
    return GP_OK;
}

void
gp_map_free(gp_map *map)
{
    free(map->chunk);
    free(map->first);
    *map = (gp_map){0};
}
