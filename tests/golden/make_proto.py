# SPDX-License-Identifier: Apache-2.0
"""Writes proto_*.hex, the control payloads of protocol version 1, and map.hex,
the placement that every member computes.

Follows docs/protocol.md and does not use the library. The files must never
change while the version stays 1.
"""
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


def tensor(name, dtype, count, push, pull, updater):
    return (text(name) + struct.pack("<BQ", dtype, count) + text(push) +
            text(pull) + text(updater))


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
     tensor("encoder.weight", 1, 1234567890123, "q8:block=256", "none",
            "mean") +
     tensor("h", 3, 1, "bf16", "bf16",
            "sgd:lr=0.100000001,momentum=0,nesterov=0,weight_decay=0"))
save("proto_refuse.hex", "REFUSE, WAITING, FAULT: a text without terminator",
     b"rank 3 is taken by node7 pid 4711")

# The shard map: tensors are cut, then placed by least load, largest first.
QUANTUM, OVERHEAD = 4096, 256


def cut(count, chunk_bytes, shards):
    step = min(chunk_bytes // 4, -(-count // shards))
    step = max(-(-step // QUANTUM), 1) * QUANTUM
    return [(o, min(step, count - o)) for o in range(0, count, step)]


def place(counts, chunk_bytes, shards):
    chunks = [(t, o, n) for t, count in enumerate(counts)
              for o, n in cut(count, chunk_bytes, shards)]
    owner = [0] * len(chunks)
    load = [0] * shards
    for i in sorted(range(len(chunks)), key=lambda i: (-chunks[i][2], i)):
        owner[i] = min(range(shards), key=lambda s: (load[s], s))
        load[owner[i]] += 4 * chunks[i][2] + OVERHEAD
    return [(t, owner[i], o, n) for i, (t, o, n) in enumerate(chunks)]


COUNTS = [1000003, 17, 4096, 4097, 262144, 1, 90000, 8191, 300000, 12288]
rows = place(COUNTS, 65536, 3)
save("map.hex", "per chunk: tensor u32, shard u32, offset u64, elements u64",
     b"".join(struct.pack("<IIQQ", *row) for row in rows))
