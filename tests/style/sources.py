# SPDX-License-Identifier: Apache-2.0
"""What the style checks look at: the files of the repository, by kind."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
SKIP = 77


def all_files():
    """Paths relative to the root: what git has or would take; without git,
    everything outside build folders."""
    try:
        names = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-co",
             "--exclude-standard"], cwd=ROOT, check=True,
            capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [f for f in folders
                          if f != ".git" and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT)
                      for f in files]
    return sorted(n for n in set(names)
                  if os.path.isfile(os.path.join(ROOT, n)))


def with_suffix(*suffixes):
    return [n for n in all_files() if n.endswith(suffixes)]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def finish(what, problems):
    """Prints the problems, or one line that says what was looked at."""
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems)} problems in {what}")
        sys.exit(1)
    print(f"{what}: fine")
    sys.exit(0)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)
