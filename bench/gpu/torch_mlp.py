#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The network of gradpush-train --device cuda in PyTorch, eager: random data on
the device, batches gathered by a permutation, plain SGD, times by the device's
events. Prints JSON; exits 77 without PyTorch or a device.

    torch_mlp.py [--hidden 8192,8192,8192] [--batch 4096] [--precision bf16]

bf16 is autocast, with parameters in fp32.
"""
import argparse
import json
import sys

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hidden", default="8192,8192,8192")
parser.add_argument("--features", type=int, default=784)
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--batch", type=int, default=4096)
parser.add_argument("--samples", type=int, default=65536)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--warmup", type=int, default=20)
parser.add_argument("--precision", default="bf16",
                    choices=("fp32", "tf32", "bf16"))
args = parser.parse_args()
try:
    import torch
except ImportError:
    sys.exit(77)
if not torch.cuda.is_available():
    sys.exit(77)

torch.manual_seed(1)
torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
device = torch.device("cuda")
widths = ([args.features] + [int(w) for w in args.hidden.split(",")]
          + [args.classes])
layers = []
for inputs, outputs in zip(widths, widths[1:]):
    layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
model = torch.nn.Sequential(*layers[:-1]).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loss_of = torch.nn.CrossEntropyLoss()
x = torch.randn(args.samples, args.features, device=device)
y = torch.randint(args.classes, (args.samples,), device=device)
order = torch.randperm(args.samples, device=device)
steps_of_data = args.samples // args.batch


def step(number):
    first = number % steps_of_data * args.batch
    chosen = order[first:first + args.batch]
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16,
                        enabled=args.precision == "bf16"):
        loss = loss_of(model(x[chosen]), y[chosen])
    loss.backward()
    optimizer.step()


for i in range(args.warmup):
    step(i)
times = []
for i in range(5):
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    begin.record()
    for j in range(args.steps // 5):
        step(j)
    end.record()
    end.synchronize()
    times.append(begin.elapsed_time(end) / (args.steps // 5))
ms = sorted(times)[2]
print(json.dumps({
    "what": "torch_mlp", "torch": torch.__version__,
    "device": torch.cuda.get_device_name(), "precision": args.precision,
    "hidden": args.hidden, "batch": args.batch, "ms_per_step": ms,
    "samples_per_second": 1000 * args.batch / ms}))
