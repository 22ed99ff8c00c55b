/* SPDX-License-Identifier: Apache-2.0 */
/*
 * environment.c - the object "environment" of every JSON document: what a
 * reader needs to judge a figure, and nothing that should not leave the
 * machine. Only variables of the configuration table are listed, and never
 * those marked secret.
 */
#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <gradpush/version.h>

#include "base/base.h"
#include "json.h"

#if defined(__clang__)
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void
cpu_model(char *out, size_t capacity)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[512];

    snprintf(out, capacity, "unknown");
    if (!file)
        return;
    while (fgets(line, sizeof(line), file)) {
        const char *colon = strchr(line, ':');

        if (!colon || strncmp(line, "model name", 10))
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(out, capacity, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    fclose(file);
}

static int
usable_cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static void
add_alias(gp_json *settings, const gp_config_field *field)
{
    const char *alias = gp_config_alias(field->name);
    const char *value = alias ? getenv(alias) : NULL;

    if (value && !field->secret)
        gp_json_text(settings, alias, value);
}

static void
add_settings(gp_json *environment)
{
    gp_json *settings = gp_json_object(environment, "settings");

    for (const gp_config_field *f = gp_config_fields(); f->name; f++) {
        char name[80] = "GRADPUSH_";
        size_t length = strlen(name);
        const char *value;

        for (const char *p = f->name; *p && length < sizeof(name) - 1; p++)
            name[length++] = (char)toupper((unsigned char)*p);
        name[length] = '\0';
        value = getenv(name);
        if (value && !f->secret)
            gp_json_text(settings, name, value);
        add_alias(settings, f);
    }
}

void
gp_json_environment(gp_json *document)
{
    gp_json *e = gp_json_object(document, "environment");
    struct utsname system;
    char text[512];
    time_t now = time(NULL);
    struct tm utc;

    gp_json_text(e, "gradpush", gp_version());
    gp_json_text(e, "compiler", COMPILER);
    cpu_model(text, sizeof(text));
    gp_json_text(e, "cpu", text);
    gp_json_int(e, "cores", usable_cores());
    if (uname(&system) == 0) {
        snprintf(text, sizeof(text), "%s %s", system.sysname, system.release);
        gp_json_text(e, "kernel", text);
        gp_json_text(e, "architecture", system.machine);
    }
    if (gmtime_r(&now, &utc) &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc))
        gp_json_text(e, "date", text);
    add_settings(e);
}
