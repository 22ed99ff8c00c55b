#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# cases.sh FOLDER [NAME] - runs in the guest: every case of the folder whose
# name contains NAME, in order. Of each it prints
#
#     ok|FAIL|skip NAME (SECONDS s)
#
# and what it has to say: its figures, why it was skipped, the end of its log
# when it failed. The last line is the sum; the status is 1 when one failed.
#
# A case is FOLDER/NN_*.sh. It fails by its exit status or by its own limit of
# seconds, which is the line "# timeout: S" in it (times LAB_SLOW); status 77 is a skip. With two
# guests both run each case, and it is ok when it is on both.
set -u
folder=$1 only=${2:-}
results=$OUT/$(basename "$folder")
export LAB_LIB=$SOURCE_DIR/tests/rdma/lib.sh
# shellcheck source=lib.sh
. "$LAB_LIB"
mkdir -p "$results"
passed=0 failed=0 skipped=0

# joint STATUS FILE: what it is on both guests, the worse of the two.
joint() {
    [ "$GUESTS" = 2 ] || { echo "$1"; return; }
    local other=$2.status$((1 - GUEST)) theirs
    echo "$1" >"$2.new$GUEST"
    mv "$2.new$GUEST" "$2.status$GUEST"
    until_true 120 test -s "$other" || { echo 124; return; }
    theirs=$(cat "$other")
    case $1 in
    0) echo "$theirs" ;;
    77) [ "$theirs" = 0 ] && echo 77 || echo "$theirs" ;;
    *) echo "$1" ;;
    esac
}

run_case() {
    local file=$1 name limit log start=$SECONDS status
    name=$(basename "$file" .sh)
    log=$results/$name
    limit=$(sed -n 's/^# timeout: //p' "$file")
    timeout -k 5 $((${limit:-60} * LAB_SLOW)) bash "$file" >"$log.log$GUEST" 2>&1 </dev/null
    status=$(joint $? "$log")
    [ "$GUEST" = 0 ] || return
    case $status in
    0)
        passed=$((passed + 1))
        echo "ok $name ($((SECONDS - start)) s)"
        sed -n 's/^figure: /     /p' "$log".log?
        ;;
    77)
        skipped=$((skipped + 1))
        echo "skip $name ($((SECONDS - start)) s)"
        cat "$log".log? | sed -n 's/^skipped: /     /p' | head -n 1
        ;;
    *)
        failed=$((failed + 1))
        [ "$status" != 124 ] || status="time limit"
        echo "FAIL $name ($((SECONDS - start)) s): $status"
        tail -n 40 "$log".log? | sed 's/^/     /'
        ;;
    esac
}

rm -f "$results"/*.status"$GUEST"
barrier cases-begin
for file in "$folder"/[0-9]*.sh; do
    [[ $file != *"$only"* ]] || run_case "$file"
done
if [ "$GUEST" = 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ]
