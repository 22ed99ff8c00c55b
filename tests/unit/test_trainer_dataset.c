/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_dataset.c - files and folders to checked, split and normalized
 * samples; which samples a rank gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>
#include <zlib.h>

#include "data.h"
#include "loader.h"
#include "random.h"

static char folder[64];

static int
make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gt-data-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int
remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static const char *
in_folder(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void
put_file(const char *name, const void *bytes, size_t length)
{
    FILE *file = fopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void
put_gzip(const char *name, const void *bytes, size_t length)
{
    gzFile file = gzopen(in_folder(name), "wb");

    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)length), (int)length);
    assert_int_equal(gzclose(file), Z_OK);
}

/* `count` images of 1 x 2 with pixels (i, 255 - i). */
static size_t
images(uint8_t *out, size_t count)
{
    static const uint8_t head[] = {0, 0, 8, 3, 0, 0, 0, 0,
                                   0, 0, 0, 1, 0, 0, 0, 2};

    memcpy(out, head, sizeof(head));
    out[7] = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        out[16 + 2 * i] = (uint8_t)i;
        out[17 + 2 * i] = (uint8_t)(255 - i);
    }
    return 16 + 2 * count;
}

/* Labels i % classes. */
static size_t
labels(uint8_t *out, size_t count, size_t classes)
{
    static const uint8_t head[] = {0, 0, 8, 1, 0, 0, 0, 0};

    memcpy(out, head, sizeof(head));
    out[7] = (uint8_t)count;
    for (size_t i = 0; i < count; i++)
        out[8 + i] = (uint8_t)(i % classes);
    return 8 + count;
}

static gt_data_options
options_for(const char *path)
{
    return (gt_data_options){path, 0.8, 0, GT_NORMALIZE_SCALE};
}

static void
loads(const gt_data_options *options, gt_data *out)
{
    if (gt_data_load(options, out) != GP_OK)
        fail_msg("%s", gt_last_error());
}

static void
refuses(const gt_data_options *options, gp_status status, const char *text)
{
    gt_data untouched = {.classes = 77};

    assert_int_equal(gt_data_load(options, &untouched), status);
    assert_int_equal(untouched.classes, 77);
    if (!strstr(gt_last_error(), text))
        fail_msg("'%s' is not in '%s'", text, gt_last_error());
}

static void
half_of_mnist_is_split(void **state)
{
    uint8_t bytes[256];
    gt_data_options o = options_for(folder);
    gt_data d;

    (void)state;
    put_gzip("t10k-images-idx3-ubyte.gz", bytes, images(bytes, 10));
    put_gzip("t10k-labels-idx1-ubyte.gz", bytes, labels(bytes, 10, 3));
    loads(&o, &d);
    assert_int_equal(d.train.count, 8);
    assert_int_equal(d.test.count, 2);
    assert_int_equal(d.features, 2);
    assert_int_equal(d.classes, 3);
    assert_int_equal(d.test.labels[1], 0);
    assert_true(fabsf(d.train.x[3] - 254.0f / 255.0f) < 1e-6f);
    assert_true(fabsf(d.test.x[0] - 8.0f / 255.0f) < 1e-6f);
    gt_data_free(&d);
}

static void
both_halves_of_mnist_are_used(void **state)
{
    uint8_t bytes[256];
    gt_data_options o = options_for(folder);
    gt_data d;

    (void)state;
    put_file("train-images.idx3-ubyte", bytes, images(bytes, 20));
    put_file("train-labels.idx1-ubyte", bytes, labels(bytes, 20, 4));
    put_file("t10k-images.idx3-ubyte", bytes, images(bytes, 5));
    put_file("t10k-labels.idx1-ubyte", bytes, labels(bytes, 5, 4));
    loads(&o, &d);
    assert_int_equal(d.train.count, 20);
    assert_int_equal(d.test.count, 5);
    gt_data_free(&d);
}

static void
folders_are_refused(void **state)
{
    uint8_t bytes[256];
    gt_data_options o = options_for(folder);

    (void)state;
    refuses(&o, GP_ERR_NOT_FOUND, "neither train-images-idx3-ubyte");
    put_file("train-images-idx3-ubyte", bytes, images(bytes, 20));
    refuses(&o, GP_ERR_NOT_FOUND, "holds train-images but no train-labels");
    put_file("train-labels-idx1-ubyte", bytes, labels(bytes, 19, 4));
    refuses(&o, GP_ERR_MISMATCH, "has 20 samples but");
    o.path = in_folder("none");
    refuses(&o, GP_ERR_NOT_FOUND, "no such file or folder");
    put_file("picture.png", bytes, 8);
    o.path = in_folder("picture.png");
    refuses(&o, GP_ERR_UNSUPPORTED, "unknown kind of file");
}

static void
gzip_damage_is_told(void **state)
{
    uint8_t bytes[4096];
    gt_data_options o;
    FILE *file;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = "0123456789,\n"[(i * 7919) % 12];
    put_gzip("x.csv.gz", bytes, sizeof(bytes));
    file = fopen(in_folder("x.csv.gz"), "rb");
    assert_non_null(file);
    n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    put_file("short.csv.gz", bytes, n - 12);
    o = options_for(in_folder("short.csv.gz"));
    refuses(&o, GP_ERR_CORRUPT, "ends early");
    bytes[n / 2] ^= 0xFF;
    bytes[n / 2 + 1] ^= 0xFF;
    put_file("bad.csv.gz", bytes, n);
    o = options_for(in_folder("bad.csv.gz"));
    refuses(&o, GP_ERR_CORRUPT, "gzip stream");
}

static void
bad_values_are_told(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"1,0\n2,1\n3,-1\n4,0\n5,1\n", "label -1 of sample 2 is out of range"},
        {"1,0\n2,1\n3,0.5\n4,0\n5,1\n", "label 0.5 of sample 2"},
        {"1,0\n2,1\n3,70000\n4,0\n5,1\n", "label 70000 of sample 2"},
        {"1,0\n2,1\n3,9\n4,0\n5,1\n",
         "label 9 of sample 2 is out of range: no sample has label 2"},
        {"1,0\n2,0\n3,0\n4,0\n5,0\n", "two classes are needed"},
        {"1,0\n", "leaves nothing to train with"},
    };
    gt_data_options o = options_for("");
    float values[] = {1, NAN, 3, 4};
    char npy[256], pair[600];
    uint8_t raw[400];
    size_t n;

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        put_file("x.csv", cases[i].text, strlen(cases[i].text));
        o.path = in_folder("x.csv");
        refuses(&o,
                strstr(cases[i].message, "nothing") ? GP_ERR_CONFIG
                                                    : GP_ERR_CORRUPT,
                cases[i].message);
    }
    snprintf(npy, sizeof(npy),
             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}");
    memcpy(raw, "\x93NUMPY\1\0", 8);
    raw[8] = (uint8_t)strlen(npy);
    raw[9] = 0;
    memcpy(raw + 10, npy, strlen(npy));
    n = 10 + strlen(npy);
    memcpy(raw + n, values, sizeof(values));
    put_file("x.npy", raw, n + sizeof(values));
    put_file("y.npy", raw, n + sizeof(values));
    snprintf(pair, sizeof(pair), "%s/x.npy,%s/y.npy", folder, folder);
    o.path = pair;
    refuses(&o, GP_ERR_UNSUPPORTED, "one label each");
    o.path = in_folder("x.npy");
    refuses(&o, GP_ERR_CONFIG, "comes as a pair");
}

static void
nan_in_data_is_told(void **state)
{
    static const uint8_t x[] = {0, 0, 0x0D, 2, 0, 0, 0,    2,    0, 0,
                                0, 1, 0,    0, 0, 0, 0x7F, 0xC0, 0, 0};
    uint8_t y[16];
    gt_data_options o = options_for(folder);

    (void)state;
    put_file("train-images-idx3-ubyte", x, sizeof(x));
    put_file("train-labels-idx1-ubyte", y, labels(y, 2, 2));
    refuses(&o, GP_ERR_CORRUPT, "sample 1, value 0 is NaN");
}

static void
npy_folder_and_classes(void **state)
{
    static const char head_x[] =
        "\x93NUMPY\1\0\x44\0"
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 1), }       \n";
    static const char head_y[] =
        "\x93NUMPY\1\0\x44\0"
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10,), }         \n";
    uint8_t x[128], y[128];
    gt_data_options o = options_for(folder);
    gt_data d;

    (void)state;
    assert_int_equal(sizeof(head_x), 10 + 0x44 + 1);
    memcpy(x, head_x, 78);
    memcpy(y, head_y, 78);
    for (uint8_t i = 0; i < 10; i++) {
        x[78 + i] = i;
        y[78 + i] = (uint8_t)(1 + i % 2);
    }
    put_file("x.npy", x, 88);
    put_file("y.npy", y, 88);
    refuses(&o, GP_ERR_CORRUPT, "give --classes 3");
    o.classes = 2;
    refuses(&o, GP_ERR_CORRUPT, "--classes 2 allows 0 to 1");
    o.classes = 5;
    loads(&o, &d);
    assert_int_equal(d.classes, 5);
    gt_data_free(&d);
}

static void
normalization_uses_the_training_part(void **state)
{
    gt_data_options o = {"digits", 0.5, 0, GT_NORMALIZE_STANDARD};
    double sum = 0, squares = 0;
    size_t n;
    gt_data d;

    (void)state;
    loads(&o, &d);
    n = d.train.count * d.features;
    assert_int_equal(d.train.count, 898);
    assert_int_equal(d.test.count, 899);
    for (size_t i = 0; i < n; i++) {
        sum += (double)d.train.x[i];
        squares += (double)d.train.x[i] * (double)d.train.x[i];
    }
    assert_true(fabs(sum / (double)n) < 1e-5);
    assert_true(fabs(squares / (double)n - 1) < 1e-4);
    assert_true(d.scale == 1.0f / 16);
    gt_data_free(&d);
    o.normalize = GT_NORMALIZE_NONE;
    loads(&o, &d);
    assert_true(d.train.x[3] == 11); /* "AABL..." */
    gt_data_free(&d);
}

/* --- the loader --- */

static gt_samples
numbered(size_t count)
{
    gt_samples s = {calloc(count, sizeof(float)),
                    calloc(count, sizeof(uint16_t)), count};

    assert_non_null(s.x);
    assert_non_null(s.labels);
    for (size_t i = 0; i < count; i++) {
        s.x[i] = (float)i;
        s.labels[i] = (uint16_t)i;
    }
    return s;
}

static void
samples_done(gt_samples *s)
{
    free(s->x);
    free(s->labels);
}

/* Adds 1 to seen[sample] for each sample of the epoch. */
static void
see_epoch(gt_loader *l, uint32_t epoch, unsigned *seen, float *first)
{
    float x[64];
    uint16_t y[64];

    gt_loader_shuffle(l, epoch);
    for (size_t s = 0; s < l->steps; s++) {
        gt_loader_batch(l, s, x, y);
        if (s == 0 && first)
            *first = x[0];
        for (size_t i = 0; i < l->batch; i++) {
            assert_true(x[i] == (float)y[i]);
            seen[y[i]]++;
        }
    }
}

static void
ranks_share_an_epoch(void **state)
{
    gt_samples s = numbered(103);

    (void)state;
    for (gt_partition p = GT_RANDOM; p <= GT_CONTIGUOUS; p++) {
        unsigned seen[103] = {0}, total = 0;

        for (uint32_t rank = 0; rank < 4; rank++) {
            gt_loader l;

            assert_int_equal(gt_loader_create(&s, 1, 5, rank, 4, 1, p, &l),
                             GP_OK);
            assert_int_equal(l.steps, 5);
            see_epoch(&l, 3, seen, NULL);
            gt_loader_free(&l);
        }
        for (size_t i = 0; i < 103; i++) {
            assert_true(seen[i] <= 1);
            total += seen[i];
        }
        assert_int_equal(total, 100);
    }
    samples_done(&s);
}

static void
a_step_is_the_same_for_any_number_of_ranks(void **state)
{
    gt_samples s = numbered(100);
    gt_loader one, two[2];
    float x[8], half[4];
    uint16_t y[8];

    (void)state;
    assert_int_equal(gt_loader_create(&s, 1, 8, 0, 1, 9, GT_RANDOM, &one),
                     GP_OK);
    gt_loader_shuffle(&one, 2);
    gt_loader_batch(&one, 3, x, y);
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(
            gt_loader_create(&s, 1, 4, r, 2, 9, GT_RANDOM, &two[r]), GP_OK);
        gt_loader_shuffle(&two[r], 2);
        gt_loader_batch(&two[r], 3, half, y);
        assert_memory_equal(half, x + 4 * r, sizeof(half));
        gt_loader_free(&two[r]);
    }
    gt_loader_free(&one);
    samples_done(&s);
}

static void
epochs_are_reshuffled_and_repeatable(void **state)
{
    gt_samples s = numbered(1000);
    unsigned seen[1000] = {0};
    float first[4];
    gt_loader l;

    (void)state;
    assert_int_equal(gt_loader_create(&s, 1, 10, 0, 1, 5, GT_RANDOM, &l),
                     GP_OK);
    see_epoch(&l, 0, seen, &first[0]);
    see_epoch(&l, 1, seen, &first[1]);
    see_epoch(&l, 2, seen, &first[2]);
    see_epoch(&l, 1, seen, &first[3]);
    assert_true(first[0] != first[1] || first[1] != first[2]);
    assert_true(first[1] == first[3]);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 4);
    gt_loader_free(&l);
    samples_done(&s);
}

static void
too_few_samples_are_refused(void **state)
{
    gt_samples s = numbered(100);
    gt_loader l;

    (void)state;
    assert_int_equal(gt_loader_create(&s, 1, 64, 0, 2, 1, GT_RANDOM, &l),
                     GP_ERR_CONFIG);
    assert_non_null(strstr(gt_last_error(), "--batch 64 x 2 workers"));
    samples_done(&s);
}

/* --- random numbers --- */

/* The known-answer vectors of the authors' Random123 library. */
static void
philox_gives_the_published_words(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], words[4];
    } vectors[] = {
        {{0, 0, 0, 0},
         {0, 0},
         {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t words[4];

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(vectors); i++) {
        gt_philox(vectors[i].counter, vectors[i].key, words);
        assert_memory_equal(words, vectors[i].words, sizeof(words));
    }
}

static void
uniform_values_have_the_right_moments(void **state)
{
    enum { COUNT = 100000 };
    float *values = malloc(COUNT * sizeof(float));
    double sum = 0, squares = 0;

    (void)state;
    assert_non_null(values);
    gt_random_uniform(1, GT_STREAM_INIT, 0, 2, values, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(values[i] >= -2 && values[i] < 2);
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    assert_true(fabs(sum / COUNT) < 0.02);
    assert_true(fabs(squares / COUNT - 4.0 / 3.0) < 0.02);
    free(values);
}

#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(half_of_mnist_is_split),
        IN_FOLDER(both_halves_of_mnist_are_used),
        IN_FOLDER(folders_are_refused),
        IN_FOLDER(gzip_damage_is_told),
        IN_FOLDER(bad_values_are_told),
        IN_FOLDER(nan_in_data_is_told),
        IN_FOLDER(npy_folder_and_classes),
        cmocka_unit_test(normalization_uses_the_training_part),
        cmocka_unit_test(ranks_share_an_epoch),
        cmocka_unit_test(a_step_is_the_same_for_any_number_of_ranks),
        cmocka_unit_test(epochs_are_reshuffled_and_repeatable),
        cmocka_unit_test(too_few_samples_are_refused),
        cmocka_unit_test(philox_gives_the_published_words),
        cmocka_unit_test(uniform_values_have_the_right_moments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
