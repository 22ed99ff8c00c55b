#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sgd_torch.txt: parameters after each of five steps of torch.optim.SGD
in double precision, so that every digit is the mathematics' and none is a
rounding of fp32. Made with PyTorch 1.13.

A line "case TEXT" begins a run with that updater; "value", "gradient" lines
hold the numbers in use and, after each gradient, what the parameters became.
"""
import pathlib

import torch

CASES = {
    "sgd:lr=0.5": dict(lr=0.5),
    "sgd:lr=0.25,weight_decay=0.125": dict(lr=0.25, weight_decay=0.125),
    "sgd:lr=0.25,momentum=0.75": dict(lr=0.25, momentum=0.75),
    "sgd:lr=0.25,momentum=0.75,nesterov=1":
        dict(lr=0.25, momentum=0.75, nesterov=True),
    "sgd:lr=0.125,momentum=0.875,weight_decay=0.0625":
        dict(lr=0.125, momentum=0.875, weight_decay=0.0625),
    "sgd:lr=0.125,momentum=0.875,nesterov=1,weight_decay=0.0625":
        dict(lr=0.125, momentum=0.875, nesterov=True, weight_decay=0.0625),
}
STEPS, COUNT = 5, 6


def line(name, values):
    return name + "".join(f" {v:.17g}" for v in values.tolist()) + "\n"


generator = torch.Generator().manual_seed(1)


def draw():
    """Numbers that fp32 holds exactly."""
    return torch.randn(COUNT, generator=generator).double()


out = "# torch.optim.SGD, see make_sgd.py\n"
for text, options in CASES.items():
    parameter = torch.nn.Parameter(draw())
    optimizer = torch.optim.SGD([parameter], **options)
    out += f"case {text}\n" + line("value", parameter.detach())
    for _ in range(STEPS):
        parameter.grad = draw()
        out += line("gradient", parameter.grad)
        optimizer.step()
        out += line("value", parameter.detach())
path = pathlib.Path(__file__).parent / "sgd_torch.txt"
path.write_text(out)
