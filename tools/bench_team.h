/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_team.h - starts the members of a benchmark on this machine.
 *
 * Members are processes, forked before the store's thread exists; or threads,
 * for a transport that stays within a process.
 */
#ifndef GP_BENCH_TEAM_H
#define GP_BENCH_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include <gradpush/transport.h>

#define GP_TEAM_MAX 512

typedef struct gp_team {
    bool threads;
    const char *netns; /* namespaces of the members in turn; NULL: this one */
    char token[65], job[32], store[GP_ADDRESS_MAX], listen[GP_ADDRESS_MAX];
    /* A member's part; says itself what went wrong. */
    gp_status (*run)(void *user, uint32_t number);
    void *user;
} gp_team;

/* Where members listen: on this host, or in their namespaces. An exit status;
 * GP_EXIT_NONE: go on. */
int gp_team_listen(gp_team *team, const gp_transport_ops *ops,
                   const char *transport);

/* A job and a token that nobody outside learns, when this build can prove
 * tokens. */
gp_status gp_team_token(gp_team *team);

/* Runs members 0 to count - 1; a failure ends the others. */
bool gp_team_run(gp_team *team, uint32_t count);

#endif
