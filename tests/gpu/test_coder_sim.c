/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_coder_sim.c - the ring of a coder, its room, what it refuses, and
 * faults.
 */
#include "tests/gpu/coder_rig.h"

static uint32_t
decode_part(rig *r, size_t p, size_t length)
{
    gp_coder_part parts[PARTS];
    uint32_t status;

    list_parts(r, 0, false, parts);
    parts[p].length = length;
    check(gp_coder_decode(r->coder, parts + p, 1, false, r->stream));
    check(r->device->ops->synchronize(r->device));
    status = *parts[p].status;
    *parts[p].status = 0;
    return status;
}

static uint32_t
fold_part(rig *r, size_t p)
{
    gp_codec_context context[WORKERS];
    gp_codec_input input[WORKERS];
    gp_coder_sum sum;
    uint32_t status;

    list_sum(r, p, context, input, &sum);
    check(gp_coder_fold(r->coder, &sum, 1, false, r->stream));
    check(r->device->ops->synchronize(r->device));
    status = *sum.status;
    *sum.status = 0;
    return status;
}

static void
damage_is_told(void **state)
{
    rig r = open_rig("q8");
    size_t p = 7, length;

    (void)state;
    for (size_t w = 0; w < WORKERS; w++)
        encode_all(&r, w, false);
    length = (size_t)*r.part[0][p].encoded;
    assert_int_equal(decode_part(&r, p, length), 0);
    assert_int_equal(decode_part(&r, p, length - 1), 1);
    assert_int_equal(decode_part(&r, p, length + 1), 1);
    assert_int_equal(fold_part(&r, p), 0);
    *r.part[1][p].encoded -= 1;
    assert_int_equal(fold_part(&r, p), 1);
    *r.part[1][p].encoded += 1;
    r.part[0][p].bytes[length - 1] = 0x80;
    assert_int_equal(decode_part(&r, p, length), 1);
    assert_int_equal(fold_part(&r, p), 1);
    r.part[0][p].bytes[length - 1] = 0;
    gp_put32(r.part[0][p].bytes, 0x80000000u);
    assert_int_equal(decode_part(&r, p, length), 1);
    assert_int_equal(fold_part(&r, p), 1);
    close_rig(&r);
}

/* A code and a scale that no encoder writes, where a thread has its first four
 * elements and where it has the next. */
static void
damage(uint8_t *bytes, size_t blocks, int how)
{
    size_t block = how % 2 ? 4 : 0;

    if (how < 2)
        bytes[4 * blocks + 256 * block + 77] = 0x80;
    else
        gp_put32(bytes + 4 * block, 0x80000000u);
}

enum { MANY = 8 + 2 + 1, LARGE = 9 };

/* A sum of more messages than there are workers. */
typedef struct crowd {
    rig r;
    gp_codec_context context[WORKERS];
    gp_codec_input input[MANY];
    gp_coder_sum sum;
} crowd;

static void
open_crowd(crowd *c, const char *text)
{
    gp_codec_input few[WORKERS];

    c->r = open_rig_with(text, WIDE);
    for (size_t w = 0; w < WORKERS; w++)
        encode_all(&c->r, w, false);
    list_sum(&c->r, LARGE, c->context, few, &c->sum);
    for (size_t i = 0; i < MANY; i++)
        c->input[i] = few[i % WORKERS];
    c->sum.input = c->input;
    c->sum.inputs = MANY;
}

static uint32_t
fold_crowd(crowd *c, bool add)
{
    uint32_t status;

    check(gp_coder_fold(c->r.coder, &c->sum, 1, add, c->r.stream));
    check(c->r.device->ops->synchronize(c->r.device));
    status = *c->sum.status;
    *c->sum.status = 0;
    return status;
}

/* The same on the host; false where a message is damaged. */
static bool
fold_on_host(const crowd *c, bool add, float *target)
{
    size_t n = counts[LARGE], bytes = gp_pipeline_workspace(c->r.pipeline, n);
    void *space = gp_alloc_aligned(bytes + 1);
    gp_status status =
        gp_pipeline_fold(c->r.pipeline, c->input, MANY, add, target, n, space);

    free(space);
    if (status != GP_ERR_CORRUPT)
        check(status);
    return status == GP_OK;
}

/* What is added up by several messages at a time, and then what is left. */
static const char *const added_up[] = {
    "q8",
    "none",
    "fp16",
    "bf16",
    "q4",
    "q4:block=96,scale=bf16",
    "q4:round=dither",
    "q2",
    "q2:dense=1",
    "fp8",
    "mxint8",
    "mxfp8",
    "mxfp6",
    "mxfp4",
    "nvfp4",
    "sign",
    "onebit:block=96",
    "vote",
    "terngrad",
    "qsgd",
    "qsgd:levels=1,block=64",
    "qsgd:levels=127,norm=max,block=0",
    "natural-dither:levels=30",
};

static void
many_messages_are_one_sum(void **state)
{
    static float target[MOST];

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(added_up); i++) {
        const char *text = added_up[i / 2];
        size_t n = counts[LARGE];
        crowd c;

        open_crowd(&c, text);
        memcpy(target, c.sum.target, 4 * n);
        assert_true(fold_on_host(&c, i % 2, target));
        assert_int_equal(fold_crowd(&c, i % 2), 0);
        expect_floats(c.sum.target, target, n, text, "sum", LARGE);
        close_rig(&c.r);
    }
}

/* A byte of a message becomes any other, near its beginning where scales are:
 * what is damaged to the host is so to a device, and the rest has one sum. */
static void
change_a_byte(crowd *c, size_t i, const char *text)
{
    static float target[MOST];
    static uint32_t x = 1;
    gp_codec_input *one = &c->input[i % MANY], good = *one;
    uint8_t *bytes = take(&c->r, good.length);
    bool sound;

    memcpy(bytes, good.bytes, good.length);
    x = x * 1664525u + 1013904223u;
    bytes[(x >> 8) % (i % 3 ? good.length : 64)] = (uint8_t)(x >> 24);
    one->bytes = bytes;
    sound = fold_on_host(c, false, target);
    assert_int_equal(fold_crowd(c, false) == 0, sound);
    if (sound)
        expect_floats(c->sum.target, target, counts[LARGE], text, "sum", i);
    *one = good;
}

static void
changes_are_damage_where_the_host_says_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(added_up); i++) {
        crowd c;

        open_crowd(&c, added_up[i]);
        for (size_t k = 0; k < 60; k++)
            change_a_byte(&c, k, added_up[i]);
        close_rig(&c.r);
    }
}

static void
damage_of_one_of_many_is_told(void **state)
{
    size_t blocks = (counts[LARGE] + 255) / 256;
    crowd c;

    (void)state;
    open_crowd(&c, "q8");
    assert_int_equal(fold_crowd(&c, false), 0);
    for (size_t i = 0; i < MANY * 4; i++) {
        gp_codec_input good = c.input[i / 4];
        uint8_t *bytes = take(&c.r, good.length);

        memcpy(bytes, good.bytes, good.length);
        damage(bytes, blocks, (int)(i % 4));
        c.input[i / 4].bytes = bytes;
        assert_int_not_equal(fold_crowd(&c, false), 0);
        c.input[i / 4] = good;
    }
    close_rig(&c.r);
}

/* The number of calls that go under way while the device waits. */
static size_t
fill_ring(rig *r, const uint32_t *number, const gp_coder_part *part)
{
    gp_status status = GP_OK;
    size_t n = 0;

    check(r->device->ops->wait_value(r->device, number, 1, r->stream));
    for (; status == GP_OK && n < 100; n += status == GP_OK)
        status = gp_coder_encode(r->coder, part, 1, r->stream);
    assert_int_equal(status, GP_AGAIN);
    return n;
}

static void
the_ring_says_when_it_is_full(void **state)
{
    gp_coder_room more = {.slots = 11};
    rig r = open_rig("q8");
    gp_coder_part parts[PARTS];
    void *number;

    (void)state;
    check(r.device->ops->alloc_pinned(r.device, 4, &number));
    list_parts(&r, 0, false, parts);
    __atomic_store_n((uint32_t *)number, 0, __ATOMIC_RELEASE);
    assert_int_equal(fill_ring(&r, number, &parts[9]), 8);
    __atomic_store_n((uint32_t *)number, 1, __ATOMIC_RELEASE);
    check(r.device->ops->synchronize(r.device));
    check(gp_coder_encode(r.coder, &parts[9], 1, r.stream));
    check(gp_coder_reserve(r.coder, &more));
    __atomic_store_n((uint32_t *)number, 0, __ATOMIC_RELEASE);
    assert_int_equal(fill_ring(&r, number, &parts[9]), 11);
    __atomic_store_n((uint32_t *)number, 1, __ATOMIC_RELEASE);
    check(r.device->ops->synchronize(r.device));
    r.device->ops->free_pinned(r.device, number);
    close_rig(&r);
}

/* What a codec asks for is there once: calls on other streams wait for it. */
static void
streams_take_turns(void **state)
{
    rig r = open_rig("terngrad:clip=0");
    gp_coder_part parts[2][PARTS];
    void *other;

    (void)state;
    check(r.device->ops->stream_create(r.device, &other));
    list_parts(&r, 0, false, parts[0]);
    list_parts(&r, 1, false, parts[1]);
    for (int n = 0; n < 8; n++)
        check(gp_coder_encode(r.coder, parts[n % 2], PARTS,
                              n % 2 ? other : r.stream));
    check(r.device->ops->synchronize(r.device));
    for (size_t w = 0; w < 2; w++)
        for (size_t p = 0; p < PARTS; p++) {
            uint8_t bytes[MOST];
            size_t length = host_encode(&r, w, p, false, NULL, bytes);

            expect_bytes(r.part[w][p].bytes, bytes, length, "streams", p);
        }
    r.device->ops->stream_destroy(r.device, other);
    close_rig(&r);
}

static void
room_is_kept_to(void **state)
{
    gp_coder_room more = {.parts = 65, .messages = 3 * 64};
    rig r = open_rig("bf16");
    gp_codec_context context[WORKERS];
    gp_codec_input input[WORKERS];
    static gp_coder_part many[65];
    gp_coder_sum sum;
    size_t before = gp_coder_memory(r.coder);

    (void)state;
    for (size_t i = 0; i < 65; i++)
        many[i] = (gp_coder_part){.count = 1,
                                  .source = r.part[0][0].source,
                                  .bytes = r.part[0][0].bytes};
    assert_int_equal(gp_coder_encode(r.coder, many, 65, r.stream),
                     GP_ERR_TOO_LARGE);
    check(gp_coder_reserve(r.coder, &more));
    assert_true(gp_coder_memory(r.coder) > before);
    assert_true(gp_coder_pinned(r.coder) > before);
    check(gp_coder_encode(r.coder, many, 65, r.stream));
    many[1].bytes = r.part[0][1].bytes + 8;
    assert_int_equal(gp_coder_encode(r.coder, many, 2, r.stream),
                     GP_ERR_INVALID);
    list_sum(&r, 0, context, input, &sum);
    sum.inputs = 0;
    assert_int_equal(gp_coder_fold(r.coder, &sum, 1, false, r.stream),
                     GP_ERR_INVALID);
    sum.inputs = 65;
    assert_int_equal(gp_coder_fold(r.coder, &sum, 1, false, r.stream),
                     GP_ERR_INVALID);
    check(r.device->ops->synchronize(r.device));
    close_rig(&r);
}

static void
refuse(const char *text, const char *word)
{
    gp_device *d;
    gp_pipeline *p;
    gp_coder *c = NULL;

    check(gp_device_open("cuda", &d));
    check(gp_pipeline_parse(text, &p));
    assert_int_equal(gp_coder_open(d, p, &c), GP_ERR_UNSUPPORTED);
    assert_null(c);
    if (!strstr(gp_last_error(), word))
        fail_msg("%s: '%s' does not name %s", text, gp_last_error(), word);
    gp_pipeline_destroy(p);
    gp_device_close(d);
}

static void
what_has_no_kernel_is_refused_by_name(void **state)
{
    gp_device *host;
    gp_pipeline *p;
    gp_coder *c = NULL;

    (void)state;
    refuse("fake+q8", "fake");
    refuse("zeros+uq:scope=tensor", "uq");
    refuse("zeros+vote", "zeros");
    refuse("zeros+hadamard+q8", "zeros");
    refuse("hadamard+vote", "hadamard");
    refuse("randk:0.01+vote", "behind a selection");
    refuse("q8+shuffle", "shuffle");
    refuse("topk:0.01+q2:dense=1", "behind a selection");
    check(gp_device_open("cpu", &host));
    check(gp_pipeline_parse("q8", &p));
    assert_int_equal(gp_coder_open(host, p, &c), GP_ERR_UNSUPPORTED);
    gp_pipeline_destroy(p);
    gp_device_close(host);
}

/* Blocks that a device has no room for are refused, but where another memory
 * does as well. */
static void
blocks_fit_into_shared_memory(void **state)
{
    const gp_sim_cuda_options small = {.devices = 1, .block_shared = 16 * 1024},
                              usual = {.devices = 1};
    rig r;

    (void)state;
    if (real_driver())
        skip();
    gp_sim_cuda_install(&small);
    refuse("thc", "shared memory");
    refuse("eden:block=8192", "shared memory");
    r = open_rig("thc:block=2048");
    encode_all(&r, 0, false);
    close_rig(&r);
    gp_sim_cuda_install(&usual);
}

/* Whichever call of the driver fails: an error, and nothing is left behind. */
static gp_status
use(gp_device *d, gp_pipeline *p, void *pinned, gp_coder **c)
{
    gp_coder_part part = {
        .count = 100, .source = pinned, .bytes = (char *)pinned + 512};
    gp_status status = gp_coder_open(d, p, c);

    if (status == GP_OK)
        status = gp_coder_encode(*c, &part, 1, NULL);
    if (status == GP_OK)
        status = gp_coder_encode(*c, &part, 1, NULL);
    return status;
}

static void
failures_leave_nothing_behind(void **state)
{
    gp_device *d;
    gp_pipeline *p;
    void *pinned;
    bool failed = true;

    (void)state;
    check(gp_device_open("cuda", &d));
    check(gp_pipeline_parse("fp16", &p));
    check(d->ops->alloc_pinned(d, 4096, &pinned));
    memset(pinned, 0, 4096);
    for (uint32_t n = 1; failed; n++) {
        gp_coder *c = NULL;
        gp_status status;

        assert_true(n < 400);
        gp_sim_cuda_fail(NULL, n, 999 /* unknown */);
        status = use(d, p, pinned, &c);
        failed = gp_sim_cuda_failed();
        gp_sim_cuda_fail(NULL, 0, 0);
        assert_int_equal(status == GP_OK, !failed);
        gp_coder_close(c);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
        check(d->ops->synchronize(d));
    }
    d->ops->free_pinned(d, pinned);
    gp_pipeline_destroy(p);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* Before anything is queued; afterwards it is as if nothing had been. */
static void
captures_are_refused(void **state)
{
    gp_coder_part parts[PARTS];
    rig r;

    (void)state;
    if (real_driver())
        skip();
    r = open_rig("q8");
    list_parts(&r, 0, false, parts);
    gp_sim_cuda_capture(r.stream, true);
    assert_int_equal(gp_coder_encode(r.coder, parts, PARTS, r.stream),
                     GP_ERR_UNSUPPORTED);
    assert_non_null(strstr(gp_last_error(), "being captured"));
    assert_int_equal(gp_coder_decode(r.coder, parts, PARTS, false, r.stream),
                     GP_ERR_UNSUPPORTED);
    gp_sim_cuda_capture(r.stream, false);
    assert_int_equal(gp_sim_cuda_captured(), 0);
    encode_all(&r, 0, false);
    assert_int_equal(*r.part[0][0].encoded, 5);
    close_rig(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(many_messages_are_one_sum),
        cmocka_unit_test(changes_are_damage_where_the_host_says_so),
        cmocka_unit_test(damage_of_one_of_many_is_told),
        cmocka_unit_test(the_ring_says_when_it_is_full),
        cmocka_unit_test(streams_take_turns),
        cmocka_unit_test(room_is_kept_to),
        cmocka_unit_test(what_has_no_kernel_is_refused_by_name),
        cmocka_unit_test(blocks_fit_into_shared_memory),
        cmocka_unit_test(captures_are_refused),
        cmocka_unit_test(failures_leave_nothing_behind),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
