#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What PyTorch does on a GPU in place of our codecs, as JSON on standard output, or
in the file --out, which is written anew after each job.

Copies and matrix products as ceilings; torch.topk of magnitudes, casts, and
blockwise 8-bit quantization as it is written with tensor operations. Medians of
device events, over tensors that take turns so that caches do not help.
"""
import argparse
import json
import os
import statistics
import sys

try:
    import torch
except ImportError:
    torch = None


def measure(work, sets, iterations):
    """Microseconds: median and least; `work` gets one of the sets."""
    filler = torch.empty(1 << 27, dtype=torch.uint8, device="cuda")
    times = []
    for i in range(iterations + 3):
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        filler.zero_()
        start.record()
        work(sets[i % len(sets)])
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times), min(times)


def copy(t):
    t[1].copy_(t[0])


def to_bf16(t):
    t[0].to(torch.bfloat16)


def topk(ratio):
    def work(t):
        _, indices = torch.topk(t[0].abs(), int(t[0].numel() * ratio),
                                sorted=False)
        t[0][indices]
    return work


def quantize(t, block=256):
    x = t[0].view(-1, block)
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    return (x / scale).round().to(torch.int8), scale


def quantize_feedback(t):
    u = t[0] + t[1]
    codes, scale = quantize((u,))
    t[1].copy_(u - (codes * scale).view(-1))


def fold(codes, scale, workers):
    def work(t):
        t[1].copy_((codes * scale).view(-1))
        for _ in range(workers - 1):
            t[1].add_((codes * scale).view(-1))
    return work


def note(options, results, **row):
    """The document so far; what ends the program leaves it."""
    results.append(row)
    if not options.out:
        return
    with open(options.out + ".new", "w", encoding="utf-8") as file:
        file.write(document(results))
    os.replace(options.out + ".new", options.out)


def document(results):
    return json.dumps({"schema": "gradpush.torch/1", "torch": torch.__version__,
                       "device": torch.cuda.get_device_name(),
                       "results": results}, indent=1) + "\n"


def codecs(options, results):
    count = options.count // 256 * 256
    copies = max(2, (1 << 29) // (4 * count) + 1)
    sets = [(torch.randn(count, device="cuda"),
             torch.zeros(count, device="cuda")) for _ in range(copies)]
    codes, scale = quantize(sets[0])
    jobs = [("copy", copy), ("bf16 encode", to_bf16),
            ("q8 encode", quantize), ("q8 encode feedback", quantize_feedback),
            ("q8 fold 8", fold(codes, scale, 8)),
            ("topk:0.01", topk(0.01)), ("topk:0.001", topk(0.001))]
    for name, work in jobs:
        median, least = measure(work, sets, options.iters)
        note(options, results, what=name, count=count, median_us=median,
             min_us=least, GBps=4 * count / median / 1e3)


def products(options, results):
    shape = options.gemm
    for name, kind, tf32 in (("gemm fp32", torch.float32, False),
                             ("gemm tf32", torch.float32, True),
                             ("gemm bf16", torch.bfloat16, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        sets = [tuple(torch.randn(shape, shape, device="cuda", dtype=kind)
                      for _ in range(2)) for _ in range(2)]
        median, least = measure(lambda t: t[0] @ t[1], sets, options.iters)
        note(options, results, what=name, shape=shape, median_us=median,
             min_us=least, TFLOPS=2 * shape ** 3 / median / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1 << 28)
    parser.add_argument("--gemm", type=int, default=8192)
    parser.add_argument("--iters", type=int, default=21)
    parser.add_argument("--out", help="file for the JSON")
    options = parser.parse_args()
    if torch is None or not torch.cuda.is_available():
        print("torch_codecs.py: no PyTorch with CUDA here", file=sys.stderr)
        return 77
    results = []
    codecs(options, results)
    products(options, results)
    if not options.out:
        print(document(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
