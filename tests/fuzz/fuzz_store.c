/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_store.c - the store's server from any bytes, without sockets.
 *
 * The input is a program for three sessions on one store. Each step is a byte:
 * its low two bits choose the session (3: the clock), the next two what
 * happens, the rest a length.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rendezvous/store_session.h"

#define SESSIONS 3
#define JOB      0x6a6f62u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GIVE, TAKE, HELLO, REOPEN };

static void
give(gp_store_session *s, const uint8_t *data, size_t length)
{
    uint8_t *at = NULL;
    size_t space = 0, n;

    for (; length > 0 && (space = gp_session_space(s, &at)) > 0; length -= n) {
        if (space > GP_STORE_KEY_MAX + GP_STORE_VALUE_MAX)
            __builtin_trap();
        n = GP_MIN(space, length);
        memcpy(at, data, n);
        data += n;
        gp_session_input(s, n);
    }
}

static void
take(gp_store_session *s, size_t most)
{
    const uint8_t *at;
    size_t n = gp_session_output(s, &at);

    if (n > GP_STORE_ANSWER + GP_STORE_VALUE_MAX)
        __builtin_trap();
    if (n)
        gp_session_sent(s, GP_MIN(n, most));
}

/* A session that passed the handshake, so that requests are reached. */
static void
greet(gp_store_session *s)
{
    gp_store_hello hello = {.version = GP_STORE_VERSION, .job = JOB};
    uint8_t bytes[GP_STORE_HELLO];

    take(s, SIZE_MAX);
    gp_store_write_hello(&hello, bytes);
    give(s, bytes, sizeof(bytes));
    take(s, SIZE_MAX);
}

static void
advance_clock(gp_store_core *core, uint8_t step)
{
    core->now_ns += (uint64_t)(step >> 2) * 100000000u;
    gp_store_core_expire(core);
    while (gp_list_pop(&core->ready))
        ;
    if (gp_store_core_deadline(core) <= core->now_ns)
        __builtin_trap();
}

static void
step_session(gp_store_core *core, gp_store_session *s, uint8_t step,
             gp_reader *in)
{
    size_t length = GP_MIN((size_t)(step >> 4) * 3, in->left);

    switch (step >> 2 & 3) {
    case GIVE:
        give(s, gp_read(in, length), length);
        break;
    case TAKE:
        take(s, step >> 4 ? SIZE_MAX : 1);
        break;
    case HELLO:
        greet(s);
        break;
    default:
        gp_session_close(s);
        if (gp_session_open(core, s) != GP_OK)
            abort();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_reader in = {data, size, true};
    gp_store_core core;
    gp_store_session sessions[SESSIONS];

    if (gp_store_core_create(&core, "", JOB, 1000000000u) != GP_OK)
        return 0;
    for (int i = 0; i < SESSIONS; i++)
        if (gp_session_open(&core, &sessions[i]) != GP_OK)
            abort();
    while (in.left > 0) {
        uint8_t step = gp_read8(&in);

        if ((step & 3) == SESSIONS)
            advance_clock(&core, step);
        else
            step_session(&core, &sessions[step & 3], step, &in);
    }
    if (core.table.bytes > GP_STORE_BYTES_MAX)
        __builtin_trap();
    for (int i = 0; i < SESSIONS; i++)
        gp_session_close(&sessions[i]);
    gp_store_core_destroy(&core);
    return 0;
}
