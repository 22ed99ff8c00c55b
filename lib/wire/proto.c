/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto.c - control payloads, byte by byte.
 *
 * Sizes of lists are checked against what is left to read before anything is
 * allocated, so a hostile count costs nothing.
 */
#include "wire/proto.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "wire/rows.h"
#include <gradpush/worker.h>

/* The shortest encoded row: five empty texts and the numbers. */
#define TENSOR_BYTES_MIN (2 + 1 + 1 + 8 + 8 + 8 + 2 + 2 + 2 + 2)
#define ROWS_BYTES       (8 + 8 + 4 + 1)

static gp_status
whole(const gp_reader *r, const char *what)
{
    if (r->ok && r->left == 0)
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL, "malformed %s message", what);
}

size_t
gp_challenge_encode(const gp_challenge *c, void *out)
{
    memcpy(out, c->nonce, sizeof(c->nonce));
    return GP_CHALLENGE_BYTES;
}

gp_status
gp_challenge_decode(const void *in, size_t size, gp_challenge *out)
{
    if (size != GP_CHALLENGE_BYTES)
        return gp_fail(GP_ERR_PROTOCOL, "malformed challenge message");
    memcpy(out->nonce, in, sizeof(out->nonce));
    return GP_OK;
}

size_t
gp_hello_encode(const gp_hello *h, void *out)
{
    gp_writer w = {out, GP_HELLO_BYTES_MAX, true};

    gp_write32(&w, h->rank);
    gp_write32(&w, h->size);
    gp_write32(&w, h->shard);
    gp_write32(&w, h->shards);
    gp_write(&w, h->nonce, sizeof(h->nonce));
    gp_write(&w, h->proof, sizeof(h->proof));
    gp_write_text(&w, h->identity);
    return GP_HELLO_BYTES_MAX - w.left;
}

gp_status
gp_hello_decode(const void *in, size_t size, gp_hello *out)
{
    gp_reader r = {in, size, true};
    gp_hello h;
    const uint8_t *nonce, *proof;

    h.rank = gp_read32(&r);
    h.size = gp_read32(&r);
    h.shard = gp_read32(&r);
    h.shards = gp_read32(&r);
    nonce = gp_read(&r, GP_NONCE_BYTES);
    proof = gp_read(&r, GP_PROOF_BYTES);
    gp_read_text(&r, h.identity, sizeof(h.identity));
    if (whole(&r, "hello") != GP_OK)
        return GP_ERR_PROTOCOL;
    memcpy(h.nonce, nonce, GP_NONCE_BYTES);
    memcpy(h.proof, proof, GP_PROOF_BYTES);
    for (char *p = h.identity; *p; p++)
        if (!isprint((unsigned char)*p))
            *p = '?';
    *out = h;
    return GP_OK;
}

size_t
gp_welcome_encode(const gp_welcome *w, void *out)
{
    memcpy(out, w->proof, sizeof(w->proof));
    return GP_WELCOME_BYTES;
}

gp_status
gp_welcome_decode(const void *in, size_t size, gp_welcome *out)
{
    if (size != GP_WELCOME_BYTES)
        return gp_fail(GP_ERR_PROTOCOL, "malformed welcome message");
    memcpy(out->proof, in, sizeof(out->proof));
    return GP_OK;
}

size_t
gp_grant_encode(const gp_grant *g, void *out)
{
    uint8_t *p = out;

    gp_put32(p, g->slots);
    gp_put32(p + 4, g->region);
    gp_put64(p + 8, g->slot_bytes);
    return GP_GRANT_BYTES;
}

gp_status
gp_grant_decode(const void *in, size_t size, gp_grant *out)
{
    const uint8_t *p = in;

    if (size != GP_GRANT_BYTES || gp_get32(p) > GP_SLOTS_MAX)
        return gp_fail(GP_ERR_PROTOCOL, "malformed ready message");
    out->slots = gp_get32(p);
    out->region = gp_get32(p + 4);
    out->slot_bytes = gp_get64(p + 8);
    return GP_OK;
}

size_t
gp_lag_encode(const gp_lag_report *l, void *out)
{
    uint8_t *p = out;

    gp_put64(p, l->mean_ns);
    gp_put64(p + 8, l->awaited_ns);
    gp_put64(p + 16, l->worst_ns);
    gp_put32(p + 24, l->worst);
    gp_put32(p + 28, 0);
    return GP_LAG_BYTES;
}

gp_status
gp_lag_decode(const void *in, size_t size, gp_lag_report *out)
{
    const uint8_t *p = in;

    if (size != GP_LAG_BYTES || gp_get32(p + 28) != 0)
        return gp_fail(GP_ERR_PROTOCOL, "malformed lag message");
    *out = (gp_lag_report){.mean_ns = gp_get64(p),
                           .awaited_ns = gp_get64(p + 8),
                           .worst_ns = gp_get64(p + 16),
                           .worst = gp_get32(p + 24)};
    return GP_OK;
}

void
gp_text_decode(const void *in, size_t size, char *out)
{
    const unsigned char *p = in;
    size_t length = GP_MIN(size, GP_TEXT_MAX - 1);

    for (size_t i = 0; i < length; i++)
        out[i] = isprint(p[i]) ? (char)p[i] : isspace(p[i]) ? ' ' : '?';
    out[length] = '\0';
}

void
gp_tensor_list_free(gp_tensor_list *list)
{
    free(list->tensors);
    free(list->weights);
    list->tensors = NULL;
    list->weights = NULL;
    list->count = 0;
}

static size_t
spec_bytes(const gp_tensor_spec *t)
{
    return TENSOR_BYTES_MIN + strlen(t->name) + strlen(t->push) +
           strlen(t->pull) + strlen(t->updater) + strlen(t->mode) +
           (t->rows ? ROWS_BYTES : 0);
}

static void
write_rows(gp_writer *w, const gp_tensor_spec *t)
{
    gp_write64(w, t->rows);
    gp_write64(w, t->row_seed);
    gp_write32(w, (uint32_t)gp_float_bits(t->row_scale));
    gp_write8(w, t->row_init);
}

gp_status
gp_tensor_list_encode(const gp_tensor_list *list, void **out, size_t *size)
{
    size_t bytes = 8 + 8 + 4 + 4;
    gp_writer w;

    for (uint32_t i = 0; i < list->count; i++)
        bytes += spec_bytes(&list->tensors[i]);
    if (list->weights)
        bytes += (size_t)list->shards * 4;
    if (bytes > GP_CONTROL_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "the list of %u tensors takes %zu bytes, over %u: use "
                       "shorter names or fewer tensors",
                       list->count, bytes, GP_CONTROL_MAX);
    w.at = malloc(bytes);
    if (!w.at)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor list");
    *out = w.at;
    *size = bytes;
    w.left = bytes;
    w.ok = true;
    gp_write64(&w, list->chunk_bytes);
    gp_write64(&w, list->seed);
    gp_write32(&w, list->shards);
    gp_write32(&w, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        const gp_tensor_spec *t = &list->tensors[i];

        gp_write_text(&w, t->name);
        gp_write8(&w, t->dtype);
        gp_write8(
            &w, (uint8_t)(t->feedback | t->restored << 1 | (t->rows > 0) << 2));
        gp_write64(&w, t->count);
        gp_write64(&w, t->columns);
        gp_write64(&w, t->first_step);
        gp_write_text(&w, t->push);
        gp_write_text(&w, t->pull);
        gp_write_text(&w, t->updater);
        gp_write_text(&w, t->mode);
        if (t->rows)
            write_rows(&w, t);
    }
    for (uint32_t i = 0; list->weights && i < list->shards; i++)
        gp_write32(&w, list->weights[i]);
    return GP_OK;
}

/* At the end of a list, where not all are equal. */
static bool
weights_decode(gp_reader *r, gp_tensor_list *list)
{
    uint32_t any = 0;

    if (r->left != (uint64_t)list->shards * 4)
        return false;
    list->weights = calloc(list->shards, sizeof(*list->weights));
    if (!list->weights)
        return false;
    for (uint32_t i = 0; i < list->shards; i++)
        any |= list->weights[i] = gp_read32(r);
    return any != 0;
}

/* Rows of equal length, or none. */
static bool
is_shape(uint64_t count, uint64_t columns)
{
    return count > 0 && count <= SIZE_MAX / 8 &&
           (columns == 0 || count % columns == 0);
}

static bool
rows_decode(gp_reader *r, gp_tensor_spec *t)
{
    gp_row_spec spec;

    t->rows = gp_read64(r);
    t->row_seed = gp_read64(r);
    t->row_scale = gp_bits_float(gp_read32(r));
    t->row_init = gp_read8(r);
    spec = gp_row_spec_of(t);
    return r->ok && t->dtype == GP_FP32 && !gp_row_spec_fault(&spec);
}

static bool
spec_decode(gp_reader *r, gp_tensor_spec *t)
{
    uint8_t bits;

    gp_read_text(r, t->name, sizeof(t->name));
    t->dtype = gp_read8(r);
    bits = gp_read8(r);
    t->feedback = bits & 1;
    t->restored = bits >> 1 & 1;
    t->count = gp_read64(r);
    t->columns = gp_read64(r);
    t->first_step = gp_read64(r);
    gp_read_text(r, t->push, sizeof(t->push));
    gp_read_text(r, t->pull, sizeof(t->pull));
    gp_read_text(r, t->updater, sizeof(t->updater));
    gp_read_text(r, t->mode, sizeof(t->mode));
    if (r->ok && bits & 4 && !rows_decode(r, t))
        return false;
    return r->ok && is_shape(t->count, t->columns) && bits <= 7 &&
           t->first_step <= GP_FIRST_STEP_MAX &&
           gp_dtype_bytes((gp_dtype)t->dtype) > 0;
}

gp_status
gp_tensor_list_decode(const void *in, size_t size, gp_tensor_list *out)
{
    gp_reader r = {in, size, true};
    gp_tensor_list list = {0};

    list.chunk_bytes = gp_read64(&r);
    list.seed = gp_read64(&r);
    list.shards = gp_read32(&r);
    list.count = gp_read32(&r);
    if (!r.ok || list.count == 0 || list.count > r.left / TENSOR_BYTES_MIN ||
        list.chunk_bytes == 0 || list.shards == 0)
        return gp_fail(GP_ERR_PROTOCOL, "malformed tensor list");
    list.tensors = calloc(list.count, sizeof(*list.tensors));
    if (!list.tensors)
        return gp_fail(GP_ERR_NO_MEMORY, "list of %u tensors", list.count);
    for (uint32_t i = 0; i < list.count && r.ok; i++)
        if (!spec_decode(&r, &list.tensors[i]))
            r.ok = false;
    if (r.ok && r.left > 0)
        r.ok = weights_decode(&r, &list);
    if (whole(&r, "tensor list") != GP_OK) {
        gp_tensor_list_free(&list);
        return GP_ERR_PROTOCOL;
    }
    *out = list;
    return GP_OK;
}

static const char *
dtype_name(uint8_t dtype)
{
    static const char *const names[] = {"?", "fp32", "fp16", "bf16"};

    return dtype < GP_COUNT_OF(names) ? names[dtype] : "?";
}

static const char history_field[] = "its ef21 history";

#define SPEC_TEXTS 10

static void
print_init(const gp_tensor_spec *t, char out[48])
{
    static const char *const names[] = {"zero", "uniform", "normal"};

    snprintf(out, 48, "%s %llu %.9g", names[GP_MIN(t->row_init, 2u)],
             (unsigned long long)t->row_seed, (double)t->row_scale);
}

/* The first field in which two rows differ, and both values; NULL for none. */
static const char *
spec_difference(const gp_tensor_spec *a, const gp_tensor_spec *b,
                const char **left, const char **right,
                char text[SPEC_TEXTS][48])
{
    static const char *const on_or_off[] = {"off", "on"};
    static const char *const anew[] = {"begun anew", "restored"};
    const struct {
        const char *what, *a, *b;
    } fields[] = {
        {"dtype", dtype_name(a->dtype), dtype_name(b->dtype)},
        {"count", text[0], text[1]},
        {"columns", text[2], text[3]},
        {"first step", text[4], text[5]},
        {"codec", a->push, b->push},
        {"pull codec", a->pull, b->pull},
        {"pull feedback", on_or_off[a->feedback & 1],
         on_or_off[b->feedback & 1]},
        {"updater", a->updater, b->updater},
        {"mode", a->mode, b->mode},
        {"rows", text[6], text[7]},
        {"initialiser of rows", text[8], text[9]},
        {history_field, anew[a->restored & 1], anew[b->restored & 1]}};

    print_init(a, text[8]);
    print_init(b, text[9]);
    snprintf(text[6], 24, "%llu", (unsigned long long)a->rows);
    snprintf(text[7], 24, "%llu", (unsigned long long)b->rows);
    snprintf(text[0], 24, "%llu", (unsigned long long)a->count);
    snprintf(text[1], 24, "%llu", (unsigned long long)b->count);
    snprintf(text[2], 24, "%llu", (unsigned long long)a->columns);
    snprintf(text[3], 24, "%llu", (unsigned long long)b->columns);
    snprintf(text[4], 24, "%llu", (unsigned long long)a->first_step);
    snprintf(text[5], 24, "%llu", (unsigned long long)b->first_step);
    for (size_t i = 0; i < GP_COUNT_OF(fields); i++)
        if (strcmp(fields[i].a, fields[i].b) != 0) {
            *left = fields[i].a;
            *right = fields[i].b;
            return fields[i].what;
        }
    return NULL;
}

static bool
weights_differ(const gp_tensor_list *a, uint32_t rank_a,
               const gp_tensor_list *b, uint32_t rank_b, char *out,
               size_t capacity)
{
    if (!a->weights && !b->weights)
        return false; /* and `shards` is a peer's number */
    for (uint32_t i = 0; i < a->shards; i++) {
        uint32_t of_a = a->weights ? a->weights[i] : 1;
        uint32_t of_b = b->weights ? b->weights[i] : 1;

        if (of_a == of_b && !a->weights == !b->weights)
            continue;
        snprintf(out, capacity,
                 "the weight of shard %u is %u on worker %u but %u on worker "
                 "%u: set shard_weights alike",
                 i, of_a, rank_a, of_b, rank_b);
        return true;
    }
    return false;
}

static const char advice[] =
    "register the same tensors in the same order on all workers";

/* Does row `i` of two lists differ? Says how. */
static bool
row_differs(uint32_t i, const gp_tensor_spec *a, uint32_t rank_a,
            const gp_tensor_spec *b, uint32_t rank_b, char *out,
            size_t capacity)
{
    const char *left, *right, *what;
    char text[SPEC_TEXTS][48];

    if (strcmp(a->name, b->name) != 0) {
        snprintf(out, capacity,
                 "tensor %u is '%.160s' on worker %u, but '%.160s' on worker "
                 "%u: %s",
                 i, a->name, rank_a, b->name, rank_b, advice);
        return true;
    }
    what = spec_difference(a, b, &left, &right, text);
    if (!what)
        return false;
    snprintf(out, capacity,
             "tensor %u '%.60s' has %s %.130s on worker %u, but %.130s on "
             "worker %u: %s",
             i, a->name, what, left, rank_a, right, rank_b,
             what == history_field
                 ? "load the state of one checkpoint on all workers, or on none"
                 : advice);
    return true;
}

bool
gp_tensor_list_differ(const gp_tensor_list *a, uint32_t rank_a,
                      const gp_tensor_list *b, uint32_t rank_b, char *text,
                      size_t capacity)
{
    uint32_t common = GP_MIN(a->count, b->count);

    for (uint32_t i = 0; i < common; i++)
        if (row_differs(i, &a->tensors[i], rank_a, &b->tensors[i], rank_b, text,
                        capacity))
            return true;
    if (a->count != b->count) {
        const gp_tensor_list *longer = a->count > b->count ? a : b;

        snprintf(text, capacity,
                 "worker %u registered %u tensors and worker %u %u; the first "
                 "that only one has is '%.60s': %s",
                 rank_a, a->count, rank_b, b->count,
                 longer->tensors[common].name, advice);
        return true;
    }
    if (a->chunk_bytes != b->chunk_bytes || a->seed != b->seed ||
        a->shards != b->shards) {
        snprintf(text, capacity,
                 "chunk_bytes, seed and shards are %llu, %llu, %u on worker %u "
                 "but %llu, %llu, %u on worker %u: set them alike",
                 (unsigned long long)a->chunk_bytes,
                 (unsigned long long)a->seed, a->shards, rank_a,
                 (unsigned long long)b->chunk_bytes,
                 (unsigned long long)b->seed, b->shards, rank_b);
        return true;
    }
    return weights_differ(a, rank_a, b, rank_b, text, capacity);
}

void
gp_member_list_encode(const gp_member_list *list, void *out)
{
    uint8_t *p = out;

    gp_put32(p, list->epoch);
    gp_put32(p + 4, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        gp_put32(p + 8 + (size_t)i * 8, list->member[i].rank);
        gp_put32(p + 12 + (size_t)i * 8, list->member[i].incarnation);
    }
}

gp_status
gp_member_list_decode(const void *in, size_t bytes, uint32_t size,
                      gp_member_list *out)
{
    gp_reader r = {in, bytes, true};
    gp_member_list list = {0};

    list.epoch = gp_read32(&r);
    list.count = gp_read32(&r);
    if (!r.ok || list.epoch == 0 || list.count == 0 || list.count > size ||
        r.left != (size_t)list.count * 8)
        return gp_fail(GP_ERR_PROTOCOL, "malformed list of members");
    list.member = calloc(list.count, sizeof(*list.member));
    if (!list.member)
        return gp_fail(GP_ERR_NO_MEMORY, "list of %u members", list.count);
    for (uint32_t i = 0; i < list.count; i++) {
        gp_life *m = &list.member[i];

        m->rank = gp_read32(&r);
        m->incarnation = gp_read32(&r);
        r.ok &= m->rank < size && (i == 0 || m[-1].rank < m->rank);
    }
    if (!r.ok) {
        free(list.member);
        return gp_fail(GP_ERR_PROTOCOL, "list of members without order");
    }
    *out = list;
    return GP_OK;
}
