/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c - rules per tensor, and the cost model of codec=auto.
 */
#include "worker/policy.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define WORTH 0.9 /* share of the dense time that a codec must reach */

typedef struct subject {
    const char *name;
    uint64_t count, columns;
} subject;

/* A stretch of the rules without blanks at its ends. */
typedef struct span {
    const char *at;
    size_t length;
} span;

static span
trim(const char *at, size_t length)
{
    while (length && isspace((unsigned char)*at)) {
        at++;
        length--;
    }
    while (length && isspace((unsigned char)at[length - 1]))
        length--;
    return (span){at, length};
}

static bool
is_word(span s, const char *word)
{
    return s.length == strlen(word) && strncmp(s.at, word, s.length) == 0;
}

static gp_status
reject(span rule, const char *what)
{
    return gp_fail(GP_ERR_CONFIG,
                   "codec_rules, rule '%.*s': %s; write 'condition => "
                   "pipeline', as in 'count<4096 & vector => none; fc* => q8'",
                   (int)GP_MIN(rule.length, (size_t)80), rule.at, what);
}

/* Digits and at most one of K, M, G, or k, m, g. */
static bool
read_count(span s, uint64_t *out)
{
    uint64_t value = 0, unit = 1;

    if (s.length && strchr("KMGkmg", s.at[s.length - 1])) {
        int suffix = toupper((unsigned char)s.at[--s.length]);

        unit = suffix == 'K'   ? 1ull << 10
               : suffix == 'M' ? 1ull << 20
                               : 1ull << 30;
    }
    if (s.length == 0 || s.length > 12)
        return false;
    for (size_t i = 0; i < s.length; i++) {
        if (!isdigit((unsigned char)s.at[i]))
            return false;
        value = value * 10 + (uint64_t)(s.at[i] - '0');
    }
    *out = value * unit;
    return value <= UINT64_MAX / unit;
}

/* What follows the word count. */
static gp_status
test_count(span rule, span bound, const subject *t, bool *holds)
{
    bool least = bound.length > 2 && strncmp(bound.at, ">=", 2) == 0;
    bool below = bound.length > 1 && *bound.at == '<';
    size_t skip = least ? 2 : 1;
    uint64_t limit;

    if ((!least && !below) ||
        !read_count(trim(bound.at + skip, bound.length - skip), &limit))
        return reject(rule, "expected count<N or count>=N");
    *holds = least ? t->count >= limit : t->count < limit;
    return GP_OK;
}

static gp_status
test_name(span rule, span test, const subject *t, bool *holds)
{
    char pattern[256];

    if (test.length == 0)
        return reject(rule, "a test is empty");
    if (test.length >= sizeof(pattern))
        return reject(rule, "a name pattern is longer than 255 characters");
    for (size_t i = 0; i < test.length; i++)
        if (strchr("<>=", test.at[i]))
            return reject(rule, "a name pattern cannot have '<', '>' or '='; "
                                "the one thing to compare is count");
    memcpy(pattern, test.at, test.length);
    pattern[test.length] = '\0';
    *holds = fnmatch(pattern, t->name, 0) == 0;
    return GP_OK;
}

static gp_status
run_test(span rule, span test, const subject *t, bool *holds)
{
    bool matrix = t->columns > 1 && t->count > t->columns;
    span bound = {NULL, 0};

    if (test.length > 5 && strncmp(test.at, "count", 5) == 0)
        bound = trim(test.at + 5, test.length - 5);
    if (is_word(test, "vector") || is_word(test, "matrix")) {
        *holds = matrix == is_word(test, "matrix");
        return GP_OK;
    }
    if (bound.length && strchr("<>=", *bound.at))
        return test_count(rule, bound, t, holds);
    return test_name(rule, test, t, holds);
}

static gp_status
run_tests(span rule, span condition, const subject *t, bool *holds)
{
    gp_status status = GP_OK;

    *holds = true;
    while (status == GP_OK) {
        const char *end = memchr(condition.at, '&', condition.length);
        size_t length = end ? (size_t)(end - condition.at) : condition.length;
        bool one = false;

        status = run_test(rule, trim(condition.at, length), t, &one);
        *holds = *holds && one;
        if (!end)
            break;
        condition = trim(end + 1, condition.length - length - 1);
    }
    return status;
}

static gp_status
run_rule(span rule, const subject *t, span *pipeline, bool *holds)
{
    const char *arrow = NULL;

    for (size_t i = 0; i + 1 < rule.length && !arrow; i++)
        if (rule.at[i] == '=' && rule.at[i + 1] == '>')
            arrow = rule.at + i;
    if (!arrow)
        return reject(rule, "there is no '=>'");
    *pipeline = trim(arrow + 2, rule.length - (size_t)(arrow - rule.at) - 2);
    if (pipeline->length == 0)
        return reject(rule, "there is no pipeline behind '=>'");
    return run_tests(rule, trim(rule.at, (size_t)(arrow - rule.at)), t, holds);
}

gp_status
gp_policy_rule(const char *rules, const char *name, uint64_t count,
               uint64_t columns, char *out, size_t capacity)
{
    const subject t = {name, count, columns};
    span found = {NULL, 0};

    while (*rules) {
        size_t length = strcspn(rules, ";");
        span rule = trim(rules, length), pipeline;
        bool holds = false;
        gp_status status =
            rule.length ? run_rule(rule, &t, &pipeline, &holds) : GP_OK;

        if (status != GP_OK)
            return status;
        if (holds && !found.at)
            found = pipeline;
        if (holds && found.length >= capacity)
            return reject(rule, "the pipeline is too long");
        rules += length + (rules[length] == ';');
    }
    if (found.length)
        memcpy(out, found.at, found.length);
    out[found.length] = '\0';
    return GP_OK;
}

gp_status
gp_policy_each(const char *rules, gp_policy_visit visit, void *user)
{
    char text[GP_POLICY_RULE_MAX], pipeline[GP_POLICY_RULE_MAX];
    const subject nobody = {"", 0, 0};
    gp_status status = GP_OK;

    while (*rules && status == GP_OK) {
        size_t length = strcspn(rules, ";");
        span rule = trim(rules, length), found;
        bool holds;

        rules += length + (rules[length] == ';');
        if (rule.length == 0)
            continue;
        if (rule.length >= sizeof(text))
            return reject(rule, "the rule is too long");
        status = run_rule(rule, &nobody, &found, &holds);
        if (status != GP_OK)
            return status;
        snprintf(text, sizeof(text), "%.*s", (int)rule.length, rule.at);
        snprintf(pipeline, sizeof(pipeline), "%.*s", (int)found.length,
                 found.at);
        status = visit(user, text, pipeline);
    }
    return status;
}

uint32_t
gp_policy_best(const gp_cost *cost, uint32_t alternatives, uint64_t count,
               double rate, double decodes, double *seconds)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < alternatives; i++) {
        double element =
            cost[i].encode + cost[i].bytes / rate + decodes * cost[i].decode;

        seconds[i] = element * (double)count;
        if (seconds[i] < seconds[best] && seconds[i] <= WORTH * seconds[0])
            best = i;
    }
    return best;
}
