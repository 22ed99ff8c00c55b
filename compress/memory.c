/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - what an encoder remembers between steps, and the stages that name
 * it: ef, ef21, momentum.
 *
 * Adding comes first and leaves in `sum` what must be encoded; once it is known
 * what the receiver will decode, that is taken out again. Between steps `sum`
 * is the residual, and the sum of all that was decoded plus the residual is the
 * sum of all gradients.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/families.h"
#include "compress/kernels.h"
#include "compress/pipeline.h"
#include "compress/reduce.h"

static size_t
no_bound(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

static const gp_codec_param ef_params[] = {
    {"decay", 1, 0, 1, 0, "factor of the residual at each step", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

const gp_codec_ops gp_codec_ef = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_MEMORY,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "ef",
    .text = "error feedback: what a step loses is added to the next",
    .params = ef_params,
    .bound = no_bound,
};

const gp_codec_ops gp_codec_ef21 = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_MEMORY,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE | GP_CODEC_DIFFERENCE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "ef21",
    .text = "differences to what the shard holds already (EF21)",
    .bound = no_bound,
};

static const gp_codec_param momentum_params[] = {
    {"factor", 0.9, 0, 1, 0, "of the velocity at each step", NULL},
    {"nesterov", 0, 0, 1, 1, "1: look one step ahead", NULL},
    {"mask", 1, 0, 1, 1, "1: no velocity where a selection was sent", NULL},
    {"clip", 0, 0, 1e30, 0,
     "largest norm of a gradient, times the root of the workers; 0: any", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

const gp_codec_ops gp_codec_momentum = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_MEMORY,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "momentum",
    .text = "momentum correction with error feedback, as in DGC",
    .params = momentum_params,
    .bound = no_bound,
};

const gp_codec_ops *const gp_codecs_memory[] = {
    &gp_codec_fake, &gp_codec_ef, &gp_codec_ef21, &gp_codec_momentum, NULL,
};

static gp_memory_kind
kind_of(const gp_pipeline *p, int feedback)
{
    if (!p->memory)
        return feedback ? GP_MEMORY_EF : GP_MEMORY_NONE;
    if (p->memory->ops == &gp_codec_ef21)
        return GP_MEMORY_EF21;
    return p->memory->ops == &gp_codec_momentum ? GP_MEMORY_MOMENTUM
                                                : GP_MEMORY_EF;
}

static bool
open_stage(const gp_stage *stage, size_t count, float **state, size_t *states,
           void **prepared)
{
    const gp_codec_ops *ops = stage ? stage->ops : NULL;

    if (ops && ops->state_count) {
        *states = ops->state_count(stage->instance, count);
        *state = *states ? calloc(*states, sizeof(float)) : NULL;
        if (*states && !*state)
            return false;
    }
    if (stage && gp_stage_prepares(stage)) {
        *prepared =
            gp_alloc_aligned(ops->prepare_bytes(stage->instance, count));
        if (!*prepared)
            return false;
    }
    return true;
}

static bool
open_memory(gp_codec_memory *m, const gp_pipeline *p)
{
    size_t n = GP_MAX(m->count, 1);

    m->decay = m->kind == GP_MEMORY_EF && p->memory ? p->memory->values[0] : 1;
    if (m->kind != GP_MEMORY_NONE)
        m->sum = calloc(n, sizeof(float));
    if (m->kind == GP_MEMORY_EF21)
        m->history = calloc(n, sizeof(float));
    if (m->kind == GP_MEMORY_MOMENTUM) {
        m->velocity = calloc(n, sizeof(float));
        m->factor = p->memory->values[0];
        m->nesterov = p->memory->values[1] != 0;
        m->mask = p->memory->values[2] != 0;
        m->clip = p->memory->values[3];
    }
    return (m->sum || m->kind == GP_MEMORY_NONE) &&
           (m->history || m->kind != GP_MEMORY_EF21) &&
           (m->velocity || m->kind != GP_MEMORY_MOMENTUM) &&
           open_stage(p->select, m->count, &m->state[0], &m->states[0],
                      &m->prepared[0]) &&
           open_stage(p->array, m->count, &m->state[1], &m->states[1],
                      &m->prepared[1]);
}

gp_status
gp_codec_memory_create(const gp_pipeline *pipeline, uint64_t origin,
                       size_t count, int feedback, gp_codec_memory **out)
{
    gp_codec_memory *m = calloc(1, sizeof(*m));

    if (!m)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec's state");
    *m = (gp_codec_memory){
        .kind = kind_of(pipeline, feedback), .origin = origin, .count = count};
    if (!open_memory(m, pipeline)) {
        gp_codec_memory_destroy(m);
        return gp_fail(GP_ERR_NO_MEMORY,
                       "no memory for what %s remembers of %zu elements",
                       pipeline->name, count);
    }
    if (gp_codec_memory_bytes(m) == 0 && !m->prepared[0] && !m->prepared[1]) {
        gp_codec_memory_destroy(m);
        m = NULL;
    }
    *out = m;
    return GP_OK;
}

void
gp_codec_memory_destroy(gp_codec_memory *m)
{
    if (!m)
        return;
    free(m->sum);
    free(m->velocity);
    free(m->history);
    for (size_t i = 0; i < GP_COUNT_OF(m->state); i++) {
        free(m->state[i]);
        free(m->prepared[i]);
    }
    free(m);
}

typedef struct field {
    const char *name;
    float *values;
    size_t count;
} field;

#define FIELDS 5

/* Those that exist; what ef21 is encoding is not worth keeping. */
static size_t
list_fields(gp_codec_memory *m, field *out)
{
    const field all[FIELDS] = {
        {"residual", m->kind == GP_MEMORY_EF21 ? NULL : m->sum, m->count},
        {"velocity", m->velocity, m->count},
        {"history", m->history, m->count},
        {"selection_state", m->state[0], m->states[0]},
        {"state", m->state[1], m->states[1]},
    };
    size_t count = 0;

    for (size_t i = 0; i < FIELDS; i++)
        if (all[i].values)
            out[count++] = all[i];
    return count;
}

size_t
gp_codec_memory_field(gp_codec_memory *m, size_t index, const char **name,
                      float **values)
{
    field fields[FIELDS];

    if (!m || index >= list_fields(m, fields))
        return 0;
    *name = fields[index].name;
    *values = fields[index].values;
    return fields[index].count;
}

void
gp_codec_memory_reset(gp_codec_memory *m)
{
    field fields[FIELDS];
    size_t count = m ? list_fields(m, fields) : 0;

    for (size_t i = 0; i < count; i++)
        memset(fields[i].values, 0, fields[i].count * sizeof(float));
}

static bool
has_state(const gp_stage *stage)
{
    return stage && stage->ops->state_count;
}

bool
gp_memory_will_have(const gp_pipeline *p, int feedback, const char *name)
{
    gp_memory_kind kind = kind_of(p, feedback);

    if (strcmp(name, "residual") == 0)
        return kind == GP_MEMORY_EF || kind == GP_MEMORY_MOMENTUM;
    if (strcmp(name, "velocity") == 0)
        return kind == GP_MEMORY_MOMENTUM;
    if (strcmp(name, "history") == 0)
        return kind == GP_MEMORY_EF21;
    return has_state(p->select) || has_state(p->array);
}

size_t
gp_memory_states(const gp_pipeline *p, bool selection, size_t count)
{
    const gp_stage *stage = selection ? p->select : p->array;

    return has_state(stage) ? stage->ops->state_count(stage->instance, count)
                            : 0;
}

size_t
gp_codec_memory_bytes(const gp_codec_memory *m)
{
    size_t arrays;

    if (!m)
        return 0;
    arrays =
        (size_t)(m->sum != NULL) + (m->velocity != NULL) + (m->history != NULL);
    return (arrays * m->count + m->states[0] + m->states[1]) * sizeof(float);
}

size_t
gp_memory_at(const gp_codec_memory *m, const gp_codec_context *context)
{
    return (size_t)(context->offset - m->origin);
}

static void
add_residual(gp_codec_memory *m, const float *source, size_t at, size_t count)
{
    float *sum = m->sum + at;

    if (m->decay != 1)
        gp_scale_fp32(sum, (float)m->decay, count);
    gp_add_fp32(sum, source, count);
}

/* What is not finite is sent once. That a difference of finite numbers is too
 * large to be one is not. */
static void
add_difference(gp_codec_memory *m, const float *source, size_t at, size_t count)
{
    const float *history = m->history + at;
    float *sum = m->sum + at;

    for (size_t i = 0; i < count; i++) {
        float d = source[i] - history[i];

        sum[i] = isfinite(d) || !isfinite(source[i]) ? d : 0;
    }
}

/* Factor that makes a gradient no longer than allowed (DGC, section 3.2). */
static float
clip_factor(const gp_codec_memory *m, const gp_codec_context *context,
            const float *source, size_t count)
{
    double workers = context->size ? context->size : 1;
    double limit = m->clip / sqrt(workers), norm;

    if (m->clip <= 0)
        return 1;
    norm = sqrt(gp_sum_squares(source, count));
    return norm > limit ? (float)(limit / norm) : 1.0f;
}

/* A velocity that is not finite is sent once and then forgotten. */
static void
add_velocity(gp_codec_memory *m, const gp_codec_context *context,
             const float *source, size_t at, size_t count)
{
    float clip = clip_factor(m, context, source, count);
    float factor = (float)m->factor;
    float *v = m->velocity + at, *sum = m->sum + at;

    for (size_t i = 0; i < count; i++) {
        float g = source[i] * clip;
        float next = factor * v[i] + g;

        sum[i] += m->nesterov ? g + factor * next : next;
        v[i] = isfinite(next) ? next : 0;
    }
}

void
gp_memory_add(gp_codec_memory *m, const gp_codec_context *context,
              const float *source, size_t at, size_t count)
{
    if (m->kind == GP_MEMORY_EF)
        add_residual(m, source, at, count);
    else if (m->kind == GP_MEMORY_EF21)
        add_difference(m, source, at, count);
    else
        add_velocity(m, context, source, at, count);
}

/* As on the shard: history takes what leaves it finite. */
static void
add_history(float *history, const float *decoded, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float h = history[i] + decoded[i];

        history[i] = isfinite(h) ? h : history[i];
    }
}

void
gp_memory_sent(gp_codec_memory *m, size_t at, const float *decoded,
               size_t count)
{
    if (m->kind == GP_MEMORY_EF21)
        add_history(m->history + at, decoded, count);
    else
        gp_kernels_get()->remainder(m->sum + at, decoded, m->sum + at, count);
}

/* More may be infinite than a selection can take. */
static void
forget_nonfinite(float *sum, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] = isfinite(sum[i]) ? sum[i] : 0;
}

void
gp_memory_sent_some(gp_codec_memory *m, size_t at, size_t count,
                    const uint32_t *indices, const float *decoded,
                    size_t selected)
{
    float *sum = m->sum + at;
    bool finite = true;

    if (m->kind == GP_MEMORY_EF21) {
        for (size_t j = 0; j < selected; j++)
            add_history(&m->history[at + indices[j]], &decoded[j], 1);
        return;
    }
    for (size_t j = 0; j < selected; j++) {
        float u = sum[indices[j]];
        float r = u - decoded[j];

        sum[indices[j]] = isfinite(r) ? r : 0;
        finite &= isfinite(u) && isfinite(decoded[j]);
    }
    if (!finite)
        forget_nonfinite(sum, count);
    if (m->velocity && m->mask)
        for (size_t j = 0; j < selected; j++)
            m->velocity[at + indices[j]] = 0;
}
