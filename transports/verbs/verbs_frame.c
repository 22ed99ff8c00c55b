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

static bool
is_message(uint8_t kind)
{
    return kind <= GP_VB_RECORD_MORE;
}

/* Messages have checksums of their own, a header always and a payload when it
 * is asked for: of their records only the heads count. */
static bool
checksum(const uint8_t *header, const uint8_t *records, size_t bytes,
         uint32_t *out)
{
    uint32_t crc = gp_crc32c(0, header, AT_CRC);
    size_t at = 0;

    while (at < bytes) {
        size_t begin = at;
        gp_vb_piece r;

        if (!gp_vb_record_next(records, bytes, &at, &r))
            return false;
        crc = gp_crc32c(crc, records + begin,
                        is_message(r.kind) ? GP_VB_RECORD_HEADER : at - begin);
    }
    *out = crc;
    return true;
}

void
gp_vb_frame_encode(uint32_t number, uint32_t granted, size_t records, void *out)
{
    uint32_t crc = 0;
    uint8_t *p = out;

    gp_put32(p + AT_NUMBER, number);
    gp_put32(p + AT_GRANTED, granted);
    gp_put32(p + AT_BYTES, (uint32_t)records);
    (void)checksum(p, p + GP_VB_FRAME_HEADER, records, &crc);
    gp_put32(p + AT_CRC, crc);
}

gp_status
gp_vb_frame_decode(const void *bytes, size_t length, gp_vb_frame *out)
{
    const uint8_t *records = (const uint8_t *)bytes + GP_VB_FRAME_HEADER;
    uint8_t header[GP_VB_FRAME_HEADER];
    uint32_t crc;
    size_t n;

    if (length < sizeof(header))
        return GP_ERR_PROTOCOL;
    memcpy(header, bytes, sizeof(header));
    n = gp_get32(header + AT_BYTES);
    if (n != length - sizeof(header) || !checksum(header, records, n, &crc))
        return GP_ERR_PROTOCOL;
    if (gp_get32(header + AT_CRC) != crc)
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
