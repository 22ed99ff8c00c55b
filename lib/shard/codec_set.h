/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_set.h - the pipelines that pushes of a tensor may go through.
 *
 * A text lists them between '|', as in "none|topk:0.01+q8+rice". Which of them
 * a push used stands in its header.
 */
#ifndef GP_CODEC_SET_H
#define GP_CODEC_SET_H

#include <gradpush/codec.h>

#include "base/base.h"
#include "shard/updater.h"

#define GP_CODEC_SET_MAX 8u

typedef struct gp_codec_set {
    uint32_t count;
    gp_pipeline *pipeline[GP_CODEC_SET_MAX];
    uint32_t id[GP_CODEC_SET_MAX];
} gp_codec_set;

/* The name of the pipeline that leaves elements as they are: of a dtype. */
const char *gp_native_name(uint8_t dtype);

/* Opens all alternatives. Where the text says "none" it means `native`; what
 * comes twice counts once. GP_ERR_CONFIG says what is wrong where. */
gp_status gp_codec_set_open(const char *text, const char *native,
                            const gp_codec_shape *shape, gp_codec_set *out);
void gp_codec_set_close(gp_codec_set *set);

/* The canonical text, which must fit. */
gp_status gp_codec_set_print(const gp_codec_set *set, char *out,
                             size_t capacity);

/* The alternative with that id, or -1. */
int gp_codec_set_find(const gp_codec_set *set, uint32_t id);

/* The most that any of them needs for `count` elements. */
size_t gp_codec_set_bound(const gp_codec_set *set, size_t count);
size_t gp_codec_set_workspace(const gp_codec_set *set, size_t count);

/* Whether they send differences to what the shard holds: all or none. */
bool gp_codec_set_differs(const gp_codec_set *set);

/* Whether results may travel through a pipeline: GP_ERR_CONFIG says why not. */
gp_status gp_codec_check_pull(const gp_pipeline *pull,
                              const gp_updater *updater);

/* How a row travels. */
typedef struct gp_row_codec {
    const gp_pipeline *pipeline;
    uint32_t width;
    size_t bytes; /* of a row, whatever is in it */
    bool plain;   /* they are its numbers as they lie */
} gp_row_codec;

/* Whether rows can travel so, each by itself: GP_ERR_CONFIG says why not. */
gp_status gp_row_codec_open(const gp_pipeline *p, uint32_t width,
                            gp_row_codec *out);

/* Whether error feedback, when it is asked for, can go with a pipeline:
 * GP_ERR_CONFIG says why not. */
gp_status gp_codec_check_feedback(const gp_pipeline *p, bool feedback);

/* The alternative that is the pull pipeline as well, and whose messages shards
 * sum undecoded; -1: none.
 * @param feedback  of pulls. */
int gp_codec_set_summed(const gp_codec_set *push, const gp_pipeline *pull,
                        const gp_updater *updater, bool feedback,
                        uint32_t workers);

/* Whether such sums can hold all workers: GP_ERR_CONFIG says why not. */
gp_status gp_codec_set_check_sum(const gp_codec_set *push, int summed,
                                 uint32_t workers);

/* Whether feedback is worth its memory: less than 16 bits remain of each
 * element and more than 1 % of their energy may be lost. */
bool gp_codec_loses_much(const gp_pipeline *p, size_t count);

/* Whether one of them, or the pull pipeline, wants chunks as large as can be.
 */
bool gp_codec_set_is_wide(const gp_codec_set *set, const gp_pipeline *pull);

#endif
