/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_same.c - the same bytes from all threads and workspaces, and the same
 * pipeline from its canonical text.
 */
#include <pthread.h>
#include <string.h>

#include "conformance/suite.h"

enum { THREADS = 4, COUNT = 3001, ROUNDS = 10 };

typedef struct worker {
    gp_suite *s;
    const float *x;
    gp_suite_trial t;
    gp_status status;
    bool started;
    pthread_t thread;
} worker;

static void *
encode_often(void *argument)
{
    worker *w = argument;

    w->status = GP_OK;
    for (int i = 0; i < ROUNDS && w->status == GP_OK; i++) {
        gp_codec_memory *memory = NULL;

        w->status =
            gp_codec_memory_create(w->s->pipeline, 0, COUNT, i & 1, &memory);
        if (w->status == GP_OK)
            w->status = gp_suite_trial_run(w->s, &w->t, memory, w->x);
        gp_codec_memory_destroy(memory);
    }
    return NULL;
}

/* Threads that share a pipeline, each with other bytes in its workspace. */
static void
check_threads(gp_suite *s)
{
    float *x = gp_suite_floats(s, COUNT);
    worker workers[THREADS];

    gp_suite_fill(&gp_suite_inputs[1], x, COUNT);
    for (int i = 0; i < THREADS; i++) {
        workers[i] =
            (worker){.s = s, .x = x, .t = gp_suite_trial_make(s, COUNT)};
        memset(workers[i].t.workspace, 0x11 * i, workers[i].t.room);
    }
    for (int i = 0; i < THREADS; i++) {
        workers[i].started = pthread_create(&workers[i].thread, NULL,
                                            encode_often, &workers[i]) == 0;
        if (!workers[i].started)
            encode_often(&workers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        if (workers[i].started)
            pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) {
        const gp_suite_trial *t = &workers[i].t, *first = &workers[0].t;

        if (workers[i].status || t->length != first->length ||
            memcmp(t->bytes, first->bytes, t->length) != 0)
            gp_suite_fail(s, "thread %d encodes the same input to other bytes",
                          i);
    }
    for (int i = 0; i < THREADS; i++)
        gp_suite_trial_free(s, &workers[i].t);
    gp_suite_free(s, x);
}

static void
check_name(gp_suite *s)
{
    gp_codec_shape shape = {0, s->options.columns};
    const char *name = gp_pipeline_name(s->pipeline);
    gp_pipeline *again;

    if (gp_pipeline_open(name, &shape, &again)) {
        gp_suite_fail(s, "its canonical text is refused: %s", gp_last_error());
        return;
    }
    if (strcmp(name, gp_pipeline_name(again)) != 0 ||
        gp_pipeline_id(s->pipeline) != gp_pipeline_id(again))
        gp_suite_fail(s, "'%s' parses to '%s'", name, gp_pipeline_name(again));
    gp_pipeline_destroy(again);
}

void
gp_suite_check_same(gp_suite *s)
{
    check_threads(s);
    check_name(s);
}
