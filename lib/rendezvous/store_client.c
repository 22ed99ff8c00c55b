/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_client.c - set, claim, get and add for a member of the job.
 *
 * One request is under way at a time. After any failure of the connection it is
 * closed: an answer that comes late must not be taken for the next one's.
 */
#include "rendezvous/store_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* A wait ends at the server; its answer has this long to arrive, also from a
 * machine that stands still for a second. */
#define GRACE_NS 2000000000u

#define WAIT_MS_MAX 86400000u

void
gp_store_close(gp_store *store)
{
    if (!store)
        return;
    gp_store_disconnect(store);
    if (store->token)
        explicit_bzero(store->token, strlen(store->token));
    free(store->token);
    free(store);
}

void
gp_store_stop_by(gp_store *store, int fd)
{
    store->stop_fd = fd;
}

static gp_status
prepare(const gp_config *config, const char *address, const char *token,
        gp_store *store)
{
    const char *job = gp_config_get(config, "job");

    store->fd = store->stop_fd = -1;
    store->job = gp_hash(job, strlen(job));
    store->timeout = gp_config_seconds(config, "timeout");
    store->handshake = gp_config_seconds(config, "handshake_timeout");
    snprintf(store->job_name, sizeof(store->job_name), "%s", job);
    if (strlen(address) >= sizeof(store->address))
        return gp_fail(GP_ERR_ADDRESS, "the store's address is too long");
    memcpy(store->address, address, strlen(address) + 1);
    store->token = strdup(token);
    if (!store->token)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the store's client");
    return GP_OK;
}

gp_status
gp_store_connect(const gp_config *config, const char *address,
                 const char *token, uint64_t deadline_ns, gp_store **out)
{
    gp_store *store = calloc(1, sizeof(*store));
    gp_status status;

    if (!store)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the store's client");
    status = prepare(config, address, token, store);
    if (status == GP_OK)
        status = gp_store_reach(store, deadline_ns);
    if (status != GP_OK) {
        gp_store_close(store);
        return status;
    }
    *out = store;
    return GP_OK;
}

static gp_status
send_request(gp_store *store, gp_store_request *request, const char *key,
             const void *value, uint64_t deadline_ns)
{
    uint8_t bytes[GP_STORE_REQUEST + GP_STORE_KEY_MAX];
    gp_status status;

    request->sequence = ++store->sequence;
    gp_store_write_request(request, bytes);
    memcpy(bytes + GP_STORE_REQUEST, key, request->key_length);
    status = gp_store_send(store, bytes,
                           GP_STORE_REQUEST + (size_t)request->key_length,
                           deadline_ns);
    if (status == GP_OK && request->value_length)
        status =
            gp_store_send(store, value, request->value_length, deadline_ns);
    return status;
}

/* The answer's head; its value goes to store->value. */
static gp_status
receive_answer(gp_store *store, gp_store_answer *answer, uint64_t deadline_ns)
{
    uint8_t bytes[GP_STORE_ANSWER];
    gp_status status =
        gp_store_receive(store, bytes, sizeof(bytes), deadline_ns);

    if (status != GP_OK)
        return status;
    if (!gp_store_read_answer(bytes, answer) ||
        answer->sequence != store->sequence)
        return gp_fail(GP_ERR_PROTOCOL,
                       "the store at %s sent an answer that cannot be read",
                       store->address);
    return gp_store_receive(store, store->value, answer->value_length,
                            deadline_ns);
}

/* One request and its answer. */
static gp_status
exchange(gp_store *store, gp_store_request *request, const char *key,
         const void *value, gp_store_answer *answer, uint64_t deadline_ns)
{
    size_t key_length = strlen(key);
    gp_status status = GP_OK;

    if (key_length < 1 || key_length > GP_STORE_KEY_MAX)
        return gp_fail(GP_ERR_INVALID,
                       "a key of the store has 1 to %u bytes, not %zu",
                       GP_STORE_KEY_MAX, key_length);
    request->key_length = (uint16_t)key_length;
    if (store->fd < 0)
        status = gp_store_reach(store, deadline_ns);
    if (status == GP_OK)
        status = send_request(store, request, key, value, deadline_ns);
    if (status == GP_OK)
        status = receive_answer(store, answer, deadline_ns);
    if (status != GP_OK)
        gp_store_disconnect(store);
    return status;
}

/* What the server could not do. */
static gp_status
explain_answer(const gp_store *store, int32_t code, const char *key)
{
    switch (code) {
    case GP_OK:
        return GP_OK;
    case GP_ERR_TIMEOUT:
        return gp_fail(GP_ERR_TIMEOUT,
                       "the key '%s' did not appear in the store at %s in time",
                       key, store->address);
    case GP_ERR_TOO_LARGE:
        return gp_fail(GP_ERR_TOO_LARGE,
                       "the store at %s is full: no room for the key '%s'",
                       store->address, key);
    case GP_ERR_INVALID:
        return gp_fail(GP_ERR_INVALID,
                       "the key '%s' of the store at %s is no counter, or the "
                       "sum does not fit 64 bits",
                       key, store->address);
    case GP_ERR_NO_MEMORY:
        return gp_fail(GP_ERR_NO_MEMORY,
                       "the process of the store at %s is out of memory",
                       store->address);
    default:
        return gp_fail(GP_ERR_PROTOCOL,
                       "the store at %s answered with code %d for the key '%s'",
                       store->address, (int)code, key);
    }
}

gp_status
gp_store_set(gp_store *store, const char *key, const void *value, size_t length)
{
    gp_store_request request = {.op = GP_STORE_SET,
                                .value_length = (uint32_t)length};
    gp_store_answer answer;
    gp_status status;

    if (length > GP_STORE_VALUE_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "a value of the store has at most %u bytes, not %zu",
                       GP_STORE_VALUE_MAX, length);
    status = exchange(store, &request, key, value, &answer,
                      gp_deadline(store->timeout));
    return status == GP_OK ? explain_answer(store, answer.status, key) : status;
}

gp_status
gp_store_claim(gp_store *store, const char *key, const char *text, char *other,
               size_t capacity)
{
    gp_store_request request = {.op = GP_STORE_CLAIM,
                                .value_length = (uint32_t)strlen(text)};
    gp_store_answer answer;
    size_t length;
    gp_status status;

    other[0] = '\0';
    status = exchange(store, &request, key, text, &answer,
                      gp_deadline(store->timeout));
    if (status != GP_OK)
        return status;
    if (answer.status != GP_ERR_REFUSED)
        return explain_answer(store, answer.status, key);
    length = GP_MIN((size_t)answer.value_length, capacity - 1);
    memcpy(other, store->value, length);
    other[length] = '\0';
    return GP_OK;
}

static uint32_t
wait_of(uint64_t deadline_ns)
{
    int ms = gp_deadline_ms(deadline_ns);

    return ms < 0 ? WAIT_MS_MAX : GP_MIN((uint32_t)ms, WAIT_MS_MAX);
}

/* A deadline that has passed still asks once, without waiting. */
static gp_status
get_once(gp_store *store, gp_store_request request, const char *key,
         const void *known, uint64_t deadline_ns, gp_store_answer *answer)
{
    uint64_t end;

    request.wait_ms = wait_of(deadline_ns);
    end = gp_clock_ns() + (uint64_t)request.wait_ms * 1000000u;
    return exchange(store, &request, key, known, answer, end + GRACE_NS);
}

static gp_status
get(gp_store *store, gp_store_request request, const char *key,
    const void *known, void *out, size_t capacity, size_t *length,
    uint64_t deadline_ns)
{
    gp_store_answer answer;
    gp_status status;

    do {
        status = get_once(store, request, key, known, deadline_ns, &answer);
        if (status != GP_OK)
            return status;
    } while (answer.status == GP_ERR_TIMEOUT && !gp_expired(deadline_ns));
    if (answer.status != GP_OK)
        return explain_answer(store, answer.status, key);
    if (answer.value_length > capacity)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "the value of '%s' has %u bytes; %zu fit", key,
                       answer.value_length, capacity);
    memcpy(out, store->value, answer.value_length);
    *length = answer.value_length;
    return GP_OK;
}

gp_status
gp_store_get(gp_store *store, const char *key, void *out, size_t capacity,
             size_t *length, uint64_t deadline_ns)
{
    const gp_store_request request = {.op = GP_STORE_GET};

    return get(store, request, key, NULL, out, capacity, length, deadline_ns);
}

gp_status
gp_store_watch(gp_store *store, const char *key, const void *known,
               size_t known_length, void *out, size_t capacity, size_t *length,
               uint64_t deadline_ns)
{
    const gp_store_request request = {.op = GP_STORE_WATCH,
                                      .value_length = (uint32_t)known_length};

    if (known_length > GP_STORE_VALUE_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "a value of the store has at most %u bytes, not %zu",
                       GP_STORE_VALUE_MAX, known_length);
    return get(store, request, key, known, out, capacity, length, deadline_ns);
}

gp_status
gp_store_add(gp_store *store, const char *key, int64_t delta, int64_t *out)
{
    gp_store_request request = {.op = GP_STORE_ADD, .value_length = 8};
    gp_store_answer answer;
    uint8_t bytes[8];
    gp_status status;

    gp_put64(bytes, (uint64_t)delta);
    status = exchange(store, &request, key, bytes, &answer,
                      gp_deadline(store->timeout));
    if (status == GP_OK)
        status = explain_answer(store, answer.status, key);
    if (status == GP_OK && answer.value_length != 8)
        status = gp_fail(GP_ERR_PROTOCOL,
                         "the store at %s sent a counter of %u bytes",
                         store->address, answer.value_length);
    if (status == GP_OK)
        *out = (int64_t)gp_get64(store->value);
    return status;
}
