/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coll_int.h - the inside of collectives.
 *
 * An operation is a plan: hops, each a range of memory that goes to or comes
 * from one member, in pieces. A hop may wait for another one, for all of it or
 * as far as the piece reaches: so what has arrived and been reduced leaves for
 * the next member while the rest still arrives. The order of reductions is
 * fixed by the plan, never by arrival.
 *
 * Payloads land in slots that the receiver granted for one group and member, or
 * straight in the memory they are for, if the receiver has said where (INTO).
 * A group runs one collective at a time, and a member sends those of the next
 * only after all of this one; so whatever sits in slots is for the operation
 * that is awaited or for later ones, and cannot keep an earlier one out.
 *
 * Everything is touched only by the thread that holds the driver, but for what
 * is marked as shared.
 */
#ifndef GP_COLL_INT_H
#define GP_COLL_INT_H

#include <gradpush/codec.h>
#include <gradpush/collective.h>

#include "collective/mesh.h"
#include "wire/coll.h"
#include "worker/worker_int.h"

#define GP_LANDING_SMALL  16u /* slots for messages that fit into one */
#define GP_LANDING_SLOTS  64u
#define GP_SLOT_MOST      32768u
#define GP_SLOT_LEAST     4096u       /* both are powers of two */
#define GP_LANDING_BUDGET (32u << 20) /* of a group, over its members */
#define GP_PIECE_SLOTS    8u          /* of an ordinary message */
#define GP_MESSAGE_SLOTS  16u         /* of the longest */
#define GP_INTO_LEAST     65536u      /* shorter hops go through slots */
#define GP_DIRECT_LEAST   262144u
#define GP_DIRECT_TWO     524288u /* of two members: nobody passes it on */
#define GP_RETURN_AT      8u      /* small slots that are given back at once */
#define GP_STRANGERS_MAX  64u
#define GP_STALL_NS       1000000000u
#define GP_UNIT           4096u /* offsets of pieces are multiples */

typedef enum gp_mate_state {
    MATE_ABSENT,
    MATE_CONNECTING,
    MATE_HELLO,
    MATE_READY,
    MATE_LEFT, /* in order; what it sent still counts */
    MATE_LOST
} gp_mate_state;

/* Another worker, or a stranger that may become one. */
typedef struct gp_mate gp_mate;
struct gp_mate {
    gp_list link; /* of strangers */
    gp_mesh *mesh;
    uint32_t rank; /* UINT32_MAX: a stranger */
    gp_mate_state state;
    worker_link *via;
    gp_endpoint *ep;
    uint8_t nonce[GP_NONCE_BYTES];
    uint64_t deadline_ns; /* of connecting and of the handshake */
    bool flush, dead, closed;
    bool introduced; /* it knows, or is about to, who this is */
    gp_mate *heir;   /* what became of a stranger */
    uint32_t *token; /* by number of a registered buffer; 0: not exposed */
    uint32_t tokens;
    char address[GP_ADDRESS_MAX];
    const gp_transport_ops *other; /* when `via` leads nowhere, or NULL */
    char other_address[GP_ADDRESS_MAX];
    char identity[128];
};

/* A message in slots that nobody has taken yet. */
typedef struct gp_arrival {
    gp_msg msg;
    const void *payload;
} gp_arrival;

/* What a group shares with one of its members. Aligned: its address and the
 * number of a piece make a cookie. */
typedef struct gp_member {
    gp_group *group;
    gp_mate *mate;
    uint32_t number; /* group rank */
    /* in */
    uint8_t *memory; /* landing slots, and perhaps pieces to send from */
    size_t bytes;
    gp_mem *mem;
    uint32_t token;    /* of the slots; 0: none granted */
    uint64_t held;     /* first slots of arrivals */
    uint64_t occupied; /* all their slots */
    uint64_t freed;    /* to be given back */
    gp_arrival *arrival;
    /* out */
    uint32_t region; /* the peer's slots; 0: not granted yet */
    uint64_t slot_bytes;
    uint64_t free;
    scratch staging;
    gp_mem *staging_mem;
    uint32_t sending;     /* payloads of the group's memory that are not SENT */
    uint32_t outstanding; /* all payloads that are not */
    uint64_t into_seq;    /* where the peer said its memory is, and for what */
    uint32_t into_token;
    uint64_t into_base;
    uint32_t exposed; /* token of this side's memory for the operation */
    bool into_told;   /* ... of which the peer was told */
    uint32_t ticket_count;
    gp_list tickets; /* gp_recv() calls of the peer that nobody has answered */
} gp_member;

#define GP_MEMBER_ALIGN 128u
#define GP_COOKIE_GROUP 64u /* instead of a piece: the group's collective */
#define GP_COOKIE_POINT 65u /* the address is that of a send */

typedef enum gp_hop_kind { HOP_SEND, HOP_RECEIVE, HOP_LOCAL } gp_hop_kind;

typedef enum gp_action {
    ACT_PLACE, /* to = payload */
    ACT_REDUCE /* to = payload with other, or other with payload */
} gp_action;

typedef struct gp_hop {
    uint8_t kind, action;
    bool other_first; /* the order of operands */
    bool scaled;      /* the last reduction of a mean */
    bool whole;       /* waits for all of `after`, not as far as the piece */
    bool coded; /* payloads are encoded, and each piece counts as a unit */
    bool again; /* coded: of sums, as their shard has encoded them */
    bool complete;
    bool direct;   /* may go straight into the receiver's memory */
    bool staged;   /* send: from a copy, since the source will be overwritten */
    uint32_t peer; /* group rank */
    uint32_t tag;  /* tells hops between two members apart */
    int32_t after; /* hop, or -1 */
    const uint8_t *from; /* send: source. others: the other operand */
    const uint8_t *own;  /* local: instead of what arrives */
    uint8_t *to;
    uint64_t place; /* send: offset in the peer's exposed memory */
    uint64_t bytes;
    uint64_t first;   /* coded: piece */
    uint64_t done;    /* posted, or arrived without gaps and processed */
    uint64_t arrived; /* bits of direct pieces beyond */
} gp_hop;

typedef enum gp_algorithm {
    ALGORITHM_AUTO = 0,
    ALGORITHM_DIRECT = 1,
    ALGORITHM_HALVING = 2,
    ALGORITHM_RING = 3,
    ALGORITHM_SHARDS = 4,
    /* Not a choice: groups with a codec. */
    ALGORITHM_CODED = 5,
    ALGORITHM_CODED_SHARDS = 6
} gp_algorithm;

/* What all members must have called alike. */
typedef struct gp_call {
    uint8_t kind; /* gp_coll_kind */
    uint8_t dtype;
    uint8_t reduction;
    uint32_t root;
    uint64_t count; /* elements, or bytes of a part */
    uint64_t key;
} gp_call;

struct gp_collective {
    gp_list
        link; /* mesh->submitted, then the group's queue or points; unused */
    gp_list every;
    gp_group *group;
    gp_request *request;
    gp_call call;
    uint64_t seq;
    uint32_t tag; /* of send and receive */
    const uint8_t *in;
    uint8_t *out;
    uint64_t in_bytes, out_bytes; /* of the buffers */
    gp_algorithm algorithm;
    gp_hop own;  /* of send and receive */
    gp_hop *hop; /* of a collective: the group's */
    uint32_t hops, first_open;
    uint32_t incomplete;
    uint64_t stamp_ns;  /* when something happened last */
    uint64_t ending_ns; /* failed; until when payloads may leave; 0: not */
    gp_mem *out_mem[WORKER_LINKS]; /* of links without registration */
    uint32_t sending;              /* send: payloads not SENT */
    bool matched;                  /* send: the peer has called gp_recv() */
    bool told;                     /* receive: the peer was told */
    bool started, invited;
    uint64_t ticket; /* send, receive: its number */
    uint32_t token;  /* of the peer's memory; receive: of this side's */
    uint64_t base;
    uint64_t sink;    /* where tokens of a barrier go */
    gp_status status; /* what it ends with */
};

typedef struct gp_coded gp_coded;

struct gp_group {
    gp_list link; /* mesh->groups */
    gp_mesh *mesh;
    uint64_t id;
    char name[64];
    uint32_t rank, size;
    gp_member **member; /* by group rank; NULL: itself, or not met */
    uint32_t *ranks;    /* workers by group rank */
    int32_t *number;    /* group rank by worker, or -1 */
    gp_algorithm algorithm;
    uint64_t slot_bytes;
    uint64_t next_seq; /* shared, under mesh->lock */
    gp_list queue;     /* collectives, the first one under way */
    gp_list points;    /* sends and receives under way */
    gp_list unused;    /* shared, under mesh->lock */
    gp_list every;     /* likewise: all there are, to be freed */
    gp_hop *hop;
    uint32_t hop_capacity;
    uint8_t *temporary;
    size_t temporary_bytes;
    uint64_t tickets; /* numbers of gp_recv() calls */
    gp_coded *coded;  /* with a codec */
    gp_call last;     /* collective that has ended, for who is still in it */
    uint64_t last_signature;
    uint64_t ended; /* collectives that have */
    bool dirty, failed, closing;
    atomic_uint sending; /* shared: payloads that are not SENT */
    atomic_int fault;    /* shared; the text is written before it is set */
    char fault_text[GP_TEXT_MAX];
};

struct gp_mesh {
    gp_worker *worker;
    gp_mate **mate; /* by rank; NULL: not met */
    char *address;  /* by rank, rows of GP_ADDRESS_MAX; under store_lock */
    gp_list strangers, graves;
    uint32_t stranger_count;
    gp_log_budget log;
    gp_list groups;
    uint64_t wake_ns; /* when to look at deadlines */
    bool left;
    /* Shared. */
    pthread_mutex_t lock;
    gp_list submitted;
    atomic_bool news;    /* `submitted` is not empty */
    atomic_uint sending; /* payloads that are not SENT, over all */
    pthread_mutex_t store_lock;
    gp_store *store;
    gp_store_server *store_server;
    uint64_t *made; /* ids of groups, for their generations */
    size_t made_count;
};

/* mesh.c */
void gp_mesh_init(gp_mesh *mesh, gp_worker *w);
gp_status gp_mesh_open(gp_worker *w, gp_mesh **out);
gp_status gp_mesh_find(gp_mesh *mesh, uint32_t rank, uint64_t deadline);
const char *gp_mate_name(const gp_mesh *mesh, uint32_t rank, char *out,
                         size_t capacity);
gp_status gp_mate_post(gp_mate *mate, gp_msg *msg, const void *payload,
                       gp_mem *mem, uint64_t cookie);
/* The worker of that rank: connects to it if that is this side's part. */
gp_mate *gp_mate_meet(gp_mesh *mesh, uint32_t rank);
/* Whether messages may go to it; false after failing the group if never. */
bool gp_mate_usable(gp_group *g, gp_mate *mate);

/* mate.c: connections and what comes over them */
void gp_mesh_expire(gp_mesh *mesh, uint64_t now);
void gp_mesh_wake_at(gp_mesh *mesh, uint64_t at);
void gp_mesh_bury(gp_mesh *mesh);
/* Closes the connection; what groups know of it goes first. */
void gp_mate_drop(gp_mate *mate, gp_mate_state state);
void gp_mate_free(gp_mate *mate);
void gp_mate_lose(gp_mate *mate, gp_status status, const char *format, ...)
    GP_PRINTF(3, 4);

/* group.c */
/* One that nobody else knows yet. */
gp_status gp_group_new(gp_worker *w, const gp_group_options *o, gp_group **out);
gp_group *gp_group_find(gp_mesh *mesh, uint64_t id);
gp_member *gp_group_member(gp_group *g, uint32_t number);
void gp_group_fail(gp_group *g, gp_status status, bool tell, const char *format,
                   ...) GP_PRINTF(4, 5);
/* Sends one member what the group has failed of. */
void gp_group_tell(gp_group *g, gp_mate *mate);
void gp_group_free(gp_group *g);
bool gp_group_uses(const gp_group *g, const void *base, size_t bytes);
/* Nothing is sent to a worker any more, nor reported as sent. */
void gp_group_unsend(gp_group *g, const gp_mate *mate);
/* Forgets what has come from it. */
void gp_group_detach(gp_group *g, const gp_mate *mate);
/* After deadlines. */
void gp_group_expire(gp_group *g, uint64_t now);

/* landing.c */
gp_status gp_landing_open(gp_member *m);
void gp_landing_close(gp_member *m);
void gp_landing_grant(gp_member *m, const gp_msg *msg);
/* Data arrived. */
void gp_landing_event(gp_member *m, const gp_event *event);
/* The arrival of an operation's hop at that offset, or NULL. */
gp_arrival *gp_landing_take(gp_member *m, uint64_t seq, uint32_t tag,
                            uint64_t offset);
void gp_landing_release(gp_member *m, gp_arrival *a);
void gp_landing_return(gp_member *m);
/* The slots for a payload, or -1. */
int gp_landing_reserve(gp_member *m, uint64_t bytes);
void gp_landing_unreserve(gp_member *m, int slot, uint64_t bytes);
/* Whether the device is not told of users' memory for this member: beside slots
 * and encoded pieces, which are two regions where it cannot open a part of one,
 * that would be one too many. */
bool gp_member_copies(const gp_member *m);
int gp_staging_take(gp_member *m, uint64_t bytes);
void gp_staging_give(gp_member *m, int piece);

/* plan.c: what an operation is made of */
gp_status gp_plan_make(gp_collective *c);

/* choose.c */
gp_algorithm gp_collective_choose(const gp_group *g, uint64_t bytes);
gp_status gp_algorithm_parse(const char *text, gp_algorithm *out);
const char *gp_algorithm_name(gp_algorithm a);

/* exec.c */
int gp_group_turn(gp_group *g);
void gp_exec_sent(gp_member *m, uint64_t number);

void gp_exec_into(gp_member *m, const gp_msg *msg);
void gp_exec_direct(gp_member *m, const gp_msg *msg);
void gp_exec_end(gp_collective *c, gp_status status);
/* Posts the next `length` bytes of a hop. */
gp_status gp_exec_post(gp_collective *c, gp_hop *hop, gp_member *m,
                       uint64_t length, bool direct);
int gp_exec_hop(gp_collective *c, gp_hop *hop);

/* check.c: whether all have called the same */
static inline gp_collective *
gp_group_active(const gp_group *g)
{
    return gp_list_empty(&g->queue)
               ? NULL
               : GP_CONTAINER_OF(g->queue.next, gp_collective, link);
}
uint64_t gp_check_signature(const gp_collective *c);
/* Whether a piece is of what this worker has called; else fails the group. */
bool gp_check_fits(const gp_collective *c, const gp_hop *hop,
                   const gp_member *m, const gp_msg *msg);
/* Whether a piece is of an operation that has ended here; fails the group. */
bool gp_check_is_stale(const gp_member *m, const gp_msg *msg);
/* After an operation: none of it may be left. */
void gp_check_leftovers(gp_group *g);
/* Says what this worker waits in, so that others can tell a mistake. */
void gp_check_ask(const gp_collective *c);
void gp_check_answer(gp_member *m, const gp_msg *msg);

/* points.c: send and receive */
#define GP_POINT_BIT (UINT64_C(1) << 63) /* in numbers of operations */
int gp_points_turn(gp_group *g);
gp_collective *gp_points_find(gp_group *g, const gp_member *m, uint64_t seq);
void gp_points_ticket(gp_member *m, const gp_msg *msg);
void gp_points_clear(gp_member *m);

/* memory.c: users' memory, as links know it */
/* Pieces that go straight into memory are multiples of this, so that a hop has
 * at most 64 of them. */
static inline uint64_t
gp_direct_unit(const gp_group *g, uint64_t bytes)
{
    uint64_t least = g->size == 2 ? GP_DIRECT_TWO : GP_DIRECT_LEAST;

    return GP_MAX((bytes / 64 + least - 1) / least * least, least);
}
/* What a payload is registered as, or NULL. */
gp_mem *gp_memory_of(const gp_mate *mate, const void *from, uint64_t bytes);
/* Lets a worker write into an operation's output; false: it cannot. */
bool gp_memory_expose(gp_collective *c, gp_mate *mate, uint32_t *token,
                      uint64_t *base);
void gp_memory_withdraw(gp_mate *mate, uint32_t *token);
/* The operation ends. */
void gp_memory_forget(gp_collective *c);

/* coded.c: all-reduce with a codec */
gp_status gp_coded_open(const char *text, int feedback, uint64_t most,
                        gp_coded **out);
void gp_coded_close(gp_coded *d);
void gp_coded_reset(gp_coded *d);
void gp_coded_skip(gp_coded *d, uint64_t calls);
const char *gp_coded_name(const gp_coded *d);
/* Encodes this member's vector. */
gp_status gp_coded_begin(gp_collective *c);
void gp_coded_end(gp_collective *c);
uint64_t gp_coded_pieces(const gp_collective *c);
uint64_t gp_coded_elements(const gp_collective *c, uint64_t piece);
/* What this member sends of a piece: of its own vector, or `again` of the sum
 * that it is the shard of. */
const uint8_t *gp_coded_message(const gp_collective *c, bool again,
                                uint64_t piece, uint64_t *length);
/* Whether members are shards in this call: it begins so then. */
bool gp_coded_has_shards(const gp_collective *c);
/* The first piece that a member is the shard of. */
uint64_t gp_coded_first(const gp_collective *c, uint32_t rank);
/* A piece of the sum, from its shard. GP_ERR_CORRUPT. */
gp_status gp_coded_place(gp_collective *c, uint32_t rank, uint64_t piece,
                         const void *message, uint64_t length);
/* Adds a piece of a member's; in the order of ranks. GP_ERR_CORRUPT. */
gp_status gp_coded_add(gp_collective *c, uint32_t rank, uint64_t piece,
                       const void *message, uint64_t length);
/* The index-th array that is kept: its number of elements, 0 beyond the last.
 */
size_t gp_coded_state(gp_coded *d, size_t index, uint64_t *key,
                      const char **name, float **values);
gp_status gp_coded_load(gp_coded *d, uint64_t key, const char *name,
                        const float *values, uint64_t count);

/* operation.c */
void gp_collective_describe(const gp_call *call, char *out, size_t capacity);
void gp_collective_free(gp_collective *c);

/* reduce.c */
void gp_reduce(gp_reduction reduction, gp_dtype dtype, void *out, const void *a,
               const void *b, size_t count, float scale);

#endif
