# SPDX-License-Identifier: Apache-2.0
"""Every C and CUDA file is as clang-format writes it. Versions differ in
details, so only the one named here decides."""
import re
import shutil
import subprocess

import sources

VERSION = "14"

tool = shutil.which(f"clang-format-{VERSION}") or shutil.which("clang-format")
if not tool:
    sources.skip(f"clang-format is not installed (version {VERSION})")
text = subprocess.run([tool, "--version"], check=True, capture_output=True,
                      text=True).stdout
found = re.search(r"version (\d+)", text)
if not found or found.group(1) != VERSION:
    sources.skip(f"needs clang-format {VERSION}, this is: {text.strip()}")

files = sources.with_suffix(".c", ".h", ".cu", ".cuh")
run = subprocess.run([tool, "--dry-run", "-Werror"] + files,
                     cwd=sources.ROOT, capture_output=True, text=True)
problems = [line for line in run.stderr.splitlines() if ": error: " in line]
if run.returncode and not problems:
    problems = [run.stderr]
sources.finish(f"format of {len(files)} files", problems)
