#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# quickstart.sh - two workers and two parameter shards train a classifier of
# handwritten digits on this machine, over TCP.
#
#     bash examples/quickstart.sh [gradpush-train option...]
#
# Needs nothing but a clone and Debian's apt-get: installs the packages that are
# missing (as root or through sudo), builds into build/quickstart, trains. CUDA
# kernels are left out: they would take as long as all the rest. Asks nothing,
# and may be run again. Options are given to gradpush-train and win over those
# below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=build/quickstart
mkdir -p "$folder"

bash tools/packages.sh build

echo "building into $folder"
{
    cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DGRADPUSH_TESTS=OFF -DGRADPUSH_TOOLS=ON -DGRADPUSH_TRAINER=ON \
        -DGRADPUSH_KERNELS=OFF &&
        cmake --build "$folder"
} >"$folder/build.log" 2>&1 </dev/null || {
    tail -n 30 "$folder/build.log"
    echo "the build failed; all of it: $folder/build.log" >&2
    exit 1
}

train=$folder/bin/gradpush-train
set -- --data digits --workers 2 --shards 2 --json "$folder/result.json" "$@"
echo
echo "$train $*"
echo
"$train" "$@" </dev/null

cat <<END

What happened: gradpush-train started two workers and two shards as processes
of their own. Each worker computed gradients on its half of the digits and
pushed them to the shards, which added the halves and handed the mean back:
data-parallel training. The figures are also in $folder/result.json.

What to try next:
    $train --codec q8          a quarter of the bytes
    $train --workers 4 --shards 1
    $train --help
    $folder/bin/gradpush --help
    bash tests/run.sh                      every test
    examples/01_push_pull.c                ten lines in a trainer of your own
END
