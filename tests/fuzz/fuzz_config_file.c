/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config_file.c - configuration files of any bytes.
 *
 * Whatever is accepted must be a valid value of its field.
 */
#include "base/base.h"
#include "base/config_parse.h"
#include "base/config_value.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_config *config;
    gp_status status;

    if (gp_config_create(&config) != GP_OK)
        return 0;
    status = gp_config_parse(config, "fuzz.conf", (const char *)data, size);
    if (status != GP_OK && !strstr(gp_last_error(), "fuzz.conf:"))
        __builtin_trap();
    for (const gp_config_field *f = gp_config_fields(); f->name; f++)
        if (!gp_value_valid(f, gp_config_get(config, f->name)))
            __builtin_trap();
    gp_config_destroy(config);
    return 0;
}
