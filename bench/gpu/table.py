#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tests/gpu/run.sh has measured, as a table beside what it should reach.

    table.py bench/results/DATE-DEVICE-gpu

Reads the files BASE-codecs.json, BASE-torch.json, BASE-trainer.json and
BASE-shards.json, as far as they are there; prints Markdown. Shares are bytes that
a job reads and writes over its time, against a copy within the device in the
same run; medians of the device's events.
"""
import json
import sys

if len(sys.argv) != 2:
    sys.exit("usage: table.py BASE")


def read(part):
    try:
        with open(f"{sys.argv[1]}-{part}.json", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def codecs(run):
    document = read("codecs").get("runs", {}).get(run, {})
    return {row["codec"]: row for row in document.get("results", [])}


def print_row(what, least, got):
    if got is None:
        print(f"| {what} | {least} | not measured | |")
    else:
        reached = "yes" if got >= least else "**no**"
        print(f"| {what} | {least} | {got:.3f} | {reached} |")


def quotient(a, b):
    return a / b if a and b else None


def share(row, job):
    """Of medians; the document has it of the least times."""
    if not row.get(f"{job}_share"):
        return None
    return (row[f"{job}_share"] * row[f"{job}_min_us"] * row["copy_median_us"]
            / row[f"{job}_median_us"] / row["copy_min_us"])


def print_codecs():
    plain, feedback = codecs("codecs"), codecs("feedback")
    for codec in ("fp16", "bf16", "q8", "sign"):
        for job in ("encode", "decode_add"):
            print_row(f"{codec}: {job}, share of copying", 0.8,
                      share(plain.get(codec, {}), job))
    print_row("q8 with feedback: encode, share of copying", 0.75,
              share(feedback.get("q8", {}), "encode"))
    row = plain.get("topk:0.01+none+raw", {})
    # encode_GBps is of the input; a copy reads and writes.
    print_row("top-k 1 %: one read of the input, share of copying", 0.5,
              quotient(row.get("encode_GBps"), row.get("roofline_GBps")))
    torch = {r["what"]: r for r in read("torch").get("results", [])}
    print_row("top-k 1 %: times torch.topk", 10,
              quotient(torch.get("topk:0.01", {}).get("median_us"),
                      row.get("encode_median_us")))
    print_row("q8: fold of 8 messages, share of copying", 0.75,
              share(plain.get("q8", {}), "fold"))


def print_trainer():
    rows = [r for r in read("trainer").get("results", []) if "failed" not in r]
    best = [r for r in rows if r["test"] == "speed"
            and r["precision"] == "bf16"]
    best = best[0] if best else {}
    print_row("trainer, bf16: share of cuBLAS alone", 0.7, best.get("of_gemm"))
    print_row("trainer, bf16: times PyTorch eager", 1.0,
              best.get("over_torch"))
    for row in rows:
        if row["test"] == "two workers":
            print_row(f"two workers, {row['codec']}, batches of {row['batch']}, "
                      f"shards on {row['shards']}: time without communication "
                      "over time", 0.769, quotient(1, row["of_without"]))


def print_all():
    """Every pipeline that was timed."""
    print("\n| pipeline | feedback | encode | decode | decode_add | fold |")
    print("|---|---|---|---|---|---|")
    for run in ("codecs", "more", "feedback", "more-feedback"):
        for codec, row in codecs(run).items():
            cells = [f"{share(row, job):.2f}" if share(row, job) else "-"
                     for job in ("encode", "decode", "decode_add", "fold")]
            fed = "yes" if "feedback" in run else "no"
            print(f"| `{codec}` | {fed} | {' | '.join(cells)} |")


print("| what | at least | measured | reached |\n|---|---|---|---|")
print_codecs()
print_trainer()
if codecs("codecs"):
    print_all()
