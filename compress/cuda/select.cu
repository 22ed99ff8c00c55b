/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select.cu - the k elements of largest magnitude, exactly; or all from a
 * magnitude on (topk.c).
 *
 * A sample gives a bound that fewer than k elements reach only by bad luck
 * (kth.cu). One pass over memory collects what reaches it, tile by tile; of
 * these candidates three histograms find the bits of the k-th, and how many of
 * those that equal it are chosen, the first ones. Where candidates are too few,
 * or more than there is room for, the same kernels look at all elements
 * instead: nothing depends on luck but time, and the host need not know.
 */
#include "compress/cuda/select.cuh"

/* ---- one pass over memory ---- */

/* Which of eight elements reach the bound; what is fed back has been added. */
static __device__ __forceinline__ uint32_t
select_hits(const gp_cuda_part *part, uint64_t i, uint64_t end, uint32_t bound)
{
    uint32_t left = gp_left8(i, end), hits = 0;
    float x[8];

    if (!left)
        return 0;
    gp_gather8(part->source, part->residual, i, left, x);
    if (part->residual)
        gp_store8(part->residual + i, left, x);
    GP_UNROLL(8)
    for (int j = 0; j < 8; j++)
        hits |= (uint32_t)(gp_magnitude(x[j]) >= bound) << j;
    return hits;
}

/* The same of all 64 of a lane, when they are there and aligned: eight loads
 * are asked for before any is looked at. */
template <bool feeds>
static __device__ __forceinline__ uint64_t
select_hits_64(const float *source, float *residual, uint32_t bound)
{
    constexpr uint32_t n = feeds ? 4 : 8;
    uint64_t hits = 0;

    GP_UNROLL(1)
    for (uint32_t at = 0; at < 16; at += n) {
        const float *from = source + 128 * at;
        float *kept = residual + (feeds ? 128 * at : 0);
        float4 x[n], r[n];

        GP_UNROLL(n)
        for (uint32_t j = 0; j < n; j++) {
            x[j] = *(const float4 *)(from + 256 * (j / 2) + 4 * (j % 2));
            if (feeds)
                r[j] = *(const float4 *)(kept + 256 * (j / 2) + 4 * (j % 2));
        }
        GP_UNROLL(n)
        for (uint32_t j = 0; j < n; j++) {
            uint32_t four;

            if (feeds) {
                x[j] = gp_feed4(r[j], x[j]);
                *(float4 *)(kept + 256 * (j / 2) + 4 * (j % 2)) = x[j];
            }
            four = (uint32_t)(gp_magnitude(x[j].x) >= bound) |
                   (uint32_t)(gp_magnitude(x[j].y) >= bound) << 1 |
                   (uint32_t)(gp_magnitude(x[j].z) >= bound) << 2 |
                   (uint32_t)(gp_magnitude(x[j].w) >= bound) << 3;
            hits |= (uint64_t)four << 4 * (at + j);
        }
    }
    return hits;
}

/* Eight elements of a lane, then the next 256 of the warp. */
static __device__ __forceinline__ uint64_t
select_hits_any(const gp_cuda_part *part, uint64_t begin, uint32_t bound)
{
    uint64_t hits = 0;

    for (uint32_t n = 0; n < 8; n++)
        hits |=
            (uint64_t)select_hits(part, begin + 256u * n, part->count, bound)
            << 8 * n;
    return hits;
}

/* A warp takes 2048 neighbours, and keeps a bit of each in registers until all
 * warps know where theirs go. */
static __device__ __forceinline__ void
select_collect_tile(const gp_cuda_part *part, uint64_t tile)
{
    __shared__ uint64_t warp[8];
    __shared__ uint64_t base;
    const gp_select *s = select_of(part);
    uint32_t lane = threadIdx.x % 32u, w = threadIdx.x / 32u, total, bound;
    uint64_t begin = tile * GP_SELECT_TILE + 2048u * w + 8u * lane, at, hits;
    const float *from = select_from(part);
    bool whole =
        (tile + 1) * GP_SELECT_TILE <= part->count &&
        (((uintptr_t)part->source | (uintptr_t)part->residual) & 15u) == 0;

    bound = s->state->bound;
    if (!whole)
        hits = select_hits_any(part, begin, bound);
    else if (part->residual)
        hits = select_hits_64<true>(part->source + begin,
                                    part->residual + begin, bound);
    else
        hits = select_hits_64<false>(part->source + begin, nullptr, bound);
    (void)gp_warp_scan(__popc((uint32_t)hits) + __popc((uint32_t)(hits >> 32)),
                       &total);
    if (lane == 0)
        warp[w] = total;
    __syncthreads();
    if (threadIdx.x == 0) {
        uint64_t sum = 0;

        for (uint32_t k = 0; k < 8; k++) {
            uint64_t its = warp[k];

            warp[k] = sum;
            sum += its;
        }
        base = atomicAdd((unsigned long long *)&s->state->candidates,
                         (unsigned long long)sum);
        s->tile[tile].at = base;
        s->tile[tile].count = (uint32_t)sum;
    }
    __syncthreads();
    at = base + warp[w];
    for (uint32_t n = 0; n < 8; n++) {
        uint32_t mine = (uint32_t)(hits >> 8 * n) & 255u, all;
        uint64_t to = at + gp_warp_scan(__popc(mine), &all);

        at += all;
        for (; mine; mine &= mine - 1, to++) {
            uint64_t i = begin + 256u * n + (uint32_t)__ffs((int)mine) - 1;

            if (to >= s->room)
                break;
            s->candidate_at[to] = (uint32_t)i;
            s->candidate[to] = from[i];
        }
    }
}

/* Where candidates are of no use from the start, only the sums are formed; and
 * not even these where the whole tensor was looked at. */
extern "C" __global__ void __launch_bounds__(256, 4)
    gp_cuda_select_collect(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t tile = blockIdx.x - mine->first_block;
    uint64_t tiles = (mine->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;
    uint64_t begin = tile * GP_SELECT_TILE, end = begin + GP_SELECT_TILE;

    if (s->index != GP_INDEX_RAW)
        for (uint64_t i = tile * blockDim.x + threadIdx.x; i < s->index_words;
             i += (tiles ? tiles : 1) * blockDim.x)
            s->index_out[i] = 0;
    if (!s->state->dense) {
        select_collect_tile(mine, tile);
        return;
    }
    if (!mine->residual || s->cut == GP_CUT_WHOLE)
        return;
    end = end < mine->count ? end : mine->count;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x)
        (void)select_hits(mine, i, end, 1);
}

/* ---- what is chosen ---- */

static __device__ __forceinline__ uint64_t
select_all_tiles(const gp_cuda_part *part)
{
    return (part->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;
}

/* A warp for each tile. */
extern "C" __global__ void
gp_cuda_select_count(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks, lane = threadIdx.x % 32u;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t tiles = select_all_tiles(mine);
    uint32_t cut = select_cut(s);

    for (uint64_t tile = block * 8 + threadIdx.x / 32u; tile < tiles;
         tile += blocks * 8) {
        select_view view = select_view_of(mine, s, tile);
        uint32_t above = 0, equal = 0;

        GP_UNROLL(4)
        for (uint32_t i = lane; i < view.count; i += 32) {
            uint32_t m = gp_magnitude(view.value[i]);

            above += m > cut;
            equal += m == cut && view.first + i < s->state->ties_end;
            if (cut >= GP_FP32_INFINITY && m >= GP_FP32_INFINITY)
                atomicMin(&s->state->first, (uint32_t)(view.first + i));
        }
        above = __reduce_add_sync(GP_FULL_WARP, above);
        equal = __reduce_add_sync(GP_FULL_WARP, equal);
        if (lane == 0) {
            s->tile[tile].above = above;
            s->tile[tile].equal = equal;
        }
    }
}

/* A block of the grid for each part: where the chosen of each tile go, and how
 * many of those that equal the k-th are among them. */
extern "C" __global__ void __launch_bounds__(1024)
    gp_cuda_select_place(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = select_of(mine);
    uint64_t tiles = (mine->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;
    uint64_t ties = s->state->rank, chosen = 0, equals = 0;

    (void)parts;
    for (uint64_t first = 0; first < tiles; first += 8 * blockDim.x) {
        uint64_t t = first + 8 * threadIdx.x, sum = 0, total, before;
        uint32_t equal[8], take[8];

        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            equal[j] = t + j < tiles ? s->tile[t + j].equal : 0;
            take[j] = t + j < tiles ? s->tile[t + j].above : 0;
        }
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++)
            sum += equal[j];
        before = equals + gp_block_scan(sum, &total);
        equals += total;
        sum = 0;
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            uint64_t left = before < ties ? ties - before : 0;

            before += equal[j];
            equal[j] = equal[j] > left ? (uint32_t)left : equal[j];
            take[j] += equal[j];
            sum += take[j];
        }
        before = chosen + gp_block_scan(sum, &total);
        chosen += total;
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            if (t + j < tiles) {
                s->tile[t + j].equal = equal[j];
                s->tile[t + j].start = before;
            }
            before += take[j];
        }
    }
    /* More of the tensor may be NaN and Inf than it has share in: one of them
     * goes, lest the step looks sound here. */
    if (threadIdx.x != 0)
        return;
    if (chosen || s->cut != GP_CUT_WHOLE)
        s->state->first = UINT32_MAX;
    if (s->state->first != UINT32_MAX)
        chosen = 1;
    s->state->chosen = chosen < s->most ? chosen : s->most;
}

/* The chosen of a tile, by a warp; no more than there is room for, should
 * elements change between two launches. */
static __device__ __forceinline__ void
select_write_tile(const gp_cuda_part *mine, const gp_select *s, uint64_t tile)
{
    select_view view = select_view_of(mine, s, tile);
    uint32_t cut = select_cut(s), lane = threadIdx.x % 32u;
    uint32_t before = (1u << lane) - 1, ties = s->tile[tile].equal;
    uint64_t at = s->tile[tile].start;

    for (uint32_t i = 0; i < view.count; i += 32) {
        bool there = i + lane < view.count;
        float x = there ? view.value[i + lane] : 0;
        uint32_t m = gp_magnitude(x);
        uint32_t above = __ballot_sync(GP_FULL_WARP, there && m > cut);
        uint32_t equal = __ballot_sync(GP_FULL_WARP, there && m == cut);
        bool tie = equal >> lane & 1 && (uint32_t)__popc(equal & before) < ties;
        uint32_t take = above | __ballot_sync(GP_FULL_WARP, tie);

        ties -= (uint32_t)__popc(equal) < ties ? (uint32_t)__popc(equal) : ties;
        if (take >> lane & 1 &&
            at + (uint32_t)__popc(take & before) < s->most) {
            uint64_t to = at + (uint32_t)__popc(take & before);

            s->chosen_at[to] =
                view.at ? view.at[i + lane] : (uint32_t)(view.first + i + lane);
            s->chosen[to] = x;
        }
        at += (uint32_t)__popc(take);
    }
    if (lane == 0 && view.count && s->state->first / GP_SELECT_TILE == tile) {
        s->chosen_at[0] = s->state->first;
        s->chosen[0] = select_from(mine)[s->state->first];
    }
}

extern "C" __global__ void
gp_cuda_select_write(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t tiles = select_all_tiles(mine);

    for (uint64_t tile = block * 8 + threadIdx.x / 32u; tile < tiles;
         tile += blocks * 8)
        select_write_tile(mine, s, tile);
}

/* ---- indices ---- */

static __device__ __forceinline__ uint32_t
select_gap(const gp_select *s, uint64_t j)
{
    return j ? s->chosen_at[j] - s->chosen_at[j - 1] - 1 : s->chosen_at[0];
}

/* best_r() of rice.c, of the gaps of a warp. */
static __device__ __forceinline__ uint32_t
select_rice(uint32_t gap, uint32_t m, uint32_t *bits)
{
    uint64_t sum = __reduce_add_sync(GP_FULL_WARP, gap);
    uint32_t r = 0, best = 0, least = 0xffffffffu;
    bool mine = threadIdx.x % 32u < m;

    while (r < 31 && (3 * (uint64_t)m) << r < sum + m)
        r++;
    for (; r <= 31; r++) {
        uint32_t cost = __reduce_add_sync(GP_FULL_WARP, mine ? gap >> r : 0);

        cost += m * (r + 1);
        if (cost < least) {
            least = cost;
            best = r;
        }
        if ((uint64_t)m << r >= sum)
            break;
    }
    *bits = least;
    return best;
}

/* A warp for every 32 indices. */
extern "C" __global__ void
gp_cuda_select_measure(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t k = s->state->chosen, warps = blocks * 8;
    uint64_t g = block * 8 + threadIdx.x / 32u;
    uint32_t lane = threadIdx.x % 32u;

    if (s->index != GP_INDEX_RICE && s->index != GP_INDEX_AUTO)
        return;
    for (; 32 * g < k; g += warps) {
        uint32_t m = k - 32 * g < 32 ? (uint32_t)(k - 32 * g) : 32, bits, r;
        uint32_t gap = lane < m ? select_gap(s, 32 * g + lane) : 0;

        r = select_rice(gap, m, &bits);
        if (lane == 0)
            s->group[g] = (bits + 5) | r << 16;
    }
}

/* The bits where groups begin; all of them. */
static __device__ __forceinline__ uint64_t
select_place_groups(const gp_select *s)
{
    uint64_t groups = (s->state->chosen + 31) / 32, bits = 0;

    if (s->index != GP_INDEX_RICE && s->index != GP_INDEX_AUTO)
        return 0;
    for (uint64_t first = 0; first < groups; first += 8 * blockDim.x) {
        uint64_t g = first + 8 * threadIdx.x, sum = 0, total, before;
        uint32_t own[8];

        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++)
            own[j] = g + j < groups ? s->group[g + j] & 0xffffu : 0;
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++)
            sum += own[j];
        before = bits + gp_block_scan(sum, &total);
        bits += total;
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            if (g + j < groups)
                s->group_at[g + j] = before;
            before += own[j];
        }
    }
    return bits;
}

/* index_bound() of the index stages. */
static __device__ __forceinline__ uint64_t
select_index_bound(const gp_select *s, uint64_t k, uint64_t count)
{
    uint64_t bits;
    uint32_t r = 0;

    if (s->index == GP_INDEX_RAW)
        return 4 * k;
    if (s->index == GP_INDEX_BITMAP)
        return (count + 7) / 8;
    if (k == 0)
        return s->index == GP_INDEX_AUTO;
    while (r < 31 && count / k >> r > 1)
        r++;
    bits = k * (r + 1) + (count >> r) + (k / 32 + 1) * 5;
    return (bits + 7) / 8 + (s->index == GP_INDEX_AUTO);
}

/* Whether everything takes less, as pipeline_message.c decides it. */
static __device__ __forceinline__ bool
select_too_large(const gp_select *s, uint64_t k, uint64_t count)
{
    return (s->capacity < 9 + select_index_bound(s, k, count) &&
            s->all_bytes <= s->capacity) ||
           9 + s->state->index_bytes + select_values_bytes(&s->layout, k) >
               s->all_bytes;
}

/* A block of the grid for each part: the form of the indices, and whether the
 * selection is worth it; tells the array stage what to encode. */
extern "C" __global__ void __launch_bounds__(1024)
    gp_cuda_select_settle(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = select_of(mine);
    gp_select_state *state = s->state;
    uint64_t rice = (select_place_groups(s) + 7) / 8, k = state->chosen;
    uint64_t bitmap = (mine->count + 7) / 8, size = 4 * k;
    uint32_t mode = s->index == GP_INDEX_AUTO ? 0 : s->index;

    (void)parts;
    if (threadIdx.x != 0)
        return;
    if (s->index == GP_INDEX_RICE ||
        (s->index == GP_INDEX_AUTO && rice < size)) {
        mode = GP_INDEX_RICE;
        size = rice;
    }
    if (s->index == GP_INDEX_BITMAP ||
        (s->index == GP_INDEX_AUTO && bitmap < size)) {
        mode = GP_INDEX_BITMAP;
        size = bitmap;
    }
    state->mode = mode;
    state->index_bytes = size + (s->index == GP_INDEX_AUTO);
    state->all = select_too_large(s, k, mine->count);
    s->values->count = state->all ? mine->count : k;
    s->sent->count = s->values->count;
    s->values->source = state->all ? select_from(mine) : s->chosen;
}

static __device__ __forceinline__ void
select_put(uint32_t *words, uint64_t at, uint64_t bits)
{
    uint64_t moved = bits << (at & 31u);

    if ((uint32_t)moved)
        atomicOr(&words[at >> 5], (uint32_t)moved);
    if (moved >> 32)
        atomicOr(&words[(at >> 5) + 1], (uint32_t)(moved >> 32));
}

/* A warp for every 32 indices, into words of zeros. */
extern "C" __global__ void
gp_cuda_select_indices(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t k = s->state->chosen, warps = blocks * 8;
    uint64_t g = block * 8 + threadIdx.x / 32u;
    uint32_t lane = threadIdx.x % 32u, mode = s->state->mode;

    if (s->state->all)
        return;
    for (; 32 * g < k; g += warps) {
        uint64_t j = 32 * g + lane, at;
        uint32_t gap, r, total;

        if (mode == GP_INDEX_RAW && j < k)
            s->index_out[j] = s->chosen_at[j];
        if (mode == GP_INDEX_BITMAP && j < k)
            select_put(s->index_out, s->chosen_at[j], 1);
        if (mode != GP_INDEX_RICE)
            continue;
        gap = j < k ? select_gap(s, j) : 0;
        r = s->group[g] >> 16;
        at = s->group_at[g] + 5 +
             gp_warp_scan(j < k ? (gap >> r) + 1 + r : 0, &total);
        if (lane == 0)
            select_put(s->index_out, s->group_at[g], r);
        if (j < k)
            select_put(s->index_out, at + (gap >> r),
                       (uint64_t)(gap & ((1u << r) - 1)) << 1 | 1);
    }
}

/* ---- the message, and what is left ---- */

/* From where words are aligned to any place, word by word; `from` can be read
 * to the end of its last word. */
static __device__ __forceinline__ void
select_copy(uint8_t *to, const uint8_t *from, uint64_t bytes, uint64_t thread,
            uint64_t threads)
{
    uint32_t lead = (uint32_t)(-(uintptr_t)to & 3u), shift = 8 * lead;
    uint64_t words = bytes < lead ? 0 : (bytes - lead) / 4;
    const uint32_t *in = (const uint32_t *)from;
    uint32_t *out = (uint32_t *)(to + lead);

    for (uint64_t i = thread; i < words; i += threads) {
        uint64_t pair = in[i];

        if (shift)
            pair |= (uint64_t)in[i + 1] << 32;
        out[i] = (uint32_t)(pair >> shift);
    }
    if (thread < bytes && thread < lead)
        to[thread] = from[thread];
    for (uint64_t i = lead + 4 * words + thread; i < bytes; i += threads)
        to[i] = from[i];
}

static __device__ __forceinline__ void
select_put32(uint8_t *at, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(x >> 8 * i);
}

extern "C" __global__ void
gp_cuda_select_assemble(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    const gp_select_state *state = s->state;
    uint64_t thread = (uint64_t)block * blockDim.x + threadIdx.x;
    uint64_t threads = (uint64_t)blocks * blockDim.x, at = 1, bytes;
    uint32_t tag = s->index == GP_INDEX_AUTO;
    bool implied = s->index == GP_INDEX_IMPLIED;

    if (!state->all && !implied)
        at = 9 + state->index_bytes;
    bytes = select_encoded_bytes(s);
    if (thread == 0) {
        mine->bytes[0] = state->all ? 2 : 0;
        if (!state->all && !implied) {
            select_put32(mine->bytes + 1, (uint32_t)state->chosen);
            select_put32(mine->bytes + 5, (uint32_t)state->index_bytes);
            if (tag)
                mine->bytes[9] = (uint8_t)state->mode;
        }
        if (mine->encoded)
            *mine->encoded = at + bytes;
    }
    if (!state->all && !implied)
        select_copy(mine->bytes + 9 + tag, (const uint8_t *)s->index_out,
                    state->index_bytes - tag, thread, threads);
    select_copy(mine->bytes + at, s->message, bytes, thread, threads);
}

extern "C" __global__ void
gp_cuda_select_feed_back(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t threads = (uint64_t)blocks * blockDim.x, n = s->values->count;
    uint64_t j = (uint64_t)block * blockDim.x + threadIdx.x;

    if (!mine->residual && !mine->history)
        return;
    for (; j < n; j += threads) {
        uint64_t i = s->state->all ? j : s->chosen_at[j];
        float d = s->undone[j], u;

        if (mine->history) {
            mine->history[i] = gp_kept_of(mine->history[i], d);
            continue;
        }
        u = mine->residual[i];
        if (mine->signs & GP_REMEMBER_MASK && !s->state->all)
            mine->velocity[i] = 0;
        mine->residual[i] = gp_remainder_of(u, d);
        if (!gp_is_finite(u) || !gp_is_finite(d))
            s->state->nonfinite = 1;
    }
}

/* More may be infinite than a selection can take. */
extern "C" __global__ void
gp_cuda_select_forget(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t block, blocks;
    const gp_cuda_part *mine = gp_spread_part(part, parts, &block, &blocks);
    const gp_select *s = select_of(mine);
    uint64_t threads = (uint64_t)blocks * blockDim.x;

    if (!mine->residual || !s->state->nonfinite)
        return;
    for (uint64_t i = (uint64_t)block * blockDim.x + threadIdx.x;
         i < mine->count; i += threads)
        if (!gp_is_finite(mine->residual[i]))
            mine->residual[i] = 0;
}
