/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers.h - numbers that look random, for the mathematics of codecs.
 */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stddef.h>
#include <stdint.h>

/* The finalizer of SplitMix64 over a counter. */
static inline uint64_t
number_bits(uint64_t counter)
{
    uint64_t z = (counter + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Nearly normal: the sum of twelve uniform numbers. */
static inline float
number_gauss(uint64_t counter)
{
    double sum = -6;

    for (uint64_t i = 0; i < 12; i++)
        sum += (double)(number_bits(12 * counter + i) >> 32) * 0x1p-32;
    return (float)sum;
}

#endif
