/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_team.c - see bench_team.h.
 */
#include "bench_team.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "bench_netns.h"
#include "here.h"
#include "rendezvous/rendezvous.h"
#include "tool.h"

typedef struct gp_member {
    gp_team *team;
    uint32_t number;
    pid_t pid;
    pthread_t thread;
    gp_status status;
} gp_member;

static bool
listen_here(gp_team *team, const char *transport)
{
    gp_config *config = NULL;
    gp_status status = gp_config_create(&config);

    if (status == GP_OK)
        status = gp_here(config, transport, team->listen, sizeof(team->listen));
    if (status != GP_OK)
        gp_say("%s", gp_last_error());
    gp_config_destroy(config);
    return status == GP_OK;
}

int
gp_team_listen(gp_team *team, const gp_transport_ops *ops,
               const char *transport)
{
    team->threads = ops->caps & GP_CAP_LOCAL;
    if (team->netns && team->threads)
        return gp_say_usage("--netns is for processes: transport %s stays "
                            "within one",
                            transport);
    if (team->netns &&
        gp_netns_listen(team->listen, sizeof(team->listen)) != GP_OK)
        return gp_say_usage("--netns: %s", gp_last_error());
    if (!team->netns && !listen_here(team, transport))
        return GP_EXIT_FAILURE;
    return GP_EXIT_NONE;
}

gp_status
gp_team_token(gp_team *team)
{
    uint8_t random[32], nonce[GP_TOKEN_NONCE] = {0}, proof[GP_TOKEN_PROOF];
    gp_status status;

    snprintf(team->job, sizeof(team->job), "bench-%d", getpid());
    if (gp_token_prove("probe", "worker", nonce, 0, 0, proof) != GP_OK)
        return GP_OK;
    status = gp_random(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random) && status == GP_OK; i++)
        snprintf(team->token + 2 * i, 3, "%02x", random[i]);
    return status;
}

static void *
member_thread(void *user)
{
    gp_member *member = user;

    member->status = member->team->run(member->team->user, member->number);
    return NULL;
}

static bool
run_threads(gp_member *members, uint32_t count)
{
    uint32_t started = 0;
    bool ok = true;

    while (started < count &&
           pthread_create(&members[started].thread, NULL, member_thread,
                          &members[started]) == 0)
        started++;
    if (started < count)
        gp_say("only %u of %u threads could be started", started, count);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(members[i].thread, NULL);
        ok = ok && members[i].status == GP_OK;
    }
    return ok && started == count;
}

/* Into its own network namespace, where it listens. */
static bool
move_member(gp_member *member)
{
    gp_team *team = member->team;
    gp_status status;

    if (!team->netns)
        return true;
    status = gp_netns_enter(team->netns, member->number);
    if (status == GP_OK)
        status = gp_netns_listen(team->listen, sizeof(team->listen));
    if (status != GP_OK)
        gp_say("--netns: %s", gp_last_error());
    return status == GP_OK;
}

/* A member's process: waits for the store's address, then does its part. */
static _Noreturn void
member_process(gp_member *member, int fd, pid_t parent)
{
    gp_team *team = member->team;
    ssize_t n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(GP_EXIT_FAILURE);
    do
        n = read(fd, team->store, sizeof(team->store));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(team->store) || !move_member(member) ||
        member->team->run(member->team->user, member->number) != GP_OK)
        _exit(GP_EXIT_FAILURE);
    _exit(GP_EXIT_OK);
}

static bool
fork_members(gp_member *members, uint32_t count, int fd)
{
    pid_t parent = getpid();

    fflush(stdout);
    for (uint32_t i = 0; i < count; i++) {
        members[i].pid = fork();
        if (members[i].pid == 0)
            member_process(&members[i], fd, parent);
        if (members[i].pid < 0) {
            gp_say("fork: %m");
            return false;
        }
    }
    return true;
}

/* Each member reads one address; a pipe keeps writes of that size whole. */
static bool
tell_store(const gp_team *team, uint32_t count, int fd)
{
    for (uint32_t i = 0; i < count; i++)
        if (write(fd, team->store, sizeof(team->store)) !=
            (ssize_t)sizeof(team->store)) {
            gp_say("pipe: %m");
            return false;
        }
    return true;
}

static void
kill_members(const gp_member *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (members[i].pid > 0)
            kill(members[i].pid, SIGKILL);
}

/* Waits for all; a failure ends the others, after it has said its reason. */
static bool
wait_members(gp_member *members, uint32_t count)
{
    bool ok = true;

    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);

        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0)
            return ok;
        for (uint32_t i = 0; i < count; i++) {
            if (members[i].pid != pid)
                continue;
            members[i].pid = 0;
            if (WIFSIGNALED(status) && ok)
                gp_say("member %u was killed by signal %d", i,
                       WTERMSIG(status));
        }
        if (status && ok)
            kill_members(members, count);
        ok = ok && !status;
    }
}

static gp_status
serve_store(gp_team *team, gp_store_server **out)
{
    gp_config *config = NULL;
    gp_status status = gp_config_create(&config);

    if (status == GP_OK)
        status = gp_config_set(config, "job", team->job);
    if (status == GP_OK)
        status = gp_store_serve(config, team->listen, team->token, out);
    if (status == GP_OK)
        snprintf(team->store, sizeof(team->store), "%s",
                 gp_store_server_address(*out));
    else
        gp_say("%s", gp_last_error());
    gp_config_destroy(config);
    return status;
}

static bool
run_processes(gp_team *team, gp_member *members, uint32_t count)
{
    gp_store_server *store = NULL;
    int pair[2];
    bool ok;

    if (pipe(pair)) {
        gp_say("pipe: %m");
        return false;
    }
    ok = fork_members(members, count, pair[0]) &&
         serve_store(team, &store) == GP_OK && tell_store(team, count, pair[1]);
    if (!ok)
        kill_members(members, count);
    ok = wait_members(members, count) && ok;
    close(pair[0]);
    close(pair[1]);
    gp_store_stop(store);
    return ok;
}

bool
gp_team_run(gp_team *team, uint32_t count)
{
    static gp_member members[GP_TEAM_MAX];
    gp_store_server *store = NULL;
    bool ok;

    for (uint32_t i = 0; i < count; i++)
        members[i] = (gp_member){.team = team, .number = i};
    if (!team->threads)
        return run_processes(team, members, count);
    ok = serve_store(team, &store) == GP_OK && run_threads(members, count);
    gp_store_stop(store);
    return ok;
}
