/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_registry.c - the updaters that a text can name.
 *
 * Built-in ones are a constant array. Registered ones are a list that only
 * grows: a node is complete before the pointer to it is stored, so readers take
 * no lock. The lock is for two threads that register at once.
 */
#include "shard/updater_registry.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LENGTH 31

typedef struct updater_node {
    const gp_updater_ops *ops;
    _Atomic(struct updater_node *) next;
} updater_node;

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
    "residual",      "velocity",      "state",     "history",
    "pull_residual", "pull_velocity", "parameters"};

static pthread_mutex_t register_lock = PTHREAD_MUTEX_INITIALIZER;
static updater_node registered;

const gp_updater_ops *
gp_updater_at(size_t index)
{
    const updater_node *node = &registered;

    if (index < GP_COUNT_OF(builtin))
        return builtin[index];
    index -= GP_COUNT_OF(builtin);
    do {
        node = atomic_load_explicit(&node->next, memory_order_acquire);
    } while (node && index--);
    return node ? node->ops : NULL;
}

static bool
name_valid(const char *name, const char *letters)
{
    size_t length = name ? strlen(name) : 0;

    return length > 0 && length <= NAME_MAX_LENGTH && name[0] >= 'a' &&
           name[0] <= 'z' && strspn(name, letters) == length;
}

#define LETTERS "abcdefghijklmnopqrstuvwxyz0123456789_"

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
        if (!name_valid(p->name, LETTERS))
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
        if (!name_valid(arrays[i], LETTERS))
            return "arrays: a name is not [a-z][a-z0-9_]*, at most 31 long";
        if (is_one_of(arrays[i], taken, GP_COUNT_OF(taken)) ||
            is_one_of(arrays[i], arrays, i) ||
            strncmp(arrays[i], "histor", 6) == 0)
            return "arrays: a name is taken";
    }
    return NULL;
}

static const char *
updater_fault(const gp_updater_ops *ops)
{
    const char *fault;

    if (!name_valid(ops->name, LETTERS "-"))
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

static gp_status
append(const gp_updater_ops *ops)
{
    updater_node *last = &registered, *next, *node;
    const gp_updater_ops *has;

    for (size_t i = 0; (has = gp_updater_at(i)); i++)
        if (strcmp(has->name, ops->name) == 0)
            return gp_fail(GP_ERR_EXISTS,
                           "updater '%s' exists; choose another name",
                           ops->name);
    node = calloc(1, sizeof(*node));
    if (!node)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for updater '%s'",
                       ops->name);
    node->ops = ops;
    while ((next = atomic_load_explicit(&last->next, memory_order_relaxed)))
        last = next;
    atomic_store_explicit(&last->next, node, memory_order_release);
    return GP_OK;
}

gp_status
gp_updater_register(const gp_updater_ops *ops)
{
    const char *fault;
    gp_status status;

    if (!ops)
        return gp_fail(GP_ERR_INVALID,
                       "gp_updater_register: the table is NULL");
    if (ops->abi != GP_UPDATER_ABI)
        return gp_fail(GP_ERR_VERSION,
                       "an updater has interface version %u, this library %u: "
                       "build it with this library's headers",
                       ops->abi, GP_UPDATER_ABI);
    fault = updater_fault(ops);
    if (fault)
        return gp_fail(GP_ERR_INVALID, "updater '%s': %s",
                       ops->name ? ops->name : "?", fault);
    pthread_mutex_lock(&register_lock);
    status = append(ops);
    pthread_mutex_unlock(&register_lock);
    return status;
}
