# SPDX-License-Identifier: Apache-2.0
"""No marks of unfinished work, no path of somebody's machine, no wait for any
child, no stray white space, lines of readable length."""
import re

import sources

TEXT = (".c", ".h", ".cu", ".cuh", ".py", ".sh", ".awk", ".cmake", ".md",
        ".txt", ".json", ".in", ".yml", "run")
COLUMNS = 100

# Spelled so that this file passes its own check.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE = re.compile(r"(?<![\w.])/(ho" + r"me|ro" + r"ot|wo" + r"rk|Us" +
                     r"ers|tmp/[lw])/")

# It misses a child that ends in the moment in which it begins.
WAIT_ANY = re.compile(r"\bwait\s+(-p\s+\w+\s+)?-n\b")

ONE_TEXT = re.compile(r'\s*("[^"]*": )?"[^"]*",?$')


def check(name, number, line):
    if UNFINISHED.search(line):
        yield "unfinished work"
    if MACHINE.search(line):
        yield "path of one machine"
    if name.endswith(".sh") and WAIT_ANY.search(line):
        yield "bash's wait for any child can miss one: wait for each"
    if line != line.rstrip():
        yield "white space at the end of the line"
    if "\t" in line and not name.endswith((".md", ".json")):
        yield "tab"
    # Tables, links, what a program printed, and a text in JSON cannot be
    # broken.
    table = name.endswith(".md") and (
        line.startswith(("|", "    ")) or "](" in line)
    table |= name.endswith(".json") and ONE_TEXT.match(line) is not None
    if len(line) > COLUMNS and not table and "://" not in line:
        yield f"{len(line)} columns, at most {COLUMNS}"


problems = []
files = [n for n in sources.with_suffix(*TEXT)
         if not n.startswith(("tests/fuzz/corpus/", "tests/golden/"))]
for name in files:
    text = sources.read(name)
    if text and not text.endswith("\n"):
        problems.append(f"{name}: no newline at the end")
    for number, line in enumerate(text.split("\n"), 1):
        problems += [f"{name}:{number}: {p}" for p in check(name, number, line)]
sources.finish(f"words of {len(files)} files", problems)
