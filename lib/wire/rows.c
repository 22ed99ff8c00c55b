/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.c - checks what is said of rows.
 */
#include "wire/rows.h"

#include <math.h>

#include "base/bytes.h"

gp_row_spec
gp_row_spec_of(const gp_tensor_spec *t)
{
    uint64_t width = GP_MAX(t->columns, 1u);

    return (gp_row_spec){.rows = t->rows,
                         .width = (uint32_t)GP_MIN(width, UINT32_MAX),
                         .batch =
                             (uint32_t)GP_MIN(t->count / width, UINT32_MAX),
                         .init = t->row_init,
                         .seed = t->row_seed,
                         .scale = t->row_scale};
}

const char *
gp_row_spec_fault(const gp_row_spec *s)
{
    if (s->rows == 0 || s->rows > GP_ROWS_MAX)
        return "rows are 1 to 2^40";
    if (s->width == 0 || s->width > GP_ROWS_WIDTH_MAX)
        return "width is 1 to 65536";
    if (s->batch == 0 || s->batch > GP_ROWS_BATCH_MAX)
        return "batch is 1 to 1048576";
    if ((uint64_t)s->batch * s->width > GP_ROWS_NUMBERS_MAX)
        return "batch times width is at most 16777216 numbers: use a smaller "
               "batch";
    if (s->init > GP_ROWS_NORMAL)
        return "init is none of GP_ROWS_ZERO, GP_ROWS_UNIFORM, GP_ROWS_NORMAL";
    if (!isfinite(s->scale) || s->scale < 0)
        return "scale is a finite number from 0";
    return NULL;
}

gp_rows_view
gp_rows_parts(const void *payload, uint32_t pushed, uint32_t wanted)
{
    const uint8_t *p = (const uint8_t *)payload + GP_ROWS_HEAD;
    gp_rows_view v = {.pushed = pushed, .wanted = wanted, .push_index = p};

    v.want_index = p + 8 * (size_t)pushed;
    v.values = v.want_index + 8 * (size_t)wanted;
    return v;
}

static gp_status
check_indices(const uint8_t *p, uint32_t count, const gp_row_spec *spec,
              uint32_t shard, uint32_t shards)
{
    uint64_t before = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = gp_once64(p + 8 * (size_t)i);

        if (index >= spec->rows)
            return gp_fail(GP_ERR_PROTOCOL, "row %llu of %llu",
                           (unsigned long long)index,
                           (unsigned long long)spec->rows);
        if (i > 0 && index <= before)
            return gp_fail(GP_ERR_PROTOCOL, "row %llu after row %llu",
                           (unsigned long long)index,
                           (unsigned long long)before);
        if (gp_row_shard(index, shards) != shard)
            return gp_fail(GP_ERR_PROTOCOL, "row %llu, which is shard %u's",
                           (unsigned long long)index,
                           gp_row_shard(index, shards));
        before = index;
    }
    return GP_OK;
}

gp_status
gp_rows_decode(const void *payload, size_t length, const gp_row_spec *spec,
               size_t bytes, uint32_t shard, uint32_t shards, gp_rows_view *out)
{
    const uint8_t *p = payload;
    uint32_t pushed, wanted;
    gp_status status;

    if (length < GP_ROWS_HEAD)
        return gp_fail(GP_ERR_PROTOCOL, "%zu bytes of rows", length);
    pushed = gp_once32(p);
    wanted = gp_once32(p + 4);
    if (pushed > spec->batch || wanted > spec->batch ||
        length != gp_rows_bytes(pushed, wanted, bytes))
        return gp_fail(GP_ERR_PROTOCOL,
                       "%zu bytes of %u and %u rows of %zu bytes, %u at most",
                       length, pushed, wanted, bytes, spec->batch);
    *out = gp_rows_parts(payload, pushed, wanted);
    status = check_indices(out->push_index, pushed, spec, shard, shards);
    return status == GP_OK
               ? check_indices(out->want_index, wanted, spec, shard, shards)
               : status;
}
