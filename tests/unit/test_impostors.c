/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_impostors.c - a worker against something that is not its shard.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "job_harness.h"
#include "rendezvous/rendezvous.h"
#include "wire/proto.h"

typedef struct impostor {
    void (*serve)(struct impostor *self);
    char address[64];
    int fd;            /* plain sockets */
    gp_domain *domain; /* or the transport's own */
    uint8_t last;      /* the last message it sends */
    atomic_bool stop;
    pthread_t thread;
} impostor;

static void *
serve(void *arg)
{
    impostor *self = arg;

    self->serve(self);
    return NULL;
}

static void
listen_plain(impostor *self)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof(name);

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    self->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(self->fd >= 0);
    assert_int_equal(bind(self->fd, (void *)&name, sizeof(name)), 0);
    assert_int_equal(listen(self->fd, 8), 0);
    assert_int_equal(getsockname(self->fd, (void *)&name, &length), 0);
    snprintf(self->address, sizeof(self->address), "127.0.0.1:%u",
             ntohs(name.sin_port));
}

/* Answers every connection until the listener is shut down. */
static void
answer_all(impostor *self, void (*answer)(int fd))
{
    int fd;

    while ((fd = accept(self->fd, NULL, NULL)) >= 0) {
        answer(fd);
        close(fd);
    }
}

static void
answer_version(int fd)
{
    uint8_t hello[32];

    if (recv(fd, hello, sizeof(hello), MSG_WAITALL) != sizeof(hello))
        return;
    hello[6] = 2; /* an answer, with a refusal */
    hello[7] = 1;
    gp_put16(hello + 4, GP_PROTOCOL_VERSION + 1);
    gp_put32(hello + 28, gp_crc32c(0, hello, 28));
    (void)send(fd, hello, sizeof(hello), MSG_NOSIGNAL);
    (void)recv(fd, hello, 1, 0);
}

static void
serve_version(impostor *self)
{
    answer_all(self, answer_version);
}

static void
answer_http(int fd)
{
    static const char page[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html></html>";
    char byte;

    (void)send(fd, page, sizeof(page) - 1, MSG_NOSIGNAL);
    (void)recv(fd, &byte, 1, 0);
}

static void
serve_http(impostor *self)
{
    answer_all(self, answer_http);
}

/* Speaks the protocol without knowing the token. */

static void
answer_hello(impostor *self, gp_endpoint *ep, const gp_event *event)
{
    const gp_transport_ops *ops = gp_transport_find("tcp");
    gp_msg msg = {.type = GP_MSG_CHALLENGE, .payload = GP_CHALLENGE_BYTES};
    uint8_t zeros[GP_CHALLENGE_BYTES] = {0};

    if (event->type == GP_EVENT_MESSAGE) {
        if (event->msg.type != GP_MSG_HELLO)
            return;
        msg.type = self->last;
        msg.payload = self->last == GP_MSG_WELCOME ? GP_WELCOME_BYTES : 0;
    } else if (event->type != GP_EVENT_ACCEPTED) {
        return;
    }
    if (msg.type == 0) {
        ops->ep_close(ep);
        return;
    }
    (void)ops->post(ep, &msg, zeros, NULL, 0);
    (void)ops->flush(ep);
}

static void
serve_protocol(impostor *self)
{
    const gp_transport_ops *ops = gp_transport_find("tcp");

    while (!atomic_load(&self->stop)) {
        gp_event event;

        if (ops->progress(self->domain, &event, 1) == 1)
            answer_hello(self, event.ep, &event);
        else
            usleep(200);
    }
}

static void
listen_protocol(impostor *self)
{
    const gp_transport_ops *ops = gp_transport_find("tcp");
    gp_config *c;

    self->fd = -1;
    job_check(gp_config_create(&c));
    job_check(ops->open(c, &self->domain));
    job_check(ops->listen(self->domain, "127.0.0.1:0", self->address,
                          sizeof(self->address)));
    gp_config_destroy(c);
}

static void
try_impostor(impostor *self, gp_status status, const char *says,
             const char *fix)
{
    job j = {.transport = "tcp",
             .workers = 1,
             .settings = {"connect_timeout", "5s"}};
    gp_config *c = job_config(&j);
    gp_worker *w = NULL;

#ifdef GP_HAVE_OPENSSL /* others refuse a token before they meet anybody */
    job_set(c, "token", "secret");
#endif
    job_set(c, "rank", "0");
    job_set(c, "servers", self->address);
    pthread_create(&self->thread, NULL, serve, self);
    job_log_start();
    if (gp_worker_create(c, &w) != status)
        fail_msg("not %s: %s", gp_status_name(status), gp_last_error());
    job_log_stop();
    assert_null(w);
    if (!strstr(gp_last_error(), says) || !strstr(gp_last_error(), fix) ||
        !strstr(gp_last_error(), self->address))
        fail_msg("'%s' does not say '%s' and '%s'", gp_last_error(), says, fix);
    atomic_store(&self->stop, true);
    if (self->fd >= 0)
        shutdown(self->fd, SHUT_RDWR);
    pthread_join(self->thread, NULL);
    if (self->fd >= 0)
        close(self->fd);
    if (self->domain)
        gp_transport_find("tcp")->close(self->domain);
    gp_config_destroy(c);
}

static void
another_version(void **state)
{
    impostor i = {.serve = serve_version};

    (void)state;
    listen_plain(&i);
    try_impostor(&i, GP_ERR_VERSION, "another protocol version",
                 "use the same gradpush everywhere");
}

static void
not_gradpush(void **state)
{
    impostor i = {.serve = serve_http};

    (void)state;
    listen_plain(&i);
    try_impostor(&i, GP_ERR_PROTOCOL, "is not a gradpush shard",
                 "check the address");
}

/* A build without OpenSSL refuses the token before it meets anybody. */
static void
skip_without_openssl(void)
{
    uint8_t out[GP_TOKEN_PROOF];

    if (gp_token_hmac("k", 1, "d", 1, out) == GP_OK)
        return;
    print_message("skipped: this build has no OpenSSL\n");
    skip();
}

static void
without_the_token(void **state)
{
    impostor i = {.serve = serve_protocol, .last = GP_MSG_WELCOME};

    (void)state;
    skip_without_openssl();
    listen_protocol(&i);
    try_impostor(&i, GP_ERR_AUTH, "does not know the job token",
                 "GRADPUSH_TOKEN");
}

static void
out_of_turn(void **state)
{
    impostor i = {.serve = serve_protocol, .last = GP_MSG_RESULT};

    (void)state;
    skip_without_openssl();
    listen_protocol(&i);
    try_impostor(&i, GP_ERR_PROTOCOL, "out of turn", "shard 0");
}

static void
hangs_up(void **state)
{
    impostor i = {.serve = serve_protocol, .last = 0};

    (void)state;
    skip_without_openssl();
    listen_protocol(&i);
    try_impostor(&i, GP_ERR_PEER_LOST, "died or closed the connection",
                 "shard 0");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_version),   cmocka_unit_test(not_gradpush),
        cmocka_unit_test(without_the_token), cmocka_unit_test(out_of_turn),
        cmocka_unit_test(hangs_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
