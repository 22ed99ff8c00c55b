/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.c - which algorithm an all-reduce takes.
 *
 * The table was measured; docs/collectives.md says how, and `gradpush bench
 * allreduce --algorithm all` prints what it would be on another machine. All
 * members compute the same from size and count.
 */
#include <string.h>

#include "collective/coll_int.h"

static const char *const names[] = {"auto", "direct", "halving", "ring",
                                    "shards"};

typedef struct rule {
    uint32_t members;                                   /* at most; 0: any */
    uint64_t direct_until, halving_until, shards_until; /* bytes, exclusive */
} rule;

static const rule rules[] = {
    {2, 1048576, 0, 0},
    {4, 262144, 0, 16777216},
    {8, 65536, 1048576, 16777216},
    {0, 1024, 1048576, 0},
};

gp_algorithm
gp_collective_choose(const gp_group *g, uint64_t bytes)
{
    const rule *r = rules;

    if (g->algorithm != ALGORITHM_AUTO)
        return g->algorithm;
    while (r->members && g->size > r->members)
        r++;
    if (bytes < r->direct_until)
        return ALGORITHM_DIRECT;
    if (bytes < r->halving_until)
        return ALGORITHM_HALVING;
    return bytes < r->shards_until ? ALGORITHM_SHARDS : ALGORITHM_RING;
}

const char *
gp_algorithm_name(gp_algorithm a)
{
    return names[a];
}

gp_status
gp_algorithm_parse(const char *text, gp_algorithm *out)
{
    for (size_t i = 0; i < GP_COUNT_OF(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (gp_algorithm)i;
            return GP_OK;
        }
    return gp_fail(GP_ERR_CONFIG,
                   "collective algorithm '%.40s': it takes auto, direct, "
                   "halving, ring or shards",
                   text);
}
