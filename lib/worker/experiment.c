/* SPDX-License-Identifier: Apache-2.0 */
/*
 * experiment.c - what codecs do to every step of every tensor, as JSON lines.
 *
 * Each tensor with a lossy pipeline gets another one beside it, whose pushes
 * are dense copies of the same gradients: its result is the truth that the
 * tensor's own result is compared with. The tensors beside come last, so that
 * an experiment changes nobody's number, hence no random stream.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/codec_internal.h"
#include "compress/reduce.h"
#include "worker/worker_int.h"

#define TRUTH_SUFFIX "#truth"

struct gp_experiment {
    FILE *file; /* NULL: another rank writes */
};

struct gp_trial {
    gp_request *request; /* of the tensor beside, while `active` */
    void *sent, *received;
    uint64_t begun_ns;
    bool active;
};

/* ---- the file -------------------------------------------------------- */

static void
put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *c = (const void *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(f, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(f, "\\u%04x", *c);
        else
            fputc(*c, f);
    }
    fputc('"', f);
}

/* JSON has no NaN and no Inf. */
static void
put_number(FILE *f, const char *name, double value)
{
    char text[40];
    char *comma;

    fprintf(f, ",\"%s\":", name);
    if (!isfinite(value)) {
        fputs("null", f);
        return;
    }
    snprintf(text, sizeof(text), "%.9g", value);
    comma = strchr(text, ','); /* of a locale */
    if (comma)
        *comma = '.';
    fputs(text, f);
}

static void
put_settings(gp_worker *w, FILE *f)
{
    fprintf(f,
            "{\"schema\":\"gradpush.experiment/1\",\"rank\":%u,\"size\":%u,"
            "\"shards\":%u,\"seed\":%" PRIu64 ",\"config\":{",
            w->rank, w->size, w->shards, w->seed);
    for (const gp_config_field *c = gp_config_fields(), *first = c; c->name;
         c++) {
        if (c->secret)
            continue;
        fprintf(f, "%s\"%s\":", c == first ? "" : ",", c->name);
        put_text(f, gp_config_get(w->config, c->name));
    }
    fputs("}}\n", f);
}

static gp_status
expand_path(const gp_worker *w, const char *text, char *out, size_t capacity)
{
    const char *at = strstr(text, "%r");
    int n = at ? snprintf(out, capacity, "%.*s%u%s", (int)(at - text), text,
                          w->rank, at + 2)
               : snprintf(out, capacity, "%s", text);

    if (n < 0 || (size_t)n >= capacity)
        return gp_fail(GP_ERR_CONFIG, "experiment: the path is too long");
    return GP_OK;
}

gp_status
gp_experiment_open(gp_worker *w)
{
    const char *text = gp_config_get(w->config, "experiment");
    char path[1024];
    gp_status status;

    if (text[0] == '\0')
        return GP_OK;
    status = expand_path(w, text, path, sizeof(path));
    if (status != GP_OK)
        return status;
    w->experiment = calloc(1, sizeof(*w->experiment));
    if (!w->experiment)
        return gp_fail(GP_ERR_NO_MEMORY, "experiment");
    if (w->rank != 0 && !strstr(text, "%r"))
        return GP_OK;
    w->experiment->file = fopen(path, "w");
    if (!w->experiment->file)
        return gp_fail_errno(GP_ERR_SYSTEM, errno,
                             "experiment: cannot write '%s'", path);
    put_settings(w, w->experiment->file);
    return GP_OK;
}

void
gp_experiment_close(gp_worker *w)
{
    FILE *f = w->experiment ? w->experiment->file : NULL;

    if (f) {
        bool whole = fflush(f) == 0 && !ferror(f);
        int error = errno;

        if (fclose(f) != 0 && whole) {
            whole = false;
            error = errno;
        }
        if (!whole)
            GP_WARN("experiment: its file is not complete: %s",
                    strerror(error));
    }
    free(w->experiment);
    w->experiment = NULL;
}

/* ---- tensors and requests -------------------------------------------- */

/* Which tensors get one beside them. Those left out are named, where the lines
 * go that lack them. */
static bool
has_truth(const gp_tensor *t)
{
    bool coded = (int)t->preferred != t->direct || !t->pull_direct ||
                 t->automatic || t->warmup > 0;
    const char *why = NULL;

    if (t->keeps)
        why = "its result is parameters";
    else if (t->mode.kind != GP_MODE_SYNC)
        why = "its mode is not sync";
    else if (strlen(t->spec.name) + sizeof(TRUTH_SUFFIX) > GP_NAME_MAX)
        why = "its name is too long for " TRUTH_SUFFIX " behind it";
    if (coded && why && t->worker->experiment->file)
        GP_WARN("experiment: no lines for tensor '%.255s': %s", t->spec.name,
                why);
    return coded && !why;
}

gp_status
gp_experiment_register(gp_worker *w)
{
    uint32_t tensors = w->experiment ? w->tensors : 0;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < tensors && status == GP_OK; i++) {
        gp_tensor *t = w->tensor[i];
        gp_tensor_options o = GP_TENSOR_INIT;
        char name[GP_NAME_MAX + sizeof(TRUTH_SUFFIX)];

        if (t->truth || !has_truth(t))
            continue;
        snprintf(name, sizeof(name), "%s%s", t->spec.name, TRUTH_SUFFIX);
        o.name = name;
        o.dtype = (gp_dtype)t->spec.dtype;
        o.count = t->spec.count;
        o.priority = t->priority;
        o.first_step = t->spec.first_step;
        o.codec = o.pull_codec = "none";
        o.updater = t->spec.updater;
        o.mode = "sync";
        status = gp_tensor_add(w, &o, &t->truth);
    }
    return status;
}

void
gp_trial_free(gp_trial *trial)
{
    if (!trial)
        return;
    free(trial->sent);
    free(trial->received);
    free(trial);
}

static size_t
tensor_bytes(const gp_tensor *t)
{
    return t->spec.count * gp_dtype_bytes((gp_dtype)t->spec.dtype);
}

/* Elements as fp32: in place or converted into `room`. */
static const float *
as_floats(const gp_tensor *t, const void *data, float *room)
{
    if (t->spec.dtype == GP_FP32)
        return data;
    if (t->spec.dtype == GP_FP16)
        gp_fp16_to_fp32(room, data, t->spec.count);
    else
        gp_bf16_to_fp32(room, data, t->spec.count);
    return room;
}

static float *
new_room(const gp_tensor *t)
{
    size_t count = t->spec.dtype == GP_FP32 ? 1 : t->spec.count;

    return malloc(count * sizeof(float));
}

/* The gradient is copied, because its memory may be that of the result. */
gp_status
gp_trial_begin(gp_request *r, const void *grad)
{
    gp_tensor *t = r->tensor;
    gp_trial *trial = r->trial;

    if (!trial) {
        trial = r->trial = calloc(1, sizeof(*trial));
        if (trial) {
            trial->sent = malloc(tensor_bytes(t));
            trial->received = malloc(tensor_bytes(t));
        }
        if (!trial || !trial->sent || !trial->received)
            return gp_fail(GP_ERR_NO_MEMORY, "experiment with tensor '%.60s'",
                           t->spec.name);
    }
    memcpy(trial->sent, grad, tensor_bytes(t));
    trial->begun_ns = gp_clock_ns();
    trial->active = true;
    return gp_push_pull(t->truth, trial->sent, trial->received,
                        &trial->request);
}

bool
gp_trial_done(const gp_trial *trial)
{
    return !trial->active ||
           atomic_load_explicit(&trial->request->done, memory_order_acquire);
}

/* ---- a line ---------------------------------------------------------- */

static double
residual_norm(gp_tensor *t)
{
    const float *residual;
    double norm = NAN;

    gp_driver_hold(t->worker->driver);
    residual = gp_memory_residual(t);
    if (residual)
        norm = sqrt(gp_sum_squares(residual, t->spec.count));
    gp_driver_release(t->worker->driver);
    return norm;
}

static double
squared_distance(const float *a, const float *b, uint64_t count)
{
    double sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

static gp_status
write_line(gp_request *r, FILE *f)
{
    gp_tensor *t = r->tensor;
    gp_trial *trial = r->trial;
    uint64_t count = t->spec.count;
    float *room[3] = {new_room(t), new_room(t), new_room(t)};
    const float *got, *truth, *sent;
    double norm, size;

    if (!room[0] || !room[1] || !room[2]) {
        for (int i = 0; i < 3; i++)
            free(room[i]);
        return gp_fail(GP_ERR_NO_MEMORY, "experiment with tensor '%.60s'",
                       t->spec.name);
    }
    got = as_floats(t, r->out, room[0]);
    truth = as_floats(t, trial->received, room[1]);
    sent = as_floats(t, trial->sent, room[2]);
    norm = gp_sum_squares(truth, count);
    size = sqrt(norm * gp_sum_squares(got, count));
    fprintf(f, "{\"step\":%" PRIu64 ",\"tensor\":", r->step);
    put_text(f, t->spec.name);
    fputs(",\"codec\":", f);
    put_text(f, gp_pipeline_name(t->push.pipeline[r->codec]));
    fputs(",\"pull_codec\":", f);
    put_text(f, t->spec.pull);
    fprintf(f,
            ",\"rank\":%u,\"seed\":%" PRIu64 ",\"count\":%" PRIu64
            ",\"bytes_pushed\":%" PRIu64,
            t->worker->rank, t->worker->seed, count, r->wire_bytes);
    put_number(f, "bits_per_element",
               8.0 * (double)r->wire_bytes / (double)count);
    put_number(f, "seconds", (double)(gp_clock_ns() - trial->begun_ns) * 1e-9);
    put_number(f, "encode_seconds", (double)r->encode_ns * 1e-9);
    put_number(f, "nmse",
               norm > 0 ? squared_distance(got, truth, count) / norm : 0);
    put_number(f, "cosine", size > 0 ? gp_dot(got, truth, count) / size : 1);
    put_number(f, "gradient_norm", sqrt(gp_sum_squares(sent, count)));
    put_number(f, "residual_norm", residual_norm(t));
    fputs("}\n", f);
    for (int i = 0; i < 3; i++)
        free(room[i]);
    return GP_OK;
}

gp_status
gp_trial_end(gp_request *r, gp_status status)
{
    gp_trial *trial = r->trial;
    FILE *f = r->tensor->worker->experiment->file;
    gp_status truth;

    if (!trial->active)
        return status;
    trial->active = false;
    truth = gp_wait(&trial->request, 0);
    if (status == GP_OK)
        status = truth;
    return status == GP_OK && f ? write_line(r, f) : status;
}
