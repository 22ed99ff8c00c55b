/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atomic_file.c - replaces a file completely or not at all.
 *
 * The order matters: content is on disk before the name points at it, and the
 * name is on disk before success is reported.
 */
#include "atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define WRITE_MAX ((size_t)1 << 30)

static gp_status
write_failure(const char *path, int error)
{
    const char *hint = error == ENOSPC || error == EDQUOT
                           ? "; free space or choose another folder"
                       : error == EFBIG ? "; raise the file size limit"
                                        : "";

    return gt_fail(GP_ERR_SYSTEM,
                   "cannot write %s: %s%s (what was there "
                   "before is intact)",
                   path, strerror(error), hint);
}

static int
write_part(int fd, const struct iovec *part)
{
    const char *at = part->iov_base;
    size_t left = part->iov_len;

    while (left) {
        ssize_t n = write(fd, at, left < WRITE_MAX ? left : WRITE_MAX);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        at += n;
        left -= (size_t)n;
    }
    return 0;
}

static int
write_file(const char *path, const struct iovec *parts, size_t count)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int error = 0;

    if (fd < 0)
        return errno;
    for (size_t i = 0; i < count && !error; i++)
        error = write_part(fd, &parts[i]);
    if (!error && fsync(fd) != 0)
        error = errno;
    if (close(fd) != 0 && !error)
        error = errno;
    return error;
}

static int
sync_folder(const char *path)
{
    char copy[PATH_SIZE];
    int fd, error = 0;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    /* Some file systems cannot sync a folder; they say EINVAL. */
    if (fsync(fd) != 0 && errno != EINVAL)
        error = errno;
    close(fd);
    return error;
}

gp_status
gt_atomic_write(const char *path, const struct iovec *parts, size_t count)
{
    char temporary[PATH_SIZE];
    int n = snprintf(temporary, sizeof(temporary), "%s.tmp-%ld", path,
                     (long)getpid());
    int error;

    if (n < 0 || (size_t)n >= sizeof(temporary))
        return gt_fail(GP_ERR_INVALID, "the path %s is too long", path);
    error = write_file(temporary, parts, count);
    if (!error && rename(temporary, path) != 0)
        error = errno;
    if (error) {
        unlink(temporary);
        return write_failure(path, error);
    }
    error = sync_folder(path);
    if (error)
        return gt_fail_errno(GP_ERR_SYSTEM, error,
                             "cannot sync the folder of "
                             "%s",
                             path);
    return GP_OK;
}
