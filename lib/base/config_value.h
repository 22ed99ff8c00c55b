/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_value.h - how the text of a field is read, and what it takes, in
 * words. Nothing here depends on the locale.
 */
#ifndef GP_CONFIG_VALUE_H
#define GP_CONFIG_VALUE_H

#include "base/base.h"

#define GP_CONFIG_VALUE_MAX 4095u /* bytes of a field's text */

/* False for text that is not of the form or out of the field's range. */
bool gp_value_int(const gp_config_field *field, const char *text, int64_t *out);
bool gp_value_size(const gp_config_field *field, const char *text,
                   uint64_t *out);
bool gp_value_seconds(const gp_config_field *field, const char *text,
                      double *out);
bool gp_value_bool(const char *text, int *out);

/* Any type. */
bool gp_value_valid(const gp_config_field *field, const char *text);

/* "takes a size from 16K to 64M, such as 256K". */
void gp_value_takes(const gp_config_field *field, char *out, size_t capacity);

/* The word of an enum's choices that is nearest to `text`, if one is near. */
bool gp_value_nearest(const gp_config_field *field, const char *text, char *out,
                      size_t capacity);

#endif
