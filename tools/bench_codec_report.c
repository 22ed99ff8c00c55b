/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec_report.c - rows and JSON of the codec benchmark, and when a
 * pipeline pays.
 *
 * With n elements, V_e and V_d the fp32 bytes per second that encode and
 * decode_add take, and ratio r: one after the other, compressing pays while
 * 1/V_e + 1/V_d < (1 - 1/r) / B; overlapped, a step costs the longest of
 * encode, wire and decode, so it pays while B < min(V_e, V_d).
 */
#include <math.h>
#include <stdio.h>

#include "bench_codec.h"

#define GIGA 1e9

static double
ratio_of(const gp_codec_result *r, double baseline)
{
    return r->bits > 0 ? baseline / r->bits : (double)NAN;
}

/* Gbit/s of the link below which it pays. */
static double
break_even(const gp_codec_bench *bench, const gp_codec_result *r,
           bool overlapped)
{
    double ve = gp_codec_rate(r, GP_JOB_ENCODE, bench->workers);
    double vd = gp_codec_rate(r, GP_JOB_DECODE_ADD, bench->workers);
    double ratio = ratio_of(r, 32);

    if (!(ratio > 1))
        return 0;
    return 8 *
           (overlapped ? fmin(ve, vd) : (1 - 1 / ratio) / (1 / ve + 1 / vd));
}

/* Time of a dense message of so many bits per element by the pipeline's. */
static double
speedup(const gp_codec_bench *bench, const gp_codec_result *r, double baseline,
        bool overlapped)
{
    double n = (double)r->count;
    double encode = r->times[GP_JOB_ENCODE].median_us / 1e6;
    double decode = r->times[GP_JOB_DECODE_ADD].median_us / 1e6;
    double wire = n * r->bits / bench->link;
    double dense = n * baseline / bench->link;

    if (overlapped)
        return dense / fmax(fmax(encode, decode), wire);
    return dense / (encode + wire + decode);
}

void
gp_codec_print_header(const gp_codec_bench *bench)
{
    printf(
        "# gradpush bench codec: input %s%s, seed %llu, %u thread%s, fold of "
        "%u%s\n",
        bench->inputs[0], bench->input_count > 1 ? " ..." : "",
        (unsigned long long)bench->seed, bench->threads,
        bench->threads == 1 ? "" : "s", bench->workers,
        bench->feedback ? ", error feedback" : "");
    printf("# GB/s of fp32 in or out; copy: bytes that memcpy reads and "
           "writes; enc%% ... : share of it in bytes moved\n");
    printf("# %10s  %-32s %8s %7s %7s %7s %7s %7s %7s %4s %4s %4s %4s %9s %7s "
           "%7s %7s%s %6s\n",
           "bytes", "codec", "bits/el", "ratio", "encode", "decode", "dec+add",
           "fold", "copy", "enc%", "dec%", "add%", "fld%", "nmse", "cosine",
           "|e|/|g|", "Gbit/s", bench->link > 0 ? " speedup" : "", "#wrong");
}

/* A number, or a dash for one that there is not. */
static void
print_cell(double value, int width, int digits)
{
    if (isfinite(value))
        printf(" %*.*f", width, digits, value);
    else
        printf(" %*s", width, "-");
}

void
gp_codec_print_row(const gp_codec_bench *bench, const gp_codec_result *r)
{
    static const gp_codec_job rates[] = {GP_JOB_ENCODE, GP_JOB_DECODE,
                                         GP_JOB_DECODE_ADD, GP_JOB_FOLD,
                                         GP_JOB_COPY};

    printf("%12llu  %-32s", (unsigned long long)r->bytes, r->codec);
    print_cell(r->bits, 8, 4);
    print_cell(ratio_of(r, 32), 7, 2);
    for (size_t i = 0; i < GP_COUNT_OF(rates); i++)
        print_cell(gp_codec_rate(r, rates[i], bench->workers), 7, 2);
    for (size_t i = 0; i < 4; i++)
        print_cell(100 * gp_codec_share(r, rates[i], bench->workers), 4, 0);
    printf(" %9.3g", r->nmse);
    print_cell(r->cosine, 7, 4);
    print_cell(r->residual, 7, 3);
    print_cell(break_even(bench, r, true), 7, 1);
    if (bench->link > 0)
        print_cell(speedup(bench, r, 32, true), 7, 2);
    printf(" %6llu\n", (unsigned long long)r->errors);
    fflush(stdout);
}

static void
add_times(const gp_codec_bench *bench, gp_json *o, const gp_codec_result *r)
{
    static const char *const names[GP_JOBS] = {"copy",
                                               "encode",
                                               "decode",
                                               "decode_add",
                                               "fold",
                                               "aggregate",
                                               "feedback_separate",
                                               "feedback_chunked"};

    for (int job = 0; job < GP_JOBS; job++) {
        const gp_bench_result *t = &r->times[job];
        char key[64];

        if (!t->iterations)
            continue;
        snprintf(key, sizeof(key), "%s_GBps",
                 job == GP_JOB_COPY ? "roofline" : names[job]);
        gp_json_real(o, key,
                     gp_codec_rate(r, (gp_codec_job)job, bench->workers));
        snprintf(key, sizeof(key), "%s_share", names[job]);
        if (job != GP_JOB_COPY)
            gp_json_real(o, key,
                         gp_codec_share(r, (gp_codec_job)job, bench->workers));
        snprintf(key, sizeof(key), "%s_median_us", names[job]);
        gp_json_real(o, key, t->median_us);
        snprintf(key, sizeof(key), "%s_p99_us", names[job]);
        gp_json_real(o, key, t->p99_us);
        snprintf(key, sizeof(key), "%s_min_us", names[job]);
        gp_json_real(o, key, t->min_us);
    }
}

static void
add_accuracy(gp_json *o, const gp_codec_result *r)
{
    gp_json_real(o, "bits_per_element", r->bits);
    gp_json_real(o, "payload_bits_per_element", r->payload_bits);
    gp_json_real(o, "ratio", ratio_of(r, 32));
    gp_json_real(o, "ratio_to_16_bit", ratio_of(r, 16));
    gp_json_real(o, "nmse", r->nmse);
    gp_json_real(o, "nmse_min", r->nmse_least);
    gp_json_real(o, "nmse_max", r->nmse_most);
    gp_json_int(o, "trials", r->trials);
    gp_json_real(o, "nmse_of_mean", r->mean_nmse);
    gp_json_real(o, "nmse_bound", r->bound);
    gp_json_real(o, "cosine", r->cosine);
    gp_json_real(o, "density", r->density);
    gp_json_real(o, "average_nmse", r->average_nmse);
    gp_json_real(o, "average_cosine", r->average_cosine);
    gp_json_real(o, "residual_ratio", r->residual);
    gp_json_int(o, "memory_bytes", (int64_t)r->memory_bytes);
}

static void
add_worth(const gp_codec_bench *bench, gp_json *o, const gp_codec_result *r)
{
    gp_json_real(o, "break_even_Gbps", break_even(bench, r, false));
    gp_json_real(o, "break_even_overlapped_Gbps", break_even(bench, r, true));
    if (bench->link <= 0)
        return;
    gp_json_real(o, "link_Gbps", bench->link / GIGA);
    gp_json_real(o, "speedup", speedup(bench, r, 32, false));
    gp_json_real(o, "speedup_overlapped", speedup(bench, r, 32, true));
    gp_json_real(o, "speedup_to_16_bit", speedup(bench, r, 16, false));
    gp_json_real(o, "speedup_to_16_bit_overlapped",
                 speedup(bench, r, 16, true));
}

void
gp_codec_add_result(const gp_codec_bench *bench, gp_json *list,
                    const gp_codec_result *r)
{
    gp_json *o = gp_json_object(list, NULL);

    gp_json_text(o, "codec", r->codec);
    gp_json_text(o, "pipeline", r->name);
    gp_json_text(o, "device", bench->device_name);
    gp_json_int(o, "bytes", (int64_t)r->bytes);
    gp_json_int(o, "count", (int64_t)r->count);
    gp_json_int(o, "chunk", (int64_t)r->chunk);
    gp_json_int(o, "chunks", (int64_t)r->chunks);
    gp_json_int(o, "iterations", r->iterations);
    add_times(bench, o, r);
    add_accuracy(o, r);
    add_worth(bench, o, r);
    gp_json_int(o, "errors", (int64_t)r->errors);
    if (r->wrong)
        gp_json_text(o, "wrong", r->wrong);
}
