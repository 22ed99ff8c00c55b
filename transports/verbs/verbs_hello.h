/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_hello.h - the private data of a connection, and of a refusal.
 */
#ifndef GP_VERBS_HELLO_H
#define GP_VERBS_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#define GP_VB_HELLO_BYTES 56u

/* Flags of a hello. */
#define GP_VB_HELLO_IWARP  0x01u /* no WRITE_WITH_IMM here */
#define GP_VB_HELLO_IMM    0x02u /* asks for, or answers, notify = imm */
#define GP_VB_HELLO_RESUME 0x04u /* the group is known: a lost lane is back */
#define GP_VB_HELLO_ANSWER 0x08u /* from the accepting side: no echo passes */
#define GP_VB_HELLO_BRIEF  0x20u /* takes brief frames */
#define GP_VB_HELLO_CUES   0x40u /* takes cues */

/* Private data of connect and accept, 56 bytes; docs/transports.md has the
 * layout. `proof` is the first 8 bytes of HMAC-SHA256 over the rest with the
 * job token as key, zero without a token: it keeps strangers from taking
 * queue pairs; the engine's handshake proves more. */
typedef struct gp_vb_hello {
    uint16_t version;
    uint8_t flags;
    uint8_t lane, lanes;   /* this one; how many the connecting side wants */
    uint64_t group;        /* random, the same on all lanes of an endpoint */
    uint32_t epoch;        /* of this lane: counts its queue pairs */
    uint32_t next_frame;   /* the first one that did not arrive here */
    uint16_t frames;       /* receives posted */
    uint32_t frame_bytes;  /* of each */
    uint64_t ring_address; /* imm: where frames are written */
    uint32_t ring_key;
    uint64_t proof;
} gp_vb_hello;

/* Reasons in the private data of a reject: `GPVR`, u8 reason, u8 zero, u16
 * version of the protocol. */
#define GP_VB_REJECT_BYTES 8u
typedef enum gp_vb_reject {
    GP_VB_REJECT_VERSION = 1,
    GP_VB_REJECT_PROOF = 2,  /* another token */
    GP_VB_REJECT_GONE = 3,   /* the group is closed, or was never here */
    GP_VB_REJECT_BUSY = 4,   /* no resources now: try again */
    GP_VB_REJECT_MEMORY = 5, /* it may not lock enough memory: likewise */
} gp_vb_reject;

void gp_vb_hello_encode(const gp_vb_hello *hello, const char *token, void *out);
/* `length` as rdma_cm gave it (padding allowed). GP_ERR_PROTOCOL,
 * GP_ERR_VERSION, GP_ERR_AUTH; sets no error text. */
gp_status gp_vb_hello_decode(const void *bytes, size_t length,
                             const char *token, gp_vb_hello *out);

void gp_vb_reject_encode(gp_vb_reject reason, void *out);
/* 0: it is not one of ours. `version` may be NULL. */
gp_vb_reject gp_vb_reject_decode(const void *bytes, size_t length,
                                 uint16_t *version);

#endif
