/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_session.h - the store's server without sockets: what it answers to
 * which bytes.
 *
 * A core is the store; a session is one connection to it. Whoever has the
 * socket asks a session where to put the bytes it wants, says how many came,
 * and sends what it gives out. Time comes from the caller. One thread.
 */
#ifndef GP_STORE_SESSION_H
#define GP_STORE_SESSION_H

#include "base/list.h"
#include "rendezvous/store_table.h"
#include "rendezvous/store_wire.h"

typedef struct gp_store_core {
    gp_store_table table;
    const char *token; /* borrowed */
    uint64_t job;
    uint64_t handshake_ns; /* a peer has this long to prove itself */
    uint64_t now_ns;       /* set before every call below */
    gp_list young;         /* not proven yet, oldest first */
    gp_list waiters;       /* sessions whose get waits for a key */
    gp_list ready;         /* sessions that changed by another's doing */
    uint64_t next_wait_ns; /* no waiter's deadline is earlier */
} gp_store_core;

/* What the answer of a member (reporter.h) becomes when the connection that set
 * it last ends: whoever waits for an answer hears of it. */
#define GP_STORE_GONE "{\"gone\":1}"
/* Answers and claims of a connection, at most; it owns no more, and what it
 * claims beyond is anybody's. */
#define GP_STORE_OWNED_MAX 256u

typedef struct gp_store_owned gp_store_owned;

typedef enum gp_session_state {
    GP_SESSION_PREFIX,
    GP_SESSION_HELLO,
    GP_SESSION_HEAD,
    GP_SESSION_BODY,
    GP_SESSION_WAIT,
    GP_SESSION_OVER
} gp_session_state;

typedef struct gp_store_session {
    gp_list link;  /* in core->young or core->waiters */
    gp_list ready; /* in core->ready */
    gp_store_core *core;
    gp_session_state state;
    gp_status refusal; /* why a handshake failed, for the log */
    bool proven;
    uint64_t deadline_ns; /* of the handshake, or of the waiting get */
    uint8_t nonce[GP_TOKEN_NONCE];
    gp_store_request request;
    uint8_t input[GP_STORE_HELLO];
    uint8_t *body;         /* key and value, owned */
    gp_store_owned *owned; /* keys that it has claimed, or set last, maybe */
    uint32_t owned_count;
    size_t have, want;
    uint8_t small[GP_STORE_GREETING];
    uint8_t *output; /* small, or owned */
    size_t output_length, output_sent;
} gp_store_session;

/* `token` is borrowed. */
gp_status gp_store_core_create(gp_store_core *core, const char *token,
                               uint64_t job, uint64_t handshake_ns);
/* After the last session is closed. */
void gp_store_core_destroy(gp_store_core *core);

/* Ends waits and handshakes whose time has passed; they appear in `ready`. */
void gp_store_core_expire(gp_store_core *core);
/* When to call that next; UINT64_MAX when nothing is due. */
uint64_t gp_store_core_deadline(const gp_store_core *core);

/* Begins with the greeting as output. */
gp_status gp_session_open(gp_store_core *core, gp_store_session *session);
void gp_session_close(gp_store_session *session);

/* Where the next bytes go and how many are wanted: 0 while there is output, in
 * a wait, and at the end. */
size_t gp_session_space(gp_store_session *session, uint8_t **at);
/* That many bytes came. */
void gp_session_input(gp_store_session *session, size_t length);
/* What to send now; 0 when there is nothing. */
size_t gp_session_output(const gp_store_session *session, const uint8_t **at);
void gp_session_sent(gp_store_session *session, size_t length);
/* True when the connection is to be closed: over, and all is sent. */
bool gp_session_over(const gp_store_session *session);

#endif
