/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_policy.c - rules per tensor, and what the cost model prefers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "worker/policy.h"

static const char *
rule(const char *rules, const char *name, uint64_t count, uint64_t columns)
{
    static char out[100];

    memset(out, '?', sizeof(out));
    if (gp_policy_rule(rules, name, count, columns, out, sizeof(out)) != GP_OK)
        fail_msg("%s", gp_last_error());
    return out;
}

static void
first_match_counts(void **state)
{
    const char *rules = "*.bias => none; count<4K & fc* => bf16;\n"
                        " matrix & count>=1M => powersgd:rank=4; "
                        "fc? => topk:ratio=0.01,scope=tensor+q8 ; vector=>q8;";

    (void)state;
    assert_string_equal(rule(rules, "fc1.bias", 10, 0), "none");
    assert_string_equal(rule(rules, "fc1", 4095, 0), "bf16");
    assert_string_equal(rule(rules, "fc1", 4096, 0),
                        "topk:ratio=0.01,scope=tensor+q8");
    assert_string_equal(rule(rules, "fc12", 5000, 0), "q8");
    assert_string_equal(rule(rules, "fc12", 1 << 20, 1024), "powersgd:rank=4");
    assert_string_equal(rule(rules, "fc12", 1 << 20, 1 << 20), "q8");
    assert_string_equal(rule(rules, "fc12", 1 << 19, 512), "");
    assert_string_equal(rule("count < 4k => q8", "a", 4095, 0), "q8");
    assert_string_equal(rule("count >= 4k => q8", "a", 4095, 0), "");
    assert_string_equal(rule("count  >=2m=>q8", "a", 2 << 20, 0), "q8");
    assert_string_equal(rule("count>=1g => q8", "a", 1 << 30, 0), "q8");
    assert_string_equal(rule("count* => q8", "counter", 1, 0), "q8");
    assert_string_equal(rule("", "a", 1, 0), "");
    assert_string_equal(rule(" ; ", "a", 1, 0), "");
}

static void
refused(const char *rules, const char *reason)
{
    char out[20] = "kept";

    assert_int_equal(gp_policy_rule(rules, "fc", 100, 0, out, sizeof(out)),
                     GP_ERR_CONFIG);
    assert_string_equal(out, "kept");
    if (!strstr(gp_last_error(), reason))
        fail_msg("'%s' does not say '%s'", gp_last_error(), reason);
}

static void
faults_are_shown(void **state)
{
    (void)state;
    refused("q8", "rule 'q8': there is no '=>'");
    refused("fc => q8; x", "rule 'x': there is no '=>'");
    refused("fc =>", "no pipeline behind");
    refused("=> q8", "a test is empty");
    refused("fc & => q8", "a test is empty");
    refused("count<x => q8", "expected count<N or count>=N");
    refused("count<=5 => q8", "expected count<N");
    refused("count>5 => q8", "expected count<N");
    refused("count< => q8", "expected count<N");
    refused("count<5KK => q8", "expected count<N");
    refused("count<99999999999999999999 => q8", "expected count<N");
    refused("count <= 5 => q8", "expected count<N");
    refused("counts<5 => q8", "a name pattern cannot have '<'");
    refused("size>=5 => q8", "a name pattern cannot have '<'");
    refused("fc=1 & vector => q8", "a name pattern cannot have '<'");
    refused("fc => topk:ratio=0.01,scope=tensor", "too long");
}

static gp_status
note(void *user, const char *one, const char *pipeline)
{
    char *all = user;

    if (strcmp(pipeline, "stop") == 0)
        return GP_ERR_CONFIG;
    sprintf(all + strlen(all), "[%s|%s]", one, pipeline);
    return GP_OK;
}

static void
every_rule_is_visited(void **state)
{
    char all[200] = "";

    (void)state;
    assert_int_equal(gp_policy_each(" a* => q8 ;; count<1k=>none;", note, all),
                     GP_OK);
    assert_string_equal(all, "[a* => q8|q8][count<1k=>none|none]");
    assert_int_equal(gp_policy_each("a => stop; b => q8", note, all),
                     GP_ERR_CONFIG);
    assert_int_equal(gp_policy_each("b => q8; a =", note, all), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "rule 'a ='"));
}

/* Dense 4 bytes, q8 1 byte at 20 GB/s, top-k 0.02 bytes at 10 GB/s. */
static const gp_cost costs[] = {
    {0, 0, 4}, {4 / 20e9, 4 / 20e9, 1.0156}, {4 / 10e9, 4 / 40e9, 0.02}};

static void
slow_links_want_few_bytes(void **state)
{
    double seconds[3];

    (void)state;
    assert_int_equal(gp_policy_best(costs, 3, 1000000, 0.0125e9, 1, seconds),
                     2);
    assert_true(seconds[0] > 0.319 && seconds[0] < 0.321);
    assert_true(seconds[1] > 0.08 && seconds[1] < 0.083);
    /* Without the sparse one, the next best. */
    assert_int_equal(gp_policy_best(costs, 2, 1000000, 0.0125e9, 1, seconds),
                     1);
}

static void
fast_links_want_none(void **state)
{
    double seconds[3];

    (void)state;
    assert_int_equal(gp_policy_best(costs, 3, 1000000, 50e9, 1, seconds), 0);
    /* Many messages for one shard to decode. */
    assert_int_equal(gp_policy_best(costs, 2, 1000000, 5e9, 1, seconds), 1);
    assert_int_equal(gp_policy_best(costs, 2, 1000000, 5e9, 8, seconds), 0);
    /* A gain of less than a tenth is none. */
    assert_int_equal(gp_policy_best((gp_cost[]){{0, 0, 4}, {0, 0, 3.7}}, 2, 10,
                                    1e9, 1, seconds),
                     0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_match_counts),
        cmocka_unit_test(faults_are_shown),
        cmocka_unit_test(every_rule_is_visited),
        cmocka_unit_test(slow_links_want_few_bytes),
        cmocka_unit_test(fast_links_want_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
