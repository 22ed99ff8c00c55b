/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store.c - the store as members use it: requests, waits, addresses.
 */
#include <signal.h>
#include <sys/prctl.h>

#include "store_fixture.h"

static void
test_set_get_add(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *a = member(gp_store_server_address(server));
    gp_store *b = member(gp_store_server_address(server));
    char out[16] = "untouched";
    size_t length = 99;
    int64_t sum = 0;

    (void)state;
    assert_int_equal(gp_store_set(a, "k", "a\0b", 3), GP_OK);
    assert_int_equal(gp_store_get(b, "k", out, 2, &length, gp_deadline(SOON)),
                     GP_ERR_TOO_LARGE);
    assert_string_equal(out, "untouched");
    assert_int_equal(length, 99);
    assert_int_equal(
        gp_store_get(b, "k", out, sizeof(out), &length, gp_deadline(SOON)), 0);
    assert_int_equal(length, 3);
    assert_memory_equal(out, "a\0b", 3);
    assert_int_equal(gp_store_set(b, "k", NULL, 0), GP_OK);
    assert_int_equal(gp_store_get(a, "k", out, 0, &length, 0), GP_OK);
    assert_int_equal(length, 0);
    assert_int_equal(gp_store_add(a, "n", 5, &sum), GP_OK);
    assert_int_equal(gp_store_add(b, "n", -7, &sum), GP_OK);
    assert_int_equal(sum, -2);
    assert_int_equal(gp_store_add(a, "k", 1, &sum), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "'k'"));
    assert_int_equal(sum, -2);
    gp_store_close(a);
    gp_store_close(b);
    gp_store_close(NULL);
    gp_store_stop(server);
    gp_store_stop(NULL);
}

static void
test_limits(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *store = member(gp_store_server_address(server));
    uint8_t *big = malloc(2 * (GP_STORE_VALUE_MAX + 1));
    uint8_t *back = big + GP_STORE_VALUE_MAX + 1;
    char key[258];
    size_t length = 0;

    (void)state;
    for (size_t i = 0; i < GP_STORE_VALUE_MAX; i++)
        big[i] = (uint8_t)(i * 31 >> 3);
    memset(key, 'k', sizeof(key));
    key[256] = '\0';
    assert_int_equal(gp_store_set(store, key, "", 0), GP_ERR_INVALID);
    assert_int_equal(gp_store_set(store, "", "", 0), GP_ERR_INVALID);
    key[255] = '\0';
    assert_int_equal(gp_store_set(store, key, big, GP_STORE_VALUE_MAX + 1),
                     GP_ERR_TOO_LARGE);
    assert_int_equal(gp_store_set(store, key, big, GP_STORE_VALUE_MAX), GP_OK);
    assert_int_equal(
        gp_store_get(store, key, back, GP_STORE_VALUE_MAX, &length, 0), GP_OK);
    assert_int_equal(length, GP_STORE_VALUE_MAX);
    assert_memory_equal(big, back, GP_STORE_VALUE_MAX);
    free(big);
    gp_store_close(store);
    gp_store_stop(server);
}

/* A wait that ends by its deadline leaves the connection in order. */
static void
test_get_deadline(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *store = member(gp_store_server_address(server));
    char out[16];
    size_t length = 0;
    uint64_t begin = gp_clock_ns();

    (void)state;
    assert_int_equal(gp_store_get(store, "later", out, sizeof(out), &length,
                                  gp_deadline(0.05)),
                     GP_ERR_TIMEOUT);
    assert_true(gp_clock_ns() - begin >= 50000000u);
    assert_non_null(strstr(gp_last_error(), "'later'"));
    assert_int_equal(gp_store_set(store, "later", "x", 1), GP_OK);
    assert_int_equal(gp_store_get(store, "later", out, sizeof(out), &length, 0),
                     GP_OK);
    gp_store_close(store);
    gp_store_stop(server);
}

typedef struct task {
    const char *address;
    pthread_t thread;
    gp_status status;
    char value[32];
} task;

static void *
wait_for_go(void *argument)
{
    task *t = argument;
    gp_store *store = NULL;
    size_t length = 0;
    int64_t sum;

    t->status = join("job", t->address, "", SOON, &store);
    if (t->status != GP_OK)
        return NULL;
    t->status = gp_store_add(store, "ready", 1, &sum);
    if (t->status == GP_OK)
        t->status = gp_store_get(store, "go", t->value, sizeof(t->value) - 1,
                                 &length, gp_deadline(SOON));
    for (int i = 0; i < 100 && t->status == GP_OK; i++)
        t->status = gp_store_add(store, "sum", 1, &sum);
    gp_store_close(store);
    return NULL;
}

static void
test_waiting_gets(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *store = member(gp_store_server_address(server));
    task tasks[8] = {{0}};
    int64_t sum = 0;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(tasks); i++) {
        tasks[i].address = gp_store_server_address(server);
        assert_int_equal(
            pthread_create(&tasks[i].thread, NULL, wait_for_go, &tasks[i]), 0);
    }
    for (uint64_t end = gp_deadline(SOON); sum < 8 && !gp_expired(end);)
        assert_int_equal(gp_store_add(store, "ready", 0, &sum), GP_OK);
    assert_int_equal(gp_store_set(store, "go", "now", 3), GP_OK);
    for (size_t i = 0; i < GP_COUNT_OF(tasks); i++) {
        pthread_join(tasks[i].thread, NULL);
        assert_int_equal(tasks[i].status, GP_OK);
        assert_string_equal(tasks[i].value, "now");
    }
    assert_int_equal(gp_store_add(store, "sum", 0, &sum), GP_OK);
    assert_int_equal(sum, 800);
    gp_store_close(store);
    gp_store_stop(server);
}

/* The exit status of a process that puts its address and gathers two. */
static int
be_member(const char *address, uint32_t rank)
{
    char key[32], value[32], rows[2][GP_ADDRESS_MAX];
    gp_store *store = NULL;
    int result = 1;

    snprintf(key, sizeof(key), "shard/%u", rank);
    snprintf(value, sizeof(value), "host%u:%u", rank, 100 + rank);
    if (join("job", address, "", SOON, &store) == GP_OK &&
        gp_store_set(store, key, value, strlen(value)) == GP_OK &&
        gp_store_gather(store, "shard/", "shard", 2, rows[0],
                        gp_deadline(SOON)) == GP_OK &&
        strcmp(rows[0], "host0:100") == 0 && strcmp(rows[1], "host1:101") == 0)
        result = 0;
    gp_store_close(store);
    return result;
}

static void
test_two_processes(void **state)
{
    gp_store_server *server;
    char address[64] = "";
    int pipes[2], result = -1;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ssize_t n = read(pipes[0], address, sizeof(address) - 1);

        _exit(n > 0 ? be_member(address, 1) : 2);
    }
    server = start("job", "127.0.0.1:0", "", NULL);
    snprintf(address, sizeof(address), "%s", gp_store_server_address(server));
    assert_int_equal(write(pipes[1], address, sizeof(address) - 1),
                     sizeof(address) - 1);
    assert_int_equal(be_member(address, 0), 0);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    close(pipes[0]);
    close(pipes[1]);
    gp_store_stop(server);
}

/* Whether the log says how long a wait of `seconds` may still go on. */
static bool
says_what_is_left(const char *waiting, double seconds)
{
    const char *at = strstr(log_text, waiting);

    return at && atof(at + strlen(waiting)) <= seconds - 3.0 + 0.5;
}

/* The report comes after three seconds: the one slow test. A busy machine may
 * need more than the rest of the wait for it, and of the store's time for its
 * last answer. */
static void
test_gather_names_the_missing(void **state)
{
    static const char waiting[] = "waiting for shard 1 and 3 of 4, ";
    static const char late[] = "shard 1 and 3 of 4 did not appear";
    static const double waits[] = {3.2, 4, 8, 20};
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *store = member(gp_store_server_address(server));
    char rows[20][GP_ADDRESS_MAX] = {"untouched"};
    size_t i = 0;

    (void)state;
    assert_int_equal(gp_store_set(store, "s0", "a:1", 3), GP_OK);
    assert_int_equal(gp_store_set(store, "s2", "b:1", 3), GP_OK);
    do {
        begin_log(GP_LOG_INFO);
        assert_int_equal(gp_store_gather(store, "s", "shard", 4, rows[0],
                                         gp_deadline(waits[i])),
                         GP_ERR_TIMEOUT);
        end_log();
    } while (!(was_logged(waiting) && strstr(gp_last_error(), late)) &&
             ++i < GP_COUNT_OF(waits));
    assert_in_range(i, 0, GP_COUNT_OF(waits) - 1);
    assert_true(says_what_is_left(waiting, waits[i]));
    assert_string_equal(rows[0], "untouched");
    assert_int_equal(gp_store_gather(store, "s", "worker", 3, rows[0], 0),
                     GP_ERR_TIMEOUT);
    assert_non_null(strstr(gp_last_error(), "worker 1 of 3"));
    assert_int_equal(gp_store_gather(store, "s", "shard", 20, rows[0], 0),
                     GP_ERR_TIMEOUT);
    assert_non_null(strstr(gp_last_error(),
                           "shard 1, 3, 4, 5, 6, 7, 8, 9 and 10 more of 20"));
    assert_int_equal(gp_store_gather(store, "s", "shard", 0, rows[0], 0), 0);
    gp_store_close(store);
    gp_store_stop(server);
}

static void
test_gather_refuses_what_is_no_address(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *store = member(gp_store_server_address(server));
    char row[GP_ADDRESS_MAX] = "untouched", long_text[GP_ADDRESS_MAX];

    (void)state;
    memset(long_text, 'x', sizeof(long_text));
    assert_int_equal(gp_store_set(store, "s0", "a\0b", 3), GP_OK);
    assert_int_equal(gp_store_gather(store, "s", "shard", 1, row, 0),
                     GP_ERR_CORRUPT);
    assert_int_equal(gp_store_set(store, "s0", long_text, sizeof(long_text)),
                     GP_OK);
    assert_int_equal(gp_store_gather(store, "s", "shard", 1, row, 0),
                     GP_ERR_TOO_LARGE);
    assert_string_equal(row, "untouched");
    gp_store_close(store);
    gp_store_stop(server);
}

static void
test_port_in_use(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL), *second;
    gp_config *config = make_config("job");
    const char *address = gp_store_server_address(server);

    (void)state;
    second = NULL;
    assert_int_equal(gp_store_serve(config, address, "", &second),
                     GP_ERR_ADDRESS);
    assert_null(second);
    assert_non_null(strstr(gp_last_error(), address));
    assert_non_null(strstr(gp_last_error(), "in use"));
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_STORE"));
    assert_int_equal(gp_store_serve(config, "no port here:x", "", &second),
                     GP_ERR_ADDRESS);
    gp_config_destroy(config);
    gp_store_stop(server);
}

/* Whether this host has the address at all. */
static bool
has_ipv6(void)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static void
test_addresses(void **state)
{
    const char *const table[] = {":0", "*:0", "localhost:0", "127.0.0.1:0",
                                 "[::1]:0"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        gp_store_server *server;

        if (table[i][0] == '[' && !has_ipv6())
            continue;
        server = start("job", table[i], "", NULL);
        expect_alive(server);
        gp_store_stop(server);
    }
}

/* A service address that forwards here is no address of this host. */
static void
test_foreign_address(void **state)
{
    gp_store_server *server;
    gp_store *store;
    char address[64];
    const char *port;

    (void)state;
    begin_log(GP_LOG_WARN);
    server = start("job", "192.0.2.1:0", "", NULL);
    end_log();
    assert_true(was_logged("192.0.2.1"));
    port = strrchr(gp_store_server_address(server), ':');
    snprintf(address, sizeof(address), "127.0.0.1%s", port);
    store = member(address);
    gp_store_close(store);
    gp_store_stop(server);
}

static void *
join_early(void *argument)
{
    task *t = argument;
    gp_store *store = NULL;

    t->status = join("job", t->address, "", SOON, &store);
    if (t->status == GP_OK)
        t->status = gp_store_set(store, "k", "v", 1);
    gp_store_close(store);
    return NULL;
}

/* An address where nobody listens. The socket stays open: so the kernel gives
 * the port to nobody who takes any, and the store gets it by its number. */
static void
free_address(char *out, size_t capacity)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    int fd = plain_socket(), on = 1;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)),
                     0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    snprintf(out, capacity, "127.0.0.1:%u", ntohs(at.sin_port));
}

static void
test_store_starts_late_and_again(void **state)
{
    gp_store_server *server;
    gp_store *store;
    char address[64];
    task t = {.address = address};

    (void)state;
    free_address(address, sizeof(address));
    assert_int_equal(pthread_create(&t.thread, NULL, join_early, &t), 0);
    server = start("job", address, "", NULL);
    pthread_join(t.thread, NULL);
    assert_int_equal(t.status, GP_OK);
    store = member(address);
    gp_store_stop(server);
    assert_int_equal(gp_store_set(store, "k", "v", 1), GP_ERR_PEER_LOST);
    assert_non_null(strstr(gp_last_error(), address));
    server = start("job", address, "", NULL);
    assert_int_equal(gp_store_set(store, "k", "v", 1), GP_OK);
    gp_store_close(store);
    gp_store_stop(server);
}

static void
test_nobody_there(void **state)
{
    gp_store *store = NULL;
    char address[64];

    (void)state;
    free_address(address, sizeof(address));
    assert_int_equal(join("job", address, "", 0.1, &store), GP_ERR_TIMEOUT);
    assert_non_null(strstr(gp_last_error(), address));
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_STORE_HOST=on"));
    assert_int_equal(join("job", "no such host:5", "", SOON, &store),
                     GP_ERR_ADDRESS);
    assert_null(store);
}

/* A process that was forked while somebody was connected holds the connection
 * too; that the member is gone must still be no news twice. */
static void
test_forked_while_connected(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    int fd = plain_connect(gp_store_server_address(server));
    char greeting[40];
    pid_t child;

    (void)state;
    assert_int_equal(plain_read(fd, greeting, sizeof(greeting)), 40);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fd);
        for (;;)
            pause();
    }
    close(fd);
    for (int i = 0; i < 20; i++)
        expect_alive(server);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    gp_store_stop(server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_processes),
        cmocka_unit_test(test_forked_while_connected),
        cmocka_unit_test(test_set_get_add),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_get_deadline),
        cmocka_unit_test(test_waiting_gets),
        cmocka_unit_test(test_gather_names_the_missing),
        cmocka_unit_test(test_gather_refuses_what_is_no_address),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_foreign_address),
        cmocka_unit_test(test_store_starts_late_and_again),
        cmocka_unit_test(test_nobody_there),
    };

    gp_log_set_level(GP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
