/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_send.c - from messages to bytes.
 *
 * Two queues per socket: control messages go first, but never into the middle
 * of a message that was sent in part (`current`). A header is encoded, and the
 * payload's checksum formed, only when the message is about to leave, so that
 * the copy into the kernel finds the payload in the cache.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transports/tcp/tcp_int.h"

#define BATCH_PIECES 64
/* Enough to fill a call; more would push checksummed bytes out of the cache. */
#define BATCH_BYTES (512u << 10)

typedef struct batch {
    struct iovec iov[BATCH_PIECES];
    size_t pieces;
    uint64_t bytes;
} batch;

static gp_tcp_entry *
entry_at(const gp_tcp_queue *q, uint32_t position)
{
    return &q->entries[position & (q->capacity - 1)];
}

static const uint8_t *
payload_of(const gp_tcp_entry *e)
{
    return e->payload ? e->payload : e->small;
}

static bool
queue_grow(gp_tcp_queue *q)
{
    uint32_t capacity = q->capacity ? q->capacity * 2 : 16;
    gp_tcp_entry *entries = malloc((size_t)capacity * sizeof(*entries));

    if (!entries)
        return false;
    for (uint32_t i = q->head; i != q->tail; i++)
        entries[i & (capacity - 1)] = *entry_at(q, i);
    free(q->entries);
    q->entries = entries;
    q->capacity = capacity;
    return true;
}

void
gp_tcp_queue_free(gp_tcp_queue *q)
{
    for (uint32_t i = q->sent; i != q->tail; i++)
        if (entry_at(q, i)->heap)
            free((void *)(uintptr_t)entry_at(q, i)->payload);
    free(q->entries);
    *q = (gp_tcp_queue){0};
}

bool
gp_tcp_unsent(const gp_tcp_socket *s)
{
    return s->control.sent != s->control.tail || s->data.sent != s->data.tail;
}

bool
gp_tcp_unreported(const gp_tcp_socket *s)
{
    return s->control.head != s->control.sent || s->data.head != s->data.sent;
}

/* Data goes to the socket that has least to do. */
static gp_tcp_socket *
choose_socket(gp_endpoint *ep)
{
    gp_tcp_socket *best = ep->sockets[0];

    for (uint32_t i = 1; i < ep->count; i++)
        if (ep->sockets[i]->queued_bytes < best->queued_bytes)
            best = ep->sockets[i];
    return best;
}

static bool
has_room(const gp_endpoint *ep, const gp_msg *msg)
{
    uint32_t queued = ep->data_queued + ep->control_queued;

    if (msg->region)
        return ep->data_queued < GP_TCP_DATA_DEPTH;
    return queued < GP_TCP_DATA_DEPTH + GP_TCP_CONTROL_DEPTH &&
           ep->control_bytes + msg->payload <= GP_TCP_CONTROL_BYTES;
}

/* Control payloads are copied: into the entry, or when longer to the heap. */
static bool
copy_control(gp_tcp_entry *e, const void *payload, size_t length)
{
    uint8_t *to = e->small;

    e->payload = NULL;
    if (length > GP_TCP_INLINE) {
        to = malloc(length);
        if (!to)
            return false;
        e->payload = to;
        e->heap = true;
    }
    if (length)
        memcpy(to, payload, length);
    return true;
}

static gp_status
append(gp_tcp_queue *q, const gp_msg *msg, const void *payload, uint64_t cookie)
{
    gp_tcp_entry *e;

    if (q->tail - q->head == q->capacity && !queue_grow(q))
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    e = entry_at(q, q->tail);
    e->msg = *msg;
    e->length = msg->payload;
    e->cookie = cookie;
    e->encoded = e->heap = false;
    e->payload = payload;
    if (!msg->region && !copy_control(e, payload, (size_t)msg->payload))
        return gp_fail(GP_ERR_NO_MEMORY, "post: out of memory");
    q->tail++;
    return GP_OK;
}

gp_status
gp_tcp_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
            gp_mem *mem, uint64_t cookie)
{
    bool control = msg->region == 0;
    gp_tcp_socket *s;
    gp_status status;

    (void)mem;
    if (ep->state == GP_TCP_CLOSED)
        return gp_fail(GP_ERR_PEER_LOST, "post: %s: the connection is closed",
                       ep->peer);
    if (msg->payload && !payload)
        return gp_fail(GP_ERR_INVALID, "post: payload is NULL");
    if (control && msg->payload > GP_CONTROL_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "post: control payload of %llu bytes, limit %u",
                       (unsigned long long)msg->payload, GP_CONTROL_MAX);
    if (!has_room(ep, msg))
        return GP_AGAIN;
    s = control ? ep->sockets[0] : choose_socket(ep);
    status = append(control ? &s->control : &s->data, msg, payload, cookie);
    if (status != GP_OK)
        return status;
    if (control) {
        ep->control_queued++;
        ep->control_bytes += (size_t)msg->payload;
    } else {
        ep->data_queued++;
    }
    s->queued_bytes += GP_MSG_BYTES + msg->payload;
    if (!s->blocked)
        gp_tcp_ready(s);
    return GP_OK;
}

static void
encode(gp_tcp_entry *e, bool checksum)
{
    uint8_t wire[GP_MSG_BYTES];

    if (checksum && !(e->msg.flags & GP_MSG_PAYLOAD_CRC)) {
        e->msg.payload_crc = gp_crc32c(0, payload_of(e), (size_t)e->length);
        e->msg.flags |= GP_MSG_PAYLOAD_CRC;
    }
    gp_msg_encode(&e->msg, wire);
    memcpy(e->wire, wire, sizeof(wire));
    e->encoded = true;
}

static void
add_piece(batch *b, const uint8_t *from, uint64_t length)
{
    b->iov[b->pieces++] =
        (struct iovec){(void *)(uintptr_t)from, (size_t)length};
    b->bytes += length;
}

/* The rest of a message from `offset` on, as far as the batch takes it. */
static void
add_entry(batch *b, gp_tcp_entry *e, uint64_t offset, bool checksum)
{
    uint64_t left;

    if (!e->encoded)
        encode(e, checksum);
    if (offset < GP_MSG_BYTES) {
        add_piece(b, e->wire + offset, GP_MSG_BYTES - offset);
        offset = GP_MSG_BYTES;
    }
    offset -= GP_MSG_BYTES;
    left = GP_MIN(e->length - offset, (uint64_t)BATCH_BYTES);
    if (left)
        add_piece(b, payload_of(e) + offset, left);
}

static bool
has_space(const batch *b)
{
    return b->pieces + 2 <= BATCH_PIECES && b->bytes < BATCH_BYTES;
}

/* Same order as retire() below: the one begun, control, data. */
static void
collect(gp_tcp_socket *s, batch *b)
{
    bool checksum = s->ep->checksum;
    uint32_t control = s->control.sent, data = s->data.sent;

    b->pieces = 0;
    b->bytes = 0;
    if (s->current == &s->control)
        add_entry(b, entry_at(s->current, control++), s->offset, checksum);
    else if (s->current)
        add_entry(b, entry_at(s->current, data++), s->offset, checksum);
    while (has_space(b) && control != s->control.tail)
        add_entry(b, entry_at(&s->control, control++), 0, checksum);
    while (has_space(b) && data != s->data.tail)
        add_entry(b, entry_at(&s->data, data++), 0, checksum);
}

static void
forget(gp_tcp_socket *s, gp_tcp_queue *q)
{
    q->head++;
    if (q == &s->control)
        s->ep->control_queued--;
    else
        s->ep->data_queued--;
}

static void
complete(gp_tcp_socket *s, gp_tcp_queue *q)
{
    gp_tcp_entry *e = entry_at(q, q->sent);

    q->sent++;
    s->queued_bytes -= GP_MSG_BYTES + e->length;
    if (q == &s->control)
        s->ep->control_bytes -= (size_t)e->length;
    if (e->heap)
        free((void *)(uintptr_t)e->payload);
    if (!e->cookie && q->head + 1 == q->sent)
        forget(s, q);
}

static void
retire(gp_tcp_socket *s, uint64_t n)
{
    while (n) {
        gp_tcp_queue *q = s->current                           ? s->current
                          : s->control.sent != s->control.tail ? &s->control
                                                               : &s->data;
        uint64_t left = GP_MSG_BYTES + entry_at(q, q->sent)->length - s->offset;

        if (n < left) {
            s->offset += n;
            s->current = q;
            return;
        }
        n -= left;
        s->offset = 0;
        s->current = NULL;
        complete(s, q);
    }
}

static void
block(gp_tcp_socket *s)
{
    if (!s->blocked) {
        s->blocked = true;
        s->source.domain->blocked_count++;
    }
}

void
gp_tcp_unblock(gp_tcp_socket *s)
{
    if (s->blocked) {
        s->blocked = false;
        s->source.domain->blocked_count--;
    }
}

/* What the peer sent before it went is still delivered: the receiving side
 * finds the end and closes. */
static void
send_failed(gp_tcp_socket *s, int error)
{
    s->error = error;
    s->readable = s->hangup = true;
}

static bool
send_batch(gp_tcp_socket *s, uint64_t *moved)
{
    batch b;
    struct msghdr message = {.msg_iov = b.iov};
    ssize_t n;

    collect(s, &b);
    message.msg_iovlen = b.pieces;
    n = sendmsg(s->source.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            block(s);
        else if (errno == EINTR)
            return true;
        else
            send_failed(s, errno);
        return false;
    }
    retire(s, (uint64_t)n);
    *moved += (uint64_t)n;
    /* Short: the buffer is full, and an edge follows when it is not. */
    if ((uint64_t)n < b.bytes) {
        block(s);
        return false;
    }
    return true;
}

void
gp_tcp_send(gp_tcp_socket *s)
{
    uint64_t moved = 0;

    while (!s->blocked && !s->error && moved < GP_TCP_BUDGET &&
           gp_tcp_unsent(s) && send_batch(s, &moved))
        ;
}

gp_status
gp_tcp_flush(gp_endpoint *ep)
{
    if (ep->state == GP_TCP_CLOSED)
        return gp_fail(GP_ERR_PEER_LOST, "flush: %s: the connection is closed",
                       ep->peer);
    if (ep->state != GP_TCP_OPEN)
        return GP_OK;
    for (uint32_t i = 0; i < ep->count; i++) {
        gp_tcp_socket *s = ep->sockets[i];

        if (!gp_tcp_unsent(s) || s->blocked)
            continue;
        gp_tcp_send(s);
        if (s->readable || gp_tcp_unreported(s) ||
            (gp_tcp_unsent(s) && !s->blocked))
            gp_tcp_ready(s);
        else
            gp_list_remove(&s->ready);
    }
    return GP_OK;
}

static bool
report_queue(gp_tcp_socket *s, gp_tcp_queue *q, gp_tcp_out *out)
{
    while (q->head != q->sent) {
        uint64_t cookie = entry_at(q, q->head)->cookie;

        if (cookie) {
            if (out->count == out->max)
                return false;
            gp_tcp_emit(out, s->ep, GP_EVENT_SENT)->cookie = cookie;
        }
        forget(s, q);
    }
    return true;
}

void
gp_tcp_report_sent(gp_tcp_socket *s, gp_tcp_out *out)
{
    if (report_queue(s, &s->control, out))
        report_queue(s, &s->data, out);
}
