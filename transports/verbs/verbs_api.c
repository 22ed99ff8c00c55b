/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_api.c - loads libibverbs and librdmacm and fills the table of calls.
 *
 * Nothing of the two is linked. Several names of verbs.h are macros or inline
 * functions over a symbol; where such a name is called here it stands in
 * parentheses, so that what runs is the symbol that was loaded. The libraries
 * stay loaded for the life of the process: devices they opened, and threads
 * inside them, may outlive whoever asked first.
 */
#include "transports/verbs/verbs_api.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/base.h"
#include "transports/verbs/verbs_limit.h"

/* What gp_verbs_api_use() gave. */
static const gp_verbs_api *_Atomic chosen;

void
gp_verbs_api_use(const gp_verbs_api *api)
{
    atomic_store(&chosen, api);
}

#ifndef GP_HAVE_VERBS

static gp_status
system_api(const gp_verbs_api **out)
{
    (void)out;
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "this build has no verbs: install libibverbs-dev and "
                   "librdmacm-dev, and configure with -DGRADPUSH_VERBS=ON");
}

#else

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define IBVERBS     "libibverbs.so.1"
#define RDMACM      "librdmacm.so.1"
#define QUIET_BYTES 32768u /* memlock limit up to which libibverbs prints */

/* X(symbol, optional) */
#define IBVERBS_SYMBOLS(X)         \
    X(ibv_get_device_list, 0)      \
    X(ibv_free_device_list, 0)     \
    X(ibv_get_device_name, 0)      \
    X(ibv_open_device, 0)          \
    X(ibv_close_device, 0)         \
    X(ibv_query_device, 0)         \
    X(ibv_query_port, 0)           \
    X(ibv_query_gid, 0)            \
    X(ibv_get_async_event, 0)      \
    X(ibv_ack_async_event, 0)      \
    X(ibv_alloc_pd, 0)             \
    X(ibv_dealloc_pd, 0)           \
    X(ibv_reg_mr, 0)               \
    X(ibv_reg_mr_iova2, 1)         \
    X(ibv_reg_dmabuf_mr, 1)        \
    X(ibv_dereg_mr, 0)             \
    X(ibv_create_comp_channel, 0)  \
    X(ibv_destroy_comp_channel, 0) \
    X(ibv_create_cq, 0)            \
    X(ibv_destroy_cq, 0)           \
    X(ibv_get_cq_event, 0)         \
    X(ibv_ack_cq_events, 0)        \
    X(ibv_modify_qp, 0)            \
    X(ibv_query_qp, 0)             \
    X(ibv_wc_status_str, 0)        \
    X(ibv_event_type_str, 0)

#define RDMACM_SYMBOLS(X)            \
    X(rdma_event_str, 0)             \
    X(rdma_create_event_channel, 0)  \
    X(rdma_destroy_event_channel, 0) \
    X(rdma_create_id, 0)             \
    X(rdma_destroy_id, 0)            \
    X(rdma_set_option, 0)            \
    X(rdma_bind_addr, 0)             \
    X(rdma_resolve_addr, 0)          \
    X(rdma_resolve_route, 0)         \
    X(rdma_create_qp, 0)             \
    X(rdma_destroy_qp, 0)            \
    X(rdma_listen, 0)                \
    X(rdma_connect, 0)               \
    X(rdma_accept, 0)                \
    X(rdma_reject, 0)                \
    X(rdma_notify, 0)                \
    X(rdma_disconnect, 0)            \
    X(rdma_get_cm_event, 0)          \
    X(rdma_ack_cm_event, 0)          \
    X(rdma_get_src_port, 0)          \
    X(rdma_get_devices, 1)           \
    X(rdma_free_devices, 1)

static struct {
#define MEMBER(symbol, optional) __typeof__(symbol) *symbol;
    IBVERBS_SYMBOLS(MEMBER)
    RDMACM_SYMBOLS(MEMBER)
#undef MEMBER
} raw;

typedef struct symbol {
    const char *name;
    void *target; /* a member of `raw` */
    bool optional;
} symbol;

#define SYMBOL(name, optional) {#name, &raw.name, optional},
static const symbol ibverbs_symbols[] = {IBVERBS_SYMBOLS(SYMBOL)};
static const symbol rdmacm_symbols[] = {RDMACM_SYMBOLS(SYMBOL)};
#undef SYMBOL

/* 0 or a positive errno value, whichever of the conventions `rc` follows. The
 * caller has set errno to 0 before the call. */
static int
result(int rc)
{
    if (rc >= 0)
        return rc;
    if (rc != -1)
        return -rc;
    return errno ? errno : EPERM; /* -1 alone may be a negative EPERM */
}

#define RESULT(call) (errno = 0, result(call))

static int
close_device(struct ibv_context *context)
{
    return RESULT((raw.ibv_close_device)(context));
}

static int
query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    return RESULT((raw.ibv_query_device)(context, attr));
}

/* As the inline function of verbs.h: the symbol is the old, shorter form. */
static int
query_port(struct ibv_context *context, uint8_t port,
           struct ibv_port_attr *attr)
{
    struct verbs_context *wide = verbs_get_ctx_op(context, query_port);

    memset(attr, 0, sizeof(*attr));
    if (wide)
        return RESULT(wide->query_port(context, port, attr, sizeof(*attr)));
    return RESULT((raw.ibv_query_port)(
        context, port, (struct _compat_ibv_port_attr *)(void *)attr));
}

static int
query_gid(struct ibv_context *context, uint8_t port, int index,
          union ibv_gid *gid)
{
    return RESULT((raw.ibv_query_gid)(context, port, index, gid));
}

static int
get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    return RESULT((raw.ibv_get_async_event)(context, event));
}

static int
dealloc_pd(struct ibv_pd *pd)
{
    return RESULT((raw.ibv_dealloc_pd)(pd));
}

/* Flags that a device may ignore are known to the newer call only, which
 * removes them where the kernel does not know them. */
static struct ibv_mr *
reg_mr(struct ibv_pd *pd, void *base, size_t length, int access)
{
    if (!(access & IBV_ACCESS_OPTIONAL_RANGE))
        return (raw.ibv_reg_mr)(pd, base, length, access);
    if (raw.ibv_reg_mr_iova2)
        return (raw.ibv_reg_mr_iova2)(pd, base, length, (uintptr_t)base,
                                      (unsigned)access);
    return (raw.ibv_reg_mr)(pd, base, length,
                            access & ~IBV_ACCESS_OPTIONAL_RANGE);
}

static int
dereg_mr(struct ibv_mr *mr)
{
    return RESULT((raw.ibv_dereg_mr)(mr));
}

static struct ibv_mw *
alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
    if (!pd->context->ops.alloc_mw) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    return pd->context->ops.alloc_mw(pd, type);
}

static int
dealloc_mw(struct ibv_mw *mw)
{
    return RESULT(mw->context->ops.dealloc_mw(mw));
}

static int
destroy_comp_channel(struct ibv_comp_channel *channel)
{
    return RESULT((raw.ibv_destroy_comp_channel)(channel));
}

static int
destroy_cq(struct ibv_cq *cq)
{
    return RESULT((raw.ibv_destroy_cq)(cq));
}

/* Providers answer with numbers of their own, not with errno values. */
static int
poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc)
{
    int n = cq->context->ops.poll_cq(cq, count, wc);

    return n >= 0 ? n : -EIO;
}

static int
req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
    return RESULT(cq->context->ops.req_notify_cq(cq, solicited_only));
}

static int
get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user)
{
    return RESULT((raw.ibv_get_cq_event)(channel, cq, user));
}

static int
modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
    return RESULT((raw.ibv_modify_qp)(qp, attr, mask));
}

static int
query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
         struct ibv_qp_init_attr *init)
{
    return RESULT((raw.ibv_query_qp)(qp, attr, mask, init));
}

static int
post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    return RESULT(qp->context->ops.post_send(qp, wr, bad));
}

static int
post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    return RESULT(qp->context->ops.post_recv(qp, wr, bad));
}

static int
cm_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id,
             void *context, enum rdma_port_space space)
{
    return RESULT((raw.rdma_create_id)(channel, id, context, space));
}

static int
cm_destroy_id(struct rdma_cm_id *id)
{
    return RESULT((raw.rdma_destroy_id)(id));
}

static int
cm_set_option(struct rdma_cm_id *id, int level, int name, void *value,
              size_t length)
{
    return RESULT((raw.rdma_set_option)(id, level, name, value, length));
}

static int
cm_bind_addr(struct rdma_cm_id *id, struct sockaddr *address)
{
    return RESULT((raw.rdma_bind_addr)(id, address));
}

static int
cm_resolve_addr(struct rdma_cm_id *id, struct sockaddr *source,
                struct sockaddr *target, int timeout_ms)
{
    return RESULT((raw.rdma_resolve_addr)(id, source, target, timeout_ms));
}

static int
cm_resolve_route(struct rdma_cm_id *id, int timeout_ms)
{
    return RESULT((raw.rdma_resolve_route)(id, timeout_ms));
}

static int
cm_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
             struct ibv_qp_init_attr *attr)
{
    return RESULT((raw.rdma_create_qp)(id, pd, attr));
}

static int
cm_listen(struct rdma_cm_id *id, int backlog)
{
    return RESULT((raw.rdma_listen)(id, backlog));
}

static int
cm_connect(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
    return RESULT((raw.rdma_connect)(id, param));
}

static int
cm_accept(struct rdma_cm_id *id, struct rdma_conn_param *param)
{
    return RESULT((raw.rdma_accept)(id, param));
}

static int
cm_reject(struct rdma_cm_id *id, const void *data, uint8_t length)
{
    return RESULT((raw.rdma_reject)(id, data, length));
}

static int
cm_notify(struct rdma_cm_id *id, enum ibv_event_type event)
{
    return RESULT((raw.rdma_notify)(id, event));
}

static int
cm_disconnect(struct rdma_cm_id *id)
{
    return RESULT((raw.rdma_disconnect)(id));
}

static int
cm_get_event(struct rdma_event_channel *channel, struct rdma_cm_event **event)
{
    return RESULT((raw.rdma_get_cm_event)(channel, event));
}

static int
cm_ack_event(struct rdma_cm_event *event)
{
    return RESULT((raw.rdma_ack_cm_event)(event));
}

/* Calls with a result of their own; those that need no change of convention
 * are put in by fill(). */
static gp_verbs_api api = {
    .source = IBVERBS,
    .has_ops = true,
    .close_device = close_device,
    .query_device = query_device,
    .query_port = query_port,
    .query_gid = query_gid,
    .get_async_event = get_async_event,
    .dealloc_pd = dealloc_pd,
    .reg_mr = reg_mr,
    .dereg_mr = dereg_mr,
    .alloc_mw = alloc_mw,
    .dealloc_mw = dealloc_mw,
    .destroy_comp_channel = destroy_comp_channel,
    .destroy_cq = destroy_cq,
    .poll_cq = poll_cq,
    .req_notify_cq = req_notify_cq,
    .get_cq_event = get_cq_event,
    .modify_qp = modify_qp,
    .query_qp = query_qp,
    .post_send = post_send,
    .post_recv = post_recv,
    .rdma_create_id = cm_create_id,
    .rdma_destroy_id = cm_destroy_id,
    .rdma_set_option = cm_set_option,
    .rdma_bind_addr = cm_bind_addr,
    .rdma_resolve_addr = cm_resolve_addr,
    .rdma_resolve_route = cm_resolve_route,
    .rdma_create_qp = cm_create_qp,
    .rdma_listen = cm_listen,
    .rdma_connect = cm_connect,
    .rdma_accept = cm_accept,
    .rdma_reject = cm_reject,
    .rdma_notify = cm_notify,
    .rdma_disconnect = cm_disconnect,
    .rdma_get_cm_event = cm_get_event,
    .rdma_ack_cm_event = cm_ack_event,
};

/* Necessary, not sufficient: the module loads on kernels without clients for
 * peer memory, too. */
static bool
peer_memory(void)
{
    static const char *const files[] = {
        "/sys/kernel/mm/memory_peers/nv_mem/version",
        "/sys/kernel/mm/memory_peers/nv_mem_nc/version",
        "/sys/module/nvidia_peermem/version",
        "/sys/module/nv_peer_mem/version"};

    for (size_t i = 0; i < GP_COUNT_OF(files); i++)
        if (access(files[i], F_OK) == 0)
            return true;
    return false;
}

static void
fill(void)
{
    api.memlock = gp_verbs_memlock;
    api.peer_memory = peer_memory;
    api.get_device_list = raw.ibv_get_device_list;
    api.free_device_list = raw.ibv_free_device_list;
    api.get_device_name = raw.ibv_get_device_name;
    api.open_device = raw.ibv_open_device;
    api.ack_async_event = raw.ibv_ack_async_event;
    api.alloc_pd = raw.ibv_alloc_pd;
    api.reg_dmabuf_mr = raw.ibv_reg_dmabuf_mr;
    api.create_comp_channel = raw.ibv_create_comp_channel;
    api.create_cq = raw.ibv_create_cq;
    api.ack_cq_events = raw.ibv_ack_cq_events;
    api.wc_status_str = raw.ibv_wc_status_str;
    api.event_type_str = raw.ibv_event_type_str;
    api.rdma_event_str = raw.rdma_event_str;
    api.rdma_create_event_channel = raw.rdma_create_event_channel;
    api.rdma_destroy_event_channel = raw.rdma_destroy_event_channel;
    api.rdma_destroy_qp = raw.rdma_destroy_qp;
    api.rdma_get_src_port = raw.rdma_get_src_port;
    if (raw.rdma_free_devices) {
        api.rdma_get_devices = raw.rdma_get_devices;
        api.rdma_free_devices = raw.rdma_free_devices;
    }
}

static char problem[512]; /* why the libraries are not there; "" if they are */

/* dlsym gives an object pointer; POSIX wants it stored through one. */
static bool
load_symbols(void *library, const char *file, const symbol *symbols,
             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *address = dlsym(library, symbols[i].name);

        if (!address && !symbols[i].optional) {
            snprintf(problem, sizeof(problem),
                     "%s has no %s: install the libibverbs1 and librdmacm1 of "
                     "rdma-core 17 or newer",
                     file, symbols[i].name);
            return false;
        }
        memcpy(symbols[i].target, &address, sizeof(address));
    }
    return true;
}

static bool
load(const char *file, const symbol *symbols, size_t count)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    const char *why;

    if (library)
        return load_symbols(library, file, symbols, count);
    why = dlerror();
    snprintf(problem, sizeof(problem),
             "%s cannot be loaded (%s): apt-get install libibverbs1 "
             "librdmacm1 ibverbs-providers",
             file, why ? why : "no reason given");
    return false;
}

/*
 * The first use of libibverbs prints a warning when little memory may be
 * locked. A library has no business on standard error, and the transport says
 * the same where a registration fails; so the first use happens here, with the
 * limit raised for that moment where that is allowed.
 */
static void
start_quietly(void)
{
    struct rlimit now, raised;
    struct ibv_device **list;

    if (geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &now) != 0 ||
        now.rlim_cur > QUIET_BYTES || now.rlim_max <= QUIET_BYTES)
        return;
    raised = now;
    raised.rlim_cur = now.rlim_max;
    if (setrlimit(RLIMIT_MEMLOCK, &raised) != 0)
        return;
    list = (raw.ibv_get_device_list)(NULL);
    if (list)
        (raw.ibv_free_device_list)(list);
    setrlimit(RLIMIT_MEMLOCK, &now);
}

static void
load_once(void)
{
    if (!load(IBVERBS, ibverbs_symbols, GP_COUNT_OF(ibverbs_symbols)) ||
        !load(RDMACM, rdmacm_symbols, GP_COUNT_OF(rdmacm_symbols)))
        return;
    fill();
    start_quietly();
}

static gp_status
system_api(const gp_verbs_api **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, load_once);
    if (*problem)
        return gp_fail(GP_ERR_UNSUPPORTED, "%s", problem);
    *out = &api;
    return GP_OK;
}

#endif

gp_status
gp_verbs_api_get(const gp_verbs_api **out)
{
    const gp_verbs_api *given = atomic_load(&chosen);

    if (!given)
        return system_api(out);
    *out = given;
    return GP_OK;
}
