/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - what a run says about itself: a table for people, JSON for
 * programs.
 */
#ifndef GT_REPORT_H
#define GT_REPORT_H

#include <stdio.h>

#include "train.h"

/* The table: a line of settings, a line per epoch, a line of totals. */
void gt_report_head(FILE *out, const gt_trainer *trainer);
void gt_report_epoch(FILE *out, const gt_trainer *trainer,
                     const gt_epoch *epoch);
void gt_report_foot(FILE *out, const gt_trainer *trainer);

/* The document gradpush.train/1 into `path`, "-" is standard output. */
gp_status gt_report_json(const char *path, const gt_trainer *trainer);

/* Threads of the matrix library, where it can be told. */
void gt_blas_threads(uint32_t threads);

#endif
