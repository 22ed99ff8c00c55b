#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/cluster.sh: a dry run on this machine, the launchers by stand-ins that
# run things here and write down how they were called, and wrong usage.
# shellcheck source=cli_lib.sh
. "$(dirname "$0")/cli_lib.sh"

command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
"$gradpush" info --json - >/dev/null 2>&1 ||
    { echo "skipped: this build has no JSON"; exit 77; }
root=$(cd "$(dirname "$0")/../.." && pwd)
script=$root/bench/cluster.sh
unset SLURM_JOB_ID SLURM_JOB_NODELIST

# cluster STATUS ARGUMENT...
cluster() {
    local expected=$1
    shift
    checks=$((checks + 1))
    timeout -k 10 240 bash "$script" --build "$BUILD_DIR" --out "$work/results" \
        "$@" >"$out" 2>"$err" </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "cluster.sh $*: not status $expected"
}
small=(--quick --sizes 64:4K:8 --transports tcp --no-perftest --no-iperf)

cluster 0 --local "${small[@]}"
says "--local" "$out" "gradpush tcp"
says "--local" "$out" "Out of bounds values : 0 OK"
checks=$((checks + 1))
python3 - "$work/results/cluster.json" <<'PYTHON' || fail "--local: the document"
import json
import sys

document = json.load(open(sys.argv[1]))
assert document["schema"] == "gradpush.cluster/1"
assert document["config"]["launcher"] == "local"
rows = {(r["tool"], r["test"], r["bytes"]) for r in document["results"]}
assert rows == {("gradpush tcp", test, size) for test in ("bw", "lat")
                for size in (64, 512, 4096)}, rows
assert all(r["median"] > 0 and len(r["rounds"]) == 1
           for r in document["results"])
assert document["errors"] == {"tcp": 0}
for side in ("server", "client"):
    assert document["machines"][side]["doctor"]["ok"] > 0
    assert document["machines"][side]["environment"]["kernel"]
PYTHON
if command -v gnuplot >/dev/null; then
    equals "plots" "$(find "$work/results" -name 'cluster-*.svg' | wc -l)" 2
fi

# Stand-ins: the host becomes a line in a file, the command runs here.
mkdir "$work/bin"
cat >"$work/bin/srun" <<'END'
#!/usr/bin/env bash
while [ "${1#-}" != "$1" ]; do
    case $1 in
    -w) echo "srun $2" >>"$CALLS"; shift 2 ;;
    -N | -n) shift 2 ;;
    *) shift ;;
    esac
done
exec "$@"
END
cat >"$work/bin/ssh" <<'END'
#!/usr/bin/env bash
while [ "$1" = -o ]; do shift 2; done
echo "ssh $1" >>"$CALLS"
shift
exec bash -c "$*"
END
cat >"$work/bin/scontrol" <<'END'
#!/usr/bin/env bash
[ "$*" = "show hostnames n[7-9]" ] && printf 'n7\nn8\nn9\n'
END
chmod +x "$work"/bin/*
export CALLS=$work/calls
PATH=$work/bin:$PATH SLURM_JOB_ID=1 SLURM_JOB_NODELIST='n[7-9]' \
    cluster 0 "${small[@]}" --address 127.0.0.1
says "srun" "$out" "gradpush tcp"
equals "srun: hosts" "$(sort -u "$CALLS" | tr '\n' ' ')" "srun n7 srun n8 "
rm "$CALLS"
PATH=$work/bin:$PATH GRADPUSH_CHECKSUM=off \
    cluster 0 --hosts left,right "${small[@]}" --address 127.0.0.1
says "ssh" "$out" "gradpush tcp"
equals "ssh: hosts" "$(sort -u "$CALLS" | tr '\n' ' ')" "ssh left ssh right "
says "ssh: settings" "$work/results/cluster.raw/gradpush-tcp-bw-1.json" \
    "checksum off"

cluster 2 --sizes 1X
says "a bad size" "$err" "it takes bytes"
equals "a bad size: lines about it" "$(wc -l <"$err")" 1
cluster 2 --sizes 4K:1K
says "sizes in the wrong order" "$err" "more than the second"
cluster 2 --rounds none
cluster 2 --launcher flux
says "a launcher that is none" "$err" "srun, mpirun, ssh or local"
cluster 2 --launcher ssh
says "no hosts" "$err" "--hosts"
cluster 2 --hosts alone --launcher ssh
says "one host" "$err" "two machines"
cluster 2 --frobnicate
cluster 0 --help
says "--help" "$out" "Example:"
finish
