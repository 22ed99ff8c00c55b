/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_hostile.c - messages that no encoder wrote, and buffers too small.
 */
#include <string.h>

#include "conformance/suite.h"

enum { COUNT = 70 };

/* Buffers for one count; messages go in as exact copies. */
typedef struct target {
    gp_suite_trial trial;
    const char *what;
} target;

/* When decode refuses, decode_add must refuse as well and leave its target
 * alone. */
static gp_status
offer(gp_suite *s, target *to, const uint8_t *bytes, size_t length)
{
    gp_suite_trial *t = &to->trial;
    uint8_t *copy = (uint8_t *)gp_suite_alloc(s, length + 1) + 1;
    gp_status status, added;

    if (length)
        memcpy(copy, bytes, length);
    for (size_t i = 0; i < t->count; i++)
        t->added[i] = (float)i;
    status = gp_pipeline_decode(s->pipeline, &t->context, copy, length,
                                t->decoded, t->count, t->workspace);
    added = gp_pipeline_decode_add(s->pipeline, &t->context, copy, length,
                                   t->added, t->count, t->workspace);
    if (status && status != GP_ERR_CORRUPT)
        gp_suite_fail(s, "%s give %s", to->what, gp_status_name(status));
    if (status != added)
        gp_suite_fail(s, "%s: decode says %s, decode_add %s", to->what,
                      gp_status_name(status), gp_status_name(added));
    for (size_t i = 0; added && i < t->count; i++)
        if (t->added[i] != (float)i) {
            gp_suite_fail(s, "decode_add touched its target before it failed");
            break;
        }
    gp_suite_free(s, copy - 1);
    return status;
}

static gp_status
offer_count(gp_suite *s, const gp_suite_trial *t, size_t count)
{
    target to = {gp_suite_trial_make(s, count), "messages of another count"};
    gp_status status;

    to.trial.context = t->context;
    status = offer(s, &to, t->bytes, t->length);
    gp_suite_trial_free(s, &to.trial);
    return status;
}

static void
check_lengths(gp_suite *s, const gp_suite_trial *t, target *to)
{
    uint8_t *longer = gp_suite_alloc(s, t->length + 1);

    to->what = "bytes of the wrong length";
    for (size_t length = 0; length < t->length; length++)
        if (offer(s, to, t->bytes, length) == GP_OK)
            gp_suite_fail(s, "decodes %zu bytes of %zu", length, t->length);
    memcpy(longer, t->bytes, t->length);
    longer[t->length] = 0;
    if (offer(s, to, longer, t->length + 1) == GP_OK)
        gp_suite_fail(s, "ignores a byte too many");
    gp_suite_free(s, longer);
    (void)offer_count(s, t, t->count + 1);
    (void)offer_count(s, t, t->count - 1);
    /* Few of many and few of more, or nothing but zeros, may look alike. */
    if (s->select || s->zeros)
        return;
    if (offer_count(s, t, 2 * t->count) == GP_OK ||
        offer_count(s, t, t->count / 2) == GP_OK)
        gp_suite_fail(s, "decodes a wrong count");
}

static void
check_bit_flips(gp_suite *s, gp_suite_trial *t, target *to)
{
    to->what = "bytes with a flipped bit";
    for (size_t bit = 0; bit < 8 * t->length; bit++) {
        t->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)offer(s, to, t->bytes, t->length);
        t->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void
check_random_bytes(gp_suite *s)
{
    uint8_t bytes[300];

    for (uint64_t count = 0; count < 80; count += 1 + count / 5) {
        target to = {gp_suite_trial_make(s, count), "random bytes"};

        for (uint64_t round = 0; round < 60; round++) {
            uint64_t key = (count * 60 + round) * 300;
            size_t length = gp_suite_random(key) % sizeof(bytes);

            for (size_t i = 0; i < length; i++)
                bytes[i] = (uint8_t)gp_suite_random(key + i + 1);
            (void)offer(s, &to, bytes, length);
        }
        gp_suite_trial_free(s, &to.trial);
    }
}

/* Too small a buffer is refused, and then nothing is written. */
static void
check_capacity(gp_suite *s)
{
    gp_codec_memory *memory = gp_suite_memory(s, s->pipeline, COUNT);
    gp_suite_trial t = gp_suite_trial_make(s, COUNT);
    float *x = gp_suite_floats(s, COUNT);
    gp_status status;

    gp_suite_fill(&gp_suite_inputs[0], x, COUNT);
    t.length = 12345;
    t.bound--;
    status = gp_suite_trial_run(s, &t, memory, x);
    if (status != GP_ERR_TOO_LARGE || t.length != 12345 || t.bytes[0] != 0xc5)
        gp_suite_fail(s, "a buffer below the bound gives %s, or was touched",
                      gp_status_name(status));
    gp_codec_memory_destroy(memory);
    gp_suite_free(s, x);
    gp_suite_trial_free(s, &t);
}

static void
check_bound_grows(gp_suite *s)
{
    size_t last = 0;

    for (int shift = 2; shift < 64; shift++)
        for (size_t add = 0; add < 3; add++) {
            size_t count = ((size_t)1 << shift) + add - 1;
            size_t bound = gp_pipeline_bound(s->pipeline, count);

            if (bound < last)
                gp_suite_fail(s, "the bound falls to %zu at %zu elements",
                              bound, count);
            last = bound;
        }
    last = gp_pipeline_bound(s->pipeline, SIZE_MAX);
    if (last < gp_pipeline_bound(s->pipeline, SIZE_MAX / 2))
        gp_suite_fail(s, "the bound of SIZE_MAX elements wraps to %zu", last);
}

void
gp_suite_check_hostile(gp_suite *s)
{
    target to = {gp_suite_trial_make(s, COUNT), NULL};
    gp_suite_trial t = gp_suite_trial_make(s, COUNT);
    float *x = gp_suite_floats(s, COUNT);

    for (size_t which = 0; which < GP_SUITE_INPUTS; which += 4) {
        gp_suite_fill(&gp_suite_inputs[which], x, COUNT);
        if (!gp_suite_trial_encode(s, &t, NULL, x, 0))
            break;
        to.trial.context = t.context;
        check_lengths(s, &t, &to);
        check_bit_flips(s, &t, &to);
    }
    check_random_bytes(s);
    check_capacity(s);
    check_bound_grows(s);
    gp_suite_free(s, x);
    gp_suite_trial_free(s, &t);
    gp_suite_trial_free(s, &to.trial);
}
