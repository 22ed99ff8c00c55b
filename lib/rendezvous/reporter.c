/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reporter.c - the thread that waits for questions.
 *
 * It must never trouble the job: whatever goes wrong is tried again later, and
 * said at the level debug only. The store may end before its members do.
 */
#include "rendezvous/reporter.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "rendezvous/store_client.h"

#define WAIT_SECONDS  600.0 /* then it asks again */
#define REACH_SECONDS 1.0   /* a store that has gone is tried for so long */
#define REST_FIRST_MS 1000
#define REST_MOST_MS  30000

struct gp_reporter {
    gp_store *store;
    pthread_t thread;
    int stop_fd;
    size_t count;
    gp_reported *reported;
    char asked[32]; /* the counter's last text */
    size_t asked_length;
    char document[GP_STORE_VALUE_MAX];
};

/* What a text of the key status/job says. */
static void
describe_job(const char *text, char *out, size_t capacity)
{
    long long workers, shards;
    int hosted;

    if (sscanf(text, "%lld %lld %d", &workers, &shards, &hosted) == 3)
        snprintf(out, capacity, "%lld worker%s and %lld %s shard%s", workers,
                 workers == 1 ? "" : "s", shards,
                 hosted ? "co-located" : "stand-alone", shards == 1 ? "" : "s");
    else
        snprintf(out, capacity, "'%.60s'", text);
}

gp_status
gp_status_announce(gp_store *store, int64_t workers, int64_t shards,
                   bool hosted)
{
    char text[64], other[64], own[96], theirs[96];
    gp_status status;

    snprintf(text, sizeof(text), "%lld %lld %d", (long long)workers,
             (long long)shards, hosted);
    status = gp_store_claim(store, GP_STATUS_JOB, text, other, sizeof(other));
    if (status != GP_OK || !other[0])
        return status;
    describe_job(text, own, sizeof(own));
    describe_job(other, theirs, sizeof(theirs));
    return gp_fail(GP_ERR_MISMATCH,
                   "this worker's job has %s, but workers of job '%s' that are "
                   "in the store at %s already have %s: give them all the same "
                   "GRADPUSH_SIZE, GRADPUSH_SHARDS and GRADPUSH_COLOCATED, and "
                   "another job a GRADPUSH_JOB and GRADPUSH_STORE of its own",
                   own, store->job_name, store->address, theirs);
}

static gp_status
answer_one(gp_reporter *r, gp_reported *who, uint64_t round)
{
    char key[64];
    size_t length = who->write(who, round, r->document, sizeof(r->document));

    if (length == 0 || who->number < 0)
        return GP_OK;
    snprintf(key, sizeof(key), "%s%lld", who->prefix, (long long)who->number);
    return gp_store_set(r->store, key, r->document, length);
}

static gp_status
answer_all(gp_reporter *r)
{
    char text[sizeof(r->asked) + 1] = "";
    gp_status status = GP_OK;

    memcpy(text, r->asked, r->asked_length);
    for (size_t i = 0; status == GP_OK && i < r->count; i++)
        status = answer_one(r, &r->reported[i], strtoull(text, NULL, 10));
    return status;
}

/* The next question. A counter that exists before the first one is an old
 * question: answering it does no harm. */
static gp_status
await_question(gp_reporter *r, double seconds)
{
    char text[sizeof(r->asked)];
    size_t length = 0;
    gp_status status =
        gp_store_watch(r->store, GP_STATUS_ASKED, r->asked, r->asked_length,
                       text, sizeof(text), &length, gp_deadline(seconds));

    if (status != GP_OK)
        return status;
    memcpy(r->asked, text, length);
    r->asked_length = length;
    return GP_OK;
}

/* False when it is time to end. */
static bool
rest(const gp_reporter *r, int ms)
{
    struct pollfd item = {.fd = r->stop_fd, .events = POLLIN};

    return poll(&item, 1, ms) == 0;
}

static bool
must_stop(const gp_reporter *r)
{
    return !rest(r, 0);
}

static void *
report(void *arg)
{
    gp_reporter *r = arg;
    int pause = REST_FIRST_MS;
    bool lost = false;

    prctl(PR_SET_NAME, "gradpush-status");
    (void)answer_all(r); /* from here on the store knows when it is gone */
    while (!must_stop(r)) {
        gp_status status =
            await_question(r, lost ? REACH_SECONDS : WAIT_SECONDS);

        if (status == GP_OK)
            status = answer_all(r);
        lost = r->store->fd < 0;
        if (!lost) {
            pause = REST_FIRST_MS;
            continue;
        }
        GP_DEBUG("status: %s", gp_last_error());
        if (!rest(r, pause))
            break;
        pause = GP_MIN(2 * pause, REST_MOST_MS);
    }
    return NULL;
}

/* Signals are for the threads of the program. */
static int
start_thread(gp_reporter *r)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&r->thread, NULL, report, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static void
destroy(gp_reporter *r)
{
    if (r->stop_fd >= 0)
        close(r->stop_fd);
    free(r->reported);
    free(r);
}

gp_status
gp_reporter_start(gp_store *store, const gp_reported *reported, size_t count,
                  gp_reporter **out)
{
    gp_reporter *r = calloc(1, sizeof(*r));
    int error;

    if (!r)
        return gp_fail(GP_ERR_NO_MEMORY, "status reports");
    r->store = store;
    r->count = count;
    r->reported = calloc(count, sizeof(*reported));
    r->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!r->reported || r->stop_fd < 0) {
        destroy(r);
        return gp_fail(GP_ERR_NO_MEMORY, "status reports");
    }
    memcpy(r->reported, reported, count * sizeof(*reported));
    gp_store_stop_by(store, r->stop_fd);
    error = start_thread(r);
    if (error) {
        gp_store_stop_by(store, -1);
        destroy(r);
        return gp_fail_errno(GP_ERR_SYSTEM, error, "thread of status reports");
    }
    *out = r;
    return GP_OK;
}

void
gp_reporter_stop(gp_reporter *r)
{
    uint64_t one = 1;

    if (!r)
        return;
    (void)!write(r->stop_fd, &one, sizeof(one));
    pthread_join(r->thread, NULL);
    gp_store_stop_by(r->store, -1);
    destroy(r);
}
