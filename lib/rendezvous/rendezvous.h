/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rendezvous.h - who is in the job and where: launcher variables, and the
 * embedded store.
 *
 * The store is a small key-value service inside one process of the job. Its
 * protocol is described in docs/protocol.md. Keys and values are bytes; a key
 * is at most 255 bytes, a value at most GP_STORE_VALUE_MAX.
 */
#ifndef GP_RENDEZVOUS_H
#define GP_RENDEZVOUS_H

#include "base/base.h"
#include "base/token.h"

#define GP_STORE_VALUE_MAX 65536u

/* What is known about this process's place in the job. -1: not known. */
typedef struct gp_job {
    int64_t rank, size; /* of workers */
    int64_t shards;     /* of the whole job */
    int64_t local_rank, local_size;
    uint64_t incarnation; /* launcher restart count */
    bool is_server;       /* DMLC_ROLE=server */
    bool is_scheduler;    /* DMLC_ROLE=scheduler */
    bool host_store;      /* this process must host the store */
    char store[256];      /* host:port, "" when there is none */
    char launcher[32];    /* "gradpush", "torchrun", "dmlc", "open mpi",
                             "mpich", "slurm", "none" */
    char job[128];        /* the job's identity, launcher's id included */
} gp_job;

/* Reads configuration and launcher variables in the order of
 * docs/launchers.md. `get` replaces getenv in tests; NULL means getenv.
 * GP_ERR_CONFIG names the variable at fault and the fix. */
gp_status gp_job_detect(const gp_config *config,
                        const char *(*get)(const char *name), gp_job *out);

/* First host of a Slurm node list, such as "node[001,007-015],host2".
 * GP_ERR_CORRUPT for a list that cannot be read. */
gp_status gp_nodelist_first(const char *list, char *out, size_t capacity);

/* The store's server: one thread. Survives any bytes from anyone.
 *
 * Server and client compare the configuration's field `job`: set it to
 * gp_job.job first, so that the jobs of one launcher are told apart.
 *
 * `address` may have port 0 (the kernel chooses) or no host (all interfaces);
 * gp_store_server_address() is what others connect to. GP_ERR_ADDRESS names the
 * address and the fix. */
typedef struct gp_store_server gp_store_server;
gp_status gp_store_serve(const gp_config *config, const char *address,
                         const char *token, gp_store_server **out);
const char *gp_store_server_address(const gp_store_server *server);
void gp_store_stop(gp_store_server *server);

/* The store's client: blocking calls with deadlines, one thread at a time. A
 * refused connection is tried again until the deadline: GP_ERR_TIMEOUT with the
 * last cause. GP_ERR_AUTH, GP_ERR_REFUSED (another job), GP_ERR_VERSION and
 * GP_ERR_PROTOCOL (not a store) end it at once.
 *
 * A call that fails half way closes the connection; the next call connects
 * anew. Set, claim and add take at most the configured `timeout`. */
typedef struct gp_store gp_store;
gp_status gp_store_connect(const gp_config *config, const char *address,
                           const char *token, uint64_t deadline_ns,
                           gp_store **out);
void gp_store_close(gp_store *store);
gp_status gp_store_set(gp_store *store, const char *key, const void *value,
                       size_t length);
/* Sets the key to a text unless another one is claimed: by a connection that
 * lasts, other than with the same text. `other` receives that one, cut to
 * `capacity`, and is "" when the key is set. What a connection claims is
 * anybody's again when it ends. */
gp_status gp_store_claim(gp_store *store, const char *key, const char *text,
                         char *other, size_t capacity);
/* Waits for the key until the deadline: GP_ERR_TIMEOUT. */
gp_status gp_store_get(gp_store *store, const char *key, void *out,
                       size_t capacity, size_t *length, uint64_t deadline_ns);
/* Waits until the key has another value than `known`. */
gp_status gp_store_watch(gp_store *store, const char *key, const void *known,
                         size_t known_length, void *out, size_t capacity,
                         size_t *length, uint64_t deadline_ns);
/* From now on waits end with GP_ERR_CANCELED when this descriptor is readable,
 * as an eventfd that another thread writes to; -1: none. */
void gp_store_stop_by(gp_store *store, int fd);
/* Adds to a decimal counter that starts at 0; returns the value after. */
gp_status gp_store_add(gp_store *store, const char *key, int64_t delta,
                       int64_t *out);

/* Waits for keys prefix0 .. prefix(count-1), each a text of at most
 * GP_ADDRESS_MAX - 1 bytes, into `out` (count rows of GP_ADDRESS_MAX). Every
 * few seconds it logs at level warn which are missing ("waiting for shard 1 of
 * 2, ... 25 s left"); GP_ERR_TIMEOUT lists them. */
gp_status gp_store_gather(gp_store *store, const char *prefix, const char *noun,
                          uint32_t count, char *out, uint64_t deadline_ns);

/* The address others reach this host at: `advertise`, else the address of
 * `interface` (NCCL_SOCKET_IFNAME syntax), else the source address towards
 * `towards` ("host:port"), else 127.0.0.1. */
gp_status gp_local_host(const gp_config *config, const char *towards, char *out,
                        size_t capacity);

/* Mbit/s of the link that gp_local_host() goes through: `link_mbits`, else what
 * its interface has negotiated; 0: not known. And that for all to see, divided
 * by those in this process who share it, as key `rate/KIND/NUMBER`. */
double gp_link_mbits(const gp_config *config, const char *towards);
gp_status gp_link_announce(gp_store *store, const char *kind, int64_t number,
                           const gp_config *config, const char *towards,
                           uint32_t sharers);

/* "host:port", "[v6]:port", ":port" and "host" into parts. */
gp_status gp_address_split(const char *address, char *host,
                           size_t host_capacity, uint16_t *port);

/* The opposite: brackets around a host with colons. */
gp_status gp_address_join(const char *host, uint16_t port, char *out,
                          size_t capacity);

#endif
