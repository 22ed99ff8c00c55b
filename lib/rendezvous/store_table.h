/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_table.h - the store's keys and values, within limits.
 */
#ifndef GP_STORE_TABLE_H
#define GP_STORE_TABLE_H

#include "base/base.h"

/* Keys, and bytes of keys, values and bookkeeping together. */
#define GP_STORE_KEYS_MAX  262144u
#define GP_STORE_BYTES_MAX (64u << 20)

typedef struct gp_store_entry gp_store_entry;

typedef struct gp_store_table {
    gp_store_entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t keys, bytes;
    uint64_t seed; /* a stranger cannot choose keys that collide */
} gp_store_table;

gp_status gp_store_table_create(gp_store_table *table);
void gp_store_table_destroy(gp_store_table *table);

/* Replaces the value of the key; GP_ERR_TOO_LARGE at a limit. */
gp_status gp_store_table_set(gp_store_table *table, const void *key,
                             size_t key_length, const void *value,
                             size_t length);

/* The value, borrowed until the next set; NULL when there is no such key. */
const void *gp_store_table_get(const gp_store_table *table, const void *key,
                               size_t key_length, size_t *length);

/* Whose key it is, until it is set again: a mark, never looked into. No such
 * key: nothing happens, and NULL. */
void gp_store_table_own(gp_store_table *table, const void *key,
                        size_t key_length, const void *owner);
const void *gp_store_table_owner(const gp_store_table *table, const void *key,
                                 size_t key_length);

/* How many hold the key's value against other ones; setting it changes nothing
 * about that. No such key: nothing happens, and 0. */
void gp_store_table_hold(gp_store_table *table, const void *key,
                         size_t key_length, int change);
uint32_t gp_store_table_holders(const gp_store_table *table, const void *key,
                                size_t key_length);

/* Adds to a decimal text; a missing key counts as 0. GP_ERR_INVALID: the value
 * is no number, or the sum does not fit. */
gp_status gp_store_table_add(gp_store_table *table, const void *key,
                             size_t key_length, int64_t delta, int64_t *out);

#endif
