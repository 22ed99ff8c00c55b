/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_msg.c - headers from anyone.
 *
 * Random bytes never have the right checksum, so each input is tried twice: as
 * it is, and with magic, version and checksum made good. What decodes must
 * encode to the same bytes.
 */
#include "base/base.h"
#include "base/bytes.h"

#include <gradpush/transport.h>

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gp_status
decode_and_compare(const uint8_t *bytes)
{
    uint8_t again[GP_MSG_BYTES];
    gp_msg msg;
    gp_status status = gp_msg_decode(bytes, &msg);

    if (status != GP_OK)
        return status;
    gp_msg_encode(&msg, again);
    if (memcmp(again, bytes, sizeof(again)) != 0)
        __builtin_trap();
    return status;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[GP_MSG_BYTES] = {0};
    gp_status status;

    if (size)
        memcpy(bytes, data, GP_MIN(size, sizeof(bytes)));
    (void)decode_and_compare(bytes);
    memcpy(bytes, "GPM1\x01", 5);
    gp_put32(bytes + 108, gp_crc32c(0, bytes, 108));
    status = decode_and_compare(bytes);
    if (status != (bytes[45] ? GP_ERR_PROTOCOL : GP_OK))
        __builtin_trap();
    return 0;
}
