/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights.h - how much of the tensors each shard gets.
 *
 * Weights are whole numbers, of which only the ratios count. They are found
 * once, by worker 0, and handed out through the store, so that all have the
 * same; the list of tensors repeats them to the shards.
 */
#ifndef GP_WEIGHTS_H
#define GP_WEIGHTS_H

#include "base/base.h"

#define GP_WEIGHT_FULL 10000u /* the largest that is computed */
#define GP_WEIGHT_TOP  1000000u

/* Bytes of a text with so many weights. */
static inline size_t
gp_weights_text_bytes(uint32_t shards)
{
    return (size_t)shards * 8 + 1;
}

/* "4,4,1": one for each shard, 0 to 1000000, not all 0. GP_ERR_CONFIG. */
gp_status gp_weights_parse(const char *text, uint32_t shards, uint32_t *out);
void gp_weights_print(const uint32_t *weights, uint32_t shards, char *out);

/* In Mbit/s; anything else is not known. */
#define GP_RATE_LEAST 1e-3
#define GP_RATE_MOST  1e9

/* What is not known counts as the mean of what is. */
void gp_weights_fill(double *rate, uint32_t count);

/**
 * The shares with which a synchronous push+pull takes the least time, when the
 * links are what limits it. All links have two directions, each with its rate.
 *
 * A worker's link carries all it pushes and pulls, but what the shard beside it
 * owns, and the other workers' part of that: of each direction, with n workers
 * and its shard's share x, 1 + (n - 2) x of the model. The link of a shard by
 * itself carries n y. So in the time T, x_i = (T b_i - 1) / (n - 2), if that is
 * positive, and y_j = T b_j / n; T is the least for which they add up to 1.
 * With n equal workers and k equal shards by themselves y is 2 (n - 1) / (n^2 +
 * k n - 2 k): Jiang et al., "A Unified Architecture for Accelerating
 * Distributed DNN Training in Heterogeneous GPU/CPU Clusters", OSDI 2020,
 * theorem 1. With n <= 2 what a worker's own shard has costs nothing.
 *
 * @param rate     of workers' links, then of those of shards by themselves, in
 *                 any unit; above 0.
 * @param workers  that are counted; @param hosts whether each hosts a shard,
 *                 which are the first ones then.
 * @param apart    shards by themselves.
 * @param out      the weights, largest GP_WEIGHT_FULL; hosted ones first. */
void gp_weights_solve(const double *rate, uint32_t workers, bool hosts,
                      uint32_t apart, uint32_t *out);

#endif
