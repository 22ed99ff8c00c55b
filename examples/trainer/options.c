/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - the command line of gradpush-train.
 *
 * One table gives getopt its options, the help its text and the messages the
 * nearest name.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "option_words.h"

enum key {
    KEY_DATA = 256,
    KEY_SPLIT,
    KEY_CLASSES,
    KEY_NORMALIZE,
    KEY_PARTITION,
    KEY_WORKERS,
    KEY_SHARDS,
    KEY_HIDDEN,
    KEY_LOSS,
    KEY_OPTIMIZER,
    KEY_LR,
    KEY_MOMENTUM,
    KEY_WEIGHT_DECAY,
    KEY_EPOCHS,
    KEY_BATCH,
    KEY_SEED,
    KEY_UPDATE,
    KEY_OVERLAP,
    KEY_MODE,
    KEY_OUTER,
    KEY_SLOW,
    KEY_MIN_WORKERS,
    KEY_MAX_WORKERS,
    KEY_PARALLEL,
    KEY_MICRO_BATCHES,
    KEY_CODEC,
    KEY_PULL_CODEC,
    KEY_TRANSPORT,
    KEY_DEVICE,
    KEY_SHARD_DEVICE,
    KEY_PRECISION,
    KEY_DETERMINISTIC,
    KEY_THREADS,
    KEY_CHECKPOINT,
    KEY_CHECKPOINT_EVERY,
    KEY_RESUME,
    KEY_JSON,
    KEY_LOGDIR,
    KEY_STEPS_FILE,
    KEY_DUMP,
    KEY_DUMP_EVERY,
    KEY_PROGRESS,
    KEY_QUIET,
    KEY_HELP,
    KEY_VERSION
};

static const struct row {
    const char *name;
    int key;
    const char *value; /* what it takes; NULL: nothing */
    const char *text;
} rows[] = {
    {"data", KEY_DATA, "PATH",
     "digits (built in, default), a folder with IDX or .npy files, "
     "X.npy,y.npy, or a .csv[.gz] with the label last"},
    {"split", KEY_SPLIT, "F",
     "fraction, from the front, used for training when the data has no test "
     "part (0.8)"},
    {"classes", KEY_CLASSES, "N", "number of classes (largest label + 1)"},
    {"normalize", KEY_NORMALIZE, "HOW",
     "none, scale (to [0, 1]) or standard (scale, then mean 0 and deviation 1 "
     "of the training part; default)"},
    {"partition", KEY_PARTITION, "HOW",
     "random (default) or contiguous ranges of samples for the workers"},
    {"workers", KEY_WORKERS, "N", "workers to start here (2)"},
    {"shards", KEY_SHARDS, "M",
     "shards to start here (2); 0 with several workers: each worker hosts one; "
     "0 with one worker: train without communication"},
    {"hidden", KEY_HIDDEN, "N,N",
     "widths of the hidden layers, or none "
     "(128,128)"},
    {"loss", KEY_LOSS, "NAME", "ce (cross entropy, default) or mse"},
    {"optimizer", KEY_OPTIMIZER, "NAME",
     "sgd (default), momentum, nesterov; on shards also adagrad, rmsprop, "
     "adam, "
     "adamw, lamb; there NAME:KEY=VALUE,... sets more, such as warmup, cosine "
     "and clip"},
    {"lr", KEY_LR, "F",
     "learning rate (0.1; adam, adamw, lamb 0.001; adagrad, rmsprop 0.01)"},
    {"momentum", KEY_MOMENTUM, "F", "of momentum and nesterov (0.9)"},
    {"weight-decay", KEY_WEIGHT_DECAY, "F",
     "L2 penalty (0; adamw and lamb: 0.01, beside the gradient)"},
    {"epochs", KEY_EPOCHS, "N", "passes over the training part (10)"},
    {"batch", KEY_BATCH, "N", "samples per worker and step (64)"},
    {"seed", KEY_SEED, "N", "of weights, order and random codecs (1)"},
    {"update", KEY_UPDATE, "WHERE",
     "worker: pull mean gradients (default of sgd, momentum, nesterov); shard: "
     "pull parameters (of the others)"},
    {"overlap", KEY_OVERLAP, "WHEN",
     "on: push each layer while backward goes on; off: after it; auto "
     "(default): off when the workers fill this machine's processors"},
    {"mode", KEY_MODE, "MODE",
     "sync (default), sync:N-1, ssp:K, async: shards hold the parameters in "
     "the latter three; local:H: H steps of each worker on its own between "
     "two exchanges; allreduce: workers add up gradients among themselves"},
    {"outer", KEY_OUTER, "UPDATER",
     "of the shards with --mode local:H: sgd:lr=1 (default), mean, "
     "sgd:lr=0.7,momentum=0.9,nesterov=1, ..."},
    {"min-workers", KEY_MIN_WORKERS, "N",
     "workers may die and come back, the training goes on with N of them, at "
     "most --workers; by default shards have the parameters"},
    {"max-workers", KEY_MAX_WORKERS, "N",
     "with --min-workers: at most N take part at once; the others of --workers "
     "wait for the place of one that is gone"},
    {"slow", KEY_SLOW, "RANK:F",
     "that worker takes F times as long for its steps, to see what a mode does "
     "about it"},
    {"parallel", KEY_PARALLEL, "LAYOUT",
     "data (default): workers have copies of the network; tensor=T: T workers "
     "have a copy together, each a part of every layer; pipeline=P: each some "
     "layers; tensor=T,data=D: D such copies"},
    {"micro-batches", KEY_MICRO_BATCHES, "N",
     "parts of a batch that follow each other through --parallel pipeline (2 "
     "for each stage)"},
    {"codec", KEY_CODEC, "SPEC", "pipeline for pushes, such as q8+lz4 (none)"},
    {"pull-codec", KEY_PULL_CODEC, "SPEC", "pipeline for pulls (none)"},
    {"transport", KEY_TRANSPORT, "NAME", "auto, tcp, ... (auto)"},
    {"device", KEY_DEVICE, "NAME",
     "cpu (auto, default), cuda (by the worker's rank on its machine) or "
     "cuda:N"},
    {"shard-device", KEY_SHARD_DEVICE, "NAME",
     "where the shards that are started here add and update: cpu (default), "
     "auto, cuda, cuda:N, cuda:all or a list, in turns"},
    {"precision", KEY_PRECISION, "NAME",
     "of products on a CUDA device: fp32 (default), tf32, or bf16 with "
     "parameters in fp32"},
    {"deterministic", KEY_DETERMINISTIC, "WHEN",
     "on (default): a CUDA device gives the same bits in every run; off: "
     "cuBLAS may choose otherwise"},
    {"threads", KEY_THREADS, "N", "threads of the matrix library (1)"},
    {"checkpoint", KEY_CHECKPOINT, "DIR", "write checkpoints there"},
    {"checkpoint-every", KEY_CHECKPOINT_EVERY, "N", "epochs between them (1)"},
    {"resume", KEY_RESUME, NULL, "continue from the latest in --checkpoint"},
    {"json", KEY_JSON, "FILE", "write the report there; - is standard output"},
    {"logdir", KEY_LOGDIR, "DIR", "write TensorBoard event files there"},
    {"steps-file", KEY_STEPS_FILE, "FILE",
     "every worker keeps the number of its steps in FILE.RANK, for scripts"},
    {"dump-gradients", KEY_DUMP, "DIR",
     "write rank 0's gradients there, one .npy per tensor and step"},
    {"dump-every", KEY_DUMP_EVERY, "N", "steps between them (100)"},
    {"progress", KEY_PROGRESS, "WHEN",
     "auto (on a terminal, default), on, off"},
    {"quiet", KEY_QUIET, NULL, "no table of epochs"},
    {"help", KEY_HELP, NULL, "print this"},
    {"version", KEY_VERSION, NULL, "print the version"},
};

#define ROWS GT_COUNT_OF(rows)

static gp_status
parse_hidden(const char *text, gt_options *o)
{
    size_t count = 0;

    if (strcmp(text, "none") == 0) {
        o->hidden_count = 0;
        return GP_OK;
    }
    for (const char *at = text;; at++) {
        char *stop;
        unsigned long width = strtoul(at, &stop, 10);

        if (*at < '0' || *at > '9' || width < 1 || width > GT_WIDTH_MAX ||
            (*stop && *stop != ',') || count == GT_LAYERS_MAX - 1)
            return gt_fail(GP_ERR_CONFIG,
                           "--hidden '%s': it takes up to %d widths from 1 to "
                           "%d, such as 128,128, or none",
                           text, GT_LAYERS_MAX - 1, GT_WIDTH_MAX);
        o->hidden[count++] = width;
        at = stop;
        if (!*at)
            break;
    }
    o->hidden_count = count;
    return GP_OK;
}

/* A name, and behind a ':' what the shards' updater is to be told beside. */
static gp_status
parse_optimizer(const char *option, const char *text, gt_options *o)
{
    size_t n = strcspn(text, ":");
    char name[32];

    snprintf(name, sizeof(name), "%.*s", n < 31 ? (int)n : 31, text);
    o->optim_keys = text[n] ? text + n + 1 : "";
    return gt_parse_enum(option, name, gt_optimizers, &o->optim.kind);
}

static gp_status
apply_data(int key, const char *name, const char *text, gt_options *o)
{
    gt_data_options *d = &o->data;

    switch (key) {
    case KEY_DATA:
        d->path = text;
        return GP_OK;
    case KEY_SPLIT:
        return gt_parse_real(name, text, 0.001, 0.999, &d->split);
    case KEY_CLASSES:
        return gt_parse_count32(name, text, 2, GT_WIDTH_MAX - 1, &d->classes);
    case KEY_NORMALIZE:
        return gt_parse_enum(name, text, gt_normalizations, &d->normalize);
    case KEY_PARTITION:
        return gt_parse_enum(name, text, gt_partitions, &o->partition);
    default:
        return GP_ERR_NOT_FOUND;
    }
}

static gp_status
apply_training(int key, const char *name, const char *text, gt_options *o)
{
    switch (key) {
    case KEY_HIDDEN:
        return parse_hidden(text, o);
    case KEY_LOSS:
        return gt_parse_enum(name, text, gt_losses, &o->loss);
    case KEY_OPTIMIZER:
        return parse_optimizer(name, text, o);
    case KEY_LR:
        o->lr_given = true;
        return gt_parse_float(name, text, 1e-12, 1e6, &o->optim.lr);
    case KEY_MOMENTUM:
        return gt_parse_float(name, text, 0, 0.999999, &o->optim.momentum);
    case KEY_WEIGHT_DECAY:
        o->weight_decay_given = true;
        return gt_parse_float(name, text, 0, 1e3, &o->optim.weight_decay);
    case KEY_EPOCHS:
        return gt_parse_count32(name, text, 1, 1000000, &o->epochs);
    case KEY_BATCH:
        return gt_parse_count(name, text, 1, 1 << 20, &o->batch);
    case KEY_SEED:
        return gt_parse_count(name, text, 0, INT64_MAX, &o->seed);
    case KEY_MODE:
        o->mode = text;
        o->mode_given = true;
        return GP_OK;
    case KEY_OUTER:
        o->outer = text;
        o->outer_given = true;
        return GP_OK;
    case KEY_MAX_WORKERS:
        return gt_parse_count32(name, text, 1, 4096, &o->max_workers);
    case KEY_MIN_WORKERS:
        return gt_parse_count32(name, text, 1, 4096, &o->min_workers);
    case KEY_SLOW:
        return gt_options_slow(text, o);
    case KEY_PARALLEL:
        return gt_layout_parse(text, &o->layout);
    case KEY_MICRO_BATCHES:
        return gt_parse_count32(name, text, 1, 65536, &o->micro_batches);
    case KEY_THREADS:
        return gt_parse_count32(name, text, 1, 1024, &o->threads);
    default:
        return GP_ERR_NOT_FOUND;
    }
}

static gp_status
apply_job(int key, const char *name, const char *text, gt_options *o)
{
    switch (key) {
    case KEY_WORKERS:
        o->placed = o->workers_given = true;
        return gt_parse_count32(name, text, 1, 4096, &o->workers);
    case KEY_SHARDS:
        o->placed = o->shards_given = true;
        return gt_parse_count32(name, text, 0, 65536, &o->shards);
    case KEY_UPDATE:
        o->update_given = true;
        return gt_parse_enum(name, text, gt_updates, &o->update);
    case KEY_CODEC:
        o->codec = text;
        o->codec_given = true;
        return GP_OK;
    case KEY_PULL_CODEC:
        o->pull_codec = text;
        o->pull_codec_given = true;
        return GP_OK;
    case KEY_TRANSPORT:
        o->transport = text;
        return GP_OK;
    case KEY_DEVICE:
        return gt_options_device(text, o);
    case KEY_SHARD_DEVICE:
        return gt_options_shard_device(text, o);
    case KEY_PRECISION:
        return gt_parse_enum(name, text, gt_precisions, &o->precision);
    case KEY_DETERMINISTIC:
        return gt_parse_switch(name, text, &o->deterministic);
    default:
        return GP_ERR_NOT_FOUND;
    }
}

static gp_status
apply_output(int key, const char *name, const char *text, gt_options *o)
{
    switch (key) {
    case KEY_CHECKPOINT:
        o->checkpoint = text;
        return GP_OK;
    case KEY_CHECKPOINT_EVERY:
        return gt_parse_count32(name, text, 1, 1000000, &o->checkpoint_every);
    case KEY_RESUME:
        o->resume = true;
        return GP_OK;
    case KEY_JSON:
        o->json = text;
        return GP_OK;
    case KEY_LOGDIR:
        o->logdir = text;
        return GP_OK;
    case KEY_STEPS_FILE:
        o->steps_file = text;
        return GP_OK;
    case KEY_DUMP:
        o->dump = text;
        return GP_OK;
    case KEY_DUMP_EVERY:
        return gt_parse_count32(name, text, 1, 1000000000, &o->dump_every);
    case KEY_OVERLAP:
        return gt_parse_enum(name, text, gt_progresses, &o->overlap);
    case KEY_PROGRESS:
        return gt_parse_enum(name, text, gt_progresses, &o->progress);
    case KEY_QUIET:
        o->quiet = true;
        return GP_OK;
    default:
        return GP_ERR_NOT_FOUND;
    }
}

static const char *
name_of(int key)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].key == key)
            return rows[i].name;
    return "";
}

static gp_status
apply(int key, const char *text, gt_options *o)
{
    static gp_status (*const groups[])(int, const char *, const char *,
                                       gt_options *) = {
        apply_data, apply_training, apply_job, apply_output};
    gp_status status = GP_ERR_NOT_FOUND;

    for (size_t i = 0; i < 4 && status == GP_ERR_NOT_FOUND; i++)
        status = groups[i](key, name_of(key), text, o);
    return status;
}

static gp_status
check_together(const gt_options *o)
{
    bool alone = o->placed && o->workers == 1 && o->shards == 0;

    if (o->resume && !o->checkpoint)
        return gt_fail(GP_ERR_CONFIG,
                       "--resume needs --checkpoint DIR, the folder to resume "
                       "from");
    if (alone && o->update == GT_UPDATE_SHARD)
        return gt_fail(
            GP_ERR_CONFIG,
            "--update shard, and optimizers beside sgd, momentum and "
            "nesterov, need shards: give --shards 1 or more");
    if (o->mode_kind == GT_MODE_ALLREDUCE && o->update == GT_UPDATE_SHARD)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode allreduce steps on the workers, with sgd, "
                       "momentum or nesterov: leave out --update shard");
    if (o->mode_kind == GT_MODE_ALLREDUCE && o->pull_codec_given)
        return gt_fail(GP_ERR_CONFIG,
                       "--mode allreduce has no shards to pull from: leave out "
                       "--pull-codec; --codec is for both ways");
    if (alone && (o->codec_given || o->pull_codec_given))
        return gt_fail(GP_ERR_CONFIG,
                       "nothing is sent with --workers 1 --shards 0, so "
                       "--codec and --pull-codec have no use: give --shards 1 "
                       "or leave them out");
    if (o->optim.kind == GT_NESTEROV && o->optim.momentum == 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--optimizer nesterov needs --momentum above 0");
    return GP_OK;
}

static void
print_wrapped(const char *text)
{
    enum { INDENT = 28, WIDTH = 79 };
    int column = INDENT;

    for (const char *at = text; *at;) {
        int n = (int)strcspn(at, " ");

        if (column > INDENT && column + 1 + n > WIDTH) {
            printf("\n%*s", INDENT, "");
            column = INDENT;
        } else if (column > INDENT) {
            putchar(' ');
            column++;
        }
        printf("%.*s", n, at);
        column += n;
        at += n + (at[n] == ' ');
    }
    putchar('\n');
}

static void
print_help(void)
{
    printf("usage: gradpush-train [options]\n\n"
           "Trains a multi-layer perceptron on the CPU or CUDA devices.\n\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", rows[i].name,
                 rows[i].value ? " " : "", rows[i].value ? rows[i].value : "");
        printf("  %-25s ", left);
        print_wrapped(rows[i].text);
    }
    printf(
        "\nUnder a launcher (gradpush run, torchrun, mpirun, srun) it is one\n"
        "worker of the job; leave --workers and --shards out there.\n\n"
        "examples:\n"
        "  gradpush-train --data digits --workers 2 --shards 2\n"
        "  gradpush-train --data mnist/ --batch 32 --json report.json\n"
        "  gradpush-train --device cuda --precision bf16 --hidden 8192,8192\n"
        "\nExit status: 0 success, 1 failure, 2 wrong usage.\n");
}

static gt_action
unknown_option(const char *argument)
{
    const char *names[ROWS], *near;
    char typed[64];

    if (strncmp(argument, "--", 2) != 0) {
        gt_fail(GP_ERR_CONFIG, "unknown option '%s'; --help lists all",
                argument);
        return GT_ACTION_USAGE;
    }
    for (size_t i = 0; i < ROWS; i++)
        names[i] = rows[i].name;
    snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(argument + 2, "="),
             argument + 2);
    near = gt_nearest(typed, names, ROWS);
    gt_fail(GP_ERR_CONFIG, "unknown option '--%s'%s%s%s", typed,
            near ? "; did you mean --" : "; --help lists all", near ? near : "",
            near ? "?" : "");
    return GT_ACTION_USAGE;
}

static void
set_defaults(gt_options *o)
{
    *o = (gt_options){
        .data = {"digits", 0.8, 0, GT_NORMALIZE_STANDARD},
        .workers = 2,
        .shards = 2,
        .hidden = {128, 128},
        .hidden_count = 2,
        .optim = {GT_SGD, 0.1f, 0.9f, 0.0f},
        .optim_keys = "",
        .epochs = 10,
        .batch = 64,
        .seed = 1,
        .layout = {1, 1, 0},
        .mode = "sync",
        .outer = "sgd:lr=1",
        .threads = 1,
        .codec = "none",
        .pull_codec = "none",
        .transport = "auto",
        .device = "auto",
        .deterministic = true,
        .checkpoint_every = 1,
        .dump_every = 100,
    };
}

static void
fill_long_options(struct option *out)
{
    for (size_t i = 0; i < ROWS; i++)
        out[i] = (struct option){
            rows[i].name, rows[i].value ? required_argument : no_argument, NULL,
            rows[i].key};
    out[ROWS] = (struct option){0};
}

/* What getopt could not take: an unknown option or a missing value. */
static gt_action
complain(int key, char **argv)
{
    if (key == ':') {
        gt_fail(GP_ERR_CONFIG, "option '%s' needs a value; --help lists all",
                argv[optind - 1]);
        return GT_ACTION_USAGE;
    }
    if (optopt >= 256) {
        gt_fail(GP_ERR_CONFIG, "option '--%s' takes no value", name_of(optopt));
        return GT_ACTION_USAGE;
    }
    if (optopt) {
        char text[3] = {'-', (char)optopt, '\0'};

        return unknown_option(text);
    }
    return unknown_option(argv[optind - 1]);
}

gt_action
gt_options_parse(int argc, char **argv, gt_options *out)
{
    struct option table[ROWS + 1];
    gt_options o;
    int key;

    set_defaults(&o);
    fill_long_options(table);
    opterr = 0;
    optind = 0; /* starts getopt afresh, so that tests can call twice */
    while ((key = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
        if (key == '?' || key == ':')
            return complain(key, argv);
        if (key == 'h' || key == KEY_HELP) {
            print_help();
            return GT_ACTION_DONE;
        }
        if (key == KEY_VERSION) {
            printf("gradpush-train %s\n", GP_VERSION);
            return GT_ACTION_DONE;
        }
        if (apply(key, optarg, &o) != GP_OK)
            return GT_ACTION_USAGE;
    }
    if (optind < argc) {
        gt_fail(GP_ERR_CONFIG,
                "'%s' is no option; the data is given with --data",
                argv[optind]);
        return GT_ACTION_USAGE;
    }
    if (gt_options_settle_codecs(&o) != GP_OK ||
        gt_options_settle_mode(&o) != GP_OK || gt_options_settle(&o) != GP_OK ||
        gt_options_settle_layout(&o) != GP_OK ||
        gt_options_settle_device(&o) != GP_OK || check_together(&o) != GP_OK ||
        gt_options_check_job(&o) != GP_OK)
        return GT_ACTION_USAGE;
    *out = o;
    return GT_ACTION_TRAIN;
}
