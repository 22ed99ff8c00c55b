#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gradpush-train --device cuda: whether it trains as the CPU does, and how fast,
against cuBLAS alone, PyTorch and itself without communication. Writes JSON.

    trainer.py --build build/release --out FILE [--data mnist/]
               [--hidden 8192,8192,8192] [--batch 4096] [--samples 524288]

A run's step time is the median of its epochs but the first. An epoch ends when
all has arrived, which hides nothing of the last step, so there have to be
several steps in one. Without communication means: as many single processes on
the device at the same time.
The file is written anew after each measurement, the most telling ones first; one
that fails or takes longer than --limit is named in it, and the next one follows.
Exits 1 when one did, or when accuracy, or the digest of a second run, is not what
it has to be.
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
parser.add_argument("--samples", type=int, default=524288)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--shared-epochs", type=int, default=3,
                    help="of two workers, whose steps take longer")
parser.add_argument("--shard-count", type=int, default=4,
                    help="shards of two workers, a thread each")
parser.add_argument("--speed", action="store_true", help="no accuracy")
parser.add_argument("--shared-batches", default="4096,32768",
                    help="batches of the two workers on one device")
parser.add_argument("--shards", default="cpu,cuda",
                    help="where shards add; cuda needs CUDA kernels")
parser.add_argument("--limit", type=float, default=90,
                    help="seconds that a run may take")
args = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
trainer = os.path.join(args.build, "bin", "gradpush-train")
gemm = os.path.join(args.build, "tests", "bin", "bench_gemm")
report = {"schema": "gradpush.bench/1", "what": "trainer",
          "config": vars(args), "results": []}
failed = []


def note(**row):
    report["results"].append(row)
    print(json.dumps(row), flush=True)
    with open(args.out + ".new", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    os.replace(args.out + ".new", args.out)


def attempt(what, work, *options):
    """What fails is noted, and others follow."""
    try:
        work(*options)
    except (subprocess.SubprocessError, OSError, RuntimeError, ValueError,
            KeyError) as error:
        failed.append(what)
        note(test=what, failed=str(error))


def say(command):
    print("$ " + " ".join(command), file=sys.stderr, flush=True)
    return command


def begin(*options, **settings):
    command = say([trainer, "--quiet", "--json", "-", *options])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **settings})


def end(process):
    try:
        text = process.communicate(timeout=args.limit)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        raise RuntimeError(f"gradpush-train exits {process.returncode}")
    return json.loads(text)


def train(*options, **settings):
    return end(begin(*options, **settings))


def step_ms(document, workers=1):
    """Milliseconds of a step: epochs but the first, which has the warm-up."""
    config = document["config"]
    steps = config["train_samples"] // config["batch"] // workers
    seconds = [e["seconds"] for e in document["epochs"][1:]]
    return 1000 * statistics.median(seconds) / steps


def accuracy(data, precision):
    """As on the CPU, and twice the same."""
    cpu = train("--data", data)
    options = ("--data", data, "--device", "cuda", "--precision", precision)
    first, second = train(*options), train(*options)
    got = first["final"]["test_accuracy"]
    want = cpu["final"]["test_accuracy"]
    same = (first["final"]["params_sha256"]
            == second["final"]["params_sha256"])
    note(test="accuracy", data=data, precision=precision, cpu=want,
         cuda=got, repeats=same, device=first["environment"]["gpu"])
    if abs(got - want) > 0.02 or not same:
        failed.append(f"accuracy of {data} {precision}")


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
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          timeout=args.limit)
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
        stdout=subprocess.PIPE, text=True, check=True, timeout=args.limit)
    ceiling = json.loads(done.stdout)
    ours = step_ms(train(*common, "--workers", "1", "--shards", "0",
                         "--precision", precision))
    torch = torch_ms(precision)
    note(test="speed", precision=precision, ms_per_step=round(ours, 4),
         samples_per_second=round(1000 * args.batch / ours),
         gemm_ms=ceiling["ms_per_step"], gemm_TFLOPS=ceiling["TFLOPS"],
         torch_ms=torch, of_gemm=ratio(ceiling["ms_per_step"], ours),
         over_torch=ratio(torch, ours))


def shared(common, batch, shards, codec):
    """Two workers on one device, against two that know nothing of each other:
    each of those has half the data, as each worker has."""
    options = (*common, "--batch", str(batch), "--precision", "bf16",
               "--epochs", str(args.shared_epochs))
    if batch not in without:
        alone = [begin(*options, "--workers", "1", "--shards", "0")
                 for _ in range(2)]
        try:
            times = [step_ms(end(process)) for process in alone]
        finally:
            for process in alone: # of two that failed one would go on
                process.kill()
        without[batch] = statistics.mean(times)
    both = train(*options, "--workers", "2", "--shards", str(args.shard_count),
                 "--transport", "tcp", "--codec", codec, "--pull-codec", codec,
                 GRADPUSH_SHARD_DEVICE=shards)
    ms = step_ms(both, 2)
    note(test="two workers", codec=codec, shards=shards, batch=batch,
         ms_per_step=round(ms, 4), ms_without=round(without[batch], 4),
         of_without=ratio(ms, without[batch]),
         hidden_share=both["final"]["hidden_share"])


without = {}
with tempfile.TemporaryDirectory() as folder:
    make_data(folder)
    common = ("--data", folder, "--split", "0.99", "--normalize", "scale",
              "--hidden", args.hidden, "--lr", "0.01", "--device", "cuda:0")
    whole = (*common, "--batch", str(args.batch), "--epochs", str(args.epochs))
    batches = [int(batch) for batch in args.shared_batches.split(",")]
    attempt("speed bf16", speed, whole, "bf16")
    for batch in batches:
        for shards in args.shards.split(","):
            attempt(f"two workers, batches of {batch}, shards on {shards}",
                    shared, common, batch, shards, "q8")
    if not args.speed:
        for data in ["digits"] + ([args.data] if args.data else []):
            for precision in ("fp32", "tf32", "bf16"):
                attempt(f"accuracy of {data} {precision}", accuracy, data,
                        precision)
    attempt("speed tf32", speed, whole, "tf32")
    attempt("speed fp32", speed, whole, "fp32")
    attempt("two workers, no codec", shared, common, batches[-1],
            args.shards.split(",")[-1], "none")
if failed:
    sys.exit("trainer.py: failed: " + ", ".join(failed))
