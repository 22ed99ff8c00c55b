/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reporter.h - a member's answers to `gradpush status`, through the store.
 *
 * Keys of the store:
 *
 *     status/job       "WORKERS SHARDS HOSTED", as decimal numbers: what the
 *                      members count; HOSTED is 1 when workers host the
 *                      shards; claimed by all workers
 *     status/asked     a counter, which whoever asks adds to
 *     status/worker/R  the answer of worker R, a JSON document (and
 *     status/shard/S   docs/monitoring.md) with the counter's value in "round"
 *
 * A thread gives a first answer, of round 0, and then waits for the counter to
 * change. While nobody asks it sleeps, and costs the job nothing. Answers are
 * of the connection that gave them: when that ends the store says so in their
 * place (store_session.h).
 */
#ifndef GP_REPORTER_H
#define GP_REPORTER_H

#include "rendezvous/rendezvous.h"

#define GP_STATUS_JOB    "status/job"
#define GP_STATUS_ASKED  "status/asked"
#define GP_STATUS_WORKER "status/worker/"
#define GP_STATUS_SHARD  "status/shard/"

#define GP_MEMBER_SCHEMA "gradpush.member/1"

/* One who answers. */
typedef struct gp_reported {
    const char *prefix; /* of its key */
    int64_t number;     /* behind it; below 0: not known yet, no answer */
    void *self;
    /* Writes the document. Called by the reporter's thread; returns its length,
     * 0 for none. May change `number`. */
    size_t (*write)(struct gp_reported *r, uint64_t round, char *out,
                    size_t capacity);
} gp_reported;

typedef struct gp_reporter gp_reporter;

/* Says how large the job is; before anybody can answer. GP_ERR_MISMATCH:
 * workers that are there say something else. When all of them have gone the job
 * may be started anew with other sizes. */
gp_status gp_status_announce(gp_store *store, int64_t workers, int64_t shards,
                             bool hosted);

/* Starts the thread, which alone uses the store from now on. `reported` is
 * copied. */
gp_status gp_reporter_start(gp_store *store, const gp_reported *reported,
                            size_t count, gp_reporter **out);

/* Ends it at once; the store is the caller's again. NULL is fine. */
void gp_reporter_stop(gp_reporter *reporter);

#endif
