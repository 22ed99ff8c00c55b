/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_files.c - reads files of /sys, /proc and /dev below a root.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

/* The whole path, or false when it is too long. */
static bool
full_path(const gp_doctor *doctor, char out[PATH_MAX], const char *format,
          va_list args)
{
    int used = snprintf(out, PATH_MAX, "%s", doctor->root), more;

    if (used < 0 || used >= PATH_MAX)
        return false;
    more = vsnprintf(out + used, PATH_MAX - (size_t)used, format, args);
    return more >= 0 && more < PATH_MAX - used;
}

static long
load(const char *path, void *out, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t used = 0;
    ssize_t n = 0;

    if (fd < 0)
        return -1;
    while (used < capacity - 1) {
        n = read(fd, (char *)out + used, capacity - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fd);
    if (n < 0)
        return -1;
    ((char *)out)[used] = '\0';
    return (long)used;
}

long
gp_doctor_load(const gp_doctor *doctor, void *out, size_t capacity,
               const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    return fits ? load(path, out, capacity) : -1;
}

/* Cuts at the first line's end and the white space before it; a tab becomes a
 * space, and what else cannot be printed a question mark. */
static void
first_line(char *text)
{
    size_t length = strcspn(text, "\n");

    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    text[length] = '\0';
    for (; *text; text++)
        if (*text == '\t')
            *text = ' ';
        else if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
            *text = '?';
}

bool
gp_doctor_line(const gp_doctor *doctor, char *out, size_t capacity,
               const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    out[0] = '\0';
    if (!fits || load(path, out, capacity) < 0)
        return false;
    first_line(out);
    return true;
}

bool
gp_doctor_number(const gp_doctor *doctor, int64_t *out, const char *format, ...)
{
    char path[PATH_MAX], text[64], *end;
    va_list args;
    long long value;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    if (!fits || load(path, text, sizeof(text)) < 0)
        return false;
    errno = 0;
    value = strtoll(text, &end, 0);
    if (end == text || errno)
        return false;
    *out = value;
    return true;
}

bool
gp_doctor_exists(const gp_doctor *doctor, const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    return fits && access(path, F_OK) == 0;
}

bool
gp_doctor_resolve(const gp_doctor *doctor, char out[PATH_MAX],
                  const char *format, ...)
{
    char path[PATH_MAX], whole[PATH_MAX], root[PATH_MAX] = "";
    size_t skip;
    va_list args;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    if (!fits || !realpath(path, whole) ||
        (*doctor->root && !realpath(doctor->root, root)))
        return false;
    skip = strlen(root);
    if (strncmp(whole, root, skip))
        return false;
    snprintf(out, PATH_MAX, "%s", whole + skip);
    return true;
}

static int
is_entry(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

void
gp_doctor_list(const gp_doctor *doctor, gp_doctor_names *out,
               const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    bool fits;

    va_start(args, format);
    fits = full_path(doctor, path, format, args);
    va_end(args);
    *out = (gp_doctor_names){NULL, 0};
    if (!fits)
        return;
    out->count = scandir(path, &out->list, is_entry, versionsort);
    if (out->count < 0)
        *out = (gp_doctor_names){NULL, 0};
}

void
gp_doctor_list_free(gp_doctor_names *names)
{
    for (int i = 0; i < names->count; i++)
        free(names->list[i]);
    free(names->list);
    *names = (gp_doctor_names){NULL, 0};
}

void
gp_doctor_append(char *text, size_t capacity, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, capacity - used, format, args);
    va_end(args);
}
