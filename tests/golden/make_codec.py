#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes codec_*.hex beside it: what version 1 of each codec's format is.

Made from the formulas in docs/codecs.md alone, without the library, so that it
can disagree with it. Python's float is a double; rounding one product, sum or
quotient of two fp32 numbers from double to fp32 gives the fp32 result.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
NAN = float("nan")
INF = float("inf")


def f32(x):
    if math.isfinite(x) and abs(x) >= 2.0**128 - 2.0**103:
        return math.copysign(INF, x)
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits(b):
    return struct.unpack("<f", struct.pack("<I", b))[0]


def random(counter):
    mask = (1 << 64) - 1
    z = (counter + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def gauss(i):
    total = -6.0
    for j in range(12):
        total += (random(12 * i + j) >> 32) * 2.0**-32
    return f32(total)


def round_even(x, step):
    """x to a multiple of step, ties to even; both are exact in double."""
    return math.copysign(round(abs(x) / step) * step, x)


def cast(x, significant, least, largest):
    """A binary float of `significant` bits, multiples of `least`."""
    if math.isnan(x) or math.isinf(x):
        return x
    if x == 0:
        return x
    step = 2.0 ** (math.frexp(abs(x))[1] - significant)
    return math.copysign(min(abs(round_even(x, max(step, least))), largest), x)


def fp16(values):
    out = [cast(x, 11, 2.0**-24, 65504.0) for x in values]
    return b"".join(struct.pack("<e", x) for x in out), out


def bf16(values):
    out = [cast(x, 8, 2.0**-133, (2 - 2.0**-7) * 2.0**127) for x in values]
    return b"".join(struct.pack("<f", x)[2:] for x in out), out


def none(values):
    return b"".join(struct.pack("<f", x) for x in values), values


def q8(values, block):
    scales, codes, decoded = b"", b"", []
    for at in range(0, len(values), block):
        part = values[at:at + block]
        most = max(abs(x) for x in part)
        if not all(math.isfinite(x) for x in part):
            s, q = NAN, [0] * len(part)
        elif most < 2.0**-119:
            s, q = 0.0, [0] * len(part)
        else:
            inverse = f32(127.0 / most)
            s = min(f32(most / 127.0), bits(0x7C010203))
            q = [round(f32(x * inverse)) for x in part]
        scales += struct.pack("<f", s)
        codes += struct.pack("<%db" % len(part), *q)
        decoded += [f32(s * c) for c in q]
    return scales + codes, decoded


def lines(data):
    text = data.hex()
    return "".join(" ".join(text[i + j:i + j + 2] for j in range(
        0, min(32, len(text) - i), 2)) + "\n" for i in range(0, len(text), 32))


def write(name, pipeline, values, encoded, decoded):
    floats = [b"".join(struct.pack("<f", x) for x in v)
              for v in (values, decoded)]
    (HERE / name).write_text(
        f"# {pipeline}\n# input\n{lines(floats[0])}# encoded\n"
        f"{lines(encoded)}# decoded\n{lines(floats[1])}")


special = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 65504.0, 65519.0, 65520.0,
           -1e30, 3.4028234663852886e38, 2.0**-14, 2.0**-24, 2.0**-25,
           1.5 * 2.0**-25, 2.0**-24 * 2.5, 2.0**-24 * 3.5, 6.1e-5, 1e-40,
           1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, 1.0 + 2.0**-11,
           1.0 + 3 * 2.0**-11, 3.3895313892515355e38, 2.0**-133,
           2.0**-134, 1.5 * 2.0**-134, 0.1, -1 / 3, 2047.5, 0.3]
casts = [f32(x) for x in special] + [gauss(i) for i in range(29)]
for name, codec in (("none", none), ("fp16", fp16), ("bf16", bf16)):
    write(f"codec_{name}.hex", name, casts, *codec(casts))

blocks = ([gauss(i) for i in range(32)] + [0.0] * 32 +
          [f32(1e-3 * gauss(i)) for i in range(32)] +
          [NAN if i == 9 else gauss(i) for i in range(32)] +
          [f32(2.0**-119 * (1 - i / 40)) for i in range(32)] +
          [f32(2.0**-120)] * 32 +
          [f32(3.4028234663852886e38 * (1 - i / 16)) for i in range(32)] +
          [-INF] + [1.0] * 31 + [gauss(i) for i in range(5)])
write("codec_q8.hex", "q8:block=32", blocks, *q8(blocks, 32))

# 40 zero bytes and four others: one literal, a match of 38 bytes at distance 1,
# and, because an LZ4 block ends in literals, the last five bytes.
packed = bytes([0x1F, 0x00, 0x01, 0x00, 38 - 4 - 15, 0x50, 0, 1, 2, 3, 4])
values = [0.0] * 10 + [bits(0x04030201)]
write("codec_lz4.hex", "none+lz4", values,
      b"\x01" + struct.pack("<Q", 44) + packed, values)
