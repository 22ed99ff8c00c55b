/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_pipeline_text.c - any text gives a pipeline or a message; a pipeline's
 * canonical text gives the same pipeline again.
 */
#include <stdlib.h>
#include <string.h>

#include <gradpush/codec.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
    if (!condition)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    gp_pipeline *pipeline, *again;

    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    if (gp_pipeline_parse(text, &pipeline) == GP_OK) {
        const char *name = gp_pipeline_name(pipeline);

        require(gp_pipeline_parse(name, &again) == GP_OK);
        require(strcmp(name, gp_pipeline_name(again)) == 0);
        require(gp_pipeline_id(pipeline) == gp_pipeline_id(again));
        gp_pipeline_destroy(again);
        gp_pipeline_destroy(pipeline);
    } else {
        require(gp_last_error()[0] != '\0');
    }
    free(text);
    return 0;
}
