/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_hello.c - the private data of a connection request and of its answer.
 *
 *     0  magic "GPVB"            4  version of the protocol, 16 bit
 *     6  flags                   7  lane
 *     8  group, 64 bit          16  epoch, 32 bit     20  next frame, 32 bit
 *    24  frames, 16 bit         26  lanes             27  zero
 *    28  bytes of a frame, 32 bit
 *    32  ring address, 64 bit   40  ring key, 32 bit  44  zero, 4 bytes
 *    48  proof: HMAC-SHA256 of bytes 0 to 47, its first 8 bytes
 *
 * All little endian, and 56 bytes because rdma_cm carries no more. Magic and
 * version stay where they are in every future version.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/token.h"
#include "transports/verbs/verbs_int.h"

#define PROVEN 48u
#define FLAGS                                                   \
    (GP_VB_HELLO_IWARP | GP_VB_HELLO_IMM | GP_VB_HELLO_RESUME | \
     GP_VB_HELLO_ANSWER | GP_VB_HELLO_BRIEF | GP_VB_HELLO_CUES)

static const uint8_t magic[4] = {'G', 'P', 'V', 'B'};

/* False when a token is set and this build cannot prove it. */
static bool
prove(const char *token, const uint8_t *bytes, uint8_t proof[8])
{
    uint8_t hmac[GP_TOKEN_PROOF];

    memset(proof, 0, 8);
    if (!token[0])
        return true;
    if (gp_token_hmac(token, strlen(token), bytes, PROVEN, hmac) != GP_OK)
        return false;
    memcpy(proof, hmac, 8);
    return true;
}

void
gp_vb_hello_encode(const gp_vb_hello *hello, const char *token, void *out)
{
    uint8_t *p = out;

    memset(p, 0, GP_VB_HELLO_BYTES);
    memcpy(p, magic, sizeof(magic));
    gp_put16(p + 4, hello->version);
    p[6] = hello->flags;
    p[7] = hello->lane;
    gp_put64(p + 8, hello->group);
    gp_put32(p + 16, hello->epoch);
    gp_put32(p + 20, hello->next_frame);
    gp_put16(p + 24, hello->frames);
    p[26] = hello->lanes;
    gp_put32(p + 28, hello->frame_bytes);
    gp_put64(p + 32, hello->ring_address);
    gp_put32(p + 40, hello->ring_key);
    (void)prove(token, p, p + PROVEN);
}

static bool
same(const uint8_t *a, const uint8_t *b)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;

    for (size_t i = 0; i < 8; i++)
        difference = (uint8_t)(difference | (x[i] ^ y[i]));
    return difference == 0;
}

static gp_vb_hello
parse(const uint8_t *p)
{
    return (gp_vb_hello){.version = gp_get16(p + 4),
                         .flags = p[6],
                         .lane = p[7],
                         .lanes = p[26],
                         .group = gp_get64(p + 8),
                         .epoch = gp_get32(p + 16),
                         .next_frame = gp_get32(p + 20),
                         .frames = gp_get16(p + 24),
                         .frame_bytes = gp_get32(p + 28),
                         .ring_address = gp_get64(p + 32),
                         .ring_key = gp_get32(p + 40),
                         .proof = gp_get64(p + 48)};
}

gp_status
gp_vb_hello_decode(const void *bytes, size_t length, const char *token,
                   gp_vb_hello *out)
{
    uint8_t p[GP_VB_HELLO_BYTES], proof[8];
    gp_vb_hello hello;

    if (!bytes || length < sizeof(p))
        return GP_ERR_PROTOCOL;
    memcpy(p, bytes, sizeof(p));
    if (memcmp(p, magic, sizeof(magic)))
        return GP_ERR_PROTOCOL;
    hello = parse(p);
    if (hello.version != GP_PROTOCOL_VERSION) {
        *out = hello;
        return GP_ERR_VERSION;
    }
    if (!prove(token, p, proof) || !same(proof, p + PROVEN))
        return GP_ERR_AUTH;
    if (hello.lanes < 1 || hello.lanes > GP_VB_LANES_MAX ||
        hello.lane >= hello.lanes || (hello.flags & ~FLAGS) || p[27] ||
        gp_get32(p + 44))
        return GP_ERR_PROTOCOL;
    *out = hello;
    return GP_OK;
}

void
gp_vb_reject_encode(gp_vb_reject reason, void *out)
{
    uint8_t *p = out;

    memset(p, 0, GP_VB_REJECT_BYTES);
    memcpy(p, "GPVR", 4);
    p[4] = (uint8_t)reason;
    gp_put16(p + 6, GP_PROTOCOL_VERSION);
}

gp_vb_reject
gp_vb_reject_decode(const void *bytes, size_t length, uint16_t *version)
{
    const uint8_t *p = bytes;

    if (!bytes || length < GP_VB_REJECT_BYTES || memcmp(p, "GPVR", 4))
        return (gp_vb_reject)0;
    if (version)
        *version = gp_get16(p + 6);
    return (gp_vb_reject)p[4];
}
