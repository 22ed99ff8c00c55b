/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_text.h - small JSON documents into memory of a fixed size.
 *
 * Nothing is allocated. What does not fit is not written, and the document is
 * known to be cut; so it is never half a value that looks whole.
 */
#ifndef GP_JSON_TEXT_H
#define GP_JSON_TEXT_H

#include "base/base.h"

typedef struct gp_json_text {
    char *out;
    size_t capacity, length;
    bool cut;
    bool comma; /* the next value follows another one */
} gp_json_text;

void gp_json_begin(gp_json_text *j, char *out, size_t capacity);

/* With '{' or '[', and '}' or ']'. `key` is NULL within an array and at the
 * top. */
void gp_json_open(gp_json_text *j, const char *key, char kind);
void gp_json_shut(gp_json_text *j, char kind);

/* Text of any bytes: what is not printable ASCII is written as '?'. */
void gp_json_put_text(gp_json_text *j, const char *key, const char *value);
void gp_json_put_int(gp_json_text *j, const char *key, int64_t value);
void gp_json_put_count(gp_json_text *j, const char *key, uint64_t value);
void gp_json_put_bool(gp_json_text *j, const char *key, bool value);
/* Six digits; what is not finite becomes null. */
void gp_json_put_real(gp_json_text *j, const char *key, double value);

/* Length of the document, or 0 when it was cut. */
size_t gp_json_end(const gp_json_text *j);

#endif
