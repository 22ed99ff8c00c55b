/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims.c - what only one member may be, and all must say alike: the
 * number of a shard, how large the job is. Who comes second hears of the first.
 */
#include "store_fixture.h"

#include <gradpush/gradpush.h>
#include <gradpush/server.h>

#include "rendezvous/reporter.h"
#include "shard/host.h"

static gp_store_server *server;

static int
open_store(void **state)
{
    (void)state;
    server = start("job", "127.0.0.1:0", "", NULL);
    return 0;
}

static int
close_store(void **state)
{
    (void)state;
    gp_store_stop(server);
    return 0;
}

/* A member of a job of two workers. */
static gp_config *
tell(const char *rank, const char *shards, const char *colocated)
{
    const char *const settings[] = {
        "size",      "2",         "rank",       rank,     "shards",
        shards,      "colocated", colocated,    "listen", "127.0.0.1",
        "transport", "tcp",       "store_host", "off"};
    gp_config *c = make_config("job");

    assert_int_equal(gp_config_set(c, "store", gp_store_server_address(server)),
                     GP_OK);
    for (size_t i = 0; i < GP_COUNT_OF(settings); i += 2)
        assert_int_equal(gp_config_set(c, settings[i], settings[i + 1]), GP_OK);
    return c;
}

static void
expect_text(const char *part)
{
    if (!strstr(gp_last_error(), part))
        fail_msg("no '%s' in: %s", part, gp_last_error());
}

static gp_status
serve(const char *shards, const char *first, gp_server **out)
{
    gp_config *c = tell("-1", shards, "off");
    gp_status status;

    assert_int_equal(gp_config_set(c, "first_shard", first), GP_OK);
    status = gp_server_create(c, out);
    gp_config_destroy(c);
    return status;
}

static gp_status
work(const char *rank, const char *shards, const char *colocated)
{
    gp_config *c = tell(rank, shards, colocated);
    gp_worker *w = NULL;
    gp_status status = gp_worker_create(c, &w);

    assert_null(w);
    gp_config_destroy(c);
    return status;
}

/* Waits until nobody claims the key any more: a connection has ended. */
static void
await_free(const char *key)
{
    gp_store *store = member(gp_store_server_address(server));
    uint64_t deadline = gp_deadline(SOON);
    char other[256];

    do
        assert_int_equal(gp_store_claim(store, key, "test", other, 256), GP_OK);
    while (other[0] && !gp_expired(deadline));
    assert_string_equal(other, "");
    gp_store_close(store);
}

static void
client_claims(void **state)
{
    gp_store *a = member(gp_store_server_address(server));
    gp_store *b = member(gp_store_server_address(server));
    char other[8], out[8];
    size_t length;

    (void)state;
    assert_int_equal(gp_store_claim(a, "k", "one two", other, 8), GP_OK);
    assert_string_equal(other, "");
    assert_int_equal(gp_store_claim(b, "k", "three", other, 8), GP_OK);
    assert_string_equal(other, "one two");
    assert_int_equal(gp_store_claim(b, "k", "three", other, 4), GP_OK);
    assert_string_equal(other, "one");
    assert_int_equal(gp_store_claim(b, "k", "one two", other, 8), GP_OK);
    assert_string_equal(other, "");
    assert_int_equal(gp_store_claim(b, "", "x", other, 8), GP_ERR_INVALID);
    gp_store_close(a);
    gp_store_close(b);
    await_free("k");
    b = member(gp_store_server_address(server));
    assert_int_equal(gp_store_claim(b, "k", "three", other, 8), GP_OK);
    assert_string_equal(other, "");
    assert_int_equal(gp_store_get(b, "k", out, 8, &length, 0), GP_OK);
    assert_int_equal(length, 5);
    assert_memory_equal(out, "three", 5);
    gp_store_close(b);
}

/* A server that takes the workers' shards for its own is there first. */
static void
worker_finds_server(void **state)
{
    gp_server *first = NULL;

    (void)state;
    assert_int_equal(serve("3", "-1", &first), GP_OK);
    assert_int_equal(work("0", "3", "on"), GP_ERR_EXISTS);
    expect_text("shard 0 is hosted by a server (process ");
    expect_text("so that worker 0 (process ");
    expect_text("set GRADPUSH_COLOCATED=on and GRADPUSH_SIZE for servers too");
    gp_server_destroy(first);
}

static void
server_finds_worker(void **state)
{
    gp_store *store = member(gp_store_server_address(server));
    gp_server *second = NULL;
    char out[64];
    size_t length;

    (void)state;
    assert_int_equal(gp_host_announce(store, 0, "worker 0", "127.0.0.1:9"),
                     GP_OK);
    assert_int_equal(serve("3", "-1", &second), GP_ERR_EXISTS);
    assert_null(second);
    expect_text("shard 0 is hosted by worker 0 (process ");
    expect_text("so that a server (process ");
    expect_text("set GRADPUSH_COLOCATED=on and GRADPUSH_SIZE for servers too");
    /* Its address has not been heard. */
    assert_int_equal(
        gp_store_get(store, "shard/0", out, sizeof(out), &length, 0), GP_OK);
    assert_memory_equal(out, "127.0.0.1:9", length);
    gp_store_close(store);
}

/* Of two servers the second is refused as long as the first one lives. */
static void
server_finds_server(void **state)
{
    gp_server *first = NULL, *second = NULL;

    (void)state;
    assert_int_equal(serve("2", "1", &first), GP_OK);
    assert_int_equal(serve("2", "1", &second), GP_ERR_EXISTS);
    expect_text("shard 1 is hosted by a server (process ");
    expect_text("a GRADPUSH_FIRST_SHARD of its own");
    gp_server_destroy(first);
    await_free("host/1");
    assert_int_equal(serve("2", "1", &second), GP_OK);
    gp_server_destroy(second);
}

static void
worker_finds_worker(void **state)
{
    gp_store *store = member(gp_store_server_address(server));

    (void)state;
    assert_int_equal(gp_host_announce(store, 1, "worker 1", "127.0.0.1:9"),
                     GP_OK);
    assert_int_equal(work("1", "2", "on"), GP_ERR_EXISTS);
    expect_text("shard 1 is hosted by worker 1 (process ");
    expect_text("a GRADPUSH_RANK of its own");
    gp_store_close(store);
}

/* Those who say the same are one job, whoever of them stays the longest. */
static void
sizes_differ(void **state)
{
    gp_store *a = member(gp_store_server_address(server));
    gp_store *b = member(gp_store_server_address(server));
    char out[64];
    size_t length;

    (void)state;
    assert_int_equal(gp_status_announce(a, 4, 1, false), GP_OK);
    assert_int_equal(gp_status_announce(b, 4, 1, false), GP_OK);
    gp_store_close(a);
    assert_int_equal(work("0", "3", "on"), GP_ERR_MISMATCH);
    expect_text("2 workers and 3 co-located shards");
    expect_text("4 workers and 1 stand-alone shard:");
    expect_text("GRADPUSH_SIZE, GRADPUSH_SHARDS");
    assert_int_equal(
        gp_store_get(b, GP_STATUS_JOB, out, sizeof(out), &length, 0), GP_OK);
    assert_int_equal(length, 5);
    assert_memory_equal(out, "4 1 0", 5);
    gp_store_close(b);
    await_free(GP_STATUS_JOB);
    a = member(gp_store_server_address(server));
    assert_int_equal(gp_status_announce(a, 1, 2, true), GP_OK);
    gp_store_close(a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(client_claims, open_store, close_store),
        cmocka_unit_test_setup_teardown(worker_finds_server, open_store,
                                        close_store),
        cmocka_unit_test_setup_teardown(server_finds_worker, open_store,
                                        close_store),
        cmocka_unit_test_setup_teardown(server_finds_server, open_store,
                                        close_store),
        cmocka_unit_test_setup_teardown(worker_finds_worker, open_store,
                                        close_store),
        cmocka_unit_test_setup_teardown(sizes_differ, open_store, close_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
