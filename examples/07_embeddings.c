/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 07_embeddings.c - matrix factorisation with tables of rows on the shards.
 *
 * Users and items belong to groups that nobody tells the program of. It sees,
 * for some pairs of a user and an item, whether they are of one group, and
 * learns 16 numbers for each user and each item, so that their product says
 * whether a pair it has never seen would be.
 *
 *     gradpush run -w 2 -s 2 -- ./07_embeddings
 *
 * Workers push gradients of the rows in their batch and pull, in the same round
 * trip, those of the next. The result has the same bits for any number of
 * shards.
 */
#include <gradpush/gradpush.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    USERS = 1500,
    ITEMS = 600,
    GROUPS = 6,
    WIDTH = 16,
    BATCH = 512, /* pairs of a step; the job's are as many per worker */
    STEPS = 240,
    JUDGED = 100, /* users whose recommendations are looked at */
    TOP = 10
};

/* One table, and a step's part of it. */
typedef struct table {
    gp_rows *rows;
    uint64_t index[2][BATCH]; /* of this batch and the next */
    float value[BATCH * WIDTH], gradient[BATCH * WIDTH];
} table;

static int
fail(const char *what)
{
    fprintf(stderr, "07_embeddings: %s: %s\n", what, gp_last_error());
    return EXIT_FAILURE;
}

static uint64_t
next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* What is true, and the pairs that workers may see: three of four. */
static int
match(uint64_t user, uint64_t item)
{
    return user % GROUPS == item / (ITEMS / GROUPS);
}

static int
is_seen(uint64_t user, uint64_t item)
{
    uint64_t state = user * ITEMS + item;

    return next(&state) % 4 != 0;
}

/* Pairs of a batch, every other one of one group. */
static void
make_batch(uint64_t step, uint32_t rank, uint64_t *users, uint64_t *items)
{
    uint64_t state = step * 1000003 + rank;

    for (int i = 0; i < BATCH; i++)
        do {
            users[i] = next(&state) % USERS;
            items[i] = next(&state) % ITEMS;
        } while (match(users[i], items[i]) != i % 2 ||
                 !is_seen(users[i], items[i]));
}

static float
product(const float *u, const float *v)
{
    float sum = 0;

    for (int k = 0; k < WIDTH; k++)
        sum += u[k] * v[k];
    return sum;
}

/* Logistic loss, and gradients of both rows of each pair. */
static double
differentiate(table *u, table *v)
{
    double loss = 0;

    for (int i = 0; i < BATCH; i++) {
        const float *a = u->value + i * WIDTH, *b = v->value + i * WIDTH;
        float sign = i % 2 ? 1.0f : -1.0f;
        double margin = (double)(sign * product(a, b));
        float slope = (float)(-1 / (1 + exp(margin))) * sign;

        loss += log1p(exp(-margin));
        for (int k = 0; k < WIDTH; k++) {
            u->gradient[i * WIDTH + k] = slope * b[k];
            v->gradient[i * WIDTH + k] = slope * a[k];
        }
    }
    return loss / BATCH;
}

static gp_status
open_table(gp_worker *worker, const char *name, uint64_t rows, uint64_t seed,
           table *out)
{
    gp_rows_options o = GP_ROWS_INIT;

    o.name = name;
    o.rows = rows;
    o.width = WIDTH;
    o.batch = BATCH;
    o.init = GP_ROWS_UNIFORM;
    o.seed = seed;
    o.scale = 0.3f;
    o.updater = "adagrad:lr=0.3";
    return gp_rows_register(worker, &o, &out->rows);
}

static gp_status
pull(gp_rows *rows, size_t count, const uint64_t *index, float *out)
{
    gp_request *request;
    gp_status status = gp_pull_rows(rows, count, index, out, &request);

    return status == GP_OK ? gp_wait(&request, -1) : status;
}

/* This batch's gradients there, the next batch's rows here, of both tables. */
static gp_status
exchange(table *u, table *v, int now)
{
    table *both[] = {u, v};
    gp_request *requests[2] = {NULL, NULL};
    gp_status status = GP_OK;

    for (int i = 0; status == GP_OK && i < 2; i++)
        status = gp_push_pull_rows(
            both[i]->rows, BATCH, both[i]->index[now], both[i]->gradient, BATCH,
            both[i]->index[!now], both[i]->value, &requests[i]);
    return status == GP_OK ? gp_wait_all(requests, 2, -1) : status;
}

static gp_status
train(gp_worker *worker, table *u, table *v)
{
    uint32_t rank = gp_worker_rank(worker);
    gp_status status;

    make_batch(0, rank, u->index[0], v->index[0]);
    status = pull(u->rows, BATCH, u->index[0], u->value);
    if (status == GP_OK)
        status = pull(v->rows, BATCH, v->index[0], v->value);
    for (uint64_t step = 0; status == GP_OK && step < STEPS; step++) {
        int now = step % 2;
        double loss = differentiate(u, v);

        if (rank == 0 && (step % 60 == 0 || step + 1 == STEPS))
            printf("step %3llu  loss %.6f\n", (unsigned long long)step, loss);
        make_batch(step + 1, rank, u->index[!now], v->index[!now]);
        status = exchange(u, v, now);
    }
    return status;
}

/* Of the TOP items that a user has not been seen with, by the product: how many
 * are of its group. */
static int
count_hits(uint64_t user, const float *u, const float *items)
{
    static unsigned char taken[ITEMS];
    int hits = 0;

    for (uint64_t i = 0; i < ITEMS; i++)
        taken[i] = (unsigned char)is_seen(user, i);
    for (int n = 0; n < TOP; n++) {
        uint64_t best = ITEMS;
        float score = -INFINITY;

        for (uint64_t i = 0; i < ITEMS; i++) {
            float x = taken[i] ? -INFINITY : product(u, items + i * WIDTH);

            if (x > score) {
                score = x;
                best = i;
            }
        }
        if (best == ITEMS)
            break;
        taken[best] = 1;
        hits += match(user, best);
    }
    return hits;
}

static gp_status
judge(gp_rows *users, gp_rows *items)
{
    static float u[JUDGED * WIDTH], v[ITEMS * WIDTH];
    uint64_t index[BATCH];
    gp_status status;
    int hits = 0;

    for (uint64_t i = 0; i < JUDGED; i++)
        index[i] = i * (USERS / JUDGED);
    status = pull(users, JUDGED, index, u);
    for (uint64_t at = 0; status == GP_OK && at < ITEMS; at += BATCH) {
        size_t count = ITEMS - at < BATCH ? ITEMS - at : BATCH;

        for (uint64_t i = 0; i < count; i++)
            index[i] = at + i;
        status = pull(items, count, index, v + at * WIDTH);
    }
    if (status != GP_OK)
        return status;
    for (uint64_t i = 0; i < JUDGED; i++)
        hits += count_hits(i * (USERS / JUDGED), u + i * WIDTH, v);
    printf("of the best %d items per user %.1f %% are right; by chance %.1f\n",
           TOP, 100.0 * hits / (JUDGED * TOP), 100.0 / GROUPS);
    return GP_OK;
}

int
main(void)
{
    static table users, items;
    gp_worker *worker;
    gp_status status;

    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail("joining the job");
    status = open_table(worker, "users", USERS, 1, &users);
    if (status == GP_OK)
        status = open_table(worker, "items", ITEMS, 2, &items);
    if (status == GP_OK)
        status = train(worker, &users, &items);
    if (status == GP_OK && gp_worker_rank(worker) == 0)
        status = judge(users.rows, items.rows);
    if (status == GP_OK)
        status = gp_barrier(worker);
    gp_worker_destroy(worker);
    return status == GP_OK ? EXIT_SUCCESS : fail("training");
}
