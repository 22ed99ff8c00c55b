/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_collective.c - `gradpush bench allreduce` and its relatives: options,
 * starting the workers, and the closing table.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench_collective.h"

enum { KEY_CODEC = 300, KEY_ALGORITHM, KEY_IN_PLACE };

static const gp_option options[] = {
    GP_CREW_OPTIONS,
    {"codec", KEY_CODEC, "SPEC", "pipeline of all-reduce (default none)"},
    {"algorithm", KEY_ALGORITHM, "NAME",
     "direct, halving, ring, shards or auto, of all-reduce; all: each, and "
     "which is fastest"},
    {"op", 'o', "NAME", "sum (default), mean, max or min"},
    {"datatype", 'd', "NAME", "float (default), half or bfloat16"},
    {"root", 'r', "RANK", "of broadcast (default 0)"},
    {"in-place", KEY_IN_PLACE, NULL, "input and output are the same memory"},
    GP_BENCH_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static bool
parse_word(const char *option, const char *value, const char *const *words,
           int *out)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0) {
            *out = i;
            return true;
        }
    gp_say("%s is '%s', which it does not take; see --help", option, value);
    return false;
}

static bool
apply_algorithm(gp_collective_bench *bench, const char *value)
{
    static const char *const words[] = {"auto",   "direct", "halving", "ring",
                                        "shards", "all",    NULL};
    int which = 0;

    if (!parse_word("--algorithm", value, words, &which))
        return false;
    bench->algorithms = 1;
    bench->algorithm[0] = words[which];
    if (which == 5)
        for (bench->algorithms = 0; bench->algorithms < 4; bench->algorithms++)
            bench->algorithm[bench->algorithms] = words[1 + bench->algorithms];
    return true;
}

static bool
apply_kind(gp_collective_bench *bench, int key, const char *value)
{
    static const char *const ops[] = {"sum", "mean", "max", "min", NULL};
    static const char *const types[] = {"float", "half", "bfloat16", NULL};
    int which = 0;
    bool ok = key == 'o' ? parse_word("--op", value, ops, &which)
                         : parse_word("--datatype", value, types, &which);

    if (ok && key == 'o') {
        bench->reduction = (gp_reduction)(GP_SUM + which);
        bench->reduction_name = ops[which];
    } else if (ok) {
        bench->dtype = (gp_dtype)(GP_FP32 + which);
        bench->dtype_name = types[which];
    }
    return ok;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_collective_bench *bench = user;

    switch (key) {
    case KEY_CODEC:
        bench->codec = value;
        return true;
    case KEY_ALGORITHM:
        return apply_algorithm(bench, value);
    case KEY_IN_PLACE:
        bench->in_place = true;
        return true;
    case 'o':
    case 'd':
        return apply_kind(bench, key, value);
    case 'r':
        return gp_parse_int("--root", value, 0, 255, &bench->root);
    default:
        return gp_crew_apply(&bench->crew, &bench->common, key, value);
    }
}

static bool
check_codec(gp_collective_bench *bench)
{
    gp_pipeline *pipeline;

    if (gp_pipeline_parse(bench->codec, &pipeline) != GP_OK)
        return false;
    bench->selects = gp_pipeline_needs(pipeline) & GP_PIPELINE_SELECTS;
    gp_pipeline_destroy(pipeline);
    return true;
}

static int
read_options(gp_collective_bench *bench, int argc, char **argv)
{
    char name[64], example[200];
    gp_usage usage = {
        name,
        "[options]",
        "Starts workers on this machine, which call the operation on vectors "
        "of "
        "each size. The time is from the last call to the last end, after a "
        "barrier. size, algbw and busbw are those of nccl-tests; every element "
        "is verified once per size, three in every iteration. wire is what "
        "rank "
        "0 sends in one operation.",
        example,
        options,
        false,
    };
    int rc;

    snprintf(name, sizeof(name), "gradpush bench %s", bench->name);
    snprintf(example, sizeof(example),
             "  gradpush bench %s --workers 4 -b 4K -e 64M --json -",
             bench->name);
    rc = gp_options_parse(&usage, argc, argv, apply, bench);
    if (rc != GP_EXIT_NONE)
        return rc;
    if (bench->root >= bench->crew.workers)
        return gp_say_usage("--root %lld of %lld workers",
                            (long long)bench->root,
                            (long long)bench->crew.workers);
    if (bench->what != WHAT_ALLREDUCE &&
        (bench->algorithms > 1 || strcmp(bench->algorithm[0], "auto") != 0 ||
         strcmp(bench->codec, "none") != 0))
        return gp_say_usage("--algorithm and --codec are for allreduce");
    if (bench->in_place && bench->what != WHAT_ALLREDUCE &&
        bench->what != WHAT_ALLTOALL)
        return gp_say_usage("--in-place is for allreduce and alltoall");
    if (!check_codec(bench))
        return gp_say_usage("%s", gp_last_error());
    rc = gp_crew_prepare(&bench->crew);
    if (rc != GP_EXIT_NONE)
        return rc;
    return gp_bench_prepare(&bench->common, gp_dtype_bytes(bench->dtype) *
                                                (uint64_t)bench->crew.workers);
}

static gp_status
run_member(void *user, uint32_t number)
{
    const gp_collective_bench *bench = user;
    gp_status status = gp_collective_bench_worker(user, number);

    if (status != GP_OK)
        gp_crew_say(&bench->crew, number);
    return status;
}

static void
print_header(const gp_collective_bench *bench)
{
    printf("# gradpush bench %s: %lld workers, %s, codec %s%s\n", bench->name,
           (long long)bench->crew.workers, bench->crew.transport, bench->codec,
           bench->in_place ? ", in place" : "");
    printf("#       size         count      type   redop    root  algorithm "
           "     time       p99       min   algbw   busbw        wire  "
           "#wrong\n");
    printf("#        (B)    (elements)                                      "
           "     (us)      (us)      (us)  (GB/s)  (GB/s)         (B)\n");
}

static gp_json *
document(const gp_collective_bench *bench)
{
    gp_json *config;
    gp_json *doc = gp_bench_document(&bench->common, bench->name, &config);

    gp_crew_document(&bench->crew, config);
    gp_json_text(config, "codec", bench->codec);
    gp_json_text(config, "algorithm",
                 bench->algorithms > 1 ? "all" : bench->algorithm[0]);
    gp_json_text(config, "op", bench->reduction_name);
    gp_json_text(config, "datatype", bench->dtype_name);
    gp_json_bool(config, "in_place", bench->in_place);
    gp_json_int(config, "root", bench->root);
    return doc;
}

/* What `auto` should take on this machine. */
static void
print_fastest(const gp_collective_bench *bench)
{
    if (bench->algorithms == 1 || !gp_bench_table(&bench->common))
        return;
    for (uint32_t i = 0; i < bench->common.size_count; i++) {
        const gp_bench_result *r =
            &bench->shared->results[i * bench->algorithms];
        uint32_t best = 0;

        for (uint32_t a = 1; a < bench->algorithms; a++)
            if (r[a].median_us < r[best].median_us)
                best = a;
        printf("# fastest of %llu bytes: %s\n", (unsigned long long)r->bytes,
               bench->algorithm[best]);
    }
}

static int
run(gp_collective_bench *bench)
{
    size_t bytes =
        sizeof(*bench->shared) + (size_t)bench->crew.workers *
                                     gp_collective_bench_iterations(bench) *
                                     sizeof(bench->shared->stamps[0]);
    int rc = GP_EXIT_FAILURE;
    gp_json *doc;

    bench->shared = gp_crew_open(&bench->crew, bytes);
    if (!bench->shared)
        return GP_EXIT_FAILURE;
    doc = document(bench);
    if (gp_bench_table(&bench->common))
        print_header(bench);
    if (gp_crew_run(&bench->crew, run_member, bench)) {
        print_fastest(bench);
        rc = gp_bench_finish(&bench->common, doc, bench->shared->results,
                             bench->common.size_count * bench->algorithms);
    }
    gp_json_destroy(doc);
    munmap(bench->shared, bytes);
    return rc;
}

static int
bench_main(gp_collective_what what, const char *name, int argc, char **argv)
{
    gp_collective_bench bench = {
        .common = GP_BENCH_INIT,
        .what = what,
        .name = name,
        .crew = {.workers = 2, .colocated = true, .transport = "tcp"},
        .codec = "none",
        .algorithm = {"auto"},
        .algorithms = 1,
        .dtype = GP_FP32,
        .dtype_name = "float",
        .reduction = GP_SUM,
        .reduction_name = "sum"};
    int rc = read_options(&bench, argc, argv);

    return rc == GP_EXIT_NONE ? run(&bench) : rc;
}

int
gp_bench_allreduce_main(int argc, char **argv)
{
    return bench_main(WHAT_ALLREDUCE, "allreduce", argc, argv);
}

int
gp_bench_reducescatter_main(int argc, char **argv)
{
    return bench_main(WHAT_REDUCESCATTER, "reducescatter", argc, argv);
}

int
gp_bench_allgather_main(int argc, char **argv)
{
    return bench_main(WHAT_ALLGATHER, "allgather", argc, argv);
}

int
gp_bench_broadcast_main(int argc, char **argv)
{
    return bench_main(WHAT_BROADCAST, "broadcast", argc, argv);
}

int
gp_bench_alltoall_main(int argc, char **argv)
{
    return bench_main(WHAT_ALLTOALL, "alltoall", argc, argv);
}
