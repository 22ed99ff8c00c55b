/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_wire.c - bytes of the store's messages, little endian, field by field.
 *
 * Reserved fields are written as zero and must be zero, so that a later version
 * can give them a meaning.
 */
#include "rendezvous/store_wire.h"

#include <string.h>

#include "base/bytes.h"

static void
write_prefix(gp_writer *w, uint16_t version)
{
    gp_write32(w, GP_STORE_MAGIC);
    gp_write16(w, version);
    gp_write16(w, 0);
}

bool
gp_store_read_prefix(const uint8_t in[GP_STORE_PREFIX], uint16_t *version)
{
    *version = gp_get16(in + 4);
    return gp_get32(in) == GP_STORE_MAGIC;
}

/* The prefix, with the reserved field this version leaves empty. */
static bool
read_prefix(gp_reader *r, uint16_t *version)
{
    uint32_t magic = gp_read32(r);

    *version = gp_read16(r);
    return gp_read16(r) == 0 && magic == GP_STORE_MAGIC;
}

static void
read_bytes(gp_reader *r, uint8_t *out, size_t length)
{
    const uint8_t *p = gp_read(r, length);

    if (p)
        memcpy(out, p, length);
}

void
gp_store_write_greeting(const gp_store_greeting *in,
                        uint8_t out[GP_STORE_GREETING])
{
    gp_writer w = {out, GP_STORE_GREETING, true};

    write_prefix(&w, in->version);
    gp_write(&w, in->nonce, sizeof(in->nonce));
}

bool
gp_store_read_greeting(const uint8_t in[GP_STORE_GREETING],
                       gp_store_greeting *out)
{
    gp_reader r = {in, GP_STORE_GREETING, true};
    bool ok = read_prefix(&r, &out->version);

    read_bytes(&r, out->nonce, sizeof(out->nonce));
    return ok && r.ok && r.left == 0;
}

void
gp_store_write_hello(const gp_store_hello *in, uint8_t out[GP_STORE_HELLO])
{
    gp_writer w = {out, GP_STORE_HELLO, true};

    write_prefix(&w, in->version);
    gp_write(&w, in->nonce, sizeof(in->nonce));
    gp_write64(&w, in->job);
    gp_write(&w, in->proof, sizeof(in->proof));
}

bool
gp_store_read_hello(const uint8_t in[GP_STORE_HELLO], gp_store_hello *out)
{
    gp_reader r = {in, GP_STORE_HELLO, true};
    bool ok = read_prefix(&r, &out->version);

    read_bytes(&r, out->nonce, sizeof(out->nonce));
    out->job = gp_read64(&r);
    read_bytes(&r, out->proof, sizeof(out->proof));
    return ok && r.ok && r.left == 0;
}

void
gp_store_write_verdict(const gp_store_verdict *in,
                       uint8_t out[GP_STORE_VERDICT])
{
    gp_writer w = {out, GP_STORE_VERDICT, true};

    gp_write32(&w, (uint32_t)in->status);
    gp_write16(&w, in->version);
    gp_write16(&w, 0);
    gp_write(&w, in->proof, sizeof(in->proof));
}

bool
gp_store_read_verdict(const uint8_t in[GP_STORE_VERDICT], gp_store_verdict *out)
{
    gp_reader r = {in, GP_STORE_VERDICT, true};

    out->status = (int32_t)gp_read32(&r);
    out->version = gp_read16(&r);
    if (gp_read16(&r) != 0)
        r.ok = false;
    read_bytes(&r, out->proof, sizeof(out->proof));
    return r.ok && r.left == 0;
}

void
gp_store_write_request(const gp_store_request *in,
                       uint8_t out[GP_STORE_REQUEST])
{
    gp_writer w = {out, GP_STORE_REQUEST, true};

    gp_write8(&w, in->op);
    gp_write8(&w, 0);
    gp_write16(&w, in->key_length);
    gp_write32(&w, in->value_length);
    gp_write32(&w, in->wait_ms);
    gp_write32(&w, in->sequence);
}

/* Which lengths an operation may have. */
static bool
is_request(const gp_store_request *r)
{
    if (r->key_length < 1 || r->key_length > GP_STORE_KEY_MAX)
        return false;
    switch (r->op) {
    case GP_STORE_SET:
    case GP_STORE_CLAIM:
        return r->value_length <= GP_STORE_VALUE_MAX && r->wait_ms == 0;
    case GP_STORE_GET:
        return r->value_length == 0;
    case GP_STORE_ADD:
        return r->value_length == 8 && r->wait_ms == 0;
    case GP_STORE_WATCH:
        return r->value_length <= GP_STORE_VALUE_MAX;
    default:
        return false;
    }
}

bool
gp_store_read_request(const uint8_t in[GP_STORE_REQUEST], gp_store_request *out)
{
    gp_reader r = {in, GP_STORE_REQUEST, true};
    uint8_t reserved;

    out->op = gp_read8(&r);
    reserved = gp_read8(&r);
    out->key_length = gp_read16(&r);
    out->value_length = gp_read32(&r);
    out->wait_ms = gp_read32(&r);
    out->sequence = gp_read32(&r);
    return r.ok && reserved == 0 && is_request(out);
}

void
gp_store_write_answer(const gp_store_answer *in, uint8_t out[GP_STORE_ANSWER])
{
    gp_writer w = {out, GP_STORE_ANSWER, true};

    gp_write32(&w, (uint32_t)in->status);
    gp_write32(&w, in->value_length);
    gp_write32(&w, in->sequence);
}

bool
gp_store_read_answer(const uint8_t in[GP_STORE_ANSWER], gp_store_answer *out)
{
    gp_reader r = {in, GP_STORE_ANSWER, true};

    out->status = (int32_t)gp_read32(&r);
    out->value_length = gp_read32(&r);
    out->sequence = gp_read32(&r);
    return r.ok && out->value_length <= GP_STORE_VALUE_MAX;
}

gp_status
gp_store_prove(const char *token, const char *role,
               const uint8_t theirs[GP_TOKEN_NONCE],
               const uint8_t own[GP_TOKEN_NONCE], uint64_t job,
               uint8_t proof[GP_TOKEN_PROOF])
{
    return gp_token_prove(token, role, theirs, job, gp_get64(own), proof);
}
