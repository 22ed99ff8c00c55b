# SPDX-License-Identifier: Apache-2.0
# gradpush-train --device cuda, as people start it, on a driver and a cuBLAS of
# threads (tests/gpu): the same training as on the CPU, the same bits each time,
# and what it says when something is missing.
. integration/cli_lib.sh
trainer=${BUILD_DIR:-$1}/bin/gradpush-train
libraries=${BUILD_DIR:-$1}/tests/gpu/lib
if [ ! -x "$trainer" ] || [ ! -e "$libraries/libcublas.so.13" ]; then
    echo "skipped: $trainer or $libraries is not built"
    exit 77
fi
before=${LD_LIBRARY_PATH:-}
simulated=$libraries${before:+:$before}

# train WHAT STATUS OPTION...: like run, with a report in $work/report.
train() {
    local what=$1 expected=$2
    shift 2
    checks=$((checks + 1))
    rm -f "$work/report"
    LD_LIBRARY_PATH=${path-$simulated} timeout -k 10 240 "$trainer" \
        --json "$work/report" --quiet --epochs 3 "$@" >"$out" 2>"$err" \
        </dev/null
    status=$?
    [ "$status" = "$expected" ] || fail "$what: status $status, not $expected"
}
value() { # KEY: the last one in the report
    sed -n 's/.*"'"$1"'": "\{0,1\}\([^",]*\).*/\1/p' "$work/report" | tail -n 1
}
alike() { # WHAT KEY EXPECTED
    equals "$1: $2" "$(value "$2")" "$3"
}

# near WHAT: parameters of both checkpoints, to the bound that fp32 sums in
# another order and 66 steps allow.
near() {
    checks=$((checks + 1))
    python3 - "$work/cpu" "$work/cuda" <<'PYTHON' || fail "$1: parameters"
import array, glob, json, struct, sys

def read(folder):
    [path] = glob.glob(folder + "/epoch-000003.safetensors")
    with open(path, "rb") as file:
        head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()
    out = {}
    for name, item in head.items():
        if name != "__metadata__":
            begin, end = item["data_offsets"]
            out[name] = array.array("f", body[begin:end])
    return out, head["__metadata__"]

(a, cpu), (b, cuda) = read(sys.argv[1]), read(sys.argv[2])
assert a.keys() == b.keys() and len(a) == 6, (a.keys(), b.keys())
assert (cpu["device"], cuda["device"]) == ("cpu", "cuda")
for name in a:
    far = max(abs(x - y) for x, y in zip(a[name], b[name]))
    assert len(a[name]) == len(b[name]) and far <= 1e-4, (name, far)
PYTHON
}

# One worker without communication: every layer, loss and update is the
# device's.
for device in cpu cuda; do
    train "alone on $device" 0 --device $device --workers 1 --shards 0 \
        --checkpoint "$work/$device"
    [ $device = cpu ] && accuracy=$(value test_accuracy)
done
alike "alone" test_accuracy "$accuracy"
alike "alone" device cuda:0
alike "alone" precision fp32
says "alone" "$work/report" '"gpu": "simulated device 0"'
near "alone"

# Two workers over tcp; a run gives the bits of the run before, wherever sums
# are formed.
train "two on the CPU" 0 --transport tcp
accuracy=$(value test_accuracy)
train "two" 0 --device cuda --transport tcp
alike "two" test_accuracy "$accuracy"
digest=$(value params_sha256)
equals "digest" "${#digest}" 64
SIM_CUDA=delay=30 train "two again" 0 --device cuda:0 --transport tcp --shards 1
alike "two again, slower" params_sha256 "$digest"
train "not overlapped" 0 --device cuda --overlap off --deterministic off
alike "not overlapped" test_accuracy "$accuracy"
alike "not overlapped" deterministic "false"

# Other precisions, and what comes back being parameters.
for precision in tf32 bf16; do
    train "$precision" 0 --device cuda --precision $precision
    alike "$precision" precision $precision
    checks=$((checks + 1))
    awk "BEGIN { d = $(value test_accuracy) - $accuracy
        exit !(d > -0.02 && d < 0.02) }" || fail "$precision: accuracy"
done
train "adam on the CPU" 0 --optimizer adam --hidden 37,50
accuracy=$(value test_accuracy)
train "adam" 0 --device cuda --optimizer adam --hidden 37,50
alike "adam" test_accuracy "$accuracy"

# Workers that do not step together, and end an epoch with the same.
for mode in async ssp:2 sync:N-1; do
    train "$mode" 0 --device cuda --precision bf16 --mode $mode --epochs 4 \
        --lr 0.05
    alike "$mode" mode $mode
    checks=$((checks + 1))
    awk "BEGIN { exit !($(value test_accuracy) > 0.8) }" ||
        fail "$mode: accuracy $(value test_accuracy)"
done

# A run that is interrupted goes on bit for bit, with momentum on the device
# and what the codec remembers.
options="--device cuda --optimizer nesterov --lr 0.02 --codec ef+q8"
# shellcheck disable=SC2086
train "straight" 0 $options
digest=$(value params_sha256)
# shellcheck disable=SC2086
train "first part" 0 $options --checkpoint "$work/parts" --epochs 1
# shellcheck disable=SC2086
train "second part" 0 $options --checkpoint "$work/parts" --resume
alike "resumed" params_sha256 "$digest"

# A real data set, where it is.
for folder in "${SOURCE_DIR:-..}/shared" "${SOURCE_DIR:-..}/../shared"; do
    data=$folder/data/mnist10k
    [ -d "$data" ] || continue
    for device in cpu cuda; do
        train "mnist10k on $device" 0 --data "$data" --device $device \
            --epochs 1 --hidden 64
        [ $device = cpu ] && accuracy=$(value test_accuracy)
    done
    checks=$((checks + 1))
    awk "BEGIN { d = $(value test_accuracy) - $accuracy
        exit !(d > -0.002 && d < 0.002) }" || fail "mnist10k: accuracy"
    break
done

# What measures it on a real GPU (tests/gpu/run.sh) runs.
shards=cpu rows=5
case ${KERNELS:-} in 1 | ON | TRUE) shards=cpu,cuda rows=6 ;; esac
SIM_CUDA=devices=1 LD_LIBRARY_PATH=$simulated python3 -B \
    "${SOURCE_DIR:-..}/bench/gpu/trainer.py" --build "${BUILD_DIR:-$1}" \
    --out "$work/speed.json" --speed --hidden 16 --batch 16 --samples 66 \
    --shared-batches 16 --shards $shards --epochs 2 >"$out" 2>"$err"
equals "bench/gpu/trainer.py" $? 0
equals "its rows" "$(grep -c '"of_gemm"\|"of_without"' "$work/speed.json")" $rows

# What is missing is named, with what to do about it.
path=$before train "no driver" 1 --device cuda --workers 1 --shards 0
says "no driver" "$err" "the CUDA driver cannot be loaded"
says "no driver" "$err" "compute with --device cpu"
path=$before train "no driver, two workers" 1 --device cuda
equals "no driver, two workers, is said once" "$(grep -c . "$err")" 1
mkdir "$work/driver"
ln -s "$(realpath "$libraries")/libcuda.so.1" "$work/driver/libcuda.so.1"
if ! ldconfig -p | grep -q 'libcublas\.so\.1'; then
    path=$work/driver train "no cuBLAS" 1 --device cuda
    says "no cuBLAS" "$err" "cuBLAS cannot be loaded"
fi
SIM_CUDA=devices=0 train "no device" 1 --device cuda
says "no device" "$err" "nvidia-smi"
train "a device too many" 1 --device cuda:1
says "a device too many" "$err" "this process sees 1 CUDA device"
SIM_CUBLAS=fail=cublasCreate_v2,nth=0,result=1 \
    train "cuBLAS does not start" 1 --device cuda --workers 1 --shards 0
says "cuBLAS does not start" "$err" "CUBLAS_STATUS_NOT_INITIALIZED"
for fault in cublasGemmEx,nth=20,result=13 cublasSetWorkspace_v2,result=7; do
    SIM_CUBLAS=fail=$fault train "$fault" 1 --device cuda
    says "$fault" "$err" "CUBLAS_STATUS_"
done
SIM_CUDA=fail=cuLaunchKernel,nth=100,result=700 \
    train "a kernel fails" 1 --device cuda --workers 1 --shards 0
says "a kernel fails" "$err" "CUDA_ERROR_ILLEGAL_ADDRESS"
SIM_CUDA=fail=cuMemAlloc,nth=4,result=2 \
    train "no memory" 1 --device cuda --workers 1 --shards 0
says "no memory" "$err" "make --batch or --hidden smaller"

# What it does not do is refused before anything starts.
for option in "--mode local:4" "--mode allreduce" \
    "--parallel tensor=2" "--dump-gradients $work/dump"; do
    # shellcheck disable=SC2086
    train "$option" 2 --device cuda $option
    says "$option" "$err" "--device cpu"
done

finish
