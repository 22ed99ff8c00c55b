/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - one table of options feeds getopt_long, the help text and the
 * search for the nearest name.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/version.h>

#include "base/base.h"
#include "tool.h"

#define MAX_OPTIONS 48
#define KEY_HELP    10001
#define KEY_VERSION 10002

/* A copy: some programs make theirs up while they read their options. */
static char speaker[64] = "gradpush";

void
gp_say_as(const char *program)
{
    if (program != speaker)
        snprintf(speaker, sizeof(speaker), "%s", program);
}

static void
say(const char *format, va_list args)
{
    char text[2048];

    vsnprintf(text, sizeof(text), format, args);
    fprintf(stderr, "%s: %s\n", speaker, text);
}

void
gp_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

int
gp_say_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return GP_EXIT_USAGE;
}

static size_t
option_count(const gp_usage *usage)
{
    size_t count = 0;

    while (usage->options[count].name && count < MAX_OPTIONS)
        count++;
    return count;
}

/* Breaks `text` into lines of at most 78 columns that start at `indent`; keeps
 * the line breaks that it has. */
static void
print_wrapped(const char *text, int indent)
{
    int column = indent;

    while (*text) {
        int word = (int)strcspn(text, " \n");

        if (word == 0) { /* a paragraph ends */
            printf("\n%*s", indent, "");
            column = indent;
            text++;
            continue;
        }
        if (column > indent && column + 1 + word > 78) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void
print_option(const char *name, int key, const char *argument, const char *text)
{
    char left[64];
    int length;

    if (key > 0 && key < 256)
        length = snprintf(left, sizeof(left), "  -%c, --%s", key, name);
    else
        length = snprintf(left, sizeof(left), "      --%s", name);
    if (argument)
        length += snprintf(left + length, sizeof(left) - (size_t)length, " %s",
                           argument);
    printf("%-26s", left);
    if (length > 25)
        printf("\n%26s", "");
    print_wrapped(text, 26);
}

static void
print_help(const gp_usage *usage)
{
    printf("Usage: %s %s\n\n", usage->program, usage->synopsis);
    print_wrapped(usage->text, 0);
    printf("\nOptions:\n");
    for (const gp_option *o = usage->options; o->name; o++)
        print_option(o->name, o->key, o->argument, o->text);
    print_option("help", 0, NULL, "print this text");
    print_option("version", 0, NULL, "print the version");
    printf("\nExample:\n%s\n", usage->example);
    printf("\nExit status: 0 success, 1 failure, 2 wrong usage.\n");
}

static int
unknown_option(const gp_usage *usage, const char *text)
{
    const char *names[MAX_OPTIONS + 2], *near;
    size_t count = option_count(usage);
    char name[64];

    for (size_t i = 0; i < count; i++)
        names[i] = usage->options[i].name;
    names[count] = "help";
    names[count + 1] = "version";
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(text + 2, "="), text + 2);
    if (gp_nearest(name, names, count + 2, &near))
        return gp_say_usage("unknown option '--%s'; did you mean '--%s'?", name,
                            near);
    return gp_say_usage("unknown option '--%s'; see %s --help", name,
                        usage->program);
}

/* `key` is what getopt_long returned: '?' or ':'. */
static int
bad_option(const gp_usage *usage, int key, char **argv)
{
    const char *text = argv[optind - 1];

    if (key == ':')
        return gp_say_usage("option '%s' needs a value; see %s --help", text,
                            usage->program);
    if (!strncmp(text, "--", 2) && strchr(text, '=') && optopt)
        return gp_say_usage("option '%.*s' takes no value",
                            (int)strcspn(text, "="), text);
    if (!strncmp(text, "--", 2))
        return unknown_option(usage, text);
    return gp_say_usage("unknown option '-%c'; see %s --help", optopt,
                        usage->program);
}

/* The two forms getopt_long wants. "+" ends options at the first operand, so
 * that a command given to `run` keeps its own. */
static void
build_tables(const gp_usage *usage, struct option *names, char *letters)
{
    size_t count = option_count(usage);

    *letters++ = '+';
    *letters++ = ':';
    for (size_t i = 0; i < count; i++) {
        const gp_option *o = &usage->options[i];

        names[i] = (struct option){
            o->name, o->argument ? required_argument : no_argument, NULL,
            o->key};
        if (o->key < 256) {
            *letters++ = (char)o->key;
            if (o->argument)
                *letters++ = ':';
        }
    }
    names[count] = (struct option){"help", no_argument, NULL, KEY_HELP};
    names[count + 1] =
        (struct option){"version", no_argument, NULL, KEY_VERSION};
    names[count + 2] = (struct option){NULL, 0, NULL, 0};
    *letters = '\0';
}

int
gp_options_parse(const gp_usage *usage, int argc, char **argv,
                 gp_option_apply apply, void *user)
{
    struct option names[MAX_OPTIONS + 3];
    char letters[2 * MAX_OPTIONS + 3];
    int key;

    gp_say_as(usage->program);
    build_tables(usage, names, letters);
    opterr = 0;
    optind = 1;
    while ((key = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        if (key == KEY_HELP) {
            print_help(usage);
            return GP_EXIT_OK;
        }
        if (key == KEY_VERSION) {
            printf("gradpush %s\n", gp_version());
            return GP_EXIT_OK;
        }
        if (key == '?' || key == ':')
            return bad_option(usage, key, argv);
        if (!apply(user, key, optarg))
            return GP_EXIT_USAGE;
    }
    if (optind < argc && !usage->operands)
        return gp_say_usage("'%s' is not expected here; see %s --help",
                            argv[optind], usage->program);
    return GP_EXIT_NONE;
}

bool
gp_parse_int(const char *option, const char *text, int64_t minimum,
             int64_t maximum, int64_t *out)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno || value < minimum || value > maximum) {
        gp_say("%s is '%s': it takes a whole number from %lld to %lld", option,
               text, (long long)minimum, (long long)maximum);
        return false;
    }
    *out = value;
    return true;
}

/* The factor of a suffix, and 0 for what is none. */
static uint64_t
suffix_factor(const char *suffix)
{
    if (!*suffix)
        return 1;
    if (suffix[1])
        return 0;
    switch (*suffix) {
    case 'k':
    case 'K':
        return 1ull << 10;
    case 'm':
    case 'M':
        return 1ull << 20;
    case 'g':
    case 'G':
        return 1ull << 30;
    default:
        return 0;
    }
}

bool
gp_parse_many(const char *option, const char *text, const char *what,
              uint64_t minimum, uint64_t maximum, uint64_t *out)
{
    char *end;
    unsigned long long value;
    size_t bytes;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (end == text || *text == '-' || errno || !suffix_factor(end) ||
        !gp_mul(value, suffix_factor(end), &bytes) || bytes < minimum ||
        bytes > maximum) {
        gp_say("%s is '%s': it takes %s from %llu to %llu, "
               "with a suffix K, M or G (1024-fold) if wanted",
               option, text, what, (unsigned long long)minimum,
               (unsigned long long)maximum);
        return false;
    }
    *out = bytes;
    return true;
}

bool
gp_parse_size(const char *option, const char *text, uint64_t minimum,
              uint64_t maximum, uint64_t *out)
{
    return gp_parse_many(option, text, "bytes", minimum, maximum, out);
}

bool
gp_parse_real(const char *option, const char *text, const char *what,
              double minimum, double maximum, double *out)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value) || value < minimum ||
        value > maximum) {
        gp_say("%s is '%s': it takes %s from %g to %g", option, text, what,
               minimum, maximum);
        return false;
    }
    *out = value;
    return true;
}

bool
gp_parse_seconds(const char *option, const char *text, double minimum,
                 double maximum, double *out)
{
    return gp_parse_real(option, text, "seconds", minimum, maximum, out);
}
