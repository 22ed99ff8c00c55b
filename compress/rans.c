/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rans.c - tables of rANS, and the scalar reference of its loops.
 *
 * Division by a frequency is a multiplication: for x < 2^31 and a frequency of
 * 2 or more, x / f = (x * r) >> (32 + shift) exactly, with shift =
 * ceil(log2 f) - 1 and r = ceil(2^(32 + shift) / f) (Alverson 1991). For f = 1
 * the product with 2^32 - 1 gives x - 1, which the bias makes good.
 */
#include "compress/rans.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"

static void
coder_entry(gp_rans_coder *coder, size_t symbol, uint32_t frequency,
            uint32_t start)
{
    uint32_t shift = 0, bias = start;

    if (frequency == 1) {
        coder->reciprocal[symbol] = UINT32_MAX;
        bias += GP_RANS_TOTAL - 1;
    } else {
        while ((2u << shift) < frequency)
            shift++;
        coder->reciprocal[symbol] =
            (uint32_t)((((uint64_t)1 << (32 + shift)) + frequency - 1) /
                       frequency);
    }
    coder->rest[symbol] = frequency | bias << 12 | shift << 25;
}

void
gp_rans_coder_make(gp_rans_coder *coder, const uint16_t frequency[256],
                   uint8_t other)
{
    uint32_t start = 0;

    for (size_t s = 0; s < 256; s++) {
        if (frequency[s])
            coder_entry(coder, s, frequency[s], start);
        start += frequency[s];
    }
    coder->narrow = true;
    for (size_t s = 0; s < 256; s++) {
        if (!frequency[s]) {
            coder->reciprocal[s] = coder->reciprocal[other];
            coder->rest[s] = coder->rest[other];
        }
        if (s > 15 && s <= 240 && frequency[s] && s != other)
            coder->narrow = false;
    }
    if (frequency[240])
        coder->narrow = false;
}

void
gp_rans_decoder_make(gp_rans_decoder *decoder, const uint16_t frequency[256])
{
    size_t slot = 0;

    for (uint32_t s = 0; s < 256; s++)
        for (uint32_t i = 0; i < frequency[s]; i++)
            decoder->slot[slot++] = s | (uint32_t)frequency[s] << 8 | i << 20;
}

void
gp_rans_start(gp_rans *r, size_t lanes)
{
    r->lanes = lanes;
    for (size_t i = 0; i < lanes; i++)
        r->x[i] = GP_RANS_FIRST;
}

bool
gp_rans_ended(const gp_rans *r)
{
    for (size_t i = 0; i < r->lanes; i++)
        if (r->x[i] != GP_RANS_FIRST)
            return false;
    return true;
}

void
gp_rans_write(const gp_rans *r, uint8_t *out)
{
    for (size_t i = 0; i < r->lanes; i++)
        gp_put32(out + 4 * i, r->x[i]);
}

bool
gp_rans_read(gp_rans *r, const uint8_t *bytes, size_t lanes)
{
    r->lanes = lanes;
    for (size_t i = 0; i < lanes; i++) {
        r->x[i] = gp_get32(bytes + 4 * i);
        if (r->x[i] < GP_RANS_FIRST || r->x[i] >> 31)
            return false;
    }
    return true;
}

static uint8_t *
put_scalar(gp_rans *r, const gp_rans_coder *coder, const uint8_t *symbols,
           size_t n, uint8_t *end)
{
    size_t lanes = r->lanes;

    while (n--) {
        uint32_t x = r->x[n & (lanes - 1)];
        uint32_t rest = coder->rest[symbols[n]], f = rest & 4095, q;

        if (x >= f << 19) {
            end -= 2;
            gp_put16(end, (uint16_t)x);
            x >>= 16;
        }
        q = (uint32_t)((uint64_t)x * coder->reciprocal[symbols[n]] >> 32) >>
            (rest >> 25);
        r->x[n & (lanes - 1)] =
            x + (rest >> 12 & 8191) + q * (GP_RANS_TOTAL - f);
    }
    return end;
}

uint8_t *
gp_rans_put(gp_rans *r, const gp_rans_coder *coder, const uint8_t *symbols,
            size_t n, uint8_t *end)
{
    size_t odd = n % GP_RANS_LANES;

#if defined(__x86_64__)
    if (r->lanes == GP_RANS_LANES && gp_simd_get() >= GP_SIMD_AVX2) {
        end = put_scalar(r, coder, symbols + (n - odd), odd, end);
        n -= odd;
        n -= gp_simd_get() >= GP_SIMD_AVX512
                 ? gp_rans_put_avx512(r, coder, symbols, n, &end)
                 : gp_rans_put_avx2(r, coder, symbols, n, &end);
    }
#else
    (void)odd;
#endif
    return put_scalar(r, coder, symbols, n, end);
}

static const uint8_t *
get_scalar(gp_rans *r, const gp_rans_decoder *decoder, uint8_t *symbols,
           size_t n, const uint8_t *at, const uint8_t *end)
{
    size_t lanes = r->lanes;

    for (size_t i = 0; i < n; i++) {
        uint32_t x = r->x[i & (lanes - 1)];
        uint32_t e = decoder->slot[x & (GP_RANS_TOTAL - 1)];

        symbols[i] = (uint8_t)e;
        x = (e >> 8 & 4095) * (x >> 12) + (e >> 20);
        if (x < GP_RANS_FIRST) {
            if (end - at < 2)
                return NULL;
            x = x << 16 | gp_get16(at);
            at += 2;
        }
        r->x[i & (lanes - 1)] = x;
    }
    return at;
}

const uint8_t *
gp_rans_get(gp_rans *r, const gp_rans_decoder *decoder, uint8_t *symbols,
            size_t n, const uint8_t *at, const uint8_t *end)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (r->lanes == GP_RANS_LANES && gp_simd_get() >= GP_SIMD_AVX512)
        done = gp_rans_get_avx512(r, decoder, symbols, n, &at, end);
    else if (r->lanes == GP_RANS_LANES && gp_simd_get() >= GP_SIMD_AVX2)
        done = gp_rans_get_avx2(r, decoder, symbols, n, &at, end);
#endif
    return get_scalar(r, decoder, symbols + done, n - done, at, end);
}
