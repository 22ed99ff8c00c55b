/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.c - `gradpush doctor`: what is wrong with this machine, and the fix.
 *
 * Nothing is changed on the machine. Checks run in the order of the table; a
 * result is printed when all have run, so that it is the same as in the JSON
 * document.
 */
#include "doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "json.h"
#include "tool.h"

typedef struct doctor_options {
    const char *json;
    uint32_t only; /* bit i: group i; 0: all */
    bool verbose;
} doctor_options;

static const gp_option options[] = {
    {"only", 'o', "GROUP",
     "one group of checks; may be repeated. rdma: devices, libraries, modules, "
     "nodes, cgroup. ports: link, GIDs, addresses, MTU, PCI slot. limits: "
     "locked memory, files. loopback: a page through each port. counters: "
     "losses and congestion. gpu: GPUDirect. tcp, clock, host"},
    {"verbose", 'v', NULL, "also the values that were looked at"},
    {"json", 'j', "FILE", "write a JSON document; - is standard output"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush doctor",
    "[options]",
    "Examines this machine for RDMA, GPUDirect and TCP: every check is ok, "
    "warn, fail, or skip with the reason, and has the exact fix. Nothing is "
    "changed. A machine without RDMA devices is sound unless "
    "GRADPUSH_TRANSPORT=verbs asks for them. The exit status is 1 when a check "
    "fails, else 0. Some checks see more as root.",
    "  gradpush doctor\n"
    "  gradpush doctor --only rdma --only loopback --verbose\n"
    "  gradpush doctor --json - | jq '.checks[] | select(.status == \"fail\")'",
    options,
    false,
};

static bool
apply_group(doctor_options *o, const char *value)
{
    const char *names[16], *near = NULL;
    size_t count = 0;

    for (; gp_doctor_groups[count].name; count++) {
        names[count] = gp_doctor_groups[count].name;
        if (!strcmp(value, names[count])) {
            o->only |= 1u << count;
            return true;
        }
    }
    if (gp_nearest(value, names, count, &near))
        gp_say("--only is '%s': did you mean '%s'?", value, near);
    else
        gp_say("--only is '%s': it takes rdma, ports, limits, loopback, "
               "counters, gpu, tcp, clock or host",
               value);
    return false;
}

static bool
apply(void *user, int key, const char *value)
{
    doctor_options *o = user;

    switch (key) {
    case 'o':
        return apply_group(o, value);
    case 'v':
        o->verbose = true;
        return true;
    default:
        o->json = value;
        return gp_json_available();
    }
}

/* The exit status: of writing, or of the checks. */
static int
report(const gp_doctor *doctor, const doctor_options *o)
{
    size_t counts[4];
    bool failed = gp_doctor_verdict(doctor, counts) == GP_CHECK_FAIL;
    gp_json *document;
    gp_status status;

    if (doctor->incomplete)
        gp_say("out of memory: results are missing");
    if (!o->json || strcmp(o->json, "-"))
        gp_doctor_print(doctor, o->verbose);
    if (!o->json)
        return failed ? GP_EXIT_FAILURE : GP_EXIT_OK;
    document = gp_json_create("gradpush.doctor/1");
    gp_json_environment(document);
    gp_doctor_json(doctor, document);
    status = gp_json_write(document, o->json);
    gp_json_destroy(document);
    if (status != GP_OK)
        gp_say("%s", gp_last_error());
    return status != GP_OK || failed ? GP_EXIT_FAILURE : GP_EXIT_OK;
}

int
gp_doctor_main(int argc, char **argv)
{
    doctor_options o = {NULL, 0, false};
    int rc = gp_options_parse(&usage, argc, argv, apply, &o);
    gp_config *config = NULL;
    gp_doctor *doctor;

    if (rc != GP_EXIT_NONE)
        return rc;
    doctor = malloc(sizeof(*doctor));
    if (!doctor || gp_config_create(&config) != GP_OK) {
        gp_say("%s", doctor ? gp_last_error() : "out of memory");
        free(doctor);
        return GP_EXIT_FAILURE;
    }
    gp_doctor_init(doctor, config);
    doctor->tries = true;
    gp_doctor_scan(doctor);
    for (size_t i = 0; gp_doctor_groups[i].name; i++)
        if (!o.only || (o.only & 1u << i))
            gp_doctor_groups[i].run(doctor);
    rc = report(doctor, &o);
    gp_doctor_free(doctor);
    free(doctor);
    gp_config_destroy(config);
    return rc;
}
