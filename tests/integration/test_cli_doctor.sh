#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gradpush doctor on this machine, whatever it has: the document is sound, the
# text and the exit status say the same, and RDMA is a fault only when it is
# there and broken, or demanded.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

devices=$(find /sys/class/infiniband -mindepth 1 -maxdepth 1 2>/dev/null |
    wc -l)

timeout 120 "$gradpush" doctor >"$out" 2>"$err" </dev/null
status=$?
says "doctor" "$out" "rdma.libraries"
says "doctor" "$out" "limits.memlock"
says "doctor" "$out" "clock.monotonic: goes forward"
equals "doctor, errors" "$(cat "$err")" ""
if [ "$status" = 0 ]; then
    says_not "doctor, status 0" "$out" "fail  "
else
    says "doctor, status $status" "$out" "fail  "
fi
# Every warning and failure is followed by a fix.
equals "doctor, fixes" \
    "$(awk '/^(warn|fail)  /{w = $0; next} w && !/fix: /{print w} {w = ""}' \
        "$out")" ""

timeout 120 "$gradpush" doctor --only tcp --only clock >"$out" 2>"$err"
equals "doctor --only" \
    "$(sed -n 's/^[a-z]\{2,4\}  *\([a-z]*\)\..*/\1/p' "$out" | sort -u |
        tr '\n' ' ')" "clock tcp "

if [ "$devices" = 0 ]; then
    run "doctor without devices" 0 doctor --only rdma --only loopback
    says "doctor without devices" "$out" "skip  rdma.devices: no RDMA device"
    GRADPUSH_TRANSPORT=verbs run "doctor, verbs wanted" 1 doctor --only rdma
    says "doctor, verbs wanted" "$out" "fail  rdma.devices"
    says "doctor, verbs wanted" "$out" "GRADPUSH_TRANSPORT=auto"
else
    timeout 120 "$gradpush" doctor --only loopback >"$out" 2>"$err"
    says "doctor --only loopback" "$out" "loopback.write"
fi
run "doctor --verbose" 0 doctor --only clock --verbose
says "doctor --verbose" "$out" "ns_per_read = "

# JSON, where this build has it.
if "$gradpush" info --json - >/dev/null 2>&1; then
    timeout 120 "$gradpush" doctor --json - >"$out" 2>"$err" </dev/null
    status=$?
    checks=$((checks + 1))
    python3 - "$out" "$status" <<'PYTHON' || fail "doctor --json"
import json
import sys

document = json.load(open(sys.argv[1]))
assert document["schema"] == "gradpush.doctor/1", document["schema"]
assert document["environment"]["kernel"]
counts = dict.fromkeys(("ok", "warn", "fail", "skip"), 0)
for check in document["checks"]:
    for key in ("name", "group", "subject", "status", "reason", "fix",
                "values"):
        assert key in check, (key, check)
    assert check["name"].startswith(check["group"] + "."), check
    assert check["reason"], check
    assert check["fix"] or check["status"] in ("ok", "skip"), check
    counts[check["status"]] += 1
summary = document["summary"]
assert {k: summary[k] for k in counts} == counts, (summary, counts)
worst = "fail" if counts["fail"] else "warn" if counts["warn"] else "ok"
assert summary["status"] == worst, summary
assert (sys.argv[2] == "1") == (worst == "fail"), sys.argv
PYTHON
else
    run "doctor --json without a library" 2 doctor --json -
fi
finish
