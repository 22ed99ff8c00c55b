# SPDX-License-Identifier: Apache-2.0
"""Relative links of the documents lead to files that exist, and `files` they
name in code style with a known folder in front do too."""
import os
import re

import sources

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# Made by programs, not kept.
MADE = ("bench/out",)
FOLDERS = "include|lib|transports|compress|examples|bench|tests|docs|tools"
NAMED = re.compile(r"`((?:" + FOLDERS + r")/[\w./-]*[\w/])`")

problems = []
files = sources.with_suffix(".md")
for name in files:
    text = sources.read(name)
    for match in LINK.finditer(text):
        target = match.group(1)
        if re.match(r"[a-z]+:", target):
            continue
        path = os.path.join(sources.ROOT, os.path.dirname(name), target)
        if not os.path.exists(path):
            problems.append(f"{name}: link to {target} leads nowhere")
    for match in NAMED.finditer(text):
        if match.group(1).startswith(MADE):
            continue
        if not os.path.exists(os.path.join(sources.ROOT, match.group(1))):
            problems.append(f"{name}: there is no {match.group(1)}")
sources.finish(f"links of {len(files)} documents", problems)
