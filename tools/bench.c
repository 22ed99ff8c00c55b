/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - `gradpush bench`: the table of benchmarks.
 */
#include "tool.h"

static const gp_command benches[] = {
    {"transport", gp_bench_transport_main,
     "payload rate or latency between two processes"},
    {"pushpull", gp_bench_pushpull_main,
     "W workers push, shards add, all pull"},
    {"rows", gp_bench_rows_main, "pushes and pulls of an embedding's rows"},
    {"allreduce", gp_bench_allreduce_main,
     "workers reduce, all get the result"},
    {"reducescatter", gp_bench_reducescatter_main,
     "workers reduce, each gets a part"},
    {"allgather", gp_bench_allgather_main, "all get what each has"},
    {"broadcast", gp_bench_broadcast_main, "all get what one has"},
    {"alltoall", gp_bench_alltoall_main, "each gives each a part"},
    {"codec", gp_bench_codec_main, "rates, sizes and errors of pipelines"},
    {NULL, NULL, NULL},
};

int
gp_bench_main(int argc, char **argv)
{
    return gp_command_dispatch(
        "gradpush bench",
        "Measures and verifies. Results go to standard output as a table, and "
        "with --json\ninto one document. GB is 1e9 bytes.",
        benches, argc, argv);
}
