/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h - the parts of `gradpush run`: processes, their output, and the guard
 * that ends them when run itself is killed.
 */
#ifndef GP_RUN_H
#define GP_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <gradpush/status.h>

/* Where forwarded output goes. A write waits for the reader, but not beyond a
 * readable `interrupt` descriptor or the deadline; then all further output is
 * dropped. */
typedef struct gp_sink {
    int fd, interrupt;
    uint64_t deadline;
    bool broken; /* nobody reads any more, or interrupted */
} gp_sink;

void gp_sink_write(gp_sink *sink, const char *data, size_t length);

/* One standard output or error of a child: whole lines in, lines with a prefix
 * out. A line longer than 1 MiB is cut there. */
typedef struct gp_stream {
    int fd; /* non-blocking; -1 after its end */
    const char *prefix;
    gp_sink *sink;
    char *data; /* an unfinished line */
    size_t length, capacity;
} gp_stream;

/* Forwards what has arrived; a bounded amount, so that one noisy child does not
 * silence the others. Closes the stream at its end, or on an error. */
void gp_stream_forward(gp_stream *stream);

/* Forwards an unfinished last line and releases everything. */
void gp_stream_finish(gp_stream *stream);

typedef struct gp_child {
    char label[32];  /* "worker 1" */
    char prefix[32]; /* "[1] " */
    bool is_shard;
    bool anew;      /* in the place of one that failed */
    bool ended;     /* it has an exit status; it is reaped at the very end, so
                       that its number, its group's too, stays its own */
    siginfo_t exit; /* valid when ended */
    pid_t pid;      /* also its process group; 0: not started */
    gp_stream streams[2];
} gp_child;

/* Starts argv in a process group of its own, with streams connected to it and
 * standard input from /dev/null. It is killed when this process ends. */
gp_status gp_child_start(gp_child *child, char *const *argv, char *const *envp,
                         const sigset_t *mask);

/* Looks whether it has ended; true when it is news. */
bool gp_child_ended(gp_child *child);

bool gp_child_failed(const gp_child *child);

/* "worker 1 was killed by signal 9 (Killed)" */
void gp_child_describe(const gp_child *child, char *out, size_t capacity);

/* To the whole process group, also when its leader has ended. */
void gp_child_signal(const gp_child *child, int signal);

/* An environment: a copy of this process's, to which variables are added. */
typedef struct gp_environment {
    char **list; /* ends with NULL */
    size_t count;
} gp_environment;

gp_status gp_environment_copy(char *const *from, gp_environment *out);
/* `setting` is "NAME=VALUE"; replaces the one of that name. */
gp_status gp_environment_set(gp_environment *environment, const char *setting);
gp_status gp_environment_format(gp_environment *environment, const char *format,
                                ...) GP_PRINTF(2, 3);
void gp_environment_free(gp_environment *environment);

/* A process that outlives this one just long enough to kill the groups it was
 * told of and to remove files. */
typedef struct gp_guard {
    pid_t pid;
    int fd;
} gp_guard;

/* @param paths  removed when this process dies, if they are there; ends with
 *               NULL. Call it before threads are started. */
gp_status gp_guard_start(const char *const *paths, gp_guard *out);
void gp_guard_watch(gp_guard *guard, pid_t group);
/* All is cleaned up: the guard ends without doing anything. */
void gp_guard_dismiss(gp_guard *guard);

#endif
