/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - runs a fuzz target without a fuzzer.
 *
 *     fuzz_NAME MUTATIONS [CORPUS_FOLDER_OR_FILE...]
 *
 * Every corpus file goes in as it is, then MUTATIONS variants of it. They
 * depend on the file's content and their number alone, so a failure repeats.
 * The input at hand is written to `crash-input` when the target dies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

#define INPUT_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *current;
static size_t current_size;
static unsigned long inputs;

/* Async-signal-safe calls only. */
static void
save_input(void)
{
    int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd >= 0 && write(fd, current, current_size) >= 0)
        close(fd);
}

static void
on_signal(int number)
{
    save_input();
    signal(number, SIG_DFL);
    raise(number);
}

/* A sanitizer has its own handlers and tells why the program died; it must keep
 * them. */
void __sanitizer_set_death_callback(void (*callback)(void))
    __attribute__((weak));

static void
watch_for_death(void)
{
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(save_input);
        return;
    }
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
    signal(SIGABRT, on_signal);
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Numbers that lengths and counts go wrong at. */
static void
plant_number(uint8_t *data, size_t size, uint64_t *state)
{
    static const uint64_t numbers[] = {
        0,          1,         127,        128,        255,
        256,        INT16_MAX, UINT16_MAX, INT32_MAX,  1ull << 31,
        UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX, 1ull << 40,
    };
    uint64_t n =
        numbers[next_random(state) % (sizeof(numbers) / sizeof(*numbers))];
    size_t width = (size_t)1 << (next_random(state) % 4);
    uint8_t bytes[8];

    if (size < width)
        return;
    gp_put64(bytes, n);
    memcpy(data + next_random(state) % (size - width + 1), bytes, width);
}

static void
copy_range(uint8_t *data, size_t size, uint64_t *state)
{
    size_t from = next_random(state) % size;
    size_t to = next_random(state) % size;
    size_t longest = size - (from > to ? from : to);

    memmove(data + to, data + from, 1 + next_random(state) % longest);
}

/* The size after one change. */
static size_t
mutate_once(uint8_t *data, size_t size, uint64_t *state)
{
    uint64_t kind = next_random(state) % 7;
    size_t more;

    if (size == 0 || kind == 0) {
        more = next_random(state) % 64;
        if (size + more > INPUT_MAX)
            return size;
        for (size_t i = 0; i < more; i++)
            data[size + i] = (uint8_t)next_random(state);
        return size + more;
    }
    switch (kind) {
    case 1:
        return next_random(state) % (size + 1);
    case 2:
        data[next_random(state) % size] = (uint8_t)next_random(state);
        return size;
    case 3:
        copy_range(data, size, state);
        return size;
    case 4:
    case 5:
        data[next_random(state) % size] ^=
            (uint8_t)(1u << (next_random(state) % 8));
        return size;
    default:
        plant_number(data, size, state);
        return size;
    }
}

/* An exact-size copy, so that a sanitizer sees a read past the end. */
static bool
run_input(const uint8_t *data, size_t size)
{
    current = malloc(size ? size : 1);
    if (!current)
        return false;
    if (size)
        memcpy(current, data, size);
    current_size = size;
    LLVMFuzzerTestOneInput(current, size);
    free(current);
    current = NULL;
    current_size = 0;
    inputs++;
    return true;
}

static bool
run_mutations(const uint8_t *data, size_t size, unsigned long count)
{
    uint8_t *scratch = malloc(INPUT_MAX);
    uint64_t state = 0x9e3779b97f4a7c15u + size;
    bool fine = scratch != NULL;

    for (size_t i = 0; i < size; i++)
        state = (state ^ data[i]) * 0x100000001b3u;
    state |= 1;
    for (unsigned long i = 0; fine && i < count; i++) {
        size_t length = size;

        if (size)
            memcpy(scratch, data, size);
        for (uint64_t n = 1 + next_random(&state) % 4; n > 0; n--)
            length = mutate_once(scratch, length, &state);
        fine = run_input(scratch, length);
    }
    free(scratch);
    return fine;
}

static bool
run_file(const char *path, unsigned long mutations)
{
    uint8_t *data = malloc(INPUT_MAX);
    FILE *file = fopen(path, "rb");
    bool fine = data && file;
    size_t size = 0;

    if (fine) {
        size = fread(data, 1, INPUT_MAX, file);
        fine = !ferror(file);
    }
    if (fine)
        fine = run_input(data, size) && run_mutations(data, size, mutations);
    else
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (file)
        fclose(file);
    free(data);
    return fine;
}

static int
visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool
run_folder(const char *path, unsigned long mutations)
{
    struct dirent **entries;
    bool fine = true;
    int count = scandir(path, &entries, visible, alphasort);

    if (count < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    for (int i = 0; i < count; i++) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        fine = fine && run_file(name, mutations);
        free(entries[i]);
    }
    free(entries);
    return fine;
}

int
main(int argc, char **argv)
{
    unsigned long mutations;
    bool fine;

    if (argc < 2) {
        fprintf(stderr, "usage: %s MUTATIONS [CORPUS...]\n", argv[0]);
        return 2;
    }
    watch_for_death();
    mutations = strtoul(argv[1], NULL, 10);
    fine = run_input(NULL, 0) && run_mutations(NULL, 0, mutations);
    for (int i = 2; fine && i < argc; i++) {
        struct stat info;

        if (stat(argv[i], &info) == 0 && S_ISDIR(info.st_mode))
            fine = run_folder(argv[i], mutations);
        else
            fine = run_file(argv[i], mutations);
    }
    printf("%lu inputs\n", inputs);
    return fine ? 0 : 1;
}
