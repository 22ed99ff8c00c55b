/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_transport.c - `gradpush bench transport`: rate or latency of one
 * connection.
 *
 * The side that listens only serves; the side that connects says what to
 * measure and prints it. Both are started here when neither is asked for: as
 * two processes, or two threads for a transport that stays in a process.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_exchange.h"
#include "bench_perftest.h"
#include "here.h"

#define ACCEPT_SECONDS 30.0 /* for the side that was started here */

enum {
    KEY_TEST = 300,
    KEY_TRANSPORT,
    KEY_LISTEN,
    KEY_CONNECT,
    KEY_WINDOW,
    KEY_SOCKETS,
    KEY_CHECKSUM
};

typedef struct gp_transport_bench {
    gp_bench common;
    gp_bench_test test;
    const char *transport, *listen, *connect;
    int64_t window;
    gp_perftest perftest;
    gp_config *config;
    const gp_transport_ops *ops;
    int report; /* the started server tells its address here */
    bool serve_failed;
} gp_transport_bench;

static const gp_option options[] = {
    {"test", KEY_TEST, "bw|lat", "payload rate, or half a round trip"},
    {"transport", KEY_TRANSPORT, "NAME",
     "default tcp, with -d or -x verbs; see gradpush info"},
    {"listen", KEY_LISTEN, "ADDR",
     "serve one client at this address; takes the rest from the client"},
    {"connect", KEY_CONNECT, "ADDR", "measure against the server there"},
    {"window", KEY_WINDOW, "N", "messages under way in a bw test (default 8)"},
    {"sockets", KEY_SOCKETS, "N", "tcp connections (default 1)"},
    {"checksum", KEY_CHECKSUM, "auto|on|off", "CRC32C of payloads"},
    GP_BENCH_OPTIONS,
    GP_PERFTEST_OPTIONS,
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush bench transport",
    "[options] [HOST]",
    "Measures one connection of a transport: the payload rate in one direction "
    "as the receiver sees it (bw), or half of a round trip (lat). Both ends "
    "are here unless --listen, --connect, --port or HOST is given. Every "
    "message is numbered and checked; whole payloads are verified before and "
    "after the timed part. Options from --ib-dev on are spelled as those of "
    "perftest (ib_write_bw), and HOST is, as there, a server to connect to.",
    "  gradpush bench transport --test lat -b 64 -e 64K\n"
    "  gradpush bench transport --listen 0.0.0.0:4720          # on one "
    "machine\n"
    "  gradpush bench transport --connect node1:4720 --json -  # on another\n"
    "  gradpush bench transport -d mlx5_0 -p 18515             # or: a server\n"
    "  gradpush bench transport -d mlx5_0 -a -q 2 node1        # its client",
    options,
    true,
};

static bool
set_field(gp_transport_bench *bench, const char *name, const char *value)
{
    if (gp_config_set(bench->config, name, value) == GP_OK)
        return true;
    gp_say("%s", gp_last_error());
    return false;
}

static bool
apply_test(gp_transport_bench *bench, const char *value)
{
    if (strcmp(value, "bw") && strcmp(value, "lat")) {
        gp_say("--test is '%s': it takes bw or lat", value);
        return false;
    }
    bench->test = strcmp(value, "bw") ? GP_TEST_LAT : GP_TEST_BW;
    return true;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_transport_bench *bench = user;

    switch (key) {
    case KEY_TEST:
        return apply_test(bench, value);
    case KEY_TRANSPORT:
        bench->transport = value;
        return true;
    case KEY_LISTEN:
        bench->listen = value;
        return true;
    case KEY_CONNECT:
        bench->connect = value;
        return true;
    case 't': /* perftest's word for it */
    case KEY_WINDOW:
        return gp_parse_int("--window", value, 1, 65536, &bench->window);
    case KEY_SOCKETS:
        return set_field(bench, "sockets", value);
    case KEY_CHECKSUM:
        return set_field(bench, "checksum", value);
    default:
        if (gp_perftest_is_mine(key))
            return gp_perftest_apply(&bench->perftest, &bench->common,
                                     bench->config, key, value);
        return gp_bench_apply(&bench->common, key, value);
    }
}

/* The transport by name, if it can run here. */
static int
find_transport(gp_transport_bench *bench)
{
    const char *names[32], *near = NULL;
    const gp_transport_ops *ops;
    char why[256] = "";
    size_t count = 0;

    for (; count < GP_COUNT_OF(names) && (ops = gp_transport_at(count));
         count++)
        names[count] = ops->name;
    bench->ops = gp_transport_find(bench->transport);
    if (!bench->ops && gp_nearest(bench->transport, names, count, &near))
        return gp_say_usage("'%s' is not a transport; did you mean '%s'?",
                            bench->transport, near);
    if (!bench->ops)
        return gp_say_usage("'%s' is not a transport; see gradpush info "
                            "--transports",
                            bench->transport);
    if (bench->ops->probe(bench->config, why, sizeof(why)) == GP_OK)
        return GP_EXIT_NONE;
    gp_say("%s cannot run here: %s; `gradpush doctor` looks for the cause",
           bench->transport, why);
    return GP_EXIT_FAILURE;
}

/* perftest's way to name the two sides, beside --listen and --connect. */
static int
read_sides(gp_transport_bench *bench, int argc, char **argv)
{
    const char *host = optind < argc ? argv[optind] : NULL, *address;
    int rc =
        gp_perftest_finish(&bench->perftest, bench->config, host, &address);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (optind + 1 < argc)
        return gp_say_usage("'%s' is not expected here; see %s --help",
                            argv[optind + 1], usage.program);
    if (address && (bench->listen || bench->connect))
        return gp_say_usage("HOST and --port exclude --listen and --connect");
    if (address)
        *(host ? &bench->connect : &bench->listen) = address;
    if (!bench->transport)
        bench->transport = bench->perftest.verbs ? "verbs" : "tcp";
    return GP_EXIT_NONE;
}

static int
read_options(gp_transport_bench *bench, int argc, char **argv)
{
    int rc = gp_options_parse(&usage, argc, argv, apply, bench);

    if (rc == GP_EXIT_NONE)
        rc = read_sides(bench, argc, argv);
    if (rc != GP_EXIT_NONE)
        return rc;
    if (bench->listen && bench->connect)
        return gp_say_usage("--listen and --connect exclude each other");
    rc = find_transport(bench);
    if (rc != GP_EXIT_NONE)
        return rc;
    if ((bench->ops->caps & GP_CAP_LOCAL) && (bench->listen || bench->connect))
        return gp_say_usage("%s stays within one process: leave out --listen "
                            "and --connect",
                            bench->transport);
    return gp_bench_prepare(&bench->common, 1);
}

/* The side that listens. `bound` is told to `report`, or to the user. */
static gp_status
serve(gp_transport_bench *bench, const char *address, double seconds)
{
    char bound[GP_ADDRESS_MAX] = "";
    gp_link link = {0};
    gp_status status = gp_link_open(bench->config, bench->ops, &link);

    if (status == GP_OK)
        status = gp_link_listen(&link, address, bound, sizeof(bound));
    if (status == GP_OK && bench->report >= 0 &&
        write(bench->report, bound, sizeof(bound)) != (ssize_t)sizeof(bound))
        status = gp_fail_errno(GP_ERR_SYSTEM, errno, "pipe");
    if (status == GP_OK && bench->report < 0)
        gp_say("listening on %s", bound);
    if (status == GP_OK)
        status = gp_link_accept(&link, seconds);
    if (status == GP_OK)
        status = gp_exchange_serve(&link);
    gp_link_close(&link);
    return status;
}

static void
print_header(const gp_transport_bench *bench, const gp_link *link)
{
    char text[256] = "";

    link->ops->ep_describe(link->ep, text, sizeof(text));
    printf("# gradpush bench transport: %s\n", text);
    if (bench->test == GP_TEST_BW)
        printf("#   bytes  #iterations  BW average[GB/s]  BW average[Gb/s]  "
               "MsgRate[Mpps]  t_typical[usec]  99%%[usec]  t_min[usec]  "
               "#wrong\n");
    else
        printf("#   bytes  #iterations  t_min[usec]  t_max[usec]  "
               "t_typical[usec]  t_avg[usec]  99%% percentile[usec]  #wrong\n");
}

static void
print_row(const gp_transport_bench *bench, const gp_bench_result *r)
{
    unsigned long long bytes = r->bytes, count = r->iterations,
                       wrong = r->errors;

    if (bench->test == GP_TEST_BW)
        printf("%9llu %12llu %17.3f %17.2f %14.6f %16.2f %11.2f %12.2f %7llu\n",
               bytes, count, r->algbw, r->algbw * 8, 1 / r->mean_us,
               r->median_us, r->p99_us, r->min_us, wrong);
    else
        printf("%9llu %12llu %12.2f %12.2f %16.2f %12.2f %21.2f %7llu\n", bytes,
               count, r->min_us, r->max_us, r->median_us, r->mean_us, r->p99_us,
               wrong);
    fflush(stdout);
}

/* How many iterations take --duration: from short exchanges, each longer than
 * the one before, until one is long enough to judge by. */
static gp_status
count_for_duration(const gp_transport_bench *bench, gp_link *link,
                   const gp_exchange *exchange, uint32_t *count)
{
    const double wanted_us = bench->perftest.seconds * 1e6;
    const double enough_us = GP_MIN(wanted_us / 4, 50e3);
    gp_bench_result result = {0};
    gp_exchange x = *exchange;
    gp_status status = GP_OK;

    x.extra = 0;
    for (x.iterations = 16; status == GP_OK; x.iterations *= 4) {
        status = gp_exchange_run(link, &x, &result);
        if (status == GP_OK && (result.mean_us * x.iterations >= enough_us ||
                                x.iterations >= 1u << 24))
            break;
    }
    if (status == GP_OK)
        *count = (uint32_t)GP_MIN(
            GP_MAX(wanted_us / GP_MAX(result.mean_us, 1e-3), 1.0), 100e6);
    return status;
}

static gp_status
measure_sizes(gp_transport_bench *bench, gp_link *link,
              gp_bench_result *results)
{
    const gp_bench *common = &bench->common;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < common->size_count && status == GP_OK; i++) {
        uint64_t bytes = common->sizes[i];
        uint64_t fit = GP_MAX(((uint64_t)1 << 28) / bytes, 1u);
        gp_exchange x = {bench->test,
                         bytes,
                         GP_MAX(common->warmup, 1u),
                         gp_bench_iterations(common, bytes),
                         0,
                         (uint32_t)GP_MIN((uint64_t)bench->window, fit),
                         common->check};

        if (bench->test == GP_TEST_LAT)
            x.window = 2;
        if (common->check)
            x.extra = x.window;
        if (bench->perftest.seconds > 0)
            status = count_for_duration(bench, link, &x, &x.iterations);
        if (status == GP_OK)
            status = gp_exchange_run(link, &x, &results[i]);
        if (status == GP_OK && gp_bench_table(common))
            print_row(bench, &results[i]);
    }
    return status;
}

static gp_json *
document(const gp_transport_bench *bench, const gp_link *link)
{
    gp_json *config;
    gp_json *doc = gp_bench_document(&bench->common, "transport", &config);
    char text[256] = "";

    link->ops->ep_describe(link->ep, text, sizeof(text));
    gp_json_text(config, "test", bench->test == GP_TEST_BW ? "bw" : "lat");
    gp_json_text(config, "transport", bench->transport);
    gp_json_text(config, "connection", text);
    if (bench->perftest.seconds > 0)
        gp_json_real(config, "duration", bench->perftest.seconds);
    gp_json_int(config, "window",
                bench->test == GP_TEST_BW ? bench->window : 1);
    return doc;
}

/* The side that connects; returns the exit status. */
static int
measure(gp_transport_bench *bench, const char *address)
{
    gp_bench_result results[GP_BENCH_SIZES_MAX];
    gp_link link = {0};
    gp_json *doc = NULL;
    int rc = GP_EXIT_FAILURE;
    gp_status status = gp_link_open(bench->config, bench->ops, &link);

    if (status == GP_OK)
        status = gp_link_connect(
            &link, address,
            gp_config_seconds(bench->config, "connect_timeout"));
    if (status == GP_OK) {
        doc = document(bench, &link);
        if (gp_bench_table(&bench->common))
            print_header(bench, &link);
        status = measure_sizes(bench, &link, results);
    }
    if (status == GP_OK)
        status = gp_exchange_end(&link);
    if (status == GP_OK)
        rc = gp_bench_finish(&bench->common, doc, results,
                             bench->common.size_count);
    else
        gp_say("%s", gp_last_error());
    gp_json_destroy(doc);
    gp_link_close(&link);
    return rc;
}

/* The server that is started here: reports its address, or nothing. */
static void
serve_here(gp_transport_bench *bench)
{
    char name[GP_ADDRESS_MAX];
    gp_status status = GP_OK;

    if (bench->ops->caps & GP_CAP_LOCAL)
        snprintf(name, sizeof(name), "bench-%d", getpid());
    else
        status = gp_here(bench->config, bench->transport, name, sizeof(name));
    if (status == GP_OK)
        status = serve(bench, name, ACCEPT_SECONDS);
    bench->serve_failed = status != GP_OK;
    if (bench->serve_failed)
        gp_say("server side: %s", gp_last_error());
    close(bench->report);
}

static void *
serve_thread(void *user)
{
    serve_here(user);
    return NULL;
}

/* Reads the address that the server reports, and measures against it. */
static int
measure_reported(gp_transport_bench *bench, int fd)
{
    char address[GP_ADDRESS_MAX];
    ssize_t n;

    do
        n = read(fd, address, sizeof(address));
    while (n < 0 && errno == EINTR);
    close(fd);
    return n == (ssize_t)sizeof(address) ? measure(bench, address)
                                         : GP_EXIT_FAILURE;
}

static int
measure_with_thread(gp_transport_bench *bench, int fd)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, serve_thread, bench);

    if (rc) {
        gp_say("no thread: %s", strerror(rc));
        return GP_EXIT_FAILURE;
    }
    rc = measure_reported(bench, fd);
    pthread_join(thread, NULL);
    return bench->serve_failed ? GP_EXIT_FAILURE : rc;
}

static int
measure_with_process(gp_transport_bench *bench, int fd)
{
    pid_t parent = getpid(), pid = fork();
    int rc, status = 0;

    if (pid < 0) {
        gp_say("fork: %m");
        return GP_EXIT_FAILURE;
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(GP_EXIT_FAILURE);
        close(fd);
        serve_here(bench);
        _exit(bench->serve_failed ? GP_EXIT_FAILURE : GP_EXIT_OK);
    }
    close(bench->report);
    rc = measure_reported(bench, fd);
    if (rc == GP_EXIT_FAILURE)
        kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status ? GP_EXIT_FAILURE : rc;
}

static int
measure_here(gp_transport_bench *bench)
{
    int pair[2];

    if (pipe(pair)) {
        gp_say("pipe: %m");
        return GP_EXIT_FAILURE;
    }
    bench->report = pair[1];
    return bench->ops->caps & GP_CAP_LOCAL
               ? measure_with_thread(bench, pair[0])
               : measure_with_process(bench, pair[0]);
}

static int
listen_only(gp_transport_bench *bench)
{
    if (serve(bench, bench->listen, -1) == GP_OK)
        return GP_EXIT_OK;
    gp_say("%s", gp_last_error());
    return GP_EXIT_FAILURE;
}

int
gp_bench_transport_main(int argc, char **argv)
{
    gp_transport_bench bench = {
        .common = GP_BENCH_INIT, .window = 8, .report = -1};
    int rc = GP_EXIT_FAILURE;

    gp_say_as(usage.program);
    if (gp_config_create(&bench.config) != GP_OK) {
        gp_say("%s", gp_last_error());
        return rc;
    }
    signal(SIGPIPE, SIG_IGN);
    rc = read_options(&bench, argc, argv);
    if (rc == GP_EXIT_NONE && bench.listen)
        rc = listen_only(&bench);
    else if (rc == GP_EXIT_NONE && bench.connect)
        rc = measure(&bench, bench.connect);
    else if (rc == GP_EXIT_NONE)
        rc = measure_here(&bench);
    gp_config_destroy(bench.config);
    return rc;
}
