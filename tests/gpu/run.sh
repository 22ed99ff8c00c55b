#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU: the tests of tests/gpu on the real driver, a
# billion elements against the host, compute-sanitizer, and the benchmarks.
#
#     tests/gpu/run.sh [--build DIR] [--out DIR] [--data MNIST] [--quick]
#
# Exits 77 where there is no GPU, 1 when anything failed. Results are written to
# bench/results (or --out), named by date and device, with the commands.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build/release
out=$root/bench/results
quick=
data=
failed=0

while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    *) echo "tests/gpu/run.sh: unknown option $1" >&2; exit 2 ;;
    esac
done

if ! nvidia-smi -L >/dev/null 2>&1; then
    echo "tests/gpu/run.sh: no NVIDIA GPU here (nvidia-smi -L finds none)" >&2
    exit 77
fi

name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
slug=$(echo "$name" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
base=$out/$(date +%Y-%m-%d)-$slug
mkdir -p "$out" || exit 1
log=$base-gpu.log
: >"$log"

# A step: its command goes to the log, and so does what it says.
step() {
    title=$1
    shift
    echo "== $title"
    echo "\$ $*" >>"$log"
    "$@" >>"$log" 2>&1
    case $? in
    0) echo "   ok" ;;
    77) echo "   skipped, see $log" ;;
    *)
        echo "   FAILED, see $log"
        failed=1
        ;;
    esac
}

{
    echo "# $(date -u +%Y-%m-%dT%H:%M:%SZ) $name"
    nvidia-smi
    nvcc --version
} >>"$log" 2>&1

if [ ! -f "$build/CMakeCache.txt" ]; then
    step configure cmake -S "$root" -B "$build" -G Ninja \
        -DCMAKE_BUILD_TYPE=Release -DGRADPUSH_KERNELS=ON
fi
tests="test_kernels_sim test_coder_sim test_codecs_sim test_select_sim"
tests="$tests test_lowrank_sim test_memory_sim"
tests="$tests test_export_sim test_trainer_kernels test_trainer_device"
tests="$tests test_shard_sim"
# shellcheck disable=SC2086
step build cmake --build "$build" --target gradpush gradpush-train bench_gemm \
    $tests
[ $failed = 0 ] || exit 1
bin=$build/tests/bin
gradpush=$(find "$build" -name gradpush -type f -perm -u+x | head -n 1)

# The same programs as without a GPU, on the driver of this machine.
GRADPUSH_TEST_CUDA=real
export GRADPUSH_TEST_CUDA
for test in $tests; do
    step "$test" "$bin/$test"
done

# RDMA devices and this GPU's memory, where there are any; else the reason.
step "GPUDirect" "$gradpush" info --devices
# A machine may be less than sound; that is in the log.
step "doctor, GPUs" sh -c "'$gradpush' doctor --only gpu --verbose || [ \$? = 1 ]"

# Bytes and decoded numbers of the device against those of the host.
count=1000000000
[ -z "$quick" ] || count=10000000
for codec in none fp16 bf16:round=stochastic q8 q4 q2 fp8 mxfp4 sign vote \
    qsgd terngrad:clip=0 topk:0.01+q8 randk:0.01+q8; do
    step "$codec, $count elements" "$gradpush" bench codec --device cuda \
        --count $count --codec $codec --workers 1 -n 1 -w 0
done

if command -v compute-sanitizer >/dev/null 2>&1; then
    for tool in memcheck racecheck; do
        for test in test_codecs_sim test_select_sim test_lowrank_sim \
            test_memory_sim test_trainer_kernels test_trainer_device \
            test_shard_sim; do
            step "$tool $test" compute-sanitizer --tool $tool \
                --error-exitcode 1 "$bin/$test"
        done
    done
else
    echo "== compute-sanitizer is not installed: skipped" | tee -a "$log"
fi

# Times: 256 Mi elements, with and without feedback.
size=268435456
[ -z "$quick" ] || size=16777216
codecs="--codec none --codec fp16 --codec bf16 --codec q8 --codec q4 --codec q2
    --codec fp8 --codec sign --codec vote --codec qsgd
    --codec bf16:round=stochastic --codec q4:round=stochastic
    --codec topk:0.01+none+raw --codec topk:0.01+q8 --codec topk:0.001+q8
    --codec randk:0.01+q8"
# shellcheck disable=SC2086
step "bench codec" "$gradpush" bench codec --device cuda --count $size \
    --workers 8 -n 21 -w 3 -c 0 $codecs --json "$base-gpu-codecs.json"
# shellcheck disable=SC2086
step "bench codec, error feedback" "$gradpush" bench codec --device cuda \
    --count $size --workers 8 -n 21 -w 3 -c 0 --feedback $codecs \
    --json "$base-gpu-codecs-feedback.json"

echo "== PyTorch"
echo "\$ bench/gpu/torch_codecs.py --count $size" >>"$log"
python3 "$root/bench/gpu/torch_codecs.py" --count $size \
    >"$base-gpu-torch.json" 2>>"$log"
case $? in
0) echo "   ok" ;;
77)
    echo "   no PyTorch with CUDA: skipped"
    rm -f "$base-gpu-torch.json"
    ;;
*)
    echo "   FAILED, see $log"
    failed=1
    ;;
esac
# Shards on the GPU: the same parameters as in the host's memory, and the time.
train="$(find "$build" -name gradpush-train -type f -perm -u+x | head -n 1)"
hash_of() {
    GRADPUSH_SHARD_DEVICE=$1 "$train" --device cpu --workers 2 --shards 1 \
        --optimizer adamw --lr 0.001 --codec q8 --epochs 2 --json "$2" &&
        sed -n 's/.*"params_sha256": *"\([0-9a-f]*\)".*/\1/p' "$2"
}
shards_alike() {
    host=$(hash_of cpu "$base-shard.json" | tail -n 1)
    device=$(hash_of cuda "$base-shard.json" | tail -n 1)
    rm -f "$base-shard.json"
    echo "cpu $host, cuda $device"
    [ -n "$host" ] && [ "$host" = "$device" ]
}
step "shards on the GPU, parameters" shards_alike
most=64M
[ -z "$quick" ] || most=4M
for where in cpu cuda; do
    for codec in none q8; do
        step "shards on $where, pushpull of $codec" \
            env GRADPUSH_SHARD_DEVICE=$where "$gradpush" bench pushpull \
            --workers 4 --shards 1 --codec $codec -b 1M -e $most -f 4 \
            --json "$base-gpu-shards-$where-$codec.json"
    done
done

# The trainer: as the CPU, and against cuBLAS, PyTorch and no communication.
hidden=8192,8192,8192
[ -z "$quick" ] || hidden=1024,1024
if [ -z "$data" ]; then
    for folder in "$root/shared" "$root/../shared"; do
        [ -d "$folder/data/mnist10k" ] && data=$folder/data/mnist10k && break
    done
fi
step trainer python3 "$root/bench/gpu/trainer.py" --build "$build" \
    --hidden $hidden --data "$data" --out "$base-gpu-trainer.json"
echo "results: $base-*"
exit $failed
