#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# explore.sh PROGRAM CORPUS WORK - one libFuzzer program for a bounded time,
# FUZZ_SECONDS (10). Finds go to WORK, never into the corpus of the repository.
set -euo pipefail
program=$1 corpus=$2 work=$3
found=$work/found_$(basename "$program")
mkdir -p "$found"
seeds=()
[ -d "$corpus" ] && seeds=("$corpus")
cd "$work"
exec "$program" -max_total_time="${FUZZ_SECONDS:-10}" -timeout=10 \
    -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    "$found" "${seeds[@]}"
