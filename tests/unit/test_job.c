/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_job.c - every launcher's environment, traps included, as tables.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rendezvous/rendezvous.h"

/* "NAME=value" texts of the environment under test. */
static const char *const *environment;

static const char *
look_up(const char *name)
{
    size_t length = strlen(name);

    for (const char *const *e = environment; *e; e++)
        if (strncmp(*e, name, length) == 0 && (*e)[length] == '=')
            return *e + length + 1;
    return NULL;
}

/* Configuration fields come as "name=value" texts as well. */
static gp_status
detect(const char *const *fields, const char *const *env, gp_job *out)
{
    gp_config *config = NULL;
    gp_status status;

    environment = env;
    assert_int_equal(gp_config_create(&config), GP_OK);
    for (; *fields; fields++) {
        char name[32];
        const char *value = strchr(*fields, '=');

        snprintf(name, sizeof(name), "%.*s", (int)(value - *fields), *fields);
        assert_int_equal(gp_config_set(config, name, value + 1), GP_OK);
    }
    status = gp_job_detect(config, look_up, out);
    gp_config_destroy(config);
    return status;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NONE      ((const char *const[]){NULL})

/* sbatch leaves these to whatever runs below it. */
#define SBATCH                                                            \
    "SLURM_JOB_ID=4096", "SLURM_NTASKS=8", "SLURM_PROCID=0",              \
        "SLURM_LOCALID=0", "SLURM_NODEID=0", "SLURM_JOB_NODELIST=n[1-2]", \
        "SLURM_TASKS_PER_NODE=4(x2)"
/* srun adds these. */
#define STEP \
    "SLURM_STEP_NODELIST=n[01-02]", "SLURM_STEP_ID=3", "SLURM_STEP_NUM_TASKS=8"

#define TORCHRUN                                                             \
    "RANK=3", "WORLD_SIZE=4", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2",          \
        "MASTER_ADDR=head", "MASTER_PORT=29500", "TORCHELASTIC_RUN_ID=exp7", \
        "TORCHELASTIC_RESTART_COUNT=2"
#define OPEN_MPI                                                        \
    "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2",                 \
        "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=2", \
        "PMIX_NAMESPACE=1877475329", "PMIX_RANK=1"
#define DMLC                                                               \
    "DMLC_NUM_WORKER=2", "DMLC_NUM_SERVER=3", "DMLC_PS_ROOT_URI=10.0.0.9", \
        "DMLC_PS_ROOT_PORT=9091"

typedef struct row {
    const char *what;
    const char *const *fields, *const *env;
    const char *launcher;
    int64_t rank, size, local_rank, local_size, shards;
    uint64_t incarnation;
    const char *job;
    const char *store; /* "host:*": any port of the computed range */
    bool host;
} row;

static void
expect_store(const char *store, const char *want)
{
    size_t length = strlen(want);
    long port;

    if (length && want[length - 1] == '*') {
        assert_int_equal(strncmp(store, want, length - 1), 0);
        port = strtol(store + length - 1, NULL, 10);
        assert_in_range(port, 61440, 65535);
    } else {
        assert_string_equal(store, want);
    }
}

static void
expect_row(const row *r)
{
    gp_job job;

    print_message("           %s\n", r->what);
    if (detect(r->fields, r->env, &job) != GP_OK)
        fail_msg("%s: %s", r->what, gp_last_error());
    assert_string_equal(job.launcher, r->launcher);
    assert_int_equal(job.rank, r->rank);
    assert_int_equal(job.size, r->size);
    assert_int_equal(job.local_rank, r->local_rank);
    assert_int_equal(job.local_size, r->local_size);
    assert_int_equal(job.shards, r->shards);
    assert_int_equal(job.incarnation, r->incarnation);
    assert_string_equal(job.job, r->job);
    expect_store(job.store, r->store);
    assert_int_equal(job.host_store, r->host);
}

static void
test_launchers(void **state)
{
    const row table[] = {
        {"nothing set", NONE, NONE, "none", 0, 1, 0, 1, -1, 0, "gradpush",
         "127.0.0.1:0", true},
        {"torchrun", NONE, LIST(TORCHRUN), "torchrun", 3, 4, 1, 2, -1, 2,
         "gradpush/exp7", "head:29501", false},
        {"torchrun, rank 0", NONE,
         LIST("RANK=0", "WORLD_SIZE=4", "MASTER_ADDR=head",
              "MASTER_PORT=29500"),
         "torchrun", 0, 4, -1, -1, -1, 0, "gradpush", "head:29501", true},
        {"torchrun on the last port", NONE,
         LIST("RANK=0", "WORLD_SIZE=1", "MASTER_ADDR=::1", "MASTER_PORT=65535"),
         "torchrun", 0, 1, -1, -1, -1, 0, "gradpush", "[::1]:65534", true},
        {"open mpi on one host", NONE, LIST(OPEN_MPI), "open mpi", 1, 2, 1, 2,
         -1, 0, "gradpush/1877475329", "127.0.0.1:*", false},
        {"mpich on one host", NONE,
         LIST("PMI_RANK=0", "PMI_SIZE=2", "MPI_LOCALRANKID=0",
              "MPI_LOCALNRANKS=2"),
         "mpich", 0, 2, 0, 2, -1, 0, "gradpush", "127.0.0.1:*", true},
        {"srun", NONE,
         LIST("SLURM_JOB_ID=4097", "SLURM_NTASKS=8", "SLURM_PROCID=5",
              "SLURM_LOCALID=1", "SLURM_NODEID=1", "SLURM_RESTART_COUNT=1",
              "SLURM_STEP_TASKS_PER_NODE=4(x2)", STEP),
         "slurm", 5, 8, 1, 4, -1, 1, "gradpush/4097.3", "n01:61441", false},
        {"dmlc worker", NONE,
         LIST(DMLC, "DMLC_ROLE=worker", "DMLC_WORKER_ID=1",
              "BYTEPS_LOCAL_RANK=0", "BYTEPS_LOCAL_SIZE=1"),
         "dmlc", 1, 2, 0, 1, 3, 0, "gradpush", "10.0.0.9:9091", false},
        {"dmlc worker 0 leaves the store to the scheduler", NONE,
         LIST(DMLC, "DMLC_ROLE=worker", "DMLC_RANK=0"), "dmlc", 0, 2, -1, -1, 3,
         0, "gradpush", "10.0.0.9:9091", false},
        {"dmlc worker without a number", NONE, LIST(DMLC, "DMLC_ROLE=worker"),
         "dmlc", -1, 2, -1, -1, 3, 0, "gradpush", "10.0.0.9:9091", false},
        {"dmlc server", NONE, LIST(DMLC, "DMLC_ROLE=server"), "dmlc", -1, 2, -1,
         -1, 3, 0, "gradpush", "10.0.0.9:9091", false},
        {"dmlc scheduler", NONE, LIST(DMLC, "DMLC_ROLE=scheduler"), "dmlc", -1,
         2, -1, -1, 3, 0, "gradpush", "10.0.0.9:9091", true},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        expect_row(&table[i]);
}

static void
test_traps(void **state)
{
    const row table[] = {
        {"sbatch, then mpirun", NONE, LIST(SBATCH, STEP, OPEN_MPI), "open mpi",
         1, 2, 1, 2, -1, 0, "gradpush/1877475329", "127.0.0.1:*", false},
        {"sbatch, then srun torchrun", NONE, LIST(SBATCH, STEP, TORCHRUN),
         "torchrun", 3, 4, 1, 2, -1, 2, "gradpush/exp7", "head:29501", false},
        {"sbatch, then Hydra bootstrapped by srun", NONE,
         LIST(SBATCH, STEP, "PMI_RANK=1", "PMI_SIZE=4", "MPI_LOCALRANKID=1",
              "MPI_LOCALNRANKS=4"),
         "mpich", 1, 4, 1, 4, -1, 0, "gradpush", "127.0.0.1:*", false},
        {"srun --mpi=pmi2", NONE,
         LIST(SBATCH, STEP, "PMI_RANK=0", "PMI_SIZE=8", "PMI_JOBID=4096.3"),
         "slurm", 0, 8, 0, 4, -1, 0, "gradpush/4096.3", "n01:61440", true},
        {"srun --mpi=pmix", NONE,
         LIST(SBATCH, STEP, "PMIX_RANK=0", "PMIX_NAMESPACE=slurm.pmix.4096.3"),
         "slurm", 0, 8, 0, 4, -1, 0, "gradpush/4096.3", "n01:61440", true},
        {"sbatch script without srun", NONE, LIST(SBATCH), "none", 0, 1, 0, 1,
         -1, 0, "gradpush", "127.0.0.1:0", true},
        {"SLURM_NTASKS alone", NONE, LIST("SLURM_NTASKS=8"), "none", 0, 1, 0, 1,
         -1, 0, "gradpush", "127.0.0.1:0", true},
        {"shell of one task in a larger allocation", NONE,
         LIST("SLURM_JOB_ID=9", "SLURM_NTASKS=8", "SLURM_PROCID=0",
              "SLURM_LOCALID=0", "SLURM_STEP_NODELIST=n1",
              "SLURM_STEP_NUM_TASKS=1", "SLURM_JOB_NAME=interactive"),
         "slurm", 0, 1, 0, -1, -1, 0, "gradpush/9.0", "127.0.0.1:0", true},
        {"RANK without WORLD_SIZE", NONE, LIST("RANK=3"), "none", 0, 1, 0, 1,
         -1, 0, "gradpush", "127.0.0.1:0", true},
        {"empty variables", NONE, LIST("RANK=", "WORLD_SIZE=", "DMLC_ROLE="),
         "none", 0, 1, 0, 1, -1, 0, "gradpush", "127.0.0.1:0", true},
        {"MASTER_ADDR of a shell under mpirun", NONE,
         LIST(OPEN_MPI, "MASTER_ADDR=x", "MASTER_PORT=1"), "open mpi", 1, 2, 1,
         2, -1, 0, "gradpush/1877475329", "127.0.0.1:*", false},
        {"Slurm task counts that cannot be read", NONE,
         LIST(STEP, "SLURM_JOB_ID=4096", "SLURM_NTASKS=8", "SLURM_PROCID=0",
              "SLURM_LOCALID=0", "SLURM_NODEID=1",
              "SLURM_STEP_TASKS_PER_NODE=4(y"),
         "slurm", 0, 8, 0, -1, -1, 0, "gradpush/4096.3", "n01:61440", true},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        expect_row(&table[i]);
}

static void
test_configuration_wins(void **state)
{
    const row table[] = {
        {"rank and size by hand under mpirun",
         LIST("rank=2", "size=3", "store=[::1]:7000", "store_host=off"),
         LIST(OPEN_MPI), "gradpush", 2, 3, -1, -1, -1, 0, "gradpush",
         "[::1]:7000", false},
        {"rank 0 by hand leaves the store to whoever was told",
         LIST("rank=0", "size=3", "store=a:7000"), NONE, "gradpush", 0, 3, -1,
         -1, -1, 0, "gradpush", "a:7000", true},
        {"rank 0 by hand, told to host",
         LIST("rank=0", "size=3", "store=a:7000", "store_host=on"), NONE,
         "gradpush", 0, 3, -1, -1, -1, 0, "gradpush", "a:7000", true},
        {"one worker by hand", LIST("rank=0", "size=1"), NONE, "gradpush", 0, 1,
         -1, -1, -1, 0, "gradpush", "127.0.0.1:0", true},
        {"a server list needs no store",
         LIST("rank=1", "size=2", "servers=a:1,b:2,c:3"), NONE, "gradpush", 1,
         2, -1, -1, 3, 0, "gradpush", "", false},
        {"one process and a server list", LIST("servers=a:1,b:2"), NONE, "none",
         0, 1, 0, 1, 2, 0, "gradpush", "", false},
        {"a store under torchrun", LIST("store=s:1234"), LIST(TORCHRUN),
         "torchrun", 3, 4, 1, 2, -1, 2, "gradpush/exp7", "s:1234", false},
        {"a job name is used as it is", LIST("job=mine"), LIST(TORCHRUN),
         "torchrun", 3, 4, 1, 2, -1, 2, "mine", "head:29501", false},
        {"incarnation and shards", LIST("incarnation=9", "shards=5"),
         LIST(TORCHRUN), "torchrun", 3, 4, 1, 2, 5, 9, "gradpush/exp7",
         "head:29501", false},
        {"shards over DMLC_NUM_SERVER", LIST("shards=5"),
         LIST(DMLC, "DMLC_ROLE=worker", "DMLC_WORKER_ID=1"), "dmlc", 1, 2, -1,
         -1, 5, 0, "gradpush", "10.0.0.9:9091", false},
        {"store_host=off under mpirun", LIST("store_host=off"),
         LIST("PMI_RANK=0", "PMI_SIZE=2", "MPI_LOCALNRANKS=2"), "mpich", 0, 2,
         -1, 2, -1, 0, "gradpush", "127.0.0.1:*", false},
        {"store_host=off alone", LIST("store_host=off"), NONE, "none", 0, 1, 0,
         1, -1, 0, "gradpush", "", false},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        expect_row(&table[i]);
}

static void
test_roles(void **state)
{
    gp_job job;

    (void)state;
    assert_int_equal(detect(NONE, LIST(DMLC, "DMLC_ROLE=server"), &job), 0);
    assert_true(job.is_server && !job.is_scheduler);
    assert_int_equal(detect(NONE, LIST(DMLC, "DMLC_ROLE=scheduler"), &job), 0);
    assert_true(!job.is_server && job.is_scheduler);
    assert_int_equal(
        detect(NONE, LIST(DMLC, "DMLC_ROLE=worker", "DMLC_RANK=1"), &job), 0);
    assert_true(!job.is_server && !job.is_scheduler);
}

/* Two jobs of one launcher on one host meet at different ports. */
static void
test_jobs_do_not_mix(void **state)
{
    gp_job a, b;

    (void)state;
    assert_int_equal(detect(NONE, LIST(OPEN_MPI), &a), GP_OK);
    assert_int_equal(
        detect(NONE,
               LIST("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2",
                    "OMPI_COMM_WORLD_LOCAL_SIZE=2", "PMIX_NAMESPACE=77"),
               &b),
        GP_OK);
    assert_string_not_equal(a.store, b.store);
    assert_string_not_equal(a.job, b.job);
    assert_int_equal(detect(LIST("job=same"), LIST(OPEN_MPI), &a), GP_OK);
    assert_int_equal(detect(LIST("job=other"), LIST(OPEN_MPI), &b), GP_OK);
    assert_string_not_equal(a.store, b.store);
}

/* A long launcher id is cut, but still tells jobs apart. */
static void
test_long_ids(void **state)
{
    char id[2][300];
    gp_job job[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        snprintf(id[i], sizeof(id[i]), "TORCHELASTIC_RUN_ID=%0200d", i);
        assert_int_equal(detect(NONE,
                                LIST("RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=a",
                                     "MASTER_PORT=1", id[i]),
                                &job[i]),
                         GP_OK);
        assert_true(strlen(job[i].job) < sizeof(job[i].job));
    }
    assert_string_not_equal(job[0].job, job[1].job);
}

static void
test_errors(void **state)
{
    const struct {
        const char *const *fields, *const *env;
        const char *first, *second;
    } table[] = {
        {LIST("rank=2"), NONE, "GRADPUSH_RANK", "GRADPUSH_SIZE"},
        {LIST("size=2"), LIST(OPEN_MPI), "GRADPUSH_SIZE", "GRADPUSH_RANK"},
        {LIST("rank=2", "size=2"), NONE, "GRADPUSH_RANK is 2",
         "GRADPUSH_SIZE is 2"},
        {NONE, LIST("RANK=4", "WORLD_SIZE=4"), "RANK is 4", "WORLD_SIZE is 4"},
        {NONE, LIST("RANK=-1", "WORLD_SIZE=4"), "RANK is '-1'", "whole number"},
        {NONE, LIST("RANK=0", "WORLD_SIZE=0"), "WORLD_SIZE is 0", "at least"},
        {NONE, LIST("RANK=0", "WORLD_SIZE=four"), "WORLD_SIZE", "'four'"},
        {NONE, LIST("RANK=0", "WORLD_SIZE=99999999999999999999"), "WORLD_SIZE",
         "1048576"},
        {NONE, LIST("OMPI_COMM_WORLD_RANK=9", "OMPI_COMM_WORLD_SIZE=9"),
         "OMPI_COMM_WORLD_RANK is 9", "OMPI_COMM_WORLD_SIZE is 9"},
        {NONE, LIST("PMI_RANK=x", "PMI_SIZE=1"), "PMI_RANK", "'x'"},
        {NONE,
         LIST(STEP, "SLURM_JOB_ID=1", "SLURM_NTASKS=8", "SLURM_PROCID=8",
              "SLURM_LOCALID=0"),
         "SLURM_PROCID is 8", "SLURM_STEP_NUM_TASKS is 8"},
        {NONE,
         LIST("SLURM_STEP_NODELIST=n[1", "SLURM_JOB_ID=1", "SLURM_NTASKS=8",
              "SLURM_PROCID=0", "SLURM_LOCALID=0"),
         "SLURM_STEP_NODELIST", "GRADPUSH_STORE"},
        {NONE, LIST(DMLC, "DMLC_ROLE=boss"), "DMLC_ROLE", "'boss'"},
        {NONE, LIST("DMLC_ROLE=worker"), "DMLC_NUM_WORKER", "not set"},
        {NONE,
         LIST("DMLC_ROLE=worker", "DMLC_NUM_WORKER=1", "DMLC_PS_ROOT_URI=a"),
         "DMLC_PS_ROOT_PORT", "not set"},
        {NONE,
         LIST("DMLC_ROLE=worker", "DMLC_NUM_WORKER=1", "DMLC_PS_ROOT_URI=a",
              "DMLC_PS_ROOT_PORT=0"),
         "DMLC_PS_ROOT_PORT", "is 0"},
        {NONE,
         LIST("DMLC_ROLE=worker", "DMLC_NUM_WORKER=1", "DMLC_PS_ROOT_PORT=1"),
         "DMLC_PS_ROOT_URI", "not"},
        {NONE, LIST(DMLC, "DMLC_ROLE=worker", "DMLC_WORKER_ID=2"),
         "DMLC_WORKER_ID is 2", "DMLC_NUM_WORKER is 2"},
        {NONE,
         LIST("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=4",
              "OMPI_COMM_WORLD_LOCAL_SIZE=2"),
         "GRADPUSH_STORE=host:port", "Open MPI"},
        {NONE, LIST("PMI_RANK=0", "PMI_SIZE=4"), "GRADPUSH_STORE=host:port",
         "MPICH"},
        {NONE, LIST("RANK=0", "WORLD_SIZE=4"), "GRADPUSH_STORE=host:port",
         "torchrun"},
        {NONE,
         LIST("RANK=0", "WORLD_SIZE=4", "MASTER_ADDR=a", "MASTER_PORT=http"),
         "MASTER_PORT", "'http'"},
        {LIST("rank=0", "size=2"), NONE, "GRADPUSH_STORE=host:port",
         "host of rank 0"},
        {LIST("store=nowhere"), NONE, "GRADPUSH_STORE is 'nowhere'",
         "host:port"},
        {LIST("store=a:0"), NONE, "GRADPUSH_STORE is 'a:0'", "host:port"},
        {LIST("rank=0", "size=2", "servers=a:1", "store_host=on"), NONE,
         "GRADPUSH_STORE_HOST", "GRADPUSH_STORE"},
        {NONE, LIST("PMIX_RANK=1", "PMIX_NAMESPACE=prterun-1"), "GRADPUSH_RANK",
         "GRADPUSH_SIZE"},
        {NONE,
         LIST("RANK=0", "WORLD_SIZE=1", "TORCHELASTIC_RESTART_COUNT=often"),
         "TORCHELASTIC_RESTART_COUNT", "'often'"},
    };
    gp_job job;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++) {
        memset(&job, 0x5a, sizeof(job));
        assert_int_equal(detect(table[i].fields, table[i].env, &job),
                         GP_ERR_CONFIG);
        if (!strstr(gp_last_error(), table[i].first) ||
            !strstr(gp_last_error(), table[i].second))
            fail_msg("row %zu: %s", i, gp_last_error());
        assert_int_equal(job.rank, 0x5a5a5a5a5a5a5a5a);
    }
}

/* With no table of our own, the process's environment is read. */
static void
test_process_environment(void **state)
{
    gp_config *config = NULL;
    gp_job job;

    (void)state;
    setenv("RANK", "6", 1);
    setenv("WORLD_SIZE", "7", 1);
    setenv("MASTER_ADDR", "head", 1);
    setenv("MASTER_PORT", "100", 1);
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_job_detect(config, NULL, &job), GP_OK);
    assert_int_equal(job.rank, 6);
    assert_int_equal(job.size, 7);
    assert_string_equal(job.store, "head:101");
    gp_config_destroy(config);
    unsetenv("RANK");
    unsetenv("WORLD_SIZE");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_launchers),
        cmocka_unit_test(test_traps),
        cmocka_unit_test(test_configuration_wins),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_jobs_do_not_mix),
        cmocka_unit_test(test_long_ids),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_process_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
