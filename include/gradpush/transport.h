/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - what a transport author implements.
 *
 * A transport moves messages between endpoints. A message is a header (struct
 * gp_msg) and a payload. There are two kinds:
 *
 *   control  region == 0. The payload is small (GP_CONTROL_MAX), is copied by
 *            post(), and arrives in memory of the transport. Control messages
 *            of one endpoint arrive in the order they were posted.
 *   data     region != 0. The payload is written straight to `offset` in the
 *            memory that the receiver exposed to this very endpoint under that
 *            token. Data messages may overtake one another, and control and
 *            data messages may overtake each other.
 *
 * Rules for every member of the tables below, unless it says otherwise:
 *   - A domain and its endpoints belong to one thread at a time. Different
 *     domains are independent and share no lock that is held for long.
 *   - Nothing blocks. post(), flush() and progress() do not allocate in the
 *     steady state and do not log.
 *   - Nothing from the peer is trusted: lengths, offsets, tokens and checksums
 *     are checked on a copy, and a violation closes the endpoint with a status.
 *   - A transport logs a failure once, where it detects it.
 *
 * `loop` (transports/loop) is the executable specification;
 * tests/conformance/transport_suite.c runs against every transport.
 */
#ifndef GRADPUSH_TRANSPORT_H
#define GRADPUSH_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this interface; a table with another one is refused. */
#define GP_TRANSPORT_ABI 1u

/** Bytes of an encoded header, and the wire protocol's version. */
#define GP_MSG_BYTES        112u
#define GP_PROTOCOL_VERSION 1u

/** The longest control payload after and before the peer is trusted. */
#define GP_CONTROL_MAX           (4u << 20)
#define GP_CONTROL_MAX_UNTRUSTED 4096u

/** Longest text of an address, with its terminating zero: of a shard with four
 * rails and tcp, each at an IPv6 address without zeros. */
#define GP_ADDRESS_MAX 512u

/** Set in gp_msg.flags when payload_crc holds the payload's CRC32C. */
#define GP_MSG_PAYLOAD_CRC 0x0001u
/** Push or pull of initial values; see docs/protocol.md. */
#define GP_MSG_INIT 0x0002u

/**
 * A message header in host form. docs/protocol.md has the byte layout.
 *
 * A transport reads `payload`, `region`, `offset` and the checksum fields; the
 * rest belongs to the engine and travels unchanged.
 */
typedef struct gp_msg {
    uint8_t type;   /**< gp_msg_type; see docs/protocol.md */
    uint8_t dtype;  /**< gp_dtype of the tensor */
    uint16_t flags; /**< GP_MSG_* */
    uint16_t slot;  /**< landing slot this push occupies */
    union {
        int32_t status;   /**< gp_status for answers */
        int32_t priority; /**< of PUSH, PULL and LOOKUP: that of the answer */
    };
    uint64_t job;         /**< hash of the job's identity */
    uint32_t worker;      /**< sender: worker rank, or shard index */
    uint32_t incarnation; /**< how often the sender was started anew */
    uint32_t epoch;       /**< membership epoch */
    uint32_t chunk;       /**< chunk number in the shard map */
    uint64_t step;
    uint32_t pipeline;    /**< codec pipeline id of the payload */
    uint32_t region;      /**< destination token; 0 means control */
    uint64_t elements;    /**< elements the payload stands for */
    uint64_t payload;     /**< payload bytes */
    uint64_t offset;      /**< destination offset in the region */
    uint64_t cookie;      /**< request number, echoed in the answer */
    uint64_t credits;     /**< bit i set: landing slot i is free again */
    uint64_t aux;         /**< meaning by type */
    uint32_t payload_crc; /**< CRC32C of the payload when flagged */
} gp_msg;

/**
 * Writes the wire form of a header, including its own checksum.
 *
 * @param out  GP_MSG_BYTES bytes.
 */
GP_API void gp_msg_encode(const gp_msg *msg, void *out);

/**
 * Reads and checks the wire form of a header.
 *
 * @param bytes  GP_MSG_BYTES bytes from the network.
 * @return GP_OK
 *         GP_ERR_PROTOCOL   not a gradpush message (magic), or a reserved bit
 *         GP_ERR_VERSION    another protocol version
 *         GP_ERR_CHECKSUM   damaged header
 */
GP_API GP_MUST_CHECK gp_status gp_msg_decode(const void *bytes, gp_msg *out);

/** CRC32C (Castagnoli) of `length` bytes, continuing from `crc` (0 to start).
 */
GP_API uint32_t gp_crc32c(uint32_t crc, const void *data, size_t length);

typedef struct gp_domain gp_domain;     /**< one completion source */
typedef struct gp_endpoint gp_endpoint; /**< one connection */
typedef struct gp_mem gp_mem;           /**< registered memory */

/** Capability bits of a transport. */
#define GP_CAP_LOCAL      0x01u /**< connects only within one process */
#define GP_CAP_REGISTERED 0x02u /**< data payloads must lie in gp_mem */
#define GP_CAP_CHECKSUM   0x04u /**< can check payloads end to end */
/** A device must be told of memory, which costs time and pinned pages per peer:
 *  few large ranges, kept, are better than many. The engine then registers only
 *  memory of its own and what gp_buffer_register() names, exposes each range
 *  once per endpoint, and copies what lies elsewhere. Without this bit or
 *  GP_CAP_REGISTERED it exposes users' memory only while a request is under
 *  way. */
#define GP_CAP_DEVICE 0x08u
/** Data payloads may lie in the memory of an accelerator: the members from
 *  mem_reg_peer() on are there. Without this bit nobody looks at them. */
#define GP_CAP_PEER_MEMORY 0x10u
/** Where a device cannot open a part of registered memory to the peer, each
 *  exposed part costs a region of the device more: ep_opens_parts() says so.
 *  Without this bit nobody looks at it. */
#define GP_CAP_PARTS 0x20u

/** Flag of expose(): the receiver reads gp_event.payload and not the region, so
 * the transport may deliver the payload where it lies (loop does). */
#define GP_REGION_LANDING 0x1u

typedef enum gp_event_type {
    GP_EVENT_ACCEPTED = 1,  /**< a peer connected to our address; ep is new */
    GP_EVENT_CONNECTED = 2, /**< our connect() succeeded */
    GP_EVENT_MESSAGE = 3,   /**< msg and payload are valid */
    GP_EVENT_SENT = 4,      /**< the payload posted under `cookie` is free */
    GP_EVENT_CLOSED = 5     /**< the endpoint ended; `status` says why */
} gp_event_type;

/**
 * What progress() reports. After CLOSED no event of that endpoint follows
 * (payloads not yet reported SENT are free from then on); the owner must still
 * call ep_close() to free it.
 */
typedef struct gp_event {
    gp_event_type type;
    gp_status status; /**< CLOSED: first cause; GP_OK means the peer closed */
    gp_endpoint *ep;
    void *user;          /**< what ep_set_user() stored */
    uint64_t cookie;     /**< SENT */
    gp_msg msg;          /**< MESSAGE: a checked copy */
    const void *payload; /**< MESSAGE, control: valid until the next progress().
                              data: region memory, or with GP_REGION_LANDING
                              anywhere, valid until release() */
} gp_event;

/** How a network device reaches the memory of an accelerator, best first. */
typedef enum gp_direct {
    GP_DIRECT_DMABUF = 0,  /**< a DMA-BUF of it is registered */
    GP_DIRECT_PEERMEM = 1, /**< its addresses are, by a peer-memory module */
    GP_DIRECT_STAGING = 2  /**< not at all: it goes through the host's memory */
} gp_direct;

/**
 * An accelerator whose memory network devices are to reach. It outlives what is
 * registered of it; its functions may be called by any thread.
 */
typedef struct gp_peer_memory {
    void *user;
    const char *name; /**< "cuda:0" */
    const char *bus;  /**< "0000:3b:00.0", or "" */
    bool exports;     /**< its driver says that export_range() works */
    bool reachable;   /**< its driver lets network devices in at all */

    /** A descriptor that stands for whole pages of its memory, and nothing
     *  else; the caller closes it. */
    gp_status (*export_range)(void *user, void *base, size_t bytes, int *fd);

    /** Copies between its memory and the host's, complete on return, without
     *  waiting for work of the user's. The second sees what network devices
     *  have reported as written. */
    gp_status (*copy_in)(void *user, void *to, const void *from, size_t bytes);
    gp_status (*copy_out)(void *user, void *to, const void *from, size_t bytes);
} gp_peer_memory;

/** The table of a transport. */
typedef struct gp_transport_ops {
    uint32_t abi; /**< GP_TRANSPORT_ABI */
    uint32_t caps;
    const char *name; /**< lower case, as in GRADPUSH_TRANSPORT */
    const char *text; /**< one line for `gradpush info --transports` */

    /**
     * Says whether it can run on this machine.
     *
     * @param why  filled with the reason, also for GP_OK (a device name, say).
     * @return GP_OK, GP_ERR_UNSUPPORTED, or GP_ERR_NO_MEMORY when nothing but
     * room in a limit is missing, which is said louder.
     */
    gp_status (*probe)(const gp_config *config, char *why, size_t capacity);

    /** Opens a completion source. `config` is read only during the call. */
    gp_status (*open)(const gp_config *config, gp_domain **out);

    /** Closes it and all its endpoints without events; NULL is fine. */
    void (*close)(gp_domain *domain);

    /**
     * Accepts connections at `address` ("host:port", "[v6]:port", port 0 for
     * any, "" for any address; loop takes a name).
     *
     * @param bound  receives the address others can connect to, or several of
     *         them with '|' between, best first.
     * @return GP_OK, GP_ERR_ADDRESS (the message names address and system
     *         error; a taken port is named as such), GP_ERR_STATE when the
     *         domain listens already.
     */
    gp_status (*listen)(gp_domain *domain, const char *address, char *bound,
                        size_t capacity);

    /**
     * Starts to connect; CONNECTED or CLOSED follows. Tries again with
     * back-off until `deadline_ns` (gp_clock, CLOCK_MONOTONIC) and says every
     * few seconds in the log whom it waits for. CLOSED has the status
     * GP_ERR_UNREACHABLE when the deadline passed, GP_ERR_VERSION or
     * GP_ERR_PROTOCOL when what answers is not such a peer. Messages may be
     * posted at once; they leave after CONNECTED. Resolving a name may block.
     * `address` is what listen() of the peer gave: of several the first that
     * leads there is taken.
     *
     * @return GP_OK (*out is set), GP_ERR_ADDRESS, GP_ERR_NO_MEMORY.
     */
    gp_status (*connect)(gp_domain *domain, const char *address,
                         uint64_t deadline_ns, gp_endpoint **out);

    /**
     * Ends a connection and frees the endpoint. Control messages posted before
     * are sent if that needs no waiting. May be called at any time, also after
     * CLOSED. No later progress() reports an event of it; events that the last
     * one returned already are the caller's to skip, and the payloads of its
     * control messages stay readable until the next progress().
     *
     * Data payloads posted and not reported SENT are the caller's again on
     * return, and nothing is written any more into what was exposed to the
     * peer, as if unexpose() were called for all of it. Where the peer reads
     * them in place (loop, GP_REGION_LANDING) and another thread drives it,
     * this waits, up to a few seconds, until the peer released them; who sees
     * CLOSED releases at once. When one thread drives both ends it releases
     * before it closes.
     */
    void (*ep_close)(gp_endpoint *ep);

    void (*ep_set_user)(gp_endpoint *ep, void *user);

    /**
     * Raises the limit of control payloads from GP_CONTROL_MAX_UNTRUSTED to
     * GP_CONTROL_MAX once the engine has authenticated the peer.
     */
    void (*ep_trust)(gp_endpoint *ep);

    /** "tcp 10.0.0.2:4711 sockets 2 checksum on": for the one log line. */
    void (*ep_describe)(const gp_endpoint *ep, char *text, size_t capacity);

    /**
     * Makes memory usable by data messages. The caller keeps it alive until
     * mem_dereg(), before which it withdraws every token of it, and waits for
     * SENT of every payload posted from it, or closes those endpoints.
     * Transports without GP_CAP_REGISTERED only note the range; with
     * GP_CAP_DEVICE they tell the device when an endpoint first needs it.
     */
    gp_status (*mem_reg)(gp_domain *domain, void *base, size_t bytes,
                         gp_mem **out);
    void (*mem_dereg)(gp_mem *mem);

    /**
     * Lets the peer of `ep`, and nobody else, write into a range, at any time
     * until unexpose(). With GP_CAP_DEVICE the peer can write without this side
     * taking part, so a token that is kept between two uses trusts the peer not
     * to.
     *
     * @param token  receives a value > 0 that the engine tells the peer.
     * @return GP_OK, GP_ERR_INVALID (range outside mem), GP_ERR_NO_MEMORY.
     */
    gp_status (*expose)(gp_endpoint *ep, gp_mem *mem, size_t offset,
                        size_t bytes, uint32_t flags, uint32_t *token);

    /**
     * Withdraws a token. From the return on nothing is written there, even
     * when a message is half received (its rest is discarded and no event
     * follows). A peer that uses the token afterwards is not closed: such
     * messages are discarded, since they may have been under way.
     */
    void (*unexpose)(gp_endpoint *ep, uint32_t token);

    /**
     * Queues one message. Nothing need be sent before flush().
     *
     * @param msg      copied. `payload` must be set. When the caller has set
     *                 GP_MSG_PAYLOAD_CRC it is used; otherwise the transport
     *                 computes it if it checks payloads.
     * @param payload  control: copied. data: borrowed until SENT or CLOSED. Its
     *                 bytes may change before that once a message of the peer
     *                 shows that it has them (a result often comes before a
     *                 device's acknowledgement, and into the same memory), so
     *                 what is sent again then must not reach the peer's memory.
     * @param mem      where payload lies; may be NULL without
     *                 GP_CAP_REGISTERED.
     * @param cookie   returned in SENT; 0 asks for no event.
     * @return GP_OK
     *         GP_AGAIN         queue full; nothing was taken. A part of the
     *                          queue is reserved for control messages.
     *         GP_ERR_PEER_LOST the endpoint is closed.
     *         GP_ERR_TOO_LARGE control payload over GP_CONTROL_MAX
     */
    gp_status (*post)(gp_endpoint *ep, const gp_msg *msg, const void *payload,
                      gp_mem *mem, uint64_t cookie);

    /** Starts sending all that is queued, together. */
    gp_status (*flush)(gp_endpoint *ep);

    /** The receiver no longer reads the payload of a landing message. Also
     * after CLOSED, until ep_close(). */
    void (*release)(gp_endpoint *ep, const gp_msg *msg, const void *payload);

    /**
     * Sends, receives and reports up to `max` events.
     *
     * @return number of events, 0 for none, or a negative gp_status when the
     *         domain itself is broken.
     */
    int (*progress)(gp_domain *domain, gp_event *events, int max);

    /**
     * A descriptor that polls readable when progress() has something to do.
     * Owned by the domain. Before sleeping on it call arm().
     */
    int (*event_fd)(gp_domain *domain);

    /** GP_OK: sleep is safe. GP_AGAIN: call progress() first. */
    gp_status (*arm)(gp_domain *domain);

    /* --- with GP_CAP_PEER_MEMORY --- */

    /**
     * Finds out by which way each network device of the domain reaches an
     * accelerator, once for each pair: memory is registered, and bytes are
     * written from it into it and compared. Says in the log what was found, and
     * why not a better way. Blocks while it does, up to some seconds.
     *
     * @param base  `bytes` of the accelerator's memory, at least two pages,
     *              which are overwritten.
     * @return GP_OK, also when the way is GP_DIRECT_STAGING;
     *         GP_ERR_UNSUPPORTED with the cause when the configuration insists
     *         on a way that is closed.
     */
    gp_status (*peer_probe)(gp_domain *domain, const gp_peer_memory *peer,
                            void *base, size_t bytes);

    /** As mem_reg(), for whole pages of an accelerator's memory. */
    gp_status (*mem_reg_peer)(gp_domain *domain, const gp_peer_memory *peer,
                              void *base, size_t bytes, gp_mem **out);

    /** The way between that memory and the peer of `ep`. It can get worse at
     *  any time, when a device fails to use it; what was posted and exposed
     *  arrives all the same, more slowly. GP_DIRECT_STAGING: better not begin
     *  anything there. */
    gp_direct (*peer_way)(const gp_endpoint *ep, const gp_mem *mem);

    /**
     * What was found out about an accelerator and the domain's n-th device, one
     * line; true when there is one.
     */
    bool (*peer_describe)(const gp_domain *domain, const gp_peer_memory *peer,
                          uint32_t n, gp_direct *way, char *text,
                          size_t capacity);

    /* --- with GP_CAP_PARTS --- */

    /** Whether exposing a part of memory to the peer of `ep` takes no region of
     *  the device beside the one that the memory is sent from. */
    bool (*ep_opens_parts)(const gp_endpoint *ep);
} gp_transport_ops;

/**
 * Adds an out-of-tree transport to those that GRADPUSH_TRANSPORT can name.
 *
 * Any thread, before objects that use it are created. The table is borrowed for
 * the life of the process.
 *
 * @return GP_OK, GP_ERR_VERSION (abi), GP_ERR_EXISTS, GP_ERR_INVALID (a member
 *         is missing; the message names it), GP_ERR_NO_MEMORY.
 */
GP_API GP_MUST_CHECK gp_status
gp_transport_register(const gp_transport_ops *ops);

/** The transport of that name, or NULL. */
GP_API const gp_transport_ops *gp_transport_find(const char *name);

/** The transport at an index below the count, or NULL; for tools. */
GP_API const gp_transport_ops *gp_transport_at(size_t index);

#ifdef __cplusplus
}
#endif
#endif
