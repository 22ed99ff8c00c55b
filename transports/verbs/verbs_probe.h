/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_probe.h - what a machine's RDMA really does: small experiments for
 * `gradpush doctor`, each complete in one call.
 *
 * No header of libibverbs is needed to include this, so it is there in builds
 * without verbs too, where every call says GP_ERR_UNSUPPORTED. Nothing stays
 * behind after a call, whatever its outcome. Any thread; `api` is borrowed.
 */
#ifndef GP_VERBS_PROBE_H
#define GP_VERBS_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <gradpush/status.h>

struct gp_verbs_api;

/* The table of this process; as gp_verbs_api_get(). */
gp_status gp_verbs_probe_api(const struct gp_verbs_api **out);

/* Whether the library lists a device of this name. */
bool gp_verbs_probe_listed(const struct gp_verbs_api *api, const char *device);

/* What a device says of one of its ports. */
typedef struct gp_verbs_port_facts {
    uint32_t active_mtu, max_mtu; /* payload bytes of a packet */
    uint32_t gid_count;           /* length of the table, empty ones included */
    uint32_t max_qp, max_mr;      /* of the device */
    char firmware[64];
    bool iwarp;
} gp_verbs_port_facts;

/* GP_ERR_NOT_FOUND: no such device; GP_ERR_SYSTEM: the call that failed. */
gp_status gp_verbs_probe_port(const struct gp_verbs_api *api,
                              const char *device, uint8_t port,
                              gp_verbs_port_facts *out);

/* Whether memory of other devices can be registered by DMA-BUF: asks for a
 * region of file -1, which a kernel and provider that can do it refuse with
 * EBADF and others with EOPNOTSUPP. GP_ERR_UNSUPPORTED with the reason. */
gp_status gp_verbs_probe_dmabuf(const struct gp_verbs_api *api,
                                const char *device);

/* How far a loopback got; the names are gp_verbs_stage_name(). */
typedef enum gp_verbs_stage {
    GP_VERBS_CHANNEL, /* /dev/infiniband/rdma_cm */
    GP_VERBS_LISTEN,  /* the address is bound to a device */
    GP_VERBS_RESOLVE, /* a device leads to the address */
    GP_VERBS_MEMORY,  /* protection domain, one page registered */
    GP_VERBS_QUEUES,  /* completion queue and queue pair */
    GP_VERBS_CONNECT, /* both ends established */
    GP_VERBS_WRITE,   /* completions of the WRITE and the SEND after it */
    GP_VERBS_COMPARE, /* the page arrived as it was sent */
    GP_VERBS_CLOSE,   /* everything was given back */
    GP_VERBS_DONE
} gp_verbs_stage;

const char *gp_verbs_stage_name(gp_verbs_stage stage);

typedef struct gp_verbs_loopback {
    gp_verbs_stage stage; /* the one that failed, or GP_VERBS_DONE */
    int error;            /* errno value of the call that failed, else 0 */
    char device[64];      /* that the address led to; "" before that */
    uint32_t bytes;       /* written: one page */
    double connect_us, write_us;
} gp_verbs_loopback;

/*
 * Listens at `address` (IPv4 or IPv6, the port is ignored), connects to it,
 * registers a page at each end, writes one into the other, follows the WRITE
 * with a SEND on the same queue pair, and compares once the SEND has arrived.
 * Both ends are in the calling thread.
 *
 * seconds  the whole of it has this long.
 * out      always filled in.
 * Returns GP_OK, or the status of out->stage with the cause in words;
 * GP_ERR_TIMEOUT, GP_ERR_CORRUPT when the page differs.
 */
gp_status gp_verbs_probe_loopback(const struct gp_verbs_api *api,
                                  const struct sockaddr *address,
                                  double seconds, gp_verbs_loopback *out);

struct ibv_mr;
struct ibv_pd;

/* Pages of other memory than the host's, for such an experiment. */
typedef struct gp_verbs_pages {
    void *user;
    void *client, *server; /* a page each */
    /* Both of them, in one region; NULL with gp_fail(). */
    struct ibv_mr *(*reg)(void *user, struct ibv_pd *pd, int access);
    gp_status (*store)(void *user, void *to, const void *from, size_t bytes);
    gp_status (*load)(void *user, void *to, const void *from, size_t bytes);
} gp_verbs_pages;

/* The same from one of these pages into the other; NULL: in the host's. */
gp_status gp_verbs_probe_loopback_in(const struct gp_verbs_api *api,
                                     const struct sockaddr *address,
                                     double seconds,
                                     const gp_verbs_pages *pages,
                                     gp_verbs_loopback *out);

#endif
