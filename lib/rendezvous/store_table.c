/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_table.c - a chained hash table that cannot grow beyond its limits.
 *
 * `bytes` counts what entries occupy, so that many small keys are limited as
 * well as a few large values. A failed set leaves the old value in place.
 */
#include "rendezvous/store_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gp_store_entry {
    gp_store_entry *next;
    const void *owner;
    uint32_t holders;
    uint64_t hash;
    size_t key_length, length;
    uint8_t bytes[]; /* the key, then the value */
};

#define BUCKETS_FIRST 64u

gp_status
gp_store_table_create(gp_store_table *table)
{
    gp_store_table new = {.bucket_count = BUCKETS_FIRST};
    gp_status status = gp_random(&new.seed, sizeof(new.seed));

    if (status != GP_OK)
        return status;
    new.buckets = calloc(new.bucket_count, sizeof(gp_store_entry *));
    if (!new.buckets)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the store");
    *table = new;
    return GP_OK;
}

void
gp_store_table_destroy(gp_store_table *table)
{
    for (size_t i = 0; i < table->bucket_count; i++) {
        while (table->buckets[i]) {
            gp_store_entry *entry = table->buckets[i];

            table->buckets[i] = entry->next;
            free(entry);
        }
    }
    free(table->buckets);
    memset(table, 0, sizeof(*table));
}

static uint64_t
hash_key(const gp_store_table *table, const void *key, size_t key_length)
{
    uint64_t hash = gp_hash(key, key_length) ^ table->seed;

    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* The place that points at the entry, or at the NULL where it would be. */
static gp_store_entry **
find(const gp_store_table *table, uint64_t hash, const void *key,
     size_t key_length)
{
    gp_store_entry **at = &table->buckets[hash & (table->bucket_count - 1)];

    while (*at && ((*at)->hash != hash || (*at)->key_length != key_length ||
                   memcmp((*at)->bytes, key, key_length) != 0))
        at = &(*at)->next;
    return at;
}

/* Twice the buckets; without memory the table stays as it is, only slower. */
static void
grow(gp_store_table *table)
{
    size_t count = table->bucket_count * 2;
    gp_store_entry **buckets = calloc(count, sizeof(*buckets));

    if (!buckets)
        return;
    for (size_t i = 0; i < table->bucket_count; i++) {
        while (table->buckets[i]) {
            gp_store_entry *entry = table->buckets[i];
            gp_store_entry **at = &buckets[entry->hash & (count - 1)];

            table->buckets[i] = entry->next;
            entry->next = *at;
            *at = entry;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = count;
}

static size_t
cost(size_t key_length, size_t length)
{
    return sizeof(gp_store_entry) + sizeof(void *) + key_length + length;
}

gp_status
gp_store_table_set(gp_store_table *table, const void *key, size_t key_length,
                   const void *value, size_t length)
{
    uint64_t hash = hash_key(table, key, key_length);
    gp_store_entry **at = find(table, hash, key, key_length);
    gp_store_entry *old = *at, *entry;
    size_t bytes = table->bytes + cost(key_length, length);

    if (old)
        bytes -= cost(old->key_length, old->length);
    if (bytes > GP_STORE_BYTES_MAX ||
        (!old && table->keys >= GP_STORE_KEYS_MAX))
        return GP_ERR_TOO_LARGE;
    entry = malloc(sizeof(*entry) + key_length + length);
    if (!entry)
        return GP_ERR_NO_MEMORY;
    entry->next = old ? old->next : NULL;
    entry->owner = NULL;
    entry->holders = old ? old->holders : 0;
    entry->hash = hash;
    entry->key_length = key_length;
    entry->length = length;
    memcpy(entry->bytes, key, key_length);
    if (length)
        memcpy(entry->bytes + key_length, value, length);
    *at = entry;
    free(old);
    table->bytes = bytes;
    table->keys += !old;
    if (table->keys > table->bucket_count)
        grow(table);
    return GP_OK;
}

const void *
gp_store_table_get(const gp_store_table *table, const void *key,
                   size_t key_length, size_t *length)
{
    uint64_t hash = hash_key(table, key, key_length);
    const gp_store_entry *entry = *find(table, hash, key, key_length);

    if (!entry)
        return NULL;
    *length = entry->length;
    return entry->bytes + key_length;
}

void
gp_store_table_own(gp_store_table *table, const void *key, size_t key_length,
                   const void *owner)
{
    uint64_t hash = hash_key(table, key, key_length);
    gp_store_entry *entry = *find(table, hash, key, key_length);

    if (entry)
        entry->owner = owner;
}

const void *
gp_store_table_owner(const gp_store_table *table, const void *key,
                     size_t key_length)
{
    uint64_t hash = hash_key(table, key, key_length);
    const gp_store_entry *entry = *find(table, hash, key, key_length);

    return entry ? entry->owner : NULL;
}

void
gp_store_table_hold(gp_store_table *table, const void *key, size_t key_length,
                    int change)
{
    uint64_t hash = hash_key(table, key, key_length);
    gp_store_entry *entry = *find(table, hash, key, key_length);

    if (entry)
        entry->holders += (uint32_t)change;
}

uint32_t
gp_store_table_holders(const gp_store_table *table, const void *key,
                       size_t key_length)
{
    uint64_t hash = hash_key(table, key, key_length);
    const gp_store_entry *entry = *find(table, hash, key, key_length);

    return entry ? entry->holders : 0;
}

/* A counter as gp_store_table_add() writes it. */
static bool
parse_counter(const void *value, size_t length, int64_t *out)
{
    char text[24], again[24];

    if (length < 1 || length >= sizeof(text))
        return false;
    memcpy(text, value, length);
    text[length] = '\0';
    *out = strtoll(text, NULL, 10);
    snprintf(again, sizeof(again), "%" PRId64, *out);
    return strcmp(text, again) == 0;
}

gp_status
gp_store_table_add(gp_store_table *table, const void *key, size_t key_length,
                   int64_t delta, int64_t *out)
{
    size_t length = 0;
    const void *value = gp_store_table_get(table, key, key_length, &length);
    int64_t counter = 0;
    char text[24];
    gp_status status;

    if (value && !parse_counter(value, length, &counter))
        return GP_ERR_INVALID;
    if (__builtin_add_overflow(counter, delta, &counter))
        return GP_ERR_INVALID;
    snprintf(text, sizeof(text), "%" PRId64, counter);
    status = gp_store_table_set(table, key, key_length, text, strlen(text));
    if (status == GP_OK)
        *out = counter;
    return status;
}
