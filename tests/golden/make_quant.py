#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the codec_*.hex of block formats and of stochastic rounding.

Made from the formulas in docs/codecs/quant.md alone, without the library. A
double holds sums, products and quotients of two fp32 numbers well enough that
rounding them to fp32 gives the fp32 result.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
NAN = float("nan")
INF = float("inf")
LARGEST = struct.unpack("<f", struct.pack("<I", 0x7F7FFFFF))[0]
M64 = (1 << 64) - 1


def f32(x):
    if math.isfinite(x) and abs(x) >= 2.0**128 - 2.0**103:
        return math.copysign(INF, x)
    return struct.unpack("<f", struct.pack("<f", x))[0]


def to_bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def from_bits(b):
    return struct.unpack("<f", struct.pack("<I", b))[0]


# ---- random numbers --------------------------------------------------------

def mix(z):
    z = (z + 0x9E3779B97F4A7C15) & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF,
             p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return c


def unit(element, use, seed=1, tensor=0, rank=0, step=0):
    """The number in [0, 1) of an element."""
    key = mix(mix(mix(seed) ^ tensor) ^ (use << 32 | rank))
    block = element >> 2
    words = philox((block & 0xFFFFFFFF, block >> 32, step & 0xFFFFFFFF,
                    step >> 32), (key & 0xFFFFFFFF, key >> 32))
    return (words[element & 3] >> 8) / 2**24


USES = {"stochastic": 1, "stratified": 3, "dither": 2}


def at_random(y, u):
    f = math.floor(y)
    return f + (u < f32(y - f))


# ---- formats ---------------------------------------------------------------

class Integers:
    def __init__(self, bits, levels, dither=False):
        self.bits, self.most = bits, levels
        self.levels = levels * 4095 / 4096 if dither else float(levels)
        self.reach = self.levels + (0.5 if dither else 0)

    def code(self, y, how, u):
        if how == "nearest":
            return round(y)
        if how == "dither":
            return round(f32(y + (u - 0.5)))
        return at_random(y, u)

    def value(self, q, how, u):
        return f32(q - (u - 0.5)) if how == "dither" else float(q)

    def field(self, q):
        return q & (1 << self.bits) - 1


class Floats:
    def __init__(self, bits, mantissa, least, levels):
        self.bits, self.mantissa, self.least = bits, mantissa, least
        self.levels = self.reach = levels

    def code(self, y, how, u):
        e = max(math.frexp(y)[1] - 1 if y else -200, self.least)
        step = 2.0 ** (e - self.mantissa)
        k = abs(y) / step
        k = round(k) if how == "nearest" else at_random(k, u)
        return math.copysign(k * step, y)

    def value(self, q, how, u):
        return q

    def field(self, q):
        sign = (1 << self.bits - 1) if math.copysign(1, q) < 0 else 0
        q = abs(q)
        if q < 2.0**self.least:
            return sign | int(q * 2.0 ** (self.mantissa - self.least))
        e = math.frexp(q)[1] - 1
        mantissa = int((q / 2.0**e - 1) * 2**self.mantissa)
        return sign + (e - self.least + 1 << self.mantissa) + mantissa


def pack(fields, bits):
    if bits == 0:  # five to a byte, base 3, digit 2 for -1
        digits = [2 if f == 3 else f for f in fields]
        digits += [0] * (-len(digits) % 5)
        return bytes(sum(d * 3**j for j, d in enumerate(digits[i:i + 5]))
                     for i in range(0, len(digits), 5))
    total = sum(f << bits * i for i, f in enumerate(fields))
    return total.to_bytes((len(fields) * bits + 7) // 8, "little")


def float_scale(fmt, most, wide):
    """Bytes, unit and inverse of an fp32 or bf16 scale."""
    largest = f32(LARGEST / fmt.reach)
    while math.isinf(f32(largest * fmt.reach)):
        largest = from_bits(to_bits(largest) - 1)
    tiny = 2.0**-119
    while tiny < fmt.levels * 2.0**-126:
        tiny *= 2
    if most < tiny:
        s, inverse = 0.0, 0.0
    else:
        s, inverse = f32(most / fmt.levels), f32(fmt.levels / most)
        if not wide:
            s = from_bits(to_bits(s) + 0xFFFF & 0xFFFF0000)
            largest = from_bits(to_bits(largest) & 0xFFFF0000)
        if s > largest or not wide:
            s = min(s, largest)
            inverse = f32(1 / s)
    data = struct.pack("<f", s)
    return (data if wide else data[2:]), s, inverse


def power_scale(fmt, most, how):
    unit_power = 6 if isinstance(fmt, Integers) else 0
    top = math.floor(math.log2(fmt.levels))
    if most < 2.0 ** (top - 126):
        return b"\0", 0.0, 0.0
    e = math.frexp(most)[1] - 1 - top
    if how != "nearest" and e + top < 127 and most > fmt.levels * 2.0**e:
        e += 1
    return bytes([e + unit_power + 127]), 2.0**e, 2.0**-e


E4M3 = Floats(8, 3, -6, 448.0)


def fine_scale(header, most, how):
    t = min(f32(most / f32(6 * header)), 448.0) if header else 0.0
    s = E4M3.code(t, "nearest", 0)
    if how != "nearest" and s < t:
        step = 2.0 ** (max(math.frexp(t)[1] - 1, -6) - 3)
        s = math.ceil(t / step) * step
    inverse = f32(1 / f32(s * header)) if s * header else 0.0
    return bytes([E4M3.field(s)]), f32(s * header), inverse


BAD = {"fp32": struct.pack("<I", 0x7FC00000), "bf16": b"\xc0\x7f",
       "e8m0": b"\xff", "e4m3": b"\x7f"}


def header_of(values):
    g = f32(max([abs(x) for x in values if math.isfinite(x)] + [0.0]) / 2688)
    most = f32(f32(float.fromhex("0x1.fffffp127")) / 2688)
    return 0.0 if g < 2.0**-117 else min(g, most)


def blocks(values, fmt, block, how="nearest", scale="fp32", bits=None):
    scales, fields, decoded = b"", [], []
    header = header_of(values) if scale == "e4m3" else 0.0
    for at in range(0, len(values), block):
        part = values[at:at + block]
        most = max(abs(x) for x in part)
        if not all(math.isfinite(x) for x in part):
            scales += BAD[scale]
            fields += [0] * len(part)
            decoded += [NAN] * len(part)
            continue
        if scale == "e8m0":
            data, s, inverse = power_scale(fmt, most, how)
        elif scale == "e4m3":
            data, s, inverse = fine_scale(header, most, how)
        else:
            data, s, inverse = float_scale(fmt, most, scale == "fp32")
        scales += data
        for i, x in enumerate(part):
            u = unit(at + i, USES[how]) if how in USES else 0
            y = f32(x * inverse)
            y = math.copysign(min(abs(y), fmt.levels), y)
            q = fmt.code(y, how, u)
            fields.append(fmt.field(q))
            decoded.append(f32(fmt.value(q, how, u) * s))
    head = struct.pack("<f", header) if scale == "e4m3" else b""
    codes = pack(fields, fmt.bits if bits is None else bits)
    return head + scales + codes, decoded


def cast(values, how, pattern, mantissa, least, largest):
    data, decoded = b"", []
    fmt = Floats(16, mantissa, least, largest)
    for i, x in enumerate(values):
        u = unit(i, USES[how])
        if math.isfinite(x):
            if pattern == "bf16":
                b = to_bits(abs(x))
                u = int(u * 2**16)
                b = 0x7F7F if b > 0x7F7F0000 else b + u >> 16
                q = math.copysign(from_bits(b << 16), x)
            else:
                y = math.copysign(min(abs(x), largest), x)
                q = fmt.code(y, how, u)
        else:
            q = x
        decoded.append(q)
        data += (struct.pack("<e", q) if pattern == "fp16"
                 else struct.pack("<f", q)[2:])
    return data, decoded


# ---- files -----------------------------------------------------------------

def lines(data):
    text = data.hex()
    return "".join(" ".join(text[i + j:i + j + 2] for j in range(
        0, min(32, len(text) - i), 2)) + "\n" for i in range(0, len(text), 32))


def write(name, pipeline, values, result):
    floats = [b"".join(struct.pack("<f", x) for x in v)
              for v in (values, result[1])]
    (HERE / f"codec_{name}.hex").write_text(
        f"# {pipeline}\n# input\n{lines(floats[0])}# encoded\n"
        f"{lines(result[0])}# decoded\n{lines(floats[1])}")


def gauss(i):
    return f32(sum((mix(12 * i + j) >> 32) * 2.0**-32
                   for j in range(12)) - 6.0)


ordinary = [gauss(i) for i in range(64)]
mixed = (ordinary[:32] + [0.0] * 32 + [f32(1e-3 * x) for x in ordinary[:32]] +
         [NAN if i == 9 else x for i, x in enumerate(ordinary[:32])] +
         [f32(2.0**-110 * (1 - i / 40)) for i in range(32)] +
         [f32(2.0**-119 * (1 - i / 40)) for i in range(32)] +
         [f32(LARGEST * (1 - i / 16)) for i in range(32)] +
         [-INF] + [1.0] * 31 +
         [f32(x * 2.0 ** (i % 12 - 11)) for i, x in enumerate(ordinary[:32])] +
         ordinary[32:51])
# No value near the largest fp32, whose scale all others would have to share.
narrow = mixed[:128] + mixed[224:]

E5M2 = Floats(8, 2, -14, 57344.0)
E2M3, E3M2 = Floats(6, 3, 0, 7.5), Floats(6, 2, -2, 28.0)
E2M1, INT8 = Floats(4, 1, 0, 6.0), Integers(8, 127)

for how in ("stochastic", "stratified"):
    write(f"q8_{how}", f"q8:block=32,round={how}", mixed,
          blocks(mixed, INT8, 32, how))
write("q8_dither", "q8:block=32,round=dither", mixed,
      blocks(mixed, Integers(8, 127, True), 32, "dither"))
write("q8_bf16", "q8:block=32,scale=bf16", mixed,
      blocks(mixed, INT8, 32, scale="bf16"))
write("q4", "q4", mixed, blocks(mixed, Integers(4, 7), 32))
write("q4_dither", "q4:round=dither,scale=bf16", mixed,
      blocks(mixed, Integers(4, 7, True), 32, "dither", "bf16"))
write("q2", "q2:block=32", mixed, blocks(mixed, Integers(2, 1), 32))
write("q2_dense", "q2:block=32,round=stochastic,dense=1", mixed,
      blocks(mixed, Integers(2, 1), 32, "stochastic", bits=0))
write("fp8_e4m3", "fp8:block=32", mixed, blocks(mixed, E4M3, 32))
write("fp8_e5m2", "fp8:format=e5m2,block=32,round=stochastic", mixed,
      blocks(mixed, E5M2, 32, "stochastic"))
for name, text, fmt in (("mxfp8_e4m3", "mxfp8", E4M3),
                        ("mxfp8_e5m2", "mxfp8:format=e5m2", E5M2),
                        ("mxfp6_e2m3", "mxfp6", E2M3),
                        ("mxfp6_e3m2", "mxfp6:format=e3m2", E3M2),
                        ("mxfp4", "mxfp4", E2M1), ("mxint8", "mxint8", INT8)):
    write(name, text, mixed, blocks(mixed, fmt, 32, scale="e8m0"))
write("mxfp4_stochastic", "mxfp4:round=stochastic", mixed,
      blocks(mixed, E2M1, 32, "stochastic", "e8m0"))
write("nvfp4", "nvfp4", narrow, blocks(narrow, E2M1, 16, scale="e4m3"))
write("nvfp4_stochastic", "nvfp4:round=stochastic", narrow,
      blocks(narrow, E2M1, 16, "stochastic", "e4m3"))

casts = ([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 65504.0, 65519.0, -1e30,
          LARGEST, 2.0**-14, 2.0**-24, f32(2.0**-24 * 2.5), f32(6.1e-5),
          f32(1e-40), 1.0 + 2.0**-9, 1.0 + 3 * 2.0**-12, f32(0.1)] + ordinary)
write("fp16_stochastic", "fp16:round=stochastic", casts,
      cast(casts, "stochastic", "fp16", 10, -14, 65504.0))
write("bf16_stratified", "bf16:round=stratified", casts,
      cast(casts, "stratified", "bf16", 7, -126, LARGEST))
