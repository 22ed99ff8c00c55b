/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodelist.h - Slurm's compressed lists beside gp_nodelist_first().
 */
#ifndef GP_NODELIST_H
#define GP_NODELIST_H

#include <stdint.h>

/* Tasks on node number `node` by a text such as "2(x3),1"; -1 when the text
 * cannot be read or has no such node. */
int64_t gp_nodelist_tasks(const char *text, int64_t node);

#endif
