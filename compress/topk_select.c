/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk_select.c - exact selection in little more than one pass.
 *
 * A sample gives a magnitude that fewer than k elements exceed only by bad
 * luck; one pass collects what reaches it. Whenever candidates fill the
 * workspace, only the k best of them stay and the bound becomes what the next
 * one has to exceed, so that no input needs more room; bad luck costs a second
 * pass from no bound at all. Sample positions are fixed, so time depends on the
 * data alone, and the result not even on the sample.
 */
#include <math.h>

#include "compress/kernels.h"
#include "compress/topk_kernels.h"
#include "compress/topk_select.h"

#define SAMPLES 65536u
/* One element in so many is sampled while that is not too much; neighbours
 * together, since it is the cache line that costs. */
#define SPARSITY   64u
#define NEIGHBOURS 16u
/* Up to here all elements are candidates. */
#define SMALL 4096u
/* Elements between two looks at how full the workspace is: at most SMALL. */
#define TILE 2048u
/* Keys that a pivot is chosen from. */
#define FEW 32u

/* The workspace: three arrays of `capacity`. Kept keys may be stored 16 at a
 * time, but never beyond where they were read. */
typedef struct gp_topk_space {
    const gp_topk_kernels *kernels;
    uint32_t *indices, *keys;
    float *values;
    size_t capacity;
} gp_topk_space;

static size_t
samples_of(size_t n)
{
    size_t s = n / SPARSITY;

    return s < SAMPLES ? s / NEIGHBOURS * NEIGHBOURS : SAMPLES;
}

static size_t
capacity_of(size_t n, size_t k)
{
    size_t room = k + k / 2 + SMALL;

    if (room < samples_of(n))
        room = samples_of(n);
    return room < n ? room : n;
}

size_t
gp_topk_workspace(size_t n, size_t k)
{
    return 3 * capacity_of(n, k) * sizeof(uint32_t);
}

static gp_topk_space
space_of(void *workspace, size_t n, size_t k)
{
    size_t capacity = capacity_of(n, k);
    uint32_t *words = workspace;

    return (gp_topk_space){gp_topk_kernels_get(), words, words + capacity,
                           (float *)(words + 2 * capacity), capacity};
}

/* A key near the rank: from a few of them, or by halving the range when that
 * has not helped, so that 32 more rounds suffice for any input. */
static uint32_t
pivot_of(const uint32_t *keys, size_t n, size_t rank, uint32_t least,
         uint32_t most, int round)
{
    uint32_t some[FEW], above[FEW] = {0}, want;
    size_t stride = n / FEW, best = 0;

    if (round > 8)
        return least + (most - least) / 2;
    for (size_t i = 0; i < FEW; i++)
        some[i] = keys[stride ? stride * i : i % n];
    for (size_t j = 0; j < FEW; j++)
        for (size_t i = 0; i < FEW; i++)
            above[i] += some[j] > some[i];
    want = (uint32_t)((double)rank * FEW / (double)n);
    /* The one with the most above it, but not more than wanted. */
    for (size_t i = 1; i < FEW; i++)
        if (above[i] <= want && (above[i] > above[best]))
            best = i;
    return some[best];
}

/* The *rank-th largest key (from 1). *rank becomes its rank among equals.
 * Destroys the keys. */
static uint32_t
nth_largest(const gp_topk_kernels *kernels, uint32_t *keys, size_t n,
            size_t *rank)
{
    uint32_t least = 0, most = GP_FP32_MAGNITUDE;

    for (int round = 0; least < most; round++) {
        uint32_t pivot = pivot_of(keys, n, *rank, least, most, round);
        size_t equal, above = kernels->count(keys, n, pivot, &equal);

        if (*rank <= above) {
            least = pivot + 1;
        } else if (*rank <= above + equal) {
            *rank -= above;
            return pivot;
        } else {
            most = pivot - 1;
            *rank -= above + equal;
        }
        n = kernels->keep(keys, n, least, most);
    }
    return least;
}

/* What about 1.25 k elements reach, as far as a sample can tell; at least 1, so
 * that zeros are no candidates. */
static uint32_t
sampled_bound(const gp_topk_space *space, const float *x, size_t n, size_t k)
{
    size_t s = samples_of(n), groups = s / NEIGHBOURS;
    size_t stride = n / groups / NEIGHBOURS;
    size_t rank = (size_t)ceil(1.25 * (double)s * ((double)k / (double)n) + 12);
    uint32_t bound;

    if (rank >= s)
        return 1;
    for (size_t i = 0; i < groups; i++) {
        uint32_t jitter = (uint32_t)i * 0x9e3779b1u;
        size_t at = i * stride + (size_t)((uint64_t)jitter * stride >> 32);

        at *= NEIGHBOURS;
        space->kernels->keys(x + at, NEIGHBOURS, space->keys + i * NEIGHBOURS);
    }
    bound = nth_largest(space->kernels, space->keys, s, &rank);
    return bound ? bound : 1;
}

/* Behind the ties-th element whose magnitude has these bits. */
static uint64_t
behind_tie(const float *x, size_t n, uint32_t bits, size_t ties)
{
    size_t i = 0;

    for (; i < n && ties; i++)
        ties -= (gp_bits(x[i]) & GP_FP32_MAGNITUDE) == bits;
    return i;
}

/* The bits of the k-th of m candidates; *ties: its rank among equals. */
static uint32_t
kth_bits(const gp_topk_space *space, size_t m, size_t k, size_t *ties)
{
    *ties = k;
    space->kernels->keys(space->values, m, space->keys);
    return nth_largest(space->kernels, space->keys, m, ties);
}

/* Copies those of m candidates above the bits, and the first ties of those that
 * equal them, to where there is room for exactly these. */
static void
pick(const gp_topk_space *space, size_t m, uint32_t bits, size_t ties,
     uint32_t *indices, float *values, size_t k)
{
    size_t end = (size_t)behind_tie(space->values, m, bits, ties);
    size_t at = space->kernels->pick(space->values, space->indices, end, bits,
                                     indices, values, k);

    (void)space->kernels->pick(space->values + end, space->indices + end,
                               m - end, bits + 1, indices + at, values + at,
                               k - at);
}

/* Elements that reach the bound, while there is room; then the k best of them,
 * and so on. @return how many: fewer than k if no more reach it. */
static size_t
candidates(const gp_topk_space *space, const float *x, size_t n, size_t k,
           uint32_t bound)
{
    size_t at = 0, tile, ties;

    for (size_t i = 0; i < n; i += tile) {
        tile = n - i < TILE ? n - i : TILE;
        if (space->capacity - at < tile) {
            uint32_t bits = kth_bits(space, at, k, &ties);

            /* Those that equal it come behind k that do, too. */
            pick(space, at, bits, ties, space->indices, space->values, k);
            bound = bits + 1;
            at = k;
        }
        at += space->kernels->collect(x + i, tile, (uint32_t)i, bound,
                                      space->indices + at, space->values + at,
                                      space->capacity - at);
    }
    return at;
}

/* At least k of them, all that are chosen among them. */
static size_t
collect(const gp_topk_space *space, const float *x, size_t n, size_t k)
{
    uint32_t bound = n <= SMALL ? 0 : sampled_bound(space, x, n, k);
    size_t m = candidates(space, x, n, k, bound);

    return m >= k ? m : candidates(space, x, n, k, 0);
}

gp_topk_cut
gp_topk_find(const float *x, size_t n, size_t k, void *workspace)
{
    gp_topk_space space = space_of(workspace, n, k);
    size_t m = collect(&space, x, n, k), ties;
    uint32_t bits = kth_bits(&space, m, k, &ties);
    uint64_t end;

    /* Indices of more elements than that are cut off. */
    if (n > UINT32_MAX)
        return (gp_topk_cut){behind_tie(x, n, bits, ties), bits};
    end = behind_tie(space.values, m, bits, ties);
    return (gp_topk_cut){(uint64_t)space.indices[end - 1] + 1, bits};
}

void
gp_topk_select(const float *x, size_t n, size_t k, uint32_t *indices,
               float *values, void *workspace)
{
    gp_topk_space space = space_of(workspace, n, k);
    size_t m = collect(&space, x, n, k), ties;
    uint32_t bits = kth_bits(&space, m, k, &ties);

    pick(&space, m, bits, ties, indices, values, k);
}

size_t
gp_topk_above(const float *x, size_t n, uint32_t least, uint32_t *indices,
              float *values, size_t capacity)
{
    return gp_topk_kernels_get()->collect(x, n, 0, least, indices, values,
                                          capacity);
}

size_t
gp_topk_take(const float *x, size_t n, uint64_t first, gp_topk_cut cut,
             uint32_t *indices, float *values, size_t capacity)
{
    const gp_topk_kernels *kernels = gp_topk_kernels_get();
    uint64_t left = cut.ties_end > first ? cut.ties_end - first : 0;
    size_t ties = left < n ? (size_t)left : n, at;

    at = kernels->collect(x, ties, 0, cut.bits, indices, values, capacity);
    return at + kernels->collect(x + ties, n - ties, (uint32_t)ties,
                                 cut.bits + 1, indices + at, values + at,
                                 capacity - at);
}
