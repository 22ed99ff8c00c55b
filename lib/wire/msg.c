/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg.c - the wire form of a message header.
 *
 * The layout is docs/protocol.md's, byte for byte; tests/golden holds examples.
 * Decoding is on the path of every message: what a good header costs is its
 * checksum.
 */
#include "base/base.h"
#include "base/bytes.h"

#include <gradpush/transport.h>

#define MAGIC 0x314d5047u /* "GPM1" */

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_TYPE = 5,
    AT_FLAGS = 6,
    AT_JOB = 8,
    AT_WORKER = 16,
    AT_INCARNATION = 20,
    AT_EPOCH = 24,
    AT_CHUNK = 28,
    AT_STEP = 32,
    AT_PIPELINE = 40,
    AT_DTYPE = 44,
    AT_RESERVED = 45,
    AT_SLOT = 46,
    AT_ELEMENTS = 48,
    AT_PAYLOAD = 56,
    AT_REGION = 64,
    AT_STATUS = 68,
    AT_OFFSET = 72,
    AT_COOKIE = 80,
    AT_CREDITS = 88,
    AT_AUX = 96,
    AT_PAYLOAD_CRC = 104,
    AT_HEADER_CRC = 108
};

_Static_assert(AT_HEADER_CRC + 4 == GP_MSG_BYTES, "the checksum ends it");

void
gp_msg_encode(const gp_msg *msg, void *out)
{
    uint8_t *p = out;

    gp_put32(p + AT_MAGIC, MAGIC);
    p[AT_VERSION] = GP_PROTOCOL_VERSION;
    p[AT_TYPE] = msg->type;
    gp_put16(p + AT_FLAGS, msg->flags);
    gp_put64(p + AT_JOB, msg->job);
    gp_put32(p + AT_WORKER, msg->worker);
    gp_put32(p + AT_INCARNATION, msg->incarnation);
    gp_put32(p + AT_EPOCH, msg->epoch);
    gp_put32(p + AT_CHUNK, msg->chunk);
    gp_put64(p + AT_STEP, msg->step);
    gp_put32(p + AT_PIPELINE, msg->pipeline);
    p[AT_DTYPE] = msg->dtype;
    p[AT_RESERVED] = 0;
    gp_put16(p + AT_SLOT, msg->slot);
    gp_put64(p + AT_ELEMENTS, msg->elements);
    gp_put64(p + AT_PAYLOAD, msg->payload);
    gp_put32(p + AT_REGION, msg->region);
    gp_put32(p + AT_STATUS, (uint32_t)msg->status);
    gp_put64(p + AT_OFFSET, msg->offset);
    gp_put64(p + AT_COOKIE, msg->cookie);
    gp_put64(p + AT_CREDITS, msg->credits);
    gp_put64(p + AT_AUX, msg->aux);
    gp_put32(p + AT_PAYLOAD_CRC, msg->payload_crc);
    gp_put32(p + AT_HEADER_CRC, gp_crc32c(0, p, AT_HEADER_CRC));
}

/* The version comes before the checksum: another version may have another
 * length, and its sender deserves to hear the true reason. */
static gp_status
check(const uint8_t *p)
{
    uint32_t crc;

    if (gp_get32(p + AT_MAGIC) != MAGIC)
        return gp_fail(GP_ERR_PROTOCOL,
                       "not a gradpush message: it starts with "
                       "%02x %02x %02x %02x",
                       p[0], p[1], p[2], p[3]);
    if (p[AT_VERSION] != GP_PROTOCOL_VERSION)
        return gp_fail(GP_ERR_VERSION,
                       "the peer speaks protocol version %u, this build "
                       "version %u",
                       p[AT_VERSION], GP_PROTOCOL_VERSION);
    crc = gp_crc32c(0, p, AT_HEADER_CRC);
    if (gp_get32(p + AT_HEADER_CRC) != crc)
        return gp_fail(GP_ERR_CHECKSUM,
                       "message header is damaged: checksum %08x, not %08x",
                       gp_get32(p + AT_HEADER_CRC), crc);
    if (p[AT_RESERVED])
        return gp_fail(GP_ERR_PROTOCOL,
                       "a reserved byte of a message header is %u, not 0",
                       p[AT_RESERVED]);
    return GP_OK;
}

gp_status
gp_msg_decode(const void *bytes, gp_msg *out)
{
    const uint8_t *p = bytes;
    gp_status status = check(p);

    if (status != GP_OK)
        return status;
    out->type = p[AT_TYPE];
    out->flags = gp_get16(p + AT_FLAGS);
    out->job = gp_get64(p + AT_JOB);
    out->worker = gp_get32(p + AT_WORKER);
    out->incarnation = gp_get32(p + AT_INCARNATION);
    out->epoch = gp_get32(p + AT_EPOCH);
    out->chunk = gp_get32(p + AT_CHUNK);
    out->step = gp_get64(p + AT_STEP);
    out->pipeline = gp_get32(p + AT_PIPELINE);
    out->dtype = p[AT_DTYPE];
    out->slot = gp_get16(p + AT_SLOT);
    out->elements = gp_get64(p + AT_ELEMENTS);
    out->payload = gp_get64(p + AT_PAYLOAD);
    out->region = gp_get32(p + AT_REGION);
    out->status = (int32_t)gp_get32(p + AT_STATUS);
    out->offset = gp_get64(p + AT_OFFSET);
    out->cookie = gp_get64(p + AT_COOKIE);
    out->credits = gp_get64(p + AT_CREDITS);
    out->aux = gp_get64(p + AT_AUX);
    out->payload_crc = gp_get32(p + AT_PAYLOAD_CRC);
    return GP_OK;
}
