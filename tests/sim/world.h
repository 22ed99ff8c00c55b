/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world.h - the verbs transport on a simulated fabric: two domains of the rig,
 * and registered memory to send from and to land in.
 *
 * world_close() fails the test when the fabric saw a violation or a leak, so
 * every test that ends with it is one about all of that.
 */
#ifndef GP_SIM_WORLD_H
#define GP_SIM_WORLD_H

#include "tests/conformance/transport_rig.h"
#include "tests/sim/sim.h"

/* Registered memory of a side; exposed to its endpoint when token is not 0. */
typedef struct area {
    side *of;
    uint8_t *bytes;
    size_t length;
    gp_mem *mem;
    uint32_t token;
    struct area *next; /* of the world's */
} area;

typedef struct world {
    gp_sim *sim;
    rig r;
    unsigned a, b; /* their processes on the fabric */
    area *areas;
} world;

/* `settings`: names and values, ended by NULL; may be NULL. */
void world_open(world *w, const gp_sim_options *options,
                const char *const *settings);
void world_connected(world *w, const gp_sim_options *options,
                     const char *const *settings);
/* b listens there, "": on all of its rails. */
void world_listen(world *w, const char *address);
void world_close(world *w);
/* The same where such violations are the test's own doing. */
void world_close_despite(world *w, size_t violations);

/* world_close() releases them, after the domains are closed. */
void area_make(world *w, area *m, side *of, size_t length);
void area_expose(world *w, area *m, side *of, size_t length);
void area_free(world *w, area *m); /* earlier than that */

/* Posts [at, at + bytes) of `from` to the same place of `to`, and flushes. */
void push(world *w, area *from, const area *to, size_t at, size_t bytes,
          uint64_t cookie);
/* The same without the flush; pumps while the queue is full. */
void push_quietly(world *w, area *from, const area *to, size_t at, size_t bytes,
                  uint64_t cookie);
/* Posts a data message with its payload from `at` on in the same way. */
void post_from(world *w, area *from, const gp_msg *msg, size_t at,
               uint64_t cookie);
/* Waits for that many messages since the log was emptied. */
void arrived(world *w, side *s, size_t messages);
/* Waits for the end of s's endpoint; its status. */
gp_status ended(world *w, side *s);
gp_sim_stats stats_of(world *w);

/* Pumps until `done` says so. */
void pump_until(world *w, bool (*done)(world *w));
/* Lanes of an endpoint that are up, and whether each side has two. */
uint32_t lanes_up(const gp_endpoint *ep);
bool both_have_two(world *w);

#endif
