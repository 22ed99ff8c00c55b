/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_netns.h - members of a benchmark in network namespaces of their own,
 * so that the links between them can be shaped.
 */
#ifndef GP_BENCH_NETNS_H
#define GP_BENCH_NETNS_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

/* The calling thread goes into namespace number `index` mod their count of a
 * list such as "a,b,c", as `ip netns add` made them. Needs root. */
gp_status gp_netns_enter(const char *list, uint32_t index);

/* "10.1.2.3:0": the first IPv4 address of this namespace that is not the
 * loopback's. */
gp_status gp_netns_listen(char *out, size_t capacity);

#endif
