/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outputs.c - whether a run can write what it was asked for.
 *
 * Permissions alone do not say: a disk may be full, and a file system refuse
 * what it seems to allow, above all to root. So a file is written where others
 * will be, and removed again. The disk can fill up or be taken away later:
 * those who write look again.
 */
#include "outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096

/* All these return 0, or why not, as errno has it. */

static int
write_some(int fd)
{
    static const char some[16384];
    ssize_t n = write(fd, some, sizeof(some));

    if (n < 0)
        return errno;
    if ((size_t)n < sizeof(some))
        return ENOSPC;
    return fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
}

static int
try_file_in(const char *folder)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof(path), "%s/.gradpush-XXXXXX", folder);
    int fd, error;

    if (n < 0 || n >= PATH_SIZE)
        return ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return errno;
    error = write_some(fd);
    if (close(fd) != 0 && !error)
        error = errno;
    if (unlink(path) != 0 && !error)
        error = errno;
    return error;
}

/* One that is not there yet is made, and removed again. */
static int
try_folder(const char *path)
{
    int error;

    if (mkdir(path, 0777) != 0)
        return errno == EEXIST ? try_file_in(path) : errno;
    error = try_file_in(path);
    (void)rmdir(path);
    return error;
}

static int
try_file(const char *path)
{
    char copy[PATH_SIZE];
    struct stat s;

    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return EISDIR;
    if (access(path, F_OK) == 0) /* it may be a pipe, which would block */
        return access(path, W_OK) == 0 ? 0 : errno;
    if (errno != ENOENT)
        return errno;
    strcpy(copy, path);
    return try_file_in(dirname(copy));
}

static int
try_path(const char *path, bool folder)
{
    if (!*path)
        return ENOENT;
    if (strlen(path) >= PATH_SIZE)
        return ENAMETOOLONG;
    return folder ? try_folder(path) : try_file(path);
}

gp_status
gt_outputs_check(const gt_options *o)
{
    const struct {
        const char *option, *path;
        bool folder;
    } outputs[] = {{"json", o->json, false},
                   {"checkpoint", o->checkpoint, true},
                   {"logdir", o->logdir, true},
                   {"dump-gradients", o->dump, true}};

    for (size_t i = 0; i < GT_COUNT_OF(outputs); i++) {
        const char *path = outputs[i].path;
        int error;

        if (!path || (!outputs[i].folder && strcmp(path, "-") == 0))
            continue;
        error = try_path(path, outputs[i].folder);
        if (error)
            return gt_fail_errno(GP_ERR_SYSTEM, error, "cannot write --%s %s",
                                 outputs[i].option, path);
    }
    return GP_OK;
}
