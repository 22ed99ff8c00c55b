#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh - every test of gradpush, from a bare Debian 12 on.
#
#     bash tests/run.sh [--quick] [--only STAGE]... [--list]
#
# Installs the packages that are missing (as root or through sudo), then builds
# and tests in stages, each in build/STAGE; the table below says what they are.
# The last line is the sum over all stages; the exit status is 0 when nothing
# failed, 1 when something did, 2 for wrong usage.
#
#   --quick   only the release build with its tests
#   --only    only this stage; may be given more than once
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

stages=(release install style sanitize tsan fuzz clang no-verbs minimal rdma)
quick=(release install style)
declare -A text=(
    [release]="gcc, everything that is found: all tests"
    [install]="programs outside the tree, against an installed prefix"
    [style]="format, dependencies, sizes, exported symbols, words"
    [sanitize]="AddressSanitizer and UndefinedBehaviorSanitizer"
    [tsan]="ThreadSanitizer"
    [fuzz]="libFuzzer on every decoder, at most 3 minutes in all"
    [clang]="clang, without CUDA: no warnings, unit and conformance tests"
    [no-verbs]="without libibverbs: builds, unit tests"
    [minimal]="without anything optional: builds, unit and conformance tests"
    [rdma]="verbs over soft-RoCE, in virtual machines, at most 6 minutes"
)

usage() {
    sed -n '3,14s/^# \{0,1\}//p' "$0"
    exit "$1"
}

chosen=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) chosen=("${quick[@]}") ;;
    --only)
        [ $# -gt 1 ] && [ -n "${text[${2:-none}]:-}" ] ||
            { echo "--only takes one of: ${stages[*]}" >&2; exit 2; }
        chosen+=("$2")
        shift
        ;;
    --list)
        for stage in "${stages[@]}"; do
            printf '%-9s %s\n' "$stage" "${text[$stage]}"
        done
        exit 0
        ;;
    -h | --help) usage 0 ;;
    *)
        echo "unknown option: $1" >&2
        usage 2 >&2
        ;;
    esac
    shift
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${stages[@]}")

jobs=$(nproc)
# Many tests wait for processes of theirs.
test_jobs=$((jobs + jobs / 2))
logs=build/logs
passed=0 failed=0 skipped=0
table=()
left_out=() # cases of programs that ran
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
export CTEST_OUTPUT_ON_FAILURE=1 CLICOLOR=0
export CC=${CC:-gcc}

# skip_stage STAGE REASON
skip_stage() {
    echo "  skipped  $1: $2"
    skipped=$((skipped + 1))
    table+=("$(printf '%-9s  skipped: %s' "$1" "$2")")
}

# fail_stage STAGE WHAT LOG
fail_stage() {
    echo "  FAILED   $1: $2; the end of $3:"
    grep -n 'error:\|FAILED:\|undefined reference\|CMake Error' "$3" | head -20
    tail -n 25 "$3"
    failed=$((failed + 1))
    table+=("$(printf '%-9s  %s failed' "$1" "$2")")
}

# build STAGE PRESET [cmake option...]
build() {
    local log=$logs/$1.build.log
    {
        cmake --preset "$2" &&
            cmake --build "build/$2" -j "$jobs" "${@:3}"
    } >"$log" 2>&1 </dev/null && return 0
    fail_stage "$1" build "$log"
    return 1
}

# check STAGE PRESET [ctest option...]: $wrap runs ctest.
wrap=()
check() {
    local stage=$1 preset=$2 log=$logs/$1.test.log xml=$PWD/$logs/$1.xml
    local counts lines line
    shift 2
    rm -f "$xml"
    "${wrap[@]}" ctest --test-dir "build/$preset" -j "$test_jobs" \
        --no-tests=error --test-output-size-passed 1000000 \
        --output-junit "$xml" "$@" >"$log" 2>&1 </dev/null
    if ! lines=$(python3 -B tests/report.py "$xml" "$stage" 2>&1); then
        fail_stage "$stage" "ctest" "$log"
        return
    fi
    counts=$(tail -n 1 <<<"$lines")
    lines=$(sed '$d' <<<"$lines")
    grep -v '^  left out ' <<<"$lines" | grep .
    while read -r line; do
        left_out+=("$line")
    done < <(sed -n 's/^  left out //p' <<<"$lines")
    read -r p f s <<<"$counts"
    if [ "$f" -gt 0 ]; then
        sed -n '/^ *[0-9]*\/[0-9]* Test.*\*\*\*/,/^ *Start /p' "$log" |
            grep -v '^ *Start ' | head -n 200
        echo "  the whole of it: $log"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    table+=("$(printf '%-9s  %3d passed, %d failed, %d skipped' \
        "$stage" "$p" "$f" "$s")")
}

# check_lab: each case of tests/rdma counts as a test.
check_lab() {
    local log=$logs/rdma.test.log p f s
    bash tests/rdma/lab.sh prepare >"$log" 2>&1 </dev/null
    case $? in
    0) ;;
    77)
        skip_stage rdma "$(sed -n 's/^skipped: //p' "$log" | tail -n 1)"
        return
        ;;
    *)
        fail_stage rdma "preparing the lab" "$log"
        return
        ;;
    esac
    bash tests/rdma/lab.sh test >"$log" 2>&1 </dev/null
    read -r p f s < <(awk '/^[0-9]+ passed, / { print $1, $3, $5 }' "$log" |
        tail -n 1)
    if [ -z "${s:-}" ]; then
        fail_stage rdma "the lab" "$log"
        return
    fi
    # A case is one line; what it says is indented below it.
    awk '/^[^ ]/ { kind = $1; name = $2 }
        /^FAIL / { print "  FAILED   rdma: " substr($0, 6) }
        /^ / && kind == "FAIL" { print }
        /^ / && kind == "skip" {
            sub(/^ +/, "")
            print "  skipped  rdma: " name ": " $0
        }' "$log"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    table+=("$(printf '%-9s  %3d passed, %d failed, %d skipped' \
        rdma "$p" "$f" "$s")")
}

# Newer kernels place mappings where this ThreadSanitizer cannot have them;
# setarch -R puts them back where that is allowed.
probe_tsan() {
    local probe=build/logs/probe_tsan
    echo 'int main(void) { return 0; }' >"$probe.c"
    gcc -fsanitize=thread "$probe.c" -o "$probe" >"$probe.log" 2>&1 || return 1
    wrap=()
    "$probe" >>"$probe.log" 2>&1 && return 0
    wrap=(setarch "$(uname -m)" -R)
    "${wrap[@]}" "$probe" >>"$probe.log" 2>&1
}

# Seconds for each target: 10 with a processor of its own.
fuzz_seconds() {
    local targets=(tests/fuzz/fuzz_*.c) each most=$((10 * test_jobs / jobs))
    each=$((180 * test_jobs / ${#targets[@]}))
    echo $((each < most ? each : most))
}

run_stage() {
    case $1 in
    release)
        build release release && check release release -LE 'style|install'
        ;;
    install | style)
        build "$1" release && check "$1" release -L "$1"
        ;;
    sanitize)
        build sanitize sanitize &&
            check sanitize sanitize -L 'unit|conformance|integration|fuzz'
        ;;
    tsan)
        if ! probe_tsan; then
            skip_stage tsan "no program runs under ThreadSanitizer here"
        else
            # Programs about codecs alone start no thread; jobs put codecs
            # into several.
            local codecs='codec_[a-ik-z]|rans|philox|reduce|zeros|index|topk'
            build tsan tsan && check tsan tsan \
                -L 'unit|conformance|integration' \
                -E "unit/test_($codecs)|conformance/test_(example_)?codec"
        fi
        wrap=()
        ;;
    fuzz)
        if ! command -v clang >/dev/null; then
            skip_stage fuzz "clang is not installed"
        else
            export FUZZ_SECONDS=${FUZZ_SECONDS:-$(fuzz_seconds)}
            build fuzz fuzz --target gp_fuzz && check fuzz fuzz -L fuzz
        fi
        ;;
    clang)
        if ! command -v clang >/dev/null; then
            skip_stage clang "clang is not installed"
        else
            build clang clang && check clang clang -L 'unit|conformance'
        fi
        ;;
    rdma) build release release && check_lab ;;
    minimal) build minimal minimal &&
        check minimal minimal -L 'unit|conformance' ;;
    *) build "$1" "$1" && check "$1" "$1" -L unit ;;
    esac
}

bash tools/packages.sh test || exit 1
mkdir -p "$logs"
for stage in "${chosen[@]}"; do
    echo "== $stage: ${text[$stage]}"
    start=$SECONDS
    run_stage "$stage"
    table[-1]+=" ($((SECONDS - start)) s)"
done

# Skipped inside of programs that ran; no part of the counts.
if [ ${#left_out[@]} -gt 0 ]; then
    echo
    echo "${#left_out[@]} cases skipped:"
    printf '  %s\n' "${left_out[@]}"
fi
echo
printf '%s\n' "${table[@]}"
echo "total time $((SECONDS / 60)) min $((SECONDS % 60)) s"
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
