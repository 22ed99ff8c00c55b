/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_text.h - tables of documents that programs print: what lies between two
 * marks of a page is compared with what it should be, or with GP_REGENERATE set
 * written anew. Paths are from the folder tests.
 */
#ifndef GP_TEST_PAGE_TEXT_H
#define GP_TEST_PAGE_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline char *
page_read(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 18);

    if (!file)
        fail_msg("cannot open %s; run this in the folder tests", path);
    assert_non_null(text);
    assert_in_range(fread(text, 1, (1 << 18) - 1, file), 1, (1 << 18) - 2);
    fclose(file);
    return text;
}

/* `source` is what `table` was printed from. */
static inline void
page_must_say(const char *path, const char *first_mark, const char *last_mark,
              const char *table, const char *source)
{
    char *page = page_read(path);
    char *begin = strstr(page, first_mark), *end = strstr(page, last_mark);

    assert_true(begin && end && begin < end);
    begin += strlen(first_mark);
    if (getenv("GP_REGENERATE")) {
        FILE *out = fopen(path, "w");

        assert_non_null(out);
        fprintf(out, "%.*s%s%s", (int)(begin - page), page, table, end);
        assert_int_equal(fclose(out), 0);
    } else if (strlen(table) != (size_t)(end - begin) ||
               memcmp(table, begin, strlen(table)) != 0) {
        fputs(table, stderr);
        fail_msg("%s differs from %s: it should say this", path, source);
    }
    free(page);
}

#endif
