# SPDX-License-Identifier: Apache-2.0
# test.sh - sourced by lab.sh: all cases in one guest, then those of two, then
# what is measured, in one. The last line is the sum; each case is a line
# "ok|FAIL|skip NAME (SECONDS s)".
sum=(0 0 0)

# count WORD FILE: lines that begin with it; none is no failure.
count() { grep -c "^$1 " "$2" || true; }

# cases FOLDER GUESTS SECONDS: adds to sum what the guest counted.
cases() {
    local log counts filter start=$SECONDS status=0
    compgen -G "tests/rdma/$1/*$only*.sh" >/dev/null || return 0
    guests=$2 timeout=$(($3 * slow))
    log=$(mktemp)
    # run_guests must not be in a subshell: traps belong to this one.
    exec 7> >(sed -u -e 's/^0| //' -e '/^1| /d' | tee "$log" |
        grep --line-buffered -v '^[0-9]* passed, ')
    filter=$!
    run_guests "exec bash tests/rdma/cases.sh tests/rdma/$1 ${only@Q}" >&7 ||
        status=$?
    exec 7>&-
    wait "$filter" || true
    counts=$(tail -n 1 "$log")
    if [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+) ]]; then
        sum[0]=$((sum[0] + BASH_REMATCH[1]))
        sum[1]=$((sum[1] + BASH_REMATCH[2]))
        sum[2]=$((sum[2] + BASH_REMATCH[3]))
    else
        # What ran before counts all the same.
        sum[0]=$((sum[0] + $(count ok "$log")))
        sum[1]=$((sum[1] + 1 + $(count FAIL "$log")))
        sum[2]=$((sum[2] + $(count skip "$log")))
        echo "FAIL $1: the guest did not end its cases (status $status)"
    fi
    rm -f "$log"
    echo "# $guests guest(s): $((SECONDS - start)) s"
}

prepare
: "${out:=$root/build/lab-out}"
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
cd "$root"
compgen -G "tests/rdma/[gps]*/*$only*.sh" >/dev/null ||
    wrong "--only: no case has '$only' in its name"
# Nobody is to be kept out of what a guest does: memory is not cleared a second
# time, nor are branches fenced, which takes emulated processors a quarter of
# their time. What is measured is measured with a kernel as it is shipped.
kernel_options='mitigations=off init_on_alloc=0'
# They take 5 to 6 minutes; the limits leave room for a machine that is slower.
cases guest 1 300
cases pair 2 90
kernel_options=''
cases side 1 $((60 + 60 * rounds))
echo "${sum[0]} passed, ${sum[1]} failed, ${sum[2]} skipped"
[ "${sum[1]}" = 0 ]
