/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emulate.h - CUDA C on the host, as far as our kernels use it.
 *
 * A kernel's blocks run one after the other; the threads of a block are
 * coroutines that run in turn and give way at barriers and warp operations
 * only. So a kernel that forgets a barrier computes something else here, and an
 * address sanitizer sees every access. Atomic operations need nothing: there
 * is one real thread at a time (emulate.cpp takes a lock for each launch).
 *
 * What depends on the device's own rounding is not here: kernels use the
 * operations that IEEE 754 defines. A result that is no number is always the
 * same one, which a host has of its operands.
 */
#ifndef GP_EMULATE_H
#define GP_EMULATE_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

struct gp_emu_dim {
    unsigned x, y, z;
};
extern gp_emu_dim threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__      static
#define __launch_bounds__(...)
#define __restrict__ __restrict

extern unsigned char *gp_emu_shared; /* dynamic */
#define GP_DYNAMIC_SHARED(type, name) type *name = (type *)gp_emu_shared

/* All live threads of the block, or of the warp, have come here. */
void gp_emu_sync_block(void);
/* Exchanges a word within a warp: the result holds what each lane gave; lanes
 * outside of the mask, or that have ended, have 0. */
const uint64_t *gp_emu_exchange(unsigned mask, uint64_t value);
/* Lanes of the warp that have not ended. */
unsigned gp_emu_live(void);

#define __syncthreads() gp_emu_sync_block()
#define __threadfence() ((void)0)
#define warpSize        32

static inline void
__syncwarp(unsigned mask = 0xffffffffu)
{
    (void)gp_emu_exchange(mask, 0);
}

static inline unsigned
gp_emu_lane(void)
{
    return threadIdx.x % 32;
}

template <typename T>
static inline T
gp_emu_pick(unsigned mask, T value, unsigned from)
{
    uint64_t word = 0;
    T out;

    static_assert(sizeof(T) <= sizeof(word), "warps exchange words");
    memcpy(&word, &value, sizeof(value));
    word = gp_emu_exchange(mask, word)[from % 32];
    memcpy(&out, &word, sizeof(out));
    return out;
}

template <typename T>
static inline T
__shfl_sync(unsigned mask, T value, int from, int width = 32)
{
    unsigned lane = gp_emu_lane(), w = (unsigned)width;

    return gp_emu_pick(mask, value, lane / w * w + (unsigned)from % w);
}

template <typename T>
static inline T
__shfl_xor_sync(unsigned mask, T value, int with, int width = 32)
{
    unsigned lane = gp_emu_lane(), from = lane ^ (unsigned)with;

    return gp_emu_pick(mask, value,
                       from / (unsigned)width > lane / (unsigned)width ? lane
                                                                       : from);
}

template <typename T>
static inline T
__shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = gp_emu_lane();

    return gp_emu_pick(mask, value,
                       lane % (unsigned)width < by ? lane : lane - by);
}

template <typename T>
static inline T
__shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = gp_emu_lane(), w = (unsigned)width;

    return gp_emu_pick(mask, value, lane % w + by < w ? lane + by : lane);
}

static inline unsigned
__ballot_sync(unsigned mask, int predicate)
{
    const uint64_t *all = gp_emu_exchange(mask, predicate != 0);
    unsigned out = 0;

    for (unsigned i = 0; i < 32; i++)
        out |= (unsigned)(all[i] != 0) << i;
    return out;
}

static inline int
__any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

static inline int
__all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, !predicate) == 0;
}

static inline unsigned
__reduce_max_sync(unsigned mask, unsigned value)
{
    const uint64_t *all = gp_emu_exchange(mask, value);
    unsigned out = 0;

    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1 && all[i] > out)
            out = (unsigned)all[i];
    return out;
}

static inline unsigned
__reduce_add_sync(unsigned mask, unsigned value)
{
    const uint64_t *all = gp_emu_exchange(mask, value);
    unsigned out = 0;

    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1)
            out += (unsigned)all[i];
    return out;
}

static inline unsigned
__activemask(void)
{
    return gp_emu_live();
}

template <typename T>
static inline T
atomicAdd(T *at, T value)
{
    T before = *at;

    *at = before + value;
    return before;
}

template <typename T>
static inline T
atomicMax(T *at, T value)
{
    T before = *at;

    *at = before > value ? before : value;
    return before;
}

template <typename T>
static inline T
atomicMin(T *at, T value)
{
    T before = *at;

    *at = before < value ? before : value;
    return before;
}

template <typename T>
static inline T
atomicOr(T *at, T value)
{
    T before = *at;

    *at = before | value;
    return before;
}

template <typename T>
static inline T
atomicExch(T *at, T value)
{
    T before = *at;

    *at = value;
    return before;
}

template <typename T>
static inline T
atomicCAS(T *at, T expected, T value)
{
    T before = *at;

    if (before == expected)
        *at = value;
    return before;
}

static inline uint32_t
__float_as_uint(float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    return b;
}

static inline float
__uint_as_float(uint32_t b)
{
    float x;

    memcpy(&x, &b, sizeof(x));
    return x;
}

static inline double
__longlong_as_double(long long b)
{
    double x;

    memcpy(&x, &b, sizeof(x));
    return x;
}

/* The only NaN that a device makes. */
static inline float
gp_emu_result(float x)
{
    return x != x ? __uint_as_float(0x7fffffffu) : x;
}

/* Compiled without contraction and in the default rounding mode, the operators
 * are these. */
static inline float
__fadd_rn(float a, float b)
{
    return gp_emu_result(a + b);
}

static inline float
__fsub_rn(float a, float b)
{
    return gp_emu_result(a - b);
}

static inline float
__fmul_rn(float a, float b)
{
    return gp_emu_result(a * b);
}

static inline float
__fdiv_rn(float a, float b)
{
    return gp_emu_result(a / b);
}

static inline float
__fsqrt_rn(float a)
{
    return gp_emu_result(sqrtf(a));
}

/* To the nearest even; what no int holds is not asked for. */
static inline int
__float2int_rn(float x)
{
    return (int)lrintf(x);
}

static inline float
__int2float_rn(int x)
{
    return (float)x;
}

static inline float
__uint2float_rn(unsigned x)
{
    return (float)x;
}

/* As the device's, for places of bytes alone: no sign is spread. */
static inline unsigned
__byte_perm(unsigned a, unsigned b, unsigned places)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned out = 0;

    for (unsigned i = 0; i < 4; i++)
        out |= (unsigned)(both >> 8 * (places >> 4 * i & 7u) & 255u) << 8 * i;
    return out;
}

static inline int
__popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int
__clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int
__ffs(int x)
{
    return __builtin_ffs(x);
}

static inline unsigned
__umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}

static inline unsigned long long
__umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

static inline uint2
make_uint2(unsigned x, unsigned y)
{
    return uint2{x, y};
}

static inline uint4
make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

static inline float4
make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}

#endif
