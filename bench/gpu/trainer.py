#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gradpush-train --device cuda: whether it trains as the CPU does, and how fast,
against cuBLAS alone, PyTorch and itself without communication. Writes JSON.

    trainer.py --build build/release --out FILE [--data mnist/]
               [--hidden 8192,8192,8192] [--batch 4096] [--samples 131072]

A run's step time is the median of its epochs but the first. Without
communication means: as many single processes on the device at the same time.
Exits 1 when accuracy, or the digest of a second run, is not what it has to be.
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--build", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--data", default="")
parser.add_argument("--hidden", default="8192,8192,8192")
parser.add_argument("--batch", type=int, default=4096)
parser.add_argument("--samples", type=int, default=131072)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--speed", action="store_true", help="no accuracy")
args = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
trainer = os.path.join(args.build, "bin", "gradpush-train")
gemm = os.path.join(args.build, "tests", "bin", "bench_gemm")
report = {"schema": "gradpush.bench/1", "what": "trainer",
          "config": vars(args), "results": []}
failed = []


def note(**row):
    report["results"].append(row)
    print(json.dumps(row))


def say(command):
    print("$ " + " ".join(command), file=sys.stderr)
    return command


def begin(*options):
    command = say([trainer, "--quiet", "--json", "-", *options])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(process):
    text = process.communicate()[0]
    if process.returncode:
        sys.exit(f"trainer.py: gradpush-train exits {process.returncode}")
    return json.loads(text)


def train(*options):
    return end(begin(*options))


def step_ms(document, workers=1):
    """Milliseconds of a step: epochs but the first, which has the warm-up."""
    config = document["config"]
    steps = config["train_samples"] // config["batch"] // workers
    seconds = [e["seconds"] for e in document["epochs"][1:]]
    return 1000 * statistics.median(seconds) / steps


def accuracy():
    for data in ["digits"] + ([args.data] if args.data else []):
        cpu = train("--data", data)
        for precision in ("fp32", "tf32", "bf16"):
            options = ("--data", data, "--device", "cuda",
                       "--precision", precision)
            first, second = train(*options), train(*options)
            got = first["final"]["test_accuracy"]
            want = cpu["final"]["test_accuracy"]
            same = (first["final"]["params_sha256"]
                    == second["final"]["params_sha256"])
            note(test="accuracy", data=data, precision=precision, cpu=want,
                 cuda=got, repeats=same,
                 device=first["environment"]["gpu"])
            if abs(got - want) > 0.02 or not same:
                failed.append(f"{data} {precision}")


def write_npy(path, kind, shape, chunks):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * ((-len(head) - 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head))
                   + head.encode())
        for chunk in chunks:
            file.write(chunk)


def make_data(folder):
    """Random images: what they show does not matter for speed."""
    write_npy(folder + "/x.npy", "|u1", (args.samples, 784),
              (os.urandom(784) for _ in range(args.samples)))
    write_npy(folder + "/y.npy", "|u1", (args.samples,),
              [bytes(i % 10 for i in range(args.samples))])


def torch_ms(precision):
    command = say([sys.executable, here + "/torch_mlp.py",
                   "--hidden", args.hidden, "--batch", str(args.batch),
                   "--precision", precision])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        return None
    done.check_returncode()
    return json.loads(done.stdout)["ms_per_step"]


def ratio(a, b):
    return round(a / b, 4) if a and b else None


def speed(common, precision):
    widths = f"784,{args.hidden},10"
    done = subprocess.run(
        say([gemm, "--widths", widths, "--batch", str(args.batch),
             "--precision", precision, "-n", "30"]),
        stdout=subprocess.PIPE, text=True, check=True)
    ceiling = json.loads(done.stdout)
    ours = step_ms(train(*common, "--workers", "1", "--shards", "0",
                         "--precision", precision))
    torch = torch_ms(precision)
    note(test="speed", precision=precision, ms_per_step=round(ours, 4),
         samples_per_second=round(1000 * args.batch / ours),
         gemm_ms=ceiling["ms_per_step"], gemm_TFLOPS=ceiling["TFLOPS"],
         torch_ms=torch, of_gemm=ratio(ceiling["ms_per_step"], ours),
         over_torch=ratio(torch, ours))


def shared(common):
    """Two workers on one device, against two that know nothing of each other:
    each of those has half the data, as each worker has."""
    alone = [begin(*common, "--workers", "1", "--shards", "0",
                   "--precision", "bf16") for _ in range(2)]
    without = statistics.mean([step_ms(end(p)) for p in alone])
    for codec in ("none", "q8"):
        both = train(*common, "--workers", "2", "--shards", "2",
                     "--transport", "tcp", "--codec", codec,
                     "--pull-codec", codec, "--precision", "bf16",
                     "--device", "cuda:0")
        ms = step_ms(both, 2)
        note(test="two workers", codec=codec, ms_per_step=round(ms, 4),
             ms_without=round(without, 4), of_without=ratio(ms, without),
             hidden_share=both["final"]["hidden_share"])


if not args.speed:
    accuracy()
with tempfile.TemporaryDirectory() as folder:
    make_data(folder)
    common = ("--data", folder, "--split", "0.99", "--normalize", "scale",
              "--hidden", args.hidden, "--batch", str(args.batch),
              "--epochs", str(args.epochs), "--lr", "0.01",
              "--device", "cuda:0")
    for precision in ("fp32", "tf32", "bf16"):
        speed(common, precision)
    shared(common)
with open(args.out, "w", encoding="utf-8") as file:
    json.dump(report, file, indent=1)
    file.write("\n")
if failed:
    sys.exit("trainer.py: accuracy or digest of " + ", ".join(failed))
