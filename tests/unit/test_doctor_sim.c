/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_doctor_sim.c - the doctor's loopback on a simulated RDMA fabric: every
 * call it makes fails once, connections are refused and lost, queue pairs
 * break, the page arrives damaged. Each time the stage and the fix are right,
 * and nothing is left behind.
 */
#include "doctor_fixture.h"

#include <arpa/inet.h>
#include <errno.h>

#include "tests/sim/sim.h"
#include "transports/verbs/verbs_probe.h"

#define LABEL "sim0:1"

static gp_sim *sim;
static const gp_verbs_api *api;

static void
open_fabric(const gp_sim_options *options)
{
    sim = gp_sim_open(options);
    assert_non_null(sim);
    api = gp_sim_api(sim);
}

static void
close_fabric(void)
{
    char text[256] = "";

    if (gp_sim_leaks(sim, text, sizeof(text)))
        fail_msg("left behind: %s", text);
    assert_int_equal(gp_sim_finish(sim), 0);
    sim = NULL;
}

static struct sockaddr_storage
address(const char *text)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out;

    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        v6->sin6_family = AF_INET6;
    else
        fail_msg("%s is no address", text);
    return out;
}

static gp_status
loop_to(const char *text, double seconds, gp_verbs_loopback *out)
{
    struct sockaddr_storage to = address(text);

    return gp_verbs_probe_loopback(api, (struct sockaddr *)&to, seconds, out);
}

/* --- the loopback itself --- */

static void
page_arrives(void **state)
{
    const gp_sim_device iwarp = {.iwarp = true};
    const gp_sim_options fabrics[] = {
        {0},
        {.step = true},
        {.seed = 5, .shuffle = true, .late_acks = true},
        {.late_established = true},
        {.timewait = true, .grant_more = true},
        {.device = &iwarp, .devices = 1}};
    gp_verbs_loopback l;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(fabrics); i++) {
        open_fabric(&fabrics[i]);
        assert_int_equal(loop_to("10.77.0.1", 20, &l), GP_OK);
        assert_int_equal(l.stage, GP_VERBS_DONE);
        assert_string_equal(l.device, "sim0");
        assert_true(l.bytes >= 4096);
        assert_int_equal(gp_sim_stats_now(sim).writes, 1);
        close_fabric();
    }
}

static void
ipv6_is_an_address_too(void **state)
{
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    assert_int_equal(loop_to("fd77::0:1", 20, &l), GP_OK);
    close_fabric();
}

static void
other_families_are_refused(void **state)
{
    struct sockaddr to = {.sa_family = AF_UNIX};
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    assert_int_equal(gp_verbs_probe_loopback(api, &to, 1, &l), GP_ERR_ADDRESS);
    close_fabric();
}

/* Whatever call fails, it is said, and all else is given back. */
static void
every_call_may_fail(void **state)
{
    const gp_sim_options step = {.step = true};
    gp_verbs_loopback l;
    uint64_t n = 1;
    bool failed = true;

    (void)state;
    for (; failed; n++) {
        gp_status status;

        assert_true(n < 2000);
        open_fabric(&step);
        gp_sim_fail(sim, NULL, n, EIO);
        status = loop_to("10.77.0.1", 5, &l);
        failed = gp_sim_failed(sim);
        if (!failed) {
            assert_int_equal(status, GP_OK);
        } else if (status != GP_OK) {
            assert_string_not_equal(gp_last_error(), "");
            assert_int_not_equal(l.stage, GP_VERBS_DONE);
        }
        close_fabric();
    }
    assert_true(n > 20); /* the fault did reach the calls */
}

static const struct {
    const char *member;
    int error;
    gp_verbs_stage stage;
    const char *says;
} faults[] = {
    {"rdma_create_event_channel", ENODEV, GP_VERBS_CHANNEL, "event_channel"},
    {"rdma_bind_addr", EADDRNOTAVAIL, GP_VERBS_LISTEN, "rdma_bind_addr"},
    {"rdma_listen", EADDRINUSE, GP_VERBS_LISTEN, "rdma_listen"},
    {"rdma_resolve_addr", ENODEV, GP_VERBS_RESOLVE, "rdma_resolve_addr"},
    {"alloc_pd", ENOMEM, GP_VERBS_MEMORY, "ibv_alloc_pd"},
    {"reg_mr", ENOMEM, GP_VERBS_MEMORY, "ibv_reg_mr"},
    {"create_cq", EINVAL, GP_VERBS_QUEUES, "ibv_create_cq"},
    {"rdma_create_qp", EINVAL, GP_VERBS_QUEUES, "rdma_create_qp"},
    {"post_recv", EIO, GP_VERBS_QUEUES, "ibv_post_recv"},
    {"rdma_connect", EINVAL, GP_VERBS_CONNECT, "rdma_connect"},
    {"rdma_accept", EINVAL, GP_VERBS_CONNECT, "rdma_accept"},
    {"post_send", ENOMEM, GP_VERBS_WRITE, "ibv_post_send"},
    {"poll_cq", EIO, GP_VERBS_WRITE, "ibv_poll_cq"},
    {"dealloc_pd", EBUSY, GP_VERBS_CLOSE, "giving objects back"},
};

static void
stage_of_a_fault_is_told(void **state)
{
    gp_verbs_loopback l;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(faults); i++) {
        open_fabric(NULL);
        gp_sim_fail(sim, faults[i].member, 1, faults[i].error);
        assert_int_not_equal(loop_to("10.77.0.1", 20, &l), GP_OK);
        assert_string_equal(gp_verbs_stage_name(l.stage),
                            gp_verbs_stage_name(faults[i].stage));
        assert_int_equal(l.error, faults[i].error);
        assert_non_null(strstr(gp_last_error(), faults[i].says));
        close_fabric();
    }
}

static void
unknown_address_leads_nowhere(void **state)
{
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    assert_int_not_equal(loop_to("192.0.2.9", 20, &l), GP_OK);
    assert_true(l.stage == GP_VERBS_LISTEN || l.stage == GP_VERBS_RESOLVE);
    close_fabric();
}

static void
refusal_is_told(void **state)
{
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    gp_sim_refuse(sim, 1, 8);
    assert_int_equal(loop_to("10.77.0.1", 20, &l), GP_ERR_UNREACHABLE);
    assert_int_equal(l.stage, GP_VERBS_CONNECT);
    close_fabric();
}

/* A busy machine takes longer to come as far as that. */
static void
silence_ends_at_the_deadline(void **state)
{
    const gp_sim_options slow = {.unreachable_ns = 60000000000u};
    double seconds = 0.2;
    gp_verbs_loopback l;

    (void)state;
    do {
        open_fabric(&slow);
        gp_sim_lose_requests(sim, 100);
        assert_int_equal(loop_to("10.77.0.1", seconds, &l), GP_ERR_TIMEOUT);
        close_fabric();
        seconds *= 3;
    } while (l.stage != GP_VERBS_CONNECT && seconds < 50);
    assert_int_equal(l.stage, GP_VERBS_CONNECT);
    assert_non_null(strstr(gp_last_error(), "connect"));
}

static void
broken_queue_pair_is_told(void **state)
{
    const gp_sim_break how = {.status = IBV_WC_REM_ACCESS_ERR};
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    gp_sim_break_qp(sim, &how);
    assert_int_not_equal(loop_to("10.77.0.1", 20, &l), GP_OK);
    assert_int_equal(l.stage, GP_VERBS_WRITE);
    assert_non_null(strstr(gp_last_error(), "WRITE ended with"));
    close_fabric();
}

/* --- a page that arrives damaged --- */

static uint8_t *pages[2];
static size_t page_count;

static struct ibv_mr *
remember_page(struct ibv_pd *pd, void *base, size_t length, int access)
{
    assert_true(page_count < 2);
    pages[page_count++] = base;
    return gp_sim_api(sim)->reg_mr(pd, base, length, access);
}

/* The receive's completion says that the page is there: then a bit flips. */
static int
damage_page(struct ibv_cq *cq, int count, struct ibv_wc *wc)
{
    int n = gp_sim_api(sim)->poll_cq(cq, count, wc);

    for (int i = 0; i < n; i++)
        if (wc[i].status == IBV_WC_SUCCESS && (wc[i].opcode & IBV_WC_RECV))
            pages[1][100] ^= 4;
    return n;
}

static void
use_damage(gp_verbs_api *table)
{
    *table = *api;
    table->reg_mr = remember_page;
    table->poll_cq = damage_page;
    page_count = 0;
    api = table;
}

static void
one_wrong_bit_is_found(void **state)
{
    gp_verbs_api table;
    gp_verbs_loopback l;

    (void)state;
    open_fabric(NULL);
    use_damage(&table);
    assert_int_equal(loop_to("10.77.0.1", 20, &l), GP_ERR_CORRUPT);
    assert_int_equal(l.stage, GP_VERBS_COMPARE);
    assert_non_null(strstr(gp_last_error(), "1 of "));
    assert_non_null(strstr(gp_last_error(), "from byte 100 on"));
    close_fabric();
}

/* --- what the doctor makes of it --- */

static void
put_fabric(void)
{
    put_port("sim0", 1, "Ethernet", "eth2", NULL);
    put(IB "/sim0/ports/1/gids/3", "0000:0000:0000:0000:0000:ffff:0a4d:0001");
    doctor.api = api;
}

static void
doctor_writes_a_page(void **state)
{
    (void)state;
    open_fabric(NULL);
    put_fabric();
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_OK, "10.77.0.1 to itself", "");
    assert_true(number_of("write", LABEL, "bytes") >= 4096);
    examine(gp_doctor_check_rdma);
    expect("providers", "", GP_CHECK_OK, "every device", "");
    examine(gp_doctor_check_ports);
    expect("mtu", LABEL, GP_CHECK_OK, "active 4096", "");
    close_fabric();
}

static void
doctor_skips_what_cannot_be_tried(void **state)
{
    (void)state;
    open_fabric(NULL);
    put_fabric();
    put(IB "/sim0/ports/1/state", "1: DOWN");
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_SKIP, "not active", "");
    put(IB "/sim0/ports/1/state", "4: ACTIVE");
    put(IB "/sim0/ports/1/gids/3", "0000:0000:0000:0000:0000:0000:0000:0000");
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_SKIP, "no address", "");
    doctor.api = NULL;
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_SKIP, "no libraries", "");
    close_fabric();
}

static void
doctor_knows_the_fix(void **state)
{
    static const struct {
        const char *member;
        int error;
        const char *fix;
    } cases[] = {
        {"rdma_create_event_channel", ENODEV, "rdma_ucm"},
        {"rdma_bind_addr", EADDRNOTAVAIL, "ip addr show dev eth2"},
        {"reg_mr", ENOMEM, "limits.memlock"},
        {"create_cq", EINVAL, "rdma.cgroup"},
        {"rdma_accept", EINVAL, "4791"},
        {"post_send", EIO, "counters"},
        {"dealloc_pd", EBUSY, "driver"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        open_fabric(NULL);
        if (i == 0)
            put_fabric();
        doctor.api = api;
        gp_sim_fail(sim, cases[i].member, 1, cases[i].error);
        examine(gp_doctor_check_loopback);
        expect("write", LABEL, GP_CHECK_FAIL, "stage", cases[i].fix);
        close_fabric();
    }
}

static void
doctor_condemns_a_machine_that_damages_data(void **state)
{
    gp_verbs_api table;

    (void)state;
    open_fabric(NULL);
    use_damage(&table);
    put_fabric();
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_FAIL, " bytes differ",
           "do not train on this machine");
    close_fabric();
}

/* The address of one port leads to another one's device. */
static void
doctor_sees_an_address_on_another_device(void **state)
{
    const gp_sim_device two[] = {{.name = "sim0"}, {.name = "sim1"}};
    const gp_sim_options options = {.device = two, .devices = 2};

    (void)state;
    open_fabric(&options);
    put_port("sim0", 1, "Ethernet", "eth2", NULL);
    put(IB "/sim0/ports/1/gids/3", "0000:0000:0000:0000:0000:ffff:0a4d:0101");
    doctor.api = api;
    examine(gp_doctor_check_loopback);
    expect("write", LABEL, GP_CHECK_WARN, "10.77.1.1 leads to sim1", "subnet");
    close_fabric();
}

static void
dmabuf_is_asked_of_the_fabric(void **state)
{
    const gp_sim_device with = {.dmabuf = true}, without = {.dmabuf = false};
    const gp_sim_options can = {.device = &with, .devices = 1};
    const gp_sim_options cannot = {.device = &without, .devices = 1};

    (void)state;
    open_fabric(&can);
    assert_int_equal(gp_verbs_probe_dmabuf(api, "sim0"), GP_OK);
    assert_int_equal(gp_verbs_probe_dmabuf(api, "mlx5_0"), GP_ERR_NOT_FOUND);
    close_fabric();
    open_fabric(&cannot);
    assert_int_equal(gp_verbs_probe_dmabuf(api, "sim0"), GP_ERR_UNSUPPORTED);
    close_fabric();
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(page_arrives),
        TEST(ipv6_is_an_address_too),
        TEST(other_families_are_refused),
        TEST(every_call_may_fail),
        TEST(stage_of_a_fault_is_told),
        TEST(unknown_address_leads_nowhere),
        TEST(refusal_is_told),
        TEST(silence_ends_at_the_deadline),
        TEST(broken_queue_pair_is_told),
        TEST(one_wrong_bit_is_found),
        TEST(doctor_writes_a_page),
        TEST(doctor_skips_what_cannot_be_tried),
        TEST(doctor_knows_the_fix),
        TEST(doctor_condemns_a_machine_that_damages_data),
        TEST(doctor_sees_an_address_on_another_device),
        TEST(dmabuf_is_asked_of_the_fabric),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
