/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ans.c - the codec ans: a byte stage that codes bytes by their frequencies,
 * through rans.h.
 *
 * Layout as in packer.h; packed data is one block per 65536 bytes:
 *
 *     kind (u8: 0 stored, 1 coded), length of what follows (u32), and
 *     stored: the bytes
 *     coded: which bytes occur (256 bits), their frequencies of 4096 in order
 *     (u8 when below 128, else low 7 bits + 128, then the rest), rANS states,
 *     rANS words
 *
 * Blocks have tables of their own because after a shuffle the bytes of one sort
 * lie together: exponents shrink, mantissas are stored.
 */
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/packer.h"
#include "compress/rans.h"

#define BLOCK ((size_t)65536)
#define HEAD  5
#define MAP   32

enum { BLOCK_STORED, BLOCK_CODED };

typedef struct ans_scratch {
    union {
        gp_rans_coder coder;
        gp_rans_decoder decoder;
    } table;
    uint16_t frequency[256];
    /* Table, states, slack, and the words of a block, from the end. */
    uint8_t bytes[MAP + 512 + 4 * GP_RANS_LANES + GP_RANS_SLACK + 2 * BLOCK];
} ans_scratch;

static void
count_bytes(const uint8_t *bytes, size_t n, uint32_t count[256])
{
    uint32_t of[4][256] = {{0}};
    size_t i = 0;

    for (; n - i >= 4; i += 4)
        for (size_t k = 0; k < 4; k++)
            of[k][bytes[i + k]]++;
    for (; i < n; i++)
        of[0][bytes[i]]++;
    for (size_t s = 0; s < 256; s++)
        count[s] = of[0][s] + of[1][s] + of[2][s] + of[3][s];
}

/* Frequencies that add up to 4096, none of them 4096: a lonely symbol gets a
 * neighbour that does not occur. What rounding leaves goes to, or is taken
 * from, the most frequent one, where it changes least. */
static void
share_out(const uint32_t count[256], size_t n, uint16_t frequency[256])
{
    uint32_t sum = 0;

    for (size_t s = 0; s < 256; s++) {
        uint64_t f = ((uint64_t)count[s] * GP_RANS_TOTAL + n / 2) / n;

        frequency[s] = (uint16_t)(count[s] ? GP_MAX(f, 1u) : 0);
        sum += frequency[s];
    }
    while (sum != GP_RANS_TOTAL) {
        size_t most = 0;

        for (size_t s = 1; s < 256; s++)
            most = frequency[s] > frequency[most] ? s : most;
        frequency[most] =
            (uint16_t)(frequency[most] + (sum < GP_RANS_TOTAL ? 1 : -1));
        sum += sum < GP_RANS_TOTAL ? 1 : UINT32_MAX;
    }
    for (size_t s = 0; s < 256; s++)
        if (frequency[s] == GP_RANS_TOTAL) {
            frequency[s]--;
            frequency[s == 0] = 1;
        }
}

static size_t
write_table(const uint16_t frequency[256], uint8_t *out)
{
    size_t n = MAP;

    memset(out, 0, MAP);
    for (size_t s = 0; s < 256; s++) {
        if (!frequency[s])
            continue;
        out[s / 8] |= (uint8_t)(1 << s % 8);
        if (frequency[s] >= 128)
            out[n++] = (uint8_t)(frequency[s] | 128);
        out[n++] =
            (uint8_t)(frequency[s] >= 128 ? frequency[s] >> 7 : frequency[s]);
    }
    return n;
}

static bool
read_table(gp_reader *r, uint16_t frequency[256])
{
    const uint8_t *map = gp_read(r, MAP);
    uint32_t sum = 0;

    for (size_t s = 0; map && s < 256; s++) {
        uint32_t f = 0;

        if (map[s / 8] >> s % 8 & 1) {
            f = gp_read8(r);
            if (f >= 128) {
                uint32_t high = gp_read8(r);

                f = (f & 127) | high << 7;
                if (high == 0 || high > 31)
                    return false;
            }
            if (f == 0)
                return false;
        }
        frequency[s] = (uint16_t)f;
        sum += f;
    }
    return r->ok && sum == GP_RANS_TOTAL;
}

/* Whether coding is worth it, by the costs: 32 bytes less at the least. */
static bool
pays(const uint32_t count[256], const uint16_t frequency[256], size_t n)
{
    uint64_t bits = 0;

    for (size_t s = 0; s < 256; s++)
        if (count[s])
            bits += (uint64_t)count[s] * gp_rans_cost(frequency[s]);
    return bits / (8 * 256) + MAP + 4 * gp_rans_lanes(n) + 32 <= n;
}

/* The block's coded form in `room` bytes, or 0. */
static size_t
code_block(ans_scratch *a, const uint8_t *source, size_t n, uint8_t *out,
           size_t room)
{
    uint8_t *end = a->bytes + sizeof(a->bytes), *low;
    uint32_t count[256];
    size_t head, words;
    gp_rans r;

    count_bytes(source, n, count);
    share_out(count, n, a->frequency);
    if (!pays(count, a->frequency, n))
        return 0;
    gp_rans_coder_make(&a->table.coder, a->frequency, source[0]);
    gp_rans_start(&r, gp_rans_lanes(n));
    low = gp_rans_put(&r, &a->table.coder, source, n, end);
    head = write_table(a->frequency, a->bytes);
    gp_rans_write(&r, a->bytes + head);
    head += 4 * r.lanes;
    words = (size_t)(end - low);
    if (head + words > room || head + words >= n)
        return 0;
    memcpy(out, a->bytes, head);
    memcpy(out + head, low, words);
    return head + words;
}

static size_t
ans_shrink(const void *instance, const gp_codec_context *context,
           const void *source, size_t size, void *out, size_t room)
{
    const uint8_t *from = source;
    uint8_t *to = out;
    size_t used = 0;

    (void)instance;
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t n = GP_MIN(size - at, BLOCK), coded;

        if (room - used < HEAD)
            return 0;
        coded = code_block(context->scratch, from + at, n, to + used + HEAD,
                           room - used - HEAD);
        if (!coded && room - used - HEAD < n)
            return 0;
        if (!coded)
            memcpy(to + used + HEAD, from + at, n);
        to[used] = coded ? BLOCK_CODED : BLOCK_STORED;
        gp_put32(to + used + 1, (uint32_t)(coded ? coded : n));
        used += HEAD + (coded ? coded : n);
    }
    return used;
}

static bool
decode_block(ans_scratch *a, const uint8_t *bytes, size_t length, uint8_t *out,
             size_t n)
{
    gp_reader r = {bytes, length, true};
    const uint8_t *states, *end = bytes + length;
    gp_rans states_of;

    if (length >= n || !read_table(&r, a->frequency))
        return false;
    for (size_t s = 0; s < 256; s++)
        if (a->frequency[s] >= GP_RANS_TOTAL)
            return false;
    states = gp_read(&r, 4 * gp_rans_lanes(n));
    if (!states || !gp_rans_read(&states_of, states, gp_rans_lanes(n)))
        return false;
    gp_rans_decoder_make(&a->table.decoder, a->frequency);
    return gp_rans_get(&states_of, &a->table.decoder, out, n, r.at, end) ==
               end &&
           gp_rans_ended(&states_of);
}

static bool
ans_expand(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t length, void *out, size_t size)
{
    gp_reader r = {bytes, length, true};
    uint8_t *to = out;

    (void)instance;
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t n = GP_MIN(size - at, BLOCK), inside;
        uint8_t kind = gp_read8(&r);
        const uint8_t *block;

        inside = gp_read32(&r);
        block = gp_read(&r, inside);
        if (!block)
            return false;
        if (kind == BLOCK_STORED && inside == n)
            memcpy(to + at, block, n);
        else if (kind != BLOCK_CODED ||
                 !decode_block(context->scratch, block, inside, to + at, n))
            return false;
    }
    return r.left == 0;
}

static gp_status
ans_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_packer *packer = calloc(1, sizeof(*packer));

    (void)values;
    (void)shape;
    if (!packer)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    packer->shrink = ans_shrink;
    packer->expand = ans_expand;
    packer->name = "ans";
    *instance = packer;
    return GP_OK;
}

static size_t
ans_scratch_bytes(const void *instance, size_t size)
{
    (void)instance;
    (void)size;
    return sizeof(ans_scratch);
}

const gp_codec_ops gp_codec_ans = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_LOSSLESS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "ans",
    .text = "bytes by their frequencies (rANS); stores what does not shrink",
    .open = ans_open,
    .close = free,
    .bound = gp_packer_bound,
    .scratch = ans_scratch_bytes,
    .pack = gp_packer_pack,
    .unpack = gp_packer_unpack,
};
