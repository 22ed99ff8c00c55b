/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_reference.c - scalar arithmetic, one rounding per operation, ranks in
 * order. Pipelines are applied to the whole tensor at once: how it was cut must
 * not matter.
 */
#include "job_reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/conformance/codec_residual.h"
#include <gradpush/codec.h>

struct reference {
    uint32_t count, steps;
    void **result; /* by tensor, then step */
};

typedef struct optimizer {
    float lr, momentum, weight_decay;
    int nesterov;
    bool sgd, mean;
} optimizer;

static void *
room(uint64_t bytes)
{
    void *p = calloc(1, bytes + 64);

    job_require(p != NULL);
    return p;
}

uint64_t
reference_bytes(const reference_tensor *t)
{
    return t->count * (t->dtype == GP_FP32 ? 4 : 2);
}

static const char *
native(const reference_tensor *t)
{
    return t->dtype == GP_FP16 ? "fp16" : t->dtype == GP_BF16 ? "bf16" : "none";
}

/* The pipeline that is really used: small tensors stay dense, and dense means
 * the tensor's own type. */
static const char *
effective(const reference_tensor *t, const char *codec)
{
    if (!codec || strcmp(codec, "none") == 0 || t->count < 1024)
        return native(t);
    return codec;
}

static size_t
encode(const char *text, const float *values, float *residual, uint64_t count,
       void *out, size_t capacity)
{
    gp_codec_context context = {.seed = 1};
    gp_pipeline *p;
    void *work, *full;
    size_t length, bound;

    job_check(gp_pipeline_parse(text, &p));
    work = aligned_alloc(64, gp_pipeline_workspace(p, count) / 64 * 64 + 128);
    bound = gp_pipeline_bound(p, count);
    full = room(bound);
    job_check(gp_encode_residual(p, &context, values, residual, count, full,
                                 bound, &length, work));
    job_require(length <= capacity);
    memcpy(out, full, length);
    free(full);
    free(work);
    gp_pipeline_destroy(p);
    return length;
}

static void
decode(const char *text, const void *bytes, size_t length, float *out,
       uint64_t count)
{
    gp_codec_context context = {.seed = 1};
    gp_pipeline *p;
    void *work;

    job_check(gp_pipeline_parse(text, &p));
    work = aligned_alloc(64, gp_pipeline_workspace(p, count) / 64 * 64 + 128);
    job_check(gp_pipeline_decode(p, &context, bytes, length, out, count, work));
    free(work);
    gp_pipeline_destroy(p);
}

/* There and back again: what is left of values after a pipeline. */
static void
pass(const char *text, const float *values, float *residual, float *out,
     uint64_t count)
{
    size_t capacity = count * 8 + 65536;
    void *bytes = room(capacity);
    size_t length = encode(text, values, residual, count, bytes, capacity);

    decode(text, bytes, length, out, count);
    free(bytes);
}

static void
to_native(const reference_tensor *t, const float *values, void *out)
{
    (void)encode(native(t), values, NULL, t->count, out, reference_bytes(t));
}

void
reference_gradient(const reference_tensor *t, uint32_t index, uint32_t rank,
                   uint64_t step, void *out)
{
    float *values = room(t->count * sizeof(float));

    for (uint64_t i = 0; i < t->count; i++)
        values[i] = job_value(rank, index, step, i);
    to_native(t, values, out);
    free(values);
}

void
reference_initial(const reference_tensor *t, uint32_t index, void *out)
{
    reference_gradient(t, index, 1000, 1000, out);
}

static optimizer
read_updater(const char *text)
{
    optimizer o = {.lr = 0.1f};

    o.mean = strcmp(text, "sum") != 0;
    o.sgd = strncmp(text, "sgd", 3) == 0;
    if (o.sgd && text[3] == ':')
        job_require(
            sscanf(text, "sgd:lr=%f,momentum=%f,nesterov=%d,weight_decay=%f",
                   &o.lr, &o.momentum, &o.nesterov, &o.weight_decay) >= 1);
    return o;
}

static void
sgd_step(const optimizer *o, const float *gradient, float *value,
         float *velocity, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        float g = gradient[i] + o->weight_decay * value[i];

        if (o->momentum != 0) {
            velocity[i] = o->momentum * velocity[i] + g;
            g = o->nesterov ? g + o->momentum * velocity[i] : velocity[i];
        }
        value[i] -= o->lr * g;
    }
}

/* What the shards fold for one rank: its gradient after the push pipeline. */
static void
pushed(const reference_tensor *t, uint32_t index, uint32_t rank, uint64_t step,
       float *residual, float *out)
{
    const char *codec = effective(t, t->codec);
    void *bytes = room(reference_bytes(t));
    float *plain = room(t->count * sizeof(float));

    reference_gradient(t, index, rank, step, bytes);
    decode(native(t), bytes, reference_bytes(t), plain, t->count);
    if (strcmp(codec, native(t)) == 0)
        memcpy(out, plain, t->count * sizeof(float));
    else
        pass(codec, plain, t->feedback != 0 ? residual : NULL, out, t->count);
    free(plain);
    free(bytes);
}

static void
one_step(const reference_tensor *t, uint32_t index, uint32_t workers,
         uint64_t step, float **residual, float *value, float *velocity)
{
    optimizer o = read_updater(t->updater);
    float *sum = room(t->count * sizeof(float));
    float *one = room(t->count * sizeof(float));
    float scale = o.mean ? 1.0f / (float)workers : 1.0f;

    for (uint32_t r = 0; r < workers; r++) {
        pushed(t, index, r, step, residual[r], one);
        for (uint64_t i = 0; i < t->count; i++)
            sum[i] = r == 0 ? one[i] : sum[i] + one[i];
    }
    for (uint64_t i = 0; i < t->count; i++)
        sum[i] *= scale;
    if (o.sgd)
        sgd_step(&o, sum, value, velocity, t->count);
    else
        memcpy(value, sum, t->count * sizeof(float));
    free(one);
    free(sum);
}

static void
compute(const reference_tensor *t, uint32_t index, uint32_t workers,
        uint32_t steps, void **result)
{
    float *residual[JOB_WORKERS];
    float *value = room(t->count * sizeof(float));
    float *velocity = room(t->count * sizeof(float));
    float *pulled = room(t->count * sizeof(float));
    const char *pull = effective(t, t->pull_codec);
    void *bytes = room(reference_bytes(t));

    for (uint32_t r = 0; r < workers; r++)
        residual[r] = room(t->count * sizeof(float));
    if (strncmp(t->updater, "sgd", 3) == 0) {
        reference_initial(t, index, bytes);
        decode(native(t), bytes, reference_bytes(t), value, t->count);
    }
    for (uint32_t s = 0; s < steps; s++) {
        one_step(t, index, workers, s, residual, value, velocity);
        pass(pull, value, NULL, pulled, t->count);
        result[s] = room(reference_bytes(t));
        to_native(t, pulled, result[s]);
    }
    for (uint32_t r = 0; r < workers; r++)
        free(residual[r]);
    free(bytes);
    free(pulled);
    free(velocity);
    free(value);
}

reference *
reference_make(const reference_tensor *tensors, uint32_t count,
               uint32_t workers, uint32_t steps)
{
    reference *r = room(sizeof(*r));

    r->count = count;
    r->steps = steps;
    r->result = room((uint64_t)count * steps * sizeof(void *));
    for (uint32_t k = 0; k < count; k++)
        compute(&tensors[k], k, workers, steps, r->result + k * steps);
    return r;
}

void
reference_free(reference *r)
{
    for (uint32_t i = 0; i < r->count * r->steps; i++)
        free(r->result[i]);
    free(r->result);
    free(r);
}

const void *
reference_result(const reference *r, uint32_t tensor, uint32_t step)
{
    return r->result[tensor * r->steps + step];
}

gp_tensor *
reference_register(gp_worker *w, const reference_tensor *t)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *tensor;

    o.name = t->name;
    o.dtype = t->dtype;
    o.count = t->count;
    o.codec = t->codec ? t->codec : "none";
    o.pull_codec = t->pull_codec ? t->pull_codec : "none";
    o.updater = t->updater;
    o.feedback = t->feedback;
    job_check(gp_tensor_register(w, &o, &tensor));
    return tensor;
}

static void
compare(const reference_tensor *t, const void *got, const void *want,
        uint32_t rank, uint32_t step)
{
    const uint8_t *a = got, *b = want;
    uint64_t bytes = reference_bytes(t);

    if (memcmp(a, b, bytes) == 0)
        return;
    for (uint64_t i = 0; i < bytes; i++)
        job_require(a[i] == b[i],
                    "rank %u step %u tensor %s: byte %u of %u is %02x, not "
                    "%02x",
                    rank, step, t->name, (unsigned)i, (unsigned)bytes, a[i],
                    b[i]);
}

/* Each rank pushes in an order of its own, and waits in another. */
static void
run_step(const reference_plan *p, gp_tensor **t, void **data, uint32_t rank,
         uint32_t step, uint32_t *random)
{
    gp_request *request[REFERENCE_TENSORS];
    uint32_t order[REFERENCE_TENSORS];

    job_shuffle(order, p->count, random);
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t k = order[i];

        reference_gradient(&p->tensors[k], k, rank, step, data[k]);
        job_check(gp_push_pull(t[k], data[k], data[k], &request[k]));
    }
    job_shuffle(order, p->count, random);
    for (uint32_t i = 0; i < p->count; i++)
        job_check(gp_wait(&request[order[i]], -1));
    for (uint32_t k = 0; k < p->count; k++)
        compare(&p->tensors[k], data[k], reference_result(p->expected, k, step),
                rank, step);
}

void
reference_body(job *j, gp_worker *w, uint32_t rank)
{
    const reference_plan *p = j->data;
    gp_tensor *t[REFERENCE_TENSORS];
    void *data[REFERENCE_TENSORS];
    uint32_t random = rank * 77 + 5;

    for (uint32_t k = 0; k < p->count; k++) {
        t[k] = reference_register(w, &p->tensors[k]);
        data[k] = malloc(reference_bytes(&p->tensors[k]));
    }
    for (uint32_t k = 0; k < p->count; k++) {
        gp_request *request;
        uint32_t root = k % j->workers;

        if (strncmp(p->tensors[k].updater, "sgd", 3) != 0)
            continue;
        reference_initial(&p->tensors[k], k, data[k]);
        if (rank != root)
            memset(data[k], 0, reference_bytes(&p->tensors[k]));
        job_check(gp_broadcast(t[k], data[k], root, &request));
        job_check(gp_wait(&request, -1));
    }
    for (uint32_t s = 0; s < p->steps; s++)
        run_step(p, t, data, rank, s, &random);
    for (uint32_t k = 0; k < p->count; k++)
        free(data[k]);
}

void
reference_run(job *j, reference_plan *p)
{
    gp_status status;

    j->body = reference_body;
    j->data = p;
    status = run_job(j);
    for (uint32_t r = 0; r < j->workers; r++)
        if (j->created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j->message[r]);
    if (status != GP_OK)
        fail_msg("%s", j->server_message);
}
