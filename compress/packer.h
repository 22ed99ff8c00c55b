/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packer.h - what the byte stages that shrink have in common: a head that says
 * whether they did, raw storage where they did not, and one line in the log
 * when they never do.
 *
 * Layout: mode (u8: 0 stored, 1 packed), unpacked size (u64), data. Mode 1
 * appears only where it is smaller than mode 0, hence the bound of size + 9.
 * The unpacked size is checked against the caller's capacity before a byte is
 * written, so a small message cannot ask for a large buffer.
 */
#ifndef GP_PACKER_H
#define GP_PACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/codec.h>

#define GP_PACKER_HEAD 9

/* The first member of an instance; written although instances are read-only,
 * by relaxed atomics. */
typedef struct gp_packer {
    /* The packed size, at most `room`, or 0 when it would take more. */
    size_t (*shrink)(const void *instance, const gp_codec_context *context,
                     const void *source, size_t size, void *out, size_t room);
    /* Exactly `size` bytes, or false. `length` is less than `size`, for which
     * there is scratch(). The bytes may change while they are read. */
    bool (*expand)(const void *instance, const gp_codec_context *context,
                   const void *bytes, size_t length, void *out, size_t size);
    const char *name;
    atomic_int vain; /* messages that did not shrink; below 0: one did */
} gp_packer;

size_t gp_packer_bound(const void *instance, size_t size);
gp_status gp_packer_pack(const void *instance, const gp_codec_context *context,
                         const void *source, size_t size, void *out,
                         size_t capacity, size_t *length);
gp_status gp_packer_unpack(const void *instance,
                           const gp_codec_context *context, const void *bytes,
                           size_t size, void *out, size_t capacity,
                           size_t *length);

#endif
