/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nearest.c - which word of a list did a person mean.
 *
 * Distance counts insertions, deletions, replacements and swaps of neighbours,
 * without regard to case (optimal string alignment).
 */
#include "base/base.h"

#include <ctype.h>
#include <string.h>

#define WORD_MAX 64

static int
lower(char c)
{
    return tolower((unsigned char)c);
}

static size_t
smallest(size_t a, size_t b, size_t c)
{
    return GP_MIN(GP_MIN(a, b), c);
}

/* Three rows of the table of prefix distances: this one, the one before, and
 * the one before that for swaps. */
static size_t
edit_distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t rows[3][WORD_MAX + 1];

    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *old = rows[(i + 2) % 3];
        const size_t *older = rows[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = lower(a[i - 1]) != lower(b[j - 1]);

            now[j] = smallest(old[j] + 1, now[j - 1] + 1, old[j - 1] + cost);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]))
                now[j] = GP_MIN(now[j], older[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

bool
gp_nearest(const char *text, const char *const *words, size_t count,
           const char **out)
{
    size_t length = strlen(text), best = SIZE_MAX;

    if (length > WORD_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t n = words[i] ? strlen(words[i]) : SIZE_MAX, distance;

        if (n > WORD_MAX)
            continue;
        distance = edit_distance(text, length, words[i], n);
        if (distance < best && distance <= (GP_MAX(length, n) + 1) / 3) {
            best = distance;
            *out = words[i];
        }
    }
    return best != SIZE_MAX;
}
