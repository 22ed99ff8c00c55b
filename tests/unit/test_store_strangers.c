/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store_strangers.c - the store against those who do not belong: wrong
 * tokens, other protocols, hostile bytes, floods.
 */
#include "store_fixture.h"

/* A build without OpenSSL has no proofs to try. */
static void
skip_without_openssl(void)
{
    print_message("skipped: this build has no OpenSSL\n");
    skip();
}

static void
expect_refusal(const char *server_token, const char *token, const char *job,
               gp_status want, const char *text)
{
    gp_store_server *server = start("job", "127.0.0.1:0", server_token, NULL);
    gp_store *store = NULL;
    gp_status status =
        join(job, gp_store_server_address(server), token, SOON, &store);

    assert_int_equal(status, want);
    assert_null(store);
    assert_non_null(strstr(gp_last_error(), text));
    assert_non_null(strstr(gp_last_error(), gp_store_server_address(server)));
    gp_store_stop(server);
}

static void
test_token_and_job(void **state)
{
    const char *fix = "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE";
    gp_store_server *server;
    gp_store *store = NULL;

    (void)state;
    expect_refusal("", "", "other", GP_ERR_REFUSED, "GRADPUSH_JOB");
    if (!have_openssl())
        skip_without_openssl();
    expect_refusal("secret", "Secret", "job", GP_ERR_AUTH, fix);
    expect_refusal("secret", "", "job", GP_ERR_AUTH, fix);
    expect_refusal("", "secret", "job", GP_ERR_AUTH, fix);
    expect_refusal("secret", "guess", "other", GP_ERR_REFUSED, "'other'");
    server = start("job", "127.0.0.1:0", "secret", NULL);
    assert_int_equal(
        join("job", gp_store_server_address(server), "secret", SOON, &store),
        GP_OK);
    assert_int_equal(gp_store_set(store, "k", "v", 1), GP_OK);
    gp_store_close(store);
    gp_store_stop(server);
}

static void
test_old_member(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store_hello hello = {.version = 9, .job = gp_hash("job", 3)};
    uint8_t bytes[GP_STORE_HELLO], more;
    gp_store_verdict verdict;
    int fd = plain_connect(gp_store_server_address(server));

    (void)state;
    assert_int_equal(plain_read(fd, bytes, GP_STORE_GREETING),
                     GP_STORE_GREETING);
    gp_store_write_hello(&hello, bytes);
    plain_write(fd, bytes, GP_STORE_PREFIX);
    assert_int_equal(plain_read(fd, bytes, GP_STORE_VERDICT), GP_STORE_VERDICT);
    assert_true(gp_store_read_verdict(bytes, &verdict));
    assert_int_equal(verdict.status, GP_ERR_VERSION);
    assert_int_equal(verdict.version, GP_STORE_VERSION);
    assert_int_equal(plain_read(fd, &more, 1), 0);
    close(fd);
    gp_store_stop(server);
}

/* A listener that says `speech` to each caller, and nothing else. */
typedef struct impostor {
    int fd;
    pthread_t thread;
    uint8_t speech[GP_STORE_GREETING + GP_STORE_VERDICT];
    size_t length;
    char address[64];
} impostor;

static void *
pose(void *argument)
{
    impostor *i = argument;
    int calls[16], count = 0;

    while (count < 16 && (calls[count] = accept(i->fd, NULL, NULL)) >= 0) {
        ssize_t n = send(calls[count], i->speech, i->length, MSG_NOSIGNAL);

        (void)n; /* a caller that left is fine */
        count++;
    }
    while (count > 0)
        close(calls[--count]);
    return NULL;
}

static void
expect_impostor(impostor *i, const char *token, double seconds, gp_status want,
                const char *first, const char *second)
{
    gp_store *store = NULL;

    i->fd = plain_listen(i->address, sizeof(i->address));
    assert_int_equal(pthread_create(&i->thread, NULL, pose, i), 0);
    assert_int_equal(join("job", i->address, token, seconds, &store), want);
    assert_null(store);
    assert_non_null(strstr(gp_last_error(), i->address));
    assert_non_null(strstr(gp_last_error(), first));
    assert_non_null(strstr(gp_last_error(), second));
    shutdown(i->fd, SHUT_RDWR);
    pthread_join(i->thread, NULL);
    close(i->fd);
}

static void
test_impostors(void **state)
{
    gp_store_greeting greeting = {.version = 7};
    gp_store_verdict verdict = {.status = GP_OK, .version = GP_STORE_VERSION};
    impostor i = {.length = GP_STORE_GREETING};

    (void)state;
    gp_store_write_greeting(&greeting, i.speech);
    expect_impostor(&i, "", SOON, GP_ERR_VERSION, "version 7", "version 1");
    memcpy(i.speech, "SSH-2.0-OpenSSH_9.2", 19);
    i.length = 19;
    expect_impostor(&i, "", SOON, GP_ERR_PROTOCOL, "not a gradpush store",
                    "GRADPUSH_STORE");
    i.length = 0;
    expect_impostor(&i, "", 0.3, GP_ERR_TIMEOUT,
                    "accepts the connection and does not answer",
                    "GRADPUSH_STORE");
    if (!have_openssl())
        skip_without_openssl();
    greeting.version = GP_STORE_VERSION;
    gp_store_write_greeting(&greeting, i.speech);
    gp_store_write_verdict(&verdict, i.speech + GP_STORE_GREETING);
    i.length = sizeof(i.speech);
    expect_impostor(&i, "secret", SOON, GP_ERR_AUTH, "job token", "differs");
}

static void
test_random_bytes(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", "300ms");
    uint8_t bytes[700];
    uint64_t random = 88172645463325252u;

    (void)state;
    begin_log(GP_LOG_NONE);
    for (int i = 0; i < 200; i++) {
        int fd = plain_connect(gp_store_server_address(server));
        ssize_t n;

        for (size_t j = 0; j < sizeof(bytes); j++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes[j] = (uint8_t)(random >> 32);
        }
        if (i % 2) /* half of them get past the first check */
            memcpy(bytes, "GPST\1\0\0", 8);
        n = send(fd, bytes, (size_t)(i * 3 + 1), MSG_NOSIGNAL);
        assert_true(n > 0);
        close(fd);
    }
    end_log();
    expect_alive(server);
    gp_store_stop(server);
}

/* Requests whose lengths are lies, from a peer that passed the handshake. */
static void
test_bad_requests(void **state)
{
    const gp_store_request table[] = {
        {.op = 0, .key_length = 1},
        {.op = 6, .key_length = 1},
        {.op = GP_STORE_SET, .key_length = 0, .value_length = 1},
        {.op = GP_STORE_SET, .key_length = 256, .value_length = 1},
        {.op = GP_STORE_SET, .key_length = 1, .value_length = 65537},
        {.op = GP_STORE_SET, .key_length = 1, .value_length = UINT32_MAX},
        {.op = GP_STORE_SET, .key_length = 1, .wait_ms = 1},
        {.op = GP_STORE_GET, .key_length = 1, .value_length = 1},
        {.op = GP_STORE_ADD, .key_length = 1, .value_length = 7},
        {.op = GP_STORE_WATCH, .key_length = 1, .value_length = 65537},
        {.op = GP_STORE_CLAIM, .key_length = 1, .value_length = 65537},
        {.op = GP_STORE_CLAIM, .key_length = 1, .wait_ms = 1},
    };
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        uint8_t bytes[GP_STORE_REQUEST], more;
        gp_store_answer answer;
        int fd = plain_member(gp_store_server_address(server));

        gp_store_write_request(&table[i], bytes);
        plain_write(fd, bytes, sizeof(bytes));
        assert_int_equal(plain_read(fd, bytes, GP_STORE_ANSWER),
                         GP_STORE_ANSWER);
        assert_true(gp_store_read_answer(bytes, &answer));
        assert_int_equal(answer.status, GP_ERR_PROTOCOL);
        assert_int_equal(plain_read(fd, &more, 1), 0);
        close(fd);
    }
    expect_alive(server);
    gp_store_stop(server);
}

static void
test_silent_stranger(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", "100ms");
    uint8_t bytes[GP_STORE_GREETING], more;
    int fd = plain_connect(gp_store_server_address(server));

    (void)state;
    begin_log(GP_LOG_WARN);
    assert_int_equal(plain_read(fd, bytes, sizeof(bytes)), sizeof(bytes));
    assert_int_equal(plain_read(fd, &more, 1), 0);
    close(fd);
    expect_alive(server);
    gp_store_stop(server);
    assert_true(was_logged("refused 127.0.0.1:"));
    assert_true(was_logged("the deadline passed"));
    end_log();
}

/* A member that stops reading its answers, or leaves in a wait, hurts nobody.
 */
static void
test_rude_members(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    const gp_store_request get = {
        .op = GP_STORE_GET, .key_length = 5, .wait_ms = 60000};
    uint8_t bytes[GP_STORE_REQUEST + 5];
    int fds[20];

    (void)state;
    gp_store_write_request(&get, bytes);
    memcpy(bytes + GP_STORE_REQUEST, "alive", 5);
    for (int i = 0; i < 20; i++) {
        fds[i] = plain_member(gp_store_server_address(server));
        for (int j = 0; j < (i < 10 ? 1 : 500); j++)
            plain_write(fds[i], bytes, sizeof(bytes));
    }
    for (int i = 0; i < 10; i++)
        close(fds[i]);
    expect_alive(server);
    for (int i = 10; i < 20; i++)
        close(fds[i]);
    expect_alive(server);
    gp_store_stop(server);
}

static void
test_a_thousand_idle(void **state)
{
    struct rlimit limit, more;
    gp_store_server *server;
    int fds[1000], count = 1000;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    more = limit;
    more.rlim_cur = GP_MIN(limit.rlim_max, (rlim_t)2200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    if (more.rlim_cur < 2200) /* both ends are in this process */
        count = (int)more.rlim_cur / 2 - 100;
    server = start("job", "127.0.0.1:0", "", NULL);
    begin_log(GP_LOG_NONE);
    for (int i = 0; i < count; i++)
        fds[i] = plain_connect(gp_store_server_address(server));
    expect_alive(server);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    expect_alive(server);
    gp_store_stop(server);
    end_log();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void
set_descriptors(rlim_t count, struct rlimit *old)
{
    struct rlimit new;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, old), 0);
    new = *old;
    new.rlim_cur = count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &new), 0);
}

/* The store took this stranger's place away. */
static void
expect_hangup(int fd)
{
    uint8_t bytes[GP_STORE_GREETING + 1];

    assert_int_equal(plain_read(fd, bytes, sizeof(bytes)), GP_STORE_GREETING);
}

/* The number of places is half of the descriptors at the start. */
static void
test_more_than_the_places(void **state)
{
    struct rlimit old;
    gp_store_server *server;
    int fds[80];

    (void)state;
    set_descriptors(100, &old);
    server = start("job", "127.0.0.1:0", "", "60s");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 80; i++)
        fds[i] = plain_connect(gp_store_server_address(server));
    expect_hangup(fds[0]);
    expect_hangup(fds[29]);
    expect_alive(server);
    for (int i = 0; i < 80; i++)
        close(fds[i]);
    gp_store_stop(server);
}

/* Five descriptors are left in the process when twenty strangers call. */
static void
test_out_of_descriptors(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", "60s");
    struct rlimit old;
    int fds[20], fill[128], filled = 0;

    (void)state;
    for (int i = 0; i < 20; i++)
        fds[i] = plain_socket();
    set_descriptors(128, &old);
    while (filled < 128 && (fill[filled] = dup(0)) >= 0)
        filled++;
    assert_in_range(filled, 6, 127);
    for (int i = 0; i < 5; i++)
        close(fill[--filled]);
    for (int i = 0; i < 20; i++)
        plain_call(fds[i], gp_store_server_address(server));
    expect_hangup(fds[0]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    expect_alive(server);
    while (filled > 0)
        close(fill[--filled]);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
    gp_store_stop(server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_and_job),
        cmocka_unit_test(test_old_member),
        cmocka_unit_test(test_impostors),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_silent_stranger),
        cmocka_unit_test(test_rude_members),
        cmocka_unit_test(test_a_thousand_idle),
        cmocka_unit_test(test_more_than_the_places),
        cmocka_unit_test(test_out_of_descriptors),
    };

    gp_log_set_level(GP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
