/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zeros.cu - the map of zero blocks (zeros.c), around an array stage that works
 * on what is kept.
 *
 * Blocks are multiples of 32 elements, which are a warp: of each such group
 * there is a bit first, whatever the blocks are. What a part shares is a
 * gp_select (select.h) of which `k` is the block, `bins` has those bits,
 * `index_out` the map, and `group_at` where the elements of each block go.
 */
#include "compress/cuda/select.cuh"

#define ZEROS_MAP 1u

static __device__ __forceinline__ uint64_t
zeros_blocks(const gp_cuda_part *part, const gp_select *s)
{
    return (part->count + s->k - 1) / s->k;
}

/* Of the tile that this block of the grid has. */
static __device__ __forceinline__ uint64_t
zeros_end(const gp_cuda_part *part, uint64_t *begin)
{
    *begin = (uint64_t)(blockIdx.x - part->first_block) * GP_SELECT_TILE;
    return *begin + GP_SELECT_TILE < part->count ? *begin + GP_SELECT_TILE
                                                 : part->count;
}

static __device__ __forceinline__ bool
zeros_kept(const gp_select *s, uint64_t b)
{
    return s->state->all || (s->index_out[b / 32] >> b % 32 & 1u);
}

/* Where an element of a kept block lies among those. */
static __device__ __forceinline__ uint64_t
zeros_place(const gp_select *s, uint64_t i, uint64_t b)
{
    return s->state->all ? i : s->group_at[b] + (i - b * s->k);
}

/* What is fed back is added; of every 32 elements, whether one is not +0. */
extern "C" __global__ void
gp_cuda_zeros_look(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t begin, end = zeros_end(mine, &begin);
    uint32_t lane = threadIdx.x % 32u;

    for (uint64_t i = begin + threadIdx.x; i - lane < end; i += blockDim.x) {
        float x = 0;
        uint32_t any;

        if (i < end)
            x = select_at(mine, i);
        if (i < end && mine->residual)
            mine->residual[i] = x;
        any = __ballot_sync(GP_FULL_WARP, __float_as_uint(x) != 0);
        if (lane == 0)
            s->bins[i / 32] = any != 0;
    }
}

/* Of block b, from what its groups say. */
static __device__ __forceinline__ bool
zeros_any(const gp_cuda_part *part, const gp_select *s, uint64_t b)
{
    uint64_t groups = (part->count + 31) / 32, each = s->k / 32;
    uint64_t end = (b + 1) * each < groups ? (b + 1) * each : groups;

    for (uint64_t g = b * each; g < end; g++)
        if (s->bins[g])
            return true;
    return false;
}

/* Elements of block b. */
static __device__ __forceinline__ uint64_t
zeros_size(const gp_cuda_part *part, const gp_select *s, uint64_t b)
{
    uint64_t left = part->count - b * s->k;

    return left < s->k ? left : s->k;
}

/* By a block of the grid: the places of what is kept, with the map there or
 * made now; the result is how many elements that is. */
static __device__ __forceinline__ uint64_t
zeros_count(const gp_cuda_part *part, const gp_select *s, bool make)
{
    uint64_t blocks = zeros_blocks(part, s), kept = 0;

    for (uint64_t first = 0; first < blocks; first += blockDim.x) {
        uint64_t b = first + threadIdx.x, total, before;
        bool keep = false;

        if (b < blocks)
            keep = make ? zeros_any(part, s, b)
                        : s->index_out[b / 32] >> b % 32 & 1u;
        if (make) {
            uint32_t word = __ballot_sync(GP_FULL_WARP, keep);

            if (threadIdx.x % 32u == 0 && b < blocks)
                s->index_out[b / 32] = word;
        }
        before = gp_block_scan(keep ? zeros_size(part, s, b) : 0, &total);
        if (b < blocks)
            s->group_at[b] = kept + before;
        kept += total;
    }
    return kept;
}

/* A block of the grid for each part: the map, told to the array stage. */
extern "C" __global__ void
gp_cuda_zeros_settle(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = select_of(mine);
    uint64_t kept = zeros_count(mine, s, true);

    (void)parts;
    if (threadIdx.x != 0)
        return;
    s->state->all = kept == mine->count;
    s->values->count = kept;
    s->sent->count = kept;
    s->values->source = s->state->all ? select_from(mine) : s->chosen;
}

extern "C" __global__ void
gp_cuda_zeros_pack(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t begin, end = zeros_end(mine, &begin);
    const float *from = select_from(mine);

    if (s->state->all)
        return;
    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        uint64_t b = gp_over(i, (uint32_t)s->k);

        if (zeros_kept(s, b))
            s->chosen[zeros_place(s, i, b)] = from[i];
    }
}

/* Threads of a part go over its bytes. */
static __device__ __forceinline__ uint64_t
zeros_threads(const gp_cuda_part *part, uint64_t *thread)
{
    uint64_t tiles = (part->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;

    *thread =
        (uint64_t)(blockIdx.x - part->first_block) * blockDim.x + threadIdx.x;
    return (tiles ? tiles : 1) * blockDim.x;
}

extern "C" __global__ void
gp_cuda_zeros_assemble(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t thread, threads = zeros_threads(mine, &thread);
    uint64_t map = s->state->all ? 0 : (zeros_blocks(mine, s) + 7) / 8;
    uint64_t bytes = select_encoded_bytes(s);
    const uint8_t *bits = (const uint8_t *)s->index_out;

    if (thread == 0) {
        mine->bytes[0] = s->state->all ? 0 : ZEROS_MAP;
        if (mine->encoded)
            *mine->encoded = 1 + map + bytes;
    }
    for (uint64_t i = thread; i < map; i += threads)
        mine->bytes[1 + i] = bits[i];
    for (uint64_t i = thread; i < bytes; i += threads)
        mine->bytes[1 + map + i] = s->message[i];
}

extern "C" __global__ void
gp_cuda_zeros_feed_back(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t begin, end = zeros_end(mine, &begin);

    if (!mine->residual && !mine->history)
        return;
    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        uint64_t b = gp_over(i, (uint32_t)s->k);
        float d = zeros_kept(s, b) ? s->undone[zeros_place(s, i, b)] : 0.0f;

        if (mine->history)
            mine->history[i] = gp_kept_of(mine->history[i], d);
        else
            mine->residual[i] = gp_remainder_of(mine->residual[i], d);
    }
}

/* ---- back ---- */

/* The map of a message to where its words are aligned, by a block of the grid;
 * false where a bit is set that no block has. */
static __device__ __forceinline__ bool
zeros_read_map(const gp_cuda_part *part, const gp_select *s)
{
    uint64_t blocks = zeros_blocks(part, s), bytes = (blocks + 7) / 8;
    uint8_t *bits = (uint8_t *)s->index_out;

    for (uint64_t i = threadIdx.x; i < bytes; i += blockDim.x)
        bits[i] = part->bytes[1 + i];
    __syncthreads();
    return blocks % 8 == 0 || part->bytes[bytes] >> blocks % 8 == 0;
}

/* A block of the grid for each part: what is kept, told to the array stage;
 * nothing of a message that is damaged. */
extern "C" __global__ void
gp_cuda_unzeros_begin(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = select_of(mine);
    uint64_t length = mine->length, kept = mine->count, map = 0;
    bool good = length && mine->bytes[0] <= ZEROS_MAP;
    bool all = !good || mine->bytes[0] == 0;

    (void)parts;
    if (!all) {
        map = (zeros_blocks(mine, s) + 7) / 8;
        good = length > map && zeros_read_map(mine, s);
        kept = good ? zeros_count(mine, s, false) : 0;
        good = good && kept < mine->count;
    }
    good = good && length > map &&
           select_bytes_right(&s->layout, kept, length - 1 - map);
    if (threadIdx.x != 0)
        return;
    if (length && !good)
        *mine->status = 1;
    s->state->all = all;
    s->state->chosen = map;
    s->sent->count = good ? kept : 0;
    s->sent->length = good ? length - 1 - map : 0;
}

extern "C" __global__ void
gp_cuda_unzeros_read(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t thread, threads = zeros_threads(mine, &thread);
    uint64_t bytes = s->sent->length;
    const uint8_t *from = mine->bytes + 1 + s->state->chosen;

    for (uint64_t i = thread; i < bytes; i += threads)
        s->message[i] = from[i];
}

extern "C" __global__ void
gp_cuda_unzeros_write(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                      uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    uint64_t begin, end = zeros_end(mine, &begin), count = s->sent->count;

    (void)word;
    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        uint64_t b = gp_over(i, (uint32_t)s->k), at;
        bool kept = count && zeros_kept(s, b);

        if (!kept && !add)
            mine->target[i] = 0;
        if (!kept)
            continue;
        at = zeros_place(s, i, b);
        if (at < count)
            mine->target[i] =
                add ? __fadd_rn(mine->target[i], s->undone[at]) : s->undone[at];
    }
}
