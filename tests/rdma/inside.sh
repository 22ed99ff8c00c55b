#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# inside.sh - runs in the guest: network, device and environment, then COMMAND.
# /run/lab has the settings; all other files are those of the host.
set -u
. /run/lab/settings
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$HOST_PATH
export HOME=/tmp LANG=C.UTF-8 TERM=dumb
export SOURCE_DIR BUILD_DIR OUT GUEST GUESTS LAB_SLOW LAB_ROUNDS

fail() {
    echo "lab: $*"
    exit 125
}
# until_true WHAT COMMAND...: polls for up to a minute.
until_true() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "$what"
        sleep 0.02
    done
}

hostname "lab$GUEST"
printf '127.0.0.1 localhost\n10.77.0.1 lab0\n10.77.0.2 lab1\n' >/run/hosts
mount --bind /run/hosts /etc/hosts

# A RoCE MTU of 4096 needs a link with room for the headers.
SELF=10.77.0.$((GUEST + 1))
PEER=10.77.0.$((2 - GUEST))
device=eth0
ip link set lo up
if [ "$GUESTS" = 1 ]; then
    PEER=$SELF
    device=v0
    ip link add v0 type veth peer name v1
    ip link set v1 mtu 4200 up
fi
ip link set "$device" mtu 4200 up || fail "no network device $device"
ip addr add "$SELF/24" dev "$device"
rdma link add rxe0 type rxe netdev "$device" || fail "no soft-RoCE device"

# On a busy host the kernel may measure the processor's counter wrongly at boot,
# several times too slow even, and all limits of time with it. The hardware clock
# is the host's: for a few of its seconds both are compared.
second() { cat /sys/class/rtc/rtc0/since_epoch; }
check_clock() {
    local seconds=4 start from took
    start=$(second) || return
    until [ "$(second)" != "$start" ]; do sleep 0.02; done
    start=$(second)
    read -r from _ </proc/uptime
    until [ "$(second)" -ge $((start + seconds)) ]; do sleep 0.02; done
    read -r took _ </proc/uptime
    took=$((10#${took/./} - 10#${from/./})) # in hundredths
    [ "$took" -lt $((seconds * 80)) ] || [ "$took" -gt $((seconds * 125)) ] ||
        return
    echo hpet >/sys/devices/system/clocksource/clocksource0/current_clocksource
    echo "lab: $seconds s took $((took / 100)) s by the guest's clock; it has another one"
}
check_clock &

ready() {
    rdma link show rxe0/1 | grep -q 'state ACTIVE' &&
        grep -qix "0000:0000:0000:0000:0000:ffff:0a4d:000$((GUEST + 1))" \
            /sys/class/infiniband/rxe0/ports/1/gids/* 2>/dev/null
}
until_true "rxe0 does not come up: $(rdma link)" ready
export SELF PEER RDMA_ADDR=$SELF NETDEV=$device
ulimit -l unlimited
ulimit -c 0
ulimit -n "$(ulimit -H -n)"
cd "$DIRECTORY" 2>/dev/null || cd "$SOURCE_DIR" || fail "no $SOURCE_DIR"
bash /run/lab/command
