/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_registry.c - the updaters that a text can name.
 *
 * Built-in ones are a constant array, registered ones a list behind it.
 */
#include "shard/updater_registry.h"

#include <string.h>

#include "base/registry.h"

static const char *updater_fault(const void *table);
static bool is_taken(const char *name);

static gp_registry registered = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .what = "updater",
    .one = "an updater",
    .call = "gp_updater_register",
    .abi = GP_UPDATER_ABI,
    .fault = updater_fault,
    .taken = is_taken,
};

const gp_updater_ops gp_updater_sum = {
    .abi = GP_UPDATER_ABI, .name = "sum", .text = "pulls return the sum"};
const gp_updater_ops gp_updater_mean = {
    .abi = GP_UPDATER_ABI, .name = "mean", .text = "pulls return the mean"};

static const gp_updater_ops *const builtin[] = {
    &gp_updater_sum,     &gp_updater_mean,    &gp_updater_sgd,
    &gp_updater_adagrad, &gp_updater_rmsprop, &gp_updater_adam,
    &gp_updater_adamw,   &gp_updater_lamb,
};

const char *const gp_updater_keys[GP_KEYS] = {"warmup", "step_size", "gamma",
                                              "cosine", "lr_min",    "clip"};

/* Names of what workers and codecs keep, beside which arrays are offered. */
static const char *const taken[] = {
    "residual",      "velocity",   "selection_state",
    "state",         "history",    "pull_residual",
    "pull_velocity", "pull_state", "pull_selection_state",
    "parameters"};

const gp_updater_ops *
gp_updater_at(size_t index)
{
    if (index < GP_COUNT_OF(builtin))
        return builtin[index];
    return gp_registry_at(&registered, index - GP_COUNT_OF(builtin));
}

static bool
is_one_of(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, words[i]) == 0)
            return true;
    return false;
}

/* A text that says what is wrong, or NULL. */
static const char *
params_fault(const gp_updater_param *params)
{
    for (size_t i = 0; params && params[i].name; i++) {
        const gp_updater_param *p = &params[i];

        if (i == GP_UPDATER_PARAMS)
            return "params: more than 16";
        if (!gp_registry_name_valid(p->name, GP_REGISTRY_LETTERS))
            return "params: a name is not [a-z][a-z0-9_]*, at most 31 long";
        if (is_one_of(p->name, gp_updater_keys, GP_KEYS))
            return "params: a name is one of those that all updaters take";
        if (!(p->minimum <= p->value && p->value <= p->maximum))
            return "params: a default lies outside its range";
        for (size_t j = 0; j < i; j++)
            if (strcmp(params[j].name, p->name) == 0)
                return "params: a name occurs twice";
    }
    return NULL;
}

static const char *
arrays_fault(const char *const *arrays)
{
    for (size_t i = 0; arrays && arrays[i]; i++) {
        if (i == GP_UPDATER_ARRAYS)
            return "arrays: more than 4";
        if (!gp_registry_name_valid(arrays[i], GP_REGISTRY_LETTERS))
            return "arrays: a name is not [a-z][a-z0-9_]*, at most 31 long";
        if (is_one_of(arrays[i], taken, GP_COUNT_OF(taken)) ||
            is_one_of(arrays[i], arrays, i) ||
            strncmp(arrays[i], "histor", 6) == 0)
            return "arrays: a name is taken";
    }
    return NULL;
}

static const char *
updater_fault(const void *table)
{
    const gp_updater_ops *ops = table;
    const char *fault;

    if (!gp_registry_name_valid(ops->name, GP_REGISTRY_LETTERS "-"))
        return "name is not [a-z][a-z0-9_-]*, at most 31 long";
    if (!ops->text)
        return "text is missing";
    if (!ops->apply)
        return "apply is missing";
    if (ops->close && !ops->open)
        return "close without open";
    if (ops->direction && !ops->norms)
        return "direction without norms";
    fault = params_fault(ops->params);
    return fault ? fault : arrays_fault(ops->arrays);
}

static bool
is_taken(const char *name)
{
    const gp_updater_ops *has;

    for (size_t i = 0; (has = gp_updater_at(i)); i++)
        if (strcmp(has->name, name) == 0)
            return true;
    return false;
}

gp_status
gp_updater_register(const gp_updater_ops *ops)
{
    return gp_registry_add(&registered, ops, ops ? ops->abi : 0,
                           ops ? ops->name : NULL);
}
