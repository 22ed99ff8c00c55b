# SPDX-License-Identifier: Apache-2.0
"""report.py JUNIT STAGE - reads what ctest wrote, prints the tests that failed
or were skipped, with reasons, and as its last line: PASSED FAILED SKIPPED."""
import sys
import xml.etree.ElementTree as xml


def last_line(case):
    text = case.findtext("system-out") or ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def reason(case):
    """The line a test gives as its reason, wherever it stands."""
    text = case.findtext("system-out") or ""
    for line in text.splitlines():
        if "skip" in line.lower():
            return line.strip()
    return last_line(case)


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
    else:
        passed += 1
print(passed, failed, skipped)
