/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_csv.c - numbers separated by commas, semicolons or tabs.
 *
 * One optional header line: a first line in which no field is a number. The
 * column count of the first data line is the law for all others.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"

#define FIELD_MAX   63
#define COLUMNS_MAX 1000000

typedef struct csv {
    const char *name;
    const char *at, *end;
    size_t line;
    char separator;
    float *values;
    size_t used, capacity, columns;
} csv;

/* The separator that the first line has most of. */
static char
guess_separator(const char *text, const char *end)
{
    static const char candidates[] = ",;\t";
    size_t counts[3] = {0};
    size_t best = 0;

    for (; text < end && *text != '\n'; text++)
        for (size_t i = 0; i < 3; i++)
            counts[i] += *text == candidates[i];
    for (size_t i = 1; i < 3; i++)
        if (counts[i] > counts[best])
            best = i;
    return candidates[best];
}

static const char *
line_end(const char *at, const char *end)
{
    const char *newline = memchr(at, '\n', (size_t)(end - at));

    return newline ? newline : end;
}

static void
trim(const char **start, const char **end)
{
    while (*start < *end && (**start == ' ' || **start == '\t'))
        (*start)++;
    while (*end > *start &&
           ((*end)[-1] == ' ' || (*end)[-1] == '\t' || (*end)[-1] == '\r'))
        (*end)--;
}

/* Small non-negative integers, which is what images are made of. */
static bool
parse_small(const char *text, size_t length, float *out)
{
    uint32_t v = 0;

    if (length == 0 || length > 7)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(text[i] - '0');
    }
    *out = (float)v;
    return true;
}

static bool
parse_number(const char *text, size_t length, float *out)
{
    char copy[FIELD_MAX + 1], *stop;

    if (parse_small(text, length, out))
        return true;
    if (length == 0 || length > FIELD_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!text[i] || !strchr("0123456789+-.eE", text[i]))
            return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    *out = strtof(copy, &stop);
    return *stop == '\0';
}

static bool
is_word(const char *text, size_t length)
{
    static const char *const words[] = {"nan", "inf", "infinity", "null", "na"};

    if (length && (*text == '+' || *text == '-')) {
        text++;
        length--;
    }
    for (size_t i = 0; i < GT_COUNT_OF(words); i++)
        if (strlen(words[i]) == length &&
            strncasecmp(words[i], text, length) == 0)
            return true;
    return false;
}

static gp_status
bad_field(const csv *c, size_t column, const char *text, size_t length)
{
    if (length == 0)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s:%zu: field %zu is empty; fill in or remove the "
                       "line",
                       c->name, c->line, column);
    if (is_word(text, length))
        return gt_fail(GP_ERR_CORRUPT,
                       "%s:%zu: field %zu is '%.*s'; fill in or remove the "
                       "line",
                       c->name, c->line, column, (int)length, text);
    return gt_fail(GP_ERR_CORRUPT, "%s:%zu: field %zu is not a number: '%.*s'",
                   c->name, c->line, column, (int)(length < 40 ? length : 40),
                   text);
}

static gp_status
append(csv *c, float value)
{
    if (c->used == c->capacity) {
        size_t wanted = c->capacity ? c->capacity * 2 : 4096;
        float *larger = reallocarray(c->values, wanted, sizeof(float));

        if (!larger)
            return gt_fail(GP_ERR_NO_MEMORY, "out of memory reading %s",
                           c->name);
        c->values = larger;
        c->capacity = wanted;
    }
    c->values[c->used++] = value;
    return GP_OK;
}

/* Fields of [at, stop) to values; returns how many through *count. */
static gp_status
parse_line(csv *c, const char *at, const char *stop, size_t *count)
{
    size_t column = 0;
    gp_status status;

    for (bool more = true; more; at++) {
        const char *limit = memchr(at, c->separator, (size_t)(stop - at));
        const char *start = at, *end = limit ? limit : stop;
        float value;

        more = limit != NULL;
        at = end;
        trim(&start, &end);
        if (++column > COLUMNS_MAX)
            return gt_fail(GP_ERR_TOO_LARGE, "%s:%zu: more than %d fields",
                           c->name, c->line, COLUMNS_MAX);
        if (!parse_number(start, (size_t)(end - start), &value))
            return bad_field(c, column, start, (size_t)(end - start));
        if (!isfinite(value))
            return gt_fail(GP_ERR_CORRUPT,
                           "%s:%zu: field %zu does not fit fp32: '%.*s'",
                           c->name, c->line, column, (int)(end - start), start);
        status = append(c, value);
        if (status != GP_OK)
            return status;
    }
    *count = column;
    return GP_OK;
}

static bool
is_header(const csv *c, const char *at, const char *stop)
{
    for (bool more = true; more; at++) {
        const char *limit = memchr(at, c->separator, (size_t)(stop - at));
        const char *start = at, *end = limit ? limit : stop;
        float value;

        more = limit != NULL;
        at = end;
        trim(&start, &end);
        if (start == end || is_word(start, (size_t)(end - start)) ||
            parse_number(start, (size_t)(end - start), &value))
            return false;
    }
    return true;
}

static gp_status
parse_lines(csv *c)
{
    gp_status status;

    while (c->at < c->end) {
        const char *at = c->at, *stop = line_end(at, c->end);
        const char *start = at, *end = stop;
        size_t count = 0;

        c->line++;
        c->at = stop < c->end ? stop + 1 : stop;
        trim(&start, &end);
        if (start == end || (c->line == 1 && is_header(c, at, stop)))
            continue;
        status = parse_line(c, at, stop, &count);
        if (status != GP_OK)
            return status;
        if (c->columns == 0)
            c->columns = count;
        if (count != c->columns)
            return gt_fail(GP_ERR_CORRUPT,
                           "%s:%zu: %zu fields, the lines before have %zu",
                           c->name, c->line, count, c->columns);
    }
    return GP_OK;
}

gp_status
gt_csv_parse(const uint8_t *bytes, size_t length, const char *name,
             gt_matrix *out)
{
    csv c = {.name = name, .at = (const char *)bytes};
    gp_status status;

    if (length == 0)
        return gt_fail(GP_ERR_CORRUPT, "%s: empty file", name);
    if (length >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
        c.at += 3;
    c.end = (const char *)bytes + length;
    c.separator = guess_separator(c.at, c.end);
    status = parse_lines(&c);
    if (status == GP_OK && c.columns < 2)
        status = gt_fail(GP_ERR_CORRUPT,
                         "%s: %zu fields a line; at least one value and the "
                         "label, last, are needed",
                         name, c.columns);
    if (status != GP_OK) {
        free(c.values);
        return status;
    }
    *out = (gt_matrix){c.values, c.used / c.columns, c.columns, 0.0f};
    return GP_OK;
}
