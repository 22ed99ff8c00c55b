/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_exchange.c - one size of the transport benchmark, seen from both ends.
 *
 * Rates are measured by the receiver, between arrivals, so that what a sender
 * has merely handed to its kernel does not count. Every message carries its
 * number at both ends of the payload and that is checked for all; the bytes
 * between are checked before and after the timed part only, because reading
 * them would be part of the time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "bench_exchange.h"

#define REGION_MAX                                            \
    ((uint64_t)1 << 30) /* what a client may ask a server for \
                         */
#define COUNT_MAX 200000000u

enum { MSG_BEGIN = 201, MSG_READY, MSG_DATA, MSG_ACK, MSG_DONE, MSG_END };

/* Memory for the slots, registered, and how far the exchange has come. */
typedef struct gp_side {
    gp_link *link;
    gp_exchange x;
    unsigned char *slots;
    gp_mem *mem;
    uint32_t token, peer;     /* of our slots, and of the other side's */
    uint32_t total, borrowed; /* payloads that are not SENT yet */
    uint64_t errors;
    double *samples; /* microseconds */
    uint32_t sample_count;
} gp_side;

/* A message that only has to be posted. */
typedef struct gp_parcel {
    gp_msg msg;
    const unsigned char *payload;
    uint64_t cookie;
} gp_parcel;

static uint64_t
word(uint32_t slot, uint64_t index)
{
    return (index + 1) * 0x9e3779b97f4a7c15ull ^ slot;
}

static void
fill_slot(unsigned char *data, uint64_t bytes, uint32_t slot)
{
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t value = word(slot, at / 8);

        memcpy(data + at, &value, GP_MIN(bytes - at, 8u));
    }
}

/* The message's number, at both ends when there is room. */
static void
stamp_slot(unsigned char *data, uint64_t bytes, uint32_t number)
{
    uint64_t value = number;

    memcpy(data, &value, GP_MIN(bytes, 8u));
    if (bytes >= 16)
        memcpy(data + bytes - 8, &value, 8);
}

/* Wrong pieces of 8 bytes. */
static uint64_t
check_slot(const gp_side *side, const unsigned char *data, uint32_t number)
{
    uint64_t bytes = side->x.bytes, wrong = 0, value = number;
    uint32_t slot = number % side->x.window;
    bool full = number < side->x.warmup ||
                number >= side->x.warmup + side->x.iterations;

    if (!side->x.check)
        return 0;
    wrong += memcmp(data, &value, GP_MIN(bytes, 8u)) != 0;
    if (bytes >= 16)
        wrong += memcmp(data + bytes - 8, &value, 8) != 0;
    for (uint64_t at = 8; full && at + 16 <= bytes; at += 8) {
        value = word(slot, at / 8);
        wrong += memcmp(data + at, &value, 8) != 0;
    }
    return wrong;
}

static gp_status
side_open(gp_side *side, gp_link *link, const gp_exchange *x)
{
    size_t bytes = x->bytes * x->window;
    gp_status status;

    memset(side, 0, sizeof(*side));
    side->link = link;
    side->x = *x;
    side->total = x->warmup + x->iterations + x->extra;
    side->slots = gp_alloc_aligned(bytes);
    side->samples = calloc(x->iterations, sizeof(*side->samples));
    if (!side->slots || !side->samples)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %u slots of %llu bytes",
                       x->window, (unsigned long long)x->bytes);
    for (uint32_t i = 0; i < x->window; i++)
        fill_slot(side->slots + i * x->bytes, x->bytes, i);
    status = link->ops->mem_reg(link->domain, side->slots, bytes, &side->mem);
    if (status == GP_OK)
        status =
            link->ops->expose(link->ep, side->mem, 0, bytes, 0, &side->token);
    return status;
}

/* Ends it. After a failure payloads may still be borrowed: the connection goes
 * before the memory does. */
static void
side_close(gp_side *side, gp_status status)
{
    gp_link *link = side->link;

    if (status != GP_OK && link->ep) {
        link->ops->ep_close(link->ep);
        link->ep = NULL;
    }
    if (side->token && link->ep)
        link->ops->unexpose(link->ep, side->token);
    if (side->mem)
        link->ops->mem_dereg(side->mem);
    free(side->slots);
    free(side->samples);
}

static unsigned char *
slot_of(const gp_side *side, uint32_t number)
{
    return side->slots + number % side->x.window * side->x.bytes;
}

/* Message `number`, from its slot. */
static void
prepare(const gp_side *side, uint32_t number, gp_parcel *out)
{
    uint32_t slot = number % side->x.window;

    *out = (gp_parcel){.msg = {.type = MSG_DATA,
                               .step = number,
                               .payload = side->x.bytes,
                               .region = side->peer,
                               .offset = slot * side->x.bytes},
                       .payload = slot_of(side, number),
                       .cookie = slot + 1};
}

/* GP_AGAIN when the queue is full. */
static gp_status
post_parcel(gp_side *side, const gp_parcel *parcel)
{
    gp_link *link = side->link;
    gp_status status = link->ops->post(link->ep, &parcel->msg, parcel->payload,
                                       side->mem, parcel->cookie);

    side->borrowed += status == GP_OK;
    return status;
}

static gp_status
post_slot(gp_side *side, uint32_t number)
{
    gp_parcel parcel;

    prepare(side, number, &parcel);
    return post_parcel(side, &parcel);
}

/* Posts and sends it: somebody waits for it. */
static gp_status
send_parcel(gp_side *side, const gp_parcel *parcel)
{
    gp_status status = post_parcel(side, parcel);

    if (status == GP_OK)
        status = side->link->ops->flush(side->link->ep);
    return status == GP_AGAIN ? GP_OK : status;
}

static gp_status
say(gp_link *link, uint8_t type, uint64_t aux)
{
    gp_msg msg = {.type = type, .aux = aux};

    return gp_link_say(link, &msg, NULL);
}

static gp_status
unexpected(const gp_event *event)
{
    return gp_fail(GP_ERR_PROTOCOL,
                   "the other side sent a message of type %u that does not "
                   "belong here",
                   event->msg.type);
}

/* The next message, of that type. */
static gp_status
await(gp_side *side, uint8_t type, const gp_event **out)
{
    gp_status status;

    for (;;) {
        status = gp_link_next(side->link, out);
        if (status != GP_OK)
            return status;
        if ((*out)->type == GP_EVENT_MESSAGE)
            return (*out)->msg.type == type ? GP_OK : unexpected(*out);
        side->borrowed -= (*out)->type == GP_EVENT_SENT;
    }
}

/* Until the slots are ours alone. The other side has nothing to say now. */
static gp_status
await_sent(gp_side *side)
{
    const gp_event *event = NULL;
    gp_status status = GP_OK;

    while (side->borrowed && status == GP_OK) {
        status = gp_link_next(side->link, &event);
        if (status == GP_OK && event->type == GP_EVENT_MESSAGE)
            status = unexpected(event);
        else if (status == GP_OK)
            side->borrowed -= event->type == GP_EVENT_SENT;
    }
    return status;
}

static gp_status
begin(gp_side *side)
{
    gp_msg msg = {.type = MSG_BEGIN,
                  .chunk = (uint32_t)side->x.test,
                  .step = side->x.bytes,
                  .elements = side->x.iterations,
                  .incarnation = side->x.warmup,
                  .credits = side->x.extra,
                  .epoch = side->x.window,
                  .slot = side->x.check,
                  .aux = side->token};
    const gp_event *event = NULL;
    gp_status status = gp_link_say(side->link, &msg, NULL);

    if (status == GP_OK)
        status = await(side, MSG_READY, &event);
    if (status == GP_OK)
        side->peer = (uint32_t)event->msg.aux;
    return status;
}

/* What the server measured. */
static gp_status
finish_bw(const gp_event *event, gp_bench_result *result)
{
    gp_reader r = {event->payload, event->msg.payload, true};
    double *times[] = {&result->median_us, &result->p99_us, &result->min_us,
                       &result->max_us, &result->mean_us};

    result->errors = gp_read64(&r);
    for (size_t i = 0; i < GP_COUNT_OF(times); i++)
        *times[i] = (double)gp_read64(&r) / 1e6;
    if (!r.ok)
        return gp_fail(GP_ERR_PROTOCOL, "the result is cut short");
    return GP_OK;
}

/* Keeps the window full. A slot is free when it was acknowledged and its
 * payload is no longer borrowed. */
static gp_status
send_all(gp_side *side, const gp_event **done)
{
    uint32_t posted = 0, acked = 0;
    gp_status status = GP_OK;

    while (status == GP_OK) {
        while (posted < side->total && posted - acked < side->x.window &&
               side->borrowed < side->x.window) {
            stamp_slot(slot_of(side, posted), side->x.bytes, posted);
            status = post_slot(side, posted);
            if (status != GP_OK)
                break;
            posted++;
        }
        if (status == GP_OK || status == GP_AGAIN)
            status = side->link->ops->flush(side->link->ep);
        if (status == GP_OK || status == GP_AGAIN)
            status = gp_link_next(side->link, done);
        if (status != GP_OK)
            break;
        if ((*done)->type == GP_EVENT_SENT)
            side->borrowed--;
        else if ((*done)->msg.type == MSG_ACK)
            acked = (uint32_t)(*done)->msg.aux;
        else if ((*done)->msg.type == MSG_DONE)
            return GP_OK;
        else
            return unexpected(*done);
    }
    return status;
}

static gp_status
run_bw(gp_side *side, gp_bench_result *result)
{
    const gp_event *event = NULL;
    gp_status status = send_all(side, &event);

    if (status == GP_OK)
        status = finish_bw(event, result);
    return status;
}

/* Of a clock that costs next to nothing, as perftest's does; how long one takes
 * comes out of the whole exchange. */
static inline uint64_t
ticks(void)
{
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    return gp_clock_ns();
#endif
}

/* Samples were taken in ticks: half of each in microseconds. */
static void
scale_samples(gp_side *side, uint64_t ns, uint64_t in_ticks)
{
    double each = (double)ns / 2e3 / (double)GP_MAX(in_ticks, 1u);

    for (uint32_t i = 0; i < side->sample_count; i++)
        side->samples[i] *= each;
}

/* Message `i` is under way: what else there is to do is done now, since nobody
 * waits for it. */
static void
while_away(gp_side *side, uint32_t i, gp_parcel *next)
{
    if (i)
        side->errors += check_slot(side, slot_of(side, i - 1), i - 1);
    stamp_slot(slot_of(side, i + 1), side->x.bytes, i + 1);
    prepare(side, i + 1, next);
}

/* The clock is asked once for each message: a round trip ends where the next
 * one begins. */
static gp_status
run_lat(gp_side *side, gp_bench_result *result)
{
    uint32_t last = side->total - 1;
    const gp_event *event = NULL;
    gp_parcel next;
    uint64_t begin_ns, begin_ticks, start, end;
    gp_status status = GP_OK;

    stamp_slot(slot_of(side, 0), side->x.bytes, 0);
    prepare(side, 0, &next);
    begin_ns = gp_clock_ns();
    start = begin_ticks = ticks();
    for (uint32_t i = 0; i <= last && status == GP_OK; i++) {
        status = send_parcel(side, &next);
        while_away(side, i, &next);
        if (status == GP_OK)
            status = await(side, MSG_DATA, &event);
        end = ticks();
        if (i >= side->x.warmup && i < side->x.warmup + side->x.iterations)
            side->samples[side->sample_count++] = (double)(end - start);
        start = end;
    }
    scale_samples(side, gp_clock_ns() - begin_ns, ticks() - begin_ticks);
    side->errors += check_slot(side, slot_of(side, last), last);
    if (status == GP_OK)
        status = await(side, MSG_DONE, &event);
    if (status == GP_OK)
        status = finish_bw(event, result);
    if (status == GP_OK) {
        result->errors += side->errors;
        gp_bench_summarize(side->samples, side->sample_count, result);
    }
    return status;
}

gp_status
gp_exchange_run(gp_link *link, const gp_exchange *exchange,
                gp_bench_result *result)
{
    gp_side side;
    gp_status status = side_open(&side, link, exchange);

    if (status == GP_OK)
        status = begin(&side);
    memset(result, 0, sizeof(*result));
    if (status == GP_OK)
        status = exchange->test == GP_TEST_BW ? run_bw(&side, result)
                                              : run_lat(&side, result);
    if (status == GP_OK)
        status = await_sent(&side);
    side_close(&side, status);
    if (status != GP_OK)
        return status;
    result->bytes = exchange->bytes;
    result->iterations = exchange->iterations;
    result->algbw =
        (double)exchange->bytes /
        (exchange->test == GP_TEST_BW ? result->mean_us : result->median_us) /
        1e3;
    result->busbw = result->algbw;
    result->wire_bytes = exchange->bytes + GP_MSG_BYTES;
    return GP_OK;
}

gp_status
gp_exchange_end(gp_link *link)
{
    return say(link, MSG_END, 0);
}

/* The client is not trusted with our memory. */
static gp_status
read_begin(const gp_msg *msg, gp_exchange *x)
{
    size_t bytes;

    x->test = msg->chunk == GP_TEST_LAT ? GP_TEST_LAT : GP_TEST_BW;
    x->bytes = msg->step;
    x->warmup = msg->incarnation;
    x->iterations = (uint32_t)GP_MIN(msg->elements, (uint64_t)UINT32_MAX);
    x->extra = (uint32_t)GP_MIN(msg->credits, (uint64_t)UINT32_MAX);
    x->window = msg->epoch;
    x->check = msg->slot;
    if (!x->bytes || !x->window || !x->iterations || !x->warmup ||
        x->iterations > COUNT_MAX || x->warmup > COUNT_MAX ||
        x->extra > COUNT_MAX || !gp_mul(x->bytes, x->window, &bytes) ||
        bytes > REGION_MAX)
        return gp_fail(GP_ERR_PROTOCOL, "a test that this side refuses");
    return GP_OK;
}

/* Message `i` of a rate test has arrived: time is taken per group of messages,
 * because messages arrive in bunches. */
static void
sample_arrival(gp_side *side, uint32_t i, uint64_t *last)
{
    uint32_t group =
        side->x.iterations >= 2 * side->x.window ? side->x.window : 1;
    uint64_t now;

    if (i + 1 < side->x.warmup || i >= side->x.warmup + side->x.iterations)
        return;
    if ((i + 1 - side->x.warmup) % group)
        return;
    now = gp_clock_ns();
    if (*last)
        side->samples[side->sample_count++] =
            (double)(now - *last) / (1e3 * group);
    *last = now;
}

/* Marks message `number`; returns how many have arrived without a gap, because
 * over several sockets they overtake one another. */
static uint32_t
note_arrival(const gp_side *side, unsigned char *arrived, uint32_t number,
             uint32_t whole)
{
    uint32_t window = side->x.window;

    arrived[number % window] = 1;
    while (arrived[whole % window]) {
        arrived[whole % window] = 0;
        whole++;
    }
    return whole;
}

static gp_status
receive_all(gp_side *side)
{
    uint32_t batch = GP_MAX(side->x.window / 4, 1u), whole = 0, acked = 0;
    unsigned char *arrived = calloc(side->x.window, 1);
    uint64_t last = 0;
    const gp_event *event = NULL;
    gp_status status = GP_OK;

    if (!arrived)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %u slots",
                       side->x.window);
    for (uint32_t i = 0; i < side->total && status == GP_OK; i++) {
        uint32_t number;

        status = await(side, MSG_DATA, &event);
        if (status != GP_OK)
            break;
        sample_arrival(side, i, &last);
        number = (uint32_t)event->msg.step;
        side->errors += check_slot(side, slot_of(side, number), number);
        whole = note_arrival(side, arrived, number, whole);
        if (whole - acked >= batch || whole == side->total) {
            acked = whole;
            status = say(side->link, MSG_ACK, whole);
        }
    }
    free(arrived);
    return status;
}

/* Answers first and verifies then: the other slots are free meanwhile. */
static gp_status
echo_all(gp_side *side)
{
    const gp_event *event = NULL;
    gp_parcel answer;
    gp_status status = GP_OK;

    prepare(side, 0, &answer);
    for (uint32_t i = 0; i < side->total && status == GP_OK; i++) {
        status = await(side, MSG_DATA, &event);
        if (status == GP_OK)
            status = send_parcel(side, &answer);
        if (status == GP_OK)
            side->errors += check_slot(side, slot_of(side, i), i);
        prepare(side, i + 1, &answer);
    }
    return status;
}

static gp_status
say_done(gp_side *side)
{
    unsigned char payload[64];
    gp_writer w = {payload, sizeof(payload), true};
    gp_bench_result r = {0};
    gp_msg msg = {.type = MSG_DONE};

    if (side->sample_count)
        gp_bench_summarize(side->samples, side->sample_count, &r);
    gp_write64(&w, side->errors);
    gp_write64(&w, (uint64_t)(r.median_us * 1e6));
    gp_write64(&w, (uint64_t)(r.p99_us * 1e6));
    gp_write64(&w, (uint64_t)(r.min_us * 1e6));
    gp_write64(&w, (uint64_t)(r.max_us * 1e6));
    gp_write64(&w, (uint64_t)(r.mean_us * 1e6));
    msg.payload = sizeof(payload) - w.left;
    return gp_link_say(side->link, &msg, payload);
}

static gp_status
serve_one(gp_link *link, const gp_msg *msg)
{
    gp_side side = {0};
    gp_exchange x;
    gp_status status = read_begin(msg, &x);

    if (status != GP_OK)
        return status;
    status = side_open(&side, link, &x);
    side.peer = (uint32_t)msg->aux;
    if (status == GP_OK)
        status = say(link, MSG_READY, side.token);
    if (status == GP_OK)
        status = x.test == GP_TEST_BW ? receive_all(&side) : echo_all(&side);
    if (status == GP_OK)
        status = await_sent(&side);
    if (status == GP_OK)
        status = say_done(&side);
    side_close(&side, status);
    return status;
}

gp_status
gp_exchange_serve(gp_link *link)
{
    const gp_event *event = NULL;
    gp_status status;

    for (;;) {
        status = gp_link_next(link, &event);
        if (status != GP_OK)
            return status;
        if (event->type != GP_EVENT_MESSAGE)
            continue;
        if (event->msg.type == MSG_END)
            return GP_OK;
        if (event->msg.type != MSG_BEGIN)
            return unexpected(event);
        status = serve_one(link, &event->msg);
        if (status != GP_OK)
            return status;
    }
}
