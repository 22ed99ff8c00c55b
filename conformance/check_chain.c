/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_chain.c - a chain of transforms, an array stage and byte stages gives
 * what its stages give when they are called by hand.
 */
#include <string.h>

#include "conformance/suite.h"

enum { COUNT = 1000 };

typedef struct hand {
    gp_codec_context context;
    float *x;
    uint8_t *bytes;
    size_t length;
} hand;

static size_t
scratch_of(const gp_suite_stage *stage, const void *instance, size_t size)
{
    return stage->ops->scratch ? stage->ops->scratch(instance, size) : 0;
}

/* One stage of any kind, with scratch memory of its own. */
static gp_status
run_stage(gp_suite *s, const gp_suite_stage *stage, const void *instance,
          hand *h)
{
    const gp_codec_ops *ops = stage->ops;
    size_t size = ops->kind == GP_CODEC_BYTES ? h->length : COUNT;
    size_t capacity = ops->bound ? ops->bound(instance, size) : 0;
    gp_status status;
    uint8_t *out;

    h->context.scratch = gp_suite_alloc(s, scratch_of(stage, instance, size));
    if (ops->kind == GP_CODEC_TRANSFORM) {
        float *turned = gp_suite_floats(s, COUNT);

        status = ops->forward(instance, &h->context, h->x, COUNT, turned);
        h->x = turned;
    } else {
        out = gp_suite_alloc(s, capacity);
        status = ops->kind == GP_CODEC_ARRAY
                     ? ops->encode(instance, &h->context, h->x, COUNT, out,
                                   capacity, &h->length)
                     : ops->pack(instance, &h->context, h->bytes, h->length,
                                 out, capacity, &h->length);
        h->bytes = out;
    }
    gp_suite_free(s, h->context.scratch);
    return status;
}

static gp_status
run_by_hand(gp_suite *s, hand *h)
{
    gp_codec_shape shape = {0, s->options.columns};
    gp_status status = GP_OK;

    for (size_t i = 0; i < s->count && status == GP_OK; i++) {
        const gp_suite_stage *stage = &s->stages[i];
        void *instance = NULL;

        if (stage->ops->open)
            status = stage->ops->open(stage->values, &shape, &instance);
        if (status == GP_OK)
            status = run_stage(s, stage, instance, h);
        if (stage->ops->close && instance)
            stage->ops->close(instance);
    }
    return status;
}

void
gp_suite_check_chain(gp_suite *s)
{
    gp_suite_trial t;
    hand h;

    /* The layout around selections and zero maps is the pipeline's own. */
    if (s->memory || s->zeros || s->select || s->fake ||
        gp_suite_needs(s, GP_PIPELINE_PREPARES))
        return;
    t = gp_suite_trial_make(s, COUNT);
    h.x = gp_suite_floats(s, COUNT);
    gp_suite_fill(&gp_suite_inputs[3], h.x, COUNT);
    if (gp_suite_trial_encode(s, &t, NULL, h.x, 0)) {
        gp_status status;

        h.context = t.context;
        h.bytes = NULL;
        h.length = 0;
        status = run_by_hand(s, &h);
        if (status || h.length != t.length ||
            memcmp(h.bytes, t.bytes, t.length) != 0)
            gp_suite_fail(s, "the chain differs from its stages by hand");
    }
    gp_suite_trial_free(s, &t);
}
