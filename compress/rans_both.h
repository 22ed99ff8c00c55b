/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rans_both.h - numbers of rans.h that host and devices share.
 */
#ifndef GP_RANS_BOTH_H
#define GP_RANS_BOTH_H

#include "compress/both.h"

#define GP_RANS_TOTAL 4096u
#define GP_RANS_FIRST 0x8000u /* states begin here */
#define GP_RANS_LANES 32
/* What a put may use below the words that it gives back. */
#define GP_RANS_SLACK 64

/* States for that many symbols: 32, or 4 where 32 would cost too much. */
GP_BOTH uint32_t
gp_rans_lanes(uint64_t symbols)
{
    return symbols >= 32768 ? GP_RANS_LANES : 4;
}

/* 256 * log2(4096 / frequency), rounded down, for 1 to 4095; in integers, so
 * that all machines choose alike. The bits of the logarithm come by repeated
 * squaring of a mantissa of 31 bits. */
GP_BOTH uint32_t
gp_rans_cost(uint32_t frequency)
{
    uint32_t whole = 31 - GP_BOTH_CLZ(frequency), log = whole;
    uint64_t mantissa = (uint64_t)frequency << (31 - whole);

    for (int bit = 0; bit < 8; bit++) {
        mantissa = mantissa * mantissa >> 31;
        log <<= 1;
        if (mantissa >> 32) {
            mantissa >>= 1;
            log |= 1;
        }
    }
    return 12 * 256 - log;
}

#endif
