/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_tensor_list.c - tensor lists, and all that a shard reads out of one.
 *
 * What decodes must encode to the same bytes and equal itself; the map and the
 * texts in it are then used as a shard uses them. Maps are made of lists with
 * few chunks only, because a peer that has proven the job token may ask for as
 * much memory as the machine has.
 */
#include "shard/map.h"
#include "shard/mode.h"
#include "shard/updater.h"
#include "wire/proto.h"

#include <gradpush/codec.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHUNKS_MAX 65536u

static void
require(int condition)
{
    if (!condition)
        __builtin_trap();
}

/* Elements of the map's chunks, tensor by tensor. */
static void
check_map(const gp_map *map, const gp_map_tensor *tensors)
{
    for (uint32_t t = 0; t < map->tensors; t++) {
        uint64_t sum = 0;

        for (uint32_t i = map->first[t]; i < map->first[t + 1]; i++) {
            require(map->chunk[i].shard < map->shards);
            sum += map->chunk[i].count;
        }
        require(tensors[t].dealt || sum == tensors[t].count);
    }
}

static void
build_map(const gp_tensor_list *list)
{
    gp_map_tensor *tensors = malloc(list->count * sizeof(*tensors));
    uint64_t chunk = GP_MAX(list->chunk_bytes / sizeof(float), 1);
    uint64_t chunks = 0;
    gp_map map;

    require(tensors != NULL);
    for (uint32_t i = 0; i < list->count; i++) {
        const gp_tensor_spec *t = &list->tensors[i];

        tensors[i] =
            (gp_map_tensor){t->count, t->columns, t->name[0] & 1, t->rows > 0};
        chunks +=
            GP_MIN(t->count / GP_MIN(chunk, GP_CHUNK_QUANTUM), CHUNKS_MAX) + 1;
        chunks += t->rows ? list->shards : 0;
    }
    if (chunks < CHUNKS_MAX && list->shards < CHUNKS_MAX / 64) {
        require(gp_map_build(tensors, list->count, list->chunk_bytes,
                             list->shards, list->weights, &map) == GP_OK);
        check_map(&map, tensors);
        gp_map_free(&map);
    }
    free(tensors);
}

static void
read_texts(const gp_tensor_spec *t)
{
    gp_updater updater;
    gp_pipeline *pipeline;
    gp_mode mode;

    for (uint32_t workers = 0; workers < 3; workers++)
        if (gp_mode_parse(t->mode, workers, &mode) == GP_OK) {
            char text[GP_MODE_MAX];

            gp_mode_print(&mode, text, sizeof(text));
            require(gp_mode_parse(text, workers, &mode) == GP_OK);
        }

    if (gp_updater_parse(t->updater, &updater) == GP_OK) {
        char text[GP_NAME_MAX];

        gp_updater_print(&updater, text, sizeof(text));
        require(gp_updater_parse(text, &updater) == GP_OK);
    }
    if (gp_pipeline_parse(t->push, &pipeline) == GP_OK)
        gp_pipeline_destroy(pipeline);
    if (gp_pipeline_parse(t->pull, &pipeline) == GP_OK)
        gp_pipeline_destroy(pipeline);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_tensor_list list;
    char text[GP_TEXT_MAX];
    void *again;
    size_t length;

    if (gp_tensor_list_decode(data, size, &list) != GP_OK)
        return 0;
    require(gp_tensor_list_encode(&list, &again, &length) == GP_OK);
    require(length == size && memcmp(again, data, size) == 0);
    free(again);
    require(!gp_tensor_list_differ(&list, 0, &list, 1, text, sizeof(text)));
    build_map(&list);
    for (uint32_t i = 0; i < list.count; i++)
        read_texts(&list.tensors[i]);
    gp_tensor_list_free(&list);
    return 0;
}
