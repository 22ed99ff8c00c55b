/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.cu - the codecs qsgd, natural-dither and terngrad (random.c): each
 * element goes at random to one of two levels.
 *
 * With blocks, a warp takes two: half of it sums each, in the order of the
 * reference, then all of it encodes one after the other. Of whole chunks three
 * kernels make a message: the sums of tiles, a scale, and the codes.
 */
#include "compress/cuda/philox.cuh"
#include "compress/cuda/sums.cuh"

#define RANDOM_WARPS 8u

struct random_format {
    uint32_t block; /* 0: all elements */
    uint32_t levels, width;
    bool l2, powers, centred;
    double clip;
};

#define RANDOM_WORDS \
    uint32_t block, uint32_t add, uint32_t kinds, uint32_t low, uint32_t high
#define RANDOM_FORMAT                                                     \
    {                                                                     \
        block, kinds & 255u, kinds >> 8 & 15u, (kinds & 1u << 16) != 0,   \
            (kinds & 1u << 17) != 0, (kinds & 1u << 18) != 0,             \
            __longlong_as_double((long long)((uint64_t)high << 32 | low)) \
    }

static __device__ __forceinline__ int
random_sums(const random_format &f)
{
    return f.l2 ? SUM_SQUARES : f.clip == 0 ? SUM_NOTHING : SUM_MOMENTS;
}

/* norm_of() and scale_of() of random.c. */
static __device__ __forceinline__ float
random_scale(const random_format &f, const gp_stats &s, uint64_t n)
{
    double norm = (double)__uint_as_float(s.most), square, mean;
    double parts = f.powers ? 1 : f.levels;
    const double largest = 0x1.fffffep127;
    float scale;

    if (s.most >= GP_FP32_INFINITY)
        return __uint_as_float(GP_FP32_NAN);
    if (f.l2) {
        norm = sqrt(s.a);
    } else if (f.clip != 0) {
        square = s.a / (double)n;
        mean = f.centred ? s.b / (double)n : 0;
        square = square - mean * mean;
        square = f.clip * sqrt(square > 0 ? square : 0);
        norm = square < norm ? square : norm;
    }
    norm = norm < largest ? norm : largest;
    scale = (float)(norm / parts);
    if ((double)scale * parts > largest)
        scale = __uint_as_float(__float_as_uint(scale) - 1);
    return scale < 0x1p-126f ? 0.0f : scale;
}

static __device__ __forceinline__ uint64_t
random_blocks(const random_format &f, uint64_t count)
{
    return f.block ? gp_over(count + f.block - 1, f.block) : count != 0;
}

static __device__ __forceinline__ int
random_linear(const random_format &f, float x, float inverse, uint32_t word)
{
    float r = __fmul_rn(__uint_as_float(gp_magnitude(x)), inverse), whole;
    float levels = __uint2float_rn(f.levels);
    int code;

    r = r < levels ? r : levels;
    code = (int)r;
    whole = __int2float_rn(code);
    code += gp_unit(word, 0) < __fsub_rn(r, whole);
    return x < 0 ? -code : code;
}

static __device__ __forceinline__ int
random_power(const random_format &f, float x, float inverse, uint32_t word)
{
    float y = __fmul_rn(__uint_as_float(gp_magnitude(x)), inverse);
    uint32_t m = __float_as_uint(y), base = 127 - f.levels, e;
    int code;

    if (m < (base + 1) << 23) {
        code = gp_unit(word, 0) <
               __fmul_rn(y, __uint_as_float((253 - base) << 23));
    } else {
        e = (m + (word >> 9)) >> 23;
        code = (int)((e < 127 ? e : 127) - base);
    }
    return x < 0 ? -code : code;
}

static __device__ __forceinline__ float
random_value(const random_format &f, int code, float scale)
{
    uint32_t m = (uint32_t)(code < 0 ? -code : code);
    float level;

    if (!f.powers)
        return __fmul_rn(__int2float_rn(code), scale);
    level =
        __fmul_rn(__uint_as_float(m ? (m + 127 - f.levels) << 23 : 0), scale);
    return code < 0 ? -level : level;
}

/* Elements [begin, end), which share a scale; begins at a multiple of 8. A
 * warp, or a block of the grid, goes through them `threads` eights at a time.
 */
static __device__ __forceinline__ void
random_encode_run(const gp_cuda_part *part, const random_format &f, float scale,
                  uint64_t begin, uint64_t end, uint32_t thread,
                  uint32_t threads)
{
    uint8_t *codes = part->bytes + 4 * random_blocks(f, part->count);
    float inverse = (float)(1 / (double)scale);
    const float *from = part->residual ? part->residual : part->source;
    uint32_t mask = (1u << f.width) - 1;

    for (uint64_t i = begin + 8u * thread; i < end; i += 8u * threads) {
        uint32_t left = gp_left8(i, end), w[8];
        uint64_t packed = 0;
        float x[8];

        gp_load8(from + i, left, x);
        if (scale > 0) {
            gp_words8(&part->random, part->offset + i, w);
            GP_UNROLL(8)
            for (uint32_t j = 0; j < 8; j++) {
                int code = f.powers ? random_power(f, x[j], inverse, w[j])
                                    : random_linear(f, x[j], inverse, w[j]);

                if (j < left)
                    packed |= (uint64_t)((uint32_t)code & mask)
                              << (f.width * j);
                x[j] = gp_remainder_of(x[j], random_value(f, code, scale));
            }
        }
        gp_store_bytes(codes + i / 8 * f.width, (left * f.width + 7) / 8,
                       packed);
        if (scale != scale)
            for (int j = 0; j < 8; j++)
                x[j] = 0;
        if (part->residual && scale != 0)
            gp_store8(part->residual + i, left, x);
    }
}

/* The numbers of a block for half a warp; what is to be encoded is then in the
 * residual, if any. */
static __device__ __forceinline__ gp_stats
random_scan(const gp_cuda_part *part, uint64_t begin, uint64_t end, int what)
{
    gp_stats s = {0, 0, 0, 0};

    GP_UNROLL(8)
    for (uint64_t i = begin + threadIdx.x % 16u; i < end; i += 16) {
        float x = part->source[i];

        if (part->residual) {
            x = __fadd_rn(part->residual[i], x);
            part->residual[i] = x;
        }
        s.most = gp_magnitude(x) > s.most ? gp_magnitude(x) : s.most;
        gp_sum_one(&s, what, false, x);
    }
    s.a = gp_half_total(s.a);
    s.b = gp_half_total(s.b);
    for (int d = 8; d; d >>= 1) {
        uint32_t other = __shfl_xor_sync(GP_FULL_WARP, s.most, d);

        s.most = other > s.most ? other : s.most;
    }
    return s;
}

/* Two blocks of the format per warp. */
extern "C" __global__ void
gp_cuda_random_encode(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t pair = (uint64_t)(blockIdx.x - mine->first_block) * RANDOM_WARPS +
                    threadIdx.x / 32u;
    uint64_t b = 2 * pair + threadIdx.x % 32u / 16u, count = mine->count;
    uint64_t begin = b * block < count ? b * block : count;
    uint64_t end = begin + block < count ? begin + block : count;
    gp_stats s;
    float scale;

    (void)add;
    if (2 * pair * block >= count)
        return;
    s = random_scan(mine, begin, end, random_sums(f));
    scale = random_scale(f, s, end > begin ? end - begin : 1);
    if (threadIdx.x % 16u == 0 && begin < end)
        ((uint32_t *)mine->bytes)[b] = __float_as_uint(scale);
    __syncwarp();
    for (int h = 0; h < 2; h++) {
        float its = __shfl_sync(GP_FULL_WARP, scale, 16 * h);

        begin = (2 * pair + h) * block;
        if (begin >= count)
            return;
        end = begin + block < count ? begin + block : count;
        random_encode_run(mine, f, its, begin, end, threadIdx.x % 32u, 32);
    }
}

/* ---- whole chunks ---- */

extern "C" __global__ void
gp_cuda_random_scan(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t tile = blockIdx.x - mine->first_block, count = mine->count;
    uint64_t begin = tile * GP_STATS_TILE;
    uint64_t end =
        begin + GP_STATS_TILE < count ? begin + GP_STATS_TILE : count;
    gp_stats s = {0, 0, 0, 0};
    int what = random_sums(f);

    (void)add;
    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        uint32_t left = gp_left8(i, end), most;
        float x[8];

        gp_gather8(mine->source, mine->residual, i, left, x);
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            gp_sum_one(&s, what, false, x[j]);
        most = gp_most8(x);
        s.most = most > s.most ? most : s.most;
        if (mine->residual)
            gp_store8(mine->residual + i, left, x);
    }
    gp_block_stats(&s);
    if (threadIdx.x == 0)
        ((gp_stats *)mine->space)[1 + tile] = s;
}

extern "C" __global__ void
gp_cuda_random_settle(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;
    const gp_cuda_part *mine = part + blockIdx.x;
    gp_stats s = gp_part_stats(mine);

    (void)parts;
    (void)add;
    if (threadIdx.x == 0 && mine->count)
        *(float *)mine->bytes = random_scale(f, s, mine->count);
}

extern "C" __global__ void
gp_cuda_random_finish(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * GP_STATS_TILE;
    uint64_t count = mine->count;
    uint64_t end =
        begin + GP_STATS_TILE < count ? begin + GP_STATS_TILE : count;

    (void)add;
    random_encode_run(mine, f, *(const float *)mine->bytes, begin, end,
                      threadIdx.x, blockDim.x);
}

/* ---- decode ---- */

static __device__ __forceinline__ bool
random_scale_valid(const random_format &f, uint32_t s)
{
    double parts = f.powers ? 1 : f.levels;

    return s == 0 || s == GP_FP32_NAN ||
           (s >= 0x00800000u && s < GP_FP32_INFINITY &&
            (double)__uint_as_float(s) * parts <= 0x1.fffffep127);
}

struct random_decoder {
    const random_format &f;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        uint32_t s = ((const uint32_t *)
                          message.bytes)[f.block ? gp_over(i, f.block) : 0];
        const uint8_t *codes = message.bytes + 4 * random_blocks(f, part.count);
        uint32_t left = gp_left8(i, part.count), half = 1u << (f.width - 1);
        uint64_t packed =
            gp_load_bytes(codes + i / 8 * f.width, (left * f.width + 7) / 8);
        int most = s == 0 || s == GP_FP32_NAN ? 0 : (int)f.levels;
        bool good = random_scale_valid(f, s);

        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t raw = (uint32_t)(packed >> (f.width * j)) & (2 * half - 1);
            int code = (int)(raw ^ half) - (int)half;

            good =
                good && (j < left ? code <= most && code >= -most : code == 0);
            x[j] = random_value(f, code, __uint_as_float(s));
        }
        return good;
    }
};

extern "C" __global__ void
gp_cuda_random_decode(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;

    gp_decode_all(part, parts, add, random_decoder{f});
}

extern "C" __global__ void
gp_cuda_random_fold(const gp_cuda_part *part, uint32_t parts, RANDOM_WORDS)
{
    const random_format f = RANDOM_FORMAT;

    gp_fold_all<false>(part, parts, add, random_decoder{f});
}
