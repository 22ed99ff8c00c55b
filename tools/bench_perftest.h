/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_perftest.h - options of `gradpush bench transport` as ib_write_bw and
 * its sisters spell them, so that one script can drive both.
 *
 * They set fields of the configuration and of the benchmark. Letters that
 * gradpush's contract gives another meaning (-b -e -f -w -c) keep that one.
 */
#ifndef GP_BENCH_PERFTEST_H
#define GP_BENCH_PERFTEST_H

#include <gradpush/config.h>
#include <gradpush/transport.h>

#include "bench.h"

typedef struct gp_perftest {
    const char *device; /* NULL: not given */
    int64_t ib_port;    /* 0: not given */
    bool verbs;         /* something was asked that only verbs has */
    double seconds;     /* per size, 0: by iterations */
    int64_t port;       /* of the server, 0: not given */
    char address[GP_ADDRESS_MAX];
} gp_perftest;

/* Keys of long options without a letter. */
enum { GP_PERFTEST_GBITS = 400, GP_PERFTEST_CLASS };

/* The rows of the option table; the last of the list is the caller's. */
#define GP_PERFTEST_OPTIONS                                                   \
    {"ib-dev", 'd', "DEV", "RDMA device, as GRADPUSH_IB_HCA: implies verbs"}, \
        {"ib-port", 'i', "PORT", "its port; needs -d"},                       \
        {"gid-index", 'x', "N", "GRADPUSH_IB_GID_INDEX"},                     \
        {"size", 's', "BYTES", "one size: -b and -e at once"},                \
        {"all", 'a', NULL, "sizes from 2 bytes to 8 MiB, doubling"},          \
        {"duration", 'D', "SECONDS", "so long for each size, instead of -n"}, \
        {"qp", 'q', "N", "queue pairs of verbs, sockets of tcp"},             \
        {"tx-depth", 't', "N", "messages under way: --window"},               \
        {"inline_size", 'I', "BYTES",                                         \
         "payloads up to it go with their header: GRADPUSH_IB_EAGER"},        \
        {"qp-timeout", 'u', "N", "GRADPUSH_IB_TIMEOUT: 4.096 us * 2^N"},      \
        {"tclass", GP_PERFTEST_CLASS, "N", "GRADPUSH_IB_TRAFFIC_CLASS"},      \
        {"port", 'p', "PORT",                                                 \
         "of the server, 18515; without HOST: be the server"},                \
        {"rdma_cm", 'R', NULL, "always so"},                                  \
        {"CPU-freq", 'F', NULL, "accepted, without effect"},                  \
    {                                                                         \
        "report_gbits", GP_PERFTEST_GBITS, NULL, "always so"                  \
    }

bool gp_perftest_is_mine(int key);

/* One option; false after saying what is wrong. */
bool gp_perftest_apply(gp_perftest *perftest, gp_bench *bench,
                       gp_config *config, int key, const char *value);

/* After all of them: the device filter, and the address of the server at
 * `host`, or to listen on when it is NULL; NULL when no port was given either.
 * An exit status. */
int gp_perftest_finish(gp_perftest *perftest, gp_config *config,
                       const char *host, const char **address);

#endif
