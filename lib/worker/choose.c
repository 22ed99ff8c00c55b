/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choose.c - which alternative of its push pipelines a tensor uses in a step.
 *
 * Workers need not agree: a push says what it went through.
 */
#include "worker/worker_int.h"

uint32_t
gp_tensor_choose(gp_tensor *t, uint64_t step)
{
    uint32_t preferred =
        atomic_load_explicit(&t->preferred, memory_order_relaxed);

    (void)step;
    return GP_MIN(preferred, t->push.count - 1);
}

void
gp_tensor_prefer(gp_tensor *t, uint32_t alternative)
{
    atomic_store_explicit(&t->preferred, alternative, memory_order_relaxed);
}
