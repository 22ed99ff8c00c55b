/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_nodelist.c - Slurm's lists from any bytes.
 *
 * What is accepted must be a host name that fits and that reads back as itself.
 */
#include <stdlib.h>
#include <string.h>

#include "rendezvous/nodelist.h"
#include "rendezvous/rendezvous.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char host[256], again[256];
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    if (gp_nodelist_first(text, host, sizeof(host)) == GP_OK &&
        (gp_nodelist_first(host, again, sizeof(again)) != GP_OK ||
         strcmp(host, again) != 0))
        __builtin_trap();
    if (gp_nodelist_tasks(text, (int64_t)(size % 7)) < -1)
        __builtin_trap();
    free(text);
    return 0;
}
