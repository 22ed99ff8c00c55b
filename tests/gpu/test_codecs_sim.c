/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codecs_sim.c - codecs on a device have the bytes and the bits that they
 * have on the host, and refuse the same messages.
 */
#include "tests/gpu/coder_rig.h"
#include "tests/rounds.h"

static void
casts_are_those_of_the_host(void **state)
{
    (void)state;
    compare_all("none", true);
    compare_all("fp16", true);
    compare_all("bf16", true);
    compare_all("fp16:round=stochastic", false);
    compare_all("bf16:round=stratified", false);
}

static void
blocks_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "q4",
        "q4:block=256,round=dither",
        "q4:block=160,round=stochastic,scale=bf16",
        "q4:block=4096,round=stratified",
        "q2",
        "q2:block=1024,round=stochastic",
        "q8:round=stochastic",
        "q8:block=64,scale=bf16",
        "fp8",
        "fp8:format=e5m2,block=64,round=stochastic",
        "fp8:block=512,scale=bf16",
        "mxfp8",
        "mxfp8:format=e5m2,round=stratified",
        "mxfp4",
        "mxfp4:round=stochastic",
        "mxint8",
        "mxfp6:format=e3m2,round=stochastic",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], i % 2, i % 4 > 1);
        if (i % 3 == 0)
            compare_fold(texts[i], i % 2);
    }
}

/* Codes that share bytes, and numbers that all of a message share. */
static void
odd_formats_are_those_of_the_host(void **state)
{
    (void)state;
    compare_all("q2:dense=1", true);
    compare("q2:block=96,dense=1,round=dither", true, false);
    compare("q2:block=4096,dense=1,round=stochastic,scale=bf16", false, true);
    compare_all("mxfp6", true);
    compare_all("nvfp4", true);
    compare("nvfp4:round=stochastic", true, false);
    compare_all("natural", false);
    compare("ef:decay=0.5+natural", true, false);
}

static void
q8_is_that_of_the_host(void **state)
{
    (void)state;
    compare_all("q8", true);
    compare_all("ef+q8:block=96", true);
    compare("ef:decay=0.75+q8", true, false);
    compare("ef:decay=0.5+topk:0.1+none+raw", true, false);
    compare("ef:decay=0.9+hadamard+q4", true, true);
    compare_all("q8:block=4096", true);
}

static void
signs_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "sign",   "sign:block=64,scale=l2",          "onebit:block=96",
        "vote",   "sign:scale=unit,threshold=0.001", "sign:block=0,scale=unit",
        "onebit",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], false, i % 2);
        compare(texts[i], true, i % 2 == 0);
        compare_fold(texts[i], i % 2);
    }
}

static void
levels_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "qsgd",
        "qsgd:levels=1,block=64",
        "qsgd:levels=7,norm=max,block=0",
        "natural-dither",
        "natural-dither:levels=127,block=96",
        "terngrad:block=2048",
        "terngrad:block=256,sigma=std,clip=1",
        "terngrad:clip=0",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], i % 2, i % 4 > 1);
        if (i % 3 == 0)
            compare_fold(texts[i], i % 2);
    }
    compare("qsgd", true, true);
}

/* Part 6 has blocks of zeros; the others are sent as they are. */
static void
maps_of_zeros_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "zeros:block=32+q8",
        "zeros:block=96+none",
        "zeros+q4:round=stochastic",
        "zeros:block=64+sign:block=64",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], false, i % 2);
        compare(texts[i], true, i % 2 == 0);
    }
}

/* What a worker proposes, and messages of the number that came back. */
static void
compare_proposals(const char *text, float agreed)
{
    static float residual[PARTS][MOST];
    gp_coder_part parts[PARTS];
    rig r = open_rig(text);
    float *proposals = take(&r, sizeof(float) * PARTS);
    uint8_t *bytes = malloc(gp_pipeline_bound(r.pipeline, MOST) + 1);
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r.pipeline, MOST) + 1);

    list_parts(&r, 1, true, parts);
    for (size_t p = 0; p < PARTS; p++) {
        memcpy(residual[p], r.part[1][p].residual, 4 * counts[p]);
        parts[p].proposal = &proposals[p];
    }
    check(gp_coder_propose(r.coder, parts, PARTS, r.stream));
    for (size_t p = 0; p < PARTS; p++) {
        parts[p].proposed = true;
        parts[p].context.shared = agreed;
    }
    check(gp_coder_encode(r.coder, parts, PARTS, r.stream));
    check(r.device->ops->synchronize(r.device));
    for (size_t p = 0; p < PARTS; p++) {
        gp_codec_context context = context_of(1, p);
        gp_codec_memory *memory = NULL;
        float *values, number;
        const char *name;
        size_t length, n = counts[p];

        check(
            gp_codec_memory_create(r.pipeline, context.offset, n, 1, &memory));
        (void)gp_codec_memory_field(memory, 0, &name, &values);
        memcpy(values, residual[p], 4 * n);
        check(gp_pipeline_propose(r.pipeline, &context, memory, parts[p].source,
                                  n, &number));
        expect_floats(&proposals[p], &number, 1, text, "proposal", p);
        context.shared = agreed;
        check(gp_pipeline_encode(r.pipeline, &context, memory, parts[p].source,
                                 n, bytes, gp_pipeline_bound(r.pipeline, MOST),
                                 &length, space));
        assert_int_equal(*parts[p].encoded, length);
        expect_bytes(parts[p].bytes, bytes, length, text, p);
        expect_floats(parts[p].residual, values, n, text, "residual", p);
        gp_codec_memory_destroy(memory);
    }
    free(bytes);
    free(space);
    close_rig(&r);
}

/* Sums of messages, which a shard gives without decoding them. */
static void
compare_sums(const char *text)
{
    static float target[MOST];
    rig r = open_rig(text);
    size_t bound = gp_pipeline_bound(r.pipeline, MOST);
    uint8_t *bytes = malloc(bound + 1);
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r.pipeline, MOST) + 1);

    for (size_t p = 0; p < PARTS; p++) {
        gp_codec_context context[WORKERS];
        gp_codec_input input[WORKERS];
        side *s = &r.part[0][p];
        gp_coder_sum sum;
        size_t length;

        for (size_t w = 0; w < WORKERS; w++) {
            side *one = &r.part[w][p];

            context[w] = context_of(w, p);
            context[w].shared = p == 4 ? NAN : 0.03f;
            check(gp_pipeline_encode(r.pipeline, &context[w], NULL, one->source,
                                     counts[p], one->bytes,
                                     gp_pipeline_bound(r.pipeline, counts[p]),
                                     &length, space));
            *one->encoded = length;
        }
        list_sum(&r, p, context, input, &sum);
        check(gp_pipeline_aggregate(r.pipeline, input, WORKERS, counts[p],
                                    bytes, bound, &length, space));
        assert_true(length <= gp_pipeline_bound(r.pipeline, counts[p]));
        memcpy(s->bytes, bytes, length);
        *s->encoded = length;
    }
    decode_all(&r, 0, false);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r.part[0][p];

        assert_int_equal(*s->status, 0);
        host_decode(&r, 0, p, s->bytes, (size_t)*s->encoded, false, target);
        expect_floats(s->target, target, counts[p], text, "sum", p);
    }
    free(bytes);
    free(space);
    close_rig(&r);
}

/* Messages with a few bytes that are others: the device says no where the host
 * does. */
enum { MUTANTS = 48 };

static void
mutate(uint8_t *bytes, size_t length, size_t n)
{
    static const uint8_t values[] = {0x80, 0xff, 0x7f, 0x00, 0x08, 0xfe};
    uint64_t r = number_bits(n);
    size_t at = n % 4 == 0   ? length - 1
                : n % 4 == 1 ? (r >> 32) % GP_MIN(length, 16)
                             : (r >> 32) % length;

    bytes[at] = n % 3 ? values[r % 6] : (uint8_t)(bytes[at] ^ 1u << r % 8);
}

static void
compare_damage(const char *text, size_t p)
{
    rig r = open_rig_with(text, WIDE);
    gp_coder_part parts[MUTANTS], one[PARTS];
    gp_codec_context context = context_of(0, p);
    size_t length, refused = 0;
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r.pipeline, MOST) + 1);

    encode_all(&r, 0, false);
    list_parts(&r, 0, false, one);
    length = one[p].length;
    for (size_t n = 0; n < MUTANTS; n++) {
        parts[n] = one[p];
        parts[n].bytes = take(&r, length);
        parts[n].status = take(&r, 4);
        parts[n].target = take(&r, 4 * counts[p]);
        *parts[n].status = 0;
        memcpy(parts[n].bytes, one[p].bytes, length);
        mutate(parts[n].bytes, length, n);
    }
    check(gp_coder_decode(r.coder, parts, MUTANTS, false, r.stream));
    check(r.device->ops->synchronize(r.device));
    for (size_t n = 0; n < MUTANTS; n++) {
        bool good =
            gp_pipeline_decode(r.pipeline, &context, parts[n].bytes, length,
                               one[p].target, counts[p], space) == GP_OK;

        refused += !good;
        if (good != (*parts[n].status == 0))
            fail_msg("%s: mutant %zu: host %d, device %u", text, n, good,
                     *parts[n].status);
        if (good)
            expect_floats(parts[n].target, one[p].target, counts[p], text,
                          "mutant", n);
    }
    if (!refused)
        fail_msg("%s: no mutant was refused", text);
    free(space);
    close_rig(&r);
}

static void
rotations_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "hadamard+none",
        "hadamard:block=64+q4",
        "hadamard:block=8192+q8",
        "hadamard:block=128+sign",
        "hadamard+q4:round=stochastic",
        "drive",
        "eden:block=256",
        "eden:bits=2,scale=mse",
        "eden:bits=1,block=32",
        "eden:bits=3,block=4096",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], false, i % 2);
        compare(texts[i], true, i % 2 == 0);
    }
    compare_damage("hadamard+q8", 3);
    compare_damage("eden:bits=3,block=64", 1);
    compare_damage("drive", 7);
}

static void
selections_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "topk:0.01+none+raw",    "topk:0.1+fp16+rice",
        "topk:0.01+q8+auto",     "topk:0.001+q4:block=32+bitmap",
        "topk:0.4+none",         "topk:0.9+bf16+raw",
        "threshold:0.02+q8",     "threshold:0.001+none+rice",
        "threshold:1e30+qsgd",   "topk:0.02+qsgd:levels=3",
        "topk:0.05+sign+bitmap", "topk:0.3+fp8",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare_encoding(texts[i], false);
        compare_encoding(texts[i], true);
    }
    compare("topk:0.01+none+raw", false, true);
    compare("topk:0.4+q8+raw", true, false);
    compare("threshold:0.01+fp16+raw", false, false);
    compare_damage("topk:0.1+none+raw", 4);
    compare_damage("topk:0.1+q8+raw", 1);
}

/* Messages with heads, planes, or of a length that the encoder finds. */
static void
values_behind_others_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "hadamard+uq",
        "hadamard:block=64+natural",
        "hadamard+nvfp4",
        "hadamard+q2:dense=1",
        "hadamard:block=256+uq:c=0.25,round=dither",
        "hadamard:block=2048+eden:bits=2,block=256",
        "zeros:block=32+uq",
        "zeros:block=32+natural",
        "zeros:block=64+nvfp4",
        "zeros:block=96+drive:block=64",
        "topk:0.1+uq+raw",
        "topk:0.3+natural+raw",
        "topk:0.6+nvfp4+raw",
        "topk:0.2+eden:bits=3,block=64+raw",
        "threshold:0.01+uq:round=stochastic+raw",
        "randk:0.2+uq",
        "randk:0.7+natural",
        "randk:0.05,scale=unbiased+drive:block=128",
        "randk:0.4+nvfp4:round=stochastic",
        "randk:0.9+eden",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i += GP_ROUNDS(1, 3))
        compare(texts[i], i % 3 < 2, i % 2);
    compare_encoding("topk:0.01+uq", true);
    compare_encoding("topk:0.02+natural+rice", true);
    compare_encoding("topk:0.9+nvfp4+bitmap", false);
    compare_encoding("threshold:1e30+uq+auto", true);
}

/* A message that has all elements where encoders send a few, in no more bytes:
 * the host takes it, and there is room for it. */
static void
everything_in_place_of_a_few(void **state)
{
    static float target[MOST];
    rig r = open_rig("topk:0.01+uq+raw");
    const size_t p = 9;
    side *s = &r.part[0][p];
    gp_codec_context context = context_of(0, p);
    gp_coder_part parts[PARTS];
    gp_pipeline *plain;
    size_t length, n = counts[p];
    uint8_t *bytes;
    void *space;

    (void)state;
    check(gp_pipeline_parse("uq", &plain));
    bytes = malloc(gp_pipeline_bound(plain, n));
    space = gp_alloc_aligned(gp_pipeline_workspace(plain, n) + 1);
    memset(s->source, 0, 4 * n);
    s->source[777] = 1;
    s->source[12345] = -2;
    check(gp_pipeline_encode(plain, &context, NULL, s->source, n, bytes,
                             gp_pipeline_bound(plain, n), &length, space));
    assert_in_range(1 + length, 20, gp_pipeline_bound(r.pipeline, n));
    s->bytes[0] = 2;
    memcpy(s->bytes + 1, bytes, length);
    *s->encoded = 1 + length;
    host_decode(&r, 0, p, s->bytes, 1 + length, false, target);
    assert_true(target[777] > 0.5f && target[12345] < -1);
    list_parts(&r, 0, false, parts);
    check(gp_coder_decode(r.coder, &parts[p], 1, false, r.stream));
    check(r.device->ops->synchronize(r.device));
    assert_int_equal(*s->status, 0);
    expect_floats(s->target, target, n, "topk+uq", "all", p);
    gp_pipeline_destroy(plain);
    free(bytes);
    free(space);
    close_rig(&r);
}

static void
damage_behind_others_is_seen_as_on_the_host(void **state)
{
    static const char *const texts[] = {
        "hadamard+uq",        "hadamard+natural",
        "zeros:block=32+uq",  "zeros+nvfp4",
        "topk:0.5+uq+raw",    "topk:0.2+natural+raw",
        "topk:0.4+nvfp4+raw", "randk:0.5+uq",
        "randk:0.6+natural",  "topk:0.3+eden:block=64+raw",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i += GP_ROUNDS(1, 3))
        compare_damage(texts[i], i % 2 ? 3 : 6);
}

/* With a step and ranks that decide what is sent, and not the workers. */
static void
draws_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "randk:0.05",
        "randk:0.01,scale=unbiased+q8",
        "randk:0.7,scale=unbiased",
        "randk:0.5+sign:block=64",
        "randk:0.501+q4:round=stochastic",
        "randk:1+fp16",
        "randk:0.3+qsgd",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        compare(texts[i], i % 2, i % 4 > 1);
    compare_damage("randk:0.1", 4);
    compare_damage("randk:0.6+q8", 1);
}

static void
integers_are_those_of_the_host(void **state)
{
    (void)state;
    compare("intsum", false, false);
    compare("intsum:bits=4,round=stochastic", false, true);
    compare("intsum:bits=16", false, false);
    compare_fold("intsum:bits=4", false);
    compare_fold("intsum:bits=16,round=stochastic", true);
    compare_proposals("intsum", 0.05f);
    compare_proposals("ef:decay=0.5+intsum:bits=4", 0.01f);
    compare_proposals("intsum:bits=16", NAN);
    compare_sums("intsum");
    compare_sums("intsum:bits=16");
    compare_damage("intsum:bits=4", 1);
    compare_damage("intsum", 7);
}

/* Chunks with and without something behind the last whole block. */
static void
levels_for_all_are_those_of_the_host(void **state)
{
    (void)state;
    compare("thc", false, false);
    compare("thc:bits=2,block=32", false, true);
    compare("thc:levels=uniform,block=4096", false, true);
    compare_fold("thc:block=1024", false);
    compare_fold("thc:bits=2,block=8192", true);
    compare_proposals("thc", 0.02f);
    compare_proposals("ef:decay=0.5+thc:bits=2,block=256", 0.01f);
    compare_proposals("thc:block=2048", NAN);
    compare_proposals("thc:levels=uniform", 0);
    compare_sums("thc:block=512");
    compare_sums("thc:bits=2");
    compare_damage("thc:bits=2", 1);
    compare_damage("thc:block=64", 7);
}

/* Where shared memory has no room for blocks; sums and damage, too. */
static void
blocks_in_the_devices_memory(void **state)
{
    const gp_sim_cuda_options small = {.devices = 1, .block_shared = 48 * 1024},
                              usual = {.devices = 1};

    (void)state;
    if (real_driver())
        skip();
    gp_sim_cuda_install(&small);
    compare_all("hadamard:block=16384+q4", false);
    compare_all("eden:block=16384", false);
    compare("thc:block=16384", false, true);
    compare_fold("thc:block=16384", true);
    compare_fold("thc:bits=2", false);
    compare_proposals("thc:block=16384", 0.02f);
    compare_sums("thc:block=16384");
    compare_damage("drive:block=16384", 9);
    compare_damage("thc:block=16384", 9);
    compare_damage("hadamard:block=16384+q8", 9);
    gp_sim_cuda_install(&usual);
}

/* Sections of zeros, of one number, and with codes beyond all tables; the steps
 * of these elements are the host's. */
static void
entropy_codes_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "uq",
        "uq:c=0.03125,round=stochastic",
        "uq:c=8,round=dither",
        "uq:c=0.25,round=stratified",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        compare(texts[i], false, i % 2);
        compare(texts[i], true, i % 2 == 0);
    }
    compare_damage("zeros:block=32+q8", 6);
    compare_damage("uq", 1);
    compare_damage("uq:c=0.25", 8);
    compare_damage("uq:c=0.03125,round=dither", 6);
}

static void
damage_is_seen_as_on_the_host(void **state)
{
    static const char *const texts[] = {
        "q8",
        "q4",
        "q4:scale=bf16,round=dither",
        "q2",
        "q8:scale=bf16",
        "fp8",
        "fp8:format=e5m2",
        "mxfp8",
        "mxint8",
        "q2:dense=1",
        "mxfp6",
        "nvfp4",
        "natural",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        compare_damage(texts[i], i % 2 ? 3 : 1);
}

/* Sums over whole chunks have another order: scales differ by one unit in the
 * last place at most, and where they do not, nothing else does. */
static void
compare_near(const char *text, size_t scales)
{
    rig r = open_rig(text);
    uint8_t *bytes = malloc(gp_pipeline_bound(r.pipeline, MOST) + 1);

    encode_all(&r, 1, false);
    for (size_t p = 0; p < PARTS; p++) {
        side *s = &r.part[1][p];
        size_t length = host_encode(&r, 1, p, false, NULL, bytes);
        bool same = true;

        assert_int_equal(*s->encoded, length);
        for (size_t k = 0; k < scales && counts[p]; k++) {
            uint32_t a = gp_get32(s->bytes + 4 * k),
                     b = gp_get32(bytes + 4 * k);

            if (a - b + 1 > 2)
                fail_msg("%s: scale %08x, not %08x", text, a, b);
            same = same && a == b;
        }
        if (same)
            expect_bytes(s->bytes, bytes, length, text, p);
    }
    free(bytes);
    close_rig(&r);
}

static void
sums_of_chunks_are_near(void **state)
{
    (void)state;
    compare_near("sign:block=0", 1);
    compare_near("sign:block=0,scale=l2", 1);
    compare_near("onebit:block=0", 2);
    compare_near("qsgd:block=0", 1);
    compare_near("terngrad", 1);
    compare_near("terngrad:sigma=std", 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_are_those_of_the_host),
        cmocka_unit_test(q8_is_that_of_the_host),
        cmocka_unit_test(blocks_are_those_of_the_host),
        cmocka_unit_test(odd_formats_are_those_of_the_host),
        cmocka_unit_test(signs_are_those_of_the_host),
        cmocka_unit_test(levels_are_those_of_the_host),
        cmocka_unit_test(rotations_are_those_of_the_host),
        cmocka_unit_test(blocks_in_the_devices_memory),
        cmocka_unit_test(selections_are_those_of_the_host),
        cmocka_unit_test(values_behind_others_are_those_of_the_host),
        cmocka_unit_test(everything_in_place_of_a_few),
        cmocka_unit_test(damage_behind_others_is_seen_as_on_the_host),
        cmocka_unit_test(draws_are_those_of_the_host),
        cmocka_unit_test(integers_are_those_of_the_host),
        cmocka_unit_test(levels_for_all_are_those_of_the_host),
        cmocka_unit_test(maps_of_zeros_are_those_of_the_host),
        cmocka_unit_test(entropy_codes_are_those_of_the_host),
        cmocka_unit_test(damage_is_seen_as_on_the_host),
        cmocka_unit_test(sums_of_chunks_are_near),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
