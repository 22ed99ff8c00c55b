/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec.c - `gradpush bench codec`: rates, sizes and errors of pipelines.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_codec.h"

#define DEFAULT_COUNT ((uint64_t)4 << 20)
#define COUNT_MAX     ((uint64_t)1 << 32)

enum {
    KEY_CODEC = 300,
    KEY_COUNT,
    KEY_COLUMNS,
    KEY_INPUT,
    KEY_DEVICE,
    KEY_THREADS,
    KEY_WORKERS,
    KEY_CHUNK,
    KEY_SEED,
    KEY_TRIALS,
    KEY_FEEDBACK,
    KEY_STEPS,
    KEY_LINK
};

static const gp_option options[] = {
    {"codec", KEY_CODEC, "SPEC",
     "a pipeline; may be given several times (default: none, bf16, q8)"},
    {"count", KEY_COUNT, "N",
     "elements, one size (default: 4194304, or all of a file)"},
    {"input", KEY_INPUT, "WHAT",
     "gauss, laplace, student (3 degrees of freedom), lognormal, spike, zeros, "
     "or a file of fp32 FILE.npy; several files are steps (default gauss)"},
    {"columns", KEY_COLUMNS, "N",
     "length of a row, for codecs of matrices (default: the file's)"},
    {"device", KEY_DEVICE, "NAME",
     "cpu, cuda or cuda:N: where the tensor lies (default cpu)"},
    {"threads", KEY_THREADS, "N", "that share the chunks (default 1)"},
    {"workers", KEY_WORKERS, "N", "messages in a fold (default 8)"},
    {"chunk", KEY_CHUNK, "SIZE",
     "bytes of fp32 per message (default 512K; 64M for codecs that want it "
     "whole)"},
    {"seed", KEY_SEED, "N", "default 1"},
    {"trials", KEY_TRIALS, "N", "seeds for codecs with chance (default 5)"},
    {"feedback", KEY_FEEDBACK, NULL,
     "encode under error feedback, in its steady state"},
    {"step-count", KEY_STEPS, "N", "steps to get there (default 20)"},
    {"link", KEY_LINK, "RATE",
     "also the speed-up on a link of so many bit/s: 100M, 10G (1000-fold)"},
    GP_BENCH_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush bench codec",
    "[options]",
    "Encodes, decodes, adds and folds a tensor with each pipeline, chunk by "
    "chunk as the engine does, beside memcpy of the same buffers. bits/el "
    "counts payload and the message header of each chunk. Gbit/s is the link "
    "below which the pipeline pays when its stages overlap.",
    "  gradpush bench codec --codec q8 --codec topk:0.01+q8 --feedback\n"
    "  gradpush bench codec --input grad.npy --codec q8 --link 10G --json -\n"
    "  gradpush bench codec --codec bf16 -b 4K -e 1G -f 4",
    options,
    false,
};

static bool
apply_number(const char *option, const char *value, int64_t most, uint32_t *out)
{
    int64_t number;

    if (!gp_parse_int(option, value, 1, most, &number))
        return false;
    *out = (uint32_t)number;
    return true;
}

static bool
apply_wide(const char *option, const char *value, int64_t least, uint64_t most,
           uint64_t *out)
{
    int64_t number;

    if (!gp_parse_int(option, value, least, (int64_t)most, &number))
        return false;
    *out = (uint64_t)number;
    return true;
}

static bool
apply_text(const char *option, const char *value, const char **list,
           uint32_t *count, uint32_t most)
{
    if (*count == most) {
        gp_say("%s is given more than %u times", option, most);
        return false;
    }
    list[(*count)++] = value;
    return true;
}

/* Bits per second, with a suffix of powers of 1000. */
static bool
apply_link(const char *value, double *out)
{
    char *end;
    double rate = strtod(value, &end);

    if (*end == 'k' || *end == 'K')
        rate *= 1e3;
    else if (*end == 'M')
        rate *= 1e6;
    else if (*end == 'G')
        rate *= 1e9;
    end += *end && strchr("kKMG", *end);
    if (end == value || *end || !isfinite(rate) || rate < 1 || rate > 1e15) {
        gp_say("--link is '%s': it takes bits per second such as 100M or 10G",
               value);
        return false;
    }
    *out = rate;
    return true;
}

static bool
apply_device(const char *value, const char **name)
{
    *name = value;
    if (!strncmp(value, "cuda", 4) &&
        (!value[4] || (value[4] == ':' && value[5])))
        return true;
    if (!strcmp(value, "cpu"))
        return true;
    gp_say("--device is '%s': it takes cpu, cuda or cuda:N", value);
    return false;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_codec_bench *bench = user;

    switch (key) {
    case KEY_CODEC:
        return apply_text("--codec", value, bench->codecs, &bench->codec_count,
                          GP_CODEC_TEXTS);
    case KEY_INPUT:
        return apply_text("--input", value, bench->inputs, &bench->input_count,
                          GP_CODEC_INPUTS);
    case KEY_COUNT:
        return apply_wide("--count", value, 1, COUNT_MAX, &bench->count);
    case KEY_COLUMNS:
        return apply_wide("--columns", value, 1, COUNT_MAX, &bench->columns);
    case KEY_DEVICE:
        return apply_device(value, &bench->device_name);
    case KEY_THREADS:
        return apply_number("--threads", value, 256, &bench->threads);
    case KEY_WORKERS:
        return apply_number("--workers", value, GP_CODEC_FOLD, &bench->workers);
    case KEY_CHUNK:
        return gp_parse_size("--chunk", value, 16384, (uint64_t)4 << 30,
                             &bench->chunk_bytes);
    case KEY_SEED:
        return apply_wide("--seed", value, 0, INT64_MAX, &bench->seed);
    case KEY_TRIALS:
        return apply_number("--trials", value, 1000, &bench->trials);
    case KEY_FEEDBACK:
        bench->feedback = true;
        return true;
    case KEY_STEPS:
        return apply_number("--step-count", value, 100000, &bench->steps);
    case KEY_LINK:
        return apply_link(value, &bench->link);
    default:
        bench->sized |= key == 'b' || key == 'e';
        return gp_bench_apply(&bench->common, key, value);
    }
}

/* All texts are read before anything is measured. */
static int
check_texts(const gp_codec_bench *bench)
{
    for (uint32_t i = 0; i < bench->codec_count; i++) {
        const char *text = bench->codecs[i];
        gp_pipeline *pipeline = NULL;

        if (!strcmp(text, "auto") || strchr(text, '|'))
            return gp_say_usage("--codec %s: one pipeline is measured at a "
                                "time; give --codec several times, once for "
                                "each alternative",
                                text);
        if (gp_pipeline_parse(text, &pipeline) != GP_OK)
            return gp_say_usage("--codec %s: %s", text, gp_last_error());
        gp_pipeline_destroy(pipeline);
    }
    return GP_EXIT_NONE;
}

static int
choose_sizes(gp_codec_bench *bench)
{
    uint64_t limit, count = bench->count;

    if (count && bench->sized)
        return gp_say_usage("--count is one size: leave out -b and -e");
    if (gp_codec_source_limit(bench, &limit) != GP_OK)
        return gp_say_usage("--input: %s", gp_last_error());
    if (count > limit)
        return gp_say_usage("--count %llu is more than the %llu elements of "
                            "%s",
                            (unsigned long long)count,
                            (unsigned long long)limit, bench->inputs[0]);
    if (!count)
        count = limit == UINT64_MAX ? DEFAULT_COUNT : limit;
    if (!bench->sized)
        bench->common.minimum = bench->common.maximum = count * sizeof(float);
    else if (limit != UINT64_MAX)
        bench->common.maximum =
            GP_MIN(bench->common.maximum, limit * sizeof(float));
    return gp_bench_prepare(&bench->common, sizeof(float));
}

static int
read_options(gp_codec_bench *bench, int argc, char **argv)
{
    static const char *const defaults[] = {"none", "bf16", "q8"};
    int rc = gp_options_parse(&usage, argc, argv, apply, bench);

    if (rc != GP_EXIT_NONE)
        return rc;
    for (size_t i = 0; i < GP_COUNT_OF(defaults) && !bench->codec_count; i++)
        bench->codecs[i] = defaults[i];
    if (!bench->codec_count)
        bench->codec_count = GP_COUNT_OF(defaults);
    if (!bench->input_count)
        bench->inputs[bench->input_count++] = "gauss";
    rc = check_texts(bench);
    return rc == GP_EXIT_NONE ? choose_sizes(bench) : rc;
}

static gp_json *
document(const gp_codec_bench *bench)
{
    gp_json *config, *list;
    gp_json *doc = gp_bench_document(&bench->common, "codec", &config);

    list = gp_json_array(config, "input");
    for (uint32_t i = 0; i < bench->input_count; i++)
        gp_json_text(list, NULL, bench->inputs[i]);
    gp_json_text(config, "device", bench->device_name);
    gp_json_int(config, "threads", bench->threads);
    gp_json_int(config, "workers", bench->workers);
    gp_json_int(config, "seed", (int64_t)bench->seed);
    gp_json_int(config, "trials", bench->trials);
    gp_json_bool(config, "feedback", bench->feedback);
    gp_json_int(config, "steps", bench->steps);
    if (bench->link > 0)
        gp_json_real(config, "link", bench->link);
    return doc;
}

typedef struct gp_codec_run {
    const gp_codec_bench *bench;
    gp_json *doc, *list;
    uint64_t errors;
    bool failed; /* something could not be measured */
} gp_codec_run;

/* Written anew after each: whatever ends the program leaves what there is. */
static void
save(const gp_codec_run *run)
{
    const char *path = run->bench->common.json;

    if (run->doc && strcmp(path, "-") != 0)
        (void)!gp_json_write(run->doc, path);
}

/* A pipeline that cannot be measured is named, and others follow. */
static void
measure_one(gp_codec_run *run, const char *text, const gp_codec_source *source)
{
    const gp_codec_bench *bench = run->bench;
    unsigned long long bytes = source->count * sizeof(float);
    gp_codec_result result;
    gp_status status =
        (bench->device ? gp_codec_measure_device
                       : gp_codec_measure)(bench, text, source, &result);

    if (status != GP_OK) {
        gp_say("%s, %llu bytes:", text, bytes);
        gp_say("%s", gp_last_error());
        run->failed = true;
        return;
    }
    if (gp_bench_table(&bench->common))
        gp_codec_print_row(bench, &result);
    if (result.wrong)
        gp_say("%s, %llu bytes: %s", text, bytes, result.wrong);
    gp_codec_add_result(bench, run->list, &result);
    run->errors += result.errors;
    save(run);
}

/* All pipelines at one size; the numbers are made once. */
static gp_status
measure_size(gp_codec_run *run, uint64_t bytes)
{
    gp_codec_source source;
    gp_status status =
        gp_codec_source_create(run->bench, bytes / sizeof(float), &source);

    if (status != GP_OK)
        return status;
    for (uint32_t i = 0; i < run->bench->codec_count; i++)
        measure_one(run, run->bench->codecs[i], &source);
    free(source.values);
    return GP_OK;
}

static int
finish(const gp_codec_run *run)
{
    const gp_codec_bench *bench = run->bench;

    if (gp_bench_table(&bench->common))
        printf("# Out of bounds values : %llu %s\n",
               (unsigned long long)run->errors,
               !bench->common.check ? "unchecked"
               : run->errors        ? "FAILED"
                                    : "OK");
    if (run->doc && gp_json_write(run->doc, bench->common.json) != GP_OK) {
        gp_say("%s", gp_last_error());
        return GP_EXIT_FAILURE;
    }
    return run->errors || run->failed ? GP_EXIT_FAILURE : GP_EXIT_OK;
}

static int
measure_all(const gp_codec_bench *bench)
{
    gp_status status = GP_OK;
    gp_codec_run run = {.bench = bench, .doc = document(bench)};
    int rc = GP_EXIT_FAILURE;

    run.list = gp_json_array(run.doc, "results");
    if (gp_bench_table(&bench->common))
        gp_codec_print_header(bench);
    for (uint32_t i = 0; i < bench->common.size_count && status == GP_OK; i++)
        status = measure_size(&run, bench->common.sizes[i]);
    if (status != GP_OK)
        gp_say("%s", gp_last_error());
    else
        rc = finish(&run);
    gp_json_destroy(run.doc);
    return rc;
}

int
gp_bench_codec_main(int argc, char **argv)
{
    static gp_codec_bench bench = {.common = GP_BENCH_INIT,
                                   .threads = 1,
                                   .workers = 8,
                                   .trials = 5,
                                   .seed = 1,
                                   .steps = 20,
                                   .device_name = "cpu"};
    int rc = read_options(&bench, argc, argv);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (strcmp(bench.device_name, "cpu") != 0 &&
        gp_device_open(bench.device_name, &bench.device) != GP_OK) {
        gp_say("--device %s: %s; --device cpu measures the codecs of the host",
               bench.device_name, gp_last_error());
        return GP_EXIT_FAILURE;
    }
    rc = measure_all(&bench);
    gp_device_close(bench.device);
    return rc;
}
