/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tensor_options.c - what gp_tensor_register() refuses, and how it says
 * so.
 *
 * One worker that hosts its own shard; nothing leaves the process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <gradpush/gradpush.h>

static gp_worker *
alone(void)
{
    static const char *const settings[] = {
        "rank", "0", "size", "1", "colocated", "on", "transport", "loop",
    };
    gp_config *config;
    gp_worker *worker;

    assert_int_equal(gp_config_create(&config), GP_OK);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i += 2)
        assert_int_equal(gp_config_set(config, settings[i], settings[i + 1]),
                         GP_OK);
    if (gp_worker_create(config, &worker) != GP_OK)
        fail_msg("%s", gp_last_error());
    gp_config_destroy(config);
    return worker;
}

static gp_tensor_options
good_options(void)
{
    gp_tensor_options o = GP_TENSOR_INIT;

    o.name = "weights";
    o.count = 5000;
    return o;
}

static void
assert_refused(gp_worker *worker, const gp_tensor_options *o, gp_status status,
               const char *message)
{
    gp_tensor *tensor = (void *)worker;

    assert_int_equal(gp_tensor_register(worker, o, &tensor), status);
    if (!strstr(gp_last_error(), message))
        fail_msg("'%s' is not in: %s", message, gp_last_error());
    assert_ptr_equal(tensor, worker); /* untouched */
}

static void
names(void **state)
{
    gp_worker *worker = alone();
    gp_tensor_options o = good_options();
    char name[300];
    gp_tensor *tensor;

    (void)state;
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    o.name = NULL;
    assert_refused(worker, &o, GP_ERR_INVALID, "name has 1 to 255 bytes");
    o.name = "";
    assert_refused(worker, &o, GP_ERR_INVALID, "name has 1 to 255 bytes");
    o.name = name;
    assert_refused(worker, &o, GP_ERR_INVALID, "name has 1 to 255 bytes");
    name[255] = '\0';
    assert_int_equal(gp_tensor_register(worker, &o, &tensor), GP_OK);
    assert_refused(worker, &o, GP_ERR_EXISTS, "is registered");
    gp_worker_destroy(worker);
}

static void
dtypes_and_counts(void **state)
{
    static const struct {
        gp_dtype dtype;
        uint64_t most;
    } limits[] = {{GP_FP32, 1ull << 36}, {GP_FP16, 1ull << 37}};
    gp_worker *worker = alone();
    gp_tensor_options o = good_options();

    (void)state;
    o.dtype = (gp_dtype)0;
    assert_refused(worker, &o, GP_ERR_INVALID, "dtype 0 is none of GP_FP32");
    o.dtype = (gp_dtype)4;
    assert_refused(worker, &o, GP_ERR_INVALID, "dtype 4 is none of GP_FP32");
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        o.dtype = limits[i].dtype;
        o.count = 0;
        assert_refused(worker, &o, GP_ERR_INVALID, "count is 0");
        o.count = limits[i].most + 1;
        assert_refused(worker, &o, GP_ERR_INVALID, "274877906944 bytes");
        o.count = UINT64_MAX;
        assert_refused(worker, &o, GP_ERR_INVALID, "274877906944 bytes");
    }
    o = good_options();
    o.columns = 3;
    assert_refused(worker, &o, GP_ERR_INVALID, "no whole rows of 3 columns");
    o.columns = 10000;
    assert_refused(worker, &o, GP_ERR_INVALID, "no whole rows of 10000");
    o = good_options();
    o.first_step = 1ull << 63;
    assert_refused(worker, &o, GP_ERR_INVALID,
                   "the most is 9223372036854775807");
    gp_worker_destroy(worker);
}

static void
texts(void **state)
{
    gp_worker *worker = alone();
    gp_tensor_options o = good_options();

    (void)state;
    o.codec = "q9";
    assert_refused(worker, &o, GP_ERR_CONFIG, "q8");
    assert_refused(worker, &o, GP_ERR_CONFIG, "tensor 'weights', codec: ");
    o = good_options();
    o.pull_codec = "q8:blok=64";
    assert_refused(worker, &o, GP_ERR_CONFIG, "tensor 'weights', pull_codec: ");
    assert_refused(worker, &o, GP_ERR_CONFIG, "did you mean 'block'?");
    o.pull_codec = "none|q8";
    assert_refused(worker, &o, GP_ERR_CONFIG, "without alternatives");
    o = good_options();
    o.codec = "none|q8|q9";
    assert_refused(worker, &o, GP_ERR_CONFIG, "q9");
    o.codec = "none|";
    assert_refused(worker, &o, GP_ERR_CONFIG, "expected");
    o.codec = "q8:32|q8:64|q8:96|q8:128|q8:160|q8:192|q8:224|q8:256|q8:288";
    assert_refused(worker, &o, GP_ERR_CONFIG, "at most 8 alternatives");
    o = good_options();
    o.feedback = 7;
    assert_refused(worker, &o, GP_ERR_INVALID, "feedback is 7");
    o = good_options();
    o.pull_feedback = -2;
    assert_refused(worker, &o, GP_ERR_INVALID, "pull_feedback -2");
    o = good_options();
    o.updater = "sgd:momentun=1";
    assert_refused(worker, &o, GP_ERR_CONFIG, "tensor 'weights': updater");
    assert_refused(worker, &o, GP_ERR_CONFIG, "did you mean 'momentum'?");
    /* Pipelines of small tensors are not used, but are still read. */
    o = good_options();
    o.count = 1;
    o.codec = "q9";
    assert_refused(worker, &o, GP_ERR_CONFIG, "q8");
    gp_worker_destroy(worker);
}

static void
callers_mistakes(void **state)
{
    gp_worker *worker = alone();
    gp_tensor_options o = good_options();
    gp_tensor *tensor;

    (void)state;
    assert_int_equal(gp_worker_ready(worker), GP_ERR_STATE);
    assert_non_null(strstr(gp_last_error(), "no tensor is registered"));
    assert_refused(worker, NULL, GP_ERR_INVALID, "GP_TENSOR_INIT");
    o.size = 8;
    assert_refused(worker, &o, GP_ERR_INVALID, "GP_TENSOR_INIT");
    o = good_options();
    assert_int_equal(gp_tensor_register(NULL, &o, &tensor), GP_ERR_INVALID);
    assert_int_equal(gp_tensor_register(worker, &o, NULL), GP_ERR_INVALID);
    assert_int_equal(gp_tensor_register(worker, &o, &tensor), GP_OK);
    assert_int_equal(gp_worker_ready(worker), GP_OK);
    o.name = "late";
    assert_refused(worker, &o, GP_ERR_STATE, "register all tensors before it");
    gp_worker_destroy(worker);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(dtypes_and_counts),
        cmocka_unit_test(texts),
        cmocka_unit_test(callers_mistakes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
