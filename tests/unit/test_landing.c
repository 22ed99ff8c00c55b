/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_landing.c - a worker whose shard names a second region for pushes that
 * its device reads: it writes there what it was told to, the rest beside it.
 *
 * The shard is played by the test, and has both in the host's memory.
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

#define TENSORS 3u
#define LEAST   8192u
#define PLACES  2u /* the host's slots, and the device's */
#define SLOT    65536u
#define SLOTS   4u

/* Of the first tensor pushes through its first pipeline, of the second those
 * through both. */
static const gp_landing_bits bits[TENSORS] = {1, 3, 0};

typedef struct actor {
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_endpoint *ep;
    gp_mem *mem[PLACES];
    uint32_t region[PLACES];
    char address[GP_ADDRESS_MAX];
    uint8_t landing[PLACES][SLOTS * SLOT];
    gp_msg told;      /* what is said of the second place */
    atomic_int place; /* of the last push; -1: none */
    atomic_bool stop, leave;
    pthread_t thread;
} actor;

static actor shard;

static void
post(gp_msg *msg, const void *payload)
{
    (void)shard.ops->post(shard.ep, msg, payload, NULL, 0);
}

static void
welcome(void)
{
    static const uint8_t proof[GP_WELCOME_BYTES]; /* of no token */
    gp_msg hello = {.type = GP_MSG_WELCOME, .payload = sizeof(proof)};
    gp_msg start = {.type = GP_MSG_START};

    shard.ops->ep_trust(shard.ep);
    post(&hello, proof);
    post(&start, NULL);
}

static void
grant(void)
{
    gp_msg msg = {.type = GP_MSG_READY, .payload = GP_GRANT_BYTES};
    gp_grant slots = {.slots = SLOTS, .slot_bytes = SLOT};
    uint8_t bytes[GP_GRANT_BYTES];

    for (uint32_t i = 0; i < PLACES; i++)
        job_check(shard.ops->expose(shard.ep, shard.mem[i], 0,
                                    sizeof(shard.landing[i]), GP_REGION_LANDING,
                                    &shard.region[i]));
    slots.region = shard.region[0];
    if (shard.told.aux == 1)
        shard.told.aux = shard.region[1];
    post(&shard.told, bits);
    gp_grant_encode(&slots, bytes);
    post(&msg, bytes);
}

static void
take(const gp_event *event)
{
    gp_msg msg = {.type = GP_MSG_ACK,
                  .chunk = event->msg.chunk,
                  .cookie = event->msg.cookie,
                  .credits = UINT64_MAX};

    job_require(event->msg.offset == event->msg.slot * (uint64_t)SLOT);
    atomic_store(&shard.place, event->msg.region == shard.region[1]);
    shard.ops->release(event->ep, &event->msg, event->payload);
    post(&msg, NULL);
}

static void
answer(const gp_event *event)
{
    static const uint8_t nonce[GP_CHALLENGE_BYTES];
    gp_msg msg = {.type = GP_MSG_CHALLENGE, .payload = sizeof(nonce)};

    if (event->type == GP_EVENT_ACCEPTED) {
        shard.ep = event->ep;
        post(&msg, nonce);
    } else if (event->type != GP_EVENT_MESSAGE) {
        return;
    } else if (event->msg.type == GP_MSG_HELLO) {
        welcome();
    } else if (event->msg.type == GP_MSG_TENSORS) {
        grant();
    } else if (event->msg.type == GP_MSG_PUSH) {
        take(event);
    } else if (event->msg.type == GP_MSG_BARRIER) {
        gp_msg leave = {.type = GP_MSG_LANDING};

        post(&leave, NULL);
        msg = (gp_msg){.type = GP_MSG_BARRIER};
        post(&msg, NULL);
    }
    (void)shard.ops->flush(event->ep);
}

static void *
act(void *arg)
{
    while (!atomic_load(&shard.stop)) {
        gp_event event;

        if (shard.ops->progress(shard.domain, &event, 1) == 1)
            answer(&event);
        else
            usleep(200);
    }
    return arg;
}

static void
begin(uint64_t aux, uint64_t payload)
{
    gp_config *c;

    memset(&shard, 0, sizeof(shard));
    shard.ops = gp_transport_find("tcp");
    shard.told = (gp_msg){.type = GP_MSG_LANDING,
                          .aux = aux,
                          .elements = LEAST,
                          .payload = payload};
    job_check(gp_config_create(&c));
    job_check(shard.ops->open(c, &shard.domain));
    job_check(shard.ops->listen(shard.domain, "127.0.0.1:0", shard.address,
                                sizeof(shard.address)));
    for (uint32_t i = 0; i < PLACES; i++)
        job_check(shard.ops->mem_reg(shard.domain, shard.landing[i],
                                     sizeof(shard.landing[i]), &shard.mem[i]));
    gp_config_destroy(c);
    assert_int_equal(pthread_create(&shard.thread, NULL, act, NULL), 0);
}

static void
end(void)
{
    atomic_store(&shard.stop, true);
    pthread_join(shard.thread, NULL);
    for (uint32_t i = 0; i < PLACES; i++)
        shard.ops->mem_dereg(shard.mem[i]);
    shard.ops->close(shard.domain);
}

static gp_worker *
join(void)
{
    job j = {.transport = "tcp", .workers = 1};
    gp_config *c = job_config(&j);
    gp_worker *w;

    job_set(c, "rank", "0");
    job_set(c, "servers", shard.address);
    job_check(gp_worker_create(c, &w));
    gp_config_destroy(c);
    return w;
}

static gp_tensor *
add(gp_worker *w, const char *name, uint64_t count, const char *codec)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = count;
    o.codec = codec;
    o.updater = "sum";
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
expect_place(gp_tensor *t, bool init, int place)
{
    static float grad[16384];
    gp_request *r = NULL;

    atomic_store(&shard.place, -1);
    job_check(init ? gp_broadcast(t, grad, 0, &r) : gp_push(t, grad, &r));
    job_check(gp_wait(&r, -1));
    assert_int_equal(atomic_load(&shard.place), place);
}

static void
pushes_land_where_they_are_told(void **state)
{
    gp_worker *w;
    gp_tensor *t[TENSORS];

    (void)state;
    begin(1, sizeof(bits));
    w = join();
    t[0] = add(w, "short", LEAST / 4 - 1, "none");
    t[1] = add(w, "long", LEAST / 4, "none");
    t[2] = add(w, "host", 16384, "none");
    job_check(gp_worker_ready(w));
    expect_place(t[1], true, 0); /* initial values */
    expect_place(t[0], false, 0);
    expect_place(t[1], false, 1);
    expect_place(t[2], false, 0);
    job_check(gp_barrier(w)); /* the shard takes its word back */
    expect_place(t[1], false, 0);
    gp_worker_destroy(w);
    end();
}

/* Alternatives are told apart. */
static void
codecs_are_told_apart(void **state)
{
    gp_worker *w;
    gp_tensor *t[TENSORS];

    (void)state;
    begin(1, sizeof(bits));
    w = join();
    t[0] = add(w, "dense alone", 16384, "q8|none");
    t[1] = add(w, "both", 16384, "q8|none");
    t[2] = add(w, "none", 16384, "q8|none");
    job_check(gp_worker_ready(w));
    /* The last pipeline is taken. */
    expect_place(t[0], false, 0);
    expect_place(t[1], false, 1);
    expect_place(t[2], false, 0);
    gp_worker_destroy(w);
    end();
}

static void
what_makes_no_sense_ends_the_worker(void **state)
{
    static const gp_msg wrong[] = {{.aux = 1, .payload = TENSORS - 1},
                                   {.aux = 1ull << 32, .payload = TENSORS},
                                   {.aux = 1, .payload = 0}};

    (void)state;
    job_log_start();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        gp_worker *w;

        begin(wrong[i].aux, wrong[i].payload);
        w = join();
        for (uint32_t k = 0; k < TENSORS; k++)
            (void)add(w, k == 0 ? "a" : k == 1 ? "b" : "c", 16384, "none");
        assert_int_equal(gp_worker_ready(w), GP_ERR_PROTOCOL);
        assert_non_null(strstr(gp_last_error(), "malformed landing message"));
        gp_worker_destroy(w);
        end();
    }
    job_log_stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_land_where_they_are_told),
        cmocka_unit_test(codecs_are_told_apart),
        cmocka_unit_test(what_makes_no_sense_ends_the_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
