/* SPDX-License-Identifier: Apache-2.0 */
/* config_parse.h - the parts of the configuration that its own files share. */
#ifndef GP_CONFIG_PARSE_H
#define GP_CONFIG_PARSE_H

#include "base/base.h"

/* Later ones win over earlier ones. */
typedef enum gp_config_source {
    GP_SOURCE_DEFAULT,
    GP_SOURCE_FILE,
    GP_SOURCE_ALIAS, /* a variable of another library */
    GP_SOURCE_ENVIRONMENT,
    GP_SOURCE_SET
} gp_config_source;

/* Index into gp_config_fields(), or -1. */
int gp_config_index(const char *name);

/* The known field nearest to `name`, or NULL. */
const char *gp_config_nearest(const char *name);

/* Where the field at `index` came from. */
gp_config_source gp_config_source_of(const gp_config *config, int index);

/* Checks and stores a copy of `value`, unless a later source has set the field.
 * `label` names the field in messages: "GRADPUSH_RANK", "a.conf:3: rank". */
gp_status gp_config_store(gp_config *config, int index, const char *label,
                          const char *value, gp_config_source source);

/* Lines of `name = value`. `file` is for messages only. */
gp_status gp_config_parse(gp_config *config, const char *file, const char *text,
                          size_t length);

/* The same from a file. */
gp_status gp_config_load(gp_config *config, const char *path);

/* All GRADPUSH_ variables, then the aliases of fields that these left alone;
 * warns about unknown ones. */
gp_status gp_config_environment(gp_config *config);

#endif
