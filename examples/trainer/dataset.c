/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset.c - checked, split and normalized samples.
 *
 * After gt_data_load() every value is finite and every label is below
 * `classes`; nothing later checks again. Mean and deviation come from the
 * training part alone, so the test part teaches nothing.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "data_find.h"

#define LABEL_MAX 65534

static void
samples_free(gt_samples *samples)
{
    free(samples->x);
    free(samples->labels);
    *samples = (gt_samples){0};
}

void
gt_data_free(gt_data *data)
{
    samples_free(&data->train);
    samples_free(&data->test);
}

static gp_status
check_finite(const gt_part *part)
{
    const gt_matrix *x = &part->x;
    size_t count = x->rows * x->columns;

    for (size_t i = 0; i < count; i++)
        if (!isfinite(x->values[i]))
            return gt_fail(GP_ERR_CORRUPT,
                           "%s: sample %zu, value %zu is %s; remove the "
                           "sample or repair the data",
                           part->name_x, i / x->columns, i % x->columns,
                           isnan(x->values[i]) ? "NaN" : "infinite");
    return GP_OK;
}

static gp_status
to_label(float value, const char *name, size_t row, uint16_t *out)
{
    if (!(value >= 0 && value <= LABEL_MAX) || value != truncf(value))
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: label %g of sample %zu is out of range; labels "
                       "are whole numbers from 0 to %d",
                       name, (double)value, row, LABEL_MAX);
    *out = (uint16_t)value;
    return GP_OK;
}

/* Moves the label column out; the features close up in place. */
static gp_status
part_to_samples(gt_part *part, gt_samples *out, size_t *features)
{
    size_t rows = part->x.rows, width = part->x.columns;
    size_t keep = width - (part->joined ? 1 : 0);
    gp_status status = GP_OK;

    out->labels = gt_alloc(rows, sizeof(uint16_t));
    if (!out->labels)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory: %zu labels", rows);
    for (size_t r = 0; r < rows && status == GP_OK; r++) {
        float *row = part->x.values + r * width;
        float label = part->joined ? row[keep] : part->y.values[r];

        status = to_label(label, part->joined ? part->name_x : part->name_y, r,
                          &out->labels[r]);
        memmove(part->x.values + r * keep, row, keep * sizeof(float));
    }
    if (status != GP_OK)
        return status;
    out->x = part->x.values;
    out->count = rows;
    part->x.values = NULL;
    *features = keep;
    return GP_OK;
}

/* The rows from `first` on become a set of their own. */
static gp_status
split_off(gt_samples *from, size_t first, size_t features, gt_samples *out)
{
    size_t rows = from->count - first;
    gp_status status;

    out->labels = gt_alloc(rows, sizeof(uint16_t));
    if (!out->labels)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory: %zu labels", rows);
    status = gt_alloc_floats(rows * features, "the test part", &out->x);
    if (status != GP_OK)
        return status;
    memcpy(out->x, from->x + first * features, rows * features * sizeof(float));
    memcpy(out->labels, from->labels + first, rows * sizeof(uint16_t));
    out->count = rows;
    from->count = first;
    return GP_OK;
}

static gp_status
make_test_part(const gt_data_options *options, gt_part *test, gt_data *data)
{
    size_t features, first;
    gp_status status;

    if (test->x.values) {
        status = part_to_samples(test, &data->test, &features);
        if (status == GP_OK && features != data->features)
            status = gt_fail(GP_ERR_MISMATCH,
                             "%s has %zu values a sample, the training part "
                             "has %zu",
                             test->name_x, features, data->features);
        return status;
    }
    first = (size_t)((double)data->train.count * options->split);
    if (first == 0 || first >= data->train.count)
        return gt_fail(GP_ERR_CONFIG,
                       "--split %g of %zu samples leaves nothing to %s",
                       options->split, data->train.count,
                       first ? "test with" : "train with");
    return split_off(&data->train, first, data->features, &data->test);
}

static void
mark_classes(const gt_samples *samples, uint8_t *seen, size_t *largest,
             size_t *at)
{
    for (size_t i = 0; i < samples->count; i++) {
        seen[samples->labels[i]] = 1;
        if (samples->labels[i] > *largest) {
            *largest = samples->labels[i];
            *at = i;
        }
    }
}

/* Without --classes, a gap below the largest label is taken for damage: one
 * wrong byte in a label file would otherwise widen the network unnoticed. */
static gp_status
count_classes(const gt_data_options *options, const char *name, gt_data *data)
{
    size_t largest = 0, at = 0;
    uint8_t *seen = calloc(LABEL_MAX + 1, 1);
    gp_status status = GP_OK;

    if (!seen)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory counting labels");
    mark_classes(&data->train, seen, &largest, &at);
    mark_classes(&data->test, seen, &largest, &at);
    data->classes = options->classes ? options->classes : largest + 1;
    if (largest >= data->classes)
        status = gt_fail(GP_ERR_CORRUPT,
                         "%s: label %zu of sample %zu is out of range: "
                         "--classes %zu allows 0 to %zu",
                         name, largest, at, data->classes, data->classes - 1);
    for (size_t c = 0; c < data->classes && !options->classes; c++) {
        if (seen[c])
            continue;
        status = gt_fail(GP_ERR_CORRUPT,
                         "%s: label %zu of sample %zu is out of range: no "
                         "sample has label %zu; repair the labels, or give "
                         "--classes %zu if they are right",
                         name, largest, at, c, largest + 1);
        break;
    }
    free(seen);
    if (status == GP_OK && data->classes < 2)
        status = gt_fail(GP_ERR_CORRUPT,
                         "%s: all labels are 0; two classes are needed", name);
    return status;
}

static float
scale_of(float range, const gt_samples *train, size_t features)
{
    float largest = 0;

    if (range > 0)
        return 1.0f / range;
    for (size_t i = 0; i < train->count * features; i++)
        if (fabsf(train->x[i]) > largest)
            largest = fabsf(train->x[i]);
    return largest > 1 ? 1.0f / largest : 1.0f;
}

static void
moments(const gt_samples *s, size_t features, float scale, double *mean,
        double *deviation)
{
    double sum = 0, squares = 0, n = (double)s->count * (double)features;

    for (size_t i = 0; i < s->count * features; i++) {
        double v = (double)s->x[i] * (double)scale;

        sum += v;
        squares += v * v;
    }
    *mean = sum / n;
    *deviation = sqrt(fmax(squares / n - *mean * *mean, 0));
}

static void
apply(gt_samples *samples, const gt_data *data)
{
    size_t count = samples->count * data->features;
    float a = data->scale / data->deviation, b = data->mean / data->deviation;

    for (size_t i = 0; i < count; i++)
        samples->x[i] = samples->x[i] * a - b;
}

static void
normalize(gt_normalize how, float range, gt_data *data)
{
    double mean, deviation;

    data->scale = data->deviation = 1;
    if (how == GT_NORMALIZE_NONE)
        return;
    data->scale = scale_of(range, &data->train, data->features);
    if (how == GT_NORMALIZE_STANDARD) {
        moments(&data->train, data->features, data->scale, &mean, &deviation);
        data->mean = (float)mean;
        if (deviation > 1e-12)
            data->deviation = (float)deviation;
    }
    apply(&data->train, data);
    apply(&data->test, data);
}

static gp_status
assemble(const gt_data_options *options, gt_part *train, gt_part *test,
         gt_data *data)
{
    float range = train->x.range;
    gp_status status = check_finite(train);

    if (status == GP_OK && test->x.values)
        status = check_finite(test);
    if (status == GP_OK)
        status = part_to_samples(train, &data->train, &data->features);
    if (status == GP_OK)
        status = make_test_part(options, test, data);
    if (status == GP_OK)
        status = count_classes(
            options, train->joined ? train->name_x : train->name_y, data);
    if (status != GP_OK)
        return status;
    normalize(options->normalize, range, data);
    snprintf(data->source, sizeof(data->source), "%s", train->name_x);
    return GP_OK;
}

gp_status
gt_data_load(const gt_data_options *options, gt_data *out)
{
    gt_data data = {0};
    gt_part train, test;
    gp_status status = gt_parts_read(options->path, &train, &test);

    if (status == GP_OK)
        status = assemble(options, &train, &test, &data);
    gt_part_free(&train);
    gt_part_free(&test);
    if (status != GP_OK) {
        gt_data_free(&data);
        return status;
    }
    *out = data;
    return GP_OK;
}
