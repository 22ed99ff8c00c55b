/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq.cu - the codec uq (uq.c): a grid, and an entropy code whose 32 states are
 * the lanes of a warp.
 *
 * Blocks of the grid have a section of 4096 elements each: they round, count,
 * and choose a table of frequencies. Then a warp for each message codes all
 * sections, from the last to the first as the host does, since all share one
 * string of words; and sections write what remains. A decoder goes through the
 * words first, with a block's other warps making the tables, and after them
 * through the escapes.
 *
 * A part's space: uq_state, uq_section for each section, codes, and words
 * (encoding) or escaped codes (decoding).
 */
#include "compress/cuda/uq.cuh"

/* ---- escapes ---- */

static __device__ __forceinline__ bool
uq_escapes(int code, uint32_t largest)
{
    return (uint32_t)(code < 0 ? -code : code) > largest;
}

/* Of an element whose short code may say no more than that it is large. */
static __device__ __forceinline__ int
uq_whole_code(const uq_grid &g, const float *from, uint64_t i, int code)
{
    return code == GP_UQ_BIG ? uq_code(g, from[i], uq_offset(g, i)) : code;
}

/* ---- encoding: the step ---- */

/* What is fed back is added, once, and kept in the residual. */
static __device__ __forceinline__ void
uq_measure(const gp_cuda_part *mine, bool adds)
{
    __shared__ double warp[8];
    const float *source = adds ? mine->source : uq_from(mine);
    float *residual = adds ? mine->residual : NULL;
    uint64_t number = blockIdx.x - mine->first_block,
             begin = number * GP_UQ_SECTION;
    uint64_t end = begin + GP_UQ_SECTION < mine->count ? begin + GP_UQ_SECTION
                                                       : mine->count;
    uq_section *section = uq_section_of(mine, number);
    uint32_t most = 0;
    double sum = 0;

    if (!uq_is_there(mine, number))
        return;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), m;
        float x[8];

        gp_gather8(source, residual, i, left, x);
        if (residual)
            gp_store8(residual + i, left, x);
        m = gp_most8(x);
        most = m > most ? m : most;
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            sum += (double)x[j] * (double)x[j];
    }
    most = gp_block_max(most);
    for (int d = 16; d; d >>= 1)
        sum += __shfl_down_sync(GP_FULL_WARP, sum, (unsigned)d);
    if (threadIdx.x % 32u == 0)
        warp[threadIdx.x / 32u] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (uint32_t w = 1; w < 8; w++)
        sum += warp[w];
    section->squares = sum;
    section->most = most;
}

/* A tensor that was looked at has its sums. */
extern "C" __global__ void
gp_cuda_uq_sum(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    uq_measure(mine, !mine->whole);
}

/* Ahead of all chunks of a tensor, of all of it. */
extern "C" __global__ void
gp_cuda_uq_look(const gp_cuda_part *part, uint32_t parts)
{
    uq_measure(gp_find_part(part, parts), true);
}

/* Of all sections of a part, by a block of 256 threads: thread 0 has it, and
 * no other looks while it is written. */
static __device__ __forceinline__ double
uq_total(const gp_cuda_part *part, uint32_t *most)
{
    __shared__ double sums[256];
    uint64_t sections = uq_sections(part);
    uint32_t largest = 0;
    double sum = 0;

    for (uint64_t s = threadIdx.x; s < sections; s += blockDim.x) {
        const uq_section *section = uq_section_of(part, s);

        sum += section->squares;
        largest = section->most > largest ? section->most : largest;
    }
    *most = gp_block_max(largest);
    sums[threadIdx.x] = sum;
    for (uint32_t half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? sums[0] : 0;
}

/* A block of the grid for each tensor: its mean square. */
extern "C" __global__ void
gp_cuda_uq_mean(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uint32_t most;
    double sum = uq_total(mine, &most);

    (void)parts;
    if (threadIdx.x == 0)
        *(double *)mine->whole = mine->count ? sum / (double)mine->count : 0;
}

/* Of a chunk, or of the tensor where that was looked at. */
static __device__ __forceinline__ float
uq_step(double c, const gp_cuda_part *part, double squares, uint32_t most)
{
    double mean = part->whole ? *(const double *)part->whole : 0;

    /* Another chunk's NaN is not this one's. */
    if (!(mean > 0 && mean < INFINITY))
        mean = squares / (double)part->count;
    return gp_uq_step(c, mean, most);
}

/* A block of the grid for each part: what becomes of it, but for escapes. */
extern "C" __global__ void
gp_cuda_uq_settle(const gp_cuda_part *part, uint32_t parts, uint32_t round,
                  uint32_t add, uint32_t low, uint32_t high)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    double c = __longlong_as_double((long long)((uint64_t)high << 32 | low));
    uint32_t most;
    double sum;

    (void)parts;
    (void)round;
    (void)add;
    if (mine->count == 0)
        return;
    for (uint32_t i = threadIdx.x; i < GP_UQ_NUMBERS; i += blockDim.x)
        state->cost[i] = (uint16_t)gp_rans_cost(gp_uq_frequencies[i]);
    sum = uq_total(mine, &most);
    if (threadIdx.x != 0)
        return;
    state->lanes = gp_rans_lanes(mine->count);
    state->escaped = state->words = state->some = 0;
    state->step = 0;
    if (most && most < GP_FP32_INFINITY)
        state->step = uq_step(c, mine, sum, most);
    state->inverse = state->step > 0 ? __fdiv_rn(1.0f, state->step) : 0.0f;
    state->mode = most >= GP_FP32_INFINITY ? GP_UQ_NAN
                  : most == 0              ? GP_UQ_ZEROS
                  : state->step > 0        ? GP_UQ_CODED
                                           : GP_UQ_RAW;
}

/* ---- encoding: codes, and the table of each section ---- */

/* gp_uq_choose() of uq_shape.c, of what a block of the grid has counted. */
static __device__ __forceinline__ uint32_t
uq_choose(const uq_state *state, const uint32_t *count, uint32_t n)
{
    __shared__ uint64_t costs[2 * GP_UQ_NEAR + 1];
    uint32_t largest, near, best = 0, t = threadIdx.x;
    uint64_t least = UINT64_MAX;

    largest = gp_block_max(t <= 128 && count[t] ? t : 0);
    if (largest == 0)
        return 0;
    near = gp_uq_nearest_shape(count[0], n);
    if (t <= 2 * GP_UQ_NEAR) {
        uint32_t s = near + t;

        costs[t] =
            s > GP_UQ_NEAR && s - GP_UQ_NEAR <= GP_UQ_SHAPES
                ? gp_uq_cost_of(state->cost, s - GP_UQ_NEAR, count, largest)
                : UINT64_MAX;
    }
    __syncthreads();
    for (uint32_t k = 0; k <= 2 * GP_UQ_NEAR; k++)
        if (costs[k] < least) {
            least = costs[k];
            best = near + k - GP_UQ_NEAR;
        }
    return best;
}

/* Codes of a section, and how often each magnitude occurs. */
static __device__ __forceinline__ void
uq_round_section(const gp_cuda_part *part, const uq_grid &g, uint64_t begin,
                 uint32_t n, uint32_t count[8][129])
{
    uint32_t *mine = count[threadIdx.x / 32u];
    const float *from = uq_from(part);
    int8_t *codes = uq_codes(part);

    for (uint32_t j = threadIdx.x; j < 8 * 129; j += blockDim.x)
        count[j / 129][j % 129] = 0;
    __syncthreads();
    for (uint32_t j = 4u * threadIdx.x; j < n; j += 4u * blockDim.x) {
        float offset[4] = {0, 0, 0, 0};

        if (g.round != GP_UQ_NEAREST)
            uq_offsets(g, begin + j, offset);
        for (uint32_t k = 0; k < 4 && j + k < n; k++) {
            int q = uq_code(g, from[begin + j + k], offset[k]);

            q = q > 127 || q < -127 ? GP_UQ_BIG : q;
            codes[begin + j + k] = (int8_t)q;
            atomicAdd(&mine[q < 0 ? -q : q], 1u);
        }
    }
    __syncthreads();
    for (uint32_t m = threadIdx.x; m <= 128; m += blockDim.x)
        for (uint32_t w = 1; w < 8; w++)
            count[0][m] += count[w][m];
    __syncthreads();
}

extern "C" __global__ void
gp_cuda_uq_quantize(const gp_cuda_part *part, uint32_t parts, uint32_t round)
{
    __shared__ uint32_t count[8][129];
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block,
             begin = number * GP_UQ_SECTION;
    uq_section *section = uq_section_of(mine, number);
    const int8_t *codes = uq_codes(mine);
    uint64_t bytes = 0, total;
    uint32_t shape, n;
    uq_grid g;

    if (!uq_is_there(mine, number) || uq_state_of(mine)->mode != GP_UQ_CODED)
        return;
    g = uq_grid_of(mine, round);
    n = uq_size(mine, number);
    uq_round_section(mine, g, begin, n, count);
    shape = uq_choose(uq_state_of(mine), count[0], n);
    for (uint32_t j = threadIdx.x; shape && j < n; j += blockDim.x)
        if (uq_escapes(codes[begin + j], gp_uq_largest(shape)))
            bytes += gp_uq_escape_bytes(
                uq_whole_code(g, uq_from(mine), begin + j, codes[begin + j]));
    (void)gp_block_scan(bytes, &total);
    if (threadIdx.x != 0)
        return;
    section->shape = shape;
    section->escapes = (uint32_t)total;
    if (shape)
        uq_state_of(mine)->some = 1;
}

/* A block of the grid for each part: where escapes go, and whether it pays. */
extern "C" __global__ void
gp_cuda_uq_place(const gp_cuda_part *part, uint32_t parts, uint32_t round)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    uint64_t sections = uq_sections(mine), escaped = 0;

    (void)parts;
    if (mine->count == 0 || state->mode != GP_UQ_CODED)
        return;
    for (uint64_t first = 0; first < sections; first += blockDim.x) {
        uint64_t s = first + threadIdx.x, total, before;

        before = gp_block_scan(
            s < sections ? uq_section_of(mine, s)->escapes : 0, &total);
        if (s < sections)
            uq_section_of(mine, s)->at = escaped + before;
        escaped += total;
    }
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    state->escaped = escaped;
    if (!gp_uq_fits(mine->count, escaped))
        state->mode = GP_UQ_RAW;
    else if (!state->some && round != GP_UQ_DITHER)
        state->mode = GP_UQ_ZEROS;
}

/* ---- encoding: the words ---- */

static __device__ __forceinline__ void
uq_put(uint8_t *at, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(x >> 8 * i);
}

/* Where the range of a code begins, and its frequency: zero and the positive
 * ones, the escape, and the negative ones from the largest on. */
static __device__ __forceinline__ uint32_t
uq_range(uint32_t shape, const uint32_t *before, int code, uint32_t *frequency)
{
    const uint16_t *f = gp_uq_frequencies + gp_uq_begins[shape - 1];
    uint32_t has = gp_uq_largest(shape);
    uint32_t m = (uint32_t)(code < 0 ? -code : code);

    if (m > has) {
        *frequency = f[has + 1];
        return before[has + 1];
    }
    *frequency = f[m];
    if (code >= 0)
        return before[m];
    /* Behind the escape are those of larger magnitudes. */
    return before[has + 1] + f[has + 1] + before[has + 1] - before[m] - f[m];
}

/* The states and words of a message, by a warp. */
static __device__ __forceinline__ void
uq_code_all(const gp_cuda_part *part, uq_state *state)
{
    __shared__ uint32_t before[129];
    const int8_t *codes = uq_codes(part);
    uint16_t *words = (uint16_t *)uq_rest(part);
    uint64_t sections = uq_sections(part), end = part->count;
    uint32_t lane = threadIdx.x % 32u, lanes = state->lanes, x = GP_RANS_FIRST;

    for (uint64_t s = sections; s--;) {
        uint32_t shape = uq_section_of(part, s)->shape, n = uq_size(part, s);

        if (!shape)
            continue;
        __syncwarp();
        uq_sum_up(shape, before);
        for (uint32_t round = (n + lanes - 1) / lanes; round--;) {
            uint32_t j = round * lanes + lane, f = 1, start = 0, mask;
            bool mine = lane < lanes && j < n, moves;

            if (mine)
                start =
                    uq_range(shape, before, codes[s * GP_UQ_SECTION + j], &f);
            moves = mine && x >= f << 19;
            mask = __ballot_sync(GP_FULL_WARP, moves);
            if (moves) {
                words[end - (uint32_t)__popc(mask >> lane)] = (uint16_t)x;
                x >>= 16;
            }
            end -= (uint32_t)__popc(mask);
            if (mine)
                x = x / f * GP_RANS_TOTAL + x % f + start;
        }
    }
    if (lane < lanes)
        uq_put(part->bytes + GP_UQ_HEAD + sections + 4 * lane, x, 4);
    if (lane == 0)
        state->words = part->count - end;
}

/* A warp for each part. */
extern "C" __global__ void
gp_cuda_uq_code(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    uint64_t length = GP_UQ_HEAD;

    (void)parts;
    if (mine->count && state->mode == GP_UQ_CODED)
        uq_code_all(mine, state);
    if (threadIdx.x != 0)
        return;
    if (mine->count == 0) {
        *mine->encoded = 0;
        return;
    }
    mine->bytes[0] = (uint8_t)state->mode;
    if (state->mode == GP_UQ_CODED) {
        uq_put(mine->bytes + 1, __float_as_uint(state->step), 4);
        uq_put(mine->bytes + 5, state->escaped, 4);
        length += uq_sections(mine) + 4 * state->lanes + state->escaped +
                  2 * state->words;
    } else if (state->mode == GP_UQ_RAW) {
        length = 1 + 4 * mine->count;
    } else {
        uq_put(mine->bytes + 1, mine->count, 8);
    }
    *mine->encoded = length;
}

/* ---- encoding: the rest ---- */

/* Sixteen neighbours for each thread. */
static __device__ __forceinline__ void
uq_write_escapes(const gp_cuda_part *part, const uq_grid &g, uint64_t number)
{
    const uq_section *section = uq_section_of(part, number);
    uint64_t begin = number * GP_UQ_SECTION, total, at;
    const int8_t *codes = uq_codes(part) + begin;
    uint32_t n = uq_size(part, number), bytes = 0;
    uint32_t largest = gp_uq_largest(section->shape), first = 16 * threadIdx.x;
    uint8_t *out = part->bytes + GP_UQ_HEAD + uq_sections(part) +
                   4 * uq_state_of(part)->lanes + section->at;

    for (uint32_t j = first; j < first + 16 && j < n; j++)
        if (uq_escapes(codes[j], largest))
            bytes += gp_uq_escape_bytes(
                uq_whole_code(g, uq_from(part), begin + j, codes[j]));
    at = gp_block_scan(bytes, &total);
    for (uint32_t j = first; bytes && j < first + 16 && j < n; j++) {
        if (uq_escapes(codes[j], largest))
            at += gp_uq_put_escape(
                out + at, uq_whole_code(g, uq_from(part), begin + j, codes[j]));
    }
}

/* What is left, once nobody asks for the sums any more. */
static __device__ __forceinline__ void
uq_subtract(const gp_cuda_part *part, const uq_grid &g, uint64_t begin,
            uint32_t n)
{
    const int8_t *codes = uq_codes(part) + begin;
    float *residual = part->residual + begin;

    for (uint32_t j = 4u * threadIdx.x; j < n; j += 4u * blockDim.x) {
        float offset[4] = {0, 0, 0, 0};

        if (g.round != GP_UQ_NEAREST)
            uq_offsets(g, begin + j, offset);
        for (uint32_t k = 0; k < 4 && j + k < n; k++) {
            int code = codes[j + k];

            if (code == GP_UQ_BIG)
                code = uq_code(g, residual[j + k], offset[k]);
            residual[j + k] =
                gp_remainder_of(residual[j + k], uq_value(g, code, offset[k]));
        }
    }
}

static __device__ __forceinline__ void
uq_write_coded(const gp_cuda_part *part, const uq_grid &g, uint64_t number)
{
    const uq_state *state = uq_state_of(part);
    const uq_section *section = uq_section_of(part, number);
    uint64_t sections = uq_sections(part), words = state->words;
    const uint16_t *from = (uint16_t *)uq_rest(part) + (part->count - words);
    uint8_t *to =
        part->bytes + GP_UQ_HEAD + sections + 4 * state->lanes + state->escaped;

    if (threadIdx.x == 0)
        part->bytes[GP_UQ_HEAD + number] = (uint8_t)section->shape;
    for (uint64_t w = number * blockDim.x + threadIdx.x; w < words;
         w += sections * blockDim.x)
        uq_put(to + 2 * w, from[w], 2);
    if (section->escapes)
        uq_write_escapes(part, g, number);
    __syncthreads();
    if (part->residual)
        uq_subtract(part, g, number * GP_UQ_SECTION, uq_size(part, number));
}

extern "C" __global__ void
gp_cuda_uq_write(const gp_cuda_part *part, uint32_t parts, uint32_t round)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block,
             begin = number * GP_UQ_SECTION;
    uint32_t mode, n;

    if (!uq_is_there(mine, number))
        return;
    mode = uq_state_of(mine)->mode;
    n = uq_size(mine, number);
    if (mode == GP_UQ_CODED)
        uq_write_coded(mine, uq_grid_of(mine, round), number);
    for (uint32_t j = threadIdx.x; mode == GP_UQ_RAW && j < n; j += blockDim.x)
        uq_put(mine->bytes + 1 + 4 * (begin + j),
               __float_as_uint(uq_from(mine)[begin + j]), 4);
    if ((mode != GP_UQ_RAW && mode != GP_UQ_NAN) || !mine->residual)
        return;
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < n; j += blockDim.x)
        mine->residual[begin + j] = 0;
}
