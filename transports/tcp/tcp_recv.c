/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_recv.c - from bytes to messages.
 *
 * The parser is a state machine without a descriptor: rx_space() says where
 * the next bytes belong, rx_fill() says how many came, rx_next() takes out
 * messages. While a payload has a destination, the first piece of space is
 * that destination and the stage behind it is empty, so bytes are never
 * copied twice but for the few that were read ahead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transports/tcp/tcp_int.h"

/* Internal result of a state: go on with the next one. */
#define CONTINUE 2

/* Below this, payloads are worth reading ahead into the stage. */
#define LARGE_PAYLOAD (64u << 10)

static int
broken(gp_tcp_rx *rx, gp_status status, const char *why)
{
    rx->why = why;
    return status;
}

static bool
wants_crc(const gp_tcp_rx *rx)
{
    return rx->check && rx->to && (rx->msg.flags & GP_MSG_PAYLOAD_CRC);
}

static void
payload_to(gp_tcp_rx *rx, uint8_t *to)
{
    rx->state = GP_TCP_RX_PAYLOAD;
    rx->begin = rx->to = to;
    rx->left = rx->msg.payload;
    rx->crc = 0;
}

static int
begin_control(gp_tcp_rx *rx)
{
    if (rx->msg.payload > rx->control_limit)
        return broken(rx, GP_ERR_PROTOCOL,
                      "control message longer than allowed");
    rx->start += GP_MSG_BYTES;
    if (rx->msg.payload <= GP_TCP_STAGE_CONTROL) {
        rx->state = GP_TCP_RX_STAGED;
        return CONTINUE;
    }
    rx->large = malloc((size_t)rx->msg.payload);
    if (!rx->large)
        return broken(rx, GP_ERR_NO_MEMORY, "no memory for a control message");
    payload_to(rx, rx->large);
    return CONTINUE;
}

static int
begin_data(gp_tcp_rx *rx)
{
    uint8_t *to;

    if (gp_regions_find(rx->regions, rx->msg.region, rx->msg.offset,
                        rx->msg.payload, &to, NULL) != GP_OK)
        return broken(rx, GP_ERR_PROTOCOL,
                      "data message outside what was exposed");
    rx->start += GP_MSG_BYTES;
    payload_to(rx, to);
    return CONTINUE;
}

static const char *
header_fault(gp_status status)
{
    switch (status) {
    case GP_ERR_VERSION:
        return "the peer speaks another protocol version";
    case GP_ERR_CHECKSUM:
        return "damaged message header";
    default:
        return "not a gradpush message";
    }
}

static int
begin(gp_tcp_rx *rx)
{
    gp_status status;

    if (rx->end - rx->start < GP_MSG_BYTES)
        return 0;
    /* Its buffer is still lent to the caller. */
    if (rx->large_held)
        return 0;
    status = gp_msg_decode(rx->stage + rx->start, &rx->msg);
    if (status != GP_OK)
        return broken(rx, status, header_fault(status));
    return rx->msg.region ? begin_data(rx) : begin_control(rx);
}

static int
deliver(gp_tcp_rx *rx, gp_event *event, const void *payload)
{
    rx->state = GP_TCP_RX_HEADER;
    event->msg = rx->msg;
    event->payload = payload;
    event->cookie = 0;
    return 1;
}

static int
staged(gp_tcp_rx *rx, gp_event *event)
{
    const uint8_t *payload = rx->stage + rx->start;
    size_t length = (size_t)rx->msg.payload;

    if (rx->end - rx->start < length)
        return 0;
    if (rx->check && (rx->msg.flags & GP_MSG_PAYLOAD_CRC) &&
        gp_crc32c(0, payload, length) != rx->msg.payload_crc)
        return broken(rx, GP_ERR_CHECKSUM, "damaged control payload");
    rx->start += length;
    rx->held = true;
    return deliver(rx, event, payload);
}

static void
take_staged(gp_tcp_rx *rx)
{
    size_t n = (size_t)GP_MIN((uint64_t)(rx->end - rx->start), rx->left);

    if (!n)
        return;
    if (rx->to) {
        memcpy(rx->to, rx->stage + rx->start, n);
        if (wants_crc(rx))
            rx->crc = gp_crc32c(rx->crc, rx->to, n);
        rx->to += n;
    }
    rx->start += n;
    rx->left -= n;
}

static int
payload(gp_tcp_rx *rx, gp_event *event)
{
    bool discarded;

    take_staged(rx);
    if (rx->left)
        return 0;
    discarded = !rx->to;
    if (wants_crc(rx) && rx->crc != rx->msg.payload_crc)
        return broken(rx, GP_ERR_CHECKSUM, "damaged payload");
    rx->to = NULL;
    if (discarded) {
        rx->state = GP_TCP_RX_HEADER;
        return CONTINUE;
    }
    rx->large_held = rx->msg.region == 0;
    return deliver(rx, event, rx->begin);
}

int
gp_tcp_rx_next(gp_tcp_rx *rx, gp_event *event)
{
    int result;

    do {
        switch (rx->state) {
        case GP_TCP_RX_HEADER:
            result = begin(rx);
            break;
        case GP_TCP_RX_STAGED:
            result = staged(rx, event);
            break;
        default:
            result = payload(rx, event);
        }
    } while (result == CONTINUE);
    return result;
}

/* Makes room in the stage without moving bytes that events point to. */
static size_t
stage_room(gp_tcp_rx *rx)
{
    if (rx->start && !rx->held) {
        if (rx->end > rx->start)
            memmove(rx->stage, rx->stage + rx->start, rx->end - rx->start);
        rx->end -= rx->start;
        rx->start = 0;
    }
    return GP_TCP_STAGE - rx->end;
}

int
gp_tcp_rx_space(gp_tcp_rx *rx, struct iovec iov[2])
{
    bool direct = rx->state == GP_TCP_RX_PAYLOAD && rx->to;
    size_t room, ahead = GP_TCP_STAGE;
    int pieces = 0;

    if (!rx->stage && !(rx->stage = malloc(GP_TCP_STAGE)))
        return GP_ERR_NO_MEMORY;
    room = stage_room(rx);
    rx->direct = 0;
    if (direct) {
        rx->direct = (size_t)GP_MIN(rx->left, (uint64_t)GP_TCP_PIECE);
        iov[pieces++] = (struct iovec){rx->to, rx->direct};
        if (rx->direct < rx->left)
            return pieces;
    }
    if (rx->msg.payload >= LARGE_PAYLOAD)
        ahead = GP_TCP_STAGE_AHEAD;
    room = GP_MIN(room, ahead);
    if (room)
        iov[pieces++] = (struct iovec){rx->stage + rx->end, room};
    return pieces;
}

void
gp_tcp_rx_fill(gp_tcp_rx *rx, size_t n)
{
    size_t direct = GP_MIN(n, rx->direct);

    if (direct) {
        if (wants_crc(rx))
            rx->crc = gp_crc32c(rx->crc, rx->to, direct);
        rx->to += direct;
        rx->left -= direct;
    }
    rx->direct = 0;
    rx->end += n - direct;
}

void
gp_tcp_rx_renew(gp_tcp_rx *rx)
{
    rx->held = false;
    if (rx->large_held) {
        free(rx->large);
        rx->large = NULL;
        rx->large_held = false;
    }
}

void
gp_tcp_rx_revoke(gp_tcp_rx *rx, uint32_t token)
{
    if (rx->state == GP_TCP_RX_PAYLOAD && rx->msg.region == token)
        rx->to = NULL;
}

bool
gp_tcp_rx_at_boundary(const gp_tcp_rx *rx)
{
    return rx->state == GP_TCP_RX_HEADER && rx->start == rx->end;
}

void
gp_tcp_rx_free(gp_tcp_rx *rx)
{
    free(rx->stage);
    free(rx->large);
    rx->stage = rx->large = NULL;
}

/* The socket around the parser. */

static bool
parse(gp_tcp_socket *s, gp_tcp_out *out)
{
    gp_endpoint *ep = s->ep;

    for (;;) {
        gp_event *event;
        int result;

        if (out->count == out->max || s->rx.large_held) {
            s->readable = true; /* come back: there may be more */
            return false;
        }
        event = &out->events[out->count];
        result = gp_tcp_rx_next(&s->rx, event);
        if (result < 0) {
            gp_tcp_ep_fail(ep, (gp_status)result, "%s", s->rx.why);
            return false;
        }
        if (!result)
            return true;
        gp_tcp_emit(out, ep, GP_EVENT_MESSAGE);
    }
}

/* One socket ended in order; the endpoint ends when all have. */
static void
end_of_stream(gp_tcp_socket *s)
{
    gp_endpoint *ep = s->ep;

    s->eof = true;
    s->readable = false;
    if (!gp_tcp_rx_at_boundary(&s->rx)) {
        gp_tcp_ep_fail(ep, GP_ERR_PEER_LOST, "the peer ended inside a message");
        return;
    }
    for (uint32_t i = 0; i < ep->count; i++)
        if (!ep->sockets[i]->eof) {
            if (!ep->eof_deadline_ns) {
                ep->eof_deadline_ns = gp_deadline(1);
                gp_tcp_wake_at(ep->domain, ep->eof_deadline_ns);
            }
            return;
        }
    if (s->error)
        gp_tcp_ep_fail(ep, GP_ERR_PEER_LOST, "%s", strerror(s->error));
    else
        gp_tcp_ep_fail(ep, GP_OK, "closed by the peer");
}

static void
receive_failed(gp_tcp_socket *s, int error)
{
    if ((error == EAGAIN || error == EWOULDBLOCK) && !s->error) {
        s->readable = false;
        s->hangup = false;
    } else if (error != EINTR) {
        if (error == EAGAIN || error == EWOULDBLOCK)
            error = s->error;
        gp_tcp_ep_fail(s->ep, GP_ERR_PEER_LOST, "%s", strerror(error));
    }
}

static void
mark_hot(gp_tcp_socket *s)
{
    gp_domain *d = s->source.domain;

    s->last_rx = d->tick;
    if (gp_list_empty(&s->hot)) {
        gp_list_insert(&d->hot, &s->hot);
        d->hot_count++;
    }
}

/* One system call. False when this progress() is done with the socket. */
static bool
take(gp_tcp_socket *s, uint64_t *moved)
{
    struct iovec iov[2];
    struct msghdr message = {.msg_iov = iov};
    int pieces = gp_tcp_rx_space(&s->rx, iov);
    size_t wanted = 0;
    ssize_t n;

    if (pieces < 0) {
        gp_tcp_ep_fail(s->ep, GP_ERR_NO_MEMORY, "no memory to receive");
        return false;
    }
    if (!pieces)
        return false;
    for (int i = 0; i < pieces; i++)
        wanted += iov[i].iov_len;
    message.msg_iovlen = (size_t)pieces;
    n = recvmsg(s->source.fd, &message, MSG_DONTWAIT);
    if (n <= 0) {
        s->rx.direct = 0;
        if (n == 0)
            end_of_stream(s);
        else
            receive_failed(s, errno);
        return false;
    }
    /* Short: the socket is empty, and a new edge follows. */
    if ((size_t)n < wanted && !s->hangup)
        s->readable = false;
    mark_hot(s);
    *moved += (uint64_t)n;
    gp_tcp_rx_fill(&s->rx, (size_t)n);
    return true;
}

void
gp_tcp_receive(gp_tcp_socket *s, gp_tcp_out *out)
{
    uint64_t moved = 0;

    gp_tcp_rx_renew(&s->rx);
    while (parse(s, out)) {
        if (!s->readable || s->eof || moved >= GP_TCP_BUDGET ||
            !take(s, &moved))
            return;
    }
}
