/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_show.c - a round of answers as tables and as JSON.
 *
 * Members may be of another release: what a document lacks is shown as '-'.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "status.h"

static const char *
text_of(const gp_member *m, const char *key)
{
    return gp_node_text(m->root, key, "-");
}

static void
print_number(const gp_member *m, const char *key, int width)
{
    int64_t value = gp_node_int(m->root, key, -1);

    if (value < 0)
        printf(" %*s", width, "-");
    else
        printf(" %*" PRId64, width, value);
}

static void
print_rate(const gp_member *m, double value, double unit, int width)
{
    if (m->rated)
        printf(" %*.1f", width, value / unit);
    else
        printf(" %*s", width, "-");
}

/* Landing slots of all connections that are free: the credits. */
static void
print_credits(const gp_member *m)
{
    const gp_node *list = gp_node_get(m->root, "connections");
    int64_t free_slots = 0, slots = 0;
    char text[48];

    for (const gp_node *n = list ? list->first : NULL; n; n = n->next) {
        free_slots += gp_node_int(n, "slots_free", 0);
        slots += gp_node_int(n, "slots", 0);
    }
    snprintf(text, sizeof(text), "%" PRId64 "/%" PRId64, free_slots, slots);
    printf(" %9s", text);
}

static const char *
staleness(const gp_member *m)
{
    if (m->gone)
        return "  gone";
    if (!m->root)
        return "  no answer";
    return m->fresh ? "" : "  no answer now; this is older";
}

/* What the first shard that has answered says of a worker, or NULL. */
static const gp_node *
seen_from_shard(const gp_round *r, int64_t rank)
{
    for (int64_t i = 0; i < r->listed_shards; i++) {
        const gp_node *list = gp_node_get(r->shard[i].root, "members");
        const gp_node *n = r->shard[i].fresh && list ? list->first : NULL;

        for (; n; n = n->next)
            if (gp_node_int(n, "rank", -1) == rank)
                return n;
    }
    return NULL;
}

static void
print_lag(const gp_node *seen)
{
    const gp_node *lag = seen ? gp_node_get(seen, "lag_seconds") : NULL;

    if (lag)
        printf(" %8.1f", gp_node_real(lag) * 1e3);
    else
        printf(" %8s", "-");
}

static void
print_worker(const gp_round *r, const gp_member *m, int64_t rank)
{
    printf("%6" PRId64 "  %-16.16s", rank, text_of(m, "host"));
    print_number(m, "pid", 8);
    printf("  %-11.11s", text_of(m, "phase"));
    print_number(m, "steps", 9);
    print_rate(m, m->steps_rate, 1, 8);
    print_number(m, "requests_open", 5);
    print_rate(m, m->pushed_rate, 1e6, 9);
    print_rate(m, m->pulled_rate, 1e6, 9);
    print_credits(m);
    print_lag(seen_from_shard(r, rank));
    printf("%s\n", staleness(m));
}

static void
print_workers(const gp_round *r)
{
    printf("\n%6s  %-16s %8s  %-11s %9s %8s %5s %9s %9s %9s %8s\n", "worker",
           "host", "pid", "phase", "steps", "steps/s", "open", "push MB/s",
           "pull MB/s", "credits", "lag ms");
    for (int64_t i = 0; i < r->listed_workers; i++)
        print_worker(r, &r->worker[i], i);
}

/* Of all workers that it lists. */
static int64_t
sum_of(const gp_member *m, const char *key)
{
    const gp_node *list = gp_node_get(m->root, "members");
    int64_t sum = 0;

    for (const gp_node *n = list ? list->first : NULL; n; n = n->next)
        sum += gp_node_int(n, key, 0);
    return sum;
}

static void
print_shards(const gp_round *r)
{
    printf("\n%6s  %-16s %8s  %-11s %9s %8s %11s %9s\n", "shard", "host", "pid",
           "phase", "steps", "joined", "elements", "held");
    for (int64_t i = 0; i < r->listed_shards; i++) {
        const gp_member *m = &r->shard[i];
        char held[48];

        printf("%6" PRId64 "  %-16.16s", i, text_of(m, "host"));
        print_number(m, "pid", 8);
        printf("  %-11.11s", text_of(m, "phase"));
        print_number(m, "steps_most", 9);
        print_number(m, "workers_joined", 8);
        print_number(m, "elements", 11);
        snprintf(held, sizeof(held), "%" PRId64 "/%" PRId64,
                 sum_of(m, "slots_held"), sum_of(m, "slots"));
        printf(" %9s%s\n", held, staleness(m));
    }
}

/* The first worker that has answered, for what is alike on all. */
static const gp_member *
speaker(const gp_round *r, int64_t *rank)
{
    for (int64_t i = 0; i < r->listed_workers; i++) {
        *rank = i;
        if (r->worker[i].fresh)
            return &r->worker[i];
    }
    return NULL;
}

static void
print_tensors(const gp_round *r, uint32_t most)
{
    int64_t rank = 0, all, elements;
    const gp_member *m = speaker(r, &rank);
    const gp_node *list = m ? gp_node_get(m->root, "tensors") : NULL;
    uint32_t listed = 0;

    if (!list || !list->first || most == 0)
        return;
    all = gp_node_int(m->root, "tensors_all", 0);
    elements = gp_node_int(m->root, "elements_all", 0);
    printf("\n%-28s %11s %9s  %s\n", "tensor", "elements", "steps",
           "codec of pushes");
    for (const gp_node *n = list->first; n && listed < most; n = n->next) {
        const char *why = gp_node_text(n, "why", NULL);
        const char *mode = gp_node_text(n, "mode", "sync");
        bool other = strcmp(mode, "sync") != 0;

        listed++;
        elements -= gp_node_int(n, "elements", 0);
        printf("%-28.28s %11" PRId64 " %9" PRId64 "  %s%s%s%s%s\n",
               gp_node_text(n, "name", "-"), gp_node_int(n, "elements", 0),
               gp_node_int(n, "steps", 0), gp_node_text(n, "codec", "-"),
               other ? "  mode " : "", other ? mode : "", why ? "  " : "",
               why ? why : "");
    }
    if (all > listed)
        printf("%" PRId64 " smaller tensors%*s %11" PRId64 "\n", all - listed,
               all - listed < 10 ? 11 : 9, "", elements);
}

static void
print_oldest(const gp_member *m, int64_t rank)
{
    const gp_node *oldest = gp_node_get(m->root, "oldest");

    if (m->fresh && oldest)
        printf("worker %" PRId64 ": its oldest request is step %" PRId64
               " of tensor '%s'; it waits for %" PRId64 " of %" PRId64
               " chunks, the first on shard %" PRId64 "\n",
               rank, gp_node_int(oldest, "step", 0),
               gp_node_text(oldest, "tensor", "-"),
               gp_node_int(oldest, "chunks_open", 0),
               gp_node_int(oldest, "chunks", 0),
               gp_node_int(oldest, "shard", -1));
}

/* The worker whose pushes come last, if others have waited for it. */
static void
print_straggler(const gp_round *r)
{
    const gp_node *worst = NULL;
    double most = 0;

    for (int64_t i = 0; i < r->listed_workers; i++) {
        const gp_node *seen = seen_from_shard(r, i);
        const gp_node *lag = seen ? gp_node_get(seen, "lag_seconds") : NULL;

        if (!lag || gp_node_real(lag) <= most)
            continue;
        most = gp_node_real(lag);
        worst = seen;
    }
    if (worst)
        printf("worker %" PRId64 " (%s) is the last: on average %.1f ms behind "
               "the first; the others have waited %.1f s for it alone\n",
               gp_node_int(worst, "rank", -1),
               gp_node_text(worst, "process", "-"), most * 1e3,
               gp_node_real(gp_node_get(worst, "awaited_seconds")));
}

static void
print_waits(const gp_round *r)
{
    printf("\n");
    print_straggler(r);
    for (int64_t i = 0; i < r->listed_shards; i++) {
        const gp_member *m = &r->shard[i];
        const char *waits = gp_node_text(m->root, "waits", NULL);

        if (m->fresh && waits)
            printf("shard %" PRId64 ": %s\n", i, waits);
    }
    for (int64_t i = 0; i < r->listed_workers; i++)
        print_oldest(&r->worker[i], i);
    for (int64_t i = 0; i < r->listed_workers + r->listed_shards; i++) {
        bool worker = i < r->listed_workers;
        const gp_member *m =
            worker ? &r->worker[i] : &r->shard[i - r->listed_workers];
        const char *fault = gp_node_text(m->root, "fault", NULL);

        if (fault)
            printf("%s %" PRId64 " has failed: %s\n",
                   worker ? "worker" : "shard",
                   worker ? i : i - r->listed_workers, fault);
    }
}

static int64_t
count_fresh(const gp_member *members, int64_t count)
{
    int64_t fresh = 0;

    for (int64_t i = 0; i < count; i++)
        fresh += members[i].fresh;
    return fresh;
}

void
gp_round_print(const gp_place *place, const gp_round *r, uint32_t tensors)
{
    printf("job %s, store %s: %" PRId64 " workers (%" PRId64
           " answer), %" PRId64 " shards (%" PRId64 " answer)%s\n",
           place->job, place->store, r->workers,
           count_fresh(r->worker, r->listed_workers), r->shards,
           count_fresh(r->shard, r->listed_shards),
           r->hosted ? " in the workers" : "");
    print_workers(r);
    print_shards(r);
    print_tensors(r, tensors);
    print_waits(r);
}

static void copy_node(gp_json *to, const gp_node *node);

static void
copy_number(gp_json *to, const gp_node *n)
{
    int64_t whole;

    if (gp_node_whole(n, &whole))
        gp_json_int(to, n->key, whole);
    else
        gp_json_real(to, n->key, gp_node_real(n));
}

static void
copy_children(gp_json *to, const gp_node *node)
{
    for (const gp_node *n = node->first; n; n = n->next)
        copy_node(to, n);
}

static void
copy_node(gp_json *to, const gp_node *n)
{
    if (n->kind == GP_NODE_TEXT)
        gp_json_text(to, n->key, n->text);
    else if (n->kind == GP_NODE_BOOL)
        gp_json_bool(to, n->key, n->truth);
    else if (n->kind == GP_NODE_NUMBER)
        copy_number(to, n);
    else if (n->kind == GP_NODE_OBJECT)
        copy_children(gp_json_object(to, n->key), n);
    else if (n->kind == GP_NODE_ARRAY)
        copy_children(gp_json_array(to, n->key), n);
}

static void
add_members(gp_json *document, const char *key, const gp_member *members,
            int64_t count)
{
    gp_json *list = gp_json_array(document, key);

    for (int64_t i = 0; i < count; i++) {
        const gp_member *m = &members[i];
        gp_json *o = gp_json_object(list, NULL);

        gp_json_int(o, "number", i);
        gp_json_bool(o, "answers", m->fresh);
        gp_json_bool(o, "gone", m->gone);
        if (m->rated) {
            gp_json_real(o, "steps_per_second", m->steps_rate);
            gp_json_real(o, "pushed_bytes_per_second", m->pushed_rate);
            gp_json_real(o, "pulled_bytes_per_second", m->pulled_rate);
        }
        if (m->root && m->root->kind == GP_NODE_OBJECT)
            copy_children(gp_json_object(o, "status"), m->root);
    }
}

gp_status
gp_round_write(const gp_place *place, const gp_round *r, const char *path)
{
    gp_json *document = gp_json_create("gradpush.status/1");
    gp_status status;

    gp_json_text(document, "job", place->job);
    gp_json_text(document, "store", place->store);
    gp_json_int(document, "workers_all", r->workers);
    gp_json_int(document, "shards_all", r->shards);
    gp_json_bool(document, "colocated", r->hosted);
    add_members(document, "workers", r->worker, r->listed_workers);
    add_members(document, "shards", r->shard, r->listed_shards);
    status = gp_json_write(document, path);
    gp_json_destroy(document);
    return status;
}
