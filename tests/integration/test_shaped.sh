#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Jobs over shaped links: they run, and nothing of the network is left behind,
# however the job ends. Nothing here judges speed.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"
shaped=../bench/shaped.sh
build=${gradpush%/bin/gradpush}
pids=$work/pids

# shape WHAT STATUS ARGUMENT...
shape() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    timeout 120 sh -c 'echo $$ >>"$0"; exec "$@"' "$pids" \
        "$shaped" --build "$build" "$@" >"$out" 2>"$err" </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
shape "no rate" 2 -- true
says "no rate" "$err" "RATE is"
shape "a rate in bytes" 2 10MB -- true
says "a rate in bytes" "$err" "'10MB'"
shape "no command" 2 1gbit
says "no command" "$err" "no command"
shape "an unknown option" 2 --hosts 3 1gbit -- true
says "an unknown option" "$err" "--hosts"

probe=gp-probe-$$
if [ "$(id -u)" != 0 ] || ! ip netns add "$probe" 2>/dev/null; then
    echo "  skipped: no network namespaces for this user"
    finish
fi
ip link add gpp$$ type veth peer name gpq$$ netns "$probe" 2>/dev/null &&
    tc qdisc add dev gpp$$ root tbf rate 1gbit burst 65536 latency 50ms \
        2>/dev/null
works=$?
ip link del gpp$$ 2>/dev/null
ip netns del "$probe"
if [ "$works" != 0 ]; then
    echo "  skipped: this kernel has no veth or no tbf"
    finish
fi

# Namespaces are named after the process of shaped.sh; others may run it too.
left() {
    local pid
    while read -r pid; do
        ip netns list | grep "^gps$pid-"
    done <"$pids"
}
shape "push and pull" 0 --once 1gbit -- "$gradpush" bench pushpull \
    --netns '{netns}' -b 64K -e 64K -n 3 -w 1
equals "push and pull: rows" "$(grep -vc '^#' "$out")" 1
equals "push and pull: wrong" "$(awk '!/^#/ { print $NF }' "$out")" 0
# Weights by what links give: here 4 to 1, whichever shard came first. A link is
# measured for less time than a machine may stand still.
most=0.4
[ -z "${SANITIZE:-}" ] || most=0.75 # it does not fill the faster one
are_measured() {
    sed -n 's/.*weights of shards: //p' "$err" |
        awk -F, -v most=$most '{ r = $1 > $2 ? $2 / $1 : $1 / $2 }
            END { exit !(r > 0.15 && r < most) }'
}
for _ in 1 2 3 4 5 6; do
    GRADPUSH_SHARD_WEIGHTS=measured GRADPUSH_LOG=info \
        shape "measured weights" 0 --once 400mbit,100mbit,1gbit -- \
        "$gradpush" bench pushpull --netns '{netns}' -b 1M -e 1M -n 3 -w 1
    equals "measured weights: wrong" "$(awk '!/^#/ { print $NF }' "$out")" 0
    are_measured && break
done
checks=$((checks + 1))
are_measured || fail "measured weights: not 4 to 1"
sed -n 's/.*info.*link of shard/  link of shard/p' "$err"
shape "workers that fail" 3 --workers 2 --shards 1 100mbit -- sh -c 'exit 3'
says "workers that fail" "$err" "status 3"
shape "too long" 1 --workers 1 --shards 1 --timeout 1 1gbit -- sleep 60
says "too long" "$err" "after 1 seconds"
"$shaped" --build "$build" --workers 1 --shards 1 1gbit -- sleep 60 \
    >"$out" 2>"$err" </dev/null &
job=$!
echo "$job" >>"$pids"
is_up() { ip netns pids "gps$job-1" 2>/dev/null | grep -q .; }
until_true is_up
kill -TERM "$job"
wait "$job"
status=$?
equals "ended from outside" "$status" 143
trainer=${gradpush%/*}/gradpush-train
if [ -x "$trainer" ]; then
    shape "training" 0 --workers 2 --shards 1 1gbit -- "$trainer" --epochs 1 \
        --codec q8
    says "training" "$out" "2 workers"
    shape "co-located" 0 --workers 2 --shards 0 1gbit -- "$trainer" \
        --epochs 1
fi
run "a namespace that there is not" 2 bench pushpull --netns none-such -n 1 \
    --transport loop
says "a namespace that there is not" "$err" "stays within one"
equals "nothing is left" "$(left)" ""
finish
