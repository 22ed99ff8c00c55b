/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_session.c - the store's protocol, one connection at a time.
 *
 * Memory is bounded by construction: a session asks for exactly the bytes of
 * the next message, takes no new message before its answer is sent, and before
 * the peer has proven itself it owns nothing beyond its own struct.
 */
#include "rendezvous/store_session.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rendezvous/reporter.h"

struct gp_store_owned {
    gp_store_owned *next;
    bool claimed; /* else it is an answer */
    size_t key_length;
    uint8_t key[];
};

gp_status
gp_store_core_create(gp_store_core *core, const char *token, uint64_t job,
                     uint64_t handshake_ns)
{
    gp_status status;

    memset(core, 0, sizeof(*core));
    status = gp_store_table_create(&core->table);
    if (status != GP_OK)
        return status;
    core->token = token;
    core->job = job;
    core->handshake_ns = handshake_ns;
    core->next_wait_ns = UINT64_MAX;
    gp_list_init(&core->young);
    gp_list_init(&core->waiters);
    gp_list_init(&core->ready);
    return GP_OK;
}

void
gp_store_core_destroy(gp_store_core *core)
{
    gp_store_table_destroy(&core->table);
}

static void
expect(gp_store_session *s, gp_session_state state, size_t bytes)
{
    s->state = state;
    s->have = 0;
    s->want = bytes;
}

gp_status
gp_session_open(gp_store_core *core, gp_store_session *s)
{
    gp_store_greeting greeting = {.version = GP_STORE_VERSION};
    gp_status status;

    memset(s, 0, sizeof(*s));
    s->output = s->small;
    gp_list_init(&s->link);
    gp_list_init(&s->ready);
    status = gp_random(s->nonce, sizeof(s->nonce));
    if (status != GP_OK)
        return status;
    memcpy(greeting.nonce, s->nonce, sizeof(greeting.nonce));
    gp_store_write_greeting(&greeting, s->small);
    s->core = core;
    s->output_length = GP_STORE_GREETING;
    s->deadline_ns = core->now_ns + core->handshake_ns;
    gp_list_insert(&core->young, &s->link);
    expect(s, GP_SESSION_PREFIX, GP_STORE_PREFIX);
    return GP_OK;
}

static void
drop_output(gp_store_session *s)
{
    if (s->output != s->small)
        free(s->output);
    s->output = s->small;
    s->output_length = s->output_sent = 0;
}

static void
drop_body(gp_store_session *s)
{
    free(s->body);
    s->body = NULL;
}

static void
end(gp_store_session *s)
{
    gp_list_remove(&s->link);
    drop_body(s);
    expect(s, GP_SESSION_OVER, 0);
}

static void
make_ready(gp_store_session *s)
{
    gp_list_remove(&s->ready);
    gp_list_insert(&s->core->ready, &s->ready);
}

static void
answer(gp_store_session *s, gp_status status, const void *value, size_t length)
{
    gp_store_answer head = {.status = status,
                            .value_length = (uint32_t)length,
                            .sequence = s->request.sequence};
    size_t bytes = GP_STORE_ANSWER + length;

    drop_body(s);
    if (bytes > sizeof(s->small)) {
        s->output = malloc(bytes);
        if (!s->output) {
            s->output = s->small;
            head.status = GP_ERR_NO_MEMORY;
            head.value_length = 0;
            bytes = GP_STORE_ANSWER;
            length = 0;
        }
    }
    gp_store_write_answer(&head, s->output);
    if (length)
        memcpy(s->output + GP_STORE_ANSWER, value, length);
    s->output_length = bytes;
    expect(s, GP_SESSION_HEAD, GP_STORE_REQUEST);
}

/* A watch waits for another value than the one it knows. */
static bool
is_known(const gp_store_session *s, const void *value, size_t length)
{
    return s->request.op == GP_STORE_WATCH &&
           length == s->request.value_length &&
           memcmp(value, s->body + s->request.key_length, length) == 0;
}

/* True when the key is there: the get is answered. */
static bool
answer_get(gp_store_session *s)
{
    size_t length = 0;
    const void *value = gp_store_table_get(&s->core->table, s->body,
                                           s->request.key_length, &length);

    if (!value || is_known(s, value, length))
        return false;
    answer(s, GP_OK, value, length);
    return true;
}

/* The gets that waited for this key have an answer now. */
static void
wake_waiters(gp_store_core *core, const uint8_t *key, size_t key_length)
{
    GP_LIST_EACH (item, &core->waiters) {
        gp_store_session *s = GP_CONTAINER_OF(item, gp_store_session, link);

        if (s->request.key_length != key_length ||
            memcmp(s->body, key, key_length) != 0 || !answer_get(s))
            continue;
        gp_list_remove(&s->link);
        make_ready(s);
    }
}

static bool
is_answer(const uint8_t *key, size_t key_length)
{
    static const char *const prefixes[] = {GP_STATUS_WORKER, GP_STATUS_SHARD};

    for (size_t i = 0; i < GP_COUNT_OF(prefixes); i++)
        if (key_length > strlen(prefixes[i]) &&
            memcmp(key, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static bool
has_owned(const gp_store_session *s, bool claimed, const uint8_t *key,
          size_t key_length)
{
    const gp_store_owned *o = s->owned;

    while (o && (o->claimed != claimed || o->key_length != key_length ||
                 memcmp(o->key, key, key_length) != 0))
        o = o->next;
    return o != NULL;
}

static bool
add_owned(gp_store_session *s, bool claimed, const uint8_t *key,
          size_t key_length)
{
    gp_store_owned *o = s->owned_count < GP_STORE_OWNED_MAX
                            ? malloc(sizeof(*o) + key_length)
                            : NULL;

    if (!o)
        return false;
    *o = (gp_store_owned){
        .next = s->owned, .claimed = claimed, .key_length = key_length};
    memcpy(o->key, key, key_length);
    s->owned = o;
    s->owned_count++;
    return true;
}

/* Without memory for it nobody is told of its end. */
static void
own(gp_store_session *s, const uint8_t *key, size_t key_length)
{
    if (has_owned(s, false, key, key_length) ||
        add_owned(s, false, key, key_length))
        gp_store_table_own(&s->core->table, key, key_length, s);
}

/* Once for each connection, however often it says so. */
static void
hold(gp_store_session *s, const uint8_t *key, size_t key_length)
{
    if (!has_owned(s, true, key, key_length) &&
        add_owned(s, true, key, key_length))
        gp_store_table_hold(&s->core->table, key, key_length, 1);
}

static void
say_gone(gp_store_session *s, const gp_store_owned *o)
{
    if (gp_store_table_set(&s->core->table, o->key, o->key_length,
                           GP_STORE_GONE, strlen(GP_STORE_GONE)) == GP_OK)
        wake_waiters(s->core, o->key, o->key_length);
}

/* Who has come in its place has set an answer's key since. */
static void
disown(gp_store_session *s)
{
    gp_store_table *table = s->core ? &s->core->table : NULL;
    gp_store_owned *o;

    while ((o = s->owned) != NULL) {
        s->owned = o->next;
        if (o->claimed)
            gp_store_table_hold(table, o->key, o->key_length, -1);
        else if (gp_store_table_owner(table, o->key, o->key_length) == s)
            say_gone(s, o);
        free(o);
    }
    s->owned_count = 0;
}

void
gp_session_close(gp_store_session *s)
{
    gp_list_remove(&s->link);
    gp_list_remove(&s->ready);
    drop_output(s);
    drop_body(s);
    s->state = GP_SESSION_OVER;
    disown(s);
}

static void
wait_for_key(gp_store_session *s)
{
    gp_store_core *core = s->core;

    s->deadline_ns = core->now_ns + (uint64_t)s->request.wait_ms * 1000000u;
    core->next_wait_ns = GP_MIN(core->next_wait_ns, s->deadline_ns);
    gp_list_insert(&core->waiters, &s->link);
    expect(s, GP_SESSION_WAIT, 0);
}

static void
execute_add(gp_store_session *s)
{
    uint16_t key_length = s->request.key_length;
    int64_t delta = (int64_t)gp_get64(s->body + key_length), sum = 0;
    uint8_t value[8];
    gp_status status =
        gp_store_table_add(&s->core->table, s->body, key_length, delta, &sum);

    if (status == GP_OK)
        wake_waiters(s->core, s->body, key_length);
    gp_put64(value, (uint64_t)sum);
    answer(s, status, value, status == GP_OK ? sizeof(value) : 0);
}

/* The first one's value stays while a connection that claimed it lasts. */
static void
execute_claim(gp_store_session *s)
{
    gp_store_table *table = &s->core->table;
    const uint8_t *key = s->body, *value = key + s->request.key_length;
    size_t key_length = s->request.key_length, length = 0;
    const void *now = gp_store_table_get(table, key, key_length, &length);
    bool same = now && length == s->request.value_length &&
                memcmp(now, value, length) == 0;
    gp_status status = GP_OK;

    if (!same && gp_store_table_holders(table, key, key_length) > 0) {
        answer(s, GP_ERR_REFUSED, now, length);
        return;
    }
    if (!same)
        status = gp_store_table_set(table, key, key_length, value,
                                    s->request.value_length);
    if (status == GP_OK)
        hold(s, key, key_length);
    if (status == GP_OK && !same)
        wake_waiters(s->core, key, key_length);
    answer(s, status, NULL, 0);
}

static void
execute(gp_store_session *s)
{
    const gp_store_request *r = &s->request;
    gp_status status;

    switch (r->op) {
    case GP_STORE_SET:
        status = gp_store_table_set(&s->core->table, s->body, r->key_length,
                                    s->body + r->key_length, r->value_length);
        if (status == GP_OK && is_answer(s->body, r->key_length))
            own(s, s->body, r->key_length);
        if (status == GP_OK)
            wake_waiters(s->core, s->body, r->key_length);
        answer(s, status, NULL, 0);
        break;
    case GP_STORE_GET:
    case GP_STORE_WATCH:
        if (answer_get(s))
            break;
        if (r->wait_ms == 0)
            answer(s, GP_ERR_TIMEOUT, NULL, 0);
        else
            wait_for_key(s);
        break;
    case GP_STORE_CLAIM:
        execute_claim(s);
        break;
    default:
        execute_add(s);
    }
}

/* The last thing a peer hears before its connection is closed. */
static void
refuse(gp_store_session *s, gp_status why)
{
    gp_store_verdict verdict = {.status = why, .version = GP_STORE_VERSION};

    s->refusal = why;
    end(s);
    gp_store_write_verdict(&verdict, s->small);
    s->output_length = GP_STORE_VERDICT;
}

static void
take_prefix(gp_store_session *s)
{
    uint16_t version = 0;

    if (!gp_store_read_prefix(s->input, &version)) {
        s->refusal = GP_ERR_PROTOCOL;
        end(s);
    } else if (version != GP_STORE_VERSION) {
        refuse(s, GP_ERR_VERSION);
    } else {
        s->state = GP_SESSION_HELLO;
        s->want = GP_STORE_HELLO;
    }
}

/* Whether the peer may come in: the job first, because a wrong job's token is
 * wrong as well and the message about the job is the helpful one. */
static gp_status
judge(gp_store_session *s, const gp_store_hello *hello,
      gp_store_verdict *verdict)
{
    const gp_store_core *core = s->core;
    uint8_t expected[GP_TOKEN_PROOF];

    if (hello->job != core->job)
        return GP_ERR_REFUSED;
    if (gp_store_prove(core->token, GP_STORE_MEMBER, s->nonce, hello->nonce,
                       core->job, expected) != GP_OK)
        return GP_ERR_SYSTEM;
    if (!gp_token_equal(expected, hello->proof))
        return GP_ERR_AUTH;
    return gp_store_prove(core->token, GP_STORE_HOST, hello->nonce, s->nonce,
                          core->job, verdict->proof);
}

static void
take_hello(gp_store_session *s)
{
    gp_store_verdict verdict = {.status = GP_OK, .version = GP_STORE_VERSION};
    gp_store_hello hello;
    gp_status status = GP_ERR_PROTOCOL;

    if (gp_store_read_hello(s->input, &hello))
        status = judge(s, &hello, &verdict);
    if (status != GP_OK) {
        refuse(s, status);
        return;
    }
    s->proven = true;
    gp_list_remove(&s->link);
    gp_store_write_verdict(&verdict, s->small);
    s->output_length = GP_STORE_VERDICT;
    expect(s, GP_SESSION_HEAD, GP_STORE_REQUEST);
}

static void
take_head(gp_store_session *s)
{
    size_t bytes;

    if (!gp_store_read_request(s->input, &s->request)) {
        answer(s, GP_ERR_PROTOCOL, NULL, 0);
        end(s);
        return;
    }
    bytes = (size_t)s->request.key_length + s->request.value_length;
    s->body = malloc(bytes);
    if (!s->body) {
        answer(s, GP_ERR_NO_MEMORY, NULL, 0);
        end(s);
        return;
    }
    expect(s, GP_SESSION_BODY, bytes);
}

size_t
gp_session_space(gp_store_session *s, uint8_t **at)
{
    if (s->output_length || s->state == GP_SESSION_WAIT ||
        s->state == GP_SESSION_OVER)
        return 0;
    *at = (s->state == GP_SESSION_BODY ? s->body : s->input) + s->have;
    return s->want - s->have;
}

void
gp_session_input(gp_store_session *s, size_t length)
{
    s->have += length;
    if (s->have < s->want)
        return;
    switch (s->state) {
    case GP_SESSION_PREFIX:
        take_prefix(s);
        break;
    case GP_SESSION_HELLO:
        take_hello(s);
        break;
    case GP_SESSION_HEAD:
        take_head(s);
        break;
    case GP_SESSION_BODY:
        execute(s);
        break;
    default:
        break;
    }
}

size_t
gp_session_output(const gp_store_session *s, const uint8_t **at)
{
    *at = s->output + s->output_sent;
    return s->output_length - s->output_sent;
}

void
gp_session_sent(gp_store_session *s, size_t length)
{
    s->output_sent += length;
    if (s->output_sent >= s->output_length)
        drop_output(s);
}

bool
gp_session_over(const gp_store_session *s)
{
    return s->state == GP_SESSION_OVER && s->output_length == 0;
}

/* Waits that ended, and the earliest of those that go on. */
static void
expire_waits(gp_store_core *core)
{
    uint64_t next = UINT64_MAX;

    if (core->now_ns < core->next_wait_ns)
        return;
    GP_LIST_EACH (item, &core->waiters) {
        gp_store_session *s = GP_CONTAINER_OF(item, gp_store_session, link);

        if (core->now_ns < s->deadline_ns) {
            next = GP_MIN(next, s->deadline_ns);
            continue;
        }
        gp_list_remove(&s->link);
        answer(s, GP_ERR_TIMEOUT, NULL, 0);
        make_ready(s);
    }
    core->next_wait_ns = next;
}

void
gp_store_core_expire(gp_store_core *core)
{
    expire_waits(core);
    while (!gp_list_empty(&core->young)) {
        gp_store_session *s =
            GP_CONTAINER_OF(core->young.next, gp_store_session, link);

        if (core->now_ns < s->deadline_ns)
            break;
        s->refusal = GP_ERR_TIMEOUT;
        drop_output(s);
        end(s);
        make_ready(s);
    }
}

uint64_t
gp_store_core_deadline(const gp_store_core *core)
{
    uint64_t next = core->next_wait_ns;

    if (!gp_list_empty(&core->young)) {
        const gp_store_session *s =
            GP_CONTAINER_OF(core->young.next, gp_store_session, link);

        next = GP_MIN(next, s->deadline_ns);
    }
    return next;
}
