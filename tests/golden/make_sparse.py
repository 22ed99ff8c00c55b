#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes codec_{topk,randk,threshold,zeros,...}.hex beside it: what version 1
of the selections, the index stages and the zero-block map is.

Made from docs/codecs/sparse.md alone, without the library, so that it can
disagree with it. Selected values travel as fp32 here.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
M32, M64 = (1 << 32) - 1, (1 << 64) - 1


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def mix(z):
    z = z + 0x9E3779B97F4A7C15 & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def gauss(i):
    return f32(sum((mix(12 * i + j) >> 32) * 2.0**-32 for j in range(12)) - 6)


def philox(key, counter):
    c = [counter & M32, counter >> 32 & M32, counter >> 64 & M32,
         counter >> 96]
    k = [key & M32, key >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & M32, p0 >> 32 ^ c[3] ^ k[1],
             p0 & M32]
        k = [k[0] + 0x9E3779B9 & M32, k[1] + 0xBB67AE85 & M32]
    return c


def selection_word(seed, tensor, step, element):
    """Of the stream for selections, which all ranks share."""
    key = mix(mix(mix(seed) ^ tensor) ^ 4 << 32)
    return philox(key, element >> 2 | step << 64)[element & 3]


def share(ratio, n):
    return min(n, max(1, math.ceil(ratio * n * (1 - 2.0**-40))))


def magnitude(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] & 0x7FFFFFFF


def topk(values, ratio):
    order = sorted(range(len(values)), key=lambda i: (-magnitude(values[i]), i))
    return sorted(order[:share(ratio, len(values))])


def threshold(values, least):
    return [i for i, x in enumerate(values)
            if magnitude(x) >= magnitude(f32(least))]


def randk(n, ratio, seed=1, tensor=0, step=0, offset=0):
    k = share(ratio, n)
    draws = n - k if k > n // 2 else k
    drawn = set()
    for i in range(draws):
        u = (selection_word(seed, tensor, step, offset + 2 * i) |
             selection_word(seed, tensor, step, offset + 2 * i + 1) << 32)
        last = n - draws + i
        t = u * (last + 1) >> 64
        drawn.add(last if t in drawn else t)
    return sorted(set(range(n)) - drawn if k > n // 2 else drawn)


def raw(indices, n):
    return struct.pack(f"<{len(indices)}I", *indices)


def rice(indices, n):
    gaps = [b - a - 1 for a, b in zip([-1] + indices, indices)]
    bits = []
    for at in range(0, len(gaps), 32):
        block = gaps[at:at + 32]
        r = min(range(32), key=lambda r: sum(g >> r for g in block) +
                len(block) * (r + 1))
        bits += [r >> i & 1 for i in range(5)]
        for g in block:
            bits += [0] * (g >> r) + [1] + [g >> i & 1 for i in range(r)]
    bits += [0] * (-len(bits) % 8)
    return bytes(sum(b << i for i, b in enumerate(bits[at:at + 8]))
                 for at in range(0, len(bits), 8))


def bitmap(indices, n):
    out = bytearray((n + 7) // 8)
    for i in indices:
        out[i >> 3] |= 1 << (i & 7)
    return bytes(out)


def auto(indices, n):
    modes = [f(indices, n) for f in (raw, rice, bitmap)]
    best = min(range(3), key=lambda m: len(modes[m]))
    return bytes([best]) + modes[best]


def pack(values):
    return struct.pack(f"<{len(values)}f", *values)


def scatter(values, indices, n):
    out = [0.0] * n
    for i, x in zip(indices, values):
        out[i] = x
    return out


def selected(values, indices, index):
    """A message with flags 0, the indices and the values."""
    chosen = [values[i] for i in indices]
    coded = index(indices, len(values))
    return (b"\0" + struct.pack("<II", len(indices), len(coded)) + coded +
            pack(chosen)), scatter(chosen, indices, len(values))


def implied(values, indices, factor):
    chosen = [f32(values[i] * f32(factor)) for i in indices]
    return b"\0" + pack(chosen), scatter(chosen, indices, len(values))


def zeros(values, block):
    parts = [values[at:at + block] for at in range(0, len(values), block)]
    keep = [i for i, part in enumerate(parts) if any(pack(part))]
    return (b"\1" + bitmap(keep, len(parts)) +
            b"".join(pack(parts[i]) for i in keep)), values


def lines(data):
    text = data.hex(" ")
    return "".join(text[i:i + 48].rstrip() + "\n"
                   for i in range(0, len(text), 48))


def write(name, pipeline, values, message):
    encoded, decoded = message
    (HERE / f"codec_{name}.hex").write_text(
        f"# {pipeline}\n# input\n{lines(pack(values))}# encoded\n"
        f"{lines(encoded)}# decoded\n{lines(pack(decoded))}")


# Ties, zeros of both signs, large and tiny ones; large ones cluster.
plain = [gauss(i) * (4 if 200 <= i < 240 else 1) for i in range(500)]
plain = [f32(x) for x in plain]
plain[3:9] = [2.5, -2.5, 2.5, -0.0, 0.0, 1e-40]
plain[77], plain[300], plain[301] = 3.4028234663852886e38, -2.5, 2.5
for index in (raw, rice, bitmap, auto):
    name = index.__name__
    write(name, f"topk:0.1+{name}", plain,
          selected(plain, topk(plain, 0.1), index))
hostile = [math.inf, -math.inf, math.nan] + plain[3:100]
write("topk", "topk:0.05+rice", hostile,
      selected(hostile, topk(hostile, 0.05), rice))
write("threshold", "threshold:2.5+rice", plain,
      selected(plain, threshold(plain, 2.5), rice))
write("randk", "randk:0.07", plain, implied(plain, randk(500, 0.07), 1))
write("randk_most", "randk:0.8", plain, implied(plain, randk(500, 0.8), 1))
tame = [gauss(i) for i in range(300)]
write("randk_unbiased", "randk:0.1,scale=unbiased", tame,
      implied(tame, randk(300, 0.1), 300 / 30))
blocks = [0.0] * 64 + tame[:40] + [0.0] * 25 + [-0.0] + [0.0] * 31 + [1e-45]
write("zeros", "zeros:block=32", blocks, zeros(blocks, 32))
