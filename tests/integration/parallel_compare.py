# SPDX-License-Identifier: Apache-2.0
"""Compares a run of gradpush-train with a run on one worker.

    parallel_compare.py TOLERANCE REPORT CHECKPOINT REPORT CHECKPOINT

Losses of each epoch may differ by TOLERANCE, relative to the larger of the
loss and 1, and every parameter and velocity by TOLERANCE absolutely. Prints
what differs, and the largest differences.
"""
import json
import struct
import sys


def tensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(length))
        data = file.read()
    head.pop("__metadata__", None)
    values = {}
    for name, item in head.items():
        first, last = item["data_offsets"]
        values[name] = struct.unpack(
            "<%df" % ((last - first) // 4), data[first:last]
        )
    return values


def losses(path):
    with open(path, encoding="utf-8") as file:
        epochs = json.load(file)["epochs"]
    return [e[k] for e in epochs for k in ("train_loss", "test_loss")]


def main():
    tolerance = float(sys.argv[1])
    a, b = losses(sys.argv[2]), losses(sys.argv[4])
    p, q = tensors(sys.argv[3]), tensors(sys.argv[5])
    if len(a) != len(b) or p.keys() != q.keys():
        sys.exit("other epochs or tensors: %s, %s" % (sorted(p), sorted(q)))
    loss = max(abs(x - y) / max(x, y, 1) for x, y in zip(a, b))
    worst = 0.0
    for name, values in p.items():
        if len(values) != len(q[name]):
            sys.exit("%s has another size" % name)
        worst = max([worst] + [abs(x - y) for x, y in zip(values, q[name])])
    print("losses differ by %.2g, parameters by %.2g" % (loss, worst))
    if not (loss <= tolerance and worst <= tolerance):
        sys.exit("more than %g" % tolerance)


main()
