/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mpi_allreduce.c - the reference of compare.sh: MPI_Allreduce of fp32 sums.
 *
 * Measured as `gradpush bench pushpull` measures: a barrier before every
 * iteration; its time from the last rank's start to the last rank's end, by the
 * clock of the one machine that all are on; first, middle and last element
 * renewed for every iteration and checked after it, all elements checked after
 * the last one. Prints "bytes iterations median_us p99_us min_us errors" per
 * size.
 *
 *     mpicc -O2 -o mpi_allreduce mpi_allreduce.c
 *     mpirun -n 2 ./mpi_allreduce 4096:1000 65536:500 1048576:100
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM_UP 5

static int rank, size;

/* Small whole numbers: their sums are exact in any order. */
static float
pattern(long index, int step, int from)
{
    return (float)((index * 7 + step * 5 + from * 3) % 16 - 8);
}

static float
expected(long index, int step)
{
    float sum = 0;

    for (int r = 0; r < size; r++)
        sum += pattern(index, step, r);
    return sum;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Microseconds; the same clock for all processes of a machine. */
static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* One iteration: its start and end, and errors in the marks. */
static void
iterate(float *in, float *out, long count, int step, double *stamps,
        long *errors)
{
    long marks[3] = {0, count / 2, count - 1};

    for (int i = 0; i < 3; i++)
        in[marks[i]] = pattern(marks[i], step, rank);
    MPI_Barrier(MPI_COMM_WORLD);
    stamps[0] = now();
    MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    stamps[1] = now();
    for (int i = 0; i < 3; i++)
        *errors += out[marks[i]] != expected(marks[i], step);
}

/* From the last start to the last end, on every rank the same. */
static void
take_times(double *stamps, double *times, int iterations)
{
    MPI_Allreduce(MPI_IN_PLACE, stamps, 2 * iterations, MPI_DOUBLE, MPI_MAX,
                  MPI_COMM_WORLD);
    for (int i = 0; i < iterations; i++)
        times[i] = stamps[2 * i + 1] - stamps[2 * i];
}

static void
measure(long bytes, int iterations)
{
    long count = bytes / (long)sizeof(float), errors = 0, total = 0;
    float *in = malloc((size_t)bytes), *out = malloc((size_t)bytes);
    double *times = malloc(sizeof(double) * (size_t)iterations);
    double *stamps = malloc(2 * sizeof(double) * (size_t)iterations);
    double ignored[2];

    if (!in || !out || !times || !stamps)
        MPI_Abort(MPI_COMM_WORLD, 1);
    for (long i = 0; i < count; i++)
        in[i] = pattern(i, 0, rank);
    memset(out, 0, (size_t)bytes);
    for (int i = 0; i < WARM_UP; i++)
        iterate(in, out, count, i, ignored, &errors);
    for (int i = 0; i < iterations; i++)
        iterate(in, out, count, i, stamps + 2 * i, &errors);
    take_times(stamps, times, iterations);
    for (long i = 0; i < count; i++)
        in[i] = pattern(i, 0, rank);
    MPI_Allreduce(in, out, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (long i = 0; i < count; i++)
        errors += out[i] != expected(i, 0);
    MPI_Reduce(&errors, &total, 1, MPI_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
    qsort(times, (size_t)iterations, sizeof(double), compare_doubles);
    if (rank == 0)
        printf("%ld %d %.3f %.3f %.3f %ld\n", bytes, iterations,
               times[iterations / 2], times[(iterations - 1) * 99 / 100],
               times[0], total);
    free(in);
    free(out);
    free(times);
    free(stamps);
}

int
main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (int i = 1; i < argc; i++) {
        long bytes = 0;
        int iterations = 0;

        if (sscanf(argv[i], "%ld:%d", &bytes, &iterations) != 2 || bytes < 4 ||
            iterations < 1) {
            fprintf(stderr, "'%s' is not BYTES:ITERATIONS\n", argv[i]);
            MPI_Abort(MPI_COMM_WORLD, 2);
        }
        measure(bytes, iterations);
    }
    MPI_Finalize();
    return 0;
}
