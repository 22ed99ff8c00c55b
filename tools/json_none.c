/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_none.c - what stands in for json_jansson.c in a build without libjansson
 * (Debian: libjansson-dev): --json is refused before anything runs.
 */
#include "base/base.h"
#include "json.h"
#include "tool.h"

bool
gp_json_available(void)
{
    gp_say("this build cannot write JSON: install libjansson-dev and build "
           "again");
    return false;
}

gp_json *
gp_json_create(const char *schema)
{
    (void)schema;
    return NULL;
}

void
gp_json_destroy(gp_json *document)
{
    (void)document;
}

gp_json *
gp_json_object(gp_json *parent, const char *key)
{
    (void)key;
    return parent;
}

gp_json *
gp_json_array(gp_json *parent, const char *key)
{
    (void)key;
    return parent;
}

void
gp_json_text(gp_json *parent, const char *key, const char *value)
{
    (void)parent;
    (void)key;
    (void)value;
}

void
gp_json_int(gp_json *parent, const char *key, int64_t value)
{
    (void)parent;
    (void)key;
    (void)value;
}

void
gp_json_bool(gp_json *parent, const char *key, bool value)
{
    (void)parent;
    (void)key;
    (void)value;
}

void
gp_json_real(gp_json *parent, const char *key, double value)
{
    (void)parent;
    (void)key;
    (void)value;
}

gp_status
gp_json_write(const gp_json *document, const char *path)
{
    (void)document;
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "'%s' not written: this build has no JSON", path);
}
