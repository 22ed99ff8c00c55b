/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.h - the secret that the members of a job share, and proofs of knowing
 * it.
 */
#ifndef GP_TOKEN_H
#define GP_TOKEN_H

#include "base/base.h"

#define GP_TOKEN_PROOF 32u
#define GP_TOKEN_NONCE 32u

/* The job token of a configuration: token_file, else token, into out (zero
 * terminated; "" when there is none). GP_ERR_CONFIG: unreadable file, or one
 * that others can read. */
gp_status gp_token_load(const gp_config *config, char *out, size_t capacity);

/* Whether this build can prove that it knows the token; GP_ERR_UNSUPPORTED
 * without OpenSSL, unless it is empty. */
gp_status gp_token_check(const char *token);

/* proof = HMAC-SHA256(token, role || nonce || job || identity). `role` tells
 * the two directions apart: "worker", "shard", "store". GP_ERR_UNSUPPORTED in a
 * build without OpenSSL when the token is not empty; with an empty token the
 * proof is zeros. */
gp_status gp_token_prove(const char *token, const char *role,
                         const uint8_t nonce[GP_TOKEN_NONCE], uint64_t job,
                         uint64_t identity, uint8_t proof[GP_TOKEN_PROOF]);

/* HMAC-SHA256; GP_ERR_UNSUPPORTED in a build without OpenSSL. */
gp_status gp_token_hmac(const void *key, size_t key_length, const void *data,
                        size_t length, uint8_t out[GP_TOKEN_PROOF]);

/* Constant-time comparison. */
bool gp_token_equal(const uint8_t a[GP_TOKEN_PROOF],
                    const uint8_t b[GP_TOKEN_PROOF]);

#endif
