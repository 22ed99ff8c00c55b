#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The benchmarks of collectives as programs: every operation, type, algorithm
# and transport is verified; wrong options are named. Nothing here judges speed.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

rows() { grep -vc '^#' "$out"; }
wrong_total() { awk '!/^#/ { n += $NF } END { print n + 0 }' "$out"; }

for transport in tcp loop; do
    for what in allreduce reducescatter allgather broadcast alltoall; do
        name="$what over $transport"
        run "$name" 0 bench "$what" --transport "$transport" --workers 3 \
            -b 12 -e 600K -f 37 -n 5 -w 1
        equals "$name: rows" "$(rows)" 4
        equals "$name: wrong" "$(wrong_total)" 0
        says "$name" "$out" "# Out of bounds values : 0 OK"
    done
done
for type in half bfloat16; do
    for op in mean max min; do
        run "$op of $type" 0 bench allreduce --workers 2 -o "$op" -d "$type" \
            -b 4K -e 100K -f 20 -n 5
        equals "$op of $type: wrong" "$(wrong_total)" 0
    done
done
run "all algorithms" 0 bench allreduce --workers 3 --algorithm all -b 1K \
    -e 10K -f 9 -n 5
equals "all algorithms: rows" "$(rows)" 8
says "all algorithms" "$out" "# fastest of 1020 bytes: "
for codec in q8 topk:0.01+q8+rice; do
    run "$codec" 0 bench allreduce --codec "$codec" --workers 3 -b 1M -e 1M -n 5
    equals "$codec: wrong" "$(wrong_total)" 0
done
run "a codec that there is not" 2 bench allreduce --codec q99
says "a codec that there is not" "$err" "q99"
run "in place" 0 bench allreduce --in-place -b 300K -e 300K -n 5
run "busbw" 0 bench allgather --workers 4 -b 64K -e 64K -n 5 --json -
says "busbw" "$out" '"busbw_GBps"'
says "busbw" "$out" '"what": "allgather"'
run "too slow" 1 bench allgather -b 4K -e 4K -n 5 --min-bw 999999
says "too slow" "$err" "gradpush bench allgather: the average of "

run "an algorithm that there is not" 2 bench allreduce --algorithm tree
says "an algorithm that there is not" "$err" "tree"
run "a root too many" 2 bench broadcast -r 5
says "a root too many" "$err" "root 5"
run "algorithms are for allreduce" 2 bench allgather --algorithm ring
says "algorithms are for allreduce" "$err" "for allreduce"
run "in place" 2 bench allgather --in-place
finish
