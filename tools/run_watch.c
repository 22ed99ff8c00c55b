/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_watch.c - `gradpush run` while its members run.
 *
 * The first failure decides: whoever is left gets a moment to say what it
 * noticed, then SIGTERM, then SIGKILL.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "run_job.h"
#include "tool.h"

#define SETTLE_SECONDS 2.0 /* survivors of a failure end by themselves */
#define SHARDS_SECONDS 1.0 /* shards notice that all workers have left */
#define TERM_SECONDS   3.0 /* between SIGTERM and SIGKILL */
#define DRAIN_SECONDS  0.5 /* for pipes that someone outside still holds */

static void
set_phase(gp_run *run, gp_phase phase, double seconds)
{
    run->phase = phase;
    run->phase_end = gp_deadline(seconds);
}

static void
signal_all(gp_run *run, int number)
{
    for (size_t i = 0; i < run->count; i++)
        if (!run->children[i].ended)
            gp_child_signal(&run->children[i], number);
}

static void
end_all(gp_run *run)
{
    if (run->phase >= PHASE_ENDING)
        return;
    signal_all(run, SIGTERM);
    set_phase(run, PHASE_ENDING, TERM_SECONDS);
}

/* Its number stays its own until the end, as the guard may still use it. */
static void
start_anew(gp_run *run, gp_child *child)
{
    size_t index = (size_t)(child - run->children);

    for (int i = 0; i < 2; i++) {
        gp_stream_forward(&child->streams[i]);
        gp_stream_finish(&child->streams[i]);
    }
    gp_child_signal(child, SIGKILL);
    run->former[run->formers++] = child->pid;
    run->restarts--;
    *child = (gp_child){.anew = true, .streams = {{.fd = -1}, {.fd = -1}}};
    if (gp_run_start(run, index) == GP_OK)
        return;
    gp_say("%s", gp_last_error());
    run->failed = true;
    end_all(run);
}

static int64_t
count_working(const gp_run *run)
{
    int64_t working = 0;

    for (size_t i = run->shard_count; i < run->count; i++)
        working += run->children[i].pid && !run->children[i].ended;
    return working;
}

/* Elastic trainers leave when they are asked to. */
static bool
has_left(const gp_child *child)
{
    return child->exit.si_code == CLD_KILLED &&
           child->exit.si_status == SIGTERM;
}

/* Wrong usage, or settings and files that are no better the next time. */
static bool
is_lasting(const gp_child *child)
{
    return child->exit.si_code == CLD_EXITED &&
           (child->exit.si_status == GP_EXIT_USAGE ||
            child->exit.si_status == EX_CONFIG);
}

/* Whether those who are left do without it. What one that was just started has
 * found, all have; one that came later may be alone with it. */
static bool
is_dispensable(const gp_run *run, const gp_child *child)
{
    if (run->succeeded)
        return true;
    if (is_lasting(child))
        return child->anew && count_working(run) >= run->least;
    return (run->restarts == 0 || has_left(child)) && count_working(run) > 0;
}

/* Whether the job goes on in spite of a worker's failure. */
static bool
is_tolerated(gp_run *run, gp_child *child, const char *text)
{
    if (!run->least || child->is_shard || run->phase == PHASE_SETTLING)
        return false;
    if (is_dispensable(run, child)) {
        gp_say("%s; the job goes on without it", text);
        return true;
    }
    if (run->restarts == 0 || is_lasting(child))
        return false;
    gp_say("%s; it is started anew", text);
    start_anew(run, child);
    return true;
}

/* Says what became of a child. After SIGTERM that is our own doing. */
static void
note_end(gp_run *run, gp_child *child)
{
    char text[192];
    size_t length;

    run->succeeded |= !child->is_shard && !gp_child_failed(child);
    if (!gp_child_failed(child) || run->phase >= PHASE_ENDING)
        return;
    gp_child_describe(child, text, sizeof(text));
    length = strlen(text);
    if (run->least && !child->is_shard && is_lasting(child))
        snprintf(text + length, sizeof(text) - length,
                 ", which starting it anew would not mend");
    if (is_tolerated(run, child, text))
        return;
    gp_say("%s", text);
    run->failed = true;
    if (run->phase != PHASE_SETTLING)
        set_phase(run, PHASE_SETTLING, SETTLE_SECONDS);
}

/* All that ended at the same time: those killed by a signal first, because the
 * others may have ended because of them. */
static void
collect_ended(gp_run *run)
{
    struct signalfd_siginfo ignored;
    bool news[MAX_MEMBERS * 2];

    while (read(run->child_fd, &ignored, sizeof(ignored)) > 0)
        continue;
    for (size_t i = 0; i < run->count; i++)
        news[i] = gp_child_ended(&run->children[i]);
    for (size_t i = 0; i < run->count; i++)
        if (news[i] && run->children[i].exit.si_code != CLD_EXITED)
            note_end(run, &run->children[i]);
    for (size_t i = 0; i < run->count; i++)
        if (news[i] && run->children[i].exit.si_code == CLD_EXITED)
            note_end(run, &run->children[i]);
}

static size_t
count_alive(const gp_run *run, bool shards)
{
    size_t alive = 0;

    for (size_t i = 0; i < run->count; i++)
        if (run->children[i].is_shard == shards && run->children[i].pid &&
            !run->children[i].ended)
            alive++;
    return alive;
}

static bool
streams_open(const gp_run *run)
{
    for (size_t i = 0; i < run->count; i++)
        if (run->children[i].streams[0].fd >= 0 ||
            run->children[i].streams[1].fd >= 0)
            return true;
    return false;
}

/* What follows from who is left. */
static void
check_members(gp_run *run)
{
    size_t workers = count_alive(run, false), shards = count_alive(run, true);

    if (workers + shards == 0 && run->phase != PHASE_DRAINING) {
        for (size_t i = 0; i < run->count; i++)
            gp_child_signal(&run->children[i], SIGTERM);
        set_phase(run, PHASE_DRAINING, DRAIN_SECONDS);
    } else if (workers == 0 && run->phase == PHASE_RUNNING) {
        set_phase(run, PHASE_LEAVING, SHARDS_SECONDS);
    } else if (run->least && run->succeeded && shards == 0 &&
               run->phase == PHASE_RUNNING) {
        /* Who has not found the job yet never will. */
        set_phase(run, PHASE_LEAVING, SETTLE_SECONDS);
    }
}

static void
check_deadlines(gp_run *run)
{
    if (gp_expired(run->job_end) && run->phase < PHASE_ENDING) {
        gp_say("the job did not end within %g s (--timeout)", run->timeout);
        run->failed = true;
        end_all(run);
    }
    if (!gp_expired(run->phase_end))
        return;
    if (run->phase == PHASE_ENDING) {
        signal_all(run, SIGKILL);
        set_phase(run, PHASE_KILLED, -1);
    } else if (run->phase == PHASE_SETTLING || run->phase == PHASE_LEAVING) {
        end_all(run);
    }
}

static void
check_end_signal(gp_run *run)
{
    struct signalfd_siginfo info;

    if (read(run->end_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    gp_say("ended by signal %u (%s)", info.ssi_signo,
           strsignal((int)info.ssi_signo));
    run->failed = true;
    end_all(run);
}

/* The reader of our output went away: nobody can see how the job goes on. */
static void
check_sinks(gp_run *run)
{
    if (run->phase >= PHASE_ENDING ||
        (!run->sinks[0].broken && !run->sinks[1].broken))
        return;
    gp_say("output cannot be written any more");
    run->failed = true;
    end_all(run);
}

static int
wait_milliseconds(const gp_run *run)
{
    uint64_t end = run->phase_end;

    if (run->phase < PHASE_ENDING)
        end = GP_MIN(end, run->job_end);
    return gp_deadline_ms(end);
}

/* One round: sleep until something happens, then handle all of it. Output goes
 * before the news of an end, so that a last message precedes it. */
static void
turn(gp_run *run)
{
    struct pollfd *fds = run->fds;

    fds[0] = (struct pollfd){run->end_fd, POLLIN, 0};
    fds[1] = (struct pollfd){run->child_fd, POLLIN, 0};
    for (size_t i = 0; i < 2 * run->count; i++)
        fds[2 + i] =
            (struct pollfd){run->children[i / 2].streams[i % 2].fd, POLLIN, 0};
    if (poll(fds, (nfds_t)(2 + 2 * run->count), wait_milliseconds(run)) < 0 &&
        errno != EINTR)
        gp_say("poll: %m");
    if (fds[0].revents)
        check_end_signal(run);
    for (size_t i = 0; i < 2 * run->count; i++)
        if (fds[2 + i].revents)
            gp_stream_forward(&run->children[i / 2].streams[i % 2]);
    check_sinks(run);
    if (fds[1].revents)
        collect_ended(run);
    check_members(run);
    check_deadlines(run);
}

void
gp_run_watch(gp_run *run)
{
    for (;;) {
        bool done = run->phase == PHASE_DRAINING;

        if (done && (!streams_open(run) || gp_expired(run->phase_end)))
            return;
        turn(run);
    }
}
