/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.c - requests whose gradient comes part by part.
 *
 * A chunk is absent until all of its elements are there, as one whose copy
 * from a device is under way. What looks at a gradient as a whole begins when
 * all of it is there. The counts change under the driver's hold only.
 */
#include <string.h>

#include "worker/worker_int.h"

void
gp_parts_open(gp_request *r)
{
    r->parts = true;
    r->lacking = r->tensor->spec.count;
    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        r->op[i].absent = true;
        r->op[i].lacking = gp_op_info(&r->op[i])->count;
        atomic_store(&r->op[i].answered, false);
    }
}

void
gp_parts_close(gp_request *r)
{
    for (uint32_t i = 0; r->parts && i < r->tensor->chunks; i++)
        r->op[i].absent = false;
    r->parts = false;
}

/* How much of a chunk lies in a range of its tensor. */
static uint64_t
overlap(const gp_chunk_info *chunk, uint64_t offset, uint64_t count)
{
    uint64_t begin = GP_MAX(chunk->offset, offset);
    uint64_t end = GP_MIN(chunk->offset + chunk->count, offset + count);

    return end > begin ? end - begin : 0;
}

static gp_status
check_range(const gp_request *r, uint64_t offset, uint64_t count,
            const char *call)
{
    uint64_t all;

    if (!r || r->collective || !r->parts)
        return gp_fail(GP_ERR_INVALID,
                       "%s: not a request of gp_push_pull_parts()", call);
    all = r->tensor->spec.count;
    if (count > 0 && offset < all && count <= all - offset)
        return GP_OK;
    return gp_fail(GP_ERR_INVALID,
                   "%s: elements %llu to %llu of tensor '%.60s', which has "
                   "%llu",
                   call, (unsigned long long)offset,
                   (unsigned long long)(offset + count), r->tensor->spec.name,
                   (unsigned long long)all);
}

static gp_status
check_new(const gp_request *r, uint64_t offset, uint64_t count)
{
    for (uint32_t i = 0; i < r->tensor->chunks; i++)
        if (overlap(gp_op_info(&r->op[i]), offset, count) > r->op[i].lacking)
            return gp_fail(GP_ERR_STATE,
                           "gp_part_ready: part of elements %llu to %llu of "
                           "tensor '%.60s' was ready before",
                           (unsigned long long)offset,
                           (unsigned long long)(offset + count),
                           r->tensor->spec.name);
    return GP_OK;
}

static void
let_go(gp_op *op)
{
    op->absent = false;
    gp_engine_arrived(op);
}

static void
take_part(gp_request *r, uint64_t offset, uint64_t count)
{
    bool whole = gp_encode_is_whole(r->tensor);

    r->lacking -= count;
    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        gp_op *op = &r->op[i];
        uint64_t here = overlap(gp_op_info(op), offset, count);

        op->lacking -= here;
        if ((!whole && here > 0 && op->lacking == 0) ||
            (whole && r->lacking == 0))
            let_go(op);
    }
    r->tensor->worker->nudged = true;
}

gp_status
gp_part_ready(gp_request *r, uint64_t offset, uint64_t count)
{
    gp_status status = check_range(r, offset, count, "gp_part_ready");
    gp_driver *driver;

    if (status != GP_OK)
        return status;
    driver = r->tensor->worker->driver;
    gp_driver_hold(driver);
    status = gp_worker_fault(r->tensor->worker);
    if (status == GP_OK)
        status = check_new(r, offset, count);
    if (status == GP_OK)
        take_part(r, offset, count);
    gp_driver_release(driver);
    if (status == GP_OK)
        gp_driver_kick(driver);
    return status;
}

typedef struct part {
    gp_request *request;
    uint32_t first, last; /* chunks that lie in it */
} part;

static bool
part_arrived(void *arg)
{
    const part *p = arg;
    gp_request *r = p->request;

    if (atomic_load_explicit(&r->done, memory_order_acquire))
        return true;
    for (uint32_t i = p->first; i <= p->last; i++)
        if (!atomic_load_explicit(&r->op[i].answered, memory_order_acquire))
            return false;
    return true;
}

static part
find_part(gp_request *r, uint64_t offset, uint64_t count)
{
    part p = {.request = r, .first = UINT32_MAX};

    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        if (overlap(gp_op_info(&r->op[i]), offset, count) == 0)
            continue;
        p.first = GP_MIN(p.first, i);
        p.last = i;
    }
    return p;
}

gp_status
gp_part_wait(gp_request *r, uint64_t offset, uint64_t count, double seconds)
{
    gp_status status = check_range(r, offset, count, "gp_part_wait");
    uint64_t start;
    gp_worker *w;
    part p;

    if (status != GP_OK)
        return status;
    w = r->tensor->worker;
    p = find_part(r, offset, count);
    if (seconds < 0)
        seconds = w->timeout;
    if (!part_arrived(&p)) {
        start = gp_clock_ns();
        (void)gp_driver_wait(w->driver, part_arrived, &p, gp_deadline(seconds));
        atomic_fetch_add_explicit(&w->waited_ns, gp_clock_ns() - start,
                                  memory_order_relaxed);
    }
    if (!part_arrived(&p))
        return gp_fail(GP_ERR_TIMEOUT,
                       "tensor '%.60s': elements %llu to %llu are not here "
                       "after %.1f s",
                       r->tensor->spec.name, (unsigned long long)offset,
                       (unsigned long long)(offset + count), seconds);
    if (!atomic_load(&r->done) || r->status == GP_OK)
        return GP_OK;
    status = gp_worker_fault(w);
    return status == GP_OK ? gp_fail(r->status, "%s", gp_status_text(r->status))
                           : status;
}
