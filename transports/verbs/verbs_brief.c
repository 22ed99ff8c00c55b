/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_brief.c - brief frames: one short message, as few bytes as it has to
 * say, and a check over all of them.
 *
 * The check is what makes a brief frame different: memory in which it is whole
 * holds the message, whatever order its bytes came in, so a receive buffer can
 * be looked at before the device says that it is done. Nothing is believed but
 * a copy. The check is 64 bits of mixing and not a CRC because it has to tell
 * any mixture of a frame and what lay there before from the frame, for as many
 * looks as there are; damage on the wire is the device's to find.
 */
#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_frame.h"

#define AT_NUMBER  0
#define AT_MASK    4 /* its upper byte: the turn of control */
#define AT_GRANTED 8
#define AT_LENGTH  10
#define AT_KIND    12 /* type, dtype, flags */
#define AT_CHECK   16
#define AT_WORDS   24

/* Set in the length: other frames have zero there. */
#define BRIEF 0x8000u

#define WORDS 23u

typedef uint64_t __attribute__((may_alias)) word;

/* Where the words of a header lie, in their order. Loops over this table are a
 * few instructions that are in the cache from their second turn on; 23 words
 * one by one would be several hundred that are not. */
#if __BYTE_ORDER == __BIG_ENDIAN
#define LOW  4
#define HIGH 0
#else
#define LOW  0
#define HIGH 4
#endif
#define ONE(field) offsetof(gp_msg, field)
#define BOTH(field) \
    offsetof(gp_msg, field) + LOW, offsetof(gp_msg, field) + HIGH
#define SLOT 20 /* the only one of 16 bits */
static const uint8_t place[WORDS] = {
    ONE(region),   BOTH(offset),  BOTH(step),       ONE(chunk),
    BOTH(cookie),  BOTH(credits), BOTH(elements),   BOTH(job),
    BOTH(aux),     ONE(worker),   ONE(incarnation), ONE(epoch),
    ONE(pipeline), ONE(slot),     ONE(status),      ONE(payload_crc)};

static inline uint8_t *
put_word(uint8_t *to, uint32_t value, uint32_t i, uint32_t *mask)
{
    if (!value)
        return to;
    gp_put32(to, value);
    *mask |= 1u << i;
    return to + 4;
}

/* Writes those that are not zero; returns where they end. */
static inline uint8_t *
put_words(const gp_msg *msg, uint8_t *to, uint32_t *out)
{
    const uint8_t *from = (const uint8_t *)msg;
    uint32_t mask = 0;

    for (uint32_t i = 0; i < SLOT; i++) {
        uint32_t value;

        memcpy(&value, from + place[i], sizeof(value));
        to = put_word(to, value, i, &mask);
    }
    to = put_word(to, msg->slot, SLOT, &mask);
    to = put_word(to, (uint32_t)msg->status, SLOT + 1, &mask);
    to = put_word(to, msg->payload_crc, SLOT + 2, &mask);
    *out = mask;
    return to;
}

static const uint8_t *
get_words(const uint8_t *from, uint32_t mask, gp_msg *msg)
{
    uint8_t *to = (uint8_t *)msg;

    for (; mask; mask &= mask - 1, from += 4) {
        uint32_t i = (uint32_t)__builtin_ctz(mask), value = gp_get32(from);

        if (i == SLOT)
            msg->slot = (uint16_t)value;
        else
            memcpy(to + place[i], &value, sizeof(value));
    }
    return from;
}

static size_t
whole(size_t length)
{
    return (AT_WORDS + length + 7) & ~(size_t)7;
}

/* Each step keeps every difference, and spreads it. */
static inline uint64_t
mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 32;
}

size_t
gp_vb_brief_encode(uint32_t number, uint32_t granted, uint8_t turn,
                   const gp_msg *msg, const void *payload, uint8_t *out)
{
    uint64_t sum;
    uint32_t mask;
    uint8_t *at = put_words(msg, out + AT_WORDS, &mask);
    size_t length = (size_t)(at - out) - AT_WORDS + (size_t)msg->payload, n;

    if (msg->payload)
        memcpy(at, payload, (size_t)msg->payload);
    gp_put64(out + AT_WORDS + length, 0);
    gp_put32(out + AT_NUMBER, number);
    gp_put32(out + AT_MASK, mask | (uint32_t)turn << 24);
    gp_put16(out + AT_GRANTED, (uint16_t)granted);
    gp_put16(out + AT_LENGTH, (uint16_t)(BRIEF | length));
    gp_put32(out + AT_KIND, msg->type | (uint32_t)msg->dtype << 8 |
                                (uint32_t)msg->flags << 16);
    n = whole(length);
    sum = mix(mix(0, gp_get64(out)), gp_get64(out + 8));
    for (size_t i = AT_WORDS; i < n; i += 8)
        sum = mix(sum, gp_get64(out + i));
    gp_put64(out + AT_CHECK, sum);
    return n;
}

GP_VB_UNWATCHED size_t
gp_vb_brief_take(const uint8_t *from, size_t room, uint8_t *to)
{
    const volatile word *in = (const volatile word *)(const void *)from;
    word *out = (word *)(void *)to;
    uint64_t check, sum = 0;
    size_t length, n;

    out[0] = in[0];
    out[1] = in[1];
    out[2] = in[2];
    length = gp_get16(to + AT_LENGTH);
    n = whole(length & ~(size_t)BRIEF);
    if (!(length & BRIEF) || n > room)
        return 0;
    check = le64toh(out[2]);
    sum = mix(mix(sum, le64toh(out[0])), le64toh(out[1]));
    for (size_t i = AT_WORDS / 8; i < n / 8; i++) {
        word value = in[i];

        out[i] = value;
        sum = mix(sum, le64toh(value));
    }
    return sum == check ? n : 0;
}

bool
gp_vb_brief_is(const uint8_t *bytes, size_t length)
{
    return length >= AT_WORDS && (gp_get16(bytes + AT_LENGTH) & BRIEF);
}

void
gp_vb_brief_head(const uint8_t *bytes, uint32_t *number, uint16_t *granted)
{
    *number = gp_get32(bytes + AT_NUMBER);
    *granted = gp_get16(bytes + AT_GRANTED);
}

uint8_t
gp_vb_brief_turn(const uint8_t *bytes)
{
    return bytes[AT_MASK + 3];
}

bool
gp_vb_brief_decode(const uint8_t *bytes, gp_msg *msg, const uint8_t **payload)
{
    uint32_t kind = gp_get32(bytes + AT_KIND);
    uint32_t mask = gp_get32(bytes + AT_MASK) & 0xFFFFFF;
    size_t length = gp_get16(bytes + AT_LENGTH) & ~BRIEF;
    size_t used = 4 * (size_t)__builtin_popcount(mask);

    if (mask >> WORDS || used > length)
        return false;
    *msg = (gp_msg){.type = (uint8_t)kind,
                    .dtype = (uint8_t)(kind >> 8),
                    .flags = (uint16_t)(kind >> 16),
                    .payload = length - used};
    *payload = get_words(bytes + AT_WORDS, mask, msg);
    return true;
}
