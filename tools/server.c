/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - `gradpush server`: parameter shards in a process of their own.
 *
 * Ends by itself when the last worker has left, or with SIGINT or SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/server.h>

#include "base/base.h"
#include "tool.h"

#define WAIT_SECONDS 0.1 /* between looks at the signal flag */

static volatile sig_atomic_t stopped;

typedef struct gp_server_options {
    gp_config *config;
    bool quiet, listen, device; /* were given */
} gp_server_options;

static const gp_option options[] = {
    {"shards", 's', "M", "shards to host in this process (default 1)"},
    {"listen", 'l', "HOST:PORT",
     "where to listen; port 0 or no port takes a free one; with several shards "
     "they take consecutive ports (default: all interfaces, any port)"},
    {"device", 'd', "DEVICE",
     "where the shards add and update: cpu, cuda, cuda:N, auto, cuda:all (they "
     "take turns) or a list such as cuda:0,cuda:2 (default: "
     "GRADPUSH_SHARD_DEVICE, else cpu)"},
    {"quiet", 'q', NULL, "print errors only, not the addresses"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush server",
    "[options]",
    "Hosts parameter shards until every worker of the job has joined and left. "
    "Who is in the job comes from GRADPUSH_SIZE, GRADPUSH_SHARDS and "
    "GRADPUSH_STORE or from the launcher; `gradpush info --config` lists all "
    "settings. Prints one line per shard: its index and its address.",
    "  GRADPUSH_SIZE=2 GRADPUSH_SHARDS=2 GRADPUSH_STORE=node1:4710 \\\n"
    "      gradpush server --shards 2 --listen 0.0.0.0:4711",
    options,
    false,
};

static bool
apply(void *user, int key, const char *value)
{
    gp_server_options *server = user;
    const char *name = key == 's'   ? "local_shards"
                       : key == 'd' ? "shard_device"
                                    : "listen";

    if (key == 'q') {
        server->quiet = true;
        return true;
    }
    server->listen |= key == 'l';
    server->device |= key == 'd';
    if (gp_config_set(server->config, name, value) == GP_OK)
        return true;
    gp_say("--%s: %s",
           key == 's'   ? "shards"
           : key == 'd' ? "device"
                        : "listen",
           gp_last_error());
    return false;
}

static void
stop(int number)
{
    (void)number;
    stopped = 1;
}

static void
catch_signals(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static gp_status
serve(const gp_server_options *chosen)
{
    gp_server *server = NULL;
    gp_status status = gp_server_create(chosen->config, &server);

    if (status != GP_OK)
        return status;
    for (uint32_t i = 0; i < gp_server_shards(server) && !chosen->quiet; i++)
        printf("%u %s\n", i, gp_server_address(server, i));
    fflush(stdout);
    do
        status = gp_server_wait(server, WAIT_SECONDS);
    while (status == GP_ERR_TIMEOUT && !stopped);
    gp_server_destroy(server);
    if (stopped && status == GP_ERR_TIMEOUT && !chosen->quiet)
        gp_say("ended by a signal");
    return stopped && status == GP_ERR_TIMEOUT ? GP_OK : status;
}

/* The library knows variables only, and here it was an option. */
static void
say_failure(const gp_server_options *chosen)
{
    static const char listen[] = "GRADPUSH_LISTEN";
    static const char device[] = "GRADPUSH_SHARD_DEVICE";
    const char *text = gp_last_error();

    if (chosen->listen && strncmp(text, listen, sizeof(listen) - 1) == 0)
        gp_say("--listen%s", text + sizeof(listen) - 1);
    else if (chosen->device && strncmp(text, device, sizeof(device) - 1) == 0)
        gp_say("--device%s", text + sizeof(device) - 1);
    else
        gp_say("%s", text);
}

int
gp_server_main(int argc, char **argv)
{
    gp_server_options server = {0};
    gp_status status = gp_config_create(&server.config);
    int rc = GP_EXIT_NONE;

    gp_say_as(usage.program);
    if (status == GP_OK)
        rc = gp_options_parse(&usage, argc, argv, apply, &server);
    if (status == GP_OK && rc == GP_EXIT_NONE) {
        catch_signals();
        status = serve(&server);
    }
    gp_config_destroy(server.config);
    if (status != GP_OK) {
        say_failure(&server);
        return GP_EXIT_FAILURE;
    }
    return rc == GP_EXIT_NONE ? GP_EXIT_OK : rc;
}
