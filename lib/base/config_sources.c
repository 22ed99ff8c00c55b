/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_sources.c - the configuration file and the environment.
 *
 * A line that is not understood may hold a secret in the wrong place, so
 * messages quote names and checked values, never whole lines.
 */
#include "base/config_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX_BYTES 65536u
#define LINE_MAX_BYTES 4352u /* the longest value, its name and room */
#define PREFIX         "GRADPUSH_"
#define WARNED_MAX     64u

extern char **environ;

/* Set by launchers for the processes they start, or read by other programs of
 * the project; not fields. */
static const char *const other_variables[] = {"LOCAL_RANK", "LOCAL_SIZE"};

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Removes spaces at both ends of text[0, length). */
static char *
trim(char *text, size_t length)
{
    while (length && is_space(text[length - 1]))
        length--;
    text[length] = '\0';
    while (is_space(*text))
        text++;
    return text;
}

/* '#' at the start or after a space; a value may contain one otherwise. */
static void
cut_comment(char *line)
{
    for (char *p = line; *p; p++)
        if (*p == '#' && (p == line || is_space(p[-1]))) {
            *p = '\0';
            return;
        }
}

static gp_status
fail_name(const char *where, const char *name)
{
    const char *near = gp_config_nearest(name);

    if (near)
        return gp_fail(GP_ERR_CONFIG,
                       "%s: no field '%.80s'; did you mean '%s'?", where, name,
                       near);
    return gp_fail(GP_ERR_CONFIG, "%s: no field '%.80s'", where, name);
}

static gp_status
parse_line(gp_config *config, const char *where, char *line)
{
    char label[384], *equals, *name, *value;
    int index;

    cut_comment(line);
    line = trim(line, strlen(line));
    if (!*line)
        return GP_OK;
    equals = strchr(line, '=');
    if (!equals)
        return gp_fail(GP_ERR_CONFIG, "%s: not of the form 'name = value'",
                       where);
    name = trim(line, (size_t)(equals - line));
    value = trim(equals + 1, strlen(equals + 1));
    index = gp_config_index(name);
    if (index < 0)
        return fail_name(where, name);
    if (!strcmp(name, "config"))
        return gp_fail(GP_ERR_CONFIG, "%s: a file cannot name another", where);
    snprintf(label, sizeof(label), "%s: %s", where, name);
    return gp_config_store(config, index, label, value, GP_SOURCE_FILE);
}

gp_status
gp_config_parse(gp_config *config, const char *file, const char *text,
                size_t length)
{
    char line[LINE_MAX_BYTES], where[300];
    gp_status status = GP_OK;

    for (unsigned number = 1; length && status == GP_OK; number++) {
        const char *end = memchr(text, '\n', length);
        size_t n = end ? (size_t)(end - text) : length;

        snprintf(where, sizeof(where), "%.256s:%u", file, number);
        if (n >= sizeof(line))
            return gp_fail(GP_ERR_CONFIG, "%s: longer than %zu bytes", where,
                           sizeof(line) - 1);
        if (memchr(text, 0, n))
            return gp_fail(GP_ERR_CONFIG, "%s: not text", where);
        memcpy(line, text, n);
        line[n] = '\0';
        status = parse_line(config, where, line);
        n += end != NULL;
        text += n;
        length -= n;
    }
    return status;
}

/* Up to `capacity` bytes of a file; -1 with errno. */
static ssize_t
read_file(const char *path, char *out, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), error;
    size_t used = 0;
    ssize_t n = 1;

    if (fd < 0)
        return -1;
    while (used < capacity && n) {
        n = read(fd, out + used, capacity - used);
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : (ssize_t)used;
}

gp_status
gp_config_load(gp_config *config, const char *path)
{
    char *text = malloc(FILE_MAX_BYTES + 1);
    gp_status status;
    ssize_t length;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "configuration file '%s'", path);
    length = read_file(path, text, FILE_MAX_BYTES + 1);
    if (length < 0)
        status = gp_fail_errno(GP_ERR_CONFIG, errno, "GRADPUSH_CONFIG is '%s'",
                               path);
    else if ((size_t)length > FILE_MAX_BYTES)
        status = gp_fail(GP_ERR_CONFIG,
                         "GRADPUSH_CONFIG is '%s': larger than %u bytes", path,
                         FILE_MAX_BYTES);
    else
        status = gp_config_parse(config, path, text, (size_t)length);
    free(text);
    return status;
}

/* True the first time in this process that it is asked about a name. */
static bool
first_time(const char *name, size_t length)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t warned[WARNED_MAX];
    static size_t count;
    uint64_t hash = gp_hash(name, length);
    bool known = false;

    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++)
        known |= warned[i] == hash;
    if (!known && count < WARNED_MAX)
        warned[count++] = hash;
    else
        known = true;
    pthread_mutex_unlock(&lock);
    return !known;
}

static void
warn_unknown(const char *name)
{
    char near_text[64] = "";
    const char *near = gp_config_nearest(name);
    size_t i;

    for (i = 0; i < GP_COUNT_OF(other_variables); i++)
        if (!strcmp(name, other_variables[i]))
            return;
    if (!first_time(name, strlen(name)))
        return;
    for (i = 0; near && near[i] && i + 1 < sizeof(near_text); i++)
        near_text[i] =
            (char)(near[i] >= 'a' && near[i] <= 'z' ? near[i] - 32 : near[i]);
    if (near)
        GP_WARN(PREFIX "%.80s is no variable of gradpush and is ignored; did "
                       "you mean " PREFIX "%s?",
                name, near_text);
    else
        GP_WARN(PREFIX "%.80s is no variable of gradpush and is ignored", name);
}

/* The field named by the upper-case end of a variable, or -1. */
static int
variable_index(const char *name)
{
    char text[64];
    size_t i;

    for (i = 0; name[i] && i + 1 < sizeof(text); i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return -1;
        text[i] =
            (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    }
    text[i] = '\0';
    return name[i] ? -1 : gp_config_index(text);
}

/* An empty one counts as not set, as in the library whose it is. */
static gp_status
read_aliases(gp_config *config)
{
    gp_status status = GP_OK;

    for (const gp_config_field *f = gp_config_fields();
         f->name && status == GP_OK; f++) {
        const char *variable = gp_config_alias(f->name);
        const char *value = variable ? getenv(variable) : NULL;
        int index = gp_config_index(f->name);

        if (value && *value &&
            gp_config_source_of(config, index) < GP_SOURCE_ALIAS)
            status = gp_config_store(config, index, variable, value,
                                     GP_SOURCE_ALIAS);
    }
    return status;
}

gp_status
gp_config_environment(gp_config *config)
{
    const size_t prefix = sizeof(PREFIX) - 1;
    gp_status status = GP_OK;

    for (char **entry = environ; entry && *entry && status == GP_OK; entry++) {
        const char *equals = strchr(*entry, '=');
        char name[128];
        int index;

        if (!equals || strncmp(*entry, PREFIX, prefix) != 0)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)(equals - *entry), *entry);
        index = variable_index(name + prefix);
        if (index < 0)
            warn_unknown(name + prefix);
        else
            status = gp_config_store(config, index, name, equals + 1,
                                     GP_SOURCE_ENVIRONMENT);
    }
    return status == GP_OK ? read_aliases(config) : status;
}
