/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate.cuh - the Hadamard transform of hadamard.h in shared memory.
 *
 * A result depends on its two operands only, so threads take eight elements
 * through three stages at a time; the order of the stages is the reference's.
 */
#ifndef GP_CUDA_ROTATE_CUH
#define GP_CUDA_ROTATE_CUH

#include "compress/cuda/eight.cuh"
#include "compress/cuda/philox.cuh"

#define GP_ROTATE_HUGE 0x77000000u

/* A word more per line of shared memory, against conflicts of banks. */
static __device__ __forceinline__ uint32_t
gp_pad(uint32_t i)
{
    return i + (i >> 5);
}

static __device__ __forceinline__ uint32_t
gp_sign_word(const gp_cuda_stream *signs, uint64_t w)
{
    uint4 four = gp_philox(signs, w >> 2);

    return w & 2u ? (w & 1u ? four.w : four.z) : (w & 1u ? four.y : four.x);
}

/* Signs of elements e to e + 7, in the lowest bits. */
static __device__ __forceinline__ uint32_t
gp_signs8(const gp_cuda_stream *signs, uint64_t e)
{
    uint32_t at = (uint32_t)e & 31u, bits = gp_sign_word(signs, e >> 5) >> at;

    if (at > 24)
        bits |= gp_sign_word(signs, (e >> 5) + 1) << (32 - at);
    return bits;
}

static __device__ __forceinline__ float
gp_flip(float x, uint32_t bits, uint32_t j)
{
    return __uint_as_float(__float_as_uint(x) ^ (bits >> j & 1u) << 31);
}

/* Stages of distance 1, 2 and 4 within eight. */
static __device__ __forceinline__ void
gp_butterfly8(float x[8])
{
    GP_UNROLL(3)
    for (int d = 1; d < 8; d *= 2)
        GP_UNROLL(8)
    for (int i = 0; i < 8; i++)
        if (!(i & d)) {
            float a = x[i], b = x[i + d];

            x[i] = __fadd_rn(a, b);
            x[i + d] = __fsub_rn(a, b);
        }
}

/* All stages over `size` elements in shared memory, a power of two, the first
 * of which is number `from`. */
static __device__ __forceinline__ void
gp_butterflies(float *s, uint32_t from, uint32_t size)
{
    uint32_t h = 1;

    for (; 8 * h <= size; h *= 8) {
        __syncthreads();
        for (uint32_t g = threadIdx.x; g < size / 8; g += blockDim.x) {
            uint32_t first = g / h * 8 * h + g % h;
            float x[8];

            GP_UNROLL(8)
            for (uint32_t k = 0; k < 8; k++)
                x[k] = s[gp_pad(from + first + k * h)];
            gp_butterfly8(x);
            GP_UNROLL(8)
            for (uint32_t k = 0; k < 8; k++)
                s[gp_pad(from + first + k * h)] = x[k];
        }
    }
    for (; h < size; h *= 2) {
        __syncthreads();
        for (uint32_t g = threadIdx.x; g < size / 2; g += blockDim.x) {
            uint32_t first = g / h * 2 * h + g % h;
            float a = s[gp_pad(from + first)], b = s[gp_pad(from + first + h)];

            s[gp_pad(from + first)] = __fadd_rn(a, b);
            s[gp_pad(from + first + h)] = __fsub_rn(a, b);
        }
    }
    __syncthreads();
}

static __device__ __forceinline__ float
gp_enlarge(float x)
{
    const float largest = 0x1.fffffep127f;
    float y = __fmul_rn(x, 0x1p32f);

    y = y > largest ? largest : y;
    return y < -largest ? -largest : y;
}

/* transform() of hadamard.c. */
static __device__ __forceinline__ void
gp_rotate(float *s, uint32_t from, uint32_t size)
{
    float factor = (float)(1 / sqrt((double)size));
    uint32_t most = 0;
    bool huge;

    __syncthreads();
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
        most = gp_magnitude(s[gp_pad(from + i)]) > most
                   ? gp_magnitude(s[gp_pad(from + i)])
                   : most;
    most = gp_block_max(most);
    huge = most >= GP_ROTATE_HUGE;
    for (uint32_t i = threadIdx.x; huge && i < size; i += blockDim.x)
        s[gp_pad(from + i)] = __fmul_rn(s[gp_pad(from + i)], 0x1p-32f);
    gp_butterflies(s, from, size);
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
        float x = __fmul_rn(s[gp_pad(from + i)], factor);

        x = huge ? gp_enlarge(x) : x;
        s[gp_pad(from + i)] =
            most >= GP_FP32_INFINITY ? __uint_as_float(GP_FP32_NAN) : x;
    }
    __syncthreads();
}

/* Elements in shared memory, from e on in the tensor, with their signs. */
static __device__ __forceinline__ void
gp_flip_all(float *s, uint32_t from, uint32_t size, const gp_cuda_stream *signs,
            uint64_t e)
{
    __syncthreads();
    for (uint32_t i = 8 * threadIdx.x; i < size; i += 8 * blockDim.x) {
        uint32_t bits = gp_signs8(signs, e + i);

        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++)
            if (i + j < size)
                s[gp_pad(from + i + j)] =
                    gp_flip(s[gp_pad(from + i + j)], bits, j);
    }
    __syncthreads();
}

#endif
