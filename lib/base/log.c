/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - one line per event, to standard error, a file or a callback.
 *
 * A line is formed without a lock and handed over under one, so the callback
 * sees one call at a time. Lines are one write() each: those of several
 * processes with the same standard error do not mix.
 */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUDGET_LINES   10u
#define BUDGET_SECONDS 10.0

#define LINE_MAX_BYTES 2048

/* Until somebody asks, every level passes the macro; gp_log_write() then looks
 * at the environment. */
#define UNRESOLVED INT_MAX

atomic_int gp_log_threshold = UNRESOLVED;

static atomic_bool level_was_set; /* through gp_log_set_level() */
static _Thread_local char identity[32];
static _Thread_local bool inside_callback;

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static gp_log_callback sink_callback; /* these three under sink_lock */
static void *sink_user;
static int sink_file = -1;

static const char *const level_names[] = {"none", "error", "warn",
                                          "info", "debug", "trace"};

static bool
level_of(const char *text, int *out)
{
    for (size_t i = 0; text && i < GP_COUNT_OF(level_names); i++)
        if (!strcmp(text, level_names[i])) {
            *out = (int)i;
            return true;
        }
    return false;
}

/* A bad GRADPUSH_LOG is reported by gp_config_create(), not here. */
static void
resolve_level(void)
{
    int level = GP_LOG_WARN, expected = UNRESOLVED;

    level_of(getenv("GRADPUSH_LOG"), &level);
    atomic_compare_exchange_strong(&gp_log_threshold, &expected, level);
}

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Bytes from peers and files end up in messages: no line may forge another. */
static void
make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

static int
format_head(char *line, size_t capacity, gp_log_level level, const char *file,
            int number)
{
    struct timespec now;
    struct tm local;

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    return snprintf(
        line, capacity,
        "gradpush [%02d:%02d:%02d.%03d] %s%s%s:%d %s: ", local.tm_hour,
        local.tm_min, local.tm_sec, (int)(now.tv_nsec / 1000000), identity,
        *identity ? " " : "", base_name(file), number, level_names[level]);
}

/* `line` has room for a newline after its end. */
static void
deliver(gp_log_level level, char *line)
{
    size_t length = strlen(line);
    ssize_t written;

    pthread_mutex_lock(&sink_lock);
    if (sink_callback) {
        inside_callback = true;
        sink_callback(sink_user, level, line);
        inside_callback = false;
    } else {
        line[length] = '\n';
        written =
            write(sink_file >= 0 ? sink_file : STDERR_FILENO, line, length + 1);
        (void)written; /* there is nobody left to tell */
    }
    pthread_mutex_unlock(&sink_lock);
}

void
gp_log_write(gp_log_level level, const char *file, int line, const char *format,
             ...)
{
    char text[LINE_MAX_BYTES];
    size_t capacity = sizeof(text) - 1;
    int saved = errno, head;
    va_list args;

    if (atomic_load_explicit(&gp_log_threshold, memory_order_relaxed) ==
        UNRESOLVED)
        resolve_level();
    if (inside_callback || level <= GP_LOG_NONE || level > GP_LOG_TRACE ||
        (int)level > atomic_load(&gp_log_threshold))
        return;
    head = format_head(text, capacity, level, file, line);
    if (head > 0 && (size_t)head < capacity) {
        va_start(args, format);
        vsnprintf(text + head, capacity - (size_t)head, format, args);
        va_end(args);
    }
    make_one_line(text);
    deliver(level, text);
    errno = saved;
}

void
gp_log_identity(const char *text)
{
    snprintf(identity, sizeof(identity), "%s", text);
}

void
gp_log_set_callback(gp_log_callback callback, void *user)
{
    pthread_mutex_lock(&sink_lock);
    sink_callback = callback;
    sink_user = user;
    pthread_mutex_unlock(&sink_lock);
}

void
gp_log_set_level(gp_log_level level)
{
    int value = GP_MIN(GP_MAX((int)level, GP_LOG_NONE), GP_LOG_TRACE);

    atomic_store(&level_was_set, true);
    atomic_store(&gp_log_threshold, value);
}

static void
replace_file(int fd)
{
    int old;

    pthread_mutex_lock(&sink_lock);
    old = sink_file;
    sink_file = fd;
    pthread_mutex_unlock(&sink_lock);
    if (old >= 0)
        close(old);
}

/* What one %-letter of a file name stands for. */
static bool
expand_letter(char letter, char *out, size_t capacity)
{
    switch (letter) {
    case 'h':
        out[capacity - 1] = '\0';
        return gethostname(out, capacity - 1) == 0;
    case 'p':
        snprintf(out, capacity, "%ld", (long)getpid());
        return true;
    case '%':
        memcpy(out, "%", 2);
        return true;
    default:
        return false;
    }
}

static gp_status
expand_path(const char *pattern, char *out, size_t capacity)
{
    size_t used = 0;

    out[0] = '\0';
    for (const char *p = pattern; *p; p++) {
        char piece[256] = {*p, '\0'};

        if (*p == '%' && !expand_letter(*++p, piece, sizeof(piece)))
            return gp_fail(GP_ERR_CONFIG,
                           "log_file is '%s': %%h (host), %%p (process) and "
                           "%%%% are all that may follow a percent sign",
                           pattern);
        if (used + strlen(piece) >= capacity)
            return gp_fail(GP_ERR_CONFIG, "log_file is longer than %zu bytes",
                           capacity - 1);
        memcpy(out + used, piece, strlen(piece) + 1);
        used += strlen(piece);
    }
    return GP_OK;
}

static gp_status
use_file(const char *pattern)
{
    char path[PATH_MAX];
    gp_status status = expand_path(pattern, path, sizeof(path));
    int fd;

    if (status != GP_OK)
        return status;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return gp_fail_errno(GP_ERR_CONFIG, errno, "log_file '%s'", path);
    replace_file(fd);
    return GP_OK;
}

/* A default takes nothing back that the program or an earlier configuration
 * has chosen: objects are created at any time, the log is one. */
gp_status
gp_log_configure(const gp_config *config)
{
    const char *pattern = gp_config_get(config, "log_file");
    int level = GP_LOG_WARN;
    gp_status status = GP_OK;

    if (*pattern)
        status = use_file(pattern);
    else if (strcmp(gp_config_origin(config, "log_file"), "default") != 0)
        replace_file(-1);
    if (status != GP_OK)
        return status;
    if (!atomic_load(&level_was_set) ||
        !strcmp(gp_config_origin(config, "log"), "set")) {
        level_of(gp_config_get(config, "log"), &level);
        atomic_store(&gp_log_threshold, level);
    }
    return GP_OK;
}

bool
gp_log_may(gp_log_budget *b, const char *who)
{
    uint64_t now = gp_clock_ns();

    if (now >= b->window_ns) {
        if (b->dropped)
            GP_WARN("%s: %u more such lines were left out", who, b->dropped);
        b->window_ns = gp_deadline(BUDGET_SECONDS);
        b->lines = b->dropped = 0;
    }
    if (b->lines < BUDGET_LINES) {
        b->lines++;
        return true;
    }
    b->dropped++;
    return false;
}
