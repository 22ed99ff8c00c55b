/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk_select.c - exact selection in little more than one pass.
 *
 * A sample gives a magnitude that fewer than k elements exceed only by bad
 * luck; one pass collects what reaches it, and the k-th largest of those few
 * candidates is that of all. When luck is bad, or ties make the candidates too
 * many, three histograms of the whole find it. Sample positions are fixed, so
 * time depends on the data alone, and the result not even on the sample.
 */
#include <math.h>

#include "compress/kernels.h"
#include "compress/topk_kernels.h"
#include "compress/topk_select.h"

#define SAMPLES 65536u
/* One element in so many is sampled while that is not too much. */
#define SPARSITY 64u
/* Up to here all elements are candidates. */
#define SMALL 4096u
#define BINS  2048u

/* The workspace: three arrays of `capacity`; counters of histograms lie over
 * them, as either is used. Kept keys may be stored 16 at a time, but never
 * beyond where they were read. */
typedef struct gp_topk_space {
    const gp_topk_kernels *kernels;
    uint32_t *indices, *keys;
    float *values;
    uint64_t *bins;
    size_t capacity;
} gp_topk_space;

static size_t
samples_of(size_t n)
{
    size_t s = n / SPARSITY;

    return s < SAMPLES ? s : SAMPLES;
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
    size_t arrays = 3 * capacity_of(n, k) * sizeof(uint32_t);

    return arrays > 2 * BINS * sizeof(uint64_t) ? arrays
                                                : 2 * BINS * sizeof(uint64_t);
}

static gp_topk_space
space_of(void *workspace, size_t n, size_t k)
{
    size_t capacity = capacity_of(n, k);
    uint32_t *words = workspace;

    return (gp_topk_space){
        gp_topk_kernels_get(),           words,     words + capacity,
        (float *)(words + 2 * capacity), workspace, capacity};
}

/* A key near the rank: from a few of them, or by halving the range when that
 * has not helped, so that 32 more rounds suffice for any input. */
static uint32_t
pivot_of(const uint32_t *keys, size_t n, size_t rank, uint32_t least,
         uint32_t most, int round)
{
    uint32_t some[32];
    size_t count = n < 32 ? n : 32, at;

    if (round > 8)
        return least + (most - least) / 2;
    for (size_t i = 0; i < count; i++) {
        uint32_t key = keys[n / count * i];
        size_t j = i;

        for (; j > 0 && some[j - 1] < key; j--)
            some[j] = some[j - 1];
        some[j] = key;
    }
    at = (size_t)((double)rank * (double)count / (double)n);
    return some[at < count ? at : count - 1];
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
    size_t s = samples_of(n), stride = n / s;
    size_t rank = (size_t)ceil(1.25 * (double)s * ((double)k / (double)n) + 12);
    uint32_t bound;

    if (rank >= s)
        return 1;
    for (size_t i = 0; i < s; i++) {
        uint32_t jitter = (uint32_t)i * 0x9e3779b1u;
        size_t at = i * stride + (size_t)((uint64_t)jitter * stride >> 32);

        space->keys[i] = gp_bits(x[at]) & GP_FP32_MAGNITUDE;
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

/* Counts the keys whose upper bits are the prefix by their next ones, and moves
 * on to where the *rank-th largest is. Two counters per bin in turns: equal
 * neighbours need not wait for one another. */
static uint32_t
refine(uint64_t *bins, const float *x, size_t n, unsigned shift, unsigned width,
       uint32_t prefix, size_t *rank)
{
    size_t size = (size_t)1 << width, bin = size;

    memset(bins, 0, 2 * size * sizeof(*bins));
    for (size_t i = 0; i < n; i++) {
        uint32_t key = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        if (key >> shift >> width == prefix)
            bins[2 * (key >> shift & (size - 1)) + (i & 1)]++;
    }
    while (bin-- > 0) {
        uint64_t count = bins[2 * bin] + bins[2 * bin + 1];

        if (*rank <= count)
            break;
        *rank -= (size_t)count;
    }
    return prefix << width | (uint32_t)bin;
}

static gp_topk_cut
by_histograms(const gp_topk_space *space, const float *x, size_t n, size_t k)
{
    size_t rank = k;
    uint32_t bits = refine(space->bins, x, n, 20, 11, 0, &rank);

    bits = refine(space->bins, x, n, 10, 10, bits, &rank);
    bits = refine(space->bins, x, n, 0, 10, bits, &rank);
    return (gp_topk_cut){behind_tie(x, n, bits, rank), bits};
}

/* Collects candidates, at least k of them. False when the sample misled or ties
 * are many; then *cut is the cut, found without them. */
static bool
collect(const gp_topk_space *space, const float *x, size_t n, size_t k,
        size_t *count, gp_topk_cut *cut)
{
    uint32_t bound = n <= SMALL ? 0 : sampled_bound(space, x, n, k);
    bool misled = false;
    size_t m;

    for (int attempt = 0; attempt < 2; attempt++, bound++) {
        m = space->kernels->collect(x, n, 0, bound, space->indices,
                                    space->values, space->capacity);
        if (m <= space->capacity)
            break;
        misled = true;
    }
    *count = m;
    if (m >= k && m <= space->capacity)
        return true;
    /* More than k reach bound - 1, less than k reach the bound. */
    if (m < k && (misled || bound == 1))
        *cut = (gp_topk_cut){behind_tie(x, n, bound - 1, k - m), bound - 1};
    else
        *cut = by_histograms(space, x, n, k);
    return false;
}

gp_topk_cut
gp_topk_find(const float *x, size_t n, size_t k, void *workspace)
{
    gp_topk_space space = space_of(workspace, n, k);
    gp_topk_cut cut;
    size_t m, at;

    if (n > UINT32_MAX)
        return by_histograms(&space, x, n, k);
    if (!collect(&space, x, n, k, &m, &cut))
        return cut;
    space.kernels->keys(space.values, m, space.keys);
    cut.bits = nth_largest(space.kernels, space.keys, m, &k);
    at = (size_t)behind_tie(space.values, m, cut.bits, k);
    cut.ties_end = (uint64_t)space.indices[at - 1] + 1;
    return cut;
}

void
gp_topk_select(const float *x, size_t n, size_t k, uint32_t *indices,
               float *values, void *workspace)
{
    gp_topk_space space = space_of(workspace, n, k);
    gp_topk_cut cut;
    size_t m, ties = k, at = 0;
    uint32_t bits;

    if (n <= SMALL || !collect(&space, x, n, k, &m, &cut)) {
        if (n <= SMALL)
            cut = gp_topk_find(x, n, k, workspace);
        (void)gp_topk_take(x, n, 0, cut, indices, values, k);
        return;
    }
    space.kernels->keys(space.values, m, space.keys);
    bits = nth_largest(space.kernels, space.keys, m, &ties);
    for (size_t j = 0; at < k; j++) {
        uint32_t key = gp_bits(space.values[j]) & GP_FP32_MAGNITUDE;
        bool chosen = key > bits;

        if (__builtin_expect(key == bits && ties, 0)) {
            chosen = true;
            ties--;
        }
        indices[at] = space.indices[j];
        values[at] = space.values[j];
        at += chosen;
    }
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
