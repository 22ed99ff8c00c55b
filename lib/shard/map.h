/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - which shard owns which piece of which tensor.
 *
 * Every process computes the same map from the same tensor list; nothing of it
 * is ever sent. Placement is by least load, for the weight of the shard,
 * largest chunks first, which keeps max/mean bytes within 1.03 where hashing of
 * names gives up to 4.9.
 */
#ifndef GP_MAP_H
#define GP_MAP_H

#include "base/base.h"

/* Chunk lengths are multiples of this many elements (but for a tensor's last),
 * so that codec blocks never depend on where a tensor was cut. */
#define GP_CHUNK_QUANTUM 4096u

/* Elements up to which a chunk of a wide tensor may grow. */
#define GP_CHUNK_WIDE (4u << 20)

/* What of a tensor decides where it is cut. */
typedef struct gp_map_tensor {
    uint64_t count;   /* elements */
    uint64_t columns; /* length of its rows; 0 or 1: a vector */
    bool wide;  /* chunks as large as can be, of whole rows (GP_CODEC_WIDE) */
    bool dealt; /* rows, dealt over all shards: one chunk on each, of `count` */
} gp_map_tensor;

typedef struct gp_chunk_info {
    uint32_t tensor;
    uint32_t shard;
    uint64_t offset; /* first element within the tensor */
    uint64_t count;  /* elements */
} gp_chunk_info;

typedef struct gp_map {
    uint32_t shards, tensors, chunks;
    gp_chunk_info *chunk; /* in tensor order, then offset order */
    uint32_t *first; /* first chunk of each tensor, and chunks at the end */
} gp_map;

/* Elements of a tensor's chunks but for the last, which may have fewer. */
uint64_t gp_map_step(const gp_map_tensor *tensor, uint64_t chunk_bytes,
                     uint32_t shards);

/* @param tensors  all of the job's, in order. @param chunk_bytes  as fp32.
 * @param weights  of shards: each gets chunks in proportion to its own, none
 *                 with 0; NULL: all alike.
 * GP_ERR_TOO_LARGE: more than 2^31 chunks. */
gp_status gp_map_build(const gp_map_tensor *tensors, uint32_t count,
                       uint64_t chunk_bytes, uint32_t shards,
                       const uint32_t *weights, gp_map *out);
void gp_map_free(gp_map *map);

#endif
