/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_wire.h - the store's messages, as docs/protocol.md describes them.
 *
 * Sizes are fixed; only a request's key and value and an answer's value follow
 * their heads. Decoders check everything that can be checked without state.
 */
#ifndef GP_STORE_WIRE_H
#define GP_STORE_WIRE_H

#include "rendezvous/rendezvous.h"

#define GP_STORE_MAGIC   0x54535047u /* "GPST" */
#define GP_STORE_VERSION 1u
#define GP_STORE_KEY_MAX 255u

/* Bytes on the wire. The first 8 of greeting and hello, magic and version,
 * never change between versions. */
#define GP_STORE_PREFIX   8u
#define GP_STORE_GREETING 40u
#define GP_STORE_HELLO    80u
#define GP_STORE_VERDICT  40u
#define GP_STORE_REQUEST  16u
#define GP_STORE_ANSWER   12u

/* Who proves the token, see gp_token_prove(). */
#define GP_STORE_MEMBER "store member"
#define GP_STORE_HOST   "store"

typedef enum gp_store_op {
    GP_STORE_SET = 1,
    GP_STORE_GET = 2,
    GP_STORE_ADD = 3,
    GP_STORE_WATCH = 4,
    GP_STORE_CLAIM = 5
} gp_store_op;

typedef struct gp_store_greeting {
    uint16_t version;
    uint8_t nonce[GP_TOKEN_NONCE];
} gp_store_greeting;

typedef struct gp_store_hello {
    uint16_t version;
    uint8_t nonce[GP_TOKEN_NONCE];
    uint64_t job;
    uint8_t proof[GP_TOKEN_PROOF];
} gp_store_hello;

typedef struct gp_store_verdict {
    int32_t status;
    uint16_t version;
    uint8_t proof[GP_TOKEN_PROOF];
} gp_store_verdict;

typedef struct gp_store_request {
    uint8_t op;
    uint16_t key_length;
    uint32_t value_length;
    uint32_t wait_ms;
    uint32_t sequence;
} gp_store_request;

typedef struct gp_store_answer {
    int32_t status;
    uint32_t value_length;
    uint32_t sequence;
} gp_store_answer;

/* The prefix of greeting and hello; false for another magic. */
bool gp_store_read_prefix(const uint8_t in[GP_STORE_PREFIX], uint16_t *version);

void gp_store_write_greeting(const gp_store_greeting *in,
                             uint8_t out[GP_STORE_GREETING]);
bool gp_store_read_greeting(const uint8_t in[GP_STORE_GREETING],
                            gp_store_greeting *out);
void gp_store_write_hello(const gp_store_hello *in,
                          uint8_t out[GP_STORE_HELLO]);
bool gp_store_read_hello(const uint8_t in[GP_STORE_HELLO], gp_store_hello *out);
void gp_store_write_verdict(const gp_store_verdict *in,
                            uint8_t out[GP_STORE_VERDICT]);
bool gp_store_read_verdict(const uint8_t in[GP_STORE_VERDICT],
                           gp_store_verdict *out);

/* Reading a request also checks its lengths against its operation. */
void gp_store_write_request(const gp_store_request *in,
                            uint8_t out[GP_STORE_REQUEST]);
bool gp_store_read_request(const uint8_t in[GP_STORE_REQUEST],
                           gp_store_request *out);
void gp_store_write_answer(const gp_store_answer *in,
                           uint8_t out[GP_STORE_ANSWER]);
bool gp_store_read_answer(const uint8_t in[GP_STORE_ANSWER],
                          gp_store_answer *out);

/* What each side proves: the other's nonce, with its own bound as identity. */
gp_status gp_store_prove(const char *token, const char *role,
                         const uint8_t theirs[GP_TOKEN_NONCE],
                         const uint8_t own[GP_TOKEN_NONCE], uint64_t job,
                         uint8_t proof[GP_TOKEN_PROOF]);

#endif
