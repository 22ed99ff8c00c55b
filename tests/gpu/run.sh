#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything that needs a GPU: the tests of tests/gpu on the real driver, a
# billion elements against the host, compute-sanitizer, and the benchmarks.
#
#     tests/gpu/run.sh [--part NAME]... [--limit SECONDS] [--prefix FILE.tar.gz]
#         [--build DIR] [--out DIR] [--data MNIST] [--quick]
#
# Parts, in their order: tests codecs trainer shards billion sanitize; all of
# them without --part. What is missing is built first. Every step has a time
# limit and the next one follows whatever became of it; --limit ends the run in
# time to keep what there is. Results are written as they come, to bench/results
# (or --out), named by date and device, with the commands in a log.
# docs/gpu.md says what to run first when time is short.
#
# Exits 77 where there is no GPU, 1 when anything failed.
set -u

root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build/gpu
out=$root/bench/results
parts=
limit=36000
prefix=
quick=
data=
failed=0

while [ $# -gt 0 ]; do
    case $1 in
    --part) parts="$parts $2"; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    --prefix) prefix=$(cd "$(dirname "$2")" && pwd)/${2##*/}; shift 2 ;;
    --build) mkdir -p "$2" && build=$(cd "$2" && pwd) || exit 1; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    *) echo "tests/gpu/run.sh: unknown option $1" >&2; exit 2 ;;
    esac
done
for part in $parts; do
    case $part in
    tests | codecs | trainer | shards | billion | sanitize) ;;
    *) echo "tests/gpu/run.sh: no part is named $part" >&2; exit 2 ;;
    esac
done
begin=$(date +%s)
if ! nvidia-smi -L >/dev/null 2>&1; then
    echo "tests/gpu/run.sh: no NVIDIA GPU here (nvidia-smi -L finds none)" >&2
    exit 77
fi
# shellcheck source=tests/gpu/steps.sh
. "$root/tests/gpu/steps.sh"

name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
slug=$(echo "$name" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
base=$out/$(date +%Y-%m-%d)-$slug-gpu
log=$base.log
{
    echo "# $(date -u +%Y-%m-%dT%H:%M:%SZ) $name${parts:+:$parts}"
    nvidia-smi
    nvcc --version
} >>"$log" 2>&1

# The libraries of prefix.sh, for what is built here and for nothing else.
linker=
if [ -n "$prefix" ]; then
    there=${TMPDIR:-/tmp}/gradpush-gpu-prefix
    mkdir -p "$there" && tar -C "$there" -xzf "$prefix" || exit 1
    libs=$(echo "$there"/usr/lib/*-linux-gnu)
    PKG_CONFIG=$there/pkg-config
    CMAKE_PREFIX_PATH=$there/usr
    CPATH=$there/usr/include:$there/usr/include/${libs##*/}
    LIBRARY_PATH=$libs
    export PKG_CONFIG CMAKE_PREFIX_PATH CPATH LIBRARY_PATH
    linker="-Wl,--disable-new-dtags,-rpath,$libs,-rpath-link,$libs"
fi
# cuBLAS may be PyTorch's own.
cublas=$(python3 -c 'import glob, sys
for folder in sys.path:
    for kind in ("cu13", "cublas"):
        for file in glob.glob(f"{folder}/nvidia/{kind}/lib/libcublas.so.1[0-9]"):
            print(file.rsplit("/", 1)[0])' 2>/dev/null | head -n 1)
if [ -n "$cublas" ] && ! ldconfig -p | grep -q 'libcublas\.so\.1'; then
    LD_LIBRARY_PATH=$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi
# And the runtime, of which one test is a user, the toolkit's.
toolkit=$(readlink -f "$(command -v nvcc)")
toolkit=${toolkit%/bin/nvcc}/lib64
if [ -e "$toolkit/libcudart.so" ] && ! ldconfig -p | grep -q 'libcudart\.so'; then
    LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$toolkit
    export LD_LIBRARY_PATH
fi

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader |
    head -n 1 | tr -cd 0-9)
tests="test_kernels_sim test_coder_sim test_codecs_sim test_select_sim
    test_lowrank_sim test_memory_sim test_whole_sim test_export_sim test_shard_sim
    test_trainer_kernels test_trainer_device"
if [ ! -f "$build/build.ninja" ]; then
    step 120 configure cmake -S "$root" -B "$build" -G Ninja \
        -DCMAKE_BUILD_TYPE=Release -DGRADPUSH_KERNELS=ON \
        -DGRADPUSH_WERROR=OFF -DGRADPUSH_CUDA_ARCHITECTURES="$capability" \
        -DCMAKE_EXE_LINKER_FLAGS="$linker"
fi
# Without one of the libraries some of these do not exist, and a build of several
# that has one unknown builds none.
targets=$(cmake --build "$build" --target help 2>>"$log")
is_built() {
    echo "$targets" | grep -q "^$1: " && return
    echo "== $1: skipped, nothing builds it here" | tee -a "$log"
    return 1
}
for target in gradpush gradpush-train bench_gemm 06_cuda_stream; do
    ! is_built $target ||
        step 300 "build $target" cmake --build "$build" --target $target
done
known=
for test in $tests; do
    ! is_built "$test" || known="$known $test"
done
tests=$known
# shellcheck disable=SC2086
step 300 "build tests" cmake --build "$build" --target $tests -- -k 0
bin=$build/tests/bin
gradpush=$build/bin/gradpush
[ -x "$gradpush" ] || { tail -n 30 "$log"; exit 1; }

part_tests() {
    for test in $tests; do
        step 120 "$test" env GRADPUSH_TEST_CUDA=real "$bin/$test"
    done
    # Streams that wait for results, and nobody else: it ends, and is right.
    step 60 "streams of two workers" stream_pair
    # RDMA devices and this GPU's memory, where there are any; else the reason.
    step 60 GPUDirect "$gradpush" info --devices
    # A machine may be less than sound; that is in the log.
    step 60 "doctor, GPUs" sh -c \
        "'$gradpush' doctor --only gpu --verbose || [ \$? = 1 ]"
}

# Times: 256 Mi elements, with and without feedback, the figures asked for first.
part_codecs() {
    size=268435456
    [ -z "$quick" ] || size=65536
    plain="--codec none --codec fp16 --codec bf16 --codec q8 --codec sign
        --codec topk:0.01+none+raw --codec topk:0.01+q8"
    more="--codec q4 --codec q2 --codec fp8 --codec mxfp4 --codec vote
        --codec qsgd --codec bf16:round=stochastic --codec q4:round=stochastic
        --codec topk:0.001+q8 --codec randk:0.01+q8 --codec hadamard+q4
        --codec eden --codec intsum --codec thc --codec uq
        --codec uq:scope=tensor"
    time_codecs codecs "$plain"
    time_codecs feedback "$plain" --feedback
    step 120 PyTorch python3 "$root/bench/gpu/torch_codecs.py" \
        --count $size --out "$base-torch.json"
    time_codecs more "$more"
    time_codecs more-feedback "$more" --feedback
}

part_trainer() {
    hidden=8192,8192,8192
    sizes="--batch 4096"
    [ -z "$quick" ] || hidden=64,64
    [ -z "$quick" ] || sizes="--batch 512 --samples 4096
        --epochs 2 --shared-batches 512"
    if [ -z "$data" ]; then
        for folder in "$root/shared" "$root/../shared"; do
            [ -d "$folder/data/mnist10k" ] && data=$folder/data/mnist10k &&
                break
        done
    fi
    # shellcheck disable=SC2086
    step 500 trainer python3 "$root/bench/gpu/trainer.py" --build "$build" \
        --hidden $hidden $sizes --data "$data" --out "$base-trainer.json"
}

# Shards on the GPU: the same parameters as in the host's memory, and the time.
part_shards() {
    step 90 "shards on cpu, digits" shard_digest cpu
    step 90 "shards on cuda, digits" shard_digest cuda
    step 5 "shards, the same parameters" cmp "$build/digest-cpu" \
        "$build/digest-cuda"
    largest=64M
    [ -z "$quick" ] || largest=256K
    for where in cpu cuda; do
        for codec in none q8; do
            step 60 "shards on $where, pushpull of $codec" \
                env GRADPUSH_SHARD_DEVICE=$where "$gradpush" bench pushpull \
                --workers 4 --shards 1 --codec $codec -b 64K -e $largest -f 4 \
                --json "$build/document.json"
            gather shards "$where-$codec"
        done
    done
}

# Bytes and decoded numbers of the device against those of the host: the host's
# half takes the time, so several run at once.
part_billion() {
    count=1000000000
    [ -z "$quick" ] || count=65536
    for group in "none fp16 bf16:round=stochastic q8" \
        "q4 q2 fp8 mxfp4 sign" "vote qsgd terngrad:clip=0" \
        "topk:0.01+q8 randk:0.01+q8" "intsum thc"; do
        # shellcheck disable=SC2086
        aside 500 "$count elements: $group" "$gradpush" bench codec \
            --device cuda --count $count $(printf -- '--codec %s ' $group) \
            --workers 1 -n 1 -w 0
    done
    await
}

part_sanitize() {
    if ! command -v compute-sanitizer >/dev/null 2>&1; then
        echo "== compute-sanitizer is not installed: skipped" | tee -a "$log"
        return
    fi
    # Some hypervisors keep the device from it, and so from what it runs.
    timeout 60 compute-sanitizer "$gradpush" bench codec --device cuda \
        --count 4096 --codec none -n 1 -w 0 >"$build/probe.log" 2>&1 ||
        if grep -qi 'device not supported' "$build/probe.log"; then
            cat "$build/probe.log" >>"$log"
            echo "== compute-sanitizer cannot use this device: skipped" |
                tee -a "$log"
            return
        fi
    # What calls of the driver give back is the programs' to judge: libraries try
    # functions that are not there, and a buffer that is too small is a test.
    for tool in memcheck racecheck; do
        for test in test_codecs_sim test_select_sim test_lowrank_sim \
            test_memory_sim test_whole_sim test_trainer_kernels test_trainer_device \
            test_shard_sim; do
            [ -x "$bin/$test" ] || continue
            aside 240 "$tool $test" env GRADPUSH_TEST_CUDA=real \
                compute-sanitizer --tool $tool --error-exitcode 1 \
                --report-api-errors no "$bin/$test"
        done
        await
    done
}

for part in ${parts:-tests codecs trainer shards billion sanitize}; do
    part_"$part"
done
python3 "$root/bench/gpu/table.py" "$base" 2>>"$log" | tee "$base.md"
echo "results: $base*"
exit $failed
