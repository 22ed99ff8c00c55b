/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_crew.c - see bench_crew.h.
 */
#include "bench_crew.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include <gradpush/server.h>

#include "base/base.h"

bool
gp_crew_apply(gp_crew *crew, gp_bench *bench, int key, const char *value)
{
    switch (key) {
    case GP_CREW_WORKERS:
        return gp_parse_int("--workers", value, 1, 256, &crew->workers);
    case GP_CREW_SHARDS:
        return gp_parse_int("--shards", value, 0, 256, &crew->shards);
    case GP_CREW_COLOCATED:
        crew->colocated = true;
        return true;
    case GP_CREW_TRANSPORT:
        crew->transport = value;
        return true;
    case GP_CREW_NETNS:
        crew->team.netns = value;
        return true;
    default:
        return gp_bench_apply(bench, key, value);
    }
}

int
gp_crew_prepare(gp_crew *crew)
{
    if (crew->colocated && crew->shards > 0)
        return gp_say_usage("--colocated makes every worker host one shard: "
                            "leave out --shards %lld",
                            (long long)crew->shards);
    if (crew->shards == 0)
        crew->colocated = true;
    if (crew->colocated)
        crew->shards = 0;
    if (crew->shards < 0)
        crew->shards = crew->workers;
    crew->ops = gp_transport_find(crew->transport);
    if (!crew->ops)
        return gp_say_usage("'%s' is not a transport; see gradpush info "
                            "--transports",
                            crew->transport);
    return gp_team_listen(&crew->team, crew->ops, crew->transport);
}

void *
gp_crew_open(gp_crew *crew, size_t bytes)
{
    void *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (shared == MAP_FAILED) {
        gp_say("cannot prepare: %m");
        return NULL;
    }
    if (gp_team_token(&crew->team) != GP_OK) {
        gp_say("cannot prepare: %s", gp_last_error());
        munmap(shared, bytes);
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN);
    return shared;
}

static gp_status
set_number(gp_config *config, const char *name, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    return gp_config_set(config, name, text);
}

gp_status
gp_crew_config(const gp_crew *crew, int64_t rank, const char *const (*more)[2],
               size_t count, gp_config **out)
{
    bool local = crew->ops->caps & GP_CAP_LOCAL;
    const char *const texts[][2] = {
        {"store", crew->team.store},
        {"store_host", "off"},
        {"job", crew->team.job},
        {"token", crew->team.token},
        {"transport", crew->transport},
        {"listen", local ? "" : crew->team.listen},
        {"colocated", crew->colocated ? "on" : "off"}};
    gp_config *config = NULL;
    gp_status status = gp_config_create(&config);

    for (size_t i = 0; i < GP_COUNT_OF(texts) && status == GP_OK; i++)
        status = gp_config_set(config, texts[i][0], texts[i][1]);
    for (size_t i = 0; i < count && status == GP_OK; i++)
        status = gp_config_set(config, more[i][0], more[i][1]);
    if (status == GP_OK)
        status = set_number(config, "size", crew->workers);
    if (status == GP_OK)
        status = set_number(config, "shards",
                            crew->colocated ? crew->workers : crew->shards);
    if (status == GP_OK && rank >= 0)
        status = set_number(config, "rank", rank);
    if (status != GP_OK) {
        gp_config_destroy(config);
        return status;
    }
    *out = config;
    return GP_OK;
}

gp_status
gp_crew_shard(gp_config *config)
{
    gp_server *server = NULL;
    gp_status status = gp_server_create(config, &server);

    if (status == GP_OK)
        status = gp_server_wait(server, -1);
    gp_server_destroy(server);
    gp_config_destroy(config);
    return status;
}

bool
gp_crew_run(gp_crew *crew, gp_status (*run)(void *user, uint32_t number),
            void *user)
{
    crew->team.run = run;
    crew->team.user = user;
    return gp_team_run(&crew->team, (uint32_t)(crew->workers + crew->shards));
}

void
gp_crew_say(const gp_crew *crew, uint32_t number)
{
    bool shard = number < crew->shards;

    gp_say("%s %u: %s", shard ? "shard" : "worker",
           shard ? number : number - (uint32_t)crew->shards, gp_last_error());
}

void
gp_crew_document(const gp_crew *crew, gp_json *config)
{
    gp_json_int(config, "workers", crew->workers);
    gp_json_int(config, "shards",
                crew->colocated ? crew->workers : crew->shards);
    gp_json_bool(config, "colocated", crew->colocated);
    gp_json_text(config, "transport", crew->transport);
    if (crew->team.netns)
        gp_json_text(config, "netns", crew->team.netns);
}

double
gp_crew_time(const gp_crew *crew, const gp_crew_stamp *stamps, size_t row,
             uint32_t iteration)
{
    uint64_t start = 0, end = 0;

    for (size_t r = 0; r < (size_t)crew->workers; r++) {
        const gp_crew_stamp *stamp = &stamps[r * row + iteration];

        start = GP_MAX(start, stamp->start);
        end = GP_MAX(end, stamp->end);
    }
    return (double)(end - start) / 1e3;
}
