/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common.h - errors, memory and time for the trainer.
 *
 * The trainer is a client of libgradpush: it sees include/gradpush only, so it
 * keeps its own names (gt_) and its own last error. gt_fail() returns a
 * gp_status so that errors of both pass through the same functions.
 */
#ifndef GT_COMMON_H
#define GT_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/gradpush.h>

#define GT_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Keeps the sentence for people and returns `status`. */
gp_status gt_fail(gp_status status, const char *format, ...) GP_PRINTF(2, 3);

/* The same with the text of errno appended. */
gp_status gt_fail_errno(gp_status status, int error, const char *format, ...)
    GP_PRINTF(3, 4);

/* The same with what gp_last_error() says. */
gp_status gt_fail_engine(gp_status status, const char *what);

const char *gt_last_error(void);

/* Zeroed, 64-byte aligned, released with free(); NULL when it does not fit,
 * also when count * size overflows. */
void *gt_alloc(size_t count, size_t size);

/* count floats of gt_alloc(); the failure names `what`. */
gp_status gt_alloc_floats(size_t count, const char *what, float **out);

/* Seconds of CLOCK_MONOTONIC. */
double gt_now(void);

/* The word nearest to `text`, or NULL when none is near. */
const char *gt_nearest(const char *text, const char *const *words,
                       size_t count);

#endif
