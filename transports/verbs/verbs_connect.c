/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_connect.c - reaching a listener that may not be there yet, with each
 * lane of an endpoint.
 *
 * The first lane goes through the addresses of the peer and the rails of this
 * host until one path leads there. Further ones follow when the peer has told
 * its other addresses. The kernel waits a minute and more for a host that is
 * gone; here an attempt has its own, shorter deadline, and its id is destroyed
 * when that passes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/address.h"
#include "transports/verbs/verbs_port.h"

#define SECOND          UINT64_C(1000000000)
#define BACKOFF_FIRST   (SECOND / 100)
#define BACKOFF_LAST    (SECOND / 2)
#define REPORT_INTERVAL (3 * SECOND)
/* How long an attempt may take, and each of its first two steps. */
#define ATTEMPT_TIMEOUT (3 * SECOND)
#define STEP_MS         2000
/* How long auto waits for an answer before it takes tcp. */
#define ANSWER_TIMEOUT (5 * SECOND)
/* What a further lane has to appear at all. */
#define JOIN_SECONDS 10.0

/* Reasons of a reject by the connection manager itself. */
#define REJECT_NO_LISTENER 8
#define REJECT_STALE       10
#define REJECT_CONSUMER    28

struct gp_vb_attempt {
    gp_address addresses[GP_ADDRESSES_MAX];
    bool several;         /* they are of rails, not of a name */
    uint32_t count, next; /* next: being tried, then the one that answered */
    uint32_t first;       /* this host's rail of lane 0, likewise */
    char detour[256];     /* which path was left for it, and why */
    bool answered;        /* the peer has, to the attempt that is under way, */
    bool poor;            /* that the device there lacks what it takes */
    bool waits;           /* for more than what this host lacks, on some path */
    /* Of a round over all paths. */
    uint32_t begun, tried; /* the number of its first one, how many were */
    uint32_t reached;      /* one more than that of the first that answered */
    uint32_t refused;      /* bit: address */
    bool rails_told, lanes_begun;
    uint32_t rails;
    struct sockaddr_storage rail[GP_VB_PATH_MAX]; /* the peer's other ones */
};

/* How long a cause is waited out. OWN: it is that of this host, which is better
 * said at once, when all paths have it. */
typedef enum patience {
    PATIENCE_OWN,
    PATIENCE_NONE,
    PATIENCE_SOME,
    PATIENCE_LONG
} patience;

static void unanswered(gp_vb_lane *lane, const char *format, ...)
    GP_PRINTF(2, 3);

static double
seconds(uint64_t ns)
{
    return (double)ns / (double)SECOND;
}

/* The pause doubles, and varies by a quarter so that many workers do not
 * knock in step. */
static void
back_off(gp_vb_lane *lane, uint64_t now)
{
    uint64_t noise = 0, pause = GP_MAX(lane->backoff_ns, BACKOFF_FIRST);

    (void)gp_random(&noise, sizeof(noise));
    lane->retry_ns = now + pause * 3 / 4 + noise % (pause / 2);
    lane->backoff_ns = GP_MIN(pause * 2, BACKOFF_LAST);
    gp_vb_wake_at(lane->ep->domain, lane->retry_ns);
}

/* Puts an attempt away; the cause of a loss is kept, that of an attempt is
 * not. */
static void
end_attempt(gp_vb_lane *lane, const char *why)
{
    gp_vb_lane_drop(lane);
    lane->state = lane->opened ? GP_VB_LANE_LOST : GP_VB_LANE_IDLE;
    if (!lane->opened)
        snprintf(lane->cause, sizeof(lane->cause), "%s", why);
    else
        GP_DEBUG("verbs %s: lane %u: %s", lane->ep->peer, lane->index, why);
}

static uint32_t
common_divisor(uint32_t a, uint32_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Paths by number. Of rails with rails those with the same number come first:
 * whichever side has lost its first one, and whether or not there is a way from
 * one to another, the second path tells. Of a name's addresses one comes after
 * the other, over all rails. */
static void
set_path(gp_endpoint *ep)
{
    gp_vb_attempt *a = ep->attempt;
    uint32_t rails = ep->domain->rails;
    uint32_t number = (a->begun + a->tried) % (rails * a->count);
    uint32_t turn = rails * a->count / common_divisor(rails, a->count);

    a->first = number % rails;
    a->next = a->several ? (number + number / turn) % a->count : number / rails;
}

/* Where the kernel chooses the rail it is of the right family. */
static bool
is_path(const gp_endpoint *ep)
{
    const gp_vb_attempt *a = ep->attempt;

    return !(a->refused >> a->next & 1) &&
           (!a->first || ep->domain->rail[a->first].address.ss_family ==
                             a->addresses[a->next].name.ss_family);
}

/* "sim0:1", "sim0:1 to 10.77.0.1:4711" */
static void
name_path(const gp_endpoint *ep, char *text, size_t capacity)
{
    const gp_vb_attempt *a = ep->attempt;
    char address[GP_ADDRESS_MAX];

    gp_address_name(&a->addresses[a->next].name, address, sizeof(address));
    snprintf(text, capacity, "%s%s%.60s", ep->domain->rail[a->first].name,
             a->several ? " to " : "", a->several ? address : "");
}

/* One that answered was reached: its refusal is the same on all rails, but for
 * what its device lacks. */
static void
note_answer(gp_vb_attempt *a, uint32_t paths)
{
    if (!a->answered)
        return;
    a->refused |= a->several && !a->poor ? UINT32_MAX : 1u << a->next;
    if (!a->reached && !a->poor)
        a->reached = (a->begun + a->tried) % paths + 1;
}

/* The next path of the round. False: it is over, and the next one begins, with
 * what answered. */
static bool
choose_next(gp_endpoint *ep)
{
    gp_vb_attempt *a = ep->attempt;
    uint32_t paths = ep->domain->rails * a->count;
    char left[160];

    name_path(ep, left, sizeof(left));
    note_answer(a, paths);
    while (++a->tried < paths) {
        set_path(ep);
        if (!is_path(ep))
            continue;
        snprintf(a->detour, sizeof(a->detour), "%s: %.*s", left,
                 (int)(sizeof(a->detour) - 3 - strlen(left)),
                 ep->lane[0]->cause);
        return true;
    }
    a->begun = a->reached ? a->reached - 1 : 0;
    a->tried = a->reached = a->refused = 0;
    set_path(ep);
    return false;
}

/* Tries what is next, at once, or from the beginning after a pause. False:
 * there was nothing else. */
static bool
try_next(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    uint64_t now = gp_clock_ns();

    if (ep->state == GP_VB_CONNECTING && choose_next(ep)) {
        lane->retry_ns = now;
        gp_vb_wake_at(ep->domain, now);
        return true;
    }
    back_off(lane, now);
    return false;
}

/* With tcp to go to, a peer that cannot be reached so is not waited for until
 * the end: not at all for a cause that stays, a while for one that does not
 * answer, and half of the time for one that may not be there yet. */
static bool
is_hopeless(const gp_vb_lane *lane, patience wait)
{
    const gp_endpoint *ep = lane->ep;
    uint64_t waited = gp_clock_ns() - ep->start_ns;

    if (ep->state != GP_VB_CONNECTING)
        return false;
    if (!ep->domain->hasty)
        return !ep->attempt->waits;
    return wait <= PATIENCE_NONE ||
           (wait == PATIENCE_SOME && waited >= ANSWER_TIMEOUT) ||
           waited >= (ep->deadline_ns - ep->start_ns) / 2;
}

/* Each rail of either side had its turn: the rest of a round are other pairs of
 * them, which take as long where nothing answers. */
static bool
rails_had_their_turn(const gp_endpoint *ep)
{
    const gp_vb_attempt *a = ep->attempt;

    return a->several && a->tried >= GP_MAX(ep->domain->rails, a->count);
}

static void
attempt_failed(gp_vb_lane *lane, patience wait, const char *why)
{
    gp_endpoint *ep = lane->ep;
    bool over;

    end_attempt(lane, why);
    ep->attempt->waits |= wait != PATIENCE_OWN;
    over = !try_next(lane);
    if ((over || (wait == PATIENCE_SOME && rails_had_their_turn(ep))) &&
        is_hopeless(lane, wait))
        gp_vb_ep_fail(
            ep, wait == PATIENCE_OWN ? GP_ERR_NO_MEMORY : GP_ERR_UNREACHABLE,
            "%s", why);
    else if (over)
        ep->attempt->waits = false;
}

void
gp_vb_connect_failed(gp_vb_lane *lane, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    attempt_failed(lane, PATIENCE_LONG, why);
}

void
gp_vb_connect_hopeless(gp_vb_lane *lane, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    attempt_failed(lane, PATIENCE_NONE, why);
}

static void
unanswered(gp_vb_lane *lane, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    attempt_failed(lane, PATIENCE_SOME, why);
}

static void
set_options(const gp_vb_lane *lane)
{
    const gp_domain *d = lane->ep->domain;
    uint8_t tos = (uint8_t)d->traffic_class;
    uint8_t timeout = (uint8_t)d->ack_timeout;

    /* Older kernels lack the second; theirs is 18 as well. */
    if (d->traffic_class >= 0)
        (void)d->api->rdma_set_option(lane->id, RDMA_OPTION_ID,
                                      RDMA_OPTION_ID_TOS, &tos, sizeof(tos));
    (void)d->api->rdma_set_option(lane->id, RDMA_OPTION_ID,
                                  RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                                  sizeof(timeout));
}

/* Lane i leaves through rail i modulo their number, and goes to the peer's rail
 * of that number; where the first lane left through another one, so do all.
 * Before the peer has told its rails, what it published has to do. */
static void
choose_path(gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;
    const gp_domain *d = ep->domain;
    const gp_vb_attempt *a = ep->attempt;
    uint32_t rail = lane->index % d->rails;
    uint32_t here = (rail + a->first) % d->rails;
    uint32_t there = rail % (a->rails + 1);

    lane->target = a->addresses[a->next].name;
    if (!a->rails_told && a->several)
        lane->target = a->addresses[(a->next + rail) % a->count].name;
    if (there)
        lane->target = a->rail[there - 1];
    memset(&lane->source, 0, sizeof(lane->source));
    if ((here || a->first || d->pinned) &&
        d->rail[here].address.ss_family == lane->target.ss_family)
        lane->source = d->rail[here].address;
}

void
gp_vb_connect_lane(gp_vb_lane *lane, uint64_t now)
{
    gp_domain *d = lane->ep->domain;
    struct sockaddr *source = NULL;
    int error;

    choose_path(lane);
    lane->ep->attempt->answered = lane->ep->attempt->poor = false;
    lane->retry_ns = 0;
    lane->deadline_ns = now + ATTEMPT_TIMEOUT;
    lane->epoch++;
    gp_vb_wake_at(d, lane->deadline_ns);
    error = d->api->rdma_create_id(d->channel, &lane->id, lane, RDMA_PS_TCP);
    if (error) {
        lane->id = NULL;
        gp_vb_connect_failed(lane, "rdma_create_id: %s", strerror(error));
        return;
    }
    set_options(lane);
    lane->state = GP_VB_LANE_RESOLVING;
    if (lane->source.ss_family)
        source = (struct sockaddr *)&lane->source;
    error = d->api->rdma_resolve_addr(
        lane->id, source, (struct sockaddr *)&lane->target, STEP_MS);
    if (error)
        gp_vb_connect_hopeless(lane, "no RDMA device leads there (%s)",
                               strerror(error));
}

gp_status
gp_vb_connect(gp_domain *d, const char *address, uint64_t deadline_ns,
              gp_endpoint **out)
{
    gp_vb_attempt *a = calloc(1, sizeof(*a));
    size_t count = 0;
    gp_endpoint *ep;
    gp_status status;

    if (!a)
        return gp_fail(GP_ERR_NO_MEMORY, "connect to %s: out of memory",
                       address);
    status = gp_address_resolve(address, false, a->addresses,
                                GP_COUNT_OF(a->addresses), &count);
    a->count = (uint32_t)count;
    a->several = gp_address_several(address);
    ep = status == GP_OK ? gp_vb_ep_create(d, d->lanes_wanted) : NULL;
    if (!ep || gp_random(&ep->group, sizeof(ep->group)) != GP_OK) {
        free(a);
        if (ep)
            gp_vb_ep_free(ep);
        return status != GP_OK
                   ? status
                   : gp_fail(GP_ERR_NO_MEMORY, "connect to %s: out of memory",
                             address);
    }
    snprintf(ep->peer, sizeof(ep->peer), "%s", address);
    ep->attempt = a;
    ep->deadline_ns = deadline_ns;
    ep->report_ns = ep->start_ns + REPORT_INTERVAL;
    gp_vb_wake_at(d, GP_MIN(deadline_ns, ep->report_ns));
    gp_vb_connect_lane(ep->lane[0], ep->start_ns);
    *out = ep;
    return GP_OK;
}

/* ----------------------------------------------------------------- events */

/* Memory and queue pairs that are missing here do not come by waiting for the
 * peer; another device may have some. */
static void
cannot_prepare(gp_vb_lane *lane, gp_status status)
{
    char why[400];

    snprintf(why, sizeof(why), "%s", gp_last_error());
    attempt_failed(
        lane, status == GP_ERR_NO_MEMORY ? PATIENCE_OWN : PATIENCE_NONE, why);
}

static void
request(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;
    uint8_t bytes[GP_VB_HELLO_BYTES];
    struct rdma_conn_param param = {.private_data = bytes,
                                    .private_data_len = sizeof(bytes),
                                    .responder_resources = 1,
                                    .initiator_depth = 1,
                                    .retry_count = (uint8_t)d->retry_count,
                                    .rnr_retry_count = 0};
    gp_status status = gp_vb_lane_prepare(lane);
    gp_vb_hello hello;
    int error;

    if (status != GP_OK) {
        cannot_prepare(lane, status);
        return;
    }
    if (gp_vb_port_down(d, lane->id)) {
        gp_vb_connect_failed(lane, "port %u of %s is down", lane->id->port_num,
                             lane->device->name);
        return;
    }
    gp_vb_lane_describe(lane, &hello);
    hello.flags &= (uint8_t) ~(GP_VB_HELLO_RESUME | GP_VB_HELLO_ANSWER);
    if (lane->ep->state != GP_VB_CONNECTING)
        hello.flags |= GP_VB_HELLO_RESUME;
    gp_vb_hello_encode(&hello, d->token, bytes);
    lane->state = GP_VB_LANE_CONNECTING;
    error = d->api->rdma_connect(lane->id, &param);
    if (error)
        gp_vb_connect_failed(lane, "rdma_connect: %s", strerror(error));
}

/* What only a member of this job can say, or the endpoint ends. */
static gp_status
check_answer(gp_vb_lane *lane, const gp_vb_cm_event *event, gp_vb_hello *out)
{
    gp_endpoint *ep = lane->ep;
    gp_status status =
        gp_vb_hello_decode(event->bytes, event->length, ep->domain->token, out);

    if (status == GP_OK &&
        (!(out->flags & GP_VB_HELLO_ANSWER) || out->group != ep->group ||
         out->lane != lane->index || out->epoch != lane->epoch))
        status = GP_ERR_PROTOCOL;
    if (status == GP_ERR_VERSION)
        gp_vb_ep_fail(ep, status,
                      "it speaks protocol version %u, this side %u; run the "
                      "same gradpush everywhere",
                      out->version, GP_PROTOCOL_VERSION);
    else if (status == GP_ERR_AUTH)
        gp_vb_ep_fail(ep, status,
                      "it has another job token; give all processes the same "
                      "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE");
    else if (status != GP_OK)
        gp_vb_ep_fail(ep, status, "what listens there does not speak gradpush");
    out->flags &= (uint8_t)~GP_VB_HELLO_ANSWER;
    return status;
}

/* Another path than the best one was taken. */
static void
report_detour(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    const gp_vb_attempt *a = ep->attempt;
    char address[GP_ADDRESS_MAX];

    gp_address_name(&a->addresses[a->next].name, address, sizeof(address));
    if (a->first || (a->several && a->next))
        GP_WARN("verbs %s: connected over %s:%u%s%s, because of %s", ep->peer,
                lane->device->name, lane->id->port_num,
                a->several ? " to " : "", a->several ? address : "", a->detour);
    if (a->several)
        memcpy(ep->peer, address, sizeof(ep->peer));
}

static void
established(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    gp_endpoint *ep = lane->ep;
    gp_vb_hello hello = {0};
    gp_status status;

    if (lane->state != GP_VB_LANE_CONNECTING ||
        check_answer(lane, event, &hello) != GP_OK)
        return;
    status = gp_vb_lane_meet(lane, &hello);
    if (status == GP_OK)
        status = gp_vb_lane_open(lane);
    if (status == GP_OK && ep->state == GP_VB_CONNECTING)
        report_detour(lane);
    if (status == GP_OK)
        gp_vb_cm_up(lane);
    else if (status == GP_ERR_PROTOCOL || ep->state == GP_VB_CONNECTING)
        gp_vb_ep_fail(ep, status, "%s", gp_last_error());
    else
        gp_vb_connect_failed(lane, "%s", gp_last_error());
}

static void
lacks_memory(gp_vb_lane *lane)
{
    lane->ep->attempt->poor = true;
    gp_vb_connect_hopeless(
        lane, "it may not lock enough memory, or has no queue pair left; raise "
              "its limit: its log, and 'gradpush doctor' there, say how");
}

static void
refused(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    gp_endpoint *ep = lane->ep;
    uint16_t version = 0;
    gp_vb_reject reason =
        gp_vb_reject_decode(event->bytes, event->length, &version);

    if (reason == GP_VB_REJECT_VERSION)
        gp_vb_ep_fail(ep, GP_ERR_VERSION,
                      "it speaks protocol version %u, this side %u; run the "
                      "same gradpush everywhere",
                      version, GP_PROTOCOL_VERSION);
    else if (reason == GP_VB_REJECT_PROOF)
        gp_vb_ep_fail(ep, GP_ERR_AUTH,
                      "it has another job token; give all processes the same "
                      "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE");
    else if (reason == GP_VB_REJECT_BUSY)
        gp_vb_connect_failed(lane, "it has no resources now");
    else if (reason == GP_VB_REJECT_MEMORY)
        lacks_memory(lane);
    else if (reason == GP_VB_REJECT_GONE && ep->state != GP_VB_CONNECTING) {
        end_attempt(lane, "gone");
        gp_vb_cm_give_up(lane, "the peer has closed the connection");
    } else if (reason == 0 && ep->state == GP_VB_CONNECTING &&
               event->status == REJECT_CONSUMER)
        gp_vb_ep_fail(ep, GP_ERR_PROTOCOL,
                      "what listens there does not speak gradpush");
    else
        gp_vb_connect_failed(lane, "it refused the connection (%d)",
                             event->status);
}

static void
rejected(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    int status = event->status;

    lane->ep->attempt->answered = true;
    if (status == REJECT_NO_LISTENER || status == -ECONNREFUSED ||
        status == ECONNREFUSED) {
        if (lane->ep->state == GP_VB_CONNECTING || !lane->opened) {
            gp_vb_connect_failed(lane, "%s", strerror(ECONNREFUSED));
            return;
        }
        end_attempt(lane, "nobody listens there");
        gp_vb_cm_give_up(lane, "nobody listens there any more");
    } else if (status == REJECT_STALE) {
        gp_vb_connect_failed(lane, "its host still ends an old connection");
    } else {
        refused(lane, event);
    }
}

static void
resolved(gp_vb_lane *lane)
{
    int error = lane->ep->domain->api->rdma_resolve_route(lane->id, STEP_MS);

    if (error)
        gp_vb_connect_hopeless(lane, "no route (%s)", strerror(error));
}

void
gp_vb_connect_event(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    const gp_verbs_api *api = lane->ep->domain->api;

    switch (event->type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        resolved(lane);
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        request(lane);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        established(lane, event);
        break;
    case RDMA_CM_EVENT_REJECTED:
        rejected(lane, event);
        break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
        gp_vb_connect_hopeless(lane, "%s (%s)", strerror(abs(event->status)),
                               api->rdma_event_str(event->type));
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
        unanswered(lane, "%s (%s)", strerror(abs(event->status)),
                   api->rdma_event_str(event->type));
        break;
    default:
        GP_DEBUG("verbs %s: %s", lane->ep->peer,
                 api->rdma_event_str(event->type));
        break;
    }
}

/* -------------------------------------------------------------- more lanes */

static bool
read_rail(gp_reader *r, struct sockaddr_storage *out)
{
    uint16_t family = gp_read16(r), port = gp_read16(r);
    const uint8_t *bytes = gp_read(r, family == 6 ? 16 : 4);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(port)};

    if (!bytes || !port || (family != 4 && family != 6))
        return false;
    memset(out, 0, sizeof(*out));
    if (family == 4) {
        memcpy(&v4.sin_addr, bytes, 4);
        memcpy(out, &v4, sizeof(v4));
    } else {
        memcpy(&v6.sin6_addr, bytes, 16);
        memcpy(out, &v6, sizeof(v6));
    }
    return true;
}

static void
begin_lanes(gp_endpoint *ep, uint64_t now)
{
    if (ep->attempt->lanes_begun)
        return;
    ep->attempt->lanes_begun = true;
    for (uint32_t i = 1; i < ep->lane_count; i++) {
        if (ep->lane[i]->given_up)
            continue;
        ep->lane[i]->lost_ns = gp_deadline(JOIN_SECONDS);
        gp_vb_connect_lane(ep->lane[i], now);
    }
}

void
gp_vb_connect_rails(gp_endpoint *ep, const uint8_t *bytes, size_t length)
{
    gp_vb_attempt *a = ep->attempt;
    gp_reader r = {bytes, length, true};

    if (a->rails_told)
        return;
    a->rails_told = true;
    while (r.left && a->rails < GP_VB_PATH_MAX - 1)
        if (read_rail(&r, &a->rail[a->rails]))
            a->rails++;
        else
            break;
    begin_lanes(ep, gp_clock_ns());
}

/* A further lane that never appeared costs speed, not messages. */
static void
stop_waiting(gp_vb_lane *lane)
{
    char why[sizeof(lane->cause)];

    snprintf(why, sizeof(why), "%s",
             lane->cause[0] ? lane->cause : "no answer");
    end_attempt(lane, why);
    lane->retry_ns = 0;
    lane->given_up = true;
    GP_WARN("verbs %s: goes on without lane %u: %s", lane->ep->peer,
            lane->index, lane->cause);
}

/* ----------------------------------------------------------------- timers */

static const char *
cause_of(const gp_endpoint *ep)
{
    return ep->lane[0]->cause[0] ? ep->lane[0]->cause : "no answer yet";
}

static void
report_waiting(const gp_endpoint *ep, uint64_t now)
{
    if (ep->deadline_ns == UINT64_MAX)
        GP_WARN("waiting for %s: %s, no deadline", ep->peer, cause_of(ep));
    else
        GP_WARN("waiting for %s: %s, %.0f s left", ep->peer, cause_of(ep),
                seconds(ep->deadline_ns - now));
}

static void
lane_timer(gp_vb_lane *lane, uint64_t now)
{
    gp_domain *d = lane->ep->domain;
    bool trying = lane->state == GP_VB_LANE_RESOLVING ||
                  lane->state == GP_VB_LANE_CONNECTING;
    uint64_t until;

    /* A lane that was up is judged by gp_vb_cm_timers() while it is LOST. */
    if (trying && lane->opened && gp_vb_lane_overdue(lane, now, &until)) {
        end_attempt(lane, "no answer");
        gp_vb_cm_give_up(lane, NULL);
        return;
    }
    if (!lane->opened && lane->index && lane->lost_ns && !lane->given_up &&
        now >= lane->lost_ns) {
        stop_waiting(lane);
        return;
    }
    if (trying && now >= lane->deadline_ns)
        unanswered(lane, "no answer for %.0f s", seconds(ATTEMPT_TIMEOUT));
    else if (trying)
        gp_vb_wake_at(d, lane->deadline_ns);
    if (lane->state != GP_VB_LANE_IDLE || !lane->retry_ns)
        return;
    if (now >= lane->retry_ns)
        gp_vb_connect_lane(lane, now);
    else
        gp_vb_wake_at(d, lane->retry_ns);
}

void
gp_vb_connect_timer(gp_endpoint *ep, uint64_t now)
{
    if (ep->state == GP_VB_CONNECTING && now >= ep->deadline_ns) {
        gp_vb_ep_fail(ep, GP_ERR_UNREACHABLE, "%s; tried for %.1f s",
                      cause_of(ep), seconds(now - ep->start_ns));
        return;
    }
    if (ep->state == GP_VB_CONNECTING) {
        if (now >= ep->report_ns) {
            report_waiting(ep, now);
            ep->report_ns = now + REPORT_INTERVAL;
        }
        gp_vb_wake_at(ep->domain, GP_MIN(ep->deadline_ns, ep->report_ns));
    }
    /* The first one may be lost before the peer's rails came over it. */
    if (ep->state == GP_VB_OPEN && !gp_vb_lane_usable(ep->lane[0]))
        begin_lanes(ep, now);
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->state == GP_VB_CONNECTING || ep->state == GP_VB_OPEN)
            lane_timer(ep->lane[i], now);
}
