/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - monotonic time and deadlines.
 *
 * UINT64_MAX is the deadline that never passes; sums saturate there.
 */
#include "base/base.h"

#include <limits.h>
#include <time.h>

uint64_t
gp_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t
gp_deadline(double seconds)
{
    uint64_t now = gp_clock_ns(), ns;

    if (seconds < 0)
        return UINT64_MAX;
    if (!(seconds > 0)) /* also when it is not a number */
        return now;
    if (seconds >= 1.8e10)
        return UINT64_MAX;
    ns = (uint64_t)(seconds * 1e9);
    return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

int
gp_deadline_ms(uint64_t deadline_ns)
{
    uint64_t now, ms;

    if (deadline_ns == UINT64_MAX)
        return -1;
    now = gp_clock_ns();
    if (deadline_ns <= now)
        return 0;
    ms = (deadline_ns - now - 1) / 1000000 + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
