#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The benchmarks as programs: rows, JSON, verification, both ends apart, and
# what they say when a side is missing or dies. Nothing here judges speed.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

rows() { grep -vc '^#' "$out"; }
wrong_total() { awk '!/^#/ { n += $NF } END { print n + 0 }' "$out"; }

# Odd sizes, both tests, both transports; every row ends with #wrong.
for transport in tcp loop; do
    for test in bw lat; do
        what="transport $transport $test"
        run "$what" 0 bench transport --transport "$transport" \
            --test "$test" -b 1 -e 2M -f 7 -n 20 -w 2
        equals "$what: rows" "$(rows)" 8
        equals "$what: wrong" "$(wrong_total)" 0
        equals "$what: first" "$(awk '!/^#/ { print $1; exit }' "$out")" 1
        says "$what" "$out" "# Out of bounds values : 0 OK"
    done
done
run "several sockets" 0 bench transport --sockets 3 -b 100001 -e 100001 -n 20
says "several sockets" "$out" "sockets 3"
run "unchecked" 0 bench transport -b 64 -e 64 -n 20 -c 0
says "unchecked" "$out" "unchecked"
run "--min-bw" 1 bench transport -b 64 -e 64 -n 20 --min-bw 999999
says "--min-bw" "$err" "below --min-bw"

# perftest's spellings.
run "one size" 0 bench transport -s 64K -n 20 -R -F --report_gbits
equals "one size: rows" "$(awk '!/^#/ { print $1 }' "$out")" 65536
run "all sizes" 0 bench transport -a -n 3 -w 1 -q 2 -t 4 -I 128 -u 19
equals "all sizes: rows" "$(rows)" 23
equals "all sizes: ends" "$(awk '!/^#/ { l = $1 } END { print l }' "$out")" \
    8388608
says "all sizes" "$out" "sockets 2"
goes_on() {
    run "a duration" 0 bench transport --test lat -s 64 -D 0.2
    awk '!/^#/ && $2 > 16 { found = 1 } END { exit !found }' "$out"
}
checks=$((checks + 1))
until_true goes_on || fail "a duration: too few iterations"
# A device's name asks for verbs, and --transport decides.
run "a device with tcp" 0 bench transport -d mlx5_0 -i 1 -x 3 --transport tcp \
    -s 4K -n 10
timeout 60 "$gradpush" bench transport -d no_such_device -s 4K -n 10 \
    >"$out" 2>"$err"
says "a device that is not here" "$err" "verbs"
equals "a device that is not here: rows" "$(rows)" 0

# Starts a server and reads its address; it serves one client within two minutes.
listen() {
    rm -f "$work/server"
    timeout -k 10 120 "$gradpush" bench transport --listen 127.0.0.1:0 \
        2>"$work/server" &
    server=$!
    until_true grep -qs listening "$work/server" ||
        fail "the server did not listen"
    address=$(sed -n 's/.*listening on //p' "$work/server")
}

# served WHAT: the server ends by itself after the client of the last run, and
# is not waited for when that client failed.
served() {
    [ "$status" = 0 ] || kill "$server"
    wait "$server"
    status=$?
    equals "$1" "$status" 0
}

# Both ends apart: the server takes a free port and says which.
listen
run "a port in use" 1 bench transport --listen "$address"
says "a port in use" "$err" "${address##*:}"
run "--connect" 0 bench transport --connect "$address" -b 4K -e 4K -n 50
equals "--connect: rows" "$(rows)" 1
served "the server's end"
GRADPUSH_CONNECT_TIMEOUT=0.5 run "nobody listens" 1 \
    bench transport --connect 127.0.0.1:1 -b 4K -e 4K
says "nobody listens" "$err" 127.0.0.1:1
says "nobody listens" "$err" "transport --listen"

# A client that is no client does not keep a true one away.
listen
if exec 9<>"/dev/tcp/127.0.0.1/${address##*:}"; then
    head -c 4096 /dev/urandom >&9
    exec 9>&-
fi
run "after random bytes" 0 bench transport --connect "$address" -b 64 -e 64
equals "after random bytes: wrong" "$(wrong_total)" 0
served "after random bytes: the server's end"

# push_pull: exact sums for every arrangement.
pushpull() { # WHAT ARGUMENT...
    local what=$1
    shift
    run "$what" 0 bench pushpull -b 4 -e 3M -f 600 -n 3 -w 1 "$@"
    equals "$what: rows" "$(rows)" 3
    equals "$what: wrong" "$(wrong_total)" 0
}
pushpull "one worker, one shard" --workers 1 --shards 1
pushpull "three workers, two shards" --workers 3 --shards 2
pushpull "co-located" --workers 2 --colocated
pushpull "several at once" --workers 2 --shards 2 --tensors 5
pushpull "several at once, async" --workers 2 --shards 1 --mode async --tensors 3
run "no tensors" 2 bench pushpull --tensors 0
says "no tensors" "$err" "--tensors is '0': it takes a whole number"
pushpull "threads" --workers 2 --shards 2 --transport loop
pushpull "async" --workers 3 --shards 2 --mode async
pushpull "ssp" --workers 2 --colocated --mode ssp:1 --codec q8
pushpull "mean" --workers 3 --shards 1 --updater mean
pushpull "fp16 and bf16" --workers 2 --shards 1 --codec fp16 --pull-codec bf16
pushpull "what leaves elements out" --workers 2 --shards 1 --codec topk:0.1 \
    --pull-codec topk:0.1
pushpull "q8" --workers 2 --shards 1 --codec q8 --pull-codec q8

# Rows: every number of a step verified, for every arrangement.
rows_of() { # WHAT ARGUMENT...
    local what=$1
    shift
    run "$what" 0 bench rows --rows 1000 --dim 24 -b 1 -e 100K -f 300 -n 3 \
        -w 1 "$@"
    equals "$what: rows" "$(rows)" 3
    equals "$what: wrong" "$(wrong_total)" 0
}
rows_of "rows: three workers, two shards" --workers 3
rows_of "rows: co-located, often the same" --colocated --zipf 1.2
rows_of "rows: threads, zipf 1" --transport loop --zipf 1
rows_of "rows: q8 and fp16" --shards 1 --codec q8 --pull-codec fp16 --zipf 2
run "rows: another updater" 0 bench rows --updater adagrad:lr=0.1 -c 0 \
    --batch 7 --dim 5 -n 3
equals "rows: one batch" "$(awk '!/^#/ { print $1, $2 }' "$out")" "140 7"
run "rows: a codec that looks at all" 2 bench rows --codec topk:0.1
says "rows: a codec that looks at all" "$err" "one by one"
run "rows: unverified updater" 2 bench rows --updater adam
says "rows: unverified updater" "$err" "-c 0"
run "rows: too many" 2 bench rows --batch 1M --dim 64
says "rows: too many" "$err" "--batch is '1M'"
run "rows: too much" 2 bench rows -b 128M -e 128M
says "rows: too much" "$err" "262144 rows of 64"
run "rows: no such exponent" 2 bench rows --zipf 9
says "rows: no such exponent" "$err" "--zipf is '9': it takes an exponent"

if "$gradpush" info --json - >"$work/json" 2>"$err"; then
    run "rows --json" 0 bench rows --zipf 1.1 --batch 512 --rows 1M -n 3 \
        --json -
    equals "rows --json" "$(python3 - "$out" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "gradpush.bench/1" and d["what"] == "rows"
c = d["config"]
assert (c["rows"], c["dim"], c["distribution"]) == (1 << 20, 64, "zipf")
assert c["zipf"] == 1.1 and c["workers"] == 2 and c["pull_codec"] == "none"
r, = d["results"]
assert r["bytes"] == 512 * 64 * 4 and r["rows"] == 512 and r["errors"] == 0
assert 0 < r["distinct"] < 1 and r["iterations"] == 3
assert abs(r["rows_per_s"] * r["median_us"] / 1e6 - 1024) < 1e-3
assert abs(r["algbw_GBps"] * r["median_us"] * 1e3 - r["bytes"]) < 1
print("good")
PYTHON
    )" good
    run "--json" 0 bench pushpull -b 1M -e 1M -n 3 --workers 2 --shards 1 \
        --json -
    equals "--json" "$(python3 - "$out" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "gradpush.bench/1" and d["what"] == "pushpull"
assert d["config"]["workers"] == 2 and d["config"]["codec"] == "none"
for name in ("cpu", "cores", "kernel", "compiler", "gradpush", "date"):
    assert d["environment"][name], name
r, = d["results"]
assert set(r) >= {"bytes", "iterations", "median_us", "p99_us", "min_us",
                  "algbw_GBps", "busbw_GBps", "wire_bytes", "errors"}
assert r["bytes"] == 1 << 20 and r["iterations"] == 3 and r["errors"] == 0
assert r["min_us"] <= r["median_us"] <= r["p99_us"]
assert 2 << 20 < r["wire_bytes"] < (2 << 20) + 65536, r["wire_bytes"]
assert d["config"]["tensors"] == 1
print("fine")
PYTHON
)" fine
    run "--json of several" 0 bench pushpull -b 256K -e 256K -n 3 --tensors 4 \
        --workers 1 --shards 1 --json -
    equals "--json of several" "$(python3 - "$out" <<'PYTHON'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["config"]["tensors"] == 4
r, = d["results"]
assert r["bytes"] == 1 << 18 and r["errors"] == 0
assert abs(r["algbw_GBps"] * r["median_us"] * 1e3 - 4 * r["bytes"]) < 1
assert 8 * r["bytes"] < r["wire_bytes"] < 8 * r["bytes"] + 65536, r
print("fine")
PYTHON
)" fine
    run "--json nowhere" 2 bench allreduce --json "$work/nowhere/file"
    says "--json nowhere" "$err" "name a file in a folder that is there"
    run "--json a folder" 2 bench transport --json "$work"
    says "--json a folder" "$err" "Is a directory"
    run "--json FILE" 0 bench transport -b 64 -e 64 -n 5 --json "$work/file"
    says "--json FILE" "$work/file" '"what": "transport"'
    equals "--json FILE: rows" "$(rows)" 1
fi

# A member that dies takes the others along, and the status says so.
rm -f "$out" "$err"
"$gradpush" bench pushpull --workers 3 --shards 1 -b 64K -e 64K -n 10000000 \
    >"$out" 2>"$err" &
job=$!
members() { [ "$(pgrep -c -P "$job")" = 4 ]; }
until_true members || fail "the members did not start"
victim=$(pgrep -P "$job" | tail -1)
others=$(pgrep -P "$job")
kill -9 "$victim"
until_true gone "$job" || kill "$job"
wait "$job"
status=$?
equals "a member was killed" "$status" 1
checks=$((checks + 1))
[ -s "$err" ] || fail "a member was killed: nothing was said"
for pid in $others; do
    checks=$((checks + 1))
    until_true gone "$pid" || fail "a member was killed: $pid is left"
done

# The server: says its address, ends with SIGTERM, names a port in use.
GRADPUSH_SIZE=1 GRADPUSH_SHARDS=1 timeout -k 10 120 "$gradpush" server \
    --listen 127.0.0.1:0 >"$work/address" 2>"$work/server" &
job=$!
until_true test -s "$work/address" || fail "the server printed no address"
address=$(awk '{ print $2 }' "$work/address")
GRADPUSH_SIZE=1 GRADPUSH_SHARDS=1 run "server: a port in use" 1 \
    server --listen "$address"
says "server: a port in use" "$err" "${address##*:}"
kill -TERM "$job"
wait "$job"
status=$?
equals "server: SIGTERM" "$status" 0
finish
