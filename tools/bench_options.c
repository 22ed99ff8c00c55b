/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_options.c - message sizes, samples and results of all benchmarks.
 *
 * GB is 1e9 bytes; sizes on the command line are multiples of 1024. The table's
 * comment lines start with '#' and its rows with the size in bytes, as scripts
 * that read other benchmarks expect.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "bench.h"

#define AUTO_BYTES     ((uint64_t)256 << 20) /* per size, when -n is not given */
#define SIZE_MAX_BYTES ((uint64_t)16 << 30)

static bool
apply_count(const char *option, const char *value, int64_t minimum,
            uint32_t *out)
{
    int64_t count;

    if (!gp_parse_int(option, value, minimum, 100000000, &count))
        return false;
    *out = (uint32_t)count;
    return true;
}

/* Known before an hour of measuring rather than after it. */
static bool
apply_json(gp_bench *bench, const char *path)
{
    char copy[4096];
    struct stat s;

    bench->json = path;
    if (!gp_json_available())
        return false;
    if (strcmp(path, "-") == 0)
        return true;
    if (stat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        errno = EISDIR;
    } else if (access(path, W_OK) == 0) {
        return true;
    } else if (errno == ENOENT && *path && strlen(path) < sizeof(copy)) {
        strcpy(copy, path);
        if (access(dirname(copy), W_OK | X_OK) == 0)
            return true;
    }
    gp_say_usage("cannot write --json %s: %s; name a file in a folder that is "
                 "there",
                 path, strerror(errno));
    return false;
}

bool
gp_bench_apply(gp_bench *bench, int key, const char *value)
{
    int64_t number;

    switch (key) {
    case 'b':
        return gp_parse_size("--minbytes", value, 1, SIZE_MAX_BYTES,
                             &bench->minimum);
    case 'e':
        return gp_parse_size("--maxbytes", value, 1, SIZE_MAX_BYTES,
                             &bench->maximum);
    case 'f':
        if (!gp_parse_int("--stepfactor", value, 2, 1 << 20, &number))
            return false;
        bench->factor = (uint64_t)number;
        return true;
    case 'n':
        return apply_count("--iters", value, 1, &bench->iterations);
    case 'w':
        return apply_count("--warmup", value, 0, &bench->warmup);
    case 'c':
        if (!gp_parse_int("--check", value, 0, 1, &number))
            return false;
        bench->check = number;
        return true;
    case 'j':
        return apply_json(bench, value);
    default:
        return gp_parse_real("--min-bw", value, "GB/s", 0, 1e6, &bench->least);
    }
}

int
gp_bench_prepare(gp_bench *bench, uint64_t unit)
{
    uint64_t bytes = bench->minimum;

    if (bench->minimum > bench->maximum)
        return gp_say_usage("--minbytes %llu is more than --maxbytes %llu",
                            (unsigned long long)bench->minimum,
                            (unsigned long long)bench->maximum);
    while (bytes <= bench->maximum && bench->size_count < GP_BENCH_SIZES_MAX) {
        uint64_t rounded = GP_MAX(bytes / unit * unit, unit);

        if (!bench->size_count || rounded > bench->sizes[bench->size_count - 1])
            bench->sizes[bench->size_count++] = rounded;
        if (!gp_mul(bytes, bench->factor, &bytes))
            break;
    }
    return GP_EXIT_NONE;
}

uint32_t
gp_bench_iterations(const gp_bench *bench, uint64_t bytes)
{
    uint64_t count = AUTO_BYTES / bytes;

    if (bench->iterations)
        return bench->iterations;
    return (uint32_t)GP_MIN(GP_MAX(count, 10u), 1000u);
}

static int
compare_samples(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void
gp_bench_summarize(double *samples, uint32_t count, gp_bench_result *result)
{
    double sum = 0;

    qsort(samples, count, sizeof(*samples), compare_samples);
    for (uint32_t i = 0; i < count; i++)
        sum += samples[i];
    result->median_us = samples[count / 2];
    result->p99_us = samples[((uint64_t)count * 99 + 99) / 100 - 1];
    result->min_us = samples[0];
    result->max_us = samples[count - 1];
    result->mean_us = sum / count;
}

gp_json *
gp_bench_document(const gp_bench *bench, const char *what, gp_json **config)
{
    gp_json *document;

    *config = NULL;
    if (!bench->json)
        return NULL;
    document = gp_json_create("gradpush.bench/1");
    gp_json_text(document, "what", what);
    *config = gp_json_object(document, "config");
    gp_json_int(*config, "minbytes", (int64_t)bench->minimum);
    gp_json_int(*config, "maxbytes", (int64_t)bench->maximum);
    gp_json_int(*config, "stepfactor", (int64_t)bench->factor);
    gp_json_int(*config, "iters", bench->iterations);
    gp_json_int(*config, "warmup", bench->warmup);
    gp_json_bool(*config, "check", bench->check);
    gp_json_environment(document);
    return document;
}

bool
gp_bench_table(const gp_bench *bench)
{
    return !bench->json || strcmp(bench->json, "-");
}

static void
add_result(gp_json *list, const gp_bench_result *r)
{
    gp_json *o = gp_json_object(list, NULL);

    gp_json_int(o, "bytes", (int64_t)r->bytes);
    gp_json_int(o, "iterations", (int64_t)r->iterations);
    gp_json_real(o, "median_us", r->median_us);
    gp_json_real(o, "p99_us", r->p99_us);
    gp_json_real(o, "min_us", r->min_us);
    gp_json_real(o, "max_us", r->max_us);
    gp_json_real(o, "mean_us", r->mean_us);
    gp_json_real(o, "algbw_GBps", r->algbw);
    gp_json_real(o, "busbw_GBps", r->busbw);
    gp_json_int(o, "wire_bytes", (int64_t)r->wire_bytes);
    gp_json_int(o, "errors", (int64_t)r->errors);
    if (!r->rows)
        return;
    gp_json_int(o, "rows", (int64_t)r->rows);
    gp_json_real(o, "rows_per_s", r->rows_per_s);
    gp_json_real(o, "distinct", r->distinct);
}

int
gp_bench_finish(const gp_bench *bench, gp_json *document,
                const gp_bench_result *results, uint32_t count)
{
    gp_json *list = gp_json_array(document, "results");
    uint64_t errors = 0;
    double sum = 0;
    bool slow;

    for (uint32_t i = 0; i < count; i++) {
        add_result(list, &results[i]);
        errors += results[i].errors;
        sum += results[i].busbw;
    }
    slow = count && sum / count < bench->least;
    if (gp_bench_table(bench)) {
        printf("# Out of bounds values : %llu %s\n", (unsigned long long)errors,
               !bench->check ? "unchecked"
               : errors      ? "FAILED"
                             : "OK");
        printf("# Avg bus bandwidth    : %.3f\n", count ? sum / count : 0.0);
    }
    if (slow)
        gp_say("the average of %.3f GB/s is below --min-bw %.3f", sum / count,
               bench->least);
    if (document && gp_json_write(document, bench->json) != GP_OK) {
        gp_say("%s", gp_last_error());
        return GP_EXIT_FAILURE;
    }
    return errors || slow ? GP_EXIT_FAILURE : GP_EXIT_OK;
}
