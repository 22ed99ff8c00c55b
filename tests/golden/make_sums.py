#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes codec_{intsum,thc,powersgd}*.hex beside it: what version 1 of the
codecs that shards sum or that factor is.

Made from docs/codecs/{sums,powersgd}.md alone, without the library, so that it
can disagree with it. Python's float is a double; rounding one sum, product,
quotient or root of fp32 numbers to fp32 gives the fp32 result.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
NAN, INF, LARGEST = float("nan"), float("inf"), 3.4028234663852886e38
ROUNDING, SIGNS, START = 1, 5, 6


def f32(x):
    if math.isfinite(x) and abs(x) >= 2.0**128 - 2.0**103:
        return math.copysign(INF, x)
    return struct.unpack("<f", struct.pack("<f", x))[0]


def mix(z):
    z = z + 0x9E3779B97F4A7C15 & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def gauss(i):
    return f32(sum((mix(12 * i + j) >> 32) * 2.0**-32 for j in range(12)) - 6)


def philox(key, counter):
    c = [counter >> 32 * j & M32 for j in range(4)]
    k = [key & M32, key >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & M32, p0 >> 32 ^ c[3] ^ k[1],
             p0 & M32]
        k = [k[0] + 0x9E3779B9 & M32, k[1] + 0xBB67AE85 & M32]
    return c


def word(use, element, seed=1, tensor=0, step=0, rank=0):
    own = rank if use == ROUNDING else 0
    key = mix(mix(mix(seed) ^ tensor) ^ (use << 32 | own))
    return philox(key, element >> 2 | step << 64)[element & 3]


def unit(element):
    return (word(ROUNDING, element) >> 8) * 2.0**-24


def by_halves(p):
    for width in (8, 4, 2, 1):
        for j in range(width):
            p[j] += p[j + width]
    return p[0]


def total(terms):
    p = [0.0] * 16
    for i, t in enumerate(terms):
        p[i % 16] += t
    return by_halves(p)


def pack(codes, width):
    out = bytearray((len(codes) * width + 7) // 8)
    for i, q in enumerate(codes):
        for b in range(width):
            at = i * width + b
            out[at // 8] |= (q >> b & 1) << at % 8
    return bytes(out)


def head(step, contributors, width):
    return struct.pack("<fHBB", step, contributors, width, 0)


# ---- integers of one step -------------------------------------------------------

def step_of(most, levels, significant):
    """The least number of so few significant bits with most <= levels * s."""
    if most / levels < 2.0**-126:
        return 0.0
    exponent = math.frexp(most / levels)[1] - significant
    s = math.ceil(most / levels / 2.0**exponent) * 2.0**exponent
    while s * levels > LARGEST:
        s -= 2.0 ** (math.frexp(s)[1] - significant)
    return s


def intsum(values, width, stochastic):
    levels = 2 ** (width - 1) - 1
    s = NAN
    if all(math.isfinite(x) for x in values):
        s = step_of(max(abs(x) for x in values), levels, 1 if width == 16 else 8)
    codes = [0] * len(values)
    if s > 0:
        v = [f32(x * f32(1 / s)) for x in values]
        v = [max(-levels, min(levels, x)) for x in v]
        codes = [round(x) for x in v]
        if stochastic:
            codes = [math.floor(x) + (unit(i) < x - math.floor(x))
                     for i, x in enumerate(v)]
    return head(s, 1, width) + pack(codes, width), [f32(s * q) for q in codes]


# ---- THC ---------------------------------------------------------------------

TABLES = {
    ("4", "optimal"): (2.92, [0, 4, 7, 9, 11, 13, 14, 15, 16, 17, 18, 20, 22,
                              24, 27, 31]),
    ("4", "uniform"): (2.72, list(range(16))),
    ("2", "optimal"): (1.72, list(range(4))),
}


def butterflies(z):
    h = 1
    while h < len(z):
        for i in range(0, len(z), 2 * h):
            for j in range(i, i + h):
                z[j], z[j + h] = f32(z[j] + z[j + h]), f32(z[j] - z[j + h])
        h *= 2
    return [f32(x * f32(1 / math.sqrt(len(z)))) for x in z]


def signs(first, n):
    return [-1 if word(SIGNS, e >> 5) >> (e & 31) & 1 else 1
            for e in range(first, first + n)]


def forward(x, first):
    return butterflies([a * s for a, s in zip(x, signs(first, len(x)))])


def inverse(z, first):
    return [a * s for a, s in zip(butterflies(z), signs(first, len(z)))]


def thc(values, bits, spacing, block):
    n, (span, table) = len(values), TABLES[bits, spacing]
    width, most = int(bits), table[-1]
    while block > n:
        block //= 2
    whole, again = n // block * block, 1 << 62
    energies = [total([x * x for x in values[i:i + block]])
                for i in range(0, whole, block)]
    if whole < n:
        energies.append(energies[-1] * ((whole + block - n) / block) +
                        total([x * x for x in values[whole:]]))
    rms = f32(math.sqrt(max(e / block for e in energies)))
    u = f32(rms * f32(span) / most)
    z = []
    for i in range(0, whole, block):
        z += forward(values[i:i + block], i)
    z += values[whole:]
    if whole < n:
        z[n - block:] = forward(z[n - block:], again)
    codes = []
    for i, x in enumerate(z):
        v = f32(f32(x * f32(0.5 / u)) + 0.5 * most)
        v = max(0.0, min(float(most), v))
        k = max(j for j in range(len(table) - 1) if table[j] <= v)
        gap = table[k + 1] - table[k]
        codes.append(k + (f32(unit(i) * gap) < f32(v - table[k])))
    y = [f32((2 * table[k] - most) * u) for k in codes]
    if whole < n:
        y[n - block:] = inverse(y[n - block:], again)
    for i in range(0, whole, block):
        y[i:i + block] = inverse(y[i:i + block], i)
    return head(u, 1, width) + pack(codes, width), y


# ---- low rank ------------------------------------------------------------------

def dot(x, y):
    return total([a * b for a, b in zip(x, y)])


def orthonormalize(columns):
    for k, x in enumerate(columns):
        for again in range(4):
            for y in columns[:k]:
                f = f32(dot(x, y))
                x = [f32(a - f32(f * b)) for a, b in zip(x, y)]
            norm = math.sqrt(dot(x, x))
            x = [f32(a * f32(1 / norm)) for a in x]
            if again and norm > 0.7:
                break
        columns[k] = x


def start(element):
    return (sum(word(START, element).to_bytes(4, "little")) - 510) / 256


def row_times(row, q):
    p = [0.0] * 16
    for j, (a, b) in enumerate(zip(row, q)):
        p[j % 16] = f32(p[j % 16] + f32(a * b))
    for width in (8, 4, 2, 1):
        for j in range(width):
            p[j] = f32(p[j] + p[j + width])
    return p[0]


def powersgd(values, rank, columns):
    """Whole rows, at most 256 of them, of usual magnitude."""
    m = [values[i:i + columns] for i in range(0, len(values), columns)]
    q = [[start(k * columns + j) for j in range(columns)] for k in range(rank)]
    orthonormalize(q)
    p = [[row_times(row, c) for row in m] for c in q]
    orthonormalize(p)
    q = [[0.0] * columns for _ in range(rank)]
    for k in range(rank):
        for i, row in enumerate(m):
            q[k] = [f32(s + f32(a * p[k][i])) for s, a in zip(q[k], row)]
    decoded = []
    for i in range(len(m)):
        for j in range(columns):
            s = f32(p[0][i] * q[0][j])
            for k in range(1, rank):
                s = f32(s + f32(p[k][i] * q[k][j]))
            decoded.append(s)
    factors = [p[k][i] for i in range(len(m)) for k in range(rank)]
    factors += [x for c in q for x in c]
    return b"\1\0\0\0" + struct.pack("<%df" % len(factors), *factors), decoded


# ---- files -----------------------------------------------------------------------

def lines(data):
    text = data.hex()
    return "".join(" ".join(text[i + j:i + j + 2] for j in range(
        0, min(32, len(text) - i), 2)) + "\n" for i in range(0, len(text), 32))


def write(name, pipeline, values, result):
    encoded, decoded = result
    floats = [b"".join(struct.pack("<f", x) for x in v)
              for v in (values, decoded)]
    (HERE / name).write_text(
        f"# {pipeline}\n# input\n{lines(floats[0])}# encoded\n"
        f"{lines(encoded)}# decoded\n{lines(floats[1])}")


some = [gauss(i) for i in range(60)] + [0.0, -0.0, 1e-9, -3.75, 3.75]
write("codec_intsum.hex", "intsum", some, intsum(some, 8, False))
write("codec_intsum_4.hex", "intsum:bits=4,round=stochastic", some,
      intsum(some, 4, True))
write("codec_intsum_16.hex", "intsum:bits=16,round=stochastic", some,
      intsum(some, 16, True))
huge = [LARGEST, -LARGEST, 1e38, 1.0, 0.0]
write("codec_intsum_huge.hex", "intsum", huge, intsum(huge, 8, False))
tiny = [2.0**-119, 2.0**-121, -2.0**-126, 2.0**-130]
write("codec_intsum_tiny.hex", "intsum", tiny, intsum(tiny, 8, False))
bad = some[:5] + [NAN]
write("codec_intsum_nan.hex", "intsum", bad, intsum(bad, 8, False))

# A sum of 200 workers.
sums = [0, 1, -1, 200 * 127, -200 * 127, 12345]
write("codec_intsum_sum.hex", "intsum", [0.0] * 6,
      (head(0.25, 200, 16) + struct.pack("<6h", *sums),
       [q * 0.25 for q in sums]))

odd = [gauss(i) ** 3 for i in range(165)]
odd = [f32(x) for x in odd]
write("codec_thc.hex", "thc:block=64", odd, thc(odd, "4", "optimal", 64))
write("codec_thc_uniform.hex", "thc:levels=uniform,block=256", odd,
      thc(odd, "4", "uniform", 256))
write("codec_thc_2.hex", "thc:bits=2,block=32", odd, thc(odd, "2", "optimal",
                                                         32))

for rank, columns, rows in ((1, 9, 50), (2, 12, 40), (3, 20, 25)):
    x = [gauss(i) for i in range(rows * columns)]
    if rank == 3:
        x = [f32(a + 3 * gauss(1000 + i // columns)) for i, a in enumerate(x)]
    write(f"codec_powersgd_{rank}.hex",
          f"powersgd:rank={rank} columns={columns}", x,
          powersgd(x, rank, columns))
