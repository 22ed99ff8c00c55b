/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_policy.c - any text of rules gives a pipeline's text, nothing, or a
 * message; whatever the tensor, the same rules are at fault.
 *
 * Input: count (u8, a power of two), columns (u8), then the rules.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/policy.h"

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
    char out[4097], other[4097], *rules;
    gp_status a, b;

    if (size < 2 || size > 4096)
        return 0;
    rules = malloc(size - 1);
    require(rules != NULL);
    memcpy(rules, data + 2, size - 2);
    rules[size - 2] = '\0';
    memset(out, 'x', sizeof(out));
    a = gp_policy_rule(rules, "fc1.weight", 1ull << data[0] % 64, data[1], out,
                       sizeof(out));
    require(a == GP_OK || a == GP_ERR_CONFIG);
    if (a == GP_OK)
        require(memchr(out, '\0', sizeof(out)) != NULL);
    else
        require(gp_last_error()[0] != '\0');
    b = gp_policy_rule(rules, "bias", 7, 0, other, sizeof(other));
    require(a == b);
    free(rules);
    return 0;
}
