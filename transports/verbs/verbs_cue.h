/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_cue.h - headers of data messages as 32 bits.
 *
 * The header of a gradient's chunk is nearly what it was a step before. Both
 * ends of a lane keep the last header of each chunk that went as a record, and
 * where the next one follows from it, the payload's last WRITE carries a cue as
 * its immediate data, and no frame of records follows. Both ends see the same
 * headers in the same order, so they always keep the same.
 *
 *   bits  0 to  8  which header: bits 0 to 8 of the chunk's number, of which 9
 *                  to 17 are taken by exclusive or
 *   bits  9 to 14  the landing slot, where the offset follows from it; else the
 *                  first of the slots that are free again
 *   bits 15 to 20  0; else how many of these there are, in a row
 *   bits 21 to 22  step, counted from one before the last message's
 *   bits 23 to 28  cookie, counted from the last message's, signed
 *   bits 29 to 31  the frame's number, its lower bits
 *
 * Everything else is as in the header that is kept. The offset follows from the
 * slot when that header has a slot below 64 and an offset of as many strides;
 * the stride is that of the last header with a slot other than 0 that divides
 * its offset, and 0 is none.
 */
#ifndef GP_VERBS_CUE_H
#define GP_VERBS_CUE_H

#include <stdbool.h>
#include <stdint.h>

#include <gradpush/transport.h>

#define GP_VB_CUES 512u /* headers that are kept */

/* One way of a lane. All zero: nothing was said. */
typedef struct gp_vb_cues {
    gp_msg *kept;          /* GP_VB_CUES, by chunk; region 0: none */
    uint64_t step, cookie; /* of the last message */
    uint64_t stride;       /* bytes; 0: not known */
    bool any;              /* is kept */
    bool missed;           /* there was no memory: the other end has more */
} gp_vb_cues;

/* Forgets all headers, and keeps the memory for them. */
void gp_vb_cues_reset(gp_vb_cues *cues);
void gp_vb_cues_free(gp_vb_cues *cues);
/* A header that goes as a record, or came as one. False: no memory; no cue is
 * made until reset(), and none could be read. */
bool gp_vb_cues_keep(gp_vb_cues *cues, const gp_msg *msg);
/* The cue of a message in frame `number`, which is taken for sent; false:
 * nothing that is kept leads to it. */
bool gp_vb_cue_make(gp_vb_cues *cues, uint32_t number, const gp_msg *msg,
                    uint32_t *cue);
/* The message; false: the cue is not of that frame, or leads nowhere. */
bool gp_vb_cue_read(gp_vb_cues *cues, uint32_t number, uint32_t cue,
                    gp_msg *out);

#endif
