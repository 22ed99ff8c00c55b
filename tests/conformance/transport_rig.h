/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_rig.h - two domains of one transport, facing each other, and what
 * happened to each of them.
 *
 * Side `a` connects, side `b` listens. pump() drives both and appends every
 * event to the side's log; waits end with a failed assertion after a deadline.
 */
#ifndef GP_TRANSPORT_RIG_H
#define GP_TRANSPORT_RIG_H

#include <gradpush/transport.h>

#include "base/base.h"

typedef struct seen {
    gp_event event;
    uint8_t *copy; /* control payload as it was delivered */
} seen;

typedef struct side {
    const gp_transport_ops *ops;
    gp_domain *domain;
    gp_endpoint *ep; /* of the last ACCEPTED or CONNECTED */
    uint8_t *memory; /* exposed to ep */
    size_t bytes;
    gp_mem *mem;
    uint32_t token;
    seen *log;
    size_t count, capacity;
    int max; /* events per progress() */
} side;

typedef struct rig {
    const gp_transport_ops *ops;
    gp_config *config;
    side a, b;
    char bound[GP_ADDRESS_MAX];
} rig;

/* Which transport, how configured, where it listens. */
typedef struct rig_kind {
    const gp_transport_ops *ops;
    const char *const *settings; /* name, value, ..., NULL */
    const char *listen;
} rig_kind;
extern rig_kind rig_of;
/* For a world inside this process, when set. Called by pump(): it moves only
 * when told to. Asked by settle(): whether something is still under way in it,
 * for all that the two sides know. */
extern void (*rig_turn)(void);
extern bool (*rig_busy)(void);

void rig_open(rig *r);      /* two domains, not connected */
void rig_connect(rig *r);   /* b listens, a connects, both say so */
void rig_connected(rig *r); /* rig_open and rig_connect */
void rig_close(rig *r);

void side_open(side *s, const rig *r);
void side_close(side *s);
void side_pump(side *s);
void pump(rig *r);
void side_expose(side *s, size_t bytes, uint32_t flags);
void side_forget(side *s); /* empties the log */

size_t side_count(const side *s, gp_event_type type);
/* The nth event of a type, or NULL. */
const seen *side_nth(const side *s, gp_event_type type, size_t n);
/* Pumps both until side s has logged n of them. */
void await(rig *r, const side *s, gp_event_type type, size_t n);
/* Pumps until there is nothing to do for a while on both sides. */
void settle(rig *r);

gp_msg control_msg(uint64_t aux, size_t payload);
gp_msg data_msg(uint32_t token, uint64_t offset, size_t payload);
/* Posts, pumping while the queue is full. */
void post(rig *r, side *s, const gp_msg *msg, const void *payload,
          uint64_t cookie);
void flush(side *s);
void send_control(rig *r, side *s, uint64_t aux);

void fill_pattern(uint8_t *bytes, size_t length, uint64_t seed);
void assert_pattern(const uint8_t *bytes, size_t length, uint64_t seed);
uint64_t test_deadline(void);

#endif
