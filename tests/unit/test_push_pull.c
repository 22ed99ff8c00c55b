/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_push_pull.c - workers and shards of one job, as threads.
 *
 * Every case runs over loop and over tcp. The expected sums are formed here, in
 * rank order, with one rounding per addition, and compared bit for bit.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gradpush/gradpush.h>

#define MAX_WORKERS 8
#define MAX_SHARDS  4

typedef struct job {
    const char *transport;
    uint32_t workers, shards;
    const char *settings[16]; /* name, value, ..., NULL */
    void (*body)(struct job *job, gp_worker *worker, uint32_t rank);
    char servers[512];
    void *data;
    gp_status created[MAX_WORKERS];
    char message[MAX_WORKERS][512];
} job;

typedef struct member {
    job *job;
    uint32_t rank;
} member;

static gp_config *
make_config(const job *j)
{
    gp_config *c;
    char number[16];

    assert_int_equal(gp_config_create(&c), GP_OK);
    assert_int_equal(gp_config_set(c, "transport", j->transport), GP_OK);
    snprintf(number, sizeof(number), "%u", j->workers);
    assert_int_equal(gp_config_set(c, "size", number), GP_OK);
    assert_int_equal(gp_config_set(c, "timeout", "20s"), GP_OK);
    for (size_t i = 0; j->settings[i]; i += 2)
        assert_int_equal(gp_config_set(c, j->settings[i], j->settings[i + 1]),
                         GP_OK);
    return c;
}

static void *
run_member(void *arg)
{
    member *m = arg;
    job *j = m->job;
    gp_config *c = make_config(j);
    gp_worker *w = NULL;
    char number[16];

    snprintf(number, sizeof(number), "%u", m->rank);
    assert_int_equal(gp_config_set(c, "rank", number), GP_OK);
    assert_int_equal(gp_config_set(c, "servers", j->servers), GP_OK);
    j->created[m->rank] = gp_worker_create(c, &w);
    if (j->created[m->rank] == GP_OK)
        j->body(j, w, m->rank);
    else
        snprintf(j->message[m->rank], sizeof(j->message[0]), "%s",
                 gp_last_error());
    gp_worker_destroy(w);
    gp_config_destroy(c);
    return NULL;
}

static void
start_servers(job *j, gp_server **server)
{
    static int serial;

    j->servers[0] = '\0';
    for (uint32_t s = 0; s < j->shards; s++) {
        gp_config *c = make_config(j);
        char listen[64] = "127.0.0.1:0";

        if (strcmp(j->transport, "loop") == 0)
            snprintf(listen, sizeof(listen), "loop:test%d", serial++);
        assert_int_equal(gp_config_set(c, "listen", listen), GP_OK);
        if (gp_server_create(c, &server[s]) != GP_OK)
            fail_msg("%s", gp_last_error());
        if (s > 0)
            strcat(j->servers, ",");
        strcat(j->servers, gp_server_address(server[s], 0));
        gp_config_destroy(c);
    }
}

static gp_status
run_job(job *j)
{
    gp_server *server[MAX_SHARDS] = {0};
    pthread_t thread[MAX_WORKERS];
    member members[MAX_WORKERS];
    gp_status status = GP_OK;

    start_servers(j, server);
    for (uint32_t r = 0; r < j->workers; r++) {
        members[r] = (member){j, r};
        pthread_create(&thread[r], NULL, run_member, &members[r]);
    }
    for (uint32_t r = 0; r < j->workers; r++)
        pthread_join(thread[r], NULL);
    for (uint32_t s = 0; s < j->shards; s++) {
        gp_status ended = gp_server_wait(server[s], 5);

        if (status == GP_OK)
            status = ended;
        gp_server_destroy(server[s]);
    }
    return status;
}

static float
value_of(uint32_t rank, uint32_t tensor, uint64_t step, size_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u + rank * 40503u + tensor * 977u +
                 (uint32_t)step * 7919u;

    x ^= x >> 15;
    return ((float)(int32_t)(x & 0xffff) - 32768.0f) * 1e-3f;
}

static float
sum_of(uint32_t workers, uint32_t tensor, uint64_t step, size_t i)
{
    float sum = value_of(0, tensor, step, i);

    for (uint32_t r = 1; r < workers; r++)
        sum += value_of(r, tensor, step, i);
    return sum;
}

static const size_t sizes[] = {1, 7, 1024, 4096, 100000, 1500000};
#define TENSORS (sizeof(sizes) / sizeof(sizes[0]))

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s: %s", gp_status_name(status), gp_last_error());
}

static gp_tensor *
add_tensor(gp_worker *w, const char *name, size_t count, const char *updater)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = count;
    o.updater = updater;
    check(gp_tensor_register(w, &o, &t));
    return t;
}

/* Several tensors at once, several steps, in place. */
static void
sum_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t[TENSORS];
    float *data[TENSORS];
    gp_request *r[TENSORS];

    for (uint32_t k = 0; k < TENSORS; k++) {
        char name[16];

        snprintf(name, sizeof(name), "t%u", k);
        t[k] = add_tensor(w, name, sizes[k], "sum");
        data[k] = malloc(sizes[k] * sizeof(float));
    }
    for (uint64_t step = 0; step < 4; step++) {
        for (uint32_t k = 0; k < TENSORS; k++) {
            for (size_t i = 0; i < sizes[k]; i++)
                data[k][i] = value_of(rank, k, step, i);
            check(gp_push_pull(t[k], data[k], data[k], &r[k]));
        }
        check(gp_wait_all(r, TENSORS, -1));
        for (uint32_t k = 0; k < TENSORS; k++)
            for (size_t i = 0; i < sizes[k]; i++) {
                float want = sum_of(j->workers, k, step, i);

                if (memcmp(&data[k][i], &want, sizeof(want)) != 0)
                    fail_msg("rank %u step %u tensor %u [%zu]: %g, not %g",
                             rank, (unsigned)step, k, i, (double)data[k][i],
                             (double)want);
            }
    }
    for (uint32_t k = 0; k < TENSORS; k++)
        free(data[k]);
}

static void
run_sums(const char *transport, uint32_t workers, uint32_t shards)
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .body = sum_body};

    assert_int_equal(run_job(&j), GP_OK);
    for (uint32_t r = 0; r < workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("%s", j.message[r]);
}

static void
sums_over_loop(void **state)
{
    (void)state;
    run_sums("loop", 1, 1);
    run_sums("loop", 2, 1);
    run_sums("loop", 3, 2);
}

static void
sums_over_tcp(void **state)
{
    (void)state;
    run_sums("tcp", 1, 1);
    run_sums("tcp", 2, 2);
    run_sums("tcp", 4, 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_over_loop),
        cmocka_unit_test(sums_over_tcp),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
