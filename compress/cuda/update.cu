/* SPDX-License-Identifier: Apache-2.0 */
/*
 * update.cu - what a shard on a device does with the sum of a step: operation
 * for operation that of lib/shard (fold.c, norm.c, updater_*.c), so that the
 * parameters are the same bits.
 *
 * A launch is for one chunk. Factors are rounded to fp32 by the host, once.
 */
#include "compress/cuda/common.cuh"

static __device__ __forceinline__ uint64_t
first_of(void)
{
    return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ uint64_t
threads_of(void)
{
    return (uint64_t)gridDim.x * blockDim.x;
}

extern "C" __global__ void
gp_cuda_update_scale(float *x, uint64_t count, float scale)
{
    for (uint64_t i = first_of(); i < count; i += threads_of())
        x[i] = __fmul_rn(x[i], scale);
}

extern "C" __global__ void
gp_cuda_update_add(float *sum, const float *x, uint64_t count)
{
    for (uint64_t i = first_of(); i < count; i += threads_of())
        sum[i] = __fadd_rn(sum[i], x[i]);
}

/* Differences add up to what they are differences to. */
extern "C" __global__ void
gp_cuda_update_history(float *history, float *sum, uint64_t count, float scale)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float h = __fadd_rn(history[i], sum[i]);

        if (gp_is_finite(h))
            history[i] = h;
        sum[i] = __fmul_rn(h, scale);
    }
}

/* The sum of squares of each 64 elements. Eight threads have one of them, each
 * a lane of the host's. Blocks of the grid have whole warps. */
extern "C" __global__ void
gp_cuda_update_squares(const float *x, uint64_t count, double *out)
{
    uint64_t blocks = (count + 63) / 64, lane = threadIdx.x % 8;
    uint64_t step = threads_of() / 8, b = first_of() / 8;
    uint64_t turns = (blocks + step - 1) / step;

    for (uint64_t t = 0; t < turns; t++, b += step) {
        uint64_t end = b < blocks && count - b * 64 > 64 ? b * 64 + 64 : count;
        double sum = 0;

        for (uint64_t i = b * 64 + lane; b < blocks && i < end; i += 8)
            sum += (double)x[i] * (double)x[i];
        sum += __shfl_down_sync(GP_FULL_WARP, sum, 4, 8);
        sum += __shfl_down_sync(GP_FULL_WARP, sum, 2, 8);
        sum += __shfl_down_sync(GP_FULL_WARP, sum, 1, 8);
        if (lane == 0 && b < blocks)
            out[b] = sum;
    }
}

/* velocity NULL: without momentum. */
extern "C" __global__ void
gp_cuda_update_sgd(const float *gradient, float *value, float *velocity,
                   uint64_t count, float lr, float mu, float fresh, float decay,
                   uint32_t nesterov)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float p = value[i];
        float g = __fadd_rn(gradient[i], __fmul_rn(decay, p));

        if (velocity) {
            float u =
                __fadd_rn(__fmul_rn(mu, velocity[i]), __fmul_rn(fresh, g));

            velocity[i] = u;
            g = nesterov ? __fadd_rn(g, __fmul_rn(mu, u)) : u;
        }
        value[i] = __fsub_rn(p, __fmul_rn(lr, g));
    }
}

/* most NULL: without amsgrad. */
extern "C" __global__ void
gp_cuda_update_adam(const float *gradient, float *value, float *mean,
                    float *square, float *most, uint64_t count, float beta1,
                    float fresh1, float beta2, float fresh2, float eps,
                    float rate, float root, float decay, float shrink)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float p = __fmul_rn(value[i], shrink);
        float g = __fadd_rn(gradient[i], __fmul_rn(decay, p));
        float m = __fadd_rn(__fmul_rn(beta1, mean[i]), __fmul_rn(fresh1, g));
        float v = __fadd_rn(__fmul_rn(beta2, square[i]),
                            __fmul_rn(__fmul_rn(fresh2, g), g));

        mean[i] = m;
        square[i] = v;
        if (most) {
            v = most[i] > v ? most[i] : v;
            most[i] = v;
        }
        v = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), root), eps);
        value[i] = __fsub_rn(p, __fdiv_rn(__fmul_rn(rate, m), v));
    }
}

/* The first half of lamb: the gradient becomes the direction. */
extern "C" __global__ void
gp_cuda_update_direct(float *gradient, const float *value, float *mean,
                      float *square, uint64_t count, float beta1, float fresh1,
                      float beta2, float fresh2, float eps, float root,
                      float bias1, float decay)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float g = gradient[i];
        float m = __fadd_rn(__fmul_rn(beta1, mean[i]), __fmul_rn(fresh1, g));
        float v = __fadd_rn(__fmul_rn(beta2, square[i]),
                            __fmul_rn(__fmul_rn(fresh2, g), g));

        mean[i] = m;
        square[i] = v;
        v = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), root), eps);
        m = __fdiv_rn(__fdiv_rn(m, bias1), v);
        gradient[i] = __fadd_rn(m, __fmul_rn(decay, value[i]));
    }
}

/* And the second, when both norms are known. */
extern "C" __global__ void
gp_cuda_update_descend(const float *direction, float *value, uint64_t count,
                       float rate)
{
    for (uint64_t i = first_of(); i < count; i += threads_of())
        value[i] = __fsub_rn(value[i], __fmul_rn(rate, direction[i]));
}

extern "C" __global__ void
gp_cuda_update_adagrad(const float *gradient, float *value, float *sum,
                       uint64_t count, float lr, float initial, float decay,
                       float eps)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float p = value[i];
        float g = __fadd_rn(gradient[i], __fmul_rn(decay, p));
        float s = __fadd_rn(__fadd_rn(sum[i], initial), __fmul_rn(g, g));

        sum[i] = s;
        value[i] = __fsub_rn(
            p, __fdiv_rn(__fmul_rn(lr, g), __fadd_rn(__fsqrt_rn(s), eps)));
    }
}

/* mean NULL: not centered; velocity NULL: without momentum. */
extern "C" __global__ void
gp_cuda_update_rmsprop(const float *gradient, float *value, float *square,
                       float *mean, float *velocity, uint64_t count, float lr,
                       float alpha, float fresh, float decay, float eps,
                       float mu)
{
    for (uint64_t i = first_of(); i < count; i += threads_of()) {
        float p = value[i];
        float g = __fadd_rn(gradient[i], __fmul_rn(decay, p));
        float s = __fadd_rn(__fmul_rn(alpha, square[i]),
                            __fmul_rn(__fmul_rn(fresh, g), g));

        square[i] = s;
        if (mean) {
            float a = __fadd_rn(__fmul_rn(alpha, mean[i]), __fmul_rn(fresh, g));

            mean[i] = a;
            s = __fsub_rn(s, __fmul_rn(a, a));
        }
        s = __fadd_rn(__fsqrt_rn(s), eps);
        if (velocity) {
            float u = __fadd_rn(__fmul_rn(mu, velocity[i]), __fdiv_rn(g, s));

            velocity[i] = u;
            value[i] = __fsub_rn(p, __fmul_rn(lr, u));
        } else {
            value[i] = __fsub_rn(p, __fdiv_rn(__fmul_rn(lr, g), s));
        }
    }
}
