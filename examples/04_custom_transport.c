/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 04_custom_transport.c - a transport from outside the library.
 *
 * `counted` is tcp with a counter in front: its table is tcp's, but for the
 * members that see every message. A transport for other hardware fills all
 * members itself; include/gradpush/transport.h says what each must do, and
 * tests/conformance/transport_suite.h checks it.
 *
 * Both ends must know the transport. Here every worker hosts a shard (-s 0),
 * so the processes of this program are all there are.
 *
 *     gradpush run -w 2 -s 0 --env GRADPUSH_TRANSPORT=counted -- \
 *         ./04_custom_transport
 */
#include <gradpush/gradpush.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SENT, RECEIVED, DIRECTIONS };

/* A driver's thread counts while main() reads, so they are atomic. */
typedef struct counter {
    atomic_ullong control, data, bytes;
} counter;

static const gp_transport_ops *tcp;
static counter counters[DIRECTIONS];

/* On the path of every message: no lock, no allocation, no log. */
static void
count(int direction, const gp_msg *msg)
{
    counter *c = &counters[direction];

    atomic_fetch_add_explicit(msg->region ? &c->data : &c->control, 1,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&c->bytes, GP_MSG_BYTES + msg->payload,
                              memory_order_relaxed);
}

/* Refused messages (GP_AGAIN) are posted again, so only taken ones count. */
static gp_status
counted_post(gp_endpoint *ep, const gp_msg *msg, const void *payload,
             gp_mem *mem, uint64_t cookie)
{
    gp_status status = tcp->post(ep, msg, payload, mem, cookie);

    if (status == GP_OK)
        count(SENT, msg);
    return status;
}

static int
counted_progress(gp_domain *domain, gp_event *events, int max)
{
    int n = tcp->progress(domain, events, max);

    for (int i = 0; i < n; i++)
        if (events[i].type == GP_EVENT_MESSAGE)
            count(RECEIVED, &events[i].msg);
    return n;
}

static gp_status
counted_probe(const gp_config *config, char *why, size_t capacity)
{
    char below[128];
    gp_status status = tcp->probe(config, below, sizeof(below));

    snprintf(why, capacity, "counts messages over %s", below);
    return status;
}

/* What the log says about a connection begins with the transport's name. */
static void
counted_describe(const gp_endpoint *ep, char *text, size_t capacity)
{
    char below[160];

    tcp->ep_describe(ep, below, sizeof(below));
    snprintf(text, capacity, "counted over %s", below);
}

/* The table is borrowed for the life of the process, hence static. */
static gp_status
register_counted(void)
{
    static gp_transport_ops counted;

    tcp = gp_transport_find("tcp");
    counted = *tcp;
    counted.name = "counted";
    counted.text = "tcp that counts its messages";
    counted.probe = counted_probe;
    counted.ep_describe = counted_describe;
    counted.post = counted_post;
    counted.progress = counted_progress;
    return gp_transport_register(&counted);
}

static int
fail(const char *what)
{
    fprintf(stderr, "04_custom_transport: %s: %s\n", what, gp_last_error());
    return EXIT_FAILURE;
}

enum { COUNT = 1000000, STEPS = 5 };

static gp_status
exchange(gp_worker *worker, float *grad)
{
    gp_tensor_options options = GP_TENSOR_INIT;
    gp_tensor *tensor;
    gp_status status;

    options.name = "weights";
    options.count = COUNT;
    options.updater = "sum";
    status = gp_tensor_register(worker, &options, &tensor);
    for (int step = 0; status == GP_OK && step < STEPS; step++) {
        gp_request *request;

        for (size_t i = 0; i < COUNT; i++)
            grad[i] = 1;
        status = gp_push_pull(tensor, grad, grad, &request);
        if (status == GP_OK)
            status = gp_wait(&request, -1);
    }
    return status;
}

static void
print(uint32_t rank, int direction, const char *verb)
{
    const counter *c = &counters[direction];

    printf("worker %u %s %llu control and %llu data messages, %llu bytes\n",
           rank, verb, atomic_load(&c->control), atomic_load(&c->data),
           atomic_load(&c->bytes));
}

int
main(void)
{
    static float grad[COUNT];
    gp_worker *worker;
    uint32_t rank, size;

    if (register_counted() != GP_OK)
        return fail("register");
    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail("join the job");
    rank = gp_worker_rank(worker);
    size = gp_worker_size(worker);
    if (exchange(worker, grad) != GP_OK)
        return fail("exchange");
    gp_worker_destroy(worker);
    for (size_t i = 0; i < COUNT; i++)
        if (grad[i] != (float)size) {
            fprintf(stderr, "element %zu is %g\n", i, (double)grad[i]);
            return EXIT_FAILURE;
        }
    print(rank, SENT, "sent");
    print(rank, RECEIVED, "received");
    return EXIT_SUCCESS;
}
