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

#define UQ_NEAR 16u

/* ---- escapes ---- */

static __device__ __forceinline__ uint32_t
uq_zigzag(int code)
{
    uint32_t m = (uint32_t)(code < 0 ? -code : code);

    return (m - 1) << 1 | (code < 0);
}

static __device__ __forceinline__ uint32_t
uq_escape_bytes(int code)
{
    uint32_t v = uq_zigzag(code);

    return 1 + (v >= 1u << 7) + (v >= 1u << 14) + (v >= 1u << 21);
}

static __device__ __forceinline__ bool
uq_escapes(int code, uint32_t largest)
{
    return (uint32_t)(code < 0 ? -code : code) > largest;
}

/* Of an element whose short code may say no more than that it is large. */
static __device__ __forceinline__ int
uq_whole_code(const uq_grid &g, const float *from, uint64_t i, int code)
{
    return code == UQ_BIG ? uq_code(g, from[i], uq_offset(g, i)) : code;
}

/* ---- encoding: the step ---- */

/* What is fed back is added, and kept in the residual. */
extern "C" __global__ void
gp_cuda_uq_sum(const gp_cuda_part *part, uint32_t parts)
{
    __shared__ double warp[8];
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block, begin = number * UQ_TILE;
    uint64_t end =
        begin + UQ_TILE < mine->count ? begin + UQ_TILE : mine->count;
    uq_section *section = uq_section_of(mine, number);
    uint32_t most = 0;
    double sum = 0;

    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), m;
        float x[8];

        gp_gather8(mine->source, mine->residual, i, left, x);
        if (mine->residual)
            gp_store8(mine->residual + i, left, x);
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

/* gp_rans_cost() */
static __device__ __forceinline__ uint32_t
uq_cost(uint32_t frequency)
{
    uint32_t whole = 31 - (uint32_t)__clz((int)frequency), log = whole;
    uint64_t mantissa = (uint64_t)frequency << (31 - whole);

    for (int bit = 0; bit < 8; bit++) {
        mantissa = mantissa * mantissa >> 31;
        log <<= 1;
        if (mantissa >> 32) {
            mantissa >>= 1;
            log |= 1;
        }
    }
    return 12 * 256 - log;
}

/* step_of() of uq.c. */
static __device__ __forceinline__ float
uq_step(double c, double squares, uint64_t count, uint32_t most)
{
    double step = c * sqrt(squares / (double)count);
    float s;

    if (!(step >= 0x1p-100 && step <= 0x1p100))
        return 0;
    s = (float)step;
    return __fmul_rn(__uint_as_float(most), __fdiv_rn(1.0f, s)) < 0x1p20f ? s
                                                                          : 0;
}

/* A block of the grid for each part: what becomes of it, but for escapes. */
extern "C" __global__ void
gp_cuda_uq_settle(const gp_cuda_part *part, uint32_t parts, uint32_t round,
                  uint32_t add, uint32_t low, uint32_t high)
{
    __shared__ double sums[256];
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    uint64_t sections = uq_sections(mine);
    double c = __longlong_as_double((long long)((uint64_t)high << 32 | low));
    uint32_t most = 0;
    double sum = 0;

    (void)parts;
    (void)round;
    (void)add;
    if (mine->count == 0)
        return;
    for (uint32_t i = threadIdx.x; i < GP_UQ_NUMBERS; i += blockDim.x)
        state->cost[i] = (uint16_t)uq_cost(uq_frequencies[i]);
    for (uint64_t s = threadIdx.x; s < sections; s += blockDim.x) {
        const uq_section *section = uq_section_of(mine, s);

        sum += section->squares;
        most = section->most > most ? section->most : most;
    }
    most = gp_block_max(most);
    sums[threadIdx.x] = sum;
    for (uint32_t half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x != 0)
        return;
    state->lanes = mine->count >= 32768 ? 32 : 4;
    state->escaped = state->words = state->some = 0;
    state->step = 0;
    if (most && most < GP_FP32_INFINITY)
        state->step = uq_step(c, sums[0], mine->count, most);
    state->inverse = state->step > 0 ? __fdiv_rn(1.0f, state->step) : 0.0f;
    state->mode = most >= GP_FP32_INFINITY ? UQ_NAN
                  : most == 0              ? UQ_ZEROS
                  : state->step > 0        ? UQ_CODED
                                           : UQ_RAW;
}

/* ---- encoding: codes, and the table of each section ---- */

/* nearest_shape() of uq_shape.c. */
static __device__ __forceinline__ uint32_t
uq_nearest_shape(uint32_t zeros, uint32_t n)
{
    uint32_t low = 0, high = GP_UQ_SHAPES - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if ((uint64_t)uq_frequencies[uq_begins[middle]] * n <=
            (uint64_t)zeros * UQ_TOTAL)
            high = middle;
        else
            low = middle + 1;
    }
    return low + 1;
}

/* cost_of() of uq_shape.c. */
static __device__ __forceinline__ uint64_t
uq_cost_of(const uq_state *state, uint32_t shape, const uint32_t *count,
           uint32_t largest)
{
    const uint16_t *cost = state->cost + uq_begins[shape - 1];
    uint32_t has = uq_largest(shape), last = has < largest ? has : largest;
    uint32_t bits = 0, escaped = 0, far = 0;

    for (uint32_t m = 0; m <= last; m++)
        bits += count[m] * cost[m];
    for (uint32_t m = has + 1; m <= largest; m++) {
        escaped += count[m];
        far += m > 64 ? count[m] : 0;
    }
    return bits + (uint64_t)escaped * (cost[has + 1] + 8 * 256) +
           (uint64_t)far * (8 * 256);
}

/* gp_uq_choose() of uq_shape.c, of what a block of the grid has counted. */
static __device__ __forceinline__ uint32_t
uq_choose(const uq_state *state, const uint32_t *count, uint32_t n)
{
    __shared__ uint64_t costs[2 * UQ_NEAR + 1];
    uint32_t largest, near, best = 0, t = threadIdx.x;
    uint64_t least = UINT64_MAX;

    largest = gp_block_max(t <= 128 && count[t] ? t : 0);
    if (largest == 0)
        return 0;
    near = uq_nearest_shape(count[0], n);
    if (t <= 2 * UQ_NEAR) {
        uint32_t s = near + t;

        costs[t] = s > UQ_NEAR && s - UQ_NEAR <= GP_UQ_SHAPES
                       ? uq_cost_of(state, s - UQ_NEAR, count, largest)
                       : UINT64_MAX;
    }
    __syncthreads();
    for (uint32_t k = 0; k <= 2 * UQ_NEAR; k++)
        if (costs[k] < least) {
            least = costs[k];
            best = near + k - UQ_NEAR;
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

        if (g.round != UQ_NEAREST)
            uq_offsets(g, begin + j, offset);
        for (uint32_t k = 0; k < 4 && j + k < n; k++) {
            int q = uq_code(g, from[begin + j + k], offset[k]);

            q = q > 127 || q < -127 ? UQ_BIG : q;
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
    uint64_t number = blockIdx.x - mine->first_block, begin = number * UQ_TILE;
    uq_section *section = uq_section_of(mine, number);
    const int8_t *codes = uq_codes(mine);
    uint64_t bytes = 0, total;
    uint32_t shape, n;
    uq_grid g;

    if (mine->count == 0 || uq_state_of(mine)->mode != UQ_CODED)
        return;
    g = uq_grid_of(mine, round);
    n = uq_size(mine, number);
    uq_round_section(mine, g, begin, n, count);
    shape = uq_choose(uq_state_of(mine), count[0], n);
    for (uint32_t j = threadIdx.x; shape && j < n; j += blockDim.x)
        if (uq_escapes(codes[begin + j], uq_largest(shape)))
            bytes += uq_escape_bytes(
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
    uint64_t sections = uq_sections(mine), escaped = 0, front;

    (void)parts;
    if (mine->count == 0 || state->mode != UQ_CODED)
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
    front = UQ_HEAD + sections + 4 * state->lanes + escaped;
    if (front + UQ_SLACK + 2 * mine->count > 1 + 4 * mine->count ||
        escaped > UINT32_MAX)
        state->mode = UQ_RAW;
    else if (!state->some && round != UQ_DITHER)
        state->mode = UQ_ZEROS;
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
    const uint16_t *f = uq_frequencies + uq_begins[shape - 1];
    uint32_t has = uq_largest(shape);
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
    uint32_t lane = threadIdx.x % 32u, lanes = state->lanes, x = UQ_FIRST;

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
                start = uq_range(shape, before, codes[s * UQ_TILE + j], &f);
            moves = mine && x >= f << 19;
            mask = __ballot_sync(GP_FULL_WARP, moves);
            if (moves) {
                words[end - (uint32_t)__popc(mask >> lane)] = (uint16_t)x;
                x >>= 16;
            }
            end -= (uint32_t)__popc(mask);
            if (mine)
                x = x / f * UQ_TOTAL + x % f + start;
        }
    }
    if (lane < lanes)
        uq_put(part->bytes + UQ_HEAD + sections + 4 * lane, x, 4);
    if (lane == 0)
        state->words = part->count - end;
}

/* A warp for each part. */
extern "C" __global__ void
gp_cuda_uq_code(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uq_state *state = uq_state_of(mine);
    uint64_t length = UQ_HEAD;

    (void)parts;
    if (mine->count && state->mode == UQ_CODED)
        uq_code_all(mine, state);
    if (threadIdx.x != 0)
        return;
    if (mine->count == 0) {
        *mine->encoded = 0;
        return;
    }
    mine->bytes[0] = (uint8_t)state->mode;
    if (state->mode == UQ_CODED) {
        uq_put(mine->bytes + 1, __float_as_uint(state->step), 4);
        uq_put(mine->bytes + 5, state->escaped, 4);
        length += uq_sections(mine) + 4 * state->lanes + state->escaped +
                  2 * state->words;
    } else if (state->mode == UQ_RAW) {
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
    uint64_t begin = number * UQ_TILE, total, at;
    const int8_t *codes = uq_codes(part) + begin;
    uint32_t n = uq_size(part, number), bytes = 0;
    uint32_t largest = uq_largest(section->shape), first = 16 * threadIdx.x;
    uint8_t *out = part->bytes + UQ_HEAD + uq_sections(part) +
                   4 * uq_state_of(part)->lanes + section->at;

    for (uint32_t j = first; j < first + 16 && j < n; j++)
        if (uq_escapes(codes[j], largest))
            bytes += uq_escape_bytes(
                uq_whole_code(g, uq_from(part), begin + j, codes[j]));
    at = gp_block_scan(bytes, &total);
    for (uint32_t j = first; bytes && j < first + 16 && j < n; j++) {
        uint32_t v;

        if (!uq_escapes(codes[j], largest))
            continue;
        v = uq_zigzag(uq_whole_code(g, uq_from(part), begin + j, codes[j]));
        for (; v >= 128; v >>= 7)
            out[at++] = (uint8_t)(v | 128);
        out[at++] = (uint8_t)v;
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

        if (g.round != UQ_NEAREST)
            uq_offsets(g, begin + j, offset);
        for (uint32_t k = 0; k < 4 && j + k < n; k++) {
            int code = codes[j + k];

            if (code == UQ_BIG)
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
        part->bytes + UQ_HEAD + sections + 4 * state->lanes + state->escaped;

    if (threadIdx.x == 0)
        part->bytes[UQ_HEAD + number] = (uint8_t)section->shape;
    for (uint64_t w = number * blockDim.x + threadIdx.x; w < words;
         w += sections * blockDim.x)
        uq_put(to + 2 * w, from[w], 2);
    if (section->escapes)
        uq_write_escapes(part, g, number);
    __syncthreads();
    if (part->residual)
        uq_subtract(part, g, number * UQ_TILE, uq_size(part, number));
}

extern "C" __global__ void
gp_cuda_uq_write(const gp_cuda_part *part, uint32_t parts, uint32_t round)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block, begin = number * UQ_TILE;
    uint32_t mode, n;

    if (mine->count == 0)
        return;
    mode = uq_state_of(mine)->mode;
    n = uq_size(mine, number);
    if (mode == UQ_CODED)
        uq_write_coded(mine, uq_grid_of(mine, round), number);
    for (uint32_t j = threadIdx.x; mode == UQ_RAW && j < n; j += blockDim.x)
        uq_put(mine->bytes + 1 + 4 * (begin + j),
               __float_as_uint(uq_from(mine)[begin + j]), 4);
    if ((mode != UQ_RAW && mode != UQ_NAN) || !mine->residual)
        return;
    __syncthreads();
    for (uint32_t j = threadIdx.x; j < n; j += blockDim.x)
        mine->residual[begin + j] = 0;
}
