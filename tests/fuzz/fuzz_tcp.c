/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_tcp.c - what a peer may send over tcp: the preamble and the stream.
 *
 * The first byte chooses. Bit 0: the rest is the stream as it is, or records
 * of a message whose header is put together from the input (so that checksums
 * do not stop every try at the door). The others: how the stream is cut.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/tcp/tcp_int.h"

#define REGION_BYTES 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct sink {
    gp_tcp_rx rx;
    gp_regions regions;
    gp_mem mem;
    uint32_t live, stale;
    size_t piece;
    uint64_t sum; /* of all delivered payloads: reads every byte */
} sink;

static bool
sink_open(sink *s, uint8_t *memory, uint8_t cut)
{
    memset(s, 0, sizeof(*s));
    s->mem = (gp_mem){memory, REGION_BYTES};
    s->rx.regions = &s->regions;
    s->rx.control_limit = cut & 2 ? GP_CONTROL_MAX_UNTRUSTED : 1u << 16;
    s->rx.check = !(cut & 4);
    s->piece = (size_t)1 << (cut >> 4);
    if (gp_regions_expose(&s->regions, &s->mem, 0, REGION_BYTES, 0,
                          &s->stale) != GP_OK ||
        gp_regions_expose(&s->regions, &s->mem, 16, REGION_BYTES - 32, 0,
                          &s->live) != GP_OK)
        return false;
    gp_regions_withdraw(&s->regions, s->stale);
    return true;
}

static void
sink_close(sink *s)
{
    gp_tcp_rx_free(&s->rx);
    gp_regions_free(&s->regions);
}

static size_t
put(gp_tcp_rx *rx, const uint8_t *bytes, size_t length)
{
    struct iovec iov[2];
    int pieces = gp_tcp_rx_space(rx, iov);
    size_t done = 0;

    for (int i = 0; i < pieces && done < length; i++) {
        size_t n = GP_MIN(iov[i].iov_len, length - done);

        memcpy(iov[i].iov_base, bytes + done, n);
        done += n;
    }
    gp_tcp_rx_fill(rx, done);
    return done;
}

/* False once the peer would have been cut off. */
static bool
feed(sink *s, const uint8_t *bytes, size_t length)
{
    while (length) {
        gp_event event;
        size_t n;
        int result;

        gp_tcp_rx_renew(&s->rx);
        n = put(&s->rx, bytes, GP_MIN(length, s->piece));
        if (!n)
            abort(); /* a parser that takes nothing would hang */
        bytes += n;
        length -= n;
        while ((result = gp_tcp_rx_next(&s->rx, &event)) == 1) {
            for (size_t i = 0; i < event.msg.payload; i++)
                s->sum += ((const uint8_t *)event.payload)[i];
            if (s->rx.large_held)
                gp_tcp_rx_renew(&s->rx);
        }
        if (result < 0)
            return false;
    }
    return true;
}

static void
feed_records(sink *s, const uint8_t *data, size_t size)
{
    gp_reader r = {data, size, true};

    while (r.ok && r.left >= 8) {
        gp_msg msg = {.type = 1};
        uint8_t header[GP_MSG_BYTES];
        uint8_t kind = gp_read8(&r), shift = gp_read8(&r);
        const uint8_t *payload;
        size_t length;

        msg.region = kind & 1 ? s->live : kind & 2 ? s->stale : kind >> 4;
        msg.offset = (uint64_t)gp_read16(&r) << (shift & 63);
        msg.payload = gp_read16(&r);
        if (kind & 4)
            msg.payload <<= shift & 63;
        length = gp_read16(&r);
        length = GP_MIN(length, r.left);
        payload = gp_read(&r, length);
        if (kind & 8 && payload) {
            msg.flags = GP_MSG_PAYLOAD_CRC;
            msg.payload_crc = gp_crc32c(0, payload, length);
        }
        gp_msg_encode(&msg, header);
        if (!feed(s, header, sizeof(header)) ||
            (payload && !feed(s, payload, length)))
            return;
        if (kind & 0x80)
            gp_tcp_rx_revoke(&s->rx, s->live);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t memory[REGION_BYTES];
    gp_tcp_hello hello;
    sink s;

    if (!size)
        return 0;
    memset(memory, 0x5A, sizeof(memory));
    if (size >= GP_TCP_PREAMBLE)
        (void)!gp_tcp_hello_decode(data, &hello);
    if (!sink_open(&s, memory, data[0]))
        abort();
    if (data[0] & 1)
        (void)feed(&s, data + 1, size - 1);
    else
        feed_records(&s, data + 1, size - 1);
    /* Nothing outside the exposed range was written. */
    for (size_t i = 0; i < 16; i++)
        if (memory[i] != 0x5A || memory[REGION_BYTES - 1 - i] != 0x5A)
            abort();
    sink_close(&s);
    return 0;
}
