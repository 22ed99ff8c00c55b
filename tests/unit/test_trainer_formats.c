/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_formats.c - IDX, NPY and CSV: what is read, and what bad input
 * is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data.h"

typedef gp_status (*parser)(const uint8_t *bytes, size_t length,
                            const char *name, gt_matrix *out);

/* Fails with `status`, names the input, and says `text`. */
static void
refuses(parser parse, const void *bytes, size_t length, gp_status status,
        const char *text)
{
    gt_matrix untouched = {.rows = 77};
    /* A copy of exact size lets the sanitizer see a read past the end. */
    uint8_t *copy = malloc(length ? length : 1);

    memcpy(copy, bytes, length);
    assert_int_equal(parse(copy, length, "some/input", &untouched), status);
    free(copy);
    assert_int_equal(untouched.rows, 77);
    assert_non_null(strstr(gt_last_error(), "some/input"));
    if (!strstr(gt_last_error(), text))
        fail_msg("'%s' is not in '%s'", text, gt_last_error());
}

static gt_matrix
accepts(parser parse, const void *bytes, size_t length)
{
    gt_matrix matrix = {0};

    if (parse(bytes, length, "some/input", &matrix) != GP_OK)
        fail_msg("%s", gt_last_error());
    return matrix;
}

/* --- IDX --- */

static const uint8_t idx_images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0,
                                     1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255};

static void
idx_reads_bytes(void **state)
{
    gt_matrix m = accepts(gt_idx_parse, idx_images, sizeof(idx_images));

    (void)state;
    assert_int_equal(m.rows, 2);
    assert_int_equal(m.columns, 3);
    assert_true(m.values[0] == 1 && m.values[5] == 255);
    assert_true(m.range == 255);
    gt_matrix_free(&m);
}

static void
idx_reads_every_type(void **state)
{
    static const struct {
        uint8_t bytes[16];
        size_t length;
        float value;
    } cases[] = {
        {{0, 0, 0x09, 1, 0, 0, 0, 1, 0xFE}, 9, -2},
        {{0, 0, 0x0B, 1, 0, 0, 0, 1, 0xFF, 0xFE}, 10, -2},
        {{0, 0, 0x0C, 1, 0, 0, 0, 1, 0, 1, 0, 0}, 12, 65536},
        {{0, 0, 0x0D, 1, 0, 0, 0, 1, 0xC0, 0x20, 0, 0}, 12, -2.5f},
        {{0, 0, 0x0E, 1, 0, 0, 0, 1, 0x3F, 0xD0, 0, 0, 0, 0, 0, 0}, 16, 0.25f},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        gt_matrix m = accepts(gt_idx_parse, cases[i].bytes, cases[i].length);

        assert_int_equal(m.rows, 1);
        assert_true(m.values[0] == cases[i].value);
        gt_matrix_free(&m);
    }
}

static void
idx_refuses_bad_input(void **state)
{
    uint8_t bytes[sizeof(idx_images) + 1] = {0};
    static const uint8_t huge[] = {0,    0,    8,    4,    0xFF, 0xFF, 0xFF,
                                   0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                   0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t large[] = {0, 0, 8,    2,    0x80, 0,
                                    0, 0, 0xFF, 0xFF, 0xFF, 0xFF};

    (void)state;
    refuses(gt_idx_parse, "", 0, GP_ERR_CORRUPT, "truncated");
    refuses(gt_idx_parse, idx_images, 10, GP_ERR_CORRUPT, "truncated");
    refuses(gt_idx_parse, idx_images, sizeof(idx_images) - 1, GP_ERR_CORRUPT,
            "promises 6 bytes after offset 16, the file has 5: truncated");
    memcpy(bytes, idx_images, sizeof(idx_images));
    refuses(gt_idx_parse, bytes, sizeof(bytes), GP_ERR_CORRUPT, "oversized");
    refuses(gt_idx_parse, "GIF89a..", 8, GP_ERR_CORRUPT, "wrong magic 47 49");
    bytes[3] = 9;
    refuses(gt_idx_parse, bytes, sizeof(bytes), GP_ERR_CORRUPT, "9 dimensions");
    refuses(gt_idx_parse, huge, sizeof(huge), GP_ERR_CORRUPT, "overflow");
    refuses(gt_idx_parse, large, sizeof(large), GP_ERR_CORRUPT, "truncated");
    memcpy(bytes, idx_images, sizeof(idx_images));
    bytes[7] = 0;
    refuses(gt_idx_parse, bytes, sizeof(bytes), GP_ERR_CORRUPT,
            "dimension 0 at offset 4 is 0");
}

/* --- NPY --- */

/* A .npy of version `major` with this header text and data. */
static size_t
make_npy(uint8_t *out, int major, const char *header, const void *data,
         size_t length)
{
    size_t n = strlen(header), at = 8;

    memcpy(out, "\x93NUMPY", 6);
    out[6] = (uint8_t)major;
    out[7] = 0;
    for (size_t i = 0; i < (major == 1 ? 2 : 4); i++)
        out[at++] = (uint8_t)(n >> (8 * i));
    memcpy(out + at, header, n);
    if (length)
        memcpy(out + at + n, data, length);
    return at + n + length;
}

static gt_matrix
accepts_npy(int major, const char *header, const void *data, size_t length)
{
    uint8_t bytes[512];
    size_t n = make_npy(bytes, major, header, data, length);

    return accepts(gt_npy_parse, bytes, n);
}

static void
refuses_npy(const char *header, size_t length, gp_status status,
            const char *text)
{
    static const uint8_t zeros[64];
    uint8_t bytes[512];
    size_t n = make_npy(bytes, 1, header, zeros, length);

    refuses(gt_npy_parse, bytes, n, status, text);
}

static void
npy_reads_arrays(void **state)
{
    static const float floats[] = {1, 2, 3, 4, 5, 6};
    static const uint8_t bytes[] = {0, 255};
    static const uint8_t half[] = {0x00, 0x3C, 0x01, 0x00, 0x00, 0xC4};
    static const uint8_t big[] = {0, 0, 1, 0};
    gt_matrix m;

    (void)state;
    m = accepts_npy(
        1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
        floats, sizeof(floats));
    assert_int_equal(m.rows, 2);
    assert_int_equal(m.columns, 3);
    assert_true(m.values[1] == 2 && m.values[3] == 4 && m.range == 0);
    gt_matrix_free(&m);
    m = accepts_npy(
        2, "{'shape': (2, 3), 'fortran_order': True, 'descr': '<f4'}\n", floats,
        sizeof(floats));
    assert_true(m.values[1] == 3 && m.values[3] == 2);
    gt_matrix_free(&m);
    m = accepts_npy(
        3, "{\"descr\": \"|u1\", 'fortran_order': False, 'shape': (2,)}", bytes,
        sizeof(bytes));
    assert_int_equal(m.columns, 1);
    assert_true(m.values[1] == 255 && m.range == 255);
    gt_matrix_free(&m);
    m = accepts_npy(1,
                    "{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}",
                    half, sizeof(half));
    assert_true(m.values[0] == 1 && m.values[1] == 0x1p-24f &&
                m.values[2] == -4);
    gt_matrix_free(&m);
    m = accepts_npy(1,
                    "{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}",
                    big, sizeof(big));
    assert_true(m.values[0] == 256);
    gt_matrix_free(&m);
}

#define NPY(descr, shape) \
    "{'descr': " descr ", 'fortran_order': False, 'shape': " shape "}"

static void
npy_refuses_bad_input(void **state)
{
    (void)state;
    refuses(gt_npy_parse, "\x93NUMPY\x01", 7, GP_ERR_CORRUPT, "wrong magic");
    refuses(gt_npy_parse, "PK\3\4..........", 14, GP_ERR_CORRUPT, ".npz");
    refuses(gt_npy_parse, "\x93NUMPY\x07\0\1\0\0\0", 12, GP_ERR_UNSUPPORTED,
            "version 7.0");
    refuses(gt_npy_parse, "\x93NUMPY\1\0\xFF\x20{}", 12, GP_ERR_CORRUPT,
            "truncated inside the header");
    refuses(gt_npy_parse, "\x93NUMPY\2\0\xFF\xFF\xFF\xFF", 12, GP_ERR_CORRUPT,
            "header of 4294967295 bytes");
    refuses_npy(NPY("'|O'", "(2,)"), 16, GP_ERR_UNSUPPORTED, "pickled Python");
    refuses_npy(NPY("'<c8'", "(2,)"), 16, GP_ERR_UNSUPPORTED, "astype");
    refuses_npy(NPY("[('a', '<f4')]", "(2,)"), 8, GP_ERR_UNSUPPORTED,
                "structured");
    refuses_npy(NPY("'<f4'", "()"), 4, GP_ERR_UNSUPPORTED, "scalar");
    refuses_npy(NPY("'<f4'", "(0, 5)"), 0, GP_ERR_CORRUPT, "is 0");
    refuses_npy(NPY("'<f4'", "(3,)"), 8, GP_ERR_CORRUPT, "truncated");
    refuses_npy(NPY("'<f4'", "(1,)"), 8, GP_ERR_CORRUPT, "oversized");
    refuses_npy(NPY("'<f4'", "(9223372036854775808,)"), 8, GP_ERR_CORRUPT,
                "overflows");
    refuses_npy(NPY("'<f4'", "(4294967296, 4294967296)"), 8, GP_ERR_CORRUPT,
                "overflows");
    refuses_npy(NPY("'<f4'", "(99999999999999999999,)"), 8, GP_ERR_CORRUPT,
                "below 2^64");
    refuses_npy(NPY("'<f4'", "(-1,)"), 8, GP_ERR_CORRUPT, "a dimension");
    refuses_npy(NPY("'<f4'", "(1,1,1,1,1,1,1,1,1)"), 4, GP_ERR_UNSUPPORTED,
                "more than 8");
    refuses_npy("{'descr': '<f4', 'shape': (1,)}", 4, GP_ERR_CORRUPT,
                "fortran_order");
    refuses_npy("{'descr': '<f4', 'descr': '<f4'}", 4, GP_ERR_CORRUPT, "once");
    refuses_npy("{'descr': '<f4', 'fortran_order': 1}", 4, GP_ERR_CORRUPT,
                "True or False");
    refuses_npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,1,1)}", 4,
                GP_ERR_UNSUPPORTED, "ascontiguousarray");
    refuses_npy("__import__('os')", 4, GP_ERR_CORRUPT, "'{'");
    refuses_npy("{'descr", 4, GP_ERR_CORRUPT, "closing quote");
}

/* --- CSV --- */

static gt_matrix
accepts_csv(const char *text)
{
    return accepts(gt_csv_parse, text, strlen(text));
}

static void
refuses_csv(const char *text, const char *message)
{
    refuses(gt_csv_parse, text, strlen(text), GP_ERR_CORRUPT, message);
}

static void
csv_reads_numbers(void **state)
{
    gt_matrix m = accepts_csv("a,b,label\r\n1, 2.5 ,0\r\n\r\n-3e2,4,1");

    (void)state;
    assert_int_equal(m.rows, 2);
    assert_int_equal(m.columns, 3);
    assert_true(m.values[1] == 2.5f && m.values[3] == -300);
    gt_matrix_free(&m);
    m = accepts_csv("\xEF\xBB\xBF"
                    "1;2\n3;4\n");
    assert_true(m.columns == 2 && m.values[2] == 3);
    gt_matrix_free(&m);
    m = accepts_csv("12345678\t2\n");
    assert_true(m.columns == 2 && m.values[0] == 12345678);
    gt_matrix_free(&m);
}

static void
csv_refuses_bad_input(void **state)
{
    (void)state;
    refuses_csv("", "empty file");
    refuses_csv("\n\n", "0 fields");
    refuses_csv("1\n2\n", "1 fields a line");
    refuses_csv("1,2\n3,4,5\n", "input:2: 3 fields, the lines before have 2");
    refuses_csv("1,2\n3,x\n", "input:2: field 2 is not a number: 'x'");
    refuses_csv("1,2\nname,label\n", "input:2: field 1 is not a number");
    refuses_csv("1,,2\n", "input:1: field 2 is empty");
    refuses_csv("1,2\nNaN,2\n", "input:2: field 1 is 'NaN'");
    refuses_csv("1,2\n1,-inf\n", "input:2: field 2 is '-inf'");
    refuses_csv("1,2\n1,1e99\n", "field 2 does not fit fp32");
    refuses_csv("0x10,2\n", "field 1 is not a number");
    refuses_csv("1-2,2\n", "field 1 is not a number");
    refuses(gt_csv_parse, "1,2\0,3\n", 7, GP_ERR_CORRUPT, "not a number");
}

/* --- the built-in digits --- */

static void
digits_are_the_published_ones(void **state)
{
    /* Samples of each class, as the source's description counts them. */
    static const size_t published[10] = {178, 182, 177, 183, 181,
                                         182, 181, 179, 174, 180};
    size_t counts[10] = {0};
    double sum = 0;
    gt_matrix m;

    (void)state;
    assert_int_equal(gt_digits_load(&m), GP_OK);
    assert_int_equal(m.rows, 1797);
    assert_int_equal(m.columns, 65);
    for (size_t r = 0; r < m.rows; r++) {
        const float *row = m.values + 65 * r;

        for (size_t i = 0; i < 64; i++) {
            assert_true(row[i] >= 0 && row[i] <= 16);
            sum += (double)row[i];
        }
        counts[(size_t)row[64]]++;
    }
    for (size_t c = 0; c < 10; c++)
        assert_int_equal(counts[c], published[c]);
    assert_true(sum == 561718);
    gt_matrix_free(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_reads_bytes),
        cmocka_unit_test(idx_reads_every_type),
        cmocka_unit_test(idx_refuses_bad_input),
        cmocka_unit_test(npy_reads_arrays),
        cmocka_unit_test(npy_refuses_bad_input),
        cmocka_unit_test(csv_reads_numbers),
        cmocka_unit_test(csv_refuses_bad_input),
        cmocka_unit_test(digits_are_the_published_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
