/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_json_read.c - what members write into the store, of any bytes.
 *
 * What is accepted is a tree of printable texts and numbers.
 */
#include <string.h>

#include "tools/json_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            __builtin_trap();
}

static void
walk(const gp_node *parent)
{
    for (const gp_node *n = parent->first; n; n = n->next) {
        int64_t whole = 0;

        if ((parent->kind == GP_NODE_OBJECT) != (n->key != NULL))
            __builtin_trap();
        if (n->key)
            check_text(n->key);
        if (n->kind == GP_NODE_TEXT)
            check_text(n->text);
        if (n->kind == GP_NODE_NUMBER && gp_node_whole(n, &whole) &&
            gp_node_real(n) != (double)whole)
            __builtin_trap();
        if (n->first && n->kind < GP_NODE_ARRAY)
            __builtin_trap();
        walk(n);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_tree *tree = NULL;

    if (gp_tree_parse((const char *)data, size, &tree) != GP_OK) {
        if (tree || !*gp_last_error())
            __builtin_trap();
        return 0;
    }
    walk(gp_tree_root(tree));
    (void)gp_node_int(gp_tree_root(tree), "round", -1);
    gp_tree_destroy(tree);
    return 0;
}
