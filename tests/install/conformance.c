/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conformance.c - a program outside the tree that proves a codec of its own,
 * the one of examples/03_custom_codec.c, with the installed suite.
 */
#define main example_main
#include "examples/03_custom_codec.c"
#undef main

#include <gradpush/conformance.h>

static void
print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

int
main(void)
{
    static const char *const texts[] = {"sign1", "sign1:block=100"};
    int failures = 0;

    if (gp_codec_register(&sign1_ops) != GP_OK)
        return fail("register");
    for (int i = 0; i < 2; i++)
        failures += gp_conformance_codec(texts[i], NULL, print_line, NULL);
    if (failures || gp_conformance_codec("sign2", NULL, NULL, NULL) == 0)
        return EXIT_FAILURE;
    printf("gradpush %s\n", gp_version());
    return EXIT_SUCCESS;
}
