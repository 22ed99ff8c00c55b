/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_pushpull.c - `gradpush bench pushpull`: starts workers and shards and
 * reports what they measured.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench_pushpull.h"

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
        bench->team.netns = value;
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
    rc = gp_team_listen(&bench->team, bench->ops, bench->transport);
    if (rc != GP_EXIT_NONE)
        return rc;
    return gp_bench_prepare(&bench->common, sizeof(float));
}

static gp_status
run_member(void *user, uint32_t number)
{
    gp_pushpull *bench = user;
    uint32_t shards = (uint32_t)bench->shards;
    bool shard = number < shards;
    gp_status status;

    if (shard)
        status = gp_pushpull_shard(bench);
    else
        status = gp_pushpull_worker(bench, number - shards);
    if (status != GP_OK)
        gp_say("%s %u: %s", shard ? "shard" : "worker",
               shard ? number : number - shards, gp_last_error());
    return status;
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
    if (bench->team.netns)
        gp_json_text(config, "netns", bench->team.netns);
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
    if (bench.shared == MAP_FAILED || gp_team_token(&bench.team) != GP_OK) {
        gp_say("cannot prepare: %m");
        return GP_EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    doc = document(&bench);
    if (gp_bench_table(&bench.common))
        print_header(&bench);
    rc = GP_EXIT_FAILURE;
    bench.team.run = run_member;
    bench.team.user = &bench;
    if (gp_team_run(&bench.team, (uint32_t)(bench.workers + bench.shards)))
        rc = gp_bench_finish(&bench.common, doc, bench.shared->results,
                             bench.common.size_count);
    gp_json_destroy(doc);
    munmap(bench.shared, bytes);
    return rc;
}
