/* SPDX-License-Identifier: Apache-2.0 */
/* world.c - see world.h. */
#include "tests/sim/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/transports.h"
#include "transports/verbs/verbs_int.h"

static const char *const no_settings[] = {NULL};
static gp_sim *turning;

static void
turn(void)
{
    (void)gp_sim_turn(turning);
}

static bool
busy(void)
{
    return gp_sim_busy(turning);
}

void
world_open(world *w, const gp_sim_options *options, const char *const *settings)
{
    memset(w, 0, sizeof(*w));
    gp_sim_close(turning); /* of a test that failed */
    w->sim = gp_sim_open(options);
    assert_non_null(w->sim);
    turning = w->sim;
    rig_turn = options && options->step ? turn : NULL;
    rig_busy = busy;
    gp_verbs_api_use(gp_sim_api(w->sim));
    rig_of = (rig_kind){&gp_verbs_ops, settings ? settings : no_settings,
                        "127.0.0.1:0"};
    rig_open(&w->r);
    w->b = gp_sim_processes(w->sim);
    w->a = w->b - 1;
}

void
world_connected(world *w, const gp_sim_options *options,
                const char *const *settings)
{
    world_open(w, options, settings);
    rig_connect(&w->r);
    side_forget(&w->r.a);
    side_forget(&w->r.b);
}

static void
check(world *w, size_t violations)
{
    char text[4096];
    size_t found = gp_sim_violations(w->sim, text, sizeof(text)), leaked;

    rig_turn = NULL;
    rig_busy = NULL;
    gp_verbs_api_use(NULL);
    if (found != violations)
        print_error("%zu violations:\n%s", found, text);
    leaked = gp_sim_leaks(w->sim, text, sizeof(text));
    if (leaked)
        print_error("leaked: %s\n", text);
    gp_sim_close(w->sim);
    turning = NULL;
    assert_int_equal(found, violations);
    assert_int_equal(leaked, 0);
}

void
area_make(world *w, area *m, side *of, size_t length)
{
    *m = (area){
        .of = of, .length = length, .bytes = malloc(length), .next = w->areas};
    w->areas = m;
    assert_non_null(m->bytes);
    memset(m->bytes, 0xEE, length);
    assert_int_equal(of->ops->mem_reg(of->domain, m->bytes, length, &m->mem),
                     GP_OK);
}

void
area_expose(world *w, area *m, side *of, size_t length)
{
    area_make(w, m, of, length);
    assert_int_equal(of->ops->expose(of->ep, m->mem, 0, length, 0, &m->token),
                     GP_OK);
}

void
area_free(world *w, area *m)
{
    area **at = &w->areas;

    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    w->r.ops->mem_dereg(m->mem);
    free(m->bytes);
}

void
world_close_despite(world *w, size_t violations)
{
    rig_close(&w->r);
    while (w->areas)
        area_free(w, w->areas);
    check(w, violations);
}

void
world_close(world *w)
{
    world_close_despite(w, 0);
}

void
world_listen(world *w, const char *address)
{
    assert_int_equal(w->r.ops->listen(w->r.b.domain, address, w->r.bound,
                                      sizeof(w->r.bound)),
                     GP_OK);
}

void
post_from(world *w, area *from, const gp_msg *msg, size_t at, uint64_t cookie)
{
    uint64_t deadline = test_deadline();
    side *s = from->of;
    gp_status status;

    while ((status = s->ops->post(s->ep, msg, from->bytes + at, from->mem,
                                  cookie)) == GP_AGAIN) {
        assert_false(gp_expired(deadline));
        flush(s);
        pump(&w->r);
    }
    assert_int_equal(status, GP_OK);
}

void
push_quietly(world *w, area *from, const area *to, size_t at, size_t bytes,
             uint64_t cookie)
{
    gp_msg msg = data_msg(to->token, at, bytes);

    post_from(w, from, &msg, at, cookie);
}

void
push(world *w, area *from, const area *to, size_t at, size_t bytes,
     uint64_t cookie)
{
    push_quietly(w, from, to, at, bytes, cookie);
    flush(from->of);
}

void
arrived(world *w, side *s, size_t messages)
{
    await(&w->r, s, GP_EVENT_MESSAGE, messages);
}

gp_status
ended(world *w, side *s)
{
    await(&w->r, s, GP_EVENT_CLOSED, 1);
    return side_nth(s, GP_EVENT_CLOSED, 0)->event.status;
}

gp_sim_stats
stats_of(world *w)
{
    return gp_sim_stats_now(w->sim);
}

void
pump_until(world *w, bool (*done)(world *w))
{
    uint64_t deadline = test_deadline();

    while (!done(w)) {
        assert_false(gp_expired(deadline));
        pump(&w->r);
    }
}

uint32_t
lanes_up(const gp_endpoint *ep)
{
    uint32_t up = 0;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        up += ep->lane[i]->state == GP_VB_LANE_UP;
    return up;
}

bool
both_have_two(world *w)
{
    return lanes_up(w->r.a.ep) == 2 && lanes_up(w->r.b.ep) == 2;
}
