/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coded.c - all-reduce with a codec.
 *
 * Each member encodes its own vector once, in pieces. Few or selecting ones
 * send that to all others, and each adds what it decodes in the order of ranks,
 * its own among them. Otherwise members are shards: each gets what is its part
 * of all vectors, adds it in the same order, encodes the sum and sends that to
 * all, which decode the same message. Either way all have the same bits. What a
 * codec has lost of a vector or of a sum is kept by key and count and added to
 * the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/coll_int.h"
#include "compress/kernels.h"
#include "shard/fold.h"

#define PIECE_ELEMENTS 65536u
#define FIELDS_MAX     8u
#define SECOND         "sum:" /* before names of what is kept of sums */
#define SECOND_SEED    0x73756d73756d7331u
#define REFUSED        (GP_CODEC_WIDE | GP_CODEC_DIFFERENCE)

/* What one tensor's calls have left. */
typedef struct kept {
    gp_list link;
    uint64_t key, count, calls;
    gp_codec_memory *memory;   /* NULL: nothing needs it */
    gp_codec_memory *second;   /* of sums; only this shard's part is used */
    char name[FIELDS_MAX][64]; /* of what `second` has */
} kept;

struct gp_coded {
    gp_pipeline *pipeline;
    int feedback;
    uint64_t piece;   /* elements */
    uint64_t skipped; /* calls that random codecs take for made */
    size_t bound;     /* bytes of one encoded */
    uint8_t *workspace;
    gp_list kept;
    kept *now; /* of the call under way */
    uint8_t *bytes;
    size_t *length;
    uint64_t pieces; /* room for */
    uint8_t *again;  /* sums, as encoded; of this shard's part */
    size_t *again_length;
    uint64_t again_pieces; /* room for */
    float *source, *sum;   /* of half types */
    uint64_t floats;
};

void
gp_coded_close(gp_coded *d)
{
    if (!d)
        return;
    gp_coded_reset(d);
    gp_pipeline_destroy(d->pipeline);
    free(d->workspace);
    free(d->bytes);
    free(d->length);
    free(d->again);
    free(d->again_length);
    free(d->source);
    free(d->sum);
    free(d);
}

static gp_status
check(const gp_pipeline *p, const char *text)
{
    if (gp_pipeline_properties(p) & REFUSED ||
        gp_pipeline_needs(p) & GP_PIPELINE_PROPOSES)
        return gp_fail(GP_ERR_CONFIG,
                       "codec '%.80s' is not for groups: it sends whole "
                       "tensors, differences, or numbers that must be agreed "
                       "on; docs/collectives.md",
                       text);
    return GP_OK;
}

gp_status
gp_group_codec_check(const char *text)
{
    gp_pipeline *p = NULL;
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_INVALID, "gp_group_codec_check: NULL");
    status = gp_pipeline_parse(text, &p);
    if (status == GP_OK)
        status = check(p, text);
    gp_pipeline_destroy(p);
    return status;
}

/* Pieces as large as the peer's slots allow. */
static gp_status
cut(gp_coded *d, uint64_t most)
{
    for (d->piece = PIECE_ELEMENTS; d->piece >= GP_UNIT; d->piece /= 2) {
        d->bound = gp_pipeline_bound(d->pipeline, d->piece);
        if (d->bound <= most)
            break;
    }
    if (d->piece < GP_UNIT)
        return gp_fail(GP_ERR_CONFIG, "codec '%.80s': messages of %zu bytes",
                       gp_pipeline_name(d->pipeline), d->bound);
    d->workspace = gp_alloc_aligned(
        GP_MAX(gp_pipeline_workspace(d->pipeline, d->piece), 64u));
    return d->workspace ? GP_OK : gp_fail(GP_ERR_NO_MEMORY, "a codec's room");
}

gp_status
gp_coded_open(const char *text, int feedback, uint64_t most, gp_coded **out)
{
    gp_coded *d = calloc(1, sizeof(*d));
    gp_status status;

    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "codec");
    gp_list_init(&d->kept);
    status = gp_pipeline_parse(text, &d->pipeline);
    if (status == GP_OK)
        status = check(d->pipeline, text);
    if (status == GP_OK)
        status = cut(d, most);
    if (status != GP_OK) {
        gp_coded_close(d);
        return status;
    }
    d->feedback =
        feedback >= 0
            ? feedback
            : (gp_pipeline_needs(d->pipeline) & GP_PIPELINE_FEEDBACK) != 0;
    *out = d;
    return GP_OK;
}

const char *
gp_coded_name(const gp_coded *d)
{
    return gp_pipeline_name(d->pipeline);
}

void
gp_coded_skip(gp_coded *d, uint64_t calls)
{
    d->skipped = calls;
}

void
gp_coded_reset(gp_coded *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->kept))) {
        kept *k = GP_CONTAINER_OF(item, kept, link);

        gp_codec_memory_destroy(k->memory);
        gp_codec_memory_destroy(k->second);
        free(k);
    }
    d->now = NULL;
}

static gp_status
find_kept(gp_coded *d, uint64_t key, uint64_t count, kept **out)
{
    kept *k;
    gp_status status;

    GP_LIST_EACH (item, &d->kept) {
        k = GP_CONTAINER_OF(item, kept, link);
        if (k->key == key && k->count == count) {
            *out = k;
            return GP_OK;
        }
    }
    k = calloc(1, sizeof(*k));
    if (!k)
        return gp_fail(GP_ERR_NO_MEMORY, "what a codec remembers");
    status =
        gp_codec_memory_create(d->pipeline, 0, count, d->feedback, &k->memory);
    if (status != GP_OK) {
        free(k);
        return status;
    }
    k->key = key;
    k->count = count;
    gp_list_insert(&d->kept, &k->link);
    *out = k;
    return GP_OK;
}

static gp_status
need_room(gp_coded *d, uint64_t count, bool half)
{
    uint64_t pieces = (count + d->piece - 1) / d->piece;

    if (pieces > d->pieces) {
        free(d->bytes);
        free(d->length);
        d->bytes = gp_alloc_aligned(pieces * d->bound);
        d->length = calloc(pieces, sizeof(*d->length));
        d->pieces = d->bytes && d->length ? pieces : 0;
    }
    if (half && count > d->floats) {
        free(d->source);
        free(d->sum);
        d->source = gp_alloc_aligned(count * sizeof(float));
        d->sum = gp_alloc_aligned(count * sizeof(float));
        d->floats = d->source && d->sum ? count : 0;
    }
    if (pieces > d->pieces || (half && count > d->floats))
        return gp_fail(GP_ERR_NO_MEMORY, "encoded vectors");
    return GP_OK;
}

/* All of a tensor has room in it, so that it is loaded like the first one. */
static gp_status
need_second(gp_coded *d, kept *k)
{
    if (k->second)
        return GP_OK;
    return gp_codec_memory_create(d->pipeline, 0, k->count, d->feedback,
                                  &k->second);
}

static gp_status
need_shard(gp_collective *c)
{
    gp_coded *d = c->group->coded;
    uint32_t rank = c->group->rank;
    uint64_t pieces = gp_coded_first(c, rank + 1) - gp_coded_first(c, rank);

    if (pieces > d->again_pieces) {
        free(d->again);
        free(d->again_length);
        d->again = gp_alloc_aligned(pieces * d->bound);
        d->again_length = calloc(pieces, sizeof(*d->again_length));
        d->again_pieces = d->again && d->again_length ? pieces : 0;
    }
    if (pieces > d->again_pieces)
        return gp_fail(GP_ERR_NO_MEMORY, "encoded sums");
    return need_second(d, d->now);
}

static const gp_cast_kernels *
cast_of(uint8_t dtype)
{
    const gp_kernels *k = gp_kernels_get();

    return dtype == GP_FP16 ? &k->fp16 : &k->bf16;
}

static gp_codec_context
context_of(const gp_collective *c, uint32_t rank, uint64_t piece)
{
    const gp_group *g = c->group;

    return (gp_codec_context){.seed = g->mesh->worker->seed,
                              .tensor = c->call.key,
                              .offset = piece * g->coded->piece,
                              .step = g->coded->skipped + g->coded->now->calls,
                              .rank = rank,
                              .size = g->size};
}

/* Random codecs must not draw for the sum what they drew for its terms. */
static gp_codec_context
context_of_sum(const gp_collective *c, uint32_t rank, uint64_t piece)
{
    gp_codec_context context = context_of(c, rank, piece);

    context.seed ^= SECOND_SEED;
    return context;
}

uint64_t
gp_coded_elements(const gp_collective *c, uint64_t piece)
{
    const gp_coded *d = c->group->coded;

    return GP_MIN(c->call.count - piece * d->piece, d->piece);
}

static gp_status
encode_all(gp_collective *c, const float *source)
{
    gp_coded *d = c->group->coded;
    uint32_t rank = c->group->rank;
    gp_status status = GP_OK;

    if (gp_pipeline_needs(d->pipeline) & GP_PIPELINE_PREPARES) {
        gp_codec_context context = context_of(c, rank, 0);

        status = gp_pipeline_prepare(d->pipeline, &context, d->now->memory,
                                     source, c->call.count);
    }
    for (uint64_t p = 0; status == GP_OK && p < gp_coded_pieces(c); p++) {
        gp_codec_context context = context_of(c, rank, p);

        status = gp_pipeline_encode(
            d->pipeline, &context, d->now->memory, source + p * d->piece,
            gp_coded_elements(c, p), d->bytes + p * d->bound, d->bound,
            &d->length[p], d->workspace);
    }
    return status;
}

uint64_t
gp_coded_pieces(const gp_collective *c)
{
    uint64_t piece = c->group->coded->piece;

    return (c->call.count + piece - 1) / piece;
}

bool
gp_coded_has_shards(const gp_collective *c)
{
    const gp_group *g = c->group;
    uint32_t needs = gp_pipeline_needs(g->coded->pipeline);

    if (needs & GP_PIPELINE_PREPARES || gp_coded_pieces(c) < g->size)
        return false;
    if (g->algorithm == ALGORITHM_AUTO)
        return g->size > 2 && !(needs & GP_PIPELINE_SELECTS);
    return g->algorithm == ALGORITHM_SHARDS;
}

uint64_t
gp_coded_first(const gp_collective *c, uint32_t rank)
{
    return gp_coded_pieces(c) * rank / c->group->size;
}

gp_status
gp_coded_begin(gp_collective *c)
{
    gp_coded *d = c->group->coded;
    bool half = c->call.dtype != GP_FP32;
    const void *source = c->in;
    gp_status status = find_kept(d, c->call.key, c->call.count, &d->now);

    if (status == GP_OK)
        status = need_room(d, c->call.count, half);
    if (status == GP_OK && gp_coded_has_shards(c))
        status = need_shard(c);
    if (status != GP_OK)
        return status;
    if (half) {
        cast_of(c->call.dtype)->decode(c->in, d->source, c->call.count);
        source = d->source;
    }
    return encode_all(c, source);
}

const uint8_t *
gp_coded_message(const gp_collective *c, bool again, uint64_t piece,
                 uint64_t *length)
{
    const gp_coded *d = c->group->coded;

    if (again) {
        piece -= gp_coded_first(c, c->group->rank);
        *length = d->again_length[piece];
        return d->again + piece * d->bound;
    }
    *length = d->length[piece];
    return d->bytes + piece * d->bound;
}

/* Where a piece is summed up or decoded to. */
static float *
values_of(const gp_collective *c, uint64_t piece)
{
    const gp_coded *d = c->group->coded;
    void *base = c->call.dtype == GP_FP32 ? (void *)c->out : d->sum;

    return (float *)base + piece * d->piece;
}

/* The values of a piece are what they will be. */
static void
round_piece(gp_collective *c, uint64_t piece)
{
    if (c->call.dtype != GP_FP32)
        cast_of(c->call.dtype)
            ->encode(values_of(c, piece),
                     c->out + piece * c->group->coded->piece * sizeof(uint16_t),
                     gp_coded_elements(c, piece));
}

gp_status
gp_coded_place(gp_collective *c, uint32_t rank, uint64_t piece,
               const void *message, uint64_t length)
{
    gp_coded *d = c->group->coded;
    gp_codec_context context = context_of_sum(c, rank, piece);
    gp_status status = gp_pipeline_decode(
        d->pipeline, &context, message, length, values_of(c, piece),
        gp_coded_elements(c, piece), d->workspace);

    if (status == GP_OK)
        round_piece(c, piece);
    return status;
}

/* What all get, this member too, is what the codec makes of the sum. */
static gp_status
encode_sum(gp_collective *c, uint64_t piece)
{
    gp_coded *d = c->group->coded;
    uint32_t rank = c->group->rank;
    gp_codec_context context = context_of_sum(c, rank, piece);
    uint64_t at = piece - gp_coded_first(c, rank);
    uint8_t *message = d->again + at * d->bound;
    gp_status status = gp_pipeline_encode(
        d->pipeline, &context, d->now->second, values_of(c, piece),
        gp_coded_elements(c, piece), message, d->bound, &d->again_length[at],
        d->workspace);

    if (status != GP_OK)
        return status;
    return gp_coded_place(c, rank, piece, message, d->again_length[at]);
}

/* After the last term. */
static gp_status
finish_piece(gp_collective *c, uint64_t piece)
{
    float *sum = values_of(c, piece);

    if (c->call.reduction == GP_MEAN)
        gp_fold_scale(sum, sum, 1.0f / (float)c->group->size,
                      gp_coded_elements(c, piece));
    if (c->algorithm == ALGORITHM_CODED_SHARDS)
        return encode_sum(c, piece);
    round_piece(c, piece);
    return GP_OK;
}

gp_status
gp_coded_add(gp_collective *c, uint32_t rank, uint64_t piece,
             const void *message, uint64_t length)
{
    gp_coded *d = c->group->coded;
    gp_codec_context context = context_of(c, rank, piece);
    float *sum = values_of(c, piece);
    uint64_t n = gp_coded_elements(c, piece);
    gp_status status;

    if (rank == 0)
        status = gp_pipeline_decode(d->pipeline, &context, message, length, sum,
                                    n, d->workspace);
    else
        status = gp_pipeline_decode_add(d->pipeline, &context, message, length,
                                        sum, n, d->workspace);
    if (status == GP_OK && rank + 1 == c->group->size)
        status = finish_piece(c, piece);
    return status;
}

void
gp_coded_end(gp_collective *c)
{
    c->group->coded->now->calls++;
}

/* --- what is remembered ------------------------------------------------------
 */

/* The index-th field of a memory, less those that were passed; 0: it has
 * fewer. */
static size_t
field_of(gp_codec_memory *memory, size_t *index, size_t *at, const char **name,
         float **values)
{
    for (*at = 0; memory; ++*at, --*index) {
        size_t count = gp_codec_memory_field(memory, *at, name, values);

        if (count == 0 || *index == 0)
            return count;
    }
    return 0;
}

size_t
gp_coded_state(gp_coded *d, size_t index, uint64_t *key, const char **name,
               float **values)
{
    GP_LIST_EACH (item, &d->kept) {
        kept *k = GP_CONTAINER_OF(item, kept, link);
        size_t at, count = field_of(k->memory, &index, &at, name, values);

        *key = k->key;
        if (count)
            return count;
        count = field_of(k->second, &index, &at, name, values);
        if (count && at < FIELDS_MAX) {
            snprintf(k->name[at], sizeof(k->name[at]), SECOND "%s", *name);
            *name = k->name[at];
            return count;
        }
    }
    return 0;
}

gp_status
gp_coded_load(gp_coded *d, uint64_t key, const char *name, const float *values,
              uint64_t count)
{
    bool second = strncmp(name, SECOND, strlen(SECOND)) == 0;
    const char *plain = second ? name + strlen(SECOND) : name;
    gp_codec_memory *memory;
    kept *k;
    gp_status status = find_kept(d, key, count, &k);
    const char *has;
    float *into;
    size_t n;

    if (status == GP_OK && second)
        status = need_second(d, k);
    if (status != GP_OK)
        return status;
    memory = second ? k->second : k->memory;
    for (size_t i = 0; memory; i++) {
        n = gp_codec_memory_field(memory, i, &has, &into);
        if (n == 0)
            break;
        if (n != count || strcmp(has, plain) != 0)
            continue;
        memcpy(into, values, count * sizeof(float));
        return GP_OK;
    }
    return gp_fail(GP_ERR_NOT_FOUND, "the codec has no '%.40s' of %llu", name,
                   (unsigned long long)count);
}
