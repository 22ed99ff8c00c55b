/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_transport_verbs_sim.c - the suite over verbs on a simulated fabric, in
 * many configurations of both. Besides the suite's own cases no violation of
 * verbs may occur, and nothing may be left behind.
 */
#include <limits.h>
#include <stdio.h>

#include "tests/conformance/transport_rig.h"
#include "tests/conformance/transport_suite.h"
#include "tests/sim/sim.h"
#include "transports/transports.h"

typedef struct configuration {
    const char *label;
    const char *settings[9];
    const char *listen; /* NULL: 127.0.0.1:0 */
    gp_sim_options fabric;
    bool alike; /* for threads: they meet as in others */
} configuration;

static const gp_sim_device iwarp = {.iwarp = true};
static const gp_sim_device bare = {
    .no_windows = true, .inline_max = UINT_MAX, .max_sge = 1, .max_msg = 65536};
static const gp_sim_device infiniband = {
    .port = {{.link_layer = IBV_LINK_LAYER_INFINIBAND}}};
static const gp_sim_device pair[2];

static const configuration configurations[] = {
    {.label = "verbs on a simulated fabric"},
    {.label = "verbs, any address", .listen = "", .alike = true},
    {.label = "verbs, IPv6", .listen = "[::1]:0", .alike = true},
    {.label = "verbs, InfiniBand",
     .fabric = {.device = &infiniband, .devices = 1},
     .alike = true},
    {.label = "verbs, imm", .settings = {"ib_notify", "imm"}, .alike = true},
    {.label = "verbs, imm, shuffled",
     .settings = {"ib_notify", "imm"},
     .fabric = {.seed = 2, .shuffle = true}},
    {.label = "verbs, 4 queue pairs, shuffled",
     .settings = {"ib_qps", "4", "ib_notify", "send"},
     .fabric = {.seed = 3, .shuffle = true, .late_acks = true}},
    {.label = "verbs, 2 rails",
     .settings = {"ib_rails", "2"},
     .listen = "10.77.0.1:0",
     .fabric = {.device = pair, .devices = 2}},
    {.label = "verbs, iWARP",
     .fabric = {.device = &iwarp, .devices = 1, .timewait = true},
     .alike = true},
    {.label = "verbs, a bare device",
     .fabric = {.device = &bare, .devices = 1, .clean_cq = true},
     .alike = true},
    {.label = "verbs, no windows, shared domain, tight queues",
     .settings = {"ib_windows", "off", "ib_domains", "shared", "ib_queue", "32",
                  "ib_frames", "16"},
     .fabric = {.grant_more = true}},
    {.label = "verbs, late and spurious events",
     .settings = {"ib_windows", "on", "ib_eager", "0", "ib_piece", "4K"},
     .fabric = {.late_established = true,
                .spurious_events = true,
                .late_acks = true}},
};

/* ThreadSanitizer takes minutes for all of them. */
#ifdef __SANITIZE_THREAD__
enum { ALL = false };
#else
enum { ALL = true };
#endif

static gp_sim *fabric;

static bool
busy(void)
{
    return gp_sim_busy(fabric);
}

static int
run(const gp_transport_ops *verbs, const configuration *c)
{
    gp_sim *sim = gp_sim_open(&c->fabric);
    int failed;

    if (!sim) {
        fprintf(stderr, "%s: no fabric\n", c->label);
        return 1;
    }
    fabric = sim;
    rig_busy = busy;
    gp_verbs_api_use(gp_sim_api(sim));
    failed = transport_suite(c->label, verbs, c->settings,
                             c->listen ? c->listen : "127.0.0.1:0");
    gp_verbs_api_use(NULL);
    rig_busy = NULL;
    if (gp_sim_finish(sim)) {
        fprintf(stderr, "%s: the fabric complains\n", c->label);
        failed++;
    }
    return failed;
}

int
main(void)
{
    int failed = 0;

    for (size_t i = 0; i < sizeof(configurations) / sizeof(*configurations);
         i++)
        if (ALL || !configurations[i].alike)
            failed += run(&gp_verbs_ops, &configurations[i]);
    return failed ? 1 : 0;
}
