/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_read.c - a parser by recursive descent over a copy of the text.
 *
 * Every node but the root stands behind a '[', '{' or ',' of the text, so their
 * number is known before any is made; texts are unescaped where they lie, which
 * never makes them longer.
 */
#include "json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define DEPTH_MAX 16
#define TEXT_MAX  ((size_t)1 << 20)

struct gp_tree {
    char *text;
    gp_node *nodes;
    size_t count;
};

typedef struct parser {
    gp_tree *tree;
    char *at; /* the text ends with a zero */
    int depth;
    bool deep;
} parser;

static bool parse_value(parser *p, gp_node *out);

static void
skip_space(parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')
        p->at++;
}

static bool
take(parser *p, char c)
{
    skip_space(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits behind \u; -1 when they are none. */
static int
take_code(parser *p)
{
    int code = 0;

    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p->at[i]);

        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    p->at += 4;
    return code;
}

/* The character behind a backslash; -1 when there is no such escape. */
static int
take_escape(parser *p)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/     ";
    char c = *p->at;
    const char *found;

    if (c == '\0')
        return -1;
    p->at++;
    if (c == 'u')
        return take_code(p);
    found = strchr(from, c);
    return found ? to[found - from] : -1;
}

static bool
parse_text(parser *p, const char **out)
{
    char *to;

    if (!take(p, '"'))
        return false;
    *out = to = p->at;
    while (*p->at != '"') {
        int c = (unsigned char)*p->at;

        if (c < ' ')
            return false;
        p->at++;
        if (c == '\\')
            c = take_escape(p);
        if (c < 0)
            return false;
        *to++ = c >= ' ' && c <= '~' ? (char)c : '?';
    }
    p->at++;
    *to = '\0';
    return true;
}

static bool
take_digits(parser *p)
{
    char *begin = p->at;

    while (*p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > begin;
}

/* Its text is not ended here, since what ends it is still to be read. */
static bool
parse_number(parser *p, gp_node *out)
{
    out->kind = GP_NODE_NUMBER;
    out->text = p->at;
    if (*p->at == '-')
        p->at++;
    if (*p->at == '0')
        p->at++;
    else if (!take_digits(p))
        return false;
    if (*p->at == '.') {
        p->at++;
        if (!take_digits(p))
            return false;
    }
    if (*p->at != 'e' && *p->at != 'E')
        return true;
    p->at++;
    if (*p->at == '+' || *p->at == '-')
        p->at++;
    return take_digits(p);
}

static bool
parse_word(parser *p, gp_node *out)
{
    static const struct {
        const char *word;
        gp_node_kind kind;
        bool truth;
    } words[] = {{"null", GP_NODE_NULL, false},
                 {"true", GP_NODE_BOOL, true},
                 {"false", GP_NODE_BOOL, false}};

    for (size_t i = 0; i < GP_COUNT_OF(words); i++) {
        size_t length = strlen(words[i].word);

        if (strncmp(p->at, words[i].word, length) != 0)
            continue;
        out->kind = words[i].kind;
        out->truth = words[i].truth;
        p->at += length;
        return true;
    }
    return false;
}

static bool
parse_member(parser *p, bool object, gp_node *out)
{
    if (object && (!parse_text(p, &out->key) || !take(p, ':')))
        return false;
    return parse_value(p, out);
}

static bool
parse_members(parser *p, char end, gp_node *out)
{
    const gp_node **link = &out->first;

    out->kind = end == '}' ? GP_NODE_OBJECT : GP_NODE_ARRAY;
    p->at++;
    if (take(p, end))
        return true;
    do {
        gp_node *child = &p->tree->nodes[p->tree->count++];

        if (!parse_member(p, end == '}', child))
            return false;
        *link = child;
        link = &child->next;
    } while (take(p, ','));
    return take(p, end);
}

static bool
parse_value(parser *p, gp_node *out)
{
    bool good;

    skip_space(p);
    if (*p->at != '{' && *p->at != '[') {
        if (*p->at != '"')
            return *p->at == '-' || (*p->at >= '0' && *p->at <= '9')
                       ? parse_number(p, out)
                       : parse_word(p, out);
        out->kind = GP_NODE_TEXT;
        return parse_text(p, &out->text);
    }
    p->deep |= ++p->depth > DEPTH_MAX;
    if (p->deep)
        return false;
    good = parse_members(p, *p->at == '{' ? '}' : ']', out);
    p->depth--;
    return good;
}

static size_t
count_nodes(const char *text, size_t length)
{
    size_t count = 1;

    for (size_t i = 0; i < length; i++)
        count += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return count;
}

static gp_status
parse(gp_tree *tree, size_t length)
{
    parser p = {.tree = tree, .at = tree->text};
    bool good;

    tree->count = 1;
    good = parse_value(&p, &tree->nodes[0]);
    if (good)
        skip_space(&p);
    if (good && p.at == tree->text + length)
        return GP_OK;
    if (p.deep)
        return gp_fail(GP_ERR_TOO_LARGE, "JSON deeper than %d", DEPTH_MAX);
    return gp_fail(GP_ERR_CORRUPT, "no JSON from byte %zu on",
                   (size_t)(p.at - tree->text));
}

gp_status
gp_tree_parse(const char *text, size_t length, gp_tree **out)
{
    gp_tree *tree;
    gp_status status = GP_OK;

    if (length > TEXT_MAX)
        return gp_fail(GP_ERR_TOO_LARGE, "JSON of %zu bytes, over %zu", length,
                       TEXT_MAX);
    tree = calloc(1, sizeof(*tree));
    if (!tree)
        return gp_fail(GP_ERR_NO_MEMORY, "JSON");
    tree->text = malloc(length + 1);
    tree->nodes = calloc(count_nodes(text, length), sizeof(*tree->nodes));
    if (!tree->text || !tree->nodes) {
        status = gp_fail(GP_ERR_NO_MEMORY, "JSON of %zu bytes", length);
    } else {
        memcpy(tree->text, text, length);
        tree->text[length] = '\0';
        status = parse(tree, length);
    }
    if (status != GP_OK) {
        gp_tree_destroy(tree);
        return status;
    }
    *out = tree;
    return GP_OK;
}

void
gp_tree_destroy(gp_tree *tree)
{
    if (!tree)
        return;
    free(tree->nodes);
    free(tree->text);
    free(tree);
}

const gp_node *
gp_tree_root(const gp_tree *tree)
{
    return &tree->nodes[0];
}

const gp_node *
gp_node_get(const gp_node *node, const char *key)
{
    if (!node || node->kind != GP_NODE_OBJECT)
        return NULL;
    for (const gp_node *n = node->first; n; n = n->next)
        if (strcmp(n->key, key) == 0)
            return n;
    return NULL;
}

const char *
gp_node_text(const gp_node *node, const char *key, const char *otherwise)
{
    const gp_node *n = gp_node_get(node, key);

    return n && n->kind == GP_NODE_TEXT ? n->text : otherwise;
}

double
gp_node_real(const gp_node *node)
{
    return strtod(node->text, NULL);
}

bool
gp_node_whole(const gp_node *node, int64_t *out)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(node->text, &end, 10);
    if (errno || *end == '.' || *end == 'e' || *end == 'E')
        return false;
    *out = value;
    return true;
}

double
gp_node_number(const gp_node *node, const char *key, double otherwise)
{
    const gp_node *n = gp_node_get(node, key);

    return n && n->kind == GP_NODE_NUMBER ? gp_node_real(n) : otherwise;
}

/* What is no whole number, or does not fit, is as good as missing. */
int64_t
gp_node_int(const gp_node *node, const char *key, int64_t otherwise)
{
    const gp_node *n = gp_node_get(node, key);
    int64_t value;

    return n && n->kind == GP_NODE_NUMBER && gp_node_whole(n, &value)
               ? value
               : otherwise;
}
