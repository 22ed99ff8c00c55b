/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_checkpoint.c - safetensors files, files replaced whole or not
 * at all, and runs that continue bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "atomic_file.h"
#include "checkpoint.h"
#include "safetensors.h"

static char folder[64];

static int
make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gt-checkpoint-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int
remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static const char *
in_folder(const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* --- safetensors --- */

static size_t
make_file(uint8_t *out, const char *header, size_t data)
{
    size_t n = strlen(header);

    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)((uint64_t)n >> (8 * i));
    memcpy(out + 8, header, n);
    memset(out + 8 + n, 0, data);
    return 8 + n + data;
}

static void
accepts(const char *header, size_t data, gt_st_file *out)
{
    static uint8_t bytes[2048];
    size_t n = make_file(bytes, header, data);

    if (gt_st_parse(bytes, n, "some/file", out) != GP_OK)
        fail_msg("%s", gt_last_error());
}

static void
refuses_bytes(const uint8_t *bytes, size_t length, const char *text)
{
    gt_st_file untouched = {.count = 77};
    uint8_t *copy = malloc(length ? length : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, length);
    assert_int_equal(gt_st_parse(copy, length, "some/file", &untouched),
                     GP_ERR_CORRUPT);
    free(copy);
    assert_int_equal(untouched.count, 77);
    if (!strstr(gt_last_error(), text) || !strstr(gt_last_error(), "some/file"))
        fail_msg("'%s' is not in '%s'", text, gt_last_error());
}

static void
refuses(const char *header, size_t data, const char *text)
{
    uint8_t bytes[2048];

    refuses_bytes(bytes, make_file(bytes, header, data), text);
}

#define T(dtype, shape, begin, end)                                  \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" \
    "[" begin "," end "]}"

static void
safetensors_are_read(void **state)
{
    static const uint64_t shape[] = {2, 3};
    float values[6] = {1, 1, 1, 1, 1, 1};
    gt_st_file f;

    (void)state;
    accepts("{\"__metadata__\":{\"k\":\"v\"},\"b\":" T("F32", "[2,3]", "8",
                                                       "32") ",\"a\":" //
            T("I64", "[]", "0", "8") "}   ",
            24 + 8, &f);
    assert_int_equal(f.count, 2);
    assert_string_equal(f.tensors[0].name, "a");
    assert_string_equal(gt_st_metadata(&f, "k"), "v");
    assert_null(gt_st_metadata(&f, "other"));
    assert_int_equal(gt_st_read(&f, "b", shape, 2, values), GP_OK);
    assert_true(values[0] == 0 && values[5] == 0);
    assert_int_equal(gt_st_read(&f, "b", shape, 1, values), GP_ERR_MISMATCH);
    assert_int_equal(gt_st_read(&f, "a", shape, 0, values), GP_ERR_MISMATCH);
    assert_int_equal(gt_st_read(&f, "c", shape, 2, values), GP_ERR_NOT_FOUND);
    gt_st_free(&f);
    accepts("{}", 0, &f);
    gt_st_free(&f);
    accepts("{\"e\":" T("BOOL", "[0,5]", "0", "0") "}", 0, &f);
    gt_st_free(&f);
}

static void
damaged_safetensors_are_refused(void **state)
{
    static const uint8_t huge[] = {0, 0, 0, 0, 0, 0, 0, 0x80, '{', '}'};
    static const uint8_t zero[8];

    (void)state;
    refuses_bytes(huge, 4, "truncated");
    refuses_bytes(huge, sizeof(huge), "header of 9223372036854775808 bytes");
    refuses_bytes(zero, sizeof(zero), "does not start with '{'");
    refuses("[]", 0, "does not start with '{'");
    refuses("{\"a\":", 0, "header, offset");
    refuses("{\"a\":1}", 0, "exactly dtype");
    refuses("{\"a\":{\"dtype\":\"F32\"}}", 0, "exactly dtype");
    refuses("{\"__metadata__\":{\"k\":1}}", 0, "no text");
    refuses("{\"a\":" T("F33", "[1]", "0", "4") "}", 4, "unknown dtype");
    refuses("{\"a\":" T("F32", "[1]", "0", "8") "}", 8, "disagree");
    refuses("{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, "whole number");
    refuses("{\"a\":" T("F32", "[1]", "4", "0") "}", 4, "data_offsets");
    refuses("{\"a\":" T("F32", "[4294967296,4294967296]", "0", "4") "}", 4,
            "overflows");
    refuses("{\"a\":" T("F32", "[9223372036854775808]", "0", "4") "}", 4,
            "header, offset");
    refuses("{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" //
            T("F32", "[1]", "4", "8") "}",
            8, "duplicate");
    refuses("{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" //
            T("F32", "[1]", "0", "4") "}",
            4, "does not start where");
    refuses("{\"a\":" T("F32", "[1]", "4", "8") "}", 8, "does not start where");
    refuses("{\"a\":" T("F32", "[1]", "0", "4") "}", 3, "truncated");
    refuses("{\"a\":" T("F32", "[1]", "0", "4") "}", 5, "oversized");
    refuses("{\"\xFF\":1}", 0, "header, offset");
}

static void
written_files_read_back(void **state)
{
    static const float w[6] = {1, 2, 3, 4, 5, 6}, b[2] = {-1, 0.5f};
    gt_st_item items[2] = {{"w", {2, 3}, 2, w}, {"b", {2, 0}, 1, b}};
    gt_st_text text = {"epoch", "3"};
    float values[6];
    uint8_t *bytes;
    size_t length;
    gt_st_file f;

    (void)state;
    assert_int_equal(gt_st_write(in_folder("m"), items, 2, &text, 1), GP_OK);
    assert_int_equal(gt_file_read(in_folder("m"), 1 << 20, &bytes, &length),
                     GP_OK);
    assert_int_equal(bytes[0] % 8, 0); /* data are aligned */
    assert_int_equal(gt_st_parse(bytes, length, "m", &f), GP_OK);
    assert_int_equal(gt_st_read(&f, "w", items[0].shape, 2, values), GP_OK);
    assert_memory_equal(values, w, sizeof(w));
    assert_int_equal(gt_st_read(&f, "b", items[1].shape, 1, values), GP_OK);
    assert_memory_equal(values, b, sizeof(b));
    assert_string_equal(gt_st_metadata(&f, "epoch"), "3");
    gt_st_free(&f);
    free(bytes);
}

/* --- a full disk --- */

static size_t
files_in_folder(void)
{
    char command[128];
    FILE *list;
    size_t count = 0;
    int c;

    snprintf(command, sizeof(command), "ls -A '%s'", folder);
    list = popen(command, "re");
    assert_non_null(list);
    while ((c = fgetc(list)) != EOF)
        count += c == '\n';
    pclose(list);
    return count;
}

static void
expect_old_file(void)
{
    uint8_t *bytes;
    size_t length;

    assert_int_equal(gt_file_read(in_folder("f"), 100, &bytes, &length), GP_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(bytes, "old", 3);
    free(bytes);
    assert_int_equal(files_in_folder(), 1);
}

static void
a_failed_write_leaves_the_old_file(void **state)
{
    static char megabyte[1 << 20];
    struct iovec old = {(void *)(uintptr_t) "old", 3};
    struct iovec large = {megabyte, sizeof(megabyte)};
    struct rlimit limit, small;

    (void)state;
    assert_int_equal(gt_atomic_write(in_folder("f"), &old, 1), GP_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    small = (struct rlimit){65536, limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(gt_atomic_write(in_folder("f"), &large, 1), GP_ERR_SYSTEM);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_non_null(strstr(gt_last_error(), "is intact"));
    expect_old_file();
    assert_int_equal(gt_atomic_write(in_folder("no/f"), &old, 1),
                     GP_ERR_SYSTEM);
    assert_non_null(strstr(gt_last_error(), "No such file or directory"));
}

enum { CHILD_FINE = 0, CHILD_SKIPS = 1, CHILD_FAILS = 2 };

/* A file system of 256 KiB, for this process alone. */
static int
fill_small_disk(void)
{
    static char megabyte[1 << 20];
    struct iovec old = {(void *)(uintptr_t) "old", 3};
    struct iovec large = {megabyte, sizeof(megabyte)};

    if (unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=256k") != 0)
        return CHILD_SKIPS;
    if (gt_atomic_write(in_folder("f"), &old, 1) != GP_OK ||
        gt_atomic_write(in_folder("f"), &large, 1) != GP_ERR_SYSTEM ||
        !strstr(gt_last_error(), "No space left") ||
        !strstr(gt_last_error(), "free space") || files_in_folder() != 1)
        return CHILD_FAILS;
    return CHILD_FINE;
}

static void
a_full_disk_is_told(void **state)
{
    pid_t child = fork();
    int status;

    (void)state;
    assert_true(child >= 0);
    if (child == 0)
        _exit(fill_small_disk());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_SKIPS) {
        print_message("skipped: mounting a small file system is not allowed\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), CHILD_FINE);
}

/* --- resume --- */

static gt_options
parsed(const char *const *words, size_t count)
{
    char *argv[40] = {(char *)(uintptr_t) "gradpush-train"};
    gt_options o;

    for (size_t i = 0; i < count; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    if (gt_options_parse((int)count + 1, argv, &o) != GT_ACTION_TRAIN)
        fail_msg("%s", gt_last_error());
    return o;
}

#define OPTIONS(...)                      \
    parsed((const char *[]){__VA_ARGS__}, \
           GT_COUNT_OF(((const char *[]){__VA_ARGS__})))
#define COMMON                                                             \
    "--workers", "1", "--shards", "0", "--progress", "off", "--optimizer", \
        "momentum", "--lr", "0.02", "--checkpoint", folder

static void
train(const gt_options *o, char hex[65], uint64_t *steps)
{
    gt_trainer t;

    if (gt_trainer_create(o, false, &t) != GP_OK ||
        gt_trainer_run(&t, NULL) != GP_OK ||
        gt_mlp_sha256(&t.mlp, hex) != GP_OK)
        fail_msg("%s", gt_last_error());
    *steps = t.steps;
    gt_trainer_free(&t);
}

static void
a_resumed_run_ends_the_same(void **state)
{
    gt_options whole = OPTIONS(COMMON, "--epochs", "4");
    gt_options half = OPTIONS(COMMON, "--epochs", "2");
    gt_options rest = OPTIONS(COMMON, "--epochs", "4", "--resume");
    char a[65], b[65], c[65];
    uint64_t steps_a, steps_b, steps_c;

    (void)state;
    train(&whole, a, &steps_a);
    assert_int_equal(files_in_folder(), 3); /* two epochs and `latest` */
    train(&half, b, &steps_b);
    train(&rest, c, &steps_c);
    assert_string_not_equal(a, b);
    assert_string_equal(a, c);
    assert_int_equal(steps_b, steps_a / 2);
    assert_int_equal(steps_c, steps_a);
}

static void
refuses_resume(const gt_options *o, gp_status status, const char *text)
{
    gt_trainer t;

    assert_int_equal(gt_trainer_create(o, false, &t), status);
    gt_trainer_free(&t);
    if (!strstr(gt_last_error(), text))
        fail_msg("'%s' is not in '%s'", text, gt_last_error());
}

static void
resume_checks_what_it_finds(void **state)
{
    gt_options first = OPTIONS(COMMON, "--epochs", "1");
    gt_options same = OPTIONS(COMMON, "--epochs", "1", "--resume");
    gt_options more = OPTIONS(COMMON, "--epochs", "2", "--resume");
    gt_options wide =
        OPTIONS(COMMON, "--epochs", "2", "--resume", "--hidden", "64");
    gt_options deep =
        OPTIONS(COMMON, "--epochs", "2", "--resume", "--hidden", "128,128,10");
    gt_options other =
        OPTIONS(COMMON, "--epochs", "2", "--resume", "--loss", "mse");
    char hex[65];
    uint64_t steps;
    FILE *file;

    (void)state;
    refuses_resume(&more, GP_ERR_NOT_FOUND, "leave --resume out");
    train(&first, hex, &steps);
    refuses_resume(&same, GP_ERR_CONFIG, "more --epochs");
    refuses_resume(&wide, GP_ERR_MISMATCH, "with --hidden 128,128, this");
    refuses_resume(&deep, GP_ERR_MISMATCH, "has 128,128,10");
    refuses_resume(&other, GP_ERR_MISMATCH, "--loss ce");
    assert_int_equal(truncate(in_folder("epoch-000001.safetensors"), 5000), 0);
    refuses_resume(&more, GP_ERR_CORRUPT, "truncated");
    file = fopen(in_folder("latest"), "we");
    assert_non_null(file);
    fputs("what?", file);
    fclose(file);
    refuses_resume(&more, GP_ERR_CORRUPT, "does not name a checkpoint");
}

static size_t
read_whole(const char *name, uint8_t *out, size_t room)
{
    FILE *file = fopen(in_folder(name), "rbe");
    size_t size;

    assert_non_null(file);
    size = fread(out, 1, room, file);
    assert_true(size > 0 && size < room);
    fclose(file);
    return size;
}

static void
write_whole(const char *name, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(in_folder(name), "wbe");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Trains, and returns what file NAME of it is then. */
static size_t
write_one(gt_options *o, const char *name, uint8_t *out, size_t room)
{
    uint64_t steps;
    char hex[65];

    train(o, hex, &steps);
    return read_whole(name, out, room);
}

#define SMALL COMMON, "--epochs", "2", "--hidden", "2", "--optimizer", "sgd"

static void
refuses_file(gt_trainer *t, const char *text)
{
    assert_int_equal(gt_checkpoint_load(t), GP_ERR_CORRUPT);
    if (!strstr(gt_last_error(), text))
        fail_msg("'%s' is not in '%s'", text, gt_last_error());
}

/* One bit of every byte, and every length. */
static void
damaged_checkpoints_are_refused(void **state)
{
    gt_options o = OPTIONS(SMALL);
    static const char name[] = "epoch-000002.safetensors";
    static uint8_t bytes[1 << 16];
    gt_trainer t;
    size_t size;

    (void)state;
    size = write_one(&o, name, bytes, sizeof(bytes));
    assert_int_equal(gt_trainer_create(&o, false, &t), GP_OK);
    assert_int_equal(gt_checkpoint_load(&t), GP_OK);
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= (uint8_t)(1u << i % 8);
        write_whole(name, bytes, size);
        refuses_file(&t, name);
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    write_whole(name, bytes, size);
    for (size_t i = size; i-- > 0;) {
        assert_int_equal(truncate(in_folder(name), (off_t)i), 0);
        refuses_file(&t, name);
    }
    refuses_file(&t, "or go on from the checkpoint before: write epoch-000001");
    assert_int_equal(unlink(in_folder("epoch-000001.safetensors")), 0);
    assert_int_equal(gt_checkpoint_load(&t), GP_ERR_CORRUPT);
    assert_null(strstr(gt_last_error(), "before"));
    gt_trainer_free(&t);
}

static void
replace(uint8_t *bytes, size_t size, const char *from, const char *to)
{
    uint8_t *at = memmem(bytes, size, from, strlen(from));

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

/* As before there was one; and what another program leaves of it. */
static void
checksums_are_of_newer_files(void **state)
{
    gt_options o = OPTIONS(SMALL);
    static const char name[] = "epoch-000002.safetensors";
    static uint8_t bytes[1 << 16];
    gt_trainer t;
    size_t size;

    (void)state;
    size = write_one(&o, name, bytes, sizeof(bytes));
    assert_int_equal(gt_trainer_create(&o, false, &t), GP_OK);
    replace(bytes, size, "\"checksum\":\"crc32c:", "\"checksum\" : \"crc32");
    write_whole(name, bytes, size);
    refuses_file(&t, "no checksum that can be found");
    replace(bytes, size, "\"checksum\" ", "\"whatever\" ");
    write_whole(name, bytes, size);
    refuses_file(&t, "has no 'checksum'");
    replace(bytes, size, "gradpush.checkpoint/2", "gradpush.checkpoint/1");
    write_whole(name, bytes, size);
    assert_int_equal(gt_checkpoint_load(&t), GP_OK);
    replace(bytes, size, "gradpush.checkpoint/1", "gradpush.checkpoint/3");
    write_whole(name, bytes, size);
    refuses_file(&t, "is not the gradpush.checkpoint/2 checkpoint of epoch 2");
    gt_trainer_free(&t);
}

#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_are_read),
        cmocka_unit_test(damaged_safetensors_are_refused),
        IN_FOLDER(written_files_read_back),
        IN_FOLDER(a_failed_write_leaves_the_old_file),
        IN_FOLDER(a_full_disk_is_told),
        IN_FOLDER(a_resumed_run_ends_the_same),
        IN_FOLDER(resume_checks_what_it_finds),
        IN_FOLDER(damaged_checkpoints_are_refused),
        IN_FOLDER(checksums_are_of_newer_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
