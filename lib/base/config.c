/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - the configuration object.
 *
 * A field's text is checked when it is stored, so whatever is stored can be
 * read back; NULL stands for the default in the table.
 */
#include "base/config_parse.h"
#include "base/config_table.h"
#include "base/config_value.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const gp_config_field fields[] = {
#define FIELD(name, type, value, choices, minimum, maximum, secret, text) \
    {#name, GP_CONFIG_##type, value, choices, minimum, maximum, secret, text},
    GP_CONFIG_TABLE(FIELD)
#undef FIELD
        {NULL, GP_CONFIG_STRING, NULL, NULL, 0, 0, 0, NULL}};

#define FIELD_COUNT (GP_COUNT_OF(fields) - 1)

static const struct {
    const char *name, *variable;
} aliases[] = {
#define ALIAS(name, variable) {#name, variable},
    GP_CONFIG_ALIASES(ALIAS)
#undef ALIAS
};

struct gp_config {
    char *values[FIELD_COUNT];
    gp_config_source sources[FIELD_COUNT];
};

const gp_config_field *
gp_config_fields(void)
{
    return fields;
}

int
gp_config_index(const char *name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (!strcmp(fields[i].name, name))
            return (int)i;
    return -1;
}

const char *
gp_config_nearest(const char *name)
{
    const char *names[FIELD_COUNT], *found = NULL;

    for (size_t i = 0; i < FIELD_COUNT; i++)
        names[i] = fields[i].name;
    gp_nearest(name, names, FIELD_COUNT, &found);
    return found;
}

const char *
gp_config_alias(const char *name)
{
    for (size_t i = 0; i < GP_COUNT_OF(aliases); i++)
        if (!strcmp(aliases[i].name, name))
            return aliases[i].variable;
    return NULL;
}

static gp_status
fail_value(const gp_config_field *field, const char *label, const char *value)
{
    char takes[160], word[64];

    gp_value_takes(field, takes, sizeof(takes));
    if (field->secret || strlen(value) > GP_CONFIG_VALUE_MAX)
        return gp_fail(GP_ERR_CONFIG, "%s has a bad value: %s", label, takes);
    if (gp_value_nearest(field, value, word, sizeof(word)))
        return gp_fail(GP_ERR_CONFIG, "%s is '%.80s': %s; did you mean '%s'?",
                       label, value, takes, word);
    return gp_fail(GP_ERR_CONFIG, "%s is '%.80s': %s", label, value, takes);
}

gp_status
gp_config_store(gp_config *config, int index, const char *label,
                const char *value, gp_config_source source)
{
    char *copy;

    if (!gp_value_valid(&fields[index], value))
        return fail_value(&fields[index], label, value);
    if (config->sources[index] > source)
        return GP_OK;
    copy = strdup(value);
    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "%s: out of memory", label);
    free(config->values[index]);
    config->values[index] = copy;
    config->sources[index] = source;
    return GP_OK;
}

static gp_status
fill(gp_config *config)
{
    const char *file = getenv("GRADPUSH_CONFIG");
    gp_status status = GP_OK;

    if (file && *file)
        status = gp_config_load(config, file);
    return status == GP_OK ? gp_config_environment(config) : status;
}

gp_status
gp_config_create(gp_config **out)
{
    gp_config *config;
    gp_status status;

    if (!out)
        return gp_fail(GP_ERR_INVALID, "gp_config_create: out is NULL");
    config = calloc(1, sizeof(*config));
    if (!config)
        return gp_fail(GP_ERR_NO_MEMORY, "gp_config_create: out of memory");
    status = fill(config);
    if (status != GP_OK) {
        gp_config_destroy(config);
        return status;
    }
    *out = config;
    return GP_OK;
}

void
gp_config_destroy(gp_config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < FIELD_COUNT; i++)
        free(config->values[i]);
    free(config);
}

gp_status
gp_config_copy(const gp_config *config, gp_config **out)
{
    gp_config *copy = calloc(1, sizeof(*copy));

    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "gp_config_copy: out of memory");
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        copy->sources[i] = config->sources[i];
        if (!config->values[i])
            continue;
        copy->values[i] = strdup(config->values[i]);
        if (!copy->values[i]) {
            gp_config_destroy(copy);
            return gp_fail(GP_ERR_NO_MEMORY, "gp_config_copy: out of memory");
        }
    }
    *out = copy;
    return GP_OK;
}

gp_status
gp_config_set(gp_config *config, const char *name, const char *value)
{
    const char *near;
    int index;

    if (!config || !name || !value)
        return gp_fail(GP_ERR_INVALID, "gp_config_set: an argument is NULL");
    index = gp_config_index(name);
    if (index < 0) {
        near = gp_config_nearest(name);
        if (near)
            return gp_fail(GP_ERR_NOT_FOUND,
                           "no field '%.80s'; did you mean '%s'?", name, near);
        return gp_fail(GP_ERR_NOT_FOUND, "no field '%.80s'", name);
    }
    if (!strcmp(name, "config"))
        return gp_fail(GP_ERR_CONFIG,
                       "config is read when a configuration is created: set "
                       "GRADPUSH_CONFIG before");
    return gp_config_store(config, index, name, value, GP_SOURCE_SET);
}

static const char *
text_at(const gp_config *config, int index)
{
    return config->values[index] ? config->values[index] : fields[index].value;
}

const char *
gp_config_get(const gp_config *config, const char *name)
{
    int index = gp_config_index(name);

    return config && index >= 0 ? text_at(config, index) : NULL;
}

const char *
gp_config_origin(const gp_config *config, const char *name)
{
    static const char *const words[] = {"default", "file", NULL, "environment",
                                        "set"};
    int index = gp_config_index(name);

    if (!config)
        return NULL;
    if (index >= 0 && config->sources[index] == GP_SOURCE_ALIAS)
        return gp_config_alias(name);
    return index < 0 ? NULL : words[config->sources[index]];
}

gp_config_source
gp_config_source_of(const gp_config *config, int index)
{
    return config->sources[index];
}

/* The field's index if it is there and of that type, else -1. */
static int
typed_index(const char *name, gp_config_type type)
{
    int index = gp_config_index(name);

    assert(index >= 0 && fields[index].type == type);
    return index >= 0 && fields[index].type == type ? index : -1;
}

int64_t
gp_config_int(const gp_config *config, const char *name)
{
    int index = typed_index(name, GP_CONFIG_INT);
    int64_t value = 0;

    if (config && index >= 0)
        gp_value_int(&fields[index], text_at(config, index), &value);
    return value;
}

uint64_t
gp_config_size(const gp_config *config, const char *name)
{
    int index = typed_index(name, GP_CONFIG_SIZE);
    uint64_t value = 0;

    if (config && index >= 0)
        gp_value_size(&fields[index], text_at(config, index), &value);
    return value;
}

double
gp_config_seconds(const gp_config *config, const char *name)
{
    int index = typed_index(name, GP_CONFIG_SECONDS);
    double value = 0;

    if (config && index >= 0)
        gp_value_seconds(&fields[index], text_at(config, index), &value);
    return value;
}

int
gp_config_bool(const gp_config *config, const char *name)
{
    int index = typed_index(name, GP_CONFIG_BOOL);
    int value = 0;

    if (config && index >= 0)
        gp_value_bool(text_at(config, index), &value);
    return value;
}
