/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - the codecs that a pipeline text can name.
 *
 * Built-in codecs are a constant array, registered ones a list behind it.
 */
#include <string.h>

#include "base/base.h"
#include "base/registry.h"
#include "compress/codec_internal.h"
#include "compress/families.h"

static const gp_codec_ops *const *const families[] = {
    gp_codecs_quant, gp_codecs_stochastic, gp_codecs_sparse,
    gp_codecs_sums,  gp_codecs_bytes,      gp_codecs_memory,
};

static const char *codec_fault(const void *table);
static bool is_taken(const char *name);

static gp_registry registered = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .what = "codec",
    .one = "a codec",
    .call = "gp_codec_register",
    .abi = GP_CODEC_ABI,
    .fault = codec_fault,
    .taken = is_taken,
};

const char *
gp_codec_absent(const char *name)
{
#ifndef GP_HAVE_LZ4
    if (strcmp(name, "lz4") == 0)
        return "this build has no lz4: install liblz4's headers and configure "
               "again";
#endif
#ifndef GP_HAVE_ZSTD
    if (strcmp(name, "zstd") == 0)
        return "this build has no zstd: install libzstd's headers and "
               "configure again";
#endif
    (void)name;
    return NULL;
}

const gp_codec_ops *
gp_codec_at(size_t index)
{
    for (size_t f = 0; f < GP_COUNT_OF(families); f++)
        for (size_t i = 0; families[f][i]; i++)
            if (index-- == 0)
                return families[f][i];
    return gp_registry_at(&registered, index);
}

const gp_codec_ops *
gp_codec_find(const char *name)
{
    const gp_codec_ops *ops;

    for (size_t i = 0; name && (ops = gp_codec_at(i)); i++)
        if (strcmp(ops->name, name) == 0)
            return ops;
    return NULL;
}

static bool
name_valid(const char *name)
{
    return gp_registry_name_valid(name, GP_REGISTRY_LETTERS "-");
}

/* Whether the default is the index of one of the words. */
static bool
word_valid(const gp_codec_param *p)
{
    size_t count = 0;

    while (p->words[count])
        count++;
    return p->value >= 0 && p->value < (double)count &&
           p->value == (double)(size_t)p->value;
}

/* A text that says what is wrong, or NULL. */
static const char *
params_fault(const gp_codec_param *params)
{
    for (size_t i = 0; params && params[i].name; i++) {
        const gp_codec_param *p = &params[i];

        if (i == GP_CODEC_PARAMS)
            return "params: more than 16";
        if (!name_valid(p->name))
            return "params: a name is not [a-z][a-z0-9_-]*, at most 31 long";
        if (p->words ? !word_valid(p)
                     : !(p->minimum <= p->value && p->value <= p->maximum))
            return "params: a default lies outside its range";
        for (size_t j = 0; j < i; j++)
            if (strcmp(params[j].name, p->name) == 0)
                return "params: a name occurs twice";
    }
    return NULL;
}

static const char *
array_fault(const gp_codec_ops *ops)
{
    if (ops->nonfinite != GP_NONFINITE_EXACT &&
        ops->nonfinite != GP_NONFINITE_PROPAGATE)
        return "nonfinite is not set";
    return !ops->encode   ? "encode is missing"
           : !ops->decode ? "decode is missing"
                          : NULL;
}

static const char *
index_fault(const gp_codec_ops *ops)
{
    return !ops->index_bound      ? "index_bound is missing"
           : !ops->pack_indices   ? "pack_indices is missing"
           : !ops->unpack_indices ? "unpack_indices is missing"
                                  : NULL;
}

static const char *
calls_fault(const gp_codec_ops *ops)
{
    if (!ops->prepare != !ops->prepare_bytes)
        return "prepare and prepare_bytes go together";
    if (ops->state_count && !ops->prepare)
        return "state_count without prepare, which alone may change the state";
    if (ops->kind == GP_CODEC_INDEX)
        return index_fault(ops);
    if (ops->kind == GP_CODEC_TRANSFORM)
        return !ops->forward   ? "forward is missing"
               : !ops->inverse ? "inverse is missing"
                               : NULL;
    if (!ops->bound)
        return "bound is missing";
    if (ops->kind == GP_CODEC_BYTES)
        return !ops->pack     ? "pack is missing"
               : !ops->unpack ? "unpack is missing"
                              : NULL;
    if (ops->kind == GP_CODEC_SELECT)
        return ops->select ? NULL : "select is missing";
    if (ops->kind == GP_CODEC_ARRAY)
        return array_fault(ops);
    return "kind is none that can be registered";
}

static const char *
codec_fault(const void *table)
{
    const gp_codec_ops *ops = table;
    const char *fault;

    if (!name_valid(ops->name))
        return "name is not [a-z][a-z0-9_-]*, at most 31 long";
    if (!ops->text)
        return "text is missing";
    if (ops->close && !ops->open)
        return "close without open";
    fault = calls_fault(ops);
    return fault ? fault : params_fault(ops->params);
}

/* A text cannot name what stands for another. */
static bool
is_alias(const char *name)
{
    const char *alias, *text, *what;

    for (size_t i = 0; (alias = gp_codec_alias_at(i, &text, &what)); i++)
        if (strcmp(alias, name) == 0)
            return true;
    return false;
}

static bool
is_taken(const char *name)
{
    return gp_codec_find(name) || gp_codec_absent(name) || is_alias(name);
}

gp_status
gp_codec_register(const gp_codec_ops *ops)
{
    return gp_registry_add(&registered, ops, ops ? ops->abi : 0,
                           ops ? ops->name : NULL);
}
