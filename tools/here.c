/* SPDX-License-Identifier: Apache-2.0 */
/*
 * here.c - where processes of one machine listen for one another.
 */
#include "here.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "transports/verbs/verbs.h"

static gp_status
verbs_here(const gp_config *config, char *out, size_t capacity)
{
    gp_verbs_report *report;
    gp_status status = gp_verbs_report_create(config, NULL, NULL, &report);
    char host[128];

    if (status != GP_OK)
        return status;
    if (report->rails == 0) {
        status = gp_fail(GP_ERR_UNREACHABLE,
                         "verbs cannot be used here: %s; `gradpush doctor` "
                         "looks for the cause, "
                         "GRADPUSH_TRANSPORT=tcp does without",
                         report->missing[0] ? report->missing : report->why);
    } else {
        gp_verbs_address_text(&report->rail[0].address, host, sizeof(host));
        snprintf(out, capacity, strchr(host, ':') ? "[%s]:0" : "%s:0", host);
    }
    free(report);
    return status;
}

gp_status
gp_here(const gp_config *config, const char *transport, char *out,
        size_t capacity)
{
    if (transport && strcmp(transport, "verbs") == 0)
        return verbs_here(config, out, capacity);
    snprintf(out, capacity, "127.0.0.1:0");
    return GP_OK;
}
