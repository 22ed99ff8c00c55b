/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_stream_sim.c - tensors on simulated CUDA devices, in the order of
 * streams: the same bytes as with tensors on the host, whatever the streams'
 * pace and whoever encodes.
 */
#include "tests/gpu/stream_trainer.h"

#define WORKERS 3u

typedef struct plan {
    const char *device[WORKERS]; /* of each worker's tensors; NULL: the host */
    uint8_t *result[WORKERS][TENSORS][STEPS];
    float *residual[WORKERS]; /* of the tensor CODED, at the end */
} plan;

#define CODED 2u

static void
step_on_host(gp_tensor **t, plan *p, uint32_t rank, uint32_t step)
{
    gp_request *r[TENSORS];

    for (uint32_t i = TENSORS; i-- > 0;) {
        fill(&kinds[i], rank, i, step, p->result[rank][i][step]);
        job_check(gp_push_pull(t[i], p->result[rank][i][step],
                               p->result[rank][i][step], &r[i]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
}

/* Queues a step; the last tensors come first, as in a backward pass. Even
 * tensors are waited for by the stream, of odd ones the host is the one who
 * waits, in every second step; some results lie where the gradient was. */
static void
step_on_device(trainer *d, gp_tensor **t, uint32_t step)
{
    const gp_device_ops *ops = d->device->ops;
    gp_request *r[TENSORS];

    for (uint32_t i = TENSORS; i-- > 0;) {
        size_t bytes = bytes_of(&kinds[i]);
        uint8_t *out = i % 3 ? d->out[i] : d->grad[i];

        job_check(ops->copy_async(d->device, d->grad[i], d->pinned[i][step],
                                  bytes, d->stream));
        job_check(gp_push_pull_on(t[i], d->grad[i], out, d->stream, &r[i]));
    }
    for (uint32_t i = 0; i < TENSORS; i++) {
        uint8_t *out = i % 3 ? d->out[i] : d->grad[i];

        if (i % 2 && step % 2)
            job_check(gp_wait(&r[i], -1));
        else
            job_check(gp_wait_stream(&r[i], d->stream));
        job_require(r[i] == NULL);
        job_check(ops->copy_async(d->device, d->pinned[i][step], out,
                                  bytes_of(&kinds[i]), d->stream));
    }
}

static void
run_on_device(gp_tensor **t, plan *p, uint32_t rank)
{
    trainer d = {0};

    open_trainer(&d, p->device[rank]);
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t i = 0; i < TENSORS; i++)
            fill(&kinds[i], rank, i, s, d.pinned[i][s]);
    for (uint32_t s = 0; s < STEPS; s++)
        step_on_device(&d, t, s);
    drain(&d, d.stream);
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t i = 0; i < TENSORS; i++)
            memcpy(p->result[rank][i][s], d.pinned[i][s], bytes_of(&kinds[i]));
    close_trainer(&d);
}

/* Parameters from rank 0; values in the tensor's own memory. */
static void
give_parameters(gp_tensor *t, uint32_t index, const char *device)
{
    size_t bytes = bytes_of(&kinds[index]);
    uint8_t *values = room(bytes);
    gp_request *r;
    gp_device *d;
    void *block;

    fill(&kinds[index], 77, index, 0, values);
    if (!device) {
        job_check(gp_broadcast(t, values, 0, &r));
        job_check(gp_wait(&r, -1));
    } else {
        job_check(gp_device_open(device, &d));
        job_check(d->ops->alloc(d, bytes, &block));
        job_check(d->ops->copy_in(d, block, values, bytes));
        job_check(gp_broadcast_on(t, block, 0, GP_STREAM_PER_THREAD, &r));
        job_check(gp_wait(&r, -1));
        job_check(d->ops->copy_out(d, values, block, bytes));
        d->ops->free(d, block);
        gp_device_close(d);
    }
    for (uint64_t i = 0; i < kinds[index].count; i += 997)
        job_require(((float *)values)[i] == job_value(77, index, 0, i));
    free(values);
}

/* As a checkpoint does, and as loaded values come back. */
static void
load_residual(gp_tensor *t, uint32_t rank)
{
    float *values = (float *)room(bytes_of(&kinds[CODED]));
    float *saved = (float *)room(bytes_of(&kinds[CODED]));

    for (uint64_t i = 0; i < kinds[CODED].count; i++)
        values[i] = job_value(rank, 50, 0, i) / 1024;
    job_check(gp_tensor_load_state(t, "residual", values));
    job_check(gp_tensor_save_state(t, "residual", saved));
    job_require(memcmp(values, saved, bytes_of(&kinds[CODED])) == 0);
    job_check(gp_tensor_reset_state(t));
    job_check(gp_tensor_save_state(t, "residual", saved));
    job_require(saved[0] == 0 && saved[kinds[CODED].count - 1] == 0);
    job_check(gp_tensor_load_state(t, "residual", values));
    free(values);
    free(saved);
}

static void
train(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t[TENSORS];
    gp_stats stats;

    for (uint32_t i = 0; i < TENSORS; i++)
        t[i] = add(w, &kinds[i], p->device[rank]);
    give_parameters(t[TENSORS - 1], TENSORS - 1, p->device[rank]);
    load_residual(t[CODED], rank);
    if (p->device[rank])
        run_on_device(t, p, rank);
    else
        for (uint32_t s = 0; s < STEPS; s++)
            step_on_host(t, p, rank, s);
    job_check(gp_tensor_save_state(t[CODED], "residual", p->residual[rank]));
    job_check(gp_tensor_reset_state(t[CODED]));
    gp_worker_stats(w, &stats);
    job_require(!p->device[rank] || stats.memory >= (2u << 20));
}

static void
open_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        p->residual[r] = (float *)room(bytes_of(&kinds[CODED]));
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                p->result[r][i][s] = room(bytes_of(&kinds[i]));
}

static void
close_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        free(p->residual[r]);
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                free(p->result[r][i][s]);
}

static void
run_plan(plan *p, const char *transport, uint32_t workers)
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = 2,
             .settings = {"chunk_bytes", "64K"},
             .body = train,
             .data = p};

    if (run_job(&j) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

static void
compare(const plan *a, const plan *b, uint32_t workers)
{
    for (uint32_t r = 0; r < workers; r++)
        if (memcmp(a->residual[r], b->residual[r], bytes_of(&kinds[CODED])))
            fail_msg("residual of rank %u", r);
    for (uint32_t r = 0; r < workers; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                if (memcmp(a->result[r][i][s], b->result[r][i][s],
                           bytes_of(&kinds[i])) != 0)
                    fail_msg("rank %u tensor %s step %u", r, kinds[i].name, s);
}

static void
same_as_on_host(const char *transport, uint32_t workers, uint32_t on_device)
{
    plan host = {0}, device = {0};
    static const char *const kernels[] = {
        "gp_cuda_remember", "gp_cuda_intsum_propose", "gp_cuda_thc_propose"};
    uint32_t of[GP_COUNT_OF(kernels)];
    uint64_t launches;

    for (uint32_t r = 0; r < on_device; r++)
        device.device[r] = r % 2 ? "cuda:1" : "cuda";
    open_plan(&host);
    open_plan(&device);
    run_plan(&host, transport, workers);
    launches = gp_sim_cuda_launches();
    for (size_t i = 0; i < GP_COUNT_OF(kernels); i++)
        of[i] = gp_sim_cuda_launches_of(kernels[i]);
    run_plan(&device, transport, workers);
    /* Each chunk of two tensors, besides what is tried at first. */
    assert_true(gp_sim_cuda_launches() - launches >= on_device * STEPS * 3);
    for (size_t i = 0; i < GP_COUNT_OF(kernels); i++)
        assert_true(gp_sim_cuda_launches_of(kernels[i]) - of[i] >=
                    on_device * STEPS * (i ? 1 : 5));
    compare(&host, &device, workers);
    close_plan(&host);
    close_plan(&device);
}

static void
results_are_those_of_the_host(void **state)
{
    (void)state;
    same_as_on_host("loop", 1, 1);
    same_as_on_host("loop", 3, 3);
    same_as_on_host("tcp", 2, 2);
}

static void
devices_differ_between_workers(void **state)
{
    (void)state;
    same_as_on_host("tcp", 3, 1);
}

/* The first step's stream is held up until the second's is long done: the
 * residual of the first is part of the second nevertheless. */
static void
overtake(job *j, gp_worker *w, uint32_t rank)
{
    const kind *k = j->data;
    kind host_kind = *k;
    gp_tensor *on = add(w, k, "cuda"), *off;
    size_t bytes = bytes_of(k);
    gp_request *r[4] = {NULL};
    trainer d = {0};
    uint32_t *gate;
    float *values = (float *)room(bytes), *second = (float *)room(bytes);

    host_kind.name = "host";
    off = add(w, &host_kind, NULL);
    open_trainer(&d, "cuda");
    job_check(d.device->ops->alloc_pinned(d.device, 4, (void **)&gate));
    *gate = 0;
    fill(k, rank, CODED, 0, d.grad[CODED]);
    fill(k, rank, CODED, 0, values);
    fill(k, rank, CODED, 1, d.out[CODED]);
    fill(k, rank, CODED, 1, second);
    job_check(d.device->ops->wait_value(d.device, gate, 1, d.stream));
    job_check(
        gp_push_pull_on(on, d.grad[CODED], d.grad[CODED], d.stream, &r[0]));
    job_check(gp_push_pull_on(on, d.out[CODED], d.out[CODED], d.other, &r[1]));
    for (int i = 0; i < 20; i++) {
        job_require(gp_test(&r[0]) == GP_PENDING);
        job_require(gp_test(&r[1]) == GP_PENDING);
        usleep(500);
    }
    __atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
    job_check(gp_push_pull(off, values, values, &r[2]));
    job_check(gp_push_pull(off, second, second, &r[3]));
    job_check(gp_wait_all(r, 4, -1));
    job_require(memcmp(values, d.grad[CODED], bytes) == 0);
    job_require(memcmp(second, d.out[CODED], bytes) == 0);
    d.device->ops->free_pinned(d.device, gate);
    close_trainer(&d);
    free(values);
    free(second);
}

/* Then the host encodes. */
static void
do_without_kernels(job *j, gp_worker *w, uint32_t rank)
{
    kind k = kinds[CODED];
    gp_tensor *t;
    gp_request *r;
    trainer d = {0};
    uint64_t launches;

    gp_sim_cuda_fail(j->data, 1, 2);
    t = add(w, &k, "cuda");
    job_require(gp_sim_cuda_failed());
    gp_sim_cuda_fail(NULL, 0, 0);
    open_trainer(&d, "cuda");
    fill(&k, rank, CODED, 0, d.grad[CODED]);
    launches = gp_sim_cuda_launches();
    job_check(gp_push_pull_on(t, d.grad[CODED], d.out[CODED], d.stream, &r));
    job_check(gp_wait(&r, -1));
    job_require(gp_sim_cuda_launches() == launches);
    job_require(((float *)d.out[CODED])[7] != 0);
    close_trainer(&d);
}

static void
kernels_may_be_missing(void **state)
{
    /* They cannot be loaded, or there is no memory for a coder. */
    static const char *const faults[] = {"cuModuleLoadData", "cuMemHostAlloc"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        job j = {.workers = 1,
                 .body = do_without_kernels,
                 .data = (void *)faults[i]};

        run_small(&j);
    }
}

static void
steps_keep_their_order(void **state)
{
    /* The second has messages whose lengths only the device knows. */
    static const kind order[] = {
        {"q8", GP_FP32, 18001, 0, "q8", NULL, "mean", 0},
        {"topk", GP_FP32, 2001, 0, "topk:0.05", NULL, "mean", 0},
    };
    uint64_t launches = gp_sim_cuda_launches();
    uint32_t calls = gp_sim_cuda_host_calls();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        job j = {.workers = 1,
                 .body = overtake,
                 .data = (void *)&order[i],
                 .settings = {"chunk_bytes", "64K"}};

        run_small(&j);
        assert_true(gp_sim_cuda_launches() - launches >= 3);
        launches = gp_sim_cuda_launches();
    }
    assert_int_equal(gp_sim_cuda_host_calls() - calls, 4); /* one a push */
}

/* A driver that loads them late waits for all streams. Alone: another worker of
 * the process may still load its own. */
static void
kernels_are_there_before_streams_wait(void **state)
{
    uint32_t late = gp_sim_cuda_late();

    (void)state;
    same_as_on_host("loop", 1, 1);
    assert_int_equal(gp_sim_cuda_late(), late);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_the_host),
        cmocka_unit_test(devices_differ_between_workers),
        cmocka_unit_test(steps_keep_their_order),
        cmocka_unit_test(kernels_may_be_missing),
        cmocka_unit_test(kernels_are_there_before_streams_wait),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
