/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_map.c - where chunks are, which no message ever says.
 *
 * The shapes are those of the published models, in the order in which a
 * framework lists their parameters; only the number of elements matters here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "hex_file.h"
#include "shard/map.h"

#define MIB         (1u << 20)
#define TENSORS_MAX 512

typedef struct shapes {
    uint64_t count[TENSORS_MAX];
    uint32_t tensors;
} shapes;

/* Vectors, cut the ordinary way. */
static gp_status
build(const uint64_t *counts, uint32_t tensors, uint64_t chunk_bytes,
      uint32_t shards, gp_map *out)
{
    gp_map_tensor list[TENSORS_MAX] = {{0}};

    assert_true(tensors <= TENSORS_MAX);
    for (uint32_t i = 0; i < tensors; i++)
        list[i].count = counts[i];
    return gp_map_build(list, tensors, chunk_bytes, shards, NULL, out);
}

static void
add(shapes *s, uint64_t count)
{
    assert_true(s->tensors < TENSORS_MAX);
    s->count[s->tensors++] = count;
}

/* A convolution without bias and the scale and shift of its batch norm. */
static void
add_conv_bn(shapes *s, uint64_t out, uint64_t in, uint64_t kernel)
{
    add(s, out * in * kernel * kernel);
    add(s, out);
    add(s, out);
}

static void
add_biased(shapes *s, uint64_t out, uint64_t in)
{
    add(s, out * in);
    add(s, out);
}

/* ResNet-50 (He 2015): bottlenecks, the first of a stage with a projection. */
static void
resnet50(shapes *s)
{
    static const struct {
        uint64_t blocks, width;
    } stage[] = {{3, 64}, {4, 128}, {6, 256}, {3, 512}};
    uint64_t in = 64;

    add_conv_bn(s, 64, 3, 7);
    for (size_t i = 0; i < GP_COUNT_OF(stage); i++)
        for (uint64_t b = 0; b < stage[i].blocks; b++) {
            uint64_t width = stage[i].width;

            add_conv_bn(s, width, in, 1);
            add_conv_bn(s, width, width, 3);
            add_conv_bn(s, 4 * width, width, 1);
            if (b == 0)
                add_conv_bn(s, 4 * width, in, 1);
            in = 4 * width;
        }
    add_biased(s, 1000, 2048);
}

/* VGG-16 (Simonyan 2014), configuration D. */
static void
vgg16(shapes *s)
{
    static const uint64_t channels[] = {3,   64,  64,  128, 128, 256, 256,
                                        256, 512, 512, 512, 512, 512, 512};

    for (size_t i = 1; i < GP_COUNT_OF(channels); i++)
        add_biased(s, channels[i], channels[i - 1] * 9);
    add_biased(s, 4096, 512 * 7 * 7);
    add_biased(s, 4096, 4096);
    add_biased(s, 1000, 4096);
}

/* BERT-large (Devlin 2018), uncased vocabulary, with its pooler. */
static void
bert_large(shapes *s)
{
    static const struct {
        uint64_t out, in; /* in 0: layer norm, scale and shift */
    } layer[] = {
        {1024, 1024}, {1024, 1024}, {1024, 1024}, {1024, 1024},
        {1024, 0},    {4096, 1024}, {1024, 4096}, {1024, 0},
    };

    add(s, 30522 * 1024);
    add(s, 512 * 1024);
    add(s, 2 * 1024);
    add(s, 1024);
    add(s, 1024);
    for (int l = 0; l < 24; l++)
        for (size_t i = 0; i < GP_COUNT_OF(layer); i++)
            add_biased(s, layer[i].out, layer[i].in ? layer[i].in : 1);
    add_biased(s, 1024, 1024);
}

static const struct model {
    const char *name;
    void (*list)(shapes *);
    uint32_t tensors;
    uint64_t parameters;
} models[] = {
    {"ResNet-50", resnet50, 161, 25557032},
    {"VGG-16", vgg16, 32, 138357544},
    {"BERT-large", bert_large, 391, 335141888},
};

static double
imbalance(const gp_map *map)
{
    uint64_t load[64] = {0}, most = 0, total = 0;

    assert_true(map->shards <= GP_COUNT_OF(load));
    for (uint32_t i = 0; i < map->chunks; i++)
        load[map->chunk[i].shard] += map->chunk[i].count * sizeof(float);
    for (uint32_t s = 0; s < map->shards; s++) {
        most = GP_MAX(most, load[s]);
        total += load[s];
    }
    return (double)most * map->shards / (double)total;
}

static void
models_are_balanced(void **state)
{
    static const uint32_t shards[] = {4, 8, 16, 32};

    (void)state;
    for (size_t m = 0; m < GP_COUNT_OF(models); m++) {
        shapes s = {.tensors = 0};
        uint64_t parameters = 0;

        models[m].list(&s);
        for (uint32_t i = 0; i < s.tensors; i++)
            parameters += s.count[i];
        assert_int_equal(s.tensors, models[m].tensors);
        assert_int_equal(parameters, models[m].parameters);
        for (size_t k = 0; k < GP_COUNT_OF(shards); k++) {
            gp_map map;
            double figure;

            assert_int_equal(build(s.count, s.tensors, MIB, shards[k], &map),
                             GP_OK);
            figure = imbalance(&map);
            print_message("%-10s %5.1f MB %2u shards %5u chunks: max/mean "
                          "%.4f\n",
                          models[m].name, (double)parameters * 4e-6, shards[k],
                          map.chunks, figure);
            assert_true(figure >= 1.0 && figure <= 1.03);
            gp_map_free(&map);
        }
    }
}

/* Chunks of a tensor touch, none is empty, all but the last are multiples of
 * the quantum and no longer than asked for, rounded up to it. */
static void
check_cover(const gp_map *map, const uint64_t *counts, uint64_t chunk_bytes)
{
    uint64_t limit = GP_MAX(chunk_bytes / sizeof(float), 1);

    limit += GP_CHUNK_QUANTUM - 1;
    limit -= limit % GP_CHUNK_QUANTUM;
    assert_int_equal(map->first[0], 0);
    assert_int_equal(map->first[map->tensors], map->chunks);
    for (uint32_t t = 0; t < map->tensors; t++) {
        uint64_t at = 0;

        for (uint32_t i = map->first[t]; i < map->first[t + 1]; i++) {
            const gp_chunk_info *c = &map->chunk[i];

            assert_int_equal(c->tensor, t);
            assert_int_equal(c->offset, at);
            assert_true(c->shard < map->shards);
            assert_true(c->count > 0 && c->count <= limit);
            if (i + 1 < map->first[t + 1])
                assert_int_equal(c->count % GP_CHUNK_QUANTUM, 0);
            at += c->count;
        }
        assert_int_equal(at, counts[t]);
    }
}

static const uint64_t odd[] = {
    1000003, 17, 4096, 4097, 262144, 1, 90000, 8191, 300000, 12288,
};

static void
chunks_cover_tensors(void **state)
{
    static const uint64_t chunk_bytes[] = {1,     3,     4,   16383,   16384,
                                           16388, 65536, MIB, 64 * MIB};
    static const uint32_t shards[] = {1, 2, 3, 7, 64, 1000};

    (void)state;
    for (size_t b = 0; b < GP_COUNT_OF(chunk_bytes); b++)
        for (size_t k = 0; k < GP_COUNT_OF(shards); k++) {
            gp_map map;

            assert_int_equal(
                build(odd, GP_COUNT_OF(odd), chunk_bytes[b], shards[k], &map),
                GP_OK);
            assert_int_equal(map.shards, shards[k]);
            assert_int_equal(map.tensors, GP_COUNT_OF(odd));
            check_cover(&map, odd, chunk_bytes[b]);
            gp_map_free(&map);
        }
}

static void
one_element_is_one_chunk(void **state)
{
    const uint64_t count = 1;
    gp_map map;

    (void)state;
    assert_int_equal(build(&count, 1, MIB, 5, &map), GP_OK);
    assert_int_equal(map.chunks, 1);
    assert_int_equal(map.chunk[0].count, 1);
    assert_int_equal(map.chunk[0].shard, 0);
    gp_map_free(&map);
}

/* Below the size of a chunk a tensor is still shared by all shards. */
static void
small_tensors_are_spread(void **state)
{
    const uint64_t count = 4 * GP_CHUNK_QUANTUM;
    gp_map map;

    (void)state;
    assert_int_equal(build(&count, 1, MIB, 4, &map), GP_OK);
    assert_int_equal(map.chunks, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(map.chunk[i].shard, i);
    gp_map_free(&map);
}

/* A thousand biases go to all shards alike, not to the one with fewest bytes.
 */
static void
many_tiny_tensors_are_spread(void **state)
{
    uint64_t counts[400];
    uint32_t owned[4] = {0};
    gp_map map;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(counts); i++)
        counts[i] = 10;
    assert_int_equal(build(counts, GP_COUNT_OF(counts), MIB, 4, &map), GP_OK);
    for (uint32_t i = 0; i < map.chunks; i++)
        owned[map.chunk[i].shard]++;
    for (size_t s = 0; s < GP_COUNT_OF(owned); s++)
        assert_int_equal(owned[s], 100);
    gp_map_free(&map);
}

static void
compare_golden(const gp_map *map, const char *name)
{
    uint8_t expected[4096], bytes[4096];
    gp_writer w = {bytes, sizeof(bytes), true};
    size_t size = read_hex_file(name, expected, sizeof(expected));

    for (uint32_t i = 0; i < map->chunks; i++) {
        gp_write32(&w, map->chunk[i].tensor);
        gp_write32(&w, map->chunk[i].shard);
        gp_write64(&w, map->chunk[i].offset);
        gp_write64(&w, map->chunk[i].count);
    }
    assert_true(w.ok);
    assert_int_equal(sizeof(bytes) - w.left, size);
    assert_memory_equal(bytes, expected, size);
}

static const gp_map_tensor wide[] = {
    {30000000, 0, true, false},
    {1048576, 1024, true, false},
    {785000, 785, true, false},
    {7850, 785, true, false},
    {1000 * 65537, 65537, true, false},
    {4194304, 2048, false, false},
    {1001, 1, true, false},
    {10 * 768, 768, true, false},
};

/* The bytes of a program that follows docs/protocol.md independently. */
static void
the_map_is_the_documented_one(void **state)
{
    gp_map map;

    (void)state;
    assert_int_equal(build(odd, GP_COUNT_OF(odd), 65536, 3, &map), GP_OK);
    compare_golden(&map, "golden/map.hex");
    gp_map_free(&map);
    assert_int_equal(
        gp_map_build(wide, GP_COUNT_OF(wide), 2097152, 3, NULL, &map), GP_OK);
    compare_golden(&map, "golden/map_wide.hex");
    gp_map_free(&map);
}

/* One chunk per shard where that is not too long, and never within a row nor
 * where a result of 16-bit elements could not land. */
static void
wide_chunks_are_whole_rows(void **state)
{
    static const uint32_t shards[] = {1, 2, 3, 7, 64};

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(shards); k++) {
        gp_map map;

        assert_int_equal(
            gp_map_build(wide, GP_COUNT_OF(wide), 65536, shards[k], NULL, &map),
            GP_OK);
        for (uint32_t i = 0; i < map.chunks; i++) {
            const gp_chunk_info *c = &map.chunk[i];
            const gp_map_tensor *t = &wide[c->tensor];

            assert_int_equal(c->offset % 64, 0);
            if (!t->wide)
                continue;
            assert_true(c->count <= 2 * GP_CHUNK_WIDE);
            if (t->columns > 1 && t->columns != 65537)
                assert_int_equal(c->offset % t->columns, 0);
            if (t->count <= GP_CHUNK_WIDE)
                assert_true(map.first[c->tensor + 1] - map.first[c->tensor] <=
                            shards[k]);
        }
        gp_map_free(&map);
    }
}

/* Rows of any length cost no overflow. */
static void
hostile_rows_are_cut(void **state)
{
    static const uint64_t columns[] = {UINT64_MAX, 1ull << 63, (1ull << 61) - 1,
                                       3,          4095,       4194305};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(columns); i++) {
        const gp_map_tensor t = {100000, columns[i], true, false};
        gp_map map;
        uint64_t sum = 0;

        assert_int_equal(gp_map_build(&t, 1, 1, 3, NULL, &map), GP_OK);
        for (uint32_t k = 0; k < map.chunks; k++)
            sum += map.chunk[k].count;
        assert_int_equal(sum, t.count);
        gp_map_free(&map);
    }
}

static void
two_builds_are_equal(void **state)
{
    shapes s = {.tensors = 0};
    gp_map a, b;

    (void)state;
    resnet50(&s);
    assert_int_equal(build(s.count, s.tensors, MIB, 5, &a), GP_OK);
    assert_int_equal(build(s.count, s.tensors, MIB, 5, &b), GP_OK);
    assert_int_equal(a.chunks, b.chunks);
    assert_memory_equal(a.chunk, b.chunk, a.chunks * sizeof(*a.chunk));
    assert_memory_equal(a.first, b.first, (a.tensors + 1) * sizeof(*a.first));
    gp_map_free(&a);
    gp_map_free(&b);
}

static void
huge_tensors_need_few_chunks(void **state)
{
    const uint64_t counts[] = {1ull << 40, 1, (1ull << 40) + 1};
    gp_map map;

    (void)state;
    assert_int_equal(build(counts, 3, 1ull << 36, 16, &map), GP_OK);
    assert_int_equal(map.chunks, 64 + 1 + 65);
    check_cover(&map, counts, 1ull << 36);
    gp_map_free(&map);
    /* Chunk lengths beyond any tensor. */
    assert_int_equal(build(counts, 3, UINT64_MAX, 1, &map), GP_OK);
    assert_int_equal(map.chunks, 3);
    check_cover(&map, counts, UINT64_MAX);
    gp_map_free(&map);
}

static void
too_many_chunks_are_refused(void **state)
{
    const uint64_t most = SIZE_MAX / 8;
    const uint64_t many[] = {1ull << 42, 1ull << 42};
    gp_map map = {.chunks = 77};

    (void)state;
    assert_int_equal(build(&most, 1, 16384, 4, &map), GP_ERR_TOO_LARGE);
    assert_non_null(strstr(gp_last_error(), "raise chunk_bytes"));
    assert_int_equal(build(many, 2, 16384, 4, &map), GP_ERR_TOO_LARGE);
    assert_int_equal(map.chunks, 77); /* untouched */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_balanced),
        cmocka_unit_test(chunks_cover_tensors),
        cmocka_unit_test(one_element_is_one_chunk),
        cmocka_unit_test(small_tensors_are_spread),
        cmocka_unit_test(many_tiny_tensors_are_spread),
        cmocka_unit_test(the_map_is_the_documented_one),
        cmocka_unit_test(wide_chunks_are_whole_rows),
        cmocka_unit_test(hostile_rows_are_cut),
        cmocka_unit_test(two_builds_are_equal),
        cmocka_unit_test(huge_tensors_need_few_chunks),
        cmocka_unit_test(too_many_chunks_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
