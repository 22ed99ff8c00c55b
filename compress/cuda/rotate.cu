/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate.cu - the transform stage hadamard, ahead of an array stage and behind
 * it (rotation.c).
 *
 * A block of the grid has a block of the transform in shared memory; the last
 * one has what is left, in descending powers of two. In between, elements lie
 * in the part's space.
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

/* What is fed back is added, and kept in the residual. */
extern "C" __global__ void
gp_cuda_rotate_forward(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                       uint32_t add, uint32_t block)
{
    float *s = rotate_shared();
    const gp_cuda_part *mine = gp_find_part(part, parts);
    float *out = (float *)mine->space;
    uint64_t at, end = rotate_end(mine, block, &at);
    uint32_t size;

    (void)word;
    (void)add;
    for (; at < end; at += size) {
        size = rotate_size(end - at, block);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
            float x = mine->source[at + i];

            if (mine->residual) {
                x = __fadd_rn(mine->residual[at + i], x);
                mine->residual[at + i] = x;
            }
            s[gp_pad(i)] = x;
        }
        gp_flip_all(s, 0, size, &mine->random, mine->offset + at);
        gp_rotate(s, 0, size);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
            out[at + i] = s[gp_pad(i)];
        __syncthreads();
    }
}

/* From the space to the target, or with `back` out of the residual. */
static __device__ __forceinline__ void
rotate_inverse(const gp_cuda_part *part, uint32_t parts, uint32_t block,
               bool add, bool back)
{
    float *s = rotate_shared();
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const float *in = (const float *)mine->space;
    uint64_t at, end = rotate_end(mine, block, &at);
    uint32_t size;

    if (back && !mine->residual)
        return;
    for (; at < end; at += size) {
        size = rotate_size(end - at, block);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x)
            s[gp_pad(i)] = in[at + i];
        gp_rotate(s, 0, size);
        gp_flip_all(s, 0, size, &mine->random, mine->offset + at);
        for (uint32_t i = threadIdx.x; i < size; i += blockDim.x) {
            float x = s[gp_pad(i)];

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

extern "C" __global__ void
gp_cuda_rotate_back(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                    uint32_t add, uint32_t block)
{
    (void)word;
    (void)add;
    rotate_inverse(part, parts, block, false, true);
}

extern "C" __global__ void
gp_cuda_rotate_inverse(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                       uint32_t add, uint32_t block)
{
    (void)word;
    rotate_inverse(part, parts, block, add, false);
}
