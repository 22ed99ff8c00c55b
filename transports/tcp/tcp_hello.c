/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_hello.c - the 32 bytes that open every socket, before any message.
 *
 *     0  magic "GPTC"            4  version of the protocol, 16 bit
 *     6  kind                    7  refusal
 *     8  group, 64 bit          16  index, 16 bit     18  count, 16 bit
 *    20  zero, 8 bytes          28  CRC32C of bytes 0 to 27
 *
 * All little endian. The first eight bytes and the checksum stay where they
 * are in every future version, so that versions can tell each other apart.
 */
#include <string.h>

#include "base/bytes.h"
#include "transports/tcp/tcp_int.h"

static const uint8_t magic[4] = {'G', 'P', 'T', 'C'};

void
gp_tcp_hello_encode(const gp_tcp_hello *hello, void *out)
{
    uint8_t *p = out;

    memset(p, 0, GP_TCP_PREAMBLE);
    memcpy(p, magic, sizeof(magic));
    gp_put16(p + 4, hello->version);
    p[6] = hello->kind;
    p[7] = hello->refusal;
    gp_put64(p + 8, hello->group);
    gp_put16(p + 16, hello->index);
    gp_put16(p + 18, hello->count);
    gp_put32(p + 28, gp_crc32c(0, p, 28));
}

gp_status
gp_tcp_hello_decode(const void *bytes, gp_tcp_hello *out)
{
    const uint8_t *p = bytes;
    gp_tcp_hello hello = {.version = gp_get16(p + 4),
                          .kind = p[6],
                          .refusal = p[7],
                          .group = gp_get64(p + 8),
                          .index = gp_get16(p + 16),
                          .count = gp_get16(p + 18)};

    if (memcmp(p, magic, sizeof(magic)))
        return GP_ERR_PROTOCOL;
    if (gp_get32(p + 28) != gp_crc32c(0, p, 28))
        return GP_ERR_CHECKSUM;
    if (hello.version != GP_PROTOCOL_VERSION) {
        *out = hello;
        return GP_ERR_VERSION;
    }
    if (hello.count < 1 || hello.count > GP_TCP_SOCKETS_MAX ||
        hello.index >= hello.count || gp_get64(p + 20))
        return GP_ERR_PROTOCOL;
    *out = hello;
    return GP_OK;
}
