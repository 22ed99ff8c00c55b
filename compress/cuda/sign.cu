/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign.cu - the codecs sign, onebit and vote: one bit per element (sign.c,
 * vote.c).
 *
 * With blocks, half a warp has one: a bit of a ballot is an element's sign, and
 * the 16 lanes are the 16 partial sums of the reference. Of whole chunks three
 * kernels make a message: signs and the sums of tiles, levels, and what follows
 * from the levels.
 */
#include "compress/cuda/sums.cuh"

#define SIGN_WARPS 8u
#define SIGN_VOTE  7 /* in place of a sum: levels are 1 and -1 */

struct sign_format {
    uint32_t block; /* 0: all elements */
    int what;
    uint32_t stored; /* levels of a block */
    float threshold;
};

struct sign_levels {
    float above, below;
};

static __device__ __forceinline__ uint64_t
sign_blocks(const sign_format &f, uint64_t count)
{
    return f.block ? gp_over(count + f.block - 1, f.block) : count != 0;
}

static __device__ __forceinline__ uint8_t *
sign_bits(const sign_format &f, uint8_t *bytes, uint64_t count)
{
    return bytes +
           (f.what == SIGN_VOTE ? 4 : 4 * f.stored * sign_blocks(f, count));
}

static __device__ __forceinline__ float
sign_level(double mean)
{
    return fabs(mean) < 0x1p-126 ? 0.0f : (float)mean;
}

static __device__ __forceinline__ sign_levels
sign_levels_of(const sign_format &f, const gp_stats &s, uint64_t n)
{
    float nan = __uint_as_float(GP_FP32_NAN), level = 1;

    if (s.most >= GP_FP32_INFINITY)
        return {nan, nan};
    if (f.what == SUM_CLASSES)
        return {s.below < n ? sign_level(s.b / (double)(n - s.below)) : 0.0f,
                s.below ? sign_level(s.a / (double)s.below) : 0.0f};
    if (f.what == SUM_SQUARES)
        level = sign_level(sqrt(s.a / (double)n));
    else if (f.what == SUM_MAGNITUDES)
        level = sign_level(s.a / (double)n);
    return {level, -level};
}

static __device__ __forceinline__ bool
sign_bitless(sign_levels l)
{
    return l.above != l.above || (l.above == 0 && l.below == 0);
}

static __device__ __forceinline__ void
sign_put_levels(const sign_format &f, uint8_t *bytes, uint64_t block,
                sign_levels l)
{
    uint32_t *at = (uint32_t *)bytes + f.stored * block;

    at[0] = __float_as_uint(l.above);
    if (f.stored == 2)
        at[1] = __float_as_uint(l.below);
}

/* ---- blocks ---- */

/* What is left of earlier steps, and in its place the sum. */
static __device__ __forceinline__ void
sign_add(float *residual, uint64_t begin, uint64_t end, float x[16])
{
    float r[16];

    GP_UNROLL(16)
    for (uint32_t t = 0; t < 16; t++)
        r[t] = begin + 16 * t < end ? residual[begin + 16 * t] : 0.0f;
    GP_UNROLL(16)
    for (uint32_t t = 0; t < 16; t++) {
        x[t] = __fadd_rn(x[t], r[t]);
        if (begin + 16 * t < end)
            residual[begin + 16 * t] = x[t];
    }
}

/* Sixteen rows of 16 elements: signs to `bits`, and sums. How many are below
 * matters for classes alone, and each lane has those of its row. */
template <int what>
static __device__ __forceinline__ void
sign_rows(const float *source, float *residual, float threshold, uint64_t begin,
          uint64_t end, uint8_t *bits, gp_stats *s)
{
    uint32_t lane = threadIdx.x % 16u, half = threadIdx.x % 32u / 16u * 16u;
    uint32_t left = begin >= end        ? 0
                    : end - begin < 256 ? (uint32_t)(end - begin)
                                        : 256;
    uint32_t mine = 0;
    float x[16];

    source += begin + lane;
    if (__all_sync(GP_FULL_WARP, left == 256)) {
        GP_UNROLL(16)
        for (uint32_t t = 0; t < 16; t++)
            x[t] = source[16 * t];
    } else {
        GP_UNROLL(16)
        for (uint32_t t = 0; t < 16; t++)
            x[t] = 16 * t + lane < left ? source[16 * t] : 0.0f;
    }
    if (residual)
        sign_add(residual, begin + lane, end, x);
    GP_UNROLL(16)
    for (uint32_t t = 0; t < 16; t++) {
        bool below = x[t] < threshold;
        uint32_t all = __ballot_sync(GP_FULL_WARP, below);

        s->most = gp_magnitude(x[t]) > s->most ? gp_magnitude(x[t]) : s->most;
        gp_sum_one(s, what, below, x[t]);
        mine = lane == t ? all : mine;
    }
    /* What is not there is 0, which adds nothing but may be below. */
    left = left > 16 * lane ? left - 16 * lane : 0;
    mine = mine >> half & (left < 16 ? (1u << left) - 1 : 0xffffu);
    if (what == SUM_CLASSES)
        s->below += __popc(mine);
    if (left > 8)
        ((uint16_t *)bits)[lane] = (uint16_t)mine;
    else if (left)
        bits[2 * lane] = (uint8_t)mine;
}

static __device__ __forceinline__ void
sign_clear(uint8_t *bits, uint64_t n)
{
    for (uint64_t i = threadIdx.x % 16u; i < (n + 7) / 8; i += 16)
        bits[i] = 0;
}

static __device__ __forceinline__ void
sign_feed_back(float *residual, uint64_t begin, uint64_t end, sign_levels l,
               float threshold)
{
    bool nan = l.above != l.above;

    for (uint64_t i = begin + threadIdx.x % 16u; i < end; i += 16) {
        float u = residual[i];

        residual[i] =
            nan ? 0.0f : __fsub_rn(u, u < threshold ? l.below : l.above);
    }
}

/* All rows of a block. */
template <int what>
static __device__ __forceinline__ void
sign_block(const gp_cuda_part *part, const sign_format &f, uint64_t begin,
           uint64_t end, uint8_t *bits, gp_stats *s)
{
    const float *source = part->source;
    float *residual = part->residual;

    for (uint64_t at = 0; at < f.block; at += 256)
        sign_rows<what>(source, residual, f.threshold, begin + at, end,
                        bits + at / 8, s);
}

/* A block of the format per half of a warp. */
extern "C" __global__ void __launch_bounds__(32 * SIGN_WARPS, 3)
    gp_cuda_sign_encode(const gp_cuda_part *part, uint32_t parts,
                        uint32_t block, uint32_t add, int what, uint32_t stored,
                        float threshold)
{
    const sign_format f = {block, what, stored, threshold};
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t pair = (uint64_t)(blockIdx.x - mine->first_block) * SIGN_WARPS +
                    threadIdx.x / 32u;
    uint64_t b = 2 * pair + threadIdx.x % 32u / 16u, count = mine->count;
    uint64_t begin = b * block < count ? b * block : count;
    uint64_t end = begin + block < count ? begin + block : count;
    uint8_t *bits = sign_bits(f, mine->bytes, count) + begin / 8;
    gp_stats s = {0, 0, 0, 0};
    sign_levels l;

    (void)add;
    if (2 * pair * block >= count)
        return;
    if (what == SUM_MAGNITUDES)
        sign_block<SUM_MAGNITUDES>(mine, f, begin, end, bits, &s);
    else if (what == SUM_SQUARES)
        sign_block<SUM_SQUARES>(mine, f, begin, end, bits, &s);
    else if (what == SUM_CLASSES)
        sign_block<SUM_CLASSES>(mine, f, begin, end, bits, &s);
    else
        sign_block<SUM_NOTHING>(mine, f, begin, end, bits, &s);
    s.a = gp_half_total(s.a);
    s.b = gp_half_total(s.b);
    for (int d = 8; d; d >>= 1) {
        uint32_t other = __shfl_xor_sync(GP_FULL_WARP, s.most, d);

        s.most = other > s.most ? other : s.most;
        s.below += __shfl_xor_sync(GP_FULL_WARP, s.below, d);
    }
    __syncwarp(); /* bits that other lanes wrote may be cleared */
    if (begin >= end)
        return;
    l = sign_levels_of(f, s, end - begin);
    if (threadIdx.x % 16u == 0)
        sign_put_levels(f, mine->bytes, b, l);
    if (sign_bitless(l))
        sign_clear(bits, end - begin);
    if (mine->residual && (!sign_bitless(l) || l.above != l.above))
        sign_feed_back(mine->residual, begin, end, l, threshold);
}

/* ---- whole chunks ---- */

extern "C" __global__ void
gp_cuda_sign_scan(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                  uint32_t add, int what, uint32_t stored, float threshold)
{
    const sign_format f = {block, what, stored, threshold};
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t tile = blockIdx.x - mine->first_block, count = mine->count;
    uint64_t begin = tile * GP_STATS_TILE;
    uint64_t end =
        begin + GP_STATS_TILE < count ? begin + GP_STATS_TILE : count;
    uint8_t *bits = sign_bits(f, mine->bytes, count);
    gp_stats s = {0, 0, 0, 0};

    (void)add;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), byte = 0, most;
        float x[8];

        gp_gather8(mine->source, mine->residual, i, left, x);
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            bool below = j < left && x[j] < threshold;

            byte |= (uint32_t)below << j;
            gp_sum_one(&s, what, below, x[j]);
        }
        most = gp_most8(x);
        s.most = most > s.most ? most : s.most;
        s.below += __popc(byte);
        bits[i / 8] = (uint8_t)byte;
        if (mine->residual)
            gp_store8(mine->residual + i, left, x);
    }
    gp_block_stats(&s);
    if (threadIdx.x == 0 && begin < end)
        ((gp_stats *)mine->space)[1 + tile] = s;
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_sign_settle(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                    uint32_t add, int what, uint32_t stored, float threshold)
{
    const sign_format f = {block, what, stored, threshold};
    const gp_cuda_part *mine = part + blockIdx.x;
    gp_stats s = gp_part_stats(mine);

    (void)parts;
    (void)add;
    if (threadIdx.x != 0)
        return;
    *(sign_levels *)mine->space = sign_levels_of(f, s, mine->count);
    if (what == SIGN_VOTE)
        *(uint32_t *)mine->bytes = s.most < GP_FP32_INFINITY;
    else if (mine->count)
        sign_put_levels(f, mine->bytes, 0, *(sign_levels *)mine->space);
}

extern "C" __global__ void
gp_cuda_sign_finish(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                    uint32_t add, int what, uint32_t stored, float threshold)
{
    const sign_format f = {block, what, stored, threshold};
    const gp_cuda_part *mine = gp_find_part(part, parts);
    sign_levels l = *(const sign_levels *)mine->space;
    uint64_t tile = blockIdx.x - mine->first_block, count = mine->count;
    uint64_t begin = tile * GP_STATS_TILE;
    uint64_t end =
        begin + GP_STATS_TILE < count ? begin + GP_STATS_TILE : count;
    bool none = sign_bitless(l), nan = l.above != l.above;

    (void)add;
    if (!none && !mine->residual)
        return;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end);
        float u[8];

        if (none)
            sign_bits(f, mine->bytes, count)[i / 8] = 0;
        if (!mine->residual || (none && !nan))
            continue;
        gp_load8(mine->residual + i, left, u);
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            u[j] = nan ? 0.0f
                       : __fsub_rn(u[j], u[j] < threshold ? l.below : l.above);
        gp_store8(mine->residual + i, left, u);
    }
}

/* ---- decode ---- */

static __device__ __forceinline__ bool
sign_normal(uint32_t b)
{
    return b == 0 || (b >= 0x00800000u && b < GP_FP32_INFINITY);
}

/* From the words that a message has, the last of which is the first where it
 * has but one. */
static __device__ __forceinline__ bool
sign_get_levels(const sign_format &f, uint32_t first, uint32_t last,
                sign_levels *l)
{
    last = f.stored == 2 ? last : 0;
    l->above = __uint_as_float(first);
    l->below = __uint_as_float(f.stored == 2 ? last : first ^ 0x80000000u);
    if (first == GP_FP32_NAN)
        return f.stored == 1 || last == GP_FP32_NAN;
    if (f.what == SUM_NOTHING)
        return first == 0x3f800000u;
    return sign_normal(first) &&
           (last == 0 ||
            (last > 0x80000000u && sign_normal(last & GP_FP32_MAGNITUDE)));
}

/* Of eight elements. */
struct sign_place {
    uint64_t levels, bits;
};

struct sign_words {
    uint32_t first, last, bits;
};

struct sign_decoder {
    typedef sign_place place;
    typedef sign_words words;
    static constexpr uint32_t at_once = 4;
    const sign_format &f;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        uint32_t left = gp_left8(i, part.count);
        place at;
        words w;

        (void)find(part, i, &at);
        w = load(message.bytes, at);
        return values(w, at, x) && w.bits >> left == 0;
    }

    __device__ __forceinline__ bool
    find(const gp_cuda_part &part, uint64_t i, place *at) const
    {
        uint64_t block = f.block ? gp_over(i, f.block) : 0;

        at->levels = 4 * f.stored * block;
        at->bits = 4 * f.stored * sign_blocks(f, part.count) + i / 8;
        return true;
    }

    __device__ __forceinline__ words
    load(const uint8_t *bytes, const place &at) const
    {
        const uint32_t *levels = (const uint32_t *)(bytes + at.levels);

        return {levels[0], levels[f.stored - 1], bytes[at.bits]};
    }

    __device__ __forceinline__ bool
    values(const words &w, const place &, float x[8]) const
    {
        sign_levels l;
        bool good = sign_get_levels(f, w.first, w.last, &l);

        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            x[j] = w.bits >> j & 1 ? l.below : l.above;
        return good && !(w.bits && sign_bitless(l));
    }
};

/* Counts of votes in as many planes as they have digits. */
struct vote_decoder {
    uint32_t workers;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        uint32_t votes = *(const uint32_t *)message.bytes;
        uint32_t digits = votes ? 32 - (uint32_t)__clz((int)votes) : 1;
        uint64_t stride = (part.count + 7) / 8;
        uint32_t left = gp_left8(i, part.count), number[8] = {0};
        bool good = votes <= workers && message.length == 4 + stride * digits;

        for (uint32_t k = 0; good && left && k < digits; k++) {
            uint32_t byte = message.bytes[4 + k * stride + i / 8];

            good = byte >> left == 0;
            GP_UNROLL(8)
            for (int j = 0; j < 8; j++)
                number[j] |= (byte >> j & 1) << k;
        }
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++) {
            good = good && number[j] <= votes;
            x[j] = votes ? __fsub_rn(__uint2float_rn(votes),
                                     __fmul_rn(2, __uint2float_rn(number[j])))
                         : __uint_as_float(GP_FP32_NAN);
        }
        return good;
    }
};

extern "C" __global__ void
gp_cuda_sign_decode(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                    uint32_t add, int what, uint32_t stored, float threshold)
{
    const sign_format f = {block, what, stored, threshold};

    gp_decode_all(part, parts, add, sign_decoder{f});
}

extern "C" __global__ void __launch_bounds__(256, 4)
    gp_cuda_sign_fold(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                      uint32_t add, int what, uint32_t stored, float threshold)
{
    const sign_format f = {block, what, stored, threshold};

    gp_fold_all<true>(part, parts, add, sign_decoder{f});
}

/* An empty chunk has a head as well. */
static __device__ __forceinline__ void
vote_check_empty(const gp_cuda_part *part, uint32_t parts, uint32_t workers)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    if (mine->count == 0 && mine->bytes && threadIdx.x == 0 &&
        *(const uint32_t *)mine->bytes > workers)
        *mine->status = 1;
}

extern "C" __global__ void
gp_cuda_vote_decode(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                    uint32_t add, int what, uint32_t stored, float threshold,
                    uint32_t workers)
{
    (void)block;
    (void)what;
    (void)stored;
    (void)threshold;
    vote_check_empty(part, parts, workers);
    gp_decode_all(part, parts, add, vote_decoder{workers});
}

extern "C" __global__ void
gp_cuda_vote_fold(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                  uint32_t add, int what, uint32_t stored, float threshold,
                  uint32_t workers)
{
    (void)block;
    (void)what;
    (void)stored;
    (void)threshold;
    gp_fold_all<false>(part, parts, add, vote_decoder{workers});
}
