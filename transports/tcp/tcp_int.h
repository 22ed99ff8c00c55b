/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_int.h - what the files of the tcp transport share.
 *
 * Everything belongs to one domain, and a domain to one thread at a time:
 * nothing here is locked. Whatever epoll may still name (a gp_tcp_source) is
 * buried, not freed, and dies at the start of the next progress(); so are the
 * bytes that events of the last progress() point to.
 */
#ifndef GP_TCP_INT_H
#define GP_TCP_INT_H

#include <sys/uio.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "base/list.h"
#include "transports/address.h"
#include "transports/region.h"

#define GP_TCP_SOCKETS_MAX 16u
#define GP_TCP_PREAMBLE    32u

/* Messages one endpoint queues: data, and what control may use beyond. */
#define GP_TCP_DATA_DEPTH    1024u
#define GP_TCP_CONTROL_DEPTH 256u
#define GP_TCP_CONTROL_BYTES (16u << 20)
/* Control payloads up to this travel inside the queue entry. */
#define GP_TCP_INLINE 96u

/* Received bytes that have no destination yet. Beside a large payload only
 * little is read ahead, since what lands in the stage is copied once more. */
#define GP_TCP_STAGE       (64u << 10)
#define GP_TCP_STAGE_AHEAD (4u << 10)
/* Control payloads up to this are delivered where they lie in the stage. */
#define GP_TCP_STAGE_CONTROL GP_CONTROL_MAX_UNTRUSTED

/* One system call moves at most a piece, so that the checksum of what was
 * received finds it in the cache. */
#define GP_TCP_PIECE (512u << 10)
/* What one progress() moves per socket and direction before others' turn. */
#define GP_TCP_BUDGET (2u << 20)

typedef enum gp_tcp_kind {
    GP_TCP_DEAD = 0,
    GP_TCP_LISTENER,
    GP_TCP_TIMER,
    GP_TCP_PENDING,   /* accepted, preamble not complete or group not */
    GP_TCP_SOCKET,    /* of an endpoint */
    GP_TCP_LINGERING, /* of an endpoint that was closed here */
} gp_tcp_kind;

/* Anything epoll watches. */
typedef struct gp_tcp_source {
    gp_list link;
    gp_domain *domain;
    int fd;
    gp_tcp_kind kind;
} gp_tcp_source;

typedef enum gp_tcp_hello_kind {
    GP_TCP_HELLO = 1, /* from the connecting side, on every socket */
    GP_TCP_ANSWER = 2 /* from the accepting side, on socket 0 */
} gp_tcp_hello_kind;

/* The preamble of one socket; docs/transports.md has the layout. */
typedef struct gp_tcp_hello {
    uint8_t kind;
    uint8_t refusal; /* answer: 0, or 1 for another protocol version */
    uint16_t version;
    uint16_t index, count;
    uint64_t group;
} gp_tcp_hello;

typedef struct gp_tcp_pending {
    gp_tcp_source source;
    uint64_t deadline_ns;
    uint32_t got;
    uint8_t bytes[GP_TCP_PREAMBLE];
    gp_tcp_hello hello; /* once got is complete */
} gp_tcp_pending;

typedef struct gp_tcp_lingering {
    gp_tcp_source source;
    uint64_t deadline_ns;
} gp_tcp_lingering;

/* The receiving side of one socket: pure state, no descriptor. */
typedef enum gp_tcp_rx_state {
    GP_TCP_RX_HEADER,  /* waits for a whole header in the stage */
    GP_TCP_RX_STAGED,  /* waits for a short control payload in the stage */
    GP_TCP_RX_PAYLOAD, /* payload goes to `to` */
} gp_tcp_rx_state;

typedef struct gp_tcp_rx {
    const gp_regions *regions;
    size_t control_limit;
    bool check; /* verify payload checksums */

    gp_tcp_rx_state state;
    gp_msg msg;
    uint8_t *to;     /* next payload byte; NULL: discard */
    uint8_t *begin;  /* first payload byte */
    uint64_t left;   /* payload bytes still to come */
    uint32_t crc;    /* of the payload so far */
    size_t direct;   /* bytes of the last iov that go to `to` */
    const char *why; /* after an error: what was wrong */

    uint8_t *stage;
    size_t start, end; /* unparsed bytes of the stage */
    bool held;         /* events of this progress() point into the stage */
    uint8_t *large;    /* a control payload too long for the stage */
    bool large_held;   /* an event of this progress() points to it */
} gp_tcp_rx;

typedef struct gp_tcp_entry {
    union {
        gp_msg msg;                 /* until encoded */
        uint8_t wire[GP_MSG_BYTES]; /* afterwards */
    };
    const uint8_t *payload; /* NULL: in `small` */
    uint64_t length;
    uint64_t cookie;
    bool encoded;
    bool heap; /* payload is ours to free */
    uint8_t small[GP_TCP_INLINE];
} gp_tcp_entry;

/* Ring of entries; counters run freely. head <= sent <= tail. */
typedef struct gp_tcp_queue {
    gp_tcp_entry *entries;
    uint32_t capacity; /* power of two, or 0 */
    uint32_t head;     /* oldest entry whose SENT was not reported */
    uint32_t sent;     /* first entry not wholly given to the kernel */
    uint32_t tail;
} gp_tcp_queue;

typedef struct gp_tcp_socket {
    gp_tcp_source source;
    gp_endpoint *ep;
    uint32_t index;
    gp_list ready;    /* in domain->ready while there is something to do */
    gp_list hot;      /* in domain->hot while it received lately */
    uint64_t last_rx; /* domain->tick of the last bytes */
    bool joined;      /* connecting: hello sent */
    bool readable;    /* recv may have something */
    bool hangup;      /* epoll saw the end: read until it comes */
    bool eof;
    bool blocked; /* send waits for EPOLLOUT */
    int error;    /* errno of a failed send */
    gp_tcp_rx rx;
    gp_tcp_queue control, data;
    gp_tcp_queue *current; /* queue of a message sent in part */
    uint64_t offset;       /* bytes of it that are out */
    uint64_t queued_bytes; /* for choosing a socket */
} gp_tcp_socket;

typedef enum gp_tcp_state {
    GP_TCP_CONNECTING,
    GP_TCP_OPEN,
    GP_TCP_CLOSED
} gp_tcp_state;

/* Lives while an endpoint connects. */
typedef struct gp_tcp_attempt {
    gp_address addresses[GP_ADDRESSES_MAX];
    size_t count, next;
    uint64_t start_ns, deadline_ns;
    uint64_t give_up_ns; /* of the address being tried; 0: none is */
    uint64_t retry_ns;   /* when to start over; 0: trying now */
    uint64_t report_ns;  /* next log line */
    uint64_t backoff_ns;
    uint64_t group;
    int error;       /* of the last failure */
    const char *why; /* instead of error, when set */
    uint32_t got;
    uint8_t answer[GP_TCP_PREAMBLE];
} gp_tcp_attempt;

struct gp_endpoint {
    gp_list link;  /* domain->endpoints, or the graveyard */
    gp_list event; /* domain->opened or domain->closed */
    gp_domain *domain;
    void *user;
    gp_tcp_state state;
    bool accepted, trusted;
    bool announced; /* ACCEPTED or CONNECTED was reported */
    bool checksum;  /* of what is sent */
    gp_status status;
    uint32_t count; /* sockets */
    gp_tcp_socket *sockets[GP_TCP_SOCKETS_MAX];
    gp_tcp_attempt *attempt;
    uint64_t eof_deadline_ns; /* one socket ended, the others have until then */
    gp_regions regions;
    uint32_t data_queued, control_queued;
    size_t control_bytes;
    char peer[GP_ADDRESS_MAX];
    char why[160];
};

struct gp_domain {
    int epoll_fd;
    gp_tcp_source timer;
    uint64_t timer_ns; /* what the timer is set to; UINT64_MAX: off */
    gp_tcp_source listener;
    uint64_t resume_ns; /* when to accept again; 0: accepting */

    /* configuration */
    uint32_t sockets;
    bool checksum;       /* ... of payloads, and verify those that have one */
    bool checksum_local; /* also to peers on the same host */
    int send_buffer, receive_buffer;
    double handshake_seconds;
    uint32_t keepalive_ms; /* 0: hosts are never taken for dead */
    uint32_t patience_ms;  /* of living peers that do not read */

    gp_list endpoints;
    gp_list opened, closed; /* endpoints with an event to report */
    gp_list ready, hot;     /* sockets */
    uint32_t hot_count, blocked_count;
    gp_list pending, lingering; /* oldest first */
    uint32_t pending_count, pending_max, lingering_count;
    gp_list buried;  /* sources */
    gp_list retired; /* endpoints */
    uint64_t tick;
    uint32_t skipped; /* progress() calls since the last epoll_wait */
    bool armed;

    gp_log_budget log; /* what strangers may put into the log */
};

/* Where progress() puts its events. */
typedef struct gp_tcp_out {
    gp_event *events;
    int count, max;
} gp_tcp_out;

/* tcp.c */
gp_event *gp_tcp_emit(gp_tcp_out *out, gp_endpoint *ep, gp_event_type type);
void gp_tcp_ready(gp_tcp_socket *s);
gp_status gp_tcp_watch(gp_tcp_source *source, uint32_t events);
void gp_tcp_unwatch(gp_tcp_source *source); /* and closes the descriptor */
void gp_tcp_bury(gp_tcp_source *source);
void gp_tcp_wake_at(gp_domain *d, uint64_t when_ns);

/* tcp_ep.c */
gp_endpoint *gp_tcp_ep_create(gp_domain *d, uint32_t sockets);
gp_tcp_socket *gp_tcp_socket_create(gp_endpoint *ep, uint32_t index);
void gp_tcp_ep_open(gp_endpoint *ep);
/* Ends an endpoint: closes the sockets, keeps the first cause, logs, queues
 * CLOSED. */
void gp_tcp_ep_fail(gp_endpoint *ep, gp_status status, const char *format, ...)
    GP_PRINTF(3, 4);
void gp_tcp_ep_close(gp_endpoint *ep);
void gp_tcp_ep_free(gp_endpoint *ep);
void gp_tcp_linger_event(gp_tcp_lingering *l);
void gp_tcp_linger_timers(gp_domain *d, uint64_t now);
void gp_tcp_linger_end(gp_tcp_lingering *l);

/* tcp_tune.c */
bool gp_tcp_silent(int fd, uint32_t ms);
void gp_tcp_tune(const gp_domain *d, int fd);
/* The same, of a socket that has found its peer. */
void gp_tcp_tune_connected(gp_endpoint *ep, int fd);

/* tcp_hello.c */
void gp_tcp_hello_encode(const gp_tcp_hello *hello, void *out);
gp_status gp_tcp_hello_decode(const void *bytes, gp_tcp_hello *out);

/* tcp_accept.c */
gp_status gp_tcp_listen(gp_domain *d, const char *address, char *bound,
                        size_t capacity);
void gp_tcp_accept(gp_domain *d);
void gp_tcp_accept_timers(gp_domain *d, uint64_t now);
void gp_tcp_pending_event(gp_tcp_pending *p);
void gp_tcp_pending_drop(gp_tcp_pending *p);

/* tcp_connect.c */
gp_status gp_tcp_connect(gp_domain *d, const char *address,
                         uint64_t deadline_ns, gp_endpoint **out);
void gp_tcp_connect_event(gp_tcp_socket *s);
/* Why it is not connected yet; while there is an attempt. */
const char *gp_tcp_connect_cause(const gp_endpoint *ep);
void gp_tcp_connect_timer(gp_endpoint *ep, uint64_t now);

/* tcp_send.c */
gp_status gp_tcp_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
                      gp_mem *mem, uint64_t cookie);
gp_status gp_tcp_flush(gp_endpoint *ep);
void gp_tcp_send(gp_tcp_socket *s);
void gp_tcp_report_sent(gp_tcp_socket *s, gp_tcp_out *out);
bool gp_tcp_unsent(const gp_tcp_socket *s);
bool gp_tcp_unreported(const gp_tcp_socket *s);
void gp_tcp_unblock(gp_tcp_socket *s);
void gp_tcp_queue_free(gp_tcp_queue *q);

/* tcp_recv.c: the parser, then the socket around it. */
/* Where the next bytes go, at most two pieces; 0 when nothing more can be
 * taken before the next progress(); GP_ERR_NO_MEMORY. */
int gp_tcp_rx_space(gp_tcp_rx *rx, struct iovec iov[2]);
/* `n` bytes have been put there. */
void gp_tcp_rx_fill(gp_tcp_rx *rx, size_t n);
/* 1: a message was delivered into `event`; 0: more bytes are needed; negative:
 * the peer broke the rules, rx->why says how. */
int gp_tcp_rx_next(gp_tcp_rx *rx, gp_event *event);
/* What was delivered may be overwritten from now on. */
void gp_tcp_rx_renew(gp_tcp_rx *rx);
void gp_tcp_rx_revoke(gp_tcp_rx *rx, uint32_t token);
/* Whether the stream may end here. */
bool gp_tcp_rx_at_boundary(const gp_tcp_rx *rx);
void gp_tcp_rx_free(gp_tcp_rx *rx);
void gp_tcp_receive(gp_tcp_socket *s, gp_tcp_out *out);

#endif
