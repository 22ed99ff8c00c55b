/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.c - shares of shards, given or from the rates of links.
 */
#include "shard/weights.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define HALVINGS 200 /* until doubles do not change any more */

static gp_status
bad(const char *text, uint32_t shards)
{
    return gp_fail(GP_ERR_CONFIG,
                   "GRADPUSH_SHARD_WEIGHTS is '%.60s': takes 'equal', 'auto', "
                   "'measured', or a whole number from 0 to %u for each of %u "
                   "shards, such "
                   "as 4,4,1, not all 0",
                   text, GP_WEIGHT_TOP, shards);
}

gp_status
gp_weights_parse(const char *text, uint32_t shards, uint32_t *out)
{
    const char *at = text;
    bool any = false;

    for (uint32_t i = 0; i < shards; i++) {
        char *end;
        unsigned long value;

        if (!isdigit((unsigned char)*at))
            return bad(text, shards);
        value = strtoul(at, &end, 10);
        if (value > GP_WEIGHT_TOP || *end != (i + 1 < shards ? ',' : '\0'))
            return bad(text, shards);
        out[i] = (uint32_t)value;
        any |= value > 0;
        at = end + 1;
    }
    return any ? GP_OK : bad(text, shards);
}

void
gp_weights_print(const uint32_t *weights, uint32_t shards, char *out)
{
    size_t capacity = gp_weights_text_bytes(shards), at = 0;

    for (uint32_t i = 0; i < shards; i++)
        at += (size_t)snprintf(out + at, capacity - at, "%s%u", i ? "," : "",
                               weights[i]);
}

/* Others' words: no number that spoils a sum or a quotient. */
static bool
is_known(double rate)
{
    return rate >= GP_RATE_LEAST && rate <= GP_RATE_MOST;
}

void
gp_weights_fill(double *rate, uint32_t count)
{
    double sum = 0, known = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (!is_known(rate[i]))
            continue;
        sum += rate[i];
        known++;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!is_known(rate[i]))
            rate[i] = known > 0 ? sum / known : 1;
}

typedef struct links {
    const double *rate;
    uint32_t workers, apart;
    bool hosts;
} links;

/* The share that a shard gets when the time is `time`. */
static double
share_of(const links *l, uint32_t shard, double time)
{
    double n = (double)l->workers, left;

    if (!l->hosts)
        return time * l->rate[l->workers + shard] / n;
    if (shard >= l->workers)
        return time * l->rate[shard] / n;
    left = time * l->rate[shard] - 1;
    if (left < 0)
        return 0;
    return n > 2 ? GP_MIN(left / (n - 2), 1.0) : 1;
}

static double
total_of(const links *l, double time)
{
    uint32_t shards = l->apart + (l->hosts ? l->workers : 0);
    double sum = 0;

    for (uint32_t s = 0; s < shards; s++)
        sum += share_of(l, s, time);
    return sum;
}

/* Nobody can push all of it in less. */
static double
least_time(const links *l)
{
    double least = 0;

    for (uint32_t i = 0; i < l->workers; i++)
        least = GP_MAX(least, 1 / l->rate[i]);
    return least;
}

static double
find_time(const links *l)
{
    double low = least_time(l), high = low;

    while (total_of(l, high) < 1)
        high *= 2;
    for (int i = 0; i < HALVINGS && total_of(l, low) < 1; i++) {
        double middle = (low + high) / 2;

        if (total_of(l, middle) < 1)
            low = middle;
        else
            high = middle;
    }
    return high;
}

void
gp_weights_solve(const double *rate, uint32_t workers, bool hosts,
                 uint32_t apart, uint32_t *out)
{
    links l = {rate, workers, apart, hosts};
    uint32_t shards = apart + (hosts ? workers : 0);
    double time = find_time(&l), most = 0;

    for (uint32_t s = 0; s < shards; s++)
        most = GP_MAX(most, share_of(&l, s, time));
    for (uint32_t s = 0; s < shards; s++)
        out[s] =
            (uint32_t)(share_of(&l, s, time) / most * GP_WEIGHT_FULL + 0.5);
}
