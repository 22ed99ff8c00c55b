/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tcp_strangers.c - what anyone may do to a listening port, and what may
 * listen where a peer was expected. Raw sockets on one side, a domain on the
 * other; after each mischief an honest peer must still get through.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"
#include "transports/tcp/tcp_int.h"

#define IDLE 1000

typedef struct host {
    const gp_transport_ops *ops;
    gp_domain *domain;
    uint16_t port;
    gp_endpoint *ep;
    int accepted, connected, messages, closed;
    gp_status status; /* of the last CLOSED */
} host;

static uint64_t
soon(void)
{
    return gp_deadline(60);
}

static void
host_open_with(host *h, const char *name, const char *value)
{
    char bound[GP_ADDRESS_MAX];
    gp_config *config = NULL;

    memset(h, 0, sizeof(*h));
    h->ops = gp_transport_find("tcp");
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, name, value), GP_OK);
    assert_int_equal(h->ops->open(config, &h->domain), GP_OK);
    gp_config_destroy(config);
    assert_int_equal(
        h->ops->listen(h->domain, "127.0.0.1:0", bound, sizeof(bound)), GP_OK);
    h->port = (uint16_t)atoi(strrchr(bound, ':') + 1);
}

static void
host_open(host *h, const char *handshake_timeout)
{
    host_open_with(h, "handshake_timeout", handshake_timeout);
}

static void
host_close(host *h)
{
    h->ops->close(h->domain);
}

static void
host_pump(host *h)
{
    gp_event events[16];
    int n = h->ops->progress(h->domain, events, 16);

    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        if (events[i].type == GP_EVENT_ACCEPTED) {
            h->accepted++;
            h->ep = events[i].ep;
        }
        h->connected += events[i].type == GP_EVENT_CONNECTED;
        h->messages += events[i].type == GP_EVENT_MESSAGE;
        if (events[i].type == GP_EVENT_CLOSED) {
            h->closed++;
            h->status = events[i].status;
        }
    }
}

static struct sockaddr_in
local(uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

/* Connects without waiting: the kernel completes it from the backlog. */
static int
raw_connect(const host *h)
{
    struct sockaddr_in name = local(h->port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void
raw_send(int fd, const void *bytes, size_t length)
{
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* Pumps until the host has ended the connection. */
static void
await_end(host *h, int fd)
{
    uint64_t deadline = soon();
    uint8_t byte;
    ssize_t n;

    do {
        assert_false(gp_expired(deadline));
        host_pump(h);
        n = recv(fd, &byte, 1, 0);
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    close(fd);
}

static void
hello_bytes(uint8_t *bytes, uint64_t group, uint16_t index, uint16_t count)
{
    gp_tcp_hello hello = {.kind = GP_TCP_HELLO,
                          .version = GP_PROTOCOL_VERSION,
                          .index = index,
                          .count = count,
                          .group = group};

    gp_tcp_hello_encode(&hello, bytes);
}

/* A stranger that knows the preamble: an endpoint appears. */
static int
raw_join(host *h)
{
    uint8_t bytes[GP_TCP_PREAMBLE];
    uint64_t deadline = soon();
    int fd = raw_connect(h), before = h->accepted;
    size_t got = 0;

    hello_bytes(bytes, (uint64_t)fd, 0, 1);
    raw_send(fd, bytes, sizeof(bytes));
    while (got < sizeof(bytes) || h->accepted == before) {
        ssize_t n;

        assert_false(gp_expired(deadline));
        host_pump(h);
        n = got < sizeof(bytes) ? recv(fd, bytes + got, sizeof(bytes) - got, 0)
                                : 0;
        got += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(bytes[6], GP_TCP_ANSWER);
    return fd;
}

static void
honest_peer_gets_through(host *h)
{
    gp_msg msg = {.type = 1};
    char address[32];
    gp_endpoint *ep = NULL;
    uint64_t deadline = soon();
    int before = h->messages;

    snprintf(address, sizeof(address), "127.0.0.1:%u", h->port);
    assert_int_equal(h->ops->connect(h->domain, address, deadline, &ep), GP_OK);
    assert_int_equal(h->ops->post(ep, &msg, NULL, NULL, 0), GP_OK);
    while (h->messages == before) {
        assert_false(gp_expired(deadline));
        host_pump(h);
    }
    h->ops->ep_close(ep);
}

static void
random_bytes(void **state)
{
    uint8_t noise[4096];
    host h;

    (void)state;
    host_open(&h, "60s");
    for (int i = 0; i < 20; i++) {
        int fd = raw_connect(&h);

        assert_int_equal(gp_random(noise, sizeof(noise)), GP_OK);
        raw_send(fd, noise, sizeof(noise));
        await_end(&h, fd);
    }
    assert_int_equal(h.accepted, 0);
    honest_peer_gets_through(&h);
    host_close(&h);
}

static void
silence_and_half_a_preamble(void **state)
{
    uint8_t bytes[GP_TCP_PREAMBLE];
    host h;
    int silent, half, gone;

    (void)state;
    host_open(&h, "100ms");
    hello_bytes(bytes, 1, 0, 1);
    silent = raw_connect(&h);
    half = raw_connect(&h);
    raw_send(half, bytes, 17);
    gone = raw_connect(&h);
    raw_send(gone, bytes, 31);
    close(gone);
    await_end(&h, silent);
    await_end(&h, half);
    assert_int_equal(h.accepted, 0);
    assert_int_equal(h.domain->pending_count, 0);
    honest_peer_gets_through(&h);
    host_close(&h);
}

static void
group_that_stays_incomplete(void **state)
{
    uint8_t bytes[GP_TCP_PREAMBLE];
    host h;
    int fd[3];

    (void)state;
    host_open(&h, "100ms");
    for (uint16_t i = 0; i < 3; i++) {
        fd[i] = raw_connect(&h);
        /* Sockets 0 and 1 of 3, and 1 once more. */
        hello_bytes(bytes, 77, i ? 1 : 0, 3);
        raw_send(fd[i], bytes, sizeof(bytes));
    }
    for (int i = 0; i < 3; i++)
        await_end(&h, fd[i]);
    assert_int_equal(h.accepted, 0);
    host_close(&h);
}

static void
other_version(void **state)
{
    uint8_t bytes[GP_TCP_PREAMBLE], answer[GP_TCP_PREAMBLE];
    gp_tcp_hello hello = {
        .kind = GP_TCP_HELLO, .version = GP_PROTOCOL_VERSION + 1, .count = 1};
    uint64_t deadline = soon();
    size_t got = 0;
    host h;
    int fd;

    (void)state;
    host_open(&h, "60s");
    gp_tcp_hello_encode(&hello, bytes);
    fd = raw_connect(&h);
    raw_send(fd, bytes, sizeof(bytes));
    while (got < sizeof(answer)) {
        ssize_t n;

        assert_false(gp_expired(deadline));
        host_pump(&h);
        n = recv(fd, answer + got, sizeof(answer) - got, 0);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(gp_tcp_hello_decode(answer, &hello), GP_OK);
    assert_int_equal(hello.refusal, 1);
    await_end(&h, fd);
    assert_int_equal(h.accepted, 0);
    host_close(&h);
}

/* What a joined stranger sends, and how the endpoint ends. */
static void
expect_end(const void *bytes, size_t length, bool then_eof, gp_status status)
{
    uint64_t deadline = soon();
    host h;
    int fd;

    host_open(&h, "60s");
    fd = raw_join(&h);
    raw_send(fd, bytes, length);
    if (then_eof)
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
    while (!h.closed) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    assert_int_equal(h.status, status);
    assert_int_equal(h.messages, 0);
    h.ops->ep_close(h.ep);
    honest_peer_gets_through(&h);
    close(fd);
    host_close(&h);
}

static void
lengths_and_damage(void **state)
{
    uint8_t wire[GP_MSG_BYTES + 16] = {0}, zeros[512] = {0};
    gp_msg msg = {.type = 1, .payload = UINT64_C(1) << 63};

    (void)state;
    gp_msg_encode(&msg, wire);
    expect_end(wire, GP_MSG_BYTES, false, GP_ERR_PROTOCOL);
    msg.region = 0x00100000;
    gp_msg_encode(&msg, wire);
    expect_end(wire, GP_MSG_BYTES, false, GP_ERR_PROTOCOL);

    msg = (gp_msg){.type = 1, .payload = 16};
    msg.flags = GP_MSG_PAYLOAD_CRC;
    msg.payload_crc = gp_crc32c(0, zeros, 16);
    gp_msg_encode(&msg, wire);
    wire[GP_MSG_BYTES + 5] = 1;
    expect_end(wire, sizeof(wire), false, GP_ERR_CHECKSUM);
    wire[40] ^= 1;
    expect_end(wire, sizeof(wire), false, GP_ERR_CHECKSUM);
    expect_end(zeros, sizeof(zeros), false, GP_ERR_PROTOCOL);
}

static void
end_inside_a_message(void **state)
{
    uint8_t wire[GP_MSG_BYTES + 16] = {0};
    gp_msg msg = {.type = 1, .payload = 16};

    (void)state;
    gp_msg_encode(&msg, wire);
    expect_end(wire, 50, true, GP_ERR_PEER_LOST);
    expect_end(wire, GP_MSG_BYTES, true, GP_ERR_PEER_LOST);
    expect_end(wire, sizeof(wire) - 1, true, GP_ERR_PEER_LOST);
}

static void
reset_is_a_lost_peer(void **state)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    uint64_t deadline = soon();
    char text[300];
    host h;
    int fd;

    (void)state;
    host_open(&h, "60s");
    fd = raw_join(&h);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)),
                     0);
    close(fd);
    while (!h.closed) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    assert_int_equal(h.status, GP_ERR_PEER_LOST);
    h.ops->ep_describe(h.ep, text, sizeof(text));
    assert_non_null(strstr(text, "reset"));
    host_close(&h);
}

/* Bytes that never leave the memory of a host have none, unless asked for. */
static void
checksums_of_a_local_peer(void **state)
{
    static const char *const expect[][2] = {{"auto", "checksum off"},
                                            {"off", "checksum off"},
                                            {"on", "checksum on"}};
    char text[300];
    host h;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(expect); i++) {
        int fd;

        host_open_with(&h, "checksum", expect[i][0]);
        fd = raw_join(&h);
        h.ops->ep_describe(h.ep, text, sizeof(text));
        assert_non_null(strstr(text, expect[i][1]));
        close(fd);
        host_close(&h);
    }
}

static bool
allow_files(rlim_t wanted)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur >= wanted)
        return true;
    limit.rlim_cur = GP_MIN(wanted, limit.rlim_max);
    return limit.rlim_cur >= wanted && !setrlimit(RLIMIT_NOFILE, &limit);
}

static void
a_thousand_idle_connections(void **state)
{
    static int fd[IDLE];
    uint64_t deadline = soon();
    host h;

    (void)state;
    if (!allow_files(2 * IDLE + 100)) {
        print_message("skipped: needs %d open files\n", 2 * IDLE + 100);
        skip();
    }
    host_open(&h, "600");
    for (int i = 0; i < IDLE; i++)
        fd[i] = raw_connect(&h);
    while (h.domain->pending_count < IDLE) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    honest_peer_gets_through(&h);
    assert_int_equal(h.domain->pending_count, IDLE);
    for (int i = 0; i < IDLE; i++)
        close(fd[i]);
    while (h.domain->pending_count) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    host_close(&h);
}

static void
oldest_stranger_makes_room(void **state)
{
    int fd[40];
    uint64_t deadline = soon();
    uint8_t byte;
    host h;

    (void)state;
    host_open(&h, "600");
    h.domain->pending_max = 32;
    for (size_t i = 0; i < GP_COUNT_OF(fd); i++)
        fd[i] = raw_connect(&h);
    while (recv(fd[7], &byte, 1, 0) != 0) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    assert_int_equal(h.domain->pending_count, 32);
    assert_int_equal(recv(fd[39], &byte, 1, 0), -1);
    honest_peer_gets_through(&h);
    for (size_t i = 0; i < GP_COUNT_OF(fd); i++)
        close(fd[i]);
    host_close(&h);
}

static void
no_descriptor_left(void **state)
{
    struct rlimit before, tight;
    uint64_t deadline = soon();
    host h;
    int fd;

    (void)state;
    host_open(&h, "600");
    fd = raw_connect(&h);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)fd + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    while (!h.domain->resume_ns && !gp_expired(deadline))
        host_pump(&h);
    /* It has stopped asking: the descriptor is quiet until the timer. */
    assert_int_not_equal(h.domain->resume_ns, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (!h.domain->pending_count) {
        assert_false(gp_expired(deadline));
        host_pump(&h);
    }
    honest_peer_gets_through(&h);
    close(fd);
    host_close(&h);
}

/* The other way round: what answers is no gradpush. */
static void
expect_connect_end(const uint8_t *answer, size_t length, double seconds,
                   gp_status status)
{
    struct sockaddr_in name = local(0);
    socklen_t size = sizeof(name);
    uint64_t deadline = soon();
    char address[32];
    gp_endpoint *ep = NULL;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    host h;

    assert_int_equal(bind(listener, (struct sockaddr *)&name, size), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &size), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(name.sin_port));
    host_open(&h, "60s");
    assert_int_equal(
        h.ops->connect(h.domain, address, gp_deadline(seconds), &ep), GP_OK);
    while (!h.closed) {
        int fd = accept(listener, NULL, NULL);

        assert_false(gp_expired(deadline));
        if (fd >= 0 && answer)
            raw_send(fd, answer, length);
        if (fd >= 0)
            close(fd);
        host_pump(&h);
    }
    assert_int_equal(h.status, status);
    assert_int_equal(h.connected, 0);
    h.ops->ep_close(ep);
    close(listener);
    host_close(&h);
}

static void
answers_of_something_else(void **state)
{
    static const uint8_t http[] = "HTTP/1.1 400 Bad Request\r\n\r\nsorry";
    uint8_t refusal[GP_TCP_PREAMBLE];
    gp_tcp_hello hello = {.kind = GP_TCP_ANSWER,
                          .refusal = 1,
                          .version = GP_PROTOCOL_VERSION + 3,
                          .count = 1};

    (void)state;
    expect_connect_end(http, sizeof(http), 20, GP_ERR_PROTOCOL);
    gp_tcp_hello_encode(&hello, refusal);
    expect_connect_end(refusal, sizeof(refusal), 20, GP_ERR_VERSION);
    /* Closes every time: tried again until the deadline. */
    expect_connect_end(NULL, 0, 0.2, GP_ERR_UNREACHABLE);
}

static void
keep_line(void *user, gp_log_level level, const char *line)
{
    char *kept = user;

    (void)level;
    if (!*kept && strstr(line, "waiting for"))
        snprintf(kept, 200, "%s", line);
}

/* The line comes while the owner sleeps on the descriptor. */
static void
waiting_is_reported(void **state)
{
    uint64_t deadline = soon();
    char kept[200] = "", address[32];
    gp_endpoint *ep = NULL;
    struct pollfd fd;
    host h;

    (void)state;
    job_free_port(address, sizeof(address));
    host_open(&h, "60s");
    gp_log_set_callback(keep_line, kept);
    gp_log_set_level(GP_LOG_WARN);
    assert_int_equal(h.ops->connect(h.domain, address, deadline, &ep), GP_OK);
    fd = (struct pollfd){.fd = h.ops->event_fd(h.domain), .events = POLLIN};
    while (!*kept && !gp_expired(deadline)) {
        if (h.ops->arm(h.domain) == GP_OK)
            assert_int_equal(poll(&fd, 1, 10000), 1);
        host_pump(&h);
    }
    gp_log_set_level(GP_LOG_NONE);
    gp_log_set_callback(NULL, NULL);
    assert_non_null(strstr(kept, address));
    assert_non_null(strstr(kept, "Connection refused"));
    assert_non_null(strstr(kept, "s left"));
    host_close(&h);
}

static void
bad_addresses(void **state)
{
    static const char *const texts[] = {
        "",          "host",          "127.0.0.1:", "127.0.0.1:0",
        "1.2.3.4:x", "1.2.3.4:99999", "::1:80",     "[::1]80",
        "[::1",      "1.2.3.4:80x",   "1.2.3.4:-1"};
    gp_endpoint *ep = NULL;
    char long_text[400];
    host h;

    (void)state;
    host_open(&h, "60s");
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        assert_int_equal(h.ops->connect(h.domain, texts[i], soon(), &ep),
                         GP_ERR_ADDRESS);
        assert_non_null(strstr(gp_last_error(), "host:port"));
    }
    memset(long_text, 'a', sizeof(long_text));
    long_text[sizeof(long_text) - 1] = '\0';
    assert_int_equal(h.ops->connect(h.domain, long_text, soon(), &ep),
                     GP_ERR_ADDRESS);
    assert_null(ep);
    host_close(&h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(silence_and_half_a_preamble),
        cmocka_unit_test(group_that_stays_incomplete),
        cmocka_unit_test(other_version),
        cmocka_unit_test(lengths_and_damage),
        cmocka_unit_test(end_inside_a_message),
        cmocka_unit_test(reset_is_a_lost_peer),
        cmocka_unit_test(checksums_of_a_local_peer),
        cmocka_unit_test(a_thousand_idle_connections),
        cmocka_unit_test(oldest_stranger_makes_room),
        cmocka_unit_test(no_descriptor_left),
        cmocka_unit_test(answers_of_something_else),
        cmocka_unit_test(waiting_is_reported),
        cmocka_unit_test(bad_addresses),
    };

    gp_log_set_level(GP_LOG_NONE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
