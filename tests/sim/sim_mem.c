/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_mem.c - protection domains, memory regions and windows, and who may use
 * which memory under which key.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define REMOTE_MODIFIES (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)

static sim_device *
device_of(struct ibv_context *context)
{
    return ((sim_context *)context)->device;
}

struct ibv_pd *
sim_alloc_pd(gp_sim *s, struct ibv_context *c)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "alloc_pd");
    sim_pd *pd;

    if (!context) {
        errno = EINVAL;
        return NULL;
    }
    pd = calloc(1, sizeof(*pd));
    if (!pd ||
        context->device->live[GP_SIM_PD] == context->device->have.max_pd) {
        free(pd);
        errno = ENOMEM;
        return NULL;
    }
    pd->v.context = c;
    context->users++;
    context->device->live[GP_SIM_PD]++;
    sim_track(s, &pd->o, GP_SIM_PD, pd);
    return &pd->v;
}

int
sim_dealloc_pd(gp_sim *s, struct ibv_pd *p)
{
    sim_pd *pd = sim_find(s, GP_SIM_PD, p, "dealloc_pd");

    if (!pd)
        return EINVAL;
    if (pd->users) {
        sim_violate(s,
                    "dealloc_pd: %u regions, windows or queue pairs are "
                    "left in it",
                    pd->users);
        return EBUSY;
    }
    ((sim_context *)pd->v.context)->users--;
    device_of(pd->v.context)->live[GP_SIM_PD]--;
    sim_untrack(s, &pd->o);
    free(pd);
    return 0;
}

static bool
key_taken(gp_sim *s, uint32_t key)
{
    for (sim_object *o = s->of_kind[GP_SIM_MR]; o; o = o->next_of_kind) {
        const sim_mr *mr = o->self;

        if (mr->v.lkey == key || mr->v.rkey == key)
            return true;
    }
    for (sim_object *o = s->of_kind[GP_SIM_MW]; o; o = o->next_of_kind)
        if (((sim_mw *)o->self)->key >> 8 == key >> 8)
            return true;
    return key == 0;
}

static uint32_t
new_key(gp_sim *s)
{
    uint32_t key;

    do
        key = (uint32_t)sim_random(s);
    while (key_taken(s, key));
    return key;
}

static int
check_region(gp_sim *s, const sim_pd *pd, size_t length, int access)
{
    const sim_device *d = device_of(pd->v.context);

    if ((access & REMOTE_MODIFIES) && !(access & IBV_ACCESS_LOCAL_WRITE)) {
        sim_violate(s, "reg_mr: remote write without local write");
        return EINVAL;
    }
    if (length == 0 || length > d->have.max_mr_bytes)
        return EINVAL;
    if (d->live[GP_SIM_MR] >= d->have.max_mr ||
        length > d->have.memlock - GP_MIN(d->registered, d->have.memlock))
        return ENOMEM;
    return 0;
}

static sim_mr *
region_new(gp_sim *s, sim_pd *pd, size_t length, int access)
{
    sim_mr *mr;
    int error = check_region(s, pd, length, access);

    mr = error ? NULL : calloc(1, sizeof(*mr));
    if (!mr) {
        errno = error ? error : ENOMEM;
        return NULL;
    }
    mr->v.context = pd->v.context;
    mr->v.pd = &pd->v;
    mr->v.length = length;
    mr->v.lkey = new_key(s);
    mr->access = access;
    sim_track(s, &mr->o, GP_SIM_MR, mr);
    mr->v.rkey = new_key(s);
    pd->users++;
    device_of(pd->v.context)->live[GP_SIM_MR]++;
    device_of(pd->v.context)->registered += length;
    s->stats.registered += length;
    return mr;
}

static bool
is_foreign(const gp_sim *s, const void *base)
{
    return s->options.foreign && s->options.foreign(base);
}

static void
note_foreign(gp_sim *s, const gp_sim_foreign *what)
{
    if (s->foreigners < GP_COUNT_OF(s->foreigner))
        s->foreigner[s->foreigners] = *what;
    s->foreigners++;
}

size_t
gp_sim_foreigners(gp_sim *s, gp_sim_foreign *out, size_t max)
{
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->foreigners;
    for (size_t i = 0; i < GP_MIN(n, GP_MIN(max, GP_COUNT_OF(s->foreigner)));
         i++)
        out[i] = s->foreigner[i];
    pthread_mutex_unlock(&s->lock);
    return n;
}

struct ibv_mr *
sim_reg_mr(gp_sim *s, struct ibv_pd *p, void *base, size_t length, int access)
{
    sim_pd *pd = sim_find(s, GP_SIM_PD, p, "reg_mr");
    sim_mr *mr;

    if (!pd) {
        errno = EINVAL;
        return NULL;
    }
    if (is_foreign(s, base) && !device_of(pd->v.context)->have.peermem) {
        errno = EFAULT;
        return NULL;
    }
    mr = region_new(s, pd, length, access);
    if (!mr)
        return NULL;
    if (is_foreign(s, base))
        note_foreign(s, &(gp_sim_foreign){.iova = (uintptr_t)base,
                                          .length = length,
                                          .fd = -1,
                                          .access = access,
                                          .pd = p});
    mr->v.addr = base;
    mr->memory = base;
    mr->base = (uintptr_t)base;
    return &mr->v;
}

struct ibv_mr *
sim_reg_dmabuf_mr(gp_sim *s, struct ibv_pd *p, uint64_t offset, size_t length,
                  uint64_t iova, int fd, int access)
{
    sim_pd *pd = sim_find(s, GP_SIM_PD, p, "reg_dmabuf_mr");
    uint64_t page = offset & 4095;
    sim_mr *mr;
    void *map;

    if (!pd || !device_of(pd->v.context)->have.dmabuf) {
        errno = pd ? EOPNOTSUPP : EINVAL;
        return NULL;
    }
    if (page != (iova & 4095)) {
        sim_violate(s, "reg_dmabuf_mr: offset and iova differ within a page");
        errno = EINVAL;
        return NULL;
    }
    map = mmap(NULL, length + page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
               (off_t)(offset - page));
    if (map == MAP_FAILED)
        return NULL; /* EBADF for a probe with descriptor -1 */
    mr = region_new(s, pd, length, access);
    if (!mr) {
        munmap(map, length + page);
        return NULL;
    }
    note_foreign(s, &(gp_sim_foreign){offset, iova, length, fd, access, p});
    mr->v.addr = (void *)(uintptr_t)offset; /* as the real one: no pointer */
    mr->memory = (uint8_t *)map + page;
    mr->base = iova;
    mr->mapped = true;
    return &mr->v;
}

void
sim_mr_free(gp_sim *s, sim_mr *mr)
{
    size_t page = (uintptr_t)mr->memory & 4095;

    (void)s;
    if (mr->mapped)
        munmap(mr->memory - page, mr->v.length + page);
    free(mr);
}

static bool
uses(const struct ibv_sge *sge, int count, uint32_t lkey)
{
    for (int i = 0; i < count; i++)
        if (sge[i].length && sge[i].lkey == lkey)
            return true;
    return false;
}

/* Work that the device may still do with a region; flushed work is none. */
static bool
in_flight(gp_sim *s, uint32_t lkey, const char **where)
{
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind) {
        const sim_qp *qp = o->self;

        if (qp->state == IBV_QPS_ERR || qp->dead)
            continue;
        *where = "send queue";
        for (uint64_t i = qp->sq_done; i < qp->sq_tail; i++) {
            const sim_wqe *w = &qp->sq[i % qp->cap.max_send_wr];

            if (!w->bytes && uses(w->sge, w->sges, lkey))
                return true;
        }
        *where = "receive queue";
        for (uint64_t i = qp->rq_exec; i < qp->rq_tail; i++) {
            const sim_rqe *r = &qp->rq[i % qp->cap.max_recv_wr];

            if (uses(r->sge, r->sges, lkey))
                return true;
        }
    }
    return false;
}

int
sim_dereg_mr(gp_sim *s, struct ibv_mr *m)
{
    sim_mr *mr = sim_find(s, GP_SIM_MR, m, "dereg_mr");
    const char *where;

    if (!mr)
        return EINVAL;
    if (mr->windows) {
        sim_violate(s, "dereg_mr: %u windows are bound to it", mr->windows);
        return EBUSY;
    }
    if (in_flight(s, mr->v.lkey, &where))
        sim_violate(s, "dereg_mr: a %s still uses it", where);
    ((sim_pd *)mr->v.pd)->users--;
    device_of(mr->v.context)->live[GP_SIM_MR]--;
    device_of(mr->v.context)->registered -= mr->v.length;
    s->stats.registered -= mr->v.length;
    sim_untrack(s, &mr->o);
    sim_mr_free(s, mr);
    return 0;
}

struct ibv_mw *
sim_alloc_mw(gp_sim *s, struct ibv_pd *p, enum ibv_mw_type type)
{
    sim_pd *pd = sim_find(s, GP_SIM_PD, p, "alloc_mw");
    sim_device *d = pd ? device_of(pd->v.context) : NULL;
    sim_mw *mw;

    if (!pd || d->have.no_windows || type != IBV_MW_TYPE_2) {
        errno = pd ? EOPNOTSUPP : EINVAL;
        return NULL;
    }
    mw = d->live[GP_SIM_MW] < d->have.max_mw ? calloc(1, sizeof(*mw)) : NULL;
    if (!mw) {
        errno = ENOMEM;
        return NULL;
    }
    mw->v.context = pd->v.context;
    mw->v.pd = p;
    mw->v.type = type;
    mw->v.rkey = mw->key = mw->asked = new_key(s);
    pd->users++;
    d->live[GP_SIM_MW]++;
    sim_track(s, &mw->o, GP_SIM_MW, mw);
    return &mw->v;
}

static void
unbind(sim_mw *mw)
{
    if (mw->qp)
        mw->mr->windows--;
    mw->qp = NULL;
    mw->mr = NULL;
}

int
sim_dealloc_mw(gp_sim *s, struct ibv_mw *m)
{
    sim_mw *mw = sim_find(s, GP_SIM_MW, m, "dealloc_mw");

    if (!mw)
        return EINVAL;
    unbind(mw);
    ((sim_pd *)mw->v.pd)->users--;
    device_of(mw->v.context)->live[GP_SIM_MW]--;
    sim_untrack(s, &mw->o);
    free(mw);
    return 0;
}

static bool
within(const sim_mr *mr, uint64_t address, uint64_t length)
{
    return address >= mr->base && length <= mr->v.length &&
           address - mr->base <= mr->v.length - length;
}

/* The key of a bound window is the one of the bind request. A window or region
 * that went in the meantime makes the request fail, and its queue pair. */
enum ibv_wc_status
sim_bind(gp_sim *s, sim_qp *qp, const sim_wqe *w)
{
    sim_mw *mw = sim_look(s, GP_SIM_MW, w->mw);
    sim_mr *mr = sim_look(s, GP_SIM_MR, w->bind.mr);
    unsigned access = w->bind.mw_access_flags;

    if (!mw || !mr || mw->qp || mw->v.pd != qp->v.pd || mr->v.pd != qp->v.pd)
        return IBV_WC_MW_BIND_ERR;
    if (w->rkey >> 8 != mw->key >> 8) {
        sim_violate(s, "bind: only the low 8 bits of a window's key are free");
        return IBV_WC_MW_BIND_ERR;
    }
    if (!(mr->access & IBV_ACCESS_MW_BIND) ||
        ((access & REMOTE_MODIFIES) &&
         !(mr->access & IBV_ACCESS_LOCAL_WRITE)) ||
        !within(mr, w->bind.addr, w->bind.length))
        return IBV_WC_MW_BIND_ERR;
    mw->key = w->rkey;
    mw->qp = qp;
    mw->mr = mr;
    mw->address = w->bind.addr;
    mw->length = w->bind.length;
    mw->access = access;
    mr->windows++;
    s->stats.binds++;
    return IBV_WC_SUCCESS;
}

static sim_mw *
window_of(gp_sim *s, uint32_t rkey)
{
    for (sim_object *o = s->of_kind[GP_SIM_MW]; o; o = o->next_of_kind)
        if (((sim_mw *)o->self)->qp && ((sim_mw *)o->self)->key == rkey)
            return o->self;
    return NULL;
}

enum ibv_wc_status
sim_invalidate(gp_sim *s, sim_qp *qp, uint32_t rkey)
{
    sim_mw *mw = window_of(s, rkey);

    if (!mw || mw->qp != qp)
        return IBV_WC_MW_BIND_ERR;
    unbind(mw);
    s->stats.invalidates++;
    return IBV_WC_SUCCESS;
}

void
sim_unbind_all(gp_sim *s, const sim_qp *qp)
{
    for (sim_object *o = s->of_kind[GP_SIM_MW]; o; o = o->next_of_kind)
        if (((sim_mw *)o->self)->qp == qp)
            unbind(o->self);
}

uint8_t *
sim_local(gp_sim *s, const sim_qp *qp, uint32_t lkey, uint64_t address,
          uint64_t length, bool write)
{
    for (sim_object *o = s->of_kind[GP_SIM_MR]; o; o = o->next_of_kind) {
        sim_mr *mr = o->self;

        if (mr->v.lkey != lkey)
            continue;
        if (mr->v.pd != qp->v.pd || !within(mr, address, length) ||
            (write && !(mr->access & IBV_ACCESS_LOCAL_WRITE)))
            return NULL;
        return mr->memory + (address - mr->base);
    }
    return NULL;
}

uint8_t *
sim_remote(gp_sim *s, const sim_qp *qp, uint32_t rkey, uint64_t address,
           uint64_t length)
{
    sim_mw *mw = window_of(s, rkey);

    if (!(qp->access & IBV_ACCESS_REMOTE_WRITE))
        return NULL;
    if (mw) {
        if (mw->qp != qp || !(mw->access & IBV_ACCESS_REMOTE_WRITE) ||
            address < mw->address || length > mw->length ||
            address - mw->address > mw->length - length)
            return NULL;
        return mw->mr->memory + (address - mw->mr->base);
    }
    for (sim_object *o = s->of_kind[GP_SIM_MR]; o; o = o->next_of_kind) {
        sim_mr *mr = o->self;

        if (mr->v.rkey != rkey)
            continue;
        if (mr->v.pd != qp->v.pd || !within(mr, address, length) ||
            !(mr->access & IBV_ACCESS_REMOTE_WRITE))
            return NULL;
        return mr->memory + (address - mr->base);
    }
    return NULL;
}
