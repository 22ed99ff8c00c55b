/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_batch_sim.c - what goes to simulated CUDA devices and comes from them in
 * steps of many tensors: few launches, messages instead of elements, and the
 * bytes of tensors on the host.
 */
#include "worker/worker_int.h"

#include "tests/gpu/stream_trainer.h"

#define MANY 50u

/* --- results of every codec --- */

static const char *const codecs[] = {
    "fp16",
    "bf16:round=stochastic",
    "q8",
    "ef+q8:round=stochastic,scale=bf16",
    "q4",
    "q2:block=1024,round=dither",
    "fp8",
    "mxfp8",
    "mxfp4",
    "mxint8",
    "sign",
    "onebit:block=96",
    "vote",
    "qsgd",
    "uq:c=0.5",
    "uq:scope=tensor",
    "intsum",
    "thc:block=4096",
    "zeros+q8",
    "natural-dither",
    "terngrad:block=2048",
    "drive:block=1024",
    "eden:bits=2,block=1024",
    "hadamard:block=1024+q4",
    "topk:0.05+q8+raw",
    "threshold:1.5,relative=1+q8+raw",
    "randk:0.05+q8",
    "q8+shuffle+lz4",
    "topk:0.05+q8+raw+lz4",
    "topk:0.05+uq+raw",
    "hadamard:block=1024+uq",
};

#define CODECS GP_COUNT_OF(codecs)
#define LENGTH 9001u
#define ROUNDS 2u

typedef struct outcome {
    const char *device;
    float *result[2][CODECS]; /* by rank; of the last step */
    uint64_t copied;          /* by all workers, in all steps */
} outcome;

static void
register_all(gp_worker *w, const char *device, char names[CODECS][16],
             kind k[CODECS], gp_tensor *t[CODECS])
{
    for (size_t i = 0; i < CODECS; i++) {
        snprintf(names[i], sizeof(names[i]), "t%zu", i);
        k[i] = (kind){names[i],  GP_FP32, LENGTH, 0,
                      codecs[i], NULL,    "mean", (int32_t)(i % 3)};
        k[i].pull_codec = codecs[i];
        t[i] = add(w, &k[i], device);
    }
}

static void
step_of_codecs(gp_tensor **t, const kind *k, gp_device *d, uint8_t **block,
               uint32_t rank, uint32_t step, void *stream)
{
    gp_request *r[CODECS];

    for (uint32_t i = 0; i < CODECS; i++) {
        fill(&k[i], rank, i, step, block[i]);
        if (!d)
            job_check(gp_push_pull(t[i], block[i], block[i], &r[i]));
        else if (i % 3 < 2)
            job_check(gp_push_pull_on(t[i], block[i], block[i], stream, &r[i]));
        else
            job_check(gp_push_on(t[i], block[i], stream, &r[i]));
    }
    for (uint32_t i = 2; d && i < CODECS; i += 3) {
        job_check(gp_wait(&r[i], -1));
        job_check(gp_pull_on(t[i], block[i], stream, &r[i]));
    }
    job_check(gp_wait_all(r, CODECS, -1));
}

static void
train_codecs(job *j, gp_worker *w, uint32_t rank)
{
    outcome *o = j->data;
    gp_device *d = NULL;
    void *stream = NULL;
    char names[CODECS][16];
    kind k[CODECS];
    gp_tensor *t[CODECS];
    uint8_t *block[CODECS];

    register_all(w, o->device, names, k, t);
    if (o->device) {
        job_check(gp_device_open(o->device, &d));
        job_check(d->ops->stream_create(d, &stream));
    }
    for (uint32_t i = 0; i < CODECS; i++)
        if (d)
            job_check(d->ops->alloc(d, bytes_of(&k[i]), (void **)&block[i]));
        else
            block[i] = room(bytes_of(&k[i]));
    for (uint32_t s = 0; s < ROUNDS; s++)
        step_of_codecs(t, k, d, block, rank, s, stream);
    for (uint32_t i = 0; i < CODECS; i++) {
        memcpy(o->result[rank][i], block[i], bytes_of(&k[i]));
        if (d)
            d->ops->free(d, block[i]);
        else
            free(block[i]);
    }
    if (d)
        d->ops->stream_destroy(d, stream);
    gp_device_close(d);
}

static void
run_codecs(outcome *o)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .settings = {"chunk_bytes", "16K"},
             .body = train_codecs,
             .data = o};
    uint64_t before = gp_sim_cuda_copied();

    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t i = 0; i < CODECS; i++)
            o->result[r][i] = (float *)room(LENGTH * sizeof(float));
    if (run_job(&j) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    o->copied = gp_sim_cuda_copied() - before;
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static void
free_outcome(outcome *o)
{
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t i = 0; i < CODECS; i++)
            free(o->result[r][i]);
}

static void
results_are_decoded_where_they_belong(void **state)
{
    const uint64_t plain = 2 * ROUNDS * CODECS * LENGTH * sizeof(float);
    outcome host = {0}, device = {.device = "cuda"};

    (void)state;
    run_codecs(&host);
    run_codecs(&device);
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t i = 0; i < CODECS; i++)
            if (memcmp(host.result[r][i], device.result[r][i],
                       LENGTH * sizeof(float)) != 0)
                fail_msg("rank %u: %s", r, codecs[i]);
    /* No gradient and no result is copied as elements: what is left is what
     * kernels read of the calls, and less than one tensor in one direction. */
    assert_in_range(device.copied, 1, plain / 14);
    assert_true(gp_sim_cuda_launches_of("gp_cuda_intsum_propose") > 0);
    assert_true(gp_sim_cuda_launches_of("gp_cuda_thc_propose") > 0);
    assert_true(gp_sim_cuda_launches_of("gp_cuda_uq_code") > 0);
    free_outcome(&host);
    free_outcome(&device);
}

/* --- many small tensors --- */

typedef struct crowd {
    bool together;
    float *result[MANY];
    uint32_t q8, q4; /* launches of encoders, in the last step */
} crowd;

static uint64_t
length_of(uint32_t i)
{
    return 1100 + 37 * i;
}

/* A stream's work is held up until all pushes are queued behind it, and the
 * worker does not look before all of it is done: so it finds them together. */
static void
push_together(gp_worker *w, trainer *d, gp_tensor **t, uint8_t **block)
{
    const gp_device_ops *ops = d->device->ops;
    gp_request *r[MANY];
    uint32_t *gate;

    job_check(ops->alloc_pinned(d->device, 4, (void **)&gate));
    *gate = 0;
    job_check(ops->wait_value(d->device, gate, 1, d->stream));
    for (uint32_t i = 0; i < MANY; i++)
        job_check(gp_push_pull_on(t[i], block[i], block[i], d->stream, &r[i]));
    gp_driver_hold(w->driver);
    __atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
    drain(d, d->stream);
    gp_driver_release(w->driver);
    job_check(gp_wait_all(r, MANY, -1));
    ops->free_pinned(d->device, gate);
}

static void
push_crowd(job *j, gp_worker *w, uint32_t rank)
{
    crowd *c = j->data;
    trainer d = {0};
    gp_tensor *t[MANY];
    uint8_t *block[MANY];
    char name[MANY][16];
    kind k[MANY];

    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name[i], sizeof(name[i]), "t%u", i);
        k[i] = (kind){name[i], GP_FP32, length_of(i), 0, NULL, "q8", "mean", 0};
        k[i].codec = i % 2 ? "q8" : "q4:round=stochastic";
        k[i].priority = (int32_t)i % 5;
        t[i] = add(w, &k[i], "cuda");
    }
    open_trainer(&d, "cuda");
    for (uint32_t i = 0; i < MANY; i++)
        job_check(d.device->ops->alloc(d.device, bytes_of(&k[i]),
                                       (void **)&block[i]));
    for (uint32_t s = 0; s < 2; s++) {
        for (uint32_t i = 0; i < MANY; i++)
            fill(&k[i], rank, i, s, block[i]);
        c->q8 = gp_sim_cuda_launches_of("gp_cuda_q8_encode");
        c->q4 = gp_sim_cuda_launches_of("gp_cuda_int4_encode");
        if (c->together)
            push_together(w, &d, t, block);
        for (uint32_t i = 0; i < MANY && !c->together; i++) {
            gp_request *r;

            job_check(gp_push_pull_on(t[i], block[i], block[i], d.stream, &r));
            job_check(gp_wait(&r, -1));
        }
        c->q8 = gp_sim_cuda_launches_of("gp_cuda_q8_encode") - c->q8;
        c->q4 = gp_sim_cuda_launches_of("gp_cuda_int4_encode") - c->q4;
    }
    for (uint32_t i = 0; i < MANY; i++) {
        memcpy(c->result[i], block[i], bytes_of(&k[i]));
        d.device->ops->free(d.device, block[i]);
    }
    close_trainer(&d);
}

static void
run_crowd(crowd *c)
{
    job j = {.workers = 1, .body = push_crowd, .data = c};

    for (uint32_t i = 0; i < MANY; i++)
        c->result[i] = (float *)room(length_of(i) * sizeof(float));
    run_small(&j);
}

static void
small_tensors_share_launches(void **state)
{
    crowd alone = {0}, together = {.together = true};

    (void)state;
    run_crowd(&alone);
    run_crowd(&together);
    assert_int_equal(alone.q8, MANY / 2);
    assert_int_equal(alone.q4, MANY / 2);
    /* One for each codec. */
    assert_int_equal(together.q8, 1);
    assert_int_equal(together.q4, 1);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_memory_equal(alone.result[i], together.result[i],
                            length_of(i) * sizeof(float));
        free(alone.result[i]);
        free(together.result[i]);
    }
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_decoded_where_they_belong),
        cmocka_unit_test(small_tensors_share_launches),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
