/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_fixture.h - what the store's tests share: servers, members, plain
 * sockets, and the log that was written.
 */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gradpush/transport.h>

#include "rendezvous/store_wire.h"

/* Long enough for a loaded machine; no test waits for it to pass. */
#define SOON 60.0

static inline gp_config *
make_config(const char *job)
{
    gp_config *config = NULL;

    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "job", job), GP_OK);
    assert_int_equal(gp_config_set(config, "timeout", "60s"), GP_OK);
    return config;
}

static inline gp_store_server *
start(const char *job, const char *address, const char *token,
      const char *handshake)
{
    gp_config *config = make_config(job);
    gp_store_server *server = NULL;

    if (handshake)
        assert_int_equal(gp_config_set(config, "handshake_timeout", handshake),
                         GP_OK);
    if (gp_store_serve(config, address, token, &server) != GP_OK)
        fail_msg("%s", gp_last_error());
    gp_config_destroy(config);
    return server;
}

static inline gp_status
join(const char *job, const char *address, const char *token, double seconds,
     gp_store **out)
{
    gp_config *config = make_config(job);
    gp_status status;

    assert_int_equal(gp_config_set(config, "handshake_timeout", "1s"), GP_OK);
    status =
        gp_store_connect(config, address, token, gp_deadline(seconds), out);
    gp_config_destroy(config);
    return status;
}

static inline gp_store *
member(const char *address)
{
    gp_store *store = NULL;

    if (join("job", address, "", SOON, &store) != GP_OK)
        fail_msg("%s", gp_last_error());
    return store;
}

static inline bool
have_openssl(void)
{
    uint8_t out[GP_TOKEN_PROOF];

    return gp_token_hmac("k", 1, "d", 1, out) == GP_OK;
}

static inline void
expect_alive(gp_store_server *server)
{
    gp_store *store = member(gp_store_server_address(server));
    char out[8];
    size_t length = 0;

    assert_int_equal(gp_store_set(store, "alive", "yes", 3), GP_OK);
    assert_int_equal(gp_store_get(store, "alive", out, 8, &length, 0), GP_OK);
    gp_store_close(store);
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[16384];

static inline void
keep_log(void *user, gp_log_level level, const char *line)
{
    size_t used;

    (void)user;
    (void)level;
    pthread_mutex_lock(&log_lock);
    used = strlen(log_text);
    snprintf(log_text + used, sizeof(log_text) - used, "%s\n", line);
    pthread_mutex_unlock(&log_lock);
}

static inline bool
was_logged(const char *text)
{
    bool found;

    pthread_mutex_lock(&log_lock);
    found = strstr(log_text, text) != NULL;
    pthread_mutex_unlock(&log_lock);
    return found;
}

static inline void
begin_log(gp_log_level level)
{
    log_text[0] = '\0';
    gp_log_set_callback(keep_log, NULL);
    gp_log_set_level(level);
}

static inline void
end_log(void)
{
    gp_log_set_callback(NULL, NULL);
    gp_log_set_level(GP_LOG_ERROR);
}

/* Plain sockets, for peers that do not follow the protocol. */
static inline int
plain_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    return fd;
}

static inline void
plain_call(int fd, const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    char host[64];
    uint16_t port = 0;

    assert_int_equal(gp_address_split(address, host, sizeof(host), &port), 0);
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    to.sin_port = htons(port);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
}

static inline int
plain_connect(const char *address)
{
    int fd = plain_socket();

    plain_call(fd, address);
    return fd;
}

static inline int
plain_listen(char *address, size_t capacity)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    snprintf(address, capacity, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

/* Reads until `length` bytes are there or the peer hangs up. */
static inline size_t
plain_read(int fd, void *out, size_t length)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    size_t used = 0;

    while (used < length) {
        ssize_t n;

        if (poll(&item, 1, (int)(SOON * 1000)) != 1)
            fail_msg("the peer is silent");
        n = recv(fd, (char *)out + used, length - used, 0);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    return used;
}

static inline void
plain_write(int fd, const void *data, size_t length)
{
    assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* A connection that has passed the handshake of a store without a token. */
static inline int
plain_member(const char *address)
{
    gp_store_hello hello = {.version = GP_STORE_VERSION,
                            .job = gp_hash("job", 3)};
    uint8_t bytes[GP_STORE_HELLO], greeting[GP_STORE_GREETING];
    gp_store_verdict verdict;
    int fd = plain_connect(address);

    assert_int_equal(plain_read(fd, greeting, sizeof(greeting)),
                     sizeof(greeting));
    gp_store_write_hello(&hello, bytes);
    plain_write(fd, bytes, sizeof(bytes));
    assert_int_equal(plain_read(fd, bytes, GP_STORE_VERDICT), GP_STORE_VERDICT);
    assert_true(gp_store_read_verdict(bytes, &verdict));
    assert_int_equal(verdict.status, GP_OK);
    return fd;
}

#endif
