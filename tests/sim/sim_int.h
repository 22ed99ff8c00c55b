/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_int.h - the simulated fabric's own structures.
 *
 * Everything is under gp_sim.lock. Objects have the public struct of verbs
 * first, so that a pointer to it is a pointer to the object; whether a pointer
 * from outside still names a live object is looked up, never read from it.
 *
 * Functions here are called with the lock held. Those named after a member of
 * the table return what that member returns.
 */
#ifndef GP_SIM_INT_H
#define GP_SIM_INT_H

#include <netinet/in.h>
#include <pthread.h>

#include "tests/sim/sim.h"

#define SIM_BUCKETS    1024
#define SIM_SGES       32
#define SIM_VIOLATIONS 16
#define SIM_TEXT       240
#define SIM_PRIVATE    256
#define SIM_PARTITIONS 8

/* Every member of the table: X(name). */
#define SIM_MEMBERS(X)            \
    X(get_device_list)            \
    X(free_device_list)           \
    X(get_device_name)            \
    X(open_device)                \
    X(close_device)               \
    X(query_device)               \
    X(query_port)                 \
    X(query_gid)                  \
    X(get_async_event)            \
    X(ack_async_event)            \
    X(alloc_pd)                   \
    X(dealloc_pd)                 \
    X(reg_mr)                     \
    X(reg_dmabuf_mr)              \
    X(dereg_mr)                   \
    X(alloc_mw)                   \
    X(dealloc_mw)                 \
    X(create_comp_channel)        \
    X(destroy_comp_channel)       \
    X(create_cq)                  \
    X(destroy_cq)                 \
    X(poll_cq)                    \
    X(req_notify_cq)              \
    X(get_cq_event)               \
    X(ack_cq_events)              \
    X(modify_qp)                  \
    X(query_qp)                   \
    X(post_send)                  \
    X(post_recv)                  \
    X(wc_status_str)              \
    X(event_type_str)             \
    X(rdma_event_str)             \
    X(rdma_create_event_channel)  \
    X(rdma_destroy_event_channel) \
    X(rdma_create_id)             \
    X(rdma_destroy_id)            \
    X(rdma_set_option)            \
    X(rdma_bind_addr)             \
    X(rdma_resolve_addr)          \
    X(rdma_resolve_route)         \
    X(rdma_create_qp)             \
    X(rdma_destroy_qp)            \
    X(rdma_listen)                \
    X(rdma_connect)               \
    X(rdma_accept)                \
    X(rdma_reject)                \
    X(rdma_notify)                \
    X(rdma_disconnect)            \
    X(rdma_get_cm_event)          \
    X(rdma_ack_cm_event)          \
    X(rdma_get_src_port)          \
    X(rdma_get_devices)           \
    X(rdma_free_devices)

#define SIM_ENUM(name) SIM_##name,
typedef enum sim_member { SIM_MEMBERS(SIM_ENUM) SIM_MEMBER_COUNT } sim_member;
#undef SIM_ENUM

typedef struct sim_object {
    struct sim_object *next; /* of one bucket */
    struct sim_object *prev_of_kind, *next_of_kind;
    void *self; /* the object, and its public pointer */
    gp_sim_kind kind;
    bool internal; /* made by the fabric, not leaked by the caller */
} sim_object;

/* A descriptor that is readable while `count` is not 0. */
typedef struct sim_signal {
    int fd;
    size_t count;
} sim_signal;

typedef struct sim_port {
    union ibv_gid gid[GP_SIM_GIDS];
    unsigned gids;
    bool up;
    bool deaf; /* gp_sim_options.goes_deaf */
    uint8_t link_layer;
    enum ibv_mtu mtu;
} sim_port;

typedef struct sim_device {
    struct ibv_device v;
    gp_sim_device have; /* with defaults filled in */
    unsigned index;
    sim_port port[GP_SIM_PORTS];
    struct sim_context *cm; /* what rdma_cm opened; not the caller's */
    size_t live[GP_SIM_KINDS];
    uint64_t registered;
    bool dead;
} sim_device;

typedef struct sim_async {
    struct sim_async *next;
    struct ibv_async_event v;
} sim_async;

typedef struct sim_context {
    struct ibv_context v;
    sim_object o;
    sim_device *device;
    sim_signal ready;
    sim_async *first, *last;
    unsigned users; /* objects on it */
    unsigned holds; /* rdma_get_devices() */
    bool replaced;  /* gp_sim_device_replace() */
    bool closed;    /* and what should not have been there is */
} sim_context;

typedef struct sim_pd {
    struct ibv_pd v;
    sim_object o;
    unsigned users;
} sim_pd;

typedef struct sim_mr {
    struct ibv_mr v;
    sim_object o;
    int access;
    uint64_t base; /* as remote and local addresses name it */
    uint8_t *memory;
    bool mapped; /* of a dma-buf: unmapped at the end */
    unsigned windows;
} sim_mr;

typedef struct sim_mw {
    struct ibv_mw v;
    sim_object o;
    uint32_t key;      /* as the device knows it; v.rkey is the caller's */
    uint32_t asked;    /* key of the last bind that was posted */
    struct sim_qp *qp; /* bound to; NULL when unbound */
    sim_mr *mr;
    uint64_t address, length;
    unsigned access;
} sim_mw;

typedef struct sim_comp_channel {
    struct ibv_comp_channel v;
    sim_object o;
    sim_signal ready;
    unsigned cqs;
} sim_comp_channel;

typedef struct sim_cqe {
    struct ibv_wc wc;
    struct sim_qp *qp; /* NULL once it is destroyed */
    bool receive, solicited;
    uint64_t index; /* of the work request in its queue */
} sim_cqe;

typedef struct sim_cq {
    struct ibv_cq v;
    sim_object o;
    sim_comp_channel *channel;
    sim_cqe *ring;
    uint64_t head, tail;
    bool armed, solicited_only, overrun;
    unsigned pending; /* events on the channel */
    unsigned unacked, async_unacked;
    unsigned users;  /* queue pairs, twice when for both directions */
    uint64_t demand; /* work requests that its queue pairs may have */
} sim_cq;

typedef struct sim_wqe {
    uint64_t wr_id;
    enum ibv_wr_opcode opcode;
    unsigned flags;
    struct ibv_sge sge[SIM_SGES];
    int sges;
    uint64_t length;
    uint64_t remote;
    uint32_t rkey, imm;
    struct ibv_mw *mw;
    struct ibv_mw_bind_info bind;
    uint8_t *bytes; /* inline: the copy made at the post */
    uint64_t sum;   /* of the payload at the post */
    uint64_t moved, retry_at, rnr_at;
    unsigned rnr_left;
    bool started, delivered, signaled, summed;
    int status; /* enum ibv_wc_status, -1 while open */
} sim_wqe;

typedef struct sim_rqe {
    uint64_t wr_id;
    struct ibv_sge sge[SIM_SGES];
    int sges;
    struct ibv_wc wc; /* once consumed */
    bool solicited;
} sim_rqe;

/* Indices count up; a slot is index % depth. free <= done <= exec <= tail. */
typedef struct sim_qp {
    struct ibv_qp v;
    sim_object o;
    struct sim_id *id;
    sim_device *device;
    unsigned port, process, ordinal;
    sim_cq *send_cq, *recv_cq;
    struct ibv_qp_cap cap, asked;
    bool all_signaled;
    enum ibv_qp_state state;
    struct sim_qp *peer;
    bool had_peer;
    sim_wqe *sq;
    uint8_t *inline_bytes;
    uint64_t sq_free, sq_done, sq_exec, sq_tail;
    sim_rqe *rq;
    uint64_t rq_free, rq_done, rq_exec, rq_tail;
    int access;
    uint8_t min_rnr_timer, rnr_retry, retry_cnt, timeout;
    bool rnr_timer_set;
    bool refilled; /* receives were posted after it was ready */
    unsigned async_unacked;
    pthread_t async_taker; /* of the last of them */
    bool dead;             /* its process or device is */
} sim_qp;

typedef enum sim_state {
    SIM_IDLE,
    SIM_BOUND,
    SIM_RESOLVING,
    SIM_ADDRESS, /* resolved, bound to a device */
    SIM_ROUTING,
    SIM_ROUTED,
    SIM_LISTENING,
    SIM_CONNECTING, /* active: request sent */
    SIM_ANSWERED,   /* active: the answer waits in the channel */
    SIM_REQUESTED,  /* passive: neither accepted nor rejected */
    SIM_ACCEPTED,   /* passive: the other side does not know yet */
    SIM_CONNECTED,
    SIM_OVER /* rejected, unreachable or disconnected */
} sim_state;

typedef struct sim_event {
    struct rdma_cm_event v;
    struct sim_event *next;
    sim_object o;        /* once fetched */
    struct sim_id *id;   /* who gets it, and holds the count of unacked */
    struct sim_id *from; /* CONNECT_REQUEST: the asking id */
    uint8_t *data;       /* of `size` bytes, private data at data + 1 */
    size_t size;
    bool answer; /* ESTABLISHED on the active side: moves the queue pair */
} sim_event;

typedef struct sim_channel {
    struct rdma_event_channel v;
    sim_object o;
    sim_signal ready;
    sim_event *first, *last;
    unsigned process, ids, unacked;
    bool dead, silent;
} sim_channel;

typedef struct sim_id {
    struct rdma_cm_id v;
    sim_object o;
    sim_channel *channel;
    sim_device *device;
    unsigned port;
    sim_state state;
    struct sockaddr_in6 local, remote; /* IPv4 as mapped; ports big endian */
    bool v4, wildcard, held_port;
    struct sim_id *peer;
    unsigned unacked, backlog, waiting;
    int ack_timeout, traffic_class; /* -1: not set */
    struct rdma_conn_param param;
    bool established, dead;
} sim_id;

/* A message of the connection manager on its way. */
typedef struct sim_task {
    struct sim_task *next;
    uint64_t due;
    enum {
        SIM_TASK_ADDRESS,
        SIM_TASK_ROUTE,
        SIM_TASK_REQUEST,
        SIM_TASK_ANSWER,
        SIM_TASK_READY, /* the active side's last word to the passive one */
        SIM_TASK_REJECT,
        SIM_TASK_BYE,
        SIM_TASK_UNREACHABLE,
        SIM_TASK_TIMEWAIT
    } kind;
    sim_id *to, *from;
    int status;
    uint8_t data[SIM_PRIVATE];
    uint8_t length;
    uint8_t rnr_retry, retry, depth, resources;
} sim_task;

typedef struct sim_partition {
    union ibv_gid one, other;
} sim_partition;

struct gp_sim {
    gp_verbs_api api;
    pthread_mutex_t lock;
    pthread_cond_t work, moved;
    pthread_t thread;
    bool ending, idle;
    bool releasing; /* completions that options hold back may show up */
    bool acking;    /* this turn is for what senders wait for */
    gp_sim_options options;
    uint64_t random, clock; /* clock: simulated time, in step mode */
    sim_device *device;
    size_t devices;
    unsigned listed; /* device lists alive */
    sim_object *bucket[SIM_BUCKETS];
    sim_object *of_kind[GP_SIM_KINDS];
    gp_sim_stats stats;
    uint64_t calls[SIM_MEMBER_COUNT];
    gp_sim_foreign foreigner[64];
    size_t foreigners;
    char violation[SIM_VIOLATIONS][SIM_TEXT];
    size_t violations;
    sim_task *first_task, *last_task;
    unsigned processes, qps;
    uint16_t next_port;
    /* faults */
    int fail_member, fail_error; /* -1: any */
    uint64_t fail_in;
    bool fail_fired;
    uint64_t cut_in; /* posts until one is cut */
    unsigned cut_after;
    int cut_error;
    gp_sim_break breaks;
    uint64_t broken_wrs, broken_bytes; /* that its queue pairs did */
    bool breaking;
    sim_partition partition[SIM_PARTITIONS];
    size_t partitions;
    uint64_t stalled_until;
    unsigned refuse, lose;
    int refuse_status;
    gp_sim_observer *observer;
    void *observer_user;
};

extern gp_sim *gp_sim_current;

/* sim.c */
void sim_violate(gp_sim *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t sim_random(gp_sim *s);
/* True with a probability of 1 / n; always when nothing is shuffled. */
bool sim_chance(gp_sim *s, unsigned n);
uint64_t sim_clock(gp_sim *s);
void sim_track(gp_sim *s, sim_object *o, gp_sim_kind kind, void *self);
void sim_untrack(gp_sim *s, sim_object *o);
/* The live object of that kind at `self`, or NULL. */
void *sim_look(gp_sim *s, gp_sim_kind kind, const void *self);
/* The same; NULL comes with a violation that names
 * `who` and the kind. */
void *sim_find(gp_sim *s, gp_sim_kind kind, const void *self, const char *who);
void sim_wake(gp_sim *s); /* there is something to do */
bool sim_signal_open(sim_signal *signal);
void sim_signal_close(sim_signal *signal);
void sim_signal_raise(sim_signal *signal);
void sim_signal_lower(sim_signal *signal);
/* For get_*_event with nothing there: EAGAIN, or waits and returns 0. */
int sim_would_block(gp_sim *s, int fd, const char *who);
/* One sweep over all that could move; the number of things that did. */
size_t sim_turn(gp_sim *s);
/* In step mode: what a call does before its work. */
void sim_step(gp_sim *s);

/* sim_dev.c */
bool sim_devices_open(gp_sim *s);
void sim_devices_close(gp_sim *s);
bool sim_gid_of(const char *text, union ibv_gid *gid);
sim_device *sim_device_of_gid(gp_sim *s, const union ibv_gid *gid,
                              unsigned *port);
sim_context *sim_cm_context(gp_sim *s, sim_device *device);
/* As librdmacm does with those of devices that were replaced and have another
 * context by now: they go when no id is on them and nobody holds them. */
void sim_close_replaced(gp_sim *s);
void sim_async_push(gp_sim *s, sim_context *context,
                    const struct ibv_async_event *event);
void sim_async_purge(gp_sim *s, sim_context *context, const void *element);
void sim_async_port(gp_sim *s, sim_device *device, unsigned port, bool up);
struct ibv_device **sim_get_device_list(gp_sim *s, int *count);
void sim_free_device_list(gp_sim *s, struct ibv_device **list);
const char *sim_get_device_name(gp_sim *s, struct ibv_device *device);
struct ibv_context *sim_open_device(gp_sim *s, struct ibv_device *device);
int sim_close_device(gp_sim *s, struct ibv_context *context);
int sim_query_device(gp_sim *s, struct ibv_context *context,
                     struct ibv_device_attr *attr);
int sim_query_port(gp_sim *s, struct ibv_context *context, uint8_t port,
                   struct ibv_port_attr *attr);
int sim_query_gid(gp_sim *s, struct ibv_context *context, uint8_t port,
                  int index, union ibv_gid *gid);
int sim_get_async_event(gp_sim *s, struct ibv_context *context,
                        struct ibv_async_event *event);
void sim_ack_async_event(gp_sim *s, struct ibv_async_event *event);

/* sim_mem.c */
struct ibv_pd *sim_alloc_pd(gp_sim *s, struct ibv_context *context);
int sim_dealloc_pd(gp_sim *s, struct ibv_pd *pd);
struct ibv_mr *sim_reg_mr(gp_sim *s, struct ibv_pd *pd, void *base,
                          size_t length, int access);
struct ibv_mr *sim_reg_dmabuf_mr(gp_sim *s, struct ibv_pd *pd, uint64_t offset,
                                 size_t length, uint64_t iova, int fd,
                                 int access);
int sim_dereg_mr(gp_sim *s, struct ibv_mr *mr);
struct ibv_mw *sim_alloc_mw(gp_sim *s, struct ibv_pd *pd,
                            enum ibv_mw_type type);
int sim_dealloc_mw(gp_sim *s, struct ibv_mw *mw);
enum ibv_wc_status sim_bind(gp_sim *s, sim_qp *qp, const sim_wqe *wqe);
enum ibv_wc_status sim_invalidate(gp_sim *s, sim_qp *qp, uint32_t rkey);
void sim_unbind_all(gp_sim *s, const sim_qp *qp);
/* Memory behind a local key, NULL when it may not be used so. */
uint8_t *sim_local(gp_sim *s, const sim_qp *qp, uint32_t lkey, uint64_t address,
                   uint64_t length, bool write);
/* Memory that `qp` lets its peer write at under a remote key. */
uint8_t *sim_remote(gp_sim *s, const sim_qp *qp, uint32_t rkey,
                    uint64_t address, uint64_t length);
void sim_mr_free(gp_sim *s, sim_mr *mr);

/* sim_cq.c */
struct ibv_comp_channel *sim_create_comp_channel(gp_sim *s,
                                                 struct ibv_context *context);
int sim_destroy_comp_channel(gp_sim *s, struct ibv_comp_channel *channel);
struct ibv_cq *sim_create_cq(gp_sim *s, struct ibv_context *context,
                             int entries, void *user,
                             struct ibv_comp_channel *channel, int vector);
int sim_destroy_cq(gp_sim *s, struct ibv_cq *cq);
int sim_poll_cq(gp_sim *s, struct ibv_cq *cq, int count, struct ibv_wc *wc);
int sim_req_notify_cq(gp_sim *s, struct ibv_cq *cq, int solicited_only);
int sim_get_cq_event(gp_sim *s, struct ibv_comp_channel *channel,
                     struct ibv_cq **cq, void **user);
void sim_ack_cq_events(gp_sim *s, struct ibv_cq *cq, unsigned count);
void sim_cq_push(gp_sim *s, sim_cq *cq, const sim_cqe *entry);
void sim_cq_break(gp_sim *s, sim_cq *cq);
/* A queue pair is gone; its completions stay or go by the options. */
void sim_cq_forget(gp_sim *s, sim_cq *cq, const sim_qp *qp);

/* sim_qp.c */
int sim_rdma_create_qp(gp_sim *s, struct rdma_cm_id *id, struct ibv_pd *pd,
                       struct ibv_qp_init_attr *attr);
int sim_rdma_destroy_qp(gp_sim *s, struct rdma_cm_id *id);
int sim_modify_qp(gp_sim *s, struct ibv_qp *qp, struct ibv_qp_attr *attr,
                  int mask);
int sim_query_qp(gp_sim *s, struct ibv_qp *qp, struct ibv_qp_attr *attr,
                 int mask, struct ibv_qp_init_attr *init);
void sim_qp_state(gp_sim *s, sim_qp *qp, enum ibv_qp_state state);
void sim_qp_free(gp_sim *s, sim_qp *qp);
void sim_qp_async(gp_sim *s, sim_qp *qp, enum ibv_event_type type);

/* sim_post.c */
int sim_post_send(gp_sim *s, struct ibv_qp *qp, struct ibv_send_wr *wr,
                  struct ibv_send_wr **bad);
int sim_post_recv(gp_sim *s, struct ibv_qp *qp, struct ibv_recv_wr *wr,
                  struct ibv_recv_wr **bad);
/* False when the payload cannot be read. */
bool sim_sum(gp_sim *s, const sim_qp *qp, const sim_wqe *wqe, uint64_t *sum);

/* sim_wire.c */
size_t sim_qp_turn(gp_sim *s, sim_qp *qp);
bool sim_apart(gp_sim *s, const sim_qp *one, const sim_qp *other);
bool sim_cut(const gp_sim *s, const union ibv_gid *one,
             const union ibv_gid *other);

/* sim_cm.c: ids, addresses, events */
void sim_event_push(gp_sim *s, sim_id *id, enum rdma_cm_event_type type,
                    int status, const sim_task *with);
void sim_event_free(sim_event *event);
struct rdma_event_channel *sim_rdma_create_event_channel(gp_sim *s,
                                                         bool unused);
void sim_rdma_destroy_event_channel(gp_sim *s,
                                    struct rdma_event_channel *channel);
int sim_rdma_create_id(gp_sim *s, struct rdma_event_channel *channel,
                       struct rdma_cm_id **id, void *context,
                       enum rdma_port_space space);
int sim_rdma_destroy_id(gp_sim *s, struct rdma_cm_id *id);
struct ibv_context **sim_rdma_get_devices(gp_sim *s, int *count);
void sim_rdma_free_devices(gp_sim *s, struct ibv_context **list);
int sim_rdma_set_option(gp_sim *s, struct rdma_cm_id *id, int level, int name,
                        void *value, size_t length);
int sim_rdma_get_cm_event(gp_sim *s, struct rdma_event_channel *channel,
                          struct rdma_cm_event **event);
int sim_rdma_ack_cm_event(gp_sim *s, struct rdma_cm_event *event);
uint16_t sim_rdma_get_src_port(gp_sim *s, struct rdma_cm_id *id);
sim_id *sim_id_new(gp_sim *s, sim_channel *channel, void *context);
void sim_id_free(gp_sim *s, sim_id *id);
void sim_id_bind(gp_sim *s, sim_id *id, sim_device *device, unsigned port);
void sim_id_names(sim_id *id);

/* sim_addr.c: addresses of ids */
int sim_rdma_bind_addr(gp_sim *s, struct rdma_cm_id *id,
                       struct sockaddr *address);
int sim_rdma_resolve_addr(gp_sim *s, struct rdma_cm_id *id,
                          struct sockaddr *source, struct sockaddr *target,
                          int timeout_ms);
int sim_rdma_resolve_route(gp_sim *s, struct rdma_cm_id *id, int timeout_ms);
int sim_rdma_listen(gp_sim *s, struct rdma_cm_id *id, int backlog);
sim_id *sim_listener_at(gp_sim *s, const struct sockaddr_in6 *address);

/* sim_conn.c: requests, answers, ends */
int sim_rdma_connect(gp_sim *s, struct rdma_cm_id *id,
                     struct rdma_conn_param *param);
int sim_rdma_accept(gp_sim *s, struct rdma_cm_id *id,
                    struct rdma_conn_param *param);
int sim_rdma_reject(gp_sim *s, struct rdma_cm_id *id, const void *data,
                    uint8_t length);
int sim_rdma_notify(gp_sim *s, struct rdma_cm_id *id,
                    enum ibv_event_type event);
int sim_rdma_disconnect(gp_sim *s, struct rdma_cm_id *id);
void sim_id_established(gp_sim *s, sim_id *id);
/* The active side fetched the answer. */
void sim_id_answered(gp_sim *s, sim_id *id);
/* The other side hears that this one is going. */
void sim_id_part(gp_sim *s, sim_id *id);
void sim_bye(gp_sim *s, sim_id *to);
/* Requests of an id that is going are not delivered any more. */
void sim_requests_drop(gp_sim *s, const sim_id *active);
void sim_reject_later(gp_sim *s, sim_id *to, int status);
sim_task *sim_task_new(gp_sim *s, int kind, sim_id *to, sim_id *from,
                       uint64_t delay);
void sim_tasks_purge(gp_sim *s, const sim_id *id);
size_t sim_tasks_turn(gp_sim *s);

/* sim_api.c */
void sim_api_fill(gp_verbs_api *api);
void sim_ops_fill(struct ibv_context_ops *ops);
/* Counts a call; the error it has to fail with, or 0. */
int sim_enter(gp_sim *s, sim_member member);

#endif
