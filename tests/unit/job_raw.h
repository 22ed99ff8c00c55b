/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_raw.h - a worker without an engine: it says what a test tells it to say.
 *
 * Everything runs in the calling thread; the shard has its own.
 */
#ifndef JOB_RAW_H
#define JOB_RAW_H

#include <gradpush/transport.h>

#include "job_harness.h"
#include "wire/proto.h"

#define RAW_COUNT 8u /* elements of the one tensor, fp32, updater sum */

typedef struct raw {
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_endpoint *ep;
    gp_mem *mem;
    float result[RAW_COUNT]; /* what RESULT wrote */
    uint32_t token;          /* of `result` */
    uint32_t rank, size, pipeline;
    const char *codec;          /* push pipelines of the tensor */
    const char *updater, *mode; /* of the tensor; NULL: sum, sync */
    /* Of the job, as it says; 0: 1. There are as many tensors, which lie on one
     * shard each; it talks to the first. */
    uint32_t shards;
    uint64_t first_step; /* of the tensor */
    uint8_t restored;    /* it says that it will restore a history */
    uint64_t job;
    uint32_t life; /* incarnation */
    gp_grant grant;
    uint64_t credits; /* slots that came back since the last look */
    bool connected, closed;
    gp_status close_status;
    gp_msg last;                  /* of raw_expect() */
    uint8_t payload[GP_TEXT_MAX]; /* of the last control message */
    char text[GP_TEXT_MAX];
    uint8_t nonce[GP_NONCE_BYTES];
} raw;

/* Connects, and waits for the challenge. */
void raw_connect(raw *w, const char *transport, const char *address,
                 uint32_t rank, uint32_t size);
void raw_close(raw *w);

/* One round of events; up to `type` when it comes (0: until closed). False when
 * it does not within some seconds. */
bool raw_until(raw *w, uint8_t type);
/* What came, if anything: a message's type, 0, or -1 when closed. */
int raw_poll(raw *w);
void raw_expect(raw *w, uint8_t type);
void raw_expect_closed(raw *w);
/* Slots of copies come back although the push still waits; until then a copy
 * may be on its way, and would be answered once more after the step. */
void raw_expect_credits(raw *w, uint64_t slots);
/* All of a job's workers leave, and its shards end so. */
void raw_leave(job *j, raw *w, gp_status expected);

/* Sends with the envelope filled in; fields that are set stay. */
void raw_send(raw *w, gp_msg *msg, const void *payload);

/* Registers the tensor with these push pipelines; pushes go through `pipeline`.
 */
void raw_use(raw *w, const char *codec, const char *pipeline);

/* Says hello and waits for the welcome; then registers and waits for ready. */
void raw_join(raw *w);
void raw_register(raw *w);

/* A proper push of `value` everywhere, to be spoilt before it is sent. */
gp_msg raw_push(const raw *w, uint16_t slot, uint64_t step, bool want);
void raw_send_values(raw *w, gp_msg *msg, float value);

#endif
