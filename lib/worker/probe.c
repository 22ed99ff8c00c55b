/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c - how fast each shard's link is, measured before the first tensor.
 *
 * Shard after shard, between barriers: all workers but its own ask it for bytes
 * at once, for a while, with some answers under way. What all of them get
 * together is what its link gives, unless theirs are what is slow: then it is
 * what they can take, and more would be of no use to them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_int.h"

#define PROBE_NS      60000000u
#define PROBE_ANSWERS 8u /* under way */

static gp_status
ask(gp_conn *conn)
{
    gp_msg msg = {.type = GP_MSG_PROBE, .elements = GP_PROBE_BYTES};

    return gp_conn_post(conn, &msg, NULL, NULL, 0);
}

/* What a connection's beginning costs does not count: the clock starts with the
 * first answer. */
void
gp_probe_answer(gp_conn *conn, const gp_msg *msg)
{
    gp_worker *w = conn->worker;
    gp_probe *p = &w->probe;
    uint64_t now = gp_clock_ns();

    if (p->conn != conn || p->open == 0 || msg->payload != GP_PROBE_BYTES) {
        gp_worker_fail(w, GP_ERR_PROTOCOL,
                       "shard %u answered a probe that was not asked",
                       conn->shard);
        return;
    }
    if (p->first_ns == 0)
        p->first_ns = now;
    else
        p->bytes += msg->payload;
    p->last_ns = now;
    if (now - p->begun_ns < PROBE_NS && ask(conn) == GP_OK)
        return;
    if (--p->open == 0) {
        atomic_store(&p->done, true);
        gp_driver_signal(w->driver);
    }
}

static bool
probe_over(void *arg)
{
    gp_worker *w = arg;

    return atomic_load(&w->probe.done) || atomic_load(&w->fault) != GP_OK;
}

static gp_status
begin(gp_worker *w, gp_conn *conn)
{
    gp_probe *p = &w->probe;
    gp_status status;

    gp_driver_hold(w->driver);
    status = gp_worker_fault(w);
    *p = (gp_probe){.conn = conn, .begun_ns = gp_clock_ns()};
    while (status == GP_OK && p->open < PROBE_ANSWERS) {
        status = ask(conn);
        p->open += status == GP_OK;
    }
    if (status == GP_OK)
        status = conn->link->ops->flush(conn->ep);
    gp_driver_release(w->driver);
    return status;
}

/* @param out  Mbit/s; 0: not known. */
static gp_status
probe(gp_worker *w, gp_conn *conn, double *out)
{
    gp_probe *p = &w->probe;
    gp_status status = begin(w, conn);

    if (status != GP_OK)
        return status;
    (void)gp_driver_wait(w->driver, probe_over, w, gp_deadline(w->timeout));
    status = gp_worker_fault(w);
    if (status == GP_OK && !atomic_load(&p->done))
        status = gp_worker_late(w, "a shard did not answer probes", w->timeout);
    if (status == GP_OK && p->last_ns > p->first_ns)
        *out = (double)p->bytes * 8e3 / (double)(p->last_ns - p->first_ns);
    return status;
}

/* "12.5,0,..." of all shards, into the store. */
static gp_status
tell(gp_worker *w, const double *rate)
{
    size_t room = (size_t)w->shards * 24 + 1, at = 0;
    char *text = malloc(room), key[48];
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "%u rates", w->shards);
    for (uint32_t i = 0; i < w->shards; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%.3f", i ? "," : "",
                               rate[i]);
    snprintf(key, sizeof(key), "probe/%u", w->rank);
    status = gp_store_set(w->store, key, text, at);
    free(text);
    return status;
}

static gp_status
add_rates(gp_worker *w, uint32_t rank, double *sum, uint64_t deadline)
{
    size_t room = (size_t)w->shards * 24 + 1, length;
    char *text = malloc(room), *at = text, key[48];
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "%u rates", w->shards);
    snprintf(key, sizeof(key), "probe/%u", rank);
    status = gp_store_get(w->store, key, text, room - 1, &length, deadline);
    if (status == GP_OK)
        text[length] = '\0';
    for (uint32_t i = 0; i < w->shards && status == GP_OK; i++) {
        sum[i] += strtod(at, &at);
        at += *at == ',';
    }
    free(text);
    return status;
}

/* Those on one host share its link: each gave all of it. */
static void
divide(const gp_worker *w, double *rate)
{
    uint32_t hosted = w->shard ? w->size : 0;

    for (uint32_t i = hosted; i < w->shards; i++) {
        const char *address = w->conn[i].address;
        size_t host = strcspn(address, ":");
        const char *port = strrchr(address, ':');
        uint32_t same = 0;

        if (port)
            host = (size_t)(port - address);
        for (uint32_t k = hosted; k < w->shards; k++)
            same += !strncmp(w->conn[k].address, address, host) &&
                    w->conn[k].address[host] == ':';
        rate[i] /= (double)GP_MAX(same, 1u);
    }
}

gp_status
gp_worker_probe(gp_worker *w, double *rate)
{
    uint64_t deadline;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < w->shards && status == GP_OK; i++) {
        bool own = w->shard && i == w->shard_index;

        status = gp_barrier(w);
        if (status == GP_OK && !own)
            status = probe(w, &w->conn[i], &rate[i]);
    }
    w->probe.conn = NULL;
    if (status == GP_OK) /* others may need the shard here until now */
        status = gp_barrier(w);
    if (status == GP_OK)
        status = tell(w, rate);
    if (status != GP_OK || w->rank != 0)
        return status;
    deadline = gp_deadline(w->timeout);
    for (uint32_t r = 1; r < w->size && status == GP_OK; r++)
        status = add_rates(w, r, rate, deadline);
    if (status == GP_OK)
        divide(w, rate);
    return status;
}
