/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_text.c - appends to a text of bounded length.
 */
#include "base/json_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void
gp_json_begin(gp_json_text *j, char *out, size_t capacity)
{
    *j = (gp_json_text){.out = out, .capacity = capacity};
}

static void
append(gp_json_text *j, const char *text, size_t length)
{
    if (length > j->capacity - j->length)
        j->cut = true;
    if (j->cut)
        return;
    memcpy(j->out + j->length, text, length);
    j->length += length;
}

static void
append_quoted(gp_json_text *j, const char *value)
{
    append(j, "\"", 1);
    for (; *value; value++) {
        bool plain = *value >= ' ' && *value <= '~';

        if (*value == '"' || *value == '\\')
            append(j, "\\", 1);
        append(j, plain ? value : "?", 1);
    }
    append(j, "\"", 1);
}

static void
begin_value(gp_json_text *j, const char *key)
{
    if (j->comma)
        append(j, ",", 1);
    j->comma = true;
    if (!key)
        return;
    append_quoted(j, key);
    append(j, ":", 1);
}

void
gp_json_open(gp_json_text *j, const char *key, char kind)
{
    begin_value(j, key);
    append(j, &kind, 1);
    j->comma = false;
}

void
gp_json_shut(gp_json_text *j, char kind)
{
    append(j, &kind, 1);
    j->comma = true;
}

void
gp_json_put_text(gp_json_text *j, const char *key, const char *value)
{
    begin_value(j, key);
    append_quoted(j, value);
}

void
gp_json_put_int(gp_json_text *j, const char *key, int64_t value)
{
    char text[32];

    begin_value(j, key);
    append(j, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, value));
}

void
gp_json_put_count(gp_json_text *j, const char *key, uint64_t value)
{
    gp_json_put_int(j, key, (int64_t)GP_MIN(value, (uint64_t)INT64_MAX));
}

void
gp_json_put_bool(gp_json_text *j, const char *key, bool value)
{
    begin_value(j, key);
    append(j, value ? "true" : "false", value ? 4 : 5);
}

/* The host program may have set a locale with another decimal point. */
void
gp_json_put_real(gp_json_text *j, const char *key, double value)
{
    char text[40];
    char *comma;

    begin_value(j, key);
    snprintf(text, sizeof(text), isfinite(value) ? "%.6g" : "null", value);
    comma = strchr(text, ',');
    if (comma)
        *comma = '.';
    append(j, text, strlen(text));
}

size_t
gp_json_end(const gp_json_text *j)
{
    return j->cut ? 0 : j->length;
}
