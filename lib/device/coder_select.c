/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_select.c - selections on a device: their launches, and the memory that
 * each part of a call takes.
 *
 * The kernels choose elements, tell the array stage of them, and put its bytes
 * behind the indices; select.cu says how.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "compress/index.h"
#include "compress/kernels.h"
#include "compress/ratio.h"
#include "compress/select.h"
#include "device/coder_codecs.h"

#define TILE GP_SELECT_TILE
/* Below so many elements all are candidates. */
#define SMALL    65536u
#define SAMPLES  65536u
#define SPARSITY 64u
/* Blocks of the grid that work on a part beside the one pass over memory: what
 * a large device runs at once, and fewer where each has to begin with bins. */
#define WAVE     1024u
#define COUNTERS 528u
#define SAMPLERS 64u
/* Rounding up to 64 bytes of all areas of a part, and what one more element in
 * a count does to them. */
#define SLACK 8192u
/* Up to here everything may be sent instead of a selection, whatever the codec
 * makes of it. */
#define FEW 512u

/* ---- the launches ---- */

static gp_coder_kernel
step(gp_kernel_id id, uint32_t threads, uint32_t per_part, uint32_t level)
{
    return (gp_coder_kernel){id, TILE, threads, per_part, level, 0};
}

static size_t
plan_kth(gp_coder_kernel *k)
{
    for (uint32_t level = 0; level < 3; level++) {
        k[2 * level] =
            step(GP_KERNEL_gp_cuda_select_count_bins, 256, COUNTERS, level);
        k[2 * level + 1] = step(GP_KERNEL_gp_cuda_select_narrow, 256, 1, level);
    }
    return 6;
}

static void
plan_steps(bool kth, bool scaled, gp_coder_plan *plan)
{
    gp_coder_kernel *k = plan->before;

    *k++ = step(GP_KERNEL_gp_cuda_select_begin, 256, SAMPLERS, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_bound, 1024, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_collect, 256, 0, 0);
    if (kth)
        k += plan_kth(k);
    if (scaled) {
        *k++ = step(GP_KERNEL_gp_cuda_select_sum, 256, 0, 0);
        *k++ = step(GP_KERNEL_gp_cuda_select_least, 256, 1, 0);
    }
    *k++ = step(GP_KERNEL_gp_cuda_select_count, 256, WAVE, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_place, 1024, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_write, 256, WAVE, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_measure, 256, WAVE, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_settle, 1024, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_indices, 256, WAVE, 0);
    plan->after[0] = step(GP_KERNEL_gp_cuda_select_assemble, 256, WAVE, 0);
    plan->back[0] = step(GP_KERNEL_gp_cuda_select_feed_back, 256, WAVE, 0);
    plan->back[1] = step(GP_KERNEL_gp_cuda_select_forget, 256, WAVE, 0);
}

/* The cut has been found already. */
static void
plan_whole(bool kth, gp_coder_plan *plan)
{
    gp_coder_kernel *k = plan->look;

    *k++ = step(GP_KERNEL_gp_cuda_select_look, 32, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_begin, 256, SAMPLERS, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_bound, 1024, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_collect, 256, 0, 0);
    if (kth) {
        k += plan_kth(k);
        *k++ = step(GP_KERNEL_gp_cuda_select_count, 256, WAVE, 0);
        *k++ = step(GP_KERNEL_gp_cuda_select_place, 1024, 1, 0);
    } else {
        *k++ = step(GP_KERNEL_gp_cuda_select_sum, 256, 0, 0);
        *k++ = step(GP_KERNEL_gp_cuda_select_least, 256, 1, 0);
    }
    *k = step(GP_KERNEL_gp_cuda_select_end, 32, 0, 0);
}

/* What randk draws, before the launch after `k`. */
static gp_coder_kernel *
plan_draws(gp_coder_kernel *k)
{
    *k++ = step(GP_KERNEL_gp_cuda_draw_clear, 256, 0, 0);
    *k++ = step(GP_KERNEL_gp_cuda_draw_try, 256, 0, 0);
    *k++ = step(GP_KERNEL_gp_cuda_draw_set, 256, 0, 0);
    *k++ = step(GP_KERNEL_gp_cuda_draw_count, 32, 0, 0);
    *k++ = step(GP_KERNEL_gp_cuda_select_place, 1024, 1, 0);
    *k++ = step(GP_KERNEL_gp_cuda_draw_write, 32, 0, 0);
    return k;
}

static void
plan_randk(gp_coder_plan *plan)
{
    gp_coder_kernel *k = plan->before;

    *k++ = step(GP_KERNEL_gp_cuda_select_begin, 256, SAMPLERS, 0);
    k = plan_draws(k);
    *k = step(GP_KERNEL_gp_cuda_draw_settle, 32, 1, 0);
    plan->after[0] = step(GP_KERNEL_gp_cuda_select_assemble, 256, WAVE, 0);
    plan->back[0] = step(GP_KERNEL_gp_cuda_select_feed_back, 256, WAVE, 0);
    plan->back[1] = step(GP_KERNEL_gp_cuda_select_forget, 256, WAVE, 0);
    k = plan->open;
    *k++ = step(GP_KERNEL_gp_cuda_unselect_begin, 32, 1, 0);
    k = plan_draws(k);
    *k = step(GP_KERNEL_gp_cuda_unselect_read, 256, 0, 0);
    plan->undo[0] = step(GP_KERNEL_gp_cuda_unselect_write, 256, 0, 0);
    plan->draws = true;
}

/* Indices that can be read from anywhere. */
static void
plan_decode(gp_coder_plan *plan)
{
    plan->open[0] = step(GP_KERNEL_gp_cuda_unselect_begin, 32, 1, 0);
    plan->open[1] = step(GP_KERNEL_gp_cuda_unselect_read, 256, 0, 0);
    plan->undo[0] = step(GP_KERNEL_gp_cuda_unselect_write, 256, 0, 0);
}

/* The kernels look into the rest. */
static bool
length_right(const gp_pipeline *p, size_t length, size_t count)
{
    return length > 0 && length <= gp_pipeline_bound(p, count);
}

/* ---- what a pipeline says ---- */

static gp_status
no_kernel(const gp_pipeline *p, const char *what)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "codec %s: no kernel for %s on this device; see "
                   "docs/gpu.md, or use the device cpu",
                   gp_pipeline_name(p), what);
}

static bool
is_topk(const gp_pipeline *p)
{
    return p->select->ops == &gp_codec_topk;
}

static bool
is_randk(const gp_pipeline *p)
{
    return p->select->ops == &gp_codec_randk;
}

static bool
is_threshold(const gp_pipeline *p)
{
    return p->select->ops == &gp_codec_threshold;
}

/* relative=1 */
static bool
is_scaled(const gp_pipeline *p)
{
    return is_threshold(p) && p->select->values[1] != 0;
}

/* scope=tensor, where it makes a difference. */
static bool
is_whole(const gp_pipeline *p)
{
    const double *v = p->select->values;

    return (is_topk(p) && v[1] != 0) || (is_scaled(p) && v[2] != 0);
}

/* Ratio, start and over were checked when the pipeline was opened. */
static gp_ratio
ratio_of(const gp_pipeline *p)
{
    const double *v = p->select->values;

    return (gp_ratio){v[0], v[2], v[3]};
}

/* threshold_bits() of topk.c, for thresholds that depend on nothing. */
static uint32_t
least_of(const gp_pipeline *p)
{
    double t = p->select->values[0];
    uint32_t bits;

    if (!(t < 0x1p128))
        return GP_FP32_INFINITY;
    bits = gp_bits((float)t);
    if ((double)gp_float(bits) < t)
        bits++;
    return bits ? bits : 1;
}

static int
index_of(const gp_pipeline *p)
{
    static const gp_codec_ops *const stages[] = {
        &gp_codec_raw, &gp_codec_rice, &gp_codec_bitmap, &gp_codec_auto};

    if (is_randk(p))
        return GP_INDEX_IMPLIED;
    for (int i = 0; i < 4; i++)
        if (p->index && p->index->ops == stages[i])
            return i;
    return -1;
}

gp_status
gp_coder_plan_select(const gp_pipeline *p, gp_coder_plan *plan)
{
    if (!is_topk(p) && !is_randk(p) && !is_threshold(p))
        return no_kernel(p, p->select->ops->name);
    if (index_of(p) < 0)
        return no_kernel(p, p->index ? p->index->ops->name : "the indices");
    if (!plan->layout.bits)
        return no_kernel(p, "these values behind a selection");
    if (is_randk(p))
        plan_randk(plan);
    else
        plan_steps(is_topk(p) && !is_whole(p), is_scaled(p) && !is_whole(p),
                   plan);
    if (is_whole(p))
        plan_whole(is_topk(p), plan);
    if (p->index && p->index->ops == &gp_codec_raw)
        plan_decode(plan);
    plan->heads = true;
    plan->right = length_right;
    return GP_OK;
}

/* ---- memory ---- */

/* Candidates that a part has room for: what a sample of the smallest part asks
 * for, and six times its spread. 0: all elements are looked at. */
static size_t
room_for(const gp_pipeline *p, size_t count)
{
    gp_ratio ratio;
    double samples = SMALL / SPARSITY, rank, share;

    if (!is_topk(p))
        return is_randk(p) ? count : 0;
    ratio = ratio_of(p);
    rank = 1.25 * samples * gp_ratio_at(&ratio, 0) + 13;
    share = (rank + 6 * sqrt(rank) + 8) / samples;
    return share > 0.5 ? 0 : (size_t)(share * (double)count) + 64;
}

static void
plan_sample(size_t count, gp_select *s)
{
    size_t samples = GP_MIN(count / SPARSITY, (size_t)SAMPLES) / 16 * 16;

    if (!s->room || count <= SMALL || s->index == GP_INDEX_IMPLIED)
        return;
    s->samples = samples;
    s->sample_rank = (uint64_t)ceil(
        1.25 * (double)samples * ((double)s->k / (double)count) + 12);
    if (s->sample_rank >= samples)
        s->samples = 0;
}

/* As randk.c has it: where most are sent, the others are drawn. */
static void
plan_draw(const gp_pipeline *p, size_t count, gp_select *s)
{
    s->left_out = s->k > count / 2;
    s->draws = s->left_out ? count - s->k : s->k;
    if (p->select->values[1] != 0 && s->k)
        s->scale = (float)((double)count / (double)s->k);
}

/* Elements that a message can have, as the host counts them. */
static size_t
most_of(const gp_pipeline *p, size_t count)
{
    return p->select->ops->bound(p->select->instance, count);
}

static void *
carve(uint8_t *base, size_t *at, size_t bytes)
{
    void *here = base ? base + *at : NULL;

    *at += (bytes + 63) / 64 * 64;
    return here;
}

static size_t
values_bytes(const gp_pipeline *p, size_t n)
{
    return gp_values_bound(p, n);
}

/* Elements that the array stage may get: all, unless a selection takes less for
 * certain. */
static size_t
most_values(const gp_pipeline *p, const gp_coder_plan *plan, size_t most,
            size_t count)
{
    size_t index;
    bool less;

    /* Seldom or never, but a decoder takes such messages. */
    if (is_randk(p) || plan->layout.varies)
        return count;
    index = p->index->ops->index_bound(p->index->instance, most, count);
    less = most < count &&
           9 + index + values_bytes(p, most) < 1 + values_bytes(p, count);
    return count > FEW && less ? most : count;
}

/* The areas that grow with what is chosen. */
static void
carve_chosen(const gp_pipeline *p, const gp_coder_plan *plan, size_t most,
             size_t count, uint8_t *base, size_t *at, gp_select *s)
{
    size_t values = most_values(p, plan, most, count);
    size_t words = GP_MAX(gp_codec_rice.index_bound(NULL, most, count) / 4,
                          GP_MAX((count + 31) / 32, most)) +
                   4;

    s->chosen_at = carve(base, at, 4 * most);
    s->chosen = carve(base, at, 4 * most);
    s->undone = carve(base, at, 4 * values);
    s->group = carve(base, at, 4 * (most / 32 + 1));
    s->group_at = carve(base, at, 8 * (most / 32 + 1));
    s->index_out = carve(base, at, 4 * words);
    s->index_words = words;
    s->message = carve(base, at, values_bytes(p, values));
}

/* What is chosen without a rank. */
static void
plan_cut(const gp_pipeline *p, gp_select *s)
{
    s->least = 1;
    if (is_whole(p))
        s->cut = GP_CUT_WHOLE;
    else if (is_scaled(p))
        s->cut = GP_CUT_SCALED;
    else
        s->least = least_of(p);
    s->value = p->select->values[0];
}

size_t
gp_coder_lay_look(const gp_pipeline *p, uint64_t at_step, size_t count,
                  uint8_t *base, gp_select *out)
{
    bool kth = is_topk(p);
    gp_ratio ratio = ratio_of(p);
    gp_select s = {.index = GP_INDEX_RAW, .least = 1, .most = SIZE_MAX};
    size_t at = 0;

    if (kth)
        s.k = gp_ratio_count(&ratio, at_step, count);
    s.value = p->select->values[0];
    s.room = count > UINT32_MAX ? 0 : room_for(p, count);
    plan_sample(count, &s);
    s.state = carve(base, &at, sizeof(gp_select_state));
    s.bins = carve(base, &at, 4 * GP_SELECT_BINS);
    s.tile = carve(base, &at, sizeof(gp_select_tile) * (count / TILE + 1));
    s.squares = carve(base, &at, sizeof(double) * (count / TILE + 1));
    s.candidate_at = carve(base, &at, 4 * s.room);
    s.candidate = carve(base, &at, 4 * s.room);
    if (base)
        *out = s;
    return at;
}

static size_t
lay_selection(const gp_pipeline *p, const gp_coder_plan *plan, uint64_t at_step,
              size_t count, uint8_t *base, gp_select *out, gp_cuda_part *values)
{
    bool whole = is_whole(p), ranked = (is_topk(p) && !whole) || is_randk(p);
    gp_ratio ratio = ratio_of(p);
    gp_select s = {.index = (uint32_t)index_of(p), .layout = plan->layout};
    size_t at = 0, most = most_of(p, count);
    void *space;

    if (ranked)
        s.k = gp_ratio_count(&ratio, at_step, count);
    else
        plan_cut(p, &s);
    if (is_randk(p))
        plan_draw(p, count, &s);
    s.most = most;
    s.room = whole ? 0 : room_for(p, count);
    plan_sample(count, &s);
    s.capacity = gp_message_bound(p, count);
    s.all_bytes = 1 + values_bytes(p, count);
    s.state = carve(base, &at, sizeof(gp_select_state));
    s.bins = carve(base, &at, 4 * GP_SELECT_BINS);
    s.tile = carve(base, &at, sizeof(gp_select_tile) * (count / TILE + 1));
    if (s.cut == GP_CUT_SCALED)
        s.squares = carve(base, &at, sizeof(double) * (count / TILE + 1));
    s.candidate_at = carve(base, &at, 4 * s.room);
    s.candidate = carve(base, &at, is_randk(p) ? 0 : 4 * s.room);
    carve_chosen(p, plan, most, count, base, &at, &s);
    space = carve(base, &at, plan->space ? plan->space(p, count) : 0);
    at += SLACK;
    if (!base)
        return at;
    *out = s;
    values->count = most_values(p, plan, most, count);
    values->bytes = s.message;
    values->target = s.undone;
    values->space = space;
    if (plan->layout.varies)
        values->encoded = &s.state->values;
    values->status = (uint32_t *)(base + at - SLACK);
    return at;
}

size_t
gp_coder_lay_select(const gp_pipeline *p, const gp_coder_plan *plan,
                    uint64_t at_step, size_t count, uint8_t *base,
                    gp_select *out, gp_cuda_part *values)
{
    return p->zeros ? gp_coder_lay_zeros(p, plan, count, base, out, values)
                    : lay_selection(p, plan, at_step, count, base, out, values);
}
