/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.c - the job token: where it comes from, and how it is proven without
 * being sent.
 *
 * The proof binds direction (role), freshness (the other side's nonce), the job
 * and the prover's identity; every part has a fixed length or a zero at its
 * end, so no two inputs give the same bytes.
 */
#include "base/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

#ifdef GP_HAVE_OPENSSL
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

#define ROLE_MAX 32u

/* The file at `fd` must belong to its owner alone. */
static gp_status
check_file(int fd, const char *path)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return gp_fail_errno(GP_ERR_CONFIG, errno,
                             "GRADPUSH_TOKEN_FILE: fstat of '%s'", path);
    if (!S_ISREG(info.st_mode))
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TOKEN_FILE: '%s' is not a regular file", path);
    if (info.st_mode & (S_IRWXG | S_IRWXO))
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TOKEN_FILE: others than the owner can use "
                       "'%s' (mode %04o): run chmod 600 '%s'",
                       path, (unsigned)info.st_mode & 07777u, path);
    return GP_OK;
}

/* Reads until the end or until the buffer is full. */
static gp_status
read_all(int fd, const char *path, char *out, size_t capacity, size_t *length)
{
    size_t used = 0;

    while (used < capacity) {
        ssize_t n = read(fd, out + used, capacity - used);

        if (n == 0)
            break;
        if (n > 0)
            used += (size_t)n;
        else if (errno != EINTR)
            return gp_fail_errno(GP_ERR_CONFIG, errno,
                                 "GRADPUSH_TOKEN_FILE: reading '%s'", path);
    }
    *length = used;
    return GP_OK;
}

/* The first line's text, without the line end. */
static gp_status
trim(const char *path, char *text, size_t length, size_t capacity)
{
    while (length && strchr(" \t\r\n", text[length - 1]) && text[length - 1])
        length--;
    if (length == 0)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TOKEN_FILE: '%s' is empty; a good token is "
                       "the output of: openssl rand -hex 32",
                       path);
    if (length >= capacity)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TOKEN_FILE: '%s' holds more than %zu bytes",
                       path, capacity - 1);
    text[length] = '\0';
    if (strlen(text) != length || strpbrk(text, "\r\n"))
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_TOKEN_FILE: '%s' must hold one line of text",
                       path);
    return GP_OK;
}

static gp_status
load_file(const char *path, char *out, size_t capacity)
{
    char text[4097];
    size_t length = 0;
    gp_status status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return gp_fail_errno(GP_ERR_CONFIG, errno,
                             "GRADPUSH_TOKEN_FILE: '%s' cannot be opened",
                             path);
    status = check_file(fd, path);
    if (status == GP_OK)
        status = read_all(fd, path, text, sizeof(text), &length);
    close(fd);
    if (status == GP_OK)
        status = trim(path, text, length, GP_MIN(capacity, sizeof(text)));
    if (status == GP_OK)
        memcpy(out, text, strlen(text) + 1);
    explicit_bzero(text, sizeof(text));
    return status;
}

gp_status
gp_token_load(const gp_config *config, char *out, size_t capacity)
{
    const char *path = gp_config_get(config, "token_file");
    const char *token = gp_config_get(config, "token");

    if (path && path[0])
        return load_file(path, out, capacity);
    if (!token)
        token = "";
    if (strlen(token) >= capacity)
        return gp_fail(GP_ERR_CONFIG, "GRADPUSH_TOKEN has more than %zu bytes",
                       capacity - 1);
    memcpy(out, token, strlen(token) + 1);
    return GP_OK;
}

#ifdef GP_HAVE_OPENSSL

gp_status
gp_token_hmac(const void *key, size_t key_length, const void *data,
              size_t length, uint8_t out[GP_TOKEN_PROOF])
{
    unsigned size = 0;

    if (key_length > INT32_MAX ||
        !HMAC(EVP_sha256(), key, (int)key_length, data, length, out, &size) ||
        size != GP_TOKEN_PROOF)
        return gp_fail(GP_ERR_SYSTEM, "OpenSSL cannot compute HMAC-SHA256");
    return GP_OK;
}

#else

gp_status
gp_token_hmac(const void *key, size_t key_length, const void *data,
              size_t length, uint8_t out[GP_TOKEN_PROOF])
{
    (void)key, (void)key_length, (void)data, (void)length, (void)out;
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "a job token needs OpenSSL, which this build lacks: unset "
                   "GRADPUSH_TOKEN and GRADPUSH_TOKEN_FILE on a network you "
                   "trust, or build with libssl-dev");
}

#endif

gp_status
gp_token_check(const char *token)
{
    uint8_t proof[GP_TOKEN_PROOF];

    if (!token[0])
        return GP_OK;
    return gp_token_hmac(token, strlen(token), "", 0, proof);
}

gp_status
gp_token_prove(const char *token, const char *role,
               const uint8_t nonce[GP_TOKEN_NONCE], uint64_t job,
               uint64_t identity, uint8_t proof[GP_TOKEN_PROOF])
{
    uint8_t message[ROLE_MAX + GP_TOKEN_NONCE + 16];
    gp_writer w = {message, sizeof(message), true};

    if (strlen(role) + 1 > ROLE_MAX)
        return gp_fail(GP_ERR_INVALID, "the role '%s' is too long", role);
    if (!token[0]) {
        memset(proof, 0, GP_TOKEN_PROOF);
        return GP_OK;
    }
    gp_write(&w, role, strlen(role) + 1);
    gp_write(&w, nonce, GP_TOKEN_NONCE);
    gp_write64(&w, job);
    gp_write64(&w, identity);
    return gp_token_hmac(token, strlen(token), message,
                         sizeof(message) - w.left, proof);
}

bool
gp_token_equal(const uint8_t a[GP_TOKEN_PROOF], const uint8_t b[GP_TOKEN_PROOF])
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;

    for (size_t i = 0; i < GP_TOKEN_PROOF; i++)
        difference = (uint8_t)(difference | (x[i] ^ y[i]));
    return difference == 0;
}
