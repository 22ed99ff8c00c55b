/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_harness.h - a whole job inside one test program: every worker a thread,
 * every stand-alone shard a server of this process.
 *
 * cmocka's assertions jump, which only the main thread may do: a worker's
 * thread uses job_check() and job_require(), which end the program aloud.
 */
#ifndef JOB_HARNESS_H
#define JOB_HARNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <gradpush/gradpush.h>
#include <gradpush/server.h>

#define JOB_WORKERS  8
#define JOB_SHARDS   64
#define JOB_SETTINGS 24

typedef struct job {
    const char *transport;
    uint32_t workers;
    uint32_t shards;                    /* stand-alone ones */
    bool colocated;                     /* then `shards` is not used */
    const char *settings[JOB_SETTINGS]; /* name, value, ..., NULL */
    void (*body)(struct job *job, gp_worker *worker, uint32_t rank);
    void *data;
    /* Changes what one worker is told; may be NULL. */
    void (*tweak)(struct job *job, gp_config *config, uint32_t rank);
    bool absent[JOB_WORKERS]; /* workers that are never started */

    /* Filled by run_job(). */
    char servers[2048];
    gp_server *server[JOB_SHARDS];
    gp_status created[JOB_WORKERS];
    char message[JOB_WORKERS][600];
    gp_status ended[JOB_WORKERS]; /* a body may leave what it ended with here */
    atomic_bool gone[JOB_WORKERS]; /* its worker is destroyed */
    gp_status server_status;       /* the first that is not GP_OK */
    char server_message[600];
} job;

/* Ends the program when `condition` is false. */
#define job_require(condition, ...)                                \
    do {                                                           \
        if (!(condition))                                          \
            job_die(__FILE__, __LINE__, #condition, ##__VA_ARGS__, \
                    (const char *)NULL);                           \
    } while (0)
_Noreturn void job_die(const char *file, int line, const char *what, ...);

/* Ends the program when a status is not GP_OK; shows gp_last_error(). */
#define job_check(status) job_check_at(__FILE__, __LINE__, (status))
void job_check_at(const char *file, int line, gp_status status);

/* Sets a field, which must exist. */
void job_set(gp_config *config, const char *name, const char *value);

/* What every member of the job is told. */
gp_config *job_config(const job *j);

/* Starts servers only; job_stop_servers() waits for them and frees them. */
void job_start_servers(job *j);
void job_stop_servers(job *j);

/* Runs the body in every worker. Returns GP_OK when every worker was created
 * and every server saw an orderly end; otherwise the first that was not. */
gp_status run_job(job *j);

/* Runs a job in which somebody's time ends. `limit`, a field of config, is `ms`
 * at first, which is enough on an idle machine; a busy one gets more of it, up
 * to a minute, while too_short() says that whoever waits could not say `part`
 * yet. NULL: while worker 0 does not say it. */
void job_run_patiently(job *j, const char *limit, unsigned ms, const char *part,
                       bool (*too_short)(const job *j, const char *part));

/* A port of 127.0.0.1 where nobody listens, kept for this program. */
void job_free_port(char *out, size_t capacity);

/* Registers a tensor of fp32 without codecs. */
gp_tensor *job_tensor(gp_worker *w, const char *name, uint64_t count,
                      const char *updater);

/* Records log lines from now on; job_log_has() looks for a part of one, and
 * job_log_wait() polls for it with a deadline in seconds. */
void job_log_start(void);
void job_log_stop(void);
bool job_log_has(const char *part);
bool job_log_wait(const char *part, double seconds);
/* Adds up the numbers that follow a part. */
uint64_t job_log_sum(const char *part);

/* Numbers that differ between ranks, tensors, steps and elements, and whose
 * sums round. */
float job_value(uint32_t rank, uint32_t tensor, uint64_t step, uint64_t i);

/* A small deterministic generator, for orders of calls. */
uint32_t job_random(uint32_t *state);
void job_shuffle(uint32_t *order, uint32_t count, uint32_t *state);

double job_seconds(void);

/* For bodies: keeps what a call ended with, for the main thread to look at. */
void job_note(job *j, uint32_t rank, gp_status status);

/* For the main thread: fails the test unless the text has that part, or unless
 * a worker was created and its body noted that status and a text with it. */
void job_expect_text(const char *text, const char *part);
void job_expect_end(const job *j, uint32_t rank, gp_status status,
                    const char *part);

#endif
