/* SPDX-License-Identifier: Apache-2.0 */
/*
 * consumer.c - a program outside the tree: knows the installed headers and
 * library alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/gradpush.h>

static int
fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, gp_last_error());
    return 1;
}

/* The numbers are exact in half precision, so they come back as they were. */
static int
round_trip(const gp_pipeline *pipeline)
{
    const float source[4] = {1.0f, -2.5f, 0.0f, 1024.0f};
    float target[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    gp_codec_context context;
    size_t capacity = gp_pipeline_bound(pipeline, 4);
    size_t length = 0;
    void *bytes = malloc(capacity);
    void *workspace =
        aligned_alloc(64, (gp_pipeline_workspace(pipeline, 4) + 64) & ~63ul);
    int result = 1;

    memset(&context, 0, sizeof(context));
    if (bytes && workspace &&
        gp_pipeline_encode(pipeline, &context, NULL, source, 4, bytes, capacity,
                           &length, workspace) == GP_OK &&
        gp_pipeline_decode(pipeline, &context, bytes, length, target, 4,
                           workspace) == GP_OK &&
        memcmp(source, target, sizeof(source)) == 0)
        result = 0;
    free(workspace);
    free(bytes);
    return result;
}

int
main(void)
{
    gp_config *config = NULL;
    gp_pipeline *pipeline = NULL;

    if (strcmp(gp_version(), GP_VERSION) != 0)
        return fail("the library is not of the headers' version");
    if (strcmp(gp_status_text(GP_OK), "success") != 0)
        return fail("gp_status_text");
    if (gp_config_create(&config) != GP_OK)
        return fail("gp_config_create");
    gp_config_destroy(config);
    if (gp_pipeline_parse("no-such-codec", &pipeline) != GP_ERR_CONFIG)
        return fail("an unknown codec is accepted");
    if (gp_pipeline_parse("fp16", &pipeline) != GP_OK)
        return fail("gp_pipeline_parse");
    if (round_trip(pipeline) != 0)
        return fail("round trip");
    gp_pipeline_destroy(pipeline);
    printf("gradpush %s\n", gp_version());
    return 0;
}
