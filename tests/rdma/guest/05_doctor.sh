# SPDX-License-Identifier: Apache-2.0
# gradpush doctor on a real device: sound at first, and what it says about
# faults that can be made here.
# timeout: 90
. "$LAB_LIB"
export PATH=$BUILD_DIR/bin:$PATH

# doctor WHAT STATUS PATTERN OPTION...: the status, and a line that matches.
doctor() {
    local what=$1 expected=$2 pattern=$3 status=0
    shift 3
    within 60 gradpush doctor "$@" >/tmp/doctor 2>&1 || status=$?
    [ "$status" = "$expected" ] && grep -qE "$pattern" /tmp/doctor ||
        fail "$what: status $status, not $expected with '$pattern': $(
            cat /tmp/doctor)"
}
gradpush info --devices | grep -q 'rxe0 port 1: ACTIVE' ||
    fail "gradpush info: $(gradpush info --devices)"
doctor "a sound device" 0 '^ok +loopback.write rxe0:1' --only rdma \
    --only ports --only limits --only loopback

ip link set v0 mtu 1500
small() { ibv_devinfo -d rxe0 | grep -q 'active_mtu:.*1024'; }
until_true 20 small || fail "the MTU does not follow"
doctor "a small MTU" 0 '^warn +ports.mtu rxe0:1' --only ports
grep -q 'fix: ip link set' /tmp/doctor || fail "no fix: $(cat /tmp/doctor)"
ip link set v0 mtu 4200

ip link set v0 down
doctor "a port that is down" 1 '^fail +ports.link rxe0:1' --only ports
ip link set v0 up
up() { rdma link show rxe0/1 | grep -q 'state ACTIVE'; }
until_true 20 up || fail "rxe0 does not come back"

mv /dev/infiniband/rdma_cm /dev/infiniband/away
doctor "no rdma_cm" 1 '^fail +rdma.node' --only rdma
mv /dev/infiniband/away /dev/infiniband/rdma_cm
doctor "afterwards" 0 '^ok +loopback.write rxe0:1' --only loopback
