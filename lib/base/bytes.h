/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - little-endian put and get, and a bounded reader and writer.
 *
 * Everything that goes on a wire or into a file passes through here; no struct
 * is ever copied as it lies in memory.
 */
#ifndef GP_BYTES_H
#define GP_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline void
gp_put16(void *out, uint16_t v)
{
    uint8_t *p = out;

    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void
gp_put32(void *out, uint32_t v)
{
    uint8_t *p = out;

    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline void
gp_put64(void *out, uint64_t v)
{
    uint8_t *p = out;

    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline uint16_t
gp_get16(const void *in)
{
    const uint8_t *p = in;

    return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t
gp_get32(const void *in)
{
    const uint8_t *p = in;

    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t
gp_get64(const void *in)
{
    const uint8_t *p = in;

    return (uint64_t)gp_get32(p) | (uint64_t)gp_get32(p + 4) << 32;
}

/*
 * Where a peer's device can write, bytes may change between two reads, and a
 * compiler may read twice what is read once here. What was checked and is then
 * relied on (a length, a place) comes through one of these.
 */
static inline uint8_t
gp_once8(const void *in)
{
    uint8_t v = *(const uint8_t *)in;

    __asm__ volatile("" : "+r"(v));
    return v;
}

static inline uint16_t
gp_once16(const void *in)
{
    uint16_t v = gp_get16(in);

    __asm__ volatile("" : "+r"(v));
    return v;
}

static inline uint32_t
gp_once32(const void *in)
{
    uint32_t v = gp_get32(in);

    __asm__ volatile("" : "+r"(v));
    return v;
}

static inline uint64_t
gp_once64(const void *in)
{
    uint64_t v = gp_get64(in);

    __asm__ volatile("" : "+r"(v));
    return v;
}

/* Reads within bounds, each byte once; after the first short read `ok` stays
 * false and every further read gives 0. */
typedef struct gp_reader {
    const uint8_t *at;
    size_t left;
    bool ok;
} gp_reader;

static inline const uint8_t *
gp_read(gp_reader *r, size_t length)
{
    const uint8_t *p = r->at;

    if (!r->ok || length > r->left) {
        r->ok = false;
        return NULL;
    }
    r->at += length;
    r->left -= length;
    return p;
}

static inline uint8_t
gp_read8(gp_reader *r)
{
    const uint8_t *p = gp_read(r, 1);

    return p ? gp_once8(p) : 0;
}

static inline uint16_t
gp_read16(gp_reader *r)
{
    const uint8_t *p = gp_read(r, 2);

    return p ? gp_once16(p) : 0;
}

static inline uint32_t
gp_read32(gp_reader *r)
{
    const uint8_t *p = gp_read(r, 4);

    return p ? gp_once32(p) : 0;
}

static inline uint64_t
gp_read64(gp_reader *r)
{
    const uint8_t *p = gp_read(r, 8);

    return p ? gp_once64(p) : 0;
}

/* Length (u16) and bytes into a zero-terminated buffer; not ok when too long
 * or when the bytes contain a zero. */
static inline void
gp_read_text(gp_reader *r, char *out, size_t capacity)
{
    size_t length = gp_read16(r);
    const uint8_t *p = gp_read(r, length);

    out[0] = '\0';
    if (!p || length >= capacity || memchr(p, 0, length)) {
        r->ok = false;
        return;
    }
    memcpy(out, p, length);
    out[length] = '\0';
}

/* Writes within bounds; `ok` turns false when it does not fit. */
typedef struct gp_writer {
    uint8_t *at;
    size_t left;
    bool ok;
} gp_writer;

static inline void
gp_write(gp_writer *w, const void *data, size_t length)
{
    if (!w->ok || length > w->left) {
        w->ok = false;
        return;
    }
    if (length)
        memcpy(w->at, data, length);
    w->at += length;
    w->left -= length;
}

static inline void
gp_write8(gp_writer *w, uint8_t v)
{
    gp_write(w, &v, 1);
}

static inline void
gp_write16(gp_writer *w, uint16_t v)
{
    uint8_t b[2];

    gp_put16(b, v);
    gp_write(w, b, sizeof(b));
}

static inline void
gp_write32(gp_writer *w, uint32_t v)
{
    uint8_t b[4];

    gp_put32(b, v);
    gp_write(w, b, sizeof(b));
}

static inline void
gp_write64(gp_writer *w, uint64_t v)
{
    uint8_t b[8];

    gp_put64(b, v);
    gp_write(w, b, sizeof(b));
}

static inline void
gp_write_text(gp_writer *w, const char *text)
{
    size_t length = strlen(text);

    if (length > UINT16_MAX) {
        w->ok = false;
        return;
    }
    gp_write16(w, (uint16_t)length);
    gp_write(w, text, length);
}

#endif
