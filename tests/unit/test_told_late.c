/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_told_late.c - a job that fails right after something was finished: the
 * call that waited for it succeeds, the next one says why the job is over; and
 * one whose shards give different causes.
 *
 * The shards are played by the test: an answer and the news of the failure
 * leave them in one piece, so that the worker reads both before its caller
 * wakes up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"
#include "rendezvous/rendezvous.h"
#include "wire/proto.h"
#include "worker/worker_int.h"

#define COUNT 8u /* elements of the one tensor */
#define NEWS  "worker 1 left the job"
#define CAUSE "worker 0 pushed damaged data"

typedef struct actor {
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_mem *mem;
    char address[GP_ADDRESS_MAX];
    uint8_t last; /* the answer that the failure follows */
    float landing[COUNT];
    gp_endpoint *ep;
    _Atomic(gp_status) news; /* to be told */
    atomic_bool stop;
    pthread_t thread;
} actor;

static void
post(const actor *a, gp_endpoint *ep, gp_msg *msg, const void *payload)
{
    (void)a->ops->post(ep, msg, payload, NULL, 0);
    if (msg->type == a->last) {
        gp_msg fault = {.type = GP_MSG_FAULT,
                        .status = GP_ERR_PEER_LEFT,
                        .payload = strlen(NEWS)};

        (void)a->ops->post(ep, &fault, NEWS, NULL, 0);
    }
}

static void
welcome(const actor *a, gp_endpoint *ep)
{
    static const uint8_t proof[GP_WELCOME_BYTES]; /* of no token */
    gp_msg hello = {.type = GP_MSG_WELCOME, .payload = sizeof(proof)};
    gp_msg start = {.type = GP_MSG_START};

    a->ops->ep_trust(ep);
    post(a, ep, &hello, proof);
    post(a, ep, &start, NULL);
}

static void
grant(const actor *a, gp_endpoint *ep)
{
    gp_msg msg = {.type = GP_MSG_READY, .payload = GP_GRANT_BYTES};
    gp_grant slots = {.slots = 1, .slot_bytes = sizeof(a->landing)};
    uint8_t bytes[GP_GRANT_BYTES];

    job_check(a->ops->expose(ep, a->mem, 0, sizeof(a->landing),
                             GP_REGION_LANDING, &slots.region));
    gp_grant_encode(&slots, bytes);
    post(a, ep, &msg, bytes);
}

static void
answer(actor *a, const gp_event *event)
{
    static const uint8_t nonce[GP_CHALLENGE_BYTES];
    gp_msg msg = {.chunk = event->msg.chunk, .cookie = event->msg.cookie};

    if (event->type == GP_EVENT_ACCEPTED) {
        a->ep = event->ep;
        msg = (gp_msg){.type = GP_MSG_CHALLENGE, .payload = sizeof(nonce)};
        post(a, event->ep, &msg, nonce);
    } else if (event->type != GP_EVENT_MESSAGE) {
        return;
    } else if (event->msg.type == GP_MSG_HELLO) {
        welcome(a, event->ep);
    } else if (event->msg.type == GP_MSG_TENSORS) {
        grant(a, event->ep);
    } else if (event->msg.type == GP_MSG_BARRIER) {
        msg.type = GP_MSG_BARRIER;
        post(a, event->ep, &msg, NULL);
    } else if (event->msg.type == GP_MSG_PUSH) {
        a->ops->release(event->ep, &event->msg, event->payload);
        msg.type = GP_MSG_ACK;
        msg.credits = 1;
        post(a, event->ep, &msg, NULL);
    }
    (void)a->ops->flush(event->ep);
}

static void
tell(actor *a)
{
    gp_status news = atomic_load(&a->news);
    const char *text = news == GP_ERR_PEER_LOST ? NEWS : CAUSE;
    gp_msg msg = {
        .type = GP_MSG_FAULT, .status = news, .payload = strlen(text)};

    if (news == GP_OK)
        return;
    post(a, a->ep, &msg, text);
    (void)a->ops->flush(a->ep);
    atomic_store(&a->news, GP_OK);
}

static void *
act(void *arg)
{
    actor *a = arg;

    while (!atomic_load(&a->stop)) {
        gp_event event;

        tell(a);

        if (a->ops->progress(a->domain, &event, 1) == 1)
            answer(a, &event);
        else
            usleep(200);
    }
    return NULL;
}

static void
begin(actor *a, const char *transport, uint8_t last)
{
    static unsigned count;
    char address[32] = "127.0.0.1:0";
    gp_config *c;

    if (strcmp(transport, "loop") == 0)
        snprintf(address, sizeof(address), "loop:told-late-%u", count++);

    *a = (actor){.ops = gp_transport_find(transport), .last = last};
    job_check(gp_config_create(&c));
    job_check(a->ops->open(c, &a->domain));
    job_check(
        a->ops->listen(a->domain, address, a->address, sizeof(a->address)));
    job_check(
        a->ops->mem_reg(a->domain, a->landing, sizeof(a->landing), &a->mem));
    gp_config_destroy(c);
    assert_int_equal(pthread_create(&a->thread, NULL, act, a), 0);
}

static void
end(actor *a)
{
    atomic_store(&a->stop, true);
    pthread_join(a->thread, NULL);
    a->ops->mem_dereg(a->mem);
    a->ops->close(a->domain);
}

static gp_status
push(gp_tensor *t)
{
    static const float grad[COUNT];
    gp_request *r = NULL;
    gp_status status = gp_push(t, grad, &r);

    return status == GP_OK ? gp_wait(&r, -1) : status;
}

/* Everything up to the answer in question succeeds. */
static void
follow(gp_worker *w, uint8_t last)
{
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");

    if (last != GP_MSG_START)
        job_check(gp_worker_ready(w));
    if (last == GP_MSG_BARRIER)
        job_check(gp_barrier(w));
    if (last == GP_MSG_ACK)
        job_check(push(t));
    if (last == GP_MSG_ACK || last == GP_MSG_BARRIER)
        assert_int_equal(gp_barrier(w), GP_ERR_PEER_LEFT);
    else
        assert_int_equal(push(t), GP_ERR_PEER_LEFT);
    assert_non_null(strstr(gp_last_error(), NEWS));
}

static void
finished_before_the_failure(void **state)
{
    static const uint8_t answers[] = {GP_MSG_START, GP_MSG_READY,
                                      GP_MSG_BARRIER, GP_MSG_ACK};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(answers); i++) {
        job j = {.transport = i % 2 ? "tcp" : "loop", .workers = 1};
        gp_config *c = job_config(&j);
        gp_worker *w;
        actor a;

        begin(&a, j.transport, answers[i / 2]);
        job_set(c, "rank", "0");
        job_set(c, "servers", a.address);
        job_log_start();
        job_check(gp_worker_create(c, &w));
        follow(w, a.last);
        gp_worker_destroy(w);
        job_log_stop();
        end(&a);
        gp_config_destroy(c);
    }
}

static void
have_told(actor *a, gp_status news)
{
    atomic_store(&a->news, news);
    while (atomic_load(&a->news) != GP_OK)
        usleep(200);
}

/* One shard knows only that a worker is gone, the other what it died of; both
 * have said so when the worker looks. */
static void
a_cause_is_better_than_a_death(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        job j = {.transport = "loop", .workers = 1};
        gp_config *c = job_config(&j);
        char servers[2 * GP_ADDRESS_MAX];
        gp_worker *w;
        actor a[2];

        for (int i = 0; i < 2; i++)
            begin(&a[i], j.transport, 0);
        snprintf(servers, sizeof(servers), "%s,%s", a[0].address, a[1].address);
        job_set(c, "rank", "0");
        job_set(c, "servers", servers);
        job_log_start();
        job_check(gp_worker_create(c, &w));
        gp_driver_hold(w->driver);
        have_told(&a[first], GP_ERR_PEER_LOST);
        have_told(&a[!first], GP_ERR_CORRUPT);
        gp_driver_release(w->driver);
        assert_int_equal(gp_barrier(w), GP_ERR_CORRUPT);
        assert_non_null(strstr(gp_last_error(), CAUSE));
        gp_worker_destroy(w);
        job_log_stop();
        for (int i = 0; i < 2; i++)
            end(&a[i]);
        gp_config_destroy(c);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finished_before_the_failure),
        cmocka_unit_test(a_cause_is_better_than_a_death),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
