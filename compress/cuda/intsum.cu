/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intsum.cu - the codec intsum (intsum.c): integers of a step that all workers
 * share, and sums of them.
 *
 * What a worker proposes is the largest magnitude of what it will encode, so
 * what is fed back is added by then; the step follows from the number that came
 * back, or from the worker's own where nothing was agreed.
 */
#include "compress/cuda/eight.cuh"
#include "compress/cuda/philox.cuh"

#define INTSUM_HEAD         8u
#define INTSUM_CONTRIBUTORS 256u
/* Adding it rounds a number of magnitude below 2^22 to an integer. */
#define INTSUM_MAGIC 12582912.0f

/* Of a part, in its space; then the largest magnitude of each tile. */
struct intsum_head {
    float step, inverse;
    uint32_t most;
};

/* Word: width | random << 8; then levels, low bits of a step that are 0, and
 * the largest step. */
struct intsum_format {
    uint32_t word, levels, below, largest;
};

static __device__ __forceinline__ uint32_t
intsum_width(uint32_t word)
{
    return word & 255u;
}

static __device__ __forceinline__ uint32_t *
intsum_tiles(const gp_cuda_part *part)
{
    return (uint32_t *)part->space + 16;
}

/* What is fed back is added, once; and the largest magnitude of a tile. */
static __device__ __forceinline__ void
intsum_scan(const gp_cuda_part *part, bool adds)
{
    uint64_t number = blockIdx.x - part->first_block;
    uint64_t begin = number * GP_EIGHT_TILE;
    uint64_t end = begin + GP_EIGHT_TILE < part->count ? begin + GP_EIGHT_TILE
                                                       : part->count;
    uint32_t most = 0;

    adds = adds && part->source;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), m;
        float x[8];

        if (adds)
            gp_gather8(part->source, part->residual, i, left, x);
        else
            gp_load8((part->residual ? part->residual : part->source) + i, left,
                     x);
        if (adds && part->residual)
            gp_store8(part->residual + i, left, x);
        m = gp_most8(x);
        most = m > most ? m : most;
    }
    most = gp_block_max(most);
    if (threadIdx.x == 0)
        intsum_tiles(part)[number] = most;
}

extern "C" __global__ void
gp_cuda_intsum_scan(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    intsum_scan(mine, !mine->proposed);
}

/* Ahead of a proposal. */
extern "C" __global__ void
gp_cuda_intsum_look(const gp_cuda_part *part, uint32_t parts)
{
    intsum_scan(gp_find_part(part, parts), true);
}

/* Of a part; thread 0 has it. */
static __device__ __forceinline__ uint32_t
intsum_most(const gp_cuda_part *part)
{
    uint64_t tiles = (part->count + GP_EIGHT_TILE - 1) / GP_EIGHT_TILE;
    uint32_t most = 0;

    for (uint64_t t = threadIdx.x; t < tiles; t += blockDim.x)
        most = intsum_tiles(part)[t] > most ? intsum_tiles(part)[t] : most;
    return gp_block_max(most);
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_intsum_propose(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uint32_t most = intsum_most(mine);

    (void)parts;
    if (threadIdx.x == 0)
        *mine->proposal = __uint_as_float(most);
}

/* step_of() of intsum.c. */
static __device__ __forceinline__ float
intsum_step(const intsum_format &f, uint32_t most, float *inverse)
{
    uint32_t s;

    *inverse = 0;
    if (most >= GP_FP32_INFINITY)
        return __uint_as_float(GP_FP32_NAN);
    s = __float_as_uint(
        __fdiv_rn(__uint_as_float(most), __uint2float_rn(f.levels)));
    if (s < 0x00800000u)
        return 0;
    s = (s + f.below) & ~f.below;
    if ((double)__uint_as_float(s) * f.levels < (double)__uint_as_float(most))
        s += f.below + 1;
    s = s < f.largest ? s : f.largest;
    *inverse = __fdiv_rn(1.0f, __uint_as_float(s));
    return __uint_as_float(s);
}

/* A block of the grid for each part: the step, and the head of the message. */
extern "C" __global__ void
gp_cuda_intsum_settle(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                      uint32_t add, uint32_t levels, uint32_t below,
                      uint32_t largest)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const intsum_format f = {word, levels, below, largest};
    intsum_head *head = (intsum_head *)mine->space;
    uint32_t own = intsum_most(mine), most;
    uint32_t shared = __float_as_uint(mine->agreed) & GP_FP32_MAGNITUDE, s;

    (void)parts;
    (void)add;
    if (threadIdx.x != 0)
        return;
    most = shared ? shared : own;
    most = own >= GP_FP32_INFINITY ? own : most;
    head->most = most;
    head->step = intsum_step(f, most, &head->inverse);
    s = __float_as_uint(head->step);
    for (int i = 0; i < 4; i++)
        mine->bytes[i] = (uint8_t)(s >> 8 * i);
    mine->bytes[4] = 1;
    mine->bytes[5] = 0;
    mine->bytes[6] = (uint8_t)intsum_width(word);
    mine->bytes[7] = 0;
}

static __device__ __forceinline__ int
intsum_round(float x, float inverse, float limit, bool random, uint32_t bits)
{
    float y = __fmul_rn(x, inverse), near, whole, part;
    int over, k;

    y = y > limit ? limit : y;
    y = y < -limit ? -limit : y;
    near = __fadd_rn(y, INTSUM_MAGIC);
    k = (int)(__float_as_uint(near) - 0x4b400000u);
    if (!random)
        return k;
    whole = __fsub_rn(near, INTSUM_MAGIC);
    over = whole > y;
    part = __fsub_rn(y, __fsub_rn(whole, __int2float_rn(over)));
    return k - over + (gp_unit(bits, 0) < part);
}

/* Eight codes to where they belong. */
static __device__ __forceinline__ void
intsum_write8(uint8_t *lanes, uint32_t width, uint64_t i, uint32_t left,
              const int q[8])
{
    uint64_t word = 0;

    if (width == 16) {
        for (uint32_t j = 0; j < left; j++) {
            lanes[2 * (i + j)] = (uint8_t)q[j];
            lanes[2 * (i + j) + 1] = (uint8_t)(q[j] >> 8);
        }
        return;
    }
    for (uint32_t j = 0; j < left; j++)
        word |= (uint64_t)((uint32_t)q[j] & (width == 4 ? 15u : 255u))
                << width * j;
    gp_store_bytes(lanes + i * width / 8, (left * width + 7) / 8, word);
}

extern "C" __global__ void
gp_cuda_intsum_encode(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                      uint32_t add, uint32_t levels)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const intsum_head *head = (const intsum_head *)mine->space;
    const float *from = mine->residual ? mine->residual : mine->source;
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * GP_EIGHT_TILE;
    uint64_t end = begin + GP_EIGHT_TILE < mine->count ? begin + GP_EIGHT_TILE
                                                       : mine->count;
    bool random = word >> 8, good = head->most < GP_FP32_INFINITY;
    float step = head->step, limit = __uint2float_rn(levels);

    (void)add;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), bits[8] = {0};
        int q[8];
        float x[8];

        gp_load8(from + i, left, x);
        if (random)
            gp_words8(&mine->random, mine->offset + i, bits);
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++) {
            q[j] =
                good ? intsum_round(x[j], head->inverse, limit, random, bits[j])
                     : 0;
            x[j] = gp_remainder_of(x[j], __fmul_rn(__int2float_rn(q[j]), step));
        }
        intsum_write8(mine->bytes + INTSUM_HEAD, intsum_width(word), i, left,
                      q);
        if (mine->residual)
            gp_store8(mine->residual + i, left, x);
    }
}

/* ---- back ---- */

struct intsum_decoder {
    intsum_format f;

    /* lane_width() of intsum.c. */
    __device__ __forceinline__ uint32_t
    lane_width(uint32_t contributors) const
    {
        uint32_t most = f.levels * contributors;

        if (contributors == 1)
            return intsum_width(f.word);
        return most <= 127 ? 8 : most <= 32767 ? 16 : 32;
    }

    __device__ __forceinline__ bool
    step_valid(uint32_t s) const
    {
        return s == 0 || s == GP_FP32_NAN ||
               (s >= 0x00800000u && s <= f.largest && (s & f.below) == 0);
    }

    /* All but the codes. */
    __device__ __forceinline__ bool
    head(const gp_cuda_message &m, uint64_t count, uint32_t *step,
         uint32_t *contributors, uint32_t *width) const
    {
        uint64_t lanes;

        if (m.length < INTSUM_HEAD)
            return false;
        *step = m.bytes[0] | (uint32_t)m.bytes[1] << 8 |
                (uint32_t)m.bytes[2] << 16 | (uint32_t)m.bytes[3] << 24;
        *contributors = m.bytes[4] | (uint32_t)m.bytes[5] << 8;
        if (!step_valid(*step) || *contributors == 0 ||
            *contributors > INTSUM_CONTRIBUTORS)
            return false;
        *width = lane_width(*contributors);
        lanes = *width == 4 ? count / 2 + count % 2 : count * (*width / 8);
        return m.bytes[6] == *width && m.bytes[7] == 0 &&
               m.length - INTSUM_HEAD == lanes;
    }

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &m, uint64_t i,
          float x[8]) const
    {
        uint32_t bits, contributors, width, left = gp_left8(i, part.count);
        int limit;
        float step;
        bool good;

        for (int j = 0; j < 8; j++)
            x[j] = 0;
        if (!head(m, part.count, &bits, &contributors, &width))
            return false;
        step = __uint_as_float(bits);
        limit = step > 0 ? (int)(f.levels * contributors) : 0;
        good = true;
        for (uint32_t j = 0; j < left; j++) {
            int q = lane(m.bytes + INTSUM_HEAD, width, i + j);

            good = good && q <= limit && q >= -limit;
            x[j] = __fmul_rn(__int2float_rn(q), step);
        }
        if (width == 4 && left % 2)
            good = good && m.bytes[INTSUM_HEAD + (i + left) / 2] >> 4 == 0;
        return good;
    }

    static __device__ __forceinline__ int
    lane(const uint8_t *lanes, uint32_t width, uint64_t i)
    {
        const uint8_t *at = lanes + i * (width / 8);

        if (width == 4)
            return (int)((lanes[i / 2] >> 4 * (i % 2) & 15u) ^ 8u) - 8;
        if (width == 8)
            return (int8_t)at[0];
        if (width == 16)
            return (int16_t)(at[0] | at[1] << 8);
        return (int)(at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
                     (uint32_t)at[3] << 24);
    }
};

extern "C" __global__ void
gp_cuda_intsum_decode(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                      uint32_t add, uint32_t levels, uint32_t below,
                      uint32_t largest)
{
    const intsum_decoder d = {{word, levels, below, largest}};
    const gp_cuda_part *mine = gp_find_part(part, parts);
    gp_cuda_message m = {mine->bytes, mine->length, mine->random};
    uint32_t bits, contributors, width;

    if (mine->count == 0 && m.length &&
        !d.head(m, 0, &bits, &contributors, &width))
        *mine->status = 1;
    gp_decode_all(part, parts, add, d);
}

extern "C" __global__ void
gp_cuda_intsum_fold(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                    uint32_t add, uint32_t levels, uint32_t below,
                    uint32_t largest)
{
    const intsum_decoder d = {{word, levels, below, largest}};

    gp_fold_all<false>(part, parts, add, d);
}
