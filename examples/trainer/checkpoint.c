/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.c - a training run on disk, at the end of an epoch.
 */
#include "checkpoint.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "cut.h"
#include "safetensors.h"

#define PATH_SIZE 4096
#define SCHEMA    "gradpush.checkpoint/2"
#define SCHEMA_1  "gradpush.checkpoint/1" /* has no checksum */
#define KEEP      2
#define SETTINGS  32
#define FILE_MAX  ((size_t)64 << 30)

/* Settings: what a resumed run must share to continue bit for bit. */
typedef struct settings {
    gt_st_text text[SETTINGS];
    size_t count;
} settings;

static void put(settings *s, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
put(settings *s, const char *key, const char *format, ...)
{
    gt_st_text *text = &s->text[s->count++];
    va_list args;

    text->key = key;
    va_start(args, format);
    vsnprintf(text->value, sizeof(text->value), format, args);
    va_end(args);
}

static void
put_count(settings *s, const char *key, uint64_t count)
{
    put(s, key, "%llu", (unsigned long long)count);
}

static void
put_hidden(const gt_options *o, settings *s)
{
    char text[sizeof(s->text[0].value)] = "none";
    size_t used = 0;

    for (size_t i = 0; i < o->hidden_count && used < sizeof(text); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%zu",
                                 i ? "," : "", o->hidden[i]);
    put(s, "hidden", "%s", text);
}

static void
collect(const gt_trainer *t, settings *s)
{
    const gt_options *o = t->options;
    char text[64];

    put_hidden(o, s);
    put(s, "seed", "%llu", (unsigned long long)o->seed);
    put(s, "workers", "%u", t->size);
    gt_layout_print(&t->layout, text, sizeof(text));
    put(s, "parallel", "%s", text);
    if (t->layout.pipeline > 1)
        put(s, "micro-batches", "%u", t->micro_batches);
    put(s, "batch", "%zu", o->batch);
    put(s, "loss", "%s", gt_loss_name(o->loss));
    put(s, "optimizer", "%s", gt_optim_name(o->optim.kind));
    put(s, "optimizer:", "%s", *o->optim_keys ? o->optim_keys : "none");
    put(s, "update", "%s", gt_update_name(o->update));
    put(s, "lr", "%.7g", (double)o->optim.lr);
    put(s, "momentum", "%.7g", (double)o->optim.momentum);
    put(s, "weight-decay", "%.7g", (double)o->optim.weight_decay);
    put(s, "partition", "%s", gt_partition_name(o->partition));
    put(s, "normalize", "%s", gt_normalize_name(o->data.normalize));
    put(s, "codec", "%s", o->codec);
    put(s, "pull-codec", "%s", o->pull_codec);
    put(s, "mode", "%s", o->mode);
    put(s, "device", "%s", o->cuda ? "cuda" : "cpu");
    put(s, "precision", "%s", gt_precision_name(o->precision));
}

static gp_status
path_of(const gt_trainer *t, uint32_t epoch, int rank, char out[PATH_SIZE])
{
    char suffix[32] = "";
    int n;

    if (rank >= 0)
        snprintf(suffix, sizeof(suffix), ".rank%d", rank);
    n = snprintf(out, PATH_SIZE, "%s/epoch-%06u%s.safetensors",
                 t->options->checkpoint, epoch, suffix);
    if (n < 0 || n >= PATH_SIZE)
        return gt_fail(GP_ERR_CONFIG, "--checkpoint: the path is too long");
    return GP_OK;
}

/* Whose states: where any worker may write them, they are of none. */
static int
states_of(const gt_trainer *t)
{
    return gt_trainer_is_elastic(t) ? 0 : (int)t->rank;
}

static const char *
part_name(size_t tensor)
{
    return tensor % 2 ? "bias" : "weight";
}

static void
set_shape(const gt_trainer *t, size_t tensor, gt_st_item *item)
{
    const gt_layer *layer = &t->mlp.layer[tensor / 2];

    item->dims = tensor % 2 ? 1 : 2;
    item->shape[0] = layer->out;
    item->shape[1] = layer->in;
}

static size_t
offset_of(const gt_trainer *t, size_t tensor)
{
    const gt_layer *layer = &t->mlp.layer[tensor / 2];

    return (size_t)((tensor % 2 ? layer->bias : layer->weight) - t->mlp.params);
}

/* --- saving --- */

static gp_status
save_model(const gt_trainer *t, const gt_position *at)
{
    gt_st_item items[4 * GT_LAYERS_MAX];
    size_t tensors = 2 * t->mlp.layers, count = 0;
    char path[PATH_SIZE];
    settings s = {0};
    gp_status status = path_of(t, t->epoch, -1, path);

    if (status != GP_OK)
        return status;
    put(&s, "schema", "%s", SCHEMA);
    put(&s, "epoch", "%u", t->epoch);
    put_count(&s, "steps", at->steps);
    put_count(&s, "updates", at->updates);
    put_count(&s, "goal", at->goal);
    collect(t, &s);
    for (size_t i = 0; i < tensors * (t->velocity ? 2 : 1); i++) {
        gt_st_item *item = &items[count++];
        size_t tensor = i % tensors;
        const float *base = i < tensors ? t->mlp.params : t->velocity;

        snprintf(item->name, sizeof(item->name), "layer%zu.%s%s", tensor / 2,
                 part_name(tensor), i < tensors ? "" : ".momentum");
        set_shape(t, tensor, item);
        item->values = base + offset_of(t, tensor);
    }
    return gt_st_write(path, items, count, s.text, s.count);
}

/* A network that is cut is written as a whole, by rank 0. */
static gp_status
save_whole(const gt_trainer *t, const gt_position *at)
{
    gt_trainer whole;
    gp_status status;

    if (!gt_layout_cuts(&t->layout))
        return gt_trainer_saves(t) ? save_model(t, at) : GP_OK;
    status = gt_cut_gather(t, &whole);
    if (status == GP_OK && t->rank == 0)
        status = save_model(&whole, at);
    gt_cut_free_whole(&whole);
    return status;
}

/* States of codecs, one file per rank. */
typedef struct states {
    gt_st_item *items;
    size_t count, capacity;
} states;

static void
free_states(states *s)
{
    for (size_t i = 0; i < s->count; i++)
        free((void *)(uintptr_t)s->items[i].values);
    free(s->items);
}

/* What has an element for each parameter has its shape too. */
static void
name_state(const gt_trainer *t, size_t tensor, const char *name, uint64_t count,
           gt_st_item *item)
{
    uint64_t elements;

    snprintf(item->name, sizeof(item->name), "layer%zu.%s.%s", tensor / 2,
             part_name(tensor), name);
    set_shape(t, tensor, item);
    elements = item->shape[0] * (item->dims == 2 ? item->shape[1] : 1);
    if (elements != count) {
        item->dims = 1;
        item->shape[0] = count;
    }
}

static gp_status
add_state(const gt_trainer *t, size_t tensor, const char *name, uint64_t count,
          states *s)
{
    gt_st_item *item;
    float *values;
    gp_status status;

    if (s->count == s->capacity) {
        size_t capacity = 2 * s->capacity + 16;
        void *grown = realloc(s->items, capacity * sizeof(*s->items));

        if (!grown)
            return gt_fail(GP_ERR_NO_MEMORY, "checkpoint: no memory");
        s->items = grown;
        s->capacity = capacity;
    }
    status = gt_alloc_floats(count, "a codec's state", &values);
    if (status != GP_OK)
        return status;
    item = &s->items[s->count++];
    *item = (gt_st_item){.values = values};
    name_state(t, tensor, name, count, item);
    return gt_comm_save_state(t->comm, tensor, name, values);
}

/* Where others go on, the two files must not be of two moments. */
static gp_status
write_states(const gt_trainer *t, const states *s, const gt_position *at)
{
    char path[PATH_SIZE];
    settings text = {0};
    gp_status status = path_of(t, t->epoch, states_of(t), path);

    if (status == GP_OK && s->count == 0) {
        /* Of an earlier run with other codecs: not this one's. */
        unlink(path);
        return GP_OK;
    }
    if (status != GP_OK)
        return status;
    put(&text, "schema", "%s", SCHEMA);
    put(&text, "epoch", "%u", t->epoch);
    if (gt_trainer_is_elastic(t))
        put_count(&text, "updates", at->updates);
    return gt_st_write(path, s->items, s->count, text.text, text.count);
}

/* Whether a codec of some tensor remembers anything. */
static bool
has_states(const gt_trainer *t)
{
    for (size_t i = 0; t->comm && i < 2 * t->mlp.layers; i++) {
        const char *name;
        uint64_t count;

        if (gt_comm_state(t->comm, i, 0, &name, &count) == GP_OK)
            return true;
    }
    return false;
}

static gp_status
take_states(const gt_trainer *t, states *s)
{
    gp_status status = GP_OK;

    for (size_t i = 0; t->comm && i < 2 * t->mlp.layers && status == GP_OK;
         i++) {
        const char *name;
        uint64_t count;

        for (size_t k = 0; status == GP_OK &&
                           gt_comm_state(t->comm, i, k, &name, &count) == GP_OK;
             k++)
            status = add_state(t, i, name, count, s);
    }
    return status;
}

/* Others push meanwhile, unless they are kept from it; not while files are
 * written. */
static gp_status
take_all(gt_trainer *t, states *s)
{
    gp_status status, ended;

    if (!gt_trainer_is_elastic(t) || !gt_trainer_shares_work(t))
        return take_states(t, s);
    status = gt_comm_hold(t->comm, true);
    if (status == GP_OK)
        status = gt_comm_take_parameters(t->comm);
    if (status == GP_OK)
        status = take_states(t, s);
    ended = gt_comm_hold(t->comm, false);
    return status == GP_OK ? ended : status;
}

static gp_status
point_latest(const gt_trainer *t)
{
    char path[PATH_SIZE], text[32];
    int n = snprintf(path, sizeof(path), "%s/latest", t->options->checkpoint);
    struct iovec part = {text, 0};

    if (n < 0 || n >= PATH_SIZE)
        return gt_fail(GP_ERR_CONFIG, "--checkpoint: the path is too long");
    part.iov_len =
        (size_t)snprintf(text, sizeof(text), "epoch-%06u\n", t->epoch);
    return gt_atomic_write(path, &part, 1);
}

/* Old files are a matter of space only: a failure to remove one is no error.
 */
static void
remove_old(const gt_trainer *t)
{
    uint32_t every = t->options->checkpoint_every;
    char path[PATH_SIZE];

    if (t->epoch <= KEEP * every)
        return;
    if (gt_trainer_saves(t) &&
        path_of(t, t->epoch - KEEP * every, -1, path) == GP_OK)
        unlink(path);
    if (path_of(t, t->epoch - KEEP * every, states_of(t), path) == GP_OK)
        unlink(path);
}

static gp_status
meet(const gt_trainer *t)
{
    uint64_t zero = 0;

    return t->comm && !gt_trainer_is_elastic(t) ? gt_comm_sum(t->comm, &zero, 1)
                                                : GP_OK;
}

static gp_status
save_files(gt_trainer *t, const states *s)
{
    const gt_position at = gt_trainer_position(t);
    gp_status status = save_whole(t, &at);

    if (status == GP_OK)
        status = write_states(t, s, &at);
    if (status == GP_OK)
        status = meet(t);
    if (status == GP_OK && gt_trainer_saves(t))
        status = point_latest(t);
    if (status == GP_OK)
        remove_old(t);
    return status;
}

gp_status
gt_checkpoint_save(gt_trainer *t)
{
    states s = {0};
    gp_status status;

    if (gt_trainer_is_elastic(t) && !gt_trainer_saves(t))
        return GP_OK;
    if (mkdir(t->options->checkpoint, 0777) != 0 && errno != EEXIST)
        return gt_fail_errno(GP_ERR_SYSTEM, errno,
                             "cannot create the checkpoint folder %s",
                             t->options->checkpoint);
    status = take_all(t, &s);
    if (status == GP_OK)
        status = save_files(t, &s);
    free_states(&s);
    return status;
}

/* --- loading --- */

static gp_status
read_latest(gt_trainer *t, uint32_t *epoch)
{
    char path[PATH_SIZE];
    uint8_t *bytes;
    size_t length;
    char text[32] = "";
    gp_status status;

    snprintf(path, sizeof(path), "%s/latest", t->options->checkpoint);
    status = gt_file_read(path, 1 << 16, &bytes, &length);
    if (status == GP_ERR_NOT_FOUND)
        return gt_fail(status,
                       "--resume: no checkpoint in %s (no file 'latest'); "
                       "leave --resume out to start anew",
                       t->options->checkpoint);
    if (status != GP_OK)
        return status;
    memcpy(text, bytes, length < sizeof(text) - 1 ? length : sizeof(text) - 1);
    free(bytes);
    if (sscanf(text, "epoch-%6u", epoch) != 1)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s does not name a checkpoint such as epoch-000003; "
                       "write the name of one of the files beside it there",
                       path);
    return GP_OK;
}

bool
gt_checkpoint_is_latest(gt_trainer *t)
{
    uint32_t epoch;

    return read_latest(t, &epoch) == GP_OK && epoch == t->epoch;
}

/* Options that change what the parameters mean. */
static bool
is_essential(const char *key)
{
    return strcmp(key, "hidden") == 0 || strcmp(key, "loss") == 0 ||
           strcmp(key, "optimizer") == 0 || strcmp(key, "normalize") == 0;
}

/* Settings that older checkpoints do not have, all of one kind. */
static bool
is_younger(const char *key)
{
    return strcmp(key, "optimizer:") == 0 || strcmp(key, "update") == 0 ||
           strcmp(key, "parallel") == 0 || strcmp(key, "micro-batches") == 0 ||
           strcmp(key, "device") == 0 || strcmp(key, "precision") == 0 ||
           strcmp(key, "mode") == 0;
}

static gp_status
check_settings(const gt_trainer *t, const gt_st_file *file)
{
    settings s = {0};

    collect(t, &s);
    for (size_t i = 0; i < s.count; i++) {
        const char *had = gt_st_metadata(file, s.text[i].key);

        if (had ? strcmp(had, s.text[i].value) == 0 : is_younger(s.text[i].key))
            continue;
        if (is_essential(s.text[i].key))
            return gt_fail(GP_ERR_MISMATCH,
                           "--resume: %s was written with --%s %s, this run "
                           "has %s; continue with what it was",
                           file->name, s.text[i].key, had ? had : "(nothing)",
                           s.text[i].value);
        if (t->rank == 0)
            fprintf(stderr,
                    "gradpush-train: --%s was %s, now it is %s: the run goes "
                    "on, but not bit for bit\n",
                    s.text[i].key, had ? had : "(nothing)", s.text[i].value);
    }
    return GP_OK;
}

/* Whether it is a checkpoint's, and that epoch's. */
static gp_status
check_file(const gt_st_file *file, uint32_t epoch)
{
    const char *schema = gt_st_metadata(file, "schema");
    const char *had_epoch = gt_st_metadata(file, "epoch");

    if (!schema || !had_epoch || strtoul(had_epoch, NULL, 10) != epoch ||
        (strcmp(schema, SCHEMA) != 0 && strcmp(schema, SCHEMA_1) != 0))
        return gt_fail(GP_ERR_CORRUPT,
                       "%s is not the %s checkpoint of epoch %u", file->name,
                       SCHEMA, epoch);
    if (strcmp(schema, SCHEMA) == 0 && !gt_st_metadata(file, GT_ST_CHECKSUM))
        return gt_fail(GP_ERR_CORRUPT,
                       "%s has no '" GT_ST_CHECKSUM "', as files of " SCHEMA
                       " do: damaged; copy it again",
                       file->name);
    return GP_OK;
}

/* Older files have steps only, which were all that was counted. */
static uint64_t
read_count(const gt_st_file *file, const char *key, uint64_t otherwise)
{
    const char *text = gt_st_metadata(file, key);

    return text ? strtoull(text, NULL, 10) : otherwise;
}

static gp_status
read_position(gt_trainer *t, const gt_st_file *file, uint32_t epoch)
{
    const char *mode = gt_st_metadata(file, "mode");
    gt_position at = {.epoch = epoch};
    bool free = t->options->mode_kind == GT_MODE_FREE ||
                t->options->mode_kind == GT_MODE_BACKUPS;

    if (!gt_st_metadata(file, "steps"))
        return gt_fail(GP_ERR_CORRUPT, "%s does not say its steps", file->name);
    at.steps = read_count(file, "steps", 0);
    at.updates = read_count(file, "updates", at.steps);
    at.goal = free ? at.updates : at.steps;
    if (mode && strcmp(mode, t->options->mode) == 0) /* it counts the same */
        at.goal = read_count(file, "goal", at.goal);
    t->epoch = epoch;
    t->steps = at.steps;
    t->base = at;
    return GP_OK;
}

/* Reads all tensors with a suffix into a buffer laid out as the parameters. */
static gp_status
read_tensors(const gt_trainer *t, const gt_st_file *file, const char *suffix,
             float *base)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < 2 * t->mlp.layers && status == GP_OK; i++) {
        gt_st_item item;

        snprintf(item.name, sizeof(item.name), "layer%zu.%s%s", i / 2,
                 part_name(i), suffix);
        set_shape(t, i, &item);
        status = gt_st_read(file, item.name, item.shape, item.dims,
                            base + offset_of(t, i));
    }
    return status;
}

static gp_status
restore_model(gt_trainer *t, const gt_st_file *file, uint32_t epoch)
{
    gp_status status = read_position(t, file, epoch);

    if (status == GP_OK)
        status = check_settings(t, file);
    if (status == GP_OK)
        status = read_tensors(t, file, "", t->mlp.params);
    if (status == GP_OK && t->velocity)
        status = read_tensors(t, file, ".momentum", t->velocity);
    return status;
}

/* A file of one epoch, rank -1 for the model's, and what it lies in. */
typedef struct opened {
    char path[PATH_SIZE];
    uint8_t *bytes;
    gt_st_file file;
} opened;

static void
close_file(opened *f)
{
    gt_st_free(&f->file);
    free(f->bytes);
}

/* There may be another way to go on than from a damaged file. */
static gp_status
advise(const gt_trainer *t, uint32_t epoch, gp_status status)
{
    uint32_t every = t->options->checkpoint_every;
    char path[PATH_SIZE], why[512];

    if (status != GP_ERR_CORRUPT || epoch <= every ||
        path_of(t, epoch - every, -1, path) != GP_OK || access(path, R_OK) != 0)
        return status;
    snprintf(why, sizeof(why), "%s", gt_last_error());
    return gt_fail(status,
                   "%s; or go on from the checkpoint before: write epoch-%06u "
                   "into %s/latest",
                   why, epoch - every, t->options->checkpoint);
}

static gp_status
open_file(const gt_trainer *t, uint32_t epoch, int rank, opened *f)
{
    size_t length;
    gp_status status = path_of(t, epoch, rank, f->path);

    f->file = (gt_st_file){0};
    f->bytes = NULL;
    if (status == GP_OK)
        status = gt_file_read(f->path, FILE_MAX, &f->bytes, &length);
    if (status != GP_OK)
        return status;
    status = gt_st_parse(f->bytes, length, f->path, &f->file);
    if (status == GP_OK)
        status = check_file(&f->file, epoch);
    if (status == GP_OK)
        return GP_OK;
    close_file(f);
    return advise(t, epoch, status);
}

gp_status
gt_checkpoint_load(gt_trainer *t)
{
    opened f;
    uint32_t epoch = 0, missing;
    gp_status status;

    do { /* the file of that name may be old and removed meanwhile */
        missing = epoch;
        status = read_latest(t, &epoch);
        if (status == GP_OK)
            status = open_file(t, epoch, -1, &f);
    } while (status == GP_ERR_NOT_FOUND && epoch != missing);
    if (status != GP_OK)
        return status;
    status = restore_model(t, &f.file, epoch);
    close_file(&f);
    return status;
}

static gp_status
restore_state(gt_trainer *t, const gt_st_file *file, size_t tensor,
              const char *name, uint64_t count, bool *anew)
{
    gt_st_item item = {.dims = 0};
    float *values;
    gp_status status = gt_alloc_floats(count, "a codec's state", &values);

    if (status != GP_OK)
        return status;
    name_state(t, tensor, name, count, &item);
    status = gt_st_read(file, item.name, item.shape, item.dims, values);
    if (status == GP_OK)
        status = gt_comm_load_state(t->comm, tensor, name, values, count);
    if (status == GP_ERR_NOT_FOUND || status == GP_ERR_MISMATCH) {
        status = GP_OK; /* it was another codec */
        *anew = true;
    }
    free(values);
    return status;
}

/* What the codec of a round may keep of a tensor, in the file's words. */
static const char *const round_names[] = {"residual",     "velocity",
                                          "state",        "sum:residual",
                                          "sum:velocity", "sum:state"};

/* A round that has not been called knows nothing yet; zeros change nothing. */
static gp_status
round_remembers(const gt_trainer *t, size_t tensor, uint64_t count, bool *anew)
{
    float *zeros;
    gp_status status = gt_alloc_floats(count, "a codec's state", &zeros);

    if (status != GP_OK)
        return status;
    memset(zeros, 0, count * sizeof(*zeros));
    for (size_t i = 0; i < 3; i++)
        *anew |= gt_comm_load_state(t->comm, tensor, round_names[i], zeros,
                                    count) == GP_OK;
    free(zeros);
    return GP_OK;
}

/* @param file  NULL: there is none. */
static gp_status
restore_round(gt_trainer *t, const gt_st_file *file, bool *anew)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < 2 * t->mlp.layers && status == GP_OK; i++) {
        const gt_layer *layer = &t->mlp.layer[i / 2];
        uint64_t count = i % 2 ? layer->out : layer->in * layer->out;
        bool found = false;

        for (size_t k = 0;
             file && k < GT_COUNT_OF(round_names) && status == GP_OK; k++) {
            bool missing = false;

            status = restore_state(t, file, i, round_names[k], count, &missing);
            found |= !missing;
        }
        if (status == GP_OK && !found)
            status = round_remembers(t, i, count, anew);
    }
    return status;
}

static gp_status
restore_states(gt_trainer *t, const gt_st_file *file, bool *anew)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < 2 * t->mlp.layers && status == GP_OK; i++) {
        const char *name;
        uint64_t count;

        for (size_t k = 0; status == GP_OK &&
                           gt_comm_state(t->comm, i, k, &name, &count) == GP_OK;
             k++)
            status = restore_state(t, file, i, name, count, anew);
    }
    return status;
}

/* Of this rank; *anew tells whether something begins with zeros. */
static gp_status
load_states(gt_trainer *t, bool *anew)
{
    opened f;
    gp_status status = open_file(t, t->epoch, states_of(t), &f);

    if (status == GP_ERR_NOT_FOUND) {
        if (gt_comm_round_codes(t->comm))
            return restore_round(t, NULL, anew);
        *anew = true; /* no such rank then, or no codec that remembers */
        return GP_OK;
    }
    if (status != GP_OK)
        return status;
    if (read_count(&f.file, "updates", t->base.updates) != t->base.updates) {
        status = gt_fail(GP_ERR_CORRUPT,
                         "%s was written after other updates than what it "
                         "belongs to",
                         f.path);
        close_file(&f);
        return advise(t, t->epoch, status);
    }
    status = (gt_comm_round_codes(t->comm) ? restore_round
                                           : restore_states)(t, &f.file, anew);
    close_file(&f);
    return status;
}

/* Worker 0 may have states where others have none, so all add up. */
gp_status
gt_checkpoint_load_states(gt_trainer *t)
{
    bool anew = false;
    uint64_t count;
    gp_status status = GP_OK;

    if (!t->comm)
        return GP_OK;
    if (has_states(t) || gt_comm_round_codes(t->comm))
        status = load_states(t, &anew);
    count = anew;
    if (status == GP_OK && !gt_trainer_is_elastic(t))
        status = gt_comm_sum(t->comm, &count, 1);
    if (status == GP_OK && count > 0 && t->rank == 0)
        fprintf(stderr,
                "gradpush-train: the checkpoint has nothing, or not all, of "
                "what codecs and updaters of %llu of %u workers remember: that "
                "begins with zeros\n",
                (unsigned long long)count, t->size);
    return status;
}
