/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool.h - what the subcommands of `gradpush` share: the command table, options
 * with generated help, and numbers from text.
 *
 * Exit statuses are 0 success, 1 failure, 2 wrong usage. Results go to standard
 * output, everything else to standard error.
 */
#ifndef GP_TOOL_H
#define GP_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#define GP_EXIT_OK      0
#define GP_EXIT_FAILURE 1
#define GP_EXIT_USAGE   2
#define GP_EXIT_NONE    (-1) /* parsing went well: go on */

/* One subcommand; a table of them ends with name NULL. */
typedef struct gp_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} gp_command;

/* Runs the command argv[1] names; --help lists the table. */
int gp_command_dispatch(const char *program, const char *intro,
                        const gp_command *commands, int argc, char **argv);

int gp_run_main(int argc, char **argv);
int gp_server_main(int argc, char **argv);
int gp_info_main(int argc, char **argv);
int gp_doctor_main(int argc, char **argv);
int gp_status_main(int argc, char **argv);
int gp_bench_main(int argc, char **argv);
int gp_bench_transport_main(int argc, char **argv);
int gp_bench_pushpull_main(int argc, char **argv);
int gp_bench_rows_main(int argc, char **argv);
int gp_bench_allreduce_main(int argc, char **argv);
int gp_bench_reducescatter_main(int argc, char **argv);
int gp_bench_allgather_main(int argc, char **argv);
int gp_bench_broadcast_main(int argc, char **argv);
int gp_bench_alltoall_main(int argc, char **argv);
int gp_bench_codec_main(int argc, char **argv);

/* One option. A table ends with name NULL; --help and --version are added. */
typedef struct gp_option {
    const char *name;     /* long form, without dashes */
    int key;              /* the short letter, or a number from 256 */
    const char *argument; /* name of the value in the help; NULL: none */
    const char *text;
} gp_option;

typedef struct gp_usage {
    const char *program;  /* "gradpush run" */
    const char *synopsis; /* "[options] -- CMD [ARGUMENT ...]" */
    const char *text;     /* what it does */
    const char *example;
    const gp_option *options;
    bool operands; /* operands are allowed; they start at optind */
} gp_usage;

/* Called per option; returns false after printing what is wrong. */
typedef bool (*gp_option_apply)(void *user, int key, const char *value);

/* Reads all options. GP_EXIT_NONE to go on, else the exit status: after --help
 * and --version, or when something is wrong. */
int gp_options_parse(const gp_usage *usage, int argc, char **argv,
                     gp_option_apply apply, void *user);

/* "gradpush run: text" on standard error. */
void gp_say(const char *format, ...) GP_PRINTF(1, 2);

/* The same, and the exit status for wrong usage. */
int gp_say_usage(const char *format, ...) GP_PRINTF(1, 2);

/* What gp_say() begins with; set by the dispatcher. */
void gp_say_as(const char *program);

/* Whole number within a range; says what is wrong and with which option. */
bool gp_parse_int(const char *option, const char *text, int64_t minimum,
                  int64_t maximum, int64_t *out);
/* Bytes with a suffix K, M or G (powers of 1024). */
bool gp_parse_size(const char *option, const char *text, uint64_t minimum,
                   uint64_t maximum, uint64_t *out);
/* The same of other things, which `what` names in the plural. */
bool gp_parse_many(const char *option, const char *text, const char *what,
                   uint64_t minimum, uint64_t maximum, uint64_t *out);
/* Decimal; `what` is the unit that is said, such as "seconds". */
bool gp_parse_real(const char *option, const char *text, const char *what,
                   double minimum, double maximum, double *out);
bool gp_parse_seconds(const char *option, const char *text, double minimum,
                      double maximum, double *out);

#endif
