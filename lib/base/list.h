/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - doubly linked intrusive list.
 *
 * A head and an element are the same struct; an empty head points at itself.
 */
#ifndef GP_LIST_H
#define GP_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct gp_list {
    struct gp_list *next, *prev;
} gp_list;

static inline void
gp_list_init(gp_list *head)
{
    head->next = head->prev = head;
}

static inline bool
gp_list_empty(const gp_list *head)
{
    return head->next == head;
}

/* Before `at`: at the end when `at` is the head. */
static inline void
gp_list_insert(gp_list *at, gp_list *item)
{
    item->next = at;
    item->prev = at->prev;
    at->prev->next = item;
    at->prev = item;
}

/* Safe to repeat: the item points at itself afterwards. */
static inline void
gp_list_remove(gp_list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    gp_list_init(item);
}

static inline gp_list *
gp_list_pop(gp_list *head)
{
    gp_list *item = head->next;

    if (item == head)
        return NULL;
    gp_list_remove(item);
    return item;
}

#define GP_LIST_EACH(item, head)                                  \
    for (gp_list *item = (head)->next, *item##_next = item->next; \
         item != (head); item = item##_next, item##_next = item->next)

#endif
