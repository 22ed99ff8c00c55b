/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomic_file.h - replaces a file completely or not at all.
 */
#ifndef GT_ATOMIC_FILE_H
#define GT_ATOMIC_FILE_H

#include <sys/uio.h>

#include "common.h"

/* Writes the parts to a temporary file beside `path`, syncs it, renames it to
 * `path` and syncs the folder. On any failure (a full disk) the old file is
 * untouched and the temporary one is gone. */
gp_status gt_atomic_write(const char *path, const struct iovec *parts,
                          size_t count);

#endif
