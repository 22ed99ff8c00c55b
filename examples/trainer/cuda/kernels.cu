/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.cu - what the trainer computes on a device beside matrix products.
 *
 * Every sum has one order, whatever the grid does when: columns are added by
 * tiles of 64 rows, rows of a pass by one block. So a run is the same bits each
 * time, and no kernel has an atomic operation.
 *
 * bf16 values are their 16 bits; arithmetic is fp32. Compiled without
 * contraction: the optimizers have the bits of optim.c.
 */
#include "examples/trainer/cuda/kernels.h"

#define GT_FULL_WARP 0xffffffffu
#define GT_WARPS     (GT_BLOCK / 32u)

namespace
{

__device__ __forceinline__ uint32_t
gt_bf16_of(float x)
{
    uint32_t b = __float_as_uint(x);

    if ((b & 0x7fffffffu) > 0x7f800000u)
        return b >> 16 | 0x40u;
    return (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
}

__device__ __forceinline__ float
gt_float_of(uint32_t half)
{
    return __uint_as_float(half << 16);
}

/* 16 bytes of a matrix, as numbers. */
template <typename T> struct gt_pack;

template <> struct gt_pack<float> {
    static const uint32_t n = 4;
    float v[4];

    __device__ __forceinline__ void
    load(const float *from)
    {
        float4 x = *(const float4 *)from;

        v[0] = x.x;
        v[1] = x.y;
        v[2] = x.z;
        v[3] = x.w;
    }

    __device__ __forceinline__ void
    store(float *to) const
    {
        *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
    }
};

template <> struct gt_pack<uint16_t> {
    static const uint32_t n = 8;
    float v[8];

    __device__ __forceinline__ void
    load(const uint16_t *from)
    {
        uint4 x = *(const uint4 *)from;
        uint32_t word[4] = {x.x, x.y, x.z, x.w};

        for (uint32_t i = 0; i < 4; i++) {
            v[2 * i] = gt_float_of(word[i] & 0xffffu);
            v[2 * i + 1] = gt_float_of(word[i] >> 16);
        }
    }

    __device__ __forceinline__ void
    store(uint16_t *to) const
    {
        uint32_t word[4];

        for (uint32_t i = 0; i < 4; i++)
            word[i] = gt_bf16_of(v[2 * i]) | gt_bf16_of(v[2 * i + 1]) << 16;
        *(uint4 *)to = make_uint4(word[0], word[1], word[2], word[3]);
    }
};

__device__ __forceinline__ void
gt_put(float *at, float x)
{
    *at = x;
}

__device__ __forceinline__ void
gt_put(uint16_t *at, float x)
{
    *at = (uint16_t)gt_bf16_of(x);
}

__device__ __forceinline__ uint32_t
gt_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The place of a thread in a grid that goes over a matrix: which pack of which
 * columns, and which rows, every 8th of its tile. */
struct gt_place {
    uint32_t lane, warp, column, first, last, tile;
};

template <typename T>
__device__ __forceinline__ gt_place
gt_place_of(uint32_t rows, uint32_t stride)
{
    const uint32_t columns = 32u * gt_pack<T>::n;
    uint32_t across = (stride + columns - 1) / columns;
    gt_place p;

    p.lane = threadIdx.x % 32u;
    p.warp = threadIdx.x / 32u;
    p.tile = blockIdx.x / across;
    p.column = (blockIdx.x % across) * columns + p.lane * gt_pack<T>::n;
    p.first = p.tile * GT_TILE_ROWS + p.warp;
    p.last = gt_least(p.tile * GT_TILE_ROWS + GT_TILE_ROWS, rows);
    return p;
}

template <typename T>
__device__ __forceinline__ void
gt_bias_relu(T *y, const float *bias, uint32_t rows, uint32_t stride, bool relu)
{
    gt_place p = gt_place_of<T>(rows, stride);
    float b[gt_pack<T>::n];

    if (p.column >= stride)
        return;
    for (uint32_t i = 0; i < gt_pack<T>::n; i++)
        b[i] = bias[p.column + i];
    for (uint32_t r = p.first; r < p.last; r += GT_WARPS) {
        T *at = y + (uint64_t)r * stride + p.column;
        gt_pack<T> x;

        x.load(at);
        for (uint32_t i = 0; i < gt_pack<T>::n; i++) {
            float v = x.v[i] + b[i];

            x.v[i] = v > 0.0f || !relu ? v : 0.0f;
        }
        x.store(at);
    }
}

/* Masks a tile, and leaves the sums of its columns in `partial`. */
template <typename T>
__device__ __forceinline__ void
gt_relu_back(T *delta, const T *activation, float *partial, uint32_t rows,
             uint32_t stride, float *sums)
{
    const uint32_t columns = 32u * gt_pack<T>::n;
    gt_place p = gt_place_of<T>(rows, stride);
    gt_pack<T> sum = {};

    if (p.column < stride)
        for (uint32_t r = p.first; r < p.last; r += GT_WARPS) {
            uint64_t at = (uint64_t)r * stride + p.column;
            gt_pack<T> d, a;

            d.load(delta + at);
            if (activation) {
                a.load(activation + at);
                for (uint32_t i = 0; i < gt_pack<T>::n; i++)
                    d.v[i] = a.v[i] > 0.0f ? d.v[i] : 0.0f;
                d.store(delta + at);
            }
            for (uint32_t i = 0; i < gt_pack<T>::n; i++)
                sum.v[i] += d.v[i];
        }
    for (uint32_t i = 0; i < gt_pack<T>::n; i++)
        sums[p.warp * columns + p.lane * gt_pack<T>::n + i] = sum.v[i];
    __syncthreads();
    p.column += threadIdx.x - p.lane * gt_pack<T>::n;
    if (threadIdx.x >= columns || p.column >= stride)
        return;
    for (uint32_t w = 1; w < GT_WARPS; w++)
        sums[threadIdx.x] += sums[w * columns + threadIdx.x];
    partial[(uint64_t)p.tile * stride + p.column] = sums[threadIdx.x];
}

/* One row's part of the loss; the formulas of loss.c. */
__device__ __forceinline__ double
gt_square_of(float y, bool is_label)
{
    float d = y - (is_label ? 1.0f : 0.0f);

    return (double)d * (double)d;
}

__device__ __forceinline__ float
gt_delta_of(float y, float top, double sum, bool is_label, float scale,
            uint32_t classes, bool squares)
{
    float one = is_label ? 1.0f : 0.0f;

    if (squares)
        return 2.0f * (y - one) * scale / (float)classes;
    return (expf(y - top) / (float)sum - one) * scale;
}

template <typename T>
__device__ __forceinline__ void
gt_loss_row(const float *y, uint32_t label, uint32_t classes, uint32_t stride,
            bool squares, float scale, T *delta, double *loss,
            uint32_t *correct)
{
    uint32_t top = 0;
    double sum = 0;

    for (uint32_t c = 1; c < classes; c++)
        if (y[c] > y[top])
            top = c;
    for (uint32_t c = 0; c < classes; c++)
        sum += squares ? gt_square_of(y[c], c == label)
                       : (double)expf(y[c] - y[top]);
    for (uint32_t c = 0; delta && c < stride; c++)
        gt_put(delta + c, c < classes
                              ? gt_delta_of(y[c], y[top], sum, c == label,
                                            scale, classes, squares)
                              : 0.0f);
    *loss = squares ? sum / (double)classes
                    : log(sum) - (double)(y[label] - y[top]);
    *correct = top == label;
}

/* The first of the largest, over a warp; all lanes have the result. */
__device__ __forceinline__ void
gt_warp_top(float *value, uint32_t *index)
{
    for (uint32_t with = 16; with; with /= 2) {
        float v = __shfl_xor_sync(GT_FULL_WARP, *value, (int)with);
        uint32_t i = __shfl_xor_sync(GT_FULL_WARP, *index, (int)with);

        if (v > *value || (v == *value && i < *index)) {
            *value = v;
            *index = i;
        }
    }
}

/* Sums of pairs are the same whoever forms them, so all lanes have the same. */
__device__ __forceinline__ double
gt_warp_sum(double x)
{
    for (uint32_t with = 16; with; with /= 2)
        x += __shfl_xor_sync(GT_FULL_WARP, x, (int)with);
    return x;
}

template <typename T>
__device__ __forceinline__ void
gt_loss_warp(const float *y, uint32_t label, uint32_t classes, uint32_t stride,
             bool squares, float scale, T *delta, double *loss,
             uint32_t *correct)
{
    uint32_t lane = threadIdx.x % 32u, best = lane;
    float top = y[lane];
    double sum = 0;

    for (uint32_t c = lane + 32u; c < classes; c += 32u)
        if (y[c] > top) {
            top = y[c];
            best = c;
        }
    gt_warp_top(&top, &best);
    for (uint32_t c = lane; c < classes; c += 32u)
        sum +=
            squares ? gt_square_of(y[c], c == label) : (double)expf(y[c] - top);
    sum = gt_warp_sum(sum);
    for (uint32_t c = lane; delta && c < stride; c += 32u)
        gt_put(delta + c, c < classes ? gt_delta_of(y[c], top, sum, c == label,
                                                    scale, classes, squares)
                                      : 0.0f);
    if (lane)
        return;
    *loss =
        squares ? sum / (double)classes : log(sum) - (double)(y[label] - top);
    *correct = best == label;
}

/* One parameter's step; `v` is its velocity. */
__device__ __forceinline__ float
gt_step_of(uint32_t kind, float w, float g, float *v, float lr, float mu,
           float decay)
{
    float d = decay == 0.0f && kind == GT_STEP_SGD ? g : g + decay * w;

    if (kind == GT_STEP_TAKE)
        return g;
    if (kind == GT_STEP_SGD)
        return w - lr * d;
    *v = mu * *v + d;
    return kind == GT_STEP_MOMENTUM ? w - lr * *v : w - lr * (d + mu * *v);
}

} // namespace

/* Rows of fp32 as they lie on the host, to rows with a stride, in 16 or 32
 * bits. What is beyond the columns stays. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_spread(const float *from, void *to, uint32_t rows, uint32_t columns,
                   uint32_t stride, uint32_t half)
{
    uint64_t count = (uint64_t)rows * columns;
    uint64_t first = (uint64_t)blockIdx.x * GT_TILE;

    for (uint32_t j = threadIdx.x; j < GT_TILE; j += GT_BLOCK) {
        uint64_t i = first + j, at;

        if (i >= count)
            return;
        at = i / columns * stride + i % columns;
        if (half)
            gt_put((uint16_t *)to + at, from[i]);
        else
            gt_put((float *)to + at, from[i]);
    }
}

/* The samples of a batch, from the data and an order of it; `words` of 16 bytes
 * are a row. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_gather(const uint4 *data, const uint16_t *labels,
                   const uint32_t *order, uint4 *to, uint16_t *to_labels,
                   uint32_t rows, uint32_t words)
{
    uint64_t count = (uint64_t)rows * words;
    uint64_t first = (uint64_t)blockIdx.x * (GT_TILE / 4);

    for (uint32_t j = threadIdx.x; j < GT_TILE / 4; j += GT_BLOCK) {
        uint64_t i = first + j;
        uint32_t row, word;

        if (i >= count)
            return;
        row = (uint32_t)(i / words);
        word = (uint32_t)(i % words);
        to[i] = data[(uint64_t)order[row] * words + word];
        if (word == 0)
            to_labels[row] = labels[order[row]];
    }
}

/* Parameters in 16 bits. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_cast(const float *from, uint16_t *to, uint64_t count)
{
    uint64_t first = (uint64_t)blockIdx.x * GT_TILE;

    for (uint32_t j = threadIdx.x; j < GT_TILE && first + j < count;
         j += GT_BLOCK)
        to[first + j] = (uint16_t)gt_bf16_of(from[first + j]);
}

/* y += bias, and ReLU if there is one. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_bias_relu(void *y, const float *bias, uint32_t rows,
                      uint32_t stride, uint32_t relu, uint32_t half)
{
    if (half)
        gt_bias_relu((uint16_t *)y, bias, rows, stride, relu != 0);
    else
        gt_bias_relu((float *)y, bias, rows, stride, relu != 0);
}

/* delta becomes 0 where the activation is not positive (without one it stays),
 * and its columns are added by tiles of rows. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_relu_back(void *delta, const void *activation, float *partial,
                      uint32_t rows, uint32_t stride, uint32_t half)
{
    __shared__ float sums[GT_WARPS * GT_TILE_COLUMNS(1)];

    if (half)
        gt_relu_back((uint16_t *)delta, (const uint16_t *)activation, partial,
                     rows, stride, sums);
    else
        gt_relu_back((float *)delta, (const float *)activation, partial, rows,
                     stride, sums);
}

/* The tiles' sums, in their order. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_bias_sum(const float *partial, float *bias_grad, uint32_t tiles,
                     uint32_t columns, uint32_t stride)
{
    uint32_t c = blockIdx.x * GT_BLOCK + threadIdx.x;
    float sum = 0.0f;

    if (c >= columns)
        return;
    for (uint32_t t = 0; t < tiles; t++)
        sum += partial[(uint64_t)t * stride + c];
    bias_grad[c] = sum;
}

/* Loss and gradient at the output, a thread for each row. `delta` NULL: the
 * loss only. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_loss_narrow(const float *y, const uint16_t *labels, void *delta,
                        double *losses, uint32_t *correct, uint32_t rows,
                        uint32_t classes, uint32_t stride, uint32_t squares,
                        float scale, uint32_t half)
{
    uint32_t r = blockIdx.x * GT_BLOCK + threadIdx.x;
    uint64_t at = (uint64_t)r * stride;

    if (r >= rows)
        return;
    if (half)
        gt_loss_row(y + at, labels[r], classes, stride, squares != 0, scale,
                    delta ? (uint16_t *)delta + at : nullptr, losses + r,
                    correct + r);
    else
        gt_loss_row(y + at, labels[r], classes, stride, squares != 0, scale,
                    delta ? (float *)delta + at : nullptr, losses + r,
                    correct + r);
}

/* The same, a warp for each row, of at least 32 classes. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_loss_wide(const float *y, const uint16_t *labels, void *delta,
                      double *losses, uint32_t *correct, uint32_t rows,
                      uint32_t classes, uint32_t stride, uint32_t squares,
                      float scale, uint32_t half)
{
    uint32_t r = blockIdx.x * GT_WIDE_ROWS + threadIdx.x / 32u;
    uint64_t at = (uint64_t)r * stride;

    if (r >= rows)
        return;
    if (half)
        gt_loss_warp(y + at, labels[r], classes, stride, squares != 0, scale,
                     delta ? (uint16_t *)delta + at : nullptr, losses + r,
                     correct + r);
    else
        gt_loss_warp(y + at, labels[r], classes, stride, squares != 0, scale,
                     delta ? (float *)delta + at : nullptr, losses + r,
                     correct + r);
}

/* Adds a pass to the sums: one block. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_score(const double *losses, const uint32_t *correct, uint32_t rows,
                  gt_cuda_score_sums *sums)
{
    __shared__ double loss[GT_BLOCK];
    __shared__ uint32_t right[GT_BLOCK];
    uint32_t t = threadIdx.x, count = 0;
    double sum = 0;

    for (uint32_t r = t; r < rows; r += GT_BLOCK) {
        sum += losses[r];
        count += correct[r];
    }
    loss[t] = sum;
    right[t] = count;
    for (uint32_t with = GT_BLOCK / 2; with; with /= 2) {
        __syncthreads();
        if (t < with) {
            loss[t] += loss[t + with];
            right[t] += right[t + with];
        }
    }
    if (t == 0) {
        sums->loss += loss[0];
        sums->correct += right[0];
    }
}

/* One step of parameters, and their 16 bits if there are such. Counts are
 * multiples of 4. */
extern "C" __global__ void
__launch_bounds__(GT_BLOCK)
    gt_cuda_update(float *params, const float *grads, float *velocity,
                   uint16_t *half, uint64_t count, uint32_t kind, float lr,
                   float mu, float decay)
{
    uint64_t first = (uint64_t)blockIdx.x * GT_TILE;

    for (uint32_t j = 4u * threadIdx.x; j < GT_TILE && first + j < count;
         j += 4u * GT_BLOCK) {
        gt_pack<float> w, g, v = {};

        w.load(params + first + j);
        g.load(grads + first + j);
        if (velocity)
            v.load(velocity + first + j);
        for (uint32_t i = 0; i < 4; i++)
            w.v[i] = gt_step_of(kind, w.v[i], g.v[i], &v.v[i], lr, mu, decay);
        w.store(params + first + j);
        if (velocity)
            v.store(velocity + first + j);
        if (half) {
            uint2 word;

            word.x = gt_bf16_of(w.v[0]) | gt_bf16_of(w.v[1]) << 16;
            word.y = gt_bf16_of(w.v[2]) | gt_bf16_of(w.v[3]) << 16;
            *(uint2 *)(half + first + j) = word;
        }
    }
}
