/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lowrank_sim.c - powersgd on a device: factors near those of the host,
 * messages that both decode to the same bits, errors that are exactly what the
 * message lacks.
 */
#include "tests/gpu/coder_rig.h"

enum { ROWS = 90, COLUMNS = 140, COUNT = ROWS * COLUMNS, CHUNKS = 3 };
/* Chunks begin and end within rows; the last is too small for factors. */
static const size_t begins[CHUNKS + 1] = {0, 6001, 12500, COUNT};

/* A tensor on a device, its twin on the host, and messages. */
typedef struct lowrank {
    gp_device *device;
    gp_pipeline *pipeline;
    gp_coder *coder;
    void *stream;
    gp_codec_memory *memory;
    float *source, *residual, *state, *out; /* of the device */
    float *velocity;                        /* likewise, or NULL */
    void *whole, *space;
    uint8_t *bytes[CHUNKS], *twin; /* pinned; of the host */
    uint64_t *encoded;
    uint32_t *status;
    float plain[COUNT], decoded[COUNT], expected[COUNT], copy[COUNT];
    size_t states;
} lowrank;

static void *
on_device(const lowrank *r, size_t bytes)
{
    void *out = NULL;

    check(r->device->ops->alloc(r->device, bytes, &out));
    check(r->device->ops->fill(r->device, out, 0, bytes));
    return out;
}

static void *
pinned(const lowrank *r, size_t bytes)
{
    void *out = NULL;

    check(r->device->ops->alloc_pinned(r->device, bytes, &out));
    memset(out, 0, bytes);
    return out;
}

static void
open_lowrank(lowrank *r, const char *text)
{
    const gp_codec_shape shape = {COUNT, COLUMNS};

    memset(r, 0, sizeof(*r));
    check(gp_device_open("cuda", &r->device));
    check(gp_pipeline_open(text, &shape, &r->pipeline));
    check(gp_coder_open(r->device, r->pipeline, &r->coder));
    check(r->device->ops->stream_create(r->device, &r->stream));
    check(gp_codec_memory_create(r->pipeline, 0, COUNT, 1, &r->memory));
    r->states = r->memory->states[1];
    r->source = on_device(r, sizeof(r->plain));
    r->residual = on_device(r, sizeof(r->plain));
    r->out = on_device(r, sizeof(r->plain));
    if (r->memory->velocity)
        r->velocity = on_device(r, sizeof(r->plain));
    r->state = on_device(r, r->states * sizeof(float));
    r->whole = on_device(r, gp_coder_whole_bytes(r->coder, COUNT));
    for (size_t c = 0; c < CHUNKS; c++)
        r->bytes[c] = pinned(r, gp_pipeline_bound(r->pipeline, COUNT));
    r->twin = malloc(gp_pipeline_bound(r->pipeline, COUNT));
    r->encoded = pinned(r, CHUNKS * sizeof(*r->encoded));
    r->status = pinned(r, 64 * sizeof(*r->status));
    r->space = gp_alloc_aligned(gp_pipeline_workspace(r->pipeline, COUNT) + 1);
}

static void
close_lowrank(lowrank *r)
{
    gp_device *d = r->device;

    gp_coder_close(r->coder);
    gp_codec_memory_destroy(r->memory);
    gp_pipeline_destroy(r->pipeline);
    d->ops->stream_destroy(d, r->stream);
    d->ops->free(d, r->source);
    d->ops->free(d, r->residual);
    d->ops->free(d, r->velocity);
    d->ops->free(d, r->out);
    d->ops->free(d, r->state);
    d->ops->free(d, r->whole);
    for (size_t c = 0; c < CHUNKS; c++)
        d->ops->free_pinned(d, r->bytes[c]);
    d->ops->free_pinned(d, r->encoded);
    d->ops->free_pinned(d, r->status);
    free(r->twin);
    free(r->space);
    gp_device_close(d);
    if (!real_driver()) {
        assert_int_equal(gp_sim_cuda_objects(), 0);
        assert_int_equal(gp_sim_cublas_handles(), 0);
    }
}

static gp_codec_context
context_at(uint64_t offset, uint64_t step)
{
    return (gp_codec_context){
        .seed = 5, .tensor = 3, .offset = offset, .step = step, .size = 2};
}

/* A matrix of a few strong directions and noise. */
static void
fill(lowrank *r, uint64_t step, float scale)
{
    for (size_t i = 0; i < COUNT; i++) {
        float row = number_gauss(i / COLUMNS + 7000 * step);
        float column = number_gauss(i % COLUMNS + 900000);
        float other = number_gauss(i % COLUMNS + 950000) *
                      number_gauss(i / COLUMNS + 960000);

        r->plain[i] = scale * (row * column + 0.5f * other +
                               0.05f * number_gauss(i + 100000 * step));
    }
}

static void
list_chunks(lowrank *r, uint64_t step, gp_coder_part parts[CHUNKS])
{
    for (size_t c = 0; c < CHUNKS; c++)
        parts[c] = (gp_coder_part){
            .context = context_at(begins[c], step),
            .count = begins[c + 1] - begins[c],
            .source = r->source + begins[c],
            .residual = r->residual + begins[c],
            .velocity = r->velocity ? r->velocity + begins[c] : NULL,
            .whole = r->whole,
            .target = r->out + begins[c],
            .bytes = r->bytes[c],
            .length = (size_t)r->encoded[c],
            .encoded = &r->encoded[c],
            .status = &r->status[c]};
}

static gp_status
device_step(lowrank *r, uint64_t step)
{
    const gp_coder_whole whole = {.context = context_at(0, step),
                                  .count = COUNT,
                                  .source = r->source,
                                  .residual = r->residual,
                                  .velocity = r->velocity,
                                  .state = r->state,
                                  .whole = r->whole};
    gp_coder_part parts[CHUNKS];
    gp_status status;

    check(r->device->ops->copy_in(r->device, r->source, r->plain,
                                  sizeof(r->plain)));
    status = gp_coder_prepare(r->coder, &whole, 1, r->stream);
    list_chunks(r, step, parts);
    if (status == GP_OK)
        status = gp_coder_encode(r->coder, parts, CHUNKS, r->stream);
    check(r->device->ops->synchronize(r->device));
    return status;
}

/* The same on the host; what is decoded goes to `expected`. */
static void
host_step(lowrank *r, uint64_t step)
{
    gp_codec_context context = context_at(0, step);

    check(
        gp_pipeline_prepare(r->pipeline, &context, r->memory, r->plain, COUNT));
    for (size_t c = 0; c < CHUNKS; c++) {
        size_t n = begins[c + 1] - begins[c], length = 0;

        context.offset = begins[c];
        check(gp_pipeline_encode(
            r->pipeline, &context, r->memory, r->plain + begins[c], n, r->twin,
            gp_pipeline_bound(r->pipeline, n), &length, r->space));
        check(gp_pipeline_decode(r->pipeline, &context, r->twin, length,
                                 r->expected + begins[c], n, r->space));
        if (length != r->encoded[c])
            fail_msg("chunk %zu has %zu bytes, not %zu", c,
                     (size_t)r->encoded[c], length);
    }
}

/* The device's messages as the host decodes them; the device must do the
 * same. */
static void
decode_both(lowrank *r, uint64_t step, const char *text)
{
    gp_coder_part parts[CHUNKS];

    for (size_t c = 0; c < CHUNKS; c++) {
        gp_codec_context context = context_at(begins[c], step);

        check(gp_pipeline_decode(r->pipeline, &context, r->bytes[c],
                                 (size_t)r->encoded[c], r->decoded + begins[c],
                                 begins[c + 1] - begins[c], r->space));
    }
    list_chunks(r, step, parts);
    check(gp_coder_decode(r->coder, parts, CHUNKS, false, r->stream));
    check(gp_coder_decode(r->coder, parts, CHUNKS, true, r->stream));
    check(r->device->ops->synchronize(r->device));
    check(
        r->device->ops->copy_out(r->device, r->copy, r->out, sizeof(r->copy)));
    for (size_t c = 0; c < CHUNKS; c++)
        assert_int_equal(r->status[c], 0);
    for (size_t i = 0; i < COUNT; i++) {
        float twice = r->decoded[i] + r->decoded[i];

        expect_floats(&r->copy[i], &twice, 1, text, "decoded", i);
    }
}

/* The velocity is the host's, which is what was to be sent then. */
static void
take_velocity(lowrank *r, const char *text)
{
    if (!r->velocity)
        return;
    check(r->device->ops->copy_out(r->device, r->copy, r->velocity,
                                   sizeof(r->copy)));
    expect_floats(r->copy, r->memory->velocity, COUNT, text, "velocity", 0);
    memcpy(r->plain, r->copy, sizeof(r->plain));
}

/* What is kept is what was to be sent, less what the message says. */
static void
expect_kept(lowrank *r, const float *before, const char *text)
{
    check(r->device->ops->copy_out(r->device, r->copy, r->residual,
                                   sizeof(r->copy)));
    for (size_t i = 0; i < COUNT; i++) {
        float u = before[i] + r->plain[i], kept = u - r->decoded[i];

        kept = isfinite(kept) ? kept : 0;
        expect_floats(&r->copy[i], &kept, 1, text, "residual", i);
    }
}

static double
distance(const float *a, const float *b)
{
    double sum = 0;

    for (size_t i = 0; i < COUNT; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

static double
norm(const float *a)
{
    double sum = 0;

    for (size_t i = 0; i < COUNT; i++)
        sum += (double)a[i] * (double)a[i];
    return sqrt(sum);
}

/* Three steps, with what both remember. */
static void
compare_steps(const char *text, float scale, double within)
{
    static float before[COUNT];
    lowrank *r = malloc(sizeof(*r));

    open_lowrank(r, text);
    for (uint64_t step = 0; step < 3; step++) {
        check(r->device->ops->copy_out(r->device, before, r->residual,
                                       sizeof(before)));
        fill(r, step, scale);
        check(device_step(r, step));
        host_step(r, step);
        decode_both(r, step, text);
        take_velocity(r, text);
        if (strncmp(text, "ef:decay", 8) != 0)
            expect_kept(r, before, text);
        if (!(distance(r->decoded, r->expected) <= within * norm(r->expected)))
            fail_msg("%s: step %zu is %g of %g off", text, (size_t)step,
                     distance(r->decoded, r->expected), norm(r->expected));
        assert_true(norm(r->expected) > 0);
    }
    close_lowrank(r);
    free(r);
}

static void
factors_are_near_those_of_the_host(void **state)
{
    (void)state;
    compare_steps("powersgd:rank=2", 1, 1e-4);
    compare_steps("powersgd:rank=3,power=3", 1e-3f, 1e-4);
    compare_steps("powersgd:rank=2,factors=fp16", 1, 2e-3);
    compare_steps("ef:decay=0.5+powersgd:rank=1", 10, 1e-4);
}

/* The sum that is multiplied has what momentum made of the gradient. */
static void
velocities_are_those_of_the_host(void **state)
{
    lowrank *r = malloc(sizeof(*r));
    const float *values;

    (void)state;
    compare_steps("momentum+powersgd:rank=2", 1, 1e-4);
    compare_steps("momentum:clip=10+powersgd:rank=2,power=2", 1, 1e-4);
    compare_steps("momentum:factor=0.5,clip=1e9+powersgd:rank=1", 10, 1e-4);
    open_lowrank(r, "momentum+powersgd");
    values = r->residual;
    r->residual = NULL;
    assert_int_equal(device_step(r, 0), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "residual"));
    r->residual = (float *)values;
    close_lowrank(r);
    free(r);
}

static void
far_numbers_are_scaled(void **state)
{
    (void)state;
    compare_steps("powersgd:rank=2", 0x1p-100f, 1e-4);
    compare_steps("powersgd:rank=2", 0x1p110f, 1e-4);
    compare_steps("powersgd:rank=2,factors=fp16", 0x1p-80f, 2e-3);
}

/* A number that is none makes all of it NaN; the next step is as if that one
 * had not been. A matrix of zeros leaves what is remembered. */
static void
matrices_of_which_nothing_is_sent(void **state)
{
    lowrank *r = malloc(sizeof(*r));

    (void)state;
    open_lowrank(r, "powersgd:rank=2");
    fill(r, 0, 1);
    r->plain[77] = INFINITY;
    check(device_step(r, 0));
    assert_int_equal(r->encoded[0], 4);
    decode_both(r, 0, "nothing");
    assert_true(isnan(r->decoded[0]) && isnan(r->decoded[begins[2] - 1]));
    assert_true(isfinite(r->decoded[COUNT - 1]));
    host_step(r, 0);
    memset(r->plain, 0, sizeof(r->plain));
    check(device_step(r, 1));
    host_step(r, 1);
    decode_both(r, 1, "zeros");
    assert_true(norm(r->decoded) <= 1e-6);
    fill(r, 2, 1);
    check(device_step(r, 2));
    host_step(r, 2);
    decode_both(r, 2, "afterwards");
    assert_true(distance(r->decoded, r->expected) <= 1e-4 * norm(r->expected));
    close_lowrank(r);
    free(r);
}

static void
the_same_bytes_every_time(void **state)
{
    static uint8_t first[CHUNKS][65536];
    lowrank *r = malloc(sizeof(*r));

    (void)state;
    for (int turn = 0; turn < 2; turn++) {
        open_lowrank(r, "powersgd:rank=4,power=2");
        fill(r, 1, 1);
        check(device_step(r, 0));
        check(device_step(r, 1));
        for (size_t c = 0; c < CHUNKS; c++) {
            assert_true(r->encoded[c] <= sizeof(first[c]));
            if (turn)
                expect_bytes(r->bytes[c], first[c], r->encoded[c], "turn", c);
            memcpy(first[c], r->bytes[c], r->encoded[c]);
        }
        close_lowrank(r);
    }
    free(r);
}

/* Bytes that are others: both refuse the same messages. */
static void
compare_broken(const char *text, size_t c)
{
    lowrank *r = malloc(sizeof(*r));
    gp_coder_part parts[CHUNKS];
    size_t refused = 0;
    uint8_t *good;

    open_lowrank(r, text);
    fill(r, 0, 1);
    check(device_step(r, 0));
    good = malloc(r->encoded[c]);
    memcpy(good, r->bytes[c], r->encoded[c]);
    for (size_t n = 0; n < 40; n++) {
        static const uint8_t values[] = {0xff, 0x7f, 0x80, 0x3f};
        uint64_t random = number_bits(n + 50);
        size_t length = r->encoded[c], at = random % length;
        gp_codec_context context = context_at(begins[c], 0);
        bool fine;

        memcpy(r->bytes[c], good, length);
        at = n < 12 ? n % 4 : n % 3 ? at | 3 : at;
        r->bytes[c][GP_MIN(at, length - 1)] = values[random >> 40 & 3];
        list_chunks(r, 0, parts);
        parts[c].length = n % 10 == 9 ? length - 1 : length;
        *parts[c].status = 0;
        fine = gp_pipeline_decode(r->pipeline, &context, r->bytes[c],
                                  parts[c].length, r->decoded, parts[c].count,
                                  r->space) == GP_OK;
        check(gp_coder_decode(r->coder, &parts[c], 1, false, r->stream));
        check(r->device->ops->synchronize(r->device));
        if (fine != (*parts[c].status == 0))
            fail_msg("%s: mutant %zu: host %d, device %u", text, n, fine,
                     *parts[c].status);
        refused += !fine;
    }
    assert_true(refused > 0);
    free(good);
    close_lowrank(r);
    free(r);
}

static void
damage_is_seen_as_on_the_host(void **state)
{
    (void)state;
    compare_broken("powersgd:rank=2", 0);
    compare_broken("powersgd:rank=2,factors=fp16", 1);
    compare_broken("powersgd:rank=2", 2);
}

/* What cuBLAS says reaches the caller; without it there is no coder. */
static void
cublas_that_fails_or_is_not_there(void **state)
{
    static const char *const calls[] = {"cublasSetStream_v2", "cublasGemmEx",
                                        "cublasSetWorkspace_v2",
                                        "cublasSetAtomicsMode"};
    const gp_codec_shape shape = {COUNT, COLUMNS};
    lowrank *r = malloc(sizeof(*r));
    gp_pipeline *p;
    gp_device *d;
    gp_coder *coder = NULL;

    (void)state;
    if (real_driver()) {
        free(r);
        skip();
    }
    for (size_t i = 0; i < GP_COUNT_OF(calls); i++) {
        open_lowrank(r, "powersgd");
        fill(r, 0, 1);
        gp_sim_cublas_fail(calls[i], 1, 13);
        assert_int_equal(device_step(r, 0), GP_ERR_SYSTEM);
        assert_non_null(strstr(gp_last_error(), "EXECUTION_FAILED"));
        check(device_step(r, 0));
        close_lowrank(r);
    }
    free(r);
    check(gp_device_open("cuda", &d));
    check(gp_pipeline_open("powersgd", &shape, &p));
    gp_sim_cublas_fail("cublasCreate_v2", 0, 1);
    assert_int_equal(gp_coder_open(d, p, &coder), GP_ERR_SYSTEM);
    gp_sim_cublas_fail("", 1, 0);
    gp_sim_cuda_fail("cuMemAlloc", 1, 2);
    assert_int_equal(gp_coder_open(d, p, &coder), GP_ERR_NO_MEMORY);
    gp_sim_cublas_install(false);
    assert_int_equal(gp_coder_open(d, p, &coder), GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(gp_last_error(), "cublas"));
    gp_sim_cublas_install(true);
    assert_null(coder);
    gp_pipeline_destroy(p);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* Without a shape there are no factors: elements as they are. */
static void
without_columns_elements_travel(void **state)
{
    (void)state;
    compare("powersgd", true, false);
    compare("powersgd:rank=1", false, true);
}

static void
what_was_not_looked_at_is_refused(void **state)
{
    lowrank *r = malloc(sizeof(*r));
    gp_coder_part parts[CHUNKS];
    gp_coder_whole whole = {.context = context_at(0, 0), .count = COUNT - 1};

    (void)state;
    open_lowrank(r, "powersgd");
    assert_int_equal(gp_coder_prepare(r->coder, &whole, 1, r->stream),
                     GP_ERR_INVALID);
    whole.context.offset = COLUMNS;
    whole.count = COUNT;
    assert_int_equal(gp_coder_prepare(r->coder, &whole, 1, r->stream),
                     GP_ERR_INVALID);
    list_chunks(r, 0, parts);
    parts[1].whole = NULL;
    assert_int_equal(gp_coder_encode(r->coder, parts, CHUNKS, r->stream),
                     GP_ERR_INVALID);
    close_lowrank(r);
    free(r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_near_those_of_the_host),
        cmocka_unit_test(velocities_are_those_of_the_host),
        cmocka_unit_test(far_numbers_are_scaled),
        cmocka_unit_test(matrices_of_which_nothing_is_sent),
        cmocka_unit_test(the_same_bytes_every_time),
        cmocka_unit_test(damage_is_seen_as_on_the_host),
        cmocka_unit_test(cublas_that_fails_or_is_not_there),
        cmocka_unit_test(without_columns_elements_travel),
        cmocka_unit_test(what_was_not_looked_at_is_refused),
    };

    choose_driver();
    if (!real_driver())
        gp_sim_cublas_install(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
