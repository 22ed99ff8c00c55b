/* SPDX-License-Identifier: Apache-2.0 */
/* test_transport_loop.c - the suite over loop, without and with checksums. */
#include <stddef.h>

#include "tests/conformance/transport_suite.h"

int
main(void)
{
    static const char *const plain[] = {NULL};
    static const char *const checked[] = {"checksum", "on", NULL};
    const gp_transport_ops *loop = gp_transport_find("loop");

    return transport_suite("loop", loop, plain, "") +
           transport_suite("loop, checksum on", loop, checked, "");
}
