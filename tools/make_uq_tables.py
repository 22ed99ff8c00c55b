#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes compress/uq_tables.c: the frequencies of the static entropy code.

    python3 tools/make_uq_tables.py > compress/uq_tables.c

and set GP_UQ_SHAPES and GP_UQ_NUMBERS of uq_tables.h to what it tells.

They are part of the format of uq: a decoder with other tables reads nothing.
Run this only to add tables behind those that exist. A table holds, of 4096, the
frequencies of 0, of +-1, +-2, ... up to its largest magnitude (each sign has
the frequency that is written), and of the escape for what is larger.
"""
import math
import sys

TOTAL = 4096
LARGEST = 127


def whole(p0, sides):
    """Integers that add up to TOTAL from P(0) and P(+m), m = 1, 2, ...; the
    rest is the escape's."""
    kept = [p for p in sides[:LARGEST] if p * TOTAL >= 0.6]
    sides = sides[:max(1, len(kept))]
    wanted = [p0] + [2 * p for p in sides]
    wanted.append(max(1 - sum(wanted), 0.5 / TOTAL))
    pairs = [1] + [2] * len(sides) + [1]
    scale = TOTAL / sum(wanted)
    ideal = [w * scale / k for w, k in zip(wanted, pairs)]
    got = [max(1, math.floor(x)) for x in ideal]

    def left():
        return TOTAL - sum(g * k for g, k in zip(got, pairs))

    while left() < 0 or left() > 1:
        up = left() > 0
        gains = [((x - g) if up else (g - x), -i)
                 for i, (x, g) in enumerate(zip(ideal, got)) if up or g > 1]
        got[-max(gains)[1]] += 1 if up else -1
    got[0] += left()
    return got


def gauss(sigma):
    def above(x):
        return 0.5 * math.erfc(x / sigma / math.sqrt(2))
    return 1 - 2 * above(0.5), [above(m - 0.5) - above(m + 0.5)
                                for m in range(1, 400)]


def geometric(nonzero, ratio):
    return 1 - nonzero, [nonzero / 2 * (1 - ratio) * ratio ** (m - 1)
                         for m in range(1, 400)]


def laplace(b):
    return geometric(math.exp(-0.5 / b), math.exp(-1 / b))


def mixed(b):
    (p, s), (q, t) = laplace(b), laplace(4 * b)
    return 0.75 * p + 0.25 * q, [0.75 * x + 0.25 * y for x, y in zip(s, t)]


shapes = [gauss(2.0 ** (k / 4)) for k in range(-8, 21)]
shapes += [laplace(2.0 ** (k / 3)) for k in range(-1, 16)]
shapes += [mixed(2.0 ** (k / 2)) for k in range(-3, 9)]
grid = [2.0 ** k for k in range(-11, -4)] + [2.0 ** (k / 2)
                                             for k in range(-8, -1)]
shapes += [geometric(p, r) for p in grid for r in (0.02, 0.12, 0.3, 0.5, 0.7)]
# Zeros beside numbers of many steps: rows that took no part.
shapes += [geometric(p, r) for p in (0.0625, 0.125, 0.25, 0.5, 0.7, 0.85)
           for r in (0.85, 0.93)]

tables = sorted({tuple(whole(*s)) for s in shapes}, key=lambda t: (-t[0], t))
print("""\
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq_tables.c - the frequencies of uq's static entropy code, by falling P(0).
 *
 * Written by tools/make_uq_tables.py; part of the format, so never changed.
 */
#include "compress/uq_tables.h"

/* clang-format off */""")
flat, begins = [], []
for t in tables:
    begins.append(len(flat))
    flat += t
begins.append(len(flat))
assert len(tables) <= 255 and all(
    t[0] + 2 * sum(t[1:-1]) + t[-1] == TOTAL for t in tables)


def array(head, numbers):
    print(head)
    line = "   "
    for n in numbers:
        if len(line) + len(f" {n},") > 80:
            print(line)
            line = "   "
        line += f" {n},"
    print(line + "\n};")


array("GP_UQ_TABLE uint16_t gp_uq_begins[GP_UQ_SHAPES + 1] = {", begins)
array("GP_UQ_TABLE uint16_t gp_uq_frequencies[GP_UQ_NUMBERS] = {", flat)
print(f"{len(tables)} shapes, {len(flat)} numbers", file=sys.stderr)
