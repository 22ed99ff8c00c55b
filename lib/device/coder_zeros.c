/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_zeros.c - the map of zero blocks on a device: its launches around those
 * of the array stage, and the memory that each part of a call takes.
 */
#include "base/base.h"
#include "compress/zeros.h"
#include "device/coder_codecs.h"

/* Rounding up to 64 bytes of all areas of a part. */
#define SLACK 1024u

static gp_coder_kernel
step(gp_kernel_id id, bool per_part)
{
    return (gp_coder_kernel){id, GP_SELECT_TILE, 256, per_part, 0, 0};
}

/* The kernels look into the rest. */
static bool
length_right(const gp_pipeline *p, size_t length, size_t count)
{
    return length > 0 && length <= gp_pipeline_bound(p, count);
}

gp_status
gp_coder_plan_zeros(const gp_pipeline *p, gp_coder_plan *plan)
{
    if (p->select || p->transform || !plan->layout.bits)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for zeros before these stages on "
                       "this device; see docs/gpu.md, or use the device cpu",
                       gp_pipeline_name(p));
    plan->before[0] = step(GP_KERNEL_gp_cuda_zeros_look, false);
    plan->before[1] = step(GP_KERNEL_gp_cuda_zeros_settle, true);
    plan->before[2] = step(GP_KERNEL_gp_cuda_zeros_pack, false);
    plan->after[0] = step(GP_KERNEL_gp_cuda_zeros_assemble, false);
    plan->back[0] = step(GP_KERNEL_gp_cuda_zeros_feed_back, false);
    plan->open[0] = step(GP_KERNEL_gp_cuda_unzeros_begin, true);
    plan->open[1] = step(GP_KERNEL_gp_cuda_unzeros_read, false);
    plan->undo[0] = step(GP_KERNEL_gp_cuda_unzeros_write, false);
    plan->heads = true;
    plan->right = length_right;
    return GP_OK;
}

static void *
carve(uint8_t *base, size_t *at, size_t bytes)
{
    void *here = base ? base + *at : NULL;

    *at += (bytes + 63) / 64 * 64;
    return here;
}

size_t
gp_coder_lay_zeros(const gp_pipeline *p, const gp_coder_plan *plan,
                   size_t count, uint8_t *base, gp_select *out,
                   gp_cuda_part *values)
{
    size_t block = (size_t)p->zeros->values[0];
    size_t blocks = count / block + 1, at = 0;
    gp_select s = {.k = block, .most = count, .layout = plan->layout};
    void *space;

    s.state = carve(base, &at, sizeof(gp_select_state));
    s.bins = carve(base, &at, 4 * (count / 32 + 1));
    s.index_out = carve(base, &at, 4 * (blocks / 32 + 1));
    s.group_at = carve(base, &at, 8 * blocks);
    s.chosen = carve(base, &at, 4 * count);
    s.undone = carve(base, &at, 4 * count);
    s.message = carve(base, &at, gp_values_bound(p, count));
    space = carve(base, &at, plan->space ? plan->space(p, count) : 0);
    at += SLACK;
    if (!base)
        return at;
    *out = s;
    values->count = count;
    values->bytes = s.message;
    values->target = s.undone;
    values->space = space;
    if (plan->layout.varies)
        values->encoded = &s.state->values;
    values->status = (uint32_t *)(base + at - SLACK);
    return at;
}
