/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_api.h - every call of libibverbs and librdmacm that is used, as a
 * table.
 *
 * The transport and the doctor call RDMA through this table only. It is filled
 * from the libraries when they can be loaded (never linked, so that one binary
 * runs with and without them), or by the simulated fabric of tests/sim. Members
 * have the names of the calls they stand for, but one convention for results:
 *
 *   int       0, or a positive errno value; -1 with errno set, and negative
 *             errno as from siw, are turned into that.
 *   pointer   NULL with errno set.
 *   poll_cq   number of completions, or a negative errno value.
 *
 * Only verbs.h and rdma_cma.h of rdma-core 44 (IBVERBS_1.14) are assumed;
 * members marked optional may be NULL with an older or newer library. A build
 * without these headers knows the table by name only.
 */
#ifndef GP_VERBS_API_H
#define GP_VERBS_API_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

typedef struct gp_verbs_api gp_verbs_api;

#ifdef GP_HAVE_VERBS

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

struct gp_verbs_api {
    const char *source; /* "libibverbs.so.1", or what stands for it */
    bool has_ops;       /* contexts have their devices' functions in `ops` */

    /* Devices. */
    struct ibv_device **(*get_device_list)(int *count);
    void (*free_device_list)(struct ibv_device **list);
    const char *(*get_device_name)(struct ibv_device *device);
    struct ibv_context *(*open_device)(struct ibv_device *device);
    int (*close_device)(struct ibv_context *context);
    int (*query_device)(struct ibv_context *context,
                        struct ibv_device_attr *attr);
    int (*query_port)(struct ibv_context *context, uint8_t port,
                      struct ibv_port_attr *attr);
    int (*query_gid)(struct ibv_context *context, uint8_t port, int index,
                     union ibv_gid *gid);
    int (*get_async_event)(struct ibv_context *context,
                           struct ibv_async_event *event);
    void (*ack_async_event)(struct ibv_async_event *event);

    /* Memory. */
    struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
    int (*dealloc_pd)(struct ibv_pd *pd);
    struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *base, size_t length,
                             int access);
    struct ibv_mr *(*reg_dmabuf_mr)(struct ibv_pd *pd, uint64_t offset,
                                    size_t length, uint64_t iova, int fd,
                                    int access); /* optional */
    int (*dereg_mr)(struct ibv_mr *mr);
    struct ibv_mw *(*alloc_mw)(struct ibv_pd *pd, enum ibv_mw_type type);
    int (*dealloc_mw)(struct ibv_mw *mw);

    /* Completions. */
    struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *);
    int (*destroy_comp_channel)(struct ibv_comp_channel *channel);
    struct ibv_cq *(*create_cq)(struct ibv_context *context, int entries,
                                void *user, struct ibv_comp_channel *channel,
                                int vector);
    int (*destroy_cq)(struct ibv_cq *cq);
    int (*poll_cq)(struct ibv_cq *cq, int count, struct ibv_wc *wc);
    int (*req_notify_cq)(struct ibv_cq *cq, int solicited_only);
    int (*get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **cq,
                        void **user);
    void (*ack_cq_events)(struct ibv_cq *cq, unsigned count);

    /* Queue pairs; created and destroyed through their rdma_cm_id. */
    int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
    int (*query_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
                    struct ibv_qp_init_attr *init);
    int (*post_send)(struct ibv_qp *qp, struct ibv_send_wr *wr,
                     struct ibv_send_wr **bad);
    int (*post_recv)(struct ibv_qp *qp, struct ibv_recv_wr *wr,
                     struct ibv_recv_wr **bad);

    /* Words. */
    const char *(*wc_status_str)(enum ibv_wc_status status);
    const char *(*event_type_str)(enum ibv_event_type type);
    const char *(*rdma_event_str)(enum rdma_cm_event_type type);

    /* Connections. */
    struct rdma_event_channel *(*rdma_create_event_channel)(void);
    void (*rdma_destroy_event_channel)(struct rdma_event_channel *channel);
    int (*rdma_create_id)(struct rdma_event_channel *channel,
                          struct rdma_cm_id **id, void *context,
                          enum rdma_port_space space);
    int (*rdma_destroy_id)(struct rdma_cm_id *id);
    int (*rdma_set_option)(struct rdma_cm_id *id, int level, int name,
                           void *value, size_t length);
    int (*rdma_bind_addr)(struct rdma_cm_id *id, struct sockaddr *address);
    int (*rdma_resolve_addr)(struct rdma_cm_id *id, struct sockaddr *source,
                             struct sockaddr *target, int timeout_ms);
    int (*rdma_resolve_route)(struct rdma_cm_id *id, int timeout_ms);
    int (*rdma_create_qp)(struct rdma_cm_id *id, struct ibv_pd *pd,
                          struct ibv_qp_init_attr *attr);
    void (*rdma_destroy_qp)(struct rdma_cm_id *id);
    int (*rdma_listen)(struct rdma_cm_id *id, int backlog);
    int (*rdma_connect)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*rdma_accept)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*rdma_reject)(struct rdma_cm_id *id, const void *data, uint8_t length);
    int (*rdma_notify)(struct rdma_cm_id *id, enum ibv_event_type event);
    int (*rdma_disconnect)(struct rdma_cm_id *id);
    int (*rdma_get_cm_event)(struct rdma_event_channel *channel,
                             struct rdma_cm_event **event);
    int (*rdma_ack_cm_event)(struct rdma_cm_event *event);
    uint16_t (*rdma_get_src_port)(struct rdma_cm_id *id); /* big endian */
    /* What ids get as `verbs` stays open while such a list is held; optional,
     * both or none. */
    struct ibv_context **(*rdma_get_devices)(int *count);
    void (*rdma_free_devices)(struct ibv_context **list);

    /* Bytes that this process may lock for devices; UINT64_MAX: no limit. */
    uint64_t (*memlock)(void);
    /* Whether a module is loaded that lets reg_mr take addresses of GPUs. */
    bool (*peer_memory)(void);
};

/* post_send() for who cannot wait: the device's function itself, where it is
 * known. The cause of a -1 may be what errno said before. */
static inline int
gp_verbs_post_now(const gp_verbs_api *api, struct ibv_qp *qp,
                  struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    int rc;

    if (!api->has_ops)
        return api->post_send(qp, wr, bad);
    rc = qp->context->ops.post_send(qp, wr, bad);
    if (rc >= 0)
        return rc;
    if (rc != -1)
        return -rc;
    return errno ? errno : EPERM;
}

#endif

/*
 * The table of this process: what gp_verbs_api_use() gave, else the system's
 * libraries, loaded once and kept. Any thread.
 *
 * *out   untouched on failure.
 * Returns GP_OK; GP_ERR_UNSUPPORTED: this build has no verbs, or which library
 * cannot be loaded or lacks which call, and the fix.
 */
gp_status gp_verbs_api_get(const gp_verbs_api **out);

/* From now on use `api`, borrowed; NULL: the system's libraries again. For
 * tests, before anything is opened. */
void gp_verbs_api_use(const gp_verbs_api *api);

#endif
