/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lanes.h - integers packed into lanes of 2, 4, 8, 16 or 32 bits, for codecs
 * whose messages are summed as integers.
 *
 * Lanes are little endian; of those that share a byte the first is in the low
 * bits. All work goes by strips of at most GP_STRIP elements, whose int32 form
 * stays in the first-level cache.
 */
#ifndef GP_LANES_H
#define GP_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GP_STRIP 1024

/* Levels among the whole numbers from 0 to `most`, which is at most 32. Of
 * every number below: the index of the level at or below it, that level, the
 * distance from it to the next one. */
typedef struct gp_levels {
    float most;
    int32_t below[32];
    float level[32], distance[32];
} gp_levels;

typedef struct gp_lane_kernels {
    /* Out of lanes: as two's complement (not of 2 bits), or as numbers from 0
     * on. */
    void (*widen)(const uint8_t *in, unsigned width, int32_t *out, size_t n);
    void (*widen_unsigned)(const uint8_t *in, unsigned width, int32_t *out,
                           size_t n);
    /* The low bits of each; what is left of the last byte is 0. */
    void (*narrow)(const int32_t *in, unsigned width, uint8_t *out, size_t n);
    /* sum[i] += a signed lane. */
    void (*widen_add)(const uint8_t *in, unsigned width, int32_t *sum,
                      size_t n);
    /* All signed lanes are in [-limit, limit]. */
    bool (*within)(const uint8_t *in, unsigned width, int32_t limit, size_t n);
    void (*add)(int32_t *sum, const int32_t *q, size_t n);
    /* The largest q[i] as an unsigned number. */
    uint32_t (*most)(const int32_t *q, size_t n);
    /* out[i] = q[i] * step, and out[i] += q[i] * step */
    void (*scale)(const int32_t *q, float step, float *out, size_t n);
    void (*scale_add)(const int32_t *q, float step, float *out, size_t n);
    /* x * inverse, limited to [-limit, limit], rounded to nearest even or, with
     * words, up with the probability of the fraction. The result is the largest
     * magnitude of x, as bits. */
    uint32_t (*nearest)(const float *x, float inverse, float limit, int32_t *q,
                        size_t n);
    uint32_t (*random)(const float *x, const uint32_t *words, float inverse,
                       float limit, int32_t *q, size_t n);
    /* Indices of levels: x * inverse + most / 2, limited to [0, most], goes up
     * from one level to the next with the probability of its place between. */
    void (*place)(const gp_levels *levels, const float *x,
                  const uint32_t *words, float inverse, int32_t *q, size_t n);
    /* q[i] = table[q[i]], of 16 */
    void (*look_up)(const int32_t *table, int32_t *q, size_t n);
    /* out[i] = (2 * q[i] - middle) * step, limited to what is finite. */
    void (*centre)(const int32_t *q, int32_t middle, float step, float *out,
                   size_t n);
} gp_lane_kernels;

const gp_lane_kernels *gp_lanes_get(void);

/* Bytes that n lanes take. `width` is 2, 4, 8, 16 or 32; no overflow when n is
 * the count of something that bound() allowed. */
static inline size_t
gp_lane_bytes(size_t n, unsigned width)
{
    size_t in_byte = 8 / width;

    return width < 8 ? n / in_byte + (n % in_byte != 0) : n * (width / 8);
}

#endif
