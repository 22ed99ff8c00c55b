/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packer.c - the head of byte stages that shrink, and the line in the log.
 *
 * The log is no part of a hot path: it is written at most once per instance.
 */
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/packer.h"

#define WATCHED_MESSAGES 16
#define WATCHED_SIZE     4096

enum { MODE_STORED = 0, MODE_PACKED = 1 };

/* Says so once when the first messages of some size all stayed as long. */
static void
watch(const gp_packer *packer, size_t size, bool shrank)
{
    atomic_int *vain = &((gp_packer *)(uintptr_t)packer)->vain;
    int before = atomic_load_explicit(vain, memory_order_relaxed);

    if (before < 0 || before >= WATCHED_MESSAGES || size < WATCHED_SIZE)
        return;
    if (shrank) {
        atomic_store_explicit(vain, -WATCHED_MESSAGES * 1024,
                              memory_order_relaxed);
        return;
    }
    before = atomic_fetch_add_explicit(vain, 1, memory_order_relaxed);
    if (before == WATCHED_MESSAGES - 1)
        GP_WARN("codec: %s shrank none of the first %d messages it got; they "
                "travel as they are: leave it out of the pipeline",
                packer->name, WATCHED_MESSAGES);
}

size_t
gp_packer_bound(const void *instance, size_t size)
{
    size_t bytes;

    (void)instance;
    return gp_add(size, GP_PACKER_HEAD, &bytes) ? bytes : SIZE_MAX;
}

gp_status
gp_packer_pack(const void *instance, const gp_codec_context *context,
               const void *source, size_t size, void *out, size_t capacity,
               size_t *length)
{
    const gp_packer *packer = instance;
    uint8_t *bytes = out;
    size_t bound = gp_packer_bound(instance, size), packed = 0;

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    if (size >= 2)
        packed = packer->shrink(instance, context, source, size,
                                bytes + GP_PACKER_HEAD, size - 1);
    watch(packer, size, packed > 0);
    bytes[0] = packed ? MODE_PACKED : MODE_STORED;
    gp_put64(bytes + 1, size);
    if (!packed && size)
        memcpy(bytes + GP_PACKER_HEAD, source, size);
    *length = GP_PACKER_HEAD + (packed ? packed : size);
    return GP_OK;
}

gp_status
gp_packer_unpack(const void *instance, const gp_codec_context *context,
                 const void *bytes, size_t size, void *out, size_t capacity,
                 size_t *length)
{
    const gp_packer *packer = instance;
    gp_reader r = {bytes, size, true};
    uint8_t mode = gp_read8(&r);
    uint64_t unpacked = gp_read64(&r);

    if (!r.ok || unpacked > capacity)
        return GP_ERR_CORRUPT;
    if (mode == MODE_STORED) {
        if (r.left != unpacked)
            return GP_ERR_CORRUPT;
        if (unpacked)
            memcpy(out, r.at, r.left);
    } else if (mode != MODE_PACKED || r.left >= unpacked ||
               !packer->expand(instance, context, r.at, r.left, out,
                               (size_t)unpacked)) {
        return GP_ERR_CORRUPT;
    }
    *length = (size_t)unpacked;
    return GP_OK;
}
