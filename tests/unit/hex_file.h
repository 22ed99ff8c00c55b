/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hex_file.h - reads golden files: lines of bytes in hexadecimal; those
 * that start with # are for people. Include it after cmocka.h.
 */
#ifndef HEX_FILE_H
#define HEX_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The number of bytes, at most `capacity`. */
static inline size_t
read_hex_file(const char *path, uint8_t *out, size_t capacity)
{
    FILE *file = fopen(path, "r");
    char line[256];
    size_t used = 0;

    if (!file)
        fail_msg("cannot open %s; run this in the folder tests", path);
    while (fgets(line, sizeof(line), file)) {
        unsigned byte;
        int n;

        for (char *p = line; *line != '#' && sscanf(p, "%2x%n", &byte, &n) == 1;
             p += n) {
            assert_true(used < capacity);
            out[used++] = (uint8_t)byte;
        }
    }
    fclose(file);
    return used;
}

#endif
