/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_brief.h - brief frames: one short message, as few bytes as it has to
 * say, and a check over all of them.
 *
 *   0  u64  bits 0 to 10: number of the frame, modulo 2048; 11 to 26: receives
 *           posted so far, modulo 65536; 27 to 38: words that follow; 39 to 47:
 *           bytes from 16 on; 48 to 55: type of the message; 56 to 63: flags,
 *           as in VALUE
 *   8  u64  check over the whole number and all other bytes; bit 31 is set
 *  16  words of the header that are not zero, then the payload; zeros up to a
 *      multiple of 8
 *
 * The check is what makes a brief frame different: memory in which it is whole
 * holds the message, whatever order its bytes came in, so a receive buffer can
 * be looked at before the device says that it is done. Nothing is believed but
 * a copy. The check is 63 bits of mixing and not a CRC because it has to tell
 * any mixture of a frame and what lay there before from the frame, for as many
 * looks as there are; damage on the wire is the device's to find.
 *
 * Somebody waits for nearly every such message, and nothing else is done until
 * it has left: each instruction here counts, and calls do too.
 */
#ifndef GP_VERBS_BRIEF_H
#define GP_VERBS_BRIEF_H

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"

#define GP_VB_BRIEF_PAYLOAD 256u
#define GP_VB_BRIEF_MAX     368u /* with all words, and 16 bytes */

/* A device writes there while it is looked at, which no lock tells of. */
#define GP_VB_UNWATCHED __attribute__((no_sanitize("thread")))

/* The head: two words of 8 bytes. */
#define GP_VB_BRIEF_HEAD  2u
#define GP_VB_BRIEF_CHECK 1u

#define GP_VB_BRIEF_NUMBER     0x7FFu /* so much of the number */
#define GP_VB_BRIEF_GRANTED_AT 11
#define GP_VB_BRIEF_WORDS_AT   27
#define GP_VB_BRIEF_LENGTH_AT  39
#define GP_VB_BRIEF_TYPE_AT    48
#define GP_VB_BRIEF_TURN_AT    56
/* Set in the check: other frames have zero there, in their length. */
#define GP_VB_BRIEF_MARK 0x80000000u

/* Of these the first ones are looked at one by one, the others only when one
 * of them is there. */
#define GP_VB_BRIEF_USUAL 5u

typedef uint64_t __attribute__((may_alias)) gp_vb_word;
typedef uint32_t __attribute__((may_alias)) gp_vb_half;

static inline uint64_t
gp_vb_brief_two(uint32_t low, uint32_t high)
{
    return low | (uint64_t)high << 32;
}

static inline uint32_t
gp_vb_brief_low(uint64_t value)
{
    return (uint32_t)value;
}

static inline uint32_t
gp_vb_brief_high(uint64_t value)
{
    return (uint32_t)(value >> 32);
}

static inline void
gp_vb_brief_put(gp_vb_word **to, uint64_t *mask, uint32_t i, uint64_t value)
{
    uint64_t some = value != 0;

    **to = htole64(value);
    *to += some;
    *mask |= some << i;
}

/* Writes those that are not zero, and maybe one word behind; returns where they
 * end. */
static inline gp_vb_word *
gp_vb_brief_put_words(const gp_msg *msg, gp_vb_word *to, uint64_t *out)
{
    uint64_t members = gp_vb_brief_two(msg->worker, msg->incarnation);
    uint64_t answer = gp_vb_brief_two(msg->slot, (uint32_t)msg->status);
    uint64_t late =
        gp_vb_brief_two(msg->payload_crc, gp_vb_brief_high(msg->step));
    uint64_t mask = 0;

    gp_vb_brief_put(&to, &mask, 0, msg->region | msg->step << 32);
    gp_vb_brief_put(&to, &mask, 1, msg->offset);
    gp_vb_brief_put(&to, &mask, 2, gp_vb_brief_two(msg->epoch, msg->chunk));
    gp_vb_brief_put(&to, &mask, 3, msg->cookie);
    gp_vb_brief_put(&to, &mask, 4,
                    msg->pipeline | (uint64_t)msg->dtype << 32 |
                        (uint64_t)msg->flags << 40);
    if (msg->credits | msg->elements | msg->job | msg->aux | members | answer |
        late) {
        gp_vb_brief_put(&to, &mask, 5, msg->credits);
        gp_vb_brief_put(&to, &mask, 6, msg->elements);
        gp_vb_brief_put(&to, &mask, 7, msg->job);
        gp_vb_brief_put(&to, &mask, 8, msg->aux);
        gp_vb_brief_put(&to, &mask, 9, members);
        gp_vb_brief_put(&to, &mask, 10, answer);
        gp_vb_brief_put(&to, &mask, 11, late);
    }
    *out = mask;
    return to;
}

/* Each word is read once: it may lie where the peer can write. */
GP_VB_UNWATCHED static inline uint64_t
gp_vb_brief_get(const volatile gp_vb_word **from, uint64_t mask, uint32_t i)
{
    uint64_t some = mask >> i & 1, value = **from;

    *from += some;
    return le64toh(value) & -some;
}

GP_VB_UNWATCHED static inline const volatile gp_vb_word *
gp_vb_brief_get_rare(const volatile gp_vb_word *from, uint64_t mask,
                     gp_msg *msg)
{
    uint64_t members, answer, late;

    msg->credits = gp_vb_brief_get(&from, mask, 5);
    msg->elements = gp_vb_brief_get(&from, mask, 6);
    msg->job = gp_vb_brief_get(&from, mask, 7);
    msg->aux = gp_vb_brief_get(&from, mask, 8);
    members = gp_vb_brief_get(&from, mask, 9);
    msg->worker = gp_vb_brief_low(members);
    msg->incarnation = gp_vb_brief_high(members);
    answer = gp_vb_brief_get(&from, mask, 10);
    msg->slot = (uint16_t)answer;
    msg->status = (int32_t)gp_vb_brief_high(answer);
    late = gp_vb_brief_get(&from, mask, 11);
    msg->payload_crc = gp_vb_brief_low(late);
    msg->step |= late & ~(uint64_t)UINT32_MAX;
    return from;
}

/* Reads up to one word behind those that are there. */
GP_VB_UNWATCHED static inline const volatile gp_vb_word *
gp_vb_brief_get_words(const volatile gp_vb_word *from, uint64_t mask,
                      gp_msg *msg)
{
    uint64_t value = gp_vb_brief_get(&from, mask, 0);

    msg->region = gp_vb_brief_low(value);
    msg->step = value >> 32;
    msg->offset = gp_vb_brief_get(&from, mask, 1);
    value = gp_vb_brief_get(&from, mask, 2);
    msg->epoch = gp_vb_brief_low(value);
    msg->chunk = gp_vb_brief_high(value);
    msg->cookie = gp_vb_brief_get(&from, mask, 3);
    value = gp_vb_brief_get(&from, mask, 4);
    msg->pipeline = gp_vb_brief_low(value);
    msg->dtype = (uint8_t)(value >> 32);
    msg->flags = (uint16_t)(value >> 40);
    if (mask >> GP_VB_BRIEF_USUAL)
        return gp_vb_brief_get_rare(from, mask, msg);
    msg->credits = msg->elements = msg->job = msg->aux = 0;
    msg->worker = msg->incarnation = msg->payload_crc = 0;
    msg->slot = 0;
    msg->status = 0;
    return from;
}

/* Each step keeps every difference, and spreads it. */
static inline uint64_t
gp_vb_brief_mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum >> 32 | sum << 32;
}

/* The check: the last product, of which the mark takes a bit that no change of
 * one bit alone decides. */
static inline uint64_t
gp_vb_brief_seal(uint64_t sum)
{
    return (sum >> 32 | sum << 32) | GP_VB_BRIEF_MARK;
}

/* What the check begins with. */
static inline uint64_t
gp_vb_brief_seed(uint32_t number, uint64_t first)
{
    return gp_vb_brief_mix(gp_vb_brief_mix(0, number), first);
}

/* Copies `bytes` of a payload, zeros up to the end of a word. */
static inline uint64_t
gp_vb_brief_put_payload(gp_vb_word *to, const uint8_t *from, size_t bytes,
                        uint64_t sum)
{
    uint64_t value, next;

    for (; bytes >= 16; bytes -= 16, from += 16, to += 2) {
        memcpy(&value, from, 8);
        memcpy(&next, from + 8, 8);
        to[0] = value;
        to[1] = next;
        sum = gp_vb_brief_mix(gp_vb_brief_mix(sum, le64toh(value)),
                              le64toh(next));
    }
    if (bytes & 8) {
        memcpy(&value, from, 8);
        *to++ = value;
        from += 8;
        sum = gp_vb_brief_mix(sum, le64toh(value));
    }
    if (!(bytes & 7))
        return sum;
    value = 0;
    for (size_t i = 0; i < (bytes & 7); i++)
        value |= (uint64_t)from[i] << 8 * i;
    *to = htole64(value);
    return gp_vb_brief_mix(sum, value);
}

/* Returns its bytes. `out` is aligned to 8 and has 8 bytes more than that. */
static inline size_t
gp_vb_brief_encode(uint32_t number, uint32_t granted, uint8_t turn,
                   const gp_msg *msg, const void *payload, uint8_t *out)
{
    gp_vb_word *head = (gp_vb_word *)(void *)out, *at = head + GP_VB_BRIEF_HEAD;
    uint64_t length = msg->payload, mask, first, sum;
    gp_vb_word *end = gp_vb_brief_put_words(msg, at, &mask);

    length += (uint64_t)(end - at) * 8;
    first = (number & GP_VB_BRIEF_NUMBER) |
            (uint64_t)(uint16_t)granted << GP_VB_BRIEF_GRANTED_AT |
            mask << GP_VB_BRIEF_WORDS_AT | length << GP_VB_BRIEF_LENGTH_AT |
            (uint64_t)msg->type << GP_VB_BRIEF_TYPE_AT |
            (uint64_t)turn << GP_VB_BRIEF_TURN_AT;
    head[0] = htole64(first);
    sum = gp_vb_brief_seed(number, first);
    for (; at < end; at++)
        sum = gp_vb_brief_mix(sum, le64toh(*at));
    sum = gp_vb_brief_put_payload(end, payload, (size_t)msg->payload, sum);
    head[GP_VB_BRIEF_CHECK] = htole64(gp_vb_brief_seal(sum));
    return 8 * GP_VB_BRIEF_HEAD + (((size_t)length + 7) & ~(size_t)7);
}

/* Whether a frame of that number has begun to arrive, it seems. */
GP_VB_UNWATCHED static inline bool
gp_vb_brief_here(const uint8_t *from, uint32_t number)
{
    uint32_t low = *(const volatile gp_vb_half *)(const void *)from;

    return !((le32toh(low) ^ number) & GP_VB_BRIEF_NUMBER);
}

/* Words behind the head. */
static inline size_t
gp_vb_brief_count(uint64_t first)
{
    return ((first >> GP_VB_BRIEF_LENGTH_AT & 0x1FF) + 7) / 8;
}

/* Copies a brief frame of that number, of at most `room` bytes, from where it
 * may be arriving; its bytes, or 0: it is not whole, or not a brief one, or of
 * another number. Both aligned to 8. */
GP_VB_UNWATCHED static inline size_t
gp_vb_brief_take(const uint8_t *from, size_t room, uint32_t number, uint8_t *to)
{
    const volatile gp_vb_word *in =
        (const volatile gp_vb_word *)(const void *)from;
    gp_vb_word *out = (gp_vb_word *)(void *)to;
    gp_vb_word first = in[0], check = in[GP_VB_BRIEF_CHECK], value;
    uint64_t sum = gp_vb_brief_seed(number, le64toh(first));
    size_t n = GP_VB_BRIEF_HEAD + gp_vb_brief_count(le64toh(first));

    if (8 * n > room)
        return 0;
    out[0] = first;
    out[GP_VB_BRIEF_CHECK] = check;
    for (size_t i = GP_VB_BRIEF_HEAD; i < n; i++) {
        out[i] = value = in[i];
        sum = gp_vb_brief_mix(sum, le64toh(value));
    }
    return gp_vb_brief_seal(sum) == le64toh(check) ? 8 * n : 0;
}

/* Whether all of a brief frame is there, as take() would find; its first word.
 */
GP_VB_UNWATCHED static inline bool
gp_vb_brief_whole(const uint8_t *from, size_t room, uint32_t number,
                  uint64_t *first)
{
    const volatile gp_vb_word *in =
        (const volatile gp_vb_word *)(const void *)from;
    const gp_vb_word *at = (const gp_vb_word *)(const void *)from +
                           GP_VB_BRIEF_HEAD,
                     *end;
    uint64_t one = le64toh(in[0]), sum = gp_vb_brief_seed(number, one);
    size_t n = gp_vb_brief_count(one);

    if (n > room / 8 - GP_VB_BRIEF_HEAD)
        return false;
    __asm__ volatile("" ::: "memory"); /* these are read now, and once */
    for (end = at + (n & ~(size_t)1); at < end; at += 2)
        sum = gp_vb_brief_mix(gp_vb_brief_mix(sum, le64toh(at[0])),
                              le64toh(at[1]));
    if (n & 1)
        sum = gp_vb_brief_mix(sum, le64toh(*at));
    *first = one;
    return gp_vb_brief_seal(sum) == le64toh(in[GP_VB_BRIEF_CHECK]);
}

static inline bool
gp_vb_brief_is(const uint8_t *bytes, size_t length)
{
    return length >= 8 * GP_VB_BRIEF_HEAD && (bytes[11] & 0x80);
}

static inline uint16_t
gp_vb_brief_granted(uint64_t first)
{
    return (uint16_t)(first >> GP_VB_BRIEF_GRANTED_AT);
}

static inline uint8_t
gp_vb_brief_turn(uint64_t first)
{
    return (uint8_t)(first >> GP_VB_BRIEF_TURN_AT);
}

/* Of one that was taken. */
static inline uint64_t
gp_vb_brief_first(const uint8_t *bytes)
{
    return le64toh(*(const gp_vb_word *)(const void *)bytes);
}

/* Reads the message of a frame whose first word is known, up to its payload,
 * which it returns; NULL: it makes no sense. `words` follow the check, and
 * there is room for GP_VB_BRIEF_MAX, whatever the frame's length. */
GP_VB_UNWATCHED static inline const volatile gp_vb_word *
gp_vb_brief_read(uint64_t first, const volatile gp_vb_word *words, gp_msg *msg)
{
    uint64_t mask = first >> GP_VB_BRIEF_WORDS_AT & 0xFFF;
    size_t length = first >> GP_VB_BRIEF_LENGTH_AT & 0x1FF, used;
    const volatile gp_vb_word *end;

    msg->type = (uint8_t)(first >> GP_VB_BRIEF_TYPE_AT);
    end = gp_vb_brief_get_words(words, mask, msg);
    used = (size_t)((uintptr_t)end - (uintptr_t)words);
    msg->payload = length - used;
    return used <= length ? end : NULL;
}

/* The same of one that was taken. */
static inline bool
gp_vb_brief_decode(const uint8_t *bytes, gp_msg *msg, const uint8_t **payload)
{
    const gp_vb_word *in = (const gp_vb_word *)(const void *)bytes;
    const volatile gp_vb_word *end =
        gp_vb_brief_read(le64toh(in[0]), in + GP_VB_BRIEF_HEAD, msg);

    *payload = (const uint8_t *)(uintptr_t)end;
    return end;
}

#endif
