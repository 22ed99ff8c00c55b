/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - threads that share the parts of a job.
 *
 * Parts are handed out under the lock: they are chunks of a tensor, tens of
 * microseconds each, so that the lock is no matter.
 */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/base.h"

typedef struct member {
    gp_pool *pool;
    unsigned index;
    pthread_t thread;
} member;

struct gp_pool {
    unsigned size, started;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    gp_pool_function function;
    void *arg;
    size_t parts, next, left; /* left: not finished */
    bool stop;
    member member[];
};

/* Does parts until none is left to begin. Called and left with the lock held.
 */
static void
take_parts(gp_pool *p, unsigned index)
{
    while (p->next < p->parts) {
        gp_pool_function function = p->function;
        void *arg = p->arg;
        size_t part = p->next++;

        pthread_mutex_unlock(&p->lock);
        function(arg, part, index);
        pthread_mutex_lock(&p->lock);
        if (--p->left == 0)
            pthread_cond_signal(&p->done);
    }
}

static void *
serve(void *arg)
{
    member *m = arg;
    gp_pool *p = m->pool;

    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        take_parts(p, m->index);
        if (!p->stop)
            pthread_cond_wait(&p->work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* The application's signals are none of the pool's business. */
static int
start(gp_pool *p, unsigned index)
{
    member *m = &p->member[index];
    sigset_t all, before;
    int error;

    *m = (member){.pool = p, .index = index};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&m->thread, NULL, serve, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

gp_status
gp_pool_create(unsigned size, gp_pool **out)
{
    gp_pool *p = calloc(1, sizeof(*p) + size * sizeof(p->member[0]));

    if (!p)
        return gp_fail(GP_ERR_NO_MEMORY, "a pool of %u threads", size);
    p->size = size;
    p->started = 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    while (p->started < size) {
        int error = start(p, p->started);

        if (error) {
            gp_status status =
                gp_fail_errno(GP_ERR_SYSTEM, error,
                              "thread %u of %u cannot start", p->started, size);

            gp_pool_destroy(p);
            return status;
        }
        p->started++;
    }
    *out = p;
    return GP_OK;
}

void
gp_pool_destroy(gp_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 1; i < p->started; i++)
        pthread_join(p->member[i].thread, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

unsigned
gp_pool_size(const gp_pool *p)
{
    return p->size;
}

void
gp_pool_run(gp_pool *p, gp_pool_function function, void *arg, size_t parts)
{
    pthread_mutex_lock(&p->lock);
    p->function = function;
    p->arg = arg;
    p->parts = p->left = parts;
    p->next = 0;
    if (parts > 1)
        pthread_cond_broadcast(&p->work);
    take_parts(p, 0);
    while (p->left > 0)
        pthread_cond_wait(&p->done, &p->lock);
    p->parts = p->next = 0;
    pthread_mutex_unlock(&p->lock);
}
