/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - `gradpush status`: what a live job is doing.
 *
 * The job's store carries the question and the answers: it knows who belongs to
 * the job, and members need not listen for anybody else. See reporter.h.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "rendezvous/rendezvous.h"
#include "status.h"
#include "tool.h"

#define PATIENCE "3s" /* for the store */

typedef struct gp_status_options {
    gp_config *config;
    const char *json;
    double watch, wait, interval;
    int64_t tensors, rounds;
} gp_status_options;

static const gp_option options[] = {
    {"watch", 'w', "SECONDS", "show it again and again, until the job ends"},
    {"rounds", 'n', "N", "with --watch: end after so many (default: never)"},
    {"interval", 'i', "SECONDS",
     "without --watch: what rates are measured over (default 0.5); 0: none"},
    {"tensors", 't', "N",
     "list so many of the largest tensors, 16 at most (default 8)"},
    {"timeout", 'T', "SECONDS", "how long members have to answer (default 2)"},
    {"job", 'J', "NAME", "the job's name (default: GRADPUSH_JOB)"},
    {"json", 'j', "FILE", "write a JSON document; - is standard output"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush status",
    "[options] [ADDR]",
    "Shows what a live job is doing: steps, open requests, credits and rates "
    "of each worker, what shards hold, which codec the largest tensors go "
    "through and, with codec=auto, why, and who waits for whom.\n\n"
    "ADDR is host:port of the job's store. Without it GRADPUSH_STORE, the "
    "launcher's variables, or the one job of `gradpush run` that this user has "
    "on this machine. The job's name and token are given as to its members "
    "(GRADPUSH_JOB, GRADPUSH_TOKEN_FILE or GRADPUSH_TOKEN); for a job of "
    "`gradpush run` on this machine they are known. Jobs without a store, with "
    "GRADPUSH_SERVERS or one worker that hosts its shard, cannot be asked.\n\n"
    "`credits` are free landing slots of all shards; `held` those that hold a "
    "push which waits for other workers; `open` requests that are not done. "
    "Asking costs the job next to nothing, and not being asked nothing.",
    "  gradpush status --watch 2\n"
    "  GRADPUSH_JOB=bert GRADPUSH_TOKEN_FILE=~/token gradpush status "
    "node1:4710\n"
    "  gradpush status --json - | jq '.workers[].status.steps'",
    options,
    true,
};

static bool
apply(void *user, int key, const char *value)
{
    gp_status_options *o = user;

    switch (key) {
    case 'w':
        return gp_parse_seconds("--watch", value, 0.05, 86400, &o->watch);
    case 'n':
        return gp_parse_int("--rounds", value, 1, INT32_MAX, &o->rounds);
    case 'i':
        return gp_parse_seconds("--interval", value, 0, 3600, &o->interval);
    case 't':
        return gp_parse_int("--tensors", value, 0, 16, &o->tensors);
    case 'T':
        return gp_parse_seconds("--timeout", value, 0.01, 3600, &o->wait);
    case 'j':
        o->json = value;
        return gp_json_available();
    default:
        if (gp_config_set(o->config, "job", value) == GP_OK)
            return true;
        gp_say("%s", gp_last_error());
        return false;
    }
}

static void
pause_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};

    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

static gp_status
show(const gp_status_options *o, const gp_place *place, const gp_round *round)
{
    if (o->json)
        return gp_round_write(place, round, o->json);
    gp_round_print(place, round, (uint32_t)o->tensors);
    return fflush(stdout) == 0 ? GP_OK
                               : gp_fail(GP_ERR_SYSTEM, "standard output");
}

/* A second look gives rates. */
static gp_status
show_once(const gp_status_options *o, const gp_place *place, gp_store *store)
{
    gp_round first = {0}, second = {0};
    gp_status status = gp_round_ask(store, o->wait, NULL, &first);

    if (status == GP_OK && o->interval > 0) {
        pause_for(o->interval);
        status = gp_round_ask(store, o->wait, &first, &second);
        /* It ended in between: what it was doing is known. */
        if (status == GP_ERR_PEER_LOST || status == GP_ERR_TIMEOUT)
            status = GP_OK;
    }
    if (status == GP_OK)
        status = show(o, place, second.worker ? &second : &first);
    gp_round_free(&first);
    gp_round_free(&second);
    return status;
}

static gp_status
watch(const gp_status_options *o, const gp_place *place, gp_store *store)
{
    gp_round before = {0}, now;
    gp_status status = GP_OK;
    int64_t shown = 0;

    while (status == GP_OK && (o->rounds == 0 || shown < o->rounds)) {
        if (shown > 0)
            pause_for(o->watch);
        now = (gp_round){0};
        status = gp_round_ask(store, o->wait, &before, &now);
        if (status != GP_OK)
            break;
        if (!o->json && shown > 0)
            printf(isatty(STDOUT_FILENO) ? "\033[H\033[2J" : "\n");
        shown++;
        status = show(o, place, &now);
        gp_round_free(&before);
        before = now;
    }
    gp_round_free(&before);
    if (shown > 0 && (status == GP_ERR_PEER_LOST || status == GP_ERR_TIMEOUT)) {
        gp_say("the job has ended");
        return GP_OK;
    }
    return status;
}

static gp_status
run(const gp_status_options *o)
{
    gp_place place = {0};
    gp_store *store = NULL;
    gp_status status = gp_config_set(o->config, "timeout", PATIENCE);

    if (status == GP_OK)
        status = gp_place_find(o->config, &place);
    if (status == GP_OK)
        status = gp_config_set(o->config, "job", place.job);
    if (status == GP_OK)
        status = gp_store_connect(o->config, place.store, place.token,
                                  gp_deadline(2.5), &store);
    if (status == GP_ERR_TIMEOUT)
        status = gp_fail(status, "no job at %s: %.300s", place.store,
                         gp_last_error());
    if (status == GP_OK)
        status = o->watch > 0 ? watch(o, &place, store)
                              : show_once(o, &place, store);
    gp_store_close(store);
    explicit_bzero(place.token, sizeof(place.token));
    return status;
}

static int
take_address(gp_status_options *o, int argc, char **argv)
{
    char host[256];
    uint16_t port = 0;

    if (o->rounds && o->watch <= 0)
        return gp_say_usage("--rounds is for --watch");
    if (argc - optind > 1)
        return gp_say_usage("one address, not '%s' as well", argv[optind + 1]);
    if (argc > optind &&
        (gp_address_split(argv[optind], host, sizeof(host), &port) != GP_OK ||
         !host[0] || port == 0))
        return gp_say_usage("'%s' is no address: it takes host:port or "
                            "[ipv6]:port, that of the job's store",
                            argv[optind]);
    if (argc == optind ||
        gp_config_set(o->config, "store", argv[optind]) == GP_OK)
        return GP_EXIT_NONE;
    return gp_say_usage("%s", gp_last_error());
}

int
gp_status_main(int argc, char **argv)
{
    gp_status_options o = {.wait = 2, .interval = 0.5, .tensors = 8};
    gp_status status = gp_config_create(&o.config);
    int rc = GP_EXIT_NONE;

    gp_say_as(usage.program);
    signal(SIGPIPE, SIG_IGN);
    if (status == GP_OK)
        rc = gp_options_parse(&usage, argc, argv, apply, &o);
    if (status == GP_OK && rc == GP_EXIT_NONE)
        rc = take_address(&o, argc, argv);
    if (status == GP_OK && rc == GP_EXIT_NONE)
        status = run(&o);
    gp_config_destroy(o.config);
    if (status != GP_OK) {
        gp_say("%s", gp_last_error());
        return GP_EXIT_FAILURE;
    }
    return rc == GP_EXIT_NONE ? GP_EXIT_OK : rc;
}
