/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - which pipelines a tensor's pushes may go through, by rules.
 *
 * Rules: "condition => pipeline; condition => pipeline", the first that holds
 * counts. A condition is tests joined by '&': a name pattern with * and ?,
 * "count<N", "count>=N" (suffixes K, M, G of 1024, or k, m, g), "vector" or
 * "matrix" (of rows and columns).
 */
#ifndef GP_POLICY_H
#define GP_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

/* The pipeline text of the first rule that holds, into `out`; "" when none
 * does. All rules are read, so that a fault in any of them is found.
 * GP_ERR_CONFIG: the message shows the rule and what is expected. */
gp_status gp_policy_rule(const char *rules, const char *name, uint64_t count,
                         uint64_t columns, char *out, size_t capacity);

/* Longest rule, with the end of the text. */
#define GP_POLICY_RULE_MAX 2048

/* Calls `visit` with every rule and its pipeline text, until one call fails.
 * gp_policy_rule() with such a rule alone tells for whom it holds. */
typedef gp_status (*gp_policy_visit)(void *user, const char *rule,
                                     const char *pipeline);
gp_status gp_policy_each(const char *rules, gp_policy_visit visit, void *user);

/* What one element costs with a pipeline. */
typedef struct gp_cost {
    double encode, decode; /* seconds */
    double bytes;          /* on the wire */
} gp_cost;

/* The choice among alternatives by the time of one push, un-overlapped:
 * encode + bytes / rate + decodes * decode, `decodes` being how many messages
 * one shard decodes for each that one worker encodes. Index 0 is the dense one,
 * and wins unless another takes at most 0.9 of its time.
 * @param seconds  receives the time of each, for `count` elements. */
uint32_t gp_policy_best(const gp_cost *cost, uint32_t alternatives,
                        uint64_t count, double rate, double decodes,
                        double *seconds);

#endif
