/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_file.c - bytes of a plain or gzip file.
 *
 * The buffer grows with what was really read, so a header or a small file that
 * promises terabytes costs nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "data.h"

#define FIRST_CAPACITY ((size_t)1 << 20)
#define READ_MAX       ((size_t)1 << 30)

void
gt_matrix_free(gt_matrix *matrix)
{
    free(matrix->values);
    *matrix = (gt_matrix){0};
}

static gp_status
open_input(const char *path, gzFile *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;

    if (fd < 0)
        return gt_fail_errno(errno == ENOENT ? GP_ERR_NOT_FOUND : GP_ERR_SYSTEM,
                             errno, "cannot open %s", path);
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return gt_fail(GP_ERR_CONFIG, "%s is a folder, a file is needed", path);
    }
    *out = gzdopen(fd, "rb");
    if (!*out) {
        close(fd);
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory opening %s", path);
    }
    gzbuffer(*out, 1 << 18);
    return GP_OK;
}

static gp_status
grow(uint8_t **buffer, size_t *capacity, size_t limit, const char *path)
{
    size_t wanted = *capacity ? *capacity * 2 : FIRST_CAPACITY;
    uint8_t *larger;

    if (*capacity > limit)
        return gt_fail(GP_ERR_TOO_LARGE,
                       "%s holds more than %zu bytes; split the data", path,
                       limit);
    larger = realloc(*buffer, wanted);
    if (!larger)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory reading %s", path);
    *buffer = larger;
    *capacity = wanted;
    return GP_OK;
}

static gp_status
read_failure(gzFile file, const char *path, size_t at)
{
    int code = 0, error = errno;
    const char *text = gzerror(file, &code);

    if (code == Z_ERRNO)
        return gt_fail_errno(GP_ERR_SYSTEM, error, "cannot read %s", path);
    if (code == Z_BUF_ERROR)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: the gzip stream ends early, after %zu unpacked "
                       "bytes; fetch the file again",
                       path, at);
    return gt_fail(GP_ERR_CORRUPT,
                   "%s: damaged gzip stream after %zu unpacked bytes (%s); "
                   "fetch the file again",
                   path, at, text);
}

static gp_status
read_all(gzFile file, const char *path, size_t limit, uint8_t **buffer,
         size_t *length)
{
    size_t capacity = 0, used = 0;
    gp_status status;

    for (;;) {
        size_t room;
        int got, code = 0;

        if (used == capacity &&
            (status = grow(buffer, &capacity, limit, path)) != GP_OK)
            return status;
        room = capacity - used;
        got = gzread(file, *buffer + used,
                     (unsigned)(room < READ_MAX ? room : READ_MAX));
        gzerror(file, &code);
        if (got < 0 || (got == 0 && code != Z_OK && code != Z_STREAM_END))
            return read_failure(file, path, used);
        used += (size_t)got;
        if (got == 0)
            break;
    }
    *length = used;
    return GP_OK;
}

gp_status
gt_file_read(const char *path, size_t limit, uint8_t **bytes, size_t *length)
{
    uint8_t *buffer = NULL;
    gzFile file;
    gp_status status = open_input(path, &file);

    if (status != GP_OK)
        return status;
    status = read_all(file, path, limit, &buffer, length);
    gzclose_r(file);
    if (status != GP_OK) {
        free(buffer);
        return status;
    }
    *bytes = buffer;
    return GP_OK;
}
