#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes updaters_torch.txt: parameters in fp32 after each of 20 steps of the
optimizers and schedules of PyTorch (made with 1.13, on x86-64), and, after
"exact", the same run in double precision. LAMB, which PyTorch does not have,
is the paper's algorithm 2 in NumPy (You et al. 2020), in double precision.

A line "case TEXT" begins a run with that updater. The parameters before step 0
and each gradient follow from one generator, see draw(); the test has the same.
Numbers are the bits of fp32 as 8 hex digits; a line "step" has all parameters
after a step of the fp32 run, "exact" after the last step of the other, rounded.
"""
import pathlib
import struct

import numpy
import torch

STEPS, COUNT = 20, 33

CASES = [
    "sgd:lr=0.1",
    "sgd:lr=0.05,momentum=0.9,dampening=0.5,weight_decay=0.01",
    "sgd:lr=0.05,momentum=0.9,nesterov=1,weight_decay=0.001",
    "sgd:lr=0.1,momentum=0.9,step_size=6,gamma=0.3",
    "adagrad:lr=0.1",
    "adagrad:lr=0.1,lr_decay=0.05,weight_decay=0.01,"
    "initial_accumulator_value=0.5",
    "rmsprop:lr=0.01",
    "rmsprop:lr=0.01,alpha=0.9,momentum=0.9,weight_decay=0.01",
    "rmsprop:lr=0.01,alpha=0.9,centered=1,eps=1e-3",
    "rmsprop:lr=0.01,centered=1,momentum=0.5,eps=1e-3",
    "adam:lr=0.01",
    "adam:lr=0.01,beta1=0.8,beta2=0.99,weight_decay=0.05,amsgrad=1",
    "adam:lr=0.02,warmup=5,cosine=15,lr_min=0.001",
    "adamw:lr=0.01,weight_decay=0.1",
    "adamw:lr=0.01,amsgrad=1,cosine=40",
    "adamw:lr=0.01,clip=1.5",
    "lamb:lr=0.02,weight_decay=0.05",
    "lamb:lr=0.01,beta2=0.99,warmup=4",
]


class Draw:
    """A linear congruential generator; numbers that fp32 holds exactly."""

    def __init__(self):
        self.x = 9

    def __call__(self):
        out = []
        for _ in range(COUNT):
            self.x = (self.x * 1664525 + 1013904223) % 2**32
            signed = self.x - 2**32 if self.x >= 2**31 else self.x
            out.append((signed >> 8) / 2**22)
        return torch.tensor(out, dtype=torch.float64)


def options_of(text):
    name, _, rest = text.partition(":")
    pairs = (pair.split("=") for pair in rest.split(",") if pair)
    return name, {key: float(value) for key, value in pairs}


def make(name, o, parameters):
    o = {k: v for k, v in o.items()
         if k not in ("warmup", "cosine", "lr_min", "step_size", "gamma",
                      "clip")}
    if name.startswith("adam"):
        o["betas"] = (o.pop("beta1", 0.9), o.pop("beta2", 0.999))
        o["amsgrad"] = bool(o.get("amsgrad", 0))
    if name == "sgd":
        o["nesterov"] = bool(o.get("nesterov", 0))
    if name == "rmsprop":
        o["centered"] = bool(o.get("centered", 0))
    kinds = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad,
             "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam,
             "adamw": torch.optim.AdamW}
    return kinds[name](parameters, **o)


def schedule(optimizer, o):
    s = torch.optim.lr_scheduler
    warmup = int(o.get("warmup", 0))
    if "step_size" in o:
        after = s.StepLR(optimizer, int(o["step_size"]), o.get("gamma", 0.1))
    elif "cosine" in o:
        after = s.CosineAnnealingLR(optimizer, int(o["cosine"]),
                                    o.get("lr_min", 0))
    else:
        after = s.LambdaLR(optimizer, lambda n: 1.0)
    if not warmup:
        return after
    before = s.LambdaLR(optimizer, lambda n: (n + 1) / warmup)
    return s.SequentialLR(optimizer, [before, after], [warmup])


def run_torch(name, o, dtype):
    draw = Draw()
    parameter = torch.nn.Parameter(draw().to(dtype))
    optimizer = make(name, o, [parameter])
    rates = schedule(optimizer, o)
    for _ in range(STEPS):
        parameter.grad = draw().to(dtype)
        if "clip" in o:
            torch.nn.utils.clip_grad_norm_([parameter], o["clip"])
        optimizer.step()
        rates.step()
        yield parameter.detach().to(torch.float64).numpy()


def run_lamb(o):
    draw = Draw()
    p = draw().numpy()
    m, v = numpy.zeros(COUNT), numpy.zeros(COUNT)
    beta1, beta2 = o.get("beta1", 0.9), o.get("beta2", 0.999)
    warmup = int(o.get("warmup", 0))
    for n in range(1, STEPS + 1):
        g = draw().numpy()
        lr = o["lr"] * min(1.0, n / warmup) if warmup else o["lr"]
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**n), v / (1 - beta2**n)
        d = m_hat / (numpy.sqrt(v_hat) + o.get("eps", 1e-6))
        d = d + o.get("weight_decay", 0.01) * p
        p_norm, d_norm = numpy.linalg.norm(p), numpy.linalg.norm(d)
        ratio = p_norm / d_norm if p_norm > 0 and d_norm > 0 else 1.0
        p = p - lr * ratio * d
        yield p


def line(name, values):
    bits = (struct.pack(">f", v).hex() for v in values)
    return name + " " + "".join(bits) + "\n"


out = "# PyTorch and NumPy, see make_updaters.py\n"
for text in CASES:
    name, o = options_of(text)
    out += f"case {text}\n"
    if name == "lamb":
        steps = exact = list(run_lamb(o))
    else:
        steps = list(run_torch(name, o, torch.float32))
        exact = list(run_torch(name, o, torch.float64))
    out += "".join(line("step", values) for values in steps)
    out += line("exact", exact[-1])
path = pathlib.Path(__file__).parent / "updaters_torch.txt"
path.write_text(out)
