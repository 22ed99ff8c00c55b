/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_int.h - what the files of the verbs transport share.
 *
 * An endpoint is a group of lanes. A lane is one reliable queue pair with its
 * rdma_cm_id; it can be lost and come back, or stay lost while the others go
 * on. What is posted waits in the endpoint's queues, is put into frames of one
 * lane, and is kept until the frame's completion says that the peer's device
 * has it; when a lane is lost, the peer says which frames arrived, and the rest
 * goes back into the queues: so a message is delivered once.
 *
 * Three things make receiver-not-ready, full send queues and completion queue
 * overruns impossible rather than handled: a frame is sent only against a
 * receive that the peer said it posted; a work request only into a counted
 * free place of the send queue; and a lane is opened only on a completion queue
 * with room for all that the lane can have outstanding.
 *
 * Everything belongs to one domain, and a domain to one thread at a time. Only
 * gp_vb_device_async() touches what domains share: see verbs_device.c.
 *
 *   verbs.c         table, domain, epoll and timers, arm()
 *   verbs_device.c  what a domain holds per device: queues, protection domains;
 *                   asynchronous events
 *   verbs_cm.c      rdma_cm: events, losing and regaining lanes
 *   verbs_connect.c connecting
 *   verbs_accept.c  listening and accepting
 *   verbs_hello.c   the private data of a connection
 *   verbs_ep.c      endpoints: opening, failing, closing, lingering
 *   verbs_lane.c    a lane's queue pair and memory: open, fence, resume
 *   verbs_post.c    queues of what was posted, and what became of it
 *   verbs_send.c    frames, work requests
 *   verbs_short.c   the same of one short message
 *   verbs_recv.c    completions, frames received
 *   verbs_early.c   messages seen in memory before their completion; progress()
 *   verbs_deliver.c events of what was received
 *   verbs_frame.c   frames and records as bytes
 *   verbs_brief.h   frames of one short message, likewise
 *   verbs_cue.c     headers of data messages as immediate data
 *   verbs_mem.c     registered memory, exposed regions, windows
 *   verbs_remote.c  regions of the peer, the bounce buffer
 *   verbs_peer.c    memory of accelerators: see verbs_peer.h
 *   verbs_port.c    ports that are down, and what waits for them; also .h
 *   verbs_error.c   what a failed completion means, in words
 *   verbs_limit.c   how much memory may be locked for devices
 */
#ifndef GP_VERBS_INT_H
#define GP_VERBS_INT_H

#include <sys/socket.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "base/list.h"
#include "transports/region.h"
#include "transports/verbs/verbs_api.h"
#include "transports/verbs/verbs_brief.h"
#include "transports/verbs/verbs_cue.h"
#include "transports/verbs/verbs_frame.h"
#include "transports/verbs/verbs_hello.h"

#define GP_VB_LANES_MAX 16u
#define GP_VB_PATH_MAX  4u /* rails */

/* Control payloads up to this lie inside the queue entry. */
#define GP_VB_INLINE 96u
/* Receives that only frames without messages may use, so that credits and the
 * farewell always pass: two for credits, one for BYE. */
#define GP_VB_RESERVE 3u
/* Lanes whose next receive is looked at in each progress(). */
#define GP_VB_WATCHED 8u
/* The longest wait for a fenced queue pair's last completions. */
#define GP_VB_DRAIN_NS 1000000000u

typedef struct gp_vb_lane gp_vb_lane;
typedef struct gp_vb_device gp_vb_device;
typedef struct gp_vb_received gp_vb_received;
typedef struct gp_vb_entry gp_vb_entry;     /* verbs_post.c */
typedef struct gp_vb_member gp_vb_member;   /* verbs_device.c */
typedef struct gp_vb_attempt gp_vb_attempt; /* verbs_cm.c */

/* ----------------------------------------------------------- work requests */

/* wr_id: kind 4 bits, lane's slot in the domain 16, generation 24, index 20. A
 * generation is a queue pair's of the domain, so a completion that comes late
 * finds nobody until 16 million queue pairs later. Of a position in the send
 * queue the index has the last bits, which tell one from all others that can
 * be outstanding: a queue is far shorter than that. */
#define GP_VB_INDEX_BITS      20u
#define GP_VB_GENERATION_BITS 24u
typedef enum gp_vb_wr {
    GP_VB_WR_WRITE = 1,   /* index: send queue position (posted count) */
    GP_VB_WR_FRAME = 2,   /* likewise */
    GP_VB_WR_RECEIVE = 3, /* index: buffer */
    GP_VB_WR_BIND = 4,
    GP_VB_WR_PROBE = 5, /* an empty WRITE: is the peer's host there? */
    GP_VB_WR_DRAIN = 6, /* the last one of a queue pair that is fenced */
} gp_vb_wr;

/* ---------------------------------------------------------------- devices */

/* Completion queue; a lane reserves what it can have outstanding. */
typedef struct gp_vb_cq {
    gp_list link;
    gp_vb_device *device;
    struct ibv_cq *cq;
    uint32_t capacity, reserved;
    uint32_t unacked; /* events */
    bool broken;      /* in error: goes with the last lane that used it */
} gp_vb_cq;

/* What one domain holds of one device. */
struct gp_vb_device {
    gp_list link;
    gp_domain *domain;
    struct ibv_context *verbs, **held; /* of rdma_cm; held: keeps it open */
    struct ibv_device_attr attr;
    char name[64];
    bool iwarp, uncued; /* uncued: it refused a cue */
    bool windows;       /* type 2B, and wanted */
    bool gone;          /* failed for good, or was removed */
    uint32_t bind_errors;
    uint32_t max_inline;
    struct ibv_comp_channel *channel;
    gp_list cqs;
    struct gp_vb_pd *shared; /* with ib_domains=shared */
    gp_vb_member *member;    /* in the process's list of who uses `verbs` */
};

/* Protection domain of one endpoint on one device (or shared). `slot` is dense
 * in the domain: gp_vb_mem.key[] is indexed by it. */
typedef struct gp_vb_pd {
    struct ibv_pd *pd;
    gp_vb_device *device;
    uint32_t slot;
    uint32_t users, parked; /* parked: queue pairs, see verbs_port.c */
} gp_vb_pd;

/* ----------------------------------------------------------------- memory */

typedef struct gp_vb_key {
    struct ibv_mr *mr;  /* for sending; made when first needed */
    struct ibv_mr *old; /* before it; gone when nothing is sent from it */
    bool borrowed;      /* mr is an exposure's, of all this memory */
    bool binds;         /* windows may be bound to it */
    bool refused;       /* the device would not */
} gp_vb_key;

/* What gp_mem points to here: the noted range comes first. */
typedef struct gp_vb_mem {
    gp_mem note;
    gp_list link; /* domain->mems */
    gp_domain *domain;
    const gp_peer_memory *peer; /* whose memory it is; NULL: the host's */
    uint32_t keys;              /* length of key[] */
    gp_vb_key *key;
} gp_vb_mem;

/* A region exposed to the peer: beside gp_regions' range, what the device knows
 * of it. Index: as in the token. */
typedef struct gp_vb_exposure {
    uint32_t token; /* 0: none */
    bool told;      /* an EXPOSE may have left */
    gp_vb_mem *mem;
    size_t offset, bytes;
    struct ibv_mr *mr[GP_VB_PATH_MAX]; /* as gp_endpoint.pd */
    struct ibv_mw *window[GP_VB_LANES_MAX];
    uint32_t bound[GP_VB_LANES_MAX]; /* position of the bind's request */
} gp_vb_exposure;

/* A region that the peer exposed to us. */
typedef struct gp_vb_remote {
    uint32_t token; /* 0: none */
    bool withdrawn;
    uint64_t address, bytes;
    uint32_t key[GP_VB_LANES_MAX];
    uint32_t lanes; /* bit: key valid there */
} gp_vb_remote;

/* ------------------------------------------------------------------ lanes */

typedef enum gp_vb_lane_state {
    GP_VB_LANE_IDLE,       /* never connected, or given up */
    GP_VB_LANE_RESOLVING,  /* address, then route */
    GP_VB_LANE_CONNECTING, /* connect or accept was called */
    GP_VB_LANE_SYNCING,    /* frames flow; no WRITE before the peer's SYNC */
    GP_VB_LANE_UP,
    GP_VB_LANE_LOST, /* fenced; the connecting side tries to regain it */
} gp_vb_lane_state;

/* A frame that arrived, or a control message put together on the heap. */
struct gp_vb_received {
    gp_list link; /* ep->received, or domain->held while events point to it */
    gp_vb_lane *lane;
    const uint8_t *records;
    uint32_t bytes;
    uint32_t at;     /* delivered so far */
    uint32_t buffer; /* of the lane's */
    uint32_t number, cue;
    bool heap;   /* not a buffer: free() it */
    bool gone;   /* its queue pair is: not to be posted again */
    bool used;   /* an event points into it */
    bool turned; /* control moved here, and other lanes were looked at */
    bool brief;  /* `records` is a brief frame */
    bool cued;   /* there are no records but a cue */
    bool keeps;  /* the sender has kept its headers, for cues */
    /* Taken before its completion came: until then the buffer is not posted
     * again, `released` or not. */
    bool early, released;
};

/* A request of which only what differs is filled in. */
typedef struct gp_vb_request {
    uint64_t id; /* its wr_id's, without an index */
    struct ibv_send_wr wr, *bad;
    struct ibv_sge part;
} gp_vb_request;

struct gp_vb_lane {
    gp_endpoint *ep;
    uint32_t index;      /* in the endpoint */
    uint16_t slot;       /* in domain->lanes[] */
    uint32_t generation; /* of its queue pair: stale completions are dropped */
    gp_vb_lane_state state;
    uint32_t epoch;
    struct rdma_cm_id *id;
    struct ibv_qp *qp; /* NULL unless there is one */
    gp_vb_device *device;
    gp_vb_pd *pd;
    gp_vb_cq *cq;
    uint32_t cq_reserved;

    /* Attempts (verbs_cm.c). */
    struct sockaddr_storage source, target; /* source.ss_family 0: any */
    uint64_t deadline_ns; /* of the attempt, or of being LOST */
    uint64_t retry_ns;    /* when to try next; 0: trying */
    uint64_t backoff_ns;
    bool opened;         /* was up once: the next attempt resumes */
    bool said;           /* the log knows that it is LOST */
    uint32_t losses;     /* in a row without a message in between, */
    uint32_t progress;   /* of which there were this many then, */
    uint64_t up_ns;      /* nor a while of being up, since this time */
    uint32_t messages;   /* sent or delivered */
    bool given_up;       /* not tried any more */
    bool told_lost;      /* and LOST was queued to say so */
    bool peer_gave_up;   /* LOST came for it */
    bool adrift;         /* lost, and the peer has not said how far it got */
    uint32_t lost_epoch; /* of the queue pair that was lost last */
    uint64_t lost_ns, patient_ns; /* LOST: until when to try, alone or not */
    uint64_t judge_ns;            /* LOST: until when deliveries come first */
    char cause[512]; /* of the loss, or of the last attempt's failure */
    gp_status cause_status;

    /* Agreed geometry. */
    bool imm;
    uint32_t peer_frames, peer_frame_bytes;
    uint32_t frame_limit; /* of what is sent: fits both sides */
    size_t piece;         /* bytes of one WRITE */
    uint64_t peer_ring;
    uint32_t peer_ring_key;
    uint32_t max_inline;

    /* Sending (verbs_post.c). */
    /* Work requests; free: depth - (posted - retired), less one that a fence
     * needs. polled: the last completion, of failed ones too. */
    uint32_t sq_depth, sq_posted, sq_retired, sq_polled;
    uint32_t written; /* position of the last WRITE from registered memory */
    uint32_t direct;  /* the same from an accelerator's, by this pair */
    struct gp_vb_pair *pair;
    uint32_t stale;      /* of the last one with a key that was replaced */
    uint32_t unsignaled; /* requests since the last signaled one */
    uint32_t unsignaled_entries;
    uint32_t next_frame, done_frame; /* numbers; done: all before it arrived */
    uint32_t granted;                /* receives the peer has posted so far */
    uint32_t sent_frames;            /* on this queue pair, against granted */
    uint8_t *tx;                     /* ring of frames: index number % count */
    uint32_t tx_frames;
    uint32_t tx_place;       /* of the next frame in it */
    uint32_t *tx_end;        /* of each: position of its work request */
    gp_list notes;           /* waiting, for this queue pair only */
    gp_list data;            /* assigned to this lane, not wholly in frames */
    gp_vb_entry *open;       /* of those, the one that is half in records */
    gp_list flying;          /* entries in frames, by frame number */
    uint32_t flying_control; /* control messages begun here and not done */
    uint64_t queued_bytes;   /* of `data` and `flying` */
    uint64_t probe_ns;       /* last sign of life asked for or seen */
    bool probing;            /* gp_vb_probe() waits for its completion */
    bool alive; /* something completed; cleared by who looks at it */

    /* Receiving (verbs_recv.c). */
    uint8_t *rx;        /* rx_frames buffers of frame_bytes, or the imm ring */
    uint8_t *copies;    /* imm: of frames, which the peer could write again */
    uint32_t rx_frames; /* ours */
    uint32_t posted;    /* receives posted so far on this queue pair */
    uint32_t told;      /* of those, what the peer was told */
    uint32_t taken;     /* receives completed on this queue pair */
    uint32_t expected;  /* number of the next frame */
    gp_vb_received *buffers; /* rx_frames of them */
    uint32_t held;           /* buffers that events point to */
    /* Brief frames. order: buffers as they were posted, index % rx_frames;
     * arrived: receives whose frames are known. */
    bool brief; /* both sides take them */
    bool plain; /* and nothing is to be thought of when they are sent: */
    uint32_t brief_data; /* data of so many bytes in one */
    gp_vb_request brief_request;
    uint8_t *briefs;
    uint32_t *order;
    uint32_t arrived;
    gp_vb_received *awaited; /* the next one's; NULL: to be found out */
    const uint8_t *look_at;
    bool cues, apart; /* we take them; when met: both; behind payloads */
    gp_vb_cues cued_out, cued_in;
    bool met;             /* gp_vb_lane_meet() was called */
    bool synced;          /* the peer's SYNC was seen */
    uint32_t memory_slot; /* place in the endpoint's slab */
    /* In this lane's domain: what frames are sent from, and received into. */
    struct ibv_mr *tx_mr, *rx_mr; /* borrowed; one but with imm */

    /* A message of several VALUE/MORE records being put together. */
    gp_msg assembling;
    gp_vb_received *assembly; /* control: heap */
    uint64_t assembled;
    bool assembles;

    /* What made a completion handler give up the lane, or with `fatal` the
     * endpoint; gp_vb_poll() acts on it when all completions were looked at. */
    gp_list broken; /* in domain->broken */
    bool fatal;
    gp_status broken_status;
    char broken_why[384];
};

/* -------------------------------------------------------------- endpoints */

typedef struct gp_vb_entries {
    gp_list waiting; /* not wholly in frames yet */
    uint32_t count;  /* with those flying */
} gp_vb_entries;

typedef enum gp_vb_state {
    GP_VB_CONNECTING,
    GP_VB_OPEN,
    GP_VB_LINGERING, /* closed by its owner; BYE is on its way */
    GP_VB_CLOSED
} gp_vb_state;

struct gp_endpoint {
    gp_list link;  /* domain->endpoints, lingering, or retired */
    gp_list event; /* domain->opened or closed */
    gp_list ready; /* domain->ready while something can be sent or delivered */
    gp_domain *domain;
    void *user;
    gp_vb_state state;
    bool accepted, trusted;
    size_t cost;    /* accepted, not trusted: bytes that the domain counts */
    bool announced; /* ACCEPTED or CONNECTED was reported */
    bool bye_sent, bye_seen;
    bool deaf; /* what was received is not delivered any more */
    gp_status status;
    uint64_t group;
    uint64_t deadline_ns; /* CONNECTING: give up; LINGERING: likewise */
    uint64_t start_ns, report_ns;
    gp_vb_attempt *attempt; /* connecting side: addresses of the peer */
    char peer[GP_ADDRESS_MAX];
    char why[640];

    uint32_t lane_count;
    gp_vb_lane *lane[GP_VB_LANES_MAX];
    uint32_t control_lane; /* of those UP, the lowest */
    /* Control that is sent: its last lane, and how often that has changed, as
     * in VALUE's flags; and what the peer's last control said there. */
    uint32_t turn_lane;
    uint8_t turn, turn_heard;
    gp_vb_pd *pd[GP_VB_PATH_MAX];
    /* Receive and send frames of all lanes. Made by gp_vb_lane_prepare(), freed
     * by gp_vb_ep_free() after all lanes: their regions are gone by then. */
    uint8_t *slab;
    size_t slab_bytes;
    size_t rings; /* bytes of it that are received into, before the others */
    struct ibv_mr *slab_mr[GP_VB_PATH_MAX]; /* as pd */
    struct ibv_mr *ring_mr[GP_VB_PATH_MAX]; /* imm: the peer writes there */
    struct gp_vb_bounce *bounce; /* for payloads outside registered memory */

    gp_vb_entries control, data;
    gp_list notes; /* waiting, for the control lane */
    gp_list free_entries;
    void *pool; /* chunks of entries */
    size_t control_bytes;
    gp_list sent;     /* completed entries whose SENT is to be reported */
    gp_list received; /* frames of all lanes as they came, not yet delivered */

    gp_regions regions; /* exposed to the peer */
    gp_vb_exposure *exposure;
    uint32_t exposures;
    bool stale_keys;      /* some memory has an old key in a domain of it */
    bool shows_peers;     /* an accelerator's memory was exposed */
    gp_vb_remote *remote; /* exposed by the peer */
    uint32_t remotes;
};

/* ----------------------------------------------------------------- domain */

/* Work requests on their way to one post_send(). */
#define GP_VB_LIST 64u
typedef struct gp_vb_list {
    struct ibv_send_wr wr[GP_VB_LIST];
    struct ibv_sge sge[GP_VB_LIST];
    uint32_t count;
} gp_vb_list;

/* A port of this host that is used: rail 0 is the best one. */
typedef struct gp_vb_rail {
    char name[72]; /* "mlx5_0:1" */
    struct sockaddr_storage address;
} gp_vb_rail;

struct gp_domain {
    const gp_verbs_api *api;
    int epoll_fd, timer_fd;
    int wake_fd; /* another domain read an asynchronous event for this one */
    uint64_t timer_ns;
    struct rdma_event_channel *channel;
    struct rdma_cm_id *listener;
    char token[256]; /* the job's; for hello proofs */

    /* configuration */
    uint32_t lanes_wanted; /* with all rails */
    gp_vb_rail rail[GP_VB_PATH_MAX];
    uint32_t rails;
    bool pinned;   /* connect from the rail's address, not as routes say */
    bool hasty;    /* auto: there is tcp where this leads nowhere */
    bool by_name;  /* the configuration says what others call this host */
    bool anywhere; /* listens on all its addresses, rails' too */
    uint16_t port; /* that it listens on; 0: does not */
    uint32_t frames, frame_bytes, queue, eager;
    size_t piece;
    bool checksum, separate_domains, windows_off;
    int windows, relaxed, notify; /* auto 0, off/send -1, on/imm 1 */
    int traffic_class, ack_timeout, retry_count, adaptive;
    double reconnect_seconds, rail_seconds, handshake_seconds;
    uint64_t keepalive_ns, ports_ns; /* verbs_port.c: when to look at ports */

    gp_list devices;
    gp_list endpoints, lingering, retired;
    gp_list opened, closed, ready;
    gp_list held;   /* verbs_recv.c: what events point to until progress() */
    gp_list broken; /* lanes; see there */
    gp_list parked; /* verbs_port.c: what waits for its port */
    gp_list mems;
    gp_list pairs; /* verbs_peer.c: accelerators and devices */
    int gdr[2];    /* by gp_direct: no -1, try 0, yes 1 */
    gp_vb_list list;
    gp_vb_lane **lanes; /* by slot */
    uint32_t lane_slots;
    gp_vb_lane *watched[GP_VB_WATCHED];
    uint32_t watched_count;
    uint32_t looks;    /* into memory, since a message was found there; */
    uint32_t patience; /* that the next one gets before all else; */
    bool waited;       /* and they are over */
    uint32_t found;    /* calls in a row that found one and did nothing else */
    bool looked;       /* `patience` is to be made up */
    gp_vb_pd **pds;    /* by slot */
    uint32_t pd_slots;
    uint32_t generations; /* the last lane's */
    uint32_t pending_accepts;
    size_t stranger_bytes; /* pinned for who has not proven anything */
    uint32_t skipped;
    bool armed;
    gp_log_budget log; /* what strangers may put into the log */

    /* counters, for describe() and tests */
    uint64_t work_requests, doorbells, completions, empty_polls, credit_stalls,
        queue_stalls, bounced_bytes, reconnects;
    uint64_t valued_bytes; /* of data in frames that should be written */
};

typedef struct gp_vb_out {
    gp_event *events;
    int count, max;
} gp_vb_out;

/* verbs.c */
gp_event *gp_vb_emit(gp_vb_out *out, gp_endpoint *ep, gp_event_type type);
/* Something can be sent or delivered. */
static inline void
gp_vb_ready(gp_endpoint *ep)
{
    if (gp_list_empty(&ep->ready))
        gp_list_insert(&ep->domain->ready, &ep->ready);
}
gp_status gp_vb_watch(gp_domain *d, int fd, void *what);
void gp_vb_unwatch(gp_domain *d, int fd);
void gp_vb_wake_at(gp_domain *d, uint64_t when_ns);

/* verbs_device.c */
/* The domain's entry for the device of an id, made when new. */
gp_status gp_vb_device_get(gp_domain *d, struct ibv_context *verbs,
                           gp_vb_device **out);
void gp_vb_device_close(gp_vb_device *device);
/* A completion queue with room for `entries` more; gp_vb_cq_leave() gives the
 * room back. */
gp_status gp_vb_cq_join(gp_vb_device *device, uint32_t entries, gp_vb_cq **out);
void gp_vb_cq_leave(gp_vb_cq *cq, uint32_t entries);
/* The endpoint's (or the shared) protection domain there; ep->pd[] keeps it
 * until gp_vb_ep_free(), so lanes and regions borrow it. Giving back the last
 * use deregisters what memories of the domain (d->mems) have in it. */
gp_status gp_vb_pd_get(gp_endpoint *ep, gp_vb_device *device, gp_vb_pd **out);
/* Calls gp_vb_mem_leave() when the last user goes; what is parked keeps it. */
void gp_vb_pd_put(gp_domain *d, gp_vb_pd *pd);
/* Reads asynchronous events: a port or queue pair in trouble. */
void gp_vb_device_async(gp_vb_device *device);
/* Acts on those of this domain, whoever read them. */
void gp_vb_device_notices(gp_domain *d);
/* It failed or was removed: its lanes end, and none is made on it again. */
void gp_vb_device_gone(gp_vb_device *device, const char *why);
/* Lanes of queues that are `broken` are lost. */
void gp_vb_queues_broken(gp_domain *d, const char *why);
/* Fetches completion events, so that the channel can be slept on. */
void gp_vb_device_drain(gp_vb_device *device);

/* verbs_ep.c */
gp_endpoint *gp_vb_ep_create(gp_domain *d, uint32_t lanes);
/* The first lane is up: ACCEPTED or CONNECTED is due. */
void gp_vb_ep_opened(gp_endpoint *ep);
/* Ends an endpoint: fences all lanes, keeps the first cause, logs once, queues
 * CLOSED. GP_OK: the peer said BYE. */
void gp_vb_ep_fail(gp_endpoint *ep, gp_status status, const char *format, ...)
    GP_PRINTF(3, 4);
void gp_vb_ep_close(gp_endpoint *ep); /* the table's ep_close */
/* It has proven who it is, or is no more: its cost is not a stranger's. */
void gp_vb_ep_settle(gp_endpoint *ep);
/* Ends the lingering when all is sent, or when it took too long. */
void gp_vb_ep_linger(gp_endpoint *ep, uint64_t now);
void gp_vb_ep_free(gp_endpoint *ep);

/* verbs_cm.c */
void gp_vb_cm_events(gp_domain *d);
void gp_vb_cm_timers(gp_domain *d, uint64_t now);
/* A completion or an event says that the lane's queue pair is of no use any
 * more. Fences it, then tries to regain it, or ends the endpoint when it was
 * the last and cannot be regained. The text is what ended it. */
void gp_vb_lane_failed(gp_vb_lane *lane, gp_status status, const char *format,
                       ...) GP_PRINTF(3, 4);
/* The peer told its other rails (RAILS), or how far a lane got (LOST). */
void gp_vb_cm_rails(gp_endpoint *ep, const uint8_t *bytes, size_t length);
void gp_vb_cm_lost(gp_endpoint *ep, uint32_t lane, uint32_t next_frame);
/* REACHED came. */
void gp_vb_cm_reached(gp_endpoint *ep, uint32_t lane, uint32_t epoch,
                      uint32_t next_frame);
/* ESTABLISHED on the accepting side, or the first frame, which may be earlier.
 */
void gp_vb_cm_established(gp_vb_lane *lane);
/* verbs_deliver.c: the peer's SYNC came, the lane is UP now. */
void gp_vb_cm_synced(gp_vb_lane *lane);
/* For its two halves below: frames may flow on the lane from now on. */
void gp_vb_cm_up(gp_vb_lane *lane);
/* Of a lane that is LOST: whether, and else when, it is given up. */
bool gp_vb_lane_overdue(const gp_vb_lane *lane, uint64_t now, uint64_t *until);
/* The queue pair goes, and the lane is LOST. */
void gp_vb_cm_lose(gp_vb_lane *lane, gp_status status, const char *why);
void gp_vb_cm_give_up(gp_vb_lane *lane, const char *why);

/* An event as it was before it was acknowledged. */
typedef struct gp_vb_cm_event {
    enum rdma_cm_event_type type;
    int status;
    struct rdma_cm_id *id, *listener;
    uint8_t bytes[256]; /* private data */
    size_t length;
} gp_vb_cm_event;

/* verbs_connect.c */
gp_status gp_vb_connect(gp_domain *d, const char *address, uint64_t deadline_ns,
                        gp_endpoint **out);
void gp_vb_connect_event(gp_vb_lane *lane, const gp_vb_cm_event *event);
void gp_vb_connect_timer(gp_endpoint *ep, uint64_t now);
/* The peer told its other rails: further lanes connect. */
void gp_vb_connect_rails(gp_endpoint *ep, const uint8_t *bytes, size_t length);
/* An attempt came to nothing: the next one follows after a pause. */
void gp_vb_connect_failed(gp_vb_lane *lane, const char *format, ...)
    GP_PRINTF(2, 3);
/* The same of a cause that stays: ends the endpoint when there is tcp. */
void gp_vb_connect_hopeless(gp_vb_lane *lane, const char *format, ...)
    GP_PRINTF(2, 3);
/* Tries a lane now; the endpoint is open, or this is its first lane. */
void gp_vb_connect_lane(gp_vb_lane *lane, uint64_t now);

/* verbs_accept.c */
gp_status gp_vb_listen(gp_domain *d, const char *address, char *bound,
                       size_t capacity);
void gp_vb_accept_request(gp_domain *d, const gp_vb_cm_event *event);
void gp_vb_accept_event(gp_vb_lane *lane, const gp_vb_cm_event *event);
/* A further lane did not get as far as being established. */
void gp_vb_accept_failed(gp_vb_lane *lane, const char *why);
void gp_vb_accept_timer(gp_endpoint *ep, uint64_t now);
/* The addresses of other rails, to a peer that wants several lanes. */
void gp_vb_accept_tell_rails(gp_endpoint *ep);

/* verbs_lane.c: called by verbs_cm.c and verbs_ep.c in this order. */
gp_status gp_vb_lane_create(gp_endpoint *ep, uint32_t index, gp_vb_lane **out);
/* The id is bound to a device: memory, completion queue, queue pair in INIT
 * with all receives posted. */
gp_status gp_vb_lane_prepare(gp_vb_lane *lane);
/* What this side says of the lane. */
void gp_vb_lane_describe(const gp_vb_lane *lane, gp_vb_hello *out);
/* The peer's hello has come: before rdma_accept, and on the connecting side
 * when ESTABLISHED. Checks the geometry (GP_ERR_PROTOCOL), takes the peer's
 * next_frame into account (frames before it arrived, the others' entries go
 * back to the queues), queues SYNC and all EXPOSEs. */
gp_status gp_vb_lane_meet(gp_vb_lane *lane, const gp_vb_hello *peer);
/* The queue pair is in RTS: sets what rdma_cm leaves wrong (min_rnr_timer).
 * verbs_cm.c sets SYNCING right after it (accept side: once established), and
 * only then frames may be sent. */
gp_status gp_vb_lane_open(gp_vb_lane *lane);
/* After this the queue pair is gone (rdma_destroy_qp; the id stays, unlike with
 * gp_vb_lane_drop()): no payload of ours is read, nothing of the peer is
 * written, and `expected` is final. Frames that had arrived are in `received`
 * and are delivered later, also when the endpoint is CLOSED by then. Bounded by
 * GP_VB_DRAIN_NS. In any state and more than once; without a queue pair it does
 * nothing. Does not change lane->state. */
void gp_vb_lane_fence(gp_vb_lane *lane);
/* A lane that is given up for good: the peer has all frames before this one. */
void gp_vb_lane_forget(gp_vb_lane *lane, uint32_t next_frame);
void gp_vb_lane_free(gp_vb_lane *lane);
/* What an endpoint with so many lanes pins for frames. */
size_t gp_vb_slab_size(const gp_domain *d, uint32_t lanes);
/* When all lanes are free, before their protection domains go. */
void gp_vb_slab_free(gp_endpoint *ep);

/* verbs_post.c */
gp_status gp_vb_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
                     gp_mem *mem, uint64_t cookie);
gp_status gp_vb_flush(gp_endpoint *ep); /* verbs_short.c */
/* A lane met its peer: what all brief frames on it have in common. */
void gp_vb_short_prepare(gp_vb_lane *lane);
/* Sends what resources allow; called from flush() and progress(). */
void gp_vb_send(gp_endpoint *ep);
/* Queues a record of our own, before what waits. GP_AGAIN never. */
gp_status gp_vb_note(gp_endpoint *ep, gp_vb_record kind, uint8_t flags,
                     const void *bytes, size_t length);
void gp_vb_credit(gp_vb_lane *lane); /* tells receives when it is time to */
/* Queues a note for this queue pair only. */
gp_status gp_vb_lane_note(gp_vb_lane *lane, gp_vb_record kind, uint8_t flags,
                          const void *bytes, size_t length);
/* A token is withdrawn: forgets EXPOSEs that have not left. */
void gp_vb_unnote(gp_endpoint *ep, uint32_t token);
/* Memory is deregistered: payloads that wait in it go another way. */
void gp_vb_entries_leave(gp_endpoint *ep, const gp_vb_mem *mem);
/* A lane met its peer: what regions it must know of, and SYNC. */
gp_status gp_vb_greet(gp_vb_lane *lane);
/* A request that ends when all before it have ended, failed ones too. */
bool gp_vb_post_drain(gp_vb_lane *lane);
#define GP_VB_INDEX_MASK ((1u << GP_VB_INDEX_BITS) - 1)
static inline uint64_t
gp_vb_wr_id(const gp_vb_lane *lane, gp_vb_wr kind, uint32_t index)
{
    return (uint64_t)kind << 60 |
           (uint64_t)lane->slot << (GP_VB_GENERATION_BITS + GP_VB_INDEX_BITS) |
           (uint64_t)lane->generation << GP_VB_INDEX_BITS |
           (index & GP_VB_INDEX_MASK);
}
static inline gp_vb_wr
gp_vb_wr_kind(uint64_t wr_id)
{
    return (gp_vb_wr)(wr_id >> 60);
}
static inline uint32_t
gp_vb_wr_index(uint64_t wr_id)
{
    return (uint32_t)wr_id & GP_VB_INDEX_MASK;
}
/* The lane that a completion is for, or NULL: its queue pair is gone. */
gp_vb_lane *gp_vb_wr_lane(const gp_domain *d, uint64_t wr_id);
/* The position in the send queue of a request that has not been retired. */
static inline uint32_t
gp_vb_wr_position(const gp_vb_lane *lane, uint64_t wr_id)
{
    return lane->sq_retired +
           ((gp_vb_wr_index(wr_id) - lane->sq_retired) & GP_VB_INDEX_MASK);
}
/* Whether frames can be sent on it. */
static inline bool
gp_vb_lane_usable(const gp_vb_lane *lane)
{
    return lane && lane->qp && gp_list_empty(&lane->broken) &&
           (lane->state == GP_VB_LANE_SYNCING || lane->state == GP_VB_LANE_UP);
}
void gp_vb_retire(gp_vb_lane *lane, uint32_t position); /* a completion */
/* Entries of a fenced lane: frames before `next` are done, others wait again.
 */
void gp_vb_requeue(gp_vb_lane *lane, uint32_t next);
/* A lane is lost: what it was assigned and has not begun may go another way. */
void gp_vb_unassign(gp_vb_lane *lane);
void gp_vb_report_sent(gp_endpoint *ep, gp_vb_out *out);
/* Control messages and notes that wait, or whose frame may be lost. BYE, a
 * note, leaves after all control messages. */
bool gp_vb_has_unsent(const gp_endpoint *ep);
/* The owner closes: data that waits is dropped. True when a device may still
 * read payloads: then those are free only after a fence of all lanes. */
bool gp_vb_drop_data(gp_endpoint *ep);
/* Asks whether the peer's host is there: a completion answers, with an error
 * when the retries are used up. */
void gp_vb_probe(gp_vb_lane *lane);
/* After gp_vb_slab_free(). */
void gp_vb_entries_free(gp_endpoint *ep);

/* verbs_recv.c */
/* Takes completions of all queues; returns how many, or a negative status. */
int gp_vb_poll(gp_domain *d);
/* One batch of one queue; lanes that broke are only noted. */
int gp_vb_poll_batch(gp_vb_cq *cq);
/* Nothing waits to leave on it, and nobody for a WRITE. */
bool gp_vb_lane_rests(const gp_vb_lane *lane);
/* A lane's buffer is empty again: gives it to the queue pair. */
gp_status gp_vb_receive_post(gp_vb_lane *lane, uint32_t buffer);
/* The same for a buffer whose frame is done with; failing, the lane breaks. */
void gp_vb_receive_again(gp_vb_received *f);
/* Notes that a lane, or with `fatal` its endpoint, is to be given up. */
void gp_vb_break(gp_vb_lane *lane, bool fatal, gp_status status,
                 const char *format, ...) GP_PRINTF(4, 5);

/* verbs_deliver.c */
/* A fenced lane's undelivered frames leave its buffers; false when there is no
 * memory for that. */
bool gp_vb_received_keep(gp_vb_lane *lane);
/* A lane ends: nothing it received stays. */
void gp_vb_received_drop(gp_vb_lane *lane);
/* Delivers received frames of an endpoint as events, and says that their
 * buffers are free again. */
void gp_vb_deliver(gp_endpoint *ep, gp_vb_out *out);
bool gp_vb_has_received(const gp_endpoint *ep);
/* Nobody is told any more: buffers go back, so that the peer can say what it
 * has posted. */
void gp_vb_discard(gp_endpoint *ep);
/* Start of progress(), before connections are looked at: what the last events
 * pointed to may be overwritten. */
void gp_vb_renew(gp_domain *d);

/* verbs_mem.c */
gp_status gp_vb_mem_reg(gp_domain *d, void *base, size_t bytes, gp_mem **out);
void gp_vb_mem_dereg(gp_mem *mem);
/* Local key for sending from `mem` in a protection domain; registers when it
 * is the first time there. */
gp_status gp_vb_mem_key(gp_vb_mem *mem, const gp_vb_pd *pd, uint32_t *lkey);
/* With windows. */
bool gp_vb_opens_parts(const gp_endpoint *ep);
gp_status gp_vb_expose(gp_endpoint *ep, gp_mem *mem, size_t offset,
                       size_t bytes, uint32_t flags, uint32_t *token);
void gp_vb_unexpose(gp_endpoint *ep, uint32_t token);
/* Queues EXPOSE of all live regions, for a lane that is new. */
gp_status gp_vb_expose_all(gp_vb_lane *lane);
/* An EXPOSE is about to leave: its bytes (24), and the request to bind its
 * window, to be posted before, when wr->opcode becomes IBV_WR_BIND_MW. False:
 * withdrawn, or cannot be registered there: not told, data comes by value. */
bool gp_vb_expose_fill(gp_vb_lane *lane, uint32_t token, uint8_t *bytes,
                       struct ibv_send_wr *wr);
/* The registered memory around a range, or NULL. */
gp_vb_mem *gp_vb_mem_find(gp_domain *d, const void *base, uint64_t bytes);
/* Memory that a device refused to take: GP_ERR_NO_MEMORY names the limit. */
gp_status gp_vb_memory_error(const gp_domain *d, int error, size_t bytes);
/* A piece of the endpoint's bounce buffer until the lane's request `position`
 * has ended: *room bytes, or NULL when all are in use. */
uint8_t *gp_vb_bounce_take(gp_vb_lane *lane, uint32_t position, size_t *room,
                           uint32_t *lkey);
/* Requests up to `position` have ended; `all` of them: the lane is fenced. */
void gp_vb_bounce_give(gp_vb_lane *lane, uint32_t position, bool all);
void gp_vb_bounce_free(gp_endpoint *ep);
/* EXPOSE and UNEXPOSE from the peer. */
gp_status gp_vb_remote_set(gp_vb_lane *lane, uint8_t flags,
                           const uint8_t *bytes, size_t length);
gp_status gp_vb_remote_clear(gp_endpoint *ep, const uint8_t *bytes,
                             size_t length);
/* The lane's next queue pair has other keys, which the peer will tell. */
void gp_vb_remote_leave(gp_vb_lane *lane);
/* The region a data message names: NULL when the peer never told of it or the
 * range is outside (then it goes by value and the peer judges). Which lanes
 * can write there is in `lanes`. */
const gp_vb_remote *gp_vb_remote_find(const gp_endpoint *ep, uint32_t token,
                                      uint64_t offset, uint64_t length,
                                      bool *withdrawn);
/* Withdraws all regions, both ways: in ep_close() and when an endpoint failed,
 * before its protection domains go. May be repeated. A gp_mem outlives its
 * domain: closing leaves mr NULL, mem->domain NULL and the link removed. */
void gp_vb_mem_close(gp_endpoint *ep);
/* Lets go of keys that were replaced, when what was sent with them is done. */
void gp_vb_mem_tidy(gp_endpoint *ep);
/* Forgets all keys of a protection domain that is about to go. */
void gp_vb_mem_leave(gp_domain *d, const gp_vb_pd *pd);
/* The domain closes; its mems live on until mem_dereg(). */
void gp_vb_mem_detach(gp_domain *d);
/* A fenced lane's windows, before its queue pair is destroyed. */
void gp_vb_windows_drop(gp_vb_lane *lane);

/* verbs_error.c */
/* "the peer's device did not answer (transport retry counter exceeded)", then a
 * hint when there is a likely cause; returns the status to end with. */
gp_status gp_vb_explain(const gp_vb_lane *lane, const struct ibv_wc *wc,
                        char *text, size_t capacity);

#endif
