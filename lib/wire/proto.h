/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto.h - message types and control payloads between workers and shards.
 *
 * docs/protocol.md is the specification; this file and proto.c are its only
 * encoder and decoder. Decoders accept any bytes and return a status.
 */
#ifndef GP_PROTO_H
#define GP_PROTO_H

#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"

enum gp_msg_type {
    GP_MSG_CHALLENGE = 1, /* shard: here is a nonce, who are you */
    GP_MSG_HELLO = 2,     /* worker: rank, size, proof */
    GP_MSG_WELCOME = 3,   /* shard: my proof; you are in */
    GP_MSG_REFUSE = 4,    /* shard: status and why; the connection ends */
    GP_MSG_WAITING = 5,   /* shard: text, who is missing or late */
    GP_MSG_START = 6,     /* shard: all workers are here */
    GP_MSG_TENSORS = 7,   /* worker: the tensor list */
    GP_MSG_READY = 8,     /* shard: lists agree; slots granted */
    GP_MSG_PUSH = 9,      /* worker: data into a landing slot */
    GP_MSG_ACK = 10,     /* shard: push received (status GP_PENDING), applied */
    GP_MSG_PULL = 11,    /* worker: send a result */
    GP_MSG_RESULT = 12,  /* shard: data into the worker's destination */
    GP_MSG_BARRIER = 13, /* both ways */
    GP_MSG_CREDIT = 14,  /* shard: only the credits field matters */
    GP_MSG_BYE = 15,     /* worker: I leave in an orderly way */
    GP_MSG_FAULT = 16,   /* shard: status and why the job cannot go on */
    GP_MSG_PROPOSE = 17, /* worker: a number for a chunk and step */
    GP_MSG_AGREE = 18,   /* shard: the largest of all */
    GP_MSG_RESTORE = 19, /* worker 0: part of what shards kept before */
    GP_MSG_RECALL = 20,  /* worker 0: give me part of what you keep */
    GP_MSG_KEPT = 21,    /* shard: answer to both */
    GP_MSG_REST = 22,    /* worker: do not wait for my next push; see gp_rest */
    GP_MSG_NORM = 23,    /* shard: squares of a step's gradients, so far */
    GP_MSG_TOTAL = 24,   /* worker: those of all shards */
    GP_MSG_MEMBERS = 25, /* worker: I am at a step's beginning; shard 0: who
                            takes part from here on; worker: the same, to the
                            other shards */
    GP_MSG_LAG = 26,     /* shard 0: how far you are behind, and who is most */
    GP_MSG_LOOKUP = 27,  /* worker: rows that I want; data, see wire/rows.h */
    GP_MSG_PROBE = 28, /* worker: send me so many bytes; shard: here they are */
    GP_MSG_LANDING = 29, /* shard: pushes that may land on its device, and
                            where; see gp_landing_bits */
    GP_MSG_TYPE_MAX = 29
};

/* Why there will be no push, in gp_msg.aux of REST. */
enum gp_rest {
    GP_REST_ALL = 0,   /* for a while */
    GP_REST_WAITS = 1, /* before an answer: with backup workers only */
    GP_REST_ENDS = 2,  /* the answer is here */
    GP_REST_HOLDS = 3, /* to read what is kept: nobody's may be applied */
    GP_REST_FREES = 4, /* it is read */
    GP_REST_COUNT = 5
};

/* What shards keep of a chunk between steps, in gp_msg.pipeline: a number for
 * each of its elements, or as many as a codec of the pull pipeline needs for so
 * many. */
enum gp_kept {
    GP_KEPT_HISTORY = 0,    /* what pushed differences add up to */
    GP_KEPT_RESIDUAL = 1,   /* of the pull pipeline */
    GP_KEPT_VELOCITY = 2,   /* likewise */
    GP_KEPT_PARAMETERS = 3, /* where results are not all of them */
    GP_KEPT_ARRAY = 4,      /* the updater's first array of four */
    GP_KEPT_ARRAYS_END = 8,
    GP_KEPT_ROWS = 8,   /* of a tensor of rows: records, see wire/rows.h */
    GP_KEPT_SELECT = 9, /* state of the pull pipeline's selection */
    GP_KEPT_STATE = 10, /* of its array stage, such as factors */
    GP_KEPT_COUNT = 11
};

/* Most bytes of an answer to PROBE. */
#define GP_PROBE_BYTES 65536u

/* Most elements of one RESTORE, RECALL or KEPT. */
#define GP_KEPT_PART 65536u

/* On PUSH: answer with RESULT rather than ACK. */
#define GP_MSG_WANT 0x0004u
/* On PUSH: no ACK before it is folded. */
#define GP_MSG_PATIENT 0x0008u

/* On PUSH: its weight, a double's bits, is where shards have credits. */
#define GP_MSG_WEIGHT 0x0020u

/* On RESULT: the pushes' sum, to be divided by the receiver of a mean. */
#define GP_MSG_SUM 0x0010u

#define GP_NONCE_BYTES 32u
#define GP_PROOF_BYTES 32u
#define GP_TEXT_MAX    512u
#define GP_NAME_MAX    256u
#define GP_CODECS_MAX  1024u /* of a tensor's pipeline texts */
#define GP_SLOTS_MAX   64u

/* Pull destinations travel in gp_msg.aux: token and offset in 64-byte units. */
#define GP_DESTINATION_UNIT 64u

static inline uint64_t
gp_destination(uint32_t token, uint64_t offset)
{
    return (uint64_t)token << 32 | offset / GP_DESTINATION_UNIT;
}

/* Numbers that workers agree on travel as their bits, in gp_msg.aux. */
static inline uint64_t
gp_float_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float
gp_bits_float(uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float value;

    memcpy(&value, &low, sizeof(value));
    return value;
}

static inline uint64_t
gp_double_bits(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline double
gp_bits_double(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* Weights of pushes: what fp32 numbers can be multiplied with. */
#define GP_WEIGHT_MIN 1e-30
#define GP_WEIGHT_MAX 1e30

static inline bool
gp_weight_is_valid(double weight)
{
    return weight >= GP_WEIGHT_MIN && weight <= GP_WEIGHT_MAX;
}

typedef struct gp_challenge {
    uint8_t nonce[GP_NONCE_BYTES];
} gp_challenge;
#define GP_CHALLENGE_BYTES 32u

typedef struct gp_hello {
    uint32_t rank, size;    /* of workers */
    uint32_t shard, shards; /* whom the worker takes the peer for */
    uint8_t nonce[GP_NONCE_BYTES];
    uint8_t proof[GP_PROOF_BYTES];
    char identity[128]; /* "host pid 1234", for messages */
} gp_hello;
#define GP_HELLO_BYTES_MAX 256u

typedef struct gp_welcome {
    uint8_t proof[GP_PROOF_BYTES];
} gp_welcome;
#define GP_WELCOME_BYTES 32u

typedef struct gp_grant {
    uint32_t slots;
    uint32_t region;
    uint64_t slot_bytes;
} gp_grant;
#define GP_GRANT_BYTES 16u

/* Who waits for whom, to one worker. */
typedef struct gp_lag_report {
    uint64_t mean_ns;    /* its pushes come so much after the first one's */
    uint64_t awaited_ns; /* that the others have waited for it alone, so far */
    uint64_t worst_ns;   /* the largest mean_ns of all workers ... */
    uint32_t worst;      /* ... and whose it is */
} gp_lag_report;
#define GP_LAG_BYTES 32u

/* Whether a message stands for so much data that it should not wait for others
 * to leave with: what was encoded to little took as long as what was not. */
static inline bool
gp_msg_is_work(const gp_msg *msg, uint64_t bytes)
{
    return msg->payload > 0 &&
           (msg->payload >= bytes || msg->elements >= bytes / sizeof(float));
}

/* Payload of LANDING: a byte for each tensor of the list, of which bit i stands
 * for pushes through its i-th pipeline. */
typedef uint8_t gp_landing_bits;

/* Who takes part, in a job whose workers come and go. */
typedef struct gp_life {
    uint32_t rank, incarnation;
} gp_life;

typedef struct gp_member_list {
    uint32_t epoch; /* goes up with every change; from 1 */
    uint32_t count;
    gp_life *member; /* in the order of ranks; owned */
} gp_member_list;

static inline size_t
gp_member_list_bytes(uint32_t count)
{
    return 8 + (size_t)count * 8;
}

/* Into gp_member_list_bytes(). */
void gp_member_list_encode(const gp_member_list *list, void *out);
/* At least one member, ranks ascending and below `size`; free() list.member. */
gp_status gp_member_list_decode(const void *in, size_t bytes, uint32_t size,
                                gp_member_list *out);

/* Each returns the number of bytes written; capacity is the caller's duty. */
size_t gp_challenge_encode(const gp_challenge *c, void *out);
size_t gp_hello_encode(const gp_hello *h, void *out);
size_t gp_welcome_encode(const gp_welcome *w, void *out);
size_t gp_grant_encode(const gp_grant *g, void *out);
size_t gp_lag_encode(const gp_lag_report *l, void *out);

gp_status gp_challenge_decode(const void *in, size_t size, gp_challenge *out);
gp_status gp_hello_decode(const void *in, size_t size, gp_hello *out);
gp_status gp_welcome_decode(const void *in, size_t size, gp_welcome *out);
gp_status gp_grant_decode(const void *in, size_t size, gp_grant *out);
gp_status gp_lag_decode(const void *in, size_t size, gp_lag_report *out);

/* Text payload of REFUSE, WAITING and FAULT into a zero-terminated buffer of
 * GP_TEXT_MAX; line breaks become spaces, other unprintable bytes '?'. */
void gp_text_decode(const void *in, size_t size, char *out);

/* Steps count from a first one up to here, and never come to their end. */
#define GP_FIRST_STEP_MAX (UINT64_MAX / 2)

/* One row of the tensor list, in canonical form. */
typedef struct gp_tensor_spec {
    char name[GP_NAME_MAX];
    uint8_t dtype;
    uint8_t feedback; /* 1: shards keep what the pull pipeline loses */
    uint64_t count;
    uint64_t columns;         /* length of its rows; 0: a vector */
    uint64_t first_step;      /* number of the first push */
    char push[GP_CODECS_MAX]; /* canonical texts, alternatives between '|' */
    char pull[GP_CODECS_MAX];
    char updater[GP_NAME_MAX]; /* canonical updater text */
    uint8_t restored; /* 1: differences go on from what worker 0 restores */
    char mode[GP_NAME_MAX]; /* canonical text of its consistency */
    /* Of a tensor of rows, where `count` is that of one call: how many there
     * are, and what they are before they are pushed. */
    uint64_t rows; /* 0: a dense tensor, and no more of the following */
    uint64_t row_seed;
    float row_scale;
    uint8_t row_init;
} gp_tensor_spec;

typedef struct gp_tensor_list {
    uint64_t chunk_bytes;
    uint64_t seed;
    uint32_t shards;
    uint32_t count;
    gp_tensor_spec *tensors; /* owned */
    uint32_t *weights;       /* of shards; owned, NULL: all equal */
} gp_tensor_list;

void gp_tensor_list_free(gp_tensor_list *list);

/* Bytes of the encoded list; GP_ERR_TOO_LARGE over GP_CONTROL_MAX. */
gp_status gp_tensor_list_encode(const gp_tensor_list *list, void **out,
                                size_t *size);
gp_status gp_tensor_list_decode(const void *in, size_t size,
                                gp_tensor_list *out);

/* Says in words what differs first between the lists of two workers; false
 * when nothing does. */
bool gp_tensor_list_differ(const gp_tensor_list *a, uint32_t rank_a,
                           const gp_tensor_list *b, uint32_t rank_b, char *text,
                           size_t capacity);

#endif
