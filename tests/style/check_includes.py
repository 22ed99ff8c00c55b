# SPDX-License-Identifier: Apache-2.0
"""Dependencies point one way:

    include <- lib/base <- lib/wire <- transports, compress <- lib
            <- tools, examples, conformance, bench, tests

A room may include itself and the rooms named beside it. The engine knows a
transport or a codec through its table: it may include transports/NAME.h, but
no header of one transport's folder.
"""
import os
import re

import sources

ROOMS = {
    "include": (),
    "lib/base": ("include",),
    "lib/wire": ("include", "lib/base"),
    "transports": ("include", "lib/base", "lib/wire"),
    "compress": ("include", "lib/base", "lib/wire"),
    "lib": ("include", "lib/base", "lib/wire", "transports", "compress"),
    "tools": ("include",),
    "examples": ("include",),
    "conformance": ("include",),
    "bench": ("include",),
    "tests": ("include", "lib/base", "lib/wire", "lib", "transports",
              "compress", "tools", "examples", "conformance", "bench"),
}

# (who includes, what, reason); a folder ends with a slash.
EXCEPTIONS = (
    ("tools/", "lib/base/",
     "the command speaks of errors and words as the library does"),
    ("tools/", "lib/rendezvous/rendezvous.h",
     "run hosts the store and info shows the detected place in the job"),
    ("tools/", "lib/rendezvous/reporter.h",
     "status reads what members write into the store"),
    ("tools/", "transports/verbs/verbs.h", "info lists devices"),
    ("tools/", "transports/verbs/verbs_probe.h", "doctor tries devices"),
    ("tools/", "lib/device/", "info lists devices, doctor asks the driver"),
    ("examples/trainer/cuda/", "lib/device/cublas_cuda.h",
     "cuBLAS is loaded in one way"),
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
DEVICE = re.compile(r"^(cuda|cuda_runtime|cuda_runtime_api|cuda_fp16|cuda_bf16|"
                    r"cublas|cub/|nvml|driver_types)")


def room_of(name):
    best = ""
    for room in ROOMS:
        if name.startswith(room + "/") and len(room) > len(best):
            best = room
    return best


def covers(place, name):
    return name.startswith(place) if place.endswith("/") else name == place


def allowed(name, room, target):
    other = room_of(target)
    if not other or other == room or other in ROOMS[room]:
        return True
    return any(covers(who, name) and covers(what, target)
               for who, what, _ in EXCEPTIONS)


def resolve(name, quoted, path):
    """The file of this repository that is meant, or None."""
    places = ["include"]
    if quoted:
        places = [os.path.dirname(name), "lib", "", "include"]
    if quoted and name.startswith("tests/"):
        places += ["tests", "tests/unit", "tools", "examples/trainer"]
    for place in places:
        candidate = os.path.normpath(os.path.join(place, path))
        if os.path.isfile(os.path.join(sources.ROOT, candidate)):
            return candidate
    return None


def foreign_problem(name, path):
    if DEVICE.match(path) and not name.endswith((".cu", ".cuh", "_cuda.c",
                                                 "_cuda.h")):
        return f"{path}: CUDA belongs into .cu files and *_cuda.c"
    if path.startswith(("infiniband/", "rdma/")) and \
            not name.startswith(("transports/verbs/", "tests/")):
        return f"{path}: libibverbs belongs into transports/verbs"
    return None


def problem(name, quoted, path):
    target = resolve(name, quoted, path)
    room = room_of(name)
    if target is None:
        if quoted and not path.endswith(".inc"):
            return f'"{path}" is not a file of this repository'
        return foreign_problem(name, path)
    if room == "include" and quoted:
        return f'"{path}": public headers are included as <gradpush/...>'
    if not allowed(name, room, target):
        return f"{target}: {room} may not depend on {room_of(target)}"
    if room == "lib" and re.match(r"transports/[^/]+/", target):
        return f"{target}: the engine knows transports by their table only"
    return None


problems = []
files = [n for n in sources.with_suffix(".c", ".h", ".cu", ".cuh")
         if room_of(n)]
for name in files:
    text = sources.read(name)
    for match in INCLUDE.finditer(text):
        found = problem(name, match.group(1) == '"', match.group(2))
        if found:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{name}:{line}: {found}")
sources.finish(f"#include lines of {len(files)} files", problems)
