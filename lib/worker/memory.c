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

#include "compress/pipeline.h"
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
gp_memory_residual(const gp_tensor *t)
{
    float *values;

    return find_field(t->memory[t->holder], "residual", &values) ==
                   t->spec.count
               ? values
               : NULL;
}

/* A history is worth nothing without those of all other workers: its public
 * name has their number, so that a job of another size does not find it. */
static const char *
public_name(const gp_tensor *t, const char *field)
{
    return strcmp(field, "history") == 0 ? t->worker->history_name : field;
}

static bool
is_history(const gp_tensor *t, const char *name)
{
    return strcmp(name, t->worker->history_name) == 0;
}

gp_status
gp_tensor_state(gp_tensor *t, size_t index, const char **name, uint64_t *count)
{
    size_t fields = 0, elements = 0;
    const char *has = NULL;
    float *values;

    if (!t || !name || !count)
        return gp_fail(GP_ERR_INVALID, "gp_tensor_state: a pointer is NULL");
    gp_driver_hold(t->worker->driver);
    while (fields <= index &&
           (elements = gp_codec_memory_field(t->memory[t->holder], fields, &has,
                                             &values)) > 0)
        fields++;
    gp_driver_release(t->worker->driver);
    if (fields <= index) {
        uint64_t kept = 0;

        has = gp_kept_name(t, index - fields, &kept);
        elements = (size_t)kept;
    } else {
        has = public_name(t, has);
    }
    if (!has)
        return gp_fail(GP_ERR_NOT_FOUND, "tensor '%.60s' has no state %zu",
                       t->spec.name, index);
    *name = has;
    *count = elements;
    return GP_OK;
}

static gp_status
no_such_state(const gp_tensor *t, const char *name)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "tensor '%.60s' with codec %.100s has no state '%.30s'",
                   t->spec.name, t->spec.push, name);
}

/* Of this worker's memory, under the driver's hold. */
static size_t
find_state(gp_tensor *t, const char *name, float **values)
{
    if (is_history(t, name))
        return find_field(t->memory[t->holder], "history", values);
    return strcmp(name, "history") == 0
               ? 0
               : find_field(t->memory[t->holder], name, values);
}

gp_status
gp_tensor_save_state(gp_tensor *t, const char *name, float *values)
{
    float *has;
    size_t count;
    gp_status status;
    int which;

    if (!t || !name || !values)
        return gp_fail(GP_ERR_INVALID,
                       "gp_tensor_save_state: a pointer is NULL");
    which = gp_kept_find_saved(t, name);
    if (which >= 0)
        return gp_kept_save(t, which, values);
    gp_driver_hold(t->worker->driver);
    status = gp_devcode_fetch(t);
    count = find_state(t, name, &has);
    if (count && status == GP_OK)
        memcpy(values, has, count * sizeof(float));
    gp_driver_release(t->worker->driver);
    return count ? status : no_such_state(t, name);
}

/* Under the driver's hold. */
static gp_status
load_field(gp_tensor *t, const char *name, const float *values)
{
    float *has;
    size_t count = find_state(t, name, &has);

    if (count == 0)
        return no_such_state(t, name);
    if (is_history(t, name)) {
        if (atomic_load(&t->worker->phase) != PHASE_REGISTER)
            return gp_fail(GP_ERR_STATE,
                           "tensor '%.60s': what ef21 remembers can be loaded "
                           "before the first operation only, since the shards "
                           "have to know",
                           t->spec.name);
        t->loaded = true;
    }
    memcpy(has, values, count * sizeof(float));
    t->owes = true;
    return gp_devcode_store(t);
}

gp_status
gp_tensor_load_state(gp_tensor *t, const char *name, const float *values)
{
    gp_status status;
    int which;

    if (!t || !name || !values)
        return gp_fail(GP_ERR_INVALID,
                       "gp_tensor_load_state: a pointer is NULL");
    which = gp_kept_find(t, name);
    gp_driver_hold(t->worker->driver);
    status = which >= 0 ? gp_kept_load(t, which, values)
                        : load_field(t, name, values);
    gp_driver_release(t->worker->driver);
    return status;
}

gp_status
gp_memory_announce(gp_tensor *t)
{
    const gp_worker *w = t->worker;
    bool sum = t->kept[GP_KEPT_HISTORY] != NULL;

    t->spec.restored = t->loaded;
    if (w->rank != 0 || sum == t->loaded)
        return GP_OK;
    return gp_fail(GP_ERR_STATE,
                   "tensor '%.60s': its state '%s' was loaded without '%s': "
                   "load both from one checkpoint, or neither",
                   t->spec.name, sum ? w->sum_name : w->history_name,
                   sum ? w->history_name : w->sum_name);
}

/* Whether shards have a part in a history, and so have to forget it too. */
static bool
is_shared(gp_tensor *t)
{
    float *values;
    bool begun =
        t->steps > t->spec.first_step ||
        (t->loaded && atomic_load(&t->worker->phase) != PHASE_REGISTER);

    return begun && find_field(t->memory[t->holder], "history", &values) > 0;
}

gp_status
gp_tensor_reset_state(gp_tensor *t)
{
    gp_status status = GP_OK;

    if (!t)
        return gp_fail(GP_ERR_INVALID, "gp_tensor_reset_state: NULL");
    gp_driver_hold(t->worker->driver);
    if (is_shared(t))
        status = gp_fail(GP_ERR_STATE,
                         "tensor '%.60s': shards hold the same history and "
                         "cannot forget it",
                         t->spec.name);
    for (uint32_t i = 0; status == GP_OK && i < t->push.count; i++)
        gp_codec_memory_reset(t->memory[i]);
    if (status == GP_OK)
        status = gp_devcode_store(t);
    if (status == GP_OK) {
        gp_kept_close(t);
        t->owes = t->loaded = false;
    }
    gp_driver_release(t->worker->driver);
    return status;
}
