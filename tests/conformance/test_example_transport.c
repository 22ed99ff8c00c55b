/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_example_transport.c - the transport suite over the transport of an
 * example, registered as a program outside the library does it.
 */
int example_main(void); /* runs in tests/integration */
#define main example_main
#include "examples/04_custom_transport.c"
#undef main

#include "tests/conformance/transport_suite.h"

int
main(void)
{
    static const char *const settings[] = {NULL};

    if (register_counted() != GP_OK ||
        gp_transport_find("counted")->post != counted_post)
        return fail("register");
    return transport_suite("counted", gp_transport_find("counted"), settings,
                           "127.0.0.1:0") != 0;
}
