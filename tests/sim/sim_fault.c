/* SPDX-License-Identifier: Apache-2.0 */
/* sim_fault.c - what tests make go wrong. */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define ANY_MEMBER (-1)

#define SIM_NAME(name) #name,
static const char *const member_names[] = {SIM_MEMBERS(SIM_NAME)};
#undef SIM_NAME

const char *
gp_sim_member(size_t n)
{
    return n < SIM_MEMBER_COUNT ? member_names[n] : NULL;
}

static int
member_of(const char *name)
{
    for (int i = 0; i < SIM_MEMBER_COUNT; i++)
        if (!strcmp(name, member_names[i]))
            return i;
    return SIM_MEMBER_COUNT;
}

uint64_t
gp_sim_calls(gp_sim *s, const char *name)
{
    int member = member_of(name);
    uint64_t calls = 0;

    pthread_mutex_lock(&s->lock);
    if (member < SIM_MEMBER_COUNT)
        calls = s->calls[member];
    pthread_mutex_unlock(&s->lock);
    return calls;
}

static bool
can_fail(sim_member member)
{
    switch (member) {
    case SIM_free_device_list:
    case SIM_get_device_name:
    case SIM_ack_async_event:
    case SIM_ack_cq_events:
    case SIM_wc_status_str:
    case SIM_event_type_str:
    case SIM_rdma_event_str:
    case SIM_rdma_destroy_event_channel:
    case SIM_rdma_destroy_qp:
    case SIM_rdma_get_src_port:
        return false;
    default:
        return true;
    }
}

int
sim_enter(gp_sim *s, sim_member member)
{
    s->calls[member]++;
    if (!s->fail_in || !can_fail(member) ||
        (s->fail_member != ANY_MEMBER && s->fail_member != (int)member) ||
        --s->fail_in)
        return 0;
    s->fail_fired = true;
    return s->fail_error;
}

void
gp_sim_fail(gp_sim *s, const char *member, uint64_t nth, int error)
{
    pthread_mutex_lock(&s->lock);
    s->fail_member = member ? member_of(member) : ANY_MEMBER;
    s->fail_in = nth;
    s->fail_error = error ? error : EIO;
    s->fail_fired = false;
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_cut_post(gp_sim *s, uint64_t nth, unsigned posted, int error)
{
    pthread_mutex_lock(&s->lock);
    s->cut_in = nth;
    s->cut_after = posted;
    s->cut_error = error ? error : ENOMEM;
    s->fail_fired = false;
    pthread_mutex_unlock(&s->lock);
}

bool
gp_sim_failed(gp_sim *s)
{
    bool fired;

    pthread_mutex_lock(&s->lock);
    fired = s->fail_fired;
    pthread_mutex_unlock(&s->lock);
    return fired;
}

void
gp_sim_break_qp(gp_sim *s, const gp_sim_break *how)
{
    pthread_mutex_lock(&s->lock);
    s->breaks = *how;
    if (!s->breaks.status)
        s->breaks.status = IBV_WC_RETRY_EXC_ERR;
    s->broken_wrs = s->broken_bytes = 0;
    s->breaking = true;
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_link(gp_sim *s, unsigned device, unsigned port, bool up)
{
    pthread_mutex_lock(&s->lock);
    if (device < s->devices && port && port <= s->device[device].have.ports &&
        s->device[device].port[port - 1].up != up) {
        s->device[device].port[port - 1].up = up;
        sim_async_port(s, &s->device[device], port, up);
        sim_wake(s);
    }
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_device_fatal(gp_sim *s, unsigned device)
{
    pthread_mutex_lock(&s->lock);
    if (device < s->devices && !s->device[device].dead) {
        s->device[device].dead = true;
        for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
            if (((sim_qp *)o->self)->device == &s->device[device])
                ((sim_qp *)o->self)->dead = true;
        sim_async_port(s, &s->device[device], 0, false);
        sim_wake(s);
    }
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_device_removal(gp_sim *s, unsigned device)
{
    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind) {
        sim_id *id = o->self;

        if (device < s->devices && id->device == &s->device[device])
            sim_event_push(s, id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0, NULL);
    }
    sim_wake(s);
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_device_replace(gp_sim *s, unsigned device)
{
    gp_sim_device_removal(s, device);
    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        if (((sim_qp *)o->self)->device == &s->device[device])
            ((sim_qp *)o->self)->dead = true;
    if (s->device[device].cm)
        s->device[device].cm->replaced = true;
    s->device[device].cm = NULL;
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_partition(gp_sim *s, const char *one, const char *other)
{
    sim_partition cut;

    pthread_mutex_lock(&s->lock);
    if (!one || !other)
        s->partitions = 0;
    else if (s->partitions < SIM_PARTITIONS && sim_gid_of(one, &cut.one) &&
             sim_gid_of(other, &cut.other))
        s->partition[s->partitions++] = cut;
    sim_wake(s);
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_stall(gp_sim *s, uint64_t ns)
{
    pthread_mutex_lock(&s->lock);
    s->stalled_until = sim_clock(s) + ns;
    sim_wake(s);
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_refuse(gp_sim *s, unsigned count, int status)
{
    pthread_mutex_lock(&s->lock);
    s->refuse = count;
    s->refuse_status = status;
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_lose_requests(gp_sim *s, unsigned count)
{
    pthread_mutex_lock(&s->lock);
    s->lose = count;
    pthread_mutex_unlock(&s->lock);
}

/* What the kernel does for a process that is gone; the id itself stays for its
 * owner to release. */
static void
kill_id(gp_sim *s, sim_id *id, bool silent)
{
    if (id->dead)
        return;
    if (!silent) {
        sim_id_part(s, id);
    } else {
        sim_requests_drop(s, id);
        if (id->peer)
            id->peer->peer = NULL;
        id->peer = NULL;
    }
    sim_tasks_purge(s, id);
    id->dead = true;
}

static void
kill_requests(gp_sim *s, sim_channel *channel, bool silent)
{
    for (sim_event *event = channel->first; event && !silent;
         event = event->next)
        if (event->from)
            sim_reject_later(s, event->from, 8);
}

void
gp_sim_kill(gp_sim *s, unsigned process, bool silent)
{
    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_EVENT_CHANNEL]; o;
         o = o->next_of_kind) {
        sim_channel *channel = o->self;

        if (channel->process != process)
            continue;
        kill_requests(s, channel, silent);
        channel->dead = true;
        channel->silent = silent;
    }
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        if (((sim_qp *)o->self)->process == process) {
            ((sim_qp *)o->self)->dead = true;
            sim_qp_state(s, o->self, IBV_QPS_ERR);
        }
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind)
        if (((sim_id *)o->self)->channel->process == process)
            kill_id(s, o->self, silent);
    sim_wake(s);
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_async(gp_sim *s, unsigned process, enum ibv_event_type type)
{
    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        if (((sim_qp *)o->self)->process == process) {
            sim_qp_async(s, o->self, type);
            break;
        }
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_cq_error(gp_sim *s, unsigned process)
{
    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        if (((sim_qp *)o->self)->process == process) {
            sim_cq_break(s, ((sim_qp *)o->self)->send_cq);
            break;
        }
    sim_wake(s);
    pthread_mutex_unlock(&s->lock);
}

void
gp_sim_observe(gp_sim *s, gp_sim_observer *observer, void *user)
{
    pthread_mutex_lock(&s->lock);
    s->observer = observer;
    s->observer_user = user;
    pthread_mutex_unlock(&s->lock);
}
