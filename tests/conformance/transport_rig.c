/* SPDX-License-Identifier: Apache-2.0 */
/* transport_rig.c - see transport_rig.h. */
#include "tests/conformance/transport_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEADLINE_SECONDS 120.0
#define SLOW             5.0 /* times as long with TEST_SLOW in the environment */
#define EVENTS           32
#define PIECE            512

rig_kind rig_of;
void (*rig_turn)(void);
bool (*rig_busy)(void);

uint64_t
test_deadline(void)
{
    return gp_deadline(DEADLINE_SECONDS * (getenv("TEST_SLOW") ? SLOW : 1));
}

static void
assert_ok(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s: %s", gp_status_name(status), gp_last_error());
}

void
side_open(side *s, const rig *r)
{
    memset(s, 0, sizeof(*s));
    s->ops = r->ops;
    s->max = EVENTS;
    assert_ok(s->ops->open(r->config, &s->domain));
}

void
side_forget(side *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->log[i].copy);
    s->count = 0;
}

void
side_close(side *s)
{
    side_forget(s);
    free(s->log);
    s->ops->close(s->domain);
    if (s->mem)
        s->ops->mem_dereg(s->mem);
    free(s->memory);
    memset(s, 0, sizeof(*s));
}

void
rig_open(rig *r)
{
    memset(r, 0, sizeof(*r));
    r->ops = rig_of.ops;
    assert_ok(gp_config_create(&r->config));
    for (size_t i = 0; rig_of.settings[i]; i += 2)
        assert_ok(gp_config_set(r->config, rig_of.settings[i],
                                rig_of.settings[i + 1]));
    side_open(&r->a, r);
    side_open(&r->b, r);
}

static void
append(side *s, const gp_event *event)
{
    seen *entry;

    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->log = realloc(s->log, s->capacity * sizeof(*s->log));
        assert_non_null(s->log);
    }
    entry = &s->log[s->count++];
    *entry = (seen){.event = *event};
    if (event->type != GP_EVENT_MESSAGE || event->msg.region ||
        !event->msg.payload)
        return;
    entry->copy = malloc((size_t)event->msg.payload);
    assert_non_null(entry->copy);
    memcpy(entry->copy, event->payload, (size_t)event->msg.payload);
}

void
side_pump(side *s)
{
    gp_event events[EVENTS];
    int n;

    if (!s->domain)
        return;
    n = s->ops->progress(s->domain, events, s->max);
    assert_true(n >= 0 && n <= s->max);
    for (int i = 0; i < n; i++) {
        append(s, &events[i]);
        if (events[i].type == GP_EVENT_ACCEPTED ||
            events[i].type == GP_EVENT_CONNECTED)
            s->ep = events[i].ep;
    }
}

void
pump(rig *r)
{
    if (rig_turn)
        rig_turn();
    side_pump(&r->a);
    side_pump(&r->b);
}

size_t
side_count(const side *s, gp_event_type type)
{
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++)
        count += s->log[i].event.type == type;
    return count;
}

const seen *
side_nth(const side *s, gp_event_type type, size_t n)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->log[i].event.type == type && n-- == 0)
            return &s->log[i];
    return NULL;
}

void
await(rig *r, const side *s, gp_event_type type, size_t n)
{
    uint64_t deadline = test_deadline();

    while (side_count(s, type) < n) {
        if (gp_expired(deadline))
            fail_msg("waited for %zu events of type %d, saw %zu", n, type,
                     side_count(s, type));
        pump(r);
    }
}

void
settle(rig *r)
{
    uint64_t deadline = test_deadline();
    int quiet = 0;

    while (quiet < 100) {
        size_t before = r->a.count + r->b.count;

        assert_false(gp_expired(deadline));
        pump(r);
        quiet = before == r->a.count + r->b.count ? quiet + 1 : 0;
        if (rig_busy && rig_busy())
            quiet = 0;
    }
}

void
rig_connect(rig *r)
{
    gp_endpoint *ep = NULL;

    if (!*r->bound)
        assert_ok(r->ops->listen(r->b.domain, rig_of.listen, r->bound,
                                 sizeof(r->bound)));
    assert_ok(r->ops->connect(r->a.domain, r->bound, test_deadline(), &ep));
    await(r, &r->a, GP_EVENT_CONNECTED, 1);
    await(r, &r->b, GP_EVENT_ACCEPTED, 1);
    assert_ptr_equal(r->a.ep, ep);
}

void
rig_connected(rig *r)
{
    rig_open(r);
    rig_connect(r);
    side_forget(&r->a);
    side_forget(&r->b);
}

void
rig_close(rig *r)
{
    if (r->a.domain)
        side_close(&r->a);
    if (r->b.domain)
        side_close(&r->b);
    gp_config_destroy(r->config);
}

void
side_expose(side *s, size_t bytes, uint32_t flags)
{
    s->memory = malloc(bytes);
    assert_non_null(s->memory);
    memset(s->memory, 0xEE, bytes);
    s->bytes = bytes;
    assert_ok(s->ops->mem_reg(s->domain, s->memory, bytes, &s->mem));
    assert_ok(s->ops->expose(s->ep, s->mem, 0, bytes, flags, &s->token));
    assert_int_not_equal(s->token, 0);
}

gp_msg
control_msg(uint64_t aux, size_t payload)
{
    return (gp_msg){.type = 1, .aux = aux, .payload = payload};
}

gp_msg
data_msg(uint32_t token, uint64_t offset, size_t payload)
{
    return (gp_msg){
        .type = 2, .region = token, .offset = offset, .payload = payload};
}

void
post(rig *r, side *s, const gp_msg *msg, const void *payload, uint64_t cookie)
{
    uint64_t deadline = test_deadline();
    gp_status status;

    while ((status = s->ops->post(s->ep, msg, payload, NULL, cookie)) ==
           GP_AGAIN) {
        assert_false(gp_expired(deadline));
        pump(r);
    }
    assert_ok(status);
}

void
flush(side *s)
{
    assert_ok(s->ops->flush(s->ep));
}

void
send_control(rig *r, side *s, uint64_t aux)
{
    gp_msg msg = control_msg(aux, 0);

    post(r, s, &msg, NULL, 0);
    flush(s);
}

/* ThreadSanitizer looks at each byte that is written here, and at whole ranges
 * that are copied or compared: a pattern is made out of its sight. */
__attribute__((no_sanitize("thread"))) static void
make_pattern(uint8_t *bytes, size_t length, uint64_t seed, size_t first)
{
    for (size_t i = 0; i < length; i++) {
        size_t at = first + i;

        bytes[i] =
            (uint8_t)((seed * 131 + at * 7 + (at >> 8) * 13 + (at >> 16)) &
                      0xFF);
    }
}

void
fill_pattern(uint8_t *bytes, size_t length, uint64_t seed)
{
    uint8_t piece[PIECE];

    for (size_t i = 0, n; i < length; i += n) {
        n = length - i < PIECE ? length - i : PIECE;
        make_pattern(piece, n, seed, i);
        memcpy(bytes + i, piece, n);
    }
}

void
assert_pattern(const uint8_t *bytes, size_t length, uint64_t seed)
{
    uint8_t piece[PIECE];

    for (size_t i = 0, n; i < length; i += n) {
        n = length - i < PIECE ? length - i : PIECE;
        make_pattern(piece, n, seed, i);
        if (!memcmp(bytes + i, piece, n))
            continue;
        for (size_t j = 0; j < n; j++)
            if (bytes[i + j] != piece[j])
                fail_msg("byte %zu of %zu is %u, not %u", i + j, length,
                         bytes[i + j], piece[j]);
    }
}
