#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The command line itself: help, versions, wrong usage, JSON, full disks.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

# Every command has --help with an example, and --version.
for command in run server info doctor "bench transport" "bench pushpull"; do
    # shellcheck disable=SC2086
    run "$command --help" 0 $command --help
    says "$command --help" "$out" "Usage: gradpush $command"
    says "$command --help" "$out" "Example:"
    equals "$command --help, errors" "$(cat "$err")" ""
    equals "$command --help, columns" "$(awk 'length > 80' "$out")" ""
    # shellcheck disable=SC2086
    run "$command --version" 0 $command --version
    says "$command --version" "$out" "gradpush "
done
run "--help" 0 --help
says "--help" "$out" "bench"
run "--version" 0 --version
run "bench --help" 0 bench --help
says "bench --help" "$out" "pushpull"

# Wrong usage: status 2, nothing on standard output, the nearest name.
wrong() { # TEXT ARGUMENT...
    local text=$1
    shift
    run "$*" 2 "$@"
    says "$*" "$err" "$text"
    equals "$*, output" "$(cat "$out")" ""
}
wrong "a command is missing"
wrong "did you mean 'server'" sever
wrong "'frobnicate' is not a command" frobnicate
wrong "did you mean 'pushpull'" bench pushpul
wrong "did you mean '--workers'" run --wrokers 2 -- true
wrong "unknown option '-z'" run -z
wrong "needs a value" run -w
wrong "takes no value" run --colocated=1 -- true
wrong "whole number from 1" run -w 0 -- true
wrong "whole number" run -w two -- true
wrong "command to run is missing" run -w 1
wrong "NAME=VALUE" run --env FOO -- true
wrong "not expected here" info everything
wrong "did you mean 'loopback'" doctor --only loopbck
wrong "it takes rdma" doctor --only everything
wrong "not expected here" doctor now
wrong "--shards: local_shards is '0'" server --shards 0
wrong "'here' is no address: it takes host:port" status here
wrong "no address" status 127.0.0.1:99999
wrong "--rounds is for --watch" status --rounds 3
wrong "it takes rows from 1" bench rows --rows 0
wrong "it takes GB/s from 0" bench transport --min-bw fast
wrong "takes bw or lat" bench transport --test fast
wrong "did you mean 'tcp'" bench transport --transport tpc
wrong "exclude each other" bench transport --listen :1 --connect :1
wrong "needs --ib-dev" bench transport -i 1
wrong "--gid-index" bench transport -x many
wrong "--qp" bench transport -q 0
wrong "exclude --listen and --connect" bench transport --listen :1 node1
wrong "exclude --listen and --connect" bench transport --listen :1 -p 2
wrong "not expected here" bench transport node1 node2
wrong "from 1 to 65535" bench transport -p 70000
wrong "suffix K, M or G" bench transport -b 4X
wrong "suffix K, M or G" bench transport -b 99999999999999999999
wrong "is more than --maxbytes" bench transport -b 2M -e 1M
wrong "takes a whole number from 0 to 1" bench pushpull -c 2
wrong "is not a transport" bench pushpull --transport carrier-pigeon
wrong "did you mean" bench pushpull --codec q9
wrong "it takes sum or mean" bench pushpull --updater max
wrong "--mode is 'chaos'" bench pushpull --mode chaos
wrong "--mode is 'ssp:'" bench pushpull --mode ssp:
wrong "it takes sync, async or ssp:K" bench pushpull --mode local:4
wrong "leave it out" bench pushpull --mode async --updater mean

# What a server cannot do is said of the option, or of the variable.
run "a wrong --listen" 1 server --listen 1.2.3.4.5:x
says "a wrong --listen" "$err" "gradpush server: --listen: address '1.2.3.4.5:x'"
run "a wrong --device" 1 server --device gpu
says "a wrong --device" "$err" "gradpush server: --device is 'gpu'"
GRADPUSH_LISTEN=nowhere:x run "a wrong GRADPUSH_LISTEN" 1 server --device cpu
says "a wrong GRADPUSH_LISTEN" "$err" "server: GRADPUSH_LISTEN: address 'nowhere:x'"
GRADPUSH_SHARD_DEVICE=gpu run "a wrong GRADPUSH_SHARD_DEVICE" 1 server -l :0
says "a wrong GRADPUSH_SHARD_DEVICE" "$err" "server: GRADPUSH_SHARD_DEVICE is 'gpu'"

# info: every field of the configuration, the codecs, the transports.
run "info" 0 info
for text in GRADPUSH_CHUNK_BYTES tcp q8 host launcher; do
    says "info" "$out" "$text"
done
run "info --codecs" 0 info --codecs
says "info --codecs" "$out" "q8"
says_not "info --codecs" "$out" "GRADPUSH_CHUNK_BYTES"
GRADPUSH_TOKEN=hunter2 run "info with a token" 0 info --config
says "info with a token" "$out" "(set)"
says_not "info with a token" "$out" "hunter2"
GRADPUSH_SLOTS=many run "a bad variable" 1 info --config
says "a bad variable" "$err" "GRADPUSH_SLOTS"
GRADPUSH_SLOT=4 run "an unknown variable" 0 info --config
says "an unknown variable" "$err" "GRADPUSH_SLOTS"
NCCL_IB_HCA=^mlx5_9 run "a variable of NCCL" 0 info --config
says "a variable of NCCL" "$out" "^mlx5_9      NCCL_IB_HCA "
NCCL_IB_TIMEOUT=99 run "a bad variable of NCCL" 1 info --config
says "a bad variable of NCCL" "$err" "NCCL_IB_TIMEOUT is '99'"

# RDMA devices: every one the kernel has, with and without the libraries.
run "info --devices" 0 info --devices
says "info --devices" "$out" "rdma "
for folder in /sys/class/infiniband/*; do
    [ -e "$folder" ] && says "info --devices" "$out" "${folder##*/} port 1: "
done
mkdir "$work/damaged"
echo "no library" >"$work/damaged/libibverbs.so.1"
LD_LIBRARY_PATH=$work/damaged run "no libraries" 0 info --devices
says "no libraries" "$out" "install libibverbs"
GRADPUSH_RANK=7 GRADPUSH_SIZE=2 run "a wrong rank" 0 info --env
says "a wrong rank" "$out" "RANK"

# JSON, where this build has it.
check_json() {
    python3 - "$1" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "gradpush.info/1", d["schema"]
assert {t["name"] for t in d["transports"]} >= {"tcp", "loop"}
assert all(t["device"] == (t["name"] == "verbs") for t in d["transports"])
assert {c["name"] for c in d["codecs"]} >= {"none", "q8"}
assert d["environment"]["settings"] == {"GRADPUSH_SLOTS": "4"}
rdma = [x for x in d["devices"] if x["kind"] == "rdma"]
assert d["rdma"]["ports"] == len(rdma) and d["rdma"]["why"], d["rdma"]
assert set(d["rdma"]["chosen"]) == \
    {f'{x["device"]}:{x["port"]}' for x in rdma if x["rail"]}, rdma
assert "hunter2" not in json.dumps(d)
slots = [f for f in d["config"] if f["name"] == "slots"][0]
assert slots["value"] == "4" and slots["origin"] == "environment", slots
print("fine")
PYTHON
}
if "$gradpush" info --json - >"$work/json" 2>"$err"; then
    GRADPUSH_TOKEN=hunter2 GRADPUSH_SLOTS=4 run "info --json" 0 info --json -
    equals "info --json" "$(check_json "$out")" fine
    run "a file in no folder" 1 info --json "$work/none/file"
    says "a file in no folder" "$err" "cannot write"
    if [ -w /dev/full ]; then
        run "a full disk" 1 info --json /dev/full
        says "a full disk" "$err" "No space left"
    fi
else
    says "no JSON" "$err" "libjansson-dev"
fi
if [ -w /dev/full ]; then
    "$gradpush" info >/dev/full 2>"$err"
    status=$?
    equals "standard output on a full disk" "$status" 1
    says "standard output on a full disk" "$err" "No space left"
fi
finish
