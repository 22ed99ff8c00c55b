#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes codec_{sign,onebit,vote,qsgd,natural,terngrad,drive,eden,...}.hex
beside it: what version 1 of the signs, random roundings and rotations is.

Made from docs/codecs/{sign,stochastic,rotation}.md alone, without the library,
so that it can disagree with it. Python's float is a double; rounding one sum,
product, quotient or root of fp32 numbers to fp32 gives the fp32 result.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
NAN, INF, LARGEST = float("nan"), float("inf"), 3.4028234663852886e38
ROUNDING, SIGNS, ROTATION = 1, 5, 7


def f32(x):
    if math.isfinite(x) and abs(x) >= 2.0**128 - 2.0**103:
        return math.copysign(INF, x)
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def from_bits(b):
    return struct.unpack("<f", struct.pack("<I", b))[0]


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
    own = rank if use in (ROUNDING, ROTATION) else 0
    key = mix(mix(mix(seed) ^ tensor) ^ (use << 32 | own))
    return philox(key, element >> 2 | step << 64)[element & 3]


def unit(element):
    return (word(ROUNDING, element) >> 8) * 2.0**-24


def total(terms):
    p = [0.0] * 16
    for i, t in enumerate(terms):
        p[i % 16] += t
    for width in (8, 4, 2, 1):
        for j in range(width):
            p[j] += p[j + width]
    return p[0]


def finite(x):
    return all(math.isfinite(v) for v in x)


def blocks(values, size):
    return [(at, values[at:at + size]) for at in range(0, len(values), size)]


def pack_bits(ones):
    out = bytearray((len(ones) + 7) // 8)
    for i, one in enumerate(ones):
        out[i // 8] |= one << i % 8
    return bytes(out)


def normal(x):
    return 0.0 if abs(x) < 2.0**-126 else f32(x)


# ---- signs -----------------------------------------------------------------

def levels_of(part, scale):
    n = len(part)
    if not finite(part):
        return [NAN, NAN]
    if scale == "two":
        low = total([x if x < 0 else 0.0 for x in part])
        high = total([0.0 if x < 0 else x for x in part])
        m = sum(x < 0 for x in part)
        return [normal(high / (n - m)) if m < n else 0.0,
                normal(low / m) if m else 0.0]
    if scale == "l1":
        s = normal(total([abs(x) for x in part]) / n)
    else:
        s = normal(math.sqrt(total([x * x for x in part]) / n))
    return [s, -s]


def sign(values, block, scale):
    levels, ones, decoded = b"", [], []
    for _, part in blocks(values, block):
        pair = levels_of(part, scale)
        levels += struct.pack("<f", pair[0])
        if scale == "two":
            levels += struct.pack("<f", pair[1])
        none = math.isnan(pair[0]) or pair == [0, 0]
        signs = [0 if none else int(x < 0) for x in part]
        ones += signs
        decoded += [pair[0] if none else pair[s] for s in signs]
    return levels + pack_bits(ones), decoded


def vote(values):
    ones = [int(x < 0) for x in values]
    return (struct.pack("<I", 1) + pack_bits(ones),
            [-1.0 if one else 1.0 for one in ones])


# ---- random roundings --------------------------------------------------------

def power(y, base, top, element):
    """Of a magnitude: 0 or the power's code."""
    if y < from_bits(base + 1 << 23):
        return int(unit(element) < f32(y * 2.0**(126 - base)))
    return min(bits(y) + (word(ROUNDING, element) >> 9) >> 23, top) - base


def level(code, base, scale):
    m = from_bits(abs(code) + base << 23) if code else 0.0
    return math.copysign(1, code) * f32(m * scale) if code else 0.0


def rounded(values, block, levels, norm, powers=False, clip=0):
    width = (2 * levels).bit_length()
    scales, stream, decoded = b"", 0, []
    base = 127 - levels
    for at, part in blocks(values, block):
        square = total([x * x for x in part]) if finite(part) else 0
        if not finite(part):
            scale = NAN
        else:
            size = math.sqrt(square)
            if norm == "max":
                size = max(map(abs, part))
            if clip:
                size = min(size, clip * math.sqrt(square / len(part)))
            parts = 1 if powers else levels
            scale = normal(min(size, LARGEST) / parts)
            if scale * parts > LARGEST:
                scale = from_bits(bits(scale) - 1)
        scales += struct.pack("<f", scale)
        for i, x in enumerate(part, at):
            code = 0
            if scale > 0:
                y = f32(abs(x) * f32(1 / scale))
                if powers:
                    code = power(y, base, 127, i)
                else:
                    y = min(y, levels)
                    code = int(y) + (unit(i) < y - int(y))
            code = -code if x < 0 else code
            stream |= (code & (1 << width) - 1) << i * width
            if math.isnan(scale):
                decoded.append(NAN)
            elif powers:
                decoded.append(level(code, base, scale))
            else:
                decoded.append(f32(code * scale))
    size = (len(values) * width + 7) // 8
    return scales + stream.to_bytes(size, "little"), decoded


def natural(values):
    most = max(bits(abs(x)) for x in values if math.isfinite(x))
    base = max(min((most >> 23) + 1, 254) - 127, 0)
    out, decoded = bytes([base]), []
    for i, x in enumerate(values):
        if not math.isfinite(x):
            out += b"\x80"
            decoded.append(NAN)
            continue
        code = power(abs(x), base, base + 127, i)
        code = -code if x < 0 else code
        out += struct.pack("<b", code)
        decoded.append(level(code, base, 1))
    return out, decoded


# ---- rotations -----------------------------------------------------------------

def flip(x, use, element):
    return [-v if word(use, element + i >> 5) >> (element + i) % 32 & 1 else v
            for i, v in enumerate(x)]


def butterflies(x):
    x, h = list(x), 1
    while h < len(x):
        for i in range(0, len(x), 2 * h):
            for j in range(i, i + h):
                a, b = x[j], x[j + h]
                x[j], x[j + h] = f32(a + b), f32(a - b)
        h *= 2
    return x


def transform(x):
    factor = f32(1 / math.sqrt(len(x)))
    if not finite(x):
        return [NAN] * len(x)
    if max(map(abs, x)) < 2.0**111:
        return [f32(v * factor) for v in butterflies(x)]
    y = butterflies([v * 2.0**-32 for v in x])
    return [max(-LARGEST, min(LARGEST, f32(v * factor) * 2.0**32)) for v in y]


def forward(x, use, element):
    return transform(flip(x, use, element))


def inverse(x, use, element):
    return flip(transform(x), use, element)


def hadamard(values, block):
    out, decoded, at = [], [], 0
    while at < len(values):
        while block > len(values) - at:
            block //= 2
        z = forward(values[at:at + block], SIGNS, at)
        out += z
        decoded += inverse(z, SIGNS, at)
        at += block
    return b"".join(struct.pack("<f", x) for x in out), decoded


LLOYD_MAX = {1: [.7979], 2: [.4528, 1.5104], 3: [.2451, .7560, 1.3439, 2.1519],
             4: [.1284, .3880, .6568, .9423, 1.2562, 1.6180, 2.0690, 2.7326]}


def rotate(x, at, back=False):
    p = 1 << len(x).bit_length() - 1
    rest = len(x) - p
    second = at + rest ^ 1 << 62
    if back:
        if rest:
            x = x[:rest] + inverse(x[rest:], ROTATION, second)
        return inverse(x[:p], ROTATION, at) + x[p:]
    x = forward(x[:p], ROTATION, at) + x[p:]
    return x[:rest] + forward(x[rest:], ROTATION, second) if rest else x


def eden_block(part, at, table, count, least):
    """The scale and the signed indices of a block."""
    enlarge = 1.0
    if not finite(part):
        return NAN, [0] * len(part)
    if max(map(abs, part)) >= 2.0**111:
        part, enlarge = [x * 2.0**-32 for x in part], 2.0**32
    r = rotate(part, at)
    square = total([x * x for x in r])
    rms = math.sqrt(square / len(r))
    if rms < 2.0**-126:
        return 0.0, [0] * len(part)
    bounds = [f32(f32(a + b) / 2) for a, b in zip(table, table[1:])]
    factor = f32(1 / rms)
    codes = [sum(b < abs(f32(x * factor)) for b in bounds) |
             (count if x < 0 else 0) for x in r]
    c = [-table[q - count] if q >= count else table[q] for q in codes]
    along = total([a * b for a, b in zip(c, r)])
    s = along / total([a * a for a in c]) if least else square / along
    s = normal(min(s * enlarge, LARGEST))
    return s, codes if s else [0] * len(part)


def eden(values, width, block, least=False, table=None):
    table = [f32(x) for x in table or LLOYD_MAX[width]]
    count = 1 << width - 1
    out, decoded = b"", []
    for at, part in blocks(values, block):
        s, codes = eden_block(part, at, table, count, least)
        out += struct.pack("<f", s)
        for k in range(width):
            out += pack_bits([q >> k & 1 for q in codes])
        if math.isnan(s) or s == 0:
            decoded += [s] * len(part)
            continue
        huge = s >= 2.0**111
        level = [f32(x * (s * 2.0**-32 if huge else s)) for x in table]
        y = rotate([-level[q - count] if q >= count else level[q]
                    for q in codes], at, back=True)
        decoded += [max(-LARGEST, min(LARGEST, v * 2.0**32))
                    for v in y] if huge else y
    return out, decoded


# ---- files -----------------------------------------------------------------------

def lines(data):
    text = data.hex()
    return "".join(" ".join(text[i + j:i + j + 2] for j in range(
        0, min(32, len(text) - i), 2)) + "\n" for i in range(0, len(text), 32))


def write(name, pipeline, values, encoded, decoded):
    floats = [b"".join(struct.pack("<f", x) for x in v)
              for v in (values, decoded)]
    (HERE / f"codec_{name}.hex").write_text(
        f"# {pipeline}\n# input\n{lines(floats[0])}# encoded\n"
        f"{lines(encoded)}# decoded\n{lines(floats[1])}")


plain = [gauss(i) for i in range(48)] + [0.0, -0.0] * 8
mixed = (plain + [0.0] * 32 + [f32(-abs(1e-3 * gauss(i))) for i in range(32)] +
         [f32(2.0**-127 * (1 - i / 40)) for i in range(32)] +
         [NAN if i == 9 else gauss(i) for i in range(32)] +
         [f32(LARGEST * (1 - i / 16)) for i in range(32)] +
         [-INF] + [1.0] * 31 + [gauss(i) for i in range(45)])
small = [x if abs(x) < 1 else x / 8 for x in mixed[:160]]

write("sign", "sign:block=32", mixed, *sign(mixed, 32, "l1"))
write("sign_l2", "sign:block=32,scale=l2", mixed, *sign(mixed, 32, "l2"))
write("onebit", "onebit:block=32", mixed, *sign(mixed, 32, "two"))
write("vote", "vote", plain, *vote(plain))
write("qsgd", "qsgd:levels=127,block=32", mixed,
      *rounded(mixed, 32, 127, "l2"))
write("qsgd_max", "qsgd:levels=5,norm=max,block=64", mixed,
      *rounded(mixed, 64, 5, "max"))
write("qsgd_odd", "qsgd:levels=3,block=32", mixed,
      *rounded(mixed, 32, 3, "l2"))
write("natural", "natural", mixed, *natural(mixed))
write("natural_small", "natural", small, *natural(small))
write("natural_dither", "natural-dither:levels=7,norm=l2,block=32", mixed,
      *rounded(mixed, 32, 7, "l2", powers=True))
write("terngrad", "terngrad:block=64", mixed,
      *rounded(mixed, 64, 1, "max", clip=2.5))
write("hadamard", "hadamard:block=32+none", mixed, *hadamard(mixed, 32))
write("drive", "drive:block=32", mixed, *eden(mixed, 1, 32, table=[1]))
write("eden", "eden:bits=3,block=32,scale=mse", mixed,
      *eden(mixed, 3, 32, least=True))
write("eden_4", "eden:bits=4,block=64", mixed, *eden(mixed, 4, 64))
