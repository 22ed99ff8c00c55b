/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_docs.c - docs/configuration.md lists what the table holds.
 *
 * The rows between the two marks of the page are compared. After a change of
 * the table, `GP_REGENERATE=1 test_config_docs` in the folder tests writes them
 * anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/config_value.h"
#include "page_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE  "../docs/configuration.md"
#define BEGIN "<!-- fields: written by tests/unit/test_config_docs.c -->\n"
#define END   "<!-- end of fields -->\n"

/* "auto|on|off" as "`auto`, `on`, `off`". */
static void
print_choices(FILE *out, const char *choices)
{
    fputc('`', out);
    for (; *choices; choices++)
        if (*choices == '|')
            fputs("`, `", out);
        else
            fputc(*choices, out);
    fputc('`', out);
}

/* "takes a size from 16K to 64M, such as 256K" as "a size from 16K to 64M". */
static void
print_range(FILE *out, const gp_config_field *field)
{
    char takes[160];
    char *text = takes + strlen("takes ");

    gp_value_takes(field, takes, sizeof(takes));
    fprintf(out, "%.*s", (int)strcspn(text, ","), text);
}

static void
print_row(FILE *out, const gp_config_field *field)
{
    fputs("| `GRADPUSH_", out);
    for (const char *p = field->name; *p; p++)
        fputc(toupper((unsigned char)*p), out);
    fputs("` | ", out);
    if (*field->value)
        fprintf(out, "`%s`", field->value);
    fputs(" | ", out);
    if (field->type == GP_CONFIG_ENUM)
        print_choices(out, field->choices);
    else if (field->type == GP_CONFIG_STRING)
        fputs(field->secret ? "text, never printed" : "text", out);
    else
        print_range(out, field);
    fprintf(out, " | %s", field->text);
    if (gp_config_alias(field->name))
        fprintf(out, " (also read from `%s`)", gp_config_alias(field->name));
    fputs(" |\n", out);
}

static char *
print_table(void)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(out);
    fputs("| variable | default | takes | meaning |\n|---|---|---|---|\n", out);
    for (const gp_config_field *f = gp_config_fields(); f->name; f++)
        print_row(out, f);
    fclose(out);
    return text;
}

static void
the_page_lists_the_table(void **state)
{
    char *table = print_table();

    (void)state;
    page_must_say(PAGE, BEGIN, END, table, "lib/base/config_table.h");
    free(table);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_lists_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
