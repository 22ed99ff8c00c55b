#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes codec_{uq,ans,shuffle,...}.hex and uq_long.hex beside it: what version
1 of the codec uq and of the byte stages is.

Made from docs/codecs/uq.md and docs/codecs/bytes.md alone, without the library,
so that it can disagree with it. The tables of uq's code are numbers that follow
from nothing: they are read from compress/uq_tables.c. rANS is written here with
whole numbers and division.
"""
import math
import pathlib
import re
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


def random(counter):
    return mix(counter * 0x9E3779B97F4A7C15 & M64)


def gauss(i):
    return f32(sum((random(12 * i + j) >> 32) * 2.0**-32
                   for j in range(12)) - 6)


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


def unit(use, element):
    """In [0, 1), for seed 1 and tensor, step and rank 0."""
    key = mix(mix(mix(1) ^ 0) ^ use << 32)
    return (philox(key, element >> 2)[element & 3] >> 8) * 2.0**-24


# ---- rANS ------------------------------------------------------------------

def lanes_for(n):
    return 32 if n >= 32768 else 4


class Rans:
    def __init__(self, lanes):
        self.x = [1 << 15] * lanes
        self.words = []

    def put(self, frequency, symbols):
        """Symbols that come before those coded so far."""
        start, total = {}, 0
        for s in sorted(frequency):
            start[s] = total
            total += frequency[s]
        assert total == 4096
        for i in reversed(range(len(symbols))):
            s, lane = symbols[i], i % len(self.x)
            x, f = self.x[lane], frequency[s]
            if x >= f << 19:
                self.words.append(x & 0xFFFF)
                x >>= 16
            self.x[lane] = x // f * 4096 + x % f + start[s]

    def states(self):
        return struct.pack(f"<{len(self.x)}I", *self.x)

    def string(self):
        return struct.pack(f"<{len(self.words)}H", *reversed(self.words))


def cost(f):
    """floor(256 log2(f)) in 31-bit arithmetic, taken from 12 bits."""
    whole = f.bit_length() - 1
    mantissa, log = f << 31 - whole, whole
    for _ in range(8):
        mantissa = mantissa * mantissa >> 31
        log <<= 1
        if mantissa >> 32:
            mantissa >>= 1
            log |= 1
    return 12 * 256 - log


# ---- uq --------------------------------------------------------------------

def tables():
    text = (HERE / "../../compress/uq_tables.c").read_text()
    begins, numbers = [[int(n) for n in re.findall(r"\d+", part)] for part in
                       re.findall(r"\] = \{(.*?)\};", text, re.S)]
    return [numbers[a:b] for a, b in zip(begins, begins[1:])]


TABLES = tables()


def rms(values):
    partial = [0.0] * 16
    for i, x in enumerate(values):
        partial[i % 16] += x * x
    width = 8
    while width:
        for j in range(width):
            partial[j] += partial[j + width]
        width //= 2
    return math.sqrt(partial[0] / len(values))


def choose(codes):
    """The cheapest of the 33 tables around the section's P(0)."""
    zeros = codes.count(0)
    if zeros == len(codes):
        return 0
    near = next((t for t, f in enumerate(TABLES)
                 if f[0] * len(codes) <= zeros * 4096), len(TABLES) - 1)
    best = None
    for t in range(max(0, near - 16), min(len(TABLES), near + 17)):
        f, bits = TABLES[t], 0
        for q in codes:
            if abs(q) <= len(f) - 2:
                bits += cost(f[abs(q)])
            else:
                bits += cost(f[-1]) + (2048 if abs(q) <= 64 else 4096)
        if best is None or bits < best[0]:
            best = (bits, t + 1)
    return best[1]


def escape(q):
    v, out = (abs(q) - 1) << 1 | (q < 0), b""
    while v >= 128:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def uq(values, c, dither=False):
    n = len(values)
    step = f32(c * rms(values))
    inverse = f32(1 / step)
    shift = [unit(2, i) - 0.5 if dither else 0.0 for i in range(n)]
    codes = [round(f32(f32(x * inverse) + d) if dither else f32(x * inverse))
             for x, d in zip(values, shift)]
    sections = [codes[i:i + 4096] for i in range(0, n, 4096)]
    shapes = [choose(s) for s in sections]
    escapes, r = b"", Rans(lanes_for(n))
    for shape, section in zip(shapes, sections):
        if shape:
            largest = len(TABLES[shape - 1]) - 2
            escapes += b"".join(escape(q) for q in section if abs(q) > largest)
    for shape, section in reversed(list(zip(shapes, sections))):
        if not shape:
            continue
        f = TABLES[shape - 1]
        frequency = {m: f[m] for m in range(len(f) - 1)}
        frequency.update({256 - m: f[m] for m in range(1, len(f) - 1)})
        frequency[128] = f[-1]
        r.put(frequency, [q & 255 if abs(q) <= len(f) - 2 else 128
                          for q in section])
    message = (b"\x01" + struct.pack("<fI", step, len(escapes)) +
               bytes(shapes) + r.states() + escapes + r.string())
    return message, [f32(f32(q - d) * step) for q, d in zip(codes, shift)]


# ---- byte stages -----------------------------------------------------------

def shuffle(data, width):
    n = len(data) // width
    return (b"".join(data[b:n * width:width] for b in range(width)) +
            data[n * width:])


def bitshuffle(data, width):
    n = len(data) // width // 8 * 8
    out = b""
    for b in range(width):
        for k in range(8):
            bits = [data[e * width + b] >> k & 1 for e in range(n)]
            out += bytes(sum(bits[i + j] << j for j in range(8))
                         for i in range(0, n, 8))
    return out + data[n * width:]


def ans_block(data):
    n = len(data)
    count = [data.count(s) for s in range(256)]
    share = [max(1, (k * 4096 + n // 2) // n) if k else 0 for k in count]
    while sum(share) != 4096:
        share[share.index(max(share))] += 1 if sum(share) < 4096 else -1
    if max(share) == 4096:
        share[share.index(4096)] = 4095
        share[0 if share[1] else 1] = 1
    bits = sum(k * cost(f) for k, f in zip(count, share) if k)
    if bits // 2048 + 32 + 4 * lanes_for(n) + 32 > n:
        return None
    r = Rans(lanes_for(n))
    r.put({s: f for s, f in enumerate(share) if f}, data)
    table = bytes(sum((share[8 * i + j] > 0) << j for j in range(8))
                  for i in range(32))
    for f in share:
        if f >= 128:
            table += bytes([f & 127 | 128, f >> 7])
        elif f:
            table += bytes([f])
    coded = table + r.states() + r.string()
    return coded if len(coded) < n else None


def ans(data):
    out = b""
    for at in range(0, len(data), 65536):
        block = data[at:at + 65536]
        coded = ans_block(block)
        out += struct.pack("<BI", coded is not None, len(coded or block))
        out += coded or block
    packed = len(out) < len(data)
    return (struct.pack("<BQ", packed, len(data)) + (out if packed else data))


# ---- files -----------------------------------------------------------------

def lines(data):
    text = data.hex()
    return "".join(" ".join(text[i + j:i + j + 2] for j in range(
        0, min(32, len(text) - i), 2)) + "\n" for i in range(0, len(text), 32))


def fp32(values):
    return struct.pack(f"<{len(values)}f", *values)


def write(name, pipeline, values, encoded, decoded):
    (HERE / name).write_text(
        f"# {pipeline}\n# input\n{lines(fp32(values))}# encoded\n"
        f"{lines(encoded)}# decoded\n{lines(fp32(decoded))}")


def crc32c(data):
    crc = M32
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ M32


mixed = [f32(0.01 * gauss(i)) for i in range(300)]
mixed[7], mixed[100], mixed[250] = 3.0, -0.9, 0.25
write("codec_uq.hex", "uq:c=0.125", mixed, *uq(mixed, 0.125))
write("codec_uq_dither.hex", "uq:c=2,round=dither", mixed,
      *uq(mixed, 2, dither=True))

few = [f32(0.01 * gauss(i)) if i % 3 == 0 else 0.0 for i in range(301)]
data = fp32(few)
write("codec_shuffle.hex", "none+shuffle:width=4", few, shuffle(data, 4), few)
write("codec_shuffle_odd.hex", "none+shuffle:width=7", few, shuffle(data, 7),
      few)
write("codec_bitshuffle.hex", "none+bitshuffle:width=4", few,
      bitshuffle(data, 4), few)
write("codec_ans.hex", "none+shuffle+ans", few, ans(shuffle(data, 4)), few)

# 32 states and several sections: length and CRC32C of the messages.
long = [0.0 if i // 4096 == 2 else f32(gauss(i) * 2.0 ** (i // 4096 - 5))
        for i in range(40001)]
messages = [uq(long, c)[0] for c in (2, 0.25)]
messages.append(ans(shuffle(fp32(long), 4)))
(HERE / "uq_long.hex").write_text(
    "# uq:2, uq:0.25 and none+shuffle+ans of 40001 elements: length and CRC32C"
    "\n" + "".join(lines(struct.pack("<II", len(m), crc32c(m)))
                   for m in messages))
