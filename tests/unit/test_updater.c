/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_updater.c - updater texts, and what SGD computes.
 *
 * The expected parameters come twice: from a plain loop here, one rounding per
 * operation, bit for bit; and from PyTorch in double precision
 * (tests/golden/make_sgd.py), within the roundings of fp32.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/updater.h"

static gp_updater
parsed(const char *text)
{
    gp_updater u;

    if (gp_updater_parse(text, &u) != GP_OK)
        fail_msg("%s", gp_last_error());
    return u;
}

static void
assert_canonical(const char *text, const char *canonical)
{
    gp_updater u = parsed(text);
    char once[256], twice[256];

    gp_updater_print(&u, once, sizeof(once));
    assert_string_equal(once, canonical);
    u = parsed(once);
    gp_updater_print(&u, twice, sizeof(twice));
    assert_string_equal(twice, canonical);
}

static void
texts_become_canonical(void **state)
{
    (void)state;
    assert_canonical("sum", "sum");
    assert_canonical("mean", "mean");
    assert_canonical("sgd", "sgd:lr=0.1,momentum=0,nesterov=0,weight_decay=0,"
                            "dampening=0");
    assert_canonical("sgd:lr=0",
                     "sgd:lr=0,momentum=0,nesterov=0,weight_decay=0,"
                     "dampening=0");
    assert_canonical("sgd:weight_decay=1e-4,nesterov=1,momentum=0.9,lr=.05",
                     "sgd:lr=0.05,momentum=0.9,nesterov=1,weight_decay=0.0001,"
                     "dampening=0");
    assert_canonical("sgd:lr=0.333333333333,momentum=1e9",
                     "sgd:lr=0.333333333333,momentum=1e+09,nesterov=0,"
                     "weight_decay=0,dampening=0");
    assert_canonical("sgd:lr=1,lr=2",
                     "sgd:lr=2,momentum=0,nesterov=0,weight_decay=0,"
                     "dampening=0");
    assert_canonical("adam:eps=1e-6,lr_min=1e-5,cosine=1000,clip=2.5,warmup=9",
                     "adam:lr=0.001,beta1=0.9,beta2=0.999,eps=1e-06,"
                     "weight_decay=0,amsgrad=0,warmup=9,cosine=1000,"
                     "lr_min=1e-05,clip=2.5");
    assert_canonical("adamw:step_size=30",
                     "adamw:lr=0.001,beta1=0.9,beta2=0.999,eps=1e-08,"
                     "weight_decay=0.01,amsgrad=0,step_size=30,gamma=0.1");
}

/* What is printed reads back as the same bits. */
static void
numbers_survive_printing(void **state)
{
    uint32_t x = 1;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        gp_updater u = parsed("sgd"), again;
        char text[256];

        x = x * 1664525u + 1013904223u;
        u.value[0] = ldexp((double)(x >> 8), (int)(x % 60) - 54);
        u.value[1] = (double)(x >> 16) / 65536.0;
        u.value[3] = 1.0 / (double)(1 + (x >> 4));
        gp_updater_print(&u, text, sizeof(text));
        again = parsed(text);
        assert_memory_equal(again.value, u.value, sizeof(u.value));
    }
}

/* Members of one job may run under different locales. */
static void
locale_does_not_matter(void **state)
{
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        print_message("skipped: no de_DE.UTF-8 locale here\n");
        skip();
    }
    assert_canonical("sgd:lr=0.5",
                     "sgd:lr=0.5,momentum=0,nesterov=0,weight_decay=0,"
                     "dampening=0");
    setlocale(LC_ALL, "C");
}

static void
messages_name_the_place(void **state)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "updater '': unknown updater '' at character 1; known are sum"},
        {"men", "unknown updater 'men' at character 1; did you mean 'mean'?"},
        {"SGD", "unknown updater 'SGD' at character 1; did you mean 'sgd'?"},
        {"kfac:lr=1",
         "updater 'kfac:lr=1': unknown updater 'kfac' at character 1; known "
         "are sum, mean, sgd, adagrad, rmsprop, adam, adamw, lamb"},
        {"mean:lr=1", "updater 'mean:lr=1': mean takes no parameters"},
        {"sum:", "updater 'sum:': sum takes no parameters"},
        {"sgd:", "unknown parameter '' at character 5; known are"},
        {"sgd:lr=1,", "unknown parameter '' at character 10; known are"},
        {"sgd:lr=1,momentun=0.9",
         "unknown parameter 'momentun' at character 10; did you mean "
         "'momentum'?"},
        {"sgd:weight-decay=1", "did you mean 'weight_decay'?"},
        {"sgd:lr", "lr at character 5 needs a value, as in lr=0.1"},
        {"sgd:lr=1,nesterov,momentum=1",
         "nesterov at character 10 needs a value"},
        {"sgd:lr=", "character 8 should begin a number from 0 to 1e+09"},
        {"sgd:lr=x", "character 8 should begin a number from 0 to 1e+09"},
        {"sgd:lr=1x", "character 8 should begin a number"},
        {"sgd:lr=0,1", "unknown parameter '1' at character 10"},
        {"sgd:momentum=-0.5", "character 14 should begin a number"},
        {"sgd:lr=inf", "character 8 should begin a number"},
        {"sgd:lr=nan", "character 8 should begin a number"},
        {"sgd:lr=1e10", "character 8 should begin a number from 0 to 1e+09"},
        {"sgd:nesterov=1", "nesterov needs momentum above 0"},
        {"sgd:nesterov=0.5", "begin a whole number from 0 to 1"},
        {"sgd:nesterov=1,momentum=1,dampening=0.5", "needs dampening 0"},
        {"adam:momentum=1", "unknown parameter 'momentum' at character 6"},
        {"adam:beta1=1", "character 12 should begin a number from 0 to 0.99"},
        {"adam:warmup=0.5", "character 13 should begin a whole number"},
        {"adam:warmpu=5", "did you mean 'warmup'?"},
        {"adam:cosine=9,step_size=9", "step_size and cosine are two schedules"},
        {"adam:lr_min=1e-4", "lr_min is where cosine=STEPS ends: give both"},
        {"adam:lr=0.1,cosine=4,lr_min=0.2", "lr_min is above lr"},
        {"lamb:amsgrad=1", "unknown parameter 'amsgrad'"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        gp_updater u = {.lr = 77};

        if (gp_updater_parse(bad[i].text, &u) != GP_ERR_CONFIG)
            fail_msg("'%s' was not refused", bad[i].text);
        if (!strstr(gp_last_error(), bad[i].message))
            fail_msg("'%s' gave: %s", bad[i].text, gp_last_error());
        assert_true(u.lr == 77); /* untouched */
    }
}

/* Peers send texts too: long ones neither overflow nor flood a message. */
static void
long_texts_are_refused(void **state)
{
    char text[5000];
    gp_updater u;

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(gp_updater_parse(text, &u), GP_ERR_CONFIG);
    assert_true(strlen(gp_last_error()) < 400);
    memcpy(text, "sgd:", 4);
    assert_int_equal(gp_updater_parse(text, &u), GP_ERR_CONFIG);
    assert_true(strlen(gp_last_error()) < 400);
    /* Each number is fine, but the canonical text would not fit a list. */
    assert_int_equal(
        gp_updater_parse(
            "adamw:lr=0.12345678901234567,beta1=1.2345678901234567e-201,"
            "beta2=1.2345678901234567e-201,eps=0.12345678901234567,"
            "weight_decay=0.12345678901234567,lr_min=1.2345678901234567e-300,"
            "warmup=123456789012345,cosine=123456789012345,"
            "clip=1.2345678901234567e-300",
            &u),
        GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "longer than 255 characters"));
}

static void
scale_of_a_sum(void **state)
{
    gp_updater sum = parsed("sum"), mean = parsed("mean"), sgd = parsed("sgd");

    (void)state;
    assert_true(gp_updater_scale(&sum, 3) == 1.0f);
    assert_true(gp_updater_scale(&mean, 3) == 1.0f / 3.0f);
    assert_true(gp_updater_scale(&sgd, 4) == 0.25f);
    assert_true(gp_updater_scale(&mean, 1) == 1.0f);
}

/* One element, one rounding per operation. */
static void
reference_step(const double *v, float gradient, float *value, float *velocity)
{
    volatile float momentum = (float)v[1];
    volatile float decay = (float)v[3] * *value;
    volatile float g = gradient + decay;
    volatile float old, u, ahead, step;

    if (momentum != 0) {
        old = momentum * *velocity;
        u = old + g;
        *velocity = u;
        ahead = momentum * u;
        g = v[2] != 0 ? g + ahead : u;
    }
    step = (float)v[0] * g;
    *value = *value - step;
}

static void
update(const gp_updater *u, uint64_t number, const float *gradient,
       float *value, float *velocity, size_t count)
{
    float *arrays[GP_UPDATER_ARRAYS] = {velocity};
    gp_updater_step step = {.number = number};

    gp_updater_apply(u, &step, gradient, value, arrays, count);
}

static const char *const kinds[] = {
    "sgd:lr=0.1",
    "sgd:lr=0.1,weight_decay=1e-2",
    "sgd:lr=0.05,momentum=0.9",
    "sgd:lr=0.05,momentum=0.9,weight_decay=1e-4",
    "sgd:lr=0.3,momentum=0.9,nesterov=1",
    "sgd:lr=0.3,momentum=0.99,nesterov=1,weight_decay=0.01",
};

static float
noise(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return (float)(int32_t)*x / 1073741824.0f;
}

static void
steps_equal_the_plain_loop(void **state)
{
    enum { COUNT = 259 };
    float value[COUNT], want[COUNT], gradient[COUNT];
    uint32_t x = 9;

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(kinds); k++) {
        gp_updater u = parsed(kinds[k]);
        float velocity[COUNT] = {0}, want_velocity[COUNT] = {0};

        for (size_t i = 0; i < COUNT; i++)
            value[i] = want[i] = noise(&x);
        for (uint64_t step = 1; step <= 6; step++) {
            for (size_t i = 0; i < COUNT; i++) {
                gradient[i] = noise(&x);
                reference_step(u.value, gradient[i], &want[i],
                               &want_velocity[i]);
            }
            update(&u, step, gradient, value, u.arrays ? velocity : NULL,
                   COUNT);
            assert_memory_equal(value, want, sizeof(value));
            assert_memory_equal(velocity, want_velocity, sizeof(velocity));
        }
    }
}

static void
nothing_is_done_to_no_elements(void **state)
{
    gp_updater u = parsed("sgd:momentum=0.9");
    float value = 1, velocity = 2, gradient = 3;

    (void)state;
    update(&u, 1, &gradient, &value, &velocity, 0);
    assert_true(value == 1 && velocity == 2);
}

/* A gradient that is not a number must be seen, not swallowed. */
static void
not_a_number_reaches_the_parameter(void **state)
{
    static const char *const all[] = {"sgd:momentum=0.9",
                                      "adagrad",
                                      "rmsprop",
                                      "rmsprop:centered=1,momentum=0.9",
                                      "adam",
                                      "adam:amsgrad=1",
                                      "adamw"};

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(all); k++) {
        gp_updater u = parsed(all[k]);
        gp_updater_step step = {.number = 1};
        float gradient[] = {NAN, INFINITY, 1.0f}, value[3] = {1, 1, 1};
        float state_of[GP_UPDATER_ARRAYS][3] = {{0}};
        float *arrays[GP_UPDATER_ARRAYS] = {NULL};

        for (int i = 0; i < GP_UPDATER_ARRAYS; i++)
            if (u.arrays >> i & 1)
                arrays[i] = state_of[i];
        gp_updater_apply(&u, &step, gradient, value, arrays, 3);
        assert_true(isnan(value[0]) && !isfinite(value[1]) &&
                    isfinite(value[2]));
    }
}

/* The numbers of a line that begins with `name`; their count. */
static size_t
read_numbers(const char *line, const char *name, double *out, size_t capacity)
{
    size_t count = 0, length = strlen(name);
    char *end;

    if (strncmp(line, name, length) != 0)
        return 0;
    for (line += length;; line = end) {
        double v = strtod(line, &end);

        if (end == line)
            return count;
        assert_true(count < capacity);
        out[count++] = v;
    }
}

/* PyTorch's parameters, but for roundings: its run was in double precision. */
static void
steps_equal_pytorch(void **state)
{
    FILE *file = fopen("golden/sgd_torch.txt", "r");
    gp_updater u = parsed("sgd");
    float value[16] = {0}, velocity[16] = {0}, gradient[16];
    char line[1024];
    size_t count = 0, cases = 0, checks = 0;
    uint64_t number = 0;
    bool begun = false;

    (void)state;
    if (!file)
        fail_msg("cannot open golden/sgd_torch.txt; run this in tests");
    while (fgets(line, sizeof(line), file)) {
        double numbers[16];
        size_t n;

        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "case ", 5) == 0) {
            u = parsed(line + 5);
            memset(velocity, 0, sizeof(velocity));
            number = 0;
            begun = false;
            cases++;
        } else if ((n = read_numbers(line, "gradient", numbers, 16)) > 0) {
            for (size_t i = 0; i < n; i++)
                gradient[i] = (float)numbers[i];
            update(&u, ++number, gradient, value, velocity, n);
        } else if ((n = read_numbers(line, "value", numbers, 16)) > 0) {
            count = n;
            for (size_t i = 0; i < n; i++)
                if (begun)
                    assert_true(fabs(value[i] - numbers[i]) < 2e-6);
                else
                    value[i] = (float)numbers[i];
            checks += begun ? count : 0;
            begun = true;
        }
    }
    fclose(file);
    assert_int_equal(cases, 6);
    assert_int_equal(checks, 6 * 5 * 6);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_canonical),
        cmocka_unit_test(numbers_survive_printing),
        cmocka_unit_test(locale_does_not_matter),
        cmocka_unit_test(messages_name_the_place),
        cmocka_unit_test(long_texts_are_refused),
        cmocka_unit_test(scale_of_a_sum),
        cmocka_unit_test(steps_equal_the_plain_loop),
        cmocka_unit_test(nothing_is_done_to_no_elements),
        cmocka_unit_test(not_a_number_reaches_the_parameter),
        cmocka_unit_test(steps_equal_pytorch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
