/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_pushpull.c - `gradpush bench pushpull`: starts workers and shards and
 * reports what they measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_pushpull.h"

enum { KEY_CODEC = 300, KEY_PULL_CODEC, KEY_UPDATER, KEY_MODE, KEY_TENSORS };

#define TENSORS_MAX 1024

static const gp_option options[] = {
    GP_CREW_OPTIONS,
    GP_CREW_SHARD_OPTIONS,
    {"codec", KEY_CODEC, "SPEC", "pipeline of pushes (default none)"},
    {"pull-codec", KEY_PULL_CODEC, "SPEC", "pipeline of pulls (default none)"},
    {"updater", KEY_UPDATER, "NAME", "of mode sync: sum or mean (default sum)"},
    {"mode", KEY_MODE, "MODE",
     "sync (default), async or ssp:K; the latter two push to an optimizer, and "
     "pull parameters"},
    {"tensors", KEY_TENSORS, "N",
     "of each size, which an iteration pushes and pulls at once (default 1)"},
    GP_BENCH_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush bench pushpull",
    "[options]",
    "Starts workers and shards on this machine; every worker pushes an fp32 "
    "tensor of each size, or several, and pulls the sum. Reports the time on "
    "rank 0 from the first call, after a barrier, to the end of the last wait; "
    "algbw is the bytes of all / median time. Every element is verified once "
    "per size, three of a tensor in every iteration; with --mode async and "
    "ssp, the parameters that all pushes of a size have led to. wire is what "
    "rank 0 sends and receives per iteration, headers included.",
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
apply_tensors(gp_pushpull *bench, const char *value)
{
    int64_t tensors = 1;
    bool ok = gp_parse_int("--tensors", value, 1, TENSORS_MAX, &tensors);

    bench->tensors = (uint32_t)tensors;
    return ok;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_pushpull *bench = user;

    switch (key) {
    case KEY_CODEC:
        bench->codec = value;
        return true;
    case KEY_PULL_CODEC:
        bench->pull_codec = value;
        return true;
    case KEY_UPDATER:
        bench->updater = value;
        return apply_word("--updater", value, "sum", "mean");
    case KEY_MODE:
        bench->mode = value;
        return true;
    case KEY_TENSORS:
        return apply_tensors(bench, value);
    default:
        return gp_crew_apply(&bench->crew, &bench->common, key, value);
    }
}

/* Steps of these modes are those of one worker: what it gets back depends on
 * how far the others are, and only the end can be checked. */
static int
check_mode(gp_pushpull *bench)
{
    const char *text = bench->mode, *bound = text + strlen("ssp:");

    if (!strcmp(text, "async"))
        bench->applies = true;
    else if (!strncmp(text, "ssp:", strlen("ssp:")) && *bound &&
             !bound[strspn(bound, "0123456789")])
        bench->applies = true;
    else if (strcmp(text, "sync") != 0)
        return gp_say_usage("--mode is '%s': it takes sync, async or ssp:K",
                            text);
    if (bench->applies && bench->updater)
        return gp_say_usage("--updater %s keeps no parameters, which --mode %s "
                            "is about: leave it out",
                            bench->updater, bench->mode);
    if (!bench->updater)
        bench->updater = bench->applies ? "sgd:lr=1" : "sum";
    return GP_EXIT_NONE;
}

/* Pipelines are checked here, once, and not in every member. */
static int
check_names(gp_pushpull *bench)
{
    double ignored;

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
    rc = check_mode(bench);
    if (rc == GP_EXIT_NONE)
        rc = check_names(bench);
    if (rc == GP_EXIT_NONE)
        rc = gp_crew_prepare(&bench->crew);
    if (rc != GP_EXIT_NONE)
        return rc;
    return gp_bench_prepare(&bench->common, sizeof(float));
}

static gp_status
run_member(void *user, uint32_t number)
{
    gp_pushpull *bench = user;
    int64_t rank = (int64_t)number - bench->crew.shards;
    gp_config *config = NULL;
    gp_status status = GP_OK;

    if (rank < 0)
        status = gp_pushpull_config(bench, -1, &config);
    if (status == GP_OK)
        status = rank < 0 ? gp_crew_shard(config)
                          : gp_pushpull_worker(bench, (uint32_t)rank);
    if (status != GP_OK)
        gp_crew_say(&bench->crew, number);
    return status;
}

static void
print_header(const gp_pushpull *bench)
{
    const gp_crew *crew = &bench->crew;

    printf("# gradpush bench pushpull: %lld workers, %lld %s shards, %s, "
           "mode %s, updater %s, codec %s, pull codec %s, %u tensor%s at "
           "once\n",
           (long long)crew->workers,
           (long long)(crew->colocated ? crew->workers : crew->shards),
           crew->colocated ? "co-located" : "stand-alone", crew->transport,
           bench->mode, bench->updater, bench->codec, bench->pull_codec,
           bench->tensors, bench->tensors == 1 ? "" : "s");
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

    gp_crew_document(&bench->crew, config);
    gp_json_text(config, "codec", bench->codec);
    gp_json_text(config, "pull_codec", bench->pull_codec);
    gp_json_text(config, "updater", bench->updater);
    gp_json_text(config, "mode", bench->mode);
    gp_json_int(config, "tensors", bench->tensors);
    return doc;
}

int
gp_bench_pushpull_main(int argc, char **argv)
{
    gp_pushpull bench = {.common = GP_BENCH_INIT,
                         .crew = GP_CREW_INIT,
                         .codec = "none",
                         .pull_codec = "none",
                         .mode = "sync",
                         .tensors = 1};
    int rc = read_options(&bench, argc, argv);
    gp_json *doc;
    size_t bytes;

    if (rc != GP_EXIT_NONE)
        return rc;
    bytes = sizeof(*bench.shared) + (size_t)bench.crew.workers *
                                        gp_pushpull_iterations(&bench) *
                                        sizeof(bench.shared->stamps[0]);
    bench.shared = gp_crew_open(&bench.crew, bytes);
    if (!bench.shared)
        return GP_EXIT_FAILURE;
    doc = document(&bench);
    if (gp_bench_table(&bench.common))
        print_header(&bench);
    rc = GP_EXIT_FAILURE;
    if (gp_crew_run(&bench.crew, run_member, &bench))
        rc = gp_bench_finish(&bench.common, doc, bench.shared->results,
                             bench.common.size_count);
    gp_json_destroy(doc);
    munmap(bench.shared, bytes);
    return rc;
}
