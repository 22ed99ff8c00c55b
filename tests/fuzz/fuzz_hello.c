/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_hello.c - the small control payloads, which strangers send.
 *
 * Input: kind (u8), then the payload. What decodes must encode to the same
 * bytes, but for the unprintable ones of a hello's identity.
 */
#include "wire/proto.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void
try_hello(const uint8_t *data, size_t size)
{
    uint8_t again[GP_HELLO_BYTES_MAX];
    gp_hello h, twice;

    if (gp_hello_decode(data, size, &h) != GP_OK)
        return;
    require(gp_hello_encode(&h, again) == size);
    require(memcmp(again, data, size - strlen(h.identity)) == 0);
    require(gp_hello_decode(again, size, &twice) == GP_OK);
    require(strcmp(h.identity, twice.identity) == 0);
}

static void
try_fixed(const uint8_t *data, size_t size)
{
    uint8_t again[GP_PROOF_BYTES];
    gp_challenge c;
    gp_welcome w;
    gp_grant g;

    if (gp_challenge_decode(data, size, &c) == GP_OK)
        require(gp_challenge_encode(&c, again) == size &&
                memcmp(again, data, size) == 0);
    if (gp_welcome_decode(data, size, &w) == GP_OK)
        require(gp_welcome_encode(&w, again) == size &&
                memcmp(again, data, size) == 0);
    if (gp_grant_decode(data, size, &g) == GP_OK)
        require(g.slots <= GP_SLOTS_MAX && gp_grant_encode(&g, again) == size &&
                memcmp(again, data, size) == 0);
}

static void
try_text(const uint8_t *data, size_t size)
{
    char text[GP_TEXT_MAX];

    gp_text_decode(data, size, text);
    require(strlen(text) == GP_MIN(size, GP_TEXT_MAX - 1));
    for (const char *p = text; *p; p++)
        require(*p >= ' ' && *p <= '~');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 3 == 0)
        try_hello(data + 1, size - 1);
    else if (data[0] % 3 == 1)
        try_fixed(data + 1, size - 1);
    else
        try_text(data + 1, size - 1);
    return 0;
}
