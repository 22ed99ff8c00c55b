/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - names and texts of status codes, and the thread's last error.
 *
 * A message may quote the previous one (gp_fail(s, "...: %s",
 * gp_last_error())), so it is formed in a second buffer before it replaces it.
 */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX 512

static _Thread_local char last_error[MESSAGE_MAX];

const char *
gp_status_name(gp_status status)
{
    switch (status) {
#define STATUS_NAME(name, code, text) \
    case GP_##name:                   \
        return "GP_" #name;
        GP_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "GP_UNKNOWN";
}

const char *
gp_status_text(gp_status status)
{
    switch (status) {
#define STATUS_TEXT(name, code, text) \
    case GP_##name:                   \
        return text;
        GP_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "a status code that this version does not know";
}

const char *
gp_last_error(void)
{
    return last_error;
}

/* A text that did not fit ends in dots, so that nobody takes it for whole. */
static void
mark_cut(char *text, int length)
{
    if (length >= MESSAGE_MAX)
        memcpy(text + MESSAGE_MAX - 4, "...", 4);
}

gp_status
gp_fail(gp_status status, const char *format, ...)
{
    char text[MESSAGE_MAX];
    int saved = errno;
    va_list args;

    va_start(args, format);
    mark_cut(text, vsnprintf(text, sizeof(text), format, args));
    va_end(args);
    memcpy(last_error, text, sizeof(text));
    errno = saved;
    return status;
}

gp_status
gp_fail_errno(gp_status status, int error, const char *format, ...)
{
    char text[MESSAGE_MAX], reason[128];
    int saved = errno;
    va_list args;

    va_start(args, format);
    mark_cut(text, vsnprintf(text, sizeof(text), format, args));
    va_end(args);
    gp_fail(status, "%s: %s", text, strerror_r(error, reason, sizeof(reason)));
    errno = saved;
    return status;
}
