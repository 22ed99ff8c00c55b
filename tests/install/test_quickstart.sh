#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The first command of the README works, twice, and what it trains is good.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
if [ -n "${SANITIZE:-}" ]; then
    echo "skipped: the quickstart builds for itself, without sanitizers"
    exit 77
fi
# It compiles again what the build under test has compiled; a cache may know.
launcher=$(sed -n 's/^CMAKE_C_COMPILER_LAUNCHER:[^=]*=//p' \
    "${BUILD_DIR:-$1}/CMakeCache.txt")
[ -z "$launcher" ] || export CMAKE_C_COMPILER_LAUNCHER=$launcher
result=$source/build/quickstart/result.json
log=$(mktemp)
trap 'rm -f "$log"' EXIT

for run in first second; do
    rm -f "$result"
    bash "$source/examples/quickstart.sh" >"$log" 2>&1 </dev/null ||
        { echo "the $run run failed:"; tail -n 40 "$log"; exit 1; }
    python3 - "$result" <<'END'
import json
import sys

document = json.load(open(sys.argv[1], encoding="utf-8"))
final = document["final"]
config = document["config"]
print(f"test accuracy {final['test_accuracy']:.4f} "
      f"in {final['seconds']:.2f} s, workers {config['workers']}, "
      f"shards {config['shards']}")
assert document["schema"] == "gradpush.train/1", document["schema"]
assert final["test_accuracy"] >= 0.96, final
assert (config["workers"], config["shards"]) == (2, 2), config
assert final["bytes_pushed"] > 0, final
END
done
grep -q 'What to try next' "$log" || { cat "$log"; exit 1; }
