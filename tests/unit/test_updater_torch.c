/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_updater_torch.c - every updater against PyTorch's, step by step.
 *
 * tests/golden/make_updaters.py made the numbers, in fp32 and once more in
 * double precision. The order of operations is PyTorch's, but not the bits:
 * PyTorch fuses multiplications with additions where it finds wide vectors,
 * this library never does, so that its own bits are the same everywhere. Each
 * operation that is fused saves half a unit in the last place of what it
 * rounds, mostly less than the parameter and the step. So a run may be off by
 * SLACK units of the largest of these so far, per step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gradpush/transport.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/updater.h"

#define COUNT 33
#define STEPS 20
#define SLACK 1.0

/* One updater's run. */
typedef struct run {
    gp_updater updater;
    float value[COUNT];
    float array[GP_UPDATER_ARRAYS][COUNT];
    double scale[COUNT]; /* largest number that was rounded */
    uint32_t x;
    uint64_t steps;
    char name[1024];
} run;

static void
draw(run *r, float *out)
{
    for (int i = 0; i < COUNT; i++) {
        r->x = r->x * 1664525u + 1013904223u;
        out[i] = (float)((int32_t)r->x >> 8) / 4194304.0f;
    }
}

static void
begin(run *r, const char *text)
{
    *r = (run){.x = 9};
    snprintf(r->name, sizeof(r->name), "%s", text);
    if (gp_updater_parse(text, &r->updater) != GP_OK)
        fail_msg("%s", gp_last_error());
    draw(r, r->value);
}

static double
norm(const float *values)
{
    double sum = 0;

    for (int i = 0; i < COUNT; i++)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* In two pieces, as if it were two chunks. */
static void
update(run *r, uint64_t number, float *gradient)
{
    const gp_updater *u = &r->updater;
    gp_updater_step step = {.number = number};
    static const size_t from[] = {0, 13, COUNT};

    for (int half = 0; u->ops->norms && half < 2; half++) {
        size_t at = from[half], count = from[half + 1] - at;
        float *arrays[GP_UPDATER_ARRAYS];

        for (int i = 0; i < GP_UPDATER_ARRAYS; i++)
            arrays[i] = u->arrays >> i & 1 ? r->array[i] + at : NULL;
        gp_updater_direct(u, &step, gradient + at, r->value + at, arrays,
                          count);
    }
    step.parameter_norm = norm(r->value);
    step.direction_norm = norm(gradient);
    for (int half = 0; half < 2; half++) {
        size_t at = from[half], count = from[half + 1] - at;
        float *arrays[GP_UPDATER_ARRAYS];

        for (int i = 0; i < GP_UPDATER_ARRAYS; i++)
            arrays[i] = u->arrays >> i & 1 ? r->array[i] + at : NULL;
        gp_updater_apply(u, &step, gradient + at, r->value + at, arrays, count);
    }
}

static void
clip(const gp_updater *u, float *gradient)
{
    float factor = gp_updater_clip(u, norm(gradient));

    for (int i = 0; i < COUNT; i++)
        gradient[i] *= factor;
}

static void
read_numbers(const char *hex, float *out)
{
    for (int i = 0; i < COUNT; i++) {
        char digits[9] = "";
        uint32_t bits;

        memcpy(digits, hex + 8 * i, 8);
        bits = (uint32_t)strtoul(digits, NULL, 16);
        memcpy(&out[i], &bits, sizeof(bits));
    }
}

/* The most by which a run is off, in units of the bound. */
static double
compare(run *r, const float *before, const float *want)
{
    double worst = 0;

    for (int i = 0; i < COUNT; i++) {
        double scale = fmax(fabs(want[i]), fabs(want[i] - before[i])), bound;

        r->scale[i] = fmax(r->scale[i], scale);
        bound = SLACK * (double)r->steps * r->scale[i] * FLT_EPSILON;

        worst = fmax(worst, fabs((double)r->value[i] - want[i]) / bound);
    }
    return worst;
}

static void
one_step(run *r, const char *hex)
{
    float gradient[COUNT], before[COUNT], want[COUNT];
    double worst;

    draw(r, gradient);
    memcpy(before, r->value, sizeof(before));
    r->steps++;
    if (r->updater.key[GP_KEY_CLIP] > 0)
        clip(&r->updater, gradient);
    update(r, r->steps, gradient);
    read_numbers(hex, want);
    worst = compare(r, before, want);
    if (!(worst < 1))
        fail_msg("%s: step %llu is off by %g of what is allowed", r->name,
                 (unsigned long long)r->steps, worst);
}

/* Of what every machine and compiler must make of each case. */
static const uint32_t sums[] = {
    0x13e03075, 0xad4dc6cd, 0x4252ec94, 0x348d35af, 0x22905853, 0xa18621c7,
    0x6f650e84, 0x3cf04101, 0x797ab9ad, 0xd43b763e, 0xc137ae43, 0x80c46689,
    0xe9189ad1, 0xd103b73c, 0x1ba694c1, 0xa1f0a0ed, 0xe4d37523, 0x5764eed4,
};

static void
same_bits(const run *r, int number)
{
    uint32_t crc = gp_crc32c(0, r->value, sizeof(r->value));

    crc = gp_crc32c(crc, r->array, sizeof(r->array));
    if (crc != sums[number])
        fail_msg("%s: the bits are others: 0x%08x", r->name, crc);
}

/* Roundings of 20 steps, seen from the run that has none. */
static void
last_step(const run *r, const char *hex)
{
    float want[COUNT];

    read_numbers(hex, want);
    for (int i = 0; i < COUNT; i++)
        if (!(fabs((double)r->value[i] - want[i]) < 4e-6))
            fail_msg("%s: %.9g instead of %.9g", r->name, r->value[i], want[i]);
}

static void
steps_equal_pytorch(void **state)
{
    FILE *file = fopen("golden/updaters_torch.txt", "r");
    char line[1024];
    run r = {.steps = 0};
    int cases = 0, steps = 0, ends = 0;

    (void)state;
    if (!file)
        fail_msg("cannot open golden/updaters_torch.txt; run this in tests");
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "case ", 5) == 0) {
            begin(&r, line + 5);
            cases++;
        } else if (strncmp(line, "step ", 5) == 0) {
            one_step(&r, line + 5);
            steps++;
        } else if (strncmp(line, "exact ", 6) == 0) {
            last_step(&r, line + 6);
            same_bits(&r, ends);
            ends++;
        }
    }
    fclose(file);
    assert_int_equal(cases, 18);
    assert_int_equal(steps, cases * STEPS);
    assert_int_equal(ends, cases);
}

/* Where chunks end changes nothing, to the last bit. */
static void
pieces_make_no_difference(void **state)
{
    static const char *const all[] = {
        "sgd:momentum=0.9,nesterov=1", "adagrad",        "rmsprop:momentum=0.9",
        "rmsprop:centered=1",          "adam:amsgrad=1", "adamw"};
    enum { MANY = 1000 };
    static float value[2][MANY], array[2][GP_UPDATER_ARRAYS][MANY],
        gradient[MANY];

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(all); k++) {
        gp_updater u;
        uint32_t x = 3;

        assert_int_equal(gp_updater_parse(all[k], &u), GP_OK);
        memset(array, 0, sizeof(array));
        for (int i = 0; i < MANY; i++)
            value[0][i] = value[1][i] = (float)(i % 17) - 8.5f;
        for (uint64_t n = 1; n <= 3; n++) {
            gp_updater_step step = {.number = n};

            for (int i = 0; i < MANY; i++) {
                x = x * 1664525u + 1013904223u;
                gradient[i] = (float)(int32_t)x / 1e9f;
            }
            for (size_t at = 0, size = MANY; at < 2 * MANY; at += size) {
                int which = at >= MANY;
                size_t first = at % MANY;
                float *arrays[GP_UPDATER_ARRAYS];

                if (which)
                    size = GP_MIN(first % 13 + 1, MANY - first);
                for (int i = 0; i < GP_UPDATER_ARRAYS; i++)
                    arrays[i] =
                        u.arrays >> i & 1 ? array[which][i] + first : NULL;
                gp_updater_apply(&u, &step, gradient + first,
                                 value[which] + first, arrays, size);
            }
        }
        assert_memory_equal(value[0], value[1], sizeof(value[0]));
        assert_memory_equal(array[0], array[1], sizeof(array[0]));
    }
}

static gp_updater
parsed(const char *text)
{
    gp_updater u;

    if (gp_updater_parse(text, &u) != GP_OK)
        fail_msg("%s", gp_last_error());
    return u;
}

static void
rates_follow_the_schedule(void **state)
{
    gp_updater u = parsed("sgd:lr=0.5");

    (void)state;
    assert_true(gp_updater_lr(&u, 0) == 0.5 &&
                gp_updater_lr(&u, 1u << 30) == 0.5);
    u = parsed("sgd:lr=1,warmup=4");
    assert_true(gp_updater_lr(&u, 0) == 0.25 && gp_updater_lr(&u, 2) == 0.75);
    assert_true(gp_updater_lr(&u, 3) == 1 && gp_updater_lr(&u, 4) == 1);
    u = parsed("sgd:lr=1,step_size=10,gamma=0.5,warmup=2");
    assert_true(gp_updater_lr(&u, 11) == 1 && gp_updater_lr(&u, 12) == 0.5);
    assert_true(gp_updater_lr(&u, 41) == 0.125);
    u = parsed("sgd:lr=1,cosine=100,lr_min=0.25");
    for (uint64_t n = 0; n < 130; n++) {
        double x = n < 100 ? (double)n / 100 : 1;
        double want = 0.25 + 0.75 * (1 + cos(3.14159265358979323846 * x)) / 2;

        assert_true(fabs(gp_updater_lr(&u, n) - want) < 1e-15);
    }
    assert_true(gp_updater_lr(&u, 100) == 0.25);
    assert_true(gp_updater_lr(&u, UINT64_MAX / 2) == 0.25);
}

static void
powers_equal_those_of_libm(void **state)
{
    static const double bases[] = {0, 0.5, 0.9, 0.999, 0.9999999, 1};
    static const uint64_t exponents[] = {0, 1, 2, 3, 10, 999, 123456, 1u << 31};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bases); i++)
        for (size_t k = 0; k < GP_COUNT_OF(exponents); k++) {
            double want = pow(bases[i], (double)exponents[k]);
            double have = gp_updater_power(bases[i], exponents[k]);

            /* Each squaring doubles the relative error of the one before. */
            assert_true(fabs(have - want) <=
                        want * (double)(2 * exponents[k] + 1) * DBL_EPSILON);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_pytorch),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(rates_follow_the_schedule),
        cmocka_unit_test(powers_equal_those_of_libm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
