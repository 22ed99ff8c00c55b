/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crowds.c - a job runs through while strangers do what they like to its
 * ports: random bytes, silence, false lengths, a thousand connections.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "job_raw.h"

#define CROWD 1000
#define COUNT 20000u

#define LONG 120 /* seconds; ends what hangs */

static int
dial(const char *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    const char *colon = strrchr(address, ':');
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    job_require(fd >= 0 && colon);
    name.sin_port = htons((uint16_t)atoi(colon + 1));
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    job_require(connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0, "%s",
                strerror(errno));
    return fd;
}

/* Whether the other side ends the connection. */
static bool
is_hung_up(int fd)
{
    struct timeval patience = {.tv_sec = LONG};
    char bytes[4096];
    ssize_t n;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    do
        n = recv(fd, bytes, sizeof(bytes), 0);
    while (n > 0);
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

typedef struct crowd {
    void (*act)(const char *address);
    char address[2][2048]; /* a shard, and the store when there is one */
    int count;
} crowd;

/* Steps before the strangers, while they are there, and after. */
static void
crowd_body(job *j, gp_worker *w, uint32_t rank)
{
    crowd *c = j->data;
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");
    float *data = malloc(COUNT * sizeof(float));
    gp_request *r;

    for (int step = 0; step < 30; step++) {
        for (uint32_t i = 0; i < COUNT; i++)
            data[i] = 1;
        job_check(gp_push_pull(t, data, data, &r));
        if (rank == 0 && step == 10)
            for (int i = 0; i < c->count; i++)
                c->act(c->address[i]);
        job_check(gp_wait(&r, -1));
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(data[i] == (float)j->workers);
    }
    free(data);
}

static void
shard_tweak(job *j, gp_config *config, uint32_t rank)
{
    crowd *c = j->data;

    (void)config;
    if (rank == 0)
        snprintf(c->address[0], sizeof(c->address[0]), "%s", j->servers);
}

/* The strangers' time for a handshake is the workers' too: on a busy machine
 * these may need more of it to join. */
static void
run_hastily(const job *plan)
{
    static const char *const times[] = {"0.3s", "1s", "4s", "16s"};
    gp_status status = GP_ERR_TIMEOUT;
    bool joined = false;
    job j;

    for (size_t i = 0; !joined && i < sizeof(times) / sizeof(times[0]); i++) {
        j = *plan;
        j.settings[0] = "handshake_timeout";
        j.settings[1] = times[i];
        job_log_start();
        status = run_job(&j);
        job_log_stop();
        joined = j.created[0] == GP_OK && j.created[1] == GP_OK;
    }
    if (status != GP_OK)
        fail_msg("%s%s%s", j.message[0], j.message[1], j.server_message);
}

static void
run_crowd(void (*act)(const char *address))
{
    crowd c = {.act = act, .count = 1};
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .settings = {"", "", "timeout", "300s"},
             .body = crowd_body,
             .tweak = shard_tweak,
             .data = &c};

    run_hastily(&j);
}

/* The co-located job's shard port is chosen by the kernel; its store's is
 * known, and the shard of rank 0 listens where it is told. */
static void
colocated_tweak(job *j, gp_config *config, uint32_t rank)
{
    crowd *c = j->data;

    if (rank == 0)
        job_set(config, "listen", c->address[0]);
    if (rank == 0)
        snprintf(c->address[1], sizeof(c->address[1]), "%s", j->servers);
}

static void
run_colocated_crowd(void (*act)(const char *address))
{
    crowd c = {.act = act, .count = 2};
    job j = {.transport = "tcp",
             .workers = 2,
             .colocated = true,
             .settings = {"", "", "timeout", "300s"},
             .body = crowd_body,
             .tweak = colocated_tweak,
             .data = &c};

    job_free_port(c.address[0], sizeof(c.address[0]));
    run_hastily(&j);
}

static void
throw_noise(const char *address)
{
    static const size_t lengths[] = {1, 7, 31, 32, 33, 112, 4096, 100000};
    uint32_t random = 12345;
    uint8_t *bytes = malloc(100000);

    for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
        int fd = dial(address);

        for (size_t i = 0; i < lengths[k]; i++)
            bytes[i] = (uint8_t)job_random(&random);
        (void)send(fd, bytes, lengths[k], MSG_NOSIGNAL);
        job_require(is_hung_up(fd), "%u bytes of noise", (unsigned)k);
        close(fd);
    }
    free(bytes);
}

static void
noise_on_every_port(void **state)
{
    (void)state;
    run_crowd(throw_noise);
    run_colocated_crowd(throw_noise);
}

static void
stay_silent(const char *address)
{
    int fd = dial(address);

    job_require(is_hung_up(fd), "a silent connection stays");
    close(fd);
}

static void
silence_on_every_port(void **state)
{
    (void)state;
    run_crowd(stay_silent);
    run_colocated_crowd(stay_silent);
}

/* A preamble that is right, and its answer. */
static void
greet(int fd)
{
    uint8_t hello[32] = "GPTC";

    gp_put16(hello + 4, GP_PROTOCOL_VERSION);
    hello[6] = 1;
    gp_put64(hello + 8, 77);
    gp_put16(hello + 18, 1);
    gp_put32(hello + 28, gp_crc32c(0, hello, 28));
    (void)send(fd, hello, sizeof(hello), MSG_NOSIGNAL);
    (void)recv(fd, hello, sizeof(hello), MSG_WAITALL);
}

/* A peer of the right protocol that never says who it is. */
static void
say_nothing_after_connecting(const char *address)
{
    int fd = dial(address);

    greet(fd);
    job_require(is_hung_up(fd), "a nameless peer stays");
    close(fd);
}

static void
silence_after_the_challenge(void **state)
{
    (void)state;
    run_crowd(say_nothing_after_connecting);
}

/* A header whose payload is 2^63 bytes long. */
static void
claim_too_much(const char *address)
{
    for (int region = 0; region < 2; region++) {
        uint8_t header[GP_MSG_BYTES];
        gp_msg msg = {.type = GP_MSG_HELLO,
                      .payload = 1ull << 63,
                      .region = (uint32_t)region};
        int fd = dial(address);

        gp_msg_encode(&msg, header);
        greet(fd);
        (void)send(fd, header, sizeof(header), MSG_NOSIGNAL);
        job_require(is_hung_up(fd), "a length of 2^63 is believed");
        close(fd);
    }
}

static void
false_lengths(void **state)
{
    (void)state;
    run_crowd(claim_too_much);
}

static int crowd_fds[CROWD], crowd_size;

static void
gather_half(const char *address)
{
    for (int i = 0; i < CROWD / 2; i++)
        crowd_fds[crowd_size++] = dial(address);
}

static void
gather(const char *address)
{
    gather_half(address);
    gather_half(address);
}

static void
disperse(void)
{
    assert_int_equal(crowd_size, CROWD);
    while (crowd_size > 0)
        close(crowd_fds[--crowd_size]);
}

static void
thousand_idle_connections(void **state)
{
    struct rlimit files;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    if (files.rlim_cur < 3 * CROWD) {
        files.rlim_cur = GP_MIN(files.rlim_max, (rlim_t)3 * CROWD);
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (files.rlim_cur < 3 * CROWD) {
        print_message("skipped: only %u open files are allowed\n",
                      (unsigned)files.rlim_cur);
        skip();
    }
    run_crowd(gather);
    disperse();
    run_colocated_crowd(gather_half);
    disperse();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_on_every_port),
        cmocka_unit_test(silence_on_every_port),
        cmocka_unit_test(silence_after_the_challenge),
        cmocka_unit_test(false_lengths),
        cmocka_unit_test(thousand_idle_connections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
