/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thc.cu - the codec thc (thc.c): rotated numbers on levels that all workers
 * share, and sums of them.
 *
 * A block of the grid has a block of the rotation, in shared memory or in the
 * part's space, from its elements to their codes and, with feedback, back to
 * what the codes stand for.
 * That of the last whole one also rotates what is left behind it, with the end
 * of what it has: so blocks of the grid have nothing to tell one another but
 * the largest root mean square.
 */
#include "compress/cuda/rotate.cuh"
#include "compress/cuda/sums.cuh"
#include "compress/thc.h"

#define THC_STAGE 4096u

/* Of a part, in its space; then a piece for each block, and for what is left.
 */
struct thc_state {
    float unit;
};

struct thc_piece {
    double energy;
    uint32_t most;
};

static_assert(sizeof(thc_state) <= 64 && sizeof(thc_piece) == 16,
              "the host makes room for them");

static __device__ __forceinline__ thc_piece *
thc_pieces(const gp_cuda_part *part)
{
    return (thc_piece *)((uint8_t *)part->space + 64);
}

/* Elements that are rotated together: gp_hadamard_block(). */
static __device__ __forceinline__ uint32_t
thc_block(uint64_t count, uint32_t block)
{
    while (block > 1 && block > count)
        block /= 2;
    return block;
}

/* ---- what a worker proposes ---- */

/* Sums of squares in the order of reduce.h, by 16 threads; the others fetch.
 * What is fed back is added, once. */
static __device__ __forceinline__ void
thc_measure(const gp_cuda_part *part, uint64_t at, uint32_t size, bool adds,
            thc_piece *out)
{
    __shared__ float x[THC_STAGE];
    uint32_t most = 0;
    double sum = 0;

    adds = adds && part->source;
    for (uint32_t from = 0; from < size; from += THC_STAGE) {
        uint32_t n = size - from < THC_STAGE ? size - from : THC_STAGE;

        __syncthreads();
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
            uint64_t e = at + from + i;
            float u = adds
                          ? part->source[e]
                          : (part->residual ? part->residual : part->source)[e];

            if (adds && part->residual)
                part->residual[e] = u = __fadd_rn(part->residual[e], u);
            most = gp_magnitude(u) > most ? gp_magnitude(u) : most;
            x[i] = u;
        }
        __syncthreads();
        for (uint32_t i = threadIdx.x; threadIdx.x < 16 && i < n; i += 16)
            sum += (double)x[i] * (double)x[i];
    }
    most = gp_block_max(most);
    if (threadIdx.x >= 32)
        return;
    sum = gp_half_total(sum);
    if (threadIdx.x == 0)
        *out = {sum, most};
}

static __device__ __forceinline__ void
thc_scan(const gp_cuda_part *part, uint32_t tile, bool adds)
{
    uint32_t number = blockIdx.x - part->first_block;
    uint32_t block = thc_block(part->count, tile);
    uint64_t at = (uint64_t)number * tile, end = at + tile;

    end = end < part->count ? end : part->count;
    for (thc_piece *p = thc_pieces(part) + number; at < end; p++) {
        uint32_t size = end - at < block ? (uint32_t)(end - at) : block;

        thc_measure(part, at, size, adds, p);
        at += size;
    }
}

extern "C" __global__ void
gp_cuda_thc_scan(const gp_cuda_part *part, uint32_t parts, uint32_t which,
                 uint32_t add, uint32_t block)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    (void)which;
    (void)add;
    thc_scan(mine, block, !mine->proposed);
}

/* Ahead of a proposal. */
extern "C" __global__ void
gp_cuda_thc_look(const gp_cuda_part *part, uint32_t parts, uint32_t which,
                 uint32_t add, uint32_t block)
{
    (void)which;
    (void)add;
    thc_scan(gp_find_part(part, parts), block, true);
}

/* proposal() of thc.c; thread 0 has it. */
static __device__ __forceinline__ float
thc_proposal(const gp_cuda_part *part, uint32_t tile)
{
    __shared__ double means[256];
    const thc_piece *piece = thc_pieces(part);
    uint32_t block = thc_block(part->count, tile), most = 0;
    uint64_t blocks = part->count / block, left = part->count % block;
    double mean = 0;

    for (uint64_t i = threadIdx.x; i < blocks + (left > 0); i += blockDim.x) {
        most = piece[i].most > most ? piece[i].most : most;
        if (i < blocks)
            mean = fmax(mean, piece[i].energy / (double)block);
    }
    most = gp_block_max(most);
    means[threadIdx.x] = mean;
    for (uint32_t half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            means[threadIdx.x] =
                fmax(means[threadIdx.x], means[threadIdx.x + half]);
    }
    if (threadIdx.x != 0)
        return 0;
    if (most >= GP_FP32_INFINITY)
        return __uint_as_float(GP_FP32_NAN);
    return gp_thc_proposal(means[0], blocks ? piece[blocks - 1].energy : 0,
                           left ? piece[blocks].energy : 0, left, block);
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_thc_propose(const gp_cuda_part *part, uint32_t parts, uint32_t which,
                    uint32_t add, uint32_t block)
{
    float mine = thc_proposal(part + blockIdx.x, block);

    (void)parts;
    (void)which;
    (void)add;
    if (threadIdx.x == 0)
        *part[blockIdx.x].proposal = mine;
}

/* A block of the grid for each part: the unit, and the head of the message. */
extern "C" __global__ void
gp_cuda_thc_settle(const gp_cuda_part *part, uint32_t parts, uint32_t which,
                   uint32_t add, uint32_t block)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_thc_table *t = &gp_thc_tables[which];
    float own = thc_proposal(mine, block), shared = mine->agreed, unit;
    uint32_t bits;

    (void)parts;
    (void)add;
    if (threadIdx.x != 0)
        return;
    unit =
        gp_thc_unit(t, shared != 0 && gp_is_finite(own) ? fabsf(shared) : own);
    ((thc_state *)mine->space)->unit = unit;
    bits = __float_as_uint(unit);
    for (int i = 0; i < 4; i++)
        mine->bytes[i] = (uint8_t)(bits >> 8 * i);
    mine->bytes[4] = 1;
    mine->bytes[5] = 0;
    mine->bytes[6] = (uint8_t)t->width;
    mine->bytes[7] = 0;
}

/* ---- blocks in shared memory ---- */

static __device__ __forceinline__ float *
thc_shared(void)
{
    GP_DYNAMIC_SHARED(float, elements);

    return elements;
}

/* Behind the pieces. */
template <typename elements>
static __device__ __forceinline__ elements
thc_elements(const gp_cuda_part *part, uint32_t tile, uint64_t first)
{
    float *far = (float *)(thc_pieces(part) + part->count / tile + 2);

    return elements::of(thc_shared(), far + first);
}

/* What a block of the grid has: a block, and behind the last one what is left;
 * nothing where what is left would be. */
struct thc_span {
    uint64_t first;
    uint32_t block, left;

    __device__ __forceinline__ uint64_t
    end(void) const
    {
        return first + block + left;
    }
};

static __device__ __forceinline__ bool
thc_span_of(const gp_cuda_part *part, uint32_t tile, thc_span *out)
{
    uint32_t number = blockIdx.x - part->first_block;
    uint32_t block = thc_block(part->count, tile);
    uint64_t blocks = part->count / block;

    *out = {(uint64_t)number * block, block, 0};
    if (number + 1 == blocks)
        out->left = (uint32_t)(part->count % block);
    return number < blocks;
}

/* s[i] = s[i + by] for i < n; then s[i + by] = s[i]. */
template <typename elements>
static __device__ __forceinline__ void
thc_move_down(const elements &s, uint32_t by, uint32_t n)
{
    for (uint32_t at = 0; at < n; at += blockDim.x) {
        uint32_t i = at + threadIdx.x;
        float x;

        __syncthreads();
        x = i < n ? s[i + by] : 0;
        __syncthreads();
        if (i < n)
            s[i] = x;
    }
    __syncthreads();
}

template <typename elements>
static __device__ __forceinline__ void
thc_move_up(const elements &s, uint32_t by, uint32_t n)
{
    for (uint32_t left = n; left;) {
        uint32_t some = left < blockDim.x ? left : blockDim.x;
        uint32_t i = left - some + threadIdx.x;
        float x;

        __syncthreads();
        x = threadIdx.x < some ? s[i] : 0;
        __syncthreads();
        if (threadIdx.x < some)
            s[i + by] = x;
        left -= some;
    }
    __syncthreads();
}

template <typename elements>
static __device__ __forceinline__ void
thc_turn_back(const elements &s, uint32_t block, const gp_cuda_stream *signs,
              uint64_t e)
{
    gp_rotate(s, 0, block);
    gp_flip_all(s, 0, block, signs, e);
}

/* ---- codes ---- */

/* gp_levels of lanes.h. */
struct thc_cells {
    int32_t below[32];
    float level[32], distance[32];
};

/* place_body() of lanes.c. */
static __device__ __forceinline__ int
thc_place(const thc_cells *c, float most, float x, uint32_t word, float inverse)
{
    float v = __fadd_rn(__fmul_rn(x, inverse), __fmul_rn(0.5f, most));
    int last = (int)most - 1, cell;

    v = v > most ? most : v;
    v = v < 0 ? 0 : v;
    cell = (int)v;
    cell = cell < last ? cell : last;
    return c->below[cell] + (__fmul_rn(gp_unit(word, 0), c->distance[cell]) <
                             __fsub_rn(v, c->level[cell]));
}

/* centre_body() of lanes.c, of the sum of so many workers' levels. */
static __device__ __forceinline__ float
thc_value(const gp_thc_table *t, uint32_t sum, uint32_t contributors,
          float unit)
{
    int middle = (int)(t->granularity * contributors);
    float x = __fmul_rn(__int2float_rn(2 * (int)sum - middle), unit);

    x = x > GP_THC_LARGEST ? GP_THC_LARGEST : x;
    return x < -GP_THC_LARGEST ? -GP_THC_LARGEST : x;
}

static __device__ __forceinline__ uint32_t
thc_lane(const uint8_t *lanes, uint32_t width, uint64_t i)
{
    if (width == 16)
        return lanes[2 * i] | (uint32_t)lanes[2 * i + 1] << 8;
    if (width == 8)
        return lanes[i];
    return lanes[i * width / 8] >> (i * width & 7u) & ((1u << width) - 1);
}

/* Codes of elements i to end - 1, the first of which is s[0], and with `keeps`
 * what they stand for in their place. Eight codes are whole bytes: those before
 * i that share one were written earlier. */
template <typename elements>
static __device__ __forceinline__ void
thc_write_codes(const gp_cuda_part *part, const gp_thc_table *t,
                const thc_cells *cells, float unit, const elements &s,
                uint64_t i, uint64_t end, bool keeps)
{
    gp_cuda_stream rounding = part->random;
    uint8_t *lanes = part->bytes + GP_THC_HEAD;
    float most = (float)t->granularity, inverse = __fdiv_rn(0.5f, unit);
    uint32_t width = t->width;

    rounding.key[0] = part->rounding[0];
    rounding.key[1] = part->rounding[1];
    __syncthreads();
    for (uint64_t g = i / 8 + threadIdx.x; g < (end + 7) / 8; g += blockDim.x) {
        uint32_t low = 8 * g < i ? (uint32_t)(i - 8 * g) : 0;
        uint32_t high = end - 8 * g < 8 ? (uint32_t)(end - 8 * g) : 8;
        uint8_t *at = lanes + g * width;
        uint32_t words[8];
        uint64_t codes = gp_load_bytes(at, (low * width + 7) / 8);

        gp_words8(&rounding, part->offset + 8 * g, words);
        GP_UNROLL(8)
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t k = (uint32_t)(8 * g + j - i);
            int q;

            if (j < low || j >= high)
                continue;
            q = thc_place(cells, most, s[k], words[j], inverse);
            codes |= (uint64_t)(uint32_t)q << width * j;
            if (keeps)
                s[k] = thc_value(t, t->level[q], 1, unit);
        }
        gp_store_bytes(at, (high * width + 7) / 8, codes);
    }
    __syncthreads();
}

/* All lanes are 0, and what is decoded is the unit. */
static __device__ __forceinline__ void
thc_write_nothing(const gp_cuda_part *part, const gp_thc_table *t, float unit,
                  const thc_span &span)
{
    uint8_t *lanes = part->bytes + GP_THC_HEAD;

    for (uint64_t g = span.first / 8 + threadIdx.x; g < (span.end() + 7) / 8;
         g += blockDim.x) {
        uint64_t left = span.end() - 8 * g;

        gp_store_bytes(lanes + g * t->width,
                       ((left < 8 ? (uint32_t)left : 8) * t->width + 7) / 8, 0);
    }
    for (uint64_t i = span.first + threadIdx.x;
         part->residual && i < span.end(); i += blockDim.x)
        part->residual[i] = gp_remainder_of(part->residual[i], unit);
}

/* What is left of elements at + i when s[from + i] was sent. */
template <typename elements>
static __device__ __forceinline__ void
thc_subtract(const gp_cuda_part *part, uint64_t at, const elements &s,
             uint32_t from, uint32_t n)
{
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
        part->residual[at + i] =
            gp_remainder_of(part->residual[at + i], s[from + i]);
    __syncthreads();
}

/* From what the last codes stand for, in s, to what is left. */
template <typename elements>
static __device__ __forceinline__ void
thc_feed_back(const gp_cuda_part *part, const gp_thc_table *t, float unit,
              const elements &s, const thc_span &span)
{
    const uint8_t *lanes = part->bytes + GP_THC_HEAD;
    uint32_t block = span.block, left = span.left;

    if (left) {
        thc_turn_back(s, block, &part->random, GP_THC_AGAIN + part->offset);
        thc_subtract(part, span.first + block, s, block - left, left);
        thc_move_up(s, left, block - left);
        for (uint32_t i = threadIdx.x; i < left; i += blockDim.x)
            s[i] = thc_value(
                t, t->level[thc_lane(lanes, t->width, span.first + i)], 1,
                unit);
    }
    thc_turn_back(s, block, &part->random, part->offset + span.first);
    thc_subtract(part, span.first, s, 0, block);
}

template <typename elements>
static __device__ __forceinline__ void
thc_encode(const gp_cuda_part *mine, const gp_thc_table *t, uint32_t tile, bool)
{
    __shared__ thc_cells cells;
    const float *from = mine->residual ? mine->residual : mine->source;
    float unit = ((const thc_state *)mine->space)->unit;
    thc_span span;

    if (!thc_span_of(mine, tile, &span))
        return;
    const elements s = thc_elements<elements>(mine, tile, span.first);

    if (!(unit > 0)) {
        thc_write_nothing(mine, t, unit, span);
        return;
    }
    if (threadIdx.x == 0)
        gp_thc_cells(t, cells.below, cells.level, cells.distance);
    for (uint32_t i = threadIdx.x; i < span.block; i += blockDim.x)
        s[i] = from[span.first + i];
    gp_flip_all(s, 0, span.block, &mine->random, mine->offset + span.first);
    gp_rotate(s, 0, span.block);
    if (span.left) {
        uint32_t stays = span.block - span.left;

        thc_write_codes(mine, t, &cells, unit, s, span.first,
                        span.first + span.left, false);
        thc_move_down(s, span.left, stays);
        for (uint32_t i = threadIdx.x; i < span.left; i += blockDim.x)
            s[stays + i] = from[span.first + span.block + i];
        gp_flip_all(s, 0, span.block, &mine->random,
                    GP_THC_AGAIN + mine->offset);
        gp_rotate(s, 0, span.block);
    }
    thc_write_codes(mine, t, &cells, unit, s, span.first + span.left,
                    span.end(), mine->residual);
    if (mine->residual)
        thc_feed_back(mine, t, unit, s, span);
}

#define THC_KERNEL(name, body, elements)                                       \
    extern "C" __global__ void __launch_bounds__(1024)                         \
        gp_cuda_thc_##name(const gp_cuda_part *part, uint32_t parts,           \
                           uint32_t which, uint32_t add, uint32_t tile)        \
    {                                                                          \
        body<elements>(gp_find_part(part, parts), &gp_thc_tables[which], tile, \
                       add);                                                   \
    }

THC_KERNEL(encode, thc_encode, gp_near)
THC_KERNEL(far_encode, thc_encode, gp_far)

/* ---- back ---- */

struct thc_message {
    const gp_thc_table *table;
    float unit;
    uint32_t contributors, width, limit;
    const uint8_t *lanes;
};

/* All but the lanes. */
static __device__ __forceinline__ bool
thc_read_head(const gp_thc_table *t, const gp_cuda_message &m, uint64_t count,
              thc_message *out)
{
    uint64_t in_byte;
    uint32_t unit;

    if (m.length < GP_THC_HEAD)
        return false;
    unit = m.bytes[0] | (uint32_t)m.bytes[1] << 8 | (uint32_t)m.bytes[2] << 16 |
           (uint32_t)m.bytes[3] << 24;
    out->table = t;
    out->unit = __uint_as_float(unit);
    out->contributors = m.bytes[4] | (uint32_t)m.bytes[5] << 8;
    if (!gp_thc_unit_valid(t, unit) || out->contributors == 0 ||
        out->contributors > GP_THC_CONTRIBUTORS)
        return false;
    out->width = gp_thc_width(t, out->contributors);
    out->limit = gp_thc_limit(t, out->contributors, out->unit);
    out->lanes = m.bytes + GP_THC_HEAD;
    in_byte = 8 / out->width;
    return m.bytes[6] == out->width && m.bytes[7] == 0 &&
           m.length - GP_THC_HEAD == (out->width < 8
                                          ? (count + in_byte - 1) / in_byte
                                          : count * (out->width / 8));
}

/* What n lanes from i on stand for; false where no encoder wrote one. */
template <typename elements>
static __device__ __forceinline__ bool
thc_read(const thc_message &m, uint64_t i, uint32_t n, const elements &s)
{
    bool good = true;

    for (uint32_t j = threadIdx.x; j < n; j += blockDim.x) {
        uint32_t sum = thc_lane(m.lanes, m.width, i + j);

        good = good && sum <= m.limit;
        if (m.contributors == 1)
            sum = m.table->level[sum & 15u];
        s[j] = m.unit > 0 ? thc_value(m.table, sum, m.contributors, m.unit)
                          : m.unit;
    }
    return good;
}

/* Nothing follows the last lane in its byte. */
static __device__ __forceinline__ bool
thc_ends(const thc_message &m, uint64_t count)
{
    uint32_t bits = (uint32_t)(count * m.width & 7u);

    return m.width >= 8 || bits == 0 ||
           m.lanes[count * m.width / 8] >> bits == 0;
}

template <typename elements>
static __device__ __forceinline__ void
thc_emit(const gp_cuda_part &part, uint64_t at, const elements &s,
         uint32_t from, uint32_t n, bool add)
{
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        float x = s[from + i], *to = part.target + at + i;

        *to = add ? __fadd_rn(*to, x) : x;
    }
    __syncthreads();
}

/* What this block of the grid has of a message. */
template <typename elements>
static __device__ __forceinline__ bool
thc_decode_span(const gp_cuda_part &part, const thc_message &m,
                const gp_cuda_stream *signs, const thc_span &span,
                const elements &s, bool add)
{
    uint32_t block = span.block, left = span.left;
    bool good = thc_ends(m, part.count);

    __syncthreads();
    good = thc_read(m, span.first + left, block, s) && good;
    if (left && m.unit > 0)
        thc_turn_back(s, block, signs, GP_THC_AGAIN + part.offset);
    __syncthreads();
    if (left) {
        thc_emit(part, span.first + block, s, block - left, left, add);
        thc_move_up(s, left, block - left);
        good = thc_read(m, span.first, left, s) && good;
        __syncthreads();
    }
    if (m.unit > 0)
        thc_turn_back(s, block, signs, part.offset + span.first);
    thc_emit(part, span.first, s, 0, block, add);
    return good;
}

template <typename elements>
static __device__ __forceinline__ void
thc_decode(const gp_cuda_part *mine, const gp_thc_table *t, uint32_t tile,
           bool add)
{
    const gp_cuda_message one = {mine->bytes, mine->length, mine->random};
    bool good = true;
    thc_message m;
    thc_span span;

    if (mine->length == 0 && mine->count == 0)
        return;
    if (!thc_read_head(t, one, mine->count, &m))
        good = false;
    else if (thc_span_of(mine, tile, &span))
        good = thc_decode_span(*mine, m, &mine->random, span,
                               thc_elements<elements>(mine, tile, span.first),
                               add);
    if (!good)
        *mine->status = 1;
}

THC_KERNEL(decode, thc_decode, gp_near)
THC_KERNEL(far_decode, thc_decode, gp_far)

template <typename elements>
static __device__ __forceinline__ void
thc_fold(const gp_cuda_part *mine, const gp_thc_table *t, uint32_t tile,
         bool add)
{
    bool good = true;
    thc_span span;

    if (!thc_span_of(mine, tile, &span))
        return;
    for (uint32_t k = 0; k < mine->messages; k++) {
        const gp_cuda_message one = mine->message[k];
        thc_message m;

        if (thc_read_head(t, one, mine->count, &m))
            good =
                thc_decode_span(*mine, m, &one.random, span,
                                thc_elements<elements>(mine, tile, span.first),
                                add || k > 0) &&
                good;
        else
            good = false;
    }
    if (!good)
        *mine->status = 1;
}

THC_KERNEL(fold, thc_fold, gp_near)
THC_KERNEL(far_fold, thc_fold, gp_far)
