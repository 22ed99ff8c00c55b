/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_api.c - the table of RDMA calls: loaded whole or refused with the
 * fix, and one convention for results.
 *
 * Conventions are shown on a device that this file makes up: a context whose
 * provider calls answer as providers do. Libraries that are damaged or foreign
 * are put in front of the system's for a second run of this program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "transports/verbs/verbs_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHILD "GP_TEST_VERBS_CHILD"

static char program[4096];

/* What gp_verbs_api_get() says: the second run of this program. */
static int
child(void)
{
    const gp_verbs_api *api;

    if (gp_verbs_api_get(&api) == GP_OK)
        printf("loaded");
    else
        printf("%s", gp_last_error());
    return 0;
}

static void
what_was_given_is_used(void **state)
{
    const gp_verbs_api *given = (const gp_verbs_api *)(const void *)program;
    const gp_verbs_api *api = NULL;

    (void)state;
    gp_verbs_api_use(given);
    assert_int_equal(gp_verbs_api_get(&api), GP_OK);
    assert_ptr_equal(api, given);
    gp_verbs_api_use(NULL);
    api = NULL;
    if (gp_verbs_api_get(&api) == GP_OK)
        assert_ptr_not_equal(api, given);
    else
        assert_null(api);
}

#ifndef GP_HAVE_VERBS

static void
a_build_without_headers_names_the_option(void **state)
{
    const gp_verbs_api *api = NULL;

    (void)state;
    assert_int_equal(gp_verbs_api_get(&api), GP_ERR_UNSUPPORTED);
    assert_null(api);
    assert_non_null(strstr(gp_last_error(), "-DGRADPUSH_VERBS=ON"));
}

#else

/* Runs this program with `folder` in front of the system's libraries. */
static void
run_child(const char *folder, char *out, size_t capacity)
{
    char command[8192];
    size_t length;
    FILE *pipe;

    snprintf(command, sizeof(command),
             CHILD "=1 LD_LIBRARY_PATH='%s' '%s' 2>/dev/null", folder, program);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    length = fread(out, 1, capacity - 1, pipe);
    out[length] = '\0';
    assert_int_equal(pclose(pipe), 0);
}

static void
make_folder(char folder[64])
{
    strcpy(folder, "/tmp/gp_test_verbs_XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void
a_damaged_library_is_named_with_the_packages(void **state)
{
    char folder[64], path[128], out[1024];
    FILE *file;

    (void)state;
    make_folder(folder);
    snprintf(path, sizeof(path), "%s/libibverbs.so.1", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("no library", file);
    fclose(file);
    run_child(folder, out, sizeof(out));
    unlink(path);
    rmdir(folder);
    assert_non_null(strstr(out, "libibverbs.so.1 cannot be loaded ("));
    assert_non_null(strstr(out, "apt-get install libibverbs1"));
}

/* The path of the C library, from the kernel's list of what is mapped. */
static bool
find_libc(char *out, size_t capacity)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    bool found = false;

    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps)) {
        char *path = strchr(line, '/');

        if (path && strstr(path, "/libc.so.6")) {
            snprintf(out, capacity, "%.*s", (int)strcspn(path, "\n"), path);
            found = true;
        }
    }
    fclose(maps);
    return found;
}

static void
a_library_without_a_call_is_named_with_it(void **state)
{
    char folder[64], path[128], libc[4096], out[1024];

    (void)state;
    if (!find_libc(libc, sizeof(libc)))
        skip();
    make_folder(folder);
    snprintf(path, sizeof(path), "%s/libibverbs.so.1", folder);
    assert_int_equal(symlink(libc, path), 0);
    run_child(folder, out, sizeof(out));
    unlink(path);
    rmdir(folder);
    assert_non_null(strstr(out, "libibverbs.so.1 has no ibv_get_device_list"));
}

/* NULL where the libraries are not installed. */
static const gp_verbs_api *
system_table(void)
{
    const gp_verbs_api *api = NULL;

    if (gp_verbs_api_get(&api) == GP_OK)
        return api;
    assert_non_null(strstr(gp_last_error(), "apt-get install libibverbs1"));
    return NULL;
}

/* The table holds pointers only, so none that is needed may be NULL. */
static void
the_table_is_complete(void **state)
{
    const gp_verbs_api *api = system_table(), *again;
    const char *bytes = (const char *)api;

    (void)state;
    if (!api)
        skip();
    for (size_t at = 0; at < sizeof(*api); at += sizeof(void *)) {
        void *member;

        memcpy(&member, bytes + at, sizeof(member));
        if (!member && at != offsetof(gp_verbs_api, reg_dmabuf_mr))
            fail_msg("the member at %zu is missing", at);
    }
    assert_string_equal(api->wc_status_str(IBV_WC_RETRY_EXC_ERR),
                        "transport retry counter exceeded");
    assert_string_equal(api->rdma_event_str(RDMA_CM_EVENT_ESTABLISHED),
                        "RDMA_CM_EVENT_ESTABLISHED");
    assert_int_equal(gp_verbs_api_get(&again), GP_OK);
    assert_ptr_equal(again, api);
}

/* ------------------------------------------------- a provider that answers */

static int answer, answer_errno;

static int
answer_now(void)
{
    if (answer_errno)
        errno = answer_errno;
    return answer;
}

static int
fake_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    (void)qp;
    *bad = wr;
    return answer_now();
}

static int
fake_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    (void)qp;
    *bad = wr;
    return answer_now();
}

static int
fake_poll(struct ibv_cq *cq, int count, struct ibv_wc *wc)
{
    (void)cq;
    (void)count;
    (void)wc;
    return answer_now();
}

static int
fake_notify(struct ibv_cq *cq, int solicited_only)
{
    (void)cq;
    (void)solicited_only;
    return answer_now();
}

static int
fake_dealloc_mw(struct ibv_mw *mw)
{
    (void)mw;
    return answer_now();
}

typedef struct fake_device {
    struct ibv_context context;
    struct ibv_qp qp;
    struct ibv_cq cq;
    struct ibv_pd pd;
    struct ibv_mw mw;
} fake_device;

static void
make_device(fake_device *d)
{
    memset(d, 0, sizeof(*d));
    d->context.ops.post_send = fake_send;
    d->context.ops.post_recv = fake_recv;
    d->context.ops.poll_cq = fake_poll;
    d->context.ops.req_notify_cq = fake_notify;
    d->context.ops.dealloc_mw = fake_dealloc_mw;
    d->qp.context = d->cq.context = d->pd.context = d->mw.context = &d->context;
}

static void
provider_says(int value, int error)
{
    answer = value;
    answer_errno = error;
    errno = ENOTTY; /* left over from before: must not be believed */
}

static void
failures_are_positive_errno_values(void **state)
{
    static const struct {
        int value, error, expected;
    } cases[] = {
        {0, 0, 0},                    /* success */
        {ENOMEM, 0, ENOMEM},          /* most providers */
        {-EINVAL, 0, EINVAL},         /* siw */
        {-1, ECONNRESET, ECONNRESET}, /* -1 and errno */
        {-1, 0, EPERM},               /* a negative EPERM, or nothing said */
    };
    const gp_verbs_api *api = system_table();
    fake_device d;

    (void)state;
    if (!api)
        skip();
    make_device(&d);
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        struct ibv_send_wr send = {0}, *bad_send = NULL;
        struct ibv_recv_wr receive = {0}, *bad_receive = NULL;

        provider_says(cases[i].value, cases[i].error);
        assert_int_equal(api->post_send(&d.qp, &send, &bad_send),
                         cases[i].expected);
        assert_ptr_equal(bad_send, &send);
        errno = 0;
        answer = cases[i].value;
        bad_send = NULL;
        assert_int_equal(gp_verbs_post_now(api, &d.qp, &send, &bad_send),
                         cases[i].expected);
        assert_ptr_equal(bad_send, &send);
        provider_says(cases[i].value, cases[i].error);
        assert_int_equal(api->post_recv(&d.qp, &receive, &bad_receive),
                         cases[i].expected);
        assert_ptr_equal(bad_receive, &receive);
        provider_says(cases[i].value, cases[i].error);
        assert_int_equal(api->req_notify_cq(&d.cq, 0), cases[i].expected);
        provider_says(cases[i].value, cases[i].error);
        assert_int_equal(api->dealloc_mw(&d.mw), cases[i].expected);
    }
}

static void
polling_gives_a_count_or_a_negative_errno_value(void **state)
{
    const gp_verbs_api *api = system_table();
    fake_device d;

    (void)state;
    if (!api)
        skip();
    make_device(&d);
    provider_says(0, 0);
    assert_int_equal(api->poll_cq(&d.cq, 16, NULL), 0);
    provider_says(7, 0);
    assert_int_equal(api->poll_cq(&d.cq, 16, NULL), 7);
    provider_says(-2, 0); /* mlx5's word for a bad completion */
    assert_int_equal(api->poll_cq(&d.cq, 16, NULL), -EIO);
}

static void
a_device_without_windows_says_so(void **state)
{
    const gp_verbs_api *api = system_table();
    fake_device d;

    (void)state;
    if (!api)
        skip();
    make_device(&d);
    errno = 0;
    assert_null(api->alloc_mw(&d.pd, IBV_MW_TYPE_2));
    assert_int_equal(errno, EOPNOTSUPP);
}

/* librdmacm answers with -1 and errno; nothing is open, so it must fail. */
static void
connection_calls_follow_the_same_convention(void **state)
{
    const gp_verbs_api *api = system_table();
    struct rdma_event_channel channel = {.fd = -1};
    struct rdma_cm_event *event = NULL;
    struct rdma_cm_id *id = NULL;
    int rc;

    (void)state;
    if (!api)
        skip();
    assert_in_range(api->rdma_get_cm_event(&channel, &event), 1, 4095);
    assert_null(event);
    rc = api->rdma_create_id(&channel, &id, NULL, RDMA_PS_TCP);
    assert_in_range(rc, 1, 4095);
    assert_null(id);
}

#endif

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_given_is_used),
#ifndef GP_HAVE_VERBS
        cmocka_unit_test(a_build_without_headers_names_the_option),
#else
        cmocka_unit_test(a_damaged_library_is_named_with_the_packages),
        cmocka_unit_test(a_library_without_a_call_is_named_with_it),
        cmocka_unit_test(the_table_is_complete),
        cmocka_unit_test(failures_are_positive_errno_values),
        cmocka_unit_test(polling_gives_a_count_or_a_negative_errno_value),
        cmocka_unit_test(a_device_without_windows_says_so),
        cmocka_unit_test(connection_calls_follow_the_same_convention),
#endif
    };

    (void)argc;
    (void)argv;
    if (getenv(CHILD))
        return child();
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
