/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mode.c - texts of consistency modes, and what goes with them.
 *
 * Texts come from peers as well as from users, so the reader trusts nothing.
 */
#include "shard/mode.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <gradpush/worker.h>

#define NUMBER_MAX 1000000000u

static const char *const names[] = {"sync", "ssp", "async", "local"};

static gp_status
unknown_mode(const char *text, size_t length)
{
    char word[32];
    const char *near = NULL;

    snprintf(word, sizeof(word), "%.*s", (int)GP_MIN(length, 31), text);
    if (gp_nearest(word, names, GP_COUNT_OF(names), &near))
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%.60s': unknown mode '%s' at character 1; did "
                       "you mean '%s'?",
                       text, word, near);
    return gp_fail(GP_ERR_CONFIG,
                   "mode '%.60s': unknown mode '%s' at character 1; known are "
                   "sync, sync:N-1, ssp:4, async and local:16",
                   text, word);
}

static gp_status
bad_part(const char *text, const char *part, const char *wanted)
{
    return gp_fail(GP_ERR_CONFIG, "mode '%.60s': character %td should begin %s",
                   text, part - text + 1, wanted);
}

/* Digits only; *part moves behind them. */
static bool
read_number(const char **part, uint32_t *out)
{
    uint64_t value = 0;
    const char *at = *part;

    if (!isdigit((unsigned char)*at))
        return false;
    for (; isdigit((unsigned char)*at); at++) {
        value = value * 10 + (uint64_t)(*at - '0');
        if (value > NUMBER_MAX)
            return false;
    }
    *part = at;
    *out = (uint32_t)value;
    return true;
}

static gp_status
read_late(const char *text, const char *part, gp_mode *m)
{
    if (*part == '\0')
        return GP_OK;
    if (strcmp(part, ",late=drop") != 0 && strcmp(part, ",late=carry") != 0)
        return bad_part(text, part, "',late=drop' or ',late=carry', or end");
    m->carry = strcmp(part, ",late=carry") == 0;
    return GP_OK;
}

/* "N-1" or "4-1", and what becomes of those who are late. */
static gp_status
read_backups(const char *text, const char *part, uint32_t workers, gp_mode *m)
{
    const char *total = part;
    uint32_t n = workers;

    if (*part == 'N')
        part++;
    else if (!read_number(&part, &n))
        return bad_part(text, part,
                        "the number of workers or the letter N, as in "
                        "sync:N-1");
    if (workers && n != workers)
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%.60s': %u at character %td is not the number "
                       "of workers, which is %u; the letter N always is",
                       text, n, total - text + 1, workers);
    total = part + 1;
    if (*part++ != '-' || !read_number(&part, &m->backups))
        return bad_part(text, total - 1, "'-' and a number, as in sync:N-1");
    if (n && m->backups >= n)
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%.60s': with %u at character %td no push of %u "
                       "is left to complete a step",
                       text, m->backups, total - text + 1, n);
    return read_late(text, part, m);
}

static gp_status
read_count(const char *text, const char *part, uint32_t least, uint32_t *out)
{
    const char *at = part;

    if (*part == '\0' || !read_number(&at, out) || *at || *out < least)
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%.60s': character %td should begin a number "
                       "from %u to %u, as in ssp:4 and local:16",
                       text, part - text + 1, least, NUMBER_MAX);
    return GP_OK;
}

gp_status
gp_mode_parse(const char *text, uint32_t workers, gp_mode *out)
{
    size_t length = strcspn(text, ":"), kind = 0;
    const char *rest = text + length;
    gp_mode m = {0};
    gp_status status = GP_OK;

    while (kind < GP_COUNT_OF(names) &&
           (strlen(names[kind]) != length ||
            strncmp(names[kind], text, length) != 0))
        kind++;
    if (kind == GP_COUNT_OF(names))
        return unknown_mode(text, length);
    m.kind = (gp_mode_kind)(kind + 1);
    if (*rest == ':')
        rest++;
    if (m.kind == GP_MODE_ASYNC && text[length])
        status = bad_part(text, text + length, "nothing: async has no number");
    else if (m.kind == GP_MODE_SYNC && text[length])
        status = read_backups(text, rest, workers, &m);
    else if (m.kind == GP_MODE_SSP)
        status = read_count(text, rest, 0, &m.staleness);
    else if (m.kind == GP_MODE_LOCAL)
        status = read_count(text, rest, 1, &m.period);
    if (status == GP_OK)
        *out = m;
    return status;
}

void
gp_mode_print(const gp_mode *m, char *out, size_t capacity)
{
    const char *name = names[m->kind - 1];

    if (m->kind == GP_MODE_SSP)
        snprintf(out, capacity, "%s:%u", name, m->staleness);
    else if (m->kind == GP_MODE_LOCAL)
        snprintf(out, capacity, "%s:%u", name, m->period);
    else if (m->backups > 0)
        snprintf(out, capacity, "%s:N-%u,late=%s", name, m->backups,
                 m->carry ? "carry" : "drop");
    else
        snprintf(out, capacity, "%s", name);
}

gp_status
gp_mode_check(const char *text)
{
    gp_mode ignored;

    if (!text)
        return gp_fail(GP_ERR_INVALID, "gp_mode_check: NULL");
    return gp_mode_parse(text, 0, &ignored);
}

/* A codec that needs all workers in one step, or NULL. */
static const gp_pipeline *
find_joint(const gp_codec_set *push, const char **why)
{
    for (uint32_t i = 0; i < push->count; i++)
        if (gp_pipeline_needs(push->pipeline[i]) & GP_PIPELINE_PROPOSES) {
            *why = "all workers agree on a number before they encode a step";
            return push->pipeline[i];
        }
    if (!gp_codec_set_differs(push))
        return NULL;
    *why = "it sends differences to what all workers together have sent";
    return push->pipeline[0];
}

gp_status
gp_mode_check_fit(const gp_mode *mode, const gp_updater *updater,
                  const gp_codec_set *push)
{
    const char *why = NULL;
    const gp_pipeline *joint;
    char text[GP_MODE_MAX];

    gp_mode_print(mode, text, sizeof(text));
    if (mode->kind == GP_MODE_LOCAL && updater->kind == GP_UPDATER_SUM)
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%s': with the updater sum parameters would go "
                       "as far as all workers together; use mean, sgd:lr=1 or "
                       "sgd with momentum",
                       text);
    if (!gp_mode_arrives(mode))
        return GP_OK;
    if (!gp_updater_keeps(updater))
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%s': a pull returns parameters, and the "
                       "updaters sum and mean keep none on the shard: use one "
                       "that does, such as sgd:lr=0.1",
                       text);
    if (updater->ops->norms || updater->key[GP_KEY_CLIP] > 0)
        return gp_fail(GP_ERR_CONFIG,
                       "mode '%s': workers are not in the same step, but the "
                       "updater %s needs the norm of whole tensors in it",
                       text, updater->ops->name);
    joint = find_joint(push, &why);
    return joint ? gp_fail(GP_ERR_CONFIG,
                           "mode '%s': workers are not in the same step, but "
                           "codec '%.100s' needs that: %s",
                           text, gp_pipeline_name(joint), why)
                 : GP_OK;
}

const char *
gp_mode_elastic_clash(const gp_mode *mode, const gp_updater *updater,
                      const gp_codec_set *push)
{
    const char *ignored;

    if (mode->kind == GP_MODE_LOCAL && !gp_updater_keeps(updater))
        return "mode local and updater mean, which leaves parameters to the "
               "workers: sgd:lr=1 does the same, and keeps them";
    if (updater->ops->norms || gp_updater_clips(updater))
        return "updaters that need the norm of whole tensors";
    if (find_joint(push, &ignored))
        return "codecs for which all workers must have been in all steps";
    return NULL;
}

gp_status
gp_mode_check_rows(const gp_mode *mode, const gp_updater *u)
{
    if (!gp_updater_keeps(u))
        return gp_fail(GP_ERR_CONFIG,
                       "shards keep rows, which updater %s does not: use an "
                       "optimizer, such as sgd:lr=0.1",
                       u->ops->name);
    if (u->ops->norms || gp_updater_clips(u))
        return gp_fail(GP_ERR_CONFIG,
                       "updater %s%s needs the norm of whole tensors, of which "
                       "rows are not all there: use another, without clip",
                       u->ops->name, gp_updater_clips(u) ? " with clip" : "");
    if (mode->kind == GP_MODE_LOCAL)
        return gp_fail(GP_ERR_CONFIG,
                       "mode local is for tensors that workers hold whole, not "
                       "for rows");
    return GP_OK;
}
