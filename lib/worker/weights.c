/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.c - the placement that all workers use: decided once, handed out.
 *
 * Keys of the store: `rate/worker/R` and `rate/shard/S`, the rates of links in
 * Mbit/s as decimal text, 0: not known; `probe/R`, what worker R has measured
 * of all shards' links; `weights`, what worker 0 has made of them. One that was
 * started anew finds the decision of its former life.
 */
#include "shard/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_int.h"

#define KEY            "weights"
#define FORMER_SECONDS 0.05 /* for a key that is there, or not */

static gp_status
get_rate(gp_worker *w, const char *kind, uint32_t number, uint64_t deadline,
         double *out)
{
    char key[48], text[32];
    size_t length;
    gp_status status;

    snprintf(key, sizeof(key), "rate/%s/%u", kind, number);
    status =
        gp_store_get(w->store, key, text, sizeof(text) - 1, &length, deadline);
    if (status != GP_OK)
        return gp_fail(status,
                       "%s %u does not say how fast its link is: set "
                       "GRADPUSH_SHARD_WEIGHTS=auto for servers as for workers",
                       kind, number);
    text[length] = '\0';
    *out = strtod(text, NULL);
    return GP_OK;
}

/* Workers without shards do not change how shards compare.
 * @param rate  of workers' links, then of stand-alone shards'; 0: not known. */
static void
solve(gp_worker *w, double *rate)
{
    uint32_t hosted = w->shard ? w->size : 0, apart = w->shards - hosted;

    if (hosted)
        gp_weights_fill(rate, w->size + apart);
    else
        gp_weights_fill(rate + w->size, apart);
    for (uint32_t i = 0; i < w->size && !hosted; i++)
        rate[i] = 1e12;
    gp_weights_solve(rate, w->size, hosted > 0, apart, w->weights);
}

static gp_status
decide(gp_worker *w, uint64_t deadline)
{
    uint32_t hosted = w->shard ? w->size : 0, all = w->size + w->shards;
    double *rate = calloc(all, sizeof(*rate));
    gp_status status =
        rate ? GP_OK : gp_fail(GP_ERR_NO_MEMORY, "%u rates", all);

    for (uint32_t i = 0; i < hosted && status == GP_OK; i++)
        status = get_rate(w, "worker", i, deadline, &rate[i]);
    for (uint32_t i = hosted; i < w->shards && status == GP_OK; i++)
        status = get_rate(w, "shard", i, deadline, &rate[w->size + i - hosted]);
    if (status == GP_OK)
        solve(w, rate);
    free(rate);
    return status;
}

static gp_status
publish(gp_worker *w)
{
    char *text = malloc(gp_weights_text_bytes(w->shards));
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "%u weights", w->shards);
    gp_weights_print(w->weights, w->shards, text);
    GP_INFO("weights of shards: %s", text);
    status = gp_store_set(w->store, KEY, text, strlen(text));
    free(text);
    return status;
}

static gp_status
fetch(gp_worker *w, uint64_t deadline)
{
    size_t capacity = gp_weights_text_bytes(w->shards), length;
    char *text = malloc(capacity);
    gp_status status =
        text
            ? gp_store_get(w->store, KEY, text, capacity - 1, &length, deadline)
            : gp_fail(GP_ERR_NO_MEMORY, "%u weights", w->shards);

    if (status == GP_OK) {
        text[length] = '\0';
        status = gp_weights_parse(text, w->shards, w->weights);
    }
    free(text);
    return status;
}

/* Before worker 0 there may have been another one. */
static gp_status
agree(gp_worker *w, uint64_t deadline)
{
    gp_status status;

    status = gp_link_announce(w->store, "worker", w->rank, w->config,
                              w->job.store, 1);
    if (status != GP_OK)
        return status;
    if (w->rank != 0)
        return fetch(w, deadline);
    if (fetch(w, gp_deadline(FORMER_SECONDS)) == GP_OK)
        return GP_OK;
    status = decide(w, deadline);
    return status == GP_OK ? publish(w) : status;
}

static bool
is_measured(const gp_worker *w)
{
    const char *text = gp_config_get(w->config, "shard_weights");

    return strcmp(text, "measured") == 0;
}

static void
say_rates(const gp_worker *w, const double *rate)
{
    for (uint32_t i = 0; i < w->shards; i++)
        GP_INFO("link of shard %u, measured: %.0f Mbit/s", i, rate[i]);
}

/* Shards of workers are the first: their rates are those of their workers. */
gp_status
gp_worker_weigh_measured(gp_worker *w)
{
    uint32_t first = w->shard ? 0 : w->size;
    double *rate;
    gp_status status;

    if (!is_measured(w) || w->shards == 1)
        return GP_OK;
    rate = calloc((size_t)w->size + w->shards, sizeof(*rate));
    status = rate ? gp_worker_probe(w, rate + first)
                  : gp_fail(GP_ERR_NO_MEMORY, "%u rates", w->shards);
    if (status == GP_OK && w->rank == 0) {
        say_rates(w, rate + first);
        solve(w, rate);
        status = publish(w);
    } else if (status == GP_OK) {
        status = fetch(w, gp_deadline(w->timeout));
    }
    free(rate);
    return status;
}

/* Those who come later would be weighed by others. */
static gp_status
check_measured(const gp_worker *w)
{
    if (!w->membership.elastic)
        return GP_OK;
    return gp_fail(GP_ERR_CONFIG,
                   "GRADPUSH_SHARD_WEIGHTS=measured needs all workers at the "
                   "beginning: with GRADPUSH_ELASTIC take auto, or the weights "
                   "themselves");
}

gp_status
gp_worker_weigh(gp_worker *w, uint64_t deadline)
{
    const char *text = gp_config_get(w->config, "shard_weights");

    if (strcmp(text, "equal") == 0)
        return GP_OK;
    w->weights = calloc(w->shards, sizeof(*w->weights));
    if (!w->weights)
        return gp_fail(GP_ERR_NO_MEMORY, "%u weights", w->shards);
    if (strcmp(text, "auto") != 0 && !is_measured(w))
        return gp_weights_parse(text, w->shards, w->weights);
    if (w->store && !is_measured(w))
        return agree(w, deadline);
    if (w->shards == 1) {
        w->weights[0] = 1;
        return GP_OK;
    }
    if (is_measured(w) && (w->store || w->membership.elastic))
        return check_measured(w);
    return gp_fail(GP_ERR_CONFIG,
                   "GRADPUSH_SHARD_WEIGHTS=%s needs a store: with "
                   "GRADPUSH_SERVERS give the weights themselves",
                   text);
}
