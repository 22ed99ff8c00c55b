/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common.c - errors, memory and time for the trainer.
 */
#include "common.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NEAREST_MAX 31

static _Thread_local char message[1024];

gp_status
gt_fail(gp_status status, const char *format, ...)
{
    char text[sizeof(message)];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(message, text, sizeof(text));
    return status;
}

gp_status
gt_fail_errno(gp_status status, int error, const char *format, ...)
{
    char text[512], reason[128];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return gt_fail(status, "%s: %s", text,
                   strerror_r(error, reason, sizeof(reason)));
}

gp_status
gt_fail_engine(gp_status status, const char *what)
{
    const char *reason = gp_last_error();

    return gt_fail(status, "%s: %s", what,
                   reason[0] ? reason : gp_status_text(status));
}

const char *
gt_last_error(void)
{
    return message;
}

void *
gt_alloc(size_t count, size_t size)
{
    size_t bytes;
    void *p;

    if (__builtin_mul_overflow(count, size, &bytes) ||
        bytes > SIZE_MAX / 2 - 64)
        return NULL;
    bytes = (bytes + 64) / 64 * 64;
    p = aligned_alloc(64, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

gp_status
gt_alloc_floats(size_t count, const char *what, float **out)
{
    float *p = gt_alloc(count, sizeof(float));

    if (!p)
        return gt_fail(GP_ERR_NO_MEMORY,
                       "out of memory: %zu fp32 values for %s", count, what);
    *out = p;
    return GP_OK;
}

double
gt_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Levenshtein distance, one row at a time. */
static size_t
distance(const char *a, size_t m, const char *b, size_t n)
{
    size_t row[NEAREST_MAX + 1];

    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            size_t skip = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = change < skip ? change : skip;
        }
    }
    return row[n];
}

const char *
gt_nearest(const char *text, const char *const *words, size_t count)
{
    size_t length = strlen(text), best = SIZE_MAX;
    const char *found = NULL;

    if (length > NEAREST_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(words[i]), d;

        if (other > NEAREST_MAX)
            continue;
        d = distance(text, length, words[i], other);
        if (d < best && d <= 1 + other / 3) {
            best = d;
            found = words[i];
        }
    }
    return found;
}
