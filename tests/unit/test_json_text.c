/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_text.c - documents of members: written within bounds, and read by
 * the tool.
 */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json_text.h"
#include "json_read.h"

static size_t
write_example(char *out, size_t capacity)
{
    gp_json_text j;

    gp_json_begin(&j, out, capacity);
    gp_json_open(&j, NULL, '{');
    gp_json_put_text(&j, "text", "a \"quoted\\\" one\nwith \xc3\xa9");
    gp_json_put_int(&j, "int", INT64_MIN);
    gp_json_put_count(&j, "count", UINT64_MAX);
    gp_json_put_bool(&j, "yes", true);
    gp_json_put_bool(&j, "no", false);
    gp_json_put_real(&j, "real", -1.5e-9);
    gp_json_put_real(&j, "nan", NAN);
    gp_json_open(&j, "empty", '[');
    gp_json_shut(&j, ']');
    gp_json_open(&j, "list", '[');
    gp_json_put_int(&j, NULL, 1);
    gp_json_open(&j, NULL, '{');
    gp_json_put_int(&j, "a", 2);
    gp_json_shut(&j, '}');
    gp_json_put_int(&j, NULL, 3);
    gp_json_shut(&j, ']');
    gp_json_shut(&j, '}');
    return gp_json_end(&j);
}

static const char example[] =
    "{\"text\":\"a \\\"quoted\\\\\\\" one?with ??\","
    "\"int\":-9223372036854775808,\"count\":9223372036854775807,\"yes\":true,"
    "\"no\":false,\"real\":-1.5e-09,\"nan\":null,\"empty\":[],"
    "\"list\":[1,{\"a\":2},3]}";

static void
documents_are_exact(void **state)
{
    char out[512];
    size_t length = write_example(out, sizeof(out));

    (void)state;
    assert_int_equal(length, strlen(example));
    assert_memory_equal(out, example, length);
}

/* Whatever the room, nothing is written beyond it, and a cut is known. */
static void
documents_are_cut_whole(void **state)
{
    size_t whole = strlen(example);

    (void)state;
    for (size_t room = 0; room <= whole; room++) {
        char *out = malloc(room + 1);

        assert_non_null(out);
        out[room] = 'x';
        assert_int_equal(write_example(out, room), room < whole ? 0 : whole);
        assert_int_equal(out[room], 'x');
        free(out);
    }
}

static void
what_is_written_is_read(void **state)
{
    char out[512];
    size_t length = write_example(out, sizeof(out));
    const gp_node *root, *n;
    gp_tree *tree;

    (void)state;
    assert_int_equal(gp_tree_parse(out, length, &tree), GP_OK);
    root = gp_tree_root(tree);
    assert_string_equal(gp_node_text(root, "text", ""),
                        "a \"quoted\\\" one?with ??");
    assert_true(gp_node_int(root, "int", 0) == INT64_MIN);
    assert_true(gp_node_int(root, "count", 0) == INT64_MAX);
    assert_true(gp_node_get(root, "yes")->truth);
    assert_false(gp_node_get(root, "no")->truth);
    assert_true(gp_node_number(root, "real", 0) == -1.5e-9);
    assert_int_equal(gp_node_get(root, "nan")->kind, GP_NODE_NULL);
    assert_null(gp_node_get(root, "empty")->first);
    n = gp_node_get(root, "list")->first;
    assert_string_equal(n->text[0] == '1' ? "1" : "", "1");
    assert_int_equal(gp_node_int(n->next, "a", 0), 2);
    assert_null(n->next->next->next);
    gp_tree_destroy(tree);
}

/* What is not there, or of another kind, is what a document without it means.
 */
static void
missing_members_have_defaults(void **state)
{
    static const char text[] = "{\"a\":\"x\",\"b\":1.5,\"c\":1e3,"
                               "\"d\":99999999999999999999}";
    const gp_node *root;
    gp_tree *tree;

    (void)state;
    assert_int_equal(gp_tree_parse(text, strlen(text), &tree), GP_OK);
    root = gp_tree_root(tree);
    assert_int_equal(gp_node_int(root, "a", 7), 7);
    assert_int_equal(gp_node_int(root, "b", 7), 7);
    assert_int_equal(gp_node_int(root, "c", 7), 7);
    assert_int_equal(gp_node_int(root, "d", 7), 7);
    assert_int_equal(gp_node_int(root, "e", 7), 7);
    assert_int_equal(gp_node_int(NULL, "e", 7), 7);
    assert_true(gp_node_number(root, "c", 0) == 1000);
    assert_string_equal(gp_node_text(root, "b", "none"), "none");
    assert_null(gp_node_get(gp_node_get(root, "a"), "b"));
    gp_tree_destroy(tree);
}

static void
what_is_no_json_is_refused(void **state)
{
    static const char *const bad[] = {
        "",        " ",          "{",         "}",         "[1,]",
        "{\"a\"}", "{\"a\":}",   "{a:1}",     "[1 2]",     "\"open",
        "01",      "-",          "1.",        ".5",        "1e",
        "nul",     "truee",      "[1]]",      "\"\\x\"",   "\"\\u12g4\"",
        "\"\n\"",  "{\"a\":1,}", "[\"\\u\"]", "{\"a\" 1}", "+1",
    };
    gp_tree *tree = NULL;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++)
        if (gp_tree_parse(bad[i], strlen(bad[i]), &tree) != GP_ERR_CORRUPT)
            fail_msg("'%s' is taken", bad[i]);
    assert_int_equal(gp_tree_parse("1\0", 2, &tree), GP_ERR_CORRUPT);
    assert_null(tree);
}

static void
depth_and_size_are_bounded(void **state)
{
    char deep[40];
    size_t large = ((size_t)1 << 20) + 1;
    char *spaces = malloc(large);
    gp_tree *tree = NULL;

    (void)state;
    for (int depth = 1; depth <= 17; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        assert_int_equal(gp_tree_parse(deep, 2 * (size_t)depth, &tree),
                         depth <= 16 ? GP_OK : GP_ERR_TOO_LARGE);
        if (depth <= 16)
            gp_tree_destroy(tree);
    }
    assert_non_null(spaces);
    memset(spaces, ' ', large);
    assert_int_equal(gp_tree_parse(spaces, large, &tree), GP_ERR_TOO_LARGE);
    free(spaces);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_exact),
        cmocka_unit_test(documents_are_cut_whole),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(missing_members_have_defaults),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(depth_and_size_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
