/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.h - what the worker's engine knows of collectives.
 *
 * The mesh is a worker's connections to other workers and its groups. It exists
 * from the first gp_group_create() on. It shares the worker's links, so one
 * progress() serves shards and workers; endpoints of other workers carry a
 * tagged pointer, by which gp_mesh_event() tells its events from the engine's.
 */
#ifndef GP_MESH_H
#define GP_MESH_H

#include <gradpush/transport.h>
#include <gradpush/worker.h>

#include "base/base.h"

typedef struct gp_mesh gp_mesh;
typedef struct gp_collective gp_collective;

/* Handles an event of another worker's endpoint, or of a new one; false when it
 * is the engine's. Under the driver's hold, as what follows. */
bool gp_mesh_event(gp_worker *w, int link, const gp_event *event);

/* Whether calls wait to be taken. */
bool gp_mesh_news(const gp_mesh *mesh);

/* After events and new calls: sends what can be sent; what was done. */
int gp_mesh_turn(gp_mesh *mesh);

/* When gp_mesh_turn() must be called again. */
uint64_t gp_mesh_deadline(const gp_mesh *mesh);

/* The worker has failed: ends all requests, after the connections. */
void gp_mesh_fail(gp_mesh *mesh, gp_status status, const char *text);

/* Before an orderly end of the worker, without the hold: waits until all that
 * was sent has left, and says goodbye. NULL is fine, here and below. */
void gp_mesh_leave(gp_mesh *mesh);

/* Nobody drives any more. */
void gp_mesh_destroy(gp_mesh *mesh);

/* Whether an open request uses memory of that range. */
bool gp_mesh_uses(const gp_mesh *mesh, const void *base, size_t bytes);
/* Nothing is written any more into a registered buffer. */
void gp_mesh_withdraw(gp_mesh *mesh, const gp_buffer *buffer);

/* For gp_wait() and gp_test(): the worker of a collective's request, what it
 * ended with (the request goes back to its group), and why it is late. */
gp_worker *gp_collective_worker(const gp_collective *c);
gp_status gp_collective_conclude(gp_collective *c);
gp_status gp_collective_late(gp_collective *c, double seconds);

#endif
