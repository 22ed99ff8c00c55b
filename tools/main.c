/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - the gradpush program: a table of commands and how one is found.
 */
#include <stdio.h>
#include <string.h>

#include <gradpush/version.h>

#include "base/base.h"
#include "tool.h"

static const gp_command commands[] = {
    {"run", gp_run_main, "start shards and workers on this machine"},
    {"server", gp_server_main, "host parameter shards until the job ends"},
    {"info", gp_info_main, "show what this build and this machine have"},
    {"doctor", gp_doctor_main, "find what is wrong with this machine"},
    {"status", gp_status_main, "show what a live job is doing"},
    {"bench", gp_bench_main,
     "measure transports, push and pull, collectives, codecs"},
    {NULL, NULL, NULL},
};

static void
print_commands(const char *program, const char *intro, const gp_command *table)
{
    printf("Usage: %s COMMAND [options]\n\n%s\n\nCommands:\n", program, intro);
    for (const gp_command *c = table; c->name; c++)
        printf("  %-10s  %s\n", c->name, c->text);
    printf("\n`%s COMMAND --help` describes a command and shows an example.\n",
           program);
}

static int
unknown_command(const char *program, const gp_command *table, const char *name)
{
    const char *names[16], *near;
    size_t count = 0;

    for (; table[count].name && count < GP_COUNT_OF(names); count++)
        names[count] = table[count].name;
    if (gp_nearest(name, names, count, &near))
        return gp_say_usage("'%s' is not a command; did you mean '%s'?", name,
                            near);
    return gp_say_usage("'%s' is not a command; see %s --help", name, program);
}

int
gp_command_dispatch(const char *program, const char *intro,
                    const gp_command *table, int argc, char **argv)
{
    gp_say_as(program);
    if (argc < 2) {
        return gp_say_usage("a command is missing; see %s --help", program);
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help")) {
        print_commands(program, intro, table);
        return GP_EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("gradpush %s\n", gp_version());
        return GP_EXIT_OK;
    }
    for (const gp_command *c = table; c->name; c++)
        if (!strcmp(argv[1], c->name))
            return c->run(argc - 1, argv + 1);
    return unknown_command(program, table, argv[1]);
}

/* A result that could not be written, to a full disk say, is a failure. */
static int
flush_results(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    gp_say_as("gradpush");
    gp_say("standard output cannot be written: %m");
    return GP_EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
    return flush_results(gp_command_dispatch(
        "gradpush",
        "Moves gradients between trainers and sharded parameter servers.",
        commands, argc, argv));
}
