/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump.c - gradients as .npy files.
 *
 * A gradient is dumped before it is pushed: the answer will replace it in
 * place. At that time no request of the tensor is under way, so its residual
 * may be read.
 */
#include "dump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_SIZE  4096
#define ALIGNMENT  64
#define PREFIX     10 /* magic, version, length of the header */
#define HEADER_MAX 256

gp_status
gt_dump_open(const char *folder)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        return GP_OK;
    return gt_fail_errno(GP_ERR_SYSTEM, errno,
                         "cannot make --dump-gradients %s", folder);
}

/* Version 1.0: magic, the header's length, a Python dict, spaces and a newline
 * up to a multiple of 64. Returns the length of all that. */
static size_t
npy_header(size_t rows, size_t columns, uint8_t out[HEADER_MAX])
{
    char *text = (char *)out + PREFIX, shape[64];
    size_t length, whole;

    if (columns)
        snprintf(shape, sizeof(shape), "(%zu, %zu)", rows, columns);
    else
        snprintf(shape, sizeof(shape), "(%zu,)", rows);
    length = (size_t)snprintf(
        text, HEADER_MAX - PREFIX,
        "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
    whole =
        (PREFIX + length + 1 + ALIGNMENT - 1) / ALIGNMENT * (size_t)ALIGNMENT;
    memset(text + length, ' ', whole - PREFIX - length);
    out[whole - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)(whole - PREFIX);
    out[9] = (uint8_t)((whole - PREFIX) >> 8);
    return whole;
}

/* `columns` is 0 for a vector. */
static gp_status
write_npy(const char *path, const float *values, size_t rows, size_t columns)
{
    uint8_t header[HEADER_MAX];
    size_t length = npy_header(rows, columns, header);
    size_t count = columns ? rows * columns : rows;
    FILE *file = fopen(path, "we");
    int error = 0;

    if (!file)
        return gt_fail_errno(GP_ERR_SYSTEM, errno, "cannot write %s", path);
    if (fwrite(header, 1, length, file) != length ||
        fwrite(values, sizeof(float), count, file) != count)
        error = errno ? errno : EIO;
    if (fclose(file) != 0 && !error)
        error = errno;
    return error ? gt_fail_errno(GP_ERR_SYSTEM, error, "cannot write %s", path)
                 : GP_OK;
}

/* g + residual, when there is a residual. */
static gp_status
dump_corrected(gt_trainer *t, size_t tensor, const float *grad, size_t rows,
               size_t columns, const char *path)
{
    size_t count = columns ? rows * columns : rows;
    float *sum;
    gp_status status;

    if (!t->comm)
        return GP_OK;
    status = gt_alloc_floats(count, "a residual", &sum);
    if (status != GP_OK)
        return status;
    status = gt_comm_save_state(t->comm, tensor, "residual", sum);
    if (status == GP_OK) {
        for (size_t i = 0; i < count; i++)
            sum[i] += grad[i];
        status = write_npy(path, sum, rows, columns);
    } else if (status == GP_ERR_UNSUPPORTED) {
        status = GP_OK; /* nothing is fed back to this tensor */
    }
    free(sum);
    return status;
}

static gp_status
dump_tensor(gt_trainer *t, size_t tensor)
{
    const gt_layer *layer = &t->mlp.layer[tensor / 2];
    bool bias = tensor % 2;
    const float *grad = bias ? layer->bias_grad : layer->weight_grad;
    size_t columns = bias ? 0 : layer->in;
    char path[PATH_SIZE];
    const char *name = bias ? "bias" : "weight";
    const char *folder = t->options->dump;
    unsigned long long step = t->steps;
    gp_status status;

    if (snprintf(path, sizeof(path), "%s/step-%06llu.layer%zu.%s.u.npy", folder,
                 step, tensor / 2, name) >= (int)sizeof(path))
        return gt_fail(GP_ERR_CONFIG,
                       "--dump-gradients %s: the path is too "
                       "long",
                       folder);
    status = dump_corrected(t, tensor, grad, layer->out, columns, path);
    if (status != GP_OK)
        return status;
    snprintf(path, sizeof(path), "%s/step-%06llu.layer%zu.%s.npy", folder, step,
             tensor / 2, name);
    return write_npy(path, grad, layer->out, columns);
}

gp_status
gt_dump_layer(gt_trainer *t, size_t layer)
{
    gp_status status = GP_OK;

    if (!t->options->dump || t->rank != 0 ||
        t->steps % t->options->dump_every != 0)
        return GP_OK;
    for (size_t i = 2 * layer; i < 2 * layer + 2 && status == GP_OK; i++)
        status = dump_tensor(t, i);
    return status;
}
