/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lowrank_stream_sim.c - tensors on a device that powersgd looks at whole:
 * steps on streams, near those of a tensor on the host.
 */
#include <math.h>

#include "numbers.h"
#include "tests/gpu/stream_trainer.h"

#define ROWS  120u
#define WIDE  96u
#define COUNT (ROWS * WIDE)

#define ALL_STEPS 4u

static const kind matrix = {"matrix",          GP_FP32,           COUNT, WIDE,
                            "powersgd:rank=2", "powersgd:rank=6", "sum", 0};

static const kind moving = {
    "moving", GP_FP32, COUNT, WIDE, "momentum:clip=100+powersgd:rank=2",
    NULL,     "sum",   0};
static const kind *which = &matrix;

/* What a run gives: first guesses follow from a tensor's number in its job, so
 * host and device have a job each. */
static struct run {
    float result[ALL_STEPS][COUNT];
    float residual[COUNT], velocity[COUNT], state[2 * WIDE];
} runs[2];

static double
apart(const float *a, const float *b, size_t n)
{
    double sum = 0, all = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];

        sum += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return all > 0 ? sqrt(sum / all) : sum > 0;
}

static void
make(uint32_t step, float *out)
{
    for (uint32_t i = 0; i < COUNT; i++)
        out[i] = number_gauss(i % WIDE) * number_gauss(1000 + i / WIDE) +
                 0.4f * number_gauss(2000 + i % WIDE) *
                     number_gauss(3000 + step * ROWS + i / WIDE) +
                 0.01f * number_gauss(10000 + step * COUNT + i);
}

static void
save(gp_tensor *t, struct run *run)
{
    job_check(gp_tensor_save_state(t, "residual", run->residual));
    job_check(gp_tensor_save_state(t, "state", run->state));
    if (which == &moving)
        job_check(gp_tensor_save_state(t, "velocity", run->velocity));
}

/* As from a checkpoint. */
static void
reload(gp_tensor *t, struct run *run)
{
    save(t, run);
    job_check(gp_tensor_reset_state(t));
    job_check(gp_tensor_load_state(t, "residual", run->residual));
    job_check(gp_tensor_load_state(t, "state", run->state));
    if (which == &moving)
        job_check(gp_tensor_load_state(t, "velocity", run->velocity));
}

static void
on_the_host(job *j, gp_worker *w, uint32_t rank)
{
    static float values[COUNT];
    gp_tensor *t = add(w, which, NULL);
    gp_request *r;

    (void)j;
    (void)rank;
    for (uint32_t step = 0; step < ALL_STEPS; step++) {
        make(step, values);
        job_check(gp_push_pull(t, values, runs[0].result[step], &r));
        job_check(gp_wait(&r, -1));
    }
    save(t, &runs[0]);
}

/* The last steps are held up by the stream, and come together. */
static void
on_the_device(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, which, "cuda");
    gp_request *r[ALL_STEPS];
    float *grad[ALL_STEPS];
    trainer d = {0};
    uint32_t *gate;

    (void)j;
    (void)rank;
    open_trainer(&d, "cuda");
    job_check(d.device->ops->alloc_pinned(d.device, 4, (void **)&gate));
    *gate = 0;
    for (uint32_t s = 0; s < ALL_STEPS; s++) {
        job_check(d.device->ops->alloc(d.device, sizeof(runs[1].result[s]),
                                       (void **)&grad[s]));
        make(s, grad[s]);
        if (s == 1) {
            job_check(gp_wait(&r[0], -1));
            reload(t, &runs[1]);
            job_check(d.device->ops->wait_value(d.device, gate, 1, d.stream));
        }
        job_check(gp_push_pull_on(t, grad[s], grad[s], d.stream, &r[s]));
    }
    __atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
    job_check(gp_wait_all(r + 1, ALL_STEPS - 1, -1));
    save(t, &runs[1]);
    for (uint32_t s = 0; s < ALL_STEPS; s++) {
        memcpy(runs[1].result[s], grad[s], sizeof(runs[1].result[s]));
        d.device->ops->free(d.device, grad[s]);
    }
    d.device->ops->free_pinned(d.device, gate);
    close_trainer(&d);
}

static void
expect_near(const float *a, const float *b, size_t n, const char *what)
{
    if (!(apart(a, b, n) <= 2e-4))
        fail_msg("%s is %g off", what, apart(a, b, n));
}

static void
compare_runs(void)
{
    job host = {
        .workers = 1, .body = on_the_host, .settings = {"chunk_bytes", "16K"}};
    job device = {.workers = 1,
                  .body = on_the_device,
                  .settings = {"chunk_bytes", "16K"}};

    run_small(&host);
    run_small(&device);
    for (uint32_t s = 0; s < ALL_STEPS; s++)
        expect_near(runs[1].result[s], runs[0].result[s], COUNT, "result");
    expect_near(runs[1].residual, runs[0].residual, COUNT, "residual");
    if (which == &moving)
        expect_near(runs[1].velocity, runs[0].velocity, COUNT, "velocity");
    expect_near(runs[1].state, runs[0].state, 2 * WIDE, "state");
}

/* Each step is looked at once, behind the chunks of the one before; and zeros
 * when the tensor is registered, so that nothing is loaded late. */
static void
steps_are_near_those_of_the_host(void **state)
{
    uint32_t wholes = gp_sim_cuda_launches_of("gp_cuda_lowrank_end");
    uint64_t products = gp_sim_cublas_products();

    (void)state;
    compare_runs();
    assert_int_equal(gp_sim_cuda_launches_of("gp_cuda_lowrank_end") - wholes,
                     ALL_STEPS + 1);
    assert_int_equal(gp_sim_cublas_products() - products, 2 * (ALL_STEPS + 1));
    assert_int_equal(gp_sim_cuda_late(), 0);
    assert_int_equal(gp_sim_cublas_handles(), 0);
}

/* What momentum remembers comes back from checkpoints, too. */
static void
velocities_are_near_those_of_the_host(void **state)
{
    uint32_t made = gp_sim_cuda_launches_of("gp_cuda_remember");

    (void)state;
    which = &moving;
    compare_runs();
    which = &matrix;
    assert_int_equal(gp_sim_cuda_launches_of("gp_cuda_remember") - made,
                     ALL_STEPS + 1);
}

static void
without_cublas_the_host_does_it(void **state)
{
    uint32_t wholes = gp_sim_cuda_launches_of("gp_cuda_lowrank_end");

    (void)state;
    gp_sim_cublas_install(false);
    compare_runs();
    gp_sim_cublas_install(true);
    assert_int_equal(gp_sim_cuda_launches_of("gp_cuda_lowrank_end"), wholes);
    assert_int_equal(gp_sim_cublas_handles(), 0);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1, .delay_us = 50};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_near_those_of_the_host),
        cmocka_unit_test(velocities_are_near_those_of_the_host),
        cmocka_unit_test(without_cublas_the_host_does_it),
    };

    gp_sim_cuda_install(&options);
    gp_sim_cublas_install(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
