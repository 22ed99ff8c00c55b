/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zeros.c - the map of zero blocks, and copies by runs of it.
 *
 * Neighbouring blocks of one sort move in a single memcpy, memset or addition,
 * so that a map without zeros costs what a copy does.
 */
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/zeros.h"

/* Elements looked at before a non-zero one ends the search. */
#define STRIDE 64

typedef bool (*gp_any_fn)(const float *x, size_t n);

static bool
any_scalar(const float *x, size_t n)
{
    uint64_t two;
    uint32_t one;
    size_t i = 0;

    for (; i + 2 <= n; i += 2) {
        memcpy(&two, x + i, sizeof(two));
        if (two)
            return true;
    }
    if (i == n)
        return false;
    memcpy(&one, x + i, sizeof(one));
    return one != 0;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static bool
any_avx2(const float *x, size_t n)
{
    size_t i = 0;

    for (; i + STRIDE <= n; i += STRIDE) {
        __m256i m = _mm256_setzero_si256();

        for (size_t j = 0; j < STRIDE; j += 8)
            m = _mm256_or_si256(m,
                                _mm256_loadu_si256((const void *)(x + i + j)));
        if (!_mm256_testz_si256(m, m))
            return true;
    }
    return any_scalar(x + i, n - i);
}

__attribute__((target("avx512f"))) static bool
any_avx512(const float *x, size_t n)
{
    size_t i = 0;

    for (; i + STRIDE <= n; i += STRIDE) {
        __m512i m = _mm512_or_si512(_mm512_loadu_si512(x + i),
                                    _mm512_loadu_si512(x + i + 16));

        m = _mm512_or_si512(m, _mm512_loadu_si512(x + i + 32));
        m = _mm512_or_si512(m, _mm512_loadu_si512(x + i + 48));
        if (_mm512_test_epi32_mask(m, m))
            return true;
    }
    return any_scalar(x + i, n - i);
}
#endif

static gp_any_fn
any_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return any_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return any_avx2;
#endif
    return any_scalar;
}

static size_t
blocks_of(size_t n, size_t block)
{
    return n / block + (n % block != 0);
}

static bool
bit(const uint8_t *map, size_t b)
{
    return map[b >> 3] >> (b & 7) & 1;
}

size_t
gp_zeros_map_size(size_t n, size_t block)
{
    size_t blocks = blocks_of(n, block);

    return blocks / 8 + (blocks % 8 != 0);
}

size_t
gp_zeros_map(const float *x, size_t n, size_t block, uint8_t *map)
{
    size_t blocks = blocks_of(n, block), kept = 0;
    gp_any_fn any = any_get();

    memset(map, 0, gp_zeros_map_size(n, block));
    for (size_t b = 0; b < blocks; b++) {
        size_t at = b * block, size = n - at < block ? n - at : block;

        if (any(x + at, size)) {
            map[b >> 3] = (uint8_t)(map[b >> 3] | 1u << (b & 7));
            kept++;
        }
    }
    return kept;
}

size_t
gp_zeros_kept(const uint8_t *map, size_t n, size_t block)
{
    size_t blocks = blocks_of(n, block), kept = 0;

    if (blocks == 0)
        return 0;
    for (size_t b = 0; b + 1 < blocks; b++)
        kept += bit(map, b);
    kept *= block;
    if (bit(map, blocks - 1))
        kept += n - (blocks - 1) * block;
    return kept;
}

bool
gp_zeros_map_valid(const uint8_t *map, size_t n, size_t block)
{
    size_t blocks = blocks_of(n, block);

    return blocks % 8 == 0 || map[blocks >> 3] >> blocks % 8 == 0;
}

/* The run of blocks of one sort that starts at block *b; moves *b behind it and
 * gives its elements. */
static size_t
run_at(const uint8_t *map, size_t n, size_t block, size_t *b)
{
    size_t blocks = blocks_of(n, block), first = *b, last = first + 1, end;
    bool sort = bit(map, first);

    while (last < blocks && bit(map, last) == sort)
        last++;
    *b = last;
    end = last == blocks ? n : last * block;
    return end - first * block;
}

size_t
gp_zeros_pack(const float *x, size_t n, size_t block, const uint8_t *map,
              float *out)
{
    size_t blocks = blocks_of(n, block), kept = 0;

    for (size_t b = 0; b < blocks;) {
        size_t first = b, size = run_at(map, n, block, &b);

        if (bit(map, first)) {
            memcpy(out + kept, x + first * block, size * sizeof(*x));
            kept += size;
        }
    }
    return kept;
}

void
gp_zeros_unpack(const float *kept, size_t n, size_t block, const uint8_t *map,
                float *target)
{
    size_t blocks = blocks_of(n, block);

    for (size_t b = 0; b < blocks;) {
        size_t first = b, size = run_at(map, n, block, &b);

        if (bit(map, first)) {
            memcpy(target + first * block, kept, size * sizeof(*kept));
            kept += size;
        } else {
            memset(target + first * block, 0, size * sizeof(*target));
        }
    }
}

void
gp_zeros_unpack_add(const float *kept, size_t n, size_t block,
                    const uint8_t *map, float *target)
{
    size_t blocks = blocks_of(n, block);

    for (size_t b = 0; b < blocks;) {
        size_t first = b, size = run_at(map, n, block, &b);

        if (bit(map, first)) {
            gp_add_fp32(target + first * block, kept, size);
            kept += size;
        }
    }
}

static const gp_codec_param zeros_params[] = {
    {.name = "block",
     .value = 256,
     .minimum = 32,
     .maximum = 65536,
     .integer = 1,
     .text = "elements that are left out together, a multiple of 32"},
    {.name = NULL},
};

static gp_status
zeros_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    size_t block = (size_t)values[0];

    (void)shape;
    if (block % 32)
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a multiple of 32; write %zu", block,
                       (block + 16) / 32 * 32);
    *instance = NULL;
    return GP_OK;
}

static void
zeros_close(void *instance)
{
    (void)instance;
}

const gp_codec_ops gp_codec_zeros = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ZEROS,
    .properties = GP_CODEC_LOSSLESS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "zeros",
    .text = "leaves out blocks of zeros",
    .params = zeros_params,
    .open = zeros_open,
    .close = zeros_close,
};
