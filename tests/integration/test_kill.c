/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_kill.c - processes of a job are killed, or stopped for a moment.
 *
 * The program starts itself again as server or worker. Children report on a
 * pipe: "address A", "step N", and last "end STATUS text".
 *
 * TEST_HOST is where members listen (127.0.0.1). With TEST_SLOW in the
 * environment the machine is an emulated one: more time, fewer steps.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"

#define MEMBERS  8
#define COUNT    300000u
#define FOREVER  1000000000u
#define PATIENCE 120.0 /* for what is not the matter of a test */
#define BOUND    15.0  /* for survivors to end; time limits are longer */
#define SLOW     10    /* times as much on a slow machine */

typedef struct child {
    pid_t pid;
    int fd;
    size_t used;
    char text[4096]; /* the line being read */
    char address[256];
    char end[1024]; /* "" until it ended */
    unsigned steps;
} child;

/* The children's side. */

static int
end(gp_status status)
{
    printf("end %s %s\n", gp_status_name(status),
           status == GP_OK ? "" : gp_last_error());
    fflush(stdout);
    return 0;
}

static gp_status
work(gp_worker *w, unsigned steps)
{
    gp_tensor *t = job_tensor(w, "t", COUNT, "mean");
    float *data = calloc(COUNT, sizeof(float));
    gp_status status = GP_OK;

    for (unsigned s = 1; s <= steps && status == GP_OK; s++) {
        gp_request *r;

        status = gp_push_pull(t, data, data, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
        if (status == GP_OK && (s <= 10 || s % 20 == 0)) {
            printf("step %u\n", s);
            fflush(stdout);
        }
    }
    free(data);
    return status;
}

static int
be_worker(unsigned steps)
{
    gp_worker *w;
    gp_status status = gp_worker_create(NULL, &w);

    if (status != GP_OK)
        return end(status);
    status = work(w, steps);
    end(status);
    gp_worker_destroy(w);
    return 0;
}

static int
be_server(void)
{
    gp_server *server;
    gp_status status = gp_server_create(NULL, &server);

    if (status != GP_OK)
        return end(status);
    printf("address %s\n", gp_server_address(server, 0));
    fflush(stdout);
    status = gp_server_wait(server, -1);
    end(status);
    gp_server_destroy(server);
    return 0;
}

/* The parent's side. */

static char *
listen_at(void)
{
    static char text[64];
    const char *host = getenv("TEST_HOST");

    snprintf(text, sizeof(text), "%s:0", host ? host : "127.0.0.1");
    return text;
}

static bool
is_slow(void)
{
    return getenv("TEST_SLOW") != NULL;
}

static void
start(child *c, const char *role, unsigned steps, char *const *environment)
{
    char number[16];
    int ends[2];

    *c = (child){0};
    snprintf(number, sizeof(number), "%u", steps);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDOUT_FILENO);
        for (size_t i = 0; environment[i]; i += 2)
            setenv(environment[i], environment[i + 1], 1);
        execl("/proc/self/exe", "test_kill", role, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    c->fd = ends[0];
    (void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void
take_line(child *c, const char *line)
{
    if (strncmp(line, "step ", 5) == 0)
        c->steps = (unsigned)strtoul(line + 5, NULL, 10);
    else if (strncmp(line, "address ", 8) == 0)
        snprintf(c->address, sizeof(c->address), "%.255s", line + 8);
    else if (strncmp(line, "end ", 4) == 0)
        snprintf(c->end, sizeof(c->end), "%.1000s", line + 4);
}

static void
listen_to(child *c)
{
    ssize_t n = read(c->fd, c->text + c->used, sizeof(c->text) - 1 - c->used);
    char *newline;

    if (n > 0)
        c->used += (size_t)n;
    c->text[c->used] = '\0';
    while ((newline = strchr(c->text, '\n'))) {
        *newline = '\0';
        take_line(c, c->text);
        c->used -= (size_t)(newline + 1 - c->text);
        memmove(c->text, newline + 1, c->used + 1);
    }
}

static bool
has_address(const child *c)
{
    return c->address[0] != '\0';
}

static bool
is_under_way(const child *c)
{
    return c->steps >= 5;
}

static bool
has_ended(const child *c)
{
    return c->end[0] != '\0';
}

/* Waits until all children but one are so far; a child that goes on with its
 * steps is slow, but does not hang. */
static void
await(child *children, int count, int except, bool (*so_far)(const child *),
      double seconds, const char *what)
{
    double deadline = job_seconds() + seconds;

    for (int i = 0; i < count; i++)
        while (i != except && !so_far(&children[i])) {
            struct pollfd p = {.fd = children[i].fd, .events = POLLIN};
            unsigned steps = children[i].steps;

            if (job_seconds() > deadline)
                fail_msg("process %d of %d: not %s within %g s; end '%s', "
                         "step %u",
                         i, count, what, seconds, children[i].end,
                         children[i].steps);
            (void)poll(&p, 1, 20);
            listen_to(&children[i]);
            if (children[i].steps != steps)
                deadline = job_seconds() + seconds;
        }
}

/* All processes are gone, on their own but for the victim. */
static void
reap(child *children, int count, int victim)
{
    double deadline = job_seconds() + PATIENCE;

    for (int i = 0; i < count; i++) {
        int status = 0;

        while (waitpid(children[i].pid, &status, WNOHANG) == 0) {
            if (job_seconds() > deadline)
                fail_msg("process %d does not end", i);
            usleep(1000);
        }
        close(children[i].fd);
        if (i != victim && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            fail_msg("process %d ended with wait status %x", i, status);
    }
}

typedef struct cluster {
    child member[MEMBERS]; /* workers by rank, then servers */
    int workers, servers;
} cluster;

static void
start_cluster(cluster *c, int workers, int servers, unsigned steps)
{
    char size[16], list[600] = "", port[64] = "";

    *c = (cluster){.workers = workers, .servers = servers};
    snprintf(size, sizeof(size), "%d", workers);
    for (int i = 0; i < servers; i++) {
        char *environment[] = {"GRADPUSH_LISTEN", listen_at(),
                               "GRADPUSH_KEEPALIVE", is_slow() ? "3s" : "120s",
                               NULL};

        start(&c->member[workers + i], "server", 0, environment);
    }
    await(c->member + workers, servers, -1, has_address, PATIENCE, "listening");
    for (int i = 0; i < servers; i++) {
        strcat(list, i ? "," : "");
        strcat(list, c->member[workers + i].address);
    }
    if (servers == 0)
        job_free_port(port, sizeof(port));
    for (int r = 0; r < workers; r++) {
        char rank[16];
        char *environment[] = {"GRADPUSH_RANK",
                               rank,
                               "GRADPUSH_SIZE",
                               size,
                               "GRADPUSH_TIMEOUT",
                               "120",
                               "GRADPUSH_KEEPALIVE",
                               is_slow() ? "3s" : "120s",
                               "GRADPUSH_COLOCATED",
                               servers ? "off" : "on",
                               "GRADPUSH_SERVERS",
                               list,
                               "GRADPUSH_STORE",
                               port,
                               "GRADPUSH_STORE_HOST",
                               servers || r ? "off" : "on",
                               "GRADPUSH_LISTEN",
                               listen_at(),
                               "GRADPUSH_LOG",
                               "none",
                               NULL};

        snprintf(rank, sizeof(rank), "%d", r);
        start(&c->member[r], "worker", steps, environment);
    }
}

/* Kills one member in the middle of the run. */
static void
kill_one(int workers, int servers, int victim, const char *name,
         const char *other_name)
{
    int members = workers + servers;
    cluster c;

    start_cluster(&c, workers, servers, FOREVER);
    await(c.member, workers, -1, is_under_way, PATIENCE, "under way");
    assert_int_equal(kill(c.member[victim].pid, SIGKILL), 0);
    await(c.member, members, victim, has_ended,
          is_slow() ? BOUND * SLOW : BOUND, "over");
    reap(c.member, members, victim);
    for (int i = 0; i < members; i++) {
        const char *said = c.member[i].end;

        if (i == victim)
            continue;
        /* A shard hears of another's death from workers, if at all. */
        if (victim >= workers && i >= workers)
            continue;
        if (strncmp(said, "GP_ERR_PEER_LOST ", 17) != 0 ||
            !(strstr(said, name) || strstr(said, other_name)))
            fail_msg("process %d ended with '%s', which does not name %s", i,
                     said, name);
    }
}

static void
worker_of_servers(void **state)
{
    (void)state;
    kill_one(3, 2, 1, "worker 1 (", "worker 1 (");
}

static void
first_worker_of_servers(void **state)
{
    (void)state;
    kill_one(2, 1, 0, "worker 0 (", "worker 0 (");
}

static void
server(void **state)
{
    (void)state;
    kill_one(2, 2, 3, "shard 1 at", "shard 1 at");
}

static void
colocated_worker(void **state)
{
    (void)state;
    kill_one(3, 0, 2, "worker 2 (", "shard 2 at");
}

static void
colocated_host_of_the_store(void **state)
{
    (void)state;
    kill_one(2, 0, 0, "worker 0 (", "shard 0 at");
}

/* A stopped process is late, not dead. */
static void
stop_one(int workers, int servers, int victim)
{
    int members = workers + servers;
    cluster c;

    start_cluster(&c, workers, servers, is_slow() ? 300 / SLOW : 300);
    await(c.member, workers, -1, is_under_way, PATIENCE, "under way");
    assert_int_equal(kill(c.member[victim].pid, SIGSTOP), 0);
    sleep(1); /* the matter of this test */
    assert_int_equal(kill(c.member[victim].pid, SIGCONT), 0);
    await(c.member, members, -1, has_ended, PATIENCE, "over");
    reap(c.member, members, -1);
    for (int i = 0; i < members; i++)
        if (strncmp(c.member[i].end, "GP_OK", 5) != 0)
            fail_msg("process %d: %s", i, c.member[i].end);
}

static void
stopped_worker(void **state)
{
    (void)state;
    stop_one(2, 1, 1);
    stop_one(2, 0, 1);
}

int
main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_of_servers),
        cmocka_unit_test(first_worker_of_servers),
        cmocka_unit_test(server),
        cmocka_unit_test(colocated_worker),
        cmocka_unit_test(colocated_host_of_the_store),
        cmocka_unit_test(stopped_worker),
    };

    if (count == 3 && strcmp(arguments[1], "server") == 0)
        return be_server();
    if (count == 3 && strcmp(arguments[1], "worker") == 0)
        return be_worker((unsigned)strtoul(arguments[2], NULL, 10));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
