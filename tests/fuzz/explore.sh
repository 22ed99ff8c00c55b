#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# explore.sh PROGRAM WORK [CORPUS...] - one libFuzzer program for a bounded
# time, FUZZ_SECONDS (10), on inputs of up to FUZZ_LENGTH (65536) bytes. Finds
# go to WORK, never into the corpora. Small lengths run many more inputs, as in
# a long run over the decoders:
#
#     FUZZ_SECONDS=36000 FUZZ_LENGTH=512 nice bash tests/fuzz/explore.sh \
#         build/fuzz/tests/fuzz/fuzz_decode /tmp/finds \
#         build/fuzz/tests/fuzz/seeds/decode
set -euo pipefail
program=$(realpath "$1") work=$2
shift 2
found=$work/found_$(basename "$program")
mkdir -p "$found"
seeds=()
for corpus; do
    [ -d "$corpus" ] && seeds+=("$(realpath "$corpus")")
done
cd "$work"
exec "$program" -max_total_time="${FUZZ_SECONDS:-10}" -timeout=10 \
    -rss_limit_mb=2048 -max_len="${FUZZ_LENGTH:-65536}" -print_final_stats=1 \
    "$found" "${seeds[@]}"
