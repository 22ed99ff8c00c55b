/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train.c - the training loop of one worker.
 *
 * Each rank evaluates its part of the test data, and the parts are added as
 * whole numbers (losses in units of 2^-20), so that the result is the same for
 * any number of workers up to the rounding of a part.
 */
#include "train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint.h"
#include "cut.h"
#include "dump.h"
#include "elastic.h"
#include "launch.h"
#include "leave.h"
#include "parts.h"
#include "pipeline.h"

#define EVALUATE_ROWS 256
#define GPU_ROWS      1024
#define LOSS_UNIT     0x1p20

/* --- setting up --- */

static gp_status
create_network(gt_trainer *t)
{
    size_t rows =
        t->layout.pipeline > 1 ? gt_pipeline_rows(t) : t->options->batch;
    gp_status status;

    if (rows < EVALUATE_ROWS)
        rows = EVALUATE_ROWS;
    if (t->gpu) /* the passes are there */
        rows = 1;
    status = gt_cut_create(t, rows);
    return status == GP_OK ? gt_pipeline_create(t, rows) : status;
}

static gp_status
create_loader(gt_trainer *t)
{
    const gt_options *o = t->options;
    gp_status status =
        gt_loader_create(&t->data.train, t->data.features, o->batch, t->copy,
                         t->layout.data, o->seed, o->partition, &t->loader);

    if (status == GP_OK && !t->gpu)
        status = gt_alloc_floats(o->batch * t->data.features, "a batch", &t->x);
    if (status != GP_OK)
        return status;
    t->labels = gt_alloc(o->batch, sizeof(uint16_t));
    t->epochs = calloc(o->epochs, sizeof(gt_epoch));
    if (!t->labels || !t->epochs)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory for a batch");
    return GP_OK;
}

/* While backward goes on somebody has to move the bytes. When the workers of
 * this machine fill all its processors, that somebody only gets in their way.
 */
static bool
overlaps(const gt_options *o, const gt_comm *comm)
{
    const char *text = getenv("GRADPUSH_LOCAL_SIZE");
    long here = text ? strtol(text, NULL, 10) : 0;

    if (o->overlap != GT_PROGRESS_AUTO)
        return o->overlap == GT_PROGRESS_ON;
    if (o->mode_kind == GT_MODE_ALLREDUCE ||
        gt_layout_cuts(&o->layout)) /* all ranks call in one order */
        return true;
    if (o->cuda) /* the processors have nothing else to do */
        return true;
    return here != (long)gt_comm_size(comm) ||
           here * (long)o->threads < sysconf(_SC_NPROCESSORS_ONLN);
}

static gp_status
join(gt_trainer *t)
{
    gp_status status = gt_comm_create(t->options, &t->comm);

    if (status != GP_OK)
        return status;
    if (t->options->min_workers) /* until here nobody misses it */
        gt_leave_watch();
    t->rank = gt_comm_rank(t->comm);
    t->size = gt_comm_size(t->comm);
    t->shards = gt_comm_shards(t->comm);
    status = gt_comm_join_grid(t->comm, &t->layout);
    if (status != GP_OK)
        return status;
    t->member = t->rank % gt_layout_members(&t->layout);
    t->copy = t->rank / gt_layout_members(&t->layout);
    t->shares = gt_comm_shares(t->comm);
    t->micro_batches = t->options->micro_batches;
    if (t->micro_batches == 0)
        t->micro_batches = 2 * t->layout.pipeline;
    if (t->micro_batches > t->options->batch)
        t->micro_batches = (uint32_t)t->options->batch;
    t->overlap = overlaps(t->options, t->comm);
    return GP_OK;
}

static gp_status
resume(gt_trainer *t)
{
    gp_status status = gt_cut_load(t);

    /* One that comes late may find that the others are done. */
    if (status == GP_OK && t->epoch >= t->options->epochs &&
        !gt_trainer_is_elastic(t))
        status = gt_fail(GP_ERR_CONFIG,
                         "the checkpoint in %s is of epoch %u already; give "
                         "more --epochs than that",
                         t->options->checkpoint, t->epoch);
    return status;
}

/* --- on a device --- */

static gp_status
open_gpu(gt_trainer *t)
{
    const gt_options *o = t->options;
    const gt_gpu_options options = {o->device, gt_local_rank(NULL),
                                    o->precision, o->deterministic};

    return o->cuda ? gt_gpu_open(&options, &t->gpu) : GP_OK;
}

/* Parameters and momentum, for whoever wants them on the host. */
static gp_status
fetch(gt_trainer *t)
{
    return t->gpu ? gt_gpu_download(t->gpu, t->mlp.params, t->velocity) : GP_OK;
}

static gp_status
fetch_own(void *user)
{
    return fetch(user);
}

static gp_status
store_own(void *user)
{
    gt_trainer *t = user;

    return gt_gpu_upload(t->gpu, t->mlp.params, t->velocity);
}

/* When the network on the host has its first parameters. */
static gp_status
fill_gpu(gt_trainer *t)
{
    size_t batch = t->options->batch;
    gt_comm_device device;
    gp_status status;

    if (!t->gpu)
        return GP_OK;
    status = gt_gpu_set_data(t->gpu, &t->data);
    if (status == GP_OK)
        status = gt_gpu_set_network(t->gpu, &t->mlp,
                                    batch < GPU_ROWS ? GPU_ROWS : batch,
                                    t->velocity != NULL);
    if (status == GP_OK)
        status = gt_gpu_upload(t->gpu, t->mlp.params, t->velocity);
    device = (gt_comm_device){gt_gpu_name(t->gpu),
                              gt_gpu_params(t->gpu),
                              gt_gpu_grads(t->gpu),
                              gt_gpu_stream(t->gpu),
                              fetch_own,
                              store_own,
                              t};
    if (status == GP_OK && t->comm)
        gt_comm_set_device(t->comm, &device);
    return status;
}

/* Nobody else has the parameters. */
static bool
keeps_own(const gt_trainer *t)
{
    return t->options->update == GT_UPDATE_WORKER &&
           t->options->mode_kind == GT_MODE_SYNC;
}

gp_status
gt_trainer_create(const gt_options *options, bool distributed, gt_trainer *out)
{
    gt_trainer *t = out;
    gp_status status;

    *t = (gt_trainer){.options = options, .size = 1, .layout = {1, 1, 1}};
    status = gt_data_load(&options->data, &t->data);
    if (distributed)
        t->layout = options->layout;
    if (status == GP_OK)
        status = open_gpu(t);
    if (status == GP_OK && distributed)
        status = join(t);
    if (status == GP_OK)
        status = create_network(t);
    if (status == GP_OK)
        status = create_loader(t);
    if (status == GP_OK && options->resume)
        status = resume(t);
    if (status == GP_OK)
        status = fill_gpu(t);
    if (status == GP_OK && t->comm) {
        gt_comm_hand_over(t->comm, t->velocity);
        gt_comm_hand_over(t->comm, keeps_own(t) ? t->mlp.params : NULL);
    }
    if (status == GP_OK && t->comm)
        status = gt_comm_register(t->comm, options, t->base.updates, &t->mlp);
    if (status == GP_OK && options->resume)
        status = gt_checkpoint_load_states(t);
    if (status == GP_OK && t->comm)
        status = gt_comm_start(t->comm);
    if (status == GP_OK && !t->gpu)
        gt_parts_open(t);
    if (status == GP_OK && t->gpu)
        status = gt_gpu_refresh(t->gpu);
    if (status == GP_OK && gt_trainer_is_elastic(t))
        gt_elastic_catch_up(t);
    if (status == GP_OK && t->rank == 0 && options->logdir)
        status = gt_events_open(options->logdir, &t->events);
    if (status == GP_OK && t->rank == 0 && options->dump)
        status = gt_dump_open(options->dump);
    if (status == GP_OK && options->steps_file)
        status =
            gt_steps_file_open(options->steps_file, t->rank, &t->steps_file);
    if (status == GP_OK && t->rank == 0)
        gt_progress_open(options->quiet ? GT_PROGRESS_OFF : options->progress,
                         &t->progress);
    return status;
}

void
gt_trainer_free(gt_trainer *t)
{
    gt_progress_close(&t->progress);
    gt_steps_file_close(&t->steps_file);
    gt_events_close(&t->events);
    /* First of all: requests may still write into the buffers below. */
    gt_comm_destroy(t->comm);
    gt_gpu_free(t->gpu);
    gt_loader_free(&t->loader);
    gt_pipeline_free(t->pipeline);
    gt_cut_free(t);
    gt_data_free(&t->data);
    free(t->x);
    free(t->labels);
    free(t->epochs);
    *t = (gt_trainer){0};
}

/* --- a step --- */

/* One call for weight and bias: they lie side by side, and the gap between
 * them is zero and stays zero. */
static void
apply(gt_trainer *t, size_t at, size_t count)
{
    if (t->options->update == GT_UPDATE_SHARD)
        memcpy(t->mlp.params + at, t->mlp.grads + at, count * sizeof(float));
    else
        gt_optim_step(&t->options->optim, t->mlp.params + at, t->mlp.grads + at,
                      t->velocity ? t->velocity + at : NULL, count);
}

void
gt_trainer_apply(gt_trainer *t, size_t l, size_t count)
{
    const gt_layer *layer = &t->mlp.layer[l];

    apply(t, (size_t)(layer->weight - t->mlp.params) + t->applied[l], count);
    t->applied[l] += count;
}

static gp_status
apply_layer(gt_trainer *t, size_t l)
{
    const gt_layer *layer = &t->mlp.layer[l];
    size_t count = (size_t)(layer->bias - layer->weight) + layer->out;
    bool takes = t->options->update == GT_UPDATE_SHARD;

    if (t->gpu)
        return gt_gpu_update(t->gpu, l, takes ? NULL : &t->options->optim);
    gt_trainer_apply(t, l, count - t->applied[l]);
    t->applied[l] = 0;
    return GP_OK;
}

static bool
is_local(const gt_trainer *t)
{
    return t->options->mode_kind == GT_MODE_LOCAL;
}

static gp_status
settle_layer(void *user, size_t l)
{
    gt_trainer *t = user;
    bool arrived = t->pending[l];
    double start = gt_now();
    gp_status status = GP_OK;

    if (t->shares)
        status = gt_comm_wait(t->comm, l, &arrived);
    t->pending[l] = false;
    t->waited += gt_now() - start;
    if (status == GP_OK && arrived && !is_local(t))
        status = apply_layer(t, l);
    return status;
}

/* The worker's own step, when backward is over. */
static gp_status
step_locally(gt_trainer *t)
{
    gp_status status = GP_OK;

    for (size_t l = 0; l < t->mlp.layers && status == GP_OK; l++) {
        status = apply_layer(t, l);
        if (status == GP_OK)
            status = gt_comm_local_step(t->comm, l);
    }
    return status;
}

static gp_status
push_layer(void *user, size_t l)
{
    gt_trainer *t = user;
    gp_status status = gt_dump_layer(t, l);

    t->pending[l] = true;
    if (!t->shares || status != GP_OK)
        return status;
    if (is_local(t))
        return l == 0 ? step_locally(t) : GP_OK;
    if (t->overlap)
        return gt_comm_push(t->comm, l);
    /* Backward ends with layer 0, which forward wants first. */
    for (size_t i = 0; l == 0 && i < t->mlp.layers && status == GP_OK; i++)
        status = gt_comm_push(t->comm, i);
    return status;
}

gp_status
gt_trainer_settle(gt_trainer *t)
{
    gp_status status = GP_OK;

    for (size_t l = 0; l < t->mlp.layers && status == GP_OK; l++)
        status = settle_layer(t, l);
    return status;
}

gp_status
gt_trainer_finish(gt_trainer *t)
{
    gp_status status;

    if (!t->comm)
        return gt_trainer_settle(t);
    gt_comm_host_waits(t->comm, true);
    status = gt_trainer_settle(t);
    gt_comm_host_waits(t->comm, false);
    return status;
}

gp_status
gt_trainer_refresh(gt_trainer *t)
{
    gp_status status = gt_comm_refresh(t->comm);

    return status == GP_OK && t->gpu ? gt_gpu_refresh(t->gpu) : status;
}

/* What --slow asks for: more time for what was computed. */
static void
slow_down(const gt_trainer *t, double computed)
{
    double more = computed * (t->options->slow_factor - 1);
    struct timespec rest = {.tv_sec = (time_t)more};

    if (t->options->slow_factor <= 1 || t->rank != t->options->slow_rank)
        return;
    rest.tv_nsec = (long)((more - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        continue;
}

static gp_status
run_passes(gt_trainer *t, gt_score *score)
{
    size_t rows = t->options->batch;
    const float *output;
    gp_status status =
        gt_mlp_forward(&t->mlp, t->x, rows, settle_layer, t, &output);

    if (status == GP_OK)
        status = gt_cut_output(t, rows, &output);
    if (status != GP_OK)
        return status;
    gt_loss_eval(t->options->loss, output, t->labels, rows, t->data.classes,
                 gt_cut_delta(t), score);
    gt_cut_take_delta(t, rows);
    return gt_mlp_backward(&t->mlp, t->x, rows, push_layer, t);
}

/* Queues a step; its score stays on the device. */
static gp_status
queue_passes(gt_trainer *t, size_t step)
{
    gp_status status = gt_gpu_take_batch(
        t->gpu, gt_loader_first(&t->loader, step), t->options->batch);

    if (status == GP_OK)
        status = gt_gpu_forward(t->gpu, settle_layer, t);
    if (status == GP_OK)
        status = gt_gpu_loss(t->gpu, t->options->loss, true);
    if (status == GP_OK)
        status = gt_gpu_backward(t->gpu, push_layer, t);
    return status == GP_OK ? gt_gpu_end_step(t->gpu) : status;
}

gp_status
gt_trainer_step(gt_trainer *t, size_t step, gt_score *score)
{
    double start = gt_now();
    gp_status status;

    t->waited = 0;
    if (!t->gpu)
        gt_loader_batch(&t->loader, step, t->x, t->labels);
    if (t->gpu)
        status = queue_passes(t, step);
    else if (t->pipeline)
        status = gt_pipeline_step(t, settle_layer, push_layer, score);
    else
        status = run_passes(t, score);
    t->steps++;
    gt_steps_file_note(&t->steps_file, t->steps);
    slow_down(t, gt_now() - start - t->waited);
    return status;
}

/* --- an epoch --- */

/* *output is NULL where a pipeline has its outputs elsewhere. */
static gp_status
run_forward(gt_trainer *t, const float *x, size_t rows, const float **output)
{
    gp_status status;

    if (t->pipeline)
        return gt_pipeline_forward(t, x, rows, output);
    status = gt_mlp_forward(&t->mlp, x, rows, NULL, NULL, output);
    return status == GP_OK ? gt_cut_output(t, rows, output) : status;
}

static gp_status
evaluate_on_gpu(gt_trainer *t, size_t first, size_t last, gt_score *score)
{
    gp_status status = GP_OK;

    for (size_t at = first; at < last && status == GP_OK; at += GPU_ROWS) {
        gt_gpu_take_test(t->gpu, at,
                         last - at < GPU_ROWS ? last - at : GPU_ROWS);
        status = gt_gpu_forward(t->gpu, NULL, NULL);
        if (status == GP_OK)
            status = gt_gpu_loss(t->gpu, t->options->loss, false);
    }
    return status == GP_OK ? gt_gpu_take_score(t->gpu, score) : status;
}

static gp_status
evaluate(gt_trainer *t, gt_score *score)
{
    const gt_samples *test = &t->data.test;
    bool alone =
        gt_trainer_is_elastic(t); /* others may be gone before they are done */
    size_t parts = alone ? 1 : t->layout.data, part = alone ? 0 : t->copy;
    size_t first = test->count * part / parts;
    size_t last = test->count * (part + 1) / parts;

    if (t->gpu)
        return evaluate_on_gpu(t, first, last, score);
    for (size_t at = first; at < last; at += EVALUATE_ROWS) {
        size_t rows = last - at < EVALUATE_ROWS ? last - at : EVALUATE_ROWS;
        const float *output;
        gp_status status =
            run_forward(t, test->x + at * t->data.features, rows, &output);

        if (status != GP_OK)
            return status;
        if (output)
            gt_loss_eval(t->options->loss, output, test->labels + at, rows,
                         t->data.classes, NULL, score);
    }
    return GP_OK;
}

static uint64_t
to_units(double loss)
{
    return loss > 0 && loss < 1e12 ? (uint64_t)(loss * LOSS_UNIT + 0.5) : 0;
}

/* Adds the workers' parts. A loss that is no number ends the training of all
 * ranks together, because all of them see it here. */
static gp_status
combine(gt_trainer *t, const gt_score *train, const gt_score *test,
        gt_epoch *out)
{
    bool diverged = !isfinite(train->loss) || !isfinite(test->loss) ||
                    train->loss >= 1e12 || test->loss >= 1e12;
    uint64_t v[5] = {to_units(train->loss), to_units(test->loss), test->correct,
                     diverged, out->samples};
    double tested = (double)t->data.test.count;
    gp_status status = GP_OK;

    if (!gt_cut_counts(t))
        v[0] = v[1] = v[2] = v[4] = 0;
    if (t->comm && !gt_trainer_is_elastic(t))
        status = gt_comm_sum(t->comm, v, 5);
    if (status != GP_OK)
        return status;
    if (v[3])
        return gt_fail(GP_ERR_INVALID,
                       "training diverged in epoch %u: the loss is no finite "
                       "number; use a smaller --lr",
                       t->epoch);
    out->epoch = t->epoch;
    out->samples = v[4];
    t->samples += v[4];
    out->train_loss = (double)v[0] / LOSS_UNIT / (v[4] ? (double)v[4] : 1.0);
    out->test_loss = (double)v[1] / LOSS_UNIT / tested;
    out->test_accuracy = (double)v[2] / tested;
    return GP_OK;
}

static bool
goes_on(gt_trainer *t, size_t steps)
{
    t->left |= gt_trainer_is_elastic(t) && gt_leave_asked();
    if (t->left)
        return false;
    return gt_trainer_shares_work(t) ? gt_comm_version(t->comm) < t->goal
                                     : steps < t->loader.steps;
}

/* A fast worker goes through its part again, in another order. One that came in
 * the middle has that of the epoch. */
static gp_status
begin_lap(gt_trainer *t, size_t steps, bool first)
{
    bool lap = steps % t->loader.steps == 0;

    if (lap)
        gt_loader_shuffle(&t->loader,
                          t->epoch + (uint32_t)(steps / t->loader.steps << 20));
    if (!t->gpu || (!lap && !first))
        return GP_OK;
    return gt_gpu_set_order(t->gpu, t->loader.order, t->loader.pool);
}

/* On a device scores stay where they are until somebody wants to see them. */
static gp_status
show_progress(gt_trainer *t, size_t done, gt_score *score)
{
    gp_status status = GP_OK;

    if (t->gpu && gt_progress_due(&t->progress))
        status = gt_gpu_take_score(t->gpu, score);
    gt_progress_show(&t->progress, t->epoch + 1, t->options->epochs, done,
                     t->loader.steps,
                     score->loss / (double)(done * t->options->batch));
    return status;
}

/* All workers get the same parameters where they do not step together. */
static gp_status
end_steps(gt_trainer *t)
{
    gp_status status;

    if (!gt_trainer_shares_work(t))
        return gt_trainer_is_elastic(t) ? gt_trainer_finish(t)
                                        : gt_trainer_settle(t);
    status = gt_trainer_finish(t);
    return status == GP_OK ? gt_trainer_refresh(t) : status;
}

static gp_status
train_steps(gt_trainer *t, gt_score *score, gt_epoch *out)
{
    double start = gt_now();
    gp_status status = GP_OK;
    size_t begun = 0, s;

    if (gt_trainer_is_elastic(t) && !gt_trainer_shares_work(t))
        begun = gt_elastic_begun(t);
    gt_trainer_set_goal(t);
    for (s = begun; goes_on(t, s) && status == GP_OK; s++) {
        status = begin_lap(t, s, s == begun);
        if (status == GP_OK && gt_trainer_is_elastic(t))
            status = gt_elastic_begin_step(t, s);
        if (status == GP_OK)
            status = gt_trainer_step(t, s % t->loader.steps, score);
        if (status == GP_OK)
            status = show_progress(t, s + 1, score);
    }
    t->left |= status == GP_AGAIN;
    if (t->left && (status == GP_OK || status == GP_AGAIN))
        return gt_trainer_finish(t);
    if (status == GP_OK)
        status = end_steps(t);
    if (status == GP_OK && t->gpu) /* waits for the steps */
        status = gt_gpu_take_score(t->gpu, score);
    out->seconds = gt_now() - start;
    out->samples = (uint64_t)(s - begun) * t->options->batch;
    return status;
}

static gp_status
run_epoch(gt_trainer *t, gt_epoch *out)
{
    gt_score train = {0}, test = {0};
    gp_status status = train_steps(t, &train, out);

    if (status != GP_OK || t->left)
        return status;
    t->epoch++;
    t->step_seconds += out->seconds;
    status = evaluate(t, &test);
    return status == GP_OK ? combine(t, &train, &test, out) : status;
}

static gp_status
sum_stats(gt_trainer *t)
{
    uint64_t v[5];
    gp_status status;

    if (!t->comm)
        return GP_OK;
    gt_comm_stats(t->comm, &t->stats);
    if (gt_trainer_is_elastic(t)) /* this worker's own */
        return GP_OK;
    v[0] = t->stats.bytes_pushed;
    v[1] = t->stats.bytes_pulled;
    v[2] = t->stats.dense_bytes;
    v[3] = t->stats.open_ns;
    v[4] = t->stats.waited_ns;
    status = gt_comm_sum(t->comm, v, 5);
    t->stats.bytes_pushed = v[0];
    t->stats.bytes_pulled = v[1];
    t->stats.dense_bytes = v[2];
    t->stats.open_ns = v[3];
    t->stats.waited_ns = v[4];
    return status;
}

static gp_status
digest(gt_trainer *t)
{
    gt_trainer whole;
    gp_status status = fetch(t);

    if (status != GP_OK)
        return status;
    if (!gt_layout_cuts(&t->layout))
        return gt_mlp_sha256(&t->mlp, t->digest);
    status = gt_cut_gather(t, &whole);
    if (status == GP_OK && t->rank == 0)
        status = gt_mlp_sha256(&whole.mlp, t->digest);
    gt_cut_free_whole(&whole);
    return status;
}

static gp_status
log_epoch(gt_trainer *t, const gt_epoch *e)
{
    double samples = (double)e->samples;
    const gt_scalar scalars[] = {
        {"train/loss", e->train_loss},
        {"train/samples_per_second", samples / e->seconds},
        {"test/loss", e->test_loss},
        {"test/accuracy", e->test_accuracy}};

    return gt_events_write(&t->events, t->steps, scalars, GT_COUNT_OF(scalars));
}

gp_status
gt_trainer_save(gt_trainer *t)
{
    gp_status status = fetch(t);

    return status == GP_OK ? gt_checkpoint_save(t) : status;
}

/* One that comes when the others are done says what they made of it, and writes
 * the last checkpoint where they left that to the first of all, who it is now.
 */
static gp_status
look_at_end(gt_trainer *t)
{
    gt_score test = {0};
    gp_status status = evaluate(t, &test);

    t->test_accuracy = (double)test.correct / (double)t->data.test.count;
    return status == GP_OK ? gt_elastic_end_late(t) : status;
}

gp_status
gt_trainer_run(gt_trainer *t, gt_epoch_hook report)
{
    double start = gt_now();
    gp_status status = GP_OK;

    if (t->epoch >= t->options->epochs)
        status = look_at_end(t);
    while (t->epoch < t->options->epochs && status == GP_OK) {
        gt_epoch *epoch = &t->epochs[t->epoch_count];

        status = run_epoch(t, epoch);
        gt_progress_clear(&t->progress);
        if (status != GP_OK || t->left)
            break;
        t->epoch_count++;
        t->test_accuracy = epoch->test_accuracy;
        if (report)
            report(t, epoch);
        status = log_epoch(t, epoch);
        if (status == GP_OK && gt_trainer_checkpoint_due(t))
            status = gt_elastic_end_epoch(t);
    }
    t->total_seconds = gt_now() - start;
    if (t->left)
        return status;
    if (status == GP_OK)
        status = sum_stats(t);
    return status == GP_OK && t->options->json ? digest(t) : status;
}
