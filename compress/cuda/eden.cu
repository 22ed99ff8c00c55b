/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eden.cu - the codecs drive and eden: a rotated block on a few levels
 * (eden.c).
 *
 * A block of the grid has one of the format, in shared memory or in the part's
 * space, from the rotation to the planes, and with feedback to the rotation
 * back. Sums are those of the reference: 16 lanes have its partial sums.
 */
#include "compress/cuda/rotate.cuh"
#include "compress/cuda/sums.cuh"

#define EDEN_SECOND_TURN ((uint64_t)1 << 62)
/* Of a sum, in a piece of shared memory. */
#define EDEN_TERMS (GP_ROTATE_PIECE / 2)

#define EDEN_WORDS                                                    \
    uint32_t block, uint32_t add, uint32_t kinds, float l0, float l1, \
        float l2, float l3, float l4, float l5, float l6, float l7

struct eden_tables {
    float level[8], bound[8];
};

struct eden_format {
    uint32_t block, bits;
    bool least;
};

/* One block at work; its size need not be a power of two. */
struct eden_block {
    uint64_t at;
    uint32_t size, power, stride;
    uint8_t *bytes;
};

static __device__ __forceinline__ float *
eden_shared(void)
{
    GP_DYNAMIC_SHARED(float4, words);

    return (float *)words;
}

static __device__ __forceinline__ eden_block
eden_block_of(const gp_cuda_part *part, const eden_format &f)
{
    uint64_t b = blockIdx.x - part->first_block, left;
    eden_block out;

    out.at = b * f.block;
    left = part->count - out.at;
    out.size = left < f.block ? (uint32_t)left : f.block;
    out.power = 1u << (31 - __clz((int)out.size));
    out.stride = (out.size + 7) / 8;
    out.bytes = part->bytes + b * (4 + f.bits * (f.block / 8));
    return out;
}

template <typename elements>
static __device__ __forceinline__ void
eden_rotate(const gp_cuda_part *part, const eden_block &b, const elements &s)
{
    uint32_t rest = b.size - b.power;
    uint64_t e = part->offset + b.at;

    gp_flip_all(s, 0, b.power, &part->random, e);
    gp_rotate(s, 0, b.power);
    if (!rest)
        return;
    gp_flip_all(s, rest, b.power, &part->random, (e + rest) ^ EDEN_SECOND_TURN);
    gp_rotate(s, rest, b.power);
}

template <typename elements>
static __device__ __forceinline__ void
eden_rotate_back(const gp_cuda_part *part, const eden_block &b,
                 const elements &s)
{
    uint32_t rest = b.size - b.power;
    uint64_t e = part->offset + b.at;

    if (rest) {
        gp_rotate(s, rest, b.power);
        gp_flip_all(s, rest, b.power, &part->random,
                    (e + rest) ^ EDEN_SECOND_TURN);
    }
    gp_rotate(s, 0, b.power);
    gp_flip_all(s, 0, b.power, &part->random, e);
}

/* ---- levels ---- */

static __device__ __forceinline__ uint32_t
eden_code(const eden_tables *t, uint32_t bits, float x, float factor)
{
    float m = __uint_as_float(gp_magnitude(__fmul_rn(x, factor)));
    uint32_t code = 0;

    for (uint32_t j = 0; j + 1 < 1u << (bits - 1); j++)
        code += t->bound[j] < m;
    return code | (x < 0 ? 1u << (bits - 1) : 0);
}

static __device__ __forceinline__ float
eden_level(const eden_tables *t, uint32_t bits, uint32_t code)
{
    float level = t->level[code & ((1u << (bits - 1)) - 1)];

    return code >> (bits - 1) ? -level : level;
}

/* What the sums of a block are of. */
enum { EDEN_SQUARES = 0, EDEN_ALONG = 1, EDEN_LEVELS = 2 };

static __device__ __forceinline__ double
eden_term(float x, const eden_tables *t, uint32_t bits, float factor, int what)
{
    double y = (double)x;

    if (what == EDEN_SQUARES)
        return y * y;
    y = (double)eden_level(t, bits, eden_code(t, bits, x, factor));
    return (what == EDEN_LEVELS ? y : (double)x) * y;
}

/* What 16 threads have of the terms, and the others nothing. */
static __device__ __forceinline__ double
eden_partial(const gp_near &s, uint32_t size, const eden_tables *t,
             uint32_t bits, float factor, int what)
{
    double p = 0;

    for (uint32_t i = threadIdx.x; threadIdx.x < 16 && i < size; i += 16)
        p += eden_term(s[i], t, bits, factor, what);
    return p;
}

/* All threads make terms, which are exact. */
static __device__ __forceinline__ double
eden_partial(const gp_far &s, uint32_t size, const eden_tables *t,
             uint32_t bits, float factor, int what)
{
    double *term = (double *)s.piece, p = 0;

    for (uint32_t at = 0; at < size; at += EDEN_TERMS) {
        uint32_t n = size - at < EDEN_TERMS ? size - at : EDEN_TERMS;

        __syncthreads();
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
            term[i] = eden_term(s[at + i], t, bits, factor, what);
        __syncthreads();
        for (uint32_t i = threadIdx.x; threadIdx.x < 16 && i < n; i += 16)
            p += term[i];
    }
    return p;
}

template <typename elements>
static __device__ __forceinline__ double
eden_sum(const elements &s, uint32_t size, const eden_tables *t, uint32_t bits,
         float factor, int what)
{
    __shared__ double total;
    double p;

    __syncthreads();
    p = eden_partial(s, size, t, bits, factor, what);
    if (threadIdx.x < 32)
        p = gp_half_total(p);
    if (threadIdx.x == 0)
        total = p;
    __syncthreads();
    return total;
}

static __device__ __forceinline__ void
eden_fill_tables(eden_tables *t, float l0, float l1, float l2, float l3,
                 float l4, float l5, float l6, float l7)
{
    if (threadIdx.x == 0) {
        float l[8] = {l0, l1, l2, l3, l4, l5, l6, l7};

        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            t->level[j] = l[j];
        GP_UNROLL(8)
        for (int j = 0; j < 7; j++)
            t->bound[j] = __fmul_rn(__fadd_rn(l[j], l[j + 1]), 0.5f);
        t->bound[7] = 0;
    }
    __syncthreads();
}

/* ---- encode ---- */

/* S of what is in shared memory, rotated; 0 when it has none. */
template <typename elements>
static __device__ __forceinline__ float
eden_scale(const eden_format &f, const eden_tables *t, const elements &s,
           uint32_t size, double enlarge, float *factor)
{
    double squares = eden_sum(s, size, t, f.bits, 0, EDEN_SQUARES);
    double rms = sqrt(squares / (double)size), along, scale;

    if (rms < 0x1p-126)
        return 0;
    *factor = (float)(1 / rms);
    along = eden_sum(s, size, t, f.bits, *factor, EDEN_ALONG);
    if (f.least)
        scale = along / eden_sum(s, size, t, f.bits, *factor, EDEN_LEVELS);
    else
        scale = squares / along;
    scale = scale * enlarge;
    if (scale < 0x1p-126)
        return 0;
    return scale > 0x1.fffffep127 ? 0x1.fffffep127f : (float)scale;
}

/* Codes into planes, or none. */
template <typename elements>
static __device__ __forceinline__ void
eden_put_planes(const eden_block &b, uint32_t bits, const eden_tables *t,
                const elements &s, float factor, bool none)
{
    for (uint32_t i = threadIdx.x; i < b.stride; i += blockDim.x) {
        uint32_t planes = 0; /* a byte of each */

        for (uint32_t j = 0; !none && j < 8 && 8 * i + j < b.size; j++) {
            uint32_t code = eden_code(t, bits, s[8 * i + j], factor);

            for (uint32_t k = 0; k < bits; k++)
                planes |= (code >> k & 1u) << (8 * k + j);
        }
        for (uint32_t k = 0; k < bits; k++)
            b.bytes[4 + k * b.stride + i] = (uint8_t)(planes >> 8 * k);
    }
}

/* Levels of the planes times S into shared memory, and rotated back. */
template <typename elements>
static __device__ __forceinline__ void
eden_restore(const gp_cuda_part *part, const eden_format &f,
             const eden_tables *t, const eden_block &b, float scale,
             const elements &s)
{
    bool huge = scale >= __uint_as_float(GP_ROTATE_HUGE);
    float unit = huge ? __fmul_rn(scale, 0x1p-32f) : scale;

    __syncthreads();
    for (uint32_t i = threadIdx.x; i < b.size; i += blockDim.x) {
        uint32_t code = 0;
        float level;

        for (uint32_t k = 0; k < f.bits; k++)
            code |= (uint32_t)(b.bytes[4 + k * b.stride + i / 8] >> i % 8 & 1)
                    << k;
        level = t->level[code & ((1u << (f.bits - 1)) - 1)];
        level = __fmul_rn(level, unit);
        s[i] = code >> (f.bits - 1) ? -level : level;
    }
    eden_rotate_back(part, b, s);
    for (uint32_t i = threadIdx.x; huge && i < b.size; i += blockDim.x)
        s[i] = gp_enlarge(s[i]);
    __syncthreads();
}

/* What is encoded, to shared memory; its largest magnitude. */
template <typename elements>
static __device__ __forceinline__ uint32_t
eden_gather(const gp_cuda_part *part, const eden_block &b, const elements &s)
{
    uint32_t most = 0;

    for (uint32_t i = threadIdx.x; i < b.size; i += blockDim.x) {
        float x = part->source[b.at + i];

        if (part->residual) {
            x = __fadd_rn(part->residual[b.at + i], x);
            part->residual[b.at + i] = x;
        }
        most = gp_magnitude(x) > most ? gp_magnitude(x) : most;
        s[i] = x;
    }
    return gp_block_max(most);
}

template <typename elements>
static __device__ __forceinline__ void
eden_encode(const gp_cuda_part *mine, const eden_format &f,
            const eden_tables *t, bool)
{
    eden_block b = eden_block_of(mine, f);
    const elements s = elements::of(eden_shared(), (float *)mine->space + b.at);
    float scale = __uint_as_float(GP_FP32_NAN), factor = 0;
    uint32_t most;

    most = eden_gather(mine, b, s);
    if (most < GP_FP32_INFINITY) {
        bool huge = most >= GP_ROTATE_HUGE;

        for (uint32_t i = threadIdx.x; huge && i < b.size; i += blockDim.x)
            s[i] = __fmul_rn(s[i], 0x1p-32f);
        eden_rotate(mine, b, s);
        scale = eden_scale(f, t, s, b.size, huge ? 0x1p32 : 1, &factor);
    }
    if (threadIdx.x == 0)
        *(float *)b.bytes = scale;
    eden_put_planes(b, f.bits, t, s, factor, !(scale > 0));
    if (!mine->residual || scale == 0)
        return;
    __syncthreads();
    if (scale > 0)
        eden_restore(mine, f, t, b, scale, s);
    for (uint32_t i = threadIdx.x; i < b.size; i += blockDim.x)
        mine->residual[b.at + i] =
            scale > 0 ? gp_remainder_of(mine->residual[b.at + i], s[i]) : 0.0f;
}

/* Behind a selection there may be fewer blocks. */
static __device__ __forceinline__ bool
eden_is_there(const gp_cuda_part *part, const eden_format &f)
{
    return (uint64_t)(blockIdx.x - part->first_block) * f.block < part->count;
}

#define EDEN_KERNEL(name, body, elements)                                   \
    extern "C" __global__ void __launch_bounds__(1024) gp_cuda_eden_##name( \
        const gp_cuda_part *part, uint32_t parts, EDEN_WORDS)               \
    {                                                                       \
        __shared__ eden_tables tables;                                      \
        const eden_format f = {block, kinds & 15u, (kinds & 16u) != 0};     \
        const gp_cuda_part *mine = gp_find_part(part, parts);               \
                                                                            \
        eden_fill_tables(&tables, l0, l1, l2, l3, l4, l5, l6, l7);          \
        if (eden_is_there(mine, f))                                         \
            body<elements>(mine, f, &tables, add);                          \
    }

EDEN_KERNEL(encode, eden_encode, gp_near)
EDEN_KERNEL(far_encode, eden_encode, gp_far)

/* ---- decode ---- */

static __device__ __forceinline__ bool
eden_valid(const eden_block &b, uint32_t bits, uint32_t scale)
{
    bool none = scale == 0 || scale == GP_FP32_NAN, good = true;

    for (uint32_t i = threadIdx.x; i < bits * b.stride; i += blockDim.x) {
        uint32_t byte = b.bytes[4 + i];

        good =
            good && !(none && byte) &&
            !(i % b.stride == b.stride - 1 && b.size % 8 && byte >> b.size % 8);
    }
    return good && (none || (scale >= 0x00800000u && scale < GP_FP32_INFINITY));
}

template <typename elements>
static __device__ __forceinline__ void
eden_decode(const gp_cuda_part *mine, const eden_format &f,
            const eden_tables *t, bool add)
{
    eden_block b = eden_block_of(mine, f);
    const elements s = elements::of(eden_shared(), (float *)mine->space + b.at);
    float scale = *(const float *)b.bytes;

    if (!eden_valid(b, f.bits, __float_as_uint(scale)))
        *mine->status = 1;
    if (scale > 0)
        eden_restore(mine, f, t, b, scale, s);
    for (uint32_t i = threadIdx.x; i < b.size; i += blockDim.x) {
        float x = scale > 0 ? s[i] : scale;

        mine->target[b.at + i] = add ? __fadd_rn(mine->target[b.at + i], x) : x;
    }
}

EDEN_KERNEL(decode, eden_decode, gp_near)
EDEN_KERNEL(far_decode, eden_decode, gp_far)
