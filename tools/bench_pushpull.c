/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_pushpull.c - `gradpush bench pushpull`: starts workers and shards and
 * reports what they measured.
 *
 * Members are processes, forked before the store's thread exists; or threads,
 * for a transport that stays within a process.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_netns.h"
#include "bench_pushpull.h"
#include "here.h"
#include "rendezvous/rendezvous.h"

#define MAX_MEMBERS 512

enum {
    KEY_WORKERS = 300,
    KEY_SHARDS,
    KEY_COLOCATED,
    KEY_TRANSPORT,
    KEY_CODEC,
    KEY_PULL_CODEC,
    KEY_UPDATER,
    KEY_MODE,
    KEY_NETNS
};

/* Members are numbered: stand-alone shards first, then workers. */
typedef struct gp_member {
    gp_pushpull *bench;
    uint32_t number;
    pid_t pid;
    pthread_t thread;
    gp_status status;
} gp_member;

static const gp_option options[] = {
    {"workers", KEY_WORKERS, "N", "default 2"},
    {"shards", KEY_SHARDS, "M",
     "stand-alone shards (default: as many as workers); 0: --colocated"},
    {"colocated", KEY_COLOCATED, NULL, "every worker hosts a shard"},
    {"transport", KEY_TRANSPORT, "NAME",
     "default tcp; a transport within one process runs all as threads"},
    {"codec", KEY_CODEC, "SPEC", "pipeline of pushes (default none)"},
    {"pull-codec", KEY_PULL_CODEC, "SPEC", "pipeline of pulls (default none)"},
    {"updater", KEY_UPDATER, "NAME", "sum or mean (default sum)"},
    {"mode", KEY_MODE, "sync", "consistency; this version has sync"},
    {"netns", KEY_NETNS, "A,B,...",
     "network namespaces for the members in turn, shards first; as root"},
    GP_BENCH_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush bench pushpull",
    "[options]",
    "Starts workers and shards on this machine; every worker pushes an fp32 "
    "tensor of each size and pulls the sum. Reports the time on rank 0 from "
    "the "
    "call, after a barrier, to the end of the wait; algbw is bytes / median "
    "time. Every element is verified once per size, three in every iteration. "
    "wire is what rank 0 sends and receives per iteration, headers included.",
    "  gradpush bench pushpull --workers 2 --colocated -b 4K -e 64M\n"
    "  gradpush bench pushpull --workers 4 --shards 2 --codec q8+lz4 --json -",
    options,
    false,
};

static bool
apply_word(const char *option, const char *value, const char *first,
           const char *second)
{
    if (!strcmp(value, first) || (second && !strcmp(value, second)))
        return true;
    gp_say("%s is '%s': it takes %s%s%s", option, value, first,
           second ? " or " : "", second ? second : "");
    return false;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_pushpull *bench = user;

    switch (key) {
    case KEY_WORKERS:
        return gp_parse_int("--workers", value, 1, 256, &bench->workers);
    case KEY_SHARDS:
        return gp_parse_int("--shards", value, 0, 256, &bench->shards);
    case KEY_COLOCATED:
        bench->colocated = true;
        return true;
    case KEY_TRANSPORT:
        bench->transport = value;
        return true;
    case KEY_CODEC:
        bench->codec = value;
        return true;
    case KEY_PULL_CODEC:
        bench->pull_codec = value;
        return true;
    case KEY_UPDATER:
        bench->updater = value;
        return apply_word("--updater", value, "sum", "mean");
    case KEY_NETNS:
        bench->netns = value;
        return true;
    case KEY_MODE:
        return apply_word("--mode", value, "sync", NULL);
    default:
        return gp_bench_apply(&bench->common, key, value);
    }
}

/* Transport and pipelines are checked here, once, and not in every member. */
static int
check_names(gp_pushpull *bench)
{
    double ignored;

    bench->ops = gp_transport_find(bench->transport);
    if (!bench->ops)
        return gp_say_usage("'%s' is not a transport; see gradpush info "
                            "--transports",
                            bench->transport);
    if (!strcmp(bench->codec, "auto"))
        return gp_say_usage("--codec auto chooses while a job runs: bench the "
                            "candidates one by one");
    if (!strcmp(bench->pull_codec, "auto") || strchr(bench->pull_codec, '|'))
        return gp_say_usage("--pull-codec %s: results have one pipeline; "
                            "alternatives between '|' are for --codec",
                            bench->pull_codec);
    if (gp_pushpull_tolerance(bench, &ignored) != GP_OK)
        return gp_say_usage("%s", gp_last_error());
    return GP_EXIT_NONE;
}

static bool
listen_here(gp_pushpull *bench)
{
    gp_config *config = NULL;
    gp_status status = gp_config_create(&config);

    if (status == GP_OK)
        status = gp_here(config, bench->transport, bench->listen,
                         sizeof(bench->listen));
    if (status != GP_OK)
        gp_say("%s", gp_last_error());
    gp_config_destroy(config);
    return status == GP_OK;
}

static int
read_options(gp_pushpull *bench, int argc, char **argv)
{
    int rc = gp_options_parse(&usage, argc, argv, apply, bench);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (bench->colocated && bench->shards > 0)
        return gp_say_usage("--colocated makes every worker host one shard: "
                            "leave out --shards %lld",
                            (long long)bench->shards);
    if (bench->shards == 0)
        bench->colocated = true;
    if (bench->colocated)
        bench->shards = 0;
    if (bench->shards < 0)
        bench->shards = bench->workers;
    rc = check_names(bench);
    if (rc != GP_EXIT_NONE)
        return rc;
    if (bench->netns && bench->ops->caps & GP_CAP_LOCAL)
        return gp_say_usage("--netns is for processes: transport %s stays "
                            "within one",
                            bench->transport);
    if (bench->netns &&
        gp_netns_listen(bench->listen, sizeof(bench->listen)) != GP_OK)
        return gp_say_usage("--netns: %s", gp_last_error());
    if (!bench->netns && !listen_here(bench))
        return GP_EXIT_FAILURE;
    return gp_bench_prepare(&bench->common, sizeof(float));
}

/* A token that nobody outside learns, when this build can prove tokens. */
static gp_status
choose_token(gp_pushpull *bench)
{
    uint8_t random[32], nonce[GP_TOKEN_NONCE] = {0}, proof[GP_TOKEN_PROOF];
    gp_status status;

    snprintf(bench->job, sizeof(bench->job), "bench-%d", getpid());
    if (gp_token_prove("probe", "worker", nonce, 0, 0, proof) != GP_OK)
        return GP_OK;
    status = gp_random(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random) && status == GP_OK; i++)
        snprintf(bench->token + 2 * i, 3, "%02x", random[i]);
    return status;
}

static gp_status
run_member(gp_member *member)
{
    gp_pushpull *bench = member->bench;
    uint32_t shards = (uint32_t)bench->shards;
    bool shard = member->number < shards;
    gp_status status;

    if (shard)
        status = gp_pushpull_shard(bench);
    else
        status = gp_pushpull_worker(bench, member->number - shards);
    if (status != GP_OK)
        gp_say("%s %u: %s", shard ? "shard" : "worker",
               shard ? member->number : member->number - shards,
               gp_last_error());
    return status;
}

static void *
member_thread(void *user)
{
    gp_member *member = user;

    member->status = run_member(member);
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
    gp_pushpull *bench = member->bench;
    gp_status status;

    if (!bench->netns)
        return true;
    status = gp_netns_enter(bench->netns, member->number);
    if (status == GP_OK)
        status = gp_netns_listen(bench->listen, sizeof(bench->listen));
    if (status != GP_OK)
        gp_say("--netns: %s", gp_last_error());
    return status == GP_OK;
}

/* A member's process: waits for the store's address, then does its part. */
static _Noreturn void
member_process(gp_member *member, int fd, pid_t parent)
{
    gp_pushpull *bench = member->bench;
    ssize_t n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(GP_EXIT_FAILURE);
    do
        n = read(fd, bench->store, sizeof(bench->store));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(bench->store) || !move_member(member) ||
        run_member(member) != GP_OK)
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
tell_store(const gp_pushpull *bench, uint32_t count, int fd)
{
    for (uint32_t i = 0; i < count; i++)
        if (write(fd, bench->store, sizeof(bench->store)) !=
            (ssize_t)sizeof(bench->store)) {
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
serve_store(gp_pushpull *bench, gp_store_server **out)
{
    gp_config *config = NULL;
    gp_status status = gp_config_create(&config);

    if (status == GP_OK)
        status = gp_config_set(config, "job", bench->job);
    if (status == GP_OK)
        status = gp_store_serve(config, bench->listen, bench->token, out);
    if (status == GP_OK)
        snprintf(bench->store, sizeof(bench->store), "%s",
                 gp_store_server_address(*out));
    else
        gp_say("%s", gp_last_error());
    gp_config_destroy(config);
    return status;
}

static bool
run_processes(gp_pushpull *bench, gp_member *members, uint32_t count)
{
    gp_store_server *store = NULL;
    int pair[2];
    bool ok;

    if (pipe(pair)) {
        gp_say("pipe: %m");
        return false;
    }
    ok = fork_members(members, count, pair[0]) &&
         serve_store(bench, &store) == GP_OK &&
         tell_store(bench, count, pair[1]);
    if (!ok)
        kill_members(members, count);
    ok = wait_members(members, count) && ok;
    close(pair[0]);
    close(pair[1]);
    gp_store_stop(store);
    return ok;
}

static bool
run_all(gp_pushpull *bench)
{
    static gp_member members[MAX_MEMBERS];
    uint32_t count = (uint32_t)(bench->workers + bench->shards);
    gp_store_server *store = NULL;
    bool ok;

    for (uint32_t i = 0; i < count; i++)
        members[i] = (gp_member){.bench = bench, .number = i};
    if (!(bench->ops->caps & GP_CAP_LOCAL))
        return run_processes(bench, members, count);
    ok = serve_store(bench, &store) == GP_OK && run_threads(members, count);
    gp_store_stop(store);
    return ok;
}

static void
print_header(const gp_pushpull *bench)
{
    printf("# gradpush bench pushpull: %lld workers, %lld %s shards, %s, "
           "updater %s, codec %s, pull codec %s\n",
           (long long)bench->workers,
           (long long)(bench->colocated ? bench->workers : bench->shards),
           bench->colocated ? "co-located" : "stand-alone", bench->transport,
           bench->updater, bench->codec, bench->pull_codec);
    printf("#       size         count  iterations      time       p99       "
           "min    algbw   busbw        wire  #wrong\n");
    printf("#        (B)    (elements)                  (us)      (us)      "
           "(us)  (GB/s)  (GB/s)         (B)\n");
}

static gp_json *
document(const gp_pushpull *bench)
{
    gp_json *config;
    gp_json *doc = gp_bench_document(&bench->common, "pushpull", &config);

    gp_json_int(config, "workers", bench->workers);
    gp_json_int(config, "shards",
                bench->colocated ? bench->workers : bench->shards);
    gp_json_bool(config, "colocated", bench->colocated);
    gp_json_text(config, "transport", bench->transport);
    gp_json_text(config, "codec", bench->codec);
    gp_json_text(config, "pull_codec", bench->pull_codec);
    gp_json_text(config, "updater", bench->updater);
    gp_json_text(config, "mode", "sync");
    if (bench->netns)
        gp_json_text(config, "netns", bench->netns);
    return doc;
}

int
gp_bench_pushpull_main(int argc, char **argv)
{
    gp_pushpull bench = {.common = GP_BENCH_INIT,
                         .workers = 2,
                         .shards = -1,
                         .transport = "tcp",
                         .codec = "none",
                         .pull_codec = "none",
                         .updater = "sum"};
    int rc = read_options(&bench, argc, argv);
    gp_json *doc;
    size_t bytes;

    if (rc != GP_EXIT_NONE)
        return rc;
    bytes = sizeof(*bench.shared) + (size_t)bench.workers *
                                        gp_pushpull_iterations(&bench) *
                                        sizeof(bench.shared->stamps[0]);
    bench.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bench.shared == MAP_FAILED || choose_token(&bench) != GP_OK) {
        gp_say("cannot prepare: %m");
        return GP_EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    doc = document(&bench);
    if (gp_bench_table(&bench.common))
        print_header(&bench);
    rc = GP_EXIT_FAILURE;
    if (run_all(&bench))
        rc = gp_bench_finish(&bench.common, doc, bench.shared->results,
                             bench.common.size_count);
    gp_json_destroy(doc);
    munmap(bench.shared, bytes);
    return rc;
}
