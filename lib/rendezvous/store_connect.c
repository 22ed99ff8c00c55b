/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_connect.c - how a member reaches the store.
 *
 * The store may start after its members, so a refused connection, an unknown
 * name and a peer that hangs up are tried again until the deadline. What
 * waiting cannot cure (token, job, version, a stranger's protocol) ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rendezvous/store_client.h"

#define BACKOFF_FIRST 5000000u   /* ns */
#define BACKOFF_MOST  250000000u /* ns */
#define REPORT_EVERY  3.0        /* seconds */
#define ONE_ATTEMPT   5.0        /* seconds for one address to answer */

void
gp_store_disconnect(gp_store *store)
{
    if (store->fd >= 0)
        close(store->fd);
    store->fd = -1;
}

static gp_status
lost(const gp_store *store, int error)
{
    if (error == 0 || error == ECONNRESET || error == EPIPE)
        return gp_fail(GP_ERR_PEER_LOST,
                       "the store at %s closed the connection; has the process "
                       "that hosts it ended?",
                       store->address);
    return gp_fail_errno(GP_ERR_PEER_LOST, error, "the store at %s",
                         store->address);
}

/* Sleeps until the socket is ready. */
static gp_status
await(const gp_store *store, short events, uint64_t deadline_ns)
{
    struct pollfd items[] = {{.fd = store->fd, .events = events},
                             {.fd = store->stop_fd, .events = POLLIN}};

    for (;;) {
        int n = poll(items, 2, gp_deadline_ms(deadline_ns));

        if (n > 0 && items[1].revents)
            return gp_fail(GP_ERR_CANCELED, "a wait for the store was ended");
        if (n > 0)
            return GP_OK;
        if (n < 0 && errno != EINTR)
            return gp_fail_errno(GP_ERR_SYSTEM, errno, "poll");
        if (gp_expired(deadline_ns))
            return gp_fail(GP_ERR_TIMEOUT, "the store at %s does not answer",
                           store->address);
    }
}

gp_status
gp_store_send(gp_store *store, const void *data, size_t length,
              uint64_t deadline_ns)
{
    const uint8_t *at = data;

    while (length > 0) {
        ssize_t n = send(store->fd, at, length, MSG_NOSIGNAL);
        gp_status status;

        if (n >= 0) {
            at += n;
            length -= (size_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return lost(store, errno);
        status = await(store, POLLOUT, deadline_ns);
        if (status != GP_OK)
            return status;
    }
    return GP_OK;
}

gp_status
gp_store_receive(gp_store *store, void *out, size_t length,
                 uint64_t deadline_ns)
{
    uint8_t *at = out;

    while (length > 0) {
        ssize_t n = recv(store->fd, at, length, 0);
        gp_status status;

        if (n == 0)
            return lost(store, 0);
        if (n > 0) {
            at += n;
            length -= (size_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return lost(store, errno);
        status = await(store, POLLIN, deadline_ns);
        if (status != GP_OK)
            return status;
    }
    return GP_OK;
}

static gp_status
wrong_token(const gp_store *store)
{
    return gp_fail(GP_ERR_AUTH,
                   "this process's job token differs from the one of the store "
                   "at %s: give all processes the same GRADPUSH_TOKEN or "
                   "GRADPUSH_TOKEN_FILE",
                   store->address);
}

static gp_status
wrong_version(const gp_store *store, unsigned theirs)
{
    return gp_fail(GP_ERR_VERSION,
                   "the store at %s speaks version %u of the protocol and this "
                   "process version %u: use one release of gradpush everywhere",
                   store->address, theirs, GP_STORE_VERSION);
}

static gp_status
no_store(const gp_store *store)
{
    return gp_fail(GP_ERR_PROTOCOL,
                   "what listens at %s is not a gradpush store: set "
                   "GRADPUSH_STORE=host:port to a free port, the same for all "
                   "processes",
                   store->address);
}

/* What the store's refusal means for the person who reads it. */
static gp_status
explain_refusal(const gp_store *store, const gp_store_verdict *verdict)
{
    switch (verdict->status) {
    case GP_ERR_AUTH:
        return wrong_token(store);
    case GP_ERR_VERSION:
        return wrong_version(store, verdict->version);
    case GP_ERR_REFUSED:
        return gp_fail(GP_ERR_REFUSED,
                       "the store at %s belongs to another job than '%s': set "
                       "the same GRADPUSH_JOB for all processes of a job, and "
                       "another GRADPUSH_STORE for each job",
                       store->address, store->job_name);
    default:
        return gp_fail(GP_ERR_PROTOCOL, "the store at %s refused with code %d",
                       store->address, (int)verdict->status);
    }
}

/* The greeting: nothing is sent before the peer looks like a store. */
static gp_status
receive_greeting(gp_store *store, gp_store_greeting *out, uint64_t deadline_ns)
{
    uint8_t bytes[GP_STORE_GREETING];
    uint16_t version = 0;
    gp_status status =
        gp_store_receive(store, bytes, GP_STORE_PREFIX, deadline_ns);

    if (status == GP_ERR_TIMEOUT)
        return gp_fail(status,
                       "what listens at %s accepts the connection and does "
                       "not answer: another program may listen there",
                       store->address);
    if (status != GP_OK)
        return status;
    if (!gp_store_read_prefix(bytes, &version))
        return no_store(store);
    if (version != GP_STORE_VERSION)
        return wrong_version(store, version);
    status = gp_store_receive(store, bytes + GP_STORE_PREFIX,
                              GP_STORE_GREETING - GP_STORE_PREFIX, deadline_ns);
    if (status == GP_OK && !gp_store_read_greeting(bytes, out))
        return no_store(store);
    return status;
}

static gp_status
send_hello(gp_store *store, const gp_store_greeting *greeting,
           gp_store_hello *hello, uint64_t deadline_ns)
{
    uint8_t bytes[GP_STORE_HELLO];
    gp_status status = gp_random(hello->nonce, sizeof(hello->nonce));

    hello->version = GP_STORE_VERSION;
    hello->job = store->job;
    if (status == GP_OK)
        status = gp_store_prove(store->token, GP_STORE_MEMBER, greeting->nonce,
                                hello->nonce, store->job, hello->proof);
    if (status != GP_OK)
        return status;
    gp_store_write_hello(hello, bytes);
    return gp_store_send(store, bytes, sizeof(bytes), deadline_ns);
}

/* The store must prove itself as well, before it hears any address. */
static gp_status
check_verdict(const gp_store *store, const gp_store_greeting *greeting,
              const gp_store_hello *hello, const uint8_t *bytes)
{
    gp_store_verdict verdict;
    uint8_t expected[GP_TOKEN_PROOF];
    gp_status status;

    if (!gp_store_read_verdict(bytes, &verdict))
        return no_store(store);
    if (verdict.status != GP_OK)
        return explain_refusal(store, &verdict);
    status = gp_store_prove(store->token, GP_STORE_HOST, hello->nonce,
                            greeting->nonce, store->job, expected);
    if (status != GP_OK)
        return status;
    return gp_token_equal(expected, verdict.proof) ? GP_OK : wrong_token(store);
}

static gp_status
shake_hands(gp_store *store, uint64_t deadline_ns)
{
    gp_store_greeting greeting;
    gp_store_hello hello;
    uint8_t bytes[GP_STORE_VERDICT];
    gp_status status = receive_greeting(store, &greeting, deadline_ns);

    if (status == GP_OK)
        status = send_hello(store, &greeting, &hello, deadline_ns);
    if (status == GP_OK)
        status = gp_store_receive(store, bytes, sizeof(bytes), deadline_ns);
    if (status == GP_OK)
        status = check_verdict(store, &greeting, &hello, bytes);
    return status;
}

/* Without a listener, a connect to a port of the ephemeral range may find
 * itself: TCP's simultaneous open. */
static bool
is_own_echo(int fd)
{
    struct sockaddr_storage local = {0}, peer = {0};
    socklen_t local_length = sizeof(local), peer_length = sizeof(peer);

    return getsockname(fd, (struct sockaddr *)&local, &local_length) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_length) == 0 &&
           local_length == peer_length &&
           memcmp(&local, &peer, local_length) == 0;
}

static gp_status
unreachable(const gp_store *store, int error)
{
    return gp_fail_errno(GP_ERR_UNREACHABLE, error, "no store at %s",
                         store->address);
}

/* A connected socket in store->fd, for one of the name's addresses. */
static gp_status
connect_to(gp_store *store, const struct addrinfo *to, uint64_t deadline_ns)
{
    int error = 0, on = 1;
    socklen_t length = sizeof(error);
    gp_status status;

    store->fd =
        socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (store->fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "socket");
    if (connect(store->fd, to->ai_addr, to->ai_addrlen) != 0) {
        if (errno != EINPROGRESS)
            return unreachable(store, errno);
        status = await(store, POLLOUT, deadline_ns);
        if (status != GP_OK)
            return status;
        getsockopt(store->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
    if (error == 0 && is_own_echo(store->fd))
        error = ECONNREFUSED;
    if (error)
        return unreachable(store, error);
    setsockopt(store->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return GP_OK;
}

static bool
is_worth_retrying(gp_status status)
{
    return status == GP_ERR_UNREACHABLE || status == GP_ERR_PEER_LOST ||
           status == GP_ERR_TIMEOUT;
}

/* Every address of the name once. */
static gp_status
attempt(gp_store *store, uint64_t deadline_ns)
{
    struct addrinfo *list = NULL;
    gp_status status =
        gp_net_resolve(store->address, SOCK_STREAM, false, &list);

    if (status != GP_OK)
        return status;
    for (const struct addrinfo *i = list; i; i = i->ai_next) {
        uint64_t end = GP_MIN(deadline_ns, gp_deadline(ONE_ATTEMPT));

        status = connect_to(store, i, end);
        if (status == GP_OK)
            status = shake_hands(
                store, GP_MIN(deadline_ns, gp_deadline(store->handshake)));
        if (status == GP_OK)
            break;
        gp_store_disconnect(store);
        if (!is_worth_retrying(status))
            break;
    }
    freeaddrinfo(list);
    return status;
}

static void
report(const gp_store *store, uint64_t deadline_ns, uint64_t *next)
{
    uint64_t now = gp_clock_ns();

    if (now < *next || now >= deadline_ns)
        return;
    *next = gp_deadline(REPORT_EVERY);
    if (deadline_ns == UINT64_MAX)
        GP_WARN("waiting for the store at %s: %s", store->address,
                gp_last_error());
    else
        GP_WARN("waiting for the store at %s: %s, %.0f s left", store->address,
                gp_last_error(), (double)(deadline_ns - now) / 1e9);
}

static void
rest(uint64_t ns)
{
    struct timespec time = {.tv_nsec = (long)ns};

    nanosleep(&time, NULL);
}

static gp_status
give_up(const gp_store *store)
{
    char cause[256];

    snprintf(cause, sizeof(cause), "%s", gp_last_error());
    return gp_fail(GP_ERR_TIMEOUT,
                   "the store at %s was not reached in time (%s): is the "
                   "process that hosts it (rank 0, or the one with "
                   "GRADPUSH_STORE_HOST=on) running, and GRADPUSH_STORE right?",
                   store->address, cause);
}

gp_status
gp_store_reach(gp_store *store, uint64_t deadline_ns)
{
    uint64_t next_report = gp_deadline(REPORT_EVERY);
    uint64_t backoff = BACKOFF_FIRST;

    for (;;) {
        gp_status status = attempt(store, deadline_ns);

        if (status == GP_OK || !is_worth_retrying(status))
            return status;
        if (gp_expired(deadline_ns))
            return give_up(store);
        report(store, deadline_ns, &next_report);
        rest(GP_MIN(backoff, deadline_ns - gp_clock_ns()));
        backoff = GP_MIN(backoff * 2, BACKOFF_MOST);
    }
}
