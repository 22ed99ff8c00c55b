/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - the transport inside one process, and the executable specification
 * of transport.h: its table, its domain, and progress().
 *
 * Domains may live in different threads. A domain is woken only while it is
 * armed, so two busy threads exchange no system calls.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "transports/loop/loop_int.h"
#include "transports/transports.h"

gp_event *
gp_loop_emit(gp_loop_out *out, gp_endpoint *ep, gp_event_type type)
{
    gp_event *event = &out->events[out->count++];

    event->type = type;
    event->status = GP_OK;
    event->ep = ep;
    event->user = ep->user;
    event->cookie = 0;
    event->payload = NULL;
    return event;
}

void
gp_loop_wake(gp_domain *d)
{
    uint64_t one = 1;

    if (!d->armed)
        return;
    d->armed = false;
    /* Fails only when the counter is full, and then the sleeper wakes too. */
    if (write(d->wake_fd, &one, sizeof(one)) < 0)
        return;
}

static gp_status
probe(const gp_config *config, char *why, size_t capacity)
{
    (void)config;
    snprintf(why, capacity, "threads of this process");
    return GP_OK;
}

static gp_status
watch(gp_domain *d, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_ctl");
    return GP_OK;
}

static gp_status
open_descriptors(gp_domain *d)
{
    gp_status status;

    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (d->epoll_fd < 0 || d->wake_fd < 0 || d->timer_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "loop: no descriptor");
    status = watch(d, d->wake_fd);
    return status == GP_OK ? watch(d, d->timer_fd) : status;
}

static void
free_retired(gp_domain *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->retired)))
        gp_loop_ep_free(GP_CONTAINER_OF(item, gp_endpoint, link));
}

static void
close_descriptors(gp_domain *d)
{
    const int fds[] = {d->epoll_fd, d->wake_fd, d->timer_fd};

    for (size_t i = 0; i < GP_COUNT_OF(fds); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

/* Takes over what connecting domains left. */
static void
adopt_incoming(gp_domain *d)
{
    gp_list *item;

    pthread_mutex_lock(&d->lock);
    while ((item = gp_list_pop(&d->incoming))) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        gp_list_insert(&d->endpoints, item);
        gp_list_insert(&d->opened, &ep->event);
    }
    pthread_mutex_unlock(&d->lock);
}

static void
close_all(gp_list *endpoints)
{
    GP_LIST_EACH (item, endpoints)
        gp_loop_ep_close(GP_CONTAINER_OF(item, gp_endpoint, link));
}

static void
close_domain(gp_domain *d)
{
    if (!d)
        return;
    gp_loop_leave(d); /* from here on nobody connects */
    adopt_incoming(d);
    close_all(&d->waiting);
    close_all(&d->endpoints);
    free_retired(d);
    close_descriptors(d);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static gp_status
open_domain(const gp_config *config, gp_domain **out)
{
    gp_domain *d = calloc(1, sizeof(*d));
    const char *checksum = gp_config_get(config, "checksum");
    gp_status status;

    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "loop: out of memory");
    gp_list *lists[] = {&d->everywhere, &d->endpoints, &d->waiting,
                        &d->opened,     &d->closed,    &d->dirty,
                        &d->retired,    &d->ready,     &d->incoming};
    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
    d->checksum = checksum && !strcmp(checksum, "on");
    pthread_mutex_init(&d->lock, NULL);
    status = open_descriptors(d);
    if (status != GP_OK) {
        close_descriptors(d);
        pthread_mutex_destroy(&d->lock);
        free(d);
        return status;
    }
    gp_loop_enter(d);
    *out = d;
    return GP_OK;
}

static void
report_opened(gp_domain *d, gp_loop_out *out)
{
    while (out->count < out->max && !gp_list_empty(&d->opened)) {
        gp_endpoint *ep =
            GP_CONTAINER_OF(gp_list_pop(&d->opened), gp_endpoint, event);

        ep->announced = true;
        gp_loop_emit(out, ep,
                     ep->accepted ? GP_EVENT_ACCEPTED : GP_EVENT_CONNECTED);
    }
}

static void
report_closed(gp_domain *d, gp_loop_out *out)
{
    GP_LIST_EACH (item, &d->closed) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, event);

        gp_loop_report_sent(ep, out);
        if (out->count == out->max)
            return;
        gp_list_remove(item);
        gp_loop_emit(out, ep, GP_EVENT_CLOSED)->status = ep->status;
    }
}

/* What others left: endpoints with messages, new names. */
static void
take_shared(gp_domain *d, gp_list *ready, bool *appeared)
{
    gp_list *item;

    gp_list_init(ready);
    pthread_mutex_lock(&d->lock);
    while ((item = gp_list_pop(&d->ready)))
        gp_list_insert(ready, item);
    *appeared = d->retry;
    d->retry = d->armed = false;
    pthread_mutex_unlock(&d->lock);
}

static void
put_back(gp_domain *d, gp_endpoint *ep)
{
    pthread_mutex_lock(&d->lock);
    if (gp_list_empty(&ep->ready))
        gp_list_insert(&d->ready, &ep->ready);
    pthread_mutex_unlock(&d->lock);
}

static void
serve_ready(gp_domain *d, gp_list *ready, gp_loop_out *out)
{
    for (;;) {
        gp_list *item;
        gp_endpoint *ep;

        /* Others look at these links under the lock. */
        pthread_mutex_lock(&d->lock);
        item = gp_list_pop(ready);
        pthread_mutex_unlock(&d->lock);
        if (!item)
            return;
        ep = GP_CONTAINER_OF(item, gp_endpoint, ready);
        if (ep->state == GP_LOOP_OPEN && gp_loop_serve(ep, out))
            put_back(d, ep);
    }
}

static void
begin_turn(gp_domain *d)
{
    gp_list *item;

    atomic_store(&d->thread, (uintptr_t)pthread_self());
    free_retired(d);
    GP_LIST_EACH (each, &d->endpoints)
        gp_loop_recycle_held(GP_CONTAINER_OF(each, gp_endpoint, link));
    while ((item = gp_list_pop(&d->dirty))) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, dirty);

        if (ep->state != GP_LOOP_CLOSED)
            (void)gp_loop_flush(ep);
    }
}

static int
progress(gp_domain *d, gp_event *events, int max)
{
    gp_loop_out out = {events, 0, max};
    gp_list ready;
    bool appeared;

    begin_turn(d);
    take_shared(d, &ready, &appeared);
    adopt_incoming(d);
    gp_loop_try_waiting(d, appeared);
    report_opened(d, &out);
    serve_ready(d, &ready, &out);
    report_closed(d, &out);
    return out.count;
}

static void
set_timer(gp_domain *d)
{
    uint64_t when = gp_loop_next_timer(d), ignored;
    struct itimerspec at = {0};

    if (when != UINT64_MAX) {
        at.it_value.tv_sec = (time_t)(when / 1000000000u);
        at.it_value.tv_nsec = (long)(when % 1000000000u);
    }
    (void)timerfd_settime(d->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    while (read(d->wake_fd, &ignored, sizeof(ignored)) > 0)
        ;
}

static bool
due(const gp_domain *d)
{
    return gp_loop_next_timer(d) <= gp_clock_ns();
}

static gp_status
arm(gp_domain *d)
{
    bool busy;

    if (!gp_list_empty(&d->opened) || !gp_list_empty(&d->closed) ||
        !gp_list_empty(&d->dirty) || due(d))
        return GP_AGAIN;
    GP_LIST_EACH (item, &d->endpoints)
        if (!gp_list_empty(&GP_CONTAINER_OF(item, gp_endpoint, link)->done))
            return GP_AGAIN;
    set_timer(d);
    pthread_mutex_lock(&d->lock);
    busy = !gp_list_empty(&d->ready) || !gp_list_empty(&d->incoming) ||
           (d->retry && !gp_list_empty(&d->waiting));
    d->armed = !busy;
    pthread_mutex_unlock(&d->lock);
    return busy ? GP_AGAIN : GP_OK;
}

static int
event_fd(gp_domain *d)
{
    return d->epoll_fd;
}

static void
set_user(gp_endpoint *ep, void *user)
{
    ep->user = user;
}

static void
trust(gp_endpoint *ep)
{
    ep->trusted = true;
}

static void
describe(const gp_endpoint *ep, char *text, size_t capacity)
{
    snprintf(text, capacity, "loop %s checksum %s", ep->name,
             ep->domain->checksum ? "on" : "off");
}

static gp_status
mem_reg(gp_domain *d, void *base, size_t bytes, gp_mem **out)
{
    (void)d;
    return gp_mem_note(base, bytes, out);
}

static void
mem_dereg(gp_mem *mem)
{
    free(mem);
}

static gp_status
expose(gp_endpoint *ep, gp_mem *mem, size_t offset, size_t bytes,
       uint32_t flags, uint32_t *token)
{
    return gp_regions_expose(&ep->regions, mem, offset, bytes, flags, token);
}

static void
unexpose(gp_endpoint *ep, uint32_t token)
{
    /* A payload is copied within one call of progress(): never half. */
    gp_regions_withdraw(&ep->regions, token);
}

const gp_transport_ops gp_loop_ops = {
    .abi = GP_TRANSPORT_ABI,
    .caps = GP_CAP_LOCAL | GP_CAP_CHECKSUM,
    .name = "loop",
    .text = "between threads of one process, without the kernel",
    .probe = probe,
    .open = open_domain,
    .close = close_domain,
    .listen = gp_loop_listen,
    .connect = gp_loop_connect,
    .ep_close = gp_loop_ep_close,
    .ep_set_user = set_user,
    .ep_trust = trust,
    .ep_describe = describe,
    .mem_reg = mem_reg,
    .mem_dereg = mem_dereg,
    .expose = expose,
    .unexpose = unexpose,
    .post = gp_loop_post,
    .flush = gp_loop_flush,
    .release = gp_loop_release,
    .progress = progress,
    .event_fd = event_fd,
    .arm = arm,
};
