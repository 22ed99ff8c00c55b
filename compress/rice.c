/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rice.c - adaptive Rice codes (Rice 1979) with one parameter per 32 gaps.
 *
 * With m gaps of sum S in a block, going from r to r + 1 saves
 * sum(ceil((g >> r) / 2)) - m bits. This is positive while 3 * 2^r < S/m + 1,
 * and not positive once 2^r >= S/m; only the few r between are tried.
 */
#include <endian.h>
#include <string.h>

#include "base/base.h"
#include "compress/rice.h"

#define BLOCK  32u
#define R_BITS 5u
#define R_MOST 31u
#define PEEKED 57u /* bits that an unaligned load gives at least */
/* Zeros that are put at once: with the longest rest of a code 56 bits. */
#define QUOTIENT 24u

/* Gaps add up to less than the last index, and fit 32 bits, too. */
static inline uint64_t
cost_of(const uint32_t *gaps, size_t m, unsigned r)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < m; i++)
        sum += gaps[i] >> r;
    return sum + m * (r + 1);
}

static inline __attribute__((always_inline)) unsigned
search_r(const uint32_t *gaps, size_t m, uint64_t *bits)
{
    uint64_t sum = cost_of(gaps, m, 0) - m, least = UINT64_MAX;
    unsigned r = 0, best = 0;

    while (r < R_MOST && 3 * m << r < sum + m)
        r++;
    for (; r <= R_MOST; r++) {
        uint64_t cost = cost_of(gaps, m, r);

        if (cost < least) {
            least = cost;
            best = r;
        }
        if (m << r >= sum)
            break;
    }
    *bits = least;
    return best;
}

/* Most blocks are whole, and loops of known length are vectors. */
static unsigned
best_r(const uint32_t *gaps, size_t m, uint64_t *bits)
{
    return m == BLOCK ? search_r(gaps, BLOCK, bits) : search_r(gaps, m, bits);
}

/* The gaps of the block that starts at index number `from`. */
static size_t
gaps_at(const uint32_t *indices, size_t selected, size_t from, uint32_t *gaps)
{
    size_t m = selected - from < BLOCK ? selected - from : BLOCK;

    gaps[0] = from ? indices[from] - indices[from - 1] - 1 : indices[0];
    for (size_t i = 1; i < m; i++)
        gaps[i] = indices[from + i] - indices[from + i - 1] - 1;
    return m;
}

/* Any r for all blocks bounds the best one of each: take one near the mean gap.
 * All quotients together are at most count >> r. */
size_t
gp_rice_bound(size_t selected, size_t count)
{
    unsigned r = 0;
    size_t bits, part;

    if (selected == 0)
        return 0;
    while (r < R_MOST && count / selected >> r > 1)
        r++;
    if (!gp_mul(selected, r + 1, &bits) || !gp_add(bits, count >> r, &bits) ||
        !gp_mul(selected / BLOCK + 1, R_BITS, &part) ||
        !gp_add(bits, part, &bits))
        return SIZE_MAX;
    return bits / 8 + (bits % 8 != 0);
}

size_t
gp_rice_size(const uint32_t *indices, size_t selected)
{
    uint32_t gaps[BLOCK];
    uint64_t total = 0, bits;

    for (size_t from = 0; from < selected; from += BLOCK) {
        size_t m = gaps_at(indices, selected, from, gaps);

        (void)best_r(gaps, m, &bits);
        total += R_BITS + bits;
    }
    return (size_t)((total + 7) / 8);
}

typedef struct gp_bit_writer {
    uint8_t *at, *end;
    uint64_t bits; /* fewer than 8 are waiting */
    unsigned used;
} gp_bit_writer;

/* At most 56 bits; those above `count` are 0. */
static inline void
put(gp_bit_writer *w, uint64_t bits, unsigned count)
{
    uint64_t all = w->bits | bits << w->used, stored = htole64(all);
    unsigned used = w->used + count;

    if (__builtin_expect(w->end - w->at >= 8, 1))
        memcpy(w->at, &stored, sizeof(stored));
    else
        memcpy(w->at, &stored, (size_t)(w->end - w->at));
    w->at += used >> 3;
    w->bits = all >> (used & ~7u);
    w->used = used & 7;
}

/* The code of a gap with a short quotient. */
static inline uint64_t
code_of(uint32_t gap, unsigned r, unsigned *length)
{
    uint32_t quotient = gap >> r, low = gap & ((1u << r) - 1);

    *length = quotient + 1 + r;
    return ((uint64_t)low << 1 | 1) << quotient;
}

static inline void
put_gap(gp_bit_writer *w, uint32_t gap, unsigned r)
{
    uint32_t quotient = gap >> r;
    unsigned length;
    uint64_t code;

    for (; quotient > QUOTIENT; quotient -= QUOTIENT)
        put(w, 0, QUOTIENT);
    code = code_of(quotient << r | (gap & ((1u << r) - 1)), r, &length);
    put(w, code, length);
}

/* Two at once when they fit: each waits for the one before it. */
static inline void
put_pair(gp_bit_writer *w, const uint32_t *gaps, unsigned r)
{
    unsigned first, second;
    uint64_t a, b;

    if (__builtin_expect((gaps[0] | gaps[1]) >> r >= 16 || r > 12, 0)) {
        put_gap(w, gaps[0], r);
        put_gap(w, gaps[1], r);
        return;
    }
    a = code_of(gaps[0], r, &first);
    b = code_of(gaps[1], r, &second);
    put(w, a | b << first, first + second);
}

size_t
gp_rice_write(const uint32_t *indices, size_t selected, uint8_t *out,
              size_t capacity)
{
    gp_bit_writer w = {out, out + capacity, 0, 0};
    uint32_t gaps[BLOCK];
    uint64_t bits;

    for (size_t from = 0; from < selected; from += BLOCK) {
        size_t m = gaps_at(indices, selected, from, gaps);
        unsigned r = best_r(gaps, m, &bits);

        put(&w, r, R_BITS);
        for (size_t i = 0; i + 2 <= m; i += 2)
            put_pair(&w, gaps + i, r);
        if (m % 2)
            put_gap(&w, gaps[m - 1], r);
    }
    return (size_t)(w.at - out) + (w.used > 0);
}

/* The end of the stream is copied and filled up with zeros, so that every load
 * is 8 bytes. */
typedef struct gp_bit_reader {
    const uint8_t *bytes;
    size_t length, tail_at;
    uint64_t at; /* bits; beyond the end once the stream was too short */
    uint8_t tail[32];
} gp_bit_reader;

static void
begin(gp_bit_reader *r, const uint8_t *bytes, size_t length)
{
    size_t rest = length < 16 ? length : 16;

    *r = (gp_bit_reader){bytes, length, length - rest, 0, {0}};
    if (rest)
        memcpy(r->tail, bytes + r->tail_at, rest);
}

/* The next bits, PEEKED at least; zeros beyond the end. */
static inline uint64_t
peek(const gp_bit_reader *r)
{
    uint64_t at = r->at >> 3, bits;

    if (__builtin_expect(at + 8 <= r->length, 1))
        memcpy(&bits, r->bytes + at, sizeof(bits));
    else if (at >= r->length)
        return 0;
    else
        memcpy(&bits, r->tail + (at - r->tail_at), sizeof(bits));
    return le64toh(bits) >> (r->at & 7);
}

/* A gap whose code is longer than one load. */
static bool
long_gap(gp_bit_reader *in, unsigned r, uint64_t *gap)
{
    uint64_t quotient = 0, bits;

    for (;;) {
        uint64_t window = peek(in) & (((uint64_t)1 << PEEKED) - 1);

        if (window) {
            unsigned zeros = (unsigned)__builtin_ctzll(window);

            quotient += zeros;
            in->at += zeros + 1;
            break;
        }
        quotient += PEEKED;
        in->at += PEEKED;
        if (in->at >= 8 * (uint64_t)in->length || quotient > UINT32_MAX)
            return false;
    }
    bits = peek(in) & (((uint64_t)1 << r) - 1);
    in->at += r;
    *gap = quotient << r | bits;
    return true;
}

static inline bool
get_gap(gp_bit_reader *in, unsigned r, uint64_t *gap)
{
    uint64_t window = peek(in);
    unsigned zeros;

    if (__builtin_expect((window & 0x1ffffff) == 0, 0))
        return long_gap(in, r, gap);
    zeros = (unsigned)__builtin_ctzll(window);
    *gap = (uint64_t)zeros << r |
           (window >> zeros >> 1 & (((uint64_t)1 << r) - 1));
    in->at += zeros + 1 + r;
    return true;
}

/* Everything used but less than a byte of zeros. */
static bool
at_end(const gp_bit_reader *in)
{
    return (in->at + 7) / 8 == in->length &&
           (in->at % 8 == 0 || in->bytes[in->length - 1] >> in->at % 8 == 0);
}

bool
gp_rice_read(const uint8_t *bytes, size_t length, uint32_t *indices,
             size_t selected, size_t count)
{
    gp_bit_reader in;
    uint64_t next = 0, gap;
    unsigned r = 0;

    if (selected > count)
        return false;
    begin(&in, bytes, length);
    for (size_t i = 0; i < selected; i++) {
        if (i % BLOCK == 0) {
            r = (unsigned)peek(&in) & ((1u << R_BITS) - 1);
            in.at += R_BITS;
        }
        if (!get_gap(&in, r, &gap) || gap >= count - next)
            return false;
        next += gap + 1;
        indices[i] = (uint32_t)(next - 1);
    }
    return at_end(&in);
}
