/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_api.c - the table: each call takes the lock, may be made to fail, and is
 * handed on.
 *
 * A call that releases something does so also when it has to fail, as close()
 * does: otherwise each such fault would be a leak that nobody can help.
 */
#include <errno.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

/* Returns 0 or an error. */
#define INT_CALL(name, parameters, ...)         \
    static int call_##name parameters           \
    {                                           \
        gp_sim *s = gp_sim_current;             \
        int error;                              \
                                                \
        pthread_mutex_lock(&s->lock);           \
        error = sim_enter(s, SIM_##name);       \
        if (!error)                             \
            error = sim_##name(s, __VA_ARGS__); \
        pthread_mutex_unlock(&s->lock);         \
        return error;                           \
    }

/* The same, and releases in any case. */
#define CLOSE_CALL(name, parameters, ...)   \
    static int call_##name parameters       \
    {                                       \
        gp_sim *s = gp_sim_current;         \
        int error, fault;                   \
                                            \
        pthread_mutex_lock(&s->lock);       \
        fault = sim_enter(s, SIM_##name);   \
        error = sim_##name(s, __VA_ARGS__); \
        pthread_mutex_unlock(&s->lock);     \
        return error ? error : fault;       \
    }

/* Returns NULL with errno. */
#define PTR_CALL(type, name, parameters, ...)    \
    static type call_##name parameters           \
    {                                            \
        gp_sim *s = gp_sim_current;              \
        type result = NULL;                      \
        int error;                               \
                                                 \
        pthread_mutex_lock(&s->lock);            \
        error = sim_enter(s, SIM_##name);        \
        if (error)                               \
            errno = error;                       \
        else                                     \
            result = sim_##name(s, __VA_ARGS__); \
        pthread_mutex_unlock(&s->lock);          \
        return result;                           \
    }

#define VOID_CALL(name, parameters, ...) \
    static void call_##name parameters   \
    {                                    \
        gp_sim *s = gp_sim_current;      \
                                         \
        pthread_mutex_lock(&s->lock);    \
        (void)sim_enter(s, SIM_##name);  \
        sim_##name(s, __VA_ARGS__);      \
        pthread_mutex_unlock(&s->lock);  \
    }

/* clang-format off */
PTR_CALL(struct ibv_device **, get_device_list, (int *count), count)
VOID_CALL(free_device_list, (struct ibv_device **list), list)
PTR_CALL(const char *, get_device_name, (struct ibv_device *device), device)
PTR_CALL(struct ibv_context *, open_device, (struct ibv_device *device), device)
CLOSE_CALL(close_device, (struct ibv_context *context), context)
INT_CALL(query_device,
         (struct ibv_context *context, struct ibv_device_attr *attr), context,
         attr)
INT_CALL(query_port,
         (struct ibv_context *context, uint8_t port,
          struct ibv_port_attr *attr), context, port, attr)
INT_CALL(query_gid,
         (struct ibv_context *context, uint8_t port, int index,
          union ibv_gid *gid), context, port, index, gid)
INT_CALL(get_async_event,
         (struct ibv_context *context, struct ibv_async_event *event),
         context, event)
VOID_CALL(ack_async_event, (struct ibv_async_event *event), event)
PTR_CALL(struct ibv_pd *, alloc_pd, (struct ibv_context *context), context)
CLOSE_CALL(dealloc_pd, (struct ibv_pd *pd), pd)
PTR_CALL(struct ibv_mr *, reg_mr,
         (struct ibv_pd *pd, void *base, size_t length, int access), pd, base,
         length, access)
PTR_CALL(struct ibv_mr *, reg_dmabuf_mr,
         (struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova,
          int fd, int access), pd, offset, length, iova, fd, access)
CLOSE_CALL(dereg_mr, (struct ibv_mr *mr), mr)
PTR_CALL(struct ibv_mw *, alloc_mw,
         (struct ibv_pd *pd, enum ibv_mw_type type), pd, type)
CLOSE_CALL(dealloc_mw, (struct ibv_mw *mw), mw)
PTR_CALL(struct ibv_comp_channel *, create_comp_channel,
         (struct ibv_context *context), context)
CLOSE_CALL(destroy_comp_channel, (struct ibv_comp_channel *channel), channel)
PTR_CALL(struct ibv_cq *, create_cq,
         (struct ibv_context *context, int entries, void *user,
          struct ibv_comp_channel *channel, int vector), context, entries,
         user, channel, vector)
CLOSE_CALL(destroy_cq, (struct ibv_cq *cq), cq)
INT_CALL(req_notify_cq, (struct ibv_cq *cq, int solicited_only), cq,
         solicited_only)
INT_CALL(get_cq_event,
         (struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user),
         channel, cq, user)
VOID_CALL(ack_cq_events, (struct ibv_cq *cq, unsigned count), cq, count)
INT_CALL(query_qp,
         (struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
          struct ibv_qp_init_attr *init), qp, attr, mask, init)
PTR_CALL(struct rdma_event_channel *, rdma_create_event_channel, (void), false)
VOID_CALL(rdma_destroy_event_channel, (struct rdma_event_channel *channel),
          channel)
INT_CALL(rdma_create_id,
         (struct rdma_event_channel *channel, struct rdma_cm_id **id,
          void *context, enum rdma_port_space space), channel, id, context,
         space)
CLOSE_CALL(rdma_destroy_id, (struct rdma_cm_id *id), id)
PTR_CALL(struct ibv_context **, rdma_get_devices, (int *count), count)
VOID_CALL(rdma_free_devices, (struct ibv_context **list), list)
INT_CALL(rdma_set_option,
         (struct rdma_cm_id *id, int level, int name, void *value,
          size_t length), id, level, name, value, length)
INT_CALL(rdma_bind_addr, (struct rdma_cm_id *id, struct sockaddr *address),
         id, address)
INT_CALL(rdma_resolve_addr,
         (struct rdma_cm_id *id, struct sockaddr *source,
          struct sockaddr *target, int timeout_ms), id, source, target,
         timeout_ms)
INT_CALL(rdma_resolve_route, (struct rdma_cm_id *id, int timeout_ms), id,
         timeout_ms)
INT_CALL(rdma_create_qp,
         (struct rdma_cm_id *id, struct ibv_pd *pd,
          struct ibv_qp_init_attr *attr), id, pd, attr)
VOID_CALL(rdma_destroy_qp, (struct rdma_cm_id *id), id)
INT_CALL(rdma_listen, (struct rdma_cm_id *id, int backlog), id, backlog)
INT_CALL(rdma_connect,
         (struct rdma_cm_id *id, struct rdma_conn_param *param), id, param)
INT_CALL(rdma_accept,
         (struct rdma_cm_id *id, struct rdma_conn_param *param), id, param)
INT_CALL(rdma_reject,
         (struct rdma_cm_id *id, const void *data, uint8_t length), id, data,
         length)
INT_CALL(rdma_notify,
         (struct rdma_cm_id *id, enum ibv_event_type event), id, event)
INT_CALL(rdma_disconnect, (struct rdma_cm_id *id), id)
INT_CALL(rdma_get_cm_event,
         (struct rdma_event_channel *channel, struct rdma_cm_event **event),
         channel, event)
CLOSE_CALL(rdma_ack_cm_event, (struct rdma_cm_event *event), event)
/* clang-format on */

static int
call_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc)
{
    gp_sim *s = gp_sim_current;
    int n;

    pthread_mutex_lock(&s->lock);
    n = -sim_enter(s, SIM_poll_cq);
    if (!n)
        n = sim_poll_cq(s, cq, count, wc);
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Whoever tried to set the timer has not forgotten it. */
static int
call_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
    gp_sim *s = gp_sim_current;
    sim_qp *object;
    int error;

    pthread_mutex_lock(&s->lock);
    error = sim_enter(s, SIM_modify_qp);
    object = sim_look(s, GP_SIM_QP, qp);
    if (error && object)
        object->rnr_timer_set |= (mask & IBV_QP_MIN_RNR_TIMER) != 0;
    if (!error)
        error = sim_modify_qp(s, qp, attr, mask);
    pthread_mutex_unlock(&s->lock);
    return error;
}

/* Posts nothing when made to fail: *bad is the first request. */
static int
call_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr,
               struct ibv_send_wr **bad)
{
    gp_sim *s = gp_sim_current;
    int error;

    pthread_mutex_lock(&s->lock);
    error = sim_enter(s, SIM_post_send);
    if (error)
        *bad = wr;
    else
        error = sim_post_send(s, qp, wr, bad);
    pthread_mutex_unlock(&s->lock);
    return error;
}

static int
call_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr,
               struct ibv_recv_wr **bad)
{
    gp_sim *s = gp_sim_current;
    int error;

    pthread_mutex_lock(&s->lock);
    error = sim_enter(s, SIM_post_recv);
    if (error)
        *bad = wr;
    else
        error = sim_post_recv(s, qp, wr, bad);
    pthread_mutex_unlock(&s->lock);
    return error;
}

static void
count_call(sim_member member)
{
    gp_sim *s = gp_sim_current;

    pthread_mutex_lock(&s->lock);
    (void)sim_enter(s, member);
    pthread_mutex_unlock(&s->lock);
}

static const char *
call_wc_status_str(enum ibv_wc_status status)
{
    static const char *const words[] = {
        "success",
        "local length error",
        "local QP operation error",
        "local EE context operation error",
        "local protection error",
        "Work Request Flushed Error",
        "memory management operation error",
        "bad response error",
        "local access error",
        "remote invalid request error",
        "remote access error",
        "remote operation error",
        "transport retry counter exceeded",
        "RNR retry counter exceeded",
    };

    count_call(SIM_wc_status_str);
    return (unsigned)status < sizeof(words) / sizeof(words[0]) ? words[status]
                                                               : "unknown";
}

static const char *
call_event_type_str(enum ibv_event_type type)
{
    static const char *const words[] = {
        "CQ error",
        "local work queue catastrophic error",
        "invalid request local work queue error",
        "local access violation work queue error",
        "communication established",
        "send queue drained",
        "path migrated",
        "path migration request error",
        "local catastrophic error",
        "port active",
        "port error",
    };

    count_call(SIM_event_type_str);
    return (unsigned)type < sizeof(words) / sizeof(words[0]) ? words[type]
                                                             : "unknown";
}

static const char *
call_rdma_event_str(enum rdma_cm_event_type type)
{
    static const char *const words[] = {
        "RDMA_CM_EVENT_ADDR_RESOLVED",   "RDMA_CM_EVENT_ADDR_ERROR",
        "RDMA_CM_EVENT_ROUTE_RESOLVED",  "RDMA_CM_EVENT_ROUTE_ERROR",
        "RDMA_CM_EVENT_CONNECT_REQUEST", "RDMA_CM_EVENT_CONNECT_RESPONSE",
        "RDMA_CM_EVENT_CONNECT_ERROR",   "RDMA_CM_EVENT_UNREACHABLE",
        "RDMA_CM_EVENT_REJECTED",        "RDMA_CM_EVENT_ESTABLISHED",
        "RDMA_CM_EVENT_DISCONNECTED",    "RDMA_CM_EVENT_DEVICE_REMOVAL",
        "RDMA_CM_EVENT_MULTICAST_JOIN",  "RDMA_CM_EVENT_MULTICAST_ERROR",
        "RDMA_CM_EVENT_ADDR_CHANGE",     "RDMA_CM_EVENT_TIMEWAIT_EXIT",
    };

    count_call(SIM_rdma_event_str);
    return (unsigned)type < sizeof(words) / sizeof(words[0]) ? words[type]
                                                             : "unknown";
}

static uint16_t
call_rdma_get_src_port(struct rdma_cm_id *id)
{
    gp_sim *s = gp_sim_current;
    uint16_t port;

    pthread_mutex_lock(&s->lock);
    (void)sim_enter(s, SIM_rdma_get_src_port);
    port = sim_rdma_get_src_port(s, id);
    pthread_mutex_unlock(&s->lock);
    return port;
}

/* Of the poorest device. */
static uint64_t
call_memlock(void)
{
    gp_sim *s = gp_sim_current;
    uint64_t limit = UINT64_MAX;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->devices; i++)
        limit = GP_MIN(limit, s->device[i].have.memlock);
    pthread_mutex_unlock(&s->lock);
    return limit;
}

/* Of the machine: any device's. */
static bool
call_peer_memory(void)
{
    gp_sim *s = gp_sim_current;
    bool any = false;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->devices; i++)
        any |= s->device[i].have.peermem;
    pthread_mutex_unlock(&s->lock);
    return any;
}

void
sim_ops_fill(struct ibv_context_ops *ops)
{
    ops->post_send = call_post_send;
}

#define SIM_FILL(name) .name = call_##name,
void
sim_api_fill(gp_verbs_api *api)
{
    *api = (gp_verbs_api){.source = "simulated fabric",
                          .has_ops = true,
                          .memlock = call_memlock,
                          .peer_memory = call_peer_memory,
                          SIM_MEMBERS(SIM_FILL)};
}
