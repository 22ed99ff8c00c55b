/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - gradpush-train: training of a perceptron by several workers.
 */
#include <stdio.h>
#include <string.h>

#include "data_find.h"
#include "launch.h"
#include "leave.h"
#include "outputs.h"
#include "report.h"

/* The last tells who starts workers anew that it would be in vain. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_WRONG_USAGE = 2, EXIT_LASTING = 78 };

/* Results go to standard output, unless the JSON document does. */
static FILE *
table_of(const gt_options *o)
{
    if (o->quiet)
        return NULL;
    return o->json && strcmp(o->json, "-") == 0 ? stderr : stdout;
}

static void
print_epoch(gt_trainer *t, const gt_epoch *epoch)
{
    FILE *table = table_of(t->options);

    if (table && t->rank == 0)
        gt_report_epoch(table, t, epoch);
}

static gp_status
train(gt_trainer *t)
{
    FILE *table = t->rank == 0 ? table_of(t->options) : NULL;
    gp_status status = t->rank == 0 ? gt_outputs_check(t->options) : GP_OK;

    if (status != GP_OK)
        return status;
    if (table)
        gt_report_head(table, t);
    status = gt_trainer_run(t, print_epoch);
    if (status != GP_OK || t->rank != 0 || t->left)
        return status;
    if (table)
        gt_report_foot(table, t);
    return t->options->json ? gt_report_json(t->options->json, t) : GP_OK;
}

static int
fail(const gt_trainer *t)
{
    if (t && t->comm)
        fprintf(stderr, "gradpush-train: rank %u: %s\n", t->rank,
                gt_last_error());
    else
        fprintf(stderr, "gradpush-train: %s\n", gt_last_error());
    return EXIT_FAILED;
}

/* Settings and files that are no better when a worker is started anew, as those
 * of elastic jobs are: a damaged checkpoint, or one of another network. */
static bool
is_lasting(const gt_options *options, gp_status status)
{
    return options->min_workers &&
           (status == GP_ERR_CONFIG || status == GP_ERR_CORRUPT ||
            status == GP_ERR_MISMATCH || status == GP_ERR_NOT_FOUND ||
            status == GP_ERR_UNSUPPORTED || status == GP_ERR_VERSION);
}

static int
work(const gt_options *options, bool distributed)
{
    gt_trainer trainer;
    int rc = EXIT_OK;
    bool left, lasting;
    gp_status status;

    status = gt_trainer_create(options, distributed, &trainer);
    lasting = is_lasting(options, status);
    if (status == GP_OK)
        status = train(&trainer);
    if (status != GP_OK && status != GP_AGAIN)
        rc = fail(&trainer);
    if (lasting)
        rc = EXIT_LASTING;
    left = status == GP_AGAIN || (status == GP_OK && trainer.left);
    gt_trainer_free(&trainer);
    if (left)
        gt_leave_end();
    return rc;
}

/* Help that could not be written, to a full disk say, is a failure. */
static int
flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_OK;
    perror("gradpush-train: standard output cannot be written");
    return EXIT_FAILED;
}

int
main(int argc, char **argv)
{
    gt_options options;
    gt_role role;

    switch (gt_options_parse(argc, argv, &options)) {
    case GT_ACTION_DONE:
        return flush();
    case GT_ACTION_USAGE:
        fprintf(stderr, "gradpush-train: %s\n", gt_last_error());
        return EXIT_WRONG_USAGE;
    case GT_ACTION_TRAIN:
        break;
    }
    role = gt_role_of(&options, NULL);
    if (role == GT_ROLE_LAUNCH && options.min_workers > options.workers) {
        fprintf(stderr,
                "gradpush-train: --min-workers %u is more than --workers, of "
                "which there are %u\n",
                options.min_workers, options.workers);
        return EXIT_WRONG_USAGE;
    }
    if (role == GT_ROLE_LAUNCH) {
        /* Said once here, rather than by every worker. */
        if (gt_parts_exist(options.data.path) == GP_OK &&
            gt_outputs_check(&options) == GP_OK &&
            (!options.cuda || gt_gpu_check(options.device) == GP_OK))
            gt_launch(&options, argc, argv);
        return fail(NULL);
    }
    gt_blas_threads(options.threads);
    return work(&options, role == GT_ROLE_WORKER);
}
