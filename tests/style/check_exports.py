# SPDX-License-Identifier: Apache-2.0
"""What leaves the library is what the public headers declare GP_API.

The headers are read here after the preprocessor, independently of the script
that writes the linker's list. Usage: check_exports.py BUILD_FOLDER
"""
import glob
import os
import re
import shutil
import subprocess
import sys

import sources

build = sys.argv[1]
compiler = os.environ.get("CC", "cc")
shared = os.path.join(build, "lib", "libgradpush.so")
static = os.path.join(build, "lib", "libgradpush.a")
EXPORTED = "__attribute__((visibility(\"default\")))"


def declared():
    """{name: has GP_API} of every function the public headers declare."""
    run = subprocess.run(
        [compiler, "-E", "-P", "-I", os.path.join(sources.ROOT, "include"),
         "-x", "c", "-"], check=True, capture_output=True, text=True,
        input="#include <gradpush/gradpush.h>\n")
    text = run.stdout
    # Struct and enum bodies hold no declarations of functions.
    while re.search(r"\{[^{}]*\}", text):
        text = re.sub(r"\{[^{}]*\}", " ", text)
    result = {}
    for statement in text.split(";"):
        statement = " ".join(statement.split())
        if statement.startswith("typedef"):
            continue
        bare = re.sub(r"__attribute__ ?\(\(.*?\)\)+", " ", statement)
        name = re.search(r"\b(gp_\w+) ?\((?! ?\*)", bare)
        if name:
            marked = EXPORTED in statement.replace(" ", "") or \
                EXPORTED.replace(" ", "") in statement.replace(" ", "")
            result[name.group(1)] = marked
    return result


def symbols(path, *options):
    run = subprocess.run(["nm", "--defined-only", *options, path], check=True,
                         capture_output=True, text=True)
    for line in run.stdout.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] != "A":
            yield fields[1], fields[2].split("@")[0]


if not os.path.exists(shared):
    sys.exit(f"{shared} does not exist: build it first")
names = declared()
public = {n for n, marked in names.items() if marked}
problems = [f"{n} is in a public header without GP_API"
            for n in sorted(set(names) - public)]
exported = {name for _, name in symbols(shared, "-D")}
problems += [f"{n} is exported but in no public header"
             for n in sorted(exported - public)]
problems += [f"{n} is declared GP_API but not in the library"
             for n in sorted(public - exported)]
# A static library has no list; there the prefix keeps names apart.
foreign = re.compile(r"^(_?_?(asan|ubsan|tsan|odr_asan|gcov|llvm|sanitizer)|"
                     r"\.L|__start_|__stop_|__odr|DW\.ref)")
problems += [f"{n} is a global name without gp_ in the static library"
             for kind, n in symbols(static, "-g")
             if not n.startswith("gp_") and not foreign.match(n)]
sources.finish(f"{len(public)} exported symbols", problems)
