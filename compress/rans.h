/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rans.h - range asymmetric numeral systems (Duda 2013, arXiv:1311.2540) over
 * bytes: entropy coding at a fraction of a bit per symbol.
 *
 * Symbol s has a frequency f(s) of 4096 and a start c(s), the sum of those of
 * the smaller symbols. A state x is kept in [2^15, 2^31) by moving 16-bit words
 * in and out; coding s is
 *
 *     x >= f << 19:  word = x & 0xffff, x >>= 16        (before)
 *     x = x / f * 4096 + x % f + c
 *
 * and decoding undoes it: slot = x & 4095 says s, x = f * (x >> 12) + slot - c,
 * and x < 2^15 takes a word. Symbol i of a run belongs to state i mod 32 (4 in
 * short messages). All states share one string of words, in the order in which
 * the decoder wants them, so the coder runs from the last symbol to the first
 * and writes downwards. All states begin at 2^15, where the decoder must end.
 */
#ifndef GP_RANS_H
#define GP_RANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compress/rans_both.h"

typedef struct gp_rans_coder {
    uint32_t reciprocal[256];
    /* frequency | bias << 12 | shift << 25 */
    uint32_t rest[256];
    /* Symbols other than -15..15 (as int8_t) are coded like -16. */
    bool narrow;
} gp_rans_coder;

typedef struct gp_rans_decoder {
    /* Per slot: symbol | frequency << 8 | (slot - start) << 20 */
    uint32_t slot[GP_RANS_TOTAL];
} gp_rans_decoder;

typedef struct gp_rans {
    uint32_t x[GP_RANS_LANES];
    size_t lanes;
} gp_rans;

/* Tables from frequencies below 4096 that add up to 4096. Symbols of frequency
 * 0 are coded like `other`. */
void gp_rans_coder_make(gp_rans_coder *coder, const uint16_t frequency[256],
                        uint8_t other);
void gp_rans_decoder_make(gp_rans_decoder *decoder,
                          const uint16_t frequency[256]);

/* States at their beginning. */
void gp_rans_start(gp_rans *r, size_t lanes);
/* All states at their beginning again. */
bool gp_rans_ended(const gp_rans *r);

/* The states in 4 bytes each. get: false when one is out of its range. */
void gp_rans_write(const gp_rans *r, uint8_t *out);
bool gp_rans_read(gp_rans *r, const uint8_t *bytes, size_t lanes);

/* Codes `n` symbols that come before those coded so far, a multiple of 32
 * unless they are the first call's. Words go below `end`; at most n of them.
 * Returns the new end. */
uint8_t *gp_rans_put(gp_rans *r, const gp_rans_coder *coder,
                     const uint8_t *symbols, size_t n, uint8_t *end);

/* Decodes `n` symbols, a multiple of 32 but in the last call. Returns where the
 * words go on, or NULL when they end before the symbols. */
const uint8_t *gp_rans_get(gp_rans *r, const gp_rans_decoder *decoder,
                           uint8_t *symbols, size_t n, const uint8_t *at,
                           const uint8_t *end);

/* Whole rounds of 32 lanes in vectors; they return how many symbols they did,
 * from the end (put) or from the front (get), and move the pointer. */
#if defined(__x86_64__)
size_t gp_rans_put_avx512(gp_rans *r, const gp_rans_coder *coder,
                          const uint8_t *symbols, size_t n, uint8_t **end);
size_t gp_rans_put_avx2(gp_rans *r, const gp_rans_coder *coder,
                        const uint8_t *symbols, size_t n, uint8_t **end);
size_t gp_rans_get_avx512(gp_rans *r, const gp_rans_decoder *decoder,
                          uint8_t *symbols, size_t n, const uint8_t **at,
                          const uint8_t *end);
size_t gp_rans_get_avx2(gp_rans *r, const gp_rans_decoder *decoder,
                        uint8_t *symbols, size_t n, const uint8_t **at,
                        const uint8_t *end);
#endif

#endif
