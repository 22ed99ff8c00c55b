#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh - every test of gradpush, from a bare Debian 12 on.
#
#     bash tests/run.sh [--quick] [--only STAGE]... [--list]
#
# Installs the packages that are missing (as root or through sudo), then builds
# and tests in stages, each in build/STAGE; the table below says what they are.
# Builds go ahead of the stages, with what tests leave of the processors.
# The last line is the sum over all stages; the exit status is 0 when nothing
# failed, 1 when something did, 2 for wrong usage.
#
#   --quick   only the release build with its tests
#   --only    only this stage; may be given more than once
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

stages=(release install style rdma sanitize tsan fuzz clang no-verbs minimal)
quick=(release install style)
declare -A text=(
    [release]="gcc, everything that is found: all tests"
    [install]="programs outside the tree, against an installed prefix"
    [style]="format, dependencies, sizes, exported symbols, words"
    [sanitize]="AddressSanitizer and UndefinedBehaviorSanitizer"
    [tsan]="ThreadSanitizer"
    [fuzz]="libFuzzer on every decoder, at most 2 minutes in all"
    [clang]="clang, without CUDA: no warnings, unit and conformance tests"
    [no-verbs]="without libibverbs, nor optimization: builds, unit tests"
    [minimal]="without anything optional: builds, unit and conformance tests"
    [rdma]="verbs over soft-RoCE, in virtual machines, 5 to 6 minutes"
)

usage() {
    sed -n '3,15s/^# \{0,1\}//p' "$0"
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
# By default each process with threads sleeps a second before it exits.
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=0
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

# preset_of STAGE: what it builds.
preset_of() {
    case $1 in
    install | style | rdma) echo release ;;
    *) echo "$1" ;;
    esac
}

# replays: GRADPUSH_FUZZ for the stage sanitize. The stage fuzz, which needs
# clang, replays the corpora under the same sanitizers.
replays() { command -v clang >/dev/null && echo OFF || echo AUTO; }

# What no optional part has a say in is tested by the stages release and clang.
common='conformance/test_codec_(quant|sparse|stochastic|sums|rewritten)'

# Programs about codecs alone: they start no thread, and have no transport.
codecs='unit/test_(codec_[a-ik-z]|rans|philox|reduce|zeros|index|topk).*'

# not_tested STAGE: programs that it does not test.
not_tested() {
    case $1 in
    tsan) echo "$codecs|conformance/test_(example_)?codec.*" ;; # jobs have them
    no-verbs) echo "$codecs|unit/test_(hot_path|codecs_sim|lowrank_sim)" ;;
    minimal) echo "$common" ;;
    esac
}

# build_ahead STAGE...: builds what they test, one after another, below the
# tests' priority. build/logs/PRESET.built is there when that has ended, and
# says how.
build_ahead() {
    local stage preset configure options child
    # A group of processes for each, so that all of it can be ended; not a
    # session, because priorities are of a session.
    set -m
    child=
    trap '[ -z "$child" ] || kill -- "-$child"; exit 1' TERM
    for stage; do
        preset=$(preset_of "$stage")
        [ -e "$logs/$preset.built" ] && continue
        kill -0 $$ || exit 1
        configure=(--preset "$preset")
        configure+=("-DGRADPUSH_LEAVE_OUT=$(not_tested "$stage")")
        case $stage in
        release | install) configure+=("${cached[@]}") ;;
        sanitize) configure+=("-DGRADPUSH_FUZZ=$(replays)") ;;
        # All rounds are run by the stage release.
        clang | no-verbs | minimal) configure+=(-DGRADPUSH_FEW_ROUNDS=ON) ;;
        esac
        options=(-j "$jobs")
        [ "$stage" = fuzz ] && options+=(--target gp_fuzz)
        nice -n 19 bash -c 'cmake "${@:2:$1}" &&
            exec cmake --build "${@:2+$1}"' \
            build ${#configure[@]} "${configure[@]}" \
            "build/$preset" "${options[@]}" \
            >"$logs/$preset.build.log" 2>&1 </dev/null &
        child=$!
        wait "$child"
        echo $? >"$logs/$preset.built.new"
        child=
        mv "$logs/$preset.built.new" "$logs/$preset.built"
    done
}

# build STAGE: waits until it is built.
build() {
    local preset
    preset=$(preset_of "$1")
    while [ ! -e "$logs/$preset.built" ] && kill -0 "$builder" 2>/dev/null; do
        sleep 0.1
    done
    [ "$(cat "$logs/$preset.built" 2>&1)" = 0 ] && return
    fail_stage "$1" build "$logs/$preset.build.log"
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
        --test-output-size-failed 50000000 \
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
    [ "$f" -eq 0 ] || echo "  the whole of it: $log"
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
    # Builds go on beside it.
    LAB_SLOW=${LAB_SLOW:-3} bash tests/rdma/lab.sh test >"$log" 2>&1 </dev/null
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

# why_not STAGE: why it cannot be run here, if so.
why_not() {
    case $1 in
    tsan)
        [ "$tsan" = yes ] ||
            echo "no program runs under ThreadSanitizer here"
        ;;
    fuzz | clang)
        command -v clang >/dev/null || echo "clang is not installed"
        ;;
    esac
}

# Newer kernels place mappings where this ThreadSanitizer cannot have them;
# setarch -R puts them back where that is allowed.
probe_tsan() {
    local probe=build/logs/probe_tsan
    echo 'int main(void) { return 0; }' >"$probe.c"
    gcc -fsanitize=thread "$probe.c" -o "$probe" >"$probe.log" 2>&1 || return 1
    "$probe" >>"$probe.log" 2>&1 && return 0
    tsan_wrap=(setarch "$(uname -m)" -R)
    "${tsan_wrap[@]}" "$probe" >>"$probe.log" 2>&1
}

# Seconds for each target, of some 90 for all: at most 10 of a processor.
fuzz_seconds() {
    local targets=(tests/fuzz/fuzz_*.c) each most=$((10 * test_jobs / jobs))
    each=$((90 * test_jobs / ${#targets[@]}))
    echo $((each < most ? each : most))
}

run_stage() {
    local labels='unit|conformance|integration'
    case $1 in
    release) check release release -LE 'style|install' ;;
    install | style) check "$1" release -L "$1" ;;
    sanitize)
        [ "$(replays)" = OFF ] || labels+='|fuzz'
        check sanitize sanitize -L "$labels"
        ;;
    tsan)
        wrap=("${tsan_wrap[@]}")
        check tsan tsan -L "$labels"
        wrap=()
        ;;
    fuzz)
        export FUZZ_SECONDS=${FUZZ_SECONDS:-$(fuzz_seconds)}
        check fuzz fuzz -L fuzz
        ;;
    clang | minimal) check "$1" "$1" -L 'unit|conformance' ;;
    no-verbs) check no-verbs no-verbs -L unit ;;
    rdma) check_lab ;;
    esac
}

bash tools/packages.sh test || exit 1
mkdir -p "$logs"
rm -f "$logs"/*.built
# The quick start compiles what the stage release has compiled by the same
# commands. Preprocessed text is not looked at: that takes more than it saves.
cached=()
if [ -z "${CMAKE_C_COMPILER_LAUNCHER:-}" ] && command -v ccache >/dev/null; then
    export CCACHE_DIR=$PWD/build/ccache CCACHE_DEPEND=1
    cached=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
fi
tsan=no tsan_wrap=()
probe_tsan && tsan=yes
able=()
for stage in "${chosen[@]}"; do
    [ -n "$(why_not "$stage")" ] || able+=("$stage")
done
build_ahead "${able[@]}" &
builder=$!
trap 'kill "$builder" 2>/dev/null; wait "$builder"' EXIT
for stage in "${chosen[@]}"; do
    echo "== $stage: ${text[$stage]}"
    start=$SECONDS
    reason=$(why_not "$stage")
    if [ -n "$reason" ]; then
        skip_stage "$stage" "$reason"
    else
        build "$stage" && run_stage "$stage"
    fi
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
