/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_output.c - forwards what children print, line by line.
 *
 * Lines of different children never mix: one is written only when it is whole.
 * Nothing is lost: what came before a child's end is still in the pipe, and the
 * stream is read to its end.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "run.h"

#define LINE_MAX_BYTES ((size_t)1 << 20)
#define READ_BYTES     ((size_t)64 << 10)
#define ROUNDS         16   /* reads per call, at most */
#define PIECE          4096 /* a pipe that polls writable takes that much */

/* Waits until the sink takes bytes. False: give up on it. */
static bool
sink_writable(gp_sink *sink)
{
    struct pollfd fds[2] = {{sink->fd, POLLOUT, 0},
                            {sink->interrupt, POLLIN, 0}};

    for (;;) {
        int rc = poll(fds, 2, gp_deadline_ms(sink->deadline));

        if (rc > 0 && fds[0].revents)
            return true;
        if (rc > 0 || rc == 0 || errno != EINTR)
            return false;
    }
}

void
gp_sink_write(gp_sink *sink, const char *data, size_t length)
{
    while (length && !sink->broken) {
        ssize_t n;

        if (!sink_writable(sink)) {
            sink->broken = true;
            return;
        }
        n = write(sink->fd, data, GP_MIN(length, (size_t)PIECE));
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            sink->broken = true;
        if (n > 0) {
            data += n;
            length -= (size_t)n;
        }
    }
}

/* Writes whole lines, each behind the prefix. */
static void
put_lines(gp_stream *stream, const char *data, size_t length)
{
    size_t prefix = strlen(stream->prefix);
    const char *end = data + length;

    if (!prefix) {
        gp_sink_write(stream->sink, data, length);
        return;
    }
    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data));
        size_t line =
            newline ? (size_t)(newline + 1 - data) : (size_t)(end - data);
        char joined[1024];

        if (prefix + line <= sizeof(joined)) {
            memcpy(joined, stream->prefix, prefix);
            memcpy(joined + prefix, data, line);
            gp_sink_write(stream->sink, joined, prefix + line);
        } else {
            gp_sink_write(stream->sink, stream->prefix, prefix);
            gp_sink_write(stream->sink, data, line);
        }
        data += line;
    }
}

/* Room for one more read. False: no memory, the stream cannot go on. */
static bool
stream_reserve(gp_stream *stream)
{
    size_t capacity = GP_MAX(stream->capacity * 2, 2 * READ_BYTES);
    char *data;

    if (stream->capacity - stream->length >= READ_BYTES)
        return true;
    data = realloc(stream->data, capacity);
    if (!data)
        return false;
    stream->data = data;
    stream->capacity = capacity;
    return true;
}

/* Forwards the lines that are whole, and what is too long to wait for. */
static void
stream_put(gp_stream *stream)
{
    const char *last = memrchr(stream->data, '\n', stream->length);
    size_t done = last ? (size_t)(last + 1 - stream->data) : 0;

    put_lines(stream, stream->data, done);
    stream->length -= done;
    memmove(stream->data, stream->data + done, stream->length);
    if (stream->length >= LINE_MAX_BYTES) {
        put_lines(stream, stream->data, stream->length);
        gp_sink_write(stream->sink, "\n", 1);
        stream->length = 0;
    }
}

void
gp_stream_forward(gp_stream *stream)
{
    for (int round = 0; round < ROUNDS && stream->fd >= 0; round++) {
        ssize_t n;

        if (!stream_reserve(stream)) {
            gp_stream_finish(stream);
            return;
        }
        n = read(stream->fd, stream->data + stream->length, READ_BYTES);
        if (n > 0) {
            stream->length += (size_t)n;
            stream_put(stream);
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            gp_stream_finish(stream);
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

void
gp_stream_finish(gp_stream *stream)
{
    if (stream->length) {
        put_lines(stream, stream->data, stream->length);
        gp_sink_write(stream->sink, "\n", 1);
    }
    free(stream->data);
    stream->data = NULL;
    stream->length = stream->capacity = 0;
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}
