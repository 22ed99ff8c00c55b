/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conformance.h - proves a codec, or a pipeline of codecs, against what
 * codec.h and docs/codecs.md require of it.
 *
 * A library of its own, gradpush-conformance, for test programs: it uses the
 * public interface alone and is not part of libgradpush. Register the codec,
 * then hand over a text that names it:
 *
 *     gp_codec_register(&my_codec);
 *     failures = gp_conformance_codec("mine:block=64+lz4", NULL, print, NULL);
 */
#ifndef GRADPUSH_CONFORMANCE_H
#define GRADPUSH_CONFORMANCE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_conformance_options {
    size_t size;    /**< sizeof(gp_conformance_options) */
    size_t columns; /**< of the rows of a matrix; 0: vectors */
    /** An NMSE that inputs of ordinary magnitude do not exceed, beside what the
     *  codec's own error_bound() says; negative: none. */
    double nmse;
    /** Not 0: also 2^20 + 13 elements, and four times the draws of random
     *  codecs. Takes seconds. */
    int thorough;
    /** Switches between implementations that must give the same bits, such as
     *  SIMD levels. Called with 0, 1, ... up to levels - 1.
     *  @return 0 when this machine lacks that one. */
    int levels;
    int (*use_level)(void *level_user, int level);
    void *level_user;
} gp_conformance_options;

#define GP_CONFORMANCE_INIT                                       \
    {                                                             \
        sizeof(gp_conformance_options), 0, -1.0, 0, 0, NULL, NULL \
    }

/**
 * Asserts, over gradients of ten shapes (normal, Laplace, Student's t, a spike,
 * zeros, negative zeros, equal, negative, denormal and huge numbers) and 14
 * counts from 0 to 2^17 + 13:
 *
 *   size        within the bound; exact for FIXED_RATE; bounds never fall or
 *               wrap, and smaller buffers are refused untouched
 *   error       within gp_pipeline_error_bound(), as a mean over draws when
 *               UNBIASED; CONTRACTS never adds energy; LOSSLESS changes
 * nothing; finite stays finite mean        UNBIASED: of each element and of all
 * together, over 1024 draws; other ranks draw other numbers, whose errors
 * average out feedback    the residual is what the encoder lost; over 2000
 * steps of a constant gradient with noise nothing is lost, through a save and
 *               load as well, and the residual stays below 2 sqrt(1-d)/d |g|
 *   ef21        differences shrink by the error bound at every step
 *   sums        decode_add and fold give the bits of decode, then add;
 *               aggregate gives the sum, whatever the grouping; LINEAR is
 * linear same bits   again, on four threads, with other workspaces, on all
 * levels, and by gp_pipeline_fake() hostile     every shorter message, every
 * flipped bit, wrong counts and random bytes: a status, and targets untouched
 * where promised NaN, Inf    come out as declared, elsewhere nothing changes,
 * and residuals stay finite chain       equals its stages called by hand text
 * the canonical text gives the same pipeline
 *
 * Run it under an address sanitizer too: buffers have their exact sizes. Inputs
 * follow from the counter generator splitmix64, so a failure repeats anywhere.
 * Takes some tenths of a second for a codec of memory speed.
 *
 * Any thread; starts four and ends them. One call at a time when use_level is
 * given. Allocates, prints nothing, and does not end the process.
 *
 * @param pipeline  a text as for gp_pipeline_open().
 * @param options   NULL: GP_CONFORMANCE_INIT.
 * @param report    may be NULL; receives one line per requirement that is not
 *                  met, with the input that shows it; at most 5, then one line
 *                  with how many there are.
 * @return how many requirements were not met; 0: it conforms. A text that
 *         cannot be opened is one failure; so is a lack of memory.
 */
int gp_conformance_codec(const char *pipeline,
                         const gp_conformance_options *options,
                         void (*report)(void *user, const char *line),
                         void *user);

#ifdef __cplusplus
}
#endif
#endif
