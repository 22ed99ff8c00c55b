/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_server.c - the store's thread: sockets around store_session.c.
 *
 * Everything but `thread`, `wake` and `address` belongs to that thread. The
 * number of connections is bounded; when it is reached, the oldest that has
 * not proven itself goes, so that strangers cannot keep members out.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rendezvous/net.h"
#include "rendezvous/rendezvous.h"
#include "rendezvous/store_listen.h"
#include "rendezvous/store_session.h"

#define CLIENTS_MAX 4096u
#define EVENTS_MAX  64
#define ACCEPTS_MAX 64
#define STEPS_MAX   32
#define TOKEN_MAX   4096u
#define ACCEPT_REST 100000000u  /* ns without accept after EMFILE */
#define LOG_REST    1000000000u /* ns between two lines about strangers */

typedef struct client {
    gp_store_session session;
    gp_list link; /* in server->clients or server->dead */
    int fd;
    uint32_t events;
    char peer[64];
} client;

struct gp_store_server {
    pthread_t thread;
    int epoll, wake;
    gp_listeners listeners;
    gp_store_core core;
    gp_list clients, dead;
    size_t client_count, client_limit;
    double keepalive;
    bool accepting;
    uint64_t accept_again_ns, log_again_ns;
    char token[TOKEN_MAX];
    char address[GP_ADDRESS_TEXT];
};

/* One line a second at most: strangers must not fill the log. */
static void
log_refusal(gp_store_server *server, const client *c)
{
    if (server->core.now_ns < server->log_again_ns)
        return;
    server->log_again_ns = server->core.now_ns + LOG_REST;
    GP_WARN("store %s: refused %s: %s", server->address, c->peer,
            c->session.refusal == GP_ERR_REFUSED
                ? "it belongs to another job"
                : gp_status_text(c->session.refusal));
}

static void
drop(gp_store_server *server, client *c)
{
    if (c->fd < 0)
        return;
    if (c->session.refusal != GP_OK)
        log_refusal(server, c);
    gp_session_close(&c->session);
    /* Closing does not take it out while a child that was forked a moment ago
     * has the descriptor too: then an event would name a client that is gone.
     */
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
    server->client_count--;
    gp_list_remove(&c->link);
    gp_list_insert(&server->dead, &c->link);
}

/* After a batch of events, because a later event may name the client. */
static void
bury(gp_store_server *server)
{
    gp_list *item;

    while ((item = gp_list_pop(&server->dead)) != NULL)
        free(GP_CONTAINER_OF(item, client, link));
}

/* False: the connection is broken. */
static bool
send_output(client *c)
{
    const uint8_t *at;
    size_t length;

    while ((length = gp_session_output(&c->session, &at)) > 0) {
        ssize_t n = send(c->fd, at, length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            gp_session_sent(&c->session, (size_t)n);
        else if (errno == EAGAIN)
            return true;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

/* False: nothing more to do now; *broken says whether for good. */
static bool
receive_input(client *c, bool *broken)
{
    uint8_t *at;
    size_t space = gp_session_space(&c->session, &at);
    ssize_t n;

    if (space == 0)
        return false;
    n = recv(c->fd, at, space, MSG_DONTWAIT);
    if (n > 0) {
        gp_session_input(&c->session, (size_t)n);
        return true;
    }
    *broken = n == 0 || (errno != EAGAIN && errno != EINTR);
    return false;
}

/* Interest follows what the session can use, so that a level-triggered epoll
 * does not spin on bytes nobody takes yet. */
static void
watch(gp_store_server *server, client *c)
{
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = c};
    const uint8_t *out;
    uint8_t *in;

    if (gp_session_output(&c->session, &out) > 0)
        event.events |= EPOLLOUT;
    else if (gp_session_space(&c->session, &in) > 0)
        event.events |= EPOLLIN;
    if (event.events == c->events)
        return;
    c->events = event.events;
    if (epoll_ctl(server->epoll, EPOLL_CTL_MOD, c->fd, &event) != 0)
        drop(server, c);
}

/* Moves a connection as far as it goes, within a turn's limit. */
static void
serve(gp_store_server *server, client *c)
{
    bool broken = false;

    for (int i = 0; i < STEPS_MAX; i++) {
        if (!send_output(c)) {
            drop(server, c);
            return;
        }
        if (gp_session_over(&c->session) || !receive_input(c, &broken))
            break;
    }
    if (broken || gp_session_over(&c->session))
        drop(server, c);
    else
        watch(server, c);
}

/* Sessions that another's set, or the clock, has moved. */
static void
serve_ready(gp_store_server *server)
{
    gp_list *item;

    while ((item = gp_list_pop(&server->core.ready)) != NULL) {
        gp_store_session *s = GP_CONTAINER_OF(item, gp_store_session, ready);

        serve(server, GP_CONTAINER_OF(s, client, session));
    }
}

static bool
drop_oldest_stranger(gp_store_server *server)
{
    gp_store_session *s;

    if (gp_list_empty(&server->core.young))
        return false;
    s = GP_CONTAINER_OF(server->core.young.next, gp_store_session, link);
    drop(server, GP_CONTAINER_OF(s, client, session));
    return true;
}

static void
tune_socket(const gp_store_server *server, int fd)
{
    int on = 1, seconds = GP_MAX(1, (int)server->keepalive), probes = 3;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (server->keepalive <= 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static void
admit(gp_store_server *server, int fd, const struct sockaddr *peer)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    client *c = calloc(1, sizeof(*c));

    if (!c) {
        close(fd);
        return;
    }
    c->fd = fd;
    gp_socket_text(peer, c->peer, sizeof(c->peer));
    tune_socket(server, fd);
    gp_list_init(&c->link);
    event.data.ptr = c;
    c->events = event.events;
    if (gp_session_open(&server->core, &c->session) != GP_OK ||
        epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        gp_session_close(&c->session);
        close(fd);
        free(c);
        return;
    }
    gp_list_insert(&server->clients, &c->link);
    server->client_count++;
    serve(server, c);
    if (server->client_count > server->client_limit)
        if (!drop_oldest_stranger(server))
            drop(server, c);
}

static void
watch_listeners(gp_store_server *server, bool on)
{
    for (int i = 0; i < server->listeners.count; i++) {
        struct epoll_event event = {.events = on ? EPOLLIN : 0,
                                    .data.ptr = &server->listeners.fd[i]};

        epoll_ctl(server->epoll, EPOLL_CTL_MOD, server->listeners.fd[i],
                  &event);
    }
    server->accepting = on;
}

/* Out of descriptors: a stranger's is the one to take back. */
static void
make_room(gp_store_server *server)
{
    if (drop_oldest_stranger(server))
        return;
    watch_listeners(server, false);
    server->accept_again_ns = server->core.now_ns + ACCEPT_REST;
}

static void
accept_clients(gp_store_server *server, int listener)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof(peer);
        int fd = accept4(listener, (struct sockaddr *)&peer, &length,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            admit(server, fd, (struct sockaddr *)&peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM)
            make_room(server);
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* The listener's descriptor when the event is one's, else -1. */
static int
listener_of(const gp_store_server *server, const void *tag)
{
    for (int i = 0; i < server->listeners.count; i++)
        if (tag == &server->listeners.fd[i])
            return server->listeners.fd[i];
    return -1;
}

/* False: the server is to stop. */
static bool
handle(gp_store_server *server, const struct epoll_event *event)
{
    int listener = listener_of(server, event->data.ptr);
    client *c = event->data.ptr;

    if (event->data.ptr == &server->wake)
        return false;
    if (listener >= 0)
        accept_clients(server, listener);
    else if (c->fd < 0)
        return true;
    else if (event->events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
        drop(server, c);
    else
        serve(server, c);
    serve_ready(server);
    return true;
}

static void
do_timers(gp_store_server *server)
{
    gp_store_core_expire(&server->core);
    serve_ready(server);
    if (!server->accepting && server->core.now_ns >= server->accept_again_ns)
        watch_listeners(server, true);
}

static int
sleep_ms(const gp_store_server *server)
{
    uint64_t next = gp_store_core_deadline(&server->core);

    if (!server->accepting)
        next = GP_MIN(next, server->accept_again_ns);
    return gp_deadline_ms(next);
}

static void *
run(void *argument)
{
    gp_store_server *server = argument;
    struct epoll_event events[EVENTS_MAX];
    bool going = true;

    gp_log_identity("store");
    while (going) {
        int n = epoll_wait(server->epoll, events, EVENTS_MAX, sleep_ms(server));

        server->core.now_ns = gp_clock_ns();
        for (int i = 0; i < n && going; i++)
            going = handle(server, &events[i]);
        if (going)
            do_timers(server);
        bury(server);
    }
    return NULL;
}

/* Leaves descriptors to the rest of the process. */
static size_t
choose_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY)
        return CLIENTS_MAX;
    return GP_MAX(16, GP_MIN((size_t)limit.rlim_cur / 2, CLIENTS_MAX));
}

static gp_status
add_watch(gp_store_server *server, int *fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};

    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, *fd, &event) != 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "store: epoll_ctl");
    return GP_OK;
}

static gp_status
open_sockets(gp_store_server *server, const char *address)
{
    gp_status status = gp_listen(address, &server->listeners);

    if (status != GP_OK)
        return status;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->epoll < 0 || server->wake < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno,
                             "store: epoll_create or eventfd");
    status = add_watch(server, &server->wake);
    for (int i = 0; i < server->listeners.count && status == GP_OK; i++)
        status = add_watch(server, &server->listeners.fd[i]);
    return status;
}

/* What others connect to: the host as it was given, this host for none. */
static gp_status
name_address(const gp_config *config, const char *address,
             gp_store_server *server)
{
    char host[256];
    uint16_t port = 0;
    gp_status status = gp_address_split(address, host, sizeof(host), &port);

    if (status == GP_OK && (!host[0] || strcmp(host, "*") == 0))
        status = gp_local_host(config, NULL, host, sizeof(host));
    if (status == GP_OK)
        status = gp_address_join(host, server->listeners.port, server->address,
                                 sizeof(server->address));
    return status;
}

/* The thread takes no signals: they belong to the program. */
static gp_status
start_thread(gp_store_server *server)
{
    sigset_t all, old;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&server->thread, NULL, run, server);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error)
        return gp_fail_errno(GP_ERR_SYSTEM, error, "store: pthread_create");
    pthread_setname_np(server->thread, "gp-store");
    return GP_OK;
}

static void
release(gp_store_server *server)
{
    GP_LIST_EACH (item, &server->clients)
        drop(server, GP_CONTAINER_OF(item, client, link));
    bury(server);
    gp_listeners_close(&server->listeners);
    if (server->epoll >= 0)
        close(server->epoll);
    if (server->wake >= 0)
        close(server->wake);
    gp_store_core_destroy(&server->core);
    explicit_bzero(server->token, sizeof(server->token));
    free(server);
}

/* Everything that needs no socket. */
static gp_status
prepare(gp_store_server *server, const gp_config *config, const char *token)
{
    const char *job = gp_config_get(config, "job");
    double patience = gp_config_seconds(config, "handshake_timeout");
    uint8_t nonce[GP_TOKEN_NONCE] = {0}, proof[GP_TOKEN_PROOF];
    gp_status status;

    server->epoll = server->wake = -1;
    server->accepting = true;
    server->client_limit = choose_limit();
    server->keepalive = gp_config_seconds(config, "keepalive");
    gp_list_init(&server->clients);
    gp_list_init(&server->dead);
    if (strlen(token) >= TOKEN_MAX)
        return gp_fail(GP_ERR_INVALID, "the job token is too long");
    memcpy(server->token, token, strlen(token) + 1);
    status = gp_store_core_create(&server->core, server->token,
                                  gp_hash(job, strlen(job)),
                                  (uint64_t)(patience * 1e9));
    server->core.now_ns = gp_clock_ns();
    if (status != GP_OK)
        return status;
    /* A build that cannot prove says so here, not to the first member. */
    return gp_token_prove(token, GP_STORE_HOST, nonce, 0, 0, proof);
}

gp_status
gp_store_serve(const gp_config *config, const char *address, const char *token,
               gp_store_server **out)
{
    gp_store_server *server = calloc(1, sizeof(*server));
    gp_status status;

    if (!server)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the store");
    status = prepare(server, config, token);
    if (status == GP_OK)
        status = open_sockets(server, address);
    if (status == GP_OK)
        status = name_address(config, address, server);
    if (status == GP_OK)
        status = start_thread(server);
    if (status != GP_OK) {
        release(server);
        return status;
    }
    GP_INFO("the store listens at %s%s", server->address,
            token[0] ? ""
                     : ", open to anyone with the job's name: set "
                       "GRADPUSH_TOKEN_FILE on a shared network");
    *out = server;
    return GP_OK;
}

const char *
gp_store_server_address(const gp_store_server *server)
{
    return server->address;
}

void
gp_store_stop(gp_store_server *server)
{
    uint64_t one = 1;

    if (!server)
        return;
    while (write(server->wake, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(server->thread, NULL);
    release(server);
}
