/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unuq.cu - messages of uq back to elements.
 *
 * A block of the grid for each message: a warp decodes what the others have
 * made a table for, section by section, since the words are one string. Escapes
 * are numbers that end with a byte below 128, so that where they begin follows
 * from a running sum. Nothing of a message is believed; one that is damaged
 * decodes to zeros.
 */
#include "compress/cuda/uq.cuh"

static __device__ __forceinline__ uint64_t
unuq_get(const uint8_t *at, int bytes)
{
    uint64_t x = 0;

    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)at[i] << 8 * i;
    return x;
}

/* The length of what was just encoded is behind a pointer. */
static __device__ __forceinline__ uint64_t
unuq_length(const gp_cuda_part *part)
{
    return part->encoded ? *part->encoded : part->length;
}

/* What a coded message says of itself; false where no encoder wrote it. */
static __device__ __forceinline__ bool
unuq_head(const gp_cuda_part *part, uq_state *state, uint64_t length)
{
    uint64_t front;

    if (length < GP_UQ_HEAD)
        return false;
    state->lanes = gp_rans_lanes(part->count);
    state->step = __uint_as_float((uint32_t)unuq_get(part->bytes + 1, 4));
    state->escaped = unuq_get(part->bytes + 5, 4);
    front = gp_uq_front(part->count, state->escaped);
    if (!gp_uq_step_valid(state->step) || front > length ||
        !gp_uq_fits(part->count, state->escaped))
        return false;
    state->inverse = 0;
    state->words = (length - front) / 2;
    return (length - front) % 2 == 0;
}

/* One thread's: the mode, and whether the rest may be looked at. */
static __device__ __forceinline__ bool
unuq_begin(const gp_cuda_part *part, uq_state *state)
{
    uint64_t length = unuq_length(part);

    state->some = 0;
    state->mode = length ? part->bytes[0] : GP_UQ_NAN + 1;
    if (state->mode == GP_UQ_CODED)
        return unuq_head(part, state, length);
    if (state->mode == GP_UQ_RAW)
        return length == 1 + 4 * part->count;
    return state->mode <= GP_UQ_NAN && length == GP_UQ_HEAD &&
           unuq_get(part->bytes + 1, 8) == part->count;
}

/* ---- the words ---- */

/* Of each of 4096 slots: symbol, frequency << 8, place within << 20; a thread
 * has 16 of them. */
static __device__ __forceinline__ void
unuq_table(uint32_t shape, uint32_t before[129], uint32_t *slots)
{
    const uint16_t *f = gp_uq_frequencies + gp_uq_begins[shape - 1];
    uint32_t has = gp_uq_largest(shape), middle, first = 16 * threadIdx.x;

    if (threadIdx.x < 32)
        uq_sum_up(shape, before);
    __syncthreads();
    middle = before[has + 1] + f[has + 1]; /* where negative codes begin */
    for (uint32_t slot = first; slot < first + 16; slot++) {
        uint32_t low = 0, high = has + 2, at, symbol;
        bool negative = slot >= middle;

        /* Seen from the end, negative codes lie as positive ones do. */
        at = negative ? GP_RANS_TOTAL - 1 - slot + f[0] : slot;
        while (high - low > 1) {
            uint32_t m = (low + high) / 2;

            if (before[m] <= at)
                low = m;
            else
                high = m;
        }
        symbol = low > has ? 128 : low;
        at = negative ? f[low] - 1 - (at - before[low]) : at - before[low];
        slots[slot] = (negative ? 256 - symbol : symbol) |
                      (uint32_t)f[low] << 8 | at << 20;
    }
    __syncthreads();
}

/* A warp's view of the words. */
struct unuq_words {
    const uint8_t *from;
    uint64_t at, count;
    uint32_t x, lanes;
    bool good;
};

/* The codes of a section, and how many are escaped. */
static __device__ __forceinline__ uint32_t
unuq_section(unuq_words *w, const uint32_t *slots, int8_t *codes, uint32_t n)
{
    uint32_t lane = threadIdx.x % 32u, escapes = 0;

    for (uint32_t first = 0; first < n && w->good; first += w->lanes) {
        bool mine = lane < w->lanes && first + lane < n, takes;
        uint32_t e = slots[w->x & (GP_RANS_TOTAL - 1)], mask, x;

        x = (e >> 8 & 4095u) * (w->x >> 12) + (e >> 20);
        takes = mine && x < GP_RANS_FIRST;
        mask = __ballot_sync(GP_FULL_WARP, takes);
        w->good = (uint32_t)__popc(mask) <= w->count - w->at;
        if (takes && w->good) {
            uint64_t at = w->at + (uint32_t)__popc(mask & ((1u << lane) - 1));

            x = x << 16 | (uint32_t)unuq_get(w->from + 2 * at, 2);
        }
        w->at += (uint32_t)__popc(mask);
        escapes += (uint32_t)__popc(
            __ballot_sync(GP_FULL_WARP, mine && (e & 255u) == 128));
        if (!mine)
            continue;
        codes[first + lane] = (int8_t)(uint8_t)e;
        w->x = x;
    }
    return escapes;
}

/* All codes of a message; *escapes: how many are escaped. */
static __device__ __forceinline__ bool
unuq_codes(const gp_cuda_part *part, const uq_state *state, uint32_t round,
           uint64_t *escapes)
{
    __shared__ uint32_t slots[GP_RANS_TOTAL], before[129];
    __shared__ uint64_t number;
    __shared__ bool good;
    uint64_t sections = uq_sections(part), marked = 0;
    const uint8_t *states = part->bytes + GP_UQ_HEAD + sections;
    uint32_t lane = threadIdx.x % 32u;
    unuq_words w = {states + 4 * state->lanes + state->escaped,
                    0,
                    state->words,
                    GP_RANS_FIRST,
                    state->lanes,
                    true};
    bool zeros = round != GP_UQ_DITHER;

    if (lane < w.lanes)
        w.x = (uint32_t)unuq_get(states + 4 * lane, 4);
    w.good = __all_sync(GP_FULL_WARP, w.x >= GP_RANS_FIRST && !(w.x >> 31));
    for (uint64_t s = 0; s < sections; s++) {
        uint32_t shape = part->bytes[GP_UQ_HEAD + s], own = 0;
        uint32_t n = uq_size(part, s);

        if (shape > GP_UQ_SHAPES)
            return false;
        zeros = zeros && !shape;
        if (shape)
            unuq_table(shape, before, slots);
        if (threadIdx.x < 32 && shape)
            own =
                unuq_section(&w, slots, uq_codes(part) + s * GP_UQ_SECTION, n);
        for (uint32_t j = threadIdx.x; !shape && j < n; j += blockDim.x)
            uq_codes(part)[s * GP_UQ_SECTION + j] = 0;
        if (threadIdx.x == 0) {
            uq_section *section = uq_section_of(part, s);

            section->shape = shape;
            section->at = marked;
            section->escapes = own;
        }
        marked += own;
        __syncthreads();
    }
    w.good = w.good && w.at == w.count && !zeros &&
             __all_sync(GP_FULL_WARP, w.x == GP_RANS_FIRST);
    if (threadIdx.x == 0) {
        number = marked;
        good = w.good;
    }
    __syncthreads();
    *escapes = number;
    return good;
}

/* ---- the escapes ---- */

/* All of them, by their number. */
static __device__ __forceinline__ bool
unuq_escapes(const gp_cuda_part *part, const uq_state *state, uint64_t escapes)
{
    const uint8_t *from =
        part->bytes + GP_UQ_HEAD + uq_sections(part) + 4 * state->lanes;
    int *out = (int *)uq_rest(part);
    uint64_t ended = 0, total;
    bool good = true;

    for (uint64_t first = 0; first < state->escaped; first += blockDim.x) {
        uint64_t i = first + threadIdx.x, number;
        bool there = i < state->escaped, begins;
        uint32_t bytes;
        int code;

        begins = there && (i == 0 || !(from[i - 1] & 128));
        number = ended + gp_block_scan(begins, &total);
        ended += total;
        if (!begins)
            continue;
        code = gp_uq_get_escape(from + i, state->escaped - i, &bytes);
        out[number < escapes ? number : 0] = code;
        good = good && number < escapes && code != 0;
    }
    return gp_block_max(!good) == 0 && ended == escapes;
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_unuq_open(const gp_cuda_part *part, uint32_t parts, uint32_t round)
{
    __shared__ bool good;
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    uint64_t escapes = 0;
    bool right;

    (void)parts;
    if (mine->count == 0)
        return;
    if (threadIdx.x == 0)
        good = unuq_begin(mine, state);
    __syncthreads();
    right = good;
    if (right && state->mode == GP_UQ_CODED)
        right = unuq_codes(mine, state, round, &escapes) &&
                (escapes || state->escaped == 0) &&
                unuq_escapes(mine, state, escapes);
    __syncthreads();
    if (threadIdx.x != 0 || right)
        return;
    state->mode = GP_UQ_ZEROS;
    *mine->status = 1;
}

/* ---- the elements ---- */

static __device__ __forceinline__ void
unuq_put(const gp_cuda_part *part, uint64_t i, float x, bool add)
{
    part->target[i] = add ? __fadd_rn(part->target[i], x) : x;
}

/* A section with escapes: sixteen neighbours for each thread. */
static __device__ __forceinline__ bool
unuq_escaped_section(const gp_cuda_part *part, const uq_grid &g,
                     uint64_t number, bool add)
{
    const uq_section *section = uq_section_of(part, number);
    uint64_t begin = number * GP_UQ_SECTION, total, at;
    const int *escaped = (const int *)uq_rest(part);
    const int8_t *codes = uq_codes(part) + begin;
    uint32_t n = uq_size(part, number), first = 16 * threadIdx.x, marks = 0;
    uint32_t largest = gp_uq_largest(section->shape);
    bool good = true;

    for (uint32_t j = first; j < first + 16 && j < n; j++)
        marks += codes[j] == GP_UQ_BIG;
    at = section->at + gp_block_scan(marks, &total);
    for (uint32_t j = first; j < first + 16 && j < n; j++) {
        int code = codes[j];

        if (code == GP_UQ_BIG) {
            code = escaped[at++];
            good = good && (uint32_t)(code < 0 ? -code : code) > largest;
        }
        unuq_put(
            part, begin + j,
            uq_value(g, code,
                     g.round == GP_UQ_DITHER ? uq_offset(g, begin + j) : 0),
            add);
    }
    return good;
}

static __device__ __forceinline__ void
unuq_plain_section(const gp_cuda_part *part, const uq_grid &g, uint64_t number,
                   bool add)
{
    uint64_t begin = number * GP_UQ_SECTION;
    const int8_t *codes = uq_codes(part) + begin;
    uint32_t n = uq_size(part, number);

    for (uint32_t j = 4u * threadIdx.x; j < n; j += 4u * blockDim.x) {
        float offset[4] = {0, 0, 0, 0};

        if (g.round == GP_UQ_DITHER)
            uq_offsets(g, begin + j, offset);
        for (uint32_t k = 0; k < 4 && j + k < n; k++)
            unuq_put(part, begin + j + k, uq_value(g, codes[j + k], offset[k]),
                     add);
    }
}

/* NaN and Inf have a mode of their own, and so have zeros. */
static __device__ __forceinline__ bool
unuq_raw_section(const gp_cuda_part *part, uq_state *state, uint64_t number,
                 bool add)
{
    uint64_t begin = number * GP_UQ_SECTION;
    uint32_t n = uq_size(part, number);
    bool good = true;

    for (uint32_t j = threadIdx.x; j < n; j += blockDim.x) {
        float x = __uint_as_float(
            (uint32_t)unuq_get(part->bytes + 1 + 4 * (begin + j), 4));

        good = good && gp_is_finite(x);
        if (x != 0)
            state->some = 1;
        unuq_put(part, begin + j, x, add);
    }
    return good;
}

extern "C" __global__ void
gp_cuda_unuq_decode(const gp_cuda_part *part, uint32_t parts, uint32_t round,
                    uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block;
    uq_state *state = uq_state_of(mine);
    uint32_t mode;
    bool good = true;

    if (!uq_is_there(mine, number))
        return;
    mode = state->mode;
    if (mode == GP_UQ_CODED && uq_section_of(mine, number)->escapes)
        good = unuq_escaped_section(mine, uq_grid_of(mine, round), number, add);
    else if (mode == GP_UQ_CODED)
        unuq_plain_section(mine, uq_grid_of(mine, round), number, add);
    else if (mode == GP_UQ_RAW)
        good = unuq_raw_section(mine, state, number, add);
    for (uint32_t j = threadIdx.x;
         mode != GP_UQ_CODED && mode != GP_UQ_RAW && j < uq_size(mine, number);
         j += blockDim.x)
        unuq_put(mine, number * GP_UQ_SECTION + j,
                 mode == GP_UQ_NAN ? __uint_as_float(GP_FP32_NAN) : 0.0f, add);
    if (!good)
        *mine->status = 1;
}

/* A thread for each part. */
extern "C" __global__ void
gp_cuda_unuq_check(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const uq_state *state = uq_state_of(mine);

    (void)parts;
    if (threadIdx.x == 0 && mine->count && state->mode == GP_UQ_RAW &&
        !state->some)
        *mine->status = 1;
}
