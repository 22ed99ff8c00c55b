/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_whole_sim.c - what looks at elements before it encodes them: selections
 * from whole tensors, relative thresholds, grids with the step of a tensor,
 * gradients of limited length, numbers that workers agree on, large blocks of
 * rotations. Over some steps, bytes, what they decode to and everything that is
 * remembered are those of the host.
 *
 * Sums of squares have another order on a device, which moves a cut by one unit
 * in the last place at most; for these numbers it does not.
 */
#include "tests/gpu/coder_rig.h"

enum { COUNT = 70001, CHUNKS = 3, STEPS = 2 };

static const size_t begins[CHUNKS + 1] = {0, 40000, 40960, COUNT};

typedef enum numbers { NORMAL, TIES, NONE } numbers;

typedef struct tensor {
    gp_device *device;
    gp_pipeline *pipeline;
    gp_coder *coder;
    gp_codec_memory *memory; /* the host's */
    float *source, *residual, *velocity, *history, *target;
    uint32_t *status;
    void *whole;
    uint8_t *bytes[CHUNKS];
    uint64_t *encoded;
    float *proposals; /* NULL: there are none */
    uint8_t *message;
    void *space;
} tensor;

static void *
pinned(tensor *t, size_t bytes)
{
    void *out;

    check(t->device->ops->alloc_pinned(t->device, bytes + 1, &out));
    memset(out, 0, bytes);
    return out;
}

static float *
field_of(const tensor *t, const char *name)
{
    const char *has;
    float *values;

    for (size_t i = 0; gp_codec_memory_field(t->memory, i, &has, &values); i++)
        if (strcmp(has, name) == 0)
            return values;
    return NULL;
}

static tensor
open_tensor(const char *text)
{
    const gp_codec_shape shape = {COUNT, 0};
    tensor t = {.device = NULL};
    size_t bound;

    check(gp_device_open("cuda", &t.device));
    check(gp_pipeline_open(text, &shape, &t.pipeline));
    check(gp_coder_open(t.device, t.pipeline, &t.coder));
    check(gp_codec_memory_create(t.pipeline, 0, COUNT,
                                 strchr(text, '+') && strncmp(text, "to", 2),
                                 &t.memory));
    bound = gp_pipeline_bound(t.pipeline, COUNT);
    t.source = pinned(&t, 4 * COUNT);
    t.target = pinned(&t, 4 * COUNT);
    t.status = pinned(&t, 4);
    t.residual = field_of(&t, "residual") ? pinned(&t, 4 * COUNT) : NULL;
    t.velocity = field_of(&t, "velocity") ? pinned(&t, 4 * COUNT) : NULL;
    t.history = field_of(&t, "history") ? pinned(&t, 4 * COUNT) : NULL;
    if (gp_coder_whole_bytes(t.coder, COUNT))
        t.whole = pinned(&t, gp_coder_whole_bytes(t.coder, COUNT));
    for (size_t c = 0; c < CHUNKS; c++)
        t.bytes[c] = pinned(&t, bound);
    t.encoded = pinned(&t, 8 * CHUNKS);
    if (gp_pipeline_needs(t.pipeline) & GP_PIPELINE_PROPOSES)
        t.proposals = pinned(&t, 4 * CHUNKS);
    t.message = malloc(bound);
    t.space = gp_alloc_aligned(gp_pipeline_workspace(t.pipeline, COUNT) + 1);
    return t;
}

static void
close_tensor(tensor *t)
{
    gp_device *d = t->device;

    gp_coder_close(t->coder);
    gp_codec_memory_destroy(t->memory);
    gp_pipeline_destroy(t->pipeline);
    d->ops->free_pinned(d, t->source);
    d->ops->free_pinned(d, t->target);
    d->ops->free_pinned(d, t->status);
    d->ops->free_pinned(d, t->residual);
    d->ops->free_pinned(d, t->velocity);
    d->ops->free_pinned(d, t->history);
    d->ops->free_pinned(d, t->whole);
    for (size_t c = 0; c < CHUNKS; c++)
        d->ops->free_pinned(d, t->bytes[c]);
    d->ops->free_pinned(d, t->encoded);
    d->ops->free_pinned(d, t->proposals);
    free(t->message);
    free(t->space);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static gp_codec_context
context_at(size_t step, size_t chunk)
{
    return (gp_codec_context){.seed = 3,
                              .tensor = 9,
                              .offset = begins[chunk],
                              .step = step,
                              .rank = 1,
                              .size = 4};
}

static void
fill(tensor *t, size_t step, numbers what)
{
    for (size_t i = 0; i < COUNT; i++) {
        t->source[i] = number_gauss(i + step * COUNT) * 0.01f;
        if (what == TIES)
            t->source[i] = i % 5 ? (float)(i % 3) - 1 : 0.25f;
    }
    for (size_t i = 0; what == NONE && step == 0 && i < 2000; i++)
        t->source[i] = i % 2 ? NAN : -INFINITY;
    if (what == NONE && step == 0)
        t->source[COUNT - 77] = INFINITY;
}

/* What comes back of a proposal, as of a worker with larger numbers. */
static float
agreed(const tensor *t, size_t c)
{
    return t->proposals ? 1.5f * t->proposals[c] : 0;
}

static void
device_proposes(tensor *t, gp_coder_part *parts)
{
    for (size_t c = 0; c < CHUNKS; c++)
        parts[c].proposal = &t->proposals[c];
    check(gp_coder_propose(t->coder, parts, CHUNKS, NULL));
    check(t->device->ops->synchronize(t->device));
    for (size_t c = 0; c < CHUNKS; c++) {
        parts[c].proposed = true;
        parts[c].context.shared = agreed(t, c);
    }
}

static void
device_encodes(tensor *t, size_t step)
{
    const gp_coder_whole whole = {.context = context_at(step, 0),
                                  .count = COUNT,
                                  .source = t->source,
                                  .residual = t->residual,
                                  .velocity = t->velocity,
                                  .history = t->history,
                                  .whole = t->whole};
    gp_coder_part parts[CHUNKS];

    for (size_t c = 0; c < CHUNKS; c++)
        parts[c] = (gp_coder_part){
            .context = context_at(step, c),
            .count = begins[c + 1] - begins[c],
            .source = t->source + begins[c],
            .residual = t->residual ? t->residual + begins[c] : NULL,
            .velocity = t->velocity ? t->velocity + begins[c] : NULL,
            .history = t->history ? t->history + begins[c] : NULL,
            .whole = t->whole,
            .bytes = t->bytes[c],
            .encoded = &t->encoded[c]};
    if (t->whole)
        check(gp_coder_prepare(t->coder, &whole, 1, NULL));
    if (t->proposals)
        device_proposes(t, parts);
    check(gp_coder_encode(t->coder, parts, CHUNKS, NULL));
    check(t->device->ops->synchronize(t->device));
}

/* What the message of a chunk decodes to, added to what was there. */
static void
compare_decoded(tensor *t, size_t step, size_t c, size_t length,
                const char *text)
{
    static float want[COUNT];
    const gp_coder_part part = {.context = context_at(step, c),
                                .count = begins[c + 1] - begins[c],
                                .target = t->target,
                                .bytes = t->bytes[c],
                                .length = length,
                                .status = t->status};

    for (size_t i = 0; i < part.count; i++)
        want[i] = t->target[i] = number_gauss(i + 30 * step);
    check(gp_coder_decode(t->coder, &part, 1, true, NULL));
    check(t->device->ops->synchronize(t->device));
    assert_int_equal(*t->status, 0);
    check(gp_pipeline_decode_add(t->pipeline, &part.context, t->message, length,
                                 want, part.count, t->space));
    expect_floats(t->target, want, part.count, text, "decoded", c);
}

static void
compare_chunk(tensor *t, size_t step, size_t c, const char *text)
{
    gp_codec_context context = context_at(step, c);
    size_t length = 0, n = begins[c + 1] - begins[c];
    float number;

    if (t->proposals) {
        check(gp_pipeline_propose(t->pipeline, &context, t->memory,
                                  t->source + begins[c], n, &number));
        expect_floats(&t->proposals[c], &number, 1, text, "proposal", c);
        context.shared = agreed(t, c);
    }
    check(gp_pipeline_encode(
        t->pipeline, &context, t->memory, t->source + begins[c], n, t->message,
        gp_pipeline_bound(t->pipeline, COUNT), &length, t->space));
    if (t->encoded[c] != length)
        fail_msg("%s: step %zu, chunk %zu has %zu bytes, not %zu", text, step,
                 c, (size_t)t->encoded[c], length);
    expect_bytes(t->bytes[c], t->message, length, text, c);
    if (gp_coder_decodes(t->coder))
        compare_decoded(t, step, c, length, text);
}

static void
compare_fields(const tensor *t, const char *text)
{
    if (t->residual)
        expect_floats(t->residual, field_of(t, "residual"), COUNT, text,
                      "residual", 0);
    if (t->velocity)
        expect_floats(t->velocity, field_of(t, "velocity"), COUNT, text,
                      "velocity", 0);
    if (t->history)
        expect_floats(t->history, field_of(t, "history"), COUNT, text,
                      "history", 0);
}

static void
compare_tensor(const char *text, numbers what)
{
    tensor t = open_tensor(text);

    for (size_t step = 0; step < STEPS; step++) {
        gp_codec_context context = context_at(step, 0);

        fill(&t, step, what);
        device_encodes(&t, step);
        if (gp_pipeline_needs(t.pipeline) & GP_PIPELINE_PREPARES)
            check(gp_pipeline_prepare(t.pipeline, &context, t.memory, t.source,
                                      COUNT));
        for (size_t c = 0; c < CHUNKS; c++)
            compare_chunk(&t, step, c, text);
        compare_fields(&t, text);
    }
    close_tensor(&t);
}

static void
selections_from_tensors_are_those_of_the_host(void **state)
{
    (void)state;
    compare_tensor("ef+topk:0.01,scope=tensor+q8", NORMAL);
    compare_tensor("topk:0.6,scope=tensor+bf16+raw", NORMAL);
    compare_tensor("ef:decay=0.5+topk:0.001,scope=tensor+none", NORMAL);
    compare_tensor("ef+threshold:0.02,scope=tensor+q8", NORMAL);
    compare_tensor("ef+threshold:2,relative=1,scope=tensor+q8", NORMAL);
}

/* Of equal magnitudes those ahead are chosen, in whichever chunk they are. */
static void
ties_and_numbers_that_are_none(void **state)
{
    (void)state;
    compare_tensor("ef+topk:0.3,scope=tensor+fp16", TIES);
    compare_tensor("topk:0.9,scope=tensor+none", TIES);
    compare_tensor("ef+topk:0.01,scope=tensor+none", NONE);
    compare_tensor("topk:0.01,scope=tensor+q8", NONE);
    compare_tensor("ef+threshold:1,relative=1,scope=tensor+none", NONE);
}

static void
what_is_remembered_of_tensors(void **state)
{
    (void)state;
    compare_tensor("momentum+topk:0.01,scope=tensor+q8", NORMAL);
    compare_tensor("momentum:clip=0.01,nesterov=1+topk:0.02,scope=tensor",
                   NORMAL);
    compare_tensor("ef21+topk:0.05,scope=tensor+q8", NORMAL);
    compare_tensor("ef21+threshold:1.5,relative=1,scope=tensor", NORMAL);
}

/* A chunk of numbers that are none has the others' step. */
static void
grids_of_tensors(void **state)
{
    (void)state;
    compare_tensor("uq:scope=tensor", NORMAL);
    compare_tensor("ef+uq:scope=tensor,c=0.5", NORMAL);
    compare_tensor("uq:scope=tensor,round=stochastic", TIES);
    compare_tensor("uq:scope=tensor,round=dither", NONE);
    compare_tensor("ef:decay=0.5+uq:scope=tensor", NONE);
    compare_tensor("momentum:clip=0.01+uq:scope=tensor", NORMAL);
    compare_tensor("ef21+uq:c=0.25,scope=tensor", NORMAL);
}

static void
relative_thresholds_and_clipped_gradients(void **state)
{
    (void)state;
    compare_tensor("ef+threshold:1.5,relative=1+q8", NORMAL);
    compare_tensor("threshold:0.5,relative=1+none+bitmap", NONE);
    compare_tensor("momentum:clip=0.1+q8", NORMAL);
    compare_tensor("momentum:clip=1e9+q8", NORMAL);
    compare_tensor("momentum:clip=0.5+hadamard+q4", NORMAL);
    compare_tensor("momentum:clip=0.5,mask=0+topk:0.01+sign:block=32", NONE);
}

/* What is remembered goes into the numbers that workers agree on. */
static void
proposals_of_what_is_remembered(void **state)
{
    (void)state;
    compare_tensor("ef+intsum", NORMAL);
    compare_tensor("momentum+intsum", NORMAL);
    compare_tensor("momentum:clip=0.5,nesterov=1+intsum:bits=4", NORMAL);
    compare_tensor("momentum+intsum:round=stochastic", NONE);
    compare_tensor("ef21+intsum", NORMAL);
    compare_tensor("ef21+intsum:bits=4", NORMAL);
    compare_tensor("ef21+intsum:bits=16", NONE);
    compare_tensor("momentum+thc", NORMAL);
    compare_tensor("momentum:clip=0.1+thc:bits=2,block=256", NORMAL);
    compare_tensor("momentum:nesterov=1+thc:block=4096", NONE);
}

/* In shared memory, or where a device has too little of it, in its own. */
static void
compare_blocks(int block_shared)
{
    const gp_sim_cuda_options options = {.devices = 1,
                                         .block_shared = block_shared},
                              usual = {.devices = 1};

    gp_sim_cuda_install(&options);
    compare_tensor("hadamard:block=32768+q8", NORMAL);
    compare_tensor("ef+hadamard:block=16384+q4", NONE);
    compare_tensor("ef21+hadamard:block=32768+bf16", NORMAL);
    compare_tensor("ef+drive:block=32768,scale=mse", NORMAL);
    compare_tensor("eden:block=32768", NONE);
    compare_tensor("ef+eden:bits=2,block=16384,scale=mse", TIES);
    compare_tensor("momentum+thc", NORMAL);
    compare_tensor("ef+thc:bits=2,block=16384", NONE);
    gp_sim_cuda_install(&usual);
}

static void
large_blocks_in_shared_memory(void **state)
{
    (void)state;
    if (real_driver())
        skip();
    compare_blocks(0);
}

static void
large_blocks_without_shared_memory(void **state)
{
    uint32_t near = gp_sim_cuda_launches_of("gp_cuda_eden_encode");

    (void)state;
    if (real_driver())
        skip();
    compare_blocks(48 * 1024);
    assert_int_equal(gp_sim_cuda_launches_of("gp_cuda_eden_encode"), near);
}

/* Velocities go to residuals before anybody agrees. */
static void
velocities_without_residuals_are_refused(void **state)
{
    tensor t = open_tensor("momentum+intsum");
    gp_coder_part part = {.context = context_at(0, 0),
                          .count = 100,
                          .source = t.source,
                          .velocity = t.velocity,
                          .proposal = t.proposals,
                          .bytes = t.bytes[0],
                          .encoded = t.encoded};

    (void)state;
    assert_int_equal(gp_coder_propose(t.coder, &part, 1, NULL), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "residual"));
    assert_int_equal(gp_coder_encode(t.coder, &part, 1, NULL), GP_ERR_INVALID);
    part.velocity = NULL;
    check(gp_coder_propose(t.coder, &part, 1, NULL));
    check(gp_coder_encode(t.coder, &part, 1, NULL));
    check(t.device->ops->synchronize(t.device));
    close_tensor(&t);
}

static void
what_is_wrong_is_told(void **state)
{
    tensor t = open_tensor("ef+topk:0.01,scope=tensor");
    gp_coder_part part = {.context = context_at(0, 0),
                          .count = 100,
                          .source = t.source,
                          .bytes = t.bytes[0],
                          .encoded = t.encoded};
    gp_coder_whole whole = {.context = context_at(0, 1),
                            .count = 100,
                            .source = t.source,
                            .whole = t.whole};

    (void)state;
    assert_int_equal(gp_coder_encode(t.coder, &part, 1, NULL), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "not looked at"));
    assert_int_equal(gp_coder_prepare(t.coder, &whole, 1, NULL),
                     GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "begins at 0"));
    close_tensor(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections_from_tensors_are_those_of_the_host),
        cmocka_unit_test(ties_and_numbers_that_are_none),
        cmocka_unit_test(what_is_remembered_of_tensors),
        cmocka_unit_test(grids_of_tensors),
        cmocka_unit_test(relative_thresholds_and_clipped_gradients),
        cmocka_unit_test(proposals_of_what_is_remembered),
        cmocka_unit_test(large_blocks_in_shared_memory),
        cmocka_unit_test(large_blocks_without_shared_memory),
        cmocka_unit_test(velocities_without_residuals_are_refused),
        cmocka_unit_test(what_is_wrong_is_told),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
