# SPDX-License-Identifier: Apache-2.0
"""The ten lines of the README are lines of examples/01_push_pull.c in the same
order, with at most two of its own between them, and those at the head of
gradpush.h are the same. White space and comments aside."""
import os
import re

import sources

EXAMPLE = "examples/01_push_pull.c"
HEADER = "include/gradpush/gradpush.h"
OWN_LINES = 2


def plain(text):
    """Lines without comments, indentation and empty ones."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    return [" ".join(line.split()) for line in text.splitlines()
            if line.strip()]


def contains(lines, part, gaps):
    """Whether `part` is in `lines`, `gaps` foreign lines within it allowed."""
    for start, line in enumerate(lines):
        found = 0
        for other in lines[start:start + len(part) + gaps]:
            found += found < len(part) and other == part[found]
        if line == part[0] and found == len(part):
            return True
    return False


problems = []
blocks = re.findall(r"^```c\n(.*?)^```$", sources.read("README.md"),
                    flags=re.M | re.S)
if not blocks:
    problems.append("README.md has no ```c block")
if not os.path.exists(os.path.join(sources.ROOT, EXAMPLE)):
    problems.append(f"{EXAMPLE} does not exist")
else:
    example = plain(sources.read(EXAMPLE))
    for block in blocks:
        if not contains(example, plain(block), OWN_LINES):
            problems.append(f"README.md: not in {EXAMPLE}:\n{block}")
head = [re.sub(r"^ \*     ", "", line)
        for line in sources.read(HEADER).splitlines()
        if line.startswith(" *     ")]
for block in blocks[:1]:
    if not contains(plain("\n".join(head)), plain(block), 0):
        problems.append(f"{HEADER}: its example differs from README.md")
sources.finish(f"{len(blocks)} examples of the README", problems)
