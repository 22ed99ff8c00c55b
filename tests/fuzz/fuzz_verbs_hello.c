/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_verbs_hello.c - private data from anyone. */
#include <stdlib.h>
#include <string.h>

#include "transports/verbs/verbs_int.h"

static void
check(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[GP_VB_HELLO_BYTES];
    gp_vb_hello hello = {0};
    uint16_t version = 0;
    gp_status status = gp_vb_hello_decode(data, size, "", &hello);

    (void)gp_vb_reject_decode(data, size, &version);
    if (status != GP_OK)
        return 0;
    check(hello.lane < hello.lanes && hello.lanes <= GP_VB_LANES_MAX);
    gp_vb_hello_encode(&hello, "", again);
    check(!memcmp(again, data, sizeof(again)));
    return 0;
}
