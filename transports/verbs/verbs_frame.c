/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_frame.c - frames and records as bytes.
 *
 * In imm mode a frame lies in memory that the peer may write at any time, so
 * nothing is read twice: lengths are taken into variables, checked there, and
 * used from there.
 */
#ifdef GP_HAVE_VERBS

#include "base/bytes.h"
#include "transports/verbs/verbs_int.h"

#define AT_NUMBER  0
#define AT_GRANTED 4
#define AT_BYTES   8
#define AT_CRC     12

static uint32_t
checksum(const uint8_t *header, const uint8_t *records, size_t bytes)
{
    return gp_crc32c(gp_crc32c(0, header, AT_CRC), records, bytes);
}

void
gp_vb_frame_encode(uint32_t number, uint32_t granted, size_t records, void *out)
{
    uint8_t *p = out;

    gp_put32(p + AT_NUMBER, number);
    gp_put32(p + AT_GRANTED, granted);
    gp_put32(p + AT_BYTES, (uint32_t)records);
    gp_put32(p + AT_CRC, checksum(p, p + GP_VB_FRAME_HEADER, records));
}

gp_status
gp_vb_frame_decode(const void *bytes, size_t length, gp_vb_frame *out)
{
    const uint8_t *records = (const uint8_t *)bytes + GP_VB_FRAME_HEADER;
    uint8_t header[GP_VB_FRAME_HEADER];
    size_t n;

    if (length < sizeof(header))
        return GP_ERR_PROTOCOL;
    memcpy(header, bytes, sizeof(header));
    n = gp_get32(header + AT_BYTES);
    if (n != length - sizeof(header))
        return GP_ERR_PROTOCOL;
    if (gp_get32(header + AT_CRC) != checksum(header, records, n))
        return GP_ERR_CHECKSUM;
    out->number = gp_get32(header + AT_NUMBER);
    out->granted = gp_get32(header + AT_GRANTED);
    out->records = records;
    out->bytes = n;
    return GP_OK;
}

bool
gp_vb_record_next(const uint8_t *records, size_t bytes, size_t *at,
                  gp_vb_piece *out)
{
    const uint8_t *p = records + *at;

    if (bytes - *at < GP_VB_RECORD_HEADER)
        return false;
    out->kind = p[0];
    out->flags = p[1];
    out->length = gp_get16(p + 2);
    out->bytes = p + GP_VB_RECORD_HEADER;
    if (out->length > bytes - *at - GP_VB_RECORD_HEADER)
        return false;
    *at += GP_VB_RECORD_HEADER + out->length;
    return true;
}

uint8_t *
gp_vb_record_begin(uint8_t *to, gp_vb_record kind, uint8_t flags, size_t length)
{
    to[0] = (uint8_t)kind;
    to[1] = flags;
    gp_put16(to + 2, (uint16_t)length);
    return to + GP_VB_RECORD_HEADER;
}

#endif
