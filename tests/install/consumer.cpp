// SPDX-License-Identifier: Apache-2.0
// consumer.cpp - a C++ program outside the tree.
#include <cstdio>
#include <cstring>
#include <vector>

#include <gradpush/gradpush.h>

int
main()
{
    gp_pipeline *pipeline = nullptr;

    if (gp_pipeline_parse("fp16", &pipeline) != GP_OK) {
        std::fprintf(stderr, "%s\n", gp_last_error());
        return 1;
    }
    std::vector<char> bytes(gp_pipeline_bound(pipeline, 100));
    gp_pipeline_destroy(pipeline);
    if (bytes.size() < 200 || std::strcmp(gp_version(), GP_VERSION) != 0)
        return 1;
    std::printf("gradpush %s\n", gp_version());
    return 0;
}
