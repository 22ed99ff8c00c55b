/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - what a worker remembers of a tensor between steps.
 *
 * Each alternative of the push pipelines may need a memory of its own, but what
 * is owed to the sum (the residual) exists once: it moves along when another
 * alternative is chosen, as do velocity and history where both have them. A
 * memory from which everything has moved is freed. So steps may change
 * pipelines and nothing is lost or sent twice.
 */
#include <string.h>

#include "worker/worker_int.h"

static const char *const movable[] = {"residual", "velocity", "history"};

static size_t
find_field(gp_codec_memory *m, const char *name, float **values)
{
    const char *has;

    for (size_t i = 0;; i++) {
        size_t count = gp_codec_memory_field(m, i, &has, values);

        if (count == 0 || strcmp(has, name) == 0)
            return count;
    }
}

/* Whether steps through an alternative leave something behind. */
static bool
keeps(const gp_tensor *t, uint32_t i)
{
    uint32_t needs = gp_pipeline_needs(t->push.pipeline[i]);

    if ((int)i == t->direct)
        return false;
    return t->feedback > 0 ||
           needs & (GP_PIPELINE_REMEMBERS | GP_PIPELINE_PREPARES) ||
           (t->feedback < 0 && needs & GP_PIPELINE_FEEDBACK);
}

static gp_status
create(gp_tensor *t, uint32_t i)
{
    const gp_pipeline *p = t->push.pipeline[i];
    bool biased = gp_pipeline_needs(p) & GP_PIPELINE_FEEDBACK;
    int feedback = t->feedback < 0 ? biased : t->feedback;
    gp_status status;

    if (t->memory[i] || !keeps(t, i))
        return GP_OK;
    status =
        gp_codec_memory_create(p, 0, t->spec.count, feedback, &t->memory[i]);
    if (status == GP_OK)
        atomic_fetch_add(&t->worker->memory,
                         gp_codec_memory_bytes(t->memory[i]));
    return status;
}

static void
destroy(gp_tensor *t, uint32_t i)
{
    atomic_fetch_sub(&t->worker->memory, gp_codec_memory_bytes(t->memory[i]));
    gp_codec_memory_destroy(t->memory[i]);
    t->memory[i] = NULL;
}

gp_status
gp_memory_open(gp_tensor *t, int feedback)
{
    for (uint32_t i = 0; i < t->push.count; i++) {
        gp_status status =
            gp_codec_check_feedback(t->push.pipeline[i], feedback > 0);

        if (status != GP_OK)
            return status;
    }
    t->feedback = feedback;
    t->holder = t->push.count - 1;
    return create(t, t->holder);
}

void
gp_memory_close(gp_tensor *t)
{
    for (uint32_t i = 0; i < t->push.count; i++)
        if (t->memory[i])
            destroy(t, i);
}

/* True when nothing is left that a later step could need. */
static bool
move_fields(gp_codec_memory *from, gp_codec_memory *to)
{
    const char *name;
    float *old, *new;
    size_t fields = 0, moved = 0;

    while (gp_codec_memory_field(from, fields, &name, &old))
        fields++;
    for (size_t i = 0; i < GP_COUNT_OF(movable); i++) {
        size_t count = find_field(from, movable[i], &old);

        if (count == 0 || find_field(to, movable[i], &new) != count)
            continue;
        memcpy(new, old, count * sizeof(float));
        memset(old, 0, count * sizeof(float));
        moved++;
    }
    return moved == fields;
}

gp_status
gp_memory_use(gp_tensor *t, uint32_t i)
{
    gp_status status = create(t, i);

    if (status != GP_OK || !t->memory[i] || t->holder == i)
        return status;
    if (t->memory[t->holder] && move_fields(t->memory[t->holder], t->memory[i]))
        destroy(t, t->holder);
    t->holder = i;
    return GP_OK;
}

float *
gp_memory_residual(gp_tensor *t)
{
    float *values;

    return find_field(t->memory[t->holder], "residual", &values) ==
                   t->spec.count
               ? values
               : NULL;
}

/* The state of ef21 is as much a shard's as a worker's: it begins anew. */
static bool
is_shared(const char *name)
{
    return strcmp(name, "history") == 0;
}

gp_status
gp_tensor_state(gp_tensor *t, size_t index, const char **name, uint64_t *count)
{
    size_t at = 0, seen = 0, elements;
    const char *has = NULL;
    float *values;

    if (!t || !name || !count)
        return gp_fail(GP_ERR_INVALID, "gp_tensor_state: a pointer is NULL");
    gp_driver_hold(t->worker->driver);
    do
        elements =
            gp_codec_memory_field(t->memory[t->holder], at++, &has, &values);
    while (elements && (is_shared(has) || seen++ < index));
    gp_driver_release(t->worker->driver);
    if (!elements)
        return gp_fail(GP_ERR_NOT_FOUND, "tensor '%.60s' has %zu states",
                       t->spec.name, seen);
    *name = has;
    *count = elements;
    return GP_OK;
}

static gp_status
copy_state(gp_tensor *t, const char *name, float *out, const float *in)
{
    float *values;
    size_t count = 0;

    if (!t || !name || (!out && !in))
        return gp_fail(GP_ERR_INVALID, "gp_tensor_save_state or load_state: a "
                                       "pointer is NULL");
    gp_driver_hold(t->worker->driver);
    if (!is_shared(name))
        count = find_field(t->memory[t->holder], name, &values);
    if (count && out)
        memcpy(out, values, count * sizeof(float));
    if (count && in) {
        memcpy(values, in, count * sizeof(float));
        t->owes = true;
    }
    gp_driver_release(t->worker->driver);
    return count ? GP_OK
                 : gp_fail(GP_ERR_UNSUPPORTED,
                           "tensor '%.60s' with codec %.100s has no state "
                           "'%.30s'",
                           t->spec.name, t->spec.push, name);
}

gp_status
gp_tensor_save_state(gp_tensor *t, const char *name, float *values)
{
    return copy_state(t, name, values, NULL);
}

gp_status
gp_tensor_load_state(gp_tensor *t, const char *name, const float *values)
{
    return copy_state(t, name, NULL, values);
}

const char *
gp_tensor_unsaved(const gp_tensor *t)
{
    static const char *const words[] = {
        NULL, "what ef21 remembers", "what shards remember of the pull codec",
        "what ef21 and, on shards, the pull codec remember"};
    bool history, pull;

    if (!t)
        return NULL;
    history = gp_codec_set_differs(&t->push);
    pull =
        t->spec.feedback || gp_pipeline_needs(t->pull) & GP_PIPELINE_REMEMBERS;
    return words[history + 2 * pull];
}

gp_status
gp_tensor_reset_state(gp_tensor *t)
{
    float *values;
    gp_status status = GP_OK;

    if (!t)
        return gp_fail(GP_ERR_INVALID, "gp_tensor_reset_state: NULL");
    gp_driver_hold(t->worker->driver);
    if (t->steps > t->spec.first_step &&
        find_field(t->memory[t->holder], "history", &values) > 0)
        status = gp_fail(GP_ERR_STATE,
                         "tensor '%.60s': shards hold the same history and "
                         "cannot forget it",
                         t->spec.name);
    for (uint32_t i = 0; status == GP_OK && i < t->push.count; i++)
        gp_codec_memory_reset(t->memory[i]);
    if (status == GP_OK)
        t->owes = false;
    gp_driver_release(t->worker->driver);
    return status;
}
