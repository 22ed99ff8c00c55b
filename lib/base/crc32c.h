/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32c.h - the implementations behind gp_crc32c().
 *
 * They take and give the state before the final inversion and agree bit for
 * bit. Tests compare them; everybody else calls gp_crc32c().
 */
#ifndef GP_CRC32C_H
#define GP_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t (*gp_crc32c_kernel)(uint32_t state, const uint8_t *data,
                                     size_t length);

/* Slicing-by-8 tables; any machine. */
uint32_t gp_crc32c_portable(uint32_t state, const uint8_t *data, size_t length);

#if defined(__x86_64__)
/* The crc32 instruction on three streams. */
uint32_t gp_crc32c_sse42(uint32_t state, const uint8_t *data, size_t length);
bool gp_crc32c_has_sse42(void);

/* Folding by 512-bit carry-less products. */
uint32_t gp_crc32c_avx512(uint32_t state, const uint8_t *data, size_t length);
bool gp_crc32c_has_avx512(void);
#endif

/* Fastest first, with names; ends with the portable one. `supported` is a run-
 * time check of this machine. */
typedef struct gp_crc32c_choice {
    const char *name;
    gp_crc32c_kernel kernel;
    bool (*supported)(void);
} gp_crc32c_choice;

extern const gp_crc32c_choice gp_crc32c_choices[];
extern const size_t gp_crc32c_choice_count;

#endif
