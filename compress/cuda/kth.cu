/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kth.cu - the k-th largest magnitude: a bound from a sample ahead of the one
 * pass over memory, and exactly, of the candidates, behind it (select.cu).
 *
 * Whatever these kernels look at, few blocks of the grid do: candidates are
 * few, and a block that has nothing to do costs as much as one that has.
 */
#include "compress/cuda/select.cuh"

/* ---- the bound ---- */

/* The first of eight numbers before numbers[end], from the last one down, that
 * makes *before at least the rank; *before: what is above it. */
static __device__ __forceinline__ uint32_t
select_step(const uint32_t *numbers, uint32_t end, uint64_t rank,
            uint64_t *before)
{
    uint32_t at = end - 1;

    while (at > end - 8 && *before + numbers[at] < rank)
        *before += numbers[at--];
    return at;
}

/* The bin that holds the rank-th from the top, and what is above it; the lowest
 * where there are fewer. Of 256 sums of eight bins a lane of the first warp
 * adds up eight, and the one that reaches the rank looks closer. */
static __device__ __forceinline__ uint32_t
select_bin(const uint32_t *bins, uint64_t rank, uint64_t *above)
{
    __shared__ uint32_t sums[256];
    __shared__ uint64_t found[2];
    uint32_t t = threadIdx.x;

    if (t < 256) {
        uint32_t sum = 0;

        for (uint32_t j = 0; j < 8; j++)
            sum += bins[8 * t + j];
        sums[t] = sum;
    }
    __syncthreads();
    if (t < 32) {
        uint32_t end = 256 - 8 * t, sum = 0, total, reached;
        uint64_t before;

        for (uint32_t j = 1; j <= 8; j++)
            sum += sums[end - j];
        before = gp_warp_scan(sum, &total);
        reached = __ballot_sync(GP_FULL_WARP, before + sum >= rank);
        if (t == (reached ? (uint32_t)__ffs((int)reached) - 1 : 31)) {
            uint32_t at = select_step(sums, end, rank, &before);

            found[0] = select_step(bins, 8 * at + 8, rank, &before);
            found[1] = before;
        }
    }
    __syncthreads();
    *above = found[1];
    return (uint32_t)found[0];
}

/* Magnitudes of a sample, to where candidates will be. Neighbours are sampled
 * together: the line is what costs. */
static __device__ __forceinline__ void
select_sample(const gp_cuda_part *part, uint32_t thread, uint32_t threads)
{
    const gp_select *s = select_of(part);
    uint64_t groups = s->samples / 16, stride = part->count / groups / 16;
    uint32_t *sample = (uint32_t *)s->candidate;

    for (uint64_t j = thread; j < s->samples; j += threads) {
        uint32_t jitter = (uint32_t)(j / 16) * 0x9e3779b1u;
        uint64_t at = j / 16 * stride + ((uint64_t)jitter * stride >> 32);

        sample[j] = gp_magnitude(select_at(part, 16 * at + j % 16));
    }
}

/* Those whose upper bits are the prefix, at any level, are counted in bins. */
static __device__ __forceinline__ void
select_count_sample(const gp_select *s, uint32_t *bins, uint32_t level,
                    uint32_t prefix)
{
    const uint32_t *sample = (const uint32_t *)s->candidate;

    for (uint32_t b = threadIdx.x; b < GP_SELECT_BINS; b += blockDim.x)
        bins[b] = 0;
    __syncthreads();
    GP_UNROLL(8)
    for (uint64_t j = threadIdx.x; j < s->samples; j += blockDim.x) {
        uint32_t m = sample[j];

        if (level == 0)
            atomicAdd(&bins[m >> 20], 1u);
        else if (m >> 20 == prefix)
            atomicAdd(&bins[m >> 9 & 2047u], 1u);
    }
    __syncthreads();
}

/* What was found of the whole tensor; all is chosen where nobody looked. */
static __device__ __forceinline__ void
select_take_cut(const gp_cuda_part *part, gp_select_state *state)
{
    const gp_select_whole *whole = (const gp_select_whole *)part->whole;

    state->rank = UINT64_MAX;
    if (!whole)
        return;
    state->prefix = whole->bits;
    state->ties_end =
        whole->ties_end > part->offset ? whole->ties_end - part->offset : 0;
}

/* Several blocks of the grid for each part. */
extern "C" __global__ void
gp_cuda_select_begin(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint32_t thread = block * blockDim.x + threadIdx.x;
    uint32_t threads = blocks * blockDim.x;

    for (uint32_t b = thread; b < GP_SELECT_BINS; b += threads)
        s->bins[b] = 0;
    if (s->samples)
        select_sample(mine, thread, threads);
    if (thread == 0) {
        gp_select_state state = {};

        state.rank = s->k;
        state.bound = 1;
        state.prefix = s->k ? 0 : s->least - 1;
        state.dense = s->samples == 0;
        state.ties_end = UINT64_MAX;
        state.first = UINT32_MAX;
        if (s->cut == GP_CUT_WHOLE)
            select_take_cut(mine, &state);
        *s->state = state;
    }
}

/* A block of the grid for each part. */
extern "C" __global__ void __launch_bounds__(1024)
    gp_cuda_select_bound(const gp_cuda_part *part, uint32_t parts)
{
    __shared__ uint32_t bins[GP_SELECT_BINS];
    const gp_select *s = select_of(part + blockIdx.x);
    uint64_t above, rank = s->sample_rank;
    uint32_t bin, bound;

    (void)parts;
    if (!s->samples)
        return;
    select_count_sample(s, bins, 0, 0);
    bin = select_bin(bins, rank, &above);
    select_count_sample(s, bins, 1, bin);
    bound = bin << 20 | select_bin(bins, rank - above, &above) << 9;
    if (threadIdx.x == 0)
        s->state->bound = bound ? bound : 1;
}

/* ---- the k-th ---- */

static __device__ __forceinline__ void
select_bin_one(uint32_t *bins, uint32_t m, uint32_t level, uint32_t prefix)
{
    if (level == 0)
        atomicAdd(&bins[m >> 20], 1u);
    else if (level == 1 && m >> 20 == prefix)
        atomicAdd(&bins[m >> 9 & 2047u], 1u);
    else if (level == 2 && m >> 9 == prefix)
        atomicAdd(&bins[m & 511u], 1u);
}

/* Candidates lie in no order of tiles, which does not matter here. */
extern "C" __global__ void
gp_cuda_select_count_bins(const gp_cuda_part *part, uint32_t parts,
                          uint32_t level0, uint32_t add, uint32_t level)
{
    __shared__ uint32_t bins[GP_SELECT_BINS];
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    bool dense = select_dense(s);
    const float *from = dense ? select_from(mine) : s->candidate;
    uint64_t count = dense ? mine->count : s->state->candidates;
    uint64_t threads = (uint64_t)blocks * blockDim.x;
    uint32_t prefix = s->state->prefix;

    (void)level0;
    (void)add;
    if ((uint64_t)block * blockDim.x >= count)
        return;
    for (uint32_t b = threadIdx.x; b < GP_SELECT_BINS; b += blockDim.x)
        bins[b] = 0;
    __syncthreads();
    for (uint64_t i = (uint64_t)block * blockDim.x + threadIdx.x; i < count;
         i += 4 * threads) {
        uint32_t m[4];

        GP_UNROLL(4)
        for (uint32_t j = 0; j < 4; j++)
            m[j] = i + j * threads < count ? gp_magnitude(from[i + j * threads])
                                           : 0;
        GP_UNROLL(4)
        for (uint32_t j = 0; j < 4; j++)
            if (i + j * threads < count)
                select_bin_one(bins, m[j], level, prefix);
    }
    __syncthreads();
    for (uint32_t b = threadIdx.x; b < GP_SELECT_BINS; b += blockDim.x)
        if (bins[b])
            atomicAdd(&s->bins[b], bins[b]);
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_select_narrow(const gp_cuda_part *part, uint32_t parts, uint32_t level0,
                      uint32_t add, uint32_t level)
{
    const gp_select *s = select_of(part + blockIdx.x);
    uint64_t above;
    uint32_t bin = select_bin(s->bins, s->state->rank, &above);

    (void)parts;
    (void)level0;
    (void)add;
    __syncthreads();
    for (uint32_t b = threadIdx.x; b < GP_SELECT_BINS; b += blockDim.x)
        s->bins[b] = 0;
    if (threadIdx.x == 0) {
        s->state->prefix = s->state->prefix << (level == 2 ? 9 : 11) | bin;
        s->state->rank -= above;
    }
}
