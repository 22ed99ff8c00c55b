/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_tensors.c - from a tensor list to chunks with memory.
 *
 * The first worker's list makes the chunks; every later list must equal it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/shard_rows.h"

static int
find_dense(const gp_codec_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (strcmp(gp_pipeline_name(set->pipeline[i]), "none") == 0)
            return (int)i;
    return -1;
}

/* The alternatives, as bits, that ask for something. */
static uint32_t
find_needy(const gp_codec_set *set, uint32_t need)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < set->count; i++)
        if (gp_pipeline_needs(set->pipeline[i]) & need)
            bits |= 1u << i;
    return bits;
}

/* Of a tensor of rows. What is for chunks whose results are the same for all
 * workers is not for these. */
static gp_status
open_rows(shard_tensor *t)
{
    uint32_t width = gp_row_spec_of(t->spec).width;
    gp_status status = gp_mode_check_rows(&t->mode, &t->updater);

    t->dense = t->summed = -1;
    t->folds = 0;
    t->shots = 0;
    t->pull_dense = true;
    if (status == GP_OK && t->push.count != 1)
        status = gp_fail(GP_ERR_CONFIG, "rows have no alternative codecs");
    if (status == GP_OK)
        status = gp_row_codec_open(t->push.pipeline[0], width, &t->row_push);
    return status == GP_OK ? gp_row_codec_open(t->pull, width, &t->row_pull)
                           : status;
}

static gp_status
open_tensor(gp_shard *s, gp_tensor_spec *spec, shard_tensor *t)
{
    const gp_codec_shape shape = {spec->count, spec->columns};
    const char *native = gp_native_name(spec->dtype);
    gp_status status;

    t->spec = spec;
    status = gp_updater_parse(spec->updater, &t->updater);
    if (status == GP_OK)
        status = gp_updater_open(&t->updater);
    if (status == GP_OK)
        status = gp_mode_parse(spec->mode, (uint32_t)s->size, &t->mode);
    if (status == GP_OK)
        status = gp_codec_set_open(spec->push, native, &shape, &t->push);
    if (status == GP_OK)
        status = gp_mode_check_fit(&t->mode, &t->updater, &t->push);
    if (status == GP_OK)
        status = gp_pipeline_open(spec->pull, &shape, &t->pull);
    if (status == GP_OK)
        status = gp_codec_check_pull(t->pull, &t->updater);
    if (status == GP_OK)
        status = gp_codec_check_feedback(t->pull, spec->feedback);
    if (status == GP_OK)
        status = gp_pipeline_parse(native, &t->native);
    if (status != GP_OK)
        return status;
    t->arrives = gp_mode_arrives(&t->mode);
    t->shots = t->arrives ? GP_MIN((uint32_t)s->size, SHARD_SHOTS) : 0;
    t->dense = find_dense(&t->push);
    t->folds = find_needy(&t->push, GP_PIPELINE_FOLDS);
    t->proposes = find_needy(&t->push, GP_PIPELINE_PROPOSES);
    t->summed = gp_codec_set_summed(&t->push, t->pull, &t->updater,
                                    spec->feedback, (uint32_t)s->size);
    if (s->elastic) /* how many will be in the sum is not known before */
        t->summed = -1;
    t->pull_dense = strcmp(gp_pipeline_name(t->pull), "none") == 0;
    if (spec->rows) {
        status = open_rows(t);
        if (status != GP_OK)
            return status;
    }
    if (s->device)
        status = gp_tensor_device_open(s, t);
    if (status != GP_OK)
        return status;
    if (s->elastic)
        return gp_member_check_fit(t);
    return gp_codec_set_check_sum(&t->push, t->summed, (uint32_t)s->size);
}

/* Workers have taken it, so this process lacks something that theirs has. */
static gp_status
say_lack(const shard_tensor *t, gp_status status)
{
    char why[GP_TEXT_MAX];

    if (status != GP_ERR_CONFIG)
        return status;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(status,
                   "tensor '%.60s': the shard cannot do what workers want "
                   "(codecs and updaters of one's own must be registered in "
                   "the server's program too): %s",
                   t->spec->name, why);
}

static gp_status
open_tensors(gp_shard *s)
{
    s->tensor = calloc(s->list.count, sizeof(*s->tensor));
    if (!s->tensor)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", s->list.count);
    for (uint32_t i = 0; i < s->list.count; i++) {
        gp_status status = open_tensor(s, &s->list.tensors[i], &s->tensor[i]);

        if (status != GP_OK)
            return say_lack(&s->tensor[i], status);
    }
    s->apart = s->list.count > 0;
    for (uint32_t i = 0; i < s->list.count; i++)
        s->apart &= s->tensor[i].arrives;
    return GP_OK;
}

static gp_status
open_pull_memory(gp_chunk *c)
{
    const shard_tensor *t = c->tensor;

    return gp_codec_memory_create(t->pull, c->info->offset, c->info->count,
                                  t->spec->feedback, &c->memory);
}

/* What a chunk needs beside its part of the arena. */
static gp_status
open_chunk(gp_shard *s, gp_chunk *c)
{
    const shard_tensor *t = c->tensor;
    size_t bytes = c->info->count * sizeof(float);
    bool keeps = gp_updater_keeps(&t->updater);
    bool rows = t->spec->rows > 0;
    bool differs = gp_codec_set_differs(&t->push);
    gp_status status;

    c->sum = keeps && !rows ? gp_alloc_aligned(bytes) : c->value;
    c->entry = calloc((size_t)s->size, sizeof(*c->entry));
    c->history = differs && !t->device ? calloc(1, bytes) : NULL;
    if (!c->sum || !c->entry || (differs && !t->device && !c->history) ||
        (!rows && !t->device && gp_chunk_open_arrays(c) != GP_OK))
        return gp_fail(GP_ERR_NO_MEMORY, "chunk of %zu bytes", bytes);
    c->version = t->spec->first_step;
    c->restored = differs && t->spec->restored ? 0 : c->info->count;
    for (int64_t r = 0; r < s->size; r++) {
        gp_list_init(&c->entry[r].due);
        gp_list_init(&c->entry[r].age);
        c->entry[r].chunk = c;
        c->entry[r].next_step = c->entry[r].first = t->spec->first_step;
        c->entry[r].joined = c->entry[r].given = t->spec->first_step;
    }
    c->slowest = t->spec->first_step;
    status = rows ? gp_rows_open(s, c) : gp_shots_open(c);
    if (status == GP_OK)
        status = gp_lags_open(c);
    if (status == GP_OK && !t->pull_dense)
        status = open_pull_memory(c);
    return status == GP_OK && t->device ? gp_chunk_device_open(s, c) : status;
}

static void
measure_chunk(const gp_chunk *c, size_t *largest, size_t *workspace)
{
    size_t n = c->info->count;
    size_t push = gp_codec_set_bound(&c->tensor->push, n);
    size_t native = gp_pipeline_bound(c->tensor->native, n);

    if (c->tensor->spec->rows) {
        gp_row_spec spec = gp_row_spec_of(c->tensor->spec);

        push = gp_rows_bytes_max(&spec, c->tensor->row_push.bytes);
    }
    *largest = GP_MAX(*largest, GP_MAX(push, native));
    push = gp_codec_set_workspace(&c->tensor->push, n);
    native = gp_pipeline_workspace(c->tensor->pull, n);
    *workspace = GP_MAX(*workspace, GP_MAX(push, native));
    native = gp_pipeline_workspace(c->tensor->native, n);
    *workspace = GP_MAX(*workspace, native);
}

/* More does not stay in a cache. */
#define HOT_COUNT (1u << 18)

/* What an ordinary push may take. Workers may cut tensors finer than the
 * setting says, to have more on the way, and not less. */
static size_t
ordinary_bytes(const gp_shard *s, size_t largest)
{
    uint64_t bytes = GP_MIN(largest, s->list.chunk_bytes), longest = 0;

    if (s->list.chunk_bytes >= s->chunk_bytes)
        return (size_t)bytes;
    for (uint32_t i = 0; i < s->list.count; i++)
        longest = GP_MAX(longest, s->list.tensors[i].count);
    /* The list was refused if this overflowed. */
    longest = longest / s->map.shards * sizeof(float);
    return (size_t)GP_MAX(bytes, GP_MIN(longest, s->chunk_bytes));
}

/* Landing slots of a peer: room for a few pushes of ordinary chunks, and for
 * one of the largest. */
static gp_status
cut_slots(gp_shard *s, size_t largest)
{
    size_t padded, bytes;

    if (!gp_add(largest, 63, &padded))
        return gp_fail(GP_ERR_TOO_LARGE, "landing slots");
    padded &= ~(size_t)63;
    bytes = ordinary_bytes(s, padded);
    bytes = (bytes + 63) & ~(size_t)63;
    if (!gp_mul(bytes, s->window, &bytes))
        return gp_fail(GP_ERR_TOO_LARGE, "landing slots");
    bytes = GP_MAX(bytes, padded);
    s->slots = gp_slots_cut(bytes, &s->slot_bytes);
    s->most_slots = (uint32_t)gp_slots_for(padded, s->slot_bytes);
    return GP_OK;
}

/* Which of all chunks are this shard's. */
static gp_status
choose_chunks(gp_shard *s)
{
    for (uint32_t i = 0; i < s->map.chunks; i++)
        s->chunks += s->map.chunk[i].shard == (uint32_t)s->index;
    s->chunk = calloc(s->chunks + 1u, sizeof(*s->chunk));
    s->chunk_of = calloc(s->map.chunks, sizeof(*s->chunk_of));
    if (!s->chunk || !s->chunk_of)
        return gp_fail(GP_ERR_NO_MEMORY, "%u chunks", s->chunks);
    for (uint32_t i = 0, at = 0; i < s->map.chunks; i++) {
        gp_chunk *c = &s->chunk[at];

        if (s->map.chunk[i].shard != (uint32_t)s->index)
            continue;
        c->info = &s->map.chunk[i];
        c->number = i;
        c->tensor = &s->tensor[c->info->tensor];
        s->chunk_of[i] = ++at;
    }
    return GP_OK;
}

static gp_status
open_chunks(gp_shard *s)
{
    size_t workspace = 64, largest = 0;
    gp_status status = choose_chunks(s);

    if (status == GP_OK)
        status = gp_arena_open(s);
    for (uint32_t i = 0; status == GP_OK && i < s->chunks; i++) {
        gp_chunk *c = &s->chunk[i];

        measure_chunk(c, &largest, &workspace);
        s->scaled_count = GP_MAX(s->scaled_count, c->info->count);
        if (!c->tensor->pull_dense && c->info->count <= HOT_COUNT)
            s->hot_count = GP_MAX(s->hot_count, c->info->count);
        status = open_chunk(s, c);
    }
    if (status == GP_OK)
        status = gp_shard_shown_open(s);
    if (status != GP_OK)
        return status;
    s->workspace = gp_alloc_aligned(workspace);
    if (s->hot_count)
        s->hot = gp_alloc_aligned(s->hot_count * sizeof(float));
    if (!s->workspace || (s->hot_count && !s->hot))
        return gp_fail(GP_ERR_NO_MEMORY, "workspace");
    return s->chunks ? cut_slots(s, largest) : GP_OK;
}

static gp_status
build_map(gp_shard *s)
{
    gp_map_tensor *tensors = calloc(s->list.count, sizeof(*tensors));
    gp_status status;

    if (!tensors)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", s->list.count);
    for (uint32_t i = 0; i < s->list.count; i++) {
        const gp_tensor_spec *spec = &s->list.tensors[i];
        const shard_tensor *t = &s->tensor[i];

        tensors[i] =
            (gp_map_tensor){.count = spec->count,
                            .columns = spec->columns,
                            .wide = gp_codec_set_is_wide(&t->push, t->pull),
                            .dealt = spec->rows > 0};
    }
    status = gp_map_build(tensors, s->list.count, s->list.chunk_bytes,
                          s->list.shards, s->list.weights, &s->map);
    free(tensors);
    return status;
}

/* Whoever comes later has perhaps a later checkpoint, or none: what is here is
 * newer, and it hears where the others are when it pulls; or counts from where
 * it likes, where workers are not in the same step. */
static void
forgive(gp_shard *s, gp_tensor_list *list, uint32_t rank)
{
    for (uint32_t i = 0; i < s->chunks; i++) {
        ptrdiff_t index = s->chunk[i].tensor - s->tensor;

        if (index < list->count)
            s->chunk[i].entry[rank].first = list->tensors[index].first_step;
    }
    for (uint32_t i = 0; i < GP_MIN(list->count, s->list.count); i++) {
        list->tensors[i].first_step = s->list.tensors[i].first_step;
        list->tensors[i].restored = s->list.tensors[i].restored;
    }
}

gp_status
gp_shard_agree(gp_shard *s, gp_tensor_list *list, uint32_t rank)
{
    gp_status status;
    char text[GP_TEXT_MAX];

    if (s->agreed && s->elastic)
        forgive(s, list, rank);
    if (s->agreed) {
        bool differ = gp_tensor_list_differ(&s->list, s->first_rank, list, rank,
                                            text, sizeof(text));

        gp_tensor_list_free(list);
        return differ ? gp_fail(GP_ERR_MISMATCH, "%s", text) : GP_OK;
    }
    s->list = *list;
    s->first_rank = rank;
    if (list->shards != (uint64_t)s->shards)
        status = gp_fail(GP_ERR_MISMATCH,
                         "the tensor list is for %u shards, the job has %lld",
                         list->shards, (long long)s->shards);
    else
        status = open_tensors(s);
    if (status == GP_OK)
        status = build_map(s);
    if (status == GP_OK)
        status = open_chunks(s);
    if (status == GP_OK)
        status = gp_norms_open(s);
    if (status != GP_OK) {
        gp_shard_forget(s);
        return status;
    }
    s->agreed = true;
    return GP_OK;
}

static void
close_chunk(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device_close(s, c);
    for (int64_t r = 0; c->entry && r < s->size; r++)
        gp_shard_give(s, c->entry[r].stash);
    if (gp_updater_keeps(&c->tensor->updater) && !c->tensor->spec->rows)
        free(c->sum);
    gp_rows_close(c);
    gp_chunk_close_arrays(c);
    free(c->history);
    free(c->shot);
    free(c->front);
    gp_codec_memory_destroy(c->memory);
    free(c->entry);
}

void
gp_shard_forget(gp_shard *s)
{
    gp_shard_device_settle(s);
    for (uint32_t i = 0; s->chunk && i < s->chunks; i++)
        if (s->chunk[i].tensor)
            close_chunk(s, &s->chunk[i]);
    gp_arena_close(s);
    gp_shard_shown_close(s);
    for (uint32_t i = 0; s->tensor && i < s->list.count; i++) {
        gp_updater_close(&s->tensor[i].updater);
        gp_codec_set_close(&s->tensor[i].push);
        gp_pipeline_destroy(s->tensor[i].pull);
        gp_pipeline_destroy(s->tensor[i].native);
        gp_tensor_device_close(&s->tensor[i]);
    }
    gp_norms_close(s);
    free(s->chunk);
    free(s->chunk_of);
    free(s->tensor);
    free(s->workspace);
    free(s->hot);
    free(s->scaled);
    s->scaled = NULL;
    s->hot = NULL;
    s->hot_count = 0;
    s->chunk = NULL;
    s->chunk_of = NULL;
    s->tensor = NULL;
    s->workspace = NULL;
    s->chunks = 0;
    gp_map_free(&s->map);
    gp_tensor_list_free(&s->list);
    s->agreed = false;
}
