/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodelist.c - Slurm's compressed lists of nodes and of tasks per node.
 *
 * A list is entries separated by commas or spaces; an entry is a host name in
 * which any number of [ranges] may stand: "rack[0-1]n[001,007-015]". Only the
 * first host is wanted, but the whole text is read, so that a damaged list is
 * an error and not somebody else's host.
 */
#include "rendezvous/nodelist.h"

#include <ctype.h>
#include <string.h>

#include "rendezvous/rendezvous.h"

/* The longest host name that DNS knows. */
#define HOST_MAX 253

typedef struct scan {
    const char *at;
    char host[HOST_MAX + 1];
    size_t length;
} scan;

static bool
keep(scan *s, char c)
{
    if (s->length >= HOST_MAX)
        return false;
    s->host[s->length++] = c;
    return true;
}

/* Digits at s->at; stored only when they belong to the first host. */
static bool
digits(scan *s, bool store)
{
    if (!isdigit((unsigned char)*s->at))
        return false;
    for (; isdigit((unsigned char)*s->at); s->at++)
        if (store && !keep(s, *s->at))
            return false;
    return true;
}

/* "[001,007-015]": the first number is the first host's. */
static bool
ranges(scan *s)
{
    bool first = true;

    s->at++;
    for (;;) {
        if (!digits(s, first))
            return false;
        first = false;
        if (*s->at == '-') {
            s->at++;
            if (!digits(s, false))
                return false;
        }
        if (*s->at == ']')
            break;
        if (*s->at++ != ',')
            return false;
    }
    s->at++;
    return true;
}

static bool
is_host_character(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

/* One entry up to a separator or the end. */
static bool
entry(scan *s)
{
    s->length = 0;
    for (;;) {
        if (*s->at == '[') {
            if (!ranges(s))
                return false;
        } else if (is_host_character(*s->at)) {
            if (!keep(s, *s->at++))
                return false;
        } else {
            break;
        }
    }
    return s->length > 0;
}

static const char *
skip_spaces(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Steps over one separator; true at the end of the list as well. */
static bool
separator(scan *s, bool *end)
{
    const char *start = s->at;

    s->at = skip_spaces(s->at);
    *end = *s->at == '\0';
    if (*end)
        return true;
    if (*s->at == ',') {
        s->at = skip_spaces(s->at + 1);
        return true;
    }
    return s->at != start;
}

gp_status
gp_nodelist_first(const char *list, char *out, size_t capacity)
{
    scan s = {.at = skip_spaces(list)};
    char first[HOST_MAX + 1] = "";
    bool end = false;

    while (!end) {
        if (!entry(&s) || !separator(&s, &end))
            return gp_fail(GP_ERR_CORRUPT,
                           "the Slurm node list '%.200s' cannot be read at "
                           "byte %zu: expected hosts such as "
                           "node[001,007-015],host2",
                           list, (size_t)(s.at - list));
        if (!first[0]) {
            memcpy(first, s.host, s.length);
            first[s.length] = '\0';
        }
    }
    if (strlen(first) >= capacity)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "the first host of the Slurm node list has %zu bytes; "
                       "%zu fit",
                       strlen(first), capacity ? capacity - 1 : 0);
    memcpy(out, first, strlen(first) + 1);
    return GP_OK;
}

/* A number of at most seven digits, -1 for anything else. */
static int64_t
number(const char **at)
{
    int64_t value = 0;
    const char *start = *at;

    while (isdigit((unsigned char)**at) && *at - start < 7)
        value = value * 10 + (*(*at)++ - '0');
    return *at == start || isdigit((unsigned char)**at) ? -1 : value;
}

int64_t
gp_nodelist_tasks(const char *text, int64_t node)
{
    const char *at = text;

    for (;;) {
        int64_t tasks = number(&at);
        int64_t nodes = 1;

        if (tasks < 0)
            return -1;
        if (at[0] == '(' && at[1] == 'x') {
            at += 2;
            nodes = number(&at);
            if (nodes < 1 || *at++ != ')')
                return -1;
        }
        if (node < nodes)
            return tasks;
        node -= nodes;
        if (*at++ != ',')
            return -1;
    }
}
