/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_parallel.c - layouts, and networks that are cut and put together
 * again: every parameter has its place, whatever the widths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "parallel.h"

static void
layouts_are_read(void **state)
{
    static const struct {
        const char *text;
        uint32_t workers;
        gt_layout layout;
        const char *printed;
    } cases[] = {
        {"data", 3, {1, 1, 3}, "data"},
        {"data=3", 3, {1, 1, 3}, "data"},
        {"tensor=1", 2, {1, 1, 2}, "data"},
        {"tensor", 4, {4, 1, 1}, "tensor=4,data=1"},
        {"tensor,data=2", 6, {3, 1, 2}, "tensor=3,data=2"},
        {"tensor=2", 6, {2, 1, 3}, "tensor=2,data=3"},
        {"data=2,tensor=2", 4, {2, 1, 2}, "tensor=2,data=2"},
        {"pipeline=2", 2, {1, 2, 1}, "pipeline=2,data=1"},
        {"pipeline,data=2", 8, {1, 4, 2}, "pipeline=4,data=2"},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        gt_layout l;
        char text[64];

        assert_int_equal(gt_layout_parse(cases[i].text, &l), GP_OK);
        assert_int_equal(gt_layout_settle(cases[i].workers, &l), GP_OK);
        assert_memory_equal(&l, &cases[i].layout, sizeof(l));
        gt_layout_print(&l, text, sizeof(text));
        assert_string_equal(text, cases[i].printed);
    }
}

static void
wrong_layouts_are_told(void **state)
{
    static const char *const wrong[] = {
        "",          "tensors",   "tensor=",      "tensor=0", "tensor=-1",
        "tensor=2,", "tensor=2x", "tensor=99999", ",data",    "data=2;tensor=2",
    };
    gt_layout l = {7, 7, 7};

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(wrong); i++) {
        assert_int_equal(gt_layout_parse(wrong[i], &l), GP_ERR_CONFIG);
        assert_non_null(strstr(gt_last_error(), "it takes data, tensor=T"));
    }
    assert_int_equal(gt_layout_parse("tensor=2,pipeline=2", &l),
                     GP_ERR_UNSUPPORTED);
    assert_int_equal(l.tensor, 7);
    l = (gt_layout){2, 1, 2};
    assert_int_equal(gt_layout_settle(3, &l), GP_ERR_CONFIG);
    assert_non_null(strstr(gt_last_error(), "2 parts x 2 copies"));
    l = (gt_layout){4, 1, 0};
    assert_int_equal(gt_layout_settle(2, &l), GP_ERR_CONFIG);
}

static void
layers_that_cannot_be_cut_are_told(void **state)
{
    const size_t narrow[] = {8, 2, 8}, few[] = {8, 8};
    gt_layout l = {3, 1, 1};
    gt_slice part;

    (void)state;
    assert_int_equal(gt_slice_of(&l, narrow, 2, 0, &part), GP_ERR_CONFIG);
    assert_non_null(strstr(gt_last_error(), "the 2 outputs of layer 0"));
    l = (gt_layout){1, 2, 1};
    assert_int_equal(gt_slice_of(&l, few, 1, 0, &part), GP_ERR_CONFIG);
    assert_non_null(strstr(gt_last_error(), "fewer stages"));
    assert_int_equal(gt_slice_of(&l, few, 0, 0, &part), GP_ERR_INVALID);
}

/* Numbers all parameters of `whole`, and leaves `to` without any. */
static void
number(const gt_mlp *whole, float *to)
{
    float next = 1;

    for (size_t l = 0; l < whole->layers; l++) {
        const gt_layer *layer = &whole->layer[l];

        for (size_t i = 0; i < layer->in * layer->out; i++)
            layer->weight[i] = next++;
        for (size_t i = 0; i < layer->out; i++)
            layer->bias[i] = next++;
    }
    memset(to, 0, whole->span * sizeof(float));
}

/* Cuts into all parts and joins them; returns how many values they have. */
static size_t
cut_and_join(const gt_layout *layout, const size_t *widths, size_t layers)
{
    gt_mlp whole, part;
    size_t values = 0;
    float *joined;

    assert_int_equal(gt_mlp_create_params(widths, layers, &whole), GP_OK);
    joined = malloc(whole.span * sizeof(float));
    assert_non_null(joined);
    number(&whole, joined);
    for (uint32_t m = 0; m < gt_layout_members(layout); m++) {
        gt_slice s;

        assert_int_equal(gt_slice_of(layout, widths, layers, m, &s), GP_OK);
        assert_int_equal(gt_mlp_create_params(s.widths, s.layers, &part),
                         GP_OK);
        gt_slice_cut(&s, &whole, whole.params, &part, part.params);
        gt_slice_join(&s, &part, part.params, &whole, joined);
        values += part.count;
        gt_mlp_free(&part);
    }
    assert_memory_equal(joined, whole.params, whole.span * sizeof(float));
    free(joined);
    gt_mlp_free(&whole);
    return values;
}

static void
parts_are_the_whole(void **state)
{
    const size_t even[] = {8, 6, 4}, odd[] = {7, 5, 9, 4}, one[] = {5, 3};
    const size_t narrow[] = {7, 5, 9, 2}, deep[] = {3, 4, 5, 6, 7, 8};
    const gt_layout two = {2, 1, 1}, three = {3, 1, 1}, stages = {1, 3, 1};

    (void)state;
    /* Biases of layers cut by rows are with all parts. */
    assert_int_equal(cut_and_join(&two, even, 2), 8 * 6 + 6 + 6 * 4 + 2 * 4);
    assert_int_equal(cut_and_join(&two, odd, 3), 40 + 45 + 2 * 9 + 40);
    assert_int_equal(cut_and_join(&three, odd, 3), 40 + 45 + 3 * 9 + 40);
    assert_int_equal(cut_and_join(&two, one, 1), 18);
    /* The last of three is narrower than there are parts: all have it. */
    assert_int_equal(cut_and_join(&three, narrow, 3), 40 + 45 + 3 * 9 + 60);
    assert_int_equal(cut_and_join(&three, deep, 5),
                     16 + 20 + 3 * 5 + 36 + 42 + 3 * 7 + 64);
    assert_int_equal(cut_and_join(&stages, deep, 5), 16 + 25 + 36 + 49 + 64);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_read),
        cmocka_unit_test(wrong_layouts_are_told),
        cmocka_unit_test(layers_that_cannot_be_cut_are_told),
        cmocka_unit_test(parts_are_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
