/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_harness.c - starts and ends the members of a job as threads.
 *
 * Every wait of a member is bounded by the configured timeouts, so a job that
 * hangs ends with an error that a test sees.
 */
#include "job_harness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct member {
    job *job;
    uint32_t rank;
    pthread_t thread;
} member;

_Noreturn void
job_die(const char *file, int line, const char *what, ...)
{
    va_list args;
    const char *format;

    fprintf(stderr, "%s:%d: failed: %s", file, line, what);
    va_start(args, what);
    format = va_arg(args, const char *);
    if (format) {
        fputs(": ", stderr);
        vfprintf(stderr, format, args);
    }
    va_end(args);
    fputc('\n', stderr);
    fflush(NULL);
    _exit(1);
}

void
job_check_at(const char *file, int line, gp_status status)
{
    if (status != GP_OK)
        job_die(file, line, gp_status_name(status), "%s", gp_last_error());
}

void
job_set(gp_config *config, const char *name, const char *value)
{
    job_check(gp_config_set(config, name, value));
}

gp_config *
job_config(const job *j)
{
    gp_config *c;
    char number[16];

    job_check(gp_config_create(&c));
    job_set(c, "transport", j->transport);
    snprintf(number, sizeof(number), "%u", j->workers);
    job_set(c, "size", number);
    job_set(c, "timeout", "120s");
    job_set(c, "connect_timeout", "120s");
    if (strcmp(j->transport, "loop") != 0)
        job_set(c, "listen", "127.0.0.1:0");
    for (size_t i = 0; j->settings[i]; i += 2)
        job_set(c, j->settings[i], j->settings[i + 1]);
    return c;
}

/* The socket stays open and does not listen: so the kernel gives the port to
 * nobody who takes any, and whoever asks for it by its number gets it. */
void
job_free_port(char *out, size_t capacity)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    job_require(fd >= 0);
    job_require(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
    job_require(bind(fd, (struct sockaddr *)&name, sizeof(name)) == 0);
    job_require(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    snprintf(out, capacity, "127.0.0.1:%u", ntohs(name.sin_port));
}

static void *
run_member(void *arg)
{
    member *m = arg;
    job *j = m->job;
    gp_config *c = job_config(j);
    gp_worker *w = NULL;
    char number[16];

    snprintf(number, sizeof(number), "%u", m->rank);
    job_set(c, "rank", number);
    if (j->colocated) {
        job_set(c, "colocated", "on");
        job_set(c, "store", j->servers);
        job_set(c, "store_host", m->rank == 0 ? "on" : "off");
    } else {
        job_set(c, "servers", j->servers);
    }
    if (j->tweak)
        j->tweak(j, c, m->rank);
    j->created[m->rank] = gp_worker_create(c, &w);
    if (j->created[m->rank] == GP_OK)
        j->body(j, w, m->rank);
    else
        snprintf(j->message[m->rank], sizeof(j->message[0]), "%s",
                 gp_last_error());
    gp_worker_destroy(w);
    atomic_store(&j->gone[m->rank], true);
    gp_config_destroy(c);
    return NULL;
}

void
job_start_servers(job *j)
{
    static int serial;

    j->servers[0] = '\0';
    for (uint32_t s = 0; s < j->shards; s++) {
        gp_config *c = job_config(j);
        char listen[64];
        size_t used = strlen(j->servers);

        snprintf(listen, sizeof(listen), "loop:job%d", serial++);
        if (strcmp(j->transport, "loop") == 0)
            job_set(c, "listen", listen);
        job_check(gp_server_create(c, &j->server[s]));
        snprintf(j->servers + used, sizeof(j->servers) - used, "%s%s",
                 s ? "," : "", gp_server_address(j->server[s], 0));
        gp_config_destroy(c);
    }
}

void
job_stop_servers(job *j)
{
    j->server_status = GP_OK;
    for (uint32_t s = 0; s < j->shards; s++) {
        gp_status ended;

        if (!j->server[s]) /* a body ended it */
            continue;
        ended = gp_server_wait(j->server[s], 120);
        if (j->server_status == GP_OK && ended != GP_OK) {
            j->server_status = ended;
            snprintf(j->server_message, sizeof(j->server_message), "%s",
                     gp_last_error());
        }
        gp_server_destroy(j->server[s]);
        j->server[s] = NULL;
    }
}

gp_status
run_job(job *j)
{
    member members[JOB_WORKERS];
    gp_status status = GP_OK;

    j->server_status = GP_OK;
    if (j->colocated)
        job_free_port(j->servers, sizeof(j->servers));
    else
        job_start_servers(j);
    for (uint32_t r = 0; r < j->workers; r++) {
        members[r] = (member){.job = j, .rank = r};
        if (!j->absent[r])
            job_require(pthread_create(&members[r].thread, NULL, run_member,
                                       &members[r]) == 0);
    }
    for (uint32_t r = 0; r < j->workers; r++)
        if (!j->absent[r])
            pthread_join(members[r].thread, NULL);
    if (!j->colocated)
        job_stop_servers(j);
    for (uint32_t r = 0; r < j->workers && status == GP_OK; r++)
        status = j->created[r];
    return status == GP_OK ? j->server_status : status;
}

static bool
is_not_said(const job *j, const char *part)
{
    return !strstr(j->message[0], part);
}

void
job_run_patiently(job *j, const char *limit, unsigned ms, const char *part,
                  bool (*too_short)(const job *j, const char *part))
{
    const job fresh = *j;

    if (!too_short)
        too_short = is_not_said;
    do {
        char patience[16];

        snprintf(patience, sizeof(patience), "%ums", ms);
        *j = fresh;
        memcpy(j->settings + 2, fresh.settings, sizeof(fresh.settings) / 2);
        j->settings[0] = limit;
        j->settings[1] = patience;
        (void)run_job(j);
        j->settings[0] = NULL;
        ms *= 3;
    } while (ms < 60000 && too_short(j, part));
}

gp_tensor *
job_tensor(gp_worker *w, const char *name, uint64_t count, const char *updater)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = count;
    o.codec = "none";
    o.pull_codec = "none";
    o.updater = updater;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[1u << 16];
static size_t log_used;

static void
keep_line(void *user, gp_log_level level, const char *line)
{
    size_t length = strlen(line);

    (void)user, (void)level;
    pthread_mutex_lock(&log_lock);
    if (log_used + length + 2 < sizeof(log_text)) {
        memcpy(log_text + log_used, line, length);
        log_used += length;
        log_text[log_used++] = '\n';
        log_text[log_used] = '\0';
    }
    pthread_mutex_unlock(&log_lock);
}

void
job_log_start(void)
{
    pthread_mutex_lock(&log_lock);
    log_used = 0;
    log_text[0] = '\0';
    pthread_mutex_unlock(&log_lock);
    gp_log_set_callback(keep_line, NULL);
}

void
job_log_stop(void)
{
    gp_log_set_callback(NULL, NULL);
}

bool
job_log_has(const char *part)
{
    bool has;

    pthread_mutex_lock(&log_lock);
    has = strstr(log_text, part) != NULL;
    pthread_mutex_unlock(&log_lock);
    return has;
}

uint64_t
job_log_sum(const char *part)
{
    uint64_t sum = 0;

    pthread_mutex_lock(&log_lock);
    for (const char *at = log_text; (at = strstr(at, part));) {
        at += strlen(part);
        sum += strtoull(at, NULL, 10);
    }
    pthread_mutex_unlock(&log_lock);
    return sum;
}

double
job_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

bool
job_log_wait(const char *part, double seconds)
{
    double deadline = job_seconds() + seconds;

    while (!job_log_has(part)) {
        if (job_seconds() >= deadline) {
            fprintf(stderr, "no log line has '%s'; logged was:\n%s", part,
                    log_text);
            return false;
        }
        usleep(1000);
    }
    return true;
}

float
job_value(uint32_t rank, uint32_t tensor, uint64_t step, uint64_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u + rank * 40503u + tensor * 977u +
                 (uint32_t)step * 7919u;

    x ^= x >> 15;
    return ((float)(int32_t)(x & 0xffff) - 32768.0f) * 1e-3f;
}

uint32_t
job_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

void
job_shuffle(uint32_t *order, uint32_t count, uint32_t *state)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t k = job_random(state) % i, swap = order[k];

        order[k] = order[i - 1];
        order[i - 1] = swap;
    }
}

void
job_note(job *j, uint32_t rank, gp_status status)
{
    j->ended[rank] = status;
    snprintf(j->message[rank], sizeof(j->message[0]), "%s",
             status == GP_OK ? "" : gp_last_error());
}

void
job_expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not say '%s'", text, part);
}

void
job_expect_end(const job *j, uint32_t rank, gp_status status, const char *part)
{
    assert_int_equal(j->created[rank], GP_OK);
    if (j->ended[rank] != status)
        fail_msg("rank %u: %s, not %s: %s", rank,
                 gp_status_name(j->ended[rank]), gp_status_name(status),
                 j->message[rank]);
    job_expect_text(j->message[rank], part);
}
