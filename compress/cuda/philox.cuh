/* SPDX-License-Identifier: Apache-2.0 */
/*
 * philox.cuh - the random numbers of philox.h, by whatever thread needs them.
 */
#ifndef GP_CUDA_PHILOX_CUH
#define GP_CUDA_PHILOX_CUH

#include "compress/cuda/common.cuh"

/* Block b of a stream. */
static __device__ __forceinline__ uint4
gp_philox(const gp_cuda_stream *stream, uint64_t b)
{
    uint32_t k0 = stream->key[0], k1 = stream->key[1];
    uint32_t c0 = (uint32_t)b, c1 = (uint32_t)(b >> 32);
    uint32_t c2 = stream->step[0], c3 = stream->step[1];

    GP_UNROLL(10)
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

/* Words of elements e to e + 3. */
static __device__ __forceinline__ uint4
gp_words4(const gp_cuda_stream *stream, uint64_t e)
{
    uint4 a = gp_philox(stream, e >> 2), b;

    if ((e & 3u) == 0)
        return a;
    b = gp_philox(stream, (e >> 2) + 1);
    if (e & 1u) {
        a = make_uint4(a.y, a.z, a.w, b.x);
        b = make_uint4(b.y, b.z, b.w, 0);
    }
    return e & 2u ? make_uint4(a.z, a.w, b.x, b.y) : a;
}

/* Words of elements e to e + 7: three blocks of numbers at most. */
static __device__ __forceinline__ void
gp_words8(const gp_cuda_stream *stream, uint64_t e, uint32_t w[8])
{
    uint4 a = gp_philox(stream, e >> 2), b = gp_philox(stream, (e >> 2) + 1);
    uint4 c = make_uint4(0, 0, 0, 0);

    if (e & 3u)
        c = gp_philox(stream, (e >> 2) + 2);
    if (e & 1u) {
        a = make_uint4(a.y, a.z, a.w, b.x);
        b = make_uint4(b.y, b.z, b.w, c.x);
        c = make_uint4(c.y, c.z, 0, 0);
    }
    if (e & 2u) {
        a = make_uint4(a.z, a.w, b.x, b.y);
        b = make_uint4(b.z, b.w, c.x, c.y);
    }
    w[0] = a.x;
    w[1] = a.y;
    w[2] = a.z;
    w[3] = a.w;
    w[4] = b.x;
    w[5] = b.y;
    w[6] = b.z;
    w[7] = b.w;
}

/* A word as a number in [0, 1), moved on by a shift. */
static __device__ __forceinline__ float
gp_unit(uint32_t word, uint32_t shift)
{
    return __fmul_rn(__int2float_rn((int)(((word >> 8) + shift) & 0xffffffu)),
                     0x1p-24f);
}

#endif
