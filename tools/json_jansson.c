/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_jansson.c - documents through libjansson.
 *
 * gp_json is json_t by another name. A failed insertion is remembered for the
 * whole process: a tool writes one document and must not write half of it.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "json.h"

static bool failed;

bool
gp_json_available(void)
{
    return true;
}

static json_t *
as_json(gp_json *value)
{
    return (json_t *)(void *)value;
}

/* Takes over `value`; returns it as long as the parent keeps it alive. */
static gp_json *
add(gp_json *parent, const char *key, json_t *value)
{
    int rc = -1;

    if (!parent) {
        json_decref(value);
        return NULL;
    }
    if (json_is_array(as_json(parent)))
        rc = json_array_append_new(as_json(parent), value);
    else if (key)
        rc = json_object_set_new(as_json(parent), key, value);
    else
        json_decref(value);
    if (rc != 0) {
        failed = true;
        return NULL;
    }
    return (gp_json *)(void *)value;
}

gp_json *
gp_json_create(const char *schema)
{
    gp_json *document = (gp_json *)(void *)json_object();

    gp_json_text(document, "schema", schema);
    return document;
}

void
gp_json_destroy(gp_json *document)
{
    json_decref(as_json(document));
}

gp_json *
gp_json_object(gp_json *parent, const char *key)
{
    return add(parent, key, json_object());
}

gp_json *
gp_json_array(gp_json *parent, const char *key)
{
    return add(parent, key, json_array());
}

/* Text from outside (a CPU's name, a variable) may not be UTF-8. */
void
gp_json_text(gp_json *parent, const char *key, const char *value)
{
    json_t *text = json_string(value);

    add(parent, key, text ? text : json_string("(not UTF-8)"));
}

void
gp_json_int(gp_json *parent, const char *key, int64_t value)
{
    add(parent, key, json_integer(value));
}

void
gp_json_bool(gp_json *parent, const char *key, bool value)
{
    add(parent, key, json_boolean(value));
}

void
gp_json_real(gp_json *parent, const char *key, double value)
{
    add(parent, key, isfinite(value) ? json_real(value) : json_null());
}

gp_status
gp_json_write(const gp_json *document, const char *path)
{
    bool standard = !strcmp(path, "-");
    FILE *file = standard ? stdout : fopen(path, "w");
    const json_t *json = (const json_t *)(const void *)document;
    int error = 0;

    if (!file)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot write '%s'", path);
    if (!document || failed) {
        if (!standard)
            fclose(file);
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the JSON document");
    }
    if (json_dumpf(json, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0 ||
        fputc('\n', file) == EOF || fflush(file) != 0)
        error = errno ? errno : EIO;
    if (!standard && fclose(file) != 0 && !error)
        error = errno;
    if (error)
        return gp_fail_errno(GP_ERR_SYSTEM, error, "cannot write '%s'", path);
    return GP_OK;
}
