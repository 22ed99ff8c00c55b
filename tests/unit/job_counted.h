/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_counted.h - tcp that counts what a device would have to be told, and
 * checks the rules of registered memory.
 *
 * Over it, `transport` is "counted". A job's two sides are told apart by who
 * connected: workers do.
 */
#ifndef JOB_COUNTED_H
#define JOB_COUNTED_H

#include <stdbool.h>
#include <stdint.h>

#include <gradpush/transport.h>

/* What the endpoints and domains of one side came to; the most of any. */
typedef struct counted_side {
    unsigned endpoints;
    unsigned exposed;     /* calls of expose() for one endpoint */
    unsigned sources;     /* memories that one endpoint sent from */
    unsigned both;        /* sum of these two */
    unsigned registered;  /* calls of mem_reg() in one domain */
    unsigned tokens;      /* live now, all endpoints */
    unsigned most_tokens; /* live at once for one endpoint */
    uint64_t strays;      /* data from no registered memory, all endpoints */
    uint64_t messages;    /* of data, all endpoints, ... */
    uint64_t checked;     /* ... with a checksum before the transport had it */
} counted_side;

typedef struct counted {
    counted_side worker, shard;
    char violation[200]; /* the first broken rule, or "" */
} counted;

/* Starts over, with these capabilities beside GP_CAP_CHECKSUM. No object of the
 * transport may live. */
void counted_begin(uint32_t caps);

/* What has happened so far. Any thread. */
void counted_look(counted *out);

/* While true, SENT is kept back. */
void counted_hold_sent(bool hold);

#endif
