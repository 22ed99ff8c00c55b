#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures gradpush beside Open MPI, Gloo (PyTorch) and iperf3 on this machine.
#
# Every round runs each program once, so that a machine that becomes slower
# hits all of them; the table has medians over rounds. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/compare.sh [options]

Prints gradpush's push+pull of two co-located workers and its all-reduce of two
workers, over TCP, beside Open MPI (tcp, and shared memory for information) and
Gloo, and its transport beside iperf3. Writes compare.json and compare.svg into
bench/out. Missing programs
are installed by apt-get when run as root.

  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --rounds N      rounds (default 4)
  --quick         2 rounds of fewer iterations: about a minute
  --sizes LIST    bytes:iterations ... in quotes, instead of 4 KiB to 64 MiB
  --store NAME    also copy the results to bench/results/NAME.json and .svg
  --no-install    use what is there
  --help

Example: bench/compare.sh --build build/release --store my-machine
TEXT
}

say() { echo "compare.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
# shellcheck source=common.sh
. "$here/common.sh"
out=$here/out
build=
rounds=4
sizes="4096:1000 65536:500 1048576:200 16777216:15 67108864:5"
stream_count=2000
stream_seconds=2
install=yes
store=

while [ $# -gt 0 ]; do
    case $1 in
    --build | --rounds | --sizes | --store)
        [ $# -ge 2 ] || { say "$1 needs a value; see --help"; exit 2; }
        case $1 in
        --build) build=$2 ;;
        --rounds) rounds=$2 ;;
        --sizes) sizes=$2 ;;
        --store) store=$2 ;;
        esac
        shift 2 ;;
    --quick)
        rounds=2
        sizes="4096:300 65536:200 1048576:60 16777216:6 67108864:3"
        stream_count=1000
        stream_seconds=1
        shift ;;
    --no-install) install=no; shift ;;
    --help | -h) usage; exit 0 ;;
    *) say "unknown option '$1'; see --help"; exit 2 ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] ||
    die "--rounds is '$rounds': it takes a whole number" 2
for item in $sizes; do
    [[ $item =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] ||
        die "--sizes has '$item': it takes bytes:iterations" 2
done

# --- programs ---------------------------------------------------------------
# The python that has torch: not always the first one in PATH.
find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -c 'import torch.distributed' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}
install_missing() {
    local packages=()
    command -v mpicc >/dev/null || packages+=(openmpi-bin libopenmpi-dev)
    command -v mpirun >/dev/null || packages+=(openmpi-bin)
    command -v iperf3 >/dev/null || packages+=(iperf3)
    command -v gnuplot >/dev/null || packages+=(gnuplot-nox)
    [ -n "$(find_python)" ] || packages+=(python3-torch)
    [ ${#packages[@]} -gt 0 ] || return 0
    if [ "$install" = yes ] && [ "$(id -u)" = 0 ] &&
        command -v apt-get >/dev/null; then
        say "installing ${packages[*]}"
        DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq "${packages[@]}" >&2 ||
            say "could not install all of ${packages[*]}; going on without"
    else
        say "missing, their columns stay empty: ${packages[*]}"
    fi
}

find_program gradpush
gradpush=$program
install_missing
python=$(find_python)
mkdir -p "$out"
raw=$out/compare.raw
: >"$raw"
mpi=
if command -v mpicc >/dev/null && command -v mpirun >/dev/null; then
    mpicc -O2 -o "$out/mpi_allreduce" "$here/mpi_allreduce.c" ||
        die "mpi_allreduce.c does not compile"
    mpi=mpirun
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1

# --- one run of each; lines "round who bytes iterations median p99 min errors"
record() { # ROUND WHO, reads result lines
    awk -v round="$1" -v who="$2" \
        'NF == 6 && $1 + 0 > 0 { print round, who, $0 }' >>"$raw"
}
run_gradpush() {
    local item size count
    for item in $sizes; do
        size=${item%:*} count=${item#*:}
        timeout 120 "$gradpush" bench pushpull --workers 2 --colocated \
            --transport tcp -b "$size" -e "$size" -n "$count" -w 5 |
            awk '!/^#/ { print $1, $3, $4, $5, $6, $10 }' | record "$1" gradpush ||
            die "gradpush bench pushpull failed at $size bytes"
    done
}
run_allreduce() {
    local item size count
    for item in $sizes; do
        size=${item%:*} count=${item#*:}
        timeout 120 "$gradpush" bench allreduce --workers 2 --transport tcp \
            -b "$size" -e "$size" -n "$count" -w 5 |
            awk '!/^#/ { print $1, 1, $7, $8, $9, $13 }' |
            record "$1" allreduce ||
            die "gradpush bench allreduce failed at $size bytes"
    done
}
run_mpi() { # ROUND WHO BTL
    [ -n "$mpi" ] || return 0
    # shellcheck disable=SC2086
    timeout 120 mpirun -n 2 --mca btl "$3,self" "$out/mpi_allreduce" $sizes \
        </dev/null 2> >(grep -v "Forwarding signal" >&2) |
        record "$1" "$2" ||
        say "Open MPI over $3 failed in round $1"
}
run_gloo() {
    [ -n "$python" ] || return 0
    # shellcheck disable=SC2086
    timeout 180 "$python" "$here/gloo_allreduce.py" $sizes |
        record "$1" gloo ||
        say "Gloo failed in round $1"
}
free_port() {
    local port
    for port in $(seq 5211 5260); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}
run_iperf() {
    command -v iperf3 >/dev/null || return 0
    local port server tries=0 text=
    port=$(free_port)
    iperf3 -s -1 -p "$port" >/dev/null 2>&1 &
    server=$!
    # The server may need a moment to listen.
    until text=$(timeout $((stream_seconds + 10)) iperf3 -c 127.0.0.1 \
        -p "$port" -t "$stream_seconds" -f m 2>/dev/null); do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || break
        sleep 0.05
    done
    awk -v round="$1" '/receiver/ {
        for (i = 2; i <= NF; i++)
            if ($i == "Mbits/sec")
                print round, "iperf3-bw", 0, 1, $(i - 1) / 8000, 0, 0, 0
    }' <<<"$text" >>"$raw"
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
}
run_transport() {
    timeout 120 "$gradpush" bench transport --test bw --transport tcp \
        -b 1M -e 1M -n "$stream_count" |
        awk -v round="$1" '!/^#/ {
            print round, "gradpush-bw", $1, $2, $3, $7, $8, $9
        }' >>"$raw" || die "gradpush bench transport failed"
}

for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    run_gradpush "$round"
    run_allreduce "$round"
    run_mpi "$round" mpi-tcp tcp
    run_mpi "$round" mpi-shm vader
    run_gloo "$round"
    run_iperf "$round"
    run_transport "$round"
done

python3 "$here/report.py" "$raw" "$out" --gradpush "$gradpush" --rounds "$rounds"
if command -v gnuplot >/dev/null; then
    gnuplot "$out/compare.gnuplot" && say "plot: $out/compare.svg"
fi
say "results: $out/compare.json"
if [ -n "$store" ]; then
    mkdir -p "$here/results"
    cp "$out/compare.json" "$here/results/$store.json"
    if [ -f "$out/compare.svg" ]; then
        cp "$out/compare.svg" "$here/results/$store.svg"
    fi
    say "stored: bench/results/$store.json"
fi
