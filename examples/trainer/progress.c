/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.c - a bar on the terminal, and on nothing else.
 *
 * Drawn at most ten times a second, so a step of microseconds stays one.
 */
#include "progress.h"

#include <string.h>
#include <unistd.h>

#define WIDTH  30
#define PERIOD 0.1

void
gt_progress_open(gt_progress_when when, gt_progress *out)
{
    *out = (gt_progress){0};
    if (when == GT_PROGRESS_OFF)
        return;
    if (isatty(STDERR_FILENO)) {
        out->terminal = stderr;
        return;
    }
    if (when == GT_PROGRESS_ON) {
        out->terminal = fopen("/dev/tty", "we");
        out->opened = out->terminal != NULL;
    }
}

bool
gt_progress_due(const gt_progress *p)
{
    return p->terminal && gt_now() >= p->next;
}

void
gt_progress_show(gt_progress *p, uint32_t epoch, uint32_t epochs, size_t step,
                 size_t steps, double loss)
{
    static const char bar[WIDTH + 1] = "##############################";
    double now;
    int filled;

    if (!p->terminal)
        return;
    now = gt_now();
    if (now < p->next)
        return;
    p->next = now + PERIOD;
    filled = (int)(step * WIDTH / steps);
    fprintf(p->terminal, "\repoch %u/%u [%.*s%*s] %zu/%zu loss %.4f ", epoch,
            epochs, filled, bar, WIDTH - filled, "", step, steps, loss);
    fflush(p->terminal);
}

void
gt_progress_clear(gt_progress *p)
{
    if (!p->terminal)
        return;
    fputs("\r\033[K", p->terminal);
    fflush(p->terminal);
    p->next = 0;
}

void
gt_progress_close(gt_progress *p)
{
    gt_progress_clear(p);
    if (p->opened)
        fclose(p->terminal);
    *p = (gt_progress){0};
}
