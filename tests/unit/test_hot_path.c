/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_hot_path.c - a step in steady state allocates nothing and logs nothing.
 *
 * How many messages are under way at once depends on the moment, and buffers
 * are kept for the most there were; so one of several rounds must be free of
 * allocations, not the first. What allocates in a step does so in every round.
 *
 * The allocator is counted where the program's own symbols come before the C
 * library's; a sanitizer has its own, so there is nothing to count then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_harness.h"

/* A build without liblz4 runs the same jobs without that stage. */
#ifdef GP_HAVE_LZ4
#define LZ4 "+lz4"
#else
#define LZ4 ""
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static atomic_bool counting;
static atomic_uint calls;

#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *old);

static void
count_call(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add(&calls, 1);
}

void *
malloc(size_t size)
{
    count_call();
    return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    count_call();
    return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
    count_call();
    return __libc_realloc(old, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
    count_call();
    return __libc_memalign(alignment, size);
}

int
posix_memalign(void **out, size_t alignment, size_t size)
{
    count_call();
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}

void
free(void *old)
{
    __libc_free(old);
}
#endif

#define TENSORS 12
#define ROUNDS  20
#ifdef SANITIZED
#define WARM_UP 6
#define STEPS   5
#define COUNT   40000 /* three chunks */
#else
#define WARM_UP 20
#define STEPS   50
#define COUNT   100000
#endif

static atomic_uint lines;

static void
count_line(void *user, gp_log_level level, const char *line)
{
    (void)user, (void)level;
    if (atomic_load(&counting)) {
        atomic_fetch_add(&lines, 1);
        fprintf(stderr, "%s\n", line);
    }
}

/* With a worker given, a barrier keeps the ranks' pushes apart. */
static void
step(gp_worker *w, gp_tensor **t, float **in, float **out, bool first)
{
    gp_request *r[TENSORS];

    if (w && !first)
        job_check(gp_barrier(w));
    for (int k = 0; k < TENSORS; k++)
        job_check(gp_push_pull(t[k], in[k], out[k], &r[k]));
    if (w && first)
        job_check(gp_barrier(w));
    job_check(gp_wait_all(r, TENSORS, -1));
}

/* Both ranks see the same counts, between the same barriers. */
static bool
count_round(gp_worker *w, gp_tensor **t, float **in, float **out, uint32_t rank)
{
    job_check(gp_barrier(w));
    if (rank == 0) {
        atomic_store(&calls, 0);
        atomic_store(&counting, true);
    }
    job_check(gp_barrier(w));
    for (int s = 0; s < STEPS; s++)
        step(NULL, t, in, out, false);
    job_check(gp_barrier(w));
    if (rank == 0)
        atomic_store(&counting, false);
    job_check(gp_barrier(w));
    return atomic_load(&calls) > 0;
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const char *codec = j->data;
    /* Not what parameters can be pulled through. */
    bool coarse = strstr(codec, "topk") || strstr(codec, "intsum");
    gp_tensor *t[TENSORS];
    float *in[TENSORS], *out[TENSORS];

    for (int k = 0; k < TENSORS; k++) {
        gp_tensor_options o = GP_TENSOR_INIT;
        char name[16];

        snprintf(name, sizeof(name), "t%d", k);
        o.name = name;
        o.count = k % 3 ? 100u * (uint32_t)k : COUNT;
        o.codec = o.pull_codec = codec;
        o.updater = k % 2 || coarse ? "mean" : "sgd:lr=0.1,momentum=0.9";
        job_check(gp_tensor_register(w, &o, &t[k]));
        in[k] = calloc(o.count, sizeof(float));
        out[k] = k % 2 ? in[k] : calloc(o.count, sizeof(float));
    }
    for (int s = 0; s < WARM_UP; s++) {
        /* Both orders of arrival, so that all buffers come to be. */
        step(w, t, in, out, s % 3 == 0 ? rank == 0 : s % 3 == 1 && rank == 1);
    }
    job_check(gp_barrier(w));
    for (int round = 0; round < ROUNDS; round++)
        if (!count_round(w, t, in, out, rank))
            break;
    for (int k = 0; k < TENSORS; k++) {
        if (out[k] != in[k])
            free(out[k]);
        free(in[k]);
    }
}

static void
run(const char *transport, uint32_t shards, const char *codec)
{
    job j = {.transport = transport,
             .workers = 2,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "64K", "slots", "64", "log", "debug"},
             .body = body,
             .data = (void *)(uintptr_t)codec};

    atomic_store(&calls, 0);
    atomic_store(&lines, 0);
    gp_log_set_callback(count_line, NULL);
    assert_int_equal(run_job(&j), GP_OK);
    gp_log_set_callback(NULL, NULL);
    if (atomic_load(&calls) || atomic_load(&lines))
        fail_msg("%s, %u shards, codec %s: %u allocations and %u log lines in "
                 "%u steps",
                 transport, shards, codec, atomic_load(&calls),
                 atomic_load(&lines), STEPS);
}

static void
dense(void **state)
{
    (void)state;
    run("loop", 2, "none");
    run("tcp", 2, "none");
    run("loop", 0, "none");
    run("tcp", 0, "none");
}

static void
coded(void **state)
{
    (void)state;
    run("loop", 2, "q8");
    run("tcp", 2, "q8");
    run("tcp", 2, "q8" LZ4);
    run("tcp", 0, "fp16");
}

/* Passes over whole tensors, agreements, sums and memories on shards. */
static void
elaborate(void **state)
{
    (void)state;
    run("loop", 2, "topk:0.05,scope=tensor+q8+rice");
    run("tcp", 2, "intsum:bits=16");
    run("loop", 0, "intsum:bits=16");
}

static void
counter_counts(void **state)
{
    void *volatile p;

    (void)state;
#ifdef SANITIZED
    print_message("skipped: allocations are not counted under a sanitizer\n");
    skip();
#endif
    atomic_store(&calls, 0);
    atomic_store(&counting, true);
    p = malloc(10);
    atomic_store(&counting, false);
    free(p);
    assert_int_equal(atomic_load(&calls), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counter_counts),
        cmocka_unit_test(dense),
        cmocka_unit_test(coded),
        cmocka_unit_test(elaborate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
