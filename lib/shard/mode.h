/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mode.h - when the pushes of a tensor become results: its consistency.
 */
#ifndef GP_MODE_H
#define GP_MODE_H

#include "base/base.h"
#include "shard/codec_set.h"
#include "shard/updater.h"

#define GP_MODE_MAX 64u /* bytes of a canonical text */

typedef enum gp_mode_kind {
    GP_MODE_SYNC = 1,
    GP_MODE_SSP = 2,
    GP_MODE_ASYNC = 3,
    GP_MODE_LOCAL = 4
} gp_mode_kind;

typedef struct gp_mode {
    gp_mode_kind kind;
    uint32_t backups;   /* sync: so many pushes may be missing from a step */
    bool carry;         /* ... and join the next one rather than no step */
    uint32_t staleness; /* ssp: K */
    uint32_t period;    /* local: H */
} gp_mode;

/* Reads "sync", "sync:N-1,late=carry", "ssp:4", "async", "local:16".
 * GP_ERR_CONFIG repeats the text and says what is wrong where.
 * @param workers  in the job; 0: not known yet. */
gp_status gp_mode_parse(const char *text, uint32_t workers, gp_mode *out);

/* Canonical text with every parameter, into at most `capacity` bytes. */
void gp_mode_print(const gp_mode *mode, char *out, size_t capacity);

/* Whether pushes are added as they arrive, not by rank once all are there. */
static inline bool
gp_mode_arrives(const gp_mode *m)
{
    return m->kind == GP_MODE_ASYNC || m->kind == GP_MODE_SSP || m->backups > 0;
}

/* Whether what a tensor does with pushes and results goes with its mode:
 * GP_ERR_CONFIG says why not. */
gp_status gp_mode_check_fit(const gp_mode *mode, const gp_updater *updater,
                            const gp_codec_set *push);

/* What of them does not go with workers that come and go; NULL: all does. */
const char *gp_mode_elastic_clash(const gp_mode *mode,
                                  const gp_updater *updater,
                                  const gp_codec_set *push);

/* The same of a tensor of rows. */
gp_status gp_mode_check_rows(const gp_mode *mode, const gp_updater *updater);

#endif
