/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rows.c - `gradpush bench rows`: options, starting the members, and the
 * closing table.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"
#include "bench_rows.h"

enum {
    KEY_ROWS = 300,
    KEY_DIM,
    KEY_BATCH,
    KEY_ZIPF,
    KEY_CODEC,
    KEY_PULL_CODEC,
    KEY_UPDATER
};

static const gp_option options[] = {
    GP_CREW_OPTIONS,
    GP_CREW_SHARD_OPTIONS,
    {"rows", KEY_ROWS, "N", "of the table (default 1M)"},
    {"dim", KEY_DIM, "D", "fp32 numbers of a row (default 64)"},
    {"batch", KEY_BATCH, "N",
     "rows of one call; default: as many as -b to -e hold"},
    {"zipf", KEY_ZIPF, "S",
     "row k is asked for as often as k^-S (0 to 4; default 0: all alike)"},
    {"codec", KEY_CODEC, "SPEC", "of pushed rows (default none)"},
    {"pull-codec", KEY_PULL_CODEC, "SPEC", "of pulled rows (default none)"},
    {"updater", KEY_UPDATER, "TEXT", "default sgd:lr=1; verified with that"},
    GP_BENCH_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush bench rows",
    "[options]",
    "Starts workers and shards on this machine; every worker pushes gradients "
    "of some rows of a table and pulls other rows, in one call. Reports the "
    "time from the last worker's call, after a barrier, to the end of the last "
    "wait. size is the bytes of the rows of one call as fp32, algbw size / "
    "median time; rows/s are those that all workers together push, and as many "
    "are pulled; -e is 4M unless given. A row that a call names twice crosses "
    "the wire once.",
    "  gradpush bench rows --rows 10M --dim 64 --batch 8192 --zipf 1.1\n"
    "  gradpush bench rows --workers 4 --codec q8 --pull-codec fp16 --json -",
    options,
    false,
};

static bool
apply(void *user, int key, const char *value)
{
    gp_rows_bench *bench = user;
    uint64_t number;

    switch (key) {
    case KEY_ROWS:
        if (!gp_parse_many("--rows", value, "rows", 1, GP_ROWS_MAX, &number))
            return false;
        bench->rows = (int64_t)number;
        return true;
    case KEY_DIM:
        return gp_parse_int("--dim", value, 1, GP_ROWS_WIDTH_MAX, &bench->dim);
    case KEY_BATCH:
        return gp_parse_int("--batch", value, 1, GP_ROWS_BATCH_MAX,
                            &bench->batch);
    case KEY_ZIPF:
        return gp_parse_real("--zipf", value, "an exponent", 0, 4,
                             &bench->zipf);
    case KEY_CODEC:
        bench->codec = value;
        return true;
    case KEY_PULL_CODEC:
        bench->pull_codec = value;
        return true;
    case KEY_UPDATER:
        bench->updater = value;
        return true;
    default:
        return gp_crew_apply(&bench->crew, &bench->common, key, value);
    }
}

/* Sizes are those of whole rows. */
static int
choose_sizes(gp_rows_bench *bench)
{
    uint64_t row = (uint64_t)bench->dim * sizeof(float);
    uint64_t most = GP_MIN((uint64_t)GP_ROWS_BATCH_MAX, (64u << 20) / row);
    int rc;

    if (bench->batch)
        bench->common.minimum = bench->common.maximum =
            (uint64_t)bench->batch * row;
    rc = gp_bench_prepare(&bench->common, row);
    if (rc != GP_EXIT_NONE)
        return rc;
    if (bench->common.sizes[bench->common.size_count - 1] / row > most)
        return gp_say_usage("a call takes at most %llu rows of %lld numbers: "
                            "lower --batch or -e",
                            (unsigned long long)most, (long long)bench->dim);
    return GP_EXIT_NONE;
}

static int
read_options(gp_rows_bench *bench, int argc, char **argv)
{
    double push, pull;
    int rc = gp_options_parse(&usage, argc, argv, apply, bench);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (gp_rows_bench_losses(bench, &push, &pull) != GP_OK)
        return gp_say_usage("%s", gp_last_error());
    if (strcmp(bench->updater, "sgd:lr=1") != 0 && bench->common.check)
        return gp_say_usage("results are verified with --updater sgd:lr=1: "
                            "add -c 0 for '%s'",
                            bench->updater);
    rc = choose_sizes(bench);
    return rc == GP_EXIT_NONE ? gp_crew_prepare(&bench->crew) : rc;
}

static gp_status
run_member(void *user, uint32_t number)
{
    gp_rows_bench *bench = user;
    int64_t rank = (int64_t)number - bench->crew.shards;
    gp_config *config = NULL;
    gp_status status = GP_OK;

    if (rank < 0)
        status = gp_crew_config(&bench->crew, -1, NULL, 0, &config);
    if (status == GP_OK)
        status = rank < 0 ? gp_crew_shard(config)
                          : gp_rows_bench_worker(bench, (uint32_t)rank);
    if (status != GP_OK)
        gp_crew_say(&bench->crew, number);
    return status;
}

static void
print_header(const gp_rows_bench *bench)
{
    const gp_crew *crew = &bench->crew;

    printf("# gradpush bench rows: %lld workers, %lld %s shards, %s, %lld rows "
           "of %lld, %s %g, updater %s, codec %s, pull codec %s\n",
           (long long)crew->workers,
           (long long)(crew->colocated ? crew->workers : crew->shards),
           crew->colocated ? "co-located" : "stand-alone", crew->transport,
           (long long)bench->rows, (long long)bench->dim,
           bench->zipf > 0 ? "zipf" : "uniform", bench->zipf, bench->updater,
           bench->codec, bench->pull_codec);
    printf("#       size          rows  iterations      time       p99       "
           "min    algbw     rows/s  distinct        wire  #wrong\n");
    printf("#        (B)    (per call)                  (us)      (us)      "
           "(us)  (GB/s)               (%%)         (B)\n");
}

static gp_json *
document(const gp_rows_bench *bench)
{
    gp_json *config;
    gp_json *doc = gp_bench_document(&bench->common, "rows", &config);

    gp_crew_document(&bench->crew, config);
    gp_json_int(config, "rows", bench->rows);
    gp_json_int(config, "dim", bench->dim);
    gp_json_text(config, "distribution", bench->zipf > 0 ? "zipf" : "uniform");
    gp_json_real(config, "zipf", bench->zipf);
    gp_json_text(config, "codec", bench->codec);
    gp_json_text(config, "pull_codec", bench->pull_codec);
    gp_json_text(config, "updater", bench->updater);
    gp_json_text(config, "mode", "sync");
    return doc;
}

int
gp_bench_rows_main(int argc, char **argv)
{
    gp_rows_bench bench = {.common = GP_BENCH_INIT,
                           .crew = GP_CREW_INIT,
                           .rows = 1 << 20,
                           .dim = 64,
                           .codec = "none",
                           .pull_codec = "none",
                           .updater = "sgd:lr=1"};
    gp_json *doc;
    size_t bytes;
    int rc;

    bench.common.maximum = 4u << 20;
    rc = read_options(&bench, argc, argv);
    if (rc != GP_EXIT_NONE)
        return rc;
    bytes = sizeof(*bench.shared) + (size_t)bench.crew.workers *
                                        gp_rows_bench_iterations(&bench) *
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
