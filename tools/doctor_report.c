/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_report.c - results of checks: kept, printed, written as JSON.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

const char *
gp_check_word(gp_check_status status)
{
    static const char *const words[] = {"ok", "warn", "fail", "skip"};

    return (unsigned)status < 4 ? words[status] : "?";
}

gp_check *
gp_doctor_add(gp_doctor *doctor, const char *group, const char *name,
              const char *subject)
{
    gp_check *check = calloc(1, sizeof(*check));

    if (!check) {
        doctor->incomplete = true;
        check = &doctor->spare;
        *check = (gp_check){0};
    } else if (doctor->last) {
        doctor->last = doctor->last->next = check;
    } else {
        doctor->last = doctor->first = check;
    }
    check->group = group;
    check->name = name;
    check->status = GP_CHECK_SKIP;
    snprintf(check->subject, sizeof(check->subject), "%.63s",
             subject ? subject : "");
    return check;
}

void
gp_doctor_free(gp_doctor *doctor)
{
    while (doctor->first) {
        gp_check *next = doctor->first->next;

        free(doctor->first);
        doctor->first = next;
    }
    doctor->last = NULL;
}

void
gp_check_set(gp_check *check, gp_check_status status, const char *format, ...)
{
    va_list args;

    check->status = status;
    va_start(args, format);
    vsnprintf(check->reason, sizeof(check->reason), format, args);
    va_end(args);
}

void
gp_check_fix(gp_check *check, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(check->fix, sizeof(check->fix), format, args);
    va_end(args);
}

static gp_check_value *
new_value(gp_check *check, const char *name)
{
    gp_check_value *value;

    if (check->value_count == GP_CHECK_VALUES)
        return NULL;
    value = &check->values[check->value_count++];
    *value = (gp_check_value){.number = 0};
    snprintf(value->name, sizeof(value->name), "%.47s", name);
    return value;
}

void
gp_check_int(gp_check *check, const char *name, int64_t number)
{
    gp_check_value *value = new_value(check, name);

    if (value)
        value->number = number;
}

void
gp_check_text(gp_check *check, const char *name, const char *text)
{
    gp_check_value *value = *text ? new_value(check, name) : NULL;

    if (value)
        snprintf(value->text, sizeof(value->text), "%.95s", text);
}

gp_check_status
gp_doctor_need(const gp_doctor *doctor, gp_check_status otherwise)
{
    return doctor->required ? GP_CHECK_FAIL : otherwise;
}

gp_check_status
gp_doctor_verdict(const gp_doctor *doctor, size_t counts[4])
{
    memset(counts, 0, 4 * sizeof(*counts));
    for (const gp_check *c = doctor->first; c; c = c->next)
        counts[c->status]++;
    if (counts[GP_CHECK_FAIL] || doctor->incomplete)
        return GP_CHECK_FAIL;
    return counts[GP_CHECK_WARN] ? GP_CHECK_WARN : GP_CHECK_OK;
}

/* --- text --- */

static const char *
colour(gp_check_status status)
{
    static const char *const codes[] = {"\033[32m", "\033[33m", "\033[31m",
                                        "\033[2m"};

    return codes[status];
}

static void
print_lines(const char *label, const char *text)
{
    while (*text) {
        int length = (int)strcspn(text, "\n");

        printf("       %s%.*s\n", label, length, text);
        text += length;
        text += *text == '\n';
        label = "     ";
    }
}

static void
print_values(const gp_check *check)
{
    for (size_t i = 0; i < check->value_count; i++) {
        const gp_check_value *v = &check->values[i];

        if (*v->text)
            printf("       %s = %s\n", v->name, v->text);
        else
            printf("       %s = %lld\n", v->name, (long long)v->number);
    }
}

static void
print_check(const gp_check *c, bool tinted, bool verbose)
{
    printf("%s%-4s%s  %s.%s%s%s: %s\n", tinted ? colour(c->status) : "",
           gp_check_word(c->status), tinted ? "\033[0m" : "", c->group, c->name,
           *c->subject ? " " : "", c->subject, c->reason);
    print_lines("fix: ", c->fix);
    if (verbose)
        print_values(c);
}

void
gp_doctor_print(const gp_doctor *doctor, bool verbose)
{
    bool tinted = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    size_t counts[4];
    gp_check_status verdict = gp_doctor_verdict(doctor, counts);

    for (const gp_check *c = doctor->first; c; c = c->next)
        print_check(c, tinted, verbose);
    printf("# %s: %zu ok, %zu warn, %zu fail, %zu skip\n",
           gp_check_word(verdict), counts[GP_CHECK_OK], counts[GP_CHECK_WARN],
           counts[GP_CHECK_FAIL], counts[GP_CHECK_SKIP]);
}

/* --- JSON --- */

static void
add_check(gp_json *list, const gp_check *c)
{
    gp_json *o = gp_json_object(list, NULL), *values;
    char name[128];

    snprintf(name, sizeof(name), "%s.%s", c->group, c->name);
    gp_json_text(o, "name", name);
    gp_json_text(o, "group", c->group);
    gp_json_text(o, "subject", c->subject);
    gp_json_text(o, "status", gp_check_word(c->status));
    gp_json_text(o, "reason", c->reason);
    gp_json_text(o, "fix", c->fix);
    values = gp_json_object(o, "values");
    for (size_t i = 0; i < c->value_count; i++) {
        const gp_check_value *v = &c->values[i];

        if (*v->text)
            gp_json_text(values, v->name, v->text);
        else
            gp_json_int(values, v->name, v->number);
    }
}

void
gp_doctor_json(const gp_doctor *doctor, gp_json *document)
{
    size_t counts[4];
    gp_check_status verdict = gp_doctor_verdict(doctor, counts);
    gp_json *summary = gp_json_object(document, "summary"), *list;

    gp_json_text(summary, "status", gp_check_word(verdict));
    for (int i = 0; i < 4; i++)
        gp_json_int(summary, gp_check_word((gp_check_status)i),
                    (int64_t)counts[i]);
    list = gp_json_array(document, "checks");
    for (const gp_check *c = doctor->first; c; c = c->next)
        add_check(list, c);
}
