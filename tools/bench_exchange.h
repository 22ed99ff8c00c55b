/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_exchange.h - one size of the transport benchmark, seen from both ends.
 *
 * The client says what to do in a BEGIN message; the server grants memory and
 * answers READY. Payloads go into slots of that memory; slot i % window holds
 * message i. A slot is written again only after the server has acknowledged it.
 */
#ifndef GP_BENCH_EXCHANGE_H
#define GP_BENCH_EXCHANGE_H

#include "bench.h"
#include "bench_link.h"

typedef enum gp_bench_test { GP_TEST_BW = 0, GP_TEST_LAT = 1 } gp_bench_test;

typedef struct gp_exchange {
    gp_bench_test test;
    uint64_t bytes;
    uint32_t warmup, iterations; /* warmup at least 1 */
    uint32_t extra;              /* untimed after them, verified completely */
    uint32_t window;
    bool check;
} gp_exchange;

/* The client's side of one size. */
gp_status gp_exchange_run(gp_link *link, const gp_exchange *exchange,
                          gp_bench_result *result);

/* Serves exchanges until the client says that it is done. */
gp_status gp_exchange_serve(gp_link *link);

/* Tells the server that there is no more. */
gp_status gp_exchange_end(gp_link *link);

#endif
