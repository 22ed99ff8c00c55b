/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paths.h - which transports a shard can be reached by, and which one a worker
 * takes.
 *
 * A published address is one address, or alternatives with the name of their
 * transport in front: "verbs:10.0.0.2:4711|tcp:10.0.0.2:4712". One transport
 * may have several, best first; what gp_paths_take() gives of it then has them
 * all, "10.0.0.2:4711|10.0.1.2:4711".
 */
#ifndef GP_PATHS_H
#define GP_PATHS_H

#include <gradpush/transport.h>

#include "base/base.h"

#define GP_PATHS_MAX 2

/* The transports that a shard listens on: the one that is configured, or with
 * auto verbs, if this machine can use it, and tcp. Says in the log why verbs is
 * left out. GP_ERR_CONFIG for a name that nobody knows. */
gp_status gp_paths_offer(const gp_config *config,
                         const gp_transport_ops *out[GP_PATHS_MAX],
                         size_t *count);

/* Appends what listen() of a transport gave to `out`, "" at first; the name
 * goes in front of each when there are several, also of one transport.
 * GP_ERR_TOO_LARGE. */
gp_status gp_paths_append(const char *transport, const char *address,
                          bool several, char *out, size_t capacity);

/*
 * The alternative that this process takes: with auto verbs, if it is offered
 * and this machine can use it, else tcp. What is offered without a name goes by
 * the configured transport, tcp with auto.
 *
 * `who` names the other side in messages: "shard 3". *said: whether the log has
 * why verbs is passed over, which it need not hear of each shard; may be NULL.
 * GP_ERR_CONFIG when the
 * configured transport is not among what is offered.
 */
gp_status gp_paths_take(const gp_config *config, const char *who,
                        const char *published, bool *said,
                        const gp_transport_ops **ops, char *address,
                        size_t capacity);

/* What is left when the alternative taken leads nowhere: with auto tcp after
 * verbs, else NULL. */
const gp_transport_ops *gp_paths_other(const gp_config *config,
                                       const char *published,
                                       const gp_transport_ops *taken,
                                       char *address, size_t capacity);

/* Whether a device may be what moves data there. All processes of a job find
 * the same, also those that take another way. */
bool gp_paths_have_device(const gp_config *config, const char *published);

/* Every alternative, one after the other: *next starts as the published text,
 * and is NULL after the last. `transport` gets the name, "" for none. */
bool gp_paths_next(const char **next, char *transport,
                   size_t transport_capacity, char *address, size_t capacity);

#endif
