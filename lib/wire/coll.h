/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coll.h - messages between workers.
 *
 * Like proto.h, beside it: types begin at 64. Everything but texts and the
 * handshake travels in header fields, so there is no payload to decode.
 *
 * `cookie` is the group, `step` the number of the operation in it.
 */
#ifndef GP_COLL_H
#define GP_COLL_H

#include "wire/proto.h"

enum gp_coll_msg {
    GP_MSG_GRANT = 64,  /* slots: aux = token, elements = bytes of a slot */
    GP_MSG_PIECE = 65,  /* data: chunk = tag, pipeline = offset / unit */
    GP_MSG_INTO = 66,   /* aux = token, elements = offset of the memory in it */
    GP_MSG_TICKET = 67, /* gp_recv() was called: step = its number, chunk = tag,
                           elements = bytes, aux = token or 0, offset in
                           credits' place */
    GP_MSG_CHECK = 68,  /* this is what I wait in: elements, dtype, aux */
    GP_MSG_GROUP_FAULT = 69, /* status and text */
    GP_MSG_RETURN = 70       /* only credits count */
};

typedef enum gp_coll_kind {
    COLL_ALLREDUCE = 1,
    COLL_REDUCE_SCATTER = 2,
    COLL_ALLGATHER = 3,
    COLL_BCAST = 4,
    COLL_ALLTOALL = 5,
    COLL_BARRIER = 6,
    COLL_SEND = 7,
    COLL_RECV = 8
} gp_coll_kind;

/* What PIECE and CHECK say of the call in `aux`; its count is in `elements`. */
static inline uint64_t
gp_coll_signature(uint8_t kind, uint8_t reduction, uint8_t algorithm,
                  uint32_t root)
{
    return (uint64_t)kind << 56 | (uint64_t)reduction << 48 |
           (uint64_t)algorithm << 40 | root;
}

#endif
