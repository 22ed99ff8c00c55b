/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_message.c - from elements to a message and back, through all stages.
 *
 * A message of a pipeline without zeros and select is what its array and byte
 * stages wrote. With one of them it is a container:
 *
 *   flags (u8)  1: a map of blocks follows, 2: nothing was selected, all is
 *               there
 *   map         with flag 1: one bit per block, set when the block is kept
 *   selected    u32, with select, unless flag 2 or implied by the context
 *   index size  u32, likewise, and the bytes of the index stage
 *   values      the rest: what transform, array and byte stages wrote
 *
 * and the byte stages after the index stage pack that container.
 */
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/pipeline.h"
#include "compress/scatter.h"
#include "compress/zeros.h"

enum { FLAG_MAP = 1, FLAG_ALL = 2 };

#define HEAD_SELECTED 8 /* selected, index size */

static bool
is_container(const gp_pipeline *p)
{
    return p->zeros || p->select;
}

static size_t
block_of(const gp_pipeline *p)
{
    return (size_t)p->zeros->values[0];
}

static size_t
map_bytes(const gp_pipeline *p, size_t count)
{
    return gp_zeros_map_size(count, block_of(p));
}

static size_t
most_selected(const gp_pipeline *p, size_t count)
{
    size_t most = p->select->ops->bound(p->select->instance, count);

    return GP_MIN(most, count);
}

static bool
implied(const gp_pipeline *p)
{
    return p->select->ops->imply != NULL;
}

/* Bytes of a container that holds a selection, without byte stages behind. */
static size_t
selected_bound(const gp_pipeline *p, size_t most, size_t count)
{
    size_t values = gp_values_bound(p, most), size = 1, index;

    if (!implied(p)) {
        index = p->index->ops->index_bound(p->index->instance, most, count);
        if (!gp_add(size, HEAD_SELECTED, &size) || !gp_add(size, index, &size))
            return SIZE_MAX;
    }
    return gp_add(size, values, &size) ? size : SIZE_MAX;
}

/* Bytes of a container that holds all elements. */
static size_t
all_bound(const gp_pipeline *p, size_t count)
{
    size_t size = 1;

    if ((p->zeros && !gp_add(size, map_bytes(p, count), &size)) ||
        !gp_add(size, gp_values_bound(p, count), &size))
        return SIZE_MAX;
    return size;
}

/* A selection that takes more than everything is replaced by everything, so
 * the larger bound counts only when the smaller cannot be had. */
static size_t
container_bound(const gp_pipeline *p, size_t count)
{
    if (!p->select)
        return all_bound(p, count);
    return GP_MIN(selected_bound(p, most_selected(p, count), count),
                  all_bound(p, count));
}

size_t
gp_message_bound(const gp_pipeline *p, size_t count)
{
    size_t size =
        is_container(p) ? container_bound(p, count) : gp_values_bound(p, count);

    return size == SIZE_MAX ? size : gp_run_bound(&p->whole, size);
}

/* ---- workspace ------------------------------------------------------- */

/* Adds `bytes` rounded up to 64 to the total. */
static bool
reserve(gp_layout *l, size_t bytes, size_t *offset)
{
    size_t padded;

    *offset = l->total;
    return bytes != SIZE_MAX && gp_add(bytes, 63, &padded) &&
           gp_add(l->total, padded & ~(size_t)63, &l->total);
}

/* Largest message before the last stage of a run. */
static size_t
largest_between(const gp_stage_run *run, size_t size)
{
    size_t most = size;

    for (size_t i = 0; i + 1 < run->count && size != SIZE_MAX; i++) {
        size = run->first[i].ops->bound(run->first[i].instance, size);
        most = GP_MAX(most, size);
    }
    return most;
}

static size_t
scratch_of(const gp_stage *stage, size_t size)
{
    return stage && stage->ops->scratch
               ? stage->ops->scratch(stage->instance, size)
               : 0;
}

static size_t
scratch_of_run(const gp_stage_run *run, size_t size)
{
    size_t most = 0;

    for (size_t i = 0; i < run->count && size != SIZE_MAX; i++) {
        most = GP_MAX(most, scratch_of(&run->first[i], size));
        size = run->first[i].ops->bound(run->first[i].instance, size);
    }
    return most;
}

static size_t
scratch_needed(const gp_pipeline *p, size_t count)
{
    size_t array = p->array->ops->bound(p->array->instance, count);
    size_t most =
        GP_MAX(scratch_of(p->select, count), scratch_of(p->array, count));

    most = GP_MAX(most, scratch_of(p->index, count));
    most = GP_MAX(most, scratch_of(p->transform, count));
    most = GP_MAX(most, scratch_of_run(&p->values, array));
    return GP_MAX(most, scratch_of_run(&p->whole, gp_message_bound(p, count)));
}

/* Decoding needs one dense buffer where it cannot write straight into its
 * target; encoding with a memory needs one for what will be decoded. */
static bool
lay_out(const gp_pipeline *p, size_t count, gp_layout *l)
{
    bool apart = is_container(p) || p->transform;
    size_t bytes, most = p->select ? most_selected(p, count) : 0;
    size_t array = p->array->ops->bound(p->array->instance, count);
    size_t container = is_container(p) ? container_bound(p, count) : 0;
    size_t dense = apart || !p->array->ops->encode_feedback ||
                   !p->array->ops->decode_add || p->memory ||
                   p->needs & (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES);

    *l = (gp_layout){.most = most};
    if (!gp_mul(count, sizeof(float), &bytes) || array == SIZE_MAX)
        return false;
    for (size_t i = 0; i < 2; i++) {
        size_t values = largest_between(&p->values, array);
        size_t whole = largest_between(&p->whole, container);

        if ((p->values.count > i && !reserve(l, values, &l->between[i])) ||
            (p->whole.count > i && !reserve(l, whole, &l->whole[i])))
            return false;
    }
    return (!p->transform || reserve(l, bytes, &l->turned)) &&
           (!dense || reserve(l, bytes, &l->dense[0])) &&
           (!p->zeros || reserve(l, bytes, &l->dense[1])) &&
           reserve(l, most * sizeof(uint32_t), &l->indices) &&
           reserve(l, most * sizeof(float), &l->chosen) &&
           reserve(l, most * sizeof(float), &l->undone) &&
           reserve(l, scratch_needed(p, count), &l->scratch);
}

size_t
gp_message_workspace(const gp_pipeline *pipeline, size_t count)
{
    gp_layout l;

    return lay_out(pipeline, count, &l) ? l.total : SIZE_MAX;
}

bool
gp_work_begin(gp_work *w, const gp_pipeline *p, const gp_codec_context *context,
              size_t count, void *workspace)
{
    w->pipeline = p;
    w->context = *context;
    w->at = workspace;
    if (!lay_out(p, count, &w->layout))
        return false;
    w->context.scratch = w->at + w->layout.scratch;
    return true;
}

/* ---- encoding -------------------------------------------------------- */

/* What the stages that are asked next may see of a memory. */
void
gp_work_show(gp_work *w, const gp_codec_memory *m, size_t which)
{
    w->context.state = m ? m->state[which] : NULL;
    w->context.prepared = m ? m->prepared[which] : NULL;
}

static gp_status
encode_selected(gp_work *w, gp_codec_memory *m, const float *u, size_t count,
                uint8_t *out, size_t capacity, size_t *length)
{
    const gp_pipeline *p = w->pipeline;
    uint32_t *indices = (void *)(w->at + w->layout.indices);
    float *chosen = (void *)(w->at + w->layout.chosen);
    float *undone = (void *)(w->at + w->layout.undone);
    size_t selected = 0, index = 0, at = 1, all = all_bound(p, count);
    gp_status status;

    gp_work_show(w, m, 0);
    status = p->select->ops->select(p->select->instance, &w->context, u, count,
                                    indices, chosen, &selected);
    if (status != GP_OK)
        return status;
    out[0] = 0;
    if (!implied(p)) {
        size_t most =
            p->index->ops->index_bound(p->index->instance, selected, count);

        if (capacity < at + HEAD_SELECTED + most && all <= capacity)
            return GP_AGAIN;
        at += HEAD_SELECTED;
        status =
            p->index->ops->pack_indices(p->index->instance, indices, selected,
                                        count, out + at, capacity - at, &index);
        if (status != GP_OK)
            return status;
        gp_put32(out + 1, (uint32_t)selected);
        gp_put32(out + 5, (uint32_t)index);
        at += index;
    }
    if (at + gp_values_bound(p, selected) > all)
        return GP_AGAIN;
    gp_work_show(w, m, 1);
    status = gp_values_encode(w, chosen, selected, out + at, capacity - at,
                              length, m && m->sum ? undone : NULL);
    *length += at;
    if (status == GP_OK && m && m->sum)
        gp_memory_sent_some(m, gp_memory_at(m, &w->context), count, indices,
                            undone, selected);
    return status;
}

/* All elements, or all blocks that are not zero. */
static gp_status
encode_all(gp_work *w, gp_codec_memory *m, const float *u, size_t count,
           uint8_t *out, size_t capacity, size_t *length)
{
    const gp_pipeline *p = w->pipeline;
    float *decoded = m && m->sum ? (void *)(w->at + w->layout.dense[0]) : NULL;
    float *kept = (void *)(w->at + w->layout.dense[1]);
    size_t at = 1, left = count;
    gp_status status;

    out[0] = p->select ? FLAG_ALL : 0;
    if (p->zeros && count) {
        size_t block = block_of(p);
        size_t blocks = count / block + (count % block != 0);

        if (gp_zeros_map(u, count, block, out + 1) < blocks) {
            left = gp_zeros_pack(u, count, block, out + 1, kept);
            out[0] |= FLAG_MAP;
            at += map_bytes(p, count);
            u = kept;
        }
    }
    gp_work_show(w, m, 1);
    status =
        gp_values_encode(w, u, left, out + at, capacity - at, length, decoded);
    if (status == GP_OK && decoded) {
        if (out[0] & FLAG_MAP) {
            gp_zeros_unpack(decoded, count, block_of(p), out + 1, kept);
            decoded = kept;
        }
        gp_memory_sent(m, gp_memory_at(m, &w->context), decoded, count);
    }
    *length += at;
    return status;
}

static gp_status
encode_container(gp_work *w, gp_codec_memory *m, const float *u, size_t count,
                 uint8_t *out, size_t capacity, size_t *length)
{
    gp_status status = GP_AGAIN;

    if (w->pipeline->select)
        status = encode_selected(w, m, u, count, out, capacity, length);
    /* It would have been larger than everything. */
    if (status == GP_AGAIN)
        status = encode_all(w, m, u, count, out, capacity, length);
    return status;
}

static gp_status
encode_plain(gp_work *w, gp_codec_memory *m, const float *u, size_t count,
             void *out, size_t capacity, size_t *length)
{
    float *decoded = m && m->sum ? (void *)(w->at + w->layout.dense[0]) : NULL;
    gp_status status;

    gp_work_show(w, m, 1);
    status = gp_values_encode(w, u, count, out, capacity, length, decoded);
    if (status == GP_OK && decoded)
        gp_memory_sent(m, gp_memory_at(m, &w->context), decoded, count);
    return status;
}

/* Through the byte stages on messages, when there are any. */
gp_status
gp_message_encode(gp_work *w, gp_codec_memory *m, const float *u, size_t count,
                  void *out, size_t capacity, size_t *length)
{
    const gp_pipeline *p = w->pipeline;
    uint8_t *buffer[2] = {w->at + w->layout.whole[0],
                          w->at + w->layout.whole[1]};
    gp_status status;
    size_t bound, size;

    if (!is_container(p))
        return encode_plain(w, m, u, count, out, capacity, length);
    bound = container_bound(p, count);
    if (p->whole.count == 0)
        return encode_container(w, m, u, count, out, bound, length);
    status = encode_container(w, m, u, count, buffer[0], bound, &size);
    if (status != GP_OK)
        return status;
    return gp_run_pack(&p->whole, &w->context, buffer[0], size, bound, out,
                       capacity, length, buffer);
}

/* ---- byte stages by themselves --------------------------------------- */

/* Those that get all that the stages before them have written. */
static const gp_stage_run *
tail_of(const gp_pipeline *p)
{
    return is_container(p) ? &p->whole : &p->values;
}

size_t
gp_pipeline_tail(const gp_pipeline *p)
{
    return p->fake ? 0 : tail_of(p)->count;
}

static void
tail_buffers(const gp_work *w, uint8_t *out[2])
{
    const gp_layout *l = &w->layout;
    const size_t *at = is_container(w->pipeline) ? l->whole : l->between;

    out[0] = w->at + at[0];
    out[1] = w->at + at[1];
}

static size_t
tail_bound(const gp_pipeline *p, size_t count)
{
    return is_container(p) ? container_bound(p, count)
                           : p->array->ops->bound(p->array->instance, count);
}

gp_status
gp_pipeline_pack(const gp_pipeline *p, const gp_codec_context *context,
                 const void *message, size_t size, size_t count, void *out,
                 size_t capacity, size_t *length, void *workspace)
{
    size_t bound = tail_bound(p, count);
    uint8_t *buffer[2];
    gp_work w;

    if (size > bound || !gp_work_begin(&w, p, context, count, workspace))
        return gp_fail(GP_ERR_TOO_LARGE, "codec %s: a message of %zu bytes",
                       p->name, size);
    tail_buffers(&w, buffer);
    return gp_run_pack(tail_of(p), &w.context, message, size, bound, out,
                       capacity, length, buffer);
}

gp_status
gp_pipeline_unpack(const gp_pipeline *p, const gp_codec_context *context,
                   const void *bytes, size_t length, size_t count,
                   const void **message, size_t *size, void *workspace)
{
    uint8_t *buffer[2];
    gp_status status;
    gp_work w;

    if (!gp_work_begin(&w, p, context, count, workspace))
        return gp_fail(GP_ERR_TOO_LARGE, "codec %s: %zu elements", p->name,
                       count);
    tail_buffers(&w, buffer);
    status = gp_run_unpack(tail_of(p), &w.context, &bytes, &length,
                           tail_bound(p, count), buffer);
    if (status != GP_OK)
        return gp_fail(status, "codec %s: a damaged message of %zu bytes",
                       p->name, length);
    *message = bytes;
    *size = length;
    return GP_OK;
}

/* ---- decoding -------------------------------------------------------- */

/* A container in parts. */
typedef struct parts {
    bool all;           /* not a selection */
    const uint8_t *map; /* or NULL */
    size_t selected;
    const uint8_t *values;
    size_t length;
} parts;

static gp_status
read_map(const gp_pipeline *p, gp_reader *r, size_t count, parts *out)
{
    size_t bytes = map_bytes(p, count);

    if (r->left < bytes)
        return GP_ERR_CORRUPT;
    out->map = r->at;
    r->at += bytes;
    r->left -= bytes;
    if (!gp_zeros_map_valid(out->map, count, block_of(p)))
        return GP_ERR_CORRUPT;
    out->selected = gp_zeros_kept(out->map, count, block_of(p));
    return out->selected < count ? GP_OK : GP_ERR_CORRUPT;
}

static gp_status
read_indices(gp_work *w, gp_reader *r, size_t count, parts *out)
{
    const gp_pipeline *p = w->pipeline;
    uint32_t *indices = (void *)(w->at + w->layout.indices);
    size_t size;
    gp_status status;

    if (implied(p))
        return p->select->ops->imply(p->select->instance, &w->context, count,
                                     indices, &out->selected);
    out->selected = gp_read32(r);
    size = gp_read32(r);
    if (!r->ok || size > r->left || out->selected > w->layout.most)
        return GP_ERR_CORRUPT;
    status = p->index->ops->unpack_indices(p->index->instance, r->at, size,
                                           indices, out->selected, count);
    r->at += size;
    r->left -= size;
    return status;
}

static gp_status
take_apart(gp_work *w, const void *bytes, size_t length, size_t count,
           parts *out)
{
    const gp_pipeline *p = w->pipeline;
    gp_reader r = {bytes, length, true};
    uint8_t flags = gp_read8(&r);
    uint8_t known =
        (uint8_t)((p->zeros ? FLAG_MAP : 0) | (p->select ? FLAG_ALL : 0));
    gp_status status = GP_OK;

    *out = (parts){.all = !p->select || flags & FLAG_ALL, .selected = count};
    if (!r.ok || flags & ~known)
        return GP_ERR_CORRUPT;
    if (flags & FLAG_MAP)
        status = read_map(p, &r, count, out);
    if (!out->all && status == GP_OK)
        status = read_indices(w, &r, count, out);
    out->values = r.at;
    out->length = r.left;
    return status;
}

/* Undoes the byte stages on the message. */
static gp_status
open_message(gp_work *w, const void **bytes, size_t *length, size_t count)
{
    const gp_pipeline *p = w->pipeline;
    uint8_t *buffer[2] = {w->at + w->layout.whole[0],
                          w->at + w->layout.whole[1]};

    if (p->whole.count == 0)
        return GP_OK;
    return gp_run_unpack(&p->whole, &w->context, bytes, length,
                         container_bound(p, count), buffer);
}

static gp_status
decode_selected(gp_work *w, const parts *in, float *target, size_t count,
                bool add)
{
    const uint32_t *indices = (void *)(w->at + w->layout.indices);
    float *values = (void *)(w->at + w->layout.chosen);
    gp_status status =
        gp_values_decode(w, in->values, in->length, values, in->selected);

    if (status != GP_OK)
        return status;
    if (add) {
        gp_scatter_add(target, indices, values, in->selected);
        return GP_OK;
    }
    if (count)
        memset(target, 0, count * sizeof(float));
    gp_scatter_set(target, indices, values, in->selected);
    return GP_OK;
}

static gp_status
decode_container(gp_work *w, const void *bytes, size_t length, float *target,
                 size_t count, bool add)
{
    float *dense = (void *)(w->at + w->layout.dense[0]);
    gp_status status;
    parts in;

    status = take_apart(w, bytes, length, count, &in);
    if (status != GP_OK)
        return status;
    if (!in.all)
        return decode_selected(w, &in, target, count, add);
    if (!in.map && add &&
        gp_values_add(w, in.values, in.length, target, count, &status))
        return status;
    if (!in.map && !add)
        return gp_values_decode(w, in.values, in.length, target, count);
    status = gp_values_decode(w, in.values, in.length, dense, in.selected);
    if (status != GP_OK)
        return status;
    if (!in.map)
        gp_add_fp32(target, dense, count);
    else if (add)
        gp_zeros_unpack_add(dense, count, block_of(w->pipeline), in.map,
                            target);
    else
        gp_zeros_unpack(dense, count, block_of(w->pipeline), in.map, target);
    return GP_OK;
}

static gp_status
decode_plain(gp_work *w, const void *bytes, size_t length, float *target,
             size_t count, bool add)
{
    float *dense = (void *)(w->at + w->layout.dense[0]);
    gp_status status;

    if (!add)
        return gp_values_decode(w, bytes, length, target, count);
    if (gp_values_add(w, bytes, length, target, count, &status))
        return status;
    status = gp_values_decode(w, bytes, length, dense, count);
    if (status == GP_OK)
        gp_add_fp32(target, dense, count);
    return status;
}

gp_status
gp_message_decode(gp_work *w, const void *bytes, size_t length, float *target,
                  size_t count, bool add)
{
    gp_status status = open_message(w, &bytes, &length, count);

    if (status != GP_OK)
        return status;
    return is_container(w->pipeline)
               ? decode_container(w, bytes, length, target, count, add)
               : decode_plain(w, bytes, length, target, count, add);
}
