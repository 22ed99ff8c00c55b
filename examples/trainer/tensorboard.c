/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorboard.c - scalars for TensorBoard.
 *
 * A record is u64 length, u32 masked CRC32C of the length, data, u32 masked
 * CRC32C of the data, all little endian. The data is a protocol buffer Event:
 * 1 wall_time, 2 step, 3 file_version, 5 summary; a Summary has values in 1,
 * each with 1 tag and 2 simple_value.
 */
#include "tensorboard.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX 2048
#define VERSION    "brain.Event:2"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct buffer {
    uint8_t *at;
    size_t left;
    bool ok;
} buffer;

static void
put(buffer *b, const void *data, size_t length)
{
    if (!b->ok || length > b->left) {
        b->ok = false;
        return;
    }
    memcpy(b->at, data, length);
    b->at += length;
    b->left -= length;
}

static void
put_little(buffer *b, uint64_t value, size_t bytes)
{
    uint8_t little[8];

    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(value >> (8 * i));
    put(b, little, bytes);
}

static void
put_varint(buffer *b, uint64_t value)
{
    do {
        uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));

        put(b, &byte, 1);
        value >>= 7;
    } while (value);
}

static void
put_key(buffer *b, unsigned field, unsigned type)
{
    put_varint(b, field << 3 | type);
}

static void
put_bytes(buffer *b, unsigned field, const void *data, size_t length)
{
    put_key(b, field, BYTES);
    put_varint(b, length);
    put(b, data, length);
}

static void
put_double(buffer *b, unsigned field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_key(b, field, FIXED64);
    put_little(b, bits, 8);
}

static void
put_float(buffer *b, unsigned field, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_key(b, field, FIXED32);
    put_little(b, bits, 4);
}

static uint32_t
masked_crc32c(const uint8_t *data, size_t length)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static void
put_summary(buffer *b, const gt_scalar *scalars, size_t count)
{
    uint8_t space[RECORD_MAX / 2], one[256];
    buffer summary = {space, sizeof(space), true};

    for (size_t i = 0; i < count; i++) {
        buffer value = {one, sizeof(one), true};

        put_bytes(&value, 1, scalars[i].tag, strlen(scalars[i].tag));
        put_float(&value, 2, (float)scalars[i].value);
        put_bytes(&summary, 1, one, (size_t)(value.at - one));
        summary.ok = summary.ok && value.ok;
    }
    b->ok = b->ok && summary.ok;
    put_bytes(b, 5, space, (size_t)(summary.at - space));
}

size_t
gt_events_record(double wall_time, uint64_t step, const gt_scalar *scalars,
                 size_t count, uint8_t *out, size_t capacity)
{
    uint8_t space[RECORD_MAX];
    buffer event = {space, sizeof(space), true};
    buffer record = {out, capacity, true};
    size_t length;

    put_double(&event, 1, wall_time);
    if (scalars) {
        put_key(&event, 2, VARINT);
        put_varint(&event, step);
        put_summary(&event, scalars, count);
    } else {
        put_bytes(&event, 3, VERSION, strlen(VERSION));
    }
    length = (size_t)(event.at - space);
    put_little(&record, length, 8);
    if (record.ok)
        put_little(&record, masked_crc32c(out, 8), 4);
    put(&record, space, length);
    put_little(&record, masked_crc32c(space, length), 4);
    return event.ok && record.ok ? (size_t)(record.at - out) : 0;
}

static double
wall_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static gp_status
write_record(gt_events *e, uint64_t step, const gt_scalar *scalars,
             size_t count)
{
    uint8_t record[RECORD_MAX];
    size_t length = gt_events_record(wall_time(), step, scalars, count, record,
                                     sizeof(record));

    if (length == 0)
        return gt_fail(GP_ERR_TOO_LARGE, "%s: too many scalars in one step",
                       e->path);
    if (fwrite(record, 1, length, e->file) != length || fflush(e->file) != 0)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot write --logdir %s",
                             e->path);
    return GP_OK;
}

gp_status
gt_events_open(const char *folder, gt_events *out)
{
    gt_events e = {0};
    char host[128] = "localhost";
    gp_status status;
    int n;

    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot create --logdir %s",
                             folder);
    gethostname(host, sizeof(host) - 1);
    n = snprintf(e.path, sizeof(e.path),
                 "%s/events.out.tfevents.%010lld.%s.%ld.0", folder,
                 (long long)time(NULL), host, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof(e.path))
        return gt_fail(GP_ERR_CONFIG, "--logdir: the path is too long");
    e.file = fopen(e.path, "wbe");
    if (!e.file)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot write --logdir %s",
                             e.path);
    status = write_record(&e, 0, NULL, 0);
    if (status != GP_OK) {
        fclose(e.file);
        return status;
    }
    *out = e;
    return GP_OK;
}

gp_status
gt_events_write(gt_events *events, uint64_t step, const gt_scalar *scalars,
                size_t count)
{
    return events->file ? write_record(events, step, scalars, count) : GP_OK;
}

void
gt_events_close(gt_events *events)
{
    if (events->file)
        fclose(events->file);
    events->file = NULL;
}
