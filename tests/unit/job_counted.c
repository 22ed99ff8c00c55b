/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_counted.c - a table around tcp's. What it knows of the objects that pass
 * through lies in tables beside them, under one lock.
 */
#include "job_counted.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "job_harness.h"
#include "transports/region.h"

#define SIDES      128
#define MEMS       1024
#define TOKENS     4096
#define POSTS      16384
#define SOURCES    16
#define HELD_SENTS 4096

typedef struct known_domain {
    gp_domain *domain;
    bool connects;
    unsigned registered;
} known_domain;

typedef struct known_endpoint {
    gp_endpoint *ep;
    gp_domain *domain;
    bool connects;
    unsigned exposed, tokens, most_tokens, sources;
    gp_mem *source[SOURCES];
} known_endpoint;

typedef struct known_mem {
    gp_mem *mem;
} known_mem;

typedef struct known_token {
    gp_endpoint *ep;
    gp_mem *mem;
    uint32_t token;
} known_token;

typedef struct known_post {
    gp_endpoint *ep;
    gp_mem *mem;
    uint64_t cookie;
} known_post;

static const gp_transport_ops *inner;
static gp_transport_ops table;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static counted seen;
static known_domain domains[SIDES];
static known_endpoint endpoints[SIDES];
static known_mem mems[MEMS];
static known_token tokens[TOKENS];
static known_post posts[POSTS];
static gp_event held[HELD_SENTS];
static unsigned held_count;
static bool holding;

#define violation(...)                                                     \
    do {                                                                   \
        if (!seen.violation[0])                                            \
            snprintf(seen.violation, sizeof(seen.violation), __VA_ARGS__); \
    } while (0)

/* The first entry with this pointer, or NULL. */
#define FIND(array, member, pointer, out)                            \
    do {                                                             \
        (out) = NULL;                                                \
        for (size_t i_ = 0; !(out) && i_ < GP_COUNT_OF(array); i_++) \
            if ((array)[i_].member == (pointer))                     \
                (out) = &(array)[i_];                                \
    } while (0)

static known_domain *
domain_of(gp_domain *domain)
{
    known_domain *d;

    FIND(domains, domain, domain, d);
    job_require(d != NULL);
    return d;
}

static counted_side *
side(bool connects)
{
    return connects ? &seen.worker : &seen.shard;
}

static known_endpoint *
endpoint_of(gp_endpoint *ep)
{
    known_endpoint *e;

    FIND(endpoints, ep, ep, e);
    job_require(e != NULL);
    return e;
}

static void
add_endpoint(gp_endpoint *ep, gp_domain *domain, bool connects)
{
    known_endpoint *e;

    FIND(endpoints, ep, NULL, e);
    job_require(e != NULL);
    *e = (known_endpoint){.ep = ep, .domain = domain, .connects = connects};
    side(connects)->endpoints++;
}

static void
count_endpoint(const known_endpoint *e)
{
    counted_side *s = side(e->connects);

    s->exposed = GP_MAX(s->exposed, e->exposed);
    s->sources = GP_MAX(s->sources, e->sources);
    s->both = GP_MAX(s->both, e->exposed + e->sources);
    s->most_tokens = GP_MAX(s->most_tokens, e->most_tokens);
}

static gp_status
count_open(const gp_config *config, gp_domain **out)
{
    gp_status status = inner->open(config, out);
    known_domain *d;

    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&lock);
    FIND(domains, domain, NULL, d);
    job_require(d != NULL);
    *d = (known_domain){.domain = *out};
    pthread_mutex_unlock(&lock);
    return status;
}

static void
count_close(gp_domain *domain)
{
    if (!domain)
        return;
    pthread_mutex_lock(&lock);
    domain_of(domain)->domain = NULL;
    for (size_t i = 0; i < SIDES; i++)
        if (endpoints[i].domain == domain)
            violation("an endpoint was not closed before its domain");
    pthread_mutex_unlock(&lock);
    inner->close(domain);
}

static gp_status
count_connect(gp_domain *domain, const char *address, uint64_t deadline_ns,
              gp_endpoint **out)
{
    gp_status status = inner->connect(domain, address, deadline_ns, out);

    pthread_mutex_lock(&lock);
    if (status == GP_OK) {
        add_endpoint(*out, domain, true);
        domain_of(domain)->connects = true;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static void
drop_posts(const gp_endpoint *ep)
{
    for (size_t i = 0; i < POSTS; i++)
        if (posts[i].ep == ep)
            posts[i] = (known_post){0};
}

static void
count_ep_close(gp_endpoint *ep)
{
    known_endpoint *e;
    unsigned kept = 0;

    inner->ep_close(ep);
    pthread_mutex_lock(&lock);
    e = endpoint_of(ep);
    count_endpoint(e);
    side(e->connects)->tokens -= e->tokens;
    *e = (known_endpoint){0};
    for (size_t i = 0; i < TOKENS; i++)
        if (tokens[i].ep == ep)
            tokens[i] = (known_token){0};
    drop_posts(ep);
    for (unsigned i = 0; i < held_count; i++)
        if (held[i].ep != ep)
            held[kept++] = held[i];
    held_count = kept;
    pthread_mutex_unlock(&lock);
}

static gp_status
count_mem_reg(gp_domain *domain, void *base, size_t bytes, gp_mem **out)
{
    gp_status status = inner->mem_reg(domain, base, bytes, out);
    known_domain *d;
    known_mem *m;

    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&lock);
    d = domain_of(domain);
    d->registered++;
    side(d->connects)->registered =
        GP_MAX(side(d->connects)->registered, d->registered);
    FIND(mems, mem, NULL, m);
    job_require(m != NULL);
    m->mem = *out;
    pthread_mutex_unlock(&lock);
    return status;
}

static void
count_mem_dereg(gp_mem *mem)
{
    known_mem *m;
    known_token *t;
    known_post *p;

    pthread_mutex_lock(&lock);
    FIND(mems, mem, mem, m);
    FIND(tokens, mem, mem, t);
    FIND(posts, mem, mem, p);
    if (!m)
        violation("memory %p is not registered", (void *)mem);
    else
        m->mem = NULL;
    if (t)
        violation("memory %p ends while token %x is exposed", (void *)mem,
                  t->token);
    if (p)
        violation("memory %p ends while it is sent from", (void *)mem);
    pthread_mutex_unlock(&lock);
    inner->mem_dereg(mem);
}

static gp_status
count_expose(gp_endpoint *ep, gp_mem *mem, size_t offset, size_t bytes,
             uint32_t flags, uint32_t *token)
{
    gp_status status = inner->expose(ep, mem, offset, bytes, flags, token);
    known_endpoint *e;
    known_token *t;

    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&lock);
    e = endpoint_of(ep);
    e->exposed++;
    e->tokens++;
    e->most_tokens = GP_MAX(e->most_tokens, e->tokens);
    side(e->connects)->tokens++;
    FIND(tokens, ep, NULL, t);
    job_require(t != NULL);
    *t = (known_token){ep, mem, *token};
    pthread_mutex_unlock(&lock);
    return status;
}

static void
count_unexpose(gp_endpoint *ep, uint32_t token)
{
    bool found = false;

    inner->unexpose(ep, token);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < TOKENS && !found; i++) {
        found = tokens[i].ep == ep && tokens[i].token == token;
        if (found)
            tokens[i] = (known_token){0};
    }
    if (found) {
        endpoint_of(ep)->tokens--;
        side(endpoint_of(ep)->connects)->tokens--;
    } else {
        violation("token %x is not exposed", token);
    }
    pthread_mutex_unlock(&lock);
}

static void
note_source(known_endpoint *e, gp_mem *mem)
{
    for (unsigned i = 0; i < e->sources; i++)
        if (e->source[i] == mem)
            return;
    if (e->sources < SOURCES) /* more is too many already */
        e->source[e->sources++] = mem;
}

static void
check_post(gp_endpoint *ep, const gp_msg *msg, const uint8_t *payload,
           gp_mem *mem, uint64_t cookie)
{
    known_endpoint *e = endpoint_of(ep);
    known_mem *m;
    known_post *p;

    side(e->connects)->messages++;
    if (msg->flags & GP_MSG_PAYLOAD_CRC)
        side(e->connects)->checked++;
    if (!mem) {
        side(e->connects)->strays++;
        return;
    }
    FIND(mems, mem, mem, m);
    if (!m) {
        violation("data is sent from memory %p, which is not registered",
                  (void *)mem);
        return;
    }
    if (payload < mem->base || payload + msg->payload > mem->base + mem->bytes)
        violation("a payload of %llu bytes lies outside its memory",
                  (unsigned long long)msg->payload);
    note_source(e, mem);
    if (!(table.caps & GP_CAP_DEVICE))
        return;
    if (cookie == 0)
        violation("nobody will know when memory %p was sent", (void *)mem);
    FIND(posts, ep, NULL, p);
    job_require(p != NULL);
    *p = (known_post){ep, mem, cookie};
}

static gp_status
count_post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
           uint64_t cookie)
{
    gp_status status = inner->post(ep, msg, payload, mem, cookie);

    pthread_mutex_lock(&lock);
    if (status == GP_OK && msg->region)
        check_post(ep, msg, payload, mem, cookie);
    pthread_mutex_unlock(&lock);
    return status;
}

static void
note_sent(const gp_event *event)
{
    for (size_t i = 0; i < POSTS; i++)
        if (posts[i].ep == event->ep && posts[i].cookie == event->cookie) {
            posts[i] = (known_post){0};
            return;
        }
}

/* False: to be reported later. */
static bool
note_event(gp_domain *domain, const gp_event *event)
{
    if (event->type == GP_EVENT_ACCEPTED) {
        add_endpoint(event->ep, domain, false);
    } else if (event->type == GP_EVENT_CLOSED) {
        drop_posts(event->ep);
    } else if (event->type == GP_EVENT_SENT) {
        if (holding && endpoint_of(event->ep)->connects) {
            job_require(held_count < HELD_SENTS);
            held[held_count++] = *event;
            return false;
        }
        note_sent(event);
    }
    return true;
}

static int
count_progress(gp_domain *domain, gp_event *events, int max)
{
    int n = inner->progress(domain, events, max), kept = 0;
    unsigned left = 0;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < n; i++)
        if (note_event(domain, &events[i]))
            events[kept++] = events[i];
    for (unsigned i = 0; i < held_count; i++) {
        if (holding || kept >= max ||
            endpoint_of(held[i].ep)->domain != domain) {
            held[left++] = held[i];
            continue;
        }
        note_sent(&held[i]);
        events[kept++] = held[i];
    }
    held_count = left;
    pthread_mutex_unlock(&lock);
    return n < 0 ? n : kept;
}

void
counted_begin(uint32_t caps)
{
    pthread_mutex_lock(&lock);
    if (!inner) {
        inner = gp_transport_find("tcp");
        table = *inner;
        table.name = "counted";
        table.open = count_open;
        table.close = count_close;
        table.connect = count_connect;
        table.ep_close = count_ep_close;
        table.mem_reg = count_mem_reg;
        table.mem_dereg = count_mem_dereg;
        table.expose = count_expose;
        table.unexpose = count_unexpose;
        table.post = count_post;
        table.progress = count_progress;
        job_check(gp_transport_register(&table));
    }
    table.caps = inner->caps | caps;
    seen = (counted){0};
    held_count = 0;
    holding = false;
    pthread_mutex_unlock(&lock);
}

void
counted_look(counted *out)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < SIDES; i++)
        if (endpoints[i].ep)
            count_endpoint(&endpoints[i]);
    *out = seen;
    pthread_mutex_unlock(&lock);
}

void
counted_hold_sent(bool hold)
{
    pthread_mutex_lock(&lock);
    holding = hold;
    pthread_mutex_unlock(&lock);
}
