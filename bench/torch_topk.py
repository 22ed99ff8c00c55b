#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times torch.topk of magnitudes on one thread, as JSON on standard output.

The counterpart of the pipelines topk:RATIO of `gradpush bench codec`: select,
then gather the values.
"""
import argparse
import json
import statistics
import time

import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4194304)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--iters", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x = torch.randn(options.count)
    k = max(int(options.count * options.ratio), 1)
    times = []
    for i in range(options.iters + 2):
        start = time.perf_counter()
        _, indices = torch.topk(x.abs(), k, sorted=False)
        values = x[indices]
        if i >= 2:
            times.append(time.perf_counter() - start)
    assert values.numel() == k
    median = statistics.median(times)
    print(json.dumps({"torch": torch.__version__, "count": options.count,
                      "ratio": options.ratio, "iterations": options.iters,
                      "median_us": median * 1e6, "min_us": min(times) * 1e6,
                      "GBps": options.count * 4 / median / 1e9}))


if __name__ == "__main__":
    main()
