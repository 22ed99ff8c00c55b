/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_raw.c - the wire protocol spoken by hand, with an empty token.
 */
#include "job_raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/codec.h>

#define PATIENCE 120.0 /* ends what hangs */

void
raw_use(raw *w, const char *codec, const char *pipeline)
{
    gp_pipeline *p;

    job_check(gp_pipeline_parse(pipeline, &p));
    w->codec = codec;
    w->pipeline = gp_pipeline_id(p);
    gp_pipeline_destroy(p);
}

void
raw_connect(raw *w, const char *transport, const char *address, uint32_t rank,
            uint32_t size)
{
    gp_config *c;

    *w = (raw){.ops = gp_transport_find(transport), .rank = rank, .size = size};
    w->job = gp_hash("gradpush", strlen("gradpush"));
    raw_use(w, "none", "none");
    job_check(gp_config_create(&c));
    job_check(w->ops->open(c, &w->domain));
    gp_config_destroy(c);
    job_check(
        w->ops->connect(w->domain, address, gp_deadline(PATIENCE), &w->ep));
    job_check(
        w->ops->mem_reg(w->domain, w->result, sizeof(w->result), &w->mem));
    raw_expect(w, GP_MSG_CHALLENGE);
}

void
raw_close(raw *w)
{
    if (w->ep)
        w->ops->ep_close(w->ep);
    w->ops->mem_dereg(w->mem);
    w->ops->close(w->domain);
}

static bool
take_event(raw *w, const gp_event *e, uint8_t type)
{
    if (e->type == GP_EVENT_CONNECTED)
        w->connected = true;
    if (e->type == GP_EVENT_CLOSED) {
        w->closed = true;
        w->close_status = e->status;
    }
    if (e->type != GP_EVENT_MESSAGE)
        return false;
    w->credits |= e->msg.credits;
    if (e->msg.type == GP_MSG_REFUSE || e->msg.type == GP_MSG_FAULT)
        gp_text_decode(e->payload, e->msg.payload, w->text);
    if (e->msg.type != type)
        return false;
    w->last = e->msg;
    if (!e->msg.region && e->msg.payload)
        memcpy(w->payload, e->payload,
               GP_MIN(e->msg.payload, sizeof(w->payload)));
    if (type == GP_MSG_READY)
        job_check(gp_grant_decode(e->payload, e->msg.payload, &w->grant));
    if (type == GP_MSG_CHALLENGE)
        memcpy(w->nonce, e->payload, sizeof(w->nonce));
    return true;
}

bool
raw_until(raw *w, uint8_t type)
{
    double deadline = job_seconds() + PATIENCE;

    while (!w->closed && job_seconds() < deadline) {
        gp_event event;

        if (w->ops->progress(w->domain, &event, 1) == 1 &&
            take_event(w, &event, type))
            return true;
    }
    return w->closed && type == 0;
}

int
raw_poll(raw *w)
{
    gp_event event;

    if (w->closed)
        return -1;
    if (w->ops->progress(w->domain, &event, 1) != 1)
        return 0;
    if (take_event(w, &event, event.msg.type))
        return event.msg.type;
    return w->closed ? -1 : 0;
}

void
raw_expect(raw *w, uint8_t type)
{
    job_require(raw_until(w, type), "no message of type %u; closed: %d, %s",
                type, w->closed, w->text);
}

void
raw_expect_closed(raw *w)
{
    job_require(raw_until(w, 0), "the shard keeps the connection");
}

void
raw_expect_credits(raw *w, uint64_t slots)
{
    while ((w->credits & slots) != slots)
        raw_expect(w, GP_MSG_CREDIT);
}

void
raw_leave(job *j, raw *w, gp_status expected)
{
    for (uint32_t r = 0; r < j->workers; r++) {
        gp_msg bye = {.type = GP_MSG_BYE, .worker = r};

        if (!w[r].closed)
            raw_send(&w[r], &bye, NULL);
        raw_close(&w[r]);
    }
    job_stop_servers(j);
    job_require(j->server_status == expected, "%s: %s",
                gp_status_name(j->server_status), j->server_message);
}

void
raw_send(raw *w, gp_msg *msg, const void *payload)
{
    if (!msg->job)
        msg->job = w->job;
    if (!msg->incarnation)
        msg->incarnation = w->life;
    job_check(w->ops->post(w->ep, msg, payload, NULL, 0));
    job_check(w->ops->flush(w->ep));
}

void
raw_join(raw *w)
{
    gp_hello hello = {.rank = w->rank,
                      .size = w->size,
                      .shard = 0,
                      .shards = GP_MAX(w->shards, 1u),
                      .identity = "raw"};
    gp_msg msg = {.type = GP_MSG_HELLO, .worker = w->rank};
    uint8_t bytes[GP_HELLO_BYTES_MAX];

    msg.payload = gp_hello_encode(&hello, bytes);
    raw_send(w, &msg, bytes);
    raw_expect(w, GP_MSG_WELCOME);
}

void
raw_register(raw *w)
{
    gp_tensor_spec spec[2];
    gp_tensor_spec one = {.name = "t",
                          .dtype = GP_FP32,
                          .count = RAW_COUNT,
                          .pull = "none",
                          .updater = "sum",
                          .mode = "sync",
                          .first_step = w->first_step,
                          .restored = w->restored};
    gp_tensor_list list = {.chunk_bytes = 1u << 20,
                           .seed = 1,
                           .shards = GP_MAX(w->shards, 1u),
                           .count = GP_MAX(w->shards, 1u),
                           .tensors = spec};
    gp_msg msg = {.type = GP_MSG_TENSORS, .worker = w->rank};
    void *bytes;
    size_t size;

    snprintf(one.push, sizeof(one.push), "%s", w->codec);
    if (w->updater)
        snprintf(one.updater, sizeof(one.updater), "%s", w->updater);
    if (w->mode)
        snprintf(one.mode, sizeof(one.mode), "%s", w->mode);
    spec[0] = spec[1] = one;
    spec[1].name[0] = 'u';
    job_check(gp_tensor_list_encode(&list, &bytes, &size));
    msg.payload = size;
    raw_send(w, &msg, bytes);
    free(bytes);
    raw_expect(w, GP_MSG_READY);
    job_check(
        w->ops->expose(w->ep, w->mem, 0, sizeof(w->result), 0, &w->token));
}

gp_msg
raw_push(const raw *w, uint16_t slot, uint64_t step, bool want)
{
    gp_msg msg = {.type = GP_MSG_PUSH,
                  .dtype = GP_FP32,
                  .worker = w->rank,
                  .slot = slot,
                  .step = step,
                  .pipeline = w->pipeline,
                  .elements = RAW_COUNT,
                  .payload = RAW_COUNT * sizeof(float),
                  .region = w->grant.region,
                  .offset = slot * w->grant.slot_bytes,
                  .cookie = 100 + step};

    if (want) {
        msg.flags |= GP_MSG_WANT;
        msg.aux = gp_destination(w->token, 0);
    }
    return msg;
}

void
raw_send_values(raw *w, gp_msg *msg, float value)
{
    static float values[16][RAW_COUNT];
    static uint32_t next;
    float *mine = values[next++ % 16]; /* loop reads it where it lies */

    for (uint32_t i = 0; i < RAW_COUNT; i++)
        mine[i] = value;
    raw_send(w, msg, mine);
}
