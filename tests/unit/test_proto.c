/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_proto.c - control payloads of protocol version 1.
 *
 * tests/golden/proto_*.hex come from make_proto.py, which does not use this
 * library. They must never change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hex_file.h"
#include "wire/proto.h"

#define BYTES_MAX 1024

typedef struct vector {
    uint8_t bytes[BYTES_MAX];
    size_t size;
} vector;

static vector
load(const char *path)
{
    vector v;

    v.size = read_hex_file(path, v.bytes, sizeof(v.bytes));
    return v;
}

static void
ramp(uint8_t out[32], uint8_t start)
{
    for (int i = 0; i < 32; i++)
        out[i] = (uint8_t)(start + i);
}

static gp_hello
make_hello(void)
{
    gp_hello h = {.rank = 3,
                  .size = 8,
                  .shard = 5,
                  .shards = 6,
                  .identity = "node7 pid 4711"};

    ramp(h.nonce, 0x20);
    ramp(h.proof, 0x80);
    return h;
}

static gp_tensor_spec rows[] = {
    {"encoder.weight", 1, 1, 1234567890123, 3, 0x2122232425262728,
     "none|q8:block=256", "q8:block=256", "mean", 1, "sync", 0, 0, 0, 0},
    {"h", 3, 0, 1, 0, 0, "bf16", "bf16",
     "sgd:lr=0.100000001,momentum=0,nesterov=0,weight_decay=0", 0, "ssp:4", 0,
     0, 0, 0},
};

static gp_tensor_list
make_list(void)
{
    return (gp_tensor_list){.chunk_bytes = 1 << 20,
                            .seed = 0x1112131415161718,
                            .shards = 4,
                            .count = GP_COUNT_OF(rows),
                            .tensors = rows};
}

/* A copy of exactly `size` bytes, so that the address sanitizer sees a read
 * behind it. */
static uint8_t *
exact(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

/* decode(bytes, size, out) for every kind of payload, behind one signature. */
typedef gp_status (*decoder)(const void *in, size_t size);

static gp_status
decode_challenge(const void *in, size_t size)
{
    gp_challenge c;

    return gp_challenge_decode(in, size, &c);
}

static gp_status
decode_hello(const void *in, size_t size)
{
    gp_hello h;

    return gp_hello_decode(in, size, &h);
}

static gp_status
decode_welcome(const void *in, size_t size)
{
    gp_welcome w;

    return gp_welcome_decode(in, size, &w);
}

static gp_status
decode_ready(const void *in, size_t size)
{
    gp_grant g;

    return gp_grant_decode(in, size, &g);
}

static gp_status
decode_tensors(const void *in, size_t size)
{
    gp_tensor_list list;
    gp_status status = gp_tensor_list_decode(in, size, &list);

    if (status == GP_OK)
        gp_tensor_list_free(&list);
    return status;
}

static const struct {
    const char *path;
    decoder decode;
} kinds[] = {
    {"golden/proto_challenge.hex", decode_challenge},
    {"golden/proto_hello.hex", decode_hello},
    {"golden/proto_welcome.hex", decode_welcome},
    {"golden/proto_ready.hex", decode_ready},
    {"golden/proto_tensors.hex", decode_tensors},
};

static void
every_length_but_the_right_one_is_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(kinds); k++) {
        vector v = load(kinds[k].path);

        v.bytes[v.size] = 0;
        for (size_t size = 0; size <= v.size + 1; size++) {
            uint8_t *copy = exact(v.bytes, size);
            gp_status status = kinds[k].decode(copy, size);

            free(copy);
            assert_int_equal(status, size == v.size ? GP_OK : GP_ERR_PROTOCOL);
        }
        assert_non_null(strstr(gp_last_error(), "malformed"));
    }
}

static void
challenge_and_welcome(void **state)
{
    vector c = load("golden/proto_challenge.hex");
    vector w = load("golden/proto_welcome.hex");
    gp_challenge challenge, seen;
    gp_welcome welcome, heard;
    uint8_t out[GP_PROOF_BYTES];

    (void)state;
    ramp(challenge.nonce, 0x10);
    assert_int_equal(gp_challenge_encode(&challenge, out), c.size);
    assert_memory_equal(out, c.bytes, c.size);
    assert_int_equal(gp_challenge_decode(c.bytes, c.size, &seen), GP_OK);
    assert_memory_equal(&seen, &challenge, sizeof(seen));
    ramp(welcome.proof, 0xc0);
    assert_int_equal(gp_welcome_encode(&welcome, out), w.size);
    assert_memory_equal(out, w.bytes, w.size);
    assert_int_equal(gp_welcome_decode(w.bytes, w.size, &heard), GP_OK);
    assert_memory_equal(&heard, &welcome, sizeof(heard));
}

static void
hello(void **state)
{
    vector v = load("golden/proto_hello.hex");
    gp_hello sent = make_hello(), got;
    uint8_t out[GP_HELLO_BYTES_MAX];

    (void)state;
    assert_int_equal(gp_hello_encode(&sent, out), v.size);
    assert_memory_equal(out, v.bytes, v.size);
    assert_int_equal(gp_hello_decode(v.bytes, v.size, &got), GP_OK);
    assert_int_equal(got.rank, 3);
    assert_int_equal(got.size, 8);
    assert_int_equal(got.shard, 5);
    assert_int_equal(got.shards, 6);
    assert_memory_equal(got.nonce, sent.nonce, sizeof(got.nonce));
    assert_memory_equal(got.proof, sent.proof, sizeof(got.proof));
    assert_string_equal(got.identity, "node7 pid 4711");
}

/* The longest identity fits into the bytes that encoders reserve. */
static void
longest_hello_fits(void **state)
{
    gp_hello sent = make_hello(), got;
    uint8_t out[GP_HELLO_BYTES_MAX];
    size_t size;

    (void)state;
    memset(sent.identity, 'n', sizeof(sent.identity) - 1);
    sent.identity[sizeof(sent.identity) - 1] = '\0';
    size = gp_hello_encode(&sent, out);
    assert_int_equal(size, 16 + 64 + 2 + 127);
    assert_int_equal(gp_hello_decode(out, size, &got), GP_OK);
    assert_string_equal(got.identity, sent.identity);
}

/* Identities end up in logs and on terminals. */
static void
identities_are_made_printable(void **state)
{
    vector v = load("golden/proto_hello.hex");
    gp_hello got;

    (void)state;
    v.bytes[v.size - 14] = 27; /* escape */
    v.bytes[v.size - 1] = '\n';
    assert_int_equal(gp_hello_decode(v.bytes, v.size, &got), GP_OK);
    assert_string_equal(got.identity, "?ode7 pid 471?");
    v.bytes[v.size - 5] = 0;
    got.rank = 77;
    assert_int_equal(gp_hello_decode(v.bytes, v.size, &got), GP_ERR_PROTOCOL);
    assert_int_equal(got.rank, 77); /* untouched */
}

/* A text's length may claim more than its buffer or the message holds. */
static void
identities_of_hostile_length(void **state)
{
    static const uint16_t lengths[] = {13, 15, 128, 255, 0x7fff, 0xffff};
    uint8_t bytes[BYTES_MAX] = {0};
    vector v = load("golden/proto_hello.hex");

    (void)state;
    memcpy(bytes, v.bytes, v.size);
    for (size_t i = 0; i < GP_COUNT_OF(lengths); i++) {
        gp_put16(bytes + 80, lengths[i]);
        assert_int_equal(decode_hello(bytes, v.size), GP_ERR_PROTOCOL);
    }
    /* 128 bytes are there, but leave no room for the terminator. */
    gp_put16(bytes + 80, 128);
    memset(bytes + 82, 'n', 128);
    assert_int_equal(decode_hello(bytes, 82 + 128), GP_ERR_PROTOCOL);
}

static void
grant(void **state)
{
    vector v = load("golden/proto_ready.hex");
    gp_grant sent = {8, 77, 0x0102030405060740}, got;
    uint8_t out[GP_GRANT_BYTES];

    (void)state;
    assert_int_equal(gp_grant_encode(&sent, out), v.size);
    assert_memory_equal(out, v.bytes, v.size);
    assert_int_equal(gp_grant_decode(v.bytes, v.size, &got), GP_OK);
    assert_int_equal(got.slots, 8);
    assert_int_equal(got.region, 77);
    assert_int_equal(got.slot_bytes, 0x0102030405060740);
    gp_put32(v.bytes, GP_SLOTS_MAX);
    assert_int_equal(decode_ready(v.bytes, v.size), GP_OK);
    gp_put32(v.bytes, GP_SLOTS_MAX + 1);
    assert_int_equal(decode_ready(v.bytes, v.size), GP_ERR_PROTOCOL);
    gp_put32(v.bytes, UINT32_MAX);
    assert_int_equal(decode_ready(v.bytes, v.size), GP_ERR_PROTOCOL);
}

static void
tensor_list(void **state)
{
    vector v = load("golden/proto_tensors.hex");
    gp_tensor_list sent = make_list(), got;
    void *out;
    size_t size;

    (void)state;
    assert_int_equal(gp_tensor_list_encode(&sent, &out, &size), GP_OK);
    assert_int_equal(size, v.size);
    assert_memory_equal(out, v.bytes, v.size);
    free(out);
    assert_int_equal(gp_tensor_list_decode(v.bytes, v.size, &got), GP_OK);
    assert_int_equal(got.chunk_bytes, sent.chunk_bytes);
    assert_int_equal(got.seed, sent.seed);
    assert_int_equal(got.shards, sent.shards);
    assert_int_equal(got.count, sent.count);
    for (uint32_t i = 0; i < got.count; i++) {
        assert_string_equal(got.tensors[i].name, rows[i].name);
        assert_int_equal(got.tensors[i].dtype, rows[i].dtype);
        assert_int_equal(got.tensors[i].feedback, rows[i].feedback);
        assert_int_equal(got.tensors[i].restored, rows[i].restored);
        assert_int_equal(got.tensors[i].count, rows[i].count);
        assert_int_equal(got.tensors[i].columns, rows[i].columns);
        assert_string_equal(got.tensors[i].push, rows[i].push);
        assert_string_equal(got.tensors[i].pull, rows[i].pull);
        assert_string_equal(got.tensors[i].updater, rows[i].updater);
    }
    gp_tensor_list_free(&got);
}

/* Byte offsets in golden/proto_tensors.hex. */
enum {
    AT_CHUNK_BYTES = 0,
    AT_SHARDS = 16,
    AT_COUNT = 20,
    AT_NAME_LENGTH = 24,
    AT_NAME = 26,
    AT_DTYPE = 40,
    AT_FEEDBACK = 41,
    AT_ELEMENTS = 42,
    AT_COLUMNS = 50,
    AT_FIRST_STEP = 58
};

static void
assert_list_refused(const vector *v)
{
    gp_tensor_list list = {.count = 77};
    uint8_t *copy = exact(v->bytes, v->size);

    assert_int_equal(gp_tensor_list_decode(copy, v->size, &list),
                     GP_ERR_PROTOCOL);
    assert_int_equal(list.count, 77); /* untouched */
    free(copy);
}

/* A count that the message cannot hold costs no allocation: with the largest
 * one that would be four terabytes. */
static void
hostile_counts_of_tensors(void **state)
{
    static const uint32_t counts[] = {
        0, 1, 3, 10, 1 << 20, UINT32_MAX / 2, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(counts); i++) {
        vector v = load("golden/proto_tensors.hex");

        gp_put32(v.bytes + AT_COUNT, counts[i]);
        assert_list_refused(&v);
    }
}

static void
hostile_fields_of_tensors(void **state)
{
    static const struct {
        size_t at, width;
        uint64_t value;
    } bad[] = {
        {AT_CHUNK_BYTES, 8, 0},
        {AT_SHARDS, 4, 0},
        {AT_NAME_LENGTH, 2, 0xffff},
        {AT_NAME_LENGTH, 2, 256},
        {AT_NAME_LENGTH, 2, 13},
        {AT_NAME + 5, 1, 0},
        {AT_DTYPE, 1, 0},
        {AT_DTYPE, 1, 4},
        {AT_DTYPE, 1, 255},
        {AT_FEEDBACK, 1, 4},
        {AT_COLUMNS, 8, 2},
        {AT_COLUMNS, 8, 1234567890124},
        {AT_COLUMNS, 8, UINT64_MAX},
        {AT_FIRST_STEP, 8, 1ull << 63},
        {AT_FIRST_STEP, 8, UINT64_MAX},
        {AT_ELEMENTS, 8, 0},
        {AT_ELEMENTS, 8, 1ull << 63},
        {AT_ELEMENTS, 8, UINT64_MAX},
        {AT_ELEMENTS, 8, SIZE_MAX / 8 + 1ull},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        vector v = load("golden/proto_tensors.hex");
        uint8_t number[8];

        gp_put64(number, bad[i].value);
        memcpy(v.bytes + bad[i].at, number, bad[i].width);
        assert_list_refused(&v);
    }
}

static void
lists_over_the_limit_are_not_sent(void **state)
{
    gp_tensor_list list = make_list();
    void *out = &list;
    size_t size = 77;

    (void)state;
    list.count = 20000;
    list.tensors = calloc(list.count, sizeof(*list.tensors));
    assert_non_null(list.tensors);
    for (uint32_t i = 0; i < list.count; i++)
        memset(list.tensors[i].name, 'x', GP_NAME_MAX - 1);
    assert_int_equal(gp_tensor_list_encode(&list, &out, &size),
                     GP_ERR_TOO_LARGE);
    assert_non_null(strstr(gp_last_error(), "20000 tensors"));
    assert_ptr_equal(out, &list); /* untouched */
    assert_int_equal(size, 77);
    gp_tensor_list_free(&list);
    assert_null(list.tensors);
}

static void
texts_are_cut_and_made_printable(void **state)
{
    vector v = load("golden/proto_refuse.hex");
    char text[GP_TEXT_MAX];
    uint8_t long_text[GP_TEXT_MAX + 100];

    (void)state;
    gp_text_decode(v.bytes, v.size, text);
    assert_string_equal(text, "rank 3 is taken by node7 pid 4711");
    gp_text_decode(NULL, 0, text);
    assert_string_equal(text, "");
    gp_text_decode("a\x1b[2J\0b\xff\n", 9, text);
    assert_string_equal(text, "a?[2J?b? ");
    memset(long_text, 'x', sizeof(long_text));
    gp_text_decode(long_text, sizeof(long_text), text);
    assert_int_equal(strlen(text), GP_TEXT_MAX - 1);
    gp_text_decode(long_text, GP_TEXT_MAX - 1, text);
    assert_int_equal(strlen(text), GP_TEXT_MAX - 1);
}

static void
assert_differ(const gp_tensor_list *a, const gp_tensor_list *b,
              const char *expected)
{
    char text[GP_TEXT_MAX];

    if (!gp_tensor_list_differ(a, 0, b, 5, text, sizeof(text)))
        fail_msg("not seen: %s", expected);
    if (!strstr(text, expected))
        fail_msg("'%s' is not in: %s", expected, text);
}

/* What makes the second tensor of worker 5 another one. */
static void
change(gp_tensor_spec *t, int field)
{
    if (field == 0)
        strcpy(t->name, "g");
    else if (field == 1)
        t->dtype = 2;
    else if (field == 2)
        t->count = 2;
    else if (field == 3)
        strcpy(t->push, "fp16");
    else if (field == 4)
        strcpy(t->pull, "none");
    else if (field == 5)
        t->feedback = 1;
    else if (field == 6)
        t->columns = 1;
    else if (field == 7)
        t->first_step = 12;
    else if (field == 8)
        t->restored = 1;
    else if (field == 9)
        strcpy(t->mode, "async");
    else
        strcpy(t->updater, "sum");
}

static void
the_first_difference_is_named(void **state)
{
    static const char *const expected[] = {
        "tensor 1 is 'h' on worker 0, but 'g' on worker 5: register the same "
        "tensors in the same order on all workers",
        "tensor 1 'h' has dtype bf16 on worker 0, but fp16 on worker 5: "
        "register the same tensors",
        "tensor 1 'h' has count 1 on worker 0, but 2 on worker 5: register",
        "tensor 1 'h' has codec bf16 on worker 0, but fp16 on worker 5: ",
        "tensor 1 'h' has pull codec bf16 on worker 0, but none on worker 5: ",
        "tensor 1 'h' has pull feedback off on worker 0, but on on worker 5: ",
        "tensor 1 'h' has columns 0 on worker 0, but 1 on worker 5: register",
        "tensor 1 'h' has first step 0 on worker 0, but 12 on worker 5: ",
        "tensor 1 'h' has its ef21 history begun anew on worker 0, but "
        "restored on worker 5: load the state of one checkpoint on all "
        "workers, or on none",
        "tensor 1 'h' has mode ssp:4 on worker 0, but async on worker 5: ",
        "tensor 1 'h' has updater sgd:lr=0.100000001,momentum=0,nesterov=0,"
        "weight_decay=0 on worker 0, but sum on worker 5: register",
    };
    gp_tensor_list a = make_list(), b = make_list();
    char text[GP_TEXT_MAX];

    (void)state;
    assert_false(gp_tensor_list_differ(&a, 0, &b, 5, text, sizeof(text)));
    for (int field = 0; field < (int)GP_COUNT_OF(expected); field++) {
        gp_tensor_spec other[GP_COUNT_OF(rows)];

        memcpy(other, rows, sizeof(rows));
        change(&other[1], field);
        b.tensors = other;
        assert_differ(&a, &b, expected[field]);
    }
}

static void
lists_of_other_length_or_settings(void **state)
{
    gp_tensor_list a = make_list(), b = make_list();

    (void)state;
    b.count = 1;
    assert_differ(&a, &b,
                  "worker 0 registered 2 tensors and worker 5 1; the first "
                  "that only one has is 'h': register the same");
    assert_differ(&b, &a,
                  "worker 0 registered 1 tensors and worker 5 2; the first "
                  "that only one has is 'h': register the same");
    b = make_list();
    b.chunk_bytes = 65536;
    assert_differ(&a, &b, "chunk_bytes, seed and shards are 1048576,");
    assert_differ(&a, &b, "but 65536, ");
    b = make_list();
    b.seed = 2;
    assert_differ(&a, &b, "but 1048576, 2, 4 on worker 5: set them alike");
    b = make_list();
    b.shards = 3;
    assert_differ(&a, &b, ", 3 on worker 5");
}

/* The longest values still give one whole sentence that fits a text message. */
static void
differences_of_long_values_fit(void **state)
{
    gp_tensor_spec left = {.dtype = 1, .count = UINT64_MAX}, right;
    gp_tensor_list a = {.count = 1, .tensors = &left};
    gp_tensor_list b = {.count = 1, .tensors = &right};

    (void)state;
    memset(left.name, 'n', GP_NAME_MAX - 1);
    memset(left.updater, 'u', GP_NAME_MAX - 1);
    right = left;
    right.count--;
    assert_differ(&a, &b,
                  "has count 18446744073709551615 on worker 0, but "
                  "18446744073709551614 on worker 5");
    right = left;
    right.updater[0] = 'v';
    assert_differ(&a, &b, "on worker 0, but vuuu");
    assert_differ(&a, &b, "in the same order on all workers");
    right.name[0] = 'm';
    assert_differ(&a, &b, "on worker 0, but 'mnnn");
    assert_differ(&a, &b, "in the same order on all workers");
}

static void
destinations(void **state)
{
    (void)state;
    assert_int_equal(gp_destination(0xffffffff, 0), 0xffffffff00000000);
    assert_int_equal(gp_destination(7, 64), 0x0000000700000001);
    assert_int_equal(gp_destination(1, 64ull * UINT32_MAX), 0x00000001ffffffff);
}

static void
list_of_members(void **state)
{
    gp_life lives[3] = {{0, 9}, {2, 0xfffffffe}, {5, 0}};
    gp_member_list list = {7, 3, lives}, back, none = {0};
    uint8_t bytes[32], copy[32];

    (void)state;
    assert_int_equal(gp_member_list_bytes(3), sizeof(bytes));
    gp_member_list_encode(&list, bytes);
    assert_int_equal(gp_member_list_decode(bytes, sizeof(bytes), 6, &back),
                     GP_OK);
    assert_int_equal(back.epoch, 7);
    assert_int_equal(back.count, 3);
    assert_memory_equal(back.member, lives, sizeof(lives));
    free(back.member);
    back = none;
    for (size_t length = 0; length < sizeof(bytes); length++)
        assert_int_equal(gp_member_list_decode(bytes, length, 6, &back),
                         GP_ERR_PROTOCOL);
    assert_int_equal(gp_member_list_decode(bytes, sizeof(bytes), 5, &back),
                     GP_ERR_PROTOCOL); /* rank 5 of 5 */
    assert_int_equal(gp_member_list_decode(bytes, sizeof(bytes), 2, &back),
                     GP_ERR_PROTOCOL);     /* three of two */
    for (size_t at = 0; at < 8; at += 4) { /* no epoch, no members */
        memcpy(copy, bytes, sizeof(copy));
        memset(copy + at, 0, 4);
        assert_int_equal(gp_member_list_decode(copy, sizeof(copy), 6, &back),
                         GP_ERR_PROTOCOL);
    }
    memcpy(copy, bytes, sizeof(copy));
    copy[16] = 0; /* rank 0 twice */
    assert_int_equal(gp_member_list_decode(copy, sizeof(copy), 6, &back),
                     GP_ERR_PROTOCOL);
    assert_null(back.member);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_but_the_right_one_is_refused),
        cmocka_unit_test(challenge_and_welcome),
        cmocka_unit_test(hello),
        cmocka_unit_test(longest_hello_fits),
        cmocka_unit_test(identities_are_made_printable),
        cmocka_unit_test(identities_of_hostile_length),
        cmocka_unit_test(grant),
        cmocka_unit_test(tensor_list),
        cmocka_unit_test(hostile_counts_of_tensors),
        cmocka_unit_test(hostile_fields_of_tensors),
        cmocka_unit_test(lists_over_the_limit_are_not_sent),
        cmocka_unit_test(texts_are_cut_and_made_printable),
        cmocka_unit_test(the_first_difference_is_named),
        cmocka_unit_test(lists_of_other_length_or_settings),
        cmocka_unit_test(differences_of_long_values_fit),
        cmocka_unit_test(destinations),
        cmocka_unit_test(list_of_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
