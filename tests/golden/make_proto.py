# SPDX-License-Identifier: Apache-2.0
"""Writes proto_*.hex, the control payloads of protocol version 1, and map.hex,
the placement that every member computes.

Follows docs/protocol.md and does not use the library. The files must never
change while the version stays 1.
"""
import math
import pathlib
import struct

HERE = pathlib.Path(__file__).parent


def text(s):
    b = s.encode()
    return struct.pack("<H", len(b)) + b


def save(name, comment, data):
    with open(HERE / name, "w") as f:
        f.write(f"# {comment}\n")
        for i in range(0, len(data), 16):
            f.write(" ".join(f"{b:02x}" for b in data[i:i + 16]) + "\n")


def ramp(start):
    return bytes((start + i) % 256 for i in range(32))


def tensor(name, dtype, flags, count, columns, first, push, pull, updater, mode):
    return (text(name) +
            struct.pack("<BBQQQ", dtype, flags, count, columns, first) +
            text(push) + text(pull) + text(updater) + text(mode))


save("proto_challenge.hex", "CHALLENGE: nonce", ramp(0x10))
save("proto_hello.hex",
     "HELLO: rank 3 of 8, shard 5 of 6, nonce, proof, 'node7 pid 4711'",
     struct.pack("<4I", 3, 8, 5, 6) + ramp(0x20) + ramp(0x80) +
     text("node7 pid 4711"))
save("proto_welcome.hex", "WELCOME: proof", ramp(0xc0))
save("proto_ready.hex", "READY: 8 slots of 0x0102030405060740 bytes, region 77",
     struct.pack("<IIQ", 8, 77, 0x0102030405060740))
save("proto_tensors.hex", "TENSORS: two tensors for 4 shards",
     struct.pack("<QQII", 1 << 20, 0x1112131415161718, 4, 2) +
     tensor("encoder.weight", 1, 3, 1234567890123, 3, 0x2122232425262728,
            "none|q8:block=256", "q8:block=256", "mean", "sync") +
     tensor("h", 3, 0, 1, 0, 0, "bf16", "bf16",
            "sgd:lr=0.100000001,momentum=0,nesterov=0,weight_decay=0", "ssp:4"))
save("proto_refuse.hex", "REFUSE, WAITING, FAULT: a text without terminator",
     b"rank 3 is taken by node7 pid 4711")



def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def header(kind, worker, chunk, step, pipeline, elements, cookie, value):
    aux = struct.unpack("<I", struct.pack("<f", value))[0]
    data = struct.pack("<4sBBHQIIIIQIBBHQQIiQQQQI", b"GPM1", 1, kind, 0,
                       0x0123456789abcdef, worker, 2, 3, chunk, step, pipeline,
                       1 if elements else 0, 0, 0, elements, 0, 0, 0, 0, cookie,
                       0, aux, 0)
    return data + struct.pack("<I", crc32c(data))


save("msg_propose.hex", "PROPOSE: worker 5, chunk 6, step 7, 4096 elements, 2.5",
     header(17, 5, 6, 7, 0xfeedbeef, 4096, 99, 2.5))
save("msg_agree.hex", "AGREE: shard 1, chunk 6, step 7, -0.75",
     header(18, 1, 6, 7, 0, 0, 99, -0.75))

# The shard map: tensors are cut, then placed by least load, largest first.
QUANTUM, OVERHEAD, WIDE, ALIGNMENT = 4096, 256, 4 << 20, 64


def cut(tensor, chunk_bytes, shards):
    count, columns, wide = tensor
    limit = chunk_bytes // 4
    if wide:
        limit = max(limit, WIDE)
    step = min(limit, -(-count // shards))
    unit = QUANTUM
    if wide and columns > 1:
        both = math.lcm(columns, QUANTUM)
        aligned = math.lcm(columns, ALIGNMENT)
        unit = (both if both <= step else
                aligned if aligned <= WIDE else QUANTUM)
    step = max(-(-step // unit), 1) * unit
    return [(o, min(step, count - o)) for o in range(0, count, step)]


def place(tensors, chunk_bytes, shards):
    chunks = [(t, o, n) for t, tensor in enumerate(tensors)
              for o, n in cut(tensor, chunk_bytes, shards)]
    owner = [0] * len(chunks)
    load = [0] * shards
    for i in sorted(range(len(chunks)), key=lambda i: (-chunks[i][2], i)):
        owner[i] = min(range(shards), key=lambda s: (load[s], s))
        load[owner[i]] += 4 * chunks[i][2] + OVERHEAD
    return [(t, owner[i], o, n) for i, (t, o, n) in enumerate(chunks)]


def save_map(name, tensors, chunk_bytes):
    save(name, "per chunk: tensor u32, shard u32, offset u64, elements u64",
         b"".join(struct.pack("<IIQQ", *row)
                  for row in place(tensors, chunk_bytes, 3)))


COUNTS = [1000003, 17, 4096, 4097, 262144, 1, 90000, 8191, 300000, 12288]
save_map("map.hex", [(count, 0, False) for count in COUNTS], 65536)
save_map("map_wide.hex",
         [(30000000, 0, True), (1048576, 1024, True), (785000, 785, True),
          (7850, 785, True), (1000 * 65537, 65537, True),
          (4194304, 2048, False), (1001, 1, True), (10 * 768, 768, True)],
         2097152)
