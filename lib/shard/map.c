/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - cutting and placing.
 *
 * Longest-processing-time-first list scheduling (Graham 1969): chunks sorted by
 * size, each to the least loaded shard, the lowest number on ties. The sort is
 * by (size, chunk number), a total order, so the result does not depend on the
 * C library's qsort.
 */
#include "shard/map.h"

#include <stdlib.h>

/* What a message costs beside its bytes, so that many tiny chunks spread too.
 */
#define CHUNK_OVERHEAD_BYTES 256u

/* Tensors of at least two quanta are spread over the shards even when they are
 * smaller than a chunk: halves travel at the same time. */
static uint64_t
chunk_elements(uint64_t count, uint64_t chunk_bytes, uint32_t shards)
{
    uint64_t limit = chunk_bytes / sizeof(float);
    uint64_t share = count / shards + (count % shards != 0);
    uint64_t elements = GP_MIN(limit, share);

    /* At least one quantum: a peer's chunk_bytes may be anything. */
    elements = GP_MAX(elements, 1) + GP_CHUNK_QUANTUM - 1;
    elements -= elements % GP_CHUNK_QUANTUM;
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

static gp_status
place(gp_map *map)
{
    by_size *order = malloc(sizeof(*order) * map->chunks);
    uint64_t *load = calloc(map->shards, sizeof(*load));

    if (!order || !load) {
        free(order);
        free(load);
        return gp_fail(GP_ERR_NO_MEMORY, "shard map of %u chunks", map->chunks);
    }
    for (uint32_t i = 0; i < map->chunks; i++)
        order[i] = (by_size){map->chunk[i].count, i};
    qsort(order, map->chunks, sizeof(*order), larger_first);
    for (uint32_t i = 0; i < map->chunks; i++) {
        gp_chunk_info *chunk = &map->chunk[order[i].chunk];
        uint32_t best = 0;

        for (uint32_t s = 1; s < map->shards; s++)
            if (load[s] < load[best])
                best = s;
        chunk->shard = best;
        load[best] += chunk->count * sizeof(float) + CHUNK_OVERHEAD_BYTES;
    }
    free(order);
    free(load);
    return GP_OK;
}

static gp_status
count_chunks(const uint64_t *counts, uint32_t tensors, uint64_t chunk_bytes,
             uint32_t shards, uint64_t *out)
{
    uint64_t total = 0;

    for (uint32_t t = 0; t < tensors; t++) {
        uint64_t elements = chunk_elements(counts[t], chunk_bytes, shards);

        total += (counts[t] - 1) / elements + 1;
        if (total > INT32_MAX)
            return gp_fail(GP_ERR_TOO_LARGE,
                           "more than 2^31 chunks: raise chunk_bytes");
    }
    *out = total;
    return GP_OK;
}

static void
cut(gp_map *map, const uint64_t *counts, uint64_t chunk_bytes)
{
    uint32_t at = 0;

    for (uint32_t t = 0; t < map->tensors; t++) {
        uint64_t step = chunk_elements(counts[t], chunk_bytes, map->shards);

        map->first[t] = at;
        for (uint64_t offset = 0; offset < counts[t]; offset += step)
            map->chunk[at++] =
                (gp_chunk_info){.tensor = t,
                                .offset = offset,
                                .count = GP_MIN(step, counts[t] - offset)};
    }
    map->first[map->tensors] = at;
}

gp_status
gp_map_build(const uint64_t *counts, uint32_t tensors, uint64_t chunk_bytes,
             uint32_t shards, gp_map *out)
{
    gp_map map = {.shards = shards, .tensors = tensors};
    uint64_t chunks = 0;
    gp_status status;

    status = count_chunks(counts, tensors, chunk_bytes, shards, &chunks);
    if (status != GP_OK)
        return status;
    map.chunks = (uint32_t)chunks;
    map.chunk = calloc(chunks, sizeof(*map.chunk));
    map.first = calloc((size_t)tensors + 1, sizeof(*map.first));
    if (!map.chunk || !map.first) {
        gp_map_free(&map);
        return gp_fail(GP_ERR_NO_MEMORY, "shard map of %llu chunks",
                       (unsigned long long)chunks);
    }
    cut(&map, counts, chunk_bytes);
    status = place(&map);
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
