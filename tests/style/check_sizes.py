# SPDX-License-Identifier: Apache-2.0
"""Functions and files stay small: see the figures below. Lines of a function
are counted from the line of its name to its closing brace."""
import collections
import json
import shutil
import subprocess

import sources

MEDIAN, P90, LONGEST = 15, 50, 100
FILE_LINES = 800

# Data that a program wrote: name and where it comes from.
GENERATED = {
    "examples/trainer/data/digits_table.c":
        "examples/trainer/data/make_digits.py",
}

tool = shutil.which("ctags-universal") or shutil.which("ctags")
if not tool:
    sources.skip("universal-ctags is not installed")
features = subprocess.run([tool, "--list-features"], capture_output=True,
                          text=True).stdout
if "json" not in features:
    sources.skip(f"{tool} is not universal-ctags with json")

problems = []
files = sources.with_suffix(".c", ".h", ".cu", ".cuh")
texts = sources.with_suffix(".c", ".h", ".cu", ".cuh", ".py", ".sh", ".awk",
                            ".cmake", "CMakeLists.txt")
for name in texts:
    lines = sources.read(name).count("\n")
    if lines > FILE_LINES and name not in GENERATED:
        problems.append(f"{name}: {lines} lines, at most {FILE_LINES}")

run = subprocess.run(
    [tool, "--output-format=json", "--fields=+ne", "--languages=C,C++,CUDA",
     "--map-C=+.h", "--kinds-C=f", "-f", "-"] + files,
    cwd=sources.ROOT, check=True, capture_output=True, text=True)
lengths = collections.defaultdict(list)
for line in run.stdout.splitlines():
    tag = json.loads(line)
    if tag.get("kind") != "function" or "end" not in tag:
        continue
    length = tag["end"] - tag["line"] + 1
    kind = "tests" if tag["path"].startswith("tests/") else "code"
    lengths[kind].append(length)
    if length > LONGEST:
        problems.append(f"{tag['path']}:{tag['line']}: {tag['name']} has "
                        f"{length} lines, at most {LONGEST}")

for kind, values in sorted(lengths.items()):
    values.sort()
    median = values[len(values) // 2]
    p90 = values[min(len(values) - 1, len(values) * 9 // 10)]
    print(f"{kind}: {len(values)} functions, median {median}, p90 {p90}, "
          f"longest {values[-1]}")
    if median > MEDIAN:
        problems.append(f"{kind}: median {median}, at most {MEDIAN}")
    if p90 > P90:
        problems.append(f"{kind}: p90 {p90}, at most {P90}")
if not lengths:
    problems.append("ctags found no function at all")
sources.finish(f"sizes of {len(texts)} files", problems)
