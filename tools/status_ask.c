/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_ask.c - one question to all members, and their answers.
 *
 * They all work on their answers at once, so these are fetched one after the
 * other. Who does not answer in time keeps what it said before; who is gone has
 * the store say so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

#define LISTED_MAX 4096
/* Seconds for all who have not answered the question before. */
#define BRIEF 0.3

static void
free_members(gp_member *members, int64_t count)
{
    for (int64_t i = 0; members && i < count; i++)
        gp_tree_destroy(members[i].tree);
    free(members);
}

void
gp_round_free(gp_round *round)
{
    free_members(round->worker, round->listed_workers);
    free_members(round->shard, round->listed_shards);
    *round = (gp_round){0};
}

/* How large the job is. */
static gp_status
read_job(gp_store *store, gp_round *out)
{
    char text[64];
    size_t length = 0;
    int hosted = 0;
    gp_status status = gp_store_get(store, GP_STATUS_JOB, text,
                                    sizeof(text) - 1, &length, gp_clock_ns());

    if (status == GP_ERR_TIMEOUT)
        return gp_fail(GP_ERR_NOT_FOUND,
                       "the job's store answers, but no worker has come yet");
    if (status != GP_OK)
        return status;
    text[length] = '\0';
    if (sscanf(text, "%" SCNd64 " %" SCNd64 " %d", &out->workers, &out->shards,
               &hosted) != 3 ||
        out->workers < 1 || out->shards < 1)
        return gp_fail(GP_ERR_CORRUPT,
                       "what the store says about the job cannot be read");
    out->hosted = hosted != 0;
    return GP_OK;
}

static gp_status
parse_answer(const char *text, size_t length, uint64_t round, gp_member *m)
{
    gp_tree *tree;
    gp_status status = gp_tree_parse(text, length, &tree);

    if (status != GP_OK)
        return status;
    gp_tree_destroy(m->tree);
    m->tree = NULL;
    m->root = NULL;
    m->gone = gp_node_int(gp_tree_root(tree), "gone", 0) != 0;
    if (m->gone) {
        gp_tree_destroy(tree);
        return GP_OK;
    }
    m->tree = tree;
    m->root = gp_tree_root(tree);
    m->fresh = gp_node_int(m->root, "round", -1) >= (int64_t)round;
    return GP_OK;
}

/* Until the deadline: the answer of this round; else an older one, or none. */
static gp_status
fetch(gp_store *store, const char *prefix, int64_t number, uint64_t round,
      uint64_t deadline, gp_member *m)
{
    static char text[GP_STORE_VALUE_MAX]; /* of one thread */
    size_t length = 0;
    char key[64];
    gp_status status;

    snprintf(key, sizeof(key), "%s%" PRId64, prefix, number);
    do {
        status = gp_store_watch(store, key, text, length, text, sizeof(text),
                                &length, deadline);
        if (status == GP_OK)
            status = parse_answer(text, length, round, m);
    } while (status == GP_OK && !m->fresh && !m->gone);
    return status == GP_ERR_TIMEOUT ? GP_OK : status;
}

static double
rate_of(const gp_member *now, const gp_member *before, const char *key,
        double seconds)
{
    double a = gp_node_number(before->root, key, 0);
    double b = gp_node_number(now->root, key, 0);

    return b > a ? (b - a) / seconds : 0;
}

/* By the member's own clock. */
static void
compare(gp_member *now, const gp_member *before)
{
    double seconds;

    if (!now->fresh || !before->root ||
        gp_node_int(now->root, "pid", -1) !=
            gp_node_int(before->root, "pid", -2))
        return;
    seconds = (gp_node_number(now->root, "clock_ns", 0) -
               gp_node_number(before->root, "clock_ns", 0)) *
              1e-9;
    now->rated = seconds > 0.01;
    if (!now->rated)
        return;
    now->steps_rate = rate_of(now, before, "steps", seconds);
    now->pushed_rate = rate_of(now, before, "bytes_pushed", seconds);
    now->pulled_rate = rate_of(now, before, "bytes_pulled", seconds);
}

static gp_status
fetch_all(gp_store *store, const char *prefix, uint64_t round,
          uint64_t deadline, int64_t count, const gp_member *before,
          int64_t before_count, gp_member **out)
{
    uint64_t brief = gp_deadline(BRIEF);
    gp_status status = GP_OK;

    *out = calloc((size_t)count, sizeof(**out));
    if (!*out)
        return gp_fail(GP_ERR_NO_MEMORY, "status of %" PRId64 " members",
                       count);
    for (int64_t i = 0; status == GP_OK && i < count; i++) {
        bool silent = i < before_count && !before[i].fresh;

        status = fetch(store, prefix, i, round,
                       silent ? GP_MIN(deadline, brief) : deadline, &(*out)[i]);
        if (i < before_count)
            compare(&(*out)[i], &before[i]);
    }
    return status;
}

static gp_status
ask(gp_store *store, double seconds, const gp_round *before, gp_round *r)
{
    int64_t round;
    uint64_t deadline = gp_deadline(seconds);
    gp_status status = gp_store_add(store, GP_STATUS_ASKED, 1, &round);

    if (status == GP_OK)
        status = read_job(store, r);
    if (status != GP_OK)
        return status;
    r->number = (uint64_t)round;
    r->listed_workers = GP_MIN(r->workers, (int64_t)LISTED_MAX);
    r->listed_shards = GP_MIN(r->shards, (int64_t)LISTED_MAX);
    status = fetch_all(store, GP_STATUS_WORKER, r->number, deadline,
                       r->listed_workers, before ? before->worker : NULL,
                       before ? before->listed_workers : 0, &r->worker);
    if (status == GP_OK)
        status = fetch_all(store, GP_STATUS_SHARD, r->number, deadline,
                           r->listed_shards, before ? before->shard : NULL,
                           before ? before->listed_shards : 0, &r->shard);
    return status;
}

gp_status
gp_round_ask(gp_store *store, double seconds, const gp_round *before,
             gp_round *out)
{
    gp_round round = {0};
    gp_status status = ask(store, seconds, before, &round);

    if (status == GP_OK)
        *out = round;
    else
        gp_round_free(&round);
    return status;
}
