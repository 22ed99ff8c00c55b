/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_frame.h - frames as bytes: what a lane's queue pair carries beside the
 * payloads that are written.
 */
#ifndef GP_VERBS_FRAME_H
#define GP_VERBS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/transport.h>

#define GP_VB_FRAME_HEADER 16u

/*
 * A frame is what one SEND carries, or one WRITE_WITH_IMM into the peer's ring:
 *
 *   0  u32  number of the frame on this lane, from 0
 *   4  u32  receives posted so far on this lane by the sender of the frame
 *   8  u32  bytes of records
 *  12  u32  CRC32C of bytes 0 to 11 and of the records; of those that carry
 *           messages, which have their own, of the first 4 bytes
 *  16  records, each: u8 kind, u8 flags, u16 bytes that follow, then those
 */
typedef enum gp_vb_record {
    /* The header of a data message whose payload was written before. */
    GP_VB_RECORD_DATA = 1,
    /* A header and the first bytes of its payload, or all of them: control,
     * short data, and data for a region that the sender does not know. Flags
     * of control, and of BYE: a number from 1 to 255 that changes when control
     * moves to another lane; what came before on others is delivered first. */
    GP_VB_RECORD_VALUE = 2,
    GP_VB_RECORD_MORE = 3, /* the next bytes of it */
    /* u32 token, u32 key, u64 address, u64 bytes: write there (flags bit 0: on
     * this lane only, which is all this version sends). */
    GP_VB_RECORD_EXPOSE = 4,
    GP_VB_RECORD_UNEXPOSE = 5, /* u32 token: not any more */
    /* Nothing was lost in the sender's words before this one: from now on the
     * receiver may write into regions on this lane. On every lane after each
     * connect, when withdrawn and exposed regions have been told on it; what
     * was left of a message in parts before is void. */
    GP_VB_RECORD_SYNC = 6,
    /* u8 lane, u8[3] zero, u32 first frame that did not arrive: that lane will
     * not come back. */
    GP_VB_RECORD_LOST = 7,
    /* Addresses of the sender's other rails: u16 family (4 or 6), u16 port,
     * then 4 or 16 bytes, repeated. */
    GP_VB_RECORD_RAILS = 8,
    GP_VB_RECORD_BYE = 9, /* nothing follows: the endpoint ends in order */
    /* u8 lane, u8[3] zero, u32 epoch, u32 first frame that did not arrive: its
     * queue pair of that epoch is gone here. The rest may go another way, once
     * the receiver of this has ended its own. */
    GP_VB_RECORD_REACHED = 10,
} gp_vb_record;

typedef struct gp_vb_frame {
    uint32_t number, granted;
    const uint8_t *records;
    size_t bytes;
} gp_vb_frame;

/* GP_ERR_PROTOCOL, GP_ERR_CHECKSUM. Reads from a copy of the header. */
gp_status gp_vb_frame_decode(const void *bytes, size_t length,
                             gp_vb_frame *out);
/* Finishes a frame whose records lie at out + GP_VB_FRAME_HEADER. */
void gp_vb_frame_encode(uint32_t number, uint32_t granted, size_t records,
                        void *out);

#define GP_VB_RECORD_HEADER 4u
typedef struct gp_vb_piece {
    uint8_t kind, flags;
    size_t length;
    const uint8_t *bytes;
} gp_vb_piece;

/* The record at *at, which moves on; false when it does not fit. */
bool gp_vb_record_next(const uint8_t *records, size_t bytes, size_t *at,
                       gp_vb_piece *out);
/* Writes the head of a record of `length` bytes; returns where these go. */
uint8_t *gp_vb_record_begin(uint8_t *to, gp_vb_record kind, uint8_t flags,
                            size_t length);

#endif
