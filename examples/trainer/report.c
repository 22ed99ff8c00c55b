/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - what a run says about itself: a table for people, JSON for
 * programs.
 */
#include "report.h"

#include <cblas.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* --- the table --- */

static double
rate(const gt_trainer *t)
{
    return t->step_seconds > 0 ? (double)t->samples / t->step_seconds : 0;
}

void
gt_report_head(FILE *out, const gt_trainer *t)
{
    const gt_data *d = &t->data;

    fprintf(out,
            "%s: %zu training and %zu test samples, %zu values, %zu classes\n"
            "%zu parameters; %u worker%s x batch %zu, %u shard%s\n"
            "%s%s%s%s%s"
            "epoch  train loss  test loss  accuracy  seconds  samples/s\n",
            d->source, d->train.count, d->test.count, d->features, d->classes,
            t->parameters, t->size, t->size == 1 ? "" : "s", t->options->batch,
            t->shards, t->shards == 1 ? "" : "s", t->gpu ? "rank 0 on " : "",
            t->gpu ? gt_gpu_name(t->gpu) : "", t->gpu ? ", " : "",
            t->gpu ? gt_gpu_model(t->gpu) : "", t->gpu ? "\n" : "");
    fflush(out);
}

void
gt_report_epoch(FILE *out, const gt_trainer *t, const gt_epoch *e)
{
    double samples =
        (double)(t->loader.steps * t->options->batch) * (double)t->layout.data;

    fprintf(out, "%5u  %10.4f  %9.4f  %7.2f %%  %7.3f  %9.0f\n", e->epoch,
            e->train_loss, e->test_loss, 100 * e->test_accuracy, e->seconds,
            samples / e->seconds);
    fflush(out);
}

/* Of the time with communication under way, what workers did not wait for. */
static double
hidden_share(const gt_trainer *t)
{
    double waited = (double)t->stats.waited_ns, open = (double)t->stats.open_ns;

    return waited < open ? 1 - waited / open : 0;
}

/* Were all that workers compute in a step hidden behind its communication, or
 * the other way round: computing by communication, at most 1. */
static double
hidden_share_bound(const gt_trainer *t)
{
    double open = (double)t->stats.open_ns * 1e-9 / (double)t->size;
    double busy = -(double)t->stats.waited_ns * 1e-9 / (double)t->size;

    for (uint32_t i = 0; i < t->epoch_count; i++)
        busy += t->epochs[i].seconds;
    return busy <= 0 ? 0 : busy < open ? busy / open : 1;
}

void
gt_report_foot(FILE *out, const gt_trainer *t)
{
    fprintf(out,
            "test accuracy %.2f %% after %llu steps in %.2f s, %.0f "
            "samples/s\n",
            100 * t->test_accuracy, (unsigned long long)t->steps,
            t->total_seconds, rate(t));
    if (t->comm)
        fprintf(out,
                "%.1f MB pushed, %.1f MB pulled, %.1f MB as fp32, %.0f %% of "
                "communication hidden\n",
                (double)t->stats.bytes_pushed / 1e6,
                (double)t->stats.bytes_pulled / 1e6,
                (double)t->stats.dense_bytes / 1e6, 100 * hidden_share(t));
    fflush(out);
}

/* --- JSON --- */

static void
set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_string(value));
}

static void
set_count(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void
set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, json_real(value));
}

/* 0.1f is 0.1 to people, not 0.10000000149. */
static void
set_float(json_t *object, const char *key, float value)
{
    char text[32];

    snprintf(text, sizeof(text), "%.7g", (double)value);
    set_real(object, key, strtod(text, NULL));
}

static json_t *
hidden_of(const gt_options *o)
{
    json_t *list = json_array();

    for (size_t i = 0; i < o->hidden_count; i++)
        json_array_append_new(list, json_integer((json_int_t)o->hidden[i]));
    return list;
}

static void
config_of_data(const gt_trainer *t, json_t *c)
{
    const gt_options *o = t->options;

    set_text(c, "data", o->data.path);
    set_real(c, "split", o->data.split);
    set_count(c, "classes", t->data.classes);
    set_count(c, "features", t->data.features);
    set_count(c, "train_samples", t->data.train.count);
    set_count(c, "test_samples", t->data.test.count);
    set_text(c, "normalize", gt_normalize_name(o->data.normalize));
    set_text(c, "partition", gt_partition_name(o->partition));
}

static json_t *
config_of(const gt_trainer *t)
{
    const gt_options *o = t->options;
    json_t *c = json_object();
    char layout[64];

    config_of_data(t, c);
    set_count(c, "workers", t->size);
    set_count(c, "shards", t->shards);
    json_object_set_new(c, "hidden", hidden_of(o));
    set_count(c, "parameters", t->parameters);
    set_text(c, "loss", gt_loss_name(o->loss));
    set_text(c, "optimizer", gt_optim_name(o->optim.kind));
    set_float(c, "lr", o->optim.lr);
    set_float(c, "momentum", o->optim.momentum);
    set_float(c, "weight_decay", o->optim.weight_decay);
    set_count(c, "epochs", o->epochs);
    set_count(c, "batch", o->batch);
    set_count(c, "seed", o->seed);
    set_text(c, "update", gt_update_name(o->update));
    json_object_set_new(c, "overlap", json_boolean(t->overlap));
    set_text(c, "mode", o->mode);
    if (o->mode_kind == GT_MODE_LOCAL)
        set_text(c, "outer", o->outer);
    if (o->slow_factor > 0) {
        set_count(c, "slow_rank", o->slow_rank);
        set_real(c, "slow_factor", o->slow_factor);
    }
    gt_layout_print(&t->layout, layout, sizeof(layout));
    set_text(c, "parallel", layout);
    if (t->layout.pipeline > 1)
        set_count(c, "micro_batches", t->micro_batches);
    set_text(c, "codec", o->codec);
    set_text(c, "pull_codec", o->pull_codec);
    set_text(c, "transport", o->transport);
    set_text(c, "device", t->gpu ? gt_gpu_name(t->gpu) : "cpu");
    set_text(c, "precision", gt_precision_name(o->precision));
    json_object_set_new(c, "deterministic",
                        json_boolean(!t->gpu || o->deterministic));
    set_count(c, "threads", o->threads);
    if (o->checkpoint)
        set_text(c, "checkpoint", o->checkpoint);
    if (o->logdir)
        set_text(c, "logdir", o->logdir);
    if (o->dump) {
        set_text(c, "dump_gradients", o->dump);
        set_count(c, "dump_every", o->dump_every);
    }
    json_object_set_new(c, "resume", json_boolean(o->resume));
    return c;
}

/* The first "model name" of /proc/cpuinfo. */
static void
cpu_name(char *out, size_t capacity)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(out, capacity, "unknown");
    while (file && fgets(line, sizeof(line), file)) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(out, capacity, "%.*s", (int)strcspn(colon + 2, "\n"),
                 colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

static void
describe_blas(json_t *e)
{
#if GT_HAVE_OPENBLAS
    set_text(e, "blas", openblas_get_config());
    set_text(e, "blas_kernels", openblas_get_corename());
#else
    set_text(e, "blas", "cblas");
#endif
}

static json_t *
environment_of(const gt_trainer *t)
{
    json_t *e = json_object();
    char text[256];
    struct utsname system;
    time_t now = time(NULL);
    struct tm utc;

    set_text(e, "gradpush", gp_version());
    if (uname(&system) == 0) {
        set_text(e, "host", system.nodename);
        snprintf(text, sizeof(text), "%.80s %.80s", system.sysname,
                 system.release);
        set_text(e, "system", text);
        set_text(e, "machine", system.machine);
    }
    cpu_name(text, sizeof(text));
    set_text(e, "cpu", text);
    set_count(e, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    describe_blas(e);
    if (t->gpu) {
        set_text(e, "gpu", gt_gpu_model(t->gpu));
        set_count(e, "cublas", (uint64_t)gt_gpu_blas_version(t->gpu));
    }
    set_text(e, "compiler", __VERSION__);
    gmtime_r(&now, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    set_text(e, "time", text);
    return e;
}

static json_t *
epochs_of(const gt_trainer *t)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < t->epoch_count; i++) {
        const gt_epoch *e = &t->epochs[i];
        json_t *row = json_object();

        set_count(row, "epoch", e->epoch);
        set_real(row, "train_loss", e->train_loss);
        set_real(row, "test_loss", e->test_loss);
        set_real(row, "test_accuracy", e->test_accuracy);
        set_real(row, "seconds", e->seconds);
        json_array_append_new(list, row);
    }
    return list;
}

/* What each tensor's pushes went through in the end. */
static json_t *
codecs_of(const gt_trainer *t)
{
    json_t *codecs = json_object();

    for (size_t i = 0; t->comm && i < 2 * (t->options->hidden_count + 1); i++) {
        char name[64];

        snprintf(name, sizeof(name), "layer%zu.%s", i / 2,
                 i % 2 ? "bias" : "weight");
        set_text(codecs, name, gt_comm_codec(t->comm, i));
    }
    return codecs;
}

static json_t *
final_of(const gt_trainer *t)
{
    json_t *f = json_object();

    set_real(f, "test_accuracy", t->test_accuracy);
    set_count(f, "steps", t->steps);
    set_real(f, "seconds", t->total_seconds);
    set_real(f, "samples_per_second", rate(t));
    set_count(f, "bytes_pushed", t->stats.bytes_pushed);
    set_count(f, "bytes_pulled", t->stats.bytes_pulled);
    set_count(f, "dense_bytes", t->stats.dense_bytes);
    if (t->comm && t->stats.open_ns > 0) {
        set_real(f, "communication_seconds",
                 (double)t->stats.open_ns * 1e-9 / (double)t->size);
        set_real(f, "hidden_share", hidden_share(t));
        set_real(f, "hidden_share_bound", hidden_share_bound(t));
    }
    json_object_set_new(f, "codecs", codecs_of(t));
    set_text(f, "params_sha256", t->digest);
    return f;
}

static gp_status
write_json(const char *path, const json_t *root)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *out = standard ? stdout : fopen(path, "we");
    int error = 0;

    if (!out)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot write --json %s",
                             path);
    if (json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) != 0 ||
        fputc('\n', out) == EOF || fflush(out) != 0)
        error = errno;
    if (!standard && fclose(out) != 0 && !error)
        error = errno;
    return error ? gt_fail_errno(GP_ERR_SYSTEM, error, "cannot write --json %s",
                                 path)
                 : GP_OK;
}

gp_status
gt_report_json(const char *path, const gt_trainer *t)
{
    json_t *root = json_object();
    gp_status status;

    set_text(root, "schema", "gradpush.train/1");
    json_object_set_new(root, "config", config_of(t));
    json_object_set_new(root, "environment", environment_of(t));
    json_object_set_new(root, "epochs", epochs_of(t));
    json_object_set_new(root, "final", final_of(t));
    status = write_json(path, root);
    json_decref(root);
    return status;
}

void
gt_blas_threads(uint32_t threads)
{
#if GT_HAVE_OPENBLAS
    openblas_set_num_threads((int)threads);
#else
    (void)threads;
#endif
}
