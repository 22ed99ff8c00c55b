/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.c - what a trainer calls for tensors of rows.
 *
 * A gp_rows is a gp_tensor under another name, so that calls for dense tensors
 * cannot be made with it.
 */
#include "worker/rows.h"

#include <string.h>

static gp_tensor *
tensor_of(const gp_rows *rows)
{
    return (gp_tensor *)(uintptr_t)rows;
}

static gp_status
check_options(const gp_rows_options *o, gp_row_spec *out)
{
    const char *fault;

    if (!o || o->size != sizeof(*o))
        return gp_fail(GP_ERR_INVALID, "row options: start from GP_ROWS_INIT");
    if (!o->name)
        return gp_fail(GP_ERR_INVALID, "a tensor has a name");
    *out = (gp_row_spec){.rows = o->rows,
                         .width = o->width,
                         .batch = o->batch,
                         .init = (uint8_t)GP_MIN((unsigned)o->init, 255u),
                         .seed = o->seed,
                         .scale = o->scale};
    fault = gp_row_spec_fault(out);
    return fault ? gp_fail(GP_ERR_INVALID, "tensor '%.60s': %s", o->name, fault)
                 : GP_OK;
}

gp_status
gp_rows_register(gp_worker *worker, const gp_rows_options *options,
                 gp_rows **out)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;
    gp_row_spec spec;
    gp_status status;

    if (!worker || !out)
        return gp_fail(GP_ERR_INVALID, "gp_rows_register: NULL");
    status = check_options(options, &spec);
    if (status != GP_OK)
        return status;
    o.name = options->name;
    o.count = (uint64_t)spec.batch * spec.width;
    o.columns = spec.width;
    o.priority = options->priority;
    o.codec = options->codec ? options->codec : "none";
    o.pull_codec = options->pull_codec ? options->pull_codec : "none";
    o.codec_minimum = 0;
    o.updater = options->updater;
    o.mode = options->mode;
    o.first_step = options->first_step;
    gp_driver_hold(worker->driver);
    status = gp_tensor_add_rows(worker, &o, &spec, &t);
    gp_driver_release(worker->driver);
    if (status == GP_OK)
        *out = (gp_rows *)t;
    return status;
}

static gp_status
check_list(const gp_tensor *t, const char *call, const gp_rows_list *list,
           const void *numbers)
{
    gp_row_spec spec = gp_row_spec_of(&t->spec);

    if (list->count > 0 && (!list->index || !numbers))
        return gp_fail(GP_ERR_INVALID, "%s: a pointer is NULL", call);
    if (list->count > spec.batch)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "tensor '%.60s': %zu rows in a call of %s(), registered "
                       "with batch %u: raise it, or make several calls",
                       t->spec.name, list->count, call, spec.batch);
    for (size_t i = 0; i < list->count; i++)
        if (list->index[i] >= spec.rows)
            return gp_fail(GP_ERR_INVALID,
                           "tensor '%.60s': index %zu of %s() is row %llu of "
                           "%llu",
                           t->spec.name, i, call,
                           (unsigned long long)list->index[i],
                           (unsigned long long)spec.rows);
    return GP_OK;
}

static gp_status
submit(gp_rows *rows, op_kind kind, const char *name, const gp_rows_call *call,
       gp_request **request)
{
    gp_tensor *t = tensor_of(rows);
    gp_status status;

    if (!rows || !request)
        return gp_fail(GP_ERR_INVALID, "%s: a pointer is NULL", name);
    status = check_list(t, name, &call->push, call->values);
    if (status == GP_OK)
        status = check_list(t, name, &call->pull, call->out);
    return status == GP_OK ? gp_request_submit_rows(t, kind, call, request)
                           : status;
}

gp_status
gp_push_rows(gp_rows *rows, size_t count, const uint64_t *indices,
             const float *values, gp_request **request)
{
    gp_rows_call call = {.push = {count, indices}, .values = values};

    return submit(rows, OP_PUSH, "gp_push_rows", &call, request);
}

gp_status
gp_pull_rows(gp_rows *rows, size_t count, const uint64_t *indices, float *out,
             gp_request **request)
{
    gp_rows_call call = {.pull = {count, indices}, .out = out};

    return submit(rows, OP_PULL, "gp_pull_rows", &call, request);
}

gp_status
gp_push_pull_rows(gp_rows *rows, size_t push_count,
                  const uint64_t *push_indices, const float *values,
                  size_t pull_count, const uint64_t *pull_indices, float *out,
                  gp_request **request)
{
    gp_rows_call call = {.push = {push_count, push_indices},
                         .pull = {pull_count, pull_indices},
                         .values = values,
                         .out = out};

    return submit(rows, OP_PUSH_PULL, "gp_push_pull_rows", &call, request);
}

uint64_t
gp_rows_version(const gp_rows *rows)
{
    return gp_tensor_version(tensor_of(rows));
}
