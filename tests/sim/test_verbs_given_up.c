/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_given_up.c - lanes that one side, the other, or both give up for
 * good, in whatever state they are: the rest carries everything, and where
 * nothing is left the endpoint ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

static const gp_sim_device two[2];
static const char *const rails[] = {
    "ib_rails", "2", "ib_reconnect", "0.2", "ib_rail_reconnect", "0", NULL};

static void
two_rails(world *w)
{
    gp_sim_options fabric = {.step = true, .device = two, .devices = 2};

    world_open(w, &fabric, rails);
    world_listen(w, "");
    rig_connect(&w->r);
    pump_until(w, both_have_two);
    side_forget(&w->r.a);
    side_forget(&w->r.b);
}

/* Both sides have control messages on the rail that dies, so neither may send
 * the next one before the other says which of them it got. */
static void
control_of_both_sides_on_a_dead_rail(void **state)
{
    world w;

    (void)state;
    two_rails(&w);
    for (uint64_t i = 0; i < 4; i++) {
        send_control(&w.r, &w.r.a, i);
        send_control(&w.r, &w.r.b, i);
    }
    assert_true(w.r.a.ep->lane[0]->flying_control > 0);
    assert_true(w.r.b.ep->lane[0]->flying_control > 0);
    gp_sim_link(w.sim, 0, 1, false);
    for (uint64_t i = 4; i < 8; i++) {
        send_control(&w.r, &w.r.a, i);
        send_control(&w.r, &w.r.b, i);
    }
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 8);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_true(side_nth(&w.r.a, GP_EVENT_MESSAGE, i)->event.msg.aux == i);
        assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.aux == i);
    }
    world_close(&w);
}

/* A peer that gives up the only lane there is leaves nothing to wait for. */
static void
the_last_lane_is_given_up(void **state)
{
    const gp_sim_options fabric = {.step = true};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        world w;
        side *s;

        world_connected(&w, &fabric, NULL);
        settle(&w.r);
        s = i ? &w.r.a : &w.r.b;
        gp_vb_cm_lost(s->ep, 0, s->ep->lane[0]->next_frame);
        assert_int_equal(ended(&w, s), GP_ERR_PEER_LOST);
        world_close(&w);
    }
}

/* The side that gives up a lane may have been the only one to see it up: it
 * must hear all the same that nothing arrived there. */
static void
a_lane_that_was_up_on_one_side(void **state)
{
    world w;
    gp_vb_lane *lane;

    (void)state;
    two_rails(&w);
    lane = w.r.b.ep->lane[1];
    lane->opened = false; /* as if it had not been established yet */
    send_control(&w.r, &w.r.a, 0);
    settle(&w.r);
    gp_vb_cm_lose(w.r.a.ep->lane[1], GP_ERR_PEER_LOST, "test");
    gp_vb_cm_give_up(w.r.a.ep->lane[1], NULL);
    settle(&w.r);
    assert_true(w.r.a.ep->lane[1]->given_up);
    assert_true(w.r.b.ep->lane[1]->given_up);
    assert_true(w.r.a.ep->lane[1]->peer_gave_up);
    assert_true(w.r.b.ep->lane[1]->peer_gave_up);
    send_control(&w.r, &w.r.b, 1);
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 1);
    world_close(&w);
}

/* Each lane has its own completion queue, and nothing orders those: the next
 * control message may be seen before the last one of a lane that is gone. */
static void
control_seen_in_another_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t deadline = test_deadline();
        gp_vb_lane *old, *new;
        world w;

        two_rails(&w);
        settle(&w.r);
        old = w.r.a.ep->lane[0];
        new = w.r.b.ep->lane[1];
        assert_ptr_not_equal(new->cq, w.r.b.ep->lane[0]->cq);
        send_control(&w.r, &w.r.a, 1);
        gp_vb_probe(old);
        while (old->flying_control) {
            assert_false(gp_expired(deadline));
            side_pump(&w.r.a);
        }
        gp_vb_cm_lose(old, GP_ERR_PEER_LOST, "test");
        if (i)
            w.r.ops->ep_close(w.r.a.ep);
        else
            send_control(&w.r, &w.r.a, 2);
        gp_sim_settle(w.sim);
        assert_true(gp_vb_poll_batch(new->cq) > 0);
        await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 2 - i);
        assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, 0)->event.msg.aux == 1);
        if (i) {
            w.r.a.ep = NULL;
            assert_int_equal(ended(&w, &w.r.b), GP_OK);
        }
        world_close(&w);
    }
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(control_of_both_sides_on_a_dead_rail),
        cmocka_unit_test(the_last_lane_is_given_up),
        cmocka_unit_test(a_lane_that_was_up_on_one_side),
        cmocka_unit_test(control_seen_in_another_order),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
