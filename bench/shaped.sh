#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a job on "hosts" whose links have a given rate: network namespaces joined
# by a bridge, with a token bucket (tbf) at both ends of every link.
#
# Needs root and iproute2. Everything it made is removed at the end, however it
# ends. See docs/bench.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bench/shaped.sh [options] RATE -- CMD [ARGUMENT ...]

Starts M shards (`gradpush server`) and W copies of CMD as workers, each on a
host of its own, with the GRADPUSH_ variables set. RATE is per host and
direction, as tc has it: 100mbit, 1gbit, 10gbit; or a list for the hosts in turn,
shards' first: 1gbit,250mbit (the last is that of all that follow).

  --workers W     default 2
  --shards M      default W; 0: each worker hosts a shard
  --once          CMD runs once, beside the bridge, and not as workers; {netns}
                  in its arguments becomes the namespaces, shards' first
  --build DIR     build folder with bin/gradpush (default: build, build/*)
  --timeout S     ends everything after S seconds (default 600)
  --help

Example: bench/shaped.sh --workers 4 --shards 4 1gbit -- \
             build/bin/gradpush-train --data mnist/ --codec q8
         bench/shaped.sh --once 1gbit -- \
             build/bin/gradpush bench pushpull --netns {netns} -b 64M -e 64M
TEXT
}

say() { echo "shaped.sh: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

top=$(dirname "$(cd "$(dirname "$0")" && pwd)")
# shellcheck source=common.sh
. "$top/bench/common.sh"
workers=2
shards=
build=
timeout=600
once=

while [ $# -gt 0 ]; do
    case $1 in
    --workers | --shards | --build | --timeout)
        [ $# -ge 2 ] || die "$1 needs a value; see --help" 2
        case $1 in
        --workers) workers=$2 ;;
        --shards) shards=$2 ;;
        --build) build=$2 ;;
        --timeout) timeout=$2 ;;
        esac
        shift 2 ;;
    --once) once=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    --) break ;;
    -*) die "unknown option '$1'; see --help" 2 ;;
    *) break ;;
    esac
done
IFS=, read -r -a rates <<<"${1:-}"
bits_of() { # RATE: sets bits
    [[ $1 =~ ^([1-9][0-9]*)([kmg])bit$ ]] ||
        die "RATE is '$1': it takes a number with kbit, mbit or gbit" 2
    bits=${BASH_REMATCH[1]}
    case ${BASH_REMATCH[2]} in
    k) bits=$((bits * 1000)) ;;
    m) bits=$((bits * 1000000)) ;;
    g) bits=$((bits * 1000000000)) ;;
    esac
}
[ ${#rates[@]} -gt 0 ] || rates=("")
for rate in "${rates[@]}"; do
    bits_of "$rate"
done
shift
[ "${1:-}" = -- ] && shift
[ $# -gt 0 ] || die "no command; see --help" 2
shards=${shards:-$workers}
[[ $workers =~ ^[1-9][0-9]?$ ]] ||
    die "--workers is '$workers': it takes 1 to 99" 2
[[ $shards =~ ^(0|[1-9][0-9]?)$ ]] ||
    die "--shards is '$shards': it takes 0 to 99" 2
[[ $timeout =~ ^[1-9][0-9]*$ ]] ||
    die "--timeout is '$timeout': it takes seconds" 2

[ "$(id -u)" = 0 ] || die "network namespaces need root; run it with sudo"
for tool in ip tc; do
    command -v "$tool" >/dev/null ||
        die "no $tool here; on Debian: apt-get install iproute2"
done
find_program gradpush
gradpush=$program

# --- the network ------------------------------------------------------------
name=gps$$
net=10.$((100 + $$ % 100)).$(($$ / 100 % 250))
hub=$name-hub
spaces=()
children=()
cleanup() {
    trap '' INT TERM
    for pid in "${children[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for space in "$hub" "${spaces[@]}"; do
        # Whatever a command has left running in there.
        for pid in $(ip netns pids "$space" 2>/dev/null); do
            kill -KILL "$pid" 2>/dev/null || true
        done
        ip netns del "$space" 2>/dev/null || true
    done
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A bucket of a millisecond, and of one large segment at least.
shape() { # NAMESPACE DEVICE RATE
    local bits burst
    bits_of "$3"
    burst=$((bits / 8000))
    [ "$burst" -ge 65536 ] || burst=65536
    ip netns exec "$1" tc qdisc add dev "$2" root tbf rate "$3" \
        burst "$burst" latency 50ms
}
add_host() { # INDEX
    local space=$name-$1 rate=${rates[$1]:-${rates[-1]}}
    spaces+=("$space")
    ip netns add "$space"
    ip link add "h$1" netns "$space" type veth peer name "p$1" netns "$hub"
    ip -n "$space" addr add "$net.$(($1 + 1))/24" dev "h$1"
    ip -n "$space" link set lo up
    ip -n "$space" link set "h$1" up
    ip -n "$hub" link set "p$1" master bridge up
    shape "$space" "h$1" "$rate"
    shape "$hub" "p$1" "$rate"
}
make_network() {
    local i
    ip netns add "$hub"
    ip -n "$hub" link set lo up
    ip -n "$hub" link add bridge type bridge
    ip -n "$hub" addr add "$net.254/24" dev bridge
    ip -n "$hub" link set bridge up
    for i in $(seq 0 $((shards + workers - 1))); do
        add_host "$i"
    done
}
make_network || die "this system cannot make the network"

# --- the job ----------------------------------------------------------------
export GRADPUSH_SIZE=$workers
export GRADPUSH_SHARDS=$shards
export GRADPUSH_JOB=shaped-$$
export GRADPUSH_STORE=$net.$((shards + 1)):4700
if [ "$shards" = 0 ]; then
    export GRADPUSH_SHARDS=$workers GRADPUSH_COLOCATED=on
fi
start() { # HOST COMMAND...
    local space=$name-$1 address=$net.$(($1 + 1))
    shift
    ip netns exec "$space" env GRADPUSH_LISTEN="$address:0" "$@" </dev/null &
    children+=($!)
}
start_job() {
    local i
    for i in $(seq 0 $((shards - 1))); do
        start "$i" "$gradpush" server --quiet
    done
    for i in $(seq 0 $((workers - 1))); do
        start $((shards + i)) GRADPUSH_RANK="$i" "$@"
    done
}
start_once() {
    local names argument arguments=()
    names=$(IFS=,; echo "${spaces[*]}")
    for argument in "$@"; do
        arguments+=("${argument//\{netns\}/$names}")
    done
    unset GRADPUSH_SIZE GRADPUSH_SHARDS GRADPUSH_STORE GRADPUSH_COLOCATED
    unset GRADPUSH_JOB
    ip netns exec "$hub" "${arguments[@]}" </dev/null &
    children+=($!)
}
if [ -n "$once" ]; then
    start_once "$@"
else
    start_job "$@"
fi
# Looks at each child again and again: bash's wait for any of them misses one
# that ends in the moment in which it begins.
exec {nothing}<> <(:) # to read from it is to rest, without a process
end=$((SECONDS + timeout))
worst=0
trap 'worst=130' INT # to exit within a read would leave its alarm behind
trap 'worst=143' TERM
ended() { ! kill -0 "$1" 2>/dev/null; }
take_ended() {
    local i status
    for i in "${!children[@]}"; do
        ended "${children[i]}" || continue
        status=0
        wait "${children[i]}" || status=$?
        if [ "$status" != 0 ]; then
            worst=$status
            say "process ${children[i]} ended with status $status"
        fi
        unset "children[i]"
    done
}

# The first that fails ends all; so does the clock.
while [ ${#children[@]} -gt 0 ] && [ "$worst" = 0 ]; do
    [ "$SECONDS" -le "$end" ] || die "not done after $timeout seconds"
    read -r -t 0.02 -u "$nothing" || true
    take_ended
done
exit "$worst"
