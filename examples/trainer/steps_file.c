/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps_file.c - how far a worker is, for scripts that watch it.
 *
 * Written in place and always as long, so that whoever reads it sees one number
 * or another, and no part of one.
 */
#include "steps_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define WIDTH     20 /* digits of 2^64 */

gp_status
gt_steps_file_open(const char *path, uint32_t rank, gt_steps_file *out)
{
    char name[PATH_SIZE];
    int n = snprintf(name, sizeof(name), "%s.%u", path, rank);
    int fd;

    if (n < 0 || n >= PATH_SIZE)
        return gt_fail(GP_ERR_CONFIG, "--steps-file: the name is too long");
    fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot write %s", name);
    out->fd = fd;
    return GP_OK;
}

void
gt_steps_file_note(const gt_steps_file *file, uint64_t steps)
{
    char text[WIDTH + 2];

    if (file->fd <= 0)
        return;
    snprintf(text, sizeof(text), "%*" PRIu64 "\n", WIDTH, steps);
    if (pwrite(file->fd, text, WIDTH + 1, 0) < 0)
        errno = 0;
}

void
gt_steps_file_close(gt_steps_file *file)
{
    if (file->fd > 0)
        close(file->fd);
    file->fd = 0;
}
