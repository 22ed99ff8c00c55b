/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emulated.h - kernels as functions of the host, for the simulated driver.
 */
#ifndef GP_EMULATED_H
#define GP_EMULATED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GP_EMULATED_ARGS 16

typedef struct gp_emulated {
    const char *name;
    void (*call)(void **args);      /* one thread's part */
    unsigned count;                 /* of arguments */
    size_t bytes[GP_EMULATED_ARGS]; /* of each, at most 8 */
} gp_emulated;

/* Ends with a name that is NULL. */
extern const gp_emulated gp_emulated_kernels[];

/* Runs a kernel to its end. Any thread; one launch at a time. */
void gp_emulate(const gp_emulated *kernel, unsigned grid, unsigned threads,
                unsigned shared, void **args);

#ifdef __cplusplus
}
#endif
#endif
