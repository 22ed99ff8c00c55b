/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - an RDMA fabric in this process, behind the table of verbs_api.h.
 *
 * Devices, connections, queue pairs, keys and completions behave as verbs and
 * rdma_cm specify, and where the specification lets hardware be unpleasant this
 * fabric is: completions come late and in any order between queue pairs, a
 * WRITE lands in pieces, fields that an error completion leaves undefined hold
 * garbage, private data is unaligned and gone after its event was acknowledged.
 *
 * A mistake of the caller that real hardware would punish later, or not in this
 * run, is a violation: it is kept as one line of text, and a test passes only
 * without any. gp_sim_finish() says so together with what was leaked.
 *
 * The table's functions have no context, so there is one fabric at a time in a
 * process. Every function may be called by any thread.
 *
 * A "process" is a number: the n-th event channel that was created, and every
 * id and queue pair that belongs to it. Two domains in one test are two
 * processes although they share one address space (and, as with librdmacm, one
 * device context).
 */
#ifndef GP_SIM_H
#define GP_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transports/verbs/verbs_api.h"

#define GP_SIM_GIDS  8
#define GP_SIM_PORTS 2

typedef struct gp_sim gp_sim;

/* A port; zero in every field gives the default named beside it. */
typedef struct gp_sim_port {
    const char *gids[GP_SIM_GIDS]; /* addresses; device d, port p:
                                      fe80::d:p, 10.77.d.p, fd77::d:p, and for
                                      the first of all 127.0.0.1 and ::1 */
    uint8_t link_layer;            /* IBV_LINK_LAYER_ETHERNET */
    enum ibv_mtu mtu;              /* IBV_MTU_4096 */
    bool down;                     /* not ACTIVE from the start */
} gp_sim_port;

typedef struct gp_sim_device {
    const char *name; /* "sim0", "sim1" ... */
    unsigned ports;   /* 1 */
    gp_sim_port port[GP_SIM_PORTS];
    bool iwarp;             /* no immediate data, no windows, inline 80 */
    bool no_windows;        /* no memory windows of type 2B */
    bool dmabuf;            /* reg_dmabuf_mr works, on mappable descriptors */
    bool peermem;           /* reg_mr takes foreign memory */
    unsigned inline_max;    /* 256; UINT_MAX: none at all */
    unsigned max_qp;        /* 4096 */
    unsigned max_qp_wr;     /* 4096 */
    unsigned max_sge;       /* 8 */
    unsigned max_cq;        /* 1024 */
    unsigned max_cqe;       /* 65536 */
    unsigned max_mr;        /* 65536 */
    unsigned max_mw;        /* 65536 */
    unsigned max_pd;        /* 4096 */
    unsigned max_rd_atomic; /* 16 */
    uint32_t max_msg;       /* 1 GiB */
    uint64_t max_mr_bytes;  /* no limit */
    uint64_t memlock;       /* registered bytes in all; no limit */
} gp_sim_device;

/* Zero in every field is a well-behaved fast fabric with one device. */
typedef struct gp_sim_options {
    uint64_t seed;
    const gp_sim_device *device;
    size_t devices; /* 1 when device is NULL */

    /* Without step a thread of the fabric moves data. With step nothing moves
     * but within poll_cq, req_notify_cq, get_cm_event, get_cq_event and
     * get_async_event, and the same calls give the same run; who sleeps on a
     * descriptor then sleeps for ever. */
    bool step;
    bool shuffle;   /* everything waits for a random number of turns, and
                       pieces of one WRITE land in any order */
    size_t piece;   /* bytes of a WRITE that land together; 64 KiB, and with
                       shuffle 1 KiB */
    bool late_acks; /* senders complete when there is nothing else to do */
    bool hold_completions; /* completions show up when the queue is armed:
                              finds who does not poll again after arming */
    bool late_established; /* the passive side learns of the connection after
                              its first receive completion, or by
                              rdma_notify() */
    bool spurious_events;  /* completion events without a completion */
    bool clean_cq;         /* destroying a queue pair removes its completions,
                              as some providers do; otherwise they stay */
    bool timewait;         /* TIMEWAIT_EXIT events are delivered */
    bool grant_more;       /* create_qp returns more than was asked for */
    bool blocking;         /* get_*_event may wait on a blocking descriptor */
    /* Memory of accelerators: reg_mr refuses it, or on devices with peermem
     * takes it. NULL: there is none. */
    bool (*foreign)(const void *base);
    /* Puts what a WRITE brings into such memory, if it was registered by its
     * address. NULL: memcpy(). */
    void (*store)(void *to, const void *from, size_t bytes);
    bool goes_deaf; /* as soft-RoCE: a port out of which its connection manager
                       said something while it was down hears nothing more */
    bool ignore_buffers;     /* no check that send buffers stay unchanged */
    bool expect_rnr;         /* receiver not ready is no violation */
    uint64_t retry_ns;       /* until RETRY_EXC; 2 ms */
    uint64_t unreachable_ns; /* until UNREACHABLE; 20 ms */
} gp_sim_options;

/* What is counted by gp_sim_stats.live and .created. */
typedef enum gp_sim_kind {
    GP_SIM_CONTEXT,
    GP_SIM_PD,
    GP_SIM_MR,
    GP_SIM_MW,
    GP_SIM_COMP_CHANNEL,
    GP_SIM_CQ,
    GP_SIM_QP,
    GP_SIM_EVENT_CHANNEL,
    GP_SIM_ID,
    GP_SIM_CM_EVENT, /* fetched and not acknowledged, as the two below */
    GP_SIM_CQ_EVENT,
    GP_SIM_ASYNC_EVENT,
    GP_SIM_KINDS
} gp_sim_kind;

typedef struct gp_sim_stats {
    size_t live[GP_SIM_KINDS];
    uint64_t created[GP_SIM_KINDS];
    uint64_t registered; /* bytes in memory regions now */
    uint64_t doorbells;  /* post_send calls that posted something */
    uint64_t send_wrs, recv_wrs;
    uint64_t inline_wrs, signaled_wrs;
    uint64_t sends, writes, write_imms, binds, invalidates; /* executed */
    uint64_t bytes;                                         /* moved */
    uint64_t pieces;      /* in which WRITEs landed */
    uint64_t completions; /* put into completion queues */
    uint64_t flushes;     /* of them with WR_FLUSH_ERR */
    uint64_t errors;      /* of them with another error */
    uint64_t unpolled;    /* left when their queue pair was destroyed */
    uint64_t stuck;       /* queue pairs destroyed while the port of their
                             connection was down: soft-RoCE may wait a minute for
                             packets that stand in the interface */
    uint64_t rnr;         /* messages that met no receive */
    uint64_t lost_acks;
    uint64_t polls, arms;
    uint64_t turns; /* of the scheduler */
} gp_sim_stats;

/* Borrows what `options` points to. NULL: all defaults. Only one at a time;
 * NULL when there is one already or memory is short. */
gp_sim *gp_sim_open(const gp_sim_options *options);
/* Ends the thread and frees everything, leaked objects included. */
void gp_sim_close(gp_sim *sim);
const gp_verbs_api *gp_sim_api(gp_sim *sim);

/* Objects alive that a caller created, and events not acknowledged; `text`
 * gets "2 QP, 1 CM event". May be NULL. */
size_t gp_sim_leaks(gp_sim *sim, char *text, size_t capacity);
/* Violations so far; `text` gets the first ones, a line each. May be NULL. */
size_t gp_sim_violations(gp_sim *sim, char *text, size_t capacity);
/* Forgets them: for tests of the fabric itself. Returns how many there were. */
size_t gp_sim_forgive(gp_sim *sim);
/* Prints violations and leaks to stderr, closes, returns their number. */
size_t gp_sim_finish(gp_sim *sim);

gp_sim_stats gp_sim_stats_now(gp_sim *sim);
const char *gp_sim_kind_name(gp_sim_kind kind);
/* Calls of a member of the table so far, by its name. */
uint64_t gp_sim_calls(gp_sim *sim, const char *member);
/* The n-th member's name; NULL after the last. */
const char *gp_sim_member(size_t n);

/* A registration of memory of an accelerator that succeeded. */
typedef struct gp_sim_foreign {
    uint64_t offset, iova; /* offset: 0 without a descriptor */
    size_t length;
    int fd; /* -1: by address */
    int access;
    const struct ibv_pd *pd;
} gp_sim_foreign;
/* The first `max` of them; returns how many there were. */
size_t gp_sim_foreigners(gp_sim *sim, gp_sim_foreign *out, size_t max);

/* The traffic class of all connections that `process` asked for: -1 when it set
 * none, -2 when they differ or there is none. */
int gp_sim_traffic_class(gp_sim *sim, unsigned process);

/* Memory regions in protection domains where `process` has a queue pair. */
size_t gp_sim_regions(gp_sim *sim, unsigned process);

/* Whether anything could still move, or would after a time. */
bool gp_sim_busy(gp_sim *sim);
/* One turn of the scheduler. In step mode. */
size_t gp_sim_turn(gp_sim *sim);
/* Moves everything that can move; returns turns taken. In step mode. */
size_t gp_sim_settle(gp_sim *sim);

/* Processes created so far; the latest has this number. */
unsigned gp_sim_processes(gp_sim *sim);

/*
 * Faults. `member` names a member of the table; the nth call from now (1 is
 * the next) fails with `error` and has no effect, except that calls which
 * release something do release it. NULL member: the nth call of any that can
 * fail. error 0: EIO. nth 0 takes the fault back.
 */
void gp_sim_fail(gp_sim *sim, const char *member, uint64_t nth, int error);
/* The nth post_send from now posts `posted` requests of its list, at most all
 * but one, and fails. */
void gp_sim_cut_post(gp_sim *sim, uint64_t nth, unsigned posted, int error);
/* Whether that failure has happened. */
bool gp_sim_failed(gp_sim *sim);

/* What kills a queue pair of `process` (0: any) while it sends. */
typedef struct gp_sim_break {
    unsigned process;
    uint64_t after_wrs;   /* requests executed by such queue pairs before */
    uint64_t after_bytes; /* bytes moved before; in the middle of a WRITE */
    enum ibv_wc_status status; /* 0: RETRY_EXC_ERR */
    bool delivered;            /* the request that fails arrives all the same */
} gp_sim_break;
void gp_sim_break_qp(gp_sim *sim, const gp_sim_break *how);

/* A port goes down or comes back: async event, traffic on it fails. */
void gp_sim_link(gp_sim *sim, unsigned device, unsigned port, bool up);
/* DEVICE_FATAL on all its contexts, all its queue pairs die silently. */
void gp_sim_device_fatal(gp_sim *sim, unsigned device);
/* The connection manager says of all its ids that it is removed; nothing else
 * happens to it, the rest is for who hears of it. */
void gp_sim_device_removal(gp_sim *sim, unsigned device);
/* The same, and its driver makes it anew: ids get another context from now on,
 * and rdma_cm closes the old one with the last id that is on it. */
void gp_sim_device_replace(gp_sim *sim, unsigned device);
/* Nothing passes between two addresses; NULL, NULL heals everything. */
void gp_sim_partition(gp_sim *sim, const char *one, const char *other);
/* Nothing moves for a while, from now on: simulated time in step mode. 0 ends
 * it. */
void gp_sim_stall(gp_sim *sim, uint64_t ns);
/* The next `count` connection requests are rejected: 10 is a stale
 * connection, 8 nobody listens. */
void gp_sim_refuse(gp_sim *sim, unsigned count, int status);
/* The next `count` connection requests and answers are lost. */
void gp_sim_lose_requests(gp_sim *sim, unsigned count);
/* kill -9 of a process: its connections end, what it calls from now on has no
 * effect on others. Its own objects stay for it to release, the queue pairs in
 * error. silent: the host is gone too, nobody hears of it. */
void gp_sim_kill(gp_sim *sim, unsigned process, bool silent);
/* CQ_ERR for a completion queue of the process: it says nothing any more, and
 * its queue pairs are in error. */
void gp_sim_cq_error(gp_sim *sim, unsigned process);
/* A queue pair of the process gets an async event of that type. */
void gp_sim_async(gp_sim *sim, unsigned process, enum ibv_event_type type);

/* Sees every message at its delivery, under the fabric's lock. */
typedef void gp_sim_observer(void *user, enum ibv_wr_opcode opcode,
                             uint32_t imm_be, const void *bytes, size_t length);
void gp_sim_observe(gp_sim *sim, gp_sim_observer *observer, void *user);

#endif
