#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures gradpush between two machines, beside perftest, iperf3 and
# nccl-tests where they are installed.
#
# Programs take turns in every round, so that a network that becomes slower
# hits all of them; figures are medians over rounds. See docs/cluster.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/cluster.sh [options]

Runs `gradpush bench transport` between two machines for each transport, for
rates and for latencies, and beside it, in the same rounds and at the same
sizes, ib_write_bw, ib_write_lat and ib_send_lat (perftest), iperf3, and
sendrecv_perf and all_reduce_perf (nccl-tests). Examines both machines before
and after, and reports which counters of RDMA ports grew. Writes cluster.json
and plots into bench/out.

  --launcher L      srun, mpirun, ssh or local; left out: srun inside a Slurm
                    allocation, ssh with --hosts, else local
  --local           the same as --launcher local: both ends on this machine
  --hosts A,B       server and client; under Slurm the first two of the job
  --address ADDR    of the server, as the client reaches it; left out: that of
                    its first RDMA port, else its first address
  --transports LIST in quotes (default: verbs and tcp, those that are usable)
  --sizes MIN:MAX:FACTOR
                    bytes with K, M or G (default 64:64M:4)
  --rounds N        (default 3)
  --quick           1 round of fewer iterations
  --ib-dev DEV[:PORT]
                    for gradpush and perftest (default: what they choose)
  --qps N           queue pairs, of tcp sockets (default 1)
  --build DIR       build folder with bin/gradpush, the same path on both
                    machines (default: build, build/*)
  --nccl DIR        folder of the nccl-tests programs (default: PATH)
  --no-perftest, --no-iperf, --no-nccl
  --out DIR         for results, instead of bench/out
  --store NAME      also copy the results to bench/results/NAME.json and .svg
  --help

Example: salloc -N 2 bench/cluster.sh --store two-nodes
TEXT
}

say() { echo "cluster.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
out=$here/out
launcher='' hosts='' address='' transports='' build='' ib_dev='' store=''
sizes=64:64M:4 rounds=3 qps=1 quick=no nccl=''
perftest=yes iperf=yes use_nccl=yes

while [ $# -gt 0 ]; do
    case $1 in
    --launcher | --hosts | --address | --transports | --sizes | --rounds | \
        --ib-dev | --qps | --build | --nccl | --out | --store)
        [ $# -ge 2 ] || { say "$1 needs a value; see --help"; exit 2; }
        name=${1#--}
        printf -v "${name//-/_}" '%s' "$2"
        shift 2 ;;
    --local) launcher=local; shift ;;
    --quick) quick=yes rounds=1; shift ;;
    --no-perftest) perftest=no; shift ;;
    --no-iperf) iperf=no; shift ;;
    --no-nccl) use_nccl=no; shift ;;
    --help | -h) usage; exit 0 ;;
    *) say "unknown option '$1'; see --help"; exit 2 ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] ||
    die "--rounds is '$rounds': it takes a whole number" 2
[[ $qps =~ ^[1-9][0-9]*$ ]] || die "--qps is '$qps': it takes a whole number" 2

# number TEXT: bytes.
number() {
    local digits=${1%[KMG]}
    [[ $digits =~ ^[1-9][0-9]*$ ]] || die "--sizes has '$1': it takes bytes" 2
    case $1 in
    *K) echo $((digits << 10)) ;;
    *M) echo $((digits << 20)) ;;
    *G) echo $((digits << 30)) ;;
    *) echo "$digits" ;;
    esac
}
IFS=: read -r least most factor <<<"$sizes"
most=${most:-$least} factor=${factor:-4}
least=$(number "$least") || exit
most=$(number "$most") || exit
[[ $factor =~ ^[1-9][0-9]*$ && $factor -ge 2 ]] ||
    die "--sizes: the factor is a whole number from 2" 2
[ "$least" -le "$most" ] || die "--sizes: the first is more than the second" 2

# --- where things run --------------------------------------------------------
if [ -z "$launcher" ]; then
    if [ -n "${SLURM_JOB_ID:-}" ] && command -v srun >/dev/null; then
        launcher=srun
    elif [ -n "$hosts" ]; then
        launcher=ssh
    else
        launcher=local
    fi
fi
case $launcher in
local) hosts=localhost,localhost ;;
srun)
    if [ -z "$hosts" ]; then
        [ -n "${SLURM_JOB_NODELIST:-}" ] ||
            die "no Slurm allocation: run it inside salloc -N 2, or --hosts"
        hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1,2p |
            paste -sd,)
    fi ;;
mpirun | ssh)
    [ -n "$hosts" ] || die "--launcher $launcher needs --hosts SERVER,CLIENT" 2 ;;
*) die "--launcher is '$launcher': it takes srun, mpirun, ssh or local" 2 ;;
esac
server=${hosts%%,*} client=${hosts#*,}
[[ $hosts == *,* && -n $server && -n $client ]] ||
    die "two machines are needed, as --hosts A,B; there is '$hosts'" 2

# What the environment says about gradpush and NCCL goes along.
settings=()
while IFS= read -r -d '' item; do
    case $item in
    GRADPUSH_* | NCCL_*) settings+=("$item") ;;
    esac
done < <(env -0)

# on HOST SECONDS COMMAND...: runs it there, ended after so long. Signals reach
# the launcher itself in a background job that sets replace=exec.
replace=
on() {
    local host=$1 seconds=$2 line
    shift 2
    printf -v line '%q ' env ${settings[@]+"${settings[@]}"} \
        timeout -k 5 "$seconds" "$@"
    case $launcher in
    local) $replace bash -c "$line" </dev/null ;;
    ssh)
        $replace ssh -o BatchMode=yes -o ConnectTimeout=10 "$host" "$line" \
            </dev/null ;;
    srun)
        $replace srun --overlap -N 1 -n 1 -w "$host" bash -c "$line" \
            </dev/null ;;
    mpirun)
        $replace mpirun -n 1 --host "$host" bash -c "$line" </dev/null ;;
    esac
}
has() { on "$1" 30 bash -c "command -v $2" >/dev/null 2>&1; }
both_have() {
    if ! has "$server" "$1"; then
        return 1
    fi
    [ "$launcher" = local ] || has "$client" "$1"
}

find_gradpush() {
    local folder
    for folder in ${build:+"$build"} "$top/build" "$top"/build/* "$top"/build-*; do
        if [ -x "$folder/bin/gradpush" ]; then
            echo "$(cd "$folder" && pwd)/bin/gradpush"
            return
        fi
    done
    die "no bin/gradpush: build first, see docs/build.md, or give --build DIR"
}
gradpush=$(find_gradpush)
raw=$out/cluster.raw
rm -rf "$raw"
mkdir -p "$raw"
for host in "$server" "$client"; do
    on "$host" 60 "$gradpush" --version >/dev/null ||
        die "$gradpush does not run on $host: it must be at the same path there"
done

# --- what there is -----------------------------------------------------------
# The first RDMA port with an address, and failing that the first address.
from_doctor() { # HOST FILE
    python3 - "$raw/doctor-$1-before.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    checks = json.load(file)["checks"]
for check in checks:
    if check["name"] == "ports.address" and check["status"] == "ok":
        print(check["values"]["address"])
        break
PYTHON
}
examine() { # WHEN
    local host
    for host in server client; do
        # Exit status 1 says that a check failed; the document says which.
        on "${!host}" 120 "$gradpush" doctor --json - \
            >"$raw/doctor-$host-$1.json" 2>/dev/null || true
        [ -s "$raw/doctor-$host-$1.json" ] ||
            die "gradpush doctor says nothing on ${!host}"
        [ "$launcher" != local ] || {
            cp "$raw/doctor-server-$1.json" "$raw/doctor-client-$1.json"
            break
        }
    done
}
examine before
rdma_address=$(from_doctor server)
if [ -z "$address" ]; then
    address=$rdma_address
    if [ -z "$address" ] && [ "$launcher" = local ]; then
        address=127.0.0.1
    elif [ -z "$address" ]; then
        address=$(on "$server" 30 hostname -I | awk '{ print $1 }')
    fi
fi
[ -n "$address" ] || die "no address of $server: give --address"
case $address in
*:*) in_url=[$address] ;;
*) in_url=$address ;;
esac

usable() { # TRANSPORT
    local host
    for host in "$server" "$client"; do
        on "$host" 60 "$gradpush" info --transports 2>/dev/null |
            awk -v name="$1" '$1 == name && $2 == "yes" { found = 1 }
                END { exit !found }' || return 1
    done
}
if [ -z "$transports" ]; then
    for name in verbs tcp; do
        if usable "$name"; then
            transports="$transports $name"
        else
            say "transport $name is not usable on both machines: left out"
        fi
    done
fi
if [ "$perftest" = yes ]; then
    if [ -z "$rdma_address" ]; then
        say "no RDMA port: perftest is left out"
        perftest=no
    elif ! both_have ib_write_bw; then
        say "ib_write_bw is not installed (package perftest): left out"
        perftest=no
    fi
fi
if [ "$iperf" = yes ] && ! both_have iperf3; then
    say "iperf3 is not installed: left out"
    iperf=no
fi
if [ "$use_nccl" = yes ]; then
    if [ "$launcher" = local ] || [ "$launcher" = ssh ]; then
        use_nccl=no # its two ranks are started by srun or mpirun
    elif ! both_have "${nccl:+$nccl/}all_reduce_perf"; then
        say "nccl-tests are not installed: left out"
        use_nccl=no
    fi
fi

# --- one run of each ---------------------------------------------------------
next_port=$((20000 + RANDOM % 10000))
limit=300
peer=
stop_peer() {
    if [ -n "$peer" ]; then
        kill "$peer" 2>/dev/null || true
        wait "$peer" 2>/dev/null || true
        peer=
    fi
}
trap stop_peer EXIT

# as_server COMMAND...: in the background, its words into server.log.
as_server() {
    (
        replace='exec'
        on "$server" "$limit" "$@"
    ) >"$raw/server.log" 2>&1 &
    peer=$!
}
iterations() { # BYTES
    local total=$((256 << 20)) low=10 high=1000 count
    [ "$quick" = no ] || { total=$((16 << 20)) low=8 high=200; }
    count=$((total / $1))
    [ "$count" -ge "$low" ] || count=$low
    [ "$count" -le "$high" ] || count=$high
    echo "$count"
}
all_sizes() {
    local size=$least
    while [ "$size" -le "$most" ]; do
        echo "$size"
        size=$((size * factor))
    done
}
device=()
[ -z "$ib_dev" ] || {
    device=(-d "${ib_dev%%:*}")
    [[ $ib_dev != *:* ]] || device+=(-i "${ib_dev#*:}")
}
run_gradpush() { # ROUND TRANSPORT TEST
    local file=$raw/gradpush-$2-$3-$1.json options=(--transport "$2" -q "$qps")
    local counts=()
    [ "$2" != verbs ] || options+=(${device[@]+"${device[@]}"})
    [ "$quick" = no ] || counts=(-n 50)
    next_port=$((next_port + 1))
    as_server "$gradpush" bench transport "${options[@]}" \
        --listen "$in_url:$next_port"
    if ! on "$client" "$limit" "$gradpush" bench transport "${options[@]}" \
        --connect "$in_url:$next_port" --test "$3" -b "$least" -e "$most" \
        -f "$factor" ${counts[@]+"${counts[@]}"} --json - >"$file"; then
        rm -f "$file"
        say "gradpush over $2 ($3) failed in round $1; its server said:"
        tail -n 3 "$raw/server.log" >&2
        failed=yes
    fi
    stop_peer
}
# perftest's client does not wait for its server: it is tried again.
run_perftest() { # ROUND PROGRAM
    local size tries options
    both_have "$2" || return 0
    for size in $(all_sizes); do
        options=(-R -F --report_gbits -s "$size" -n "$(iterations "$size")")
        options+=(${device[@]+"${device[@]}"})
        case $2 in
        *_bw) options+=(-q "$qps") ;;
        esac
        next_port=$((next_port + 1)) tries=0
        as_server "$2" "${options[@]}" -p "$next_port"
        until on "$client" "$limit" "$2" "${options[@]}" -p "$next_port" \
            "$address" >"$raw/client.log" 2>&1; do
            tries=$((tries + 1))
            if [ "$tries" -ge 20 ]; then
                say "$2 failed at $size bytes in round $1:"
                tail -n 3 "$raw/client.log" >&2
                break
            fi
            sleep 0.1
        done
        stop_peer
        awk -v size="$size" '$1 == size && NF >= 5' "$raw/client.log" \
            >>"$raw/$2-$1.txt"
    done
}
run_iperf() { # ROUND
    local seconds=3 tries=0
    [ "$quick" = no ] || seconds=1
    next_port=$((next_port + 1))
    as_server iperf3 -s -1 -p "$next_port"
    # With --json its exit status says nothing.
    until on "$client" 60 iperf3 -c "$address" -p "$next_port" -t "$seconds" \
        -P "$qps" --json >"$raw/iperf3-$1.json" 2>/dev/null &&
        grep -q sum_received "$raw/iperf3-$1.json"; do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || { rm -f "$raw/iperf3-$1.json"; break; }
        sleep 0.1
    done
    stop_peer
}
run_nccl() { # ROUND PROGRAM
    local ranks=("${nccl:+$nccl/}$2" -b "$least" -e "$most" -f "$factor" -g 1)
    case $launcher in
    srun) srun --overlap -N 2 -n 2 --ntasks-per-node=1 -w "$hosts" \
        "${ranks[@]}" ;;
    mpirun) mpirun -n 2 --host "$hosts" "${ranks[@]}" ;;
    esac >"$raw/$2-$1.txt" 2>"$raw/client.log" </dev/null ||
        say "$2 failed in round $1: $(tail -n 1 "$raw/client.log")"
}

failed=no
for round in $(seq "$rounds"); do
    say "round $round of $rounds, $server to $client at $address"
    for name in $transports; do
        run_gradpush "$round" "$name" bw
        run_gradpush "$round" "$name" lat
    done
    if [ "$perftest" = yes ]; then
        for program in ib_write_bw ib_write_lat ib_send_lat; do
            run_perftest "$round" "$program"
        done
    fi
    [ "$iperf" = no ] || run_iperf "$round"
    if [ "$use_nccl" = yes ]; then
        for program in sendrecv_perf all_reduce_perf; do
            run_nccl "$round" "$program"
        done
    fi
done
examine after

python3 -B "$here/cluster.py" "$raw" "$out" --launcher "$launcher" \
    --server "$server" --client "$client" --address "$address" \
    --rounds "$rounds" --qps "$qps"
if command -v gnuplot >/dev/null; then
    gnuplot "$out/cluster.gnuplot" &&
        say "plots: $out/cluster-bw.svg, $out/cluster-lat.svg"
fi
say "results: $out/cluster.json"
if [ -n "$store" ]; then
    mkdir -p "$here/results"
    cp "$out/cluster.json" "$here/results/$store.json"
    for kind in bw lat; do
        [ ! -f "$out/cluster-$kind.svg" ] ||
            cp "$out/cluster-$kind.svg" "$here/results/$store-$kind.svg"
    done
    say "stored: bench/results/$store.json"
fi
[ "$failed" = no ] || die "a run of gradpush failed"
