/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - documents that tools write.
 *
 * A thin layer over a JSON library, so that a build without one differs in a
 * single file. Keys are borrowed for the call. A value that cannot be stored
 * (out of memory) spoils the document, and gp_json_write() reports it.
 */
#ifndef GP_JSON_H
#define GP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <gradpush/status.h>

typedef struct gp_json gp_json;

/* Whether documents can be written; otherwise says so as an error. */
bool gp_json_available(void);

/* A new document, an object; NULL when out of memory or not available. All
 * functions below accept NULL and do nothing. */
gp_json *gp_json_create(const char *schema);
void gp_json_destroy(gp_json *document);

/* A new object or array inside `parent`, which owns it. `key` is NULL when the
 * parent is an array. */
gp_json *gp_json_object(gp_json *parent, const char *key);
gp_json *gp_json_array(gp_json *parent, const char *key);

void gp_json_text(gp_json *parent, const char *key, const char *value);
void gp_json_int(gp_json *parent, const char *key, int64_t value);
void gp_json_bool(gp_json *parent, const char *key, bool value);
/* A value that is not finite becomes null. */
void gp_json_real(gp_json *parent, const char *key, double value);

/* Writes the document to a file, "-" for standard output. */
gp_status gp_json_write(const gp_json *document, const char *path);

/* Adds the object "environment": machine, versions, settings, no secrets. */
void gp_json_environment(gp_json *document);

#endif
