/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members.c - the worker's part in a job whose workers come and go.
 *
 * The answer of shard 0 goes to the other shards before any push that follows
 * it, because it is passed on where it arrives, under the driver's hold.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/staging.h"

/* A life that began later has a higher number, also on another machine if the
 * clocks agree; it wraps after weeks, which comparisons take into account. */
static uint32_t
number_life(void)
{
    struct timespec now;
    uint32_t life;

    clock_gettime(CLOCK_REALTIME, &now);
    life = (uint32_t)((uint64_t)now.tv_sec * 1000 +
                      (uint64_t)now.tv_nsec / 1000000);
    return life ? life : 1;
}

gp_status
gp_membership_open(gp_worker *w, bool colocated)
{
    gp_membership *m = &w->membership;
    int64_t least = gp_config_int(w->config, "min_workers");
    int64_t most = gp_config_int(w->config, "max_workers");

    m->rank = calloc(w->size, sizeof(*m->rank));
    if (!m->rank)
        return gp_fail(GP_ERR_NO_MEMORY, "%u workers", w->size);
    m->elastic = strcmp(gp_config_get(w->config, "elastic"), "on") == 0;
    m->count = w->size;
    m->index = w->rank;
    for (uint32_t r = 0; r < w->size; r++)
        m->rank[r] = r;
    if (!m->elastic)
        return GP_OK;
    if (colocated)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_ELASTIC is on, but a co-located shard dies "
                       "with its worker: start stand-alone shards, with "
                       "'gradpush server' or 'gradpush run -s'");
    if (least > w->size)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_MIN_WORKERS is %lld, more than the %u that "
                       "GRADPUSH_SIZE has room for",
                       (long long)least, w->size);
    if (most > 0 && most < least)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_MAX_WORKERS is %lld, less than "
                       "GRADPUSH_MIN_WORKERS, which is %lld",
                       (long long)most, (long long)least);
    if (w->incarnation == 0)
        w->incarnation = number_life();
    return GP_OK;
}

static gp_status
pass_on(gp_worker *w, const gp_event *event)
{
    gp_status status = GP_OK;

    for (uint32_t i = 1; i < w->shards && status == GP_OK; i++) {
        gp_msg msg = {.type = GP_MSG_MEMBERS,
                      .step = event->msg.step,
                      .payload = event->msg.payload};

        status = gp_conn_post(&w->conn[i], &msg, event->payload, NULL, 0);
    }
    return status;
}

/* Whether a list is one that this worker may get. */
static gp_status
take_list(gp_worker *w, const gp_member_list *list)
{
    gp_membership *m = &w->membership;
    uint32_t index = 0;

    while (index < list->count && list->member[index].rank != w->rank)
        index++;
    if (!m->asked || atomic_load(&m->told) || list->epoch < m->epoch ||
        index == list->count ||
        list->member[index].incarnation != w->incarnation)
        return gp_fail(GP_ERR_PROTOCOL, "a list of members out of turn");
    m->late = m->epoch == 0 && list->epoch > 1; /* epoch 1 begins the job */
    m->changed = list->epoch > m->epoch;
    m->epoch = list->epoch;
    m->count = list->count;
    m->index = index;
    for (uint32_t i = 0; i < list->count; i++)
        m->rank[i] = list->member[i].rank;
    return GP_OK;
}

void
gp_membership_answer(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    gp_member_list list;
    gp_status status = gp_member_list_decode(event->payload, event->msg.payload,
                                             w->size, &list);

    if (status == GP_OK) {
        status = take_list(w, &list);
        free(list.member);
    }
    if (status == GP_OK && w->membership.changed)
        status = pass_on(w, event);
    if (status != GP_OK) {
        gp_worker_fail(w, status, "members from shard 0 at %s: %s",
                       conn->address, gp_last_error());
        return;
    }
    w->waiting[0] = '\0';
    atomic_store(&w->membership.told, true);
    gp_driver_signal(w->driver);
}

void
gp_membership_catch_up(gp_tensor *t, uint64_t version)
{
    gp_worker *w = t->worker;

    if (!w->membership.elastic || gp_mode_arrives(&t->mode))
        return;
    pthread_mutex_lock(&w->submit_lock);
    if (t->steps < version) {
        t->steps = t->pulled = t->encoding = version;
        gp_devcode_catch_up(t);
    }
    pthread_mutex_unlock(&w->submit_lock);
}

static gp_status
ask(gp_worker *w)
{
    gp_membership *m = &w->membership;
    gp_msg msg = {.type = GP_MSG_MEMBERS};
    gp_status status;

    gp_driver_hold(w->driver);
    status = gp_worker_fault(w);
    if (status == GP_OK && !m->asked) {
        status = gp_conn_post(&w->conn[0], &msg, NULL, NULL, 0);
        if (status == GP_OK)
            status = w->conn[0].link->ops->flush(w->conn[0].ep);
        if (status == GP_OK)
            m->asked = true;
        else
            (void)gp_fail(status, "question for members: %s",
                          gp_status_text(status));
    }
    gp_driver_release(w->driver);
    return status;
}

static bool
is_told(void *arg)
{
    gp_worker *w = arg;

    return atomic_load(&w->membership.told) || atomic_load(&w->fault) != GP_OK;
}

static gp_status
wait_for_answer(gp_worker *w, double seconds)
{
    gp_status status = ask(w);

    if (status != GP_OK)
        return status;
    (void)gp_driver_wait(w->driver, is_told, w,
                         gp_deadline(seconds < 0 ? w->timeout : seconds));
    if (atomic_load(&w->membership.told))
        return GP_OK;
    status = gp_worker_fault(w);
    return status == GP_OK ? gp_worker_late(w, "the next step did not begin",
                                            seconds < 0 ? w->timeout : -1)
                           : status;
}

gp_status
gp_worker_members_within(gp_worker *w, double seconds, gp_members *out)
{
    gp_membership *m;
    gp_status status = GP_OK;

    if (!w || !out)
        return gp_fail(GP_ERR_INVALID, "gp_worker_members_within: NULL");
    m = &w->membership;
    if (m->elastic)
        status = gp_worker_ready(w);
    if (status == GP_OK && m->elastic)
        status = wait_for_answer(w, seconds);
    if (status != GP_OK)
        return status;
    gp_driver_hold(w->driver);
    m->asked = false;
    atomic_store(&m->told, false);
    *out = (gp_members){.epoch = m->epoch,
                        .count = m->count,
                        .index = m->index,
                        .ranks = m->rank,
                        .changed = m->changed,
                        .late = m->late};
    gp_driver_release(w->driver);
    return GP_OK;
}

gp_status
gp_worker_members(gp_worker *w, gp_members *out)
{
    return gp_worker_members_within(w, -1, out);
}
