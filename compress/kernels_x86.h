/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_x86.h - the kernels of kernels_scalar.c over vectors; included once
 * per instruction set, by a file that defines
 *
 *     TARGET   the target attribute          LANES  fp32 elements per vector
 *     vf, vi   vectors of fp32 and of int32     vb  vectors of 4 * LANES int8
 *
 * and the operations on them that are used below. What is left over after the
 * last whole vector goes through the reference. Loads and stores assume no
 * alignment. Magnitudes have no sign bit, so signed comparison orders them.
 */
#include <immintrin.h>

#include "base/bytes.h"

#define KERNEL   TARGET static void
#define WHOLE(n) ((n) & ~(size_t)(LANES - 1))
/* Vectors of a fold's sums: registers hold more, but then wait for memory. */
#define FOLD_TILE 8
/* Bytes of codes that a fold asks for before it needs them: there are more
 * messages than the processor follows by itself. */
#define FOLD_AHEAD 256

static const gp_kernels *const rest = &gp_kernels_scalar;

KERNEL
add(float *acc, const float *src, size_t n)
{
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += LANES)
        store_f(acc + i, add_f(load_f(acc + i), load_f(src + i)));
    rest->add(acc + whole, src + whole, n - whole);
}

KERNEL
scale(float *x, float factor, size_t n)
{
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += LANES)
        store_f(x + i, mul_f(load_f(x + i), set_f(factor)));
    rest->scale(x + whole, factor, n - whole);
}

KERNEL
remainder_all(const float *u, const float *d, float *residual, size_t n)
{
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += LANES) {
        vf r = sub_f(load_f(u + i), load_f(d + i));

        store_f(residual + i, where_finite(r, r));
    }
    rest->remainder(u + whole, d + whole, residual + whole, n - whole);
}

KERNEL
none_feedback(const float *source, float *residual, void *out, size_t n)
{
    size_t whole = WHOLE(n);
    char *to = out;

    for (size_t i = 0; i < whole; i += LANES) {
        store_f(to + 4 * i, add_f(load_f(source + i), load_f(residual + i)));
        store_f(residual + i, set_f(0));
    }
    rest->none.feedback(source + whole, residual + whole, to + 4 * whole,
                        n - whole);
}

KERNEL
none_decode_add(const void *bytes, float *target, size_t n)
{
    const char *from = bytes;
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += LANES)
        store_f(target + i, add_f(load_f(target + i), load_f(from + 4 * i)));
    rest->none.decode_add(from + 4 * whole, target + whole, n - whole);
}

/* encode_x() gives vh, a vector of 16-bit elements; decode_x() takes it. */
#define CAST_KERNELS(name)                                                     \
    KERNEL                                                                     \
    name##_encode(const float *source, void *out, size_t n)                    \
    {                                                                          \
        size_t whole = WHOLE(n);                                               \
        char *to = out;                                                        \
                                                                               \
        for (size_t i = 0; i < whole; i += LANES)                              \
            store_h(to + 2 * i, encode_##name(load_f(source + i)));            \
        rest->name.encode(source + whole, to + 2 * whole, n - whole);          \
    }                                                                          \
    KERNEL                                                                     \
    name##_feedback(const float *source, float *residual, void *out, size_t n) \
    {                                                                          \
        size_t whole = WHOLE(n);                                               \
        char *to = out;                                                        \
                                                                               \
        for (size_t i = 0; i < whole; i += LANES) {                            \
            vf u = add_f(load_f(source + i), load_f(residual + i));            \
            vh h = encode_##name(u);                                           \
                                                                               \
            store_h(to + 2 * i, h);                                            \
            store_f(residual + i,                                              \
                    where_finite(u, sub_f(u, decode_##name(h))));              \
        }                                                                      \
        rest->name.feedback(source + whole, residual + whole, to + 2 * whole,  \
                            n - whole);                                        \
    }                                                                          \
    KERNEL                                                                     \
    name##_decode(const void *bytes, float *target, size_t n)                  \
    {                                                                          \
        const char *from = bytes;                                              \
        size_t whole = WHOLE(n);                                               \
                                                                               \
        for (size_t i = 0; i < whole; i += LANES)                              \
            store_f(target + i, decode_##name(load_h(from + 2 * i)));          \
        rest->name.decode(from + 2 * whole, target + whole, n - whole);        \
    }                                                                          \
    KERNEL                                                                     \
    name##_decode_add(const void *bytes, float *target, size_t n)              \
    {                                                                          \
        const char *from = bytes;                                              \
        size_t whole = WHOLE(n);                                               \
                                                                               \
        for (size_t i = 0; i < whole; i += LANES)                              \
            store_f(target + i, add_f(load_f(target + i),                      \
                                      decode_##name(load_h(from + 2 * i))));   \
        rest->name.decode_add(from + 2 * whole, target + whole, n - whole);    \
    }

CAST_KERNELS(fp16)
CAST_KERNELS(bf16)

/* Bits of the absmax of a block of whole vectors, an even number of them. */
TARGET static uint32_t
absmax_of(const float *x, size_t n)
{
    vi a = magnitude(load_f(x)), b = magnitude(load_f(x + LANES));

    for (size_t i = 2 * LANES; i < n; i += 2 * LANES) {
        a = max_i(a, magnitude(load_f(x + i)));
        b = max_i(b, magnitude(load_f(x + i + LANES)));
    }
    return largest(max_i(a, b));
}

/* residual += source, and the absmax of the sum. */
TARGET static uint32_t
add_absmax(const float *source, float *residual, size_t n)
{
    vi most = magnitude(set_f(0));

    for (size_t i = 0; i < n; i += LANES) {
        vf u = add_f(load_f(source + i), load_f(residual + i));

        most = max_i(most, magnitude(u));
        store_f(residual + i, u);
    }
    return largest(most);
}

KERNEL
q8_encode(const float *source, size_t n, size_t block, uint8_t *scales,
          int8_t *codes)
{
    size_t i = 0;

    for (; n - i >= block; i += block, scales += 4) {
        float inverse, s = gp_q8_scale(absmax_of(source + i, block), &inverse);

        gp_put32(scales, gp_bits(s));
        if (s != s) {
            memset(codes + i, 0, block);
            continue;
        }
        for (size_t j = i; j < i + block; j += LANES)
            store_codes(codes + j,
                        round_i(mul_f(load_f(source + j), set_f(inverse))));
    }
    rest->q8.encode(source + i, n - i, block, scales, codes + i);
}

KERNEL
q8_feedback(const float *source, float *residual, size_t n, size_t block,
            uint8_t *scales, int8_t *codes)
{
    size_t i = 0;

    for (; n - i >= block; i += block, scales += 4) {
        float inverse,
            s = gp_q8_scale(add_absmax(source + i, residual + i, block),
                            &inverse);

        gp_put32(scales, gp_bits(s));
        if (s != s) {
            memset(codes + i, 0, block);
            memset(residual + i, 0, block * sizeof(float));
            continue;
        }
        for (size_t j = i; j < i + block; j += LANES) {
            vf u = load_f(residual + j);
            vi q = round_i(mul_f(u, set_f(inverse)));

            store_codes(codes + j, q);
            store_f(residual + j, sub_f(u, mul_f(set_f(s), float_i(q))));
        }
    }
    rest->q8.feedback(source + i, residual + i, n - i, block, scales,
                      codes + i);
}

TARGET static bool
q8_valid(const int8_t *codes, size_t n)
{
    __m256i bad = _mm256_setzero_si256();
    size_t i = 0;

    for (; n - i >= 32; i += 32)
        bad = _mm256_or_si256(
            bad,
            _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(codes + i)),
                              _mm256_set1_epi8(INT8_MIN)));
    return _mm256_testz_si256(bad, bad) && rest->q8.valid(codes + i, n - i);
}

/* Blocks are whole, so they hold a multiple of 32 codes. */
TARGET static bool
q8_decode(const uint8_t *scales, const int8_t *codes, float *target, size_t n,
          size_t block)
{
    __m256i bad = _mm256_setzero_si256();
    size_t i = 0;

    for (; n - i >= block; i += block, scales += 4) {
        vf s = set_f(gp_float(gp_get32(scales)));

        for (size_t j = i; j < i + block; j += 32) {
            bad = _mm256_or_si256(
                bad,
                _mm256_cmpeq_epi8(_mm256_loadu_si256((const void *)(codes + j)),
                                  _mm256_set1_epi8(INT8_MIN)));
            for (size_t k = j; k < j + 32; k += LANES)
                store_f(target + k, mul_f(s, load_codes(codes + k)));
        }
    }
    return rest->q8.decode(scales, codes + i, target + i, n - i, block) &&
           _mm256_testz_si256(bad, bad);
}

KERNEL
q8_decode_add(const uint8_t *scales, const int8_t *codes, float *target,
              size_t n, size_t block)
{
    size_t i = 0;

    for (; n - i >= block; i += block, scales += 4) {
        vf s = set_f(gp_float(gp_get32(scales)));

        for (size_t j = i; j < i + block; j += LANES)
            store_f(target + j,
                    add_f(load_f(target + j), mul_f(s, load_codes(codes + j))));
    }
    rest->q8.decode_add(scales, codes + i, target + i, n - i, block);
}

/* One message's part of a tile, and the least of its bytes. */
VECTOR void
q8_terms(const gp_q8_message *m, size_t b, size_t i, size_t width, vf *term,
         vb *least)
{
    vf s = set_f(gp_float(gp_get32(m->scales + 4 * b)));

    for (size_t j = 0; j < width; j += 4) {
        __builtin_prefetch(m->codes + i + j * LANES + FOLD_AHEAD);
        *least = min_b(*least, load_b(m->codes + i + j * LANES));
    }
    for (size_t j = 0; j < width; j++)
        term[j] = mul_f(s, load_codes(m->codes + i + j * LANES));
}

/* `width` vectors at element i, which all lie in block b; *least becomes the
 * least of its bytes and of those that the codes fill. Each message's lines are
 * used up at once: where messages lie apart by whole pages, the first cache has
 * no room for those of all. */
VECTOR void
q8_fold_tile(const gp_q8_message *messages, size_t inputs, bool add_to,
             float *target, size_t b, size_t i, size_t width, vb *least)
{
    vf sum[FOLD_TILE], term[FOLD_TILE];

    q8_terms(messages, b, i, width, sum, least);
    for (size_t j = 0; add_to && j < width; j++)
        sum[j] = add_f(load_f(target + i + j * LANES), sum[j]);
    for (size_t k = 1; k < inputs; k++) {
        q8_terms(messages + k, b, i, width, term, least);
        for (size_t j = 0; j < width; j++)
            sum[j] = add_f(sum[j], term[j]);
    }
    for (size_t j = 0; j < width; j++)
        store_f(target + i + j * LANES, sum[j]);
}

/* What is left of a block after whole tiles, or of the whole, goes through the
 * reference. */
TARGET static bool
q8_fold_rest(const gp_q8_message *messages, size_t inputs, bool add_to,
             float *target, size_t b, size_t i, size_t n, size_t block)
{
    gp_q8_message tail[GP_CODEC_FOLD];

    for (size_t k = 0; k < inputs; k++)
        tail[k] =
            (gp_q8_message){messages[k].scales + 4 * b, messages[k].codes + i};
    return rest->q8.fold(tail, inputs, add_to, target + i, n, block);
}

TARGET static bool
q8_fold(const gp_q8_message *messages, size_t inputs, bool add_to,
        float *target, size_t n, size_t block)
{
    size_t i = 0, b = 0;
    vb least = zero_b();
    bool good = true;

    for (; n - i >= block; b++) {
        size_t end = i + block;

        for (; end - i >= FOLD_TILE * LANES; i += FOLD_TILE * LANES)
            q8_fold_tile(messages, inputs, add_to, target, b, i, FOLD_TILE,
                         &least);
        for (; end - i >= 4 * LANES; i += 4 * LANES)
            q8_fold_tile(messages, inputs, add_to, target, b, i, 4, &least);
        if (i < end)
            good &= q8_fold_rest(messages, inputs, add_to, target, b, i,
                                 end - i, block);
        i = end;
    }
    if (i < n)
        good &=
            q8_fold_rest(messages, inputs, add_to, target, b, i, n - i, block);
    return good && least_b(least) != INT8_MIN;
}

#define KERNEL_TABLE(which)                                                 \
    {                                                                       \
        .level = which, .add = add, .scale = scale,                         \
        .remainder = remainder_all,                                         \
        .none = {none_encode, none_feedback, none_decode, none_decode_add}, \
        .fp16 = {fp16_encode, fp16_feedback, fp16_decode, fp16_decode_add}, \
        .bf16 = {bf16_encode, bf16_feedback, bf16_decode, bf16_decode_add}, \
        .q8 = {q8_encode, q8_feedback,   q8_valid,                          \
               q8_decode, q8_decode_add, q8_fold},                          \
    }

KERNEL
none_encode(const float *source, void *out, size_t n)
{
    rest->none.encode(source, out, n);
}

KERNEL
none_decode(const void *bytes, float *target, size_t n)
{
    rest->none.decode(bytes, target, n);
}
