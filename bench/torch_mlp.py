#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The network of gradpush-train in PyTorch, for comparison: one process, one
thread, random data in memory, plain SGD. Prints JSON.

    torch_mlp.py [--hidden 2048,2048] [--batch 64] [--steps 100]
"""
import argparse
import json
import os
import sys
import time

# torch.set_num_threads() does not reach a BLAS with threads of its own.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = next(
        (v for a, v in zip(sys.argv, sys.argv[1:]) if a == "--threads"), "1")

import torch  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hidden", default="2048,2048")
parser.add_argument("--features", type=int, default=784)
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--warmup", type=int, default=10)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(1)
widths = ([args.features] + [int(w) for w in args.hidden.split(",")]
          + [args.classes])
layers = []
for inputs, outputs in zip(widths, widths[1:]):
    layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
model = torch.nn.Sequential(*layers[:-1])
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
loss_of = torch.nn.CrossEntropyLoss()
x = torch.randn(8000, args.features)
y = torch.randint(args.classes, (8000,))
order = torch.randperm(8000)


def step(number):
    first = number * args.batch % (8000 - args.batch)
    chosen = order[first:first + args.batch]
    optimizer.zero_grad(set_to_none=True)
    loss_of(model(x[chosen]), y[chosen]).backward()
    optimizer.step()


for i in range(args.warmup):
    step(i)
start = time.perf_counter()
for i in range(args.steps):
    step(i)
seconds = time.perf_counter() - start
print(json.dumps({
    "what": "torch_mlp", "torch": torch.__version__, "hidden": args.hidden,
    "batch": args.batch, "threads": args.threads, "steps": args.steps,
    "ms_per_step": 1000 * seconds / args.steps,
    "samples_per_second": args.batch * args.steps / seconds}))
