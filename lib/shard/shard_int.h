/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_int.h - the inside of a shard.
 *
 * Life of a push, per chunk and worker (gp_entry): it lands in a slot and is
 * `pending`; it is folded when its step is the chunk's version and all lower
 * ranks are folded (rank order makes sums independent of arrival); then its
 * slot goes back as a credit. What the worker is owed, an ACK or a RESULT, is
 * the entry's `answer`, which moves to the peer's backlog when it is due. A
 * push that cannot be folded yet is acknowledged at once with GP_PENDING, so
 * that the worker's request ends, and again when it is folded, so that the
 * worker may push the chunk's next step.
 *
 * That is sync and local. In the other modes pushes are folded as they arrive
 * (shard_arrive.c), and results are sent from copies (shard_shot.c), so that a
 * slow receiver does not hold up those who push.
 *
 * Whatever results are sent from lies in one memory, the arena: so a device
 * that moves them needs to know of one range, and each worker's landing slots.
 */
#ifndef GP_SHARD_INT_H
#define GP_SHARD_INT_H

#include <gradpush/codec.h>
#include <gradpush/worker.h>

#include "base/list.h"
#include "shard/codec_set.h"
#include "shard/lag.h"
#include "shard/map.h"
#include "shard/mode.h"
#include "shard/row_table.h"
#include "shard/shard.h"
#include "shard/updater.h"
#include "wire/proto.h"
#include "wire/slots.h"

#define SHARD_LINKS       3
#define SHARD_EVENTS      32
#define SHARD_REPORT_NS   500000000u  /* how often workers hear who is late */
#define SHARD_LOG_NS      4000000000u /* ... and how often it is logged */
#define SHARD_RELIEF_NS   5000000u
#define SHARD_FLUSH_BYTES 32768u  /* data from here on leaves at once */
#define SHARD_SHOTS       4u      /* parameters on their way, at most */
#define SHARD_UNSENT      524288u /* bytes that no answer passes any more */
#define SHARD_PATIENCE    15u     /* answers that may pass the oldest one */

typedef enum peer_state {
    PEER_STRANGER, /* connected, has not proven anything */
    PEER_JOINED,   /* proven; tensors not agreed */
    PEER_READY,    /* slots granted */
    PEER_LEFT      /* said goodbye */
} peer_state;

typedef struct gp_device_slots gp_device_slots; /* shard_device_slots.c */

typedef struct gp_peer {
    gp_list link;    /* in gp_shard.peers */
    gp_list backlog; /* entries whose answers are due, by priority ... */
    gp_list ages;    /* ... and those of them that are results, by age */
    uint32_t passed; /* results that went before the oldest, in a row */
    uint64_t unsent; /* bytes of results posted and not SENT */
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_endpoint *ep;
    peer_state state;
    uint64_t deadline; /* stranger: until when it must say hello */
    uint8_t nonce[GP_NONCE_BYTES];
    uint32_t rank, incarnation;
    char identity[128];
    uint8_t *slots;
    void *slot_memory; /* that the slots lie in */
    gp_mem *slot_mem;
    uint32_t region;
    gp_device_slots *landing; /* the same slots on a device; or NULL */
    uint64_t free_credits;    /* slots to hand back with the next message */
    uint64_t idle_credits;    /* ... for which no message is sent */
    uint64_t held;            /* slots that hold a push; bit set */
    uint64_t full_since_ns;   /* since when a large push finds no room, or 0 */
    int link_number;          /* in gp_shard.link */
    bool local; /* the worker of this process, under the same driver */
    /* Pushes of tensors whose pushes are added as they arrive; and after how
     * many of them it rests. */
    uint64_t pushed, rest_after;
    bool rests;
    bool member; /* elastic: it takes part in steps */
    bool asks;   /* ... and is at the beginning of one */
    bool late;   /* ... and was let in when the job had begun */
    /* What ssp adds to the number of its pushes, which it counts from its own
     * beginning. The same for all chunks of all shards, or workers could wait
     * for each other; shard 0 chooses it. */
    uint64_t ahead;
    bool placed; /* ... and this shard knows it */
    bool waits;  /* it pushes nothing before it is answered */
    bool holds;  /* it reads what is kept, which must not change meanwhile */
    bool flush;
    bool dead;        /* waits to be freed at the end of the turn */
    uint32_t reading; /* pushes here, and questions, that a device works on */
} gp_peer;

typedef enum answer_kind {
    ANSWER_NONE,
    ANSWER_ACK,
    ANSWER_RESULT,
    ANSWER_AGREE /* to a proposal; not due before all have made theirs */
} answer_kind;

typedef struct gp_entry {
    gp_list due; /* in the peer's backlog */
    gp_list age; /* in gp_peer.ages */
    const void *payload;
    void *stash; /* the payload's copy when its slot was needed */
    size_t length;
    gp_msg msg;         /* of the pending push */
    uint64_t next_step; /* pushes below it are applied: exactly once */
    uint64_t first;     /* number of its worker's first push */
    uint64_t cookie, aux;
    uint64_t answer_version; /* RESULT is due at this version */
    answer_kind answer;
    int32_t priority; /* of the answer */
    uint32_t posted;  /* results not SENT ... */
    uint64_t unsent;  /* ... and their bytes */
    int codec;        /* of the pending push: which alternative */
    float proposal;
    bool pending;
    bool init_answer;
    uint32_t root;         /* ... of it, and 1; 0: not known */
    uint32_t in_flight;    /* results handed to the transport, not yet SENT */
    double weight;         /* of the pending push */
    uint32_t rows, wanted; /* of one with rows: how many of both */
    /* When pushes are folded as they arrive: */
    uint64_t joined;  /* first version with its last push in it */
    uint64_t given;   /* version that its worker was given last */
    uint64_t ahead;   /* of what its process has counted; see its peer */
    bool fresh;       /* it has come to a job under way */
    uint64_t arrival; /* order of those that wait */
    uint16_t shots[SHARD_SHOTS]; /* in_flight, by what they are sent from */
    struct gp_chunk *chunk;
    /* Of a chunk on a device: the push is where kernels can read it, as fp32
     * if the host has decoded it; it is being added; it lies in the device's
     * memory, where nobody but kernels reads it; the peer whose slots it is
     * read from. */
    bool prepared, decoded, queued, landed;
    gp_peer *reader;
} gp_entry;

/* A copy of the parameters, as it is sent. */
typedef struct gp_shot {
    void *bytes;
    size_t length;
    uint64_t version;
    uint32_t refs; /* results under way from it */
    float shared;  /* what its decoders must know */
    uint32_t crc;
    bool valid, crc_valid;
    bool init; /* in the tensor's own type, for a broadcast */
} gp_shot;

typedef struct norm_group norm_group;
typedef struct gp_row_store gp_row_store; /* shard_rows.h */
/* shard_device.h; NULL where it is in the host's memory. */
typedef struct gp_shard_device gp_shard_device;
typedef struct gp_tensor_device gp_tensor_device;
typedef struct gp_chunk_device gp_chunk_device;

typedef struct shard_tensor {
    gp_tensor_spec *spec;
    gp_mode mode;
    bool arrives;   /* pushes are folded as they arrive */
    uint32_t shots; /* of each of its chunks; 0 unless they are */
    gp_codec_set push;
    int dense; /* the alternative whose payloads are fp32 as they lie, or -1 */
    uint32_t folds;    /* bit i: alternative i folds many in one pass */
    uint32_t proposes; /* bit i: it needs a number that all agree on */
    int summed;        /* the alternative that is the pull pipeline as well, and
                          whose messages are summed undecoded, or -1 */
    gp_pipeline *pull, *native;
    gp_updater updater;
    bool pull_dense;                 /* payload bytes are fp32 as they lie */
    gp_row_codec row_push, row_pull; /* of rows */
    gp_tensor_device *device;
} shard_tensor;

typedef struct gp_chunk {
    const gp_chunk_info *info;
    shard_tensor *tensor;
    uint32_t number;
    uint32_t next_rank; /* whose push is folded next */
    uint64_t version;   /* completed steps, from the first one's number */
    uint32_t sending;   /* results of this version not yet SENT */
    bool scaled;        /* the updater's scale is in the sum already */
    bool summed;        /* the sum is in `encoded`, and nowhere else */
    bool initialized;
    uint8_t stage; /* of what its norms wait for (shard_norm.c) */
    double parameter_norm, direction_norm; /* of its tensor, this step */
    bool returned; /* its parameters came from a job before, exactly */
    float *value;  /* result of this version, or parameters */
    float *sum;    /* being folded; may be `value` */
    float *spare;  /* second buffer, for while a result is still wanted */
    float *array[GP_UPDATER_ARRAYS]; /* of the updater; NULL: not there */
    float *history;                  /* of differences: what they add up to */
    uint64_t restored; /* elements of it that came from before this job */
    float shared;      /* what the workers agreed on last ... */
    uint64_t agreed;   /* ... which was for the step before this; 0: never */
    void *initial; /* what a broadcast gave, where `value` is something else */
    size_t initial_length; /* 0: not there yet */
    gp_entry *initializer; /* a broadcast that waits for results to leave */
    float *lent; /* the result, when formed in memory that a worker has lent */
    bool local_due; /* the local worker's answer waits for the others' */
    bool spent;     /* the result was lent, and is gone */
    const void *slot_payload; /* a push that is the result, in its slot */
    gp_msg slot_msg;
    void *encoded; /* value through the pull pipeline */
    size_t encoded_length;
    bool encoded_valid;
    bool encoded_is_sum;     /* the workers' messages, summed */
    float encoded_shared;    /* what its decoders must know */
    gp_codec_memory *memory; /* of the pull pipeline, or NULL */
    uint32_t crc; /* of the payload sent, computed once for all workers */
    bool crc_valid;
    uint64_t since_ns; /* first push of the step that is not complete */
    uint32_t folded;   /* pushes in the sum, where they come by rank */
    double weight;     /* of what is in the sum */
    bool weighted;     /* it is not the number of pushes */
    uint32_t arrived;  /* pushes in the sum, where they come in any order */
    uint64_t slowest;  /* ssp: steps that every worker has pushed */
    gp_front *front;   /* of the latest steps, by their number */
    uint32_t fronts;
    gp_shot *shot;
    void *shot_bytes;   /* in the arena, of all of them */
    gp_entry *entry;    /* one per worker */
    gp_row_store *rows; /* of a tensor of rows; NULL: dense */
    gp_chunk_device *device;
} gp_chunk;

typedef struct shard_link {
    const gp_transport_ops *ops;
    gp_domain *domain;
    bool local;    /* for the worker of this process */
    bool checksum; /* of results: formed here, once for all workers */
    uint32_t idle; /* polls in a row that gave nothing */
} shard_link;

struct gp_shard {
    shard_link link[SHARD_LINKS];
    int links;
    gp_shard_device *device;
    char address[GP_ADDRESS_MAX];
    char token[256];
    char job_name[128];
    uint64_t job;
    int64_t index, shards, size; /* -1 until known */
    int64_t told; /* workers, by its own configuration; -1: not said */
    uint32_t epoch;
    uint64_t chunk_bytes; /* a setting: what an ordinary push is, at least */
    uint32_t window;      /* how many large pushes a peer's slots hold */
    uint32_t slots;       /* of each peer, in which pushes take runs */
    uint32_t most_slots;  /* that a push can take */
    double handshake_timeout;
    gp_list peers;
    gp_list graves;   /* dropped in this turn; events may still name them */
    gp_peer **worker; /* by rank; NULL: not there */
    bool *left;       /* by rank */
    uint32_t joined, departed;
    bool started;
    /* Workers that come and go (shard_member.c): */
    bool elastic;
    uint32_t least, most;      /* members that a step begins with */
    uint32_t members_epoch;    /* of those that take part; 0: nobody yet */
    bool members_changed;      /* since then */
    bool apart;                /* no step of any tensor waits for all */
    uint32_t holders;          /* peers that hold, see gp_peer.holds */
    uint64_t furthest;         /* pushes that any worker has made, with that */
    bool members_ended;        /* the last of them has left in order */
    uint64_t members_since_ns; /* since when somebody waits for a step, or 0 */
    uint64_t deserted_ns;      /* when to give up waiting for anybody, or 0 */
    double patience;           /* for that, in seconds */
    bool agreed;               /* list, map and chunks exist */
    uint32_t first_rank;       /* whose list it was */
    gp_tensor_list list;
    gp_map map;
    shard_tensor *tensor;
    struct norm_group **norm; /* 0: clipped together; 1 + tensor; or NULL */
    uint32_t norms;           /* numbers of them */
    uint32_t norm_leader;     /* rank that was sent reports last */
    bool norm_unsent;         /* there are reports to send */
    gp_chunk *chunk;          /* ours only */
    uint32_t *chunk_of; /* chunk number -> index + 1 into chunk, 0: not ours */
    uint32_t chunks;
    uint64_t slot_bytes;
    uint8_t *arena; /* value, encoded, initial and spare of all chunks */
    size_t arena_bytes;
    gp_mem *arena_mem[SHARD_LINKS];
    void *workspace;
    float *scaled; /* a push that is multiplied before it is added */
    size_t scaled_count;
    gp_row_budget rows_budget; /* of all its tensors of rows */
    bool ranked;      /* not all of what was asked for has one priority ... */
    bool prioritized; /* ... and this one: */
    int32_t priority;
    uint64_t arrivals; /* pushes that had to wait, for their order */
    uint64_t late;     /* pushes of no step, which were dropped or carried */
    float *hot;        /* the sum of a step whose result travels encoded */
    size_t hot_count;
    gp_codec_input input[GP_CODEC_FOLD]; /* of a run that is being folded */
    gp_codec_context context[GP_CODEC_FOLD];
    uint64_t created_ns; /* when the first worker came */
    uint64_t report_ns;  /* when to say next who is missing */
    uint32_t busy_turns; /* since it was last looked at */
    gp_lag *lag;         /* by rank (shard_lag.c) */
    uint64_t lag_threshold_ns, lag_said_ns, lag_seen;
    bool lag_logged;
    uint32_t *barrier; /* by rank: barriers entered */
    uint32_t barrier_count;
    uint64_t barrier_since_ns; /* since when somebody waits in one, or 0 */
    gp_status fault;
    char fault_text[GP_TEXT_MAX];
    atomic_bool finished;
    gp_shard_finished on_finished;
    gp_shard_destination destination;
    void *user;
};

/* shard_peer.c */
void gp_shard_accept(gp_shard *s, const gp_event *event, shard_link *link);
void gp_shard_control(gp_shard *s, gp_peer *peer, const gp_event *event);
void gp_shard_drop(gp_shard *s, gp_peer *peer, gp_status status);
void gp_shard_bury(gp_shard *s);
void gp_shard_expire(gp_shard *s, uint64_t now);
void gp_shard_fail(gp_shard *s, gp_status status, const char *format, ...)
    GP_PRINTF(3, 4);
gp_status gp_peer_post(gp_shard *s, gp_peer *peer, gp_msg *msg,
                       const void *payload, uint64_t cookie);
void gp_peer_text(gp_shard *s, gp_peer *peer, uint8_t type, gp_status status,
                  const char *text);
void gp_peer_name(const gp_shard *s, uint32_t rank, char *out, size_t capacity);

/* Tells it why and cuts it off; the job goes on if it can. */
void gp_peer_refuse(gp_shard *s, gp_peer *peer, gp_status status,
                    const char *format, ...) GP_PRINTF(4, 5);
void gp_shard_start(gp_shard *s);
/* Lets go those who wait in a barrier, if nobody is missing. */
void gp_barrier_advance(gp_shard *s);

/* shard_member.c: workers that come and go. */
/* Whether steps wait for the rank's push. True unless the job is elastic. */
bool gp_rank_is_awaited(const gp_shard *s, uint32_t rank);
uint32_t gp_shard_members_here(const gp_shard *s);
/* Whether the worker may push and pull; if not, it is cut off. */
bool gp_member_check(gp_shard *s, gp_peer *peer);
/* Whether what a tensor does goes with workers that come and go. */
gp_status gp_member_check_fit(const shard_tensor *t);
void gp_members_joined(gp_shard *s, gp_peer *peer);
/* Fails when the rank, or anybody, waits for first values that nobody has any
 * more: the root of their broadcast has gone. */
void gp_chunk_check_root(gp_shard *s, gp_chunk *c, uint32_t rank);
void gp_shard_check_roots(gp_shard *s);
/* A peer that was welcome is gone. */
void gp_members_gone(gp_shard *s, bool in_order);
void gp_shard_members(gp_shard *s, gp_peer *peer, const gp_event *event);
/* When nobody has come for too long. */
void gp_members_expire(gp_shard *s, uint64_t now);
/* Whether everybody has left in order. */
bool gp_members_all_left(const gp_shard *s);
void gp_members_describe(const gp_shard *s, char *text, size_t capacity);
/* Tells those for whom there is no place that they wait for one. */
void gp_members_tell_spare(gp_shard *s);

/* shard_report.c */
void gp_shard_report(gp_shard *s, uint64_t now);
/* Who keeps whom waiting, for how long already; false when nobody does for
 * `least_ns`. */
bool gp_shard_waits(const gp_shard *s, uint64_t now, uint64_t least_ns,
                    char *text, size_t capacity, uint64_t *waited);
/* "worker 1 of 2 has not joined" */
void gp_shard_missing(const gp_shard *s, char *text, size_t capacity);

/* shard_lag.c: who waits for whom, in numbers. */
gp_status gp_lags_open(gp_chunk *c);
/* A push has come. */
void gp_lag_note(gp_shard *s, gp_chunk *c, const gp_entry *e);
/* Another process has the rank. */
void gp_lag_forget(gp_shard *s, uint32_t rank);
/* The rank whose pushes come last on average; -1: nobody's do. */
int64_t gp_lag_worst(const gp_shard *s);
/* Tells workers, and the log. */
void gp_lags_report(gp_shard *s, uint64_t now);

/* shard_tensors.c */
gp_status gp_shard_agree(gp_shard *s, gp_tensor_list *list, uint32_t rank);
void gp_shard_forget(gp_shard *s);

/* shard_step.c */
void gp_entry_free(gp_shard *s, gp_peer *peer, gp_entry *e);
gp_status gp_entry_stash(gp_shard *s, gp_peer *peer, gp_entry *e);
uint64_t gp_push_slots(const gp_shard *s, const gp_msg *push);
bool gp_peer_is_full(const gp_shard *s, const gp_peer *peer);
void gp_entry_settle(gp_shard *s, gp_chunk *c, uint32_t rank);
void gp_chunk_initialize(gp_shard *s, gp_chunk *c);
void gp_chunk_resume(gp_shard *s, gp_chunk *c);
bool gp_shard_is_local(const gp_shard *s, int64_t rank);

/* shard_slot.c: results that leave from the slot of their push. */
/* The pending push, when it may become the result where it lies, or NULL. */
float *gp_chunk_slot_sum(const gp_shard *s, const gp_chunk *c);
/* Instead of gp_entry_free(): it has become that. */
void gp_chunk_keep_slot(gp_chunk *c);
/* The result was sent, or there is nobody to send it to. */
void gp_chunk_leave_slot(gp_shard *s, gp_peer *peer, gp_chunk *c);

/* shard_arena.c */
/* Gives the chunks their memory; the values are zeros. */
gp_status gp_arena_open(gp_shard *s);
void gp_arena_close(gp_shard *s);
/* What a payload for a peer lies in, the arena or its slots; or NULL. */
gp_mem *gp_arena_find(const gp_shard *s, const gp_peer *peer,
                      const void *payload);

/* shard_fold.c */
gp_codec_context gp_chunk_context(const gp_shard *s, const gp_chunk *c,
                                  uint64_t step, uint32_t rank);
void gp_chunk_advance(gp_shard *s, gp_chunk *c);
/* Parameters through the pull pipeline into a buffer, from values. */
gp_status gp_chunk_encode_into(gp_shard *s, gp_chunk *c, const float *values,
                               void *out, size_t *length, float *shared);
/* Folds the pending push of a rank into c->sum, multiplied by its weight. False
 * when it is damaged, which ends the job. */
bool gp_entry_fold(gp_shard *s, gp_chunk *c, uint32_t rank, bool add);
/* Puts the result through the pull pipeline. A failure ends the job. */
gp_status gp_chunk_encode(gp_shard *s, gp_chunk *c, const float *values);

/* The pushes of neighbours, from c->next_rank on, that are there and went
 * through one pipeline. */
uint32_t gp_chunk_run(const gp_shard *s, gp_chunk *c);
/* Whether all pushes of the step are in. */
bool gp_chunk_is_whole(const gp_shard *s, const gp_chunk *c);
/* What the sum of a step is multiplied with. */
float gp_chunk_scale(const gp_shard *s, const gp_chunk *c);
/* The next step begins; the result of this one is answered. */
void gp_chunk_begin_next(gp_chunk *c);
void gp_chunk_settle_step(gp_shard *s, gp_chunk *c);

/* shard_arrive.c: chunks whose pushes are folded as they arrive. */
void gp_chunk_arrive(gp_shard *s, gp_chunk *c);
/* Whether the result that an entry is owed may be sent. */
bool gp_chunk_is_due(const gp_chunk *c, const gp_entry *e);
/* Whether others may wait for this worker's next push. */
bool gp_chunk_lacks(const gp_shard *s, const gp_chunk *c, uint32_t rank);
/* A pull has come: answers what may be answered. */
void gp_chunk_pull(gp_shard *s, gp_chunk *c);
/* It does not hold any more what it read; gp_shard_recount() goes on. */
void gp_shard_let_go(gp_shard *s, gp_peer *peer);
/* Who counts has changed: a worker has left, or rests. */
void gp_shard_recount(gp_shard *s);
/* A rank has a new process. */
void gp_entry_restart(gp_chunk *c, gp_entry *e, bool late);
/* By how much that would have to count on to be as far as the slowest is. */
uint64_t gp_shard_slowest(const gp_shard *s, uint32_t joiner);
void gp_shard_place(gp_shard *s, gp_peer *peer, uint64_t ahead);
void gp_shard_rest(gp_shard *s, gp_peer *peer, const gp_msg *msg);

/* shard_shot.c */
gp_status gp_shots_open(gp_chunk *c);
size_t gp_shot_bytes(const gp_chunk *c);
/* Parameters change otherwise than by a push. */
void gp_shots_forget(gp_chunk *c);
/* What to send a result from; GP_PENDING when all are under way. */
gp_status gp_shot_take(gp_shard *s, gp_chunk *c, bool init, gp_shot **out);
void gp_shot_lend(gp_chunk *c, gp_entry *e, const gp_shot *shot);
void gp_shot_return(gp_chunk *c, gp_entry *e, uint32_t number);
void gp_shots_orphan(gp_chunk *c, gp_entry *e);

/* shard_norm.c */
gp_status gp_norms_open(gp_shard *s);
void gp_norms_close(gp_shard *s);
/* Whether an update may be made of the chunk's sum: clipped, and with the norms
 * that the updater needs. If not, the chunk is advanced when it may. */
bool gp_chunk_measure(gp_shard *s, gp_chunk *c);
bool gp_chunk_waits_for_norm(const gp_chunk *c);
/* On a device: that has to make its sum a direction, and measure it, first. */
bool gp_chunk_wants_direction(const gp_chunk *c);
/* A chunk here that such a one waits for; NULL: they are on other shards. */
const gp_chunk *gp_norm_missing(const gp_shard *s, const gp_chunk *c);
/* Sends reports that are due, as far as there is room. */
void gp_norms_send(gp_shard *s);
/* A worker has left: perhaps the one that adds up. */
void gp_norms_left(gp_shard *s);
void gp_shard_total(gp_shard *s, gp_peer *peer, const gp_msg *msg);

/* shard_update.c */
gp_status gp_chunk_open_arrays(gp_chunk *c);
void gp_chunk_close_arrays(gp_chunk *c);
/* One update with a gradient that is divided already (of rows: with their sum,
 * whatever the gradient): the only place where parameters change. False when
 * the job has failed of it. */
bool gp_chunk_update(gp_chunk *c, const float *gradient);

/* shard_agree.c */
void gp_shard_propose(gp_shard *s, gp_peer *peer, const gp_msg *msg);
void gp_chunk_agree(gp_shard *s, gp_chunk *c, uint64_t step);
gp_status gp_entry_send_agreed(gp_shard *s, gp_peer *peer, gp_entry *e);

/* shard_kept.c */
void gp_shard_restore(gp_shard *s, gp_peer *peer, const gp_event *event);
void gp_shard_recall(gp_shard *s, gp_peer *peer, const gp_msg *msg);
/* Whether its parameters are more than what a result says of them. */
bool gp_chunk_rounds(const gp_chunk *c);
/* Whether differences may be added: what they are differences to is here. */
bool gp_chunk_is_restored(const gp_chunk *c);

/* shard_chunk.c */
gp_chunk *gp_shard_find_chunk(gp_shard *s, uint32_t number);
gp_status gp_push_check_sender(const gp_shard *s, const gp_peer *peer,
                               const gp_msg *msg);
void gp_shard_push(gp_shard *s, gp_peer *peer, const gp_event *event);
/* Pulls as PULL does; `msg` has been checked but for what PULL claims. */
void gp_shard_pull(gp_shard *s, gp_peer *peer, const gp_msg *msg);
void gp_shard_lookup(gp_shard *s, gp_peer *peer, const gp_event *event);
void gp_shard_relieve(gp_shard *s, gp_peer *peer);

/* shard_queue.c: in which order */
void gp_entry_ask(gp_shard *s, gp_entry *e, int32_t priority);
void gp_entry_owe(gp_peer *peer, gp_entry *e);
void gp_entry_disown(gp_entry *e);
/* A result of so many bytes was handed to the transport, or has left. */
void gp_entry_posted(gp_peer *peer, gp_entry *e, uint64_t bytes);
void gp_entry_sent(gp_peer *peer, gp_entry *e);
void gp_shard_send_due(gp_shard *s, gp_peer *peer);

/* What is kept, to worker 0; values NULL with a status that says why not. */
void gp_shard_give_kept(gp_shard *s, gp_peer *peer, const gp_msg *m,
                        gp_status status, const float *values);

/* shard_device*.c: chunks on a device. All is fine for a shard without. */
gp_status gp_shard_device_open(gp_shard *s, const gp_config *config);
/* Waits until the device has done what it was told. */
void gp_shard_device_settle(gp_shard *s);
void gp_shard_device_close(gp_shard *s);
/* Does what can be done now; returns how much that was. */
int gp_shard_device_turn(gp_shard *s);
bool gp_shard_device_is_busy(const gp_shard *s);
/* Waits until nothing is under way, not long; what follows from it happens. */
void gp_shard_device_drain(gp_shard *s);
void gp_shard_device_describe(const gp_shard *s, gp_json_text *j);
/* shard_device_direct.c: finds out which links' devices read the device's
 * memory, and shows them where results go. */
gp_status gp_shard_direct_open(gp_shard *s, const gp_config *config);
void gp_shard_direct_close(gp_shard *s);
gp_status gp_shard_shown_open(gp_shard *s);
void gp_shard_shown_close(gp_shard *s);
/* NULL: the payload does not lie there. */
gp_mem *gp_shard_shown_find(const gp_shard *s, const gp_peer *peer,
                            const void *payload);
/* The payload of a result, where it is the device's memory; else *out stays as
 * it is, and the host's memory has it. `placed`: it goes where the worker has
 * said. */
gp_status gp_chunk_device_result(gp_shard *s, const gp_peer *peer, gp_chunk *c,
                                 bool placed, const void **out);
void gp_shard_device_sent(gp_shard *s, uint64_t bytes);
/* shard_device_slots.c: slots in the device's memory, where network devices
 * write pushes. */
/* Has a worker use them, where its connection gets there. Before READY, which
 * no push goes before. */
void gp_device_slots_open(gp_shard *s, gp_peer *peer);
void gp_device_slots_close(gp_shard *s, gp_peer *peer);
/* Whether a push that says that it lies there may. */
bool gp_push_may_land(const gp_peer *peer, const gp_chunk *c, const gp_msg *m);
/* A push has come: finds out where it lies. */
void gp_push_landed(gp_shard *s, gp_peer *peer, gp_entry *e);
/* A copy of one that lies there. A failure ends the job; `to` may then be
 * written to until the device is closed. */
gp_status gp_push_bring(gp_shard *s, const gp_entry *e, void *to);
/* Memory that payloads lie in, which the device reaches. NULL: no memory. */
void *gp_shard_take(gp_shard *s, size_t bytes);
void gp_shard_give(gp_shard *s, void *block);
/* Whether the tensor's chunks go there, which must be possible if so. */
gp_status gp_tensor_device_open(gp_shard *s, shard_tensor *t);
void gp_tensor_device_close(shard_tensor *t);
gp_status gp_chunk_device_open(gp_shard *s, gp_chunk *c);
void gp_chunk_device_close(gp_shard *s, gp_chunk *c);
/* Pushes may be folded, or the step completed. */
void gp_chunk_device_advance(gp_shard *s, gp_chunk *c);
/* Whether c->value and c->encoded are about to change. */
bool gp_chunk_device_moves(const gp_chunk *c);
/* c->value has been given: it becomes that of the device. */
void gp_chunk_device_upload(gp_shard *s, gp_chunk *c);
/* The sum times a factor; its squares added to a norm. */
void gp_chunk_device_clip(gp_shard *s, gp_chunk *c, float factor);
void gp_chunk_device_measured(const gp_chunk *c, void *norm);
/* Adds the squares of the parameters and of the direction that the sum has
 * become; false: it has not yet. */
bool gp_chunk_device_directed(const gp_chunk *c, void *parameters,
                              void *direction);
/* As find_kept() in shard_kept.c, of the device. */
float *gp_chunk_device_kept(gp_chunk *c, uint32_t which);
void gp_chunk_device_restore(gp_shard *s, gp_chunk *c, const gp_msg *m,
                             float *to, const void *from);
void gp_chunk_device_recall(gp_shard *s, gp_peer *peer, gp_chunk *c,
                            const gp_msg *m, const float *from);

/* shard_answer.c */
void gp_shard_sent(gp_shard *s, gp_peer *peer, uint64_t cookie);
/* Answers what is due; GP_PENDING: not now, but others may be answered. */
gp_status gp_entry_answer(gp_shard *s, gp_peer *peer, gp_entry *e);
void gp_shard_orphan(gp_shard *s, gp_peer *peer);
void gp_shard_check_left(gp_shard *s);

#endif
