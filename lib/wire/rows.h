/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - pushes and pulls of rows, as bytes; and where a row lives.
 *
 * docs/protocol.md is the specification. The payload of a PUSH or LOOKUP of a
 * tensor of rows, all little endian:
 *
 *     4             rows pushed, p; 0 in a LOOKUP
 *     4             rows wanted, w
 *     8 p           indices, ascending
 *     8 w           likewise
 *     p rows        each through the push pipeline, which makes as many bytes
 * of any row; fp32 with none
 *
 * The decoder accepts any bytes. A peer's device may go on writing into them:
 * so the two counts are read once, and are what is relied on.
 */
#ifndef GP_WIRE_ROWS_H
#define GP_WIRE_ROWS_H

#include <gradpush/rows.h>

#include "base/base.h"
#include "wire/proto.h"

#define GP_ROWS_HEAD 8u
/* Numbers of one call, at most: 64 MiB. */
#define GP_ROWS_NUMBERS_MAX ((uint64_t)1 << 24)

/* What a tensor of rows is. */
typedef struct gp_row_spec {
    uint64_t rows;
    uint32_t width, batch;
    uint8_t init; /* gp_rows_init */
    uint64_t seed;
    float scale;
} gp_row_spec;

/* Of a row of the tensor list, which is one of rows when `rows` is not 0. */
gp_row_spec gp_row_spec_of(const gp_tensor_spec *t);

/* NULL, or words for what is wrong with it. */
const char *gp_row_spec_fault(const gp_row_spec *spec);

/* A number that every bit of the index is in (the finalizer of splitmix64:
 * Steele, Lea, Flood, OOPSLA 2014). */
static inline uint64_t
gp_row_hash(uint64_t index)
{
    uint64_t x = index + 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The shard that keeps a row: by the upper half of its hash. */
static inline uint32_t
gp_row_shard(uint64_t index, uint32_t shards)
{
    return (uint32_t)((gp_row_hash(index) >> 32) * shards >> 32);
}

/* Bytes of a payload whose rows have `bytes` each; those of a batch both ways
 * are the most. */
static inline size_t
gp_rows_bytes(uint32_t pushed, uint32_t wanted, size_t bytes)
{
    return GP_ROWS_HEAD + 8 * ((size_t)pushed + wanted) + bytes * pushed;
}

static inline size_t
gp_rows_bytes_max(const gp_row_spec *spec, size_t bytes)
{
    return gp_rows_bytes(spec->batch, spec->batch, bytes);
}

/* Bytes of a result: never none. */
static inline size_t
gp_rows_result_bytes(uint32_t wanted, size_t bytes)
{
    return bytes * GP_MAX(wanted, 1u);
}

typedef struct gp_rows_view {
    uint32_t pushed, wanted;
    const uint8_t *push_index, *want_index; /* 8 bytes each */
    const uint8_t *values;
} gp_rows_view;

/* The parts of a payload that is known to be sound, given its counts. */
gp_rows_view gp_rows_parts(const void *payload, uint32_t pushed,
                           uint32_t wanted);

/* Reads the counts and checks every index against the tensor and the shard.
 * GP_ERR_PROTOCOL says what is wrong. */
gp_status gp_rows_decode(const void *payload, size_t length,
                         const gp_row_spec *spec, size_t bytes, uint32_t shard,
                         uint32_t shards, gp_rows_view *out);

/* A row as shards keep it and checkpoints have it: index, number of updates,
 * parameters, then the updater's arrays. */
#define GP_ROW_HEAD 16u

static inline size_t
gp_row_record_bytes(uint32_t width, uint32_t arrays)
{
    return GP_ROW_HEAD + sizeof(float) * (size_t)width * (1 + arrays);
}

/* Records of one KEPT or RESTORE, at least one. */
static inline uint32_t
gp_row_records_max(size_t record)
{
    return (uint32_t)GP_MAX((256u << 10) / record, 1u);
}

#endif
