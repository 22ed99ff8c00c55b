/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - `gradpush run`: a job of shards and workers on this machine.
 *
 * The store lives in this process; everything else is a child with a process
 * group of its own. The first failure decides: whoever is left gets a moment to
 * say what it noticed, then SIGTERM, then SIGKILL. No path leaves a process or
 * a file behind, not even SIGKILL of this one (run_guard.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "here.h"
#include "rendezvous/rendezvous.h"
#include "run.h"
#include "status.h"
#include "tool.h"

#define MAX_MEMBERS    1024
#define MAX_RESTARTS   10000
#define SETTLE_SECONDS 0.3 /* survivors of a failure end by themselves */
#define SHARDS_SECONDS 1.0 /* shards notice that all workers have left */
#define TERM_SECONDS   3.0 /* between SIGTERM and SIGKILL */
#define DRAIN_SECONDS  0.5 /* for pipes that someone outside still holds */

typedef enum gp_phase {
    PHASE_RUNNING = 0,
    PHASE_SETTLING, /* a failure was seen */
    PHASE_LEAVING,  /* all workers have left, the shards follow */
    PHASE_ENDING,   /* SIGTERM was sent */
    PHASE_KILLED,   /* SIGKILL was sent */
    PHASE_DRAINING  /* all have ended; output may be left in pipes */
} gp_phase;

typedef struct gp_run {
    int64_t workers, shards; /* shards -1: as many as workers */
    bool colocated, prefix;
    double timeout;
    int64_t least, restarts; /* --elastic, 0: not given; --restarts, left */
    pid_t *former; /* ended and started anew; reaped at the very end */
    size_t formers;
    bool succeeded; /* a worker has: the job's work is done */
    char **extra;   /* --env, in order */
    size_t extra_count;
    char **command;

    sigset_t mask; /* of the children */
    int end_fd, child_fd;
    gp_config *config;
    gp_store_server *store;
    gp_guard guard;
    gp_environment environment;
    char token[65], token_path[256];
    char note_path[256]; /* for `gradpush status` */
    char self[4096];     /* this program, which is the server too */
    gp_child *children;  /* shards first */
    size_t count, shard_count;
    struct pollfd *fds;
    gp_sink sinks[2];
    gp_phase phase;
    uint64_t phase_end, job_end;
    bool failed;
} gp_run;

static const gp_option options[] = {
    {"workers", 'w', "N", "copies of CMD to start (default 2)"},
    {"shards", 's', "M",
     "parameter shards to start, each a process (default: as many as workers); "
     "0 is the same as --colocated"},
    {"colocated", 'c', NULL,
     "every worker hosts one shard itself, beside those of --shards"},
    {"env", 'e', "NAME=VALUE", "set a variable for all processes; repeatable"},
    {"timeout", 't', "SECONDS", "end the job after that long, as a failure"},
    {"elastic", 257, "MIN",
     "workers may die and come back, the job goes on with MIN of them: sets "
     "GRADPUSH_ELASTIC and GRADPUSH_MIN_WORKERS"},
    {"restarts", 258, "N",
     "with --elastic: start workers that fail anew, N times in all (default "
     "0)"},
    {"no-prefix", 256, NULL, "forward lines as they are, without the rank"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush run",
    "[options] -- CMD [ARGUMENT ...]",
    "Starts the shards and the workers of a job on this machine, connects them "
    "through a store and a random job token, and forwards their output line by "
    "line behind [rank] or [shard index]. Standard input of all is empty. When "
    "one process fails, the others are ended and the message says which one it "
    "was.",
    "  gradpush run -w 2 -s 2 -- gradpush-train --data digits",
    options,
    true,
};

static bool
add_extra(gp_run *run, const char *setting)
{
    char **extra;

    if (!strchr(setting, '=') || *setting == '=') {
        gp_say("--env is '%s': it takes NAME=VALUE", setting);
        return false;
    }
    extra = realloc(run->extra, (run->extra_count + 1) * sizeof(*extra));
    if (!extra) {
        gp_say("no memory");
        return false;
    }
    run->extra = extra;
    run->extra[run->extra_count] = strdup(setting);
    return run->extra[run->extra_count++] != NULL;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_run *run = user;

    switch (key) {
    case 'w':
        return gp_parse_int("--workers", value, 1, MAX_MEMBERS, &run->workers);
    case 's':
        return gp_parse_int("--shards", value, 0, MAX_MEMBERS, &run->shards);
    case 'c':
        run->colocated = true;
        return true;
    case 'e':
        return add_extra(run, value);
    case 257:
        return gp_parse_int("--elastic", value, 1, MAX_MEMBERS, &run->least);
    case 258:
        return gp_parse_int("--restarts", value, 0, MAX_RESTARTS,
                            &run->restarts);
    case 't':
        return gp_parse_seconds("--timeout", value, 0.001, 1e9, &run->timeout);
    default:
        run->prefix = false;
        return true;
    }
}

static int
read_options(gp_run *run, int argc, char **argv)
{
    int rc = gp_options_parse(&usage, argc, argv, apply, run);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (run->least > run->workers)
        return gp_say_usage("--elastic %lld: that is more than --workers %lld",
                            (long long)run->least, (long long)run->workers);
    if (run->least && (run->colocated || run->shards == 0))
        return gp_say_usage("--elastic: a co-located shard dies with its "
                            "worker; leave out --colocated, or give --shards");
    if (run->restarts && !run->least)
        return gp_say_usage("--restarts is for --elastic jobs");
    if (optind >= argc)
        return gp_say_usage("the command to run is missing: "
                            "gradpush run -w 2 -s 2 -- ./trainer");
    run->command = argv + optind;
    if (run->shards == 0)
        run->colocated = true;
    if (run->colocated && run->shards < 0)
        run->shards = 0;
    if (run->shards < 0)
        run->shards = run->workers;
    return GP_EXIT_NONE;
}

/* A file only this user can read, because an environment can be seen by others
 * of the same user's processes and is copied into crash reports. */
static gp_status
write_token(gp_run *run)
{
    const char *folder = getenv("TMPDIR");
    size_t length = strlen(run->token);
    bool written;
    int fd;

    snprintf(run->token_path, sizeof(run->token_path),
             "%s/gradpush-token-XXXXXX", folder && *folder ? folder : "/tmp");
    fd = mkostemp(run->token_path, O_CLOEXEC);
    if (fd < 0) {
        gp_status status = gp_fail_errno(GP_ERR_SYSTEM, errno,
                                         "cannot create '%s'", run->token_path);

        run->token_path[0] = '\0';
        return status;
    }
    written = write(fd, run->token, length) == (ssize_t)length;
    if (close(fd) || !written)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot write '%s'",
                             run->token_path);
    return GP_OK;
}

/* Whether this build can prove tokens (it needs OpenSSL). */
static bool
tokens_supported(void)
{
    uint8_t nonce[GP_TOKEN_NONCE] = {0}, proof[GP_TOKEN_PROOF];

    return gp_token_prove("probe", "worker", nonce, 0, 0, proof) == GP_OK;
}

/* The user's token, else a random one in a file. */
static gp_status
choose_token(gp_run *run)
{
    uint8_t random[32];
    gp_status status =
        gp_token_load(run->config, run->token, sizeof(run->token));

    if (status != GP_OK || run->token[0])
        return status;
    if (!tokens_supported()) {
        gp_say("this build has no OpenSSL: the job runs without a token, on "
               "127.0.0.1 only");
        return GP_OK;
    }
    status = gp_random(random, sizeof(random));
    if (status != GP_OK)
        return status;
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(run->token + 2 * i, 3, "%02x", random[i]);
    return write_token(run);
}

/* The transport that members are told of. */
static const char *
transport_of(const gp_run *run)
{
    static const char name[] = "GRADPUSH_TRANSPORT=";
    const char *transport = gp_config_get(run->config, "transport");

    for (size_t i = 0; i < run->extra_count; i++)
        if (strncmp(run->extra[i], name, sizeof(name) - 1) == 0)
            transport = run->extra[i] + sizeof(name) - 1;
    return transport;
}

/* Everything stays on this machine, so nothing listens beyond it unless the
 * user wants that. */
static gp_status
set_listen(gp_run *run)
{
    const char *listen = gp_config_get(run->config, "listen");
    char here[GP_ADDRESS_MAX];
    gp_status status;

    if (listen && *listen)
        return GP_OK;
    status = gp_here(run->config, transport_of(run), here, sizeof(here));
    return status != GP_OK ? status
                           : gp_environment_format(&run->environment,
                                                   "GRADPUSH_LISTEN=%s", here);
}

/* What all members are told. */
static gp_status
build_environment(gp_run *run)
{
    gp_environment *e = &run->environment;
    gp_status status = gp_environment_copy(environ, e);

    if (status == GP_OK && run->token_path[0])
        status =
            gp_environment_format(e, "GRADPUSH_TOKEN_FILE=%s", run->token_path);
    if (status == GP_OK)
        status = gp_environment_format(e, "GRADPUSH_JOB=%s",
                                       gp_config_get(run->config, "job"));
    if (status == GP_OK)
        status = set_listen(run);
    if (status == GP_OK)
        status = gp_environment_format(e, "GRADPUSH_STORE=%s",
                                       gp_store_server_address(run->store));
    if (status == GP_OK)
        status = gp_environment_set(e, "GRADPUSH_STORE_HOST=off");
    if (status == GP_OK)
        status = gp_environment_format(e, "GRADPUSH_SIZE=%lld",
                                       (long long)run->workers);
    if (status == GP_OK)
        status = gp_environment_format(
            e, "GRADPUSH_SHARDS=%lld",
            (long long)(run->shards + (run->colocated ? run->workers : 0)));
    if (status == GP_OK)
        status = gp_environment_format(e, "GRADPUSH_COLOCATED=%s",
                                       run->colocated ? "on" : "off");
    if (status == GP_OK)
        status = gp_environment_format(e, "GRADPUSH_LOCAL_SIZE=%lld",
                                       (long long)run->workers);
    if (status == GP_OK && run->least)
        status = gp_environment_set(e, "GRADPUSH_ELASTIC=on");
    if (status == GP_OK && run->least)
        status = gp_environment_format(e, "GRADPUSH_MIN_WORKERS=%lld",
                                       (long long)run->least);
    return status;
}

/* Signals come through descriptors. They are blocked before the store's thread
 * exists, so that it inherits that. */
static gp_status
catch_signals(gp_run *run)
{
    sigset_t ends, child, all;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGHUP);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigorset(&all, &ends, &child);
    sigprocmask(SIG_BLOCK, &all, &run->mask);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    run->end_fd = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    run->child_fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    if (run->end_fd < 0 || run->child_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "signalfd");
    for (int i = 0; i < 2; i++)
        run->sinks[i] = (gp_sink){i + 1, run->end_fd, run->job_end, false};
    return GP_OK;
}

/* A name of its own, unless the user has chosen one. */
static gp_status
choose_job(gp_run *run)
{
    char name[32];

    if (strcmp(gp_config_origin(run->config, "job"), "default"))
        return GP_OK;
    snprintf(name, sizeof(name), "run-%d", getpid());
    return gp_config_set(run->config, "job", name);
}

static gp_status
start_guard(gp_run *run)
{
    const char *paths[3] = {run->note_path, run->token_path, NULL};

    gp_place_note_path(run->note_path, sizeof(run->note_path));
    if (!run->token_path[0])
        paths[1] = NULL;
    return gp_guard_start(paths, &run->guard);
}

/* The job runs as well when nobody can ask about it. */
static void
leave_note(const gp_run *run)
{
    if (gp_place_note(run->note_path, gp_store_server_address(run->store),
                      gp_config_get(run->config, "job"),
                      run->token_path) != GP_OK)
        gp_say("`gradpush status` will not find this job: %s", gp_last_error());
}

/* Everything but the children. */
static gp_status
prepare(gp_run *run)
{
    ssize_t length =
        readlink("/proc/self/exe", run->self, sizeof(run->self) - 1);
    gp_status status;

    if (length <= 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "/proc/self/exe");

    run->count = (size_t)(run->workers + run->shards);
    run->shard_count = (size_t)run->shards;
    run->children = calloc(run->count, sizeof(*run->children));
    run->fds = calloc(2 + 2 * run->count, sizeof(*run->fds));
    run->former = calloc((size_t)run->restarts + 1, sizeof(*run->former));
    if (!run->children || !run->fds || !run->former)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %zu processes",
                       run->count);
    for (size_t i = 0; i < run->count; i++)
        run->children[i].streams[0].fd = run->children[i].streams[1].fd = -1;
    status = gp_config_create(&run->config);
    if (status == GP_OK)
        status = choose_job(run);
    if (status == GP_OK)
        status = choose_token(run);
    if (status == GP_OK)
        status = start_guard(run);
    if (status == GP_OK)
        status = catch_signals(run);
    if (status == GP_OK)
        status =
            gp_store_serve(run->config, "127.0.0.1:0", run->token, &run->store);
    if (status == GP_OK)
        status = build_environment(run);
    if (status == GP_OK)
        leave_note(run);
    return status;
}

/* A worker's rank, or a shard's number, which comes behind those that workers
 * host. */
static size_t
number_of(const gp_run *run, size_t index)
{
    if (index >= run->shard_count)
        return index - run->shard_count;
    return index + (run->colocated ? (size_t)run->workers : 0);
}

static void
name_child(gp_run *run, gp_child *child, size_t index)
{
    size_t number = number_of(run, index);

    child->is_shard = index < run->shard_count;
    snprintf(child->label, sizeof(child->label), "%s %zu",
             child->is_shard ? "shard" : "worker", number);
    if (run->prefix)
        snprintf(child->prefix, sizeof(child->prefix),
                 child->is_shard ? "[shard %zu] " : "[%zu] ", number);
    for (int i = 0; i < 2; i++) {
        child->streams[i].prefix = child->prefix;
        child->streams[i].sink = &run->sinks[i];
    }
}

/* A shard has no rank: that is a worker's number. It is told its own number, so
 * that its prefix here and what others call it are the same. */
static gp_status
start_child(gp_run *run, size_t index)
{
    char *const server[] = {run->self, "server",  "--shards",
                            "1",       "--quiet", NULL};
    gp_child *child = &run->children[index];
    gp_environment *e = &run->environment;
    size_t number = number_of(run, index);
    gp_status status = GP_OK;

    name_child(run, child, index);
    status = gp_environment_format(e, "GRADPUSH_FIRST_SHARD=%lld",
                                   child->is_shard ? (long long)number : -1);
    if (status == GP_OK && !child->is_shard)
        status = gp_environment_format(e, "GRADPUSH_RANK=%zu", number);
    if (status == GP_OK && !child->is_shard)
        status = gp_environment_format(e, "GRADPUSH_LOCAL_RANK=%zu", number);
    for (size_t i = 0; i < run->extra_count && status == GP_OK; i++)
        status = gp_environment_set(e, run->extra[i]);
    if (status == GP_OK)
        status = gp_child_start(child, child->is_shard ? server : run->command,
                                e->list, &run->mask);
    if (child->pid)
        gp_guard_watch(&run->guard, child->pid);
    return status;
}

static void
set_phase(gp_run *run, gp_phase phase, double seconds)
{
    run->phase = phase;
    run->phase_end = gp_deadline(seconds);
}

static void
signal_all(gp_run *run, int number)
{
    for (size_t i = 0; i < run->count; i++)
        if (!run->children[i].ended)
            gp_child_signal(&run->children[i], number);
}

static void
end_all(gp_run *run)
{
    if (run->phase >= PHASE_ENDING)
        return;
    signal_all(run, SIGTERM);
    set_phase(run, PHASE_ENDING, TERM_SECONDS);
}

/* Its number stays its own until the end, as the guard may still use it. */
static void
start_anew(gp_run *run, gp_child *child)
{
    size_t index = (size_t)(child - run->children);

    for (int i = 0; i < 2; i++) {
        gp_stream_forward(&child->streams[i]);
        gp_stream_finish(&child->streams[i]);
    }
    gp_child_signal(child, SIGKILL);
    run->former[run->formers++] = child->pid;
    run->restarts--;
    *child = (gp_child){.streams = {{.fd = -1}, {.fd = -1}}};
    if (start_child(run, index) == GP_OK)
        return;
    gp_say("%s", gp_last_error());
    run->failed = true;
    end_all(run);
}

static bool
others_work(const gp_run *run)
{
    for (size_t i = run->shard_count; i < run->count; i++)
        if (run->children[i].pid && !run->children[i].ended)
            return true;
    return false;
}

/* Elastic trainers leave when they are asked to. */
static bool
has_left(const gp_child *child)
{
    return child->exit.si_code == CLD_KILLED &&
           child->exit.si_status == SIGTERM;
}

/* Whether the job goes on in spite of a worker's failure. */
static bool
is_tolerated(gp_run *run, gp_child *child, const char *text)
{
    if (!run->least || child->is_shard || run->phase == PHASE_SETTLING)
        return false;
    if (run->succeeded ||
        ((run->restarts == 0 || has_left(child)) && others_work(run))) {
        gp_say("%s; the job goes on without it", text);
        return true;
    }
    if (run->restarts == 0)
        return false;
    gp_say("%s; it is started anew", text);
    start_anew(run, child);
    return true;
}

/* Says what became of a child. After SIGTERM that is our own doing. */
static void
note_end(gp_run *run, gp_child *child)
{
    char text[128];

    run->succeeded |= !child->is_shard && !gp_child_failed(child);
    if (!gp_child_failed(child) || run->phase >= PHASE_ENDING)
        return;
    gp_child_describe(child, text, sizeof(text));
    if (is_tolerated(run, child, text))
        return;
    gp_say("%s", text);
    run->failed = true;
    if (run->phase != PHASE_SETTLING)
        set_phase(run, PHASE_SETTLING, SETTLE_SECONDS);
}

/* All that ended at the same time: those killed by a signal first, because the
 * others may have ended because of them. */
static void
collect_ended(gp_run *run)
{
    struct signalfd_siginfo ignored;
    bool news[MAX_MEMBERS * 2];

    while (read(run->child_fd, &ignored, sizeof(ignored)) > 0)
        continue;
    for (size_t i = 0; i < run->count; i++)
        news[i] = gp_child_ended(&run->children[i]);
    for (size_t i = 0; i < run->count; i++)
        if (news[i] && run->children[i].exit.si_code != CLD_EXITED)
            note_end(run, &run->children[i]);
    for (size_t i = 0; i < run->count; i++)
        if (news[i] && run->children[i].exit.si_code == CLD_EXITED)
            note_end(run, &run->children[i]);
}

static size_t
count_alive(const gp_run *run, bool shards)
{
    size_t alive = 0;

    for (size_t i = 0; i < run->count; i++)
        if (run->children[i].is_shard == shards && run->children[i].pid &&
            !run->children[i].ended)
            alive++;
    return alive;
}

static bool
streams_open(const gp_run *run)
{
    for (size_t i = 0; i < run->count; i++)
        if (run->children[i].streams[0].fd >= 0 ||
            run->children[i].streams[1].fd >= 0)
            return true;
    return false;
}

/* What follows from who is left. */
static void
check_members(gp_run *run)
{
    size_t workers = count_alive(run, false), shards = count_alive(run, true);

    if (workers + shards == 0 && run->phase != PHASE_DRAINING) {
        for (size_t i = 0; i < run->count; i++)
            gp_child_signal(&run->children[i], SIGTERM);
        set_phase(run, PHASE_DRAINING, DRAIN_SECONDS);
    } else if (workers == 0 && run->phase == PHASE_RUNNING) {
        set_phase(run, PHASE_LEAVING, SHARDS_SECONDS);
    } else if (run->least && run->succeeded && shards == 0 &&
               run->phase == PHASE_RUNNING) {
        /* Who has not found the job yet never will. */
        set_phase(run, PHASE_LEAVING, SETTLE_SECONDS);
    }
}

static void
check_deadlines(gp_run *run)
{
    if (gp_expired(run->job_end) && run->phase < PHASE_ENDING) {
        gp_say("the job did not end within %g s (--timeout)", run->timeout);
        run->failed = true;
        end_all(run);
    }
    if (!gp_expired(run->phase_end))
        return;
    if (run->phase == PHASE_ENDING) {
        signal_all(run, SIGKILL);
        set_phase(run, PHASE_KILLED, -1);
    } else if (run->phase == PHASE_SETTLING || run->phase == PHASE_LEAVING) {
        end_all(run);
    }
}

static void
check_end_signal(gp_run *run)
{
    struct signalfd_siginfo info;

    if (read(run->end_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    gp_say("ended by signal %u (%s)", info.ssi_signo,
           strsignal((int)info.ssi_signo));
    run->failed = true;
    end_all(run);
}

/* The reader of our output went away: nobody can see how the job goes on. */
static void
check_sinks(gp_run *run)
{
    if (run->phase >= PHASE_ENDING ||
        (!run->sinks[0].broken && !run->sinks[1].broken))
        return;
    gp_say("output cannot be written any more");
    run->failed = true;
    end_all(run);
}

static int
wait_milliseconds(const gp_run *run)
{
    uint64_t end = run->phase_end;

    if (run->phase < PHASE_ENDING)
        end = GP_MIN(end, run->job_end);
    return gp_deadline_ms(end);
}

/* One round: sleep until something happens, then handle all of it. Output goes
 * before the news of an end, so that a last message precedes it. */
static void
turn(gp_run *run)
{
    struct pollfd *fds = run->fds;

    fds[0] = (struct pollfd){run->end_fd, POLLIN, 0};
    fds[1] = (struct pollfd){run->child_fd, POLLIN, 0};
    for (size_t i = 0; i < 2 * run->count; i++)
        fds[2 + i] =
            (struct pollfd){run->children[i / 2].streams[i % 2].fd, POLLIN, 0};
    if (poll(fds, (nfds_t)(2 + 2 * run->count), wait_milliseconds(run)) < 0 &&
        errno != EINTR)
        gp_say("poll: %m");
    if (fds[0].revents)
        check_end_signal(run);
    for (size_t i = 0; i < 2 * run->count; i++)
        if (fds[2 + i].revents)
            gp_stream_forward(&run->children[i / 2].streams[i % 2]);
    check_sinks(run);
    if (fds[1].revents)
        collect_ended(run);
    check_members(run);
    check_deadlines(run);
}

static void
supervise(gp_run *run)
{
    for (;;) {
        bool done = run->phase == PHASE_DRAINING;

        if (done && (!streams_open(run) || gp_expired(run->phase_end)))
            return;
        turn(run);
    }
}

/* Ends what is left of each group, reaps, and releases everything. */
static void
clean_up(gp_run *run)
{
    for (size_t i = 0; run->children && i < run->count; i++) {
        gp_child *child = &run->children[i];

        gp_stream_finish(&child->streams[0]);
        gp_stream_finish(&child->streams[1]);
        if (!child->pid)
            continue;
        gp_child_signal(child, SIGKILL);
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    for (size_t i = 0; i < run->formers; i++)
        while (waitpid(run->former[i], NULL, 0) < 0 && errno == EINTR)
            continue;
    free(run->former);
    if (run->token_path[0])
        unlink(run->token_path);
    if (run->store)
        unlink(run->note_path);
    gp_store_stop(run->store);
    gp_guard_dismiss(&run->guard);
    gp_config_destroy(run->config);
    gp_environment_free(&run->environment);
    for (size_t i = 0; i < run->extra_count; i++)
        free(run->extra[i]);
    free(run->extra);
    free(run->children);
    free(run->fds);
    close(run->end_fd);
    close(run->child_fd);
}

/* Descriptors 0 to 2 must be taken, or a pipe would get one of them. */
static void
open_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

int
gp_run_main(int argc, char **argv)
{
    gp_run run = {.workers = 2,
                  .shards = -1,
                  .prefix = true,
                  .timeout = -1,
                  .end_fd = -1,
                  .child_fd = -1,
                  .guard = {0, -1},
                  .phase_end = UINT64_MAX};
    int rc = read_options(&run, argc, argv);
    gp_status status;

    if (rc != GP_EXIT_NONE) {
        clean_up(&run);
        return rc;
    }
    open_standard();
    run.job_end = gp_deadline(run.timeout);
    status = prepare(&run);
    for (size_t i = 0; i < run.count && status == GP_OK; i++)
        status = start_child(&run, i);
    if (status == GP_OK) {
        supervise(&run);
    } else {
        gp_say("%s", gp_last_error());
        run.failed = true;
    }
    clean_up(&run);
    return run.failed ? GP_EXIT_FAILURE : GP_EXIT_OK;
}
