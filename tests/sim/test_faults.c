/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_faults.c - every call of the table fails once, at every place where a
 * whole life makes it: open, listen, connect, expose, push both ways, close.
 * Whatever happens: no crash, no leak, no violation, and an end in time with a
 * status; and once the call does not fail any more, a life that succeeds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"

#define KIB     1024u
#define PATIENT 60.0 /* seconds; ends a life that does not end by itself */

typedef struct life {
    gp_sim *sim;
    gp_config *config;
    const gp_transport_ops *ops;
    side a, b;
    size_t sent;
    bool closed; /* an endpoint ended before its owner closed it */
    uint64_t deadline;
} life;

/* What a domain reports goes into the side's log; false when it is broken. */
static bool
pump_side(life *l, side *s)
{
    gp_event events[8];
    int n = l->ops->progress(s->domain, events, 8);

    for (int i = 0; i < n; i++) {
        if (events[i].type == GP_EVENT_ACCEPTED ||
            events[i].type == GP_EVENT_CONNECTED)
            s->ep = events[i].ep;
        s->count += events[i].type == GP_EVENT_MESSAGE;
        l->sent += events[i].type == GP_EVENT_SENT;
        l->closed |= events[i].type == GP_EVENT_CLOSED;
    }
    return n >= 0;
}

static bool
pump_both(life *l)
{
    (void)gp_sim_turn(l->sim);
    return pump_side(l, &l->a) && pump_side(l, &l->b) && !l->closed &&
           !gp_expired(l->deadline);
}

static bool
until_connected(life *l)
{
    while (!l->a.ep || !l->b.ep)
        if (!pump_both(l))
            return false;
    return true;
}

static bool
until_messages(life *l, size_t count)
{
    while (l->a.count < count || l->b.count < count || l->sent < count)
        if (!pump_both(l))
            return false;
    return true;
}

static gp_status
prepare(life *l, side *s)
{
    gp_status status;

    s->bytes = 64 * KIB;
    s->memory = calloc(1, s->bytes);
    assert_non_null(s->memory);
    status = l->ops->mem_reg(s->domain, s->memory, s->bytes, &s->mem);
    if (status == GP_OK)
        status = l->ops->expose(s->ep, s->mem, 0, s->bytes / 2, 0, &s->token);
    return status;
}

static gp_status
send_to(life *l, side *from, const side *to)
{
    gp_msg data = data_msg(to->token, 0, 20 * KIB), word = control_msg(1, 0);
    gp_status status =
        l->ops->post(from->ep, &data, from->memory + 32 * KIB, from->mem, 1);

    if (status == GP_OK)
        status = l->ops->post(from->ep, &word, NULL, NULL, 0);
    return status == GP_OK ? l->ops->flush(from->ep) : status;
}

/* True: the whole life went well. */
static bool
live(life *l)
{
    char bound[GP_ADDRESS_MAX];
    gp_endpoint *ep;

    if (l->ops->open(l->config, &l->a.domain) != GP_OK ||
        l->ops->open(l->config, &l->b.domain) != GP_OK ||
        l->ops->listen(l->b.domain, "127.0.0.1:0", bound, sizeof(bound)) !=
            GP_OK ||
        l->ops->connect(l->a.domain, bound, l->deadline, &ep) != GP_OK)
        return false;
    if (!until_connected(l) || prepare(l, &l->a) != GP_OK ||
        prepare(l, &l->b) != GP_OK)
        return false;
    for (size_t i = 1; i <= 3; i++)
        if (send_to(l, &l->a, &l->b) != GP_OK ||
            send_to(l, &l->b, &l->a) != GP_OK || !until_messages(l, 2 * i))
            return false;
    l->ops->unexpose(l->a.ep, l->a.token);
    l->ops->ep_close(l->a.ep);
    while (!l->closed && !gp_expired(l->deadline))
        (void)pump_both(l);
    return l->closed;
}

static void
die(life *l, side *s)
{
    if (s->domain)
        l->ops->close(s->domain);
    if (s->mem)
        l->ops->mem_dereg(s->mem);
    free(s->memory);
}

typedef struct outcome {
    bool lived, failed;
} outcome;

static outcome
try(const char *member, uint64_t nth, int error, const char *const *settings)
{
    const gp_sim_options options = {.step = true, .late_acks = true};
    life l = {.ops = gp_transport_find("verbs")};
    outcome o;
    char text[1024];

    l.sim = gp_sim_open(&options);
    assert_non_null(l.sim);
    gp_verbs_api_use(gp_sim_api(l.sim));
    assert_int_equal(gp_config_create(&l.config), GP_OK);
    for (size_t i = 0; settings[i]; i += 2)
        assert_int_equal(gp_config_set(l.config, settings[i], settings[i + 1]),
                         GP_OK);
    l.deadline = gp_deadline(PATIENT);
    gp_sim_fail(l.sim, member, nth, error);
    o.lived = live(&l);
    if (!o.lived && gp_expired(l.deadline))
        fail_msg("%s, call %llu: no end in time", member ? member : "any",
                 (unsigned long long)nth);
    die(&l, &l.a);
    die(&l, &l.b);
    gp_config_destroy(l.config);
    gp_verbs_api_use(NULL);
    o.failed = gp_sim_failed(l.sim);
    if (gp_sim_violations(l.sim, text, sizeof(text)) ||
        gp_sim_leaks(l.sim, text, sizeof(text)))
        fail_msg("%s, call %llu: %s", member ? member : "any",
                 (unsigned long long)nth, text);
    gp_sim_close(l.sim);
    return o;
}

/* Each call once, until a life has none left that could fail; calls that are
 * made as often as one likes, only at the beginning and now and then. */
static void
each_call(const char *member, const char *const *settings)
{
    uint64_t nth = 1;
    int tries = 0;

    for (; tries < 120; tries++) {
        outcome o = try(member, nth, tries % 2 ? ENOMEM : EIO, settings);

        if (!o.failed) {
            if (!o.lived)
                fail_msg("%s does not fail, and the life ends early",
                         member ? member : "any");
            break;
        }
        nth += nth < 80 ? 1 : nth / 4;
    }
    assert_true(tries < 120);
}

static void
all_calls(const char *const *settings)
{
    gp_log_set_level(GP_LOG_NONE);
    for (size_t i = 0; gp_sim_member(i); i++)
        each_call(gp_sim_member(i), settings);
    each_call(NULL, settings); /* whichever call is the nth of all */
    gp_log_set_level(GP_LOG_WARN);
}

static void
every_call_fails_once(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0", NULL};

    (void)state;
    all_calls(settings);
}

static void
every_call_fails_once_with_more_of_everything(void **state)
{
    static const char *const settings[] = {
        "ib_reconnect", "200ms", "ib_qps", "2", "ib_notify", "imm", NULL};

    (void)state;
    all_calls(settings);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(every_call_fails_once_with_more_of_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
