/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - a few threads that share the parts of one job at a time.
 *
 * The caller works as well, so a pool of n has n - 1 threads of its own. They
 * sleep between jobs. One job runs at a time, from one thread at a time.
 */
#ifndef GP_POOL_H
#define GP_POOL_H

#include <stddef.h>

#include <gradpush/status.h>

typedef struct gp_pool gp_pool;

/* @param part    from 0 to the job's parts - 1, each once.
 * @param thread  from 0 to the pool's size - 1: whose workspace to use. */
typedef void (*gp_pool_function)(void *arg, size_t part, unsigned thread);

/* @param size  threads in all, at least 1. GP_ERR_SYSTEM, GP_ERR_NO_MEMORY. */
gp_status gp_pool_create(unsigned size, gp_pool **out);
/* Joins its threads; NULL is fine. */
void gp_pool_destroy(gp_pool *pool);

unsigned gp_pool_size(const gp_pool *pool);

/* Returns when all parts are done. */
void gp_pool_run(gp_pool *pool, gp_pool_function function, void *arg,
                 size_t parts);

#endif
