/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_options.c - the command line, the role of a process, and the
 * report's JSON.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launch.h"
#include "options.h"
#include "outputs.h"
#include "report.h"

static gt_action
parse(const char *const *words, size_t count, gt_options *out)
{
    char *argv[32] = {(char *)(uintptr_t) "gradpush-train"};

    for (size_t i = 0; i < count; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    return gt_options_parse((int)count + 1, argv, out);
}

#define PARSE(out, ...)                  \
    parse((const char *[]){__VA_ARGS__}, \
          GT_COUNT_OF(((const char *[]){__VA_ARGS__})), out)

static void
defaults_are_the_documented_ones(void **state)
{
    gt_options o;

    (void)state;
    assert_int_equal(parse(NULL, 0, &o), GT_ACTION_TRAIN);
    assert_string_equal(o.data.path, "digits");
    assert_true(o.data.split == 0.8);
    assert_true(o.workers == 2 && o.shards == 2 && !o.placed);
    assert_true(o.hidden_count == 2 && o.hidden[0] == 128);
    assert_true(o.loss == GT_CROSS_ENTROPY && o.optim.kind == GT_SGD);
    assert_true(o.optim.lr == 0.1f && o.optim.momentum == 0.9f);
    assert_true(o.epochs == 10 && o.batch == 64 && o.seed == 1);
    assert_string_equal(o.codec, "none");
    assert_string_equal(o.transport, "auto");
}

static void
values_are_taken(void **state)
{
    gt_options o;

    (void)state;
    assert_int_equal(PARSE(&o, "--hidden", "3,4,5", "--lr=0.5", "--optimizer",
                           "nesterov", "--update", "shard", "--partition",
                           "contiguous", "--normalize", "none", "--workers",
                           "3", "--mode", "sync", "--device", "cpu"),
                     GT_ACTION_TRAIN);
    assert_true(o.hidden_count == 3 && o.hidden[2] == 5);
    assert_true(o.optim.lr == 0.5f && o.optim.kind == GT_NESTEROV);
    assert_true(o.update == GT_UPDATE_SHARD && o.partition == GT_CONTIGUOUS);
    assert_true(o.workers == 3 && o.placed);
    assert_int_equal(PARSE(&o, "--hidden", "none"), GT_ACTION_TRAIN);
    assert_int_equal(o.hidden_count, 0);
}

static void
wrong_usage_is_told(void **state)
{
    static const struct {
        const char *option, *value, *text;
    } cases[] = {
        {"--epocs", "3", "did you mean --epochs?"},
        {"--hiden=3", NULL, "did you mean --hidden?"},
        {"--xyzzyx", NULL, "--help lists all"},
        {"-q", NULL, "unknown option '-q'"},
        {"--lr", NULL, "'--lr' needs a value"},
        {"--resume=1", NULL, "takes no value"},
        {"digits", NULL, "'digits' is no option"},
        {"--lr", "fast", "--lr 'fast': it takes a number"},
        {"--lr", "nan", "--lr 'nan'"},
        {"--lr", "-1", "--lr '-1'"},
        {"--batch", "0", "from 1 to"},
        {"--batch", "99999999999999999999", "--batch '9999"},
        {"--workers", "two", "--workers 'two'"},
        {"--hidden", "128,", "--hidden '128,'"},
        {"--hidden", "0", "--hidden '0'"},
        {"--hidden", "99999999", "--hidden '99999999'"},
        {"--loss", "l1", "it takes: ce, mse"},
        {"--optimizer", "kfac", "it takes: sgd, momentum, nesterov, adagrad"},
        {"--mode", "ssp:x", "--mode: mode 'ssp:x': character 5"},
        {"--mode", "sync:3", "--mode: mode 'sync:3'"},
        {"--mode", "asinc", "did you mean 'async'"},
        {"--slow", "1", "a rank and a factor from 1 to 1000"},
        {"--slow", "1:0.5", "a rank and a factor from 1 to 1000"},
        {"--slow", "x:2", "a rank and a factor from 1 to 1000"},
        {"--parallel", "tensr", "it takes data, tensor=T"},
        {"--parallel", "tensor=2,pipeline=2", "do not go together"},
        {"--parallel", "tensor=2,tensor=4", "it takes data, tensor=T"},
        {"--parallel", "pipeline=4", "the network has 3 layers"},
        {"--outer", "mean", "--outer is of --mode local:H"},
        {"--device", "cuda:", "--device 'cuda:': it takes: auto, cpu, cuda"},
        {"--precision", "bf16", "--precision bf16 needs --device cuda"},
        {"--precision", "fp64", "it takes: fp32, tf32, bf16"},
        {"--deterministic", "maybe", "it takes: on, off"},
        {"--codec", "q8+nosuch", "--codec: pipeline, character 4"},
        {"--pull-codec", "q8+nosuch", "--pull-codec: pipeline, character 4"},
        {"--pull-codec", "auto", "auto and alternatives"},
        {"--pull-codec", "none|q8", "--pull-codec none|q8: results have one"},
        {"--device", "tpu", "it takes: auto, cpu"},
        {"--shard-device", "tpu", "--shard-device 'tpu': it takes: cpu, auto"},
        {"--resume", NULL, "--resume needs --checkpoint"},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        const char *words[] = {cases[i].option, cases[i].value};
        gt_options untouched = {.batch = 77};

        assert_int_equal(parse(words, cases[i].value ? 2 : 1, &untouched),
                         GT_ACTION_USAGE);
        assert_int_equal(untouched.batch, 77);
        if (!strstr(gt_last_error(), cases[i].text))
            fail_msg("'%s' is not in '%s'", cases[i].text, gt_last_error());
    }
}

static void
options_that_do_not_go_together(void **state)
{
    gt_options o;

    (void)state;
    assert_int_equal(
        PARSE(&o, "--workers", "1", "--shards", "0", "--codec", "q8"),
        GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--shards 1"));
    assert_int_equal(
        PARSE(&o, "--workers", "1", "--shards", "0", "--update", "shard"),
        GT_ACTION_USAGE);
    assert_int_equal(
        PARSE(&o, "--workers", "1", "--shards", "0", "--optimizer", "adam"),
        GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "give --shards 1 or more"));
    assert_int_equal(
        PARSE(&o, "--update", "worker", "--optimizer", "adamw:warmup=3"),
        GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--optimizer adamw:warmup=3 runs "
                                            "on shards: give --update shard"));
    assert_int_equal(PARSE(&o, "--optimizer", "sgd:cosine=9"), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "give --update shard"));
}

static void
assert_updater(const gt_options *o, const char *text)
{
    char has[512];

    assert_true(gt_options_updater(o, has, sizeof(has)) > 0);
    assert_string_equal(has, text);
}

/* What the shards are told. */
static void
optimizers_become_updaters(void **state)
{
    gt_options o;

    (void)state;
    PARSE(&o, "--optimizer", "momentum");
    assert_updater(&o, "mean");
    PARSE(&o, "--optimizer", "adam");
    assert_int_equal(o.update, GT_UPDATE_SHARD);
    assert_updater(&o, "adam:lr=0.001,weight_decay=0");
    PARSE(&o, "--optimizer", "adamw:warmup=3,cosine=50", "--lr", "0.3");
    assert_updater(&o, "adamw:lr=0.3,weight_decay=0.01,warmup=3,cosine=50");
    PARSE(&o, "--optimizer", "rmsprop", "--weight-decay", "1e-4");
    assert_updater(&o, "rmsprop:lr=0.01,weight_decay=0.0001");
    PARSE(&o, "--update", "shard", "--optimizer", "sgd:step_size=7");
    assert_updater(&o, "sgd:lr=0.1,weight_decay=0,momentum=0,nesterov=0,"
                       "step_size=7");
    PARSE(&o, "--update", "shard", "--optimizer", "nesterov");
    assert_updater(&o, "sgd:lr=0.1,weight_decay=0,momentum=0.9,nesterov=1");
    assert_int_equal(gt_options_updater(&o, (char[8]){0}, 8), -1);
    assert_int_equal(PARSE(&o, "--optimizer", "adan"), GT_ACTION_USAGE);
    assert_int_equal(PARSE(&o, "--optimizer", "adam:beta3=1"), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "did you mean 'beta1'?"));
}

/* --- roles --- */

static const char *const *environment;

static const char *
lookup(const char *name)
{
    for (const char *const *e = environment; *e; e += 2)
        if (strcmp(e[0], name) == 0)
            return e[1];
    return NULL;
}

static gt_role
role(const gt_options *o, const char *const *variables)
{
    environment = variables;
    return gt_role_of(o, lookup);
}

static void
launchers_are_noticed(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const own[] = {"GRADPUSH_RANK", "0", NULL};
    static const char *const torchrun[] = {"RANK", "0", "WORLD_SIZE", "2",
                                           NULL};
    static const char *const half[] = {"RANK", "0", NULL};
    static const char *const batch[] = {
        "SLURM_JOB_ID", "1", "SLURM_NTASKS", "2", "SLURM_PROCID", "0", NULL};
    static const char *const step[] = {"SLURM_JOB_ID",
                                       "1",
                                       "SLURM_NTASKS",
                                       "2",
                                       "SLURM_PROCID",
                                       "0",
                                       "SLURM_LOCALID",
                                       "0",
                                       "SLURM_STEP_NODELIST",
                                       "a",
                                       NULL};
    gt_options plain, placed, alone;

    (void)state;
    parse(NULL, 0, &plain);
    PARSE(&placed, "--workers", "2");
    PARSE(&alone, "--workers", "1", "--shards", "0");
    assert_int_equal(role(&plain, none), GT_ROLE_LAUNCH);
    assert_int_equal(role(&alone, none), GT_ROLE_LOCAL);
    assert_int_equal(role(&plain, own), GT_ROLE_WORKER);
    assert_int_equal(role(&placed, own), GT_ROLE_WORKER);
    assert_int_equal(role(&plain, torchrun), GT_ROLE_WORKER);
    assert_int_equal(role(&placed, torchrun), GT_ROLE_LAUNCH);
    assert_int_equal(role(&plain, half), GT_ROLE_LAUNCH);
    assert_int_equal(role(&plain, batch), GT_ROLE_LAUNCH);
    assert_int_equal(role(&plain, step), GT_ROLE_WORKER);
}

static void
local_ranks_are_those_of_the_launcher(void **state)
{
    static const char *const own[] = {"GRADPUSH_LOCAL_RANK", "3", "LOCAL_RANK",
                                      "1", NULL};
    static const char *const torchrun[] = {"LOCAL_RANK", "1", NULL};
    static const char *const slurm[] = {"GRADPUSH_LOCAL_RANK", "",
                                        "SLURM_LOCALID", "2", NULL};
    static const char *const none[] = {NULL};

    (void)state;
    environment = own;
    assert_int_equal(gt_local_rank(lookup), 3);
    environment = torchrun;
    assert_int_equal(gt_local_rank(lookup), 1);
    environment = slurm;
    assert_int_equal(gt_local_rank(lookup), 2);
    environment = none;
    assert_int_equal(gt_local_rank(lookup), 0);
}

/* --- devices --- */

static void
devices_are_taken(void **state)
{
    gt_options o;

    (void)state;
    assert_int_equal(PARSE(&o, "--device", "cuda:3", "--precision", "bf16",
                           "--deterministic", "off"),
                     GT_ACTION_TRAIN);
    assert_true(o.cuda && o.precision == GT_BF16 && !o.deterministic);
    assert_string_equal(o.device, "cuda:3");
    assert_int_equal(PARSE(&o, "--shard-device", "cuda:0,cuda:1"),
                     GT_ACTION_TRAIN);
    assert_string_equal(o.shard_device, "cuda:0,cuda:1");
    assert_int_equal(
        PARSE(&o, "--workers", "1", "--shards", "0", "--shard-device", "cuda"),
        GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--shard-device: there are no"));
    assert_int_equal(parse(NULL, 0, &o), GT_ACTION_TRAIN);
    assert_true(!o.cuda && o.precision == GT_FP32 && o.deterministic);
    assert_int_equal(PARSE(&o, "--device", "cuda", "--mode", "local:2"),
                     GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--device cuda does not go with"));
}

/* --- JSON --- */

static void
report_has_the_documented_keys(void **state)
{
    static const char *const keys[] = {"\"schema\": \"gradpush.train/1\"",
                                       "\"config\": {",
                                       "\"environment\": {",
                                       "\"epochs\": [",
                                       "\"epoch\": 1",
                                       "\"train_loss\": ",
                                       "\"test_loss\": ",
                                       "\"test_accuracy\": ",
                                       "\"seconds\": ",
                                       "\"final\": {",
                                       "\"steps\": 22",
                                       "\"samples_per_second\": ",
                                       "\"bytes_pushed\": 0",
                                       "\"bytes_pulled\": 0",
                                       "\"dense_bytes\": 0",
                                       "\"params_sha256\": \"",
                                       "\"lr\": 0.1,",
                                       "\"weight_decay\": 0.0"};
    char path[] = "/tmp/gt-report-XXXXXX", text[16384];
    gt_options o;
    gt_trainer t;
    FILE *file;
    size_t n;

    (void)state;
    assert_true(close(mkstemp(path)) == 0);
    PARSE(&o, "--workers", "1", "--shards", "0", "--epochs", "1");
    assert_int_equal(gt_trainer_create(&o, false, &t), GP_OK);
    assert_int_equal(gt_trainer_run(&t, NULL), GP_OK);
    assert_int_equal(gt_report_json(path, &t), GP_OK);
    assert_int_equal(gt_report_json("/dev/full", &t), GP_ERR_SYSTEM);
    assert_non_null(strstr(gt_last_error(), "No space left"));
    assert_int_equal(gt_report_json("/no/such/folder/x", &t), GP_ERR_SYSTEM);
    gt_trainer_free(&t);
    file = fopen(path, "re");
    assert_non_null(file);
    n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    fclose(file);
    unlink(path);
    for (size_t i = 0; i < GT_COUNT_OF(keys); i++)
        if (!strstr(text, keys[i]))
            fail_msg("no %s in the report:\n%s", keys[i], text);
}

/* --- TensorBoard --- */

/* Records that TensorBoard's own reader accepted. */
static void
event_records_have_known_bytes(void **state)
{
    static const uint8_t first[] = {
        0x18, 0,    0,    0,    0,    0,    0,    0,    0xa3, 0x7f,
        0x4b, 0x22, 0x09, 0,    0,    0,    0,    0,    0,    0xf8,
        0x3f, 0x1a, 0x0d, 0x62, 0x72, 0x61, 0x69, 0x6e, 0x2e, 0x45,
        0x76, 0x65, 0x6e, 0x74, 0x3a, 0x32, 0x2a, 0x28, 0x64, 0x6c};
    static const uint8_t second[] = {
        0x1a, 0,    0,    0,    0,    0,    0,    0,    0x12, 0x9b, 0xd8,
        0x2d, 0x09, 0,    0,    0,    0,    0,    0,    0x04, 0x40, 0x10,
        0x07, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04, 0x6c, 0x6f, 0x73, 0x73,
        0x15, 0,    0,    0x80, 0x3e, 0xa8, 0x84, 0xb9, 0x89};
    gt_scalar loss = {"loss", 0.25};
    uint8_t out[64];

    (void)state;
    assert_int_equal(gt_events_record(1.5, 0, NULL, 0, out, sizeof(out)),
                     sizeof(first));
    assert_memory_equal(out, first, sizeof(first));
    assert_int_equal(gt_events_record(2.5, 7, &loss, 1, out, sizeof(out)),
                     sizeof(second));
    assert_memory_equal(out, second, sizeof(second));
    assert_int_equal(gt_events_record(2.5, 7, &loss, 1, out, 20), 0);
}

/* What a mode asks of the other options. */
static void
modes_choose_where_updates_are(void **state)
{
    static const struct {
        const char *mode, *option, *value, *says; /* NULL: nothing is wrong */
        gt_mode kind;
        gt_update update;
    } cases[] = {
        {"sync", NULL, NULL, NULL, GT_MODE_SYNC, GT_UPDATE_WORKER},
        {"async", NULL, NULL, NULL, GT_MODE_FREE, GT_UPDATE_SHARD},
        {"ssp:2", "--optimizer", "adam", NULL, GT_MODE_FREE, GT_UPDATE_SHARD},
        {"sync:N-1", NULL, NULL, NULL, GT_MODE_BACKUPS, GT_UPDATE_SHARD},
        {"local:4", "--outer", "mean", NULL, GT_MODE_LOCAL, GT_UPDATE_WORKER},
        {"async", "--update", "worker", "leave --update worker out", 0, 0},
        {"local:4", "--update", "shard", "leave --update out", 0, 0},
        {"local:4", "--optimizer", "adam", "others run on shards", 0, 0},
        {"local:4", "--outer", "sum", "use mean or sgd:lr=1", 0, 0},
        {"local:4", "--outer", "sgd:x", "--outer: updater", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        const char *words[] = {"gradpush-train", "--mode", cases[i].mode,
                               cases[i].option, cases[i].value};
        int count = cases[i].option ? 5 : 3;
        gt_options o = {0};
        gt_action action = gt_options_parse(count, (char **)words, &o);

        if (cases[i].says) {
            assert_int_equal(action, GT_ACTION_USAGE);
            assert_non_null(strstr(gt_last_error(), cases[i].says));
            continue;
        }
        assert_int_equal(action, GT_ACTION_TRAIN);
        assert_int_equal(o.mode_kind, cases[i].kind);
        assert_int_equal(o.update, cases[i].update);
    }
}

static void
workers_that_come_and_go(void **state)
{
    static const struct {
        const char *option, *value, *says;
    } cases[] = {
        {"--mode", "allreduce", "--mode allreduce: a ring of workers"},
        {"--parallel", "tensor=2", "--parallel tensor"},
        {"--dump-gradients", "folder", "--dump-gradients"},
        {"--partition", "contiguous", "--partition contiguous"},
        {"--shards", "0", "--shards 0"},
        {"--workers", "1", "fewer --workers"},
        {"--max-workers", "1", "fewer --max-workers"},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        const char *words[] = {"gradpush-train", "--min-workers", "2",
                               cases[i].option, cases[i].value};
        gt_options o = {0};

        assert_int_equal(gt_options_parse(5, (char **)words, &o),
                         GT_ACTION_USAGE);
        assert_non_null(strstr(gt_last_error(), cases[i].says));
        assert_int_equal(gt_options_parse(3, (char **)words, &o),
                         GT_ACTION_TRAIN);
        assert_int_equal(o.min_workers, 2);
        assert_int_equal(o.max_workers, 0);
        assert_int_equal(o.update, GT_UPDATE_SHARD);
    }
    {
        const char *words[] = {"gradpush-train", "--min-workers", "2",
                               "--update", "worker"};
        gt_options o = {0};

        assert_int_equal(gt_options_parse(5, (char **)words, &o),
                         GT_ACTION_TRAIN);
        assert_int_equal(o.update, GT_UPDATE_WORKER);
    }
}

static void
workers_that_are_not_there(void **state)
{
    char *slow[] = {"gradpush-train", "--workers", "2", "--slow", "2:3"};
    char *most[] = {"gradpush-train", "--workers", "2", "--min-workers", "1",
                    "--max-workers",  "3"};
    gt_options o = {0};

    (void)state;
    assert_int_equal(gt_options_parse(5, slow, &o), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "the last of 2 --workers is 1"));
    slow[4] = "1:3";
    assert_int_equal(gt_options_parse(5, slow, &o), GT_ACTION_TRAIN);
    assert_int_equal(gt_options_parse(7, most, &o), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "more --max-workers"));
    most[6] = "2";
    assert_int_equal(gt_options_parse(7, most, &o), GT_ACTION_TRAIN);
}

static void
a_launcher_says_how_many_there_are(void **state)
{
    char *words[] = {"gradpush-train", "--mode", "sync:N-2"};
    gt_options o = {0};

    (void)state;
    setenv("GRADPUSH_RANK", "0", 1);
    setenv("GRADPUSH_SIZE", "2", 1);
    assert_int_equal(gt_options_parse(3, words, &o), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "no push of 2 is left"));
    setenv("GRADPUSH_SIZE", "3", 1);
    assert_int_equal(gt_options_parse(3, words, &o), GT_ACTION_TRAIN);
    unsetenv("GRADPUSH_SIZE");
    assert_int_equal(gt_options_parse(3, words, &o), GT_ACTION_TRAIN);
    unsetenv("GRADPUSH_RANK");
}

/* What a job would find out later, each with what to change. */
static void
jobs_that_cannot_be(void **state)
{
    static const struct {
        const char *words[7];
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {{"--workers", "3", "--mode", "sync:N-9"}, "no push of 3 is left"},
        {{"--workers", "3", "--mode", "sync:N-3"}, "give more --workers"},
        {{"--workers", "3", "--mode", "sync:N-2"}, NULL},
        {{"--mode", "sync:N-2"}, "no push of 2 is left"},
        {{"--transport", "tpc"},
         "--transport 'tpc': no such transport in this "
         "build; did you mean 'tcp'?"},
        {{"--transport", "carrierpigeon"}, "gradpush info --transports"},
        {{"--transport", "tcp"}, NULL},
        {{"--mode", "async", "--codec", "intsum"}, "change --mode"},
        {{"--mode", "async", "--codec", "ef21+topk:0.1"}, "'ef21+topk"},
        {{"--mode", "ssp:2", "--optimizer", "lamb"}, "the updater lamb"},
        {{"--mode", "sync", "--optimizer", "lamb"}, NULL},
        {{"--mode", "allreduce", "--codec", "powersgd:2"}, "not for groups"},
        {{"--mode", "allreduce", "--codec", "q8"}, NULL},
        {{"--min-workers", "1", "--optimizer", "lamb"}, "--min-workers: "},
        {{"--min-workers", "1", "--codec", "ef21"}, "in all steps"},
        {{"--min-workers", "1", "--optimizer", "adam"}, NULL},
        {{"--slow", "2:3"}, "the last of 2 --workers is 1"},
        {{"--workers", "1", "--shards", "0", "--slow", "1:3"}, "the last of 1"},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        gt_options o = {0};
        size_t count = 0;

        while (cases[i].words[count])
            count++;
        assert_int_equal(parse(cases[i].words, count, &o),
                         cases[i].says ? GT_ACTION_USAGE : GT_ACTION_TRAIN);
        if (cases[i].says)
            assert_non_null(strstr(gt_last_error(), cases[i].says));
    }
}

/* Under a launcher it is not known how many there are. */
static void
a_launcher_knows_how_many(void **state)
{
    gt_options o = {0};

    (void)state;
    setenv("GRADPUSH_RANK", "0", 1);
    assert_int_equal(PARSE(&o, "--mode", "sync:N-9", "--slow", "7:2"),
                     GT_ACTION_TRAIN);
    unsetenv("GRADPUSH_RANK");
    assert_int_equal(PARSE(&o, "--mode", "sync:N-9"), GT_ACTION_USAGE);
}

/* What the launcher says holds, and is not contradicted in silence. */
static void
workers_of_a_launcher(void **state)
{
    gt_options o = {0};

    (void)state;
    setenv("GRADPUSH_RANK", "0", 1);
    setenv("GRADPUSH_SIZE", "3", 1);
    assert_int_equal(PARSE(&o, "--workers", "2"), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--workers 2"));
    assert_non_null(strstr(gt_last_error(), "a job of 3"));
    assert_int_equal(PARSE(&o, "--workers", "3"), GT_ACTION_TRAIN);
    assert_int_equal(PARSE(&o, "--epochs", "1"), GT_ACTION_TRAIN);
    /* --shards says nothing about workers. */
    assert_int_equal(PARSE(&o, "--shards", "1", "--slow", "2:2"),
                     GT_ACTION_TRAIN);
    assert_int_equal(PARSE(&o, "--shards", "1", "--slow", "3:2"),
                     GT_ACTION_USAGE);
    unsetenv("GRADPUSH_SIZE");
    assert_int_equal(PARSE(&o, "--workers", "2"), GT_ACTION_TRAIN);
    unsetenv("GRADPUSH_RANK");
    assert_int_equal(PARSE(&o, "--workers", "2"), GT_ACTION_TRAIN);
}

/* What cannot be written is said before the training. */
static void
outputs_without_a_place(void **state)
{
    static const struct {
        const char *json, *folder;
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {"-", NULL, NULL},
        {"/tmp/not-there.json", "/tmp/not-there", NULL},
        {NULL, "/tmp", NULL},
        {"/not-there/report.json", NULL, "--json /not-there/report.json"},
        {"/tmp", NULL, "Is a directory"},
        {"", NULL, "No such file"},
        {NULL, "/not-there/folder", "--checkpoint /not-there/folder"},
        {NULL, "/dev/null", "Not a directory"},
        {NULL, "/dev/null/folder", "Not a directory"},
    };

    (void)state;
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        gt_options o = {.json = cases[i].json, .checkpoint = cases[i].folder};
        gp_status status = gt_outputs_check(&o);

        assert_int_equal(status, cases[i].says ? GP_ERR_SYSTEM : GP_OK);
        if (cases[i].says)
            assert_non_null(strstr(gt_last_error(), cases[i].says));
    }
}

static size_t
count_files(const char *folder)
{
    DIR *d = opendir(folder);
    size_t count = 0;

    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

/* Not even root can make files here, whatever the permissions say. */
static void
outputs_that_only_look_possible(void **state)
{
    gt_options o = {.checkpoint = "/proc/self"};

    (void)state;
    assert_int_equal(gt_outputs_check(&o), GP_ERR_SYSTEM);
    assert_non_null(strstr(gt_last_error(), "cannot write --checkpoint /proc"));
    o.checkpoint = "/proc/gradpush";
    assert_int_equal(gt_outputs_check(&o), GP_ERR_SYSTEM);
    o = (gt_options){.json = "/proc/self/report.json"};
    assert_int_equal(gt_outputs_check(&o), GP_ERR_SYSTEM);
    assert_non_null(strstr(gt_last_error(), "cannot write --json /proc"));
    o = (gt_options){.json = "/dev/null"};
    assert_int_equal(gt_outputs_check(&o), GP_OK);
}

/* A look leaves neither files nor folders, nor changes what is there. */
static void
outputs_are_left_alone(void **state)
{
    char folder[] = "/tmp/gradpush-test-XXXXXX", made[64], file[64];
    gt_options o = {.checkpoint = made, .logdir = folder, .json = file};
    struct stat s;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(made, sizeof(made), "%s/new", folder);
    snprintf(file, sizeof(file), "%s/report", folder);
    assert_int_equal(gt_outputs_check(&o), GP_OK);
    assert_int_equal(count_files(folder), 2);
    f = fopen(file, "w");
    assert_non_null(f);
    assert_int_equal(fputs("before", f) >= 0 && fclose(f) == 0, 1);
    assert_int_equal(gt_outputs_check(&o), GP_OK);
    assert_int_equal(stat(file, &s), 0);
    assert_int_equal(s.st_size, 6);
    o.checkpoint = file;
    assert_int_equal(gt_outputs_check(&o), GP_ERR_SYSTEM);
    assert_non_null(strstr(gt_last_error(), "Not a directory"));
    assert_int_equal(count_files(folder), 3);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* Of local rounds the parameters must be on the shards. */
static void
modes_of_workers_that_come_and_go(void **state)
{
    static const struct {
        const char *mode;
        gt_update update;
        uint32_t period;
    } cases[] = {
        {"async", GT_UPDATE_SHARD, 1},
        {"ssp:4", GT_UPDATE_SHARD, 1},
        {"sync:N-1", GT_UPDATE_SHARD, 1},
        {"local:16", GT_UPDATE_WORKER, 16},
    };
    const char *words[] = {"gradpush-train", "--min-workers", "2",   "--mode",
                           "local:4",        "--outer",       "mean"};
    gt_options o = {0};

    (void)state;
    assert_int_equal(gt_options_parse(7, (char **)words, &o), GT_ACTION_USAGE);
    assert_non_null(strstr(gt_last_error(), "--outer mean"));
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        words[4] = cases[i].mode;
        assert_int_equal(gt_options_parse(5, (char **)words, &o),
                         GT_ACTION_TRAIN);
        assert_int_equal(o.update, cases[i].update);
        assert_int_equal(gt_options_period(&o), cases[i].period);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(values_are_taken),
        cmocka_unit_test(wrong_usage_is_told),
        cmocka_unit_test(options_that_do_not_go_together),
        cmocka_unit_test(optimizers_become_updaters),
        cmocka_unit_test(launchers_are_noticed),
        cmocka_unit_test(local_ranks_are_those_of_the_launcher),
        cmocka_unit_test(devices_are_taken),
        cmocka_unit_test(event_records_have_known_bytes),
        cmocka_unit_test(report_has_the_documented_keys),
        cmocka_unit_test(modes_choose_where_updates_are),
        cmocka_unit_test(workers_that_come_and_go),
        cmocka_unit_test(modes_of_workers_that_come_and_go),
        cmocka_unit_test(workers_that_are_not_there),
        cmocka_unit_test(a_launcher_says_how_many_there_are),
        cmocka_unit_test(jobs_that_cannot_be),
        cmocka_unit_test(a_launcher_knows_how_many),
        cmocka_unit_test(workers_of_a_launcher),
        cmocka_unit_test(outputs_without_a_place),
        cmocka_unit_test(outputs_that_only_look_possible),
        cmocka_unit_test(outputs_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
