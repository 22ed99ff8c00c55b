/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.h - the parts of `gradpush status`.
 */
#ifndef GP_STATUS_TOOL_H
#define GP_STATUS_TOOL_H

#include "base/base.h"
#include "json_read.h"
#include "rendezvous/reporter.h"

/* Where a job is asked. */
typedef struct gp_place {
    char store[256], job[128], token[256];
} gp_place;

/* status_place.c: from a configuration, whose store may be empty, and else from
 * the notes that `gradpush run` leaves. Says what is wrong as an error. */
gp_status gp_place_find(gp_config *config, gp_place *out);

/* The name of this process's note, and what `gradpush run` writes there: a file
 * that only this user can read. */
void gp_place_note_path(char *out, size_t capacity);
gp_status gp_place_note(const char *path, const char *store, const char *job,
                        const char *token_file);

/* The latest answer of a member, and how it compares with the one before. */
typedef struct gp_member {
    gp_tree *tree; /* NULL: there is none */
    const gp_node *root;
    bool fresh;                                  /* of this round */
    bool gone;                                   /* its connection has ended */
    bool rated;                                  /* the rates are known */
    double steps_rate, pushed_rate, pulled_rate; /* per second */
} gp_member;

/* All answers of one round. */
typedef struct gp_round {
    uint64_t number;
    int64_t workers, shards;
    bool hosted; /* shards, by the workers */
    int64_t listed_workers, listed_shards;
    gp_member *worker, *shard;
} gp_round;

/* status_ask.c: asks and waits for the answers of all, `seconds` at most.
 * @param before  the round before, for rates, or NULL.
 * @return GP_OK also when some have not answered; GP_ERR_NOT_FOUND: there is a
 *         store but no worker yet. */
gp_status gp_round_ask(gp_store *store, double seconds, const gp_round *before,
                       gp_round *out);
void gp_round_free(gp_round *round);

/* status_show.c */
void gp_round_print(const gp_place *place, const gp_round *round,
                    uint32_t tensors);
gp_status gp_round_write(const gp_place *place, const gp_round *round,
                         const char *path);

#endif
