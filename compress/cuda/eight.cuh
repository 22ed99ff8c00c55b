/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eight.cuh - eight neighbours in the registers of a thread: what formats of
 * few bits work on, since eight codes are whole bytes.
 *
 * Loops over them are unrolled, so that their indices are constants and nothing
 * goes to local memory.
 */
#ifndef GP_CUDA_EIGHT_CUH
#define GP_CUDA_EIGHT_CUH

#include "compress/cuda/common.cuh"

/* The first `left` of eight elements; 0 for the others. */
static __device__ __forceinline__ void
gp_load8(const float *at, uint32_t left, float x[8])
{
    if (left >= 8 && ((uintptr_t)at & 15u) == 0) {
        float4 a = ((const float4 *)at)[0], b = ((const float4 *)at)[1];

        x[0] = a.x;
        x[1] = a.y;
        x[2] = a.z;
        x[3] = a.w;
        x[4] = b.x;
        x[5] = b.y;
        x[6] = b.z;
        x[7] = b.w;
        return;
    }
    GP_UNROLL(8)
    for (uint32_t i = 0; i < 8; i++)
        x[i] = i < left ? at[i] : 0.0f;
}

static __device__ __forceinline__ void
gp_store8(float *at, uint32_t left, const float x[8])
{
    if (left >= 8 && ((uintptr_t)at & 15u) == 0) {
        gp_put4(at, make_float4(x[0], x[1], x[2], x[3]));
        gp_put4(at + 4, make_float4(x[4], x[5], x[6], x[7]));
        return;
    }
    GP_UNROLL(8)
    for (uint32_t i = 0; i < 8; i++)
        if (i < left)
            at[i] = x[i];
}

/* What is encoded: residual + source, or source alone. */
static __device__ __forceinline__ void
gp_gather8(const float *source, const float *residual, uint64_t i,
           uint32_t left, float x[8])
{
    float r[8];

    gp_load8(source + i, left, x);
    if (!residual)
        return;
    gp_load8(residual + i, left, r);
    GP_UNROLL(8)
    for (int j = 0; j < 8; j++)
        x[j] = gp_feed(r[j], x[j]);
}

static __device__ __forceinline__ uint32_t
gp_magnitude(float x)
{
    return __float_as_uint(x) & GP_FP32_MAGNITUDE;
}

static __device__ __forceinline__ uint32_t
gp_most8(const float x[8])
{
    uint32_t most = 0;

    GP_UNROLL(8)
    for (int j = 0; j < 8; j++)
        most = gp_magnitude(x[j]) > most ? gp_magnitude(x[j]) : most;
    return most;
}

/* Of those that are finite. */
static __device__ __forceinline__ uint32_t
gp_most_finite8(const float x[8])
{
    uint32_t most = 0;

    GP_UNROLL(8)
    for (int j = 0; j < 8; j++) {
        uint32_t m = gp_magnitude(x[j]);

        most = m > most && m < GP_FP32_INFINITY ? m : most;
    }
    return most;
}

/* The largest of a group of `lanes` lanes, a power of two. */
static __device__ __forceinline__ uint32_t
gp_group_max(uint32_t value, uint32_t lanes)
{
    if (lanes == 32)
        return gp_warp_max(value);
    for (uint32_t d = 1; d < lanes; d <<= 1) {
        uint32_t other = __shfl_xor_sync(GP_FULL_WARP, value, (int)d);

        value = other > value ? other : value;
    }
    return value;
}

/* The largest magnitude that any thread of a block of the grid has. */
static __device__ __forceinline__ uint32_t
gp_block_max(uint32_t most)
{
    __shared__ uint32_t warp[32];

    most = gp_warp_max(most);
    __syncthreads();
    if (threadIdx.x % 32u == 0)
        warp[threadIdx.x / 32u] = most;
    __syncthreads();
    for (uint32_t w = 0; w < blockDim.x / 32u; w++)
        most = warp[w] > most ? warp[w] : most;
    return most;
}

/* How many of eight elements from i on are there. */
static __device__ __forceinline__ uint32_t
gp_left8(uint64_t i, uint64_t end)
{
    return i >= end ? 0 : end - i < 8 ? (uint32_t)(end - i) : 8;
}

/* The first `bytes` of up to eight, at any place. */
static __device__ __forceinline__ uint64_t
gp_load_bytes(const uint8_t *at, uint32_t bytes)
{
    uint64_t word = 0;

    if (bytes == 8 && ((uintptr_t)at & 3u) == 0)
        return ((const uint32_t *)at)[0] | (uint64_t)((const uint32_t *)at)[1]
                                               << 32;
    if (bytes == 6 && ((uintptr_t)at & 1u) == 0)
        return ((const uint16_t *)at)[0] |
               (uint64_t)((const uint16_t *)at)[1] << 16 |
               (uint64_t)((const uint16_t *)at)[2] << 32;
    if (bytes == 4 && ((uintptr_t)at & 3u) == 0)
        return *(const uint32_t *)at;
    if (bytes == 2 && ((uintptr_t)at & 1u) == 0)
        return *(const uint16_t *)at;
    GP_UNROLL(8)
    for (uint32_t i = 0; i < 8; i++)
        if (i < bytes)
            word |= (uint64_t)at[i] << 8 * i;
    return word;
}

static __device__ __forceinline__ void
gp_store_bytes(uint8_t *at, uint32_t bytes, uint64_t word)
{
    if (bytes == 8 && ((uintptr_t)at & 3u) == 0) {
        ((uint32_t *)at)[0] = (uint32_t)word;
        ((uint32_t *)at)[1] = (uint32_t)(word >> 32);
        return;
    }
    if (bytes == 6 && ((uintptr_t)at & 1u) == 0) {
        ((uint16_t *)at)[0] = (uint16_t)word;
        ((uint16_t *)at)[1] = (uint16_t)(word >> 16);
        ((uint16_t *)at)[2] = (uint16_t)(word >> 32);
        return;
    }
    if (bytes == 4 && ((uintptr_t)at & 3u) == 0) {
        *(uint32_t *)at = (uint32_t)word;
        return;
    }
    if (bytes == 2 && ((uintptr_t)at & 1u) == 0) {
        *(uint16_t *)at = (uint16_t)word;
        return;
    }
    GP_UNROLL(8)
    for (uint32_t i = 0; i < 8; i++)
        if (i < bytes)
            at[i] = (uint8_t)(word >> 8 * i);
}

/* Elements of a block of the grid, where eight after eight are decoded. */
#define GP_EIGHT_TILE 4096u

/* One message of a launch: decoder.eight(message, i, x) gives eight elements
 * and false for what no encoder writes. */
template <typename decoder_type>
static __device__ __forceinline__ void
gp_decode_all(const gp_cuda_part *part, uint32_t parts, bool add,
              const decoder_type &decoder)
{
    const gp_cuda_part mine = *gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine.first_block) * GP_EIGHT_TILE;
    uint64_t end =
        begin + GP_EIGHT_TILE < mine.count ? begin + GP_EIGHT_TILE : mine.count;
    gp_cuda_message message = {mine.bytes, mine.length, mine.random};
    bool good = true;

    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end);
        float x[8], t[8];

        if (add)
            gp_load8(mine.target + i, left, t);
        good = decoder.eight(mine, message, i, x) && good;
        if (add) {
            GP_UNROLL(8)
            for (int j = 0; j < 8; j++)
                x[j] = __fadd_rn(t[j], x[j]);
        }
        gp_store8(mine.target + i, left, x);
    }
    if (!good)
        *mine.status = 1;
}

/* Eight elements of all messages, one message after the other. */
template <uint32_t unrolled, typename decoder_type>
static __device__ __forceinline__ bool
gp_fold_each(const gp_cuda_part &part, const decoder_type &decoder, uint64_t i,
             bool add, float sum[8])
{
    const gp_cuda_message *message = part.message;
    bool good = true;

    GP_UNROLL(unrolled)
    for (uint32_t k = 0; k < part.messages; k++) {
        float x[8];

        good = decoder.eight(part, message[k], i, x) && good;
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            sum[j] = k || add ? __fadd_rn(sum[j], x[j]) : x[j];
    }
    return good;
}

/* Eight elements, all there, of n messages: everything is asked for before any
 * of it is looked at, and no branch is in between. */
template <uint32_t n, typename decoder_type>
static __device__ __forceinline__ bool
gp_fold_at_once(const gp_cuda_message *message, const decoder_type &decoder,
                const typename decoder_type::place &at, bool add, float sum[8])
{
    typename decoder_type::words words[n];
    const uint8_t *from[n];
    bool good = true;

    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++)
        from[k] = message[k].bytes;
    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++)
        words[k] = decoder.load(from[k], at);
    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++) {
        float x[8];

        good &= decoder.values(words[k], at, x);
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            sum[j] = k || add ? __fadd_rn(sum[j], x[j]) : x[j];
    }
    return good;
}

/* The same of all messages. */
template <typename decoder_type>
static __device__ __forceinline__ bool
gp_fold_whole(const gp_cuda_part &part, const decoder_type &decoder,
              const typename decoder_type::place &at, bool add, float sum[8])
{
    constexpr uint32_t n = decoder_type::at_once;
    const gp_cuda_message *message = part.message;
    uint32_t messages = part.messages, k = 0;
    bool good = true;

    GP_UNROLL(1)
    for (; k + n <= messages; k += n)
        good &= gp_fold_at_once<n>(message + k, decoder, at, k || add, sum);
    GP_UNROLL(1)
    for (; k + 2 <= messages; k += 2)
        good &= gp_fold_at_once<2>(message + k, decoder, at, k || add, sum);
    if (k < messages)
        good &= gp_fold_at_once<1>(message + k, decoder, at, k || add, sum);
    return good;
}

/* Sums stay in registers, message after message. Of a decoder that can tell
 * where a thread's bytes are in each message, decoder.find(part, i, &at), many
 * messages are read at once. */
template <bool wide, typename decoder_type>
static __device__ __forceinline__ void
gp_fold_all(const gp_cuda_part *part, uint32_t parts, bool add,
            const decoder_type &decoder)
{
    const gp_cuda_part mine = *gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine.first_block) * GP_EIGHT_TILE;
    uint64_t end =
        begin + GP_EIGHT_TILE < mine.count ? begin + GP_EIGHT_TILE : mine.count;
    bool good = true;

    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end);
        float sum[8];

        gp_load8(mine.target + i, add ? left : 0, sum);
        if constexpr (wide) {
            typename decoder_type::place at;

            if (left == 8 && decoder.find(mine, i, &at))
                good &= gp_fold_whole(mine, decoder, at, add, sum);
            else
                good &= gp_fold_each<1>(mine, decoder, i, add, sum);
        } else {
            good &= gp_fold_each<2>(mine, decoder, i, add, sum);
        }
        gp_store8(mine.target + i, left, sum);
    }
    if (!good)
        *mine.status = 1;
}

#endif
