/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_find.c - which files a --data argument means: `digits`, a folder, a
 * pair "X.npy,y.npy", a CSV.
 */
#include "data_find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096

typedef gp_status (*parser)(const uint8_t *bytes, size_t length,
                            const char *name, gt_matrix *out);

void
gt_part_free(gt_part *part)
{
    gt_matrix_free(&part->x);
    gt_matrix_free(&part->y);
}

static bool
ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static gp_status
read_matrix(const char *path, parser parse, gt_matrix *out, char name[256])
{
    uint8_t *bytes;
    size_t length;
    gp_status status = gt_file_read(path, GT_FILE_MAX, &bytes, &length);

    if (status != GP_OK)
        return status;
    snprintf(name, 256, "%s", base_name(path));
    status = parse(bytes, length, path, out);
    free(bytes);
    return status;
}

static gp_status
read_pair(const char *x, const char *y, parser parse, gt_part *part)
{
    gp_status status = read_matrix(x, parse, &part->x, part->name_x);

    if (status == GP_OK)
        status = read_matrix(y, parse, &part->y, part->name_y);
    if (status == GP_OK && part->x.rows != part->y.rows)
        status = gt_fail(GP_ERR_MISMATCH,
                         "%s has %zu samples but %s has %zu labels; they do "
                         "not belong together",
                         x, part->x.rows, y, part->y.rows);
    if (status == GP_OK && part->y.columns != 1)
        status = gt_fail(GP_ERR_UNSUPPORTED,
                         "%s has %zu values a sample; one label each is "
                         "needed",
                         y, part->y.columns);
    return status;
}

static bool
exists(const char *folder, const char *name, char path[PATH_SIZE])
{
    int n = snprintf(path, PATH_SIZE, "%s/%s", folder, name);

    return n > 0 && n < PATH_SIZE && access(path, F_OK) == 0;
}

/* "train", "images" to an existing file with one of the usual spellings. */
static bool
find_idx(const char *folder, const char *half, const char *what,
         char path[PATH_SIZE])
{
    const char *dims = strcmp(what, "images") == 0 ? "idx3" : "idx1";
    char name[128];

    for (size_t i = 0; i < 6; i++) {
        const char *packed = i % 2 ? ".gz" : "";

        switch (i / 2) {
        case 0:
            snprintf(name, sizeof(name), "%s-%s-%s-ubyte%s", half, what, dims,
                     packed);
            break;
        case 1:
            snprintf(name, sizeof(name), "%s-%s.%s-ubyte%s", half, what, dims,
                     packed);
            break;
        default:
            snprintf(name, sizeof(name), "%s-%s.idx%s", half, what, packed);
            break;
        }
        if (exists(folder, name, path))
            return true;
    }
    return false;
}

static gp_status
read_idx_half(const char *folder, const char *half, gt_part *part, bool *found)
{
    char images[PATH_SIZE], labels[PATH_SIZE];
    bool have_images = find_idx(folder, half, "images", images);
    bool have_labels = find_idx(folder, half, "labels", labels);

    *found = have_images && have_labels;
    if (have_images != have_labels)
        return gt_fail(GP_ERR_NOT_FOUND, "%s holds %s-%s but no %s-%s file",
                       folder, half, have_images ? "images" : "labels", half,
                       have_images ? "labels" : "images");
    return *found ? read_pair(images, labels, gt_idx_parse, part) : GP_OK;
}

static gp_status
read_idx_folder(const char *folder, gt_part *train, gt_part *test, bool *found)
{
    static const char *const halves[] = {"t10k", "test"};
    bool have_train, have_test = false;
    gp_status status = read_idx_half(folder, "train", train, &have_train);

    for (size_t i = 0; i < 2 && status == GP_OK && !have_test; i++)
        status = read_idx_half(folder, halves[i], have_train ? test : train,
                               &have_test);
    *found = have_train || have_test;
    return status;
}

static gp_status
read_npy_folder(const char *folder, gt_part *train, gt_part *test, bool *found)
{
    static const char *const names[][2] = {{"x.npy", "y.npy"},
                                           {"X.npy", "y.npy"},
                                           {"x_train.npy", "y_train.npy"},
                                           {"X_train.npy", "y_train.npy"}};
    static const char *const tests[][2] = {{"x_test.npy", "y_test.npy"},
                                           {"X_test.npy", "y_test.npy"}};
    char x[PATH_SIZE], y[PATH_SIZE];
    gp_status status = GP_OK;

    *found = false;
    for (size_t i = 0; i < GT_COUNT_OF(names) && !*found; i++) {
        *found =
            exists(folder, names[i][0], x) && exists(folder, names[i][1], y);
        if (*found)
            status = read_pair(x, y, gt_npy_parse, train);
    }
    for (size_t i = 0; *found && i < GT_COUNT_OF(tests); i++)
        if (status == GP_OK && !test->x.values &&
            exists(folder, tests[i][0], x) && exists(folder, tests[i][1], y))
            status = read_pair(x, y, gt_npy_parse, test);
    return status;
}

static gp_status
read_folder(const char *folder, gt_part *train, gt_part *test)
{
    bool found = false;
    gp_status status = read_idx_folder(folder, train, test, &found);

    if (status == GP_OK && !found)
        status = read_npy_folder(folder, train, test, &found);
    if (status == GP_OK && !found)
        status = gt_fail(GP_ERR_NOT_FOUND,
                         "%s holds neither train-images-idx3-ubyte[.gz] with "
                         "train-labels-idx1-ubyte[.gz] (or t10k-...), nor "
                         "x.npy with y.npy",
                         folder);
    return status;
}

static gp_status
read_npy_pair(const char *path, const char *comma, gt_part *train)
{
    char x[PATH_SIZE];

    if (!comma || strchr(comma + 1, ',') ||
        (size_t)(comma - path) >= sizeof(x) || !ends_with(comma + 1, ".npy"))
        return gt_fail(GP_ERR_CONFIG,
                       "--data %s: .npy data comes as a pair "
                       "\"X.npy,y.npy\": samples, comma, labels",
                       path);
    snprintf(x, sizeof(x), "%.*s", (int)(comma - path), path);
    return read_pair(x, comma + 1, gt_npy_parse, train);
}

static bool
is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static gp_status
not_there(const char *path)
{
    return gt_fail(GP_ERR_NOT_FOUND,
                   "--data %s: no such file or folder; give a folder with IDX "
                   "or .npy files, X.npy,y.npy, a .csv[.gz], or 'digits'",
                   path);
}

gp_status
gt_parts_exist(const char *path)
{
    const char *comma = strchr(path, ',');
    char first[PATH_SIZE];

    if (strcmp(path, "digits") == 0 || access(path, F_OK) == 0)
        return GP_OK;
    if (!comma || (size_t)(comma - path) >= sizeof(first))
        return not_there(path);
    snprintf(first, sizeof(first), "%.*s", (int)(comma - path), path);
    if (access(first, F_OK) != 0)
        return not_there(first);
    return access(comma + 1, F_OK) == 0 ? GP_OK : not_there(comma + 1);
}

gp_status
gt_parts_read(const char *path, gt_part *train, gt_part *test)
{
    const char *comma = strchr(path, ',');

    *train = *test = (gt_part){0};
    if (strcmp(path, "digits") == 0) {
        train->joined = true;
        snprintf(train->name_x, sizeof(train->name_x), "digits");
        return gt_digits_load(&train->x);
    }
    if (is_folder(path))
        return read_folder(path, train, test);
    if (ends_with(path, ".npy"))
        return read_npy_pair(path, comma, train);
    if (ends_with(path, ".csv") || ends_with(path, ".csv.gz")) {
        train->joined = true;
        return read_matrix(path, gt_csv_parse, &train->x, train->name_x);
    }
    if (access(path, F_OK) != 0)
        return not_there(path);
    return gt_fail(GP_ERR_UNSUPPORTED,
                   "--data %s: unknown kind of file; give a folder with IDX "
                   "or .npy files, X.npy,y.npy, a .csv[.gz], or 'digits'",
                   path);
}
