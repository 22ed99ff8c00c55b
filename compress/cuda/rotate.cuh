/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate.cuh - the Hadamard transform of hadamard.h, within a block of threads.
 *
 * A result depends on its two operands only, so threads take eight elements
 * through three stages at a time; the order of the stages is the reference's.
 */
#ifndef GP_CUDA_ROTATE_CUH
#define GP_CUDA_ROTATE_CUH

#include "compress/cuda/eight.cuh"
#include "compress/cuda/philox.cuh"

#define GP_ROTATE_HUGE 0x77000000u
/* Elements of a piece of what is not in shared memory. */
#define GP_ROTATE_PIECE 8192u

/* Elements that a block of threads rotates, in shared memory: a word more per
 * line, against conflicts of banks. */
struct gp_near {
    float *at;

    static __device__ __forceinline__ gp_near
    of(float *shared, float *place)
    {
        (void)place;
        return {shared};
    }

    __device__ __forceinline__ float &
    operator[](uint32_t i) const
    {
        return at[i + (i >> 5)];
    }
};

/* Where there is too little of that: at a place in the device's memory, of
 * which a piece at a time is in shared memory. */
struct gp_far {
    float *at, *piece;

    static __device__ __forceinline__ gp_far
    of(float *shared, float *place)
    {
        return {place, shared};
    }

    __device__ __forceinline__ float &
    operator[](uint32_t i) const
    {
        return at[i];
    }
};

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

/* All stages within n elements. */
template <int n>
static __device__ __forceinline__ void
gp_butterfly(float x[n])
{
    GP_UNROLL(3)
    for (int d = 1; d < n; d *= 2)
        GP_UNROLL(n)
    for (int i = 0; i < n; i++)
        if (!(i & d)) {
            float a = x[i], b = x[i + d];

            x[i] = __fadd_rn(a, b);
            x[i + d] = __fsub_rn(a, b);
        }
}

/* The stages of distance h to n / 2 h over `size` elements, the first of which
 * is number `from`. */
template <int n, typename elements>
static __device__ __forceinline__ void
gp_stages(const elements &s, uint32_t from, uint32_t size, uint32_t h)
{
    __syncthreads();
    for (uint32_t g = threadIdx.x; g < size / n; g += blockDim.x) {
        uint32_t first = from + g / h * n * h + g % h;
        float x[n];

        GP_UNROLL(n)
        for (uint32_t k = 0; k < n; k++)
            x[k] = s[first + k * h];
        gp_butterfly<n>(x);
        GP_UNROLL(n)
        for (uint32_t k = 0; k < n; k++)
            s[first + k * h] = x[k];
    }
}

/* All from h on; `size` is a power of two. */
template <typename elements>
static __device__ __forceinline__ void
gp_stages_from(const elements &s, uint32_t from, uint32_t size, uint32_t h)
{
    for (; 8 * h <= size; h *= 8)
        gp_stages<8>(s, from, size, h);
    if (4 * h <= size) {
        gp_stages<4>(s, from, size, h);
        h *= 4;
    }
    if (2 * h <= size)
        gp_stages<2>(s, from, size, h);
    __syncthreads();
}

static __device__ __forceinline__ void
gp_butterflies(const gp_near &s, uint32_t from, uint32_t size)
{
    gp_stages_from(s, from, size, 1);
}

/* Piece after piece in shared memory, and then what goes beyond one. */
static __device__ __forceinline__ void
gp_butterflies(const gp_far &s, uint32_t from, uint32_t size)
{
    const gp_near piece = {s.piece};
    uint32_t n = size < GP_ROTATE_PIECE ? size : GP_ROTATE_PIECE;

    for (uint32_t at = from; at < from + size; at += n) {
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
            piece[i] = s[at + i];
        gp_stages_from(piece, 0, n, 1);
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
            s[at + i] = piece[i];
    }
    gp_stages_from(s, from, size, n);
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
template <typename elements>
static __device__ __forceinline__ void
gp_rotate(const elements &s, uint32_t from, uint32_t size)
{
    float factor = (float)(1 / sqrt((double)size));
    uint32_t most = 0;
    bool huge;

    __syncthreads();
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
        most =
            gp_magnitude(s[from + i]) > most ? gp_magnitude(s[from + i]) : most;
    most = gp_block_max(most);
    huge = most >= GP_ROTATE_HUGE;
    for (uint32_t i = threadIdx.x; huge && i < size; i += blockDim.x)
        s[from + i] = __fmul_rn(s[from + i], 0x1p-32f);
    gp_butterflies(s, from, size);
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
        float x = __fmul_rn(s[from + i], factor);

        x = huge ? gp_enlarge(x) : x;
        s[from + i] =
            most >= GP_FP32_INFINITY ? __uint_as_float(GP_FP32_NAN) : x;
    }
    __syncthreads();
}

/* Elements from e on in the tensor, with their signs. */
template <typename elements>
static __device__ __forceinline__ void
gp_flip_all(const elements &s, uint32_t from, uint32_t size,
            const gp_cuda_stream *signs, uint64_t e)
{
    __syncthreads();
    for (uint32_t i = 8 * threadIdx.x; i < size; i += 8 * blockDim.x) {
        uint32_t bits = gp_signs8(signs, e + i);

        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++)
            if (i + j < size)
                s[from + i + j] = gp_flip(s[from + i + j], bits, j);
    }
    __syncthreads();
}

#endif
