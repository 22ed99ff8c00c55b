/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outputs.c - whether a run can write what it was asked for.
 *
 * The disk can fill up or be taken away later: those who write look again.
 */
#include "outputs.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0, or why `path` cannot be written. */
static int
look(const char *path, bool folder)
{
    char copy[4096];
    struct stat s;

    if (!*path)
        return ENOENT;
    if (strlen(path) >= sizeof(copy))
        return ENAMETOOLONG;
    if (stat(path, &s) == 0) {
        if (folder != S_ISDIR(s.st_mode))
            return folder ? ENOTDIR : EISDIR;
        return access(path, folder ? W_OK | X_OK : W_OK) == 0 ? 0 : errno;
    }
    if (errno != ENOENT)
        return errno;
    strcpy(copy, path);
    return access(dirname(copy), W_OK | X_OK) == 0 ? 0 : errno;
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
        error = look(path, outputs[i].folder);
        if (error)
            return gt_fail_errno(GP_ERR_SYSTEM, error, "cannot write --%s %s",
                                 outputs[i].option, path);
    }
    return GP_OK;
}
