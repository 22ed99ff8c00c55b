#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes digits_table.c from digits.csv.gz of scikit-learn.

    apt-get download python3-sklearn && dpkg -x python3-sklearn_*.deb x
    ./make_digits.py x/usr/lib/python3/dist-packages/sklearn/datasets/data/\
digits.csv.gz > digits_table.c

With --check TABLE it compares instead of writing. The order of the source goes
by writer, so a front split of it would test on writers never trained on. It is
shuffled once: Fisher-Yates from the end, with splitmix64 seeded with 1797.
"""
import gzip
import sys

MASK = (1 << 64) - 1
HEAD = """\
/* SPDX-License-Identifier: CC-BY-4.0 */
/*
 * digits_table.c - 1,797 handwritten digits, 8 x 8 pixels of 0 to 16, and
 * their labels. Written by data/make_digits.py: do not edit.
 *
 * Optical Recognition of Handwritten Digits (test set), E. Alpaydin and
 * C. Kaynak, UCI Machine Learning Repository, 1998,
 * https://doi.org/10.24432/C50P49, licensed under CC BY 4.0
 * (https://creativecommons.org/licenses/by/4.0/). Changed: the rows were
 * shuffled and are written as letters, 'A' for 0 to 'Q' for 16, label last.
 */
#include "../data.h"

/* clang-format off */
const char gt_digits_rows[GT_DIGITS_ROWS][66] = {
"""


def splitmix64(state):
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, z ^ (z >> 31)


def table(path):
    with gzip.open(path, "rt") as source:
        rows = [[int(float(v)) for v in line.split(",")] for line in source]
    assert len(rows) == 1797 and all(len(r) == 65 for r in rows)
    state = 1797
    for i in range(len(rows) - 1, 0, -1):
        state, word = splitmix64(state)
        j = word % (i + 1)
        rows[i], rows[j] = rows[j], rows[i]
    text = "".join('    "%s%d",\n' % ("".join(chr(65 + v) for v in r[:64]),
                                      r[64]) for r in rows)
    return HEAD + text + "};\n"


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--check":
        with open(sys.argv[2]) as have:
            sys.exit(have.read() != table(sys.argv[3]))
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.stdout.write(table(sys.argv[1]))


main()
