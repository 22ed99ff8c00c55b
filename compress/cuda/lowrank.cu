/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lowrank.cu - what cuBLAS leaves of powersgd: all but the two products.
 *
 * Of a tensor: the head, P by columns, a copy of P that is multiplied, Q by
 * columns; between launches cuBLAS makes P = M Q and Q = M^T P. Decoding is the
 * reference's, operation for operation: what a worker keeps as error is exactly
 * what everybody else misses.
 */
#include "compress/cuda/half.cuh"
#include "compress/cuda/largest.cuh"
#include "compress/cuda/lowrank.h"
#include "compress/cuda/philox.cuh"

#define LOWRANK_PLAIN   0u
#define LOWRANK_FACTORS 1u
#define LOWRANK_NOTHING 2u
#define LOWRANK_FP16    0x100u /* beside the rank */
#define LOWRANK_ALONE   0x200u /* no call came before: the gradient is added */
#define LOWRANK_BYTES   4u     /* of a message's head */

/* Beyond these magnitudes M is scaled: so neither products nor their sums leave
 * the range of normal numbers. */
#define LOWRANK_LARGE 0x67800000u /* 2^80 */
#define LOWRANK_SMALL 0x20800000u /* 2^-62 */
#define LOWRANK_MOST  0x70000000u /* of Q in messages and states */

/* ---- shapes ---- */

struct lowrank_shape {
    uint64_t columns, column, rows; /* column: of the first element */
    uint32_t rank;
    bool half, pays;
};

/* rows_of() of powersgd.c. */
static __device__ __forceinline__ lowrank_shape
lowrank_shape_of(const gp_cuda_part *part, uint32_t columns, uint32_t kinds)
{
    lowrank_shape s;

    s.columns = columns;
    s.column = columns ? part->offset % columns : 0;
    s.rows = columns ? (s.column + part->count + columns - 1) / columns : 0;
    s.rank = kinds & 0xffu;
    s.half = kinds & LOWRANK_FP16;
    s.pays = columns && 2 * s.rank * (s.rows + columns) < part->count;
    return s;
}

/* Where the factors of a whole tensor are. */
struct lowrank_whole {
    gp_lowrank_head *head;
    float *p, *work, *q;
    uint64_t p_stride, q_stride;
};

static __device__ __forceinline__ lowrank_whole
lowrank_whole_of(void *at, uint64_t rows, const lowrank_shape &s)
{
    lowrank_whole w;

    w.head = (gp_lowrank_head *)at;
    w.p_stride = GP_LOWRANK_STRIDE(rows);
    w.q_stride = GP_LOWRANK_STRIDE(s.columns);
    w.p = (float *)((uint8_t *)at + GP_LOWRANK_HEAD);
    w.work = w.p + w.p_stride * s.rank;
    w.q = w.work + w.p_stride * s.rank;
    return w;
}

static __device__ __forceinline__ uint64_t
lowrank_first(const gp_cuda_part *part)
{
    return (uint64_t)(blockIdx.x - part->first_block);
}

/* Blocks of the grid that a part has. */
static __device__ __forceinline__ uint64_t
lowrank_blocks(const gp_cuda_part *part)
{
    uint64_t n = (part->count + GP_LOWRANK_TILE - 1) / GP_LOWRANK_TILE;

    return n ? n : 1;
}

static __device__ __forceinline__ float
lowrank_power(int n)
{
    return __uint_as_float((uint32_t)(n + 127) << 23);
}

static __device__ __forceinline__ double
lowrank_total(double x)
{
    __shared__ double warp[32];
    uint32_t warps = blockDim.x / 32u;
    double sum = 0;

    for (int d = 16; d; d >>= 1)
        x += __shfl_xor_sync(GP_FULL_WARP, x, d);
    __syncthreads();
    if (threadIdx.x % 32u == 0)
        warp[threadIdx.x / 32u] = x;
    __syncthreads();
    for (uint32_t w = 0; w < warps; w++)
        sum += warp[w];
    return sum;
}

/* The largest of `rank` columns. */
static __device__ uint32_t
lowrank_most_of(const float *x, uint64_t stride, uint64_t n, uint32_t rank)
{
    uint32_t most = 0;

    for (uint32_t k = 0; k < rank; k++)
        for (uint64_t i = threadIdx.x; i < n; i += blockDim.x) {
            uint32_t m = gp_magnitude(x[k * stride + i]);

            most = m > most ? m : most;
        }
    return gp_block_max(most);
}

/* ---- orthonormal columns ---- */

/* orthonormal_column() of powersgd_factors.c. A thread has the same elements of
 * all columns. */
static __device__ bool
lowrank_column(float *x, uint64_t stride, uint64_t n, uint32_t k)
{
    float *column = x + k * stride;

    for (int pass = 0; pass < 4; pass++) {
        double sum = 0;
        float inverse;

        for (uint32_t j = 0; j < k; j++) {
            const float *other = x + j * stride;
            double dot = 0;
            float f;

            for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
                dot += (double)column[i] * (double)other[i];
            f = (float)lowrank_total(dot);
            for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
                column[i] = __fsub_rn(column[i], __fmul_rn(f, other[i]));
        }
        for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
            sum += (double)column[i] * (double)column[i];
        sum = sqrt(lowrank_total(sum));
        if (!(sum >= 0x1p-120))
            break;
        inverse = (float)(1 / sum);
        for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
            column[i] = __fmul_rn(column[i], inverse);
        if (pass && sum > 0.7)
            return true;
    }
    for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
        column[i] = 0;
    return false;
}

/* start_column() */
static __device__ void
lowrank_start(const gp_cuda_stream *stream, uint64_t columns, uint32_t k,
              float *q)
{
    for (uint64_t i = threadIdx.x; i < columns; i += blockDim.x) {
        uint32_t w = gp_words4(stream, k * columns + i).x;
        uint32_t sum =
            (w & 255u) + (w >> 8 & 255u) + (w >> 16 & 255u) + (w >> 24);

        q[i] = __fmul_rn(__int2float_rn((int)sum - 510), 0x1p-8f);
    }
}

/* ---- a whole tensor ---- */

#define LOWRANK_WHOLE                                                 \
    const gp_cuda_part *mine = part + blockIdx.x;                     \
    const lowrank_shape s = lowrank_shape_of(mine, columns, kinds);   \
    const lowrank_whole w = lowrank_whole_of(mine->whole, s.rows, s); \
                                                                      \
    (void)parts

extern "C" __global__ void
gp_cuda_lowrank_begin(const gp_cuda_part *part, uint32_t parts,
                      uint32_t columns, uint32_t add, uint32_t kinds)
{
    LOWRANK_WHOLE;

    (void)add;
    if (threadIdx.x == 0) {
        w.head->most = 0;
        w.head->rows = s.rows;
    }
}

/* The gradient goes to the residual, if there is one; and the largest. */
extern "C" __global__ void
gp_cuda_lowrank_add(const gp_cuda_part *part, uint32_t parts, uint32_t columns,
                    uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = lowrank_first(mine) * GP_LOWRANK_TILE;
    uint64_t end = begin + GP_LOWRANK_TILE < mine->count
                       ? begin + GP_LOWRANK_TILE
                       : mine->count;
    uint32_t most = 0;

    (void)columns;
    (void)add;
    (void)kinds;
    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 4u * blockDim.x) {
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4;
        float4 x =
            gp_load4((mine->source ? mine->source : mine->residual) + i, left);
        uint32_t a, b;

        if (mine->residual && mine->source) {
            x = gp_add4(gp_load4(mine->residual + i, left), x);
            gp_store4(mine->residual + i, x, left);
        }
        a = gp_magnitude(x.x);
        b = gp_magnitude(x.y);
        most = a > most ? a : most;
        most = b > most ? b : most;
        a = gp_magnitude(x.z);
        b = gp_magnitude(x.w);
        most = a > most ? a : most;
        most = b > most ? b : most;
    }
    most = gp_block_max(most);
    if (threadIdx.x == 0)
        atomicMax(&((gp_lowrank_head *)mine->whole)->most, most);
}

/* How the matrix is scaled, and the Q of the last step, or none. */
static __device__ void
lowrank_load(const gp_cuda_part *part, const lowrank_shape &s,
             const lowrank_whole &w)
{
    uint32_t most = w.head->most, last = 0;
    int e = (int)(most >> 23) - 127;

    e = e < -100 ? -100 : e > 100 ? 100 : e;
    if (most == 0 || (most >= LOWRANK_SMALL && most < LOWRANK_LARGE))
        e = 0;
    if (part->target)
        last = lowrank_most_of(part->target, s.columns, s.columns, s.rank);
    for (uint32_t k = 0; k < s.rank; k++)
        for (uint64_t i = threadIdx.x; i < w.q_stride; i += blockDim.x)
            w.q[k * w.q_stride + i] =
                last && last < LOWRANK_MOST && i < s.columns
                    ? part->target[k * s.columns + i]
                    : 0.0f;
    __syncthreads();
    if (threadIdx.x == 0) {
        w.head->nothing = most >= GP_FP32_INFINITY;
        w.head->exponent = e;
        w.head->factor = lowrank_power(-e);
        w.head->shift = 0;
    }
    __syncthreads();
}

/* Q becomes orthonormal; `add`: it is that of the last step. */
extern "C" __global__ void
gp_cuda_lowrank_q(const gp_cuda_part *part, uint32_t parts, uint32_t columns,
                  uint32_t add, uint32_t kinds)
{
    LOWRANK_WHOLE;

    if (!s.pays)
        return;
    if (add)
        lowrank_load(mine, s, w);
    for (uint32_t k = 0; k < s.rank; k++)
        if (!lowrank_column(w.q, w.q_stride, s.columns, k)) {
            lowrank_start(&mine->random, s.columns, k, w.q + k * w.q_stride);
            (void)lowrank_column(w.q, w.q_stride, s.columns, k);
        }
    for (uint32_t k = 0; k < s.rank; k++)
        for (uint64_t i = threadIdx.x; i < s.columns; i += blockDim.x)
            w.q[k * w.q_stride + i] =
                __fmul_rn(w.q[k * w.q_stride + i], w.head->factor);
}

/* P becomes orthonormal, and what M^T is multiplied by. */
extern "C" __global__ void
gp_cuda_lowrank_p(const gp_cuda_part *part, uint32_t parts, uint32_t columns,
                  uint32_t add, uint32_t kinds)
{
    LOWRANK_WHOLE;

    (void)add;
    if (!s.pays)
        return;
    for (uint32_t k = 0; k < s.rank; k++)
        (void)lowrank_column(w.p, w.p_stride, s.rows, k);
    for (uint32_t k = 0; k < s.rank; k++)
        for (uint64_t i = threadIdx.x; i < s.rows; i += blockDim.x)
            w.work[k * w.p_stride + i] =
                __fmul_rn(w.p[k * w.p_stride + i], w.head->factor);
}

/* What is to be remembered of Q, and its range in fp16. */
extern "C" __global__ void
gp_cuda_lowrank_end(const gp_cuda_part *part, uint32_t parts, uint32_t columns,
                    uint32_t add, uint32_t kinds)
{
    LOWRANK_WHOLE;
    uint32_t most;
    int shift;

    (void)add;
    if (!s.pays || w.head->nothing)
        return;
    most = lowrank_most_of(w.q, w.q_stride, s.columns, s.rank);
    shift = (int)(most >> 23) - 127 - 14;
    if (threadIdx.x == 0 && s.half)
        w.head->shift = shift < -126 ? -126 : shift;
    for (uint32_t k = 0; mine->target && most && k < s.rank; k++)
        for (uint64_t i = threadIdx.x; i < s.columns; i += blockDim.x)
            mine->target[k * s.columns + i] = w.q[k * w.q_stride + i];
}

/* ---- messages ---- */

static __device__ __forceinline__ void
lowrank_put(uint8_t *at, uint64_t i, bool half, float x)
{
    if (half)
        ((uint16_t *)at)[i] = (uint16_t)gp_half_from_float(x);
    else
        ((uint32_t *)at)[i] = __float_as_uint(x);
}

static __device__ __forceinline__ uint32_t
lowrank_get(const uint8_t *at, uint64_t i, bool half)
{
    return half ? ((const uint16_t *)at)[i] : ((const uint32_t *)at)[i];
}

/* An element as it travels. */
static __device__ __forceinline__ uint32_t
lowrank_plain(float x)
{
    return gp_is_finite(x) ? __float_as_uint(x) : GP_FP32_NAN;
}

static __device__ void
lowrank_write_plain(const gp_cuda_part *part, bool alone)
{
    uint64_t begin = lowrank_first(part) * GP_LOWRANK_TILE;
    uint64_t end = begin + GP_LOWRANK_TILE < part->count
                       ? begin + GP_LOWRANK_TILE
                       : part->count;
    uint32_t *to = (uint32_t *)(part->bytes + LOWRANK_BYTES);
    float *residual = part->residual;

    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float x = residual && !alone ? residual[i] : part->source[i];

        if (residual && alone)
            residual[i] = x = __fadd_rn(residual[i], x);
        to[i] = lowrank_plain(x);
    }
}

/* The part's rows of P, row by row, and Q; its blocks take turns. */
static __device__ void
lowrank_write_factors(const gp_cuda_part *part, const lowrank_shape &s,
                      const lowrank_whole &w, uint64_t row)
{
    uint64_t p = s.rows * s.rank, all = p + s.columns * s.rank;
    uint8_t *to = part->bytes + LOWRANK_BYTES;
    float factor = lowrank_power(-w.head->shift);

    for (uint64_t v = lowrank_first(part) * blockDim.x + threadIdx.x; v < all;
         v += lowrank_blocks(part) * blockDim.x) {
        float x;

        if (v < p) {
            x = w.p[v % s.rank * w.p_stride + row + v / s.rank];
        } else {
            uint64_t i = v - p;

            x = __fmul_rn(w.q[i / s.columns * w.q_stride + i % s.columns],
                          factor);
        }
        lowrank_put(to, v, s.half, x);
    }
}

extern "C" __global__ void
gp_cuda_lowrank_encode(const gp_cuda_part *part, uint32_t parts,
                       uint32_t columns, uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const lowrank_shape s = lowrank_shape_of(mine, columns, kinds);
    uint32_t mode = LOWRANK_PLAIN, exponent = 0;
    uint64_t length = LOWRANK_BYTES + 4 * mine->count;

    (void)add;
    if (!s.pays) {
        lowrank_write_plain(mine, kinds & LOWRANK_ALONE);
    } else {
        const lowrank_whole w = lowrank_whole_of(
            mine->whole, ((const gp_lowrank_head *)mine->whole)->rows, s);

        mode = w.head->nothing ? LOWRANK_NOTHING : LOWRANK_FACTORS;
        length = LOWRANK_BYTES;
        if (mode == LOWRANK_FACTORS) {
            lowrank_write_factors(mine, s, w, mine->offset / s.columns);
            exponent = (uint32_t)(w.head->exponent + w.head->shift) & 0xffffu;
            length += (s.rows + s.columns) * s.rank * (s.half ? 2 : 4);
        }
    }
    if (blockIdx.x != mine->first_block || threadIdx.x != 0)
        return;
    *(uint32_t *)mine->bytes = mode | exponent << 16;
    if (mine->encoded)
        *mine->encoded = length;
}

/* ---- reading ---- */

/* How a message's products are scaled (read_factors() of powersgd.c). */
struct lowrank_message {
    uint32_t mode;
    bool good;
    int shift;
    float factor;
};

static __device__ __forceinline__ lowrank_message
lowrank_message_of(const gp_cuda_part *part, const lowrank_shape &s,
                   uint64_t length)
{
    uint32_t head = *(const uint32_t *)part->bytes;
    int exponent = (int)head >> 16;
    int most = s.half ? 200 : 100, least = s.half ? -240 : -100;
    lowrank_message m = {head & 0xffu, (head >> 8 & 0xffu) == 0, 0, 1.0f};

    if (m.mode == LOWRANK_FACTORS) {
        m.good = m.good && s.pays && exponent >= least && exponent <= most &&
                 length == LOWRANK_BYTES + (s.rows + s.columns) * s.rank *
                                               (s.half ? 2u : 4u);
        if (s.half)
            m.shift = exponent < -100 ? -100 : exponent > 80 ? 80 : exponent;
        exponent -= m.shift;
        exponent = exponent < -126 ? -126 : exponent;
        if (m.good && exponent)
            m.factor = lowrank_power(exponent);
        return m;
    }
    m.good = m.good && !exponent &&
             (m.mode == LOWRANK_NOTHING
                  ? s.pays && length == LOWRANK_BYTES
                  : m.mode == LOWRANK_PLAIN && !s.pays &&
                        length == LOWRANK_BYTES + 4 * part->count);
    return m;
}

/* Messages may lie in the host's memory, where each byte is to be read once:
 * factors go to the part's space, as fp32. */
static __device__ bool
lowrank_read(const gp_cuda_part *part, const lowrank_shape &s,
             const lowrank_message &m)
{
    uint64_t p = s.rows * s.rank, all = p + s.columns * s.rank;
    const uint8_t *from = part->bytes + LOWRANK_BYTES;
    float *to = (float *)part->space, power = lowrank_power(m.shift);
    bool good = true;

    for (uint64_t v = lowrank_first(part) * blockDim.x + threadIdx.x; v < all;
         v += lowrank_blocks(part) * blockDim.x) {
        uint32_t word = lowrank_get(from, v, s.half);

        if (s.half) {
            good = good && (word & 0x7fffu) <= (v < p ? 0x3c02u : 0x7bffu);
            to[v] = __fmul_rn(gp_float_from_half(word), v < p ? 1.0f : power);
        } else {
            good = good && (word & GP_FP32_MAGNITUDE) <=
                               (v < p ? 0x3f804000u : LOWRANK_MOST);
            to[v] = __uint_as_float(word);
        }
    }
    return good;
}

static __device__ __forceinline__ void
lowrank_read_part(const gp_cuda_part *mine, uint32_t columns, uint32_t kinds,
                  uint64_t length)
{
    const lowrank_shape s = lowrank_shape_of(mine, columns, kinds);
    const lowrank_message m = lowrank_message_of(mine, s, length);
    bool good = m.good;

    if (good && m.mode == LOWRANK_FACTORS)
        good = lowrank_read(mine, s, m);
    if (!good)
        *mine->status = 1;
}

extern "C" __global__ void
gp_cuda_lowrank_read(const gp_cuda_part *part, uint32_t parts, uint32_t columns,
                     uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    (void)add;
    lowrank_read_part(mine, columns, kinds, mine->length);
}

/* ---- products ---- */

#define LOWRANK_ROWS 8u /* that a thread has at a time, of four columns */

/* What becomes of decoded elements. */
struct lowrank_sink {
    float *to;
    bool add, subtract;

    __device__ __forceinline__ void
    put(uint64_t i, float x) const
    {
        if (subtract)
            to[i] = gp_remainder_of(to[i], x);
        else
            to[i] = add ? __fadd_rn(to[i], x) : x;
    }
};

/* Beyond the usual range: one step more, and Inf becomes the largest. */
static __device__ __forceinline__ float
lowrank_scaled(float x, float factor)
{
    const float most = __uint_as_float(0x7f7fffffu);

    if (factor == 1.0f)
        return x;
    x = __fmul_rn(x, factor);
    return x > most ? most : x < -most ? -most : x;
}

/* Rows from `row` on, of columns first, first + by and so on. */
static __device__ __forceinline__ void
lowrank_tile(const gp_cuda_part *part, const lowrank_shape &s, uint64_t row,
             uint64_t first, uint32_t by, float factor,
             const lowrank_sink &sink)
{
    const float *p = (const float *)part->space;
    const float *q = p + s.rows * s.rank;
    float sum[LOWRANK_ROWS][4];

    for (uint32_t k = 0; k < s.rank; k++) {
        float y[4];

        GP_UNROLL(4)
        for (uint32_t c = 0; c < 4; c++) {
            uint64_t j = first + c * by;

            y[c] = j < s.columns ? q[k * s.columns + j] : 0.0f;
        }
        GP_UNROLL(8)
        for (uint32_t r = 0; r < LOWRANK_ROWS; r++) {
            float f = row + r < s.rows ? p[(row + r) * s.rank + k] : 0.0f;

            GP_UNROLL(4)
            for (uint32_t c = 0; c < 4; c++) {
                float x = __fmul_rn(y[c], f);

                sum[r][c] = k ? __fadd_rn(sum[r][c], x) : x;
            }
        }
    }
    GP_UNROLL(8)
    for (uint32_t r = 0; r < LOWRANK_ROWS; r++)
        GP_UNROLL(4)
    for (uint32_t c = 0; c < 4; c++) {
        uint64_t j = first + c * by, i = (row + r) * s.columns + j - s.column;

        /* Before the first element it goes round. */
        if (j < s.columns && i < part->count)
            sink.put(i, lowrank_scaled(sum[r][c], factor));
    }
}

/* Tiles of the matrix: `by` threads side by side, each with four columns. */
static __device__ void
lowrank_product(const gp_cuda_part *part, const lowrank_shape &s, float factor,
                const lowrank_sink &sink)
{
    uint32_t by = 32, groups;
    uint64_t wide, high, tiles;

    while (by < blockDim.x && 4 * by < s.columns)
        by *= 2;
    groups = blockDim.x / by;
    wide = (s.columns + 4 * by - 1) / (4 * by);
    high = (s.rows + groups * LOWRANK_ROWS - 1) / (groups * LOWRANK_ROWS);
    tiles = wide * high;
    for (uint64_t t = lowrank_first(part); t < tiles; t += lowrank_blocks(part))
        lowrank_tile(part, s,
                     (t / wide * groups + threadIdx.x / by) * LOWRANK_ROWS,
                     t % wide * 4 * by + threadIdx.x % by, by, factor, sink);
}

/* Elements that are not products. False for those that no encoder writes. */
static __device__ bool
lowrank_others(const gp_cuda_part *part, uint32_t mode,
               const lowrank_sink &sink)
{
    const uint32_t *from = (const uint32_t *)(part->bytes + LOWRANK_BYTES);
    uint64_t begin = lowrank_first(part) * GP_LOWRANK_TILE;
    uint64_t end = begin + GP_LOWRANK_TILE < part->count
                       ? begin + GP_LOWRANK_TILE
                       : part->count;
    bool good = true;

    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        uint32_t b = mode == LOWRANK_PLAIN ? from[i] : GP_FP32_NAN;

        good = good &&
               (b == GP_FP32_NAN || (b & GP_FP32_MAGNITUDE) < GP_FP32_INFINITY);
        sink.put(i, __uint_as_float(b));
    }
    return good;
}

static __device__ __forceinline__ void
lowrank_decode_part(const gp_cuda_part *mine, uint32_t columns, uint32_t kinds,
                    uint64_t length, const lowrank_sink &sink)
{
    const lowrank_shape s = lowrank_shape_of(mine, columns, kinds);
    const lowrank_message m = lowrank_message_of(mine, s, length);

    if (!m.good)
        return; /* which has been said */
    if (m.mode == LOWRANK_FACTORS)
        lowrank_product(mine, s, m.factor, sink);
    else if (!lowrank_others(mine, m.mode, sink))
        *mine->status = 1;
}

extern "C" __global__ void
gp_cuda_lowrank_decode(const gp_cuda_part *part, uint32_t parts,
                       uint32_t columns, uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    lowrank_decode_part(mine, columns, kinds, mine->length,
                        lowrank_sink{mine->target, add != 0, false});
}

/* ---- error feedback ---- */

/* The length of what was just encoded. */
static __device__ __forceinline__ uint64_t
lowrank_own_length(const gp_cuda_part *part, uint32_t columns, uint32_t kinds)
{
    const lowrank_shape s = lowrank_shape_of(part, columns, kinds);
    uint32_t mode = *(const uint32_t *)part->bytes & 0xffu;

    if (mode == LOWRANK_PLAIN)
        return LOWRANK_BYTES + 4 * part->count;
    if (mode == LOWRANK_NOTHING)
        return LOWRANK_BYTES;
    return LOWRANK_BYTES + (s.rows + s.columns) * s.rank * (s.half ? 2u : 4u);
}

extern "C" __global__ void
gp_cuda_lowrank_reread(const gp_cuda_part *part, uint32_t parts,
                       uint32_t columns, uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    (void)add;
    if (mine->residual)
        lowrank_read_part(mine, columns, kinds,
                          lowrank_own_length(mine, columns, kinds));
}

extern "C" __global__ void
gp_cuda_lowrank_feed_back(const gp_cuda_part *part, uint32_t parts,
                          uint32_t columns, uint32_t add, uint32_t kinds)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    (void)add;
    if (mine->residual)
        lowrank_decode_part(mine, columns, kinds,
                            lowrank_own_length(mine, columns, kinds),
                            lowrank_sink{mine->residual, false, true});
}
