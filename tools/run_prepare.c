/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_prepare.c - what members of `gradpush run` need, how one is started, and
 * how all of it is released.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gradpush/worker.h>

#include "here.h"
#include "run_job.h"
#include "status.h"
#include "tool.h"

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

/* What --env says of a variable, such as "GRADPUSH_MODE="; NULL: nothing. */
static const char *
extra_of(const gp_run *run, const char *name)
{
    const char *value = NULL;

    for (size_t i = 0; i < run->extra_count; i++)
        if (strncmp(run->extra[i], name, strlen(name)) == 0)
            value = run->extra[i] + strlen(name);
    return value;
}

/* The transport that members are told of. */
static const char *
transport_of(const gp_run *run)
{
    const char *extra = extra_of(run, "GRADPUSH_TRANSPORT=");

    return extra ? extra : gp_config_get(run->config, "transport");
}

/* What members are told of a field; NULL when that is the default, in whose
 * place programs often have something else. */
static const char *
told_of(const gp_run *run, const char *variable, const char *field)
{
    const char *extra = extra_of(run, variable);

    if (extra || strcmp(gp_config_origin(run->config, field), "default") == 0)
        return extra;
    return gp_config_get(run->config, field);
}

/* What each worker of an elastic job would find, and be started anew for. What
 * programs may choose themselves is taken to fit. */
static gp_status
check_mode(const gp_run *run)
{
    const char *mode = told_of(run, "GRADPUSH_MODE=", "mode");
    const char *updater = told_of(run, "GRADPUSH_UPDATER=", "updater");
    const char *codec = told_of(run, "GRADPUSH_CODEC=", "codec");
    char why[512];

    if (!run->least ||
        gp_job_check(mode ? mode : "sync", updater ? updater : "sgd:lr=0.1",
                     codec, (uint32_t)run->workers, true) == GP_OK)
        return GP_OK;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(GP_ERR_CONFIG,
                   "--elastic with %lld workers: %s (see GRADPUSH_MODE, "
                   "GRADPUSH_UPDATER and GRADPUSH_CODEC)",
                   (long long)run->workers, why);
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

gp_status
gp_run_prepare(gp_run *run)
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
        status = check_mode(run);
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
gp_status
gp_run_start(gp_run *run, size_t index)
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

void
gp_run_clean_up(gp_run *run)
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
