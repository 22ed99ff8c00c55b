/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.c - registration, and the agreement that ends it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "shard/updater.h"
#include "worker/staging.h"

/* As far as gp_destination() reaches. */
#define TENSOR_BYTES_MAX (GP_DESTINATION_UNIT * (1ull << 32))

static const char *
or_default(const gp_worker *w, const char *text, const char *field)
{
    return text ? text : gp_config_get(w->config, field);
}

/* The pipelines a text asks for; small tensors stay dense, and dense means the
 * tensor's own type. */
static gp_status
open_codecs(const gp_tensor_options *o, const char *text, gp_codec_set *set,
            char *name)
{
    const char *native = gp_native_name((uint8_t)o->dtype);
    const gp_codec_shape shape = {o->count, o->columns > 1 ? o->columns : 0};
    gp_status status = gp_codec_set_open(text, native, &shape, set);

    if (status == GP_OK && o->count < o->codec_minimum) {
        gp_codec_set_close(set);
        status = gp_codec_set_open(native, native, &shape, set);
    }
    return status == GP_OK ? gp_codec_set_print(set, name, GP_CODECS_MAX)
                           : status;
}

/* Results are encoded once for all, so there is nothing to choose. */
static gp_status
open_pull(const gp_tensor_options *o, const char *text, gp_tensor *t)
{
    gp_codec_set set = {0};
    gp_status status;

    if (strchr(text, '|') || strcmp(text, "auto") == 0)
        return gp_fail(GP_ERR_CONFIG,
                       "pull codec '%.100s': there is one for all workers, "
                       "without alternatives; auto and '|' are for pushes",
                       text);
    status = open_codecs(o, text, &set, t->spec.pull);
    t->pull = set.pipeline[0];
    return status;
}

static gp_status
check_options(gp_worker *w, const gp_tensor_options *o)
{
    if (!o || o->size != sizeof(*o))
        return gp_fail(GP_ERR_INVALID,
                       "tensor options: start from GP_TENSOR_INIT");
    if (!o->name || !o->name[0] || strlen(o->name) >= GP_NAME_MAX)
        return gp_fail(GP_ERR_INVALID, "a tensor's name has 1 to %u bytes",
                       GP_NAME_MAX - 1);
    if (gp_dtype_bytes(o->dtype) == 0)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': dtype %d is none of "
                       "GP_FP32, GP_FP16, GP_BF16",
                       o->name, (int)o->dtype);
    if (o->count == 0 || o->count > TENSOR_BYTES_MAX / gp_dtype_bytes(o->dtype))
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': count is %llu; a tensor has 1 element "
                       "to %llu bytes",
                       o->name, (unsigned long long)o->count, TENSOR_BYTES_MAX);
    if (o->columns && o->count % o->columns)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': %llu elements are no whole rows of "
                       "%llu columns",
                       o->name, (unsigned long long)o->count,
                       (unsigned long long)o->columns);
    if (o->feedback < -1 || o->feedback > 1 || o->pull_feedback < -1 ||
        o->pull_feedback > 1)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': feedback is %d, pull_feedback %d; they "
                       "take 1 (on), 0 (off) or -1 (as the codec needs it)",
                       o->name, o->feedback, o->pull_feedback);
    if (o->first_step > GP_FIRST_STEP_MAX)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': first_step is %llu; the most is %llu",
                       o->name, (unsigned long long)o->first_step,
                       (unsigned long long)GP_FIRST_STEP_MAX);
    if (atomic_load(&w->phase) != PHASE_REGISTER)
        return gp_fail(GP_ERR_STATE,
                       "tensor '%.60s' is registered after the "
                       "first operation: register all tensors before it",
                       o->name);
    for (uint32_t i = 0; i < w->tensors; i++)
        if (strcmp(w->tensor[i]->spec.name, o->name) == 0)
            return gp_fail(GP_ERR_EXISTS, "tensor '%.60s' is registered",
                           o->name);
    return GP_OK;
}

static void
free_tensor(gp_tensor *t)
{
    gp_list *item;

    while ((item = gp_list_pop(&t->unused)))
        gp_request_free(GP_CONTAINER_OF(item, gp_request, link));
    gp_devcode_close(t);
    gp_memory_close(t);
    gp_kept_close(t);
    gp_local_close(t);
    gp_codec_set_close(&t->push);
    gp_pipeline_destroy(t->pull);
    gp_pipeline_destroy(t->native);
    free(t);
}

void
gp_worker_free_tensors(gp_worker *w)
{
    for (uint32_t i = 0; i < w->tensors; i++)
        free_tensor(w->tensor[i]);
    free(w->tensor);
    w->tensor = NULL;
    w->tensors = 0;
}

/* Whether a step's pushes must be encoded before the next one's. */
static bool
is_ordered(const gp_tensor *t)
{
    bool ordered = t->push.count > 1;

    for (uint32_t i = 0; i < t->push.count; i++)
        ordered |= (gp_pipeline_needs(t->push.pipeline[i]) &
                    GP_PIPELINE_PREPARES) != 0;
    return ordered;
}

/* Parameters must not carry what was left out of earlier ones. */
static bool
feeds_back(const gp_tensor_options *o, const gp_tensor *t,
           const gp_updater *updater)
{
    if (t->pull_direct || gp_updater_keeps(updater))
        return false;
    if (o->pull_feedback >= 0)
        return o->pull_feedback;
    return gp_codec_loses_much(t->pull, o->count);
}

static gp_status
check_sum(const gp_tensor *t, const gp_updater *updater)
{
    uint32_t workers = t->worker->size;
    int summed = gp_codec_set_summed(&t->push, t->pull, updater,
                                     t->spec.feedback, workers);

    return gp_codec_set_check_sum(&t->push, summed, workers);
}

static gp_status
open_mode(gp_worker *w, const gp_tensor_options *o, gp_tensor *t,
          const gp_updater *updater)
{
    gp_status status =
        gp_mode_parse(or_default(w, o->mode, "mode"), w->size, &t->mode);

    if (status != GP_OK)
        return status;
    gp_mode_print(&t->mode, t->spec.mode, sizeof(t->spec.mode));
    return gp_mode_check_fit(&t->mode, updater, &t->push);
}

static gp_status
open_rows(gp_tensor *t)
{
    uint32_t width = gp_row_spec_of(&t->spec).width;
    gp_status status = gp_mode_check_rows(&t->mode, &t->updater);

    t->direct = -1; /* nothing of it lies as it travels */
    t->pull_direct = false;
    t->spec.feedback = 0;
    if (status == GP_OK && (t->push.count != 1 || t->automatic))
        status = gp_fail(GP_ERR_CONFIG,
                         "tensor '%.60s': rows have one codec, without "
                         "alternatives or auto",
                         t->spec.name);
    if (status == GP_OK)
        status = gp_row_codec_open(t->push.pipeline[0], width, &t->row_push);
    return status == GP_OK ? gp_row_codec_open(t->pull, width, &t->row_pull)
                           : status;
}

/* Parsers know the text, not whose it is. */
static gp_status
say_whose(const gp_tensor *t, const char *what, gp_status status)
{
    char why[GP_TEXT_MAX];

    if (status == GP_OK || strncmp(gp_last_error(), "tensor '", 8) == 0)
        return status;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(status, "tensor '%.60s'%s: %s", t->spec.name, what, why);
}

/* Pipelines, updater, mode and residual, as the options say. */
static gp_status
open_tensor(gp_worker *w, const gp_tensor_options *o, gp_tensor *t)
{
    const char *native = gp_native_name((uint8_t)o->dtype);
    char text[GP_CODECS_MAX];
    gp_status status;

    status = gp_pipeline_parse(native, &t->native);
    if (status == GP_OK)
        status = gp_tensor_push_text(w, o, t, text, sizeof(text));
    if (status == GP_OK)
        status = say_whose(t, ", codec",
                           open_codecs(o, text, &t->push, t->spec.push));
    if (status == GP_OK)
        status = say_whose(
            t, ", pull_codec",
            open_pull(o, or_default(w, o->pull_codec, "pull_codec"), t));
    if (status == GP_OK)
        status =
            gp_updater_parse(or_default(w, o->updater, "updater"), &t->updater);
    if (status == GP_OK)
        status = gp_codec_check_pull(t->pull, &t->updater);
    if (status != GP_OK)
        return status;
    status = open_mode(w, o, t, &t->updater);
    if (status != GP_OK)
        return status;
    t->keeps = gp_updater_keeps(&t->updater);
    t->scale = gp_updater_scale(&t->updater, w->size);
    gp_updater_print(&t->updater, t->spec.updater, sizeof(t->spec.updater));
    t->preferred = t->automatic ? 0 : t->push.count - 1;
    t->direct = gp_codec_set_find(&t->push, gp_pipeline_id(t->native));
    t->pull_direct = strcmp(t->spec.pull, gp_pipeline_name(t->native)) == 0;
    t->spec.feedback = feeds_back(o, t, &t->updater);
    t->ordered = is_ordered(t);
    if (t->spec.rows) {
        return open_rows(t);
    }
    status = check_sum(t, &t->updater);
    if (status == GP_OK)
        status = gp_codec_check_feedback(t->pull, t->spec.feedback);
    return status == GP_OK ? gp_memory_open(t, o->feedback) : status;
}

static gp_status
append(gp_worker *w, gp_tensor *t)
{
    if (w->tensors == w->tensor_capacity) {
        uint32_t capacity = w->tensor_capacity ? 2 * w->tensor_capacity : 64;
        void *grown = realloc(w->tensor, capacity * sizeof(*w->tensor));

        if (!grown)
            return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", capacity);
        w->tensor = grown;
        w->tensor_capacity = capacity;
    }
    t->index = w->tensors;
    w->tensor[w->tensors++] = t;
    return GP_OK;
}

static gp_status
open_device(gp_worker *w, const gp_tensor_options *o, gp_tensor *t)
{
    gp_status status = gp_staging_find(w, o->device, &t->stage);

    if (status != GP_OK || !t->stage)
        return status;
    if (t->mode.kind == GP_MODE_LOCAL)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "tensor '%.60s' on %s: mode %s is for tensors on the "
                       "host, where its anchor is",
                       o->name, o->device, t->spec.mode);
    if (w->experiment)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "tensor '%.60s' on %s: an experiment looks at gradients "
                       "on the host; unset the configuration's `experiment`",
                       o->name, o->device);
    return gp_devcode_open(t);
}

gp_status
gp_tensor_add_rows(gp_worker *w, const gp_tensor_options *options,
                   const gp_row_spec *rows, gp_tensor **out)
{
    gp_tensor *t;
    gp_status status = check_options(w, options);

    if (status != GP_OK)
        return status;
    t = calloc(1, sizeof(*t));
    if (!t)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", options->name);
    gp_list_init(&t->unused);
    gp_list_init(&t->parked);
    t->worker = w;
    t->priority = options->priority;
    strcpy(t->spec.name, options->name);
    t->spec.dtype = (uint8_t)options->dtype;
    t->spec.count = options->count;
    t->spec.columns = options->columns > 1 ? options->columns : 0;
    t->spec.first_step = options->first_step;
    if (rows) {
        t->spec.rows = rows->rows;
        t->spec.row_init = rows->init;
        t->spec.row_seed = rows->seed;
        t->spec.row_scale = rows->scale;
    }
    t->steps = t->pulled = t->encoding = options->first_step;
    atomic_init(&t->version, options->first_step);
    status = open_tensor(w, options, t);
    if (status == GP_OK)
        status = gp_local_open(t);
    if (status == GP_OK)
        status = open_device(w, options, t);
    status = say_whose(t, "", status);
    if (status == GP_OK)
        status = append(w, t);
    if (status == GP_OK)
        w->ranked |= t->priority != w->tensor[0]->priority;
    if (status == GP_OK)
        *out = t;
    else
        free_tensor(t);
    return status;
}

gp_status
gp_tensor_add(gp_worker *w, const gp_tensor_options *options, gp_tensor **out)
{
    return gp_tensor_add_rows(w, options, NULL, out);
}

gp_status
gp_tensor_register(gp_worker *w, const gp_tensor_options *options,
                   gp_tensor **out)
{
    gp_status status;

    if (!w || !out)
        return gp_fail(GP_ERR_INVALID, "gp_tensor_register: NULL");
    gp_driver_hold(w->driver);
    status = gp_tensor_add(w, options, out);
    gp_driver_release(w->driver);
    return status;
}

/* Room for some payloads of ordinary chunks, and for the longest. */
static size_t
cut_pieces(const gp_worker *w, scratch *s, size_t longest)
{
    size_t budget = SCRATCH_BUDGET / w->shards;
    size_t usual = GP_MIN(longest, gp_config_size(w->config, "chunk_bytes"));
    size_t bytes = GP_MIN(GP_MAX(budget, 2 * usual), SCRATCH_PAYLOADS * usual);

    if (longest == 0)
        return 0;
    bytes = GP_MAX(bytes, longest);
    s->count = gp_slots_cut(bytes, &s->bytes);
    s->free = gp_slots_mask(0, s->count);
    return s->bytes * s->count;
}

/* One memory for both directions: registering costs. */
static gp_status
open_pieces(gp_worker *w, gp_conn *conn, size_t send, size_t receive)
{
    size_t sent = cut_pieces(w, &conn->send, send);
    size_t bytes = sent + cut_pieces(w, &conn->receive, receive);

    if (bytes == 0)
        return GP_OK;
    conn->memory = gp_alloc_aligned(bytes);
    if (!conn->memory)
        return gp_fail(GP_ERR_NO_MEMORY, "buffers of %zu bytes", bytes);
    conn->send.base = conn->memory;
    conn->receive.base = conn->memory + sent;
    atomic_fetch_add(&w->memory, bytes);
    return conn->link->ops->mem_reg(conn->link->domain, conn->memory, bytes,
                                    &conn->mem);
}

/* Of the alternatives that are not sent from where the gradient lies, as that
 * cannot be either when a residual is added to it. */
static size_t
encoded_bound(const gp_tensor *t, uint64_t count)
{
    size_t most = 0;

    if (t->spec.rows) {
        gp_row_spec rows = gp_row_spec_of(&t->spec);

        return gp_rows_bytes_max(&rows, t->row_push.bytes);
    }
    for (uint32_t i = 0; i < t->push.count; i++) {
        size_t bound = gp_pipeline_bound(t->push.pipeline[i], count);

        if ((int)i != t->direct || t->push.count > 1)
            most = GP_MAX(most, bound);
    }
    return most;
}

/* Of a push or broadcast in the tensor's own type. */
static uint64_t
direct_bytes(const gp_tensor *t, uint64_t count)
{
    return count * gp_dtype_bytes((gp_dtype)t->spec.dtype);
}

static bool
is_direct(const gp_tensor *t)
{
    return t->pull_direct && t->push.count == 1 && t->direct == 0;
}

/* Bytes of all chunks, by how they travel. */
typedef struct traffic {
    uint64_t plain, coded_push, coded_pull;
} traffic;

/* Each range that is sent from or written into costs a region of the device
 * for each connection. Where both directions have buffers for encoded chunks
 * and little else travels (biases beside matrices, say; initial values once),
 * that goes through the buffers too, and the user's memory needs none. Where
 * the two are two regions because the device cannot open a part of one, so does
 * all else of a shard that needs both: a fourth region would be the price. */
static bool
should_copy(const gp_conn *conn, const traffic *all, const traffic *here)
{
    uint64_t coded = GP_MIN(all->coded_push, all->coded_pull);

    if (!gp_conn_registers(conn))
        return false;
    if (here->coded_push && here->coded_pull &&
        !gp_link_opens_parts(conn->link, conn->ep))
        return true;
    return coded && all->plain <= coded / COPIED_PART;
}

static void
count_traffic(traffic *sum, const gp_tensor *t, uint64_t bytes)
{
    if (t->direct < 0 || t->push.count > 1)
        sum->coded_push += bytes;
    if (!t->pull_direct)
        sum->coded_pull += bytes;
    if (t->direct >= 0 || t->pull_direct)
        sum->plain += bytes;
}

/* Of a result that does not come as it is used. */
static size_t
result_bound(const gp_tensor *t, uint64_t count)
{
    if (t->spec.rows)
        return gp_rows_result_bytes(gp_row_spec_of(&t->spec).batch,
                                    t->row_pull.bytes);
    return t->pull_direct ? 0 : gp_pipeline_bound(t->pull, count);
}

/* Buffers for encoded chunks of this shard, when there are any; and where users
 * should register their memory, for chunks of what they did not. */
gp_status
gp_worker_open_scratch(gp_worker *w, gp_conn *conn)
{
    size_t send = 0, receive = 0;
    uint64_t most = 0;
    bool copies = gp_conn_registers(conn);
    traffic all = {0}, here = {0};

    for (uint32_t i = 0; i < w->map.chunks; i++) {
        const gp_chunk_info *info = &w->map.chunk[i];
        const gp_tensor *t = w->tensor[info->tensor];
        size_t push = encoded_bound(t, info->count);
        size_t pull = result_bound(t, info->count);
        size_t plain = direct_bytes(t, info->count);

        count_traffic(&all, t, plain);
        if (info->shard != conn->shard)
            continue;
        here.coded_push += push;
        here.coded_pull += pull;
        send = GP_MAX(send, GP_MAX(push, copies ? plain : 0));
        receive = GP_MAX(receive, GP_MAX(pull, copies ? plain : 0));
        most = GP_MAX(most, GP_MAX(push, plain));
    }
    conn->copies = should_copy(conn, &all, &here);
    if (most && gp_slots_for(most, conn->slot_bytes) > conn->slots)
        return gp_fail(GP_ERR_PROTOCOL,
                       "shard %u at %s grants %u slots of %llu bytes, too few "
                       "for a push of %llu",
                       conn->shard, conn->address, conn->slots,
                       (unsigned long long)conn->slot_bytes,
                       (unsigned long long)most);
    return open_pieces(w, conn, send, receive);
}

/* Elements that must be copied as fp32 at a time. */
static size_t
plain_elements(const gp_tensor *t, size_t count)
{
    bool half = t->spec.dtype != GP_FP32;

    if (is_direct(t) || !(half || t->push.count > 1))
        return 0;
    return half && t->ordered ? t->spec.count : count;
}

/* fp32 copies of half-precision chunks, and the pipelines' own needs. */
static gp_status
open_workspace(gp_worker *w)
{
    size_t plain = 0, work = 64;

    for (uint32_t i = 0; i < w->map.chunks; i++) {
        const gp_chunk_info *info = &w->map.chunk[i];
        const gp_tensor *t = w->tensor[info->tensor];
        size_t push = gp_codec_set_workspace(&t->push, info->count);
        size_t pull = gp_pipeline_workspace(t->pull, info->count);
        size_t native = gp_pipeline_workspace(t->native, info->count);

        work = GP_MAX(work, GP_MAX(push, GP_MAX(pull, native)));
        plain = GP_MAX(plain, plain_elements(t, info->count) * sizeof(float));
    }
    work = (work + 63) & ~(size_t)63;
    w->workspace_bytes = work;
    work *= w->pool ? gp_pool_size(w->pool) : 1;
    w->workspace = gp_alloc_aligned(work);
    w->plain = plain ? gp_alloc_aligned(plain) : NULL;
    if (!w->workspace || (plain && !w->plain))
        return gp_fail(GP_ERR_NO_MEMORY, "codec workspace");
    atomic_fetch_add(&w->memory, work + plain);
    return GP_OK;
}

void
gp_worker_free_map(gp_worker *w)
{
    gp_worker_free_norms(w);
    gp_map_free(&w->map);
    free(w->chain);
    free(w->held);
    free(w->plain);
    free(w->workspace);
    w->chain = NULL;
    w->held = NULL;
    w->plain = NULL;
    w->workspace = NULL;
}

gp_map_tensor
gp_tensor_cut(const gp_tensor *t)
{
    return (gp_map_tensor){.count = t->spec.count,
                           .columns = t->spec.columns,
                           .wide = gp_codec_set_is_wide(&t->push, t->pull),
                           .dealt = t->spec.rows > 0};
}

static gp_status
build_map(gp_worker *w, const gp_tensor_list *list)
{
    gp_map_tensor *tensors = calloc(w->tensors, sizeof(*tensors));
    gp_status status;

    if (!tensors)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", w->tensors);
    gp_worker_free_map(w); /* of an attempt that failed */
    for (uint32_t i = 0; i < w->tensors; i++)
        tensors[i] = gp_tensor_cut(w->tensor[i]);
    status = gp_map_build(tensors, w->tensors, list->chunk_bytes, w->shards,
                          list->weights, &w->map);
    free(tensors);
    if (status != GP_OK)
        return status;
    w->chain = calloc(w->map.chunks, sizeof(*w->chain));
    w->held = calloc(w->map.chunks, sizeof(*w->held));
    if (!w->chain || !w->held)
        return gp_fail(GP_ERR_NO_MEMORY, "%u chunks", w->map.chunks);
    for (uint32_t i = 0; i < w->map.chunks; i++)
        gp_list_init(&w->chain[i]);
    for (uint32_t i = 0; i < w->tensors; i++) {
        w->tensor[i]->first = w->map.first[i];
        w->tensor[i]->chunks = w->map.first[i + 1] - w->map.first[i];
        w->tensor[i]->unencoded = w->tensor[i]->chunks;
    }
    return open_workspace(w);
}

static gp_status
send_list(gp_worker *w, const gp_tensor_list *list)
{
    void *bytes = NULL;
    size_t size = 0;
    gp_status status = gp_tensor_list_encode(list, &bytes, &size);

    for (uint32_t i = 0; status == GP_OK && i < w->shards; i++) {
        gp_msg msg = {.type = GP_MSG_TENSORS, .payload = size};

        status = gp_conn_post(&w->conn[i], &msg, bytes, NULL, 0);
        if (status == GP_OK)
            status = w->conn[i].link->ops->flush(w->conn[i].ep);
        if (status != GP_OK)
            gp_fail(status, "cannot send the tensor list to shard %u: %s", i,
                    gp_status_text(status));
    }
    free(bytes);
    return status;
}

/* Whether each element of a result depends on those pushed in its place only,
 * wherever chunks end. */
static bool
is_elementwise(const gp_tensor *t)
{
    return is_direct(t) && !t->keeps && t->mode.kind == GP_MODE_SYNC &&
           t->mode.backups == 0;
}

/* Pieces that a step is to have on each shard where a device moves them, and
 * how short they may be for that. */
#define DEVICE_PIECES 16u
#define DEVICE_CHUNK  (64u << 10)

/* A device sends and receives by itself, but while the first piece of a step is
 * on its way nothing comes back, and while the last comes back nothing goes:
 * so where all tensors together are a few chunks they are cut finer there. Only
 * where nothing tells chunks apart: results must not depend on the network. And
 * not over tcp, where both directions want the same processors and a message
 * costs more. */
static uint64_t
choose_chunk_bytes(const gp_worker *w)
{
    uint64_t bytes = gp_config_size(w->config, "chunk_bytes"), all = 0;

    if (!w->device ||
        strcmp(gp_config_origin(w->config, "chunk_bytes"), "default") != 0)
        return bytes;
    for (uint32_t i = 0; i < w->tensors; i++) {
        uint64_t piece = w->tensor[i]->spec.count / w->shards / DEVICE_PIECES;

        if (!is_elementwise(w->tensor[i]))
            return bytes;
        all += GP_MIN(piece, bytes); /* no sum of these overflows */
    }
    return GP_MIN(bytes, GP_MAX(all * sizeof(float), DEVICE_CHUNK));
}

static gp_status
copy_weights(const gp_worker *w, gp_tensor_list *list)
{
    size_t bytes = w->shards * sizeof(*w->weights);

    if (!w->weights)
        return GP_OK;
    list->weights = malloc(bytes);
    if (!list->weights)
        return gp_fail(GP_ERR_NO_MEMORY, "%u weights", w->shards);
    memcpy(list->weights, w->weights, bytes);
    return GP_OK;
}

static gp_status
propose(gp_worker *w)
{
    gp_tensor_list list = {.chunk_bytes = choose_chunk_bytes(w),
                           .seed = w->seed,
                           .shards = w->shards,
                           .count = w->tensors};
    gp_status status = GP_OK;

    if (w->tensors == 0)
        return gp_fail(GP_ERR_STATE, "no tensor is registered");
    list.tensors = calloc(w->tensors, sizeof(*list.tensors));
    if (!list.tensors)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", w->tensors);
    status = copy_weights(w, &list);
    for (uint32_t i = 0; status == GP_OK && i < w->tensors; i++) {
        status = gp_memory_announce(w->tensor[i]);
        list.tensors[i] = w->tensor[i]->spec;
    }
    if (status == GP_OK)
        status = build_map(w, &list);
    if (status == GP_OK)
        status = send_list(w, &list);
    gp_tensor_list_free(&list);
    return status;
}

static bool
agreed(void *arg)
{
    const gp_worker *w = arg;

    return atomic_load(&w->agreed) == w->shards ||
           atomic_load(&w->fault) != GP_OK;
}

gp_status
gp_worker_ready(gp_worker *w)
{
    gp_status status = w ? gp_worker_fault(w)
                         : gp_fail(GP_ERR_INVALID, "gp_worker_ready: NULL");

    if (status != GP_OK || atomic_load(&w->phase) == PHASE_RUN)
        return status;
    gp_driver_hold(w->driver);
    status = gp_worker_fault(w); /* it closes the connections */
    if (status == GP_OK && atomic_load(&w->phase) == PHASE_REGISTER) {
        status = gp_worker_check_rules(w);
        if (status == GP_OK)
            status = gp_experiment_register(w);
        if (status == GP_OK)
            status = gp_worker_measure(w);
        if (status == GP_OK)
            status = propose(w);
        if (status == GP_OK)
            atomic_store(&w->phase, PHASE_AGREE);
    }
    gp_driver_release(w->driver);
    if (status != GP_OK)
        return status;
    (void)gp_driver_wait(w->driver, agreed, w, gp_deadline(w->timeout));
    if (atomic_load(&w->agreed) == w->shards) {
        status = gp_worker_restore(w);
        if (status == GP_OK)
            status = gp_stagings_prepare(w);
        if (status == GP_OK)
            atomic_store(&w->phase, PHASE_RUN);
        return status;
    }
    status = gp_worker_fault(w);
    return status == GP_OK
               ? gp_worker_late(w, "the shards did not confirm the tensor list",
                                w->timeout)
               : status;
}
