/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate.cu - the transform stage hadamard, ahead of an array stage and behind
 * it (rotation.c).
 *
 * A block of the grid has a block of the transform, in shared memory or where
 * it lies; the last one has what is left, in descending powers of two. In
 * between, elements lie in the part's space.
 */
#include "compress/cuda/rotate.cuh"

static __device__ __forceinline__ float *
rotate_shared(void)
{
    GP_DYNAMIC_SHARED(float, elements);

    return elements;
}

static __device__ __forceinline__ uint32_t
rotate_size(uint64_t left, uint32_t block)
{
    while (block > left)
        block /= 2;
    return block;
}

/* Elements that this block of the grid has. */
static __device__ __forceinline__ uint64_t
rotate_end(const gp_cuda_part *part, uint32_t block, uint64_t *begin)
{
    *begin = (uint64_t)(blockIdx.x - part->first_block) * block;
    return *begin + block < part->count ? *begin + block : part->count;
}

static __device__ __forceinline__ void
rotate_leave(const gp_near &s, float *to, uint32_t size)
{
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
        to[i] = s[i];
    __syncthreads();
}

static __device__ __forceinline__ void
rotate_fetch(const gp_near &s, const float *from, uint32_t size)
{
    for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
        s[i] = from[i];
}

/* They are there. */
static __device__ __forceinline__ void
rotate_leave(const gp_far &, float *, uint32_t)
{
}

static __device__ __forceinline__ void
rotate_fetch(const gp_far &, const float *, uint32_t)
{
}

/* What is fed back is added, and kept in the residual. */
template <typename elements>
static __device__ __forceinline__ void
rotate_forward(const gp_cuda_part *part, uint32_t parts, uint32_t block)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    float *out = (float *)mine->space;
    uint64_t at, end = rotate_end(mine, block, &at);
    uint32_t size;

    for (; at < end; at += size) {
        const elements s = elements::of(rotate_shared(), out + at);

        size = rotate_size(end - at, block);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
            float x = mine->source[at + i];

            if (mine->residual) {
                x = __fadd_rn(mine->residual[at + i], x);
                mine->residual[at + i] = x;
            }
            s[i] = x;
        }
        gp_flip_all(s, 0, size, &mine->random, mine->offset + at);
        gp_rotate(s, 0, size);
        rotate_leave(s, out + at, size);
    }
}

/* From the space to the target, or with `back` out of the residual. */
template <typename elements>
static __device__ __forceinline__ void
rotate_inverse(const gp_cuda_part *part, uint32_t parts, uint32_t block,
               bool add, bool back)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    float *in = (float *)mine->space;
    uint64_t at, end = rotate_end(mine, block, &at);
    uint32_t size;

    if (back && !mine->residual)
        return;
    for (; at < end; at += size) {
        const elements s = elements::of(rotate_shared(), in + at);

        size = rotate_size(end - at, block);
        rotate_fetch(s, in + at, size);
        gp_rotate(s, 0, size);
        gp_flip_all(s, 0, size, &mine->random, mine->offset + at);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
            float x = s[i];

            if (back)
                mine->residual[at + i] =
                    gp_remainder_of(mine->residual[at + i], x);
            else
                mine->target[at + i] =
                    add ? __fadd_rn(mine->target[at + i], x) : x;
        }
        __syncthreads();
    }
}

#define ROTATE_KERNEL(name, call)                                          \
    extern "C" __global__ void __launch_bounds__(1024)                     \
        gp_cuda_rotate_##name(const gp_cuda_part *part, uint32_t parts,    \
                              uint32_t word, uint32_t add, uint32_t block) \
    {                                                                      \
        (void)word;                                                        \
        (void)add;                                                         \
        call;                                                              \
    }

ROTATE_KERNEL(forward, rotate_forward<gp_near>(part, parts, block))
ROTATE_KERNEL(back, rotate_inverse<gp_near>(part, parts, block, false, true))
ROTATE_KERNEL(inverse, rotate_inverse<gp_near>(part, parts, block, add, false))
ROTATE_KERNEL(far_forward, rotate_forward<gp_far>(part, parts, block))
ROTATE_KERNEL(far_back, rotate_inverse<gp_far>(part, parts, block, false, true))
ROTATE_KERNEL(far_inverse,
              rotate_inverse<gp_far>(part, parts, block, add, false))
