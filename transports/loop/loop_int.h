/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_int.h - what the files of the loop transport share.
 *
 * Two endpoints meet in a pair. Members marked (pair) belong to the pair's
 * lock, those marked (domain) to the domain's lock, all others to the thread
 * that drives the domain. Order of locks: registry, pair, domain.
 *
 * A data payload stays the sender's memory from post() to SENT. While the
 * receiver looks at it, `lent` of the sender counts it, and the sender's
 * ep_close() waits for the count to fall to zero.
 */
#ifndef GP_LOOP_INT_H
#define GP_LOOP_INT_H

#include <pthread.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "base/list.h"
#include "transports/region.h"

#define GP_LOOP_DATA_DEPTH    1024u
#define GP_LOOP_CONTROL_DEPTH 256u
/* Control payloads up to this need no memory of their own. */
#define GP_LOOP_INLINE 128u

typedef struct gp_loop_message {
    gp_list link;
    gp_msg msg;
    const uint8_t *payload; /* data: the sender's; control: small or large */
    uint64_t cookie;
    uint8_t *large;
    uint8_t small[GP_LOOP_INLINE];
} gp_loop_message;

typedef struct gp_loop_pair {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    gp_endpoint *side[2]; /* NULL once closed; frees the pair with the last */
} gp_loop_pair;

typedef enum gp_loop_state {
    GP_LOOP_CONNECTING,
    GP_LOOP_OPEN,
    GP_LOOP_CLOSED /* reported, or about to be */
} gp_loop_state;

struct gp_endpoint {
    gp_list link;  /* domain->endpoints, ->waiting, ->incoming, ->retired */
    gp_list event; /* domain->opened or ->closed */
    gp_list dirty; /* domain->dirty while the outbox is not empty */
    gp_list ready; /* (domain) domain->ready while the peer left something */
    gp_domain *domain;
    void *user;
    gp_loop_state state;
    bool accepted, announced, trusted;
    gp_status status;
    char name[GP_ADDRESS_MAX];
    gp_regions regions;

    uint64_t start_ns, deadline_ns, report_ns; /* connecting */

    gp_loop_pair *pair; /* NULL while connecting */
    int index;          /* our side of it */
    gp_list outbox;     /* posted, not flushed */
    gp_list done;       /* sent, SENT not reported */
    gp_list idle;       /* messages for the next post() */
    gp_list held;       /* control messages of the last progress() */
    gp_list lent_in;    /* the peer's payloads that await release() */
    uint32_t idle_count, data_queued;
    atomic_uint control_queued;

    gp_list inbox;    /* (pair) from the peer */
    gp_list returned; /* (pair) ours, which the peer is done with */
    uint32_t lent;    /* (pair) ours, which the peer looks at */
    bool peer_closed; /* (pair) */
};

struct gp_domain {
    gp_list everywhere;        /* (registry) all domains of the process */
    char name[GP_ADDRESS_MAX]; /* (registry) "" when not listening */
    bool checksum;
    int epoll_fd, wake_fd, timer_fd;
    atomic_uintptr_t thread; /* who drives it */

    gp_list endpoints, waiting, opened, closed, dirty, retired;

    pthread_mutex_t lock;
    gp_list ready;    /* (domain) endpoints */
    gp_list incoming; /* (domain) accepted, not yet ours */
    bool retry;       /* (domain) a name has appeared */
    bool armed;       /* (domain) */
};

typedef struct gp_loop_out {
    gp_event *events;
    int count, max;
} gp_loop_out;

/* loop.c */
gp_event *gp_loop_emit(gp_loop_out *out, gp_endpoint *ep, gp_event_type type);
void gp_loop_wake(gp_domain *d); /* domain lock held */

/* loop_conn.c */
gp_status gp_loop_listen(gp_domain *d, const char *address, char *bound,
                         size_t capacity);
gp_status gp_loop_connect(gp_domain *d, const char *address,
                          uint64_t deadline_ns, gp_endpoint **out);
void gp_loop_enter(gp_domain *d);
void gp_loop_leave(gp_domain *d);
/* Tries those that wait for a name, ends those whose deadline passed. */
void gp_loop_try_waiting(gp_domain *d, bool appeared);
uint64_t gp_loop_next_timer(const gp_domain *d);
void gp_loop_fail(gp_endpoint *ep, gp_status status, const char *why);
void gp_loop_ep_close(gp_endpoint *ep);
void gp_loop_ep_free(gp_endpoint *ep);

/* loop_msg.c */
gp_status gp_loop_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
                       gp_mem *mem, uint64_t cookie);
gp_status gp_loop_flush(gp_endpoint *ep);
void gp_loop_release(gp_endpoint *ep, const gp_msg *msg, const void *payload);
/* There is something to do for this endpoint; pair lock held. */
void gp_loop_tell(gp_endpoint *ep);
void gp_loop_recycle_held(gp_endpoint *ep);
/* Delivers what the peer left. True when there is more. */
bool gp_loop_serve(gp_endpoint *ep, gp_loop_out *out);
void gp_loop_report_sent(gp_endpoint *ep, gp_loop_out *out);
void gp_loop_messages_free(gp_list *list);
/* Gives every payload of the peer back. */
void gp_loop_return_all(gp_endpoint *ep);

#endif
