# SPDX-License-Identifier: Apache-2.0
"""report.py JUNIT STAGE - reads what ctest wrote, prints the tests that failed
or were skipped, with reasons, and as its last line: PASSED FAILED SKIPPED.

Of what a failed test printed, the lines that tell why come first, then its end:
some print thousands of lines, and a few have to do.

A test that ran may have left out a part of itself: a case of a cmocka program,
or a part of a script that prints "skipped: WHY". There is one line for each,
which begins with "  left out"; the counts know nothing of them."""
import re
import sys
import xml.etree.ElementTree as xml


def output(case):
    return case.findtext("system-out") or ""


def last_line(case):
    lines = [line for line in output(case).splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def reason(case):
    """The line a test gives as its reason, wherever it stands."""
    for line in output(case).splitlines():
        if "skip" in line.lower():
            return line.strip()
    return last_line(case)


def why(lines):
    """What a case said before it was skipped."""
    said = [line.strip() for line in lines if line.strip()]
    for line in said:
        if line.startswith("skipped: "):
            return line.removeprefix("skipped: ")
    return said[-1] if said else "it does not say why"


TELLING = re.compile(
    r"\[  (ERROR|FAILED) |\[   LINE|^FAIL|: error: |: runtime error: |Assert"
    r"|(Address|Leak|Thread|UndefinedBehavior)Sanitizer|^ +#\d+ |!=|Traceback")
END = 40


def said(case):
    """What a failed test printed, as far as it helps."""
    lines = [line[:240] for line in output(case).splitlines() if line.strip()]
    telling = [line for line in lines[:-END] if TELLING.search(line)]
    left = len(lines) - len(telling[:END]) - len(lines[-END:])
    yield from telling[:END]
    if left:
        yield f"... {left} more lines ..."
    yield from lines[-END:]


def left_out(case):
    """(name, reason) of each part that a test did not run."""
    name = case.get("name").split("/")[-1]
    part, lines = None, []
    for line in output(case).splitlines():
        run = re.match(r"\[ RUN      \] (\S+)", line)
        if run:
            part, lines = run.group(1), []
        elif part and line.startswith(f"[  SKIPPED ] {part}"):
            yield f"{name}/{part}", why(lines)
            part = None
        elif part and re.match(r"\[ +(OK|FAILED|ERROR) +\]", line):
            part = None
        elif part:
            lines.append(line)
        elif line.strip().startswith("skipped: "):
            yield name, why([line])


passed = failed = skipped = 0
for case in xml.parse(sys.argv[1]).getroot().iter("testcase"):
    name = f"{sys.argv[2]}: {case.get('name')}"
    skip = case.find("skipped")
    # ctest also calls skipped what it could not start; that is a failure.
    if skip is not None and "SKIP_" in skip.get("message", ""):
        skipped += 1
        print(f"  skipped  {name}: {reason(case)}")
    elif case.get("status") != "run" or case.find("failure") is not None:
        failed += 1
        print(f"  FAILED   {name}: {last_line(case)}")
        for line in said(case):
            print(f"    | {line}")
    else:
        passed += 1
    if skip is None:
        for part, text in left_out(case):
            print(f"  left out {sys.argv[2]}: {part} ({text})")
print(passed, failed, skipped)
