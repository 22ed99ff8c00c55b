/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unselect.cu - messages of selections with raw indices, or with none, back to
 * elements.
 *
 * Nothing of a message is believed: places are checked when they are read, and
 * again when they are written to.
 */
#include "compress/cuda/eight.cuh"
#include "compress/cuda/select.cuh"

#define NOWHERE 0xffffffffu

static __device__ __forceinline__ uint32_t
unselect_get32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

/* A block of the grid for each part: how many there are, told to the array
 * stage; none when the head is not one. */
extern "C" __global__ void
gp_cuda_unselect_begin(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = (const gp_select *)mine->space;
    gp_select_state state = {};
    uint64_t length = mine->length, n = 0, front = 1;
    bool good = false, implied = s->index == GP_INDEX_IMPLIED;

    (void)parts;
    if (threadIdx.x != 0)
        return;
    if (length && mine->bytes[0] == 2) {
        n = mine->count;
        state.all = 1;
        good = true;
    } else if (implied && length && mine->bytes[0] == 0) {
        n = s->k;
        good = true;
    } else if (!implied && length >= 9 && mine->bytes[0] == 0) {
        n = unselect_get32(mine->bytes + 1);
        front = 9 + 4 * n;
        good = n <= s->most && unselect_get32(mine->bytes + 5) == 4 * n &&
               length >= front;
    }
    good = good && select_bytes_right(&s->layout, n, length - front);
    if (length && !good)
        *mine->status = 1;
    state.chosen = good ? n : 0;
    *s->state = state;
    s->sent->count = state.chosen;
    s->sent->length = good ? length - front : 0;
}

/* Places and values to where they are aligned; zeros where nothing is added. */
extern "C" __global__ void
gp_cuda_unselect_read(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                      uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = (const gp_select *)mine->space;
    uint64_t tiles = (mine->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;
    uint64_t threads = (tiles ? tiles : 1) * blockDim.x, k = s->sent->count;
    uint64_t first =
        (uint64_t)(blockIdx.x - mine->first_block) * blockDim.x + threadIdx.x;
    bool listed = !s->state->all && s->index != GP_INDEX_IMPLIED, good = true;
    const uint8_t *values = mine->bytes + (listed ? 9 + 4 * k : 1);

    (void)word;
    for (uint64_t j = first; listed && j < k; j += threads) {
        uint32_t at = unselect_get32(mine->bytes + 9 + 4 * j);

        if (at >= mine->count ||
            (j && at <= unselect_get32(mine->bytes + 5 + 4 * j))) {
            good = false;
            at = NOWHERE;
        }
        s->chosen_at[j] = at;
    }
    for (uint64_t i = first; i < s->sent->length; i += threads)
        s->message[i] = values[i];
    for (uint64_t i = first; !add && i < mine->count; i += threads)
        mine->target[i] = 0;
    if (!good)
        *mine->status = 1;
}

extern "C" __global__ void
gp_cuda_unselect_write(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                       uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = (const gp_select *)mine->space;
    uint64_t tiles = (mine->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;
    uint64_t threads = (tiles ? tiles : 1) * blockDim.x;
    uint64_t j =
        (uint64_t)(blockIdx.x - mine->first_block) * blockDim.x + threadIdx.x;

    (void)word;
    for (; j < s->sent->count; j += threads) {
        uint64_t i = s->state->all ? j : s->chosen_at[j];

        if (i < mine->count)
            mine->target[i] =
                add ? __fadd_rn(mine->target[i], s->undone[j]) : s->undone[j];
    }
}
