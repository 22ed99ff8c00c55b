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

/* Words of a header that are not zero, in their order. */
typedef struct words {
    uint8_t *at;
    uint32_t mask, bit;
} words;

static inline void
put(words *w, uint32_t value)
{
    if (value) {
        gp_put32(w->at, value);
        w->at += 4;
        w->mask |= w->bit;
    }
    w->bit <<= 1;
}

static inline void
put_both(words *w, uint64_t value)
{
    put(w, (uint32_t)value);
    put(w, (uint32_t)(value >> 32));
}

static inline uint32_t
get(words *w)
{
    uint32_t value = 0;

    if (w->mask & w->bit) {
        value = gp_get32(w->at);
        w->at += 4;
    }
    w->bit <<= 1;
    return value;
}

static inline uint64_t
get_both(words *w)
{
    uint32_t low = get(w);

    return low | (uint64_t)get(w) << 32;
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
    words w = {out + AT_WORDS, 0, 1};
    uint64_t sum = 0;
    size_t length;

    put(&w, msg->region);
    put_both(&w, msg->offset);
    put_both(&w, msg->step);
    put(&w, msg->chunk);
    put_both(&w, msg->cookie);
    put_both(&w, msg->credits);
    put_both(&w, msg->elements);
    put_both(&w, msg->job);
    put_both(&w, msg->aux);
    put(&w, msg->worker);
    put(&w, msg->incarnation);
    put(&w, msg->epoch);
    put(&w, msg->pipeline);
    put(&w, msg->slot);
    put(&w, (uint32_t)msg->status);
    put(&w, msg->payload_crc);
    length = (size_t)(w.at - out) - AT_WORDS + (size_t)msg->payload;
    if (msg->payload)
        memcpy(w.at, payload, (size_t)msg->payload);
    gp_put64(out + AT_WORDS + length, 0);
    gp_put32(out + AT_NUMBER, number);
    gp_put32(out + AT_MASK, w.mask | (uint32_t)turn << 24);
    gp_put16(out + AT_GRANTED, (uint16_t)granted);
    gp_put16(out + AT_LENGTH, (uint16_t)(BRIEF | length));
    gp_put32(out + AT_KIND, msg->type | (uint32_t)msg->dtype << 8 |
                                (uint32_t)msg->flags << 16);
    for (size_t at = 0; at < whole(length); at += 8)
        if (at != AT_CHECK)
            sum = mix(sum, gp_get64(out + at));
    gp_put64(out + AT_CHECK, sum);
    return whole(length);
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
    size_t length = gp_get16(bytes + AT_LENGTH) & ~BRIEF, used;
    words w = {(uint8_t *)(uintptr_t)bytes + AT_WORDS,
               gp_get32(bytes + AT_MASK) & 0xFFFFFF, 1};

    used = 4 * (size_t)__builtin_popcount(w.mask);
    if (w.mask >> WORDS || used > length)
        return false;
    msg->type = (uint8_t)kind;
    msg->dtype = (uint8_t)(kind >> 8);
    msg->flags = (uint16_t)(kind >> 16);
    msg->region = get(&w);
    msg->offset = get_both(&w);
    msg->step = get_both(&w);
    msg->chunk = get(&w);
    msg->cookie = get_both(&w);
    msg->credits = get_both(&w);
    msg->elements = get_both(&w);
    msg->job = get_both(&w);
    msg->aux = get_both(&w);
    msg->worker = get(&w);
    msg->incarnation = get(&w);
    msg->epoch = get(&w);
    msg->pipeline = get(&w);
    msg->slot = (uint16_t)get(&w);
    msg->status = (int32_t)get(&w);
    msg->payload_crc = get(&w);
    msg->payload = length - used;
    *payload = w.at;
    return true;
}
