/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_perftest.c - perftest's option spellings, mapped.
 */
#include "bench_perftest.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define DEFAULT_PORT 18515 /* perftest's */
#define ALL_MAXIMUM  ((uint64_t)8 << 20)

bool
gp_perftest_is_mine(int key)
{
    return key == GP_PERFTEST_GBITS || key == GP_PERFTEST_CLASS ||
           (key < 256 && strchr("dixsaDqIupRF", key));
}

static bool
set_field(gp_config *config, const char *option, const char *name,
          const char *value)
{
    if (gp_config_set(config, name, value) == GP_OK)
        return true;
    gp_say("%s: %s", option, gp_last_error());
    return false;
}

/* -q: what a second connection to the peer is called depends on the
 * transport. */
static bool
set_connections(gp_config *config, const char *value)
{
    return set_field(config, "--qp", "ib_qps", value) &&
           set_field(config, "--qp", "sockets", value);
}

static bool
apply_size(gp_bench *bench, const char *value)
{
    return gp_bench_apply(bench, 'b', value) &&
           gp_bench_apply(bench, 'e', value);
}

static bool
apply_all(gp_bench *bench)
{
    bench->minimum = 2;
    bench->maximum = ALL_MAXIMUM;
    bench->factor = 2;
    return true;
}

/* Options that set a field of verbs. */
static bool
apply_field(gp_perftest *p, gp_config *config, int key, const char *value)
{
    static const struct {
        int key;
        const char *option, *field;
        bool verbs;
    } fields[] = {
        {'x', "--gid-index", "ib_gid_index", true},
        {'I', "--inline_size", "ib_eager", false},
        {'u', "--qp-timeout", "ib_timeout", false},
        {GP_PERFTEST_CLASS, "--tclass", "ib_traffic_class", false},
    };

    for (size_t i = 0; i < GP_COUNT_OF(fields); i++) {
        if (key != fields[i].key)
            continue;
        p->verbs = p->verbs || fields[i].verbs;
        return set_field(config, fields[i].option, fields[i].field, value);
    }
    return true; /* -R, -F, --report_gbits */
}

bool
gp_perftest_apply(gp_perftest *p, gp_bench *bench, gp_config *config, int key,
                  const char *value)
{
    switch (key) {
    case 'd':
        p->verbs = true;
        p->device = value;
        return true;
    case 'i':
        return gp_parse_int("--ib-port", value, 1, 255, &p->ib_port);
    case 's':
        return apply_size(bench, value);
    case 'a':
        return apply_all(bench);
    case 'D':
        return gp_parse_seconds("--duration", value, 0.01, 86400, &p->seconds);
    case 'q':
        return set_connections(config, value);
    case 'p':
        return gp_parse_int("--port", value, 1, 65535, &p->port);
    default:
        return apply_field(p, config, key, value);
    }
}

/* A name or number becomes an address, unless it has a port already. */
static void
build_address(gp_perftest *p, const char *host)
{
    int port = p->port ? (int)p->port : DEFAULT_PORT;
    const char *colon = host ? strchr(host, ':') : NULL;
    bool v6 = colon && *host != '[' && strchr(colon + 1, ':');

    if (!host)
        snprintf(p->address, sizeof(p->address), ":%d", port);
    else if (v6)
        snprintf(p->address, sizeof(p->address), "[%s]:%d", host, port);
    else if (colon && (*host != '[' || strstr(host, "]:")))
        snprintf(p->address, sizeof(p->address), "%s", host);
    else
        snprintf(p->address, sizeof(p->address), "%s:%d", host, port);
}

int
gp_perftest_finish(gp_perftest *p, gp_config *config, const char *host,
                   const char **address)
{
    char filter[128];

    *address = NULL;
    if (p->ib_port && !p->device)
        return gp_say_usage("--ib-port needs --ib-dev");
    if (p->device) {
        if (p->ib_port)
            snprintf(filter, sizeof(filter), "=%.100s:%d", p->device,
                     (int)p->ib_port);
        else
            snprintf(filter, sizeof(filter), "=%.120s", p->device);
        if (!set_field(config, "--ib-dev", "ib_hca", filter))
            return GP_EXIT_USAGE;
    }
    if (host || p->port) {
        build_address(p, host);
        *address = p->address;
    }
    return GP_EXIT_NONE;
}
