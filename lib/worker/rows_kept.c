/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows_kept.c - all rows of a tensor out and in, for checkpoints.
 *
 * What is written, all little endian:
 *
 *     8     the bytes "GPROWS1" and a zero
 *     8     number of rows of the tensor
 *     4     width
 *     4     arrays of the updater, a
 *     32 a  their names, with zeros behind
 *     then for each row: index (8), updates (8), (1 + a) width fp32
 *     8     2^64 - 1
 *     8     how many rows came
 *     4     CRC32C of everything before
 *
 * Rows go to whichever shard has them in the job that loads, so nothing in it
 * says where they came from.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "worker/rows.h"

#define MAGIC      "GPROWS1"
#define HEAD_BYTES 24u
#define NAME_BYTES 32u
#define TAIL_BYTES 20u
#define HEAD_MAX   (HEAD_BYTES + NAME_BYTES * GP_UPDATER_ARRAYS)

/* A stream, and what has gone through it. */
typedef struct stream {
    gp_tensor *tensor;
    gp_rows_write write;
    gp_rows_read read;
    void *user;
    uint32_t crc;
    size_t record;
    uint64_t rows;
} stream;

static gp_status
failed(const stream *f, gp_status status)
{
    return gp_fail(status, "tensor '%.60s': its rows cannot be %s: %s",
                   f->tensor->spec.name, f->write ? "written" : "read",
                   gp_status_text(status));
}

static gp_status
put(stream *f, const void *bytes, size_t size)
{
    gp_status status = f->write(f->user, bytes, size);

    f->crc = gp_crc32c(f->crc, bytes, size);
    return status == GP_OK ? GP_OK : failed(f, status);
}

static gp_status
get(stream *f, void *bytes, size_t size)
{
    gp_status status = f->read(f->user, bytes, size);

    if (status != GP_OK)
        return failed(f, status);
    f->crc = gp_crc32c(f->crc, bytes, size);
    return GP_OK;
}

static uint32_t
count_arrays(const gp_tensor *t)
{
    return (uint32_t)__builtin_popcount(t->updater.arrays);
}

static size_t
make_head(const gp_tensor *t, uint8_t *out)
{
    gp_row_spec spec = gp_row_spec_of(&t->spec);
    uint32_t arrays = count_arrays(t);

    memset(out, 0, HEAD_MAX);
    memcpy(out, MAGIC, sizeof(MAGIC));
    gp_put64(out + 8, spec.rows);
    gp_put32(out + 16, spec.width);
    gp_put32(out + 20, arrays);
    for (uint32_t i = 0; i < arrays; i++) {
        const char *name = gp_updater_array(&t->updater, i);

        memcpy(out + HEAD_BYTES + i * NAME_BYTES, name,
               GP_MIN(strlen(name), NAME_BYTES));
    }
    return HEAD_BYTES + arrays * NAME_BYTES;
}

/* Worker 0 alone, between requests; the shards have agreed on the tensors. */
static gp_status
begin(gp_tensor *t, const char *call)
{
    if (t->worker->rank != 0)
        return gp_fail(GP_ERR_STATE, "%s: worker 0 alone may do that, not %u",
                       call, t->worker->rank);
    return gp_worker_ready(t->worker);
}

static stream
stream_of(gp_tensor *t, void *user)
{
    gp_row_spec spec = gp_row_spec_of(&t->spec);

    return (stream){.tensor = t,
                    .user = user,
                    .record = gp_row_record_bytes(spec.width, count_arrays(t))};
}

static gp_status
save_chunk(stream *f, uint32_t chunk, void *buffer)
{
    uint64_t at = 0, total = 1;
    gp_status status = GP_OK;

    while (status == GP_OK && at < total) {
        uint32_t count = 0;

        total = at;
        status = gp_kept_rows(f->tensor, GP_MSG_RECALL, chunk, f->record,
                              buffer, &count, &total);
        if (status == GP_OK && count > 0)
            status = put(f, buffer, count * f->record);
        if (status == GP_OK && count == 0)
            break;
        at += count;
        f->rows += count;
    }
    return status;
}

static gp_status
save(stream *f, void *buffer)
{
    gp_tensor *t = f->tensor;
    uint8_t head[HEAD_MAX], tail[TAIL_BYTES];
    gp_status status = put(f, head, make_head(t, head));

    for (uint32_t i = 0; status == GP_OK && i < t->chunks; i++)
        status = save_chunk(f, t->first + i, buffer);
    if (status != GP_OK)
        return status;
    gp_put64(tail, UINT64_MAX);
    gp_put64(tail + 8, f->rows);
    status = put(f, tail, 16);
    gp_put32(tail + 16, f->crc);
    return status == GP_OK ? put(f, tail + 16, 4) : status;
}

gp_status
gp_rows_save(gp_rows *rows, gp_rows_write write, void *user)
{
    gp_tensor *t = (gp_tensor *)(void *)rows;
    gp_status status;
    stream f;
    void *buffer;

    if (!rows || !write)
        return gp_fail(GP_ERR_INVALID, "gp_rows_save: a pointer is NULL");
    status = begin(t, "gp_rows_save");
    if (status != GP_OK)
        return status;
    f = stream_of(t, user);
    f.write = write;
    buffer = malloc(gp_row_records_max(f.record) * f.record);
    if (!buffer)
        return gp_fail(GP_ERR_NO_MEMORY, "rows");
    pthread_mutex_lock(&t->worker->keeping.lock);
    status = save(&f, buffer);
    pthread_mutex_unlock(&t->worker->keeping.lock);
    free(buffer);
    return status;
}

static gp_status
read_head(stream *f)
{
    uint8_t head[HEAD_MAX], mine[HEAD_MAX];
    size_t size = make_head(f->tensor, mine);
    gp_status status = get(f, head, HEAD_BYTES);

    if (status != GP_OK)
        return status;
    if (memcmp(head, MAGIC, sizeof(MAGIC)) != 0)
        return gp_fail(GP_ERR_CORRUPT, "tensor '%.60s': these are no rows",
                       f->tensor->spec.name);
    if (memcmp(head, mine, HEAD_BYTES) == 0)
        status = get(f, head + HEAD_BYTES, size - HEAD_BYTES);
    if (status != GP_OK || memcmp(head, mine, size) == 0)
        return status;
    return gp_fail(
        GP_ERR_MISMATCH,
        "tensor '%.60s' has %llu rows of %u numbers and %u arrays of "
        "its updater; saved are %llu rows of %u with %u, or arrays "
        "of other names",
        f->tensor->spec.name, (unsigned long long)gp_get64(mine + 8),
        gp_get32(mine + 16), gp_get32(mine + 20),
        (unsigned long long)gp_get64(head + 8), gp_get32(head + 16),
        gp_get32(head + 20));
}

static gp_status
read_tail(stream *f)
{
    uint8_t tail[12];
    gp_status status = get(f, tail, 8);
    uint32_t crc = f->crc;

    if (status == GP_OK)
        status = get(f, tail + 8, 4);
    if (status != GP_OK)
        return status;
    return gp_get64(tail) == f->rows && gp_get32(tail + 8) == crc
               ? GP_OK
               : gp_fail(GP_ERR_CORRUPT, "tensor '%.60s': damaged rows",
                         f->tensor->spec.name);
}

/* Records of one shard that have not been sent. */
typedef struct heap {
    uint8_t *bytes;
    uint32_t count;
} heap;

static gp_status
send(stream *f, uint32_t shard, heap *h)
{
    gp_tensor *t = f->tensor;
    uint32_t count = h->count;
    uint64_t at = 0;

    h->count = 0;
    return count ? gp_kept_rows(t, GP_MSG_RESTORE, t->first + shard, f->record,
                                h->bytes, &count, &at)
                 : GP_OK;
}

static gp_status
add(stream *f, heap *heaps, const uint8_t *record)
{
    gp_tensor *t = f->tensor;
    uint64_t index = gp_get64(record);
    uint32_t shard = gp_row_shard(index, t->worker->shards);
    heap *h = &heaps[shard];

    if (index >= t->spec.rows)
        return gp_fail(GP_ERR_CORRUPT, "tensor '%.60s': damaged rows",
                       t->spec.name);
    memcpy(h->bytes + h->count++ * f->record, record, f->record);
    f->rows++;
    return h->count == gp_row_records_max(f->record) ? send(f, shard, h)
                                                     : GP_OK;
}

static gp_status
load(stream *f, heap *heaps, uint8_t *record)
{
    uint32_t shards = f->tensor->worker->shards;
    gp_status status = read_head(f);

    while (status == GP_OK) {
        status = get(f, record, 8);
        if (status != GP_OK || gp_get64(record) == UINT64_MAX)
            break;
        status = get(f, record + 8, f->record - 8);
        if (status == GP_OK)
            status = add(f, heaps, record);
    }
    for (uint32_t s = 0; status == GP_OK && s < shards; s++)
        status = send(f, s, &heaps[s]);
    return status == GP_OK ? read_tail(f) : status;
}

static bool
has_pushed(gp_tensor *t)
{
    bool pushed;

    pthread_mutex_lock(&t->worker->submit_lock);
    pushed = t->steps > t->spec.first_step;
    pthread_mutex_unlock(&t->worker->submit_lock);
    return pushed;
}

gp_status
gp_rows_load(gp_rows *rows, gp_rows_read read, void *user)
{
    gp_tensor *t = (gp_tensor *)(void *)rows;
    uint32_t shards, most;
    heap *heaps;
    uint8_t *bytes;
    gp_status status;
    stream f;

    if (!rows || !read)
        return gp_fail(GP_ERR_INVALID, "gp_rows_load: a pointer is NULL");
    if (has_pushed(t))
        return gp_fail(GP_ERR_STATE,
                       "tensor '%.60s': load its rows before the first push",
                       t->spec.name);
    status = begin(t, "gp_rows_load");
    if (status != GP_OK)
        return status;
    f = stream_of(t, user);
    f.read = read;
    shards = t->worker->shards;
    most = gp_row_records_max(f.record);
    heaps = calloc(shards, sizeof(*heaps));
    bytes = malloc(((size_t)shards * most + 1) * f.record);
    for (uint32_t s = 0; heaps && bytes && s < shards; s++)
        heaps[s].bytes = bytes + (size_t)(s * most + 1) * f.record;
    pthread_mutex_lock(&t->worker->keeping.lock);
    status = heaps && bytes ? load(&f, heaps, bytes)
                            : gp_fail(GP_ERR_NO_MEMORY, "rows");
    pthread_mutex_unlock(&t->worker->keeping.lock);
    free(heaps);
    free(bytes);
    return status;
}
