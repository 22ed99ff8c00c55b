/* SPDX-License-Identifier: Apache-2.0 */
/*
 * natural.cu - the codec natural (natural.c): each element goes at random to
 * one of the two powers of two next to it.
 *
 * All of a message has one base, found first. A base other than 0 stands for an
 * element near the upper end, which decoders look for.
 */
#include "compress/cuda/largest.cuh"
#include "compress/cuda/philox.cuh"

#define NATURAL_TILE  8192u
#define NATURAL_RANGE 127u
#define NATURAL_NAN   0x80u

extern "C" __global__ void
gp_cuda_natural_scan(const gp_cuda_part *part, uint32_t parts)
{
    gp_scan_largest(part, parts, NATURAL_TILE);
}

/* base_of() */
extern "C" __global__ void
gp_cuda_natural_settle(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uint32_t top = (gp_part_largest(mine, NATURAL_TILE) >> 23) + 1;

    (void)parts;
    if (threadIdx.x != 0)
        return;
    top = top > 254 ? 254 : top;
    top = top > NATURAL_RANGE ? top - NATURAL_RANGE : 0;
    *(uint32_t *)mine->space = top;
    mine->bytes[0] = (uint8_t)top;
}

/* power_code() of random_kernels.c, of a whole: its sign is in it. */
static __device__ __forceinline__ uint32_t
natural_code(float x, uint32_t base, uint32_t word)
{
    uint32_t m = gp_magnitude(x), e, top = base + NATURAL_RANGE, code;

    if (m >= GP_FP32_INFINITY)
        return NATURAL_NAN;
    if (m < (base + 1) << 23) {
        code =
            gp_unit(word, 0) <
            __fmul_rn(__uint_as_float(m), __uint_as_float((253 - base) << 23));
    } else {
        e = (m + (word >> 9)) >> 23;
        code = (e < top ? e : top) - base;
    }
    return (x < 0 ? 0u - code : code) & 0xffu;
}

static __device__ __forceinline__ float
natural_value(uint32_t code, uint32_t base)
{
    uint32_t m = code & 0x80u ? 0x100u - code : code;
    float level = __uint_as_float(m ? (m + base) << 23 : 0);

    if (code == NATURAL_NAN)
        return __uint_as_float(GP_FP32_NAN);
    return code & 0x80u ? -level : level;
}

/* Codes begin behind one byte, so that eight are never a word of memory: lanes
 * pass the odd one on. All of a warp come here. */
static __device__ __forceinline__ void
natural_store(uint8_t *bytes, uint64_t i, uint32_t left, uint64_t packed)
{
    uint32_t lane = threadIdx.x % 32u;
    uint64_t before = __shfl_up_sync(GP_FULL_WARP, packed, 1);
    uint32_t next = __shfl_down_sync(GP_FULL_WARP, left, 1);

    if (lane == 0 || left < 8) {
        uint32_t from = lane == 0 ? 0 : left ? 1 : 0;

        if (from)
            bytes[i] = (uint8_t)(before >> 56);
        gp_store_bytes(bytes + 1 + i, left < 8 ? left : 7, packed);
        if (left < 8)
            return;
    } else {
        uint64_t word = packed << 8 | before >> 56;

        *(uint2 *)(bytes + i) =
            make_uint2((uint32_t)word, (uint32_t)(word >> 32));
    }
    if (lane == 31 || next == 0)
        bytes[i + 8] = (uint8_t)(packed >> 56);
}

static __device__ __forceinline__ uint64_t
natural_load(const uint8_t *bytes, uint64_t i, uint32_t left)
{
    uint32_t lane = threadIdx.x % 32u, next;
    uint64_t word = 0;

    if (left == 8) {
        uint2 two = *(const uint2 *)(bytes + i);

        word = two.x | (uint64_t)two.y << 32;
    }
    next = __shfl_down_sync(GP_FULL_WARP, (uint32_t)word & 0xffu, 1);
    left = __shfl_down_sync(GP_FULL_WARP, left, 1) == 8 ? 16 + left : left;
    if (left % 16 < 8)
        return gp_load_bytes(bytes + 1 + i, left % 16);
    if (lane == 31 || left < 16)
        next = bytes[i + 8];
    return word >> 8 | (uint64_t)next << 56;
}

extern "C" __global__ void
gp_cuda_natural_encode(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * NATURAL_TILE;
    uint64_t end =
        begin + NATURAL_TILE < mine->count ? begin + NATURAL_TILE : mine->count;
    uint32_t base = *(const uint32_t *)mine->space;

    for (uint64_t at = begin + threadIdx.x / 32u * 256u; at < end;
         at += 8u * blockDim.x) {
        uint64_t i = at + threadIdx.x % 32u * 8u, packed = 0;
        uint32_t left = gp_left8(i, end), w[8];
        float x[8];

        gp_gather8(mine->source, mine->residual, i, left, x);
        gp_words8(&mine->random, mine->offset + i, w);
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t code = natural_code(x[j], base, w[j]);

            packed |= (uint64_t)code << 8 * j;
            x[j] = gp_remainder_of(x[j], natural_value(code, base));
        }
        natural_store(mine->bytes, i, left, packed);
        if (mine->residual)
            gp_store8(mine->residual + i, left, x);
    }
}

/* Nothing has been found yet. */
extern "C" __global__ void
gp_cuda_natural_begin(const gp_cuda_part *part, uint32_t parts)
{
    (void)parts;
    if (threadIdx.x == 0)
        *(uint32_t *)part[blockIdx.x].space = 0;
}

extern "C" __global__ void
gp_cuda_natural_decode(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                       uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * NATURAL_TILE;
    uint64_t end =
        begin + NATURAL_TILE < mine->count ? begin + NATURAL_TILE : mine->count;
    uint32_t base = mine->bytes[0], found = 0;

    (void)word;
    for (uint64_t at = begin + threadIdx.x / 32u * 256u; at < end;
         at += 8u * blockDim.x) {
        uint64_t i = at + threadIdx.x % 32u * 8u, packed;
        uint32_t left = gp_left8(i, end);
        float x[8], t[8];

        packed = natural_load(mine->bytes, i, left);

        if (add)
            gp_load8(mine->target + i, left, t);
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t code = (uint32_t)(packed >> 8 * j) & 0xffu;

            found |=
                j < left && code >= 126 && code <= 130 && code != NATURAL_NAN;
            x[j] = natural_value(code, base);
            if (add)
                x[j] = __fadd_rn(t[j], x[j]);
        }
        gp_store8(mine->target + i, left, x);
    }
    found = gp_block_max(found);
    if (found && threadIdx.x == 0)
        *(uint32_t *)mine->space = 1;
}

extern "C" __global__ void
gp_cuda_natural_check(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uint32_t base;

    (void)parts;
    if (threadIdx.x != 0 || !mine->length)
        return; /* a length that no message has has been seen */
    base = mine->bytes[0];
    if (base > NATURAL_RANGE || (base && !*(const uint32_t *)mine->space))
        *mine->status = 1;
}
