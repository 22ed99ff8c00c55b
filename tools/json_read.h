/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_read.h - small JSON documents of others, as a tree.
 *
 * Any bytes are accepted or refused; depth, size and memory are bounded. Texts
 * are printable ASCII, with '?' for everything else.
 */
#ifndef GP_JSON_READ_H
#define GP_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

typedef enum gp_node_kind {
    GP_NODE_NULL,
    GP_NODE_BOOL,
    GP_NODE_NUMBER,
    GP_NODE_TEXT,
    GP_NODE_ARRAY,
    GP_NODE_OBJECT
} gp_node_kind;

typedef struct gp_node {
    gp_node_kind kind;
    const char *key;  /* of a member of an object, else NULL */
    const char *text; /* TEXT; NUMBER: as it was written */
    bool truth;
    const struct gp_node *first, *next; /* child, sibling */
} gp_node;

typedef struct gp_tree gp_tree;

/* GP_ERR_CORRUPT says at which byte it is no JSON; GP_ERR_TOO_LARGE: deeper
 * than 16 or over 1 MiB; GP_ERR_NO_MEMORY. */
gp_status gp_tree_parse(const char *text, size_t length, gp_tree **out);
void gp_tree_destroy(gp_tree *tree);
const gp_node *gp_tree_root(const gp_tree *tree);

/* Of a NUMBER: whether it is a whole one that fits, and its value. */
bool gp_node_whole(const gp_node *node, int64_t *out);
double gp_node_real(const gp_node *node);

/* The member of an object; NULL when there is none, or `node` is no object or
 * NULL. */
const gp_node *gp_node_get(const gp_node *node, const char *key);
/* Its value, or what a document without it means. */
const char *gp_node_text(const gp_node *node, const char *key,
                         const char *otherwise);
double gp_node_number(const gp_node *node, const char *key, double otherwise);
int64_t gp_node_int(const gp_node *node, const char *key, int64_t otherwise);

#endif
